#include "nn/nn.h"

#include <string.h>

#include "nn/internal.h"

/* The pragma tells GCC what an in-place call could not: element i depends on elements i alone. */

LIMN_CLONES void add_row(float *out, const float *a, const float *b, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

void add_forward(float *out, const float *a, const float *b, size_t n) {
    LIMN_FOR_PIECES(start, n) add_row(out + start, a + start, b + start, piece_length(start, n));
}

LIMN_CLONES void multiply_row(float *out, const float *a, const float *b, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] = a[i] * b[i];
}

LIMN_CLONES static void add_scaled_piece(float *out, const float *a, float scale, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] += scale * a[i];
}

void add_scaled(float *out, const float *a, float scale, size_t n) {
    LIMN_FOR_PIECES(start, n) add_scaled_piece(out + start, a + start, scale, piece_length(start, n));
}

LIMN_CLONES void scale_row(float *out, const float *in, float scale, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] = scale * in[i];
}

void scale_forward(float *out, const float *in, float scale, size_t n) {
    LIMN_FOR_PIECES(start, n) scale_row(out + start, in + start, scale, piece_length(start, n));
}

LIMN_CLONES double squares_of_row(const float *in, size_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += (double)in[i] * (double)in[i];
    return sum;
}

double sum_of_squares(const float *in, size_t n) {
    double parts[LIMN_PARTS];
    size_t length = n / LIMN_PARTS + 1;
#pragma omp parallel for schedule(static) if (n > 2 * LIMN_PIECE)
    for (size_t part = 0; part < LIMN_PARTS; part++) {
        size_t start = part * length;
        size_t count = start >= n ? 0 : n - start < length ? n - start : length;
        parts[part] = squares_of_row(in + (count > 0 ? start : 0), count);
    }
    double sum = 0;
    for (size_t part = 0; part < LIMN_PARTS; part++) sum += parts[part];
    return sum;
}

LIMN_CLONES void round_to_bf16(uint16_t *restrict out, const float *restrict in, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = limn_bf16_from_float(in[i]);
}

LIMN_CLONES void expand_bf16(float *restrict out, const uint16_t *restrict in, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = limn_bf16_to_float(in[i]);
}

LIMN_CLONES void add_bf16(float *restrict out, const uint16_t *restrict in, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] += limn_bf16_to_float(in[i]);
}
