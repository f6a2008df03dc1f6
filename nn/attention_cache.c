/* Attention of one query over kept keys and values. A step reads all of them once and computes little: what counts is that they
 * stream. */
#include "nn/internal.h"
#include "nn/math_inline.h"
#include "nn/nn.h"

#include <omp.h>
#include <string.h>

enum { GROUP = 16 /* positions whose scores are computed together */ };

static size_t divide_up(size_t a, size_t b) {
    return (a + b - 1) / b;
}

/* Sizes of one head of one sequence, in words of 32 bits: a float, or a pair of bfloat16. */
typedef struct {
    bool pairs;
    size_t key_rows;     /* words of a position's key */
    size_t keys, values; /* of all positions */
} head_layout;

static head_layout layout_of(const attention_cache *cache) {
    head_layout self = {.pairs = cache->precision != PRECISION_FP32};
    const size_t groups = divide_up(cache->capacity, GROUP);
    self.key_rows = self.pairs ? divide_up(cache->D, 2) : cache->D;
    self.keys = groups * self.key_rows * GROUP;
    self.values = (self.pairs ? divide_up(cache->capacity, 2) : cache->capacity) * cache->D;
    return self;
}

size_t attention_cache_bytes(const attention_cache *cache) {
    const head_layout layout = layout_of(cache);
    return cache->sequences * cache->H * (layout.keys + layout.values) * sizeof(uint32_t);
}

static uint32_t *head_memory(const attention_cache *cache, const head_layout *layout, size_t sequence, size_t h) {
    return (uint32_t *)cache->memory + (sequence * cache->H + h) * (layout->keys + layout->values);
}

/* ---------------------------------------------------------------- storing */

static inline uint32_t pair(float low, float high) {
    return (uint32_t)limn_bf16_from_float(high) << 16 | limn_bf16_from_float(low);
}

static void store_position(const attention_cache *cache, const head_layout *layout, uint32_t *head, size_t t, const float *key,
                           const float *value) {
    const size_t D = cache->D;
    uint32_t *keys = head + t / GROUP * layout->key_rows * GROUP + t % GROUP;
    uint32_t *values = head + layout->keys;
    if (!layout->pairs) {
        for (size_t d = 0; d < D; d++) keys[d * GROUP] = bits_from_float(key[d]);
        memcpy(values + t * D, value, D * sizeof *value);
        return;
    }
    for (size_t d = 0; d < D; d += 2) keys[d / 2 * GROUP] = pair(key[d], d + 1 < D ? key[d + 1] : 0);
    values += t / 2 * D;
    if (t % 2 == 0) /* its partner is nothing until it comes */
        for (size_t d = 0; d < D; d++) values[d] = pair(value[d], 0);
    else
        for (size_t d = 0; d < D; d++) values[d] = (values[d] & 0xffff) | (uint32_t)limn_bf16_from_float(value[d]) << 16;
}

void attention_cache_store(const attention_cache *cache, const float *keys, const float *values, size_t sequences, size_t start,
                           size_t count) {
    const head_layout layout = layout_of(cache);
    const size_t H = cache->H, D = cache->D;
#pragma omp parallel for collapse(2) schedule(static) num_threads((int)limn_get_threads())
    for (size_t i = 0; i < sequences; i++)
        for (size_t h = 0; h < H; h++)
            for (size_t t = 0; t < count; t++) {
                const size_t at = ((i * count + t) * H + h) * D;
                store_position(cache, &layout, head_memory(cache, &layout, i, h), start + t, keys + at, values + at);
            }
}

/* ---------------------------------------------------------------- attending */

/* scores[j] = Σ over d of q[d]·key of position j [d], for GROUP positions. Two sums, so that additions need not wait for each
 * other. `ahead`, as long as the keys, is fetched meanwhile. */
LIMN_INLINE void score_group(float *scores, const uint32_t *keys, const float *q, size_t D, bool pairs, const uint32_t *ahead) {
    float even[GROUP] = {0}, odd[GROUP] = {0};
    for (size_t d = 0; d + 1 < D; d += 2) {
        const uint32_t *row = keys + (pairs ? d / 2 : d) * GROUP;
        __builtin_prefetch(ahead + (pairs ? d / 2 : d) * GROUP);
        if (!pairs) __builtin_prefetch(ahead + (d + 1) * GROUP);
#pragma omp simd
        for (size_t j = 0; j < GROUP; j++) {
            even[j] += q[d] * float_from_bits(pairs ? row[j] << 16 : row[j]);
            odd[j] += q[d + 1] * float_from_bits(pairs ? row[j] & 0xffff0000u : row[GROUP + j]);
        }
    }
    if (D % 2 != 0) {
        const uint32_t *row = keys + (pairs ? D / 2 : D - 1) * GROUP;
#pragma omp simd
        for (size_t j = 0; j < GROUP; j++) even[j] += q[D - 1] * float_from_bits(pairs ? row[j] << 16 : row[j]);
    }
    for (size_t j = 0; j < GROUP; j++) scores[j] = even[j] + odd[j];
}

/* Scores to weights that sum to 1; false when nothing is seen. */
LIMN_INLINE bool soften(float *scores, size_t count) {
    float largest = -INFINITY, sum = 0;
#pragma omp simd reduction(max : largest)
    for (size_t s = 0; s < count; s++) largest = scores[s] > largest ? scores[s] : largest;
    if (largest == -INFINITY) return false;
#pragma omp simd reduction(+ : sum)
    for (size_t s = 0; s < count; s++) {
        scores[s] = fast_expf(scores[s] - largest);
        sum += scores[s];
    }
    const float inverse = 1 / sum;
#pragma omp simd
    for (size_t s = 0; s < count; s++) scores[s] *= inverse;
    return true;
}

LIMN_INLINE void mix_values(float *out, const float *weights, const uint32_t *values, size_t count, size_t D, bool pairs,
                            const uint32_t *ahead) {
    for (size_t s = 0; s < count; s += 2) {
        const float weight0 = weights[s], weight1 = s + 1 < count ? weights[s + 1] : 0;
        const uint32_t *row = values + (pairs ? s / 2 : s) * D, *row1 = s + 1 < count ? row + D : row;
        for (size_t d = 0; d < D; d += GROUP) __builtin_prefetch(ahead + (pairs ? s / 2 : s) * D + d);
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            out[d] += weight0 * float_from_bits(pairs ? row[d] << 16 : row[d]) +
                      weight1 * float_from_bits(pairs ? row[d] & 0xffff0000u : row1[d]);
    }
}

/* What one query of one head reads and writes. */
typedef struct {
    float *out, *scores; /* (D), (count rounded up to GROUP) */
    const float *q;
    const uint32_t *keys, *values, *ahead; /* ahead: what will be read next */
    const int32_t *mask;
    const float *bias;
    size_t bias_stride, count, D, key_rows;
    float scale;
} head_query;

LIMN_INLINE void attend_head(const head_query *self, bool pairs) {
    for (size_t s = 0; s < self->count; s += GROUP)
        score_group(self->scores + s, self->keys + s * self->key_rows, self->q, self->D, pairs,
                    self->values + s * self->key_rows);
    for (size_t s = 0; s < self->count; s++) {
        self->scores[s] *= self->scale;
        if (self->bias != NULL) self->scores[s] += self->bias[s * self->bias_stride];
        if (self->mask != NULL && self->mask[s] == 0) self->scores[s] = -INFINITY;
    }
    memset(self->out, 0, self->D * sizeof *self->out);
    if (soften(self->scores, self->count))
        mix_values(self->out, self->scores, self->values, self->count, self->D, pairs, self->ahead);
}

LIMN_CLONES static void attend_head_fp32(const head_query *self) {
    attend_head(self, false);
}

LIMN_CLONES static void attend_head_bf16(const head_query *self) {
    attend_head(self, true);
}

void attention_cache_attend(const attention_cache *cache, float *out, const float *q, const cached_attention *how,
                            limn_arena *arena) {
    const head_layout layout = layout_of(cache);
    const size_t H = cache->H, D = cache->D, mark = limn_arena_mark(arena), threads = limn_get_threads();
    const size_t room = divide_up(cache->capacity, GROUP) * GROUP;
    float *scores = limn_arena_floats(arena, threads * room);
#pragma omp parallel for collapse(2) schedule(static) num_threads((int)threads)
    for (size_t r = 0; r < how->rows; r++)
        for (size_t h = 0; h < H; h++) {
            const size_t sequence = how->row_sequence != NULL ? how->row_sequence[r] : r;
            uint32_t *head = head_memory(cache, &layout, sequence, h);
            if (how->new_keys != NULL)
                store_position(cache, &layout, head, how->count - 1, how->new_keys + (r * H + h) * D,
                               how->new_values + (r * H + h) * D);
            const head_query query = {
                .out = out + (r * H + h) * D,
                .scores = scores + (size_t)omp_get_thread_num() * room,
                .q = q + (r * H + h) * D,
                .keys = head,
                .values = head + layout.keys,
                .ahead = head + layout.keys + layout.values, /* the next head, or a little beyond: it is only fetched */
                .mask = how->mask != NULL ? how->mask + sequence * cache->capacity : NULL,
                .bias = how->bias != NULL ? how->bias + h : NULL,
                .bias_stride = H,
                .count = how->count,
                .D = D,
                .key_rows = layout.key_rows,
                .scale = how->scale,
            };
            if (layout.pairs)
                attend_head_bf16(&query);
            else
                attend_head_fp32(&query);
        }
    limn_arena_release(arena, mark);
}
