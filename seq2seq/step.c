/* A training step and an evaluation: encoder, decoder, loss, and the way back. */
#include "seq2seq/internal.h"

#include <string.h>

/* The logits of a step would be the largest array of all (mini, 64 pairs: 1.1 GB); they are made
 * and used in slices of rows of about this many floats. */
static const size_t SLICE_FLOATS = (size_t)16 << 20;

size_t logits_slice_rows(const seq2seq_config *config, size_t N) {
    size_t rows = SLICE_FLOATS / (config->image_vocab_size + 1);
    if (rows < 64) rows = 64;
    return rows < N ? rows : N;
}

/* Mean loss of hidden (N,C). dhidden (N,C), where given, receives its gradient times grad_scale, and lm_head's is added to.
 * losses (N) and logits (N,V) are written where given. */
static double loss_head(const pass *p, float *dhidden, float *losses, float *logits, numbers hidden, const int32_t *labels,
                        float grad_scale) {
    if (logits == NULL && labels == NULL) return 0;
    const seq2seq *model = p->model;
    size_t N = p->B * model->decoder.length, C = model->config.d_model, V = model->decoder.vocabulary;
    const dense_slot head = {model->lm_head, ABSENT};
    size_t mark = step_mark(p->memory), slice = logits_slice_rows(&model->config, N);
    float *own = logits == NULL ? step_take(p->memory, slice * V) : NULL;
    double sum = 0;
    for (size_t start = 0; start < N; start += slice) {
        size_t rows = N - start < slice ? N - start : slice;
        float *part = logits != NULL ? logits + start * V : own;
        const numbers in = numbers_from(hidden, start * C);
        dense_forward(p, &head, numbers_f32(part), in, rows, C, V);
        if (labels == NULL) continue;
        /* The slice's mean is over its rows; the step's is over all. */
        double share = (double)rows / (double)N;
        sum += share * softmax_cross_entropy(dhidden != NULL ? part : NULL, losses != NULL ? losses + start : NULL, part,
                                             labels + start, rows, V, (float)(share * (double)grad_scale));
        pass of_slice = *p;
        of_slice.writes = p->writes && start == 0; /* the slices' gradients add up */
        if (dhidden != NULL)
            dense_backward(&of_slice, &head, numbers_f32(dhidden + start * C), numbers_f32(part), in, rows, C, V, false);
    }
    step_release(p->memory, mark);
    if (dhidden != NULL) gradients_ready(p, (parameter_range){(size_t)model->lm_head, 1});
    return sum;
}

/* Zeroes what is added to. The kernels' gradients, most of all, are written. */
static void begin_gradients(seq2seq *model) {
    for (size_t i = 0; i < model->parameters.count; i++) {
        const parameter *p = &model->parameters.list[i];
        if (p->grad == NULL || (i < model->own_count && model->notes[i].kind == LEAF_KERNEL)) continue;
        const size_t piece = (size_t)1 << 16;
#pragma omp parallel for schedule(static) if (p->size > 4 * piece)
        for (size_t start = 0; start < p->size; start += piece)
            memset(p->grad + start, 0, (p->size - start < piece ? p->size - start : piece) * sizeof(float));
    }
}

double seq2seq_forward_backward(seq2seq *model, const seq2seq_batch *batch, const seq2seq_step_options *options,
                                limn_arena *arena) {
    step_memory memory = {.arena = arena};
    keep_kind keep = model->config.gradient_checkpointing ? KEEP_INPUTS : KEEP_ALL;
    pass p = {.model = model,
              .options = options,
              .B = batch->B,
              .keep = keep,
              .writes = options->first,
              .precision = options->precision,
              .memory = &memory};
    size_t start = step_mark(&memory), C = model->config.d_model;
    size_t text_rows = batch->B * model->encoder.length, image_rows = batch->B * model->decoder.length;
    if (options->first) begin_gradients(model);

    stack_activations encoder, decoder;
    stack_take(&p, &model->encoder, &encoder);
    stack_forward(&p, &model->encoder, &encoder, batch->input_ids, (numbers){0}, batch->attention_mask);
    stack_take(&p, &model->decoder, &decoder);
    stack_forward(&p, &model->decoder, &decoder, batch->decoder_input_ids, encoder.hidden, batch->attention_mask);

    float *dhidden = step_take(&memory, image_rows * C);
    double loss = loss_head(&p, dhidden, NULL, NULL, decoder.hidden, batch->labels, options->grad_scale);

    float *dencoder_hidden = step_take(&memory, text_rows * C);
    memset(dencoder_hidden, 0, text_rows * C * sizeof(float));
    stack_backward(&p, &model->decoder, &decoder, dhidden, batch->decoder_input_ids, encoder.hidden, dencoder_hidden,
                   batch->attention_mask);
    stack_backward(&p, &model->encoder, &encoder, dencoder_hidden, batch->input_ids, (numbers){0}, NULL, batch->attention_mask);
    step_release(&memory, start);
    return loss;
}

double seq2seq_evaluate(const seq2seq *model, const seq2seq_batch *batch, nn_precision precision, float *encoder_hidden,
                        float *logits, float *losses, limn_arena *arena) {
    step_memory memory = {.arena = arena};
    pass p = {.model = model, .B = batch->B, .keep = KEEP_NOTHING, .precision = precision, .memory = &memory};
    size_t start = step_mark(&memory), text_floats = batch->B * model->encoder.length * model->config.d_model;

    stack_activations encoder, decoder;
    stack_take(&p, &model->encoder, &encoder);
    stack_forward(&p, &model->encoder, &encoder, batch->input_ids, (numbers){0}, batch->attention_mask);
    if (encoder_hidden != NULL && encoder.hidden.f32 != NULL)
        memcpy(encoder_hidden, encoder.hidden.f32, text_floats * sizeof(float));
    else if (encoder_hidden != NULL)
        expand_bf16(encoder_hidden, encoder.hidden.bf16, text_floats);
    stack_take(&p, &model->decoder, &decoder);
    stack_forward(&p, &model->decoder, &decoder, batch->decoder_input_ids, encoder.hidden, batch->attention_mask);
    double loss = loss_head(&p, NULL, losses, logits, decoder.hidden, batch->labels, 0);
    step_release(&memory, start);
    return loss;
}

/* ---------------------------------------------------------------- batches */

void seq2seq_shift_right(const seq2seq_config *config, int32_t *decoder_input_ids, const int32_t *labels, size_t B) {
    size_t T = config->image_length;
    for (size_t b = 0; b < B; b++) {
        decoder_input_ids[b * T] = (int32_t)config->decoder_start_token_id;
        memcpy(decoder_input_ids + b * T + 1, labels + b * T, (T - 1) * sizeof(int32_t));
    }
}

static int check_ids(const int32_t *ids, size_t count, size_t bound, const char *what, const char *bound_name,
                     limn_error *error) {
    if (ids == NULL) return 0;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= bound)
            return limn_fail(error, "%s holds %d at place %zu; the model knows 0 to %zu (%s)", what, (int)ids[i], i, bound - 1,
                             bound_name);
    return 0;
}

int seq2seq_check_batch(const seq2seq_config *config, const seq2seq_batch *batch, limn_error *error) {
    size_t text = batch->B * config->max_text_length, image = batch->B * config->image_length;
    if (check_ids(batch->input_ids, text, config->encoder_vocab_size, "input_ids", "encoder_vocab_size", error) != 0) return -1;
    if (check_ids(batch->attention_mask, text, 2, "attention_mask", "0 hides a token, 1 shows it", error) != 0) return -1;
    if (check_ids(batch->decoder_input_ids, image, config->image_vocab_size + 1, "decoder_input_ids", "image_vocab_size",
                  error) != 0)
        return -1;
    return check_ids(batch->labels, image, config->image_vocab_size + 1, "labels", "image_vocab_size", error);
}
