#include "nn/large_product_kernels.h"
#include "nn/linear_kernels.h"

#include <string.h>

#if defined(__x86_64__) && !defined(__clang__)
#define LIMN_HAVE_KERNELS
#include <immintrin.h>

#define TARGET __attribute__((target(AVX512)))
#define TARGET_PAIRS __attribute__((target(AVX512 ",avx512bf16")))
#define INLINE static inline __attribute__((always_inline))

/* ---------------------------------------------------------------- multiplying */

TARGET INLINE void multiply_words(__m512 sums[TILE_ROWS][2], const product_tile *tile, const bool pairs) {
#pragma GCC unroll 12
    for (size_t r = 0; r < TILE_ROWS; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    const size_t stride = tile->row_stride, step = tile->word_stride;
    const char *third[4] = {tile->a, tile->a + 3 * stride, tile->a + 6 * stride, tile->a + 9 * stride};
    const uint32_t *b = tile->b;
    /* where the sums go comes from memory meanwhile */
    const size_t number = tile->out_bf16 ? sizeof(uint16_t) : sizeof(float);
    for (size_t r = 0; r < tile->rows; r++) {
        const char *line = (const char *)tile->out + r * tile->out_stride * number;
        __builtin_prefetch(line, 1);
        __builtin_prefetch(line + TILE_COLUMNS * number - 1, 1);
    }
    for (size_t k = 0; k < tile->words; k++) {
        const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16);
        b += TILE_COLUMNS;
#pragma GCC unroll 12
        for (size_t r = 0; r < TILE_ROWS; r++) {
            int word;
            memcpy(&word, third[r / 3] + r % 3 * stride, sizeof word);
            const __m512 a = _mm512_castsi512_ps(_mm512_set1_epi32(word));
            if (pairs) {
                ADD_PRODUCTS("vdpbf16ps", sums[r][0], a, b0);
                ADD_PRODUCTS("vdpbf16ps", sums[r][1], a, b1);
            } else {
                ADD_PRODUCTS("vfmadd231ps", sums[r][0], a, b0);
                ADD_PRODUCTS("vfmadd231ps", sums[r][1], a, b1);
            }
        }
#pragma GCC unroll 4
        for (size_t t = 0; t < 4; t++) third[t] += step;
    }
}

TARGET INLINE __mmask16 mask_of(size_t columns, size_t first) {
    return (__mmask16)(columns <= first ? 0u : columns - first >= 16 ? 0xffffu : (1u << (columns - first)) - 1);
}

/* Every index of `sums` is a constant once the loops are unrolled, or they would not stay in registers. */
TARGET INLINE void store_floats(const product_tile *tile, __m512 sums[TILE_ROWS][2]) {
    const __mmask16 masks[2] = {mask_of(tile->columns, 0), mask_of(tile->columns, 16)};
    float *to = tile->out;
#pragma GCC unroll 12
    for (size_t r = 0; r < TILE_ROWS; r++) {
        if (r < tile->skip || r >= tile->skip + tile->rows) continue;
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            __m512 sum = sums[r][v];
            if (tile->accumulate) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(masks[v], to + v * 16));
            _mm512_mask_storeu_ps(to + v * 16, masks[v], sum);
        }
        to += tile->out_stride;
    }
}

TARGET_PAIRS INLINE void store_halves(const product_tile *tile, __m512 sums[TILE_ROWS][2]) {
    const __mmask16 masks[2] = {mask_of(tile->columns, 0), mask_of(tile->columns, 16)};
    uint16_t *to = tile->out;
#pragma GCC unroll 12
    for (size_t r = 0; r < TILE_ROWS; r++) {
        if (r < tile->skip || r >= tile->skip + tile->rows) continue;
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) _mm256_mask_storeu_epi16(to + v * 16, masks[v], (__m256i)_mm512_cvtneps_pbh(sums[r][v]));
        to += tile->out_stride;
    }
}

TARGET static void multiply_floats(const product_tile *tile) {
    __m512 sums[TILE_ROWS][2];
    multiply_words(sums, tile, false);
    store_floats(tile, sums);
}

TARGET_PAIRS static void multiply_pairs(const product_tile *tile) {
    __m512 sums[TILE_ROWS][2];
    multiply_words(sums, tile, true);
    if (tile->out_bf16)
        store_halves(tile, sums);
    else
        store_floats(tile, sums);
}

/* ---------------------------------------------------------------- packing */

/* Sixteen rows of sixteen words change places with their columns. */
TARGET INLINE void transpose_words(__m512i r[16]) {
    __m512i t[16];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        const __m512i a = _mm512_unpacklo_epi32(r[4 * i], r[4 * i + 1]), b = _mm512_unpackhi_epi32(r[4 * i], r[4 * i + 1]);
        const __m512i c = _mm512_unpacklo_epi32(r[4 * i + 2], r[4 * i + 3]),
                      d = _mm512_unpackhi_epi32(r[4 * i + 2], r[4 * i + 3]);
        t[4 * i] = _mm512_unpacklo_epi64(a, c);
        t[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        t[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        t[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) { /* quarters of t[i], t[4+i], t[8+i], t[12+i] are columns i, 4+i, 8+i, 12+i */
        const __m512i a = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88), b = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd), d = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);
        r[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
}

/* Sixteen words of a run of floats, of which `count` are there. */
TARGET INLINE __m512i load_floats(const float *from, size_t count) {
    return _mm512_castps_si512(_mm512_maskz_loadu_ps(mask_of(count, 0), from));
}

/* Sixteen pairs of a run of 32 numbers, of which `count` are there. */
TARGET_PAIRS INLINE __m512i load_pairs(const void *from, bool bf16, size_t count) {
    if (bf16) return _mm512_maskz_loadu_epi16(count >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << count) - 1, from);
    const float *floats = from;
    const __m512 low = _mm512_maskz_loadu_ps(mask_of(count, 0), floats),
                 high = _mm512_maskz_loadu_ps(mask_of(count, 16), floats + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Sixteen numbers of a row as bfloat16, in the lower halves of words. */
TARGET_PAIRS INLINE __m512i load_halves(const void *from, bool bf16, __mmask16 mask) {
    if (bf16) return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from)));
}

TARGET INLINE const void *at(const word_source *from, size_t index) {
    return from->bf16 ? (const void *)((const uint16_t *)from->at + index) : (const void *)((const float *)from->at + index);
}

/* Columns whose K lies in one run each: sixteen of them at a time are transposed. */
#define PACK_RUNS(NAME, TARGET, GROUP, LOAD)                                                                                   \
    TARGET static void NAME(uint32_t *to, size_t to_stride, const word_source *from, size_t K, size_t columns) {               \
        for (size_t n = 0; n < columns; n += 16)                                                                               \
            for (size_t k = 0; k < K; k += 16 * (GROUP)) {                                                                     \
                const size_t there = columns - n < 16 ? columns - n : 16, words = (K - k + (GROUP)-1) / (GROUP);               \
                const __mmask16 mask = mask_of(columns, n);                                                                    \
                __m512i block[16];                                                                                             \
                UNROLL for (size_t i = 0; i < 16; i++) {                                                                       \
                    const char *run = at(from, (n + (i < there ? i : 0)) * from->n_stride + k);                                \
                    block[i] = LOAD;                                                                                           \
                    _mm_prefetch(run + AHEAD, _MM_HINT_T0);                                                                    \
                }                                                                                                              \
                transpose_words(block);                                                                                        \
                uint32_t *line = to + k / (GROUP)*to_stride + n;                                                               \
                UNROLL for (size_t i = 0; i < 16; i++) if (i < words)                                                          \
                    _mm512_mask_storeu_epi32(line + i * to_stride, mask, block[i]);                                            \
            }                                                                                                                  \
    }
#define UNROLL _Pragma("GCC unroll 16")
enum { AHEAD = 512 }; /* bytes of a run that are fetched before they are needed */
PACK_RUNS(pack_float_runs, TARGET, 1, load_floats((const float *)(const void *)run, K - k))
PACK_RUNS(pack_pair_runs, TARGET_PAIRS, 2, load_pairs(run, from->bf16, K - k))

TARGET static void pack_floats(uint32_t *to, size_t to_stride, const word_source *from, size_t K, size_t columns) {
    if (from->k_stride == 1) {
        pack_float_runs(to, to_stride, from, K, columns);
        return;
    }
    for (size_t k = 0; k < K; k++) memcpy(to + k * to_stride, at(from, k * from->k_stride), columns * sizeof *to);
}

/* 32 words of two whole rows. Rows lie too far apart for the processor to foresee them. */
TARGET_PAIRS INLINE void interleave_rows(uint32_t *to, const word_source *from, size_t k, size_t n) {
    enum { ROWS_AHEAD = 16 };
    const __m512i order_low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                               5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i order_high = _mm512_add_epi16(order_low, _mm512_set1_epi16(16));
    const void *even = at(from, k * from->k_stride + n), *odd = at(from, (k + 1) * from->k_stride + n);
    _mm_prefetch(at(from, (k + ROWS_AHEAD) * from->k_stride + n), _MM_HINT_T0);
    _mm_prefetch(at(from, (k + ROWS_AHEAD + 1) * from->k_stride + n), _MM_HINT_T0);
    const __m512i a = load_pairs(even, from->bf16, 32), b = load_pairs(odd, from->bf16, 32);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, order_low, b));
    _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi16(a, order_high, b));
}

TARGET_PAIRS static void pack_pairs(uint32_t *to, size_t to_stride, const word_source *from, size_t K, size_t columns) {
    if (from->k_stride == 1) {
        pack_pair_runs(to, to_stride, from, K, columns);
        return;
    }
    for (size_t k = 0; k < K; k += 2) {
        size_t n = 0;
        if (k + 1 < K)
            for (; n + 32 <= columns; n += 32) interleave_rows(to + k / 2 * to_stride + n, from, k, n);
        for (; n < columns; n += 16) {
            const __mmask16 mask = mask_of(columns, n);
            const __m512i low = load_halves(at(from, k * from->k_stride + n), from->bf16, mask);
            const __m512i high =
                k + 1 < K ? load_halves(at(from, (k + 1) * from->k_stride + n), from->bf16, mask) : _mm512_setzero_si512();
            _mm512_mask_storeu_epi32(to + k / 2 * to_stride + n, mask, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
        }
    }
}

static const large_product_kernels float_kernels = {.pairs = false, .multiply = multiply_floats, .pack = pack_floats};
static const large_product_kernels pair_kernels = {.pairs = true, .multiply = multiply_pairs, .pack = pack_pairs};
#endif

/* The CPU is asked, and kernels are chosen for tests, in linear_kernels.c. */
const large_product_kernels *large_product_kernels_find(bool pairs) {
#ifdef LIMN_HAVE_KERNELS
    const linear_kernels *small = linear_kernels_find(pairs ? MULTIPLY_BF16 : MULTIPLY_FP32);
    if (pairs) return small != NULL ? &pair_kernels : NULL;
    if (strcmp(small->name, "avx512") == 0) return &float_kernels;
#endif
    (void)pairs;
    return NULL;
}
