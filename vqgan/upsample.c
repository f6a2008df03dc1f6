/* Nearest upsampling and the 3×3 convolution after it, as one.
 *
 * The four pixels that come of one are equal, so every output pixel sees at most 2×2 different input pixels, under sums of the
 * 3×3 taps: together a transposed convolution with a 4×4 kernel and stride 2, at 16/36 of the products and without the
 * enlarged picture. A transposed convolution forward is a convolution's gradient of its input, and the other way round. */
#include "vqgan/internal.h"

#include <string.h>

enum { TAPS = 3, FOLDED = 4, BLOCK = 16 /* channels at a time; VQGAN's are multiples of 32 */ };

/* The convolution whose input is the large picture and whose output is the small one. */
static convolution_shape folded_shape(size_t B, size_t Y, size_t X, size_t C) {
    return (convolution_shape){.B = B,
                               .Y = 2 * Y,
                               .X = 2 * X,
                               .C = C,
                               .O = C,
                               .kernel = FOLDED,
                               .stride = 2,
                               .pad_top = 1,
                               .pad_left = 1,
                               .pad_bottom = 1,
                               .pad_right = 1};
}

/* Tap (y, x) of the 3×3 kernel is part of four taps of the 4×4 one. Small pixel i becomes large pixels 2i + e, e = 0 or 1; tap
 * y takes these to output 2i + e + 1 − y, which is 2 − y + e places after 2i − 1, where the 4×4 kernel begins. (e here counts
 * both directions: 2·e_y + e_x.) */
static size_t folded_tap(size_t y, size_t x, size_t e) {
    return (TAPS - 1 - y + e / 2) * FOLDED + TAPS - 1 - x + e % 2;
}

/* folded (in, 4, 4, out) from weight (out, 3, 3, in), a block of both channels at a time: whole cache lines on either side. */
static void fold(float *folded, const float *weight, size_t C) {
#pragma omp parallel for collapse(2)
    for (size_t first_in = 0; first_in < C; first_in += BLOCK) {
        for (size_t first_out = 0; first_out < C; first_out += BLOCK) {
            float sums[BLOCK][FOLDED * FOLDED][BLOCK] = {{{0}}}; /* [out][tap][in] */
            for (size_t o = 0; o < BLOCK; o++) {
                for (size_t t = 0; t < TAPS * TAPS; t++) {
                    const float *from = weight + ((first_out + o) * TAPS * TAPS + t) * C + first_in;
                    for (size_t e = 0; e < 4; e++) {
                        float *sum = sums[o][folded_tap(t / TAPS, t % TAPS, e)];
                        for (size_t c = 0; c < BLOCK; c++) sum[c] += from[c];
                    }
                }
            }
            for (size_t c = 0; c < BLOCK; c++) {
                for (size_t k = 0; k < FOLDED * FOLDED; k++) {
                    float *to = folded + ((first_in + c) * FOLDED * FOLDED + k) * C + first_out;
                    for (size_t o = 0; o < BLOCK; o++) to[o] = sums[o][k][c];
                }
            }
        }
    }
}

/* dweight (out, 3, 3, in) += what dfolded (in, 4, 4, out) says of it. */
static void unfold(float *dweight, const float *dfolded, size_t C) {
#pragma omp parallel for collapse(2)
    for (size_t first_out = 0; first_out < C; first_out += BLOCK) {
        for (size_t first_in = 0; first_in < C; first_in += BLOCK) {
            float sums[BLOCK][TAPS * TAPS][BLOCK] = {{{0}}}; /* [in][tap][out] */
            for (size_t c = 0; c < BLOCK; c++) {
                const float *from = dfolded + (first_in + c) * FOLDED * FOLDED * C + first_out;
                for (size_t t = 0; t < TAPS * TAPS; t++)
                    for (size_t e = 0; e < 4; e++)
                        for (size_t o = 0; o < BLOCK; o++) sums[c][t][o] += from[folded_tap(t / TAPS, t % TAPS, e) * C + o];
            }
            for (size_t o = 0; o < BLOCK; o++) {
                for (size_t t = 0; t < TAPS * TAPS; t++) {
                    float *to = dweight + ((first_out + o) * TAPS * TAPS + t) * C + first_in;
                    for (size_t c = 0; c < BLOCK; c++) to[c] += sums[c][t][o];
                }
            }
        }
    }
}

void vqgan_upsample_convolution_forward(float *out, const float *in, const float *weight, const float *bias, size_t B, size_t Y,
                                        size_t X, size_t C, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena);
    convolution_shape shape = folded_shape(B, Y, X, C);
    float *folded = limn_arena_floats(arena, C * FOLDED * FOLDED * C);
    fold(folded, weight, C);
    convolution_backward(out, NULL, NULL, in, NULL, folded, &shape, arena);
#pragma omp parallel for
    for (size_t n = 0; n < 4 * B * Y * X; n++)
        for (size_t c = 0; c < C; c++) out[n * C + c] += bias[c];
    limn_arena_release(arena, mark);
}

void vqgan_upsample_convolution_backward(float *din, float *dweight, float *dbias, const float *dout, const float *in,
                                         const float *weight, size_t B, size_t Y, size_t X, size_t C, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena), size = C * FOLDED * FOLDED * C;
    convolution_shape shape = folded_shape(B, Y, X, C);
    float *folded = limn_arena_floats(arena, size), *dfolded = limn_arena_floats(arena, size);
    fold(folded, weight, C);
    convolution_forward(din, dout, folded, NULL, NULL, &shape, arena);
    memset(dfolded, 0, size * sizeof *dfolded);
    convolution_backward(NULL, dfolded, NULL, in, dout, folded, &shape, arena);
    unfold(dweight, dfolded, C);
    /* The bias is added once per large pixel: a 1×1 convolution's. */
    convolution_shape pixels = {.B = B, .Y = 2 * Y, .X = 2 * X, .C = C, .O = C, .kernel = 1, .stride = 1};
    convolution_backward(NULL, NULL, dbias, dout, NULL, NULL, &pixels, arena);
    limn_arena_release(arena, mark);
}
