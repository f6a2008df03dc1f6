/* What seq2seq_activation_floats promises: steps and evaluations fit, and little is left over. */
#include "tests/seq2seq/tiny.h"

/* Returns the peak in bytes of a training step and an evaluation in an arena that is exactly as large as planned. */
static size_t peak_of(const seq2seq_config *config, size_t B, nn_precision precision) {
    seq2seq *model = tiny_model(config, 1);
    tiny_batch data = make_batch(config, B, 1);
    limn_arena *arena = planned_arena_in(config, B, precision);
    seq2seq_step_options options = {.grad_scale = 1, .precision = precision};
    seq2seq_forward_backward(model, &data.batch, &options, arena);
    assert_int_equal(limn_arena_mark(arena), 0);
    seq2seq_evaluate(model, &data.batch, precision, NULL, NULL, NULL, arena);
    assert_int_equal(limn_arena_mark(arena), 0);
    size_t peak = limn_arena_peak(arena);
    limn_arena_destroy(arena);
    free_batch(&data);
    seq2seq_free(model);
    return peak;
}

static void check(const seq2seq_config *config, size_t B) {
    static const nn_precision precisions[] = {PRECISION_FP32, PRECISION_BF16};
    for (size_t i = 0; i < 2; i++) {
        const size_t plan = seq2seq_activation_floats(config, B, precisions[i]) * sizeof(float);
        const size_t peak = peak_of(config, B, precisions[i]);
        if (peak > plan || plan > peak + peak / 4 + (1 << 20))
            fail_msg("B %zu, %s: planned %zu, took %zu: %s", B, nn_precision_name(precisions[i]), plan, peak, describe(config));
    }
}

static void test_tiny(void **state) {
    (void)state;
    for (size_t index = 0; index < COMBINATIONS; index++)
        for (int dropout = 0; dropout < 2; dropout++) {
            seq2seq_config config = combination(index, dropout);
            check(&config, TINY_B);
            seq2seq_config_free(&config);
        }
}

/* With many heads, few layers and a long text, where attention's scratch and the slice of logits weigh most. */
static void test_odd_shapes(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{'d_model': 64, 'encoder_layers': 1, 'decoder_layers': 1, 'encoder_attention_heads': 16, 'decoder_attention_heads': "
        "16, "
        "'encoder_ffn_dim': 8, 'decoder_ffn_dim': 8, 'encoder_vocab_size': 50, 'image_vocab_size': 20000, 'image_length': 96, "
        "'max_text_length': 100, 'sinkhorn_iters': 4, 'dropout': 0, 'attention_dropout': 0.1}",
        "{'d_model': 32, 'encoder_layers': 3, 'decoder_layers': 1, 'encoder_attention_heads': 1, 'decoder_attention_heads': 1, "
        "'encoder_ffn_dim': 256, 'decoder_ffn_dim': 8, 'encoder_vocab_size': 50, 'image_vocab_size': 10, 'image_length': 4, "
        "'max_text_length': 200, 'gradient_checkpointing': false, 'use_swin_position_embeddings': true}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t B = 1; B < 6; B += 4) {
            seq2seq_config config = config_from(texts[i]);
            check(&config, B);
            seq2seq_config_free(&config);
        }
}

/* mini at 8 pairs a step has 16 GB in all, 7 of them for weights, gradients and moments. */
static void test_mini_fits(void **state) {
    (void)state;
    seq2seq_config config = config_from("{'encoder_ffn_dim': 2730, 'decoder_ffn_dim': 2730, 'gradient_checkpointing': false}");
    assert_in_range(seq2seq_activation_floats(&config, 8, PRECISION_FP32) * sizeof(float), (size_t)1 << 30, (size_t)5 << 30);
    assert_in_range(seq2seq_activation_floats(&config, 8, PRECISION_BF16) * sizeof(float), (size_t)1 << 30, (size_t)4 << 30);
    double attention, products = seq2seq_training_flops(&config, 1, &attention);
    assert_true(fabs(products / 1e9 - 364) < 1); /* the design's figures, counted by hand */
    assert_true(fabs((products + attention) / 1e9 - 377) < 1);
    assert_true(seq2seq_activation_floats(&config, SIZE_MAX / 1000, PRECISION_FP32) == SIZE_MAX);
    seq2seq *model = seq2seq_describe(&config, NULL);
    assert_int_equal(seq2seq_training_bytes(model, 8, PRECISION_BF16),
                     seq2seq_activation_floats(&config, 8, PRECISION_BF16) * sizeof(float));
    assert_true(seq2seq_training_bytes(model, SIZE_MAX / 1000, PRECISION_FP32) == SIZE_MAX);
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_odd_shapes),
        cmocka_unit_test(test_mini_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
