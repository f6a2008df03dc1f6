/* Where codes are placed: at the start, and again when they are not used; and how much of the codebook is used. */
#include "vqgan/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void vqgan_measure_use(vqgan_codebook_use *use, const float *counts, size_t n_embed) {
    double total = 0, entropy = 0;
    use->used = 0;
    for (size_t v = 0; v < n_embed; v++) {
        total += (double)counts[v];
        use->used += counts[v] > 0;
    }
    for (size_t v = 0; v < n_embed; v++) {
        double share = total > 0 ? (double)counts[v] / total : 0;
        if (share > 0) entropy -= share * log(share);
    }
    use->perplexity = total > 0 ? exp(entropy) : 0;
}

void vqgan_count_codes(float *counts, const int32_t *tokens, size_t n, size_t n_embed, float decay) {
    for (size_t v = 0; v < n_embed; v++) counts[v] *= decay;
    for (size_t i = 0; i < n; i++) counts[tokens[i]] += 1;
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

size_t vqgan_revive_codes(vqgan *model, float *counts, bool *revived, const float *latent, size_t n, float threshold,
                          uint64_t seed, uint64_t step) {
    parameter *codebook = &model->set.list[model->codebook];
    size_t V = codebook->shape[0], D = codebook->shape[1], count = 0;
    double total = 0;
    for (size_t v = 0; v < V; v++) total += (double)counts[v];
    float mean = (float)(total / (double)V), fresh = mean > 2 * threshold ? mean : 2 * threshold;

    /* A random row for each: start + i·stride runs through all n rows before it repeats one: stride and n share no factor. */
    uint64_t stream = limn_random_stream("revive codes");
    uint64_t start = limn_random_below(seed, stream, 2 * step, n), stride = limn_random_below(seed, stream, 2 * step + 1, n);
    while (greatest_common_divisor(stride, n) != 1) stride++;
    for (size_t v = 0; v < V; v++) {
        revived[v] = counts[v] < threshold;
        if (!revived[v]) continue;
        uint64_t row = (start + count * stride) % n;
        memcpy(codebook->mutable_value + v * D, latent + row * D, D * sizeof *latent);
        counts[v] = fresh;
        count++;
    }
    return count;
}

/* One of Lloyd's iterations: each code moves to the mean of the rows that are nearest to it; one without rows to a random row.
 */
static void move_to_means(float *codes, double *sums, size_t *counts, const int32_t *nearest, const float *latent, size_t n,
                          size_t V, size_t D, uint64_t seed, uint64_t iteration) {
    memset(sums, 0, V * D * sizeof *sums);
    memset(counts, 0, V * sizeof *counts);
    for (size_t i = 0; i < n; i++) {
        double *sum = sums + (size_t)nearest[i] * D;
        for (size_t d = 0; d < D; d++) sum[d] += (double)latent[i * D + d];
        counts[nearest[i]]++;
    }
    uint64_t stream = limn_random_stream("k-means, lost code") + iteration;
    for (size_t v = 0; v < V; v++) {
        const float *row = latent + limn_random_below(seed, stream, v, n) * D;
        for (size_t d = 0; d < D; d++) codes[v * D + d] = counts[v] ? (float)(sums[v * D + d] / (double)counts[v]) : row[d];
    }
}

int vqgan_fit_codebook(vqgan *model, const float *latent, size_t n, size_t iterations, uint64_t seed, limn_arena *arena,
                       limn_error *error) {
    parameter *codebook = &model->set.list[model->codebook];
    size_t V = codebook->shape[0], D = codebook->shape[1];
    if (n < V) return limn_fail(error, "%zu latents are too few for a codebook of %zu; train on more pictures", n, V);
    double *sums = limn_allocate(V * D, sizeof *sums, error);
    size_t *counts = limn_allocate(V, sizeof *counts, error);
    int32_t *nearest = limn_allocate(n, sizeof *nearest, error);
    uint64_t *order = limn_allocate(n, sizeof *order, error);
    int status = sums && counts && nearest && order ? 0 : -1;
    if (status == 0) {
        for (size_t i = 0; i < n; i++) order[i] = i;
        limn_random_shuffle(order, n, seed, limn_random_stream("k-means"));
        for (size_t v = 0; v < V; v++) memcpy(codebook->mutable_value + v * D, latent + order[v] * D, D * sizeof *latent);
        for (size_t i = 0; i < iterations; i++) {
            vqgan_nearest_codes(nearest, latent, codebook->value, n, V, D, arena);
            move_to_means(codebook->mutable_value, sums, counts, nearest, latent, n, V, D, seed, i);
        }
    }
    free(sums);
    free(counts);
    free(nearest);
    free(order);
    return status;
}
