/* What the files of the convolutions share. */
#ifndef LIMN_NN_CONVOLUTION_INTERNAL_H
#define LIMN_NN_CONVOLUTION_INTERNAL_H

#include "nn/convolution_kernels.h"
#include "nn/internal.h"
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

/* convolution.c: a sum by the product of `kernels`. With product_pairs for product, C counts pairs. */
void direct_run(const convolution_kernels *kernels, const tap_sum *sum, limn_arena *arena);
/* (O, taps, C) to (blocks of O, taps, C, O within the block), with zeros after the last output. */
void pack_forward(float *packed, const float *weight, size_t O, size_t taps, size_t C, size_t width);

/* A 3×3 convolution of stride 1 whose weights have been transformed. */
typedef struct {
    const float *in; /* (B, Y, X, C); (B, Y/2, X/2, C), each pixel standing for four, when upsampled */
    size_t B, Y, X, C, O;
    size_t rows, columns; /* outputs of one picture */
    ptrdiff_t dy, dx;     /* of the first tap */
    bool upsampled, pairs, swish;
    const float *weights; /* (blocks of outputs, 36, C, outputs of a block); of pairs: (…, C/2, outputs of a block, 2) */
    const float *bias;    /* (blocks of outputs, outputs of a block) */
    const float *terms;   /* (B, 3, C): mean, scale and bias of a `reading`; NULL: the input is read as it is */
    const float *add;     /* like out, or NULL; may be out */
    float *out;           /* (B, rows, columns, O) */
    double *moments;      /* (B, 2, O): mean, and sum of squared distances from it, of each channel of `out`; or NULL */
} winograd_work;

/* winograd.c: whether these can be computed, and faster, by Winograd's method, and that. */
bool winograd_suits(const convolution_kernels *kernels, const tap_sum *sum);
void winograd_run(const convolution_kernels *kernels, const tap_sum *sum, limn_arena *arena);
/* to (blocks, 36, C, width) of packed weights (blocks, 9, C, width). */
void winograd_transform_weights(const convolution_kernels *kernels, float *to, const float *packed, size_t blocks, size_t C);
/* Whether tiles of 4×4 fit the pictures and are at least so many. */
bool winograd_tiles_pay(size_t B, size_t rows, size_t columns, size_t fewest);
void winograd_products(const convolution_kernels *kernels, const winograd_work *work, limn_arena *arena);

/* winograd_gradient.c */
bool winograd_suits_weight(const convolution_kernels *kernels, const convolution_shape *shape);
void winograd_backward_weight(const convolution_kernels *kernels, float *dweight, const float *dout, const float *in,
                              const convolution_shape *shape, limn_arena *arena);

#endif
