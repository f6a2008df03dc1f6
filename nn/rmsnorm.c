#include "nn/nn.h"

#include <math.h>

#include "nn/internal.h"

LIMN_CLONES static void forward_row(float *out, float *saved, const float *in, const float *scale, size_t C, float epsilon) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (size_t c = 0; c < C; c++) squares += in[c] * in[c];
    float reciprocal = 1.0f / sqrtf(squares / (float)C + epsilon);
#pragma omp simd
    for (size_t c = 0; c < C; c++) out[c] = scale != NULL ? in[c] * reciprocal * scale[c] : in[c] * reciprocal;
    *saved = reciprocal;
}

void rmsnorm_forward(float *out, float *saved, const float *in, const float *scale, size_t N, size_t C, float epsilon) {
#pragma omp parallel for schedule(static) if (N * C > 2 * LIMN_PIECE)
    for (size_t n = 0; n < N; n++) forward_row(out + n * C, saved + n, in + n * C, scale, C, epsilon);
}

/* With x̂ = in·reciprocal and g = dout·scale: din = (g − x̂·mean(g·x̂))·reciprocal. */
LIMN_CLONES static void backward_row(float *din, const float *dout, const float *in, float reciprocal, const float *scale,
                                     size_t C, bool accumulate) {
    float product = 0;
#pragma omp simd reduction(+ : product)
    for (size_t c = 0; c < C; c++) product += (scale != NULL ? dout[c] * scale[c] : dout[c]) * (in[c] * reciprocal);
    product /= (float)C;
#pragma omp simd
    for (size_t c = 0; c < C; c++) {
        float g = scale != NULL ? dout[c] * scale[c] : dout[c];
        float d = (g - in[c] * reciprocal * product) * reciprocal;
        din[c] = accumulate ? din[c] + d : d;
    }
}

/* Sums over all rows for columns that belong to one thread: the same bits for any number of threads. */
enum { COLUMNS = 128 };

LIMN_CLONES static void scale_columns(float *dscale, const float *dout, const float *in, const float *saved, size_t N, size_t C,
                                      size_t columns) {
    float sum[COLUMNS] = {0};
    for (size_t n = 0; n < N; n++) {
        const float *d = dout + n * C, *x = in + n * C;
#pragma omp simd
        for (size_t c = 0; c < columns; c++) sum[c] += d[c] * (x[c] * saved[n]);
    }
    for (size_t c = 0; c < columns; c++) dscale[c] += sum[c];
}

void rmsnorm_backward(float *din, float *dscale, const float *dout, const float *in, const float *saved, const float *scale,
                      size_t N, size_t C, bool accumulate) {
    if (dscale != NULL) {
#pragma omp parallel for schedule(static) if (N * C > 2 * LIMN_PIECE)
        for (size_t c = 0; c < C; c += COLUMNS)
            scale_columns(dscale + c, dout + c, in + c, saved, N, C, C - c < COLUMNS ? C - c : COLUMNS);
    }
    if (din == NULL) return;
#pragma omp parallel for schedule(static) if (N * C > 2 * LIMN_PIECE)
    for (size_t n = 0; n < N; n++) backward_row(din + n * C, dout + n * C, in + n * C, saved[n], scale, C, accumulate);
}

/* ---------------------------------------------------------------- x/(‖x‖+ε) */

LIMN_CLONES static void normalize_row(float *out, float *saved, const float *in, size_t D, float epsilon) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (size_t d = 0; d < D; d++) squares += in[d] * in[d];
    float norm = sqrtf(squares), factor = 1.0f / (norm + epsilon);
#pragma omp simd
    for (size_t d = 0; d < D; d++) out[d] = in[d] * factor;
    *saved = norm;
}

void l2_normalize_forward(float *out, float *saved, const float *in, size_t N, size_t D, float epsilon) {
#pragma omp parallel for schedule(static) if (N * D > 2 * LIMN_PIECE)
    for (size_t n = 0; n < N; n++) normalize_row(out + n * D, saved + n, in + n * D, D, epsilon);
}

/* With r = ‖x‖: din = dout/(r+ε) − x·(x·dout)/(r·(r+ε)²); the second term vanishes with x. */
LIMN_CLONES static void normalize_backward_row(float *din, const float *dout, const float *in, float norm, size_t D,
                                               float epsilon) {
    float product = 0, factor = 1.0f / (norm + epsilon);
#pragma omp simd reduction(+ : product)
    for (size_t d = 0; d < D; d++) product += in[d] * dout[d];
    float along = norm > 0.0f ? product * factor * factor / norm : 0.0f;
#pragma omp simd
    for (size_t d = 0; d < D; d++) din[d] = dout[d] * factor - in[d] * along;
}

void l2_normalize_backward(float *din, const float *dout, const float *in, const float *saved, size_t N, size_t D,
                           float epsilon) {
#pragma omp parallel for schedule(static) if (N * D > 2 * LIMN_PIECE)
    for (size_t n = 0; n < N; n++) normalize_backward_row(din + n * D, dout + n * D, in + n * D, saved[n], D, epsilon);
}
