#include "nn/nn.h"

#include <math.h>

#include "nn/internal.h"

LIMN_CLONES static void forward_row(float *out, float *saved, const float *in, const float *scale, const float *bias, size_t C,
                                    float epsilon) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t c = 0; c < C; c++) sum += in[c];
    float mean = sum / (float)C;
#pragma omp simd reduction(+ : squares)
    for (size_t c = 0; c < C; c++) squares += (in[c] - mean) * (in[c] - mean);
    float reciprocal = 1.0f / sqrtf(squares / (float)C + epsilon);
    if (scale != NULL && bias != NULL) {
#pragma omp simd
        for (size_t c = 0; c < C; c++) out[c] = (in[c] - mean) * reciprocal * scale[c] + bias[c];
    } else if (scale != NULL) {
#pragma omp simd
        for (size_t c = 0; c < C; c++) out[c] = (in[c] - mean) * reciprocal * scale[c];
    } else if (bias != NULL) {
#pragma omp simd
        for (size_t c = 0; c < C; c++) out[c] = (in[c] - mean) * reciprocal + bias[c];
    } else {
#pragma omp simd
        for (size_t c = 0; c < C; c++) out[c] = (in[c] - mean) * reciprocal;
    }
    saved[0] = mean;
    saved[1] = reciprocal;
}

void layernorm_forward(float *out, float *saved, const float *in, const float *scale, const float *bias, size_t N, size_t C,
                       float epsilon) {
#pragma omp parallel for schedule(static) if (N * C > 2 * LIMN_PIECE)
    for (size_t n = 0; n < N; n++) forward_row(out + n * C, saved + 2 * n, in + n * C, scale, bias, C, epsilon);
}

/* With x̂ the normalised input and g = dout·scale: din = (g − mean(g) − x̂·mean(g·x̂)) / deviation. */
LIMN_CLONES static void backward_row(float *din, const float *dout, const float *in, const float *saved, const float *scale,
                                     size_t C, bool accumulate) {
    float mean = saved[0], reciprocal = saved[1], sum = 0, product = 0;
    if (scale != NULL) {
#pragma omp simd reduction(+ : sum, product)
        for (size_t c = 0; c < C; c++) {
            float g = dout[c] * scale[c];
            sum += g;
            product += g * ((in[c] - mean) * reciprocal);
        }
    } else {
#pragma omp simd reduction(+ : sum, product)
        for (size_t c = 0; c < C; c++) {
            sum += dout[c];
            product += dout[c] * ((in[c] - mean) * reciprocal);
        }
    }
    sum /= (float)C;
    product /= (float)C;
    float kept = accumulate ? 1.0f : 0.0f;
#pragma omp simd
    for (size_t c = 0; c < C; c++) {
        float g = scale != NULL ? dout[c] * scale[c] : dout[c];
        float d = (g - sum - (in[c] - mean) * reciprocal * product) * reciprocal;
        din[c] = kept != 0.0f ? din[c] + d : d;
    }
}

/* Sums over all rows for columns that belong to one thread: the same bits for any number of threads. */
enum { COLUMNS = 128 };

LIMN_CLONES static void weight_columns(float *dscale, float *dbias, const float *dout, const float *in, const float *saved,
                                       size_t N, size_t C, size_t columns) {
    float scale_sum[COLUMNS] = {0}, bias_sum[COLUMNS] = {0};
    for (size_t n = 0; n < N; n++) {
        float mean = saved[2 * n], reciprocal = saved[2 * n + 1];
        const float *d = dout + n * C, *x = in + n * C;
        if (dscale != NULL) {
#pragma omp simd
            for (size_t c = 0; c < columns; c++) scale_sum[c] += d[c] * ((x[c] - mean) * reciprocal);
        }
        if (dbias != NULL) {
#pragma omp simd
            for (size_t c = 0; c < columns; c++) bias_sum[c] += d[c];
        }
    }
    if (dscale != NULL)
        for (size_t c = 0; c < columns; c++) dscale[c] += scale_sum[c];
    if (dbias != NULL)
        for (size_t c = 0; c < columns; c++) dbias[c] += bias_sum[c];
}

void layernorm_backward(float *din, float *dscale, float *dbias, const float *dout, const float *in, const float *saved,
                        const float *scale, size_t N, size_t C, bool accumulate) {
    if (dscale != NULL || dbias != NULL) {
#pragma omp parallel for schedule(static) if (N * C > 2 * LIMN_PIECE)
        for (size_t c = 0; c < C; c += COLUMNS)
            weight_columns(dscale != NULL ? dscale + c : NULL, dbias != NULL ? dbias + c : NULL, dout + c, in + c, saved, N, C,
                           C - c < COLUMNS ? C - c : COLUMNS);
    }
    if (din == NULL) return;
#pragma omp parallel for schedule(static) if (N * C > 2 * LIMN_PIECE)
    for (size_t n = 0; n < N; n++) backward_row(din + n * C, dout + n * C, in + n * C, saved + 2 * n, scale, C, accumulate);
}
