/* One head of softmax attention on the kernels of our own products: keys and values are brought into panels once, and blocks of
 * queries pass them. With kernels of pairs the weights are rounded to bfloat16 before they are multiplied; scores, softmax and
 * sums are float32. */
#include "nn/attention_internal.h"
#include "nn/tile_product.h"

#include <string.h>

enum { TILED_BLOCK = 64 }; /* queries */

typedef struct {
    const attention_head *head;
    const large_product_kernels *kernels;
    size_t S;                  /* keys, rounded up to whole words: the stride of the maps */
    size_t queries;            /* of a block */
    uint32_t *keys, *values;   /* panels of kᵀ (D,S) and, backward, of vᵀ */
    uint32_t *sums;            /* panels of what weights or their gradients are multiplied with: v or k (S,D) */
    uint32_t *block;           /* panels of a block's queries, or of its gradient (queries,D) */
    uint32_t *rows;            /* of the left operand, where it cannot be read where it lies */
    float *weights, *dweights; /* (queries,S) */
    numbers used;              /* (queries,S): weights or gradients of scores as they are multiplied */
    float *dk, *dv;            /* (S,D) */
    float *row;                /* (S) */
} work;

/* The scratch, or with base NULL only a count of what would be taken of it. */
typedef struct {
    float *base;
    size_t taken;
} room;

static float *take(room *from, size_t floats) {
    const size_t at = from->taken;
    from->taken += round_up(floats, 16);
    return from->base != NULL ? from->base + at : NULL;
}

static uint32_t *take_words(room *from, size_t words) {
    return (uint32_t *)(void *)take(from, words);
}

static void lay_out(work *w, const attention_shape *shape, const large_product_kernels *kernels, room *from) {
    const size_t D = shape->D;
    w->kernels = kernels;
    w->S = round_up(shape->S, tile_group(kernels));
    w->queries = smaller(shape->T, TILED_BLOCK);
    const size_t S = w->S, Q = w->queries;
    w->keys = take_words(from, tile_panels_words(kernels, D, S));
    w->values = take_words(from, tile_panels_words(kernels, D, S));
    w->sums = take_words(from, tile_panels_words(kernels, S, D));
    w->block = take_words(from, tile_panels_words(kernels, Q, D));
    w->rows = take_words(from, larger(round_up(Q, TILE_ROWS) * tile_words(kernels, larger(S, D)),
                                      round_up(S, TILE_ROWS) * tile_words(kernels, Q)));
    w->weights = take(from, Q * S);
    w->dweights = take(from, Q * S);
    float *used = take(from, Q * tile_words(kernels, S));
    w->used = kernels->pairs ? (numbers){.bf16 = (uint16_t *)(void *)used} : numbers_f32(used);
    w->dk = take(from, S * D);
    w->dv = take(from, S * D);
    w->row = take(from, S);
}

size_t tiled_attention_floats(const attention_shape *shape, const large_product_kernels *kernels) {
    room count = {0};
    work w;
    lay_out(&w, shape, kernels, &count);
    return count.taken;
}

/* ---------------------------------------------------------------- products */

/* out (M,N) = A·B or += ; `panel_terms` is the K with which B was packed. */
static void multiply(const work *w, numbers out, size_t out_stride, word_source a, size_t M, size_t K, const uint32_t *panels,
                     size_t panel_terms, size_t N, bool accumulate) {
    const bool in_place = tile_reads_in_place(w->kernels, &a, M, K);
    const tile_product product = {.kernels = w->kernels,
                                  .a = a,
                                  .M = M,
                                  .K = K,
                                  .panels = panels,
                                  .panel_words = TILE_COLUMNS * tile_words(w->kernels, panel_terms),
                                  .out = out,
                                  .out_stride = out_stride,
                                  .accumulate = accumulate,
                                  .block = in_place ? NULL : w->rows};
    tile_multiply(&product, 0, M, N);
}

/* Panels of rows (count,D) as the operand (D,count), or as (count,D). */
static void pack_columns(const work *w, uint32_t *panels, numbers rows, size_t stride, size_t count) {
    const word_source from = tile_source(rows, 1, stride);
    tile_pack_panels(w->kernels, panels, &from, w->head->shape->D, count);
}

static void pack_rows(const work *w, uint32_t *panels, numbers rows, size_t stride, size_t count) {
    const word_source from = tile_source(rows, stride, 1);
    tile_pack_panels(w->kernels, panels, &from, count, w->head->shape->D);
}

/* A row of a map as it is multiplied, with a zero behind it where that completes a word. */
static void use_row(const work *w, size_t r, const float *row, size_t keys) {
    const size_t padded = round_up(keys, tile_group(w->kernels));
    const numbers to = numbers_from(w->used, r * w->S);
    if (to.bf16 != NULL) {
        round_to_bf16(to.bf16, row, keys);
        if (padded > keys) to.bf16[keys] = 0;
    } else
        memcpy(to.f32, row, keys * sizeof *row);
}

/* ---------------------------------------------------------------- forward */

/* Weights of the queries t … t+rows−1. */
static void make_weights(const work *w, size_t t, size_t rows, size_t keys) {
    const attention_head *head = w->head;
    const attention_shape *shape = head->shape;
    const numbers q = numbers_from(head->q, t * head->query_stride);
    multiply(w, numbers_f32(w->weights), w->S, tile_source(q, 1, head->query_stride), rows, shape->D, w->keys, shape->D, keys,
             false);
    for (size_t r = 0; r < rows; r++)
        softmax_row(w->weights + r * w->S, shape->scale, keys, keys_until(shape, t + r + 1), head->mask,
                    head->bias != NULL ? head->bias + (t + r) * shape->S : NULL);
}

/* They and their dropout, as they are multiplied. */
static void use_weights(const work *w, size_t t, size_t rows, size_t keys) {
    const float *dropped = w->head->dropped;
    for (size_t r = 0; r < rows; r++) {
        const float *row = w->weights + r * w->S;
        if (dropped != NULL) {
            multiply_row(w->row, row, dropped + (t + r) * w->head->shape->S, keys);
            row = w->row;
        }
        use_row(w, r, row, keys);
    }
}

/* The map by the panels `sums` of rows (S,D). */
static void multiply_map(const work *w, numbers out, size_t out_stride, size_t rows, size_t keys) {
    const size_t padded = round_up(keys, tile_group(w->kernels));
    multiply(w, out, out_stride, tile_source(w->used, 1, w->S), rows, padded, w->sums, w->head->shape->S, w->head->shape->D,
             false);
}

void tiled_attention_forward(const attention_head *head, const large_product_kernels *kernels, float *scratch) {
    const attention_shape *shape = head->shape;
    room from = {.base = scratch};
    work w = {.head = head};
    lay_out(&w, shape, kernels, &from);
    pack_columns(&w, w.keys, head->k, head->key_stride, shape->S);
    pack_rows(&w, w.sums, head->v, head->value_stride, shape->S);
    for (size_t t = 0; t < shape->T; t += w.queries) {
        const size_t rows = smaller(shape->T - t, w.queries), keys = keys_until(shape, t + rows);
        make_weights(&w, t, rows, keys);
        use_weights(&w, t, rows, keys);
        multiply_map(&w, numbers_from(head->out, t * head->out_stride), head->out_stride, rows, keys);
    }
}

/* ---------------------------------------------------------------- backward */

static bool wanted(numbers x) {
    return x.f32 != NULL || x.bf16 != NULL;
}

/* sum (keys,D) += mapᵀ · the block's rows in panels. */
static void add_transposed_map(const work *w, float *sum, const uint32_t *panels, size_t rows, size_t keys) {
    const size_t D = w->head->shape->D;
    multiply(w, numbers_f32(sum), D, tile_source(w->used, w->S, 1), keys, rows, panels, rows, D, true);
}

/* From the gradient of the weights to that of the scores, times scale, as it is multiplied. */
static void use_score_gradients(const work *w, size_t t, size_t rows, size_t keys) {
    const attention_head *head = w->head;
    const size_t S = head->shape->S;
    for (size_t r = 0; r < rows; r++) {
        float *row = w->dweights + r * w->S;
        if (head->dropped != NULL) multiply_row(row, row, head->dropped + (t + r) * S, keys);
        softmax_backward_row(row, w->weights + r * w->S, keys);
        if (head->dbias != NULL) add_row(head->dbias + (t + r) * S, head->dbias + (t + r) * S, row, keys);
        scale_row(row, row, head->shape->scale, keys);
        use_row(w, r, row, keys);
    }
}

void tiled_attention_backward(const attention_head *head, const large_product_kernels *kernels, float *scratch) {
    const attention_shape *shape = head->shape;
    const size_t S = shape->S, D = shape->D;
    room from = {.base = scratch};
    work w = {.head = head};
    lay_out(&w, shape, kernels, &from);
    pack_columns(&w, w.keys, head->k, head->key_stride, S);
    pack_columns(&w, w.values, head->v, head->value_stride, S);
    pack_rows(&w, w.sums, head->k, head->key_stride, S);
    memset(w.dk, 0, S * D * sizeof *w.dk);
    memset(w.dv, 0, S * D * sizeof *w.dv);
    for (size_t t = 0; t < shape->T; t += w.queries) {
        const size_t rows = smaller(shape->T - t, w.queries), keys = keys_until(shape, t + rows);
        const numbers dout = numbers_from(head->out, t * head->out_stride);
        make_weights(&w, t, rows, keys);
        if (wanted(head->dv)) {
            pack_rows(&w, w.block, dout, head->out_stride, rows);
            use_weights(&w, t, rows, keys);
            add_transposed_map(&w, w.dv, w.block, rows, keys);
        }
        multiply(&w, numbers_f32(w.dweights), w.S, tile_source(dout, 1, head->out_stride), rows, D, w.values, D, keys, false);
        use_score_gradients(&w, t, rows, keys);
        if (wanted(head->dq)) multiply_map(&w, numbers_from(head->dq, t * head->query_stride), head->query_stride, rows, keys);
        if (wanted(head->dk)) {
            pack_rows(&w, w.block, numbers_from(head->q, t * head->query_stride), head->query_stride, rows);
            add_transposed_map(&w, w.dk, w.block, rows, keys);
        }
    }
    keep_rows(head->dk, head->key_stride, w.dk, D, S, D);
    keep_rows(head->dv, head->value_stride, w.dv, D, S, D);
}
