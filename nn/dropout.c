/* Inverted dropout, whose random words are Philox' (limn_random_block), sixteen blocks of four beside each other. */
#include "nn/nn.h"

#include <math.h>
#include <string.h>

#include "nn/internal.h"

enum { BLOCKS = 16, WORDS = 4 * BLOCKS };

/* The factors of the words of blocks first … first+15: 0 where a word is below the limit. */
LIMN_CLONES static void factors_of_blocks(float *restrict out, uint64_t first, uint32_t limit, float kept, uint64_t seed,
                                          uint64_t stream) {
#pragma omp simd
    for (uint32_t lane = 0; lane < BLOCKS; lane++) {
        const uint64_t index = first + lane;
        uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
        uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ key0;
            c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ key1;
            c3 = (uint32_t)p0;
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        out[4 * lane] = c0 < limit ? 0.0f : kept;
        out[4 * lane + 1] = c1 < limit ? 0.0f : kept;
        out[4 * lane + 2] = c2 < limit ? 0.0f : kept;
        out[4 * lane + 3] = c3 < limit ? 0.0f : kept;
    }
}

void dropout_factors(float *out, float rate, uint64_t seed, uint64_t stream, size_t start, size_t count) {
    /* An element is dropped when its random word, as a fraction of 2^32, is below the rate. From 1 on nothing is kept. */
    const uint32_t limit = rate < 1.0f ? (uint32_t)ceil((double)rate * 4294967296.0) : UINT32_MAX;
    const float kept = rate < 1.0f ? 1.0f / (1.0f - rate) : 0.0f;
    for (size_t i = 0; i < count;) {
        const size_t block = (start + i) / 4, skip = (start + i) % 4, length = smaller(WORDS - skip, count - i);
        if (length == WORDS)
            factors_of_blocks(out + i, block, limit, kept, seed, stream);
        else {
            float all[WORDS];
            factors_of_blocks(all, block, limit, kept, seed, stream);
            memcpy(out + i, all + skip, length * sizeof *out);
        }
        i += length;
    }
}

void dropout_forward(float *out, const float *in, float rate, uint64_t seed, uint64_t stream, size_t start, size_t n) {
    if (rate <= 0.0f) {
        if (out != in && n > 0) memcpy(out, in, n * sizeof *out);
        return;
    }
    LIMN_FOR_PIECES(piece, n) {
        float factors[LIMN_PIECE];
        dropout_factors(factors, rate, seed, stream, start + piece, piece_length(piece, n));
        multiply_row(out + piece, in + piece, factors, piece_length(piece, n));
    }
}

void dropout_backward(float *din, const float *dout, float rate, uint64_t seed, uint64_t stream, size_t start, size_t n) {
    dropout_forward(din, dout, rate, seed, stream, start, n); /* linear, and its own transpose */
}
