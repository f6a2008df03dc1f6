/* Attention of one query over kept keys and values. A step reads all of them once and computes little: what counts is that they
 * stream. */
#include "nn/internal.h"
#include "nn/math_inline.h"
#include "nn/nn.h"

#include <omp.h>
#include <string.h>

enum { GROUP = 16 /* positions whose scores are computed together */ };

/* A head of a sequence lies in words of 32 bits: a float, a pair of bfloat16, or four of 8 bits, which have a scale for each
 * position's key and value. Sizes in words: */
typedef struct {
    size_t per_word;
    size_t key_rows;     /* of a position's key */
    size_t keys, values; /* of all positions */
    size_t scales;       /* of all keys, and again of all values; 0 without */
    size_t all;
} head_layout;

static head_layout layout_of(const attention_cache *cache) {
    static const size_t per_word[] = {[PRECISION_FP32] = 1, [PRECISION_BF16] = 2, [PRECISION_INT8] = 4};
    head_layout self = {.per_word = per_word[cache->precision]};
    const size_t groups = divide_up(cache->capacity, GROUP);
    self.key_rows = divide_up(cache->D, self.per_word);
    self.keys = groups * self.key_rows * GROUP;
    self.values = divide_up(cache->capacity, self.per_word) * cache->D;
    self.scales = cache->precision == PRECISION_INT8 ? groups * GROUP : 0;
    self.all = round_up(self.keys + self.values + 2 * self.scales, GROUP);
    return self;
}

size_t attention_cache_bytes(const attention_cache *cache) {
    return cache->sequences * cache->H * layout_of(cache).all * sizeof(uint32_t);
}

static uint32_t *head_memory(const attention_cache *cache, const head_layout *layout, size_t sequence, size_t h) {
    return (uint32_t *)cache->memory + (sequence * cache->H + h) * layout->all;
}

/* ---------------------------------------------------------------- storing */

/* The bits of one number; `inverse` brings it to ±127 where it has 8. */
static inline uint32_t bits_of(float value, size_t per_word, float inverse) {
    if (per_word == 1) return bits_from_float(value);
    if (per_word == 2) return limn_bf16_from_float(value);
    const float scaled = value * inverse;
    return (uint32_t)(int32_t)(scaled + (scaled < 0 ? -0.5f : 0.5f)) & 0xff;
}

/* The scale of numbers of 8 bits, and in *inverse its inverse; what is no number makes the scale none. */
static float scale_of(const float *values, size_t D, float *inverse) {
    float largest = 0, sound = 0;
    for (size_t d = 0; d < D; d++) {
        largest = fabsf(values[d]) > largest ? fabsf(values[d]) : largest;
        sound += values[d] * 0;
    }
    *inverse = largest > 0 && sound == 0 ? 127 / largest : 0;
    return largest / 127 + sound;
}

static void store_position(const attention_cache *cache, const head_layout *layout, uint32_t *head, size_t t, const float *key,
                           const float *value) {
    const size_t D = cache->D, per = layout->per_word, place = t % per, bits = 32 / per;
    uint32_t *keys = head + t / GROUP * layout->key_rows * GROUP + t % GROUP;
    uint32_t *values = head + layout->keys + t / per * D;
    float key_inverse = 0, value_inverse = 0;
    if (layout->scales > 0) {
        float *scales = (float *)(head + layout->keys + layout->values);
        scales[t] = scale_of(key, D, &key_inverse);
        scales[layout->scales + t] = scale_of(value, D, &value_inverse);
        if (key_inverse == 0) key = NULL; /* all zero, or no numbers at all */
        if (value_inverse == 0) value = NULL;
    }
    for (size_t row = 0; row < layout->key_rows; row++) {
        uint32_t word = 0;
        for (size_t k = 0; key != NULL && k < per && row * per + k < D; k++)
            word |= bits_of(key[row * per + k], per, key_inverse) << k * bits;
        keys[row * GROUP] = word;
    }
    const uint32_t mask = (uint32_t)(((uint64_t)1 << bits) - 1) << place * bits;
    for (size_t d = 0; d < D; d++) { /* the others of a word are nothing until they come */
        const uint32_t number = value != NULL ? bits_of(value[d], per, value_inverse) << place * bits : 0;
        values[d] = (place == 0 ? 0 : values[d] & ~mask) | number;
    }
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

/* Number k of a word; `per_word` and k are constants where this is inlined. */
LIMN_INLINE float number_in(uint32_t word, size_t k, size_t per_word) {
    if (per_word == 1) return float_from_bits(word);
    if (per_word == 2) return float_from_bits(k == 0 ? word << 16 : word & 0xffff0000u);
    return (float)((int32_t)(word << (24 - 8 * k)) >> 24);
}

/* scores[j] = Σ over d of q[d]·key of position j [d], for GROUP positions. Four sums, so that additions need not wait for each
 * other. `ahead`, as long as the keys, is fetched meanwhile. */
LIMN_INLINE void score_group(float *scores, const uint32_t *keys, const float *q, size_t D, size_t per_word,
                             const uint32_t *ahead) {
    float sums[4][GROUP] = {0};
    size_t d = 0;
    for (; d + 3 < D; d += 4) {
        const uint32_t *row = keys + d / per_word * GROUP;
        for (size_t line = 0; line < 4 / per_word; line++) __builtin_prefetch(ahead + (d / per_word + line) * GROUP, 0, 0);
#pragma omp simd
        for (size_t j = 0; j < GROUP; j++) {
            sums[0][j] += q[d] * number_in(row[j], 0, per_word);
            sums[1][j] += q[d + 1] * number_in(row[1 / per_word * GROUP + j], 1 % per_word, per_word);
            sums[2][j] += q[d + 2] * number_in(row[2 / per_word * GROUP + j], 2 % per_word, per_word);
            sums[3][j] += q[d + 3] * number_in(row[3 / per_word * GROUP + j], 3 % per_word, per_word);
        }
    }
    for (; d < D; d++)
        for (size_t j = 0; j < GROUP; j++)
            sums[0][j] += q[d] * number_in(keys[d / per_word * GROUP + j], d % per_word, per_word);
    for (size_t j = 0; j < GROUP; j++) scores[j] = (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]);
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

/* out (D) = Σ weights[s]·values[s], four positions for each time that `out` is read and written. */
LIMN_INLINE void mix_values(float *restrict out, const float *restrict weights, const uint32_t *restrict values, size_t count,
                            size_t D, size_t per_word, const uint32_t *ahead) {
    const size_t words = 4 / per_word * D;
    size_t s = 0;
    for (; s + 3 < count; s += 4) {
        const uint32_t *row = values + s / 4 * words;
        for (size_t word = 0; word < words; word += GROUP) __builtin_prefetch(ahead + s / 4 * words + word, 0, 0);
#pragma omp simd
        for (size_t d = 0; d < D; d++)
            out[d] += (weights[s] * number_in(row[d], 0, per_word) +
                       weights[s + 1] * number_in(row[1 / per_word * D + d], 1 % per_word, per_word)) +
                      (weights[s + 2] * number_in(row[2 / per_word * D + d], 2 % per_word, per_word) +
                       weights[s + 3] * number_in(row[3 / per_word * D + d], 3 % per_word, per_word));
    }
    for (; s < count; s++)
        for (size_t d = 0; d < D; d++) out[d] += weights[s] * number_in(values[s / per_word * D + d], s % per_word, per_word);
}

/* What one query of one head reads and writes. */
typedef struct {
    float *out, *scores; /* (D), (count rounded up to GROUP) */
    const float *q;
    const uint32_t *keys, *values, *ahead;  /* ahead: what will be read next */
    const float *key_scales, *value_scales; /* NULL: 1 */
    const int32_t *mask;
    const float *bias;
    size_t bias_stride, count, D, key_rows;
    float scale;
} head_query;

LIMN_INLINE void attend_head(const head_query *self, size_t per_word) {
    for (size_t s = 0; s < self->count; s += GROUP)
        score_group(self->scores + s, self->keys + s * self->key_rows, self->q, self->D, per_word,
                    self->values + s * self->key_rows);
    for (size_t s = 0; s < self->count; s++)
        self->scores[s] *= self->key_scales != NULL ? self->scale * self->key_scales[s] : self->scale;
    for (size_t s = 0; s < self->count && self->bias != NULL; s++) self->scores[s] += self->bias[s * self->bias_stride];
    for (size_t s = 0; s < self->count && self->mask != NULL; s++)
        if (self->mask[s] == 0) self->scores[s] = -INFINITY;
    memset(self->out, 0, self->D * sizeof *self->out);
    if (!soften(self->scores, self->count)) return;
    for (size_t s = 0; s < self->count && self->value_scales != NULL; s++) self->scores[s] *= self->value_scales[s];
    mix_values(self->out, self->scores, self->values, self->count, self->D, per_word, self->ahead);
}

LIMN_CLONES static void attend_head_fp32(const head_query *self) {
    attend_head(self, 1);
}

LIMN_CLONES static void attend_head_bf16(const head_query *self) {
    attend_head(self, 2);
}

LIMN_CLONES static void attend_head_int8(const head_query *self) {
    attend_head(self, 4);
}

void attention_cache_attend(const attention_cache *cache, float *out, const float *q, const cached_attention *how,
                            limn_arena *arena) {
    const head_layout layout = layout_of(cache);
    const size_t H = cache->H, D = cache->D, mark = limn_arena_mark(arena), threads = limn_get_threads();
    const size_t room = round_up(cache->capacity, GROUP);
    float *scores = limn_arena_floats(arena, threads * room);
#pragma omp parallel for collapse(2) schedule(static) num_threads((int)threads)
    for (size_t r = 0; r < how->rows; r++)
        for (size_t h = 0; h < H; h++) {
            const size_t sequence = how->row_sequence != NULL ? how->row_sequence[r] : r;
            uint32_t *head = head_memory(cache, &layout, sequence, h);
            if (how->new_keys != NULL)
                store_position(cache, &layout, head, how->count - 1, how->new_keys + (r * H + h) * D,
                               how->new_values + (r * H + h) * D);
            const float *scales = (const float *)(head + layout.keys + layout.values);
            const head_query query = {
                .out = out + (r * H + h) * D,
                .scores = scores + (size_t)omp_get_thread_num() * room,
                .q = q + (r * H + h) * D,
                .keys = head,
                .values = head + layout.keys,
                .ahead = head + layout.all, /* the next head, or a little beyond: it is only fetched */
                .key_scales = layout.scales > 0 ? scales : NULL,
                .value_scales = layout.scales > 0 ? scales + layout.scales : NULL,
                .mask = how->mask != NULL ? how->mask + sequence * cache->capacity : NULL,
                .bias = how->bias != NULL ? how->bias + h : NULL,
                .bias_stride = H,
                .count = how->count,
                .D = D,
                .key_rows = layout.key_rows,
                .scale = how->scale,
            };
            if (layout.per_word == 1)
                attend_head_fp32(&query);
            else if (layout.per_word == 2)
                attend_head_bf16(&query);
            else
                attend_head_int8(&query);
        }
    limn_arena_release(arena, mark);
}
