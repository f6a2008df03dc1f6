/* The classes of all code points, seen from outside: a probe and a character that are of one class make one word, and only in
 * one word can they be one token. Compared with PCRE2's classes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include "support.h"
#include <cmocka.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* The probes, and the properties of the characters that go on with them. */
enum { PROBES = 3 };
static const char probes[PROBES] = {'a', '1', '!'};
static const char *const properties[PROBES] = {"\\p{L}", "\\p{N}", "[^\\p{L}\\p{N}\\p{White_Space}]"};

static tokenizer *joining;
static int32_t joined, single;

/* A tokenizer that joins each probe with every byte behind it, and knows an added token "qq" that must be a single word. */
static int setup(void **state) {
    (void)state;
    char folder[64], text[16];
    tokenizer *tokens = train_small();
    make_folder(folder);
    assert_int_equal(tokenizer_save(tokens, folder, NULL), 0);
    json_t *root = read_json(folder, "tokenizer.json"), *model = json_object_get(root, "model"), *merges = json_array();
    json_t *vocabulary = json_object_get(model, "vocab");
    joined = (int32_t)json_object_size(vocabulary);
    single = joined + PROBES * 256;
    for (int32_t i = 0; i < PROBES * 256; i++) { /* bytes' tokens have the ids from 5 on */
        const char *byte = tokenizer_token(tokens, 5 + i % 256);
        snprintf(text, sizeof text, "%c%s", probes[i / 256], byte);
        int32_t id = joined + i;
        if (json_object_get(vocabulary, text)) snprintf(text, sizeof text, "(%d)", (int)i); /* it keeps the id it has */
        json_object_set_new(vocabulary, text, json_integer(id));
        snprintf(text, sizeof text, "%c %s", probes[i / 256], byte);
        json_array_append_new(merges, json_string(text));
    }
    json_object_set_new(model, "merges", merges);
    json_array_append_new(json_object_get(root, "added_tokens"), json_pack("{s:i, s:s, s:b, s:b}", "id", (int)single, "content",
                                                                           "qq", "special", 0, "single_word", 1));
    write_json(folder, "tokenizer.json", root);
    joining = load_folder(folder);
    remove_folder(folder);
    tokenizer_free(tokens);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tokenizer_free(joining);
    return 0;
}

/* How many ids there are between <s> and </s>, and the first of them. */
static size_t encode(const char *text, size_t size, int32_t *first) {
    static int32_t *ids;
    static size_t capacity;
    size_t count;
    assert_int_equal(tokenizer_encode(joining, text, size, &ids, &capacity, &count, NULL), 0);
    *first = ids[1];
    return count - 2;
}

/* Whether the character goes on with the probe's word. */
static bool goes_on(char probe, const char *character, size_t size) {
    char text[8] = {probe};
    int32_t first;
    memcpy(text + 1, character, size);
    return encode(text, size + 1, &first) == size; /* probe and first byte are one token, and each further byte another */
}

static bool goes_on_with_added_word(const char *character, size_t size) {
    char text[8] = "qq";
    int32_t first;
    memcpy(text + 2, character, size);
    encode(text, size + 2, &first);
    return first != single;
}

static pcre2_code *compile(const char *pattern) {
    int code;
    size_t where;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &where, NULL);
    assert_non_null(compiled);
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
    return compiled;
}

static bool matches(const pcre2_code *compiled, const char *text, size_t size, pcre2_match_data *match) {
    return pcre2_match(compiled, (PCRE2_SPTR)text, size, 0, PCRE2_ANCHORED, match, NULL) > 0;
}

/* PCRE2 10.42 has Unicode 14.0, as our table has. A newer one knows letters and numbers that the table does not, and takes none
 * away. */
static void test_classes_are_those_of_unicode_14(void **state) {
    (void)state;
    char version[64];
    assert_true(pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version) > 0);
    bool same_age = strcmp(version, "14.0.0") == 0;
    pcre2_code *compiled[PROBES], *word = compile("[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]");
    for (size_t i = 0; i < PROBES; i++) compiled[i] = compile(properties[i]);
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    size_t counts[PROBES] = {0}, words = 0;
    for (uint32_t point = 1; point < 0x110000; point++) {
        char text[4];
        size_t size = limn_utf8_encode(point, text);
        if (size == 0) continue; /* a surrogate */
        for (size_t i = 0; i < PROBES; i++) {
            bool ours = goes_on(probes[i], text, size), theirs = matches(compiled[i], text, size, match);
            counts[i] += ours;
            if (ours != theirs && (same_age || ours == (i < 2))) fail_msg("U+%04X: %s says %d", point, properties[i], theirs);
        }
        /* Word characters are those of Unicode 15.0 and more than these properties, but none of them is missing. */
        bool ours = goes_on_with_added_word(text, size);
        words += ours;
        if (same_age && !ours && matches(word, text, size, match)) fail_msg("U+%04X is not of a word", point);
    }
    assert_int_equal(counts[0], 131756);
    assert_int_equal(counts[1], 1791);
    assert_int_equal(counts[2], 0x110000 - 1 - 0x800 - 131756 - 1791 - 25);
    assert_int_equal(words, 139612);
    pcre2_match_data_free(match);
    pcre2_code_free(word);
    for (size_t i = 0; i < PROBES; i++) pcre2_code_free(compiled[i]);
}

/* Known ones, by hand: of each kind, in and beyond the basic plane. */
static void test_some_characters(void **state) {
    (void)state;
    static const struct {
        uint32_t point;
        char probe; /* that it goes on with */
        bool word;
    } known[] = {{'a', 'a', true},     {'0', '1', true},      {'_', '!', true},      {' ', ' ', false},    {0x85, ' ', false},
                 {0xBD, '1', false},   {0x301, '!', true},    {0x180E, '!', false},  {0x200D, '!', true},  {0x2160, '1', true},
                 {0x3000, ' ', false}, {0x4E00, 'a', true},   {0x1F600, '!', false}, {0x1D7CE, '1', true}, {0x20000, 'a', true},
                 {0x31350, '!', true}, {0x10FFFF, '!', false}}; /* U+31350 is a letter since Unicode 15 */
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char text[4];
        size_t size = limn_utf8_encode(known[i].point, text);
        for (size_t p = 0; p < PROBES; p++) assert_int_equal(goes_on(probes[p], text, size), probes[p] == known[i].probe);
        assert_int_equal(goes_on_with_added_word(text, size), known[i].word);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes_are_those_of_unicode_14),
        cmocka_unit_test(test_some_characters),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
