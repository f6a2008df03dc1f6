/* exp, the logistic function and the normal distribution in fp32, written so that GCC vectorises a loop that calls them: no
 * branches, no tables, no library calls. Coefficients are Chebyshev fits made for these ranges in 40-digit arithmetic. */
#ifndef LIMN_NN_MATH_INLINE_H
#define LIMN_NN_MATH_INLINE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "nn/internal.h"

LIMN_INLINE float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

LIMN_INLINE uint32_t bits_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* e^x within 2 units in the last place; 0 below −86.6 (and for −∞), ∞ above 88.72, NaN for NaN. */
LIMN_INLINE float fast_expf(float x) {
    const float round = 12582912.0f; /* 1.5·2^23: adding it leaves the nearest integer in the low bits */
    float shifted = x * 1.44269504f + round;
    float n = shifted - round;
    /* ln 2 in two parts, so that n·ln 2 is subtracted exactly */
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 0.001392618359f;
    p = p * r + 0.008363179053f;
    p = p * r + 0.04166655462f;
    p = p * r + 0.1666657699f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    /* times 2^(n−1), then 2: n = 128 has no float of its own */
    float power = float_from_bits((bits_from_float(shifted) + 126u) << 23);
    float result = 2.0f * p * power;
    result = x < -86.6f ? 0.0f : result;
    return x > 88.72f ? INFINITY : result;
}

/* 1/(1 + e^−x) */
LIMN_INLINE float fast_logistic(float x) {
    return 1.0f / (1.0f + fast_expf(-x));
}

/* Φ(x), the normal distribution, within 3e-6 of its own value down to x = −8.4 (so the tail is right too) and 2e-7 absolutely;
 * *density is φ(x), which the derivative of gelu wants. Φ(−a) is exp(−a²/2) times a smooth function, fitted in
 * 1/(1 + 0.24·a). */
LIMN_INLINE float fast_normal(float x, float *density) {
    float a = fabsf(x);
    float t = 1.0f / (1.0f + 0.24f * a);
    float p = 0.02559860342f;
    p = p * t - 0.1250756752f;
    p = p * t + 0.20662138f;
    p = p * t - 0.1459475787f;
    p = p * t + 0.1429796272f;
    p = p * t + 0.02726053434f;
    p = p * t + 0.08809751819f;
    p = p * t + 0.08885675304f;
    p = p * t + 0.09586732188f;
    p = p * t + 0.09574151729f;
    float bell = fast_expf(-0.5f * a * a);
    *density = 0.398942280f * bell;
    float tail = p * t * bell;
    return x < 0.0f ? tail : 1.0f - tail;
}

#endif
