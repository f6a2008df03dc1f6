/* Resampling, for resize.c and its tests. Nothing outside the folder includes this but those. */
#ifndef LIMN_PICTURES_RESAMPLE_H
#define LIMN_PICTURES_RESAMPLE_H

#include "pictures/internal.h"

/* A part of a picture in its pixels, (0, 0) being the first one's corner. */
typedef struct {
    double left, top, width, height;
} picture_part;

enum {
    RESAMPLE_BLOCK = 64,  /* bytes of a row that `down` takes at a time */
    RESAMPLE_ROWS = 4,    /* rows that `across` makes at a time */
    RESAMPLE_WEIGHT = 14, /* bits of the sum of a pixel's weights */
    RESAMPLE_FRACTION = 7 /* bits after the point between the passes; the values there are 128 less than the pixels' */
};

/* The weights of one pass. Output i is the sum of weights[i · stride + k] times input start + first[i] + k, 0 ≤ k < taps[i];
 * the further weights up to `stride` are 0. */
typedef struct {
    size_t outputs, start, inputs; /* inputs: how many from `start` on take part */
    size_t stride, most_taps;      /* stride: a multiple of 8 */
    uint32_t *first, *taps;
    int16_t *weights;
} resample_axis;
/* `outputs` pixels over [from, from + length) of `size` pixels. With `even` each first[i] is even. */
int resample_axis_make(resample_axis *self, size_t size, double from, double length, size_t outputs, bool lanczos, bool even,
                       limn_error *error);
void resample_axis_free(resample_axis *self);

/* The two passes for one kind of processor. All kinds give the same bytes. */
typedef struct {
    const char *name;
    /* out[x] = Σ weights[k] · rows[k · stride + x], x up to blocks · RESAMPLE_BLOCK: all of them are read. */
    void (*down)(int16_t *out, const unsigned char *rows, size_t stride, const int16_t *weights, size_t taps, size_t blocks);
    /* Of two RGB pixels each: R0 R1 G0 G1 B0 B1 and two values of no meaning. Reads 8 values a pair, of which it wants 6. */
    void (*pair)(int16_t *out, const int16_t *row, size_t pairs);
    /* Each out[r] is (outputs, 3), and one byte after it is written too; pairs: RESAMPLE_ROWS rows, `pitch` values apart. */
    void (*across)(unsigned char *const out[RESAMPLE_ROWS], const int16_t *pairs, size_t pitch, const resample_axis *axis);
} resample_kernels;
/* The kinds that this processor runs, the fastest first; NULL after the last. */
const resample_kernels *resample_kernels_at(size_t index);

/* Draws `part` of `in` over all of `out`, which has its size and memory. `kernels`: NULL for the fastest. */
int picture_resample(const picture *in, const picture_part *part, picture *out, const resample_kernels *kernels,
                     limn_error *error);

#endif
