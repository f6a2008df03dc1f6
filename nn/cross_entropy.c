#include "nn/nn.h"

#include <math.h>

#include "nn/internal.h"
#include "nn/math_inline.h"

/* One row's loss; d (V) when given is factor·(softmax − onehot), and may be `logits`. */
LIMN_CLONES static float row_loss(float *d, const float *logits, size_t V, size_t label, float factor) {
    float largest = logits[0], sum = 0, labelled = logits[label];
#pragma omp simd reduction(max : largest)
    for (size_t v = 0; v < V; v++) largest = logits[v] > largest ? logits[v] : largest;
    if (d == NULL) {
#pragma omp simd reduction(+ : sum)
        for (size_t v = 0; v < V; v++) sum += fast_expf(logits[v] - largest);
    } else {
#pragma omp simd reduction(+ : sum)
        for (size_t v = 0; v < V; v++) {
            float e = fast_expf(logits[v] - largest);
            d[v] = e;
            sum += e;
        }
        float share = factor / sum;
#pragma omp simd
        for (size_t v = 0; v < V; v++) d[v] *= share;
        d[label] -= factor;
    }
    return logf(sum) + (largest - labelled);
}

double softmax_cross_entropy(float *dlogits, float *losses, const float *logits, const int32_t *labels, size_t N, size_t V,
                             float scale) {
    if (N == 0) return 0;
    double parts[LIMN_PARTS];
    size_t rows = N / LIMN_PARTS + 1, count = (N + rows - 1) / rows;
    float factor = (float)((double)scale / (double)N);
#pragma omp parallel for schedule(static) if (N * V > 2 * LIMN_PIECE)
    for (size_t part = 0; part < count; part++) {
        parts[part] = 0;
        for (size_t n = part * rows; n < N && n < (part + 1) * rows; n++) {
            float loss = row_loss(dlogits != NULL ? dlogits + n * V : NULL, logits + n * V, V, (size_t)labels[n], factor);
            if (losses != NULL) losses[n] = loss;
            parts[part] += (double)loss;
        }
    }
    double sum = 0;
    for (size_t part = 0; part < count; part++) sum += parts[part];
    return sum / (double)N;
}

LIMN_CLONES double softmax_weights(float *x, float largest, float scale, size_t n) {
    double sum = 0;
    for (size_t start = 0; start < n; start += 256) { /* in double, without giving up vectors of float32 */
        size_t end = n - start < 256 ? n : start + 256;
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (size_t i = start; i < end; i++) {
            float below = x[i] - largest;
            x[i] = below < 0 ? fast_expf(below * scale) : 1; /* an infinite scale leaves the largest */
            part += x[i];
        }
        sum += (double)part;
    }
    return sum;
}
