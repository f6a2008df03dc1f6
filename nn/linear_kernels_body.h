/* The float32 kernels of linear_kernels.h for one instruction set. Included once for each by linear_kernels.c, which defines
 * NAME(x) (adds the suffix), TARGET (the function attribute), VECTOR (floats in a register) and ROWS: ROWS·PANEL/VECTOR sums
 * stay in registers for the whole of the inner loop. */

typedef float NAME(vector) __attribute__((vector_size(VECTOR * 4), aligned(4), may_alias));
typedef uint32_t NAME(bits) __attribute__((vector_size(VECTOR * 4), aligned(4), may_alias));
enum { NAME(WIDTH) = PANEL / VECTOR };

/* `rows` is a constant where this is inlined, so that the loops over it are unrolled and `sum` lives in registers. */
TARGET static inline __attribute__((always_inline)) void NAME(multiply_rows)(const block_product *product, const size_t rows) {
    typedef NAME(vector) vector;
    const float *weights = product->weights, *in = product->in;
    const size_t depth = product->depth, stride = product->in_stride / sizeof(float);
    vector sum[ROWS][NAME(WIDTH)];
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (size_t v = 0; v < NAME(WIDTH); v++) sum[r][v] = (vector){0};
    for (size_t k = 0; k < depth; k++) {
        vector weight[NAME(WIDTH)];
#pragma GCC unroll 16
        for (size_t v = 0; v < NAME(WIDTH); v++) weight[v] = *(const vector *)(weights + k * PANEL + v * VECTOR);
        __builtin_prefetch(product->next + k * PANEL * 2);
#pragma GCC unroll 16
        for (size_t r = 0; r < rows; r++) {
            const float value = in[r * stride + k];
#pragma GCC unroll 16
            for (size_t v = 0; v < NAME(WIDTH); v++) sum[r][v] += value * weight[v];
        }
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (size_t v = 0; v < NAME(WIDTH); v++) {
            vector *to = (vector *)(product->sums + r * product->sums_stride + v * VECTOR);
            if (product->scale != NULL) sum[r][v] *= *(const vector *)(product->scale + v * VECTOR);
            if (!product->first) sum[r][v] += *to;
            *to = sum[r][v];
        }
}

TARGET static void NAME(multiply)(const block_product *product) {
#define CASE(n)                                                                                                                \
    case n:                                                                                                                    \
        if (n <= ROWS) NAME(multiply_rows)(product, n <= ROWS ? n : 1);                                                        \
        break;
    switch (product->rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
    }
#undef CASE
}

TARGET static void NAME(expand_bf16)(float *to, const uint16_t *weights, size_t depth) {
    typedef NAME(bits) bits;
    for (size_t i = 0; i < depth * PANEL / 2; i += VECTOR) {
        const bits both = *(const bits *)(weights + 2 * i);
        float *even = to + i / PANEL * 2 * PANEL + i % PANEL;
        *(bits *)even = both << 16;
        *(bits *)(even + PANEL) = both & 0xffff0000u;
    }
}

TARGET static void NAME(expand_int8)(float *to, const int8_t *weights, size_t depth) {
    typedef NAME(bits) bits;
    typedef int32_t NAME(integers) __attribute__((vector_size(VECTOR * 4), aligned(4), may_alias));
    for (size_t i = 0; i < depth * PANEL / 4; i += VECTOR) {
        const bits fours = *(const bits *)(weights + 4 * i);
        float *line = to + i / PANEL * 4 * PANEL + i % PANEL;
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            const NAME(integers) whole = (NAME(integers))(fours << (24 - 8 * k)) >> 24;
            *(NAME(vector) *)(line + k * PANEL) = __builtin_convertvector(whole, NAME(vector));
        }
    }
}

static const linear_kernels NAME(linear) = {
    .name = INSTRUCTIONS,
    .kind = MULTIPLY_FP32,
    .rows_at_once = ROWS,
    .multiply = NAME(multiply),
    .expand_bf16 = NAME(expand_bf16),
    .expand_int8 = NAME(expand_int8),
};
