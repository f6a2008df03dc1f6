#include "nn/nn.h"

#include <string.h>

#include "nn/internal.h"

/* The pragma tells GCC what an in-place call could not: element i depends on elements i alone. */

LIMN_CLONES static void add_piece(float *out, const float *a, const float *b, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

void add_forward(float *out, const float *a, const float *b, size_t n) {
    LIMN_FOR_PIECES(start, n) add_piece(out + start, a + start, b + start, piece_length(start, n));
}

LIMN_CLONES static void add_scaled_piece(float *out, const float *a, float scale, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] += scale * a[i];
}

void add_scaled(float *out, const float *a, float scale, size_t n) {
    LIMN_FOR_PIECES(start, n) add_scaled_piece(out + start, a + start, scale, piece_length(start, n));
}

LIMN_CLONES static void scale_piece(float *out, const float *in, float scale, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] = scale * in[i];
}

void scale_forward(float *out, const float *in, float scale, size_t n) {
    LIMN_FOR_PIECES(start, n) scale_piece(out + start, in + start, scale, piece_length(start, n));
}

LIMN_CLONES static double squares_piece(const float *in, size_t n) {
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
        parts[part] = squares_piece(in + (count > 0 ? start : 0), count);
    }
    double sum = 0;
    for (size_t part = 0; part < LIMN_PARTS; part++) sum += parts[part];
    return sum;
}

/* ---------------------------------------------------------------- dropout */

void dropout_factors(float *out, float rate, uint64_t seed, uint64_t stream, size_t start, size_t count) {
    /* An element is dropped when its random word, as a fraction of 2^32, is below the rate. */
    double threshold = (double)rate * 4294967296.0;
    float kept = rate < 1.0f ? 1.0f / (1.0f - rate) : 0.0f;
    uint32_t words[4] = {0};
    for (size_t i = 0; i < count; i++) {
        size_t index = start + i;
        if (i == 0 || index % 4 == 0) limn_random_block(seed, stream, index / 4, words);
        out[i] = (double)words[index % 4] < threshold ? 0.0f : kept;
    }
}

LIMN_CLONES static void multiply_piece(float *out, const float *in, const float *factors, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] = in[i] * factors[i];
}

void dropout_forward(float *out, const float *in, float rate, uint64_t seed, uint64_t stream, size_t start, size_t n) {
    if (rate <= 0.0f) {
        if (out != in && n > 0) memcpy(out, in, n * sizeof *out);
        return;
    }
    LIMN_FOR_PIECES(piece, n) {
        float factors[LIMN_PIECE];
        dropout_factors(factors, rate, seed, stream, start + piece, piece_length(piece, n));
        multiply_piece(out + piece, in + piece, factors, piece_length(piece, n));
    }
}

void dropout_backward(float *din, const float *dout, float rate, uint64_t seed, uint64_t stream, size_t start, size_t n) {
    dropout_forward(din, dout, rate, seed, stream, start, n); /* linear, and its own transpose */
}

LIMN_CLONES void round_to_bf16(uint16_t *restrict out, const float *restrict in, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = limn_bf16_from_float(in[i]);
}

LIMN_CLONES void expand_bf16(float *restrict out, const uint16_t *restrict in, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = limn_bf16_to_float(in[i]);
}
