/* From logits to tokens. */
#include "seq2seq/seq2seq.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- top-k */

static void swap(float *a, float *b) {
    float turn = *a;
    *a = *b;
    *b = turn;
}

/* The k-th largest (k from 1) of n values, by Hoare's selection; reorders them. */
static float select_largest(float *values, size_t n, size_t k) {
    size_t low = 0, high = n - 1, place = k - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (values[middle] > values[low]) swap(&values[middle], &values[low]);
        if (values[high] > values[low]) swap(&values[high], &values[low]);
        if (values[high] > values[middle]) swap(&values[high], &values[middle]);
        float pivot = values[middle];
        size_t i = low, j = high;
        for (;;) {
            while (values[i] > pivot) i++;
            while (values[j] < pivot) j--;
            if (i >= j) break;
            swap(&values[i++], &values[j--]);
        }
        if (place <= j)
            high = j;
        else
            low = j + 1;
    }
    return values[place];
}

enum { BLOCK = 16 };

/* A value that at least k of n are not below, most of the others of many being below it: the k-th largest of the blocks'
 * largest. −∞ where there are fewer blocks than k. */
static float bound_largest(const float *values, size_t n, size_t k, float *scratch) {
    size_t blocks = n / BLOCK;
    if (blocks < k) return -INFINITY;
    for (size_t b = 0; b < blocks; b++) {
        float largest = values[b * BLOCK];
        for (size_t i = 1; i < BLOCK; i++) largest = values[b * BLOCK + i] > largest ? values[b * BLOCK + i] : largest;
        scratch[b] = largest;
    }
    return select_largest(scratch, blocks, k);
}

typedef struct {
    float *weights; /* at first logits, then exp((logit − largest)/temperature) */
    int32_t *ids;
    size_t count;
} candidates;

/* The k most likely in the order of their ids; of equal ones the first. */
static void keep_top_k(candidates *kept, const float *logits, size_t codes, size_t k, float *scratch) {
    float bound = k < codes ? bound_largest(logits, codes, k, scratch) : -INFINITY;
    size_t n = 0;
    for (size_t i = 0; i < codes; i++) { /* without branches: written always, kept when it counts */
        kept->weights[n] = logits[i];
        kept->ids[n] = (int32_t)i;
        n += logits[i] >= bound && logits[i] > -INFINITY;
    }
    kept->count = n;
    if (n <= k) return;
    memcpy(scratch, kept->weights, n * sizeof *scratch);
    float threshold = select_largest(scratch, n, k);
    size_t equal = k; /* of those at the threshold, so many have room */
    for (size_t i = 0; i < n; i++) equal -= kept->weights[i] > threshold;
    kept->count = 0;
    for (size_t i = 0; i < n; i++) {
        float logit = kept->weights[i];
        if (logit < threshold || (logit <= threshold && equal == 0)) continue;
        if (logit <= threshold) equal--;
        kept->weights[kept->count] = logit;
        kept->ids[kept->count++] = kept->ids[i];
    }
}

/* ---------------------------------------------------------------- top-p */

static bool goes_before(const candidates *self, size_t a, size_t b) {
    return self->weights[a] > self->weights[b] || (self->weights[a] >= self->weights[b] && self->ids[a] < self->ids[b]);
}

static void exchange(candidates *self, size_t a, size_t b) {
    int32_t id = self->ids[a];
    self->ids[a] = self->ids[b];
    self->ids[b] = id;
    swap(&self->weights[a], &self->weights[b]);
}

/* Lets the item at `place` of a heap (best first) sink to where it belongs. */
static void sink(candidates *heap, size_t count, size_t place) {
    for (size_t child; (child = 2 * place + 1) < count; place = child) {
        if (child + 1 < count && goes_before(heap, child + 1, child)) child++;
        if (!goes_before(heap, child, place)) break;
        exchange(heap, child, place);
    }
}

/* Takes the best from a heap one by one until their share is reached: only what is kept is sorted. They end up at the back,
 * the best last. Returns the sum of the kept weights. */
static double keep_top_p(candidates *self, double total, double p) {
    size_t left = self->count;
    double sum = 0;
    for (size_t place = left / 2; place-- > 0;) sink(self, left, place);
    while (left > 0 && sum < p * total) {
        sum += (double)self->weights[0];
        exchange(self, 0, --left);
        sink(self, left, 0);
    }
    self->weights += left;
    self->ids += left;
    self->count -= left;
    return sum;
}

/* ---------------------------------------------------------------- one draw */

/* A number in [0,1) of 53 bits, from (seed, row, position) alone. */
static double drawn_number(uint64_t seed, size_t row, size_t position) {
    uint32_t block[4];
    limn_random_block(seed, limn_random_stream("drawing"), (uint64_t)row << 32 | (uint64_t)position, block);
    return ((double)(block[0] >> 5) * 67108864.0 + (double)(block[1] >> 6)) / 9007199254740992.0;
}

/* Guided logits; what is no number becomes −∞, what is infinite the largest number. Returns the place of the largest. */
static size_t guide(float *out, const float *cond, const float *uncond, size_t codes, float guidance) {
    float largest = -INFINITY;
    for (size_t i = 0; i < codes; i++) {
        float logit = uncond ? uncond[i] + guidance * (cond[i] - uncond[i]) : cond[i];
        logit = logit > FLT_MAX ? FLT_MAX : logit;
        out[i] = logit >= -FLT_MAX ? logit : -INFINITY;
        largest = out[i] > largest ? out[i] : largest;
    }
    size_t place = 0;
    while (place + 1 < codes && out[place] < largest) place++;
    return place;
}

/* scratch: 3·codes floats and codes ids. */
static int32_t sample_row(const float *cond, const float *uncond, size_t codes, const sampling_options *options, double number,
                          float *scratch, int32_t *ids) {
    float *logits = scratch;
    size_t best = guide(logits, cond, uncond, codes, (float)options->guidance);
    float largest = logits[best];
    if (options->temperature <= 0 || !(largest > -INFINITY)) return (int32_t)best;
    candidates kept = {scratch + codes, ids, 0};
    keep_top_k(&kept, logits, codes, options->top_k ? options->top_k : codes, scratch + 2 * codes);
    double sum = softmax_weights(kept.weights, largest, (float)(1.0 / options->temperature), kept.count), reached = 0;
    if (options->top_p < 1) sum = keep_top_p(&kept, sum, options->top_p);
    for (size_t i = 0; i < kept.count; i++) {
        reached += (double)kept.weights[i];
        if (reached > number * sum) return kept.ids[i];
    }
    return (int32_t)best; /* reached is at least the sum, which is above any share of it: rounding alone leads here */
}

void sample_tokens(int32_t *tokens, const float *cond, const float *uncond, size_t rows, size_t V, size_t codes,
                   const sampling_options *options, size_t first_row, size_t position, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena);
    float *scratch = limn_arena_floats(arena, rows * 3 * codes);
    int32_t *ids = limn_arena_bytes(arena, rows * codes * sizeof *ids);
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t row = 0; row < rows; row++)
        tokens[row] =
            sample_row(cond + row * V, uncond ? uncond + row * V : NULL, codes, options,
                       drawn_number(options->seed, first_row + row, position), scratch + row * 3 * codes, ids + row * codes);
    limn_arena_release(arena, mark);
}
