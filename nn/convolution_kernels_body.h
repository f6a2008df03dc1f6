/* The kernels of convolution_kernels.h for one instruction set. Included once for each by convolution_kernels.c, which
 * defines NAME(x) (adds the suffix), TARGET (the function attribute), VECTOR (floats in a register), PIXELS, and OUTPUTS.
 * A block is two registers wide; PIXELS·2 (or OUTPUTS·2) sums stay in registers for the whole of the inner loop. */

typedef float NAME(vector) __attribute__((vector_size(VECTOR * 4), aligned(4), may_alias));

/* `pixels` is a constant where this is inlined, so that the loops over it are unrolled and `sum` lives in registers. */
TARGET static inline __attribute__((always_inline)) void NAME(product_of)(const product_block *block, const size_t pixels) {
    typedef NAME(vector) vector;
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
#pragma GCC unroll 16
            for (size_t i = 0; i < pixels; i++) {
                const float value = in[i][c];
                sum[i][0] += value * weight0;
                sum[i][1] += value * weight1;
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

TARGET static void NAME(product)(const product_block *block) {
#define CASE(n)                                                                                                          \
    case n:                                                                                                              \
        if (n <= PIXELS) NAME(product_of)(block, n <= PIXELS ? n : 1);                                                   \
        break;
    switch (block->pixels) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
    }
#undef CASE
}

TARGET static inline __attribute__((always_inline)) void NAME(weight_gradient_of)(const weight_gradient_block *block,
                                                                                  const size_t outputs, const size_t registers) {
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
#define CASE(n)                                                                                                          \
    case n:                                                                                                              \
        if (n <= OUTPUTS && block->channels == 2 * VECTOR) NAME(weight_gradient_of)(block, n <= OUTPUTS ? n : 1, 2);     \
        if (n <= OUTPUTS && block->channels == VECTOR) NAME(weight_gradient_of)(block, n <= OUTPUTS ? n : 1, 1);         \
        break;
    switch (block->outputs) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
}

/* ---------------------------------------------------------------- Winograd, F(4×4, 3×3) */

/* The four transforms of one dimension; a step of `from` or `to` is given in vectors. P and Q are the points ±P and ±Q. */

TARGET static inline __attribute__((always_inline)) void NAME(patch_line)(NAME(vector) * to, size_t to_step,
                                                                          const NAME(vector) * from) {
    const NAME(vector) even_p = from[4] - WINOGRAD_Q * WINOGRAD_Q * from[2], odd_p = from[3] - WINOGRAD_Q * WINOGRAD_Q * from[1];
    const NAME(vector) even_q = from[4] - WINOGRAD_P * WINOGRAD_P * from[2], odd_q = from[3] - WINOGRAD_P * WINOGRAD_P * from[1];
    const float product = WINOGRAD_P * WINOGRAD_P * WINOGRAD_Q * WINOGRAD_Q;
    const float sum = WINOGRAD_P * WINOGRAD_P + WINOGRAD_Q * WINOGRAD_Q;
    to[0 * to_step] = product * from[0] + (from[4] - sum * from[2]);
    to[1 * to_step] = even_p + WINOGRAD_P * odd_p;
    to[2 * to_step] = even_p - WINOGRAD_P * odd_p;
    to[3 * to_step] = even_q + WINOGRAD_Q * odd_q;
    to[4 * to_step] = even_q - WINOGRAD_Q * odd_q;
    to[5 * to_step] = product * from[1] + (from[5] - sum * from[3]);
}

TARGET static inline __attribute__((always_inline)) void NAME(weight_line)(NAME(vector) * to, size_t to_step,
                                                                           const NAME(vector) * from) {
    const float p = 1.0f / (2 * WINOGRAD_P * WINOGRAD_P * (WINOGRAD_P * WINOGRAD_P - WINOGRAD_Q * WINOGRAD_Q));
    const float q = 1.0f / (2 * WINOGRAD_Q * WINOGRAD_Q * (WINOGRAD_Q * WINOGRAD_Q - WINOGRAD_P * WINOGRAD_P));
    const NAME(vector) even_p = p * from[0] + p * WINOGRAD_P * WINOGRAD_P * from[2], odd_p = p * WINOGRAD_P * from[1];
    const NAME(vector) even_q = q * from[0] + q * WINOGRAD_Q * WINOGRAD_Q * from[2], odd_q = q * WINOGRAD_Q * from[1];
    to[0 * to_step] = from[0] * (1.0f / (WINOGRAD_P * WINOGRAD_P * WINOGRAD_Q * WINOGRAD_Q));
    to[1 * to_step] = even_p + odd_p;
    to[2 * to_step] = even_p - odd_p;
    to[3 * to_step] = even_q + odd_q;
    to[4 * to_step] = even_q - odd_q;
    to[5 * to_step] = from[2];
}

TARGET static inline __attribute__((always_inline)) void NAME(output_line)(NAME(vector) * to, size_t to_step,
                                                                           const NAME(vector) * from) {
    const NAME(vector) sum_p = from[1] + from[2], difference_p = from[1] - from[2];
    const NAME(vector) sum_q = from[3] + from[4], difference_q = from[3] - from[4];
    to[0 * to_step] = from[0] + (sum_p + sum_q);
    to[1 * to_step] = WINOGRAD_P * difference_p + WINOGRAD_Q * difference_q;
    to[2 * to_step] = WINOGRAD_P * WINOGRAD_P * sum_p + WINOGRAD_Q * WINOGRAD_Q * sum_q;
    to[3 * to_step] = WINOGRAD_P * WINOGRAD_P * WINOGRAD_P * difference_p +
                      (WINOGRAD_Q * WINOGRAD_Q * WINOGRAD_Q * difference_q + from[5]);
}

/* The adjoint of output_line. */
TARGET static inline __attribute__((always_inline)) void NAME(output_gradient_line)(NAME(vector) * to, size_t to_step,
                                                                                    const NAME(vector) * from) {
    const NAME(vector) even_p = from[0] + WINOGRAD_P * WINOGRAD_P * from[2];
    const NAME(vector) odd_p = WINOGRAD_P * from[1] + WINOGRAD_P * WINOGRAD_P * WINOGRAD_P * from[3];
    const NAME(vector) even_q = from[0] + WINOGRAD_Q * WINOGRAD_Q * from[2];
    const NAME(vector) odd_q = WINOGRAD_Q * from[1] + WINOGRAD_Q * WINOGRAD_Q * WINOGRAD_Q * from[3];
    to[0 * to_step] = from[0];
    to[1 * to_step] = even_p + odd_p;
    to[2 * to_step] = even_p - odd_p;
    to[3 * to_step] = even_q + odd_q;
    to[4 * to_step] = even_q - odd_q;
    to[5 * to_step] = from[3];
}

/* The adjoint of weight_line. */
TARGET static inline __attribute__((always_inline)) void NAME(weight_gradient_line)(NAME(vector) * to, size_t to_step,
                                                                                    const NAME(vector) * from) {
    const float p = 1.0f / (2 * WINOGRAD_P * WINOGRAD_P * (WINOGRAD_P * WINOGRAD_P - WINOGRAD_Q * WINOGRAD_Q));
    const float q = 1.0f / (2 * WINOGRAD_Q * WINOGRAD_Q * (WINOGRAD_Q * WINOGRAD_Q - WINOGRAD_P * WINOGRAD_P));
    const NAME(vector) sum_p = p * (from[1] + from[2]), sum_q = q * (from[3] + from[4]);
    to[0 * to_step] = from[0] * (1.0f / (WINOGRAD_P * WINOGRAD_P * WINOGRAD_Q * WINOGRAD_Q)) + (sum_p + sum_q);
    to[1 * to_step] = p * WINOGRAD_P * (from[1] - from[2]) + q * WINOGRAD_Q * (from[3] - from[4]);
    to[2 * to_step] = WINOGRAD_P * WINOGRAD_P * sum_p + (WINOGRAD_Q * WINOGRAD_Q * sum_q + from[5]);
}

TARGET static void NAME(winograd_weights)(float *to, const float *weights, size_t stride, size_t n) {
    typedef NAME(vector) vector;
    for (size_t i = 0; i < n; i += VECTOR) {
        vector lines[WINOGRAD_PATCH * 3], column[3], line[WINOGRAD_PATCH];
        for (size_t x = 0; x < 3; x++) {
            for (size_t y = 0; y < 3; y++) column[y] = *(const vector *)(weights + (y * 3 + x) * stride + i);
            NAME(weight_line)(lines + x, 3, column);
        }
        for (size_t k = 0; k < WINOGRAD_PATCH; k++) {
            NAME(weight_line)(line, 1, lines + k * 3);
            for (size_t x = 0; x < WINOGRAD_PATCH; x++) *(vector *)(to + (k * WINOGRAD_PATCH + x) * stride + i) = line[x];
        }
    }
}

TARGET static void NAME(winograd_patch)(float *to, size_t stride, const float *const *pixels, size_t C) {
    typedef NAME(vector) vector;
    for (size_t c = 0; c < C; c += VECTOR) {
        vector lines[WINOGRAD_POINTS], line[WINOGRAD_PATCH];
#pragma GCC unroll 6
        for (size_t x = 0; x < WINOGRAD_PATCH; x++) {
            vector column[WINOGRAD_PATCH];
#pragma GCC unroll 6
            for (size_t y = 0; y < WINOGRAD_PATCH; y++) column[y] = *(const vector *)(pixels[y * WINOGRAD_PATCH + x] + c);
            NAME(patch_line)(lines + x, WINOGRAD_PATCH, column);
        }
#pragma GCC unroll 6
        for (size_t k = 0; k < WINOGRAD_PATCH; k++) {
            NAME(patch_line)(line, 1, lines + k * WINOGRAD_PATCH);
#pragma GCC unroll 6
            for (size_t x = 0; x < WINOGRAD_PATCH; x++) *(vector *)(to + (k * WINOGRAD_PATCH + x) * stride + c) = line[x];
        }
    }
}

TARGET static void NAME(winograd_output)(float *const *pixels, const float *const *add, const float *bias, const float *from,
                                         size_t stride, size_t channels) {
    typedef NAME(vector) vector;
    for (size_t c = 0; c < channels; c += VECTOR) {
        vector lines[WINOGRAD_OUT * WINOGRAD_PATCH], line[WINOGRAD_OUT];
#pragma GCC unroll 6
        for (size_t x = 0; x < WINOGRAD_PATCH; x++) {
            vector column[WINOGRAD_PATCH];
#pragma GCC unroll 6
            for (size_t y = 0; y < WINOGRAD_PATCH; y++)
                column[y] = *(const vector *)(from + (y * WINOGRAD_PATCH + x) * stride + c);
            NAME(output_line)(lines + x, WINOGRAD_PATCH, column);
        }
        const vector offset = *(const vector *)(bias + c);
#pragma GCC unroll 4
        for (size_t y = 0; y < WINOGRAD_OUT; y++) {
            NAME(output_line)(line, 1, lines + y * WINOGRAD_PATCH);
#pragma GCC unroll 4
            for (size_t x = 0; x < WINOGRAD_OUT; x++) {
                const size_t pixel = y * WINOGRAD_OUT + x;
                if (pixels[pixel] == NULL) continue;
                vector value = line[x] + offset;
                if (add != NULL) value += *(const vector *)(add[pixel] + c);
                *(vector *)(pixels[pixel] + c) = value;
            }
        }
    }
}

TARGET static void NAME(winograd_output_gradient)(float *to, size_t stride, const float *const *pixels, size_t O) {
    typedef NAME(vector) vector;
    for (size_t o = 0; o < O; o += VECTOR) {
        vector lines[WINOGRAD_PATCH * WINOGRAD_OUT], line[WINOGRAD_PATCH];
#pragma GCC unroll 4
        for (size_t x = 0; x < WINOGRAD_OUT; x++) {
            vector column[WINOGRAD_OUT];
#pragma GCC unroll 4
            for (size_t y = 0; y < WINOGRAD_OUT; y++) column[y] = *(const vector *)(pixels[y * WINOGRAD_OUT + x] + o);
            NAME(output_gradient_line)(lines + x, WINOGRAD_OUT, column);
        }
#pragma GCC unroll 6
        for (size_t k = 0; k < WINOGRAD_PATCH; k++) {
            NAME(output_gradient_line)(line, 1, lines + k * WINOGRAD_OUT);
#pragma GCC unroll 6
            for (size_t x = 0; x < WINOGRAD_PATCH; x++) *(vector *)(to + (k * WINOGRAD_PATCH + x) * stride + o) = line[x];
        }
    }
}

TARGET static void NAME(winograd_weight_gradient)(float *dweight, const float *from, size_t stride, size_t C) {
    typedef NAME(vector) vector;
    for (size_t c = 0; c < C; c += VECTOR) {
        vector lines[3 * WINOGRAD_PATCH], column[WINOGRAD_PATCH], line[3];
        for (size_t x = 0; x < WINOGRAD_PATCH; x++) {
            for (size_t y = 0; y < WINOGRAD_PATCH; y++)
                column[y] = *(const vector *)(from + (y * WINOGRAD_PATCH + x) * stride + c);
            NAME(weight_gradient_line)(lines + x, WINOGRAD_PATCH, column);
        }
        for (size_t y = 0; y < 3; y++) {
            NAME(weight_gradient_line)(line, 1, lines + y * WINOGRAD_PATCH);
            for (size_t x = 0; x < 3; x++) *(vector *)(dweight + (y * 3 + x) * C + c) += line[x];
        }
    }
}

static const convolution_kernels NAME(kernels) = {
    .name = INSTRUCTIONS,
    .pixels_per_block = PIXELS,
    .channels_per_block = 2 * VECTOR,
    .product = NAME(product),
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
