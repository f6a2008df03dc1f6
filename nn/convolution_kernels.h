/* The innermost loops of the convolutions, once per instruction set; the widest that this CPU has is chosen at run time.
 *
 * Both kernels read pictures where they lie (channels-last), through pointers: there is no im2col copy. A tap that falls
 * on padding points to zeros (the "indirect convolution" of Dukhan, arXiv 1907.02129). */
#ifndef LIMN_NN_CONVOLUTION_KERNELS_H
#define LIMN_NN_CONVOLUTION_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

/* One block of outputs: up to `pixels_per_block` pixels by up to `channels_per_block` channels.
 * out[offset of pixel i + o] = bias[o] + add[offset of pixel i + o] + Σ over taps t and channels c of
 * in[t·in_stride + i][c]·weights[t][c][o]. */
typedef struct {
    const float *const *in; /* (taps, in_stride): where tap t of pixel i begins; in_stride ≥ pixels */
    size_t in_stride, taps, C;
    const float *weights;  /* (taps, C, channels_per_block), zeros beyond `channels` */
    const float *bias;     /* (channels_per_block) */
    const float *add;      /* at the offsets of `out`; NULL: nothing */
    float *out;
    const size_t *offsets; /* (pixels) */
    size_t pixels, channels;
} product_block;

/* One block of a weight gradient: dweight[o·dweight_stride + c] += Σ over rows y and columns x of
 * dout[y·dout_row + x·dout_pixel + o]·in[y·in_row + x·in_pixel + c], for o below `outputs`, c below `channels`. Strides in
 * floats. `channels` is a multiple of channel_step. */
typedef struct {
    const float *dout, *in;
    size_t dout_row, dout_pixel, in_row, in_pixel, rows, columns;
    float *dweight;
    size_t dweight_stride, outputs, channels;
} weight_gradient_block;

typedef struct {
    const char *name; /* "avx512", "avx2", "portable" */
    size_t pixels_per_block, channels_per_block;
    void (*product)(const product_block *block);
    size_t gradient_outputs, gradient_channels; /* most outputs and channels of a weight_gradient_block */
    size_t channel_step;
    void (*weight_gradient)(const weight_gradient_block *block);
} convolution_kernels;

/* The kernels in use. */
const convolution_kernels *convolution_kernels_in_use(void);

#endif
