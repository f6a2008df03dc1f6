/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 4. */
#include "core/core.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586476925286766559;

void limn_random_block(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]) {
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ key0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ key1;
        c3 = (uint32_t)p0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t limn_random_u32(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t words[4];
    limn_random_block(seed, stream, index, words);
    return words[0];
}

float limn_random_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return (float)(limn_random_u32(seed, stream, index) >> 8) * 0x1p-24f;
}

float limn_random_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t words[4];
    limn_random_block(seed, stream, index, words);
    double radius = sqrt(-2.0 * log(((double)words[0] + 1.0) * 0x1p-32));
    return (float)(radius * cos(TWO_PI * 0x1p-32 * (double)words[1]));
}

__extension__ typedef unsigned __int128 wide;

/* Lemire, "Fast random integer generation in an interval" (2019): the high half of a product with the bound, where the few
 * low halves that would favour some results are thrown away. */
uint64_t limn_random_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound) {
    if (bound == 0) return 0;
    const uint64_t threshold = (0 - bound) % bound;
    for (uint64_t attempt = 0;; attempt++) {
        uint32_t words[4];
        /* A value that is thrown away is replaced from another stream, so that (seed, stream, index) still decides alone. */
        limn_random_block(seed, stream + attempt * 0x9E3779B97F4A7C15u, index, words);
        for (int half = 0; half < 4; half += 2) {
            uint64_t value = (uint64_t)words[half + 1] << 32 | words[half];
            wide product = (wide)value * bound;
            if ((uint64_t)product >= threshold) return (uint64_t)(product >> 64);
        }
    }
}

void limn_random_fill_normal(float *out, size_t n, float deviation, uint64_t seed, uint64_t stream) {
    size_t blocks = n / 4 + (n % 4 != 0);
#pragma omp parallel for schedule(static) if (n >= 4096)
    for (size_t block = 0; block < blocks; block++) {
        uint32_t words[4];
        float four[4];
        limn_random_block(seed, stream, block, words);
        for (int pair = 0; pair < 4; pair += 2) {
            float radius = sqrtf(-2.0f * logf((float)(((double)words[pair] + 1.0) * 0x1p-32)));
            float angle = (float)(TWO_PI * 0x1p-32 * (double)words[pair + 1]);
            four[pair] = radius * cosf(angle);
            four[pair + 1] = radius * sinf(angle);
        }
        size_t start = block * 4, count = n - start < 4 ? n - start : 4;
        for (size_t i = 0; i < count; i++) out[start + i] = four[i] * deviation;
    }
}

void limn_random_shuffle(uint64_t *order, size_t n, uint64_t seed, uint64_t stream) {
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)limn_random_below(seed, stream, i, i);
        uint64_t swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
}

uint64_t limn_random_stream(const char *name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}
