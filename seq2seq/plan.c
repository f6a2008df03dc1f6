/* What a step takes of memory and arithmetic, from the configuration alone. */
#include "seq2seq/internal.h"

/* What the largest product takes for a moment. */
static size_t product_bytes(const seq2seq *model, size_t B, nn_precision precision) {
    const seq2seq_config *config = &model->config;
    const size_t C = config->d_model, V = config->image_vocab_size + 1;
    const size_t rows[] = {B * config->max_text_length, B * config->image_length};
    const size_t widths[] = {C, config->encoder_ffn_dim, config->decoder_ffn_dim};
    size_t most = 0;
    for (size_t r = 0; r < 2; r++)
        for (size_t w = 0; w <= 3; w++) {
            const size_t N = w < 3 ? rows[r] : logits_slice_rows(config, rows[r]), F = w < 3 ? widths[w] : V;
            const size_t sizes[] = {matmul_mixed_bytes(N, F, C, precision), matmul_mixed_bytes(N, C, F, precision),
                                    matmul_mixed_bytes(F, C, N, precision), matmul_mixed_bytes(C, F, N, precision)};
            for (size_t i = 0; i < 4; i++) most = sizes[i] > most ? sizes[i] : most;
        }
    return most;
}

/* Bytes at the peak of seq2seq_forward_backward, or of seq2seq_evaluate, whose order this follows. */
static size_t peak_bytes(const seq2seq *model, size_t B, nn_precision precision, keep_kind keep) {
    const seq2seq_config *config = &model->config;
    step_memory memory = {0};
    seq2seq_step_options options = {0}; /* given, so that dropout counts */
    pass p = {.model = model, .options = &options, .B = B, .keep = keep, .precision = precision, .memory = &memory};
    size_t C = config->d_model, text_rows = B * config->max_text_length, image_rows = B * config->image_length;
    stack_activations acts;
    stack_take(&p, &model->encoder, &acts);
    stack_plan_forward(&p, &model->encoder);
    stack_take(&p, &model->decoder, &acts);
    stack_plan_forward(&p, &model->decoder);
    if (keep != KEEP_NOTHING) step_take(&memory, image_rows * C);
    size_t mark = step_mark(&memory);
    step_take(&memory, logits_slice_rows(config, image_rows) * (config->image_vocab_size + 1));
    step_release(&memory, mark);
    if (keep != KEEP_NOTHING) {
        step_take(&memory, text_rows * C);
        stack_plan_backward(&p, &model->decoder);
        stack_plan_backward(&p, &model->encoder);
    }
    return memory.peak + product_bytes(model, B, precision);
}

size_t seq2seq_activation_floats(const seq2seq_config *config, size_t B, nn_precision precision) {
    /* Beyond this many rows sizes could not be multiplied safely; no machine has the memory either. */
    if (B > ((size_t)1 << 24) / (config->image_length + config->max_text_length)) return SIZE_MAX;
    seq2seq *model = seq2seq_describe(config, NULL);
    if (model == NULL) return SIZE_MAX;
    size_t training = peak_bytes(model, B, precision, config->gradient_checkpointing ? KEEP_INPUTS : KEEP_ALL);
    size_t evaluating = peak_bytes(model, B, precision, KEEP_NOTHING);
    seq2seq_free(model);
    return ((training > evaluating ? training : evaluating) + sizeof(float) - 1) / sizeof(float);
}

size_t seq2seq_training_bytes(const seq2seq *model, size_t B, nn_precision precision) {
    const size_t floats = seq2seq_activation_floats(&model->config, B, precision);
    if (floats > SIZE_MAX / sizeof(float) / 2) return SIZE_MAX;
    return (floats + adapter_floats(model, B, precision)) * sizeof(float);
}

double seq2seq_training_flops(const seq2seq_config *config, size_t B, double *attention) {
    double C = (double)config->d_model, T = (double)config->image_length, S = (double)config->max_text_length;
    double projections = config->use_glu ? 3 : 2, V = (double)config->image_vocab_size + 1;
    double encoder_layer = S * (4 * C * C + projections * C * (double)config->encoder_ffn_dim);
    double decoder_layer = T * (6 * C * C + projections * C * (double)config->decoder_ffn_dim) + S * 2 * C * C;
    double encoder = (double)config->encoder_layers, decoder = (double)config->decoder_layers;
    /* Two operations a product and sum; the backward costs two forwards. */
    if (attention != NULL) *attention = 6 * (double)B * (encoder * 2 * S * S * C + decoder * 2 * (T * T + T * S) * C);
    return 6 * (double)B * (encoder * encoder_layer + decoder * decoder_layer + T * C * V);
}
