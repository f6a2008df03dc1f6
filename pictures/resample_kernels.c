/* The two passes of resampling: plain C, and for x86 with 256 and 512-bit vectors. */
#include "pictures/resample.h"

#include <string.h>

enum {
    DOWN_SHIFT = RESAMPLE_WEIGHT - RESAMPLE_FRACTION,
    DOWN_START = (1 << (DOWN_SHIFT - 1)) - (128 << RESAMPLE_WEIGHT),
    ACROSS_SHIFT = RESAMPLE_WEIGHT + RESAMPLE_FRACTION,
    ACROSS_START = (1 << (ACROSS_SHIFT - 1)) + (128 << ACROSS_SHIFT)
};

static void down_portable(int16_t *out, const unsigned char *rows, size_t stride, const int16_t *weights, size_t taps,
                          size_t blocks) {
    for (size_t b = 0; b < blocks; b++) {
        int32_t sums[RESAMPLE_BLOCK];
        for (size_t x = 0; x < RESAMPLE_BLOCK; x++) sums[x] = DOWN_START;
        for (size_t k = 0; k < taps; k++)
            for (size_t x = 0; x < RESAMPLE_BLOCK; x++) sums[x] += weights[k] * rows[k * stride + b * RESAMPLE_BLOCK + x];
        for (size_t x = 0; x < RESAMPLE_BLOCK; x++) out[b * RESAMPLE_BLOCK + x] = (int16_t)(sums[x] >> DOWN_SHIFT);
    }
}

static void pair_portable(int16_t *out, const int16_t *row, size_t pairs) {
    for (size_t i = 0; i < pairs; i++)
        for (size_t c = 0; c < 3; c++) {
            out[i * 8 + c * 2] = row[i * 6 + c];
            out[i * 8 + c * 2 + 1] = row[i * 6 + 3 + c];
        }
}

static void across_portable(unsigned char *const out[RESAMPLE_ROWS], const int16_t *pairs, size_t pitch,
                            const resample_axis *axis) {
    const size_t count = (axis->most_taps + 1) / 2;
    for (size_t r = 0; r < RESAMPLE_ROWS; r++)
        for (size_t x = 0; x < axis->outputs; x++) {
            const int16_t *values = pairs + r * pitch + (size_t)axis->first[x] / 2 * 8,
                          *weights = axis->weights + x * axis->stride;
            int32_t sums[4] = {ACROSS_START, ACROSS_START, ACROSS_START, ACROSS_START};
            for (size_t k = 0; k < count; k++)
                for (size_t c = 0; c < 4; c++)
                    sums[c] += weights[k * 2] * values[k * 8 + c * 2] + weights[k * 2 + 1] * values[k * 8 + c * 2 + 1];
            for (size_t c = 0; c < 3; c++) {
                const int32_t value = sums[c] >> ACROSS_SHIFT;
                out[r][x * 3 + c] = (unsigned char)(value < 0 ? 0 : value > 255 ? 255 : value);
            }
        }
}

static const resample_kernels portable = {"portable", down_portable, pair_portable, across_portable};

#if defined(__x86_64__)
#include <immintrin.h>

/* 6 values in order R G B R G B to R R G G B B. */
#define PAIR_ORDER _mm_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, 12, 13, 14, 15)

/* ---------------------------------------------------------------- AVX2 */

__attribute__((target("avx2"))) static void pair_avx2(int16_t *out, const int16_t *row, size_t pairs) {
    const __m128i order = PAIR_ORDER;
    for (size_t i = 0; i < pairs; i++) {
        const __m128i values = _mm_loadu_si128((const __m128i *)(row + i * 6));
        _mm_storeu_si128((__m128i *)(out + i * 8), _mm_shuffle_epi8(values, order));
    }
}

/* Weights k and k + 1 in one; the last of an odd number has 0 beside it, and its row is read twice. */
static int32_t two_weights(const int16_t *weights) {
    int32_t both;
    memcpy(&both, weights, sizeof both);
    return both;
}

__attribute__((target("avx2"))) static void down_avx2(int16_t *out, const unsigned char *rows, size_t stride,
                                                      const int16_t *weights, size_t taps, size_t blocks) {
    const __m256i zero = _mm256_setzero_si256();
    for (size_t at = 0; at < blocks * RESAMPLE_BLOCK; at += 32) {
        __m256i sums[4];
        for (size_t i = 0; i < 4; i++) sums[i] = _mm256_set1_epi32(DOWN_START);
        for (size_t k = 0; k < taps; k += 2) {
            const unsigned char *row = rows + k * stride + at;
            const __m256i a = _mm256_loadu_si256((const __m256i *)row);
            const __m256i b = _mm256_loadu_si256((const __m256i *)(k + 1 < taps ? row + stride : row));
            const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
            const __m256i weight = _mm256_set1_epi32(two_weights(weights + k));
            sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), weight));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), weight));
            sums[2] = _mm256_add_epi32(sums[2], _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), weight));
            sums[3] = _mm256_add_epi32(sums[3], _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), weight));
        }
        for (size_t i = 0; i < 4; i++) sums[i] = _mm256_srai_epi32(sums[i], DOWN_SHIFT);
        const __m256i low = _mm256_packs_epi32(sums[0], sums[1]), high = _mm256_packs_epi32(sums[2], sums[3]);
        _mm256_storeu_si256((__m256i *)(out + at), _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256((__m256i *)(out + at + 16), _mm256_permute2x128_si256(low, high, 0x31));
    }
}

/* sums: R G B and one more of each row, 1/2^ACROSS_SHIFT. */
__attribute__((target("avx2"))) static inline void write_pixels(unsigned char *const out[RESAMPLE_ROWS], size_t x,
                                                                __m128i sums[RESAMPLE_ROWS]) {
    for (size_t r = 0; r < RESAMPLE_ROWS; r++) sums[r] = _mm_srai_epi32(sums[r], ACROSS_SHIFT);
    const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(sums[0], sums[1]), _mm_packs_epi32(sums[2], sums[3]));
    const int32_t pixels[RESAMPLE_ROWS] = {_mm_cvtsi128_si32(bytes), _mm_extract_epi32(bytes, 1), _mm_extract_epi32(bytes, 2),
                                           _mm_extract_epi32(bytes, 3)};
    for (size_t r = 0; r < RESAMPLE_ROWS; r++) memcpy(out[r] + x * 3, &pixels[r], 4);
}

__attribute__((target("avx2"))) static void across_avx2(unsigned char *const out[RESAMPLE_ROWS], const int16_t *pairs,
                                                        size_t pitch, const resample_axis *axis) {
    const __m256i spread = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i start = _mm256_setr_epi32(ACROSS_START, ACROSS_START, ACROSS_START, ACROSS_START, 0, 0, 0, 0);
    for (size_t x = 0; x < axis->outputs; x++) {
        const int16_t *values = pairs + (size_t)axis->first[x] / 2 * 8, *weights = axis->weights + x * axis->stride;
        __m256i sums[RESAMPLE_ROWS];
        for (size_t r = 0; r < RESAMPLE_ROWS; r++) sums[r] = start;
        for (size_t k = 0; k < axis->most_taps; k += 4) {
            const __m256i four = _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(weights + k)));
            const __m256i weight = _mm256_permutevar8x32_epi32(four, spread);
            for (size_t r = 0; r < RESAMPLE_ROWS; r++) {
                const __m256i value = _mm256_loadu_si256((const __m256i *)(values + r * pitch + k * 4));
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(value, weight));
            }
        }
        __m128i pixels[RESAMPLE_ROWS];
        for (size_t r = 0; r < RESAMPLE_ROWS; r++)
            pixels[r] = _mm_add_epi32(_mm256_castsi256_si128(sums[r]), _mm256_extracti128_si256(sums[r], 1));
        write_pixels(out, x, pixels);
    }
}

static const resample_kernels avx2 = {"avx2", down_avx2, pair_avx2, across_avx2};

/* ---------------------------------------------------------------- AVX-512 */

#define TARGET_512 __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512dq")))

TARGET_512 static void down_avx512(int16_t *out, const unsigned char *rows, size_t stride, const int16_t *weights, size_t taps,
                                   size_t blocks) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i first_half = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                  second_half = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    for (size_t at = 0; at < blocks * RESAMPLE_BLOCK; at += RESAMPLE_BLOCK) {
        __m512i sums[4];
        for (size_t i = 0; i < 4; i++) sums[i] = _mm512_set1_epi32(DOWN_START);
        for (size_t k = 0; k < taps; k += 2) {
            const unsigned char *row = rows + k * stride + at;
            const __m512i a = _mm512_loadu_si512(row), b = _mm512_loadu_si512(k + 1 < taps ? row + stride : row);
            const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
            const __m512i weight = _mm512_set1_epi32(two_weights(weights + k));
            sums[0] = _mm512_add_epi32(sums[0], _mm512_madd_epi16(_mm512_unpacklo_epi8(low, zero), weight));
            sums[1] = _mm512_add_epi32(sums[1], _mm512_madd_epi16(_mm512_unpackhi_epi8(low, zero), weight));
            sums[2] = _mm512_add_epi32(sums[2], _mm512_madd_epi16(_mm512_unpacklo_epi8(high, zero), weight));
            sums[3] = _mm512_add_epi32(sums[3], _mm512_madd_epi16(_mm512_unpackhi_epi8(high, zero), weight));
        }
        for (size_t i = 0; i < 4; i++) sums[i] = _mm512_srai_epi32(sums[i], DOWN_SHIFT);
        const __m512i low = _mm512_packs_epi32(sums[0], sums[1]), high = _mm512_packs_epi32(sums[2], sums[3]);
        _mm512_storeu_si512(out + at, _mm512_permutex2var_epi64(low, first_half, high));
        _mm512_storeu_si512(out + at + 32, _mm512_permutex2var_epi64(low, second_half, high));
    }
}

TARGET_512 static void across_avx512(unsigned char *const out[RESAMPLE_ROWS], const int16_t *pairs, size_t pitch,
                                     const resample_axis *axis) {
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m128i start = _mm_set1_epi32(ACROSS_START);
    for (size_t x = 0; x < axis->outputs; x++) {
        const int16_t *values = pairs + (size_t)axis->first[x] / 2 * 8, *weights = axis->weights + x * axis->stride;
        __m512i sums[RESAMPLE_ROWS];
        for (size_t r = 0; r < RESAMPLE_ROWS; r++) sums[r] = _mm512_setzero_si512();
        for (size_t k = 0; k < axis->most_taps; k += 8) {
            const __m512i eight = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(weights + k)));
            const __m512i weight = _mm512_permutexvar_epi32(spread, eight);
            for (size_t r = 0; r < RESAMPLE_ROWS; r++) {
                const __m512i value = _mm512_loadu_si512(values + r * pitch + k * 4);
                sums[r] = _mm512_add_epi32(sums[r], _mm512_madd_epi16(value, weight));
            }
        }
        __m128i pixels[RESAMPLE_ROWS];
        for (size_t r = 0; r < RESAMPLE_ROWS; r++) {
            const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sums[r]), _mm512_extracti64x4_epi64(sums[r], 1));
            const __m128i quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
            pixels[r] = _mm_add_epi32(quarter, start);
        }
        write_pixels(out, x, pixels);
    }
}

static const resample_kernels avx512 = {"avx512", down_avx512, pair_avx2, across_avx512};
#endif

const resample_kernels *resample_kernels_at(size_t index) {
    const resample_kernels *runs[4] = {0};
    size_t count = 0;
#if defined(__x86_64__)
    const bool has_avx2 = __builtin_cpu_supports("avx2");
    if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        runs[count++] = &avx512;
    if (has_avx2) runs[count++] = &avx2;
#endif
    runs[count++] = &portable;
    return index < count ? runs[index] : NULL;
}
