/* Training against counting everything anew before each merge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "support.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state) {
    (void)state;
    limn_set_log_level(LIMN_LOG_WARNING);
    return 0;
}

/* ---------------------------------------------------------------- the definition, slowly */

enum { WORDS = 400, LENGTH = 40, TOKENS = 700 }; /* words of both tables, short and long */

typedef struct {
    int32_t words[WORDS][LENGTH];
    size_t lengths[WORDS], word_count;
    int64_t pairs[TOKENS][TOKENS];
    size_t tokens;
    int32_t rules[TOKENS][2];
    size_t rule_count;
} slow_training;

/* A pair's count goes on from the words as they are; overlapping pairs (aaa) count twice at first and are taken back one by
 * one, as in the original, so counts are kept and not made anew. */
static void slow_change(slow_training *slow, size_t w, int32_t left, int32_t right, int32_t result) {
    int32_t *word = slow->words[w];
    for (size_t i = 0; i + 1 < slow->lengths[w]; i++) {
        if (word[i] != left || word[i + 1] != right) continue;
        if (i > 0) {
            slow->pairs[word[i - 1]][left]--;
            slow->pairs[word[i - 1]][result]++;
        }
        word[i] = result;
        memmove(word + i + 1, word + i + 2, (slow->lengths[w] - i - 2) * sizeof *word);
        slow->lengths[w]--;
        if (i + 1 < slow->lengths[w]) {
            slow->pairs[right][word[i + 1]]--;
            slow->pairs[result][word[i + 1]]++;
        }
    }
}

static void slow_train(slow_training *slow, size_t vocabulary_size, int64_t min_frequency) {
    bool merged[TOKENS][TOKENS] = {{false}};
    for (size_t w = 0; w < slow->word_count; w++)
        for (size_t i = 0; i + 1 < slow->lengths[w]; i++) slow->pairs[slow->words[w][i]][slow->words[w][i + 1]]++;
    for (slow->tokens = 261; slow->tokens < vocabulary_size; slow->tokens++) {
        size_t a = 0, b = 0;
        int64_t best = 0;
        for (size_t i = 0; i < slow->tokens; i++)
            for (size_t j = 0; j < slow->tokens; j++)
                if (slow->pairs[i][j] > best && !merged[i][j]) {
                    best = slow->pairs[i][j];
                    a = i;
                    b = j;
                }
        if (best < 1 || best < min_frequency) break;
        merged[a][b] = true;
        slow->rules[slow->rule_count][0] = (int32_t)a;
        slow->rules[slow->rule_count++][1] = (int32_t)b;
        for (size_t w = 0; w < slow->word_count; w++) slow_change(slow, w, (int32_t)a, (int32_t)b, (int32_t)slow->tokens);
    }
}

static void test_equals_the_definition(void **state) {
    (void)state;
    static const char *const alphabets[] = {"ab", "a", "abcde", "aabc"};
    slow_training *slow = malloc(sizeof *slow);
    assert_non_null(slow);
    size_t merges = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        const char *alphabet = alphabets[seed % 4];
        memset(slow, 0, sizeof *slow);
        slow->word_count = 2 + (size_t)limn_random_below(seed, 1, 0, WORDS - 2);
        size_t vocabulary_size = 261 + (size_t)limn_random_below(seed, 1, 1, 200),
               min_frequency = (size_t)limn_random_below(seed, 1, 2, 4);
        tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
        for (size_t w = 0; w < slow->word_count; w++) {
            char text[LENGTH];
            slow->lengths[w] = 1 + (size_t)limn_random_below(seed, 2, w, LENGTH - 1);
            for (size_t i = 0; i < slow->lengths[w]; i++) {
                text[i] = alphabet[limn_random_below(seed, 100 + w, i, strlen(alphabet))];
                slow->words[w][i] = 5 + text[i] - '!'; /* the printable ASCII bytes have the ids from 5 on */
            }
            assert_int_equal(tokenizer_trainer_add(trainer, text, slow->lengths[w], NULL), 0);
        }
        tokenizer *tokens = tokenizer_trainer_finish(trainer, vocabulary_size, min_frequency, NULL);
        slow_train(slow, vocabulary_size, (int64_t)min_frequency);
        assert_non_null(tokens);
        assert_int_equal(tokenizer_vocabulary_size(tokens), slow->tokens);
        for (size_t i = 0; i < slow->rule_count; i++) {
            char expected[256];
            snprintf(expected, sizeof expected, "%s %s", tokenizer_token(tokens, slow->rules[i][0]),
                     tokenizer_token(tokens, slow->rules[i][1]));
            assert_string_equal(tokenizer_merge(tokens, i), expected);
        }
        assert_null(tokenizer_merge(tokens, slow->rule_count));
        merges += slow->rule_count;
        tokenizer_trainer_free(trainer);
        tokenizer_free(tokens);
    }
    assert_true(merges > 3000);
    free(slow);
}

static void test_the_base_vocabulary(void **state) {
    (void)state;
    static const char *const first[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "!", "\""};
    tokenizer *tokens = train_small();
    for (int32_t i = 0; i < 7; i++) assert_string_equal(tokenizer_token(tokens, i), first[i]);
    assert_string_equal(tokenizer_token(tokens, 193), "\xC4\x80"); /* U+0100 stands for byte 0 */
    assert_string_equal(tokenizer_token(tokens, 260), "\xC5\x83"); /* U+0143 for byte 173 */
    assert_int_equal(tokenizer_bos(tokens), 0);
    assert_int_equal(tokenizer_pad(tokens), 1);
    assert_int_equal(tokenizer_eos(tokens), 2);
    tokenizer_free(tokens);
}

/* A byte that is not UTF-8 is no letter: it ends a word. */
static void test_damaged_text_is_no_word(void **state) {
    (void)state;
    tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(tokenizer_trainer_add(trainer,
                                               "a\xFF"
                                               "b",
                                               3, NULL),
                         0);
    tokenizer *tokens = tokenizer_trainer_finish(trainer, 300, 2, NULL);
    assert_int_equal(tokenizer_vocabulary_size(tokens), TOKENIZER_BASE);
    tokenizer_free(tokens);
    tokenizer_trainer_free(trainer);
}

/* A corpus large enough to be counted in several batches. */
static tokenizer *train_with(size_t threads) {
    limn_set_threads(threads);
    tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
    for (uint64_t seed = 0; seed < 20000; seed++) {
        char text[400];
        size_t size = random_text(text, seed, true);
        assert_int_equal(tokenizer_trainer_add(trainer, text, size, NULL), 0);
    }
    char *run = malloc(9 << 20);
    assert_non_null(run);
    memset(run, 'a', 9 << 20);
    run[5 << 20] = ' ';
    assert_int_equal(tokenizer_trainer_add(trainer, run, 9 << 20, NULL), 0);
    free(run);
    tokenizer *tokens = tokenizer_trainer_finish(trainer, 900, 2, NULL);
    tokenizer_trainer_free(trainer);
    assert_non_null(tokens);
    return tokens;
}

static void test_the_same_with_any_number_of_threads(void **state) {
    (void)state;
    tokenizer *one = train_with(1), *four = train_with(4);
    assert_int_equal(tokenizer_vocabulary_size(one), 900);
    for (size_t i = 0; i < 900 - 261; i++) assert_string_equal(tokenizer_merge(one, i), tokenizer_merge(four, i));
    tokenizer_free(one);
    tokenizer_free(four);
}

static void test_refused(void **state) {
    (void)state;
    limn_error error = {0};
    tokenizer_trainer *trainer = tokenizer_trainer_create(&error);
    char *text = calloc(TOKENIZER_MAX_TEXT + 1, 1);
    assert_non_null(text);
    assert_int_equal(tokenizer_trainer_add(trainer, text, TOKENIZER_MAX_TEXT + 1, &error), -1);
    assert_non_null(strstr(error.message, "longer than"));
    free(text);
    assert_null(tokenizer_trainer_finish(trainer, 260, 2, &error));
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
    assert_non_null(strstr(error.message, "a vocabulary of 260 tokens"));
    tokenizer_trainer_free(trainer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_definition),
        cmocka_unit_test(test_the_base_vocabulary),
        cmocka_unit_test(test_damaged_text_is_no_word),
        cmocka_unit_test(test_the_same_with_any_number_of_threads),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
