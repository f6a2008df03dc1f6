/* What the files of the convolutions share. */
#ifndef LIMN_NN_CONVOLUTION_INTERNAL_H
#define LIMN_NN_CONVOLUTION_INTERNAL_H

#include "nn/convolution_kernels.h"
#include "nn/nn.h"

/* A convolution, or the gradient of one by its input, as a sum over taps. */
typedef struct {
    const float *in; /* (B, Y, X, C) */
    size_t B, Y, X, C;
    size_t rows, columns; /* outputs of one picture */
    size_t step;          /* output (i, j) reads pixels (i·step + dy, j·step + dx) */
    size_t taps;
    const ptrdiff_t *dy, *dx; /* (taps) */
    const float *weights;     /* packed: (blocks of outputs, taps, C, outputs of a block), zeros beyond the last output */
    const float *bias;        /* packed: (blocks of outputs, outputs of a block) */
    const float *add;         /* like out, or NULL */
    float *out;               /* (B, out_Y, out_X, O); output (i, j) goes to pixel (out_y + i·out_step, out_x + j·out_step) */
    size_t out_Y, out_X, O, out_y, out_x, out_step;
} tap_sum;

static inline size_t divide_up(size_t a, size_t b) {
    return (a + b - 1) / b;
}

static inline size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* winograd.c: whether these can be computed, and faster, by Winograd's method, and that. */
bool winograd_suits(const convolution_kernels *kernels, const tap_sum *sum);
void winograd_run(const convolution_kernels *kernels, const tap_sum *sum, limn_arena *arena);
bool winograd_suits_weight(const convolution_kernels *kernels, const convolution_shape *shape);
void winograd_backward_weight(const convolution_kernels *kernels, float *dweight, const float *dout, const float *in,
                              const convolution_shape *shape, limn_arena *arena);

#endif
