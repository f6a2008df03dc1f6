#include "nn/linear_kernels.h"

#include "nn/nn.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define INSTRUCTIONS "avx512"
#define NAME(x) x##_avx512
#define TARGET __attribute__((target(AVX512)))
#define VECTOR 16
#define ROWS 12
#include "nn/linear_kernels_body.h"
#undef INSTRUCTIONS
#undef NAME
#undef TARGET
#undef VECTOR
#undef ROWS

#define INSTRUCTIONS "avx2"
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define VECTOR 8
#define ROWS 3
#include "nn/linear_kernels_body.h"
#undef INSTRUCTIONS
#undef NAME
#undef TARGET
#undef VECTOR
#undef ROWS

/* ---------------------------------------------------------------- bfloat16 (AVX512-BF16) */

#define TARGET_BF16 __attribute__((target(AVX512 ",avx512bf16")))
enum { ROWS_BF16 = 12 };

/* The four bytes that a row contributes to a step of the inner loop, in all lanes. */
#define BROADCAST(from)                                                                                                        \
    ({                                                                                                                         \
        int four;                                                                                                              \
        memcpy(&four, from, sizeof four);                                                                                      \
        _mm512_set1_epi32(four);                                                                                               \
    })

TARGET_BF16 static inline __attribute__((always_inline)) void multiply_rows_bf16(const block_product *product,
                                                                                 const size_t rows) {
    const uint16_t *weights = product->weights;
    const char *in = product->in;
    const size_t depth = product->depth, stride = product->in_stride;
    __m512 sum[ROWS_BF16][2];
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < depth; k += 2) {
        const __m512bh weight0 = (__m512bh)_mm512_loadu_si512(weights + k * PANEL);
        const __m512bh weight1 = (__m512bh)_mm512_loadu_si512(weights + k * PANEL + 32);
        _mm_prefetch(product->next + k * PANEL, _MM_HINT_NTA);
#pragma GCC unroll 16
        for (size_t r = 0; r < rows; r++) {
            const __m512bh value = (__m512bh)BROADCAST(in + r * stride + 2 * k);
            ADD_PRODUCTS("vdpbf16ps", sum[r][0], value, weight0);
            ADD_PRODUCTS("vdpbf16ps", sum[r][1], value, weight1);
        }
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            float *to = product->sums + r * product->sums_stride + v * 16;
            _mm512_storeu_ps(to, product->first ? sum[r][v] : _mm512_add_ps(sum[r][v], _mm512_loadu_ps(to)));
        }
}

#define CASES(function, product)                                                                                               \
    switch ((product)->rows) {                                                                                                 \
    case 1:                                                                                                                    \
        function(product, 1);                                                                                                  \
        break;                                                                                                                 \
    case 2:                                                                                                                    \
        function(product, 2);                                                                                                  \
        break;                                                                                                                 \
    case 3:                                                                                                                    \
        function(product, 3);                                                                                                  \
        break;                                                                                                                 \
    case 4:                                                                                                                    \
        function(product, 4);                                                                                                  \
        break;                                                                                                                 \
    case 5:                                                                                                                    \
        function(product, 5);                                                                                                  \
        break;                                                                                                                 \
    case 6:                                                                                                                    \
        function(product, 6);                                                                                                  \
        break;                                                                                                                 \
    case 7:                                                                                                                    \
        function(product, 7);                                                                                                  \
        break;                                                                                                                 \
    case 8:                                                                                                                    \
        function(product, 8);                                                                                                  \
        break;                                                                                                                 \
    case 9:                                                                                                                    \
        function(product, 9);                                                                                                  \
        break;                                                                                                                 \
    case 10:                                                                                                                   \
        function(product, 10);                                                                                                 \
        break;                                                                                                                 \
    case 11:                                                                                                                   \
        function(product, 11);                                                                                                 \
        break;                                                                                                                 \
    case 12:                                                                                                                   \
        function(product, 12);                                                                                                 \
        break;                                                                                                                 \
    }

TARGET_BF16 static void multiply_bf16(const block_product *product) {
    CASES(multiply_rows_bf16, product)
}

static const linear_kernels linear_avx512bf16 = {
    .name = "avx512bf16", .kind = MULTIPLY_BF16, .rows_at_once = ROWS_BF16, .multiply = multiply_bf16};

/* ---------------------------------------------------------------- 8 bits (AVX512-VNNI) */

#define TARGET_VNNI __attribute__((target(AVX512 ",avx512vnni")))

/* Of 16 bits the upper halves first, then times 256, then the lower ones on top: all in the same registers. */
TARGET_VNNI static inline __attribute__((always_inline)) void multiply_rows_vnni(const block_product *product,
                                                                                 const size_t rows) {
    const size_t depth = product->depth, stride = product->in_stride;
    const char *in = product->in, *next = product->next;
    const size_t next_step = 2 * PANEL / product->halves;
    __m512i sum[ROWS_BF16][2];
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
    for (size_t half = 0; half < product->halves; half++) {
        const int8_t *weights = product->weights;
#pragma GCC unroll 16
        for (size_t r = 0; r < rows; r++) {
            sum[r][0] = _mm512_slli_epi32(sum[r][0], 8);
            sum[r][1] = _mm512_slli_epi32(sum[r][1], 8);
        }
        /* Every third row has a pointer; the two behind it are one and two strides away, which costs no instruction. */
        const char *third[4] = {in, in + 3 * stride, in + 6 * stride, in + 9 * stride};
        for (size_t k = 0; k < depth; k += 4) {
            const __m512i weight0 = _mm512_loadu_si512(weights);
            const __m512i weight1 = _mm512_loadu_si512(weights + 64);
            weights += 4 * PANEL;
            _mm_prefetch(next, _MM_HINT_NTA);
            next += next_step;
#pragma GCC unroll 16
            for (size_t r = 0; r < rows; r++) {
                const __m512i value = BROADCAST(third[r / 3] + r % 3 * stride);
                ADD_PRODUCTS("vpdpbusd", sum[r][0], value, weight0);
                ADD_PRODUCTS("vpdpbusd", sum[r][1], value, weight1);
            }
#pragma GCC unroll 4
            for (size_t t = 0; t < (rows + 2) / 3; t++) third[t] += 4;
        }
        in += product->lower;
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < rows; r++) {
        const __m512 in_scale = _mm512_set1_ps(product->in_scale[r]);
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            float *to = product->sums + r * product->sums_stride + v * 16;
            const __m512 before = product->first ? _mm512_setzero_ps() : _mm512_loadu_ps(to);
            const __m512i whole = _mm512_sub_epi32(sum[r][v], _mm512_loadu_si512(product->offset + v * 16));
            const __m512 scale = _mm512_mul_ps(in_scale, _mm512_loadu_ps(product->scale + v * 16));
            _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), scale, before));
        }
    }
}

TARGET_VNNI static void multiply_vnni(const block_product *product) {
    CASES(multiply_rows_vnni, product)
}

static const linear_kernels linear_avx512vnni = {
    .name = "avx512vnni", .kind = MULTIPLY_INT8, .rows_at_once = ROWS_BF16, .multiply = multiply_vnni};
#endif

#define INSTRUCTIONS "portable"
#define NAME(x) x##_portable
#define TARGET
#define VECTOR 4
#define ROWS 1
#include "nn/linear_kernels_body.h"

/* The best first. */
static const linear_kernels *const kernels_known[] = {
#if defined(__x86_64__)
    &linear_avx512vnni, &linear_avx512bf16, &linear_avx512, &linear_avx2,
#endif
    &linear_portable,
};
enum { KNOWN = sizeof kernels_known / sizeof *kernels_known };

static bool cpu_runs(const linear_kernels *kernels) {
#if defined(__x86_64__)
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("fma");
    if (kernels == &linear_avx512vnni) return avx512 && __builtin_cpu_supports("avx512vnni");
    if (kernels == &linear_avx512bf16) return avx512 && __builtin_cpu_supports("avx512bf16");
    if (kernels == &linear_avx512) return avx512;
    if (kernels == &linear_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return kernels == &linear_portable;
}

static atomic_size_t first_allowed;

const linear_kernels *linear_kernels_find(multiply_kind kind) {
    for (size_t i = atomic_load(&first_allowed); i < KNOWN; i++)
        if (kernels_known[i]->kind == kind && cpu_runs(kernels_known[i])) return kernels_known[i];
    return NULL;
}

bool packed_linear_choose_kernels(const char *name) {
    for (size_t i = 0; i < KNOWN; i++)
        if (strcmp(kernels_known[i]->name, name) == 0 && cpu_runs(kernels_known[i])) {
            atomic_store(&first_allowed, i);
            return true;
        }
    return false;
}
