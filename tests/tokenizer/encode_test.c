/* Encoding against a slow reading of its definition, decoding back, and captions in a fixed length. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "small.h"
#include <omp.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the definition, slowly */

static int32_t find_token(const char *text) {
    const char *token;
    for (int32_t id = 0; (token = tokenizer_token(tokens, id)); id++)
        if (strcmp(token, text) == 0) return id;
    return -1;
}

/* The printable character of a byte, counted out as GPT-2's bytes_to_unicode does. */
static uint32_t slow_character(unsigned byte) {
    uint32_t next = 0x100;
    for (unsigned b = 0;; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        if (b == byte) return printable ? b : next;
        next += !printable;
    }
}

/* Merges by going over all rules in order of rank, again and again, on strings. */
static size_t slow_word(const char *word, size_t size, int32_t *out) {
    char symbols[400][256];
    size_t count = size;
    for (size_t i = 0; i < size; i++) symbols[i][limn_utf8_encode(slow_character((unsigned char)word[i]), symbols[i])] = '\0';
    for (bool merged = true; merged;) {
        merged = false;
        const char *rule;
        for (size_t r = 0; !merged && (rule = tokenizer_merge(tokens, r)); r++)
            for (size_t i = 0; i + 1 < count; i++) {
                char pair[600];
                snprintf(pair, sizeof pair, "%s %s", symbols[i], symbols[i + 1]);
                if (strcmp(pair, rule) != 0) continue;
                strcat(symbols[i], symbols[i + 1]);
                memmove(symbols[i + 1], symbols[i + 2], (count - i - 2) * sizeof symbols[0]);
                count--;
                merged = true;
                break;
            }
    }
    for (size_t i = 0; i < count; i++) out[i] = find_token(symbols[i]);
    return count;
}

/* Words of few letters have many ways to be merged; those over 64 letters are not cached. */
static void test_merging_equals_the_definition(void **state) {
    (void)state;
    tokenizer *before = tokens;
    tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
    char word[100];
    for (uint64_t seed = 0; seed < 300; seed++) {
        for (size_t i = 0; i < 30; i++) word[i] = (char)('a' + limn_random_below(seed, 1, i, 3));
        assert_int_equal(tokenizer_trainer_add(trainer, word, 30, NULL), 0);
    }
    tokens = tokenizer_trainer_finish(trainer, 450, 2, NULL);
    tokenizer_trainer_free(trainer);
    assert_non_null(tokens);
    for (uint64_t seed = 0; seed < 300; seed++) {
        int32_t expected[100], got[100];
        size_t size = 1 + (size_t)limn_random_below(seed, 2, 0, 100);
        for (size_t i = 0; i < size; i++) word[i] = (char)('a' + limn_random_below(seed, 3, i, 3));
        size_t count = slow_word(word, size, expected);
        assert_int_equal(encode_inner(tokens, word, size, got, 100), count);
        assert_memory_equal(got, expected, count * sizeof *got);
    }
    tokenizer_free(tokens);
    tokens = before;
}

/* GPT-2's regular expression itself; PCRE2's \s differs from White_Space by U+180E. */
static const char regex[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+|"
                            "\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";

static size_t slow_text(pcre2_code *compiled, const char *text, size_t size, int32_t *out) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    size_t position = 0, count = 0;
    while (pcre2_match(compiled, (PCRE2_SPTR)text, size, position, 0, match, NULL) >= 0) {
        const size_t *range = pcre2_get_ovector_pointer(match);
        assert_int_equal(range[0], position);
        count += slow_word(text + range[0], range[1] - range[0], out + count);
        position = range[1];
    }
    assert_int_equal(position, size);
    pcre2_match_data_free(match);
    return count;
}

static void test_equals_the_definition(void **state) {
    (void)state;
    static const char *const added[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
    int code;
    size_t where, words = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &where, NULL);
    assert_non_null(compiled);
    for (uint64_t seed = 0; seed < 3000; seed++) {
        char text[400];
        int32_t expected[800], got[800];
        size_t size = random_text(text, seed, false), count = 0, start = 0;
        for (size_t i = 0; i <= size;) { /* added tokens first; none is the beginning of another */
            size_t length = 0;
            int32_t id = 0;
            for (int32_t a = 0; a < 5; a++)
                if (size - i >= strlen(added[a]) && memcmp(text + i, added[a], strlen(added[a])) == 0) {
                    length = strlen(added[a]);
                    id = a;
                }
            if (length || i == size) {
                if (i > start) count += slow_text(compiled, text + start, i - start, expected + count);
                if (length) expected[count++] = id;
                start = i + length;
            }
            i += length ? length : 1;
        }
        assert_int_equal(encode_inner(tokens, text, size, got, 800), count);
        assert_memory_equal(got, expected, count * sizeof *got);
        words += count;
    }
    assert_true(words > 10000);
    pcre2_code_free(compiled);
}

/* Runs of letters of every length around the eight that are looked at at once, and what may follow them; in memory that ends
 * with the text, and in memory that goes on. */
static void test_words_of_every_length(void **state) {
    (void)state;
    static const char *const after[] = {"",         " ", "1", "'s", "!", "\xC3\xA9", "\xC3\xA9z ", "\xE2\x80\xA6",
                                        "\xC2\xA0", "@", "[", "`",  "{"};
    int code;
    size_t where;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &where, NULL);
    assert_non_null(compiled);
    for (size_t length = 1; length < 80; length++)
        for (size_t i = 0; i < sizeof after / sizeof after[0]; i++) {
            char text[100];
            int32_t expected[100], got[100];
            text[0] = ' ';
            for (size_t k = 1; k <= length; k++) text[k] = "apletdqZ"[limn_random_below(length, 8, k, 8)];
            strcpy(text + 1 + length, after[i]);
            for (size_t start = 0; start < 2; start++) { /* with the blank and without */
                size_t size = 1 + length + strlen(after[i]) - start, count = slow_text(compiled, text + start, size, expected);
                char *exact = malloc(size);
                assert_non_null(exact);
                memcpy(exact, text + start, size);
                assert_int_equal(encode_inner(tokens, exact, size, got, 100), count);
                assert_memory_equal(got, expected, count * sizeof *got);
                assert_int_equal(encode_inner(tokens, text + start, size, got, 100), count);
                assert_memory_equal(got, expected, count * sizeof *got);
                free(exact);
            }
        }
    pcre2_code_free(compiled);
}

/* ---------------------------------------------------------------- and back */

static void test_decoding_gives_back_every_text(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        char text[400], expected[400];
        int32_t ids[800];
        size_t size = random_text(text, seed, true), left = 0;
        for (size_t i = 0; i < size;) { /* without the special tokens that stand in it */
            static const char *const special[] = {"<s>", "</s>", "<mask>"};
            size_t skip = 0;
            for (size_t k = 0; k < 3; k++)
                if (size - i >= strlen(special[k]) && memcmp(text + i, special[k], strlen(special[k])) == 0)
                    skip = strlen(special[k]);
            if (!skip) expected[left++] = text[i];
            i += skip ? skip : 1;
        }
        size_t count = encode_inner(tokens, text, size, ids, 800);
        limn_buffer back = {0};
        assert_int_equal(tokenizer_decode(tokens, ids, count, &back, NULL), 0);
        assert_int_equal(back.size, left);
        if (left) assert_memory_equal(back.data, expected, left);
        limn_buffer_free(&back);
    }
}

static void test_every_byte_alone(void **state) {
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        char text = (char)byte;
        int32_t ids[4];
        limn_buffer back = {0};
        assert_int_equal(encode_inner(tokens, &text, 1, ids, 4), 1);
        assert_in_range(ids[0], 5, 260);
        assert_int_equal(tokenizer_decode(tokens, ids, 1, &back, NULL), 0);
        assert_int_equal(back.size, 1);
        assert_int_equal((unsigned char)back.data[0], byte);
        limn_buffer_free(&back);
    }
}

static void test_ids_outside_the_vocabulary(void **state) {
    (void)state;
    limn_buffer out = {0};
    const int32_t beyond[] = {5, (int32_t)tokenizer_vocabulary_size(tokens)}, negative[] = {-1};
    limn_error error = {0};
    assert_int_equal(tokenizer_decode(tokens, beyond, 2, &out, &error), -1);
    assert_non_null(strstr(error.message, "not in the vocabulary"));
    assert_int_equal(tokenizer_decode(tokens, negative, 1, &out, &error), -1);
    assert_non_null(strstr(error.message, "-1"));
    limn_buffer_free(&out);
}

/* ---------------------------------------------------------------- sizes */

static void test_a_caption_of_10_megabytes(void **state) {
    (void)state;
    size_t size = 10000000, capacity = 0, count;
    char *text = malloc(size);
    int32_t *ids = NULL;
    limn_error error = {0};
    assert_non_null(text);
    memset(text, 'e', size); /* one word: the worst for the merging */
    double start = limn_seconds();
    assert_int_equal(tokenizer_encode(tokens, text, size, &ids, &capacity, &count, &error), 0);
    assert_true(limn_seconds() - start < 30);
    limn_buffer back = {0};
    assert_int_equal(tokenizer_decode(tokens, ids, count, &back, &error), 0);
    assert_int_equal(back.size, size);
    assert_memory_equal(back.data, text, size);
    limn_buffer_free(&back);
    free(ids);
    free(text);
}

static void test_a_text_beyond_the_limit(void **state) {
    (void)state;
    size_t size = TOKENIZER_MAX_TEXT + 1, capacity = 0, count;
    char *text = calloc(size, 1);
    int32_t *ids = NULL, fixed[8], mask[8];
    limn_error error = {0};
    assert_non_null(text);
    assert_int_equal(tokenizer_encode(tokens, text, size, &ids, &capacity, &count, &error), -1);
    assert_non_null(strstr(error.message, "longer than"));
    error.message[0] = '\0';
    assert_int_equal(tokenizer_encode_caption(tokens, text, size, fixed, mask, 8, &error), -1);
    assert_non_null(strstr(error.message, "longer than"));
    free(ids);
    free(text);
}

/* ---------------------------------------------------------------- captions */

static void test_captions_have_a_fixed_length(void **state) {
    (void)state;
    static const struct {
        const char *caption, *as; /* what is encoded in its stead */
    } cases[] = {
        {"red apple", " red apple"}, {" red apple", " red apple"}, {"", ""}, {"a red apple on a table and a blue heart", NULL}};
    for (size_t c = 0; c < 4; c++) {
        int32_t whole[64], ids[9], mask[9];
        const char *as = cases[c].as ? cases[c].as : " a red apple on a table and a blue heart";
        size_t count = encode_inner(tokens, as, strlen(as), whole, 64), kept = count < 7 ? count : 7;
        if (!cases[c].as) assert_true(count > 7);
        assert_int_equal(tokenizer_encode_caption(tokens, cases[c].caption, strlen(cases[c].caption), ids, mask, 9, NULL), 0);
        assert_int_equal(ids[0], tokenizer_bos(tokens));
        if (kept) assert_memory_equal(ids + 1, whole, kept * sizeof *ids);
        assert_int_equal(ids[kept + 1], tokenizer_eos(tokens));
        for (size_t i = 0; i < 9; i++) {
            assert_int_equal(mask[i], i < kept + 2);
            if (i >= kept + 2) assert_int_equal(ids[i], tokenizer_pad(tokens));
        }
    }
    int32_t ids[1], mask[1];
    limn_error error = {0};
    assert_int_equal(tokenizer_encode_caption(tokens, "a", 1, ids, mask, 1, &error), -1);
    assert_non_null(strstr(error.message, "no room"));
}

static void test_many_threads_at_once(void **state) {
    (void)state;
    enum { TEXTS = 400 };
    int wrong = 0;
    tokenizer *shared = train_small(); /* its cache is empty at first */
#pragma omp parallel for num_threads(8) schedule(dynamic) reduction(+ : wrong)
    for (size_t i = 0; i < 8 * TEXTS; i++) {
        char text[400];
        int32_t *ids = NULL, *alone = NULL;
        size_t size = random_text(text, i % TEXTS, true), capacity = 0, count = 0, room = 0, expected = 0;
        int failed = tokenizer_encode(shared, text, size, &ids, &capacity, &count, NULL) ||
                     tokenizer_encode(tokens, text, size, &alone, &room, &expected, NULL);
        wrong += failed || count != expected || memcmp(ids, alone, count * sizeof *ids) != 0;
        free(ids);
        free(alone);
    }
    assert_int_equal(wrong, 0);
    tokenizer_free(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_of_every_length),
        cmocka_unit_test(test_merging_equals_the_definition),
        cmocka_unit_test(test_equals_the_definition),
        cmocka_unit_test(test_decoding_gives_back_every_text),
        cmocka_unit_test(test_every_byte_alone),
        cmocka_unit_test(test_ids_outside_the_vocabulary),
        cmocka_unit_test(test_a_caption_of_10_megabytes),
        cmocka_unit_test(test_a_text_beyond_the_limit),
        cmocka_unit_test(test_captions_have_a_fixed_length),
        cmocka_unit_test(test_many_threads_at_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
