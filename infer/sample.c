/* From logits to tokens. */
#include "infer/infer.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct {
    float weight; /* at first the logit, then exp(logit − largest logit) */
    int32_t id;
} candidate;

static bool goes_before(candidate a, candidate b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

/* Lets the item at `place` of a heap (best first) sink to where it belongs. */
static void sink(candidate *heap, size_t count, size_t place) {
    candidate item = heap[place];
    for (size_t child; (child = 2 * place + 1) < count; place = child) {
        if (child + 1 < count && goes_before(heap[child + 1], heap[child])) child++;
        if (!goes_before(heap[child], item)) break;
        heap[place] = heap[child];
    }
    heap[place] = item;
}

/* Puts into `kept`, best first, what top-k and then top-p keep, and returns how many. Only as much is sorted as is kept: the
 * best are taken from a heap one by one. `total` is the sum of all weights; *sum receives that of the kept ones. */
static size_t keep_best(candidate *kept, candidate *heap, size_t count, double total, const sampling_options *options,
                        double *sum) {
    size_t n = 0, most = options->top_k && options->top_k < count ? options->top_k : count;
    double enough = options->top_k ? INFINITY : options->top_p * total;
    *sum = 0;
    for (size_t place = count / 2; place-- > 0;) sink(heap, count, place);
    while (n < most && *sum < enough) {
        kept[n++] = heap[0];
        *sum += (double)heap[0].weight;
        heap[0] = heap[--count];
        if (count) sink(heap, count, 0);
    }
    if (!options->top_k || options->top_p >= 1) return n;
    enough = options->top_p * *sum; /* the share of what top-k has kept */
    *sum = 0;
    size_t i = 0;
    while (i < n && *sum < enough) *sum += (double)kept[i++].weight;
    return i;
}

/* A number in [0,1) of 53 bits, from (seed, row, position) alone. */
static double drawn_number(uint64_t seed, size_t row, size_t position) {
    uint32_t block[4];
    limn_random_block(seed, limn_random_stream("drawing"), (uint64_t)row << 32 | (uint64_t)position, block);
    return ((double)(block[0] >> 5) * 67108864.0 + (double)(block[1] >> 6)) / 9007199254740992.0;
}

static int32_t sample_row(const float *cond, const float *uncond, size_t codes, const sampling_options *options, double number,
                          candidate *all, candidate *kept) {
    float guidance = (float)options->guidance, largest = -INFINITY;
    int32_t best = 0;
    size_t count = 0;
    for (size_t i = 0; i < codes; i++) {
        float logit = uncond ? uncond[i] + guidance * (cond[i] - uncond[i]) : cond[i];
        if (!(logit >= -FLT_MAX)) continue; /* −∞ or no number */
        if (logit > FLT_MAX) logit = FLT_MAX;
        if (count == 0 || logit > largest) {
            largest = logit;
            best = (int32_t)i;
        }
        all[count++] = (candidate){logit, (int32_t)i};
    }
    if (options->temperature <= 0 || count == 0) return best;

    float inverse = (float)(1.0 / options->temperature);
    double sum = 0, reached = 0;
    for (size_t i = 0; i < count; i++) {
        float below = all[i].weight - largest;
        all[i].weight = below < 0 ? expf(below * inverse) : 1;
        sum += (double)all[i].weight;
    }
    if (options->top_k || options->top_p < 1) {
        count = keep_best(kept, all, count, sum, options, &sum);
        all = kept;
    }
    for (size_t i = 0; i < count; i++) {
        reached += (double)all[i].weight;
        if (reached > number * sum) return all[i].id;
    }
    return best; /* reached is at least the sum, which is above any share of it: rounding alone leads here */
}

void sample_tokens(int32_t *tokens, const float *cond, const float *uncond, size_t rows, size_t V, size_t codes,
                   const sampling_options *options, size_t first_row, size_t position, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena);
    candidate *scratch = limn_arena_bytes(arena, rows * 2 * codes * sizeof *scratch);
#pragma omp parallel for schedule(static)
    for (size_t row = 0; row < rows; row++)
        tokens[row] = sample_row(cond + row * V, uncond ? uncond + row * V : NULL, codes, options,
                                 drawn_number(options->seed, first_row + row, position), scratch + row * 2 * codes,
                                 scratch + (row * 2 + 1) * codes);
    limn_arena_release(arena, mark);
}
