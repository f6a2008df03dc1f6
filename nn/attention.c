#include "nn/nn.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "nn/internal.h"
#include "nn/math_inline.h"

/* One head of one picture is one thread's work; its products are serial. Softmax goes by blocks of queries, which lets a causal
 * head leave out the keys that no query of the block sees, and keeps the block's rows in cache from the scores to the sum of
 * values. Sinkhorn needs all queries at once. */
enum { QUERY_BLOCK = 64 };

static size_t stride_or(size_t stride, const attention_shape *shape) {
    return stride != 0 ? stride : shape->H * shape->D;
}

static size_t saved_maps(const attention_shape *shape) {
    return shape->sinkhorn_iterations > 1 ? shape->sinkhorn_iterations : 1;
}

size_t attention_weights_size(const attention_shape *shape) {
    return shape->B * shape->H * shape->T * shape->S * saved_maps(shape);
}

/* What one (b, h) works on. */
typedef struct {
    const attention_shape *shape;
    const float *q, *k, *v;
    size_t query_stride, key_stride, value_stride, out_stride;
    const int32_t *mask;  /* (S) or NULL */
    const float *bias;    /* (T,S) or NULL */
    const float *dropped; /* (T,S): the dropout's factors, or NULL */
} head;

static head head_of(const attention_shape *shape, const float *q, const float *k, const float *v, const float *dropped,
                    size_t b, size_t h) {
    head it = {.shape = shape,
               .query_stride = stride_or(shape->query_stride, shape),
               .key_stride = stride_or(shape->key_stride, shape),
               .value_stride = stride_or(shape->value_stride, shape),
               .out_stride = stride_or(shape->out_stride, shape),
               .mask = shape->key_mask != NULL ? shape->key_mask + b * shape->S : NULL,
               .bias = shape->bias != NULL ? shape->bias + h * shape->T * shape->S : NULL,
               .dropped = dropped};
    it.q = q + b * shape->T * it.query_stride + h * shape->D;
    it.k = k + b * shape->S * it.key_stride + h * shape->D;
    it.v = v + b * shape->S * it.value_stride + h * shape->D;
    return it;
}

/* Keys that the queries below `end` may see. */
static size_t keys_until(const attention_shape *shape, size_t end) {
    return shape->causal ? smaller(end, shape->S) : shape->S;
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

/* Softmax over the first `seen` of n keys, in place; the others become 0. All are 0 when no key is seen. */
LIMN_CLONES static void softmax_row(float *row, size_t n, size_t seen, const int32_t *mask, const float *bias) {
    if (bias != NULL) {
#pragma omp simd
        for (size_t s = 0; s < seen; s++) row[s] += bias[s];
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

/* d, the gradient of the weights w, becomes that of the scores: w·(d − Σ w·d). */
LIMN_CLONES static void softmax_backward_row(float *d, const float *w, size_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t s = 0; s < n; s++) sum += d[s] * w[s];
#pragma omp simd
    for (size_t s = 0; s < n; s++) d[s] = w[s] * (d[s] - sum);
}

LIMN_CLONES static void multiply_row(float *out, const float *a, const float *b, size_t n) {
#pragma omp simd
    for (size_t s = 0; s < n; s++) out[s] = a[s] * b[s];
}

LIMN_CLONES static void add_row(float *out, const float *a, size_t n) {
#pragma omp simd
    for (size_t s = 0; s < n; s++) out[s] += a[s];
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

/* Queries t … t+rows-1: scores, weights (in `weights`, row stride S) and out. `scratch` holds rows·S floats where there is
 * dropout. */
static void forward_block(const head *it, float *out, float *weights, float *scratch, size_t t, size_t rows) {
    size_t S = it->shape->S, D = it->shape->D, keys = keys_until(it->shape, t + rows);
    matmul(weights, S, it->q + t * it->query_stride, it->query_stride, false, it->k, it->key_stride, true, rows, keys, D,
           it->shape->scale, 0.0f);
    for (size_t r = 0; r < rows; r++)
        softmax_row(weights + r * S, keys, keys_until(it->shape, t + r + 1), it->mask,
                    it->bias != NULL ? it->bias + (t + r) * S : NULL);
    if (it->dropped != NULL) {
        for (size_t r = 0; r < rows; r++) multiply_row(scratch + r * S, weights + r * S, it->dropped + (t + r) * S, keys);
        weights = scratch;
    }
    matmul(out + t * it->out_stride, it->out_stride, weights, S, false, it->v, it->value_stride, false, rows, D, keys, 1.0f,
           0.0f);
}

static void forward_sinkhorn(const head *it, float *out, float *maps, float *scratch) {
    const attention_shape *shape = it->shape;
    size_t T = shape->T, S = shape->S, D = shape->D;
    float *scores = scratch, *columns = scratch + T * S;
    matmul(scores, S, it->q, it->query_stride, false, it->k, it->key_stride, true, T, S, D, shape->scale, 0.0f);
    if (it->bias != NULL) add_row(scores, it->bias, T * S);
    hide_keys(scores, it->mask, T, S);
    sinkhorn_forward(maps, scores, columns, shape->sinkhorn_iterations, T, S);
    const float *weights = maps + (shape->sinkhorn_iterations - 1) * T * S;
    if (it->dropped != NULL) {
        multiply_row(scores, weights, it->dropped, T * S);
        weights = scores;
    }
    matmul(out, it->out_stride, weights, S, false, it->v, it->value_stride, false, T, D, S, 1.0f, 0.0f);
}

void attention_forward(float *out, float *weights, const float *q, const float *k, const float *v, const attention_shape *shape,
                       limn_arena *arena) {
    use_single_threaded_blas();
    size_t mark = limn_arena_mark(arena);
    size_t B = shape->B, T = shape->T, S = shape->S, H = shape->H, maps = saved_maps(shape);
    const float *dropped = make_dropped(shape, arena);
    /* Each thread: the block's dropped weights or the Sinkhorn scores, and the weights themselves when nobody saves them. */
    size_t block = maps > 1 ? T : smaller(T, QUERY_BLOCK);
    size_t work = block * S + (maps > 1 ? 2 * S : 0), own = weights != NULL ? 0 : maps * block * S;
    float *scratch = limn_arena_floats(arena, (size_t)omp_get_max_threads() * (work + own));
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++) {
            head it = head_of(shape, q, k, v, dropped, b, h);
            float *mine = scratch + (size_t)omp_get_thread_num() * (work + own);
            float *head_out = out + b * T * it.out_stride + h * shape->D;
            float *head_weights = weights != NULL ? weights + (b * H + h) * maps * T * S : NULL;
            if (maps > 1) {
                forward_sinkhorn(&it, head_out, weights != NULL ? head_weights : mine + work, mine);
                continue;
            }
            for (size_t t = 0; t < T; t += block)
                forward_block(&it, head_out, weights != NULL ? head_weights + t * S : mine + work, mine, t,
                              smaller(T - t, block));
        }
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- backward */

/* What one head writes. */
typedef struct {
    float *dq, *dk, *dv, *dbias;
    const float *dout;
    const float *weights; /* (iterations,T,S) */
} head_gradients;

/* dk += scale·dscoresᵀ·q and dq = scale·dscores·k for queries t … t+rows-1; dbias += dscores. */
static void scores_backward(const head *it, const head_gradients *g, const float *dscores, size_t t, size_t rows, size_t keys) {
    size_t S = it->shape->S, D = it->shape->D;
    if (g->dbias != NULL)
        for (size_t r = 0; r < rows; r++) add_row(g->dbias + (t + r) * S, dscores + r * S, keys);
    if (g->dq != NULL)
        matmul(g->dq + t * it->query_stride, it->query_stride, dscores, S, false, it->k, it->key_stride, false, rows, D, keys,
               it->shape->scale, 0.0f);
    if (g->dk != NULL)
        matmul(g->dk, it->key_stride, dscores, S, true, it->q + t * it->query_stride, it->query_stride, false, keys, D, rows,
               it->shape->scale, 1.0f);
}

/* dv += weightsᵀ·dout; dweights = dout·vᵀ, both with the dropout. `dropped_weights` and dweights are scratch, (rows,S). */
static void values_backward(const head *it, const head_gradients *g, const float *weights, float *dweights,
                            float *dropped_weights, size_t t, size_t rows, size_t keys) {
    size_t S = it->shape->S, D = it->shape->D;
    const float *dout = g->dout + t * it->out_stride, *used = weights;
    matmul(dweights, S, dout, it->out_stride, false, it->v, it->value_stride, true, rows, keys, D, 1.0f, 0.0f);
    if (it->dropped != NULL) {
        for (size_t r = 0; r < rows; r++) {
            multiply_row(dropped_weights + r * S, weights + r * S, it->dropped + (t + r) * S, keys);
            multiply_row(dweights + r * S, dweights + r * S, it->dropped + (t + r) * S, keys);
        }
        used = dropped_weights;
    }
    if (g->dv != NULL) matmul(g->dv, it->value_stride, used, S, true, dout, it->out_stride, false, keys, D, rows, 1.0f, 1.0f);
}

static void clear_rows(float *rows, size_t stride, size_t count, size_t D) {
    if (rows == NULL) return;
    for (size_t i = 0; i < count; i++) memset(rows + i * stride, 0, D * sizeof *rows);
}

/* scratch: 2·block·S floats, and S more for Sinkhorn. */
static void backward_head(const head *it, const head_gradients *g, float *scratch, size_t block) {
    const attention_shape *shape = it->shape;
    size_t T = shape->T, S = shape->S;
    float *dscores = scratch, *dropped_weights = scratch + block * S, *columns = dropped_weights + block * S;
    clear_rows(g->dk, it->key_stride, S, shape->D);
    clear_rows(g->dv, it->value_stride, S, shape->D);
    if (shape->sinkhorn_iterations > 1) {
        values_backward(it, g, g->weights + (shape->sinkhorn_iterations - 1) * T * S, dscores, dropped_weights, 0, T, S);
        sinkhorn_backward(dscores, g->weights, columns, shape->sinkhorn_iterations, T, S);
        scores_backward(it, g, dscores, 0, T, S);
        return;
    }
    for (size_t t = 0; t < T; t += block) {
        size_t rows = smaller(T - t, block), keys = keys_until(shape, t + rows);
        const float *weights = g->weights + t * S;
        values_backward(it, g, weights, dscores, dropped_weights, t, rows, keys);
        for (size_t r = 0; r < rows; r++) softmax_backward_row(dscores + r * S, weights + r * S, keys);
        scores_backward(it, g, dscores, t, rows, keys);
    }
}

void attention_backward(float *dq, float *dk, float *dv, float *dbias, const float *dout, const float *weights, const float *q,
                        const float *k, const float *v, const attention_shape *shape, limn_arena *arena) {
    use_single_threaded_blas();
    size_t mark = limn_arena_mark(arena);
    size_t B = shape->B, T = shape->T, S = shape->S, H = shape->H, D = shape->D, maps = saved_maps(shape);
    const float *dropped = make_dropped(shape, arena);
    size_t block = maps > 1 ? T : smaller(T, QUERY_BLOCK), work = 2 * block * S + S;
    float *scratch = limn_arena_floats(arena, (size_t)omp_get_max_threads() * work);
    /* The bias of a head is shared by the whole batch: then one thread adds all of it, in order. */
    size_t batches = dbias != NULL ? B : 1, tasks = dbias != NULL ? H : B * H;
#pragma omp parallel for schedule(static)
    for (size_t task = 0; task < tasks; task++)
        for (size_t i = 0; i < batches; i++) {
            size_t b = dbias != NULL ? i : task / H, h = dbias != NULL ? task : task % H;
            head it = head_of(shape, q, k, v, dropped, b, h);
            head_gradients g = {.dq = dq != NULL ? dq + b * T * it.query_stride + h * D : NULL,
                                .dk = dk != NULL ? dk + b * S * it.key_stride + h * D : NULL,
                                .dv = dv != NULL ? dv + b * S * it.value_stride + h * D : NULL,
                                .dbias = dbias != NULL ? dbias + h * T * S : NULL,
                                .dout = dout + b * T * it.out_stride + h * D,
                                .weights = weights + (b * H + h) * maps * T * S};
            backward_head(&it, &g, scratch + (size_t)omp_get_thread_num() * work, block);
        }
    limn_arena_release(arena, mark);
}
