/* Decoding one token at a time. Keys and values are kept as (sequence, H, position, D): what one head reads in a step lies in
 * one run. Everything is taken once, when the decoder is created. */
#include "seq2seq/internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float *self_keys, *self_values;   /* (rows,H,T,D) */
    float *cross_keys, *cross_values; /* (texts,H,S,D) */
} layer_cache;

struct seq2seq_decoder {
    const seq2seq *model;
    size_t rows, position;
    limn_arena *arena;
    step_memory memory;
    layer_cache *caches;           /* one for each layer */
    int32_t *mask;                 /* (texts,S) */
    size_t *row_text;              /* (rows) */
    float *scores;                 /* (rows,H,longer of T and S) */
    float *embedded;               /* (rows,C) */
    float *x;                      /* (rows,C) what enters the first layer */
    float *saved;                  /* (rows,2) */
    layer_activations activations; /* of one layer and one position */
    float *hidden;                 /* (rows,C) */
};

static pass decoder_pass(const seq2seq_decoder *decoder, step_memory *memory, size_t B) {
    return (pass){.model = decoder->model, .B = B, .keep = KEEP_NOTHING, .memory = memory};
}

/* Takes all arrays; with a counting memory, only counts. */
static void take_arrays(seq2seq_decoder *decoder, step_memory *memory) {
    const seq2seq *model = decoder->model;
    const stack *s = &model->decoder;
    size_t rows = decoder->rows, C = model->config.d_model, T = s->length, S = model->encoder.length;
    layer_cache counted, *caches = step_take_bytes(memory, s->layer_count * sizeof *caches);
    for (size_t i = 0; i < s->layer_count; i++) {
        layer_cache *cache = caches != NULL ? &caches[i] : &counted;
        cache->self_keys = step_take(memory, rows * T * C);
        cache->self_values = step_take(memory, rows * T * C);
        cache->cross_keys = step_take(memory, rows * S * C);
        cache->cross_values = step_take(memory, rows * S * C);
    }
    decoder->caches = caches;
    decoder->mask = step_take_bytes(memory, rows * S * sizeof *decoder->mask);
    decoder->row_text = step_take_bytes(memory, rows * sizeof *decoder->row_text);
    decoder->scores = step_take(memory, rows * s->layers[0].self.heads * (T > S ? T : S));
    decoder->embedded = step_take(memory, rows * C);
    decoder->x = step_take(memory, rows * C);
    decoder->saved = step_take(memory, rows * 2);
    decoder->hidden = step_take(memory, rows * C);

    /* All layers have the same sizes; only Swin v2's have more norms every sixth layer, so each gets what any may need. */
    pass p = decoder_pass(decoder, memory, rows);
    layer_activations *acts = &decoder->activations;
    layer most = s->layers[0];
    for (size_t i = 0; i < s->layer_count; i++)
        if (s->layers[i].feed_forward.norms.after_residual.present) most = s->layers[i];
    branch_take(&p, &most.self.norms, &acts->self_branch, rows, NULL);
    attention_take(&p, &most.self, &acts->self, rows, rows);
    branch_take(&p, &most.cross.norms, &acts->cross_branch, rows, NULL);
    attention_take(&p, &most.cross, &acts->cross, rows, 0);
    branch_take(&p, &most.feed_forward.norms, &acts->feed_forward_branch, rows, NULL);
    feed_forward_take(&p, &most.feed_forward, &acts->feed_forward, rows);
}

/* What seq2seq_decoder_begin takes on top: the encoder, and one layer's keys and values of the text. */
static void plan_begin(const seq2seq_decoder *decoder, step_memory *memory) {
    const seq2seq *model = decoder->model;
    pass p = decoder_pass(decoder, memory, decoder->rows);
    stack_activations encoder;
    stack_take(&p, &model->encoder, &encoder);
    size_t mark = step_mark(memory);
    stack_plan_forward(&p, &model->encoder);
    step_release(memory, mark);
    attention_activations keys;
    attention_take(&p, &model->decoder.layers[0].cross, &keys, 0, decoder->rows * model->encoder.length);
}

seq2seq_decoder *seq2seq_decoder_create(const seq2seq *model, size_t rows, limn_error *error) {
    if (rows == 0 || rows > (size_t)1 << 16) {
        limn_fail_usage(error, "a decoder of %zu rows; 1 to 65536 is possible", rows);
        return NULL;
    }
    seq2seq_decoder *decoder = limn_allocate(1, sizeof *decoder, error);
    if (decoder == NULL) return NULL;
    decoder->model = model;
    decoder->rows = rows;
    step_memory counting = {0};
    take_arrays(decoder, &counting);
    plan_begin(decoder, &counting);
    decoder->arena = limn_arena_create(counting.peak, error);
    if (decoder->arena == NULL) {
        free(decoder);
        return NULL;
    }
    decoder->memory.arena = decoder->arena;
    take_arrays(decoder, &decoder->memory);
    return decoder;
}

void seq2seq_decoder_free(seq2seq_decoder *decoder) {
    if (decoder == NULL) return;
    limn_arena_destroy(decoder->arena);
    free(decoder);
}

size_t seq2seq_decoder_position(const seq2seq_decoder *decoder) {
    return decoder->position;
}

/* ---------------------------------------------------------------- the text */

/* in (sequences·count, H·D) to places start … start+count-1 of out (sequences,H,capacity,D). */
static void store(float *out, const float *in, size_t sequences, size_t count, size_t start, size_t capacity, size_t H,
                  size_t D) {
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t i = 0; i < sequences; i++)
        for (size_t h = 0; h < H; h++)
            for (size_t t = 0; t < count; t++)
                memcpy(out + ((i * H + h) * capacity + start + t) * D, in + ((i * count + t) * H + h) * D, D * sizeof(float));
}

void seq2seq_decoder_begin(seq2seq_decoder *decoder, const int32_t *input_ids, const int32_t *attention_mask, size_t texts,
                           const size_t *row_text) {
    const seq2seq *model = decoder->model;
    size_t S = model->encoder.length, D = model->config.d_model / model->decoder.layers[0].cross.heads;
    assert(texts <= decoder->rows);
    decoder->position = 0;
    memcpy(decoder->mask, attention_mask, texts * S * sizeof *decoder->mask);
    memcpy(decoder->row_text, row_text, decoder->rows * sizeof *decoder->row_text);

    pass p = decoder_pass(decoder, &decoder->memory, texts);
    size_t start = step_mark(&decoder->memory);
    stack_activations encoder;
    stack_take(&p, &model->encoder, &encoder);
    stack_forward(&p, &model->encoder, &encoder, input_ids, NULL, attention_mask);
    attention_activations keys;
    attention_take(&p, &model->decoder.layers[0].cross, &keys, 0, texts * S);
    for (size_t i = 0; i < model->decoder.layer_count; i++) {
        const attention_block *block = &model->decoder.layers[i].cross;
        attention_keys_forward(&p, block, &keys, encoder.hidden, texts * S);
        store(decoder->caches[i].cross_keys, keys.k_unit, texts, S, 0, S, block->heads, D);
        store(decoder->caches[i].cross_values, keys.v, texts, S, 0, S, block->heads, D);
    }
    step_release(&decoder->memory, start);
}

/* ---------------------------------------------------------------- one token */

static float dot(const float *a, const float *b, size_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* One query over `count` keys: scores (count) receives the weights, out (D) the mixed values. mask (count) and bias (its
 * element s at s·bias_stride) may be NULL. Zeros when no key is seen. */
static void attend(float *out, float *scores, const float *query, const float *keys, const float *values, const int32_t *mask,
                   const float *bias, size_t bias_stride, float scale, size_t count, size_t D) {
    float largest = -INFINITY, sum = 0;
    for (size_t s = 0; s < count; s++) {
        if (mask != NULL && mask[s] == 0) {
            scores[s] = -INFINITY;
            continue;
        }
        scores[s] = scale * dot(query, keys + s * D, D) + (bias != NULL ? bias[s * bias_stride] : 0);
        if (scores[s] > largest) largest = scores[s];
    }
    memset(out, 0, D * sizeof *out);
    if (largest == -INFINITY) return;
    for (size_t s = 0; s < count; s++) sum += scores[s] = expf(scores[s] - largest);
    for (size_t s = 0; s < count; s++) {
        float weight = scores[s] / sum;
        const float *value = values + s * D;
#pragma omp simd
        for (size_t d = 0; d < D; d++) out[d] += weight * value[d];
    }
}

/* mixed (rows,C) from q (rows,C) and a cache of `capacity` places, `count` of them in use. With `cross`, row r reads the
 * sequence row_text[r] under its mask, else its own. */
static void attend_rows(const seq2seq_decoder *decoder, const attention_block *block, float *mixed, const float *q,
                        const float *keys, const float *values, size_t count, size_t capacity) {
    pass p = decoder_pass(decoder, NULL, decoder->rows);
    size_t H = block->heads, D = decoder->model->config.d_model / H, t = decoder->position;
    float scale = attention_scale(&p, block);
    const float *table = parameter_value(decoder->model, block->rel_bias);
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t r = 0; r < decoder->rows; r++)
        for (size_t h = 0; h < H; h++) {
            size_t sequence = block->is_cross ? decoder->row_text[r] : r, at = (sequence * H + h) * capacity * D;
            const int32_t *mask = block->is_cross ? decoder->mask + sequence * capacity : NULL;
            const float *bias = table != NULL ? table + t * block->keys * H + h : NULL; /* row t of (T, S·H) */
            attend(mixed + (r * H + h) * D, decoder->scores + (r * H + h) * capacity, q + (r * H + h) * D, keys + at,
                   values + at, mask, bias, H, scale, count, D);
        }
}

static const float *decode_layer(seq2seq_decoder *decoder, const pass *p, size_t index, const float *x) {
    const stack *s = &decoder->model->decoder;
    const layer *l = &s->layers[index];
    layer_cache *cache = &decoder->caches[index];
    layer_activations *acts = &decoder->activations;
    size_t rows = decoder->rows, H = l->self.heads, D = p->model->config.d_model / H;

    const float *entered = branch_enter(p, &l->self.norms, &acts->self_branch, x, rows);
    attention_queries_forward(p, &l->self, &acts->self, entered, rows);
    attention_keys_forward(p, &l->self, &acts->self, entered, rows);
    store(cache->self_keys, acts->self.k_unit, rows, 1, decoder->position, s->length, H, D);
    store(cache->self_values, acts->self.v, rows, 1, decoder->position, s->length, H, D);
    attend_rows(decoder, &l->self, acts->self.mixed, acts->self.q_unit, cache->self_keys, cache->self_values,
                decoder->position + 1, s->length);
    attention_finish_forward(p, &l->self, &acts->self, branch_core(&l->self.norms, &acts->self_branch), rows);
    branch_leave(p, s, &l->self.norms, &acts->self_branch, 0, rows);

    entered = branch_enter(p, &l->cross.norms, &acts->cross_branch, acts->self_branch.out, rows);
    attention_queries_forward(p, &l->cross, &acts->cross, entered, rows);
    attend_rows(decoder, &l->cross, acts->cross.mixed, acts->cross.q_unit, cache->cross_keys, cache->cross_values,
                l->cross.keys, l->cross.keys);
    attention_finish_forward(p, &l->cross, &acts->cross, branch_core(&l->cross.norms, &acts->cross_branch), rows);
    branch_leave(p, s, &l->cross.norms, &acts->cross_branch, 0, rows);

    const branch_norms *norms = &l->feed_forward.norms;
    branch_activations *branch = &acts->feed_forward_branch;
    entered = branch_enter(p, norms, branch, acts->cross_branch.out, rows);
    feed_forward_core_forward(p, &l->feed_forward, &acts->feed_forward, branch_core(norms, branch), entered, rows, 0);
    branch_leave(p, s, norms, branch, 0, rows);
    return branch->out;
}

void seq2seq_decoder_step(seq2seq_decoder *decoder, const int32_t *tokens, float *logits) {
    const seq2seq *model = decoder->model;
    const stack *s = &model->decoder;
    size_t rows = decoder->rows, C = model->config.d_model;
    assert(decoder->position < s->length);
    pass p = decoder_pass(decoder, &decoder->memory, rows);
    embed_rows(&p, s, decoder->embedded, decoder->x, decoder->saved, tokens, decoder->position, 1);
    const float *x = decoder->x;
    for (size_t i = 0; i < s->layer_count; i++) x = decode_layer(decoder, &p, i, x);
    if (s->final_norm.present) {
        norm_forward(&p, &s->final_norm, decoder->hidden, decoder->saved, x, rows, C);
        x = decoder->hidden;
    }
    linear_forward(logits, x, parameter_value(model, model->lm_head), NULL, rows, C, s->vocabulary);
    decoder->position++;
}
