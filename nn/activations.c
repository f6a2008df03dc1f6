#include "nn/nn.h"

#include <string.h>

#include "nn/internal.h"
#include "nn/math_inline.h"

/* f(x), and its derivative in *slope. Inlined with a constant kind, it is one straight line of arithmetic; a caller that does
 * not use the slope does not pay for it. */
LIMN_INLINE float activate(activation kind, float x, float *slope) {
    switch (kind) {
    case ACTIVATION_GELU: {
        float density, normal = fast_normal(x, &density);
        *slope = normal + x * density;
        return x * normal;
    }
    case ACTIVATION_RELU:
        *slope = x > 0.0f ? 1.0f : 0.0f;
        return x < 0.0f ? 0.0f : x;
    case ACTIVATION_SWISH: {
        float s = fast_logistic(x);
        *slope = s * (1.0f + x * (1.0f - s));
        return x * s;
    }
    case ACTIVATION_SMELU: {
        float t = x < -1.0f ? 0.0f : x + 1.0f;
        *slope = x > 1.0f ? 1.0f : 0.5f * t;
        return x > 1.0f ? x : 0.25f * t * t;
    }
    }
    return x;
}

/* One loop for each kind, so that `kind` is a constant inside. */
#define FOR_KIND(kind, loop, ...)                                                                                              \
    switch (kind) {                                                                                                            \
    case ACTIVATION_GELU:                                                                                                      \
        loop(ACTIVATION_GELU, __VA_ARGS__);                                                                                    \
        break;                                                                                                                 \
    case ACTIVATION_RELU:                                                                                                      \
        loop(ACTIVATION_RELU, __VA_ARGS__);                                                                                    \
        break;                                                                                                                 \
    case ACTIVATION_SWISH:                                                                                                     \
        loop(ACTIVATION_SWISH, __VA_ARGS__);                                                                                   \
        break;                                                                                                                 \
    case ACTIVATION_SMELU:                                                                                                     \
        loop(ACTIVATION_SMELU, __VA_ARGS__);                                                                                   \
        break;                                                                                                                 \
    }

LIMN_INLINE void forward_loop(activation kind, float *out, const float *in, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float slope;
        out[i] = activate(kind, in[i], &slope);
    }
}

LIMN_CLONES static void forward_piece(activation kind, float *out, const float *in, size_t n) {
    FOR_KIND(kind, forward_loop, out, in, n)
}

void activation_forward(float *out, const float *in, activation kind, size_t n) {
    LIMN_FOR_PIECES(start, n) forward_piece(kind, out + start, in + start, piece_length(start, n));
}

LIMN_INLINE void backward_loop(activation kind, float *din, const float *dout, const float *in, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float slope;
        activate(kind, in[i], &slope);
        din[i] = dout[i] * slope;
    }
}

LIMN_CLONES static void backward_piece(activation kind, float *din, const float *dout, const float *in, size_t n) {
    FOR_KIND(kind, backward_loop, din, dout, in, n)
}

void activation_backward(float *din, const float *dout, const float *in, activation kind, size_t n) {
    LIMN_FOR_PIECES(start, n) backward_piece(kind, din + start, dout + start, in + start, piece_length(start, n));
}

int activation_from_name(const char *name, activation *out) {
    static const struct {
        const char *name;
        activation kind;
    } names[] = {{"gelu", ACTIVATION_GELU},
                 {"relu", ACTIVATION_RELU},
                 {"swish", ACTIVATION_SWISH},
                 {"silu", ACTIVATION_SWISH},
                 {"smelu", ACTIVATION_SMELU}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0) {
            *out = names[i].kind;
            return 0;
        }
    return -1;
}

/* ---------------------------------------------------------------- GLU */

LIMN_INLINE void glu_forward_loop(activation kind, float *out, const float *a, const float *b, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float slope;
        out[i] = activate(kind, a[i], &slope) * b[i];
    }
}

LIMN_CLONES static void glu_forward_piece(activation kind, float *out, const float *a, const float *b, size_t n) {
    FOR_KIND(kind, glu_forward_loop, out, a, b, n)
}

void glu_forward(float *out, const float *a, const float *b, activation kind, size_t n) {
    LIMN_FOR_PIECES(start, n) glu_forward_piece(kind, out + start, a + start, b + start, piece_length(start, n));
}

LIMN_INLINE void glu_backward_loop(activation kind, float *da, float *db, const float *dout, const float *a, const float *b,
                                   size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float slope, value = activate(kind, a[i], &slope), d = dout[i];
        da[i] = d * b[i] * slope;
        db[i] = d * value;
    }
}

LIMN_CLONES static void glu_backward_piece(activation kind, float *da, float *db, const float *dout, const float *a,
                                           const float *b, size_t n) {
    FOR_KIND(kind, glu_backward_loop, da, db, dout, a, b, n)
}

void glu_backward(float *da, float *db, const float *dout, const float *a, const float *b, activation kind, size_t n) {
    LIMN_FOR_PIECES(start, n)
    glu_backward_piece(kind, da + start, db + start, dout + start, a + start, b + start, piece_length(start, n));
}
