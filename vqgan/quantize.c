/* Vector quantisation: the nearest code, and the codebook loss (van den Oord and others, arXiv 1711.00937). */
#include "vqgan/internal.h"

#include <float.h>
#include <math.h>

static double squared_length(const float *a, size_t D) {
    double sum = 0;
    for (size_t d = 0; d < D; d++) sum += (double)a[d] * (double)a[d];
    return sum;
}

static double squared_distance(const float *a, const float *b, size_t D) {
    double sum = 0;
    for (size_t d = 0; d < D; d++) {
        double difference = (double)a[d] - (double)b[d];
        sum += difference * difference;
    }
    return sum;
}

/* The nearest code to one row z, given products[v] = z·e_v and norms[v] = |e_v|². |z|² is the same for all codes and is left
 * out: |e|² − 2 z·e decides, which loses no digits to it. Codes that lie closer to the best than rounding can tell apart are
 * measured again in double. */
static int32_t nearest_code(const float *z, const float *products, const float *codebook, const float *norms,
                            double largest_norm, size_t V, size_t D) {
    float best = INFINITY;
#pragma omp simd reduction(min : best)
    for (size_t v = 0; v < V; v++) {
        float distance = norms[v] - 2 * products[v];
        best = distance < best ? distance : best;
    }
    double rounding = 2 * (double)FLT_EPSILON * ((double)D * sqrt(squared_length(z, D) * largest_norm) + largest_norm);
    float limit = best + (float)rounding;
    size_t nearest = 0; /* also where the latent is not a number */
    double nearest_distance = INFINITY;
    for (size_t v = 0; v < V; v++) {
        if (!(norms[v] - 2 * products[v] <= limit)) continue;
        double distance = squared_distance(z, codebook + v * D, D);
        if (distance < nearest_distance) {
            nearest_distance = distance;
            nearest = v;
        }
    }
    return (int32_t)nearest;
}

void vqgan_nearest_codes(int32_t *tokens, const float *latent, const float *codebook, size_t N, size_t V, size_t D,
                         limn_arena *arena) {
    const size_t floats = (size_t)1 << 22; /* of products at a time */
    size_t chunk = floats / V < 1 ? 1 : floats / V < N ? floats / V : N, mark = limn_arena_mark(arena);
    float *norms = limn_arena_floats(arena, V), *products = limn_arena_floats(arena, chunk * V);
    double largest_norm = 0;
#pragma omp parallel for reduction(max : largest_norm)
    for (size_t v = 0; v < V; v++) {
        double norm = squared_length(codebook + v * D, D);
        norms[v] = (float)norm;
        if (norm > largest_norm) largest_norm = norm;
    }
    for (size_t start = 0; start < N; start += chunk) {
        size_t count = N - start < chunk ? N - start : chunk;
        matmul(products, V, latent + start * D, D, false, codebook, D, true, count, V, D, 1, 0);
#pragma omp parallel for
        for (size_t n = 0; n < count; n++)
            tokens[start + n] = nearest_code(latent + (start + n) * D, products + n * V, codebook, norms, largest_norm, V, D);
    }
    limn_arena_release(arena, mark);
}

double vqgan_codebook_loss(const float *z, const float *q, size_t n) {
    return (1 + VQGAN_COMMITMENT) * squared_distance(q, z, n) / (double)n;
}

void vqgan_codebook_loss_backward(float *dz, float *dq, const float *z, const float *q, size_t n, double scale) {
    float factor = (float)(2 * scale / (double)n), commitment = (float)(2 * VQGAN_COMMITMENT * scale / (double)n);
    for (size_t i = 0; i < n; i++) {
        dz[i] += factor * (z[i] - q[i]);
        dq[i] = commitment * (q[i] - z[i]);
    }
}
