/* What winograd.c and winograd_gradient.c share: how pictures are cut up into tiles of 4×4 outputs. */
#ifndef LIMN_NN_WINOGRAD_INTERNAL_H
#define LIMN_NN_WINOGRAD_INTERNAL_H

#include "nn/convolution_internal.h"

/* A block is a run of tiles of one picture, or all tiles of some whole pictures. */
typedef struct {
    size_t rows, columns;                                  /* outputs of a picture */
    size_t tile_rows, tile_columns;                        /* tiles of a picture */
    size_t pictures, blocks_of_picture, pictures_of_block; /* one of the latter two is 1 */
    size_t blocks, at_once;                                /* at most so many tiles in a block */
} tiling;

/* Into blocks of at most `most` tiles (or one picture's, where that is more), as equal for the threads as can be. */
tiling winograd_cut_up(size_t B, size_t rows, size_t columns, size_t most);
/* Tiles [*first, *first + *count) of all pictures' are block number `block`. */
void winograd_block(const tiling *tiles, size_t block, size_t *first, size_t *count);

/* pixels[y·size + x] = where pixel (top + y, left + x) of picture b begins, or NULL. The picture is (Y >> shift, X >> shift)
 * in memory. True when one is NULL. */
bool winograd_pixels(const float **pixels, size_t size, const float *in, size_t b, size_t Y, size_t X, size_t C, ptrdiff_t top,
                     ptrdiff_t left, size_t shift);

/* The patches of a block: number k of tile t begins at to[k·stride + t·(floats of a tile)]. carry: (12, C) to work in. */
void winograd_patches(const convolution_kernels *kernels, float *to, size_t stride, float *carry, const tiling *tiles,
                      size_t first, size_t count, const winograd_work *work);

#endif
