/* Products and rounding in bfloat16, and the swish, for one instruction set; part of convolution_kernels_body.h. BF16_PRODUCTS
 * is defined where the set multiplies pairs itself. */

typedef uint32_t NAME(pair) __attribute__((may_alias));

/* sum + the two products of each pair. */
TARGET static inline __attribute__((always_inline)) NAME(vector) NAME(add_pairs)(NAME(vector) sum, NAME(bits) a, NAME(bits) b) {
#ifdef BF16_PRODUCTS
    return (NAME(vector))_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum += (NAME(vector))(a & 0xffff0000u) * (NAME(vector))(b & 0xffff0000u);
    return sum + (NAME(vector))(a << 16) * (NAME(vector))(b << 16);
#endif
}

/* Rounded to nearest even; a NaN stays one. */
TARGET static inline __attribute__((always_inline)) void NAME(store_rounded)(uint16_t *to, NAME(vector) value) {
#ifdef BF16_PRODUCTS
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)value));
#else
    typedef uint16_t halves __attribute__((vector_size(VECTOR * 2), aligned(2), may_alias));
    const NAME(bits) word = (NAME(bits))value;
    const NAME(bits) unordered = (NAME(bits))(value != value) & 0x400000u;
    const NAME(bits) rounded = (word + 0x7fffu + ((word >> 16) & 1)) | unordered;
    *(halves *)to = __builtin_convertvector(rounded >> 16, halves);
#endif
}

/* z·σ(z) = z/(1 + 2^power) within a few units in the last place. */
TARGET static inline __attribute__((always_inline)) NAME(vector) NAME(swish)(NAME(vector) z) {
    typedef NAME(vector) vector;
    const float shift = 12582912.0f; /* 1.5·2^23: adding it leaves the nearest integer in the low bits */
    /* below −86 it is nothing; a NaN stays one, being the second operand */
#if VECTOR == 16
    z = (vector)_mm512_max_ps(_mm512_set1_ps(-86), (__m512)z);
    const vector power = (vector)_mm512_max_ps(_mm512_set1_ps(-125), (__m512)(z * -1.44269504f));
#elif VECTOR == 8
    z = (vector)_mm256_max_ps(_mm256_set1_ps(-86), (__m256)z);
    const vector power = (vector)_mm256_max_ps(_mm256_set1_ps(-125), (__m256)(z * -1.44269504f));
#else
    vector power;
    for (size_t i = 0; i < VECTOR; i++) {
        z[i] = z[i] < -86 ? -86 : z[i];
        power[i] = z[i] * -1.44269504f < -125 ? -125 : z[i] * -1.44269504f;
    }
#endif
    const vector shifted = power + shift, r = power - (shifted - shift);
    vector p = r * 0.001339086336f + 0.009676031918f; /* 2^r by Chebyshev's points */
    p = p * r + 0.05550357114f;
    p = p * r + 0.2402210749f;
    p = p * r + 0.693147188f;
    p = p * r + 1.000000075f;
    const vector denominator = (vector)((NAME(bits))p + ((NAME(bits))shifted << 23)) + 1.0f;
#if VECTOR == 16
    /* 14 digits, doubled by Newton's step */
    const vector guess = (vector)_mm512_rcp14_ps((__m512)denominator);
    return z * (guess * (2.0f - denominator * guess));
#else
    return z / denominator;
#endif
}

TARGET static void NAME(read_rows)(float *to, const float *from, const reading *read, size_t rows, size_t C, bool pairs) {
    typedef NAME(vector) vector;
    const bool normed = read->mean != NULL;
    uint16_t *rounded = (uint16_t *)to;
    for (size_t row = 0; row < rows; row++, from += C, to += C, rounded += C)
        for (size_t c = 0; c < C; c += VECTOR) {
            const size_t count = C - c < VECTOR ? C - c : VECTOR;
            float in[4][VECTOR] = {{0}}, out[VECTOR];
            const float *sources[4] = {from, read->mean, read->scale, read->bias};
            for (size_t k = 0; k < (normed ? 4 : 1); k++) {
                sources[k] += c;
                if (count == VECTOR) continue;
                for (size_t i = 0; i < count; i++) in[k][i] = sources[k][i];
                sources[k] = in[k];
            }
            vector value = *(const vector *)sources[0];
            if (normed)
                value = (value - *(const vector *)sources[1]) * *(const vector *)sources[2] + *(const vector *)sources[3];
            if (normed && read->swish) value = NAME(swish)(value);
            if (count == VECTOR && pairs) {
                NAME(store_rounded)(rounded + c, value);
            } else if (count == VECTOR) {
                *(vector *)(to + c) = value;
            } else if (pairs) {
                NAME(store_rounded)((uint16_t *)out, value);
                memcpy(rounded + c, out, count * sizeof *rounded);
            } else {
                *(vector *)out = value;
                memcpy(to + c, out, count * sizeof *to);
            }
        }
}
