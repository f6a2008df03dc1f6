/* The gradient of a 3×3 convolution's weights by the adjoints of Winograd's transforms. */
#include "nn/winograd_internal.h"

#include "core/core.h"

#include <omp.h>
#include <string.h>

enum {
    BLOCK_FLOATS = 384 << 10, /* of transformed patches and gradients at once */
    MOST_TILES = 64,
    FEWEST_TILES = 16
};

bool winograd_suits_weight(const convolution_kernels *kernels, const convolution_shape *shape) {
    return shape->kernel == 3 && shape->stride == 1 && shape->C % kernels->channel_step == 0 &&
           shape->O % kernels->channel_step == 0 &&
           winograd_tiles_pay(shape->B, convolution_out_rows(shape), convolution_out_columns(shape), 16 * limn_get_threads());
}

/* sums (36, O, C) += the products of count transformed gradients and patches. */
static void add_products(const convolution_kernels *kernels, float *sums, const float *gradients, size_t gradient_stride,
                         const float *patches, size_t patch_stride, size_t count, size_t O, size_t C) {
    for (size_t k = 0; k < WINOGRAD_POINTS; k++) {
        weight_gradient_block block = {.dout_pixel = O, .in_pixel = C, .rows = 1, .columns = count, .dweight_stride = C};
        for (size_t c = 0; c < C; c += block.channels) {
            block.channels = C - c >= kernels->gradient_channels ? kernels->gradient_channels : kernels->channel_step;
            block.in = patches + k * patch_stride + c;
            for (size_t o = 0; o < O; o += block.outputs) {
                block.outputs = smaller(kernels->gradient_outputs, O - o);
                block.dout = gradients + k * gradient_stride + o;
                block.dweight = sums + (k * O + o) * C + c;
                kernels->weight_gradient(&block);
            }
        }
    }
}

void winograd_backward_weight(const convolution_kernels *kernels, float *dweight, const float *dout, const float *in,
                              const convolution_shape *shape, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), threads = limn_get_threads(), C = shape->C, O = shape->O;
    size_t most = BLOCK_FLOATS / (WINOGRAD_POINTS * (C + O)) / 8 * 8;
    most = most > MOST_TILES ? MOST_TILES : most < FEWEST_TILES ? FEWEST_TILES : most;
    const tiling tiles = winograd_cut_up(shape->B, convolution_out_rows(shape), convolution_out_columns(shape), most);
    const size_t blocks = tiles.blocks, slices = smaller(threads, blocks), size = WINOGRAD_POINTS * O * C;
    const winograd_work patches_of = {
        .in = in, .Y = shape->Y, .X = shape->X, .C = C, .dy = -(ptrdiff_t)shape->pad_top, .dx = -(ptrdiff_t)shape->pad_left};
    float *zeros = limn_arena_floats(arena, O);
    memset(zeros, 0, O * sizeof *zeros);
    const size_t patch_stride = tiles.at_once * C + 16, gradient_stride = tiles.at_once * O + 16;
    float *all_sums = limn_arena_floats(arena, slices * size);
    float *all_patches = limn_arena_floats(arena, slices * WINOGRAD_POINTS * patch_stride);
    float *all_gradients = limn_arena_floats(arena, slices * WINOGRAD_POINTS * gradient_stride);
    float *carries = limn_arena_floats(arena, slices * 2 * WINOGRAD_PATCH * C);
#pragma omp parallel num_threads((int)threads)
    {
#pragma omp for schedule(static)
        for (size_t slice = 0; slice < slices; slice++) {
            float *sums = all_sums + slice * size, *patches = all_patches + slice * WINOGRAD_POINTS * patch_stride;
            float *gradients = all_gradients + slice * WINOGRAD_POINTS * gradient_stride;
            memset(sums, 0, size * sizeof *sums);
            for (size_t block = slice * blocks / slices; block < (slice + 1) * blocks / slices; block++) {
                size_t first, count;
                winograd_block(&tiles, block, &first, &count);
                winograd_patches(kernels, patches, patch_stride, carries + slice * 2 * WINOGRAD_PATCH * C, &tiles, first, count,
                                 &patches_of);
                for (size_t t = 0; t < count; t++) {
                    const size_t column = (first + t) % tiles.tile_columns,
                                 row = (first + t) / tiles.tile_columns % tiles.tile_rows;
                    const float *pixels[WINOGRAD_OUT * WINOGRAD_OUT];
                    winograd_pixels(pixels, WINOGRAD_OUT, dout, (first + t) / tiles.tile_columns / tiles.tile_rows, tiles.rows,
                                    tiles.columns, O, (ptrdiff_t)(row * WINOGRAD_OUT), (ptrdiff_t)(column * WINOGRAD_OUT), 0);
                    for (size_t i = 0; i < WINOGRAD_OUT * WINOGRAD_OUT; i++)
                        if (pixels[i] == NULL) pixels[i] = zeros;
                    kernels->winograd_output_gradient(gradients + t * O, gradient_stride, pixels, O);
                }
                add_products(kernels, sums, gradients, gradient_stride, patches, patch_stride, count, O, C);
            }
        }
#pragma omp for schedule(static)
        for (size_t o = 0; o < O; o++) {
            for (size_t slice = 1; slice < slices; slice++)
                for (size_t k = 0; k < WINOGRAD_POINTS; k++) {
                    float *to = all_sums + (k * O + o) * C;
                    const float *from = to + slice * size;
                    for (size_t c = 0; c < C; c++) to[c] += from[c];
                }
            kernels->winograd_weight_gradient(dweight + o * 9 * C, all_sums + o * C, O * C, C);
        }
    }
    limn_arena_release(arena, mark);
}
