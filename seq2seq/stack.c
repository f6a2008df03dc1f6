/* The encoder or the decoder: embeddings, layers, final norm. */
#include "seq2seq/internal.h"

#include <math.h>

static float embedding_scale(const pass *p) {
    return p->model->config.scale_embedding ? sqrtf((float)p->model->config.d_model) : 1;
}

static size_t embedding_site(const stack *s) {
    return s->is_decoder ? 1u << 15 : 0;
}

/* ---------------------------------------------------------------- embeddings */

void embed_rows(const pass *p, const stack *s, float *embedded, float *out, float *saved, const int32_t *ids, size_t start,
                size_t count) {
    size_t N = p->B * count, C = p->model->config.d_model;
    embedding_forward(embedded, ids, parameter_value(p->model, s->embed_tokens), N, C);
    if (embedding_scale(p) != 1) scale_forward(embedded, embedded, embedding_scale(p), N * C);
    if (s->embed_positions != ABSENT) {
        const float *positions = parameter_value(p->model, s->embed_positions) + start * C;
        for (size_t b = 0; b < p->B; b++) add_forward(embedded + b * count * C, embedded + b * count * C, positions, count * C);
    }
    norm_forward(p, &s->embedding_norm, numbers_f32(out), saved, numbers_f32(embedded), N, C);
}

/* d (N,C) is the gradient of the first layer's input and is overwritten, as is spare. */
static void embed_backward(const pass *p, const stack *s, const stack_activations *acts, float *d, float *spare,
                           const int32_t *ids) {
    size_t N = p->B * s->length, C = p->model->config.d_model;
    dropout_rows(p, d, p->model->config.dropout, embedding_site(s), N, C);
    norm_backward(p, &s->embedding_norm, numbers_f32(spare), numbers_f32(d), numbers_f32(acts->embedded), acts->embedded_saved,
                  N, C, false);
    float *dpositions = parameter_grad(p->model, s->embed_positions), *dtokens = parameter_grad(p->model, s->embed_tokens);
    for (size_t b = 0; b < p->B && dpositions != NULL; b++) add_scaled(dpositions, spare + b * s->length * C, 1, s->length * C);
    if (embedding_scale(p) != 1) scale_forward(spare, spare, embedding_scale(p), N * C);
    if (dtokens != NULL) embedding_backward(dtokens, ids, spare, N, s->vocabulary, C);
    gradients_ready(p, s->embedding_parameters);
}

/* ---------------------------------------------------------------- memory */

void stack_take(const pass *p, const stack *s, stack_activations *acts) {
    size_t N = p->B * s->length, C = p->model->config.d_model;
    acts->embedded = step_take(p->memory, N * C);
    acts->embedded_saved = step_take(p->memory, 2 * N);
    acts->inputs = step_take_bytes(p->memory, (s->layer_count + 1) * sizeof *acts->inputs);
    acts->layers = p->keep == KEEP_ALL ? step_take_bytes(p->memory, s->layer_count * sizeof *acts->layers) : NULL;
    bool counting = p->memory->arena == NULL;
    layer_activations counted;
    float *turns[2] = {NULL, NULL};
    for (size_t i = 0; i <= s->layer_count; i++) {
        float *input;
        if (p->keep == KEEP_NOTHING) { /* two arrays take turns */
            if (i < 2) turns[i] = step_take(p->memory, N * C);
            input = turns[i % 2];
        } else {
            input = step_take(p->memory, N * C);
        }
        if (!counting) acts->inputs[i] = input;
    }
    if (p->keep == KEEP_ALL)
        for (size_t i = 0; i < s->layer_count; i++)
            layer_take(p, s, &s->layers[i], counting ? &counted : &acts->layers[i], counting ? NULL : acts->inputs[i + 1]);
    acts->final_saved = s->final_norm.present ? step_take(p->memory, 2 * N) : NULL;
    if (s->final_norm.present)
        acts->hidden = take_multiplied(p, N * C);
    else
        acts->hidden = numbers_f32(counting ? NULL : acts->inputs[s->layer_count]);
}

/* ---------------------------------------------------------------- the whole stack */

void stack_forward(const pass *p, const stack *s, stack_activations *acts, const int32_t *ids, numbers encoder_hidden,
                   const int32_t *key_mask) {
    size_t N = p->B * s->length, C = p->model->config.d_model;
    embed_rows(p, s, acts->embedded, acts->inputs[0], acts->embedded_saved, ids, 0, s->length);
    dropout_rows(p, acts->inputs[0], p->model->config.dropout, embedding_site(s), N, C);
    for (size_t i = 0; i < s->layer_count; i++) {
        if (p->keep == KEEP_ALL) {
            layer_forward(p, s, i, &acts->layers[i], acts->inputs[i], encoder_hidden, key_mask);
            continue;
        }
        size_t mark = step_mark(p->memory);
        layer_activations current;
        layer_take(p, s, &s->layers[i], &current, acts->inputs[i + 1]);
        layer_forward(p, s, i, &current, acts->inputs[i], encoder_hidden, key_mask);
        step_release(p->memory, mark);
    }
    if (s->final_norm.present)
        norm_forward(p, &s->final_norm, acts->hidden, acts->final_saved, numbers_f32(acts->inputs[s->layer_count]), N, C);
}

void stack_backward(const pass *p, const stack *s, const stack_activations *acts, float *dhidden, const int32_t *ids,
                    numbers encoder_hidden, float *dencoder_hidden, const int32_t *key_mask) {
    size_t N = p->B * s->length, C = p->model->config.d_model;
    size_t mark = step_mark(p->memory);
    float *dx = dhidden, *spare = step_take(p->memory, N * C);
    if (s->final_norm.present) {
        norm_backward(p, &s->final_norm, numbers_f32(spare), numbers_f32(dhidden), numbers_f32(acts->inputs[s->layer_count]),
                      acts->final_saved, N, C, false);
        dx = spare;
        spare = dhidden;
    }
    gradients_ready(p, s->final_parameters);
    for (size_t i = s->layer_count; i-- > 0;) {
        if (p->keep == KEEP_ALL) {
            layer_backward(p, s, i, &acts->layers[i], dx, dencoder_hidden, key_mask);
            gradients_ready(p, s->layers[i].parameters);
            continue;
        }
        size_t layer_mark = step_mark(p->memory);
        layer_activations again;
        layer_take(p, s, &s->layers[i], &again, acts->inputs[i + 1]);
        layer_forward(p, s, i, &again, acts->inputs[i], encoder_hidden, key_mask);
        layer_backward(p, s, i, &again, dx, dencoder_hidden, key_mask);
        gradients_ready(p, s->layers[i].parameters);
        step_release(p->memory, layer_mark);
    }
    embed_backward(p, s, acts, dx, spare, ids);
    step_release(p->memory, mark);
}

/* ---------------------------------------------------------------- plan */

/* Layers come one after another, and Swin v2's differ: the peak is the largest one's. */
void stack_plan_forward(const pass *p, const stack *s) {
    for (size_t i = 0; i < s->layer_count; i++) {
        size_t mark = step_mark(p->memory);
        layer_activations counted;
        if (p->keep != KEEP_ALL) layer_take(p, s, &s->layers[i], &counted, NULL);
        layer_plan_forward(p, s, &s->layers[i]);
        step_release(p->memory, mark);
    }
}

void stack_plan_backward(const pass *p, const stack *s) {
    size_t start = step_mark(p->memory);
    step_take(p->memory, p->B * s->length * p->model->config.d_model);
    for (size_t i = 0; i < s->layer_count; i++) {
        size_t mark = step_mark(p->memory);
        layer_activations counted;
        if (p->keep != KEEP_ALL) layer_take(p, s, &s->layers[i], &counted, NULL);
        layer_plan_forward(p, s, &s->layers[i]);
        layer_plan_backward(p, s, &s->layers[i]);
        step_release(p->memory, mark);
    }
    step_release(p->memory, start);
}
