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

TARGET static inline __attribute__((always_inline)) NAME(vector)
    NAME(read_pixel)(const float *from, const NAME(vector) * terms, const bool normed, const bool swish, const bool outside) {
    typedef NAME(vector) vector;
    if (outside && from == NULL) return (vector){0};
    vector value = *(const vector *)from;
    if (normed) value = (value - terms[0]) * terms[1] + terms[2];
    return swish ? NAME(swish)(value) : value;
}

/* The switches are constants where this is inlined. */
TARGET static inline __attribute__((always_inline)) void
NAME(patch_channels)(const patch_work *work, const bool normed, const bool swish, const bool outside, const bool pairs) {
    typedef NAME(vector) vector;
    const size_t stride = work->stride, C = work->C;
    const float *const *pixels = work->pixels;
    for (size_t c = 0; c < C; c += VECTOR) {
        vector lines[WINOGRAD_POINTS], line[WINOGRAD_PATCH], terms[3] = {{0}};
        if (normed) {
            terms[0] = *(const vector *)(work->read.mean + c);
            terms[1] = *(const vector *)(work->read.scale + c);
            terms[2] = *(const vector *)(work->read.bias + c);
        }
        if (!work->fresh) {
#pragma GCC unroll 6
            for (size_t y = 0; y < WINOGRAD_PATCH; y++) {
                lines[y * WINOGRAD_PATCH] = *(const vector *)(work->carry + 2 * y * C + c);
                lines[y * WINOGRAD_PATCH + 1] = *(const vector *)(work->carry + (2 * y + 1) * C + c);
            }
        } else {
#pragma GCC unroll 2
            for (size_t x = 0; x < 2; x++) {
                vector column[WINOGRAD_PATCH];
#pragma GCC unroll 6
                for (size_t y = 0; y < WINOGRAD_PATCH; y++) {
                    const float *from = pixels[y * WINOGRAD_PATCH + x];
                    column[y] = NAME(read_pixel)(outside && from == NULL ? NULL : from + c, terms, normed, swish, outside);
                }
                NAME(patch_line)(lines + x, WINOGRAD_PATCH, column);
            }
        }
#pragma GCC unroll 4
        for (size_t x = 2; x < WINOGRAD_PATCH; x++) {
            vector column[WINOGRAD_PATCH];
#pragma GCC unroll 6
            for (size_t y = 0; y < WINOGRAD_PATCH; y++) {
                const float *from = pixels[y * WINOGRAD_PATCH + x];
                __builtin_prefetch((const char *)from + work->ahead + c * sizeof(float));
                column[y] = NAME(read_pixel)(outside && from == NULL ? NULL : from + c, terms, normed, swish, outside);
            }
            NAME(patch_line)(lines + x, WINOGRAD_PATCH, column);
        }
#pragma GCC unroll 6
        for (size_t y = 0; y < WINOGRAD_PATCH; y++) {
            *(vector *)(work->carry + 2 * y * C + c) = lines[y * WINOGRAD_PATCH + 4];
            *(vector *)(work->carry + (2 * y + 1) * C + c) = lines[y * WINOGRAD_PATCH + 5];
        }
#pragma GCC unroll 6
        for (size_t k = 0; k < WINOGRAD_PATCH; k++) {
            NAME(patch_line)(line, 1, lines + k * WINOGRAD_PATCH);
#pragma GCC unroll 6
            for (size_t x = 0; x < WINOGRAD_PATCH; x++) {
                float *to = work->to + (k * WINOGRAD_PATCH + x) * stride;
                if (pairs)
                    NAME(store_rounded)((uint16_t *)to + c, line[x]);
                else
                    *(vector *)(to + c) = line[x];
            }
        }
    }
}

TARGET static void NAME(winograd_patch)(const patch_work *work) {
    const bool normed = work->read.mean != NULL, swish = normed && work->read.swish;
#define CASE(is_normed, is_swish, is_outside, is_pairs)                                                                        \
    if (normed == is_normed && swish == is_swish && work->outside == is_outside && work->pairs == is_pairs)                    \
        NAME(patch_channels)(work, is_normed, is_swish, is_outside, is_pairs);
#define CASES(is_normed, is_swish)                                                                                             \
    CASE(is_normed, is_swish, false, false)                                                                                    \
    CASE(is_normed, is_swish, false, true) CASE(is_normed, is_swish, true, false) CASE(is_normed, is_swish, true, true)
    CASES(false, false)
    CASES(true, false)
    CASES(true, true)
#undef CASES
#undef CASE
}

/* The first `count` floats of a vector. */
TARGET static inline __attribute__((always_inline)) NAME(vector) NAME(load_part)(const float *from, size_t count) {
    float values[VECTOR] = {0};
    for (size_t i = 0; i < count; i++) values[i] = from[i];
    return *(const NAME(vector) *)values;
}

TARGET static inline __attribute__((always_inline)) void NAME(store_part)(float *to, NAME(vector) value, size_t count) {
    float values[VECTOR];
    *(NAME(vector) *)values = value;
    for (size_t i = 0; i < count; i++) to[i] = values[i];
}

TARGET static inline __attribute__((always_inline)) void
NAME(output_channels)(float *const *pixels, const float *const *add, const float *bias, const float *from, size_t stride,
                      size_t count, running_moments *moments, const bool fresh, const bool whole, size_t c) {
    typedef NAME(vector) vector;
    vector lines[WINOGRAD_OUT * WINOGRAD_PATCH], line[WINOGRAD_OUT];
#pragma GCC unroll 6
    for (size_t x = 0; x < WINOGRAD_PATCH; x++) {
        vector column[WINOGRAD_PATCH];
#pragma GCC unroll 6
        for (size_t y = 0; y < WINOGRAD_PATCH; y++) column[y] = *(const vector *)(from + (y * WINOGRAD_PATCH + x) * stride + c);
        NAME(output_line)(lines + x, WINOGRAD_PATCH, column);
    }
    const vector offset = whole ? *(const vector *)(bias + c) : NAME(load_part)(bias + c, count);
    vector pivot = {0}, sum = {0}, squares = {0};
    if (moments != NULL && !fresh) {
        pivot = *(const vector *)(moments->pivot + c);
        sum = *(const vector *)(moments->sum + c);
        squares = *(const vector *)(moments->squares + c);
    }
#pragma GCC unroll 4
    for (size_t y = 0; y < WINOGRAD_OUT; y++) {
        NAME(output_line)(line, 1, lines + y * WINOGRAD_PATCH);
#pragma GCC unroll 4
        for (size_t x = 0; x < WINOGRAD_OUT; x++) {
            const size_t pixel = y * WINOGRAD_OUT + x;
            if (pixels[pixel] == NULL) continue;
            vector value = line[x] + offset;
            if (add != NULL) value += whole ? *(const vector *)(add[pixel] + c) : NAME(load_part)(add[pixel] + c, count);
            if (whole)
                *(vector *)(pixels[pixel] + c) = value;
            else
                NAME(store_part)(pixels[pixel] + c, value, count);
            if (moments == NULL) continue;
            if (pixel == 0 && fresh) pivot = value;
            const vector distance = value - pivot;
            sum += distance;
            squares += distance * distance;
        }
    }
    if (moments == NULL) return;
    *(vector *)(moments->pivot + c) = pivot;
    *(vector *)(moments->sum + c) = sum;
    *(vector *)(moments->squares + c) = squares;
}

TARGET static void NAME(winograd_output)(float *const *pixels, const float *const *add, const float *bias, const float *from,
                                         size_t stride, size_t channels, running_moments *moments, bool fresh) {
    size_t c = 0;
    for (; c + VECTOR <= channels; c += VECTOR)
        NAME(output_channels)(pixels, add, bias, from, stride, VECTOR, moments, fresh, true, c);
    if (c < channels) NAME(output_channels)(pixels, add, bias, from, stride, channels - c, moments, fresh, false, c);
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
