/* The transforms of Winograd's F(4×4, 3×3) for one instruction set; part of convolution_kernels_body.h.
 *
 * First those of one dimension: `from` is read one vector after another, `to` is written every to_step vectors. They are the
 * Toom-Cook matrices (Bᵀ, G, Aᵀ of Lavin and Gray) of the points 0, ±WINOGRAD_P, ±WINOGRAD_Q and ∞, with even and odd powers
 * summed apart because points come in pairs of opposite sign. */

TARGET static inline __attribute__((always_inline)) void NAME(patch_line)(NAME(vector) * to, size_t to_step,
                                                                          const NAME(vector) * from) {
    const NAME(vector) even_p = from[4] - WINOGRAD_Q * WINOGRAD_Q * from[2],
                       odd_p = from[3] - WINOGRAD_Q * WINOGRAD_Q * from[1];
    const NAME(vector) even_q = from[4] - WINOGRAD_P * WINOGRAD_P * from[2],
                       odd_q = from[3] - WINOGRAD_P * WINOGRAD_P * from[1];
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
    to[3 * to_step] =
        WINOGRAD_P * WINOGRAD_P * WINOGRAD_P * difference_p + (WINOGRAD_Q * WINOGRAD_Q * WINOGRAD_Q * difference_q + from[5]);
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

/* In two dimensions: the columns, then the rows of what they gave. */

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
