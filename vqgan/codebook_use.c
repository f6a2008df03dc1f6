/* How much of the codebook is used, and the revival of codes that are not. */
#include "vqgan/internal.h"

#include <math.h>
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
