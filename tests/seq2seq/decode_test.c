/* Decoding token by token through the cache against the whole decoder at once. */
#include "tests/seq2seq/tiny.h"

/* Rows that share captions: row r of the decoder is pair r of the batch, but its caption is given once. */
static void check(const seq2seq_config *config, seq2seq *model, float tolerance) {
    limn_error error = {0};
    enum { ROWS = 5, TEXTS = 2 };
    size_t S = config->max_text_length, T = config->image_length, V = config->image_vocab_size + 1;
    tiny_batch texts = make_batch(config, TEXTS, 21), rows = make_batch(config, ROWS, 22);
    size_t row_text[ROWS] = {1, 0, 0, 1, 1};
    for (size_t r = 0; r < ROWS; r++) {
        memcpy(rows.arrays[0] + r * S, texts.arrays[0] + row_text[r] * S, S * sizeof(int32_t));
        memcpy(rows.arrays[1] + r * S, texts.arrays[1] + row_text[r] * S, S * sizeof(int32_t));
    }
    limn_arena *arena = planned_arena(config, ROWS);
    float *whole = malloc(ROWS * T * V * sizeof *whole), *logits = malloc(ROWS * V * sizeof *logits);
    seq2seq_evaluate(model, &rows.batch, PRECISION_FP32, NULL, whole, NULL, arena);
    float largest = 0;
    for (size_t i = 0; i < ROWS * T * V; i++) largest = fmaxf(largest, fabsf(whole[i]));

    seq2seq_decoder *decoder = seq2seq_decoder_create(model, ROWS, &error);
    if (decoder == NULL) fail_msg("%s", error.message);
    for (int turn = 0; turn < 2; turn++) { /* the second begins anew on a used cache */
        seq2seq_decoder_begin(decoder, texts.arrays[0], texts.arrays[1], TEXTS, row_text);
        for (size_t t = 0; t < T; t++) {
            int32_t tokens[ROWS];
            assert_int_equal(seq2seq_decoder_position(decoder), t);
            for (size_t r = 0; r < ROWS; r++) tokens[r] = rows.arrays[2][r * T + t];
            seq2seq_decoder_step(decoder, tokens, logits);
            for (size_t r = 0; r < ROWS; r++)
                for (size_t k = 0; k < V; k++) {
                    float expected = whole[(r * T + t) * V + k], got = logits[r * V + k];
                    if (!(fabsf(expected - got) <= tolerance * largest))
                        fail_msg("row %zu, token %zu, id %zu: %g, expected %g: %s", r, t, k, (double)got, (double)expected,
                                 describe(config));
                }
        }
    }
    seq2seq_decoder_free(decoder);
    free(whole);
    free(logits);
    limn_arena_destroy(arena);
    free_batch(&texts);
    free_batch(&rows);
}

static void prepare_for(seq2seq *model, nn_precision precision) {
    limn_error error = {0};
    if (seq2seq_prepare(model, precision, &error) != 0) fail_msg("%s", error.message);
}

/* What is packed may be packed again, in another precision. The first combination has no parts that are ill-conditioned. */
static void test_lesser_precisions(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *model = tiny_model(&config, 0);
    prepare_for(model, PRECISION_INT8);
    check(&config, model, 0.2f);
    prepare_for(model, PRECISION_BF16);
    check(&config, model, 0.1f);
    prepare_for(model, PRECISION_FP32);
    check(&config, model, 5e-5f);
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

static void test_cached_is_uncached(void **state) {
    (void)state;
    for (size_t index = 0; index < COMBINATIONS; index++) {
        seq2seq_config config = combination(index, false);
        seq2seq *model = tiny_model(&config, index);
        check(&config, model, 5e-5f);
        prepare_for(model, PRECISION_FP32);
        check(&config, model, 5e-5f);
        seq2seq_free(model);
        seq2seq_config_free(&config);
    }
}

/* A caption without a single visible word still decodes to numbers. */
static void test_empty_mask(void **state) {
    (void)state;
    limn_error error = {0};
    seq2seq_config config = combination(0, false);
    seq2seq *model = tiny_model(&config, 1);
    seq2seq_decoder *decoder = seq2seq_decoder_create(model, 1, &error);
    int32_t ids[8] = {0}, mask[8] = {0}, token = (int32_t)config.decoder_start_token_id;
    float logits[16];
    seq2seq_decoder_begin(decoder, ids, mask, 1, (size_t[]){0});
    seq2seq_decoder_step(decoder, &token, logits);
    for (size_t k = 0; k < config.image_vocab_size + 1; k++) assert_true(isfinite(logits[k]));
    seq2seq_decoder_free(decoder);
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

static void test_bad_rows(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *model = tiny_model(&config, 1);
    limn_error error = {0};
    assert_null(seq2seq_decoder_create(model, 0, &error));
    assert_non_null(strstr(error.message, "rows"));
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cached_is_uncached),
        cmocka_unit_test(test_lesser_precisions),
        cmocka_unit_test(test_empty_mask),
        cmocka_unit_test(test_bad_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
