/* The kernels of convolution_kernels.h for one instruction set. Included once for each by convolution_kernels.c, which
 * defines NAME(x) (adds the suffix), TARGET (the function attribute), VECTOR (floats in a register), PIXELS, and OUTPUTS.
 * A block is two registers wide; PIXELS·2 (or OUTPUTS·2) sums stay in registers for the whole of the inner loop. */

typedef float NAME(vector) __attribute__((vector_size(VECTOR * 4), aligned(4), may_alias));
typedef uint32_t NAME(bits) __attribute__((vector_size(VECTOR * 4), aligned(4), may_alias));

#include "nn/bf16_kernels_body.h"

#ifndef WEIGHTS_AHEAD
#define WEIGHTS_AHEAD 512 /* floats: weights lie in order, so that what follows is the next product's */
#endif

/* `pixels` and `pairs` are constants where this is inlined, so that the loops over them are unrolled and `sum` lives in
 * registers. */
TARGET static inline __attribute__((always_inline)) void NAME(product_of)(const product_block *block, const size_t pixels,
                                                                          const bool pairs) {
    typedef NAME(vector) vector;
    typedef NAME(bits) bits;
    vector sum[PIXELS][2];
#pragma GCC unroll 16
    for (size_t i = 0; i < pixels; i++) sum[i][0] = sum[i][1] = (vector){0};
    const float *weights = block->weights;
    const size_t C = block->C;
    for (size_t t = 0; t < block->taps; t++) {
        const float *in[PIXELS];
#pragma GCC unroll 16
        for (size_t i = 0; i < pixels; i++) in[i] = block->in[t * block->in_stride + i];
        for (size_t c = 0; c < C; c++) {
            const vector weight0 = *(const vector *)(weights), weight1 = *(const vector *)(weights + VECTOR);
            weights += 2 * VECTOR;
            __builtin_prefetch(weights + WEIGHTS_AHEAD);
            __builtin_prefetch(weights + WEIGHTS_AHEAD + VECTOR);
#pragma GCC unroll 16
            for (size_t i = 0; i < pixels; i++) {
                if (pairs) {
                    const bits value = (bits){0} + ((const NAME(pair) *)in[i])[c];
                    sum[i][0] = NAME(add_pairs)(sum[i][0], value, (bits)weight0);
                    sum[i][1] = NAME(add_pairs)(sum[i][1], value, (bits)weight1);
                } else {
                    const float value = in[i][c];
                    sum[i][0] += value * weight0;
                    sum[i][1] += value * weight1;
                }
            }
        }
    }
    const vector bias0 = *(const vector *)block->bias, bias1 = *(const vector *)(block->bias + VECTOR);
    if (block->channels == 2 * VECTOR) {
#pragma GCC unroll 16
        for (size_t i = 0; i < pixels; i++) {
            const size_t at = block->offsets[i];
            sum[i][0] += bias0;
            sum[i][1] += bias1;
            if (block->add != NULL) {
                sum[i][0] += *(const vector *)(block->add + at);
                sum[i][1] += *(const vector *)(block->add + at + VECTOR);
            }
            *(vector *)(block->out + at) = sum[i][0];
            *(vector *)(block->out + at + VECTOR) = sum[i][1];
        }
        return;
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < pixels; i++) {
        float line[2 * VECTOR];
        *(vector *)line = sum[i][0] + bias0;
        *(vector *)(line + VECTOR) = sum[i][1] + bias1;
        const size_t at = block->offsets[i];
        for (size_t o = 0; o < block->channels; o++)
            block->out[at + o] = line[o] + (block->add != NULL ? block->add[at + o] : 0.0f);
    }
}

#define CASE(n)                                                                                                                \
    case n:                                                                                                                    \
        if (n <= PIXELS) NAME(product_of)(block, n <= PIXELS ? n : 1, PAIRS);                                                  \
        break;
TARGET static void NAME(product)(const product_block *block) {
#define PAIRS false
    switch (block->pixels) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef PAIRS
}

TARGET static void NAME(product_pairs)(const product_block *block) {
#define PAIRS true
    switch (block->pixels) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef PAIRS
}
#undef CASE

TARGET static inline __attribute__((always_inline)) void
NAME(weight_gradient_of)(const weight_gradient_block *block, const size_t outputs, const size_t registers) {
    typedef NAME(vector) vector;
    vector sum[OUTPUTS][2];
#pragma GCC unroll 16
    for (size_t o = 0; o < outputs; o++) sum[o][0] = sum[o][1] = (vector){0};
    for (size_t y = 0; y < block->rows; y++) {
        const float *in = block->in + y * block->in_row, *dout = block->dout + y * block->dout_row;
        for (size_t x = 0; x < block->columns; x++) {
            const vector in0 = *(const vector *)in, in1 = registers == 2 ? *(const vector *)(in + VECTOR) : in0;
#pragma GCC unroll 16
            for (size_t o = 0; o < outputs; o++) {
                const float gradient = dout[o];
                sum[o][0] += gradient * in0;
                if (registers == 2) sum[o][1] += gradient * in1;
            }
            in += block->in_pixel;
            dout += block->dout_pixel;
        }
    }
#pragma GCC unroll 16
    for (size_t o = 0; o < outputs; o++) {
        float *dweight = block->dweight + o * block->dweight_stride;
        *(vector *)dweight += sum[o][0];
        if (registers == 2) *(vector *)(dweight + VECTOR) += sum[o][1];
    }
}

TARGET static void NAME(weight_gradient)(const weight_gradient_block *block) {
#define CASE(n)                                                                                                                \
    case n:                                                                                                                    \
        if (n <= OUTPUTS && block->channels == 2 * VECTOR) NAME(weight_gradient_of)(block, n <= OUTPUTS ? n : 1, 2);           \
        if (n <= OUTPUTS && block->channels == VECTOR) NAME(weight_gradient_of)(block, n <= OUTPUTS ? n : 1, 1);               \
        break;
    switch (block->outputs) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
}

#include "nn/winograd_kernels_body.h"

static const convolution_kernels NAME(kernels) = {
    .name = INSTRUCTIONS,
    .pixels_per_block = PIXELS,
    .channels_per_block = 2 * VECTOR,
    .product = NAME(product),
    .product_pairs = NAME(product_pairs),
    .read_rows = NAME(read_rows),
    .gradient_outputs = OUTPUTS,
    .gradient_channels = 2 * VECTOR,
    .channel_step = VECTOR,
    .weight_gradient = NAME(weight_gradient),
    .winograd_weights = NAME(winograd_weights),
    .winograd_patch = NAME(winograd_patch),
    .winograd_output = NAME(winograd_output),
    .winograd_output_gradient = NAME(winograd_output_gradient),
    .winograd_weight_gradient = NAME(winograd_weight_gradient),
};
