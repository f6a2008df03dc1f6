/* The innermost loops of the convolutions, once per instruction set; the widest that this CPU has is chosen at run time.
 *
 * Both kernels read pictures where they lie (channels-last), through pointers: there is no im2col copy. A tap that falls
 * on padding points to zeros (the "indirect convolution" of Dukhan, arXiv 1907.02129). */
#ifndef LIMN_NN_CONVOLUTION_KERNELS_H
#define LIMN_NN_CONVOLUTION_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One block of outputs: up to `pixels_per_block` pixels by up to `channels_per_block` channels.
 * out[offset of pixel i + o] = bias[o] + add[offset of pixel i + o] + Σ over taps t and channels c of
 * in[t·in_stride + i][c]·weights[t][c][o]. */
typedef struct {
    const float *const *in; /* (taps, in_stride): where tap t of pixel i begins; in_stride ≥ pixels */
    size_t in_stride, taps, C;
    const float *weights; /* (taps, C, channels_per_block), zeros beyond `channels` */
    const float *bias;    /* (channels_per_block) */
    const float *add;     /* at the offsets of `out`; NULL: nothing */
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

/* Winograd's minimal filtering F(4×4, 3×3) (Lavin and Gray, arXiv 1509.09308), with the points 0, ±3/4, ±3/2, ∞, whose error
 * in fp32 is below twice that of the direct sum (0, ±1, ±2, ∞: eight times). A 6×6 patch, a 3×3 filter and a 4×4 output each
 * become 36 numbers, the k-th of them `stride` floats after the one before; then each k is a product of its own. */
enum { WINOGRAD_OUT = 4, WINOGRAD_PATCH = 6, WINOGRAD_POINTS = 36, MOST_BLOCK_CHANNELS = 32 };

/* How numbers are read: f((in − mean)·scale + bias), f the swish or nothing. */
typedef struct {
    const float *mean, *scale, *bias; /* of each channel; mean NULL: as they are */
    bool swish;
} reading;

/* The transform of one patch, and what it can take over from its neighbour. */
typedef struct {
    const float *const *pixels; /* (36): where each pixel begins; NULL: outside, zero however it is read */
    bool outside;               /* some are */
    reading read;
    float *carry; /* (12, C): this patch's last two columns half transformed, which are the next one's first two */
    bool fresh;   /* carry holds nothing yet */
    size_t ahead; /* bytes from a pixel to the one that will be read next in its stead, which is fetched meanwhile */
    bool pairs;
    float *to; /* number k of channel c to to[k·stride + c]; of a pair of channels when `pairs` */
    size_t stride, C;
} patch_work;

/* Moments of outputs as they are written: sum and sum of squares of their distances from a first one. */
typedef struct {
    float pivot[MOST_BLOCK_CHANNELS], sum[MOST_BLOCK_CHANNELS], squares[MOST_BLOCK_CHANNELS];
} running_moments;

/* "Pairs" are two bfloat16 of neighbouring channels in four bytes, the first in the lower half; products of pairs are exact,
 * and added to fp32 sums. Without instructions for that they are computed in fp32, to the same sums but for the order of
 * adding. */
typedef struct {
    const char *name; /* "avx512bf16", "avx512", "avx2", "portable" */
    size_t pixels_per_block, channels_per_block;
    void (*product)(const product_block *block);
    /* The same where rows and weights are pairs, C counts pairs, and weights are (taps, C, channels_per_block, 2). */
    void (*product_pairs)(const product_block *block);
    /* to (rows, C) of from (rows, C) as read; rounded to nearest even pairs (rows, C/2) when `pairs`. */
    void (*read_rows)(float *to, const float *from, const reading *read, size_t rows, size_t C, bool pairs);
    size_t gradient_outputs, gradient_channels; /* most outputs and channels of a weight_gradient_block */
    size_t channel_step;
    void (*weight_gradient)(const weight_gradient_block *block);

    /* In what follows, numbers of channels are multiples of channel_step. */

    /* Weights: to[k·stride + i] of weights[t·stride + i], t below 9, i below n. */
    void (*winograd_weights)(float *to, const float *weights, size_t stride, size_t n);
    void (*winograd_patch)(const patch_work *work);
    /* Outputs: pixels[16][c] = bias[c] + add[16][c] + the output of from[k·stride + c]. A pixel of NULL is left out, never the
     * first; add is NULL or as pixels. Any number of channels. moments are begun anew when fresh; NULL: not wanted. */
    void (*winograd_output)(float *const *pixels, const float *const *add, const float *bias, const float *from, size_t stride,
                            size_t channels, running_moments *moments, bool fresh);
    /* The adjoints of winograd_output and of winograd_weights: to[k·stride + o] of the gradients pixels[16][o], and
     * dweight[t·C + c] += of from[k·stride + c], t below 9. */
    void (*winograd_output_gradient)(float *to, size_t stride, const float *const *pixels, size_t O);
    void (*winograd_weight_gradient)(float *dweight, const float *from, size_t stride, size_t C);
} convolution_kernels;

/* The kernels in use. */
const convolution_kernels *convolution_kernels_in_use(void);

#endif
