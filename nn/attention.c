#include "nn/nn.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "nn/attention_internal.h"
#include "nn/math_inline.h"

/* One head of one picture is one thread's work; its products are serial. Softmax goes by blocks of queries, which lets a causal
 * head leave out the keys that no query of the block sees, and keeps the block's rows in cache from the scores to the sum of
 * values. Sinkhorn needs all queries at once. */
enum { QUERY_BLOCK = 64 };

static size_t stride_or(size_t stride, const attention_shape *shape) {
    return stride != 0 ? stride : shape->H * shape->D;
}

void keep_rows(numbers to, size_t to_stride, const float *rows, size_t stride, size_t count, size_t D) {
    if (to.bf16 != NULL)
        for (size_t i = 0; i < count; i++) round_to_bf16(to.bf16 + i * to_stride, rows + i * stride, D);
    else if (to.f32 != NULL && to.f32 != rows)
        for (size_t i = 0; i < count; i++) memcpy(to.f32 + i * to_stride, rows + i * stride, D * sizeof *rows);
}

/* The part of (B, count, H·D) that is one head's. */
static numbers head_part(numbers x, const attention_shape *shape, size_t count, size_t stride, size_t b, size_t h) {
    return numbers_from(x, b * count * stride + h * shape->D);
}

/* Where one head's parts are. */
static attention_head parts_of(const attention_shape *shape, numbers q, numbers k, numbers v, numbers out, const float *dropped,
                               size_t b, size_t h) {
    const size_t T = shape->T, S = shape->S;
    attention_head parts = {.shape = shape,
                            .query_stride = stride_or(shape->query_stride, shape),
                            .key_stride = stride_or(shape->key_stride, shape),
                            .value_stride = stride_or(shape->value_stride, shape),
                            .out_stride = stride_or(shape->out_stride, shape),
                            .mask = shape->key_mask != NULL ? shape->key_mask + b * S : NULL,
                            .bias = shape->bias != NULL ? shape->bias + h * T * S : NULL,
                            .dropped = dropped};
    parts.q = head_part(q, shape, T, parts.query_stride, b, h);
    parts.k = head_part(k, shape, S, parts.key_stride, b, h);
    parts.v = head_part(v, shape, S, parts.value_stride, b, h);
    parts.out = head_part(out, shape, T, parts.out_stride, b, h);
    return parts;
}

/* Rows of one head in the thread's room, which moves on behind them, where they are bfloat16; expanded when `read`. */
static void take_rows(numbers *x, size_t *stride, size_t count, size_t D, bool read, float **room) {
    if (x->bf16 == NULL) return;
    for (size_t i = 0; read && i < count; i++) expand_bf16(*room + i * D, x->bf16 + i * *stride, D);
    *x = numbers_f32(*room);
    *room += count * D;
    *stride = D;
}

/* The same head with all its rows as float32, where they lie or in the thread's room. Of `out` and the gradients what is not
 * read is undefined there. */
static attention_head head_of_floats(const attention_head *parts, bool reads_out, float **room) {
    const size_t T = parts->shape->T, S = parts->shape->S, D = parts->shape->D;
    attention_head it = *parts;
    take_rows(&it.q, &it.query_stride, T, D, true, room);
    take_rows(&it.k, &it.key_stride, S, D, true, room);
    take_rows(&it.v, &it.value_stride, S, D, true, room);
    take_rows(&it.out, &it.out_stride, T, D, reads_out, room);
    /* gradients have the kind and the strides of what they are the gradients of */
    take_rows(&it.dq, &it.query_stride, T, D, false, room);
    take_rows(&it.dk, &it.key_stride, S, D, false, room);
    take_rows(&it.dv, &it.value_stride, S, D, false, room);
    return it;
}

/* The factors of the dropout, one map for all heads; NULL without dropout. Taken from the arena. */
static float *make_dropped(const attention_shape *shape, limn_arena *arena) {
    if (shape->dropout <= 0.0f) return NULL;
    float *dropped = limn_arena_floats(arena, shape->T * shape->S);
#pragma omp parallel for schedule(static)
    for (size_t t = 0; t < shape->T; t++)
        dropout_factors(dropped + t * shape->S, shape->dropout, shape->seed, shape->stream, t * shape->S, shape->S);
    return dropped;
}

/* ---------------------------------------------------------------- rows */

LIMN_CLONES void softmax_row(float *row, float scale, size_t n, size_t seen, const int32_t *mask, const float *bias) {
    if (bias != NULL) {
#pragma omp simd
        for (size_t s = 0; s < seen; s++) row[s] = scale * row[s] + bias[s];
    } else {
#pragma omp simd
        for (size_t s = 0; s < seen; s++) row[s] *= scale;
    }
    if (mask != NULL) {
#pragma omp simd
        for (size_t s = 0; s < seen; s++) row[s] = mask[s] != 0 ? row[s] : -INFINITY;
    }
    float largest = -INFINITY, sum = 0;
#pragma omp simd reduction(max : largest)
    for (size_t s = 0; s < seen; s++) largest = row[s] > largest ? row[s] : largest;
    for (size_t s = seen; s < n; s++) row[s] = 0.0f;
    if (largest == -INFINITY) largest = 0; /* e^(−∞ − 0) = 0: no key is seen */
#pragma omp simd reduction(+ : sum)
    for (size_t s = 0; s < seen; s++) {
        float e = fast_expf(row[s] - largest);
        row[s] = e;
        sum += e;
    }
    float factor = sum == 0.0f ? 0.0f : 1.0f / sum; /* a NaN stays one */
#pragma omp simd
    for (size_t s = 0; s < seen; s++) row[s] *= factor;
}

LIMN_CLONES void softmax_backward_row(float *d, const float *w, size_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t s = 0; s < n; s++) sum += d[s] * w[s];
#pragma omp simd
    for (size_t s = 0; s < n; s++) d[s] = w[s] * (d[s] - sum);
}

/* ---------------------------------------------------------------- Sinkhorn (arXiv 2110.11773) */

/* All maps are (T,S). The scores are normalised in the log domain over keys (even iterations) and over queries (odd ones).
 * Hidden keys are −∞ from the start and stay it. Iteration i's weights e^(scores) are saved, since the derivative of
 * x − logsumexp(x) needs just these. */

LIMN_CLONES static void normalize_over_keys(float *scores, size_t T, size_t S) {
    for (size_t t = 0; t < T; t++) {
        float *row = scores + t * S, largest = -INFINITY, sum = 0;
#pragma omp simd reduction(max : largest)
        for (size_t s = 0; s < S; s++) largest = row[s] > largest ? row[s] : largest;
        if (largest == -INFINITY) continue;
#pragma omp simd reduction(+ : sum)
        for (size_t s = 0; s < S; s++) sum += fast_expf(row[s] - largest);
        float total = largest + logf(sum);
#pragma omp simd
        for (size_t s = 0; s < S; s++) row[s] -= total;
    }
}

/* largest and total: (S) of scratch. */
LIMN_CLONES static void normalize_over_queries(float *scores, float *largest, float *total, size_t T, size_t S) {
    for (size_t s = 0; s < S; s++) {
        largest[s] = -INFINITY;
        total[s] = 0;
    }
    for (size_t t = 0; t < T; t++) {
#pragma omp simd
        for (size_t s = 0; s < S; s++) largest[s] = scores[t * S + s] > largest[s] ? scores[t * S + s] : largest[s];
    }
    for (size_t s = 0; s < S; s++) largest[s] = largest[s] == -INFINITY ? 0 : largest[s];
    for (size_t t = 0; t < T; t++) {
#pragma omp simd
        for (size_t s = 0; s < S; s++) total[s] += fast_expf(scores[t * S + s] - largest[s]);
    }
    /* A key that no query sees keeps its −∞. */
    for (size_t s = 0; s < S; s++) total[s] = total[s] == 0.0f ? 0.0f : largest[s] + logf(total[s]);
    for (size_t t = 0; t < T; t++) {
#pragma omp simd
        for (size_t s = 0; s < S; s++) scores[t * S + s] -= total[s];
    }
}

LIMN_CLONES static void exponential(float *out, const float *in, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] = fast_expf(in[i]);
}

static void hide_keys(float *scores, const int32_t *mask, size_t T, size_t S) {
    if (mask == NULL) return;
    for (size_t t = 0; t < T; t++)
        for (size_t s = 0; s < S; s++)
            if (mask[s] == 0) scores[t * S + s] = -INFINITY;
}

/* scores (T,S) is overwritten; maps (iterations,T,S) receives the weights after each iteration. */
static void sinkhorn_forward(float *maps, float *scores, float *columns, size_t iterations, size_t T, size_t S) {
    for (size_t i = 0; i < iterations; i++) {
        if (i % 2 == 0)
            normalize_over_keys(scores, T, S);
        else
            normalize_over_queries(scores, columns, columns + S, T, S);
        exponential(maps + i * T * S, scores, T * S);
    }
}

LIMN_CLONES static void over_keys_backward(float *d, const float *w, size_t T, size_t S) {
    for (size_t t = 0; t < T; t++) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t s = 0; s < S; s++) sum += d[t * S + s];
#pragma omp simd
        for (size_t s = 0; s < S; s++) d[t * S + s] -= w[t * S + s] * sum;
    }
}

LIMN_CLONES static void over_queries_backward(float *d, const float *w, float *sum, size_t T, size_t S) {
    memset(sum, 0, S * sizeof *sum);
    for (size_t t = 0; t < T; t++) {
#pragma omp simd
        for (size_t s = 0; s < S; s++) sum[s] += d[t * S + s];
    }
    for (size_t t = 0; t < T; t++) {
#pragma omp simd
        for (size_t s = 0; s < S; s++) d[t * S + s] -= w[t * S + s] * sum[s];
    }
}

/* d (T,S), the gradient of the last weights, becomes that of the scores. Where a key is hidden every map is 0, and so is d from
 * the first line on. */
static void sinkhorn_backward(float *d, const float *maps, float *columns, size_t iterations, size_t T, size_t S) {
    multiply_row(d, d, maps + (iterations - 1) * T * S, T * S);
    for (size_t i = iterations; i-- > 0;) {
        if (i % 2 == 0)
            over_keys_backward(d, maps + i * T * S, T, S);
        else
            over_queries_backward(d, maps + i * T * S, columns, T, S);
    }
}

/* ---------------------------------------------------------------- forward */

/* Weights of the queries t … t+rows-1 over the keys they may see, row stride S. */
static void block_weights(const attention_head *it, float *weights, size_t t, size_t rows, size_t keys) {
    const size_t S = it->shape->S;
    matmul(weights, S, it->q.f32 + t * it->query_stride, it->query_stride, false, it->k.f32, it->key_stride, true, rows, keys,
           it->shape->D, 1.0f, 0.0f);
    for (size_t r = 0; r < rows; r++)
        softmax_row(weights + r * S, it->shape->scale, keys, keys_until(it->shape, t + r + 1), it->mask,
                    it->bias != NULL ? it->bias + (t + r) * S : NULL);
}

/* scratch: the scores (T,S) and 2·S. */
static void sinkhorn_weights(const attention_head *it, float *maps, float *scratch) {
    const attention_shape *shape = it->shape;
    const size_t T = shape->T, S = shape->S;
    matmul(scratch, S, it->q.f32, it->query_stride, false, it->k.f32, it->key_stride, true, T, S, shape->D, shape->scale, 0.0f);
    if (it->bias != NULL) add_row(scratch, scratch, it->bias, T * S);
    hide_keys(scratch, it->mask, T, S);
    sinkhorn_forward(maps, scratch, scratch + T * S, shape->sinkhorn_iterations, T, S);
}

static size_t maps_of(const attention_shape *shape) {
    return shape->sinkhorn_iterations > 1 ? shape->sinkhorn_iterations : 1;
}

static size_t block_of(const attention_shape *shape) {
    return maps_of(shape) > 1 ? shape->T : smaller(shape->T, QUERY_BLOCK);
}

/* A thread's: all heads' rows as float32 (queries and their gradient, outputs; keys and values and their gradients), and maps.
 */
static size_t thread_floats(const attention_shape *shape) {
    const size_t rows = 3 * shape->T + 4 * shape->S;
    return rows * shape->D + (maps_of(shape) + 3) * block_of(shape) * shape->S + 2 * shape->S + 16;
}

/* Kernels of our own for arrays of one kind; NULL: OpenBLAS multiplies, what is bfloat16 is expanded for it. */
static const large_product_kernels *kernels_for(const attention_shape *shape, bool half) {
    return maps_of(shape) > 1 ? NULL : large_product_kernels_find(half);
}

static size_t floats_of(const attention_shape *shape, const large_product_kernels *kernels) {
    return kernels != NULL ? tiled_attention_floats(shape, kernels) : round_up(thread_floats(shape), 16);
}

size_t attention_scratch_bytes(const attention_shape *shape, bool half) {
    const size_t dropped = shape->dropout > 0 ? shape->T * shape->S : 0, rounding = 128;
    return ((size_t)omp_get_max_threads() * floats_of(shape, kernels_for(shape, half)) + dropped) * sizeof(float) + rounding;
}

static void forward_head(const attention_head *it, float *scratch) {
    const attention_shape *shape = it->shape;
    const size_t T = shape->T, S = shape->S, D = shape->D, block = block_of(shape), maps = maps_of(shape);
    float *dropped_weights = scratch, *all = scratch + block * S, *scores = all + maps * block * S;
    for (size_t t = 0; t < T; t += block) {
        const size_t rows = smaller(T - t, block), keys = keys_until(shape, t + rows);
        const float *weights = all + (maps - 1) * block * S;
        if (maps > 1)
            sinkhorn_weights(it, all, scores);
        else
            block_weights(it, all, t, rows, keys);
        if (it->dropped != NULL) {
            for (size_t r = 0; r < rows; r++)
                multiply_row(dropped_weights + r * S, weights + r * S, it->dropped + (t + r) * S, keys);
            weights = dropped_weights;
        }
        matmul(it->out.f32 + t * it->out_stride, it->out_stride, weights, S, false, it->v.f32, it->value_stride, false, rows, D,
               keys, 1.0f, 0.0f);
    }
}

static void forward_by_blas(const attention_head *parts, float *room) {
    const attention_head it = head_of_floats(parts, false, &room);
    forward_head(&it, room);
    keep_rows(parts->out, parts->out_stride, it.out.f32, it.out_stride, parts->shape->T, parts->shape->D);
}

void attention_forward(numbers out, numbers q, numbers k, numbers v, const attention_shape *shape, limn_arena *arena) {
    use_single_threaded_blas();
    const size_t mark = limn_arena_mark(arena), B = shape->B, H = shape->H;
    const float *dropped = make_dropped(shape, arena);
    const large_product_kernels *kernels = kernels_for(shape, q.bf16 != NULL);
    const size_t own = floats_of(shape, kernels);
    float *scratch = limn_arena_floats(arena, (size_t)omp_get_max_threads() * own);
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++) {
            float *room = scratch + (size_t)omp_get_thread_num() * own;
            const attention_head parts = parts_of(shape, q, k, v, out, dropped, b, h);
            if (kernels != NULL)
                tiled_attention_forward(&parts, kernels, room);
            else
                forward_by_blas(&parts, room);
        }
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- backward */

/* dk += scale·dscoresᵀ·q and dq = scale·dscores·k for queries t … t+rows-1; dbias += dscores. */
static void scores_backward(const attention_head *it, const float *dscores, size_t t, size_t rows, size_t keys) {
    const size_t S = it->shape->S, D = it->shape->D, first = t * it->query_stride;
    float *dbias = it->dbias != NULL ? it->dbias + t * S : NULL;
    for (size_t r = 0; dbias != NULL && r < rows; r++) add_row(dbias + r * S, dbias + r * S, dscores + r * S, keys);
    if (it->dq.f32 != NULL)
        matmul(it->dq.f32 + first, it->query_stride, dscores, S, false, it->k.f32, it->key_stride, false, rows, D, keys,
               it->shape->scale, 0.0f);
    if (it->dk.f32 != NULL)
        matmul(it->dk.f32, it->key_stride, dscores, S, true, it->q.f32 + first, it->query_stride, false, keys, D, rows,
               it->shape->scale, 1.0f);
}

/* dv += weightsᵀ·dout; dweights = dout·vᵀ, both with the dropout. `dropped_weights` and dweights are scratch, (rows,S). */
static void values_backward(const attention_head *it, const float *weights, float *dweights, float *dropped_weights, size_t t,
                            size_t rows, size_t keys) {
    const size_t S = it->shape->S, D = it->shape->D;
    const float *dout = it->out.f32 + t * it->out_stride, *used = weights;
    matmul(dweights, S, dout, it->out_stride, false, it->v.f32, it->value_stride, true, rows, keys, D, 1.0f, 0.0f);
    if (it->dropped != NULL) {
        for (size_t r = 0; r < rows; r++) {
            multiply_row(dropped_weights + r * S, weights + r * S, it->dropped + (t + r) * S, keys);
            multiply_row(dweights + r * S, dweights + r * S, it->dropped + (t + r) * S, keys);
        }
        used = dropped_weights;
    }
    if (it->dv.f32 != NULL)
        matmul(it->dv.f32, it->value_stride, used, S, true, dout, it->out_stride, false, keys, D, rows, 1.0f, 1.0f);
}

static void clear_rows(float *rows, size_t stride, size_t count, size_t D) {
    if (rows == NULL) return;
    for (size_t i = 0; i < count; i++) memset(rows + i * stride, 0, D * sizeof *rows);
}

/* The weights are made again from queries and keys: they would be the largest thing that a layer keeps. */
static void backward_head(const attention_head *it, float *scratch) {
    const attention_shape *shape = it->shape;
    const size_t T = shape->T, S = shape->S, block = block_of(shape), maps = maps_of(shape);
    float *dscores = scratch, *dropped_weights = dscores + block * S, *all = dropped_weights + block * S;
    float *scores = all + maps * block * S;
    clear_rows(it->dk.f32, it->key_stride, S, shape->D);
    clear_rows(it->dv.f32, it->value_stride, S, shape->D);
    if (maps > 1) {
        sinkhorn_weights(it, all, scores);
        values_backward(it, all + (maps - 1) * T * S, dscores, dropped_weights, 0, T, S);
        sinkhorn_backward(dscores, all, scores, maps, T, S);
        scores_backward(it, dscores, 0, T, S);
        return;
    }
    for (size_t t = 0; t < T; t += block) {
        size_t rows = smaller(T - t, block), keys = keys_until(shape, t + rows);
        block_weights(it, all, t, rows, keys);
        values_backward(it, all, dscores, dropped_weights, t, rows, keys);
        for (size_t r = 0; r < rows; r++) softmax_backward_row(dscores + r * S, all + r * S, keys);
        scores_backward(it, dscores, t, rows, keys);
    }
}

static void backward_by_blas(const attention_head *parts, float *room) {
    const size_t T = parts->shape->T, S = parts->shape->S, D = parts->shape->D;
    const attention_head it = head_of_floats(parts, true, &room);
    backward_head(&it, room);
    keep_rows(parts->dq, parts->query_stride, it.dq.f32, it.query_stride, T, D);
    keep_rows(parts->dk, parts->key_stride, it.dk.f32, it.key_stride, S, D);
    keep_rows(parts->dv, parts->value_stride, it.dv.f32, it.value_stride, S, D);
}

void attention_backward(numbers dq, numbers dk, numbers dv, float *dbias, numbers dout, numbers q, numbers k, numbers v,
                        const attention_shape *shape, limn_arena *arena) {
    use_single_threaded_blas();
    const size_t mark = limn_arena_mark(arena), B = shape->B, T = shape->T, S = shape->S, H = shape->H;
    const float *dropped = make_dropped(shape, arena);
    const large_product_kernels *kernels = kernels_for(shape, q.bf16 != NULL);
    const size_t own = floats_of(shape, kernels);
    float *scratch = limn_arena_floats(arena, (size_t)omp_get_max_threads() * own);
    /* The bias of a head is shared by the whole batch: then one thread adds all of it, in order. */
    const size_t batches = dbias != NULL ? B : 1, tasks = dbias != NULL ? H : B * H;
#pragma omp parallel for schedule(static)
    for (size_t task = 0; task < tasks; task++)
        for (size_t i = 0; i < batches; i++) {
            const size_t b = dbias != NULL ? i : task / H, h = dbias != NULL ? task : task % H;
            float *room = scratch + (size_t)omp_get_thread_num() * own;
            attention_head parts = parts_of(shape, q, k, v, dout, dropped, b, h);
            parts.dq = head_part(dq, shape, T, parts.query_stride, b, h);
            parts.dk = head_part(dk, shape, S, parts.key_stride, b, h);
            parts.dv = head_part(dv, shape, S, parts.value_stride, b, h);
            parts.dbias = dbias != NULL ? dbias + h * T * S : NULL;
            if (kernels != NULL)
                tiled_attention_backward(&parts, kernels, room);
            else
                backward_by_blas(&parts, room);
        }
    limn_arena_release(arena, mark);
}
