/* What the tests of nn/ share: every layer has a naive double-precision forward in its test; the layer's fp32 forward is
 * compared with that, and its fp32 backward with that forward's central finite differences.
 *
 * A test keeps its inputs twice: as float (given to the layer) and as double with the same values (given to the naive
 * forward, and nudged here). The loss is a scalar in double, usually sum(out·weights) with random weights, which then are the
 * layer's dout. */
#ifndef LIMN_TESTS_NN_GRADIENT_CHECK_H
#define LIMN_TESTS_NN_GRADIENT_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "nn/nn.h"

/* An array in both precisions. */
typedef struct {
    size_t n;
    float *f;
    double *d;
} twin;

/* Normal random numbers times `deviation` plus `mean`, the same in both precisions. Ends the program without memory. */
static inline twin twin_random(size_t n, double mean, double deviation, const char *name) {
    twin t = {n, malloc((n ? n : 1) * sizeof(float)), malloc((n ? n : 1) * sizeof(double))};
    if (t.f == NULL || t.d == NULL) abort();
    for (size_t i = 0; i < n; i++) {
        t.f[i] = (float)(mean + deviation * (double)limn_random_normal(7, limn_random_stream(name), i));
        t.d[i] = (double)t.f[i];
    }
    return t;
}

static inline void twin_free(twin *t) {
    free(t->f);
    free(t->d);
    *t = (twin){0};
}

/* Floats filled with a value, such as NAN for results that must all be written; free(). */
static inline float *floats_filled(size_t n, float value) {
    float *out = malloc((n ? n : 1) * sizeof(float));
    if (out == NULL) abort();
    for (size_t i = 0; i < n; i++) out[i] = value;
    return out;
}

static inline double *doubles_zeroed(size_t n) {
    double *out = calloc(n ? n : 1, sizeof(double));
    if (out == NULL) abort();
    return out;
}

/* Fails unless every |got − expected| is within tolerance × the largest |expected|. */
static inline void check_close(const char *name, const float *got, const double *expected, size_t n, double tolerance) {
    double largest = 0, worst = 0;
    size_t where = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs(expected[i]));
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)got[i] - expected[i]);
        if (!(error <= worst)) { /* a NaN must win, and stay */
            worst = error;
            where = i;
            if (isnan(error)) break;
        }
    }
    if (!(worst <= tolerance * largest))
        fail_msg("%s: element %zu of %zu is %.9g, expected %.9g (allowed error %.3g)", name, where, n, (double)got[where],
                 expected[where], tolerance * largest);
}

typedef double (*gradient_check_loss)(void *context); /* reads the doubles that are nudged */

/* Compares the gradient of `loss` with respect to x (n doubles that `loss` reads) with central finite differences, at no more
 * than 300 places spread over x; every error must be within tolerance × the largest difference. */
static inline void check_gradient(const char *name, const float *gradient, double *x, size_t n, gradient_check_loss loss,
                                  void *context, double tolerance) {
    size_t step = n > 300 ? n / 300 : 1;
    size_t count = (n + step - 1) / step;
    double *numeric = doubles_zeroed(count);
    float *ours = floats_filled(count, 0);
    for (size_t j = 0; j < count; j++) {
        size_t i = j * step;
        double before = x[i], h = 1e-5 * fmax(1.0, fabs(before));
        x[i] = before + h;
        double above = loss(context);
        x[i] = before - h;
        double below = loss(context);
        x[i] = before;
        numeric[j] = (above - below) / (2 * h);
        ours[j] = gradient[i];
    }
    check_close(name, ours, numeric, count, tolerance);
    free(numeric);
    free(ours);
}

/* The sets of packed_linear_choose_kernels, the best first. */
static const char *const linear_instruction_sets[] = {"avx512vnni", "avx512bf16", "avx512", "avx2", "portable"};
enum { LINEAR_INSTRUCTION_SETS = sizeof linear_instruction_sets / sizeof *linear_instruction_sets };

/* Back to the best that there is: for the end of tests that choose others. */
static inline int choose_best(void **state) {
    (void)state;
    for (size_t i = 0; i < LINEAR_INSTRUCTION_SETS; i++)
        if (packed_linear_choose_kernels(linear_instruction_sets[i])) return 0;
    return -1;
}

/* What is multiplied for x, a weight or an input, in a precision of floats. */
static inline float rounded(float x, nn_precision precision) {
    return precision == PRECISION_BF16 ? limn_bf16_to_float(limn_bf16_from_float(x)) : x;
}

/* sum(out·weights): the usual loss. */
static inline double weighted_sum(const double *out, const double *weights, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += out[i] * weights[i];
    return sum;
}

#endif
