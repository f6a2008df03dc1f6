#include "nn/channel_statistics.h"

#include "nn/math_inline.h"

#include <string.h>

/* Sums run in fp32 over a chunk of pixels that stays in the first cache, and in double from chunk to chunk. */
enum { CHUNK = 32, LANES = 4 };

LIMN_CLONES static void add_rows(float *restrict sum, const float *restrict in, size_t rows, size_t stride, size_t n) {
    size_t p = 0;
    for (; p + LANES <= rows; p += LANES) {
        const float *a = in + p * stride, *b = a + stride, *c = b + stride, *d = c + stride;
        for (size_t i = 0; i < n; i++) sum[i] += (a[i] + b[i]) + (c[i] + d[i]);
    }
    for (; p < rows; p++)
        for (size_t i = 0; i < n; i++) sum[i] += in[p * stride + i];
}

LIMN_CLONES static void add_squares(float *restrict sum, const float *restrict in, const float *restrict mean, size_t rows,
                                    size_t stride, size_t n) {
    size_t p = 0;
    for (; p + LANES <= rows; p += LANES) {
        const float *a = in + p * stride, *b = a + stride, *c = b + stride, *d = c + stride;
        for (size_t i = 0; i < n; i++) {
            const float da = a[i] - mean[i], db = b[i] - mean[i], dc = c[i] - mean[i], dd = d[i] - mean[i];
            sum[i] += (da * da + db * db) + (dc * dc + dd * dd);
        }
    }
    for (; p < rows; p++)
        for (size_t i = 0; i < n; i++) sum[i] += (in[p * stride + i] - mean[i]) * (in[p * stride + i] - mean[i]);
}

/* Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979). */
LIMN_CLONES static void merge_chunk(double *restrict mean, double *restrict squares, const float *restrict chunk_sum,
                                    const float *restrict chunk_mean, const float *restrict chunk_squares, double seen,
                                    double rows, size_t n) {
    const double weight = seen * rows / (seen + rows), share = rows / (seen + rows);
    for (size_t i = 0; i < n; i++) {
        /* the squares were taken about the rounded mean; the exact one is this much off */
        const double exact = (double)chunk_sum[i] / rows, off = exact - (double)chunk_mean[i], delta = exact - mean[i];
        squares[i] += (double)chunk_squares[i] - rows * off * off + weight * delta * delta;
        mean[i] += share * delta;
    }
}

void channel_moments(double *mean, double *squares, const float *in, size_t P, size_t stride, size_t n) {
    float sum[CHANNELS_AT_ONCE], chunk_mean[CHANNELS_AT_ONCE], chunk_squares[CHANNELS_AT_ONCE];
    memset(mean, 0, n * sizeof *mean);
    memset(squares, 0, n * sizeof *squares);
    for (size_t p = 0; p < P; p += CHUNK) {
        const size_t rows = P - p < CHUNK ? P - p : CHUNK;
        memset(sum, 0, n * sizeof *sum);
        memset(chunk_squares, 0, n * sizeof *chunk_squares);
        add_rows(sum, in + p * stride, rows, stride, n);
        for (size_t i = 0; i < n; i++) chunk_mean[i] = sum[i] / (float)rows;
        add_squares(chunk_squares, in + p * stride, chunk_mean, rows, stride, n);
        merge_chunk(mean, squares, sum, chunk_mean, chunk_squares, (double)p, (double)rows, n);
    }
}

void merge_channel_moments(double *mean, double *squares, const double *other_mean, const double *other_squares, double seen,
                           double more, size_t n) {
    const double weight = seen * more / (seen + more), share = more / (seen + more);
    for (size_t i = 0; i < n; i++) {
        const double delta = other_mean[i] - mean[i];
        squares[i] += other_squares[i] + weight * delta * delta;
        mean[i] += share * delta;
    }
}

LIMN_INLINE float swish_of(float z) {
    return z * fast_logistic(z);
}

/* The derivative of z·σ(z). */
LIMN_INLINE float swish_slope(float z) {
    const float logistic = fast_logistic(z);
    return logistic * (1.0f + z * (1.0f - logistic));
}

/* The bodies below are inlined with constants for their switches, so that each loop is free of branches. */

LIMN_INLINE void scale_rows(float *restrict out, const float *restrict in, const float *restrict mean,
                            const float *restrict scale, const float *restrict bias, const bool swish, size_t rows,
                            size_t stride, size_t n) {
    for (size_t p = 0; p < rows; p++, out += stride, in += stride)
        for (size_t i = 0; i < n; i++) {
            const float z = (in[i] - mean[i]) * scale[i] + bias[i];
            out[i] = swish ? swish_of(z) : z;
        }
}

LIMN_CLONES void channel_scale(float *out, const float *in, const float *mean, const float *scale, const float *bias,
                               bool swish, size_t P, size_t stride, size_t n) {
    if (swish)
        scale_rows(out, in, mean, scale, bias, true, P, stride, n);
    else
        scale_rows(out, in, mean, scale, bias, false, P, stride, n);
}

/* gradient may be dout: each place is read before it is written, and the pragma says so. */
LIMN_INLINE void add_gradient_rows(float *restrict sum, float *restrict product, float *gradient, const float *dout,
                                   const float *restrict in, const float *restrict mean, const float *restrict scale,
                                   const float *restrict bias, const bool swish, const bool keep, size_t rows, size_t stride,
                                   size_t n) {
    for (size_t p = 0; p < rows; p++, gradient += keep ? stride : 0, dout += stride, in += stride)
#pragma GCC ivdep
        for (size_t i = 0; i < n; i++) {
            const float centred = in[i] - mean[i];
            const float dz = swish ? dout[i] * swish_slope(centred * scale[i] + bias[i]) : dout[i];
            sum[i] += dz;
            product[i] += dz * centred;
            if (keep) gradient[i] = dz;
        }
}

LIMN_CLONES void channel_gradient_sums(double *sum, double *product, float *gradient, const float *dout, const float *in,
                                       const float *mean, const float *scale, const float *bias, bool swish, size_t P,
                                       size_t stride, size_t n) {
    float chunk_sum[CHANNELS_AT_ONCE], chunk_product[CHANNELS_AT_ONCE];
    memset(sum, 0, n * sizeof *sum);
    memset(product, 0, n * sizeof *product);
    for (size_t p = 0; p < P; p += CHUNK) {
        const size_t rows = P - p < CHUNK ? P - p : CHUNK;
        const float *chunk_dout = dout + p * stride, *chunk_in = in + p * stride;
        memset(chunk_sum, 0, n * sizeof *chunk_sum);
        memset(chunk_product, 0, n * sizeof *chunk_product);
        if (swish && gradient != NULL)
            add_gradient_rows(chunk_sum, chunk_product, gradient + p * stride, chunk_dout, chunk_in, mean, scale, bias, true,
                              true, rows, stride, n);
        else if (swish)
            add_gradient_rows(chunk_sum, chunk_product, NULL, chunk_dout, chunk_in, mean, scale, bias, true, false, rows,
                              stride, n);
        else
            add_gradient_rows(chunk_sum, chunk_product, NULL, chunk_dout, chunk_in, mean, scale, bias, false, false, rows,
                              stride, n);
        for (size_t i = 0; i < n; i++) {
            sum[i] += (double)chunk_sum[i];
            product[i] += (double)chunk_product[i];
        }
    }
}

/* din may be gradient. */
LIMN_INLINE void gradient_rows(float *din, const float *gradient, const float *restrict in, const float *restrict mean,
                               const float *restrict scale, const float *restrict slope, const float *restrict offset,
                               const bool accumulate, size_t rows, size_t stride, size_t n) {
    for (size_t p = 0; p < rows; p++, din += stride, gradient += stride, in += stride)
#pragma GCC ivdep
        for (size_t i = 0; i < n; i++) {
            const float value = gradient[i] * scale[i] + (in[i] - mean[i]) * slope[i] + offset[i];
            din[i] = accumulate ? din[i] + value : value;
        }
}

LIMN_CLONES void channel_gradient(float *din, const float *gradient, const float *in, const float *mean, const float *scale,
                                  const float *slope, const float *offset, bool accumulate, size_t P, size_t stride, size_t n) {
    if (accumulate)
        gradient_rows(din, gradient, in, mean, scale, slope, offset, true, P, stride, n);
    else
        gradient_rows(din, gradient, in, mean, scale, slope, offset, false, P, stride, n);
}
