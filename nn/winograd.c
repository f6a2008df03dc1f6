/* 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3): a quarter of the multiplications, and sums to and fro around them.
 * The pictures are cut into tiles of 4×4 outputs. A block of tiles that stays in the second cache is transformed (36 numbers
 * for a tile and channel), multiplied with the transformed weights (36 products), and transformed back. */
#include "core/core.h"
#include "nn/convolution_internal.h"

#include <omp.h>
#include <string.h>

enum {
    BLOCK_FLOATS = 96 << 10,           /* of transformed patches at once */
    GRADIENT_BLOCK_FLOATS = 384 << 10, /* of transformed patches and gradients at once, for the gradient of the weights */
    MOST_TILES = 64,
    FEWEST_TILES = 16,
    WEIGHT_RUN = 1024 /* floats of a tap's weights transformed at once */
};

/* How pictures are cut up. */
typedef struct {
    size_t rows, columns;           /* outputs of a picture */
    size_t tile_rows, tile_columns; /* tiles of a picture */
    size_t tiles, at_once;
} tiling;

static tiling cut_up(size_t B, size_t rows, size_t columns, size_t floats_of_tile, size_t floats_at_once) {
    tiling tiles = {.rows = rows,
                    .columns = columns,
                    .tile_rows = divide_up(rows, WINOGRAD_OUT),
                    .tile_columns = divide_up(columns, WINOGRAD_OUT)};
    tiles.tiles = B * tiles.tile_rows * tiles.tile_columns;
    size_t most = floats_at_once / floats_of_tile / 8 * 8;
    most = most > MOST_TILES ? MOST_TILES : most < FEWEST_TILES ? FEWEST_TILES : most;
    /* as many blocks for each thread */
    const size_t threads = limn_get_threads(), blocks = divide_up(divide_up(tiles.tiles, most), threads) * threads;
    tiles.at_once = divide_up(divide_up(tiles.tiles, blocks), 8) * 8;
    return tiles;
}

/* Whether tiles of 4×4 fit the pictures and are enough to pay for the transforms of the weights. */
static bool tiles_pay(size_t B, size_t rows, size_t columns, size_t fewest) {
    const size_t tiles = B * divide_up(rows, WINOGRAD_OUT) * divide_up(columns, WINOGRAD_OUT);
    return tiles >= fewest && B * rows * columns * 3 >= tiles * WINOGRAD_OUT * WINOGRAD_OUT * 2;
}

/* pixels[y·size + x] = where pixel (top + y, left + x) of picture b begins, or `outside`. */
static void patch_pixels(const float **pixels, size_t size, const float *in, size_t b, size_t Y, size_t X, size_t C,
                         ptrdiff_t top, ptrdiff_t left, const float *outside) {
    const ptrdiff_t bottom = top + (ptrdiff_t)size, right = left + (ptrdiff_t)size;
    if (top >= 0 && left >= 0 && bottom <= (ptrdiff_t)Y && right <= (ptrdiff_t)X) { /* nearly always: no questions */
        const float *row = in + ((b * Y + (size_t)top) * X + (size_t)left) * C;
        for (size_t y = 0; y < size; y++, row += X * C)
            for (size_t x = 0; x < size; x++) *pixels++ = row + x * C;
        return;
    }
    for (ptrdiff_t y = top; y < bottom; y++)
        for (ptrdiff_t x = left; x < right; x++)
            *pixels++ = y >= 0 && y < (ptrdiff_t)Y && x >= 0 && x < (ptrdiff_t)X
                            ? in + ((b * Y + (size_t)y) * X + (size_t)x) * C
                            : outside;
}

static void transform_patches(const convolution_kernels *kernels, float *to, size_t stride, const tiling *tiles, size_t first,
                              size_t count, const float *in, size_t Y, size_t X, size_t C, ptrdiff_t dy, ptrdiff_t dx,
                              const float *zeros) {
    const float *pixels[WINOGRAD_POINTS];
    for (size_t t = 0; t < count; t++) {
        const size_t column = (first + t) % tiles->tile_columns, row = (first + t) / tiles->tile_columns % tiles->tile_rows;
        patch_pixels(pixels, WINOGRAD_PATCH, in, (first + t) / tiles->tile_columns / tiles->tile_rows, Y, X, C,
                     (ptrdiff_t)(row * WINOGRAD_OUT) + dy, (ptrdiff_t)(column * WINOGRAD_OUT) + dx, zeros);
        kernels->winograd_patch(to + t * C, stride, pixels, C);
    }
}

/* ---------------------------------------------------------------- forward, and the gradient of the input */

bool winograd_suits(const convolution_kernels *kernels, const tap_sum *sum) {
    if (sum->taps != 9 || sum->step != 1 || sum->out_step != 1) return false;
    if (sum->C % kernels->channel_step != 0 || sum->O % kernels->channel_step != 0) return false;
    for (size_t t = 0; t < 9; t++)
        if (sum->dy[t] != sum->dy[0] + (ptrdiff_t)(t / 3) || sum->dx[t] != sum->dx[0] + (ptrdiff_t)(t % 3)) return false;
    return tiles_pay(sum->B, sum->rows, sum->columns, 32);
}

/* What one thread works in. */
typedef struct {
    float *patches, *products; /* (36, at_once, C) and (36, at_once, channels of a block), each with a gap after every k */
    size_t patch_stride, product_stride;
    const float **rows; /* (36, at_once): the rows of patches */
} winograd_scratch;

static void winograd_output_block(const convolution_kernels *kernels, const tap_sum *sum, const tiling *tiles,
                                  const winograd_scratch *scratch, size_t first, size_t count, size_t output_block,
                                  const float *weights, const size_t *offsets, const float *zeros) {
    const size_t width = kernels->channels_per_block, o = output_block * width;
    for (size_t k = 0; k < WINOGRAD_POINTS; k++) {
        product_block block = {.taps = 1,
                               .C = sum->C,
                               .weights = weights + (output_block * WINOGRAD_POINTS + k) * sum->C * width,
                               .bias = zeros,
                               .out = scratch->products + k * scratch->product_stride,
                               .channels = width};
        size_t blocks = divide_up(count, kernels->pixels_per_block);
        for (size_t t = 0; blocks > 0; t += block.pixels, blocks--) {
            block.pixels = divide_up(count - t, blocks);
            block.in = scratch->rows + k * tiles->at_once + t;
            block.offsets = offsets + t;
            kernels->product(&block);
        }
    }
    for (size_t t = 0; t < count; t++) {
        const size_t column = (first + t) % tiles->tile_columns * WINOGRAD_OUT;
        const size_t row = (first + t) / tiles->tile_columns % tiles->tile_rows * WINOGRAD_OUT;
        const size_t b = (first + t) / tiles->tile_columns / tiles->tile_rows;
        float *pixels[WINOGRAD_OUT * WINOGRAD_OUT];
        const float *add[WINOGRAD_OUT * WINOGRAD_OUT];
        for (size_t i = 0; i < WINOGRAD_OUT * WINOGRAD_OUT; i++) {
            const size_t y = row + i / WINOGRAD_OUT, x = column + i % WINOGRAD_OUT;
            const size_t place = ((b * sum->out_Y + y) * sum->out_X + x) * sum->O + o;
            const bool inside = y < sum->rows && x < sum->columns;
            pixels[i] = inside ? sum->out + place : NULL;
            add[i] = inside && sum->add != NULL ? sum->add + place : NULL;
        }
        kernels->winograd_output(pixels, sum->add != NULL ? add : NULL, sum->bias + o, scratch->products + t * width,
                                 scratch->product_stride, smaller(width, sum->O - o));
    }
}

void winograd_run(const convolution_kernels *kernels, const tap_sum *sum, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), threads = limn_get_threads(), width = kernels->channels_per_block, C = sum->C;
    const size_t output_blocks = divide_up(sum->O, width);
    const tiling tiles = cut_up(sum->B, sum->rows, sum->columns, WINOGRAD_POINTS * C, BLOCK_FLOATS);
    const size_t blocks = divide_up(tiles.tiles, tiles.at_once);
    /* too few blocks for the threads: the outputs are shared out too, and patches are transformed more than once */
    const size_t groups = blocks >= threads ? 1 : smaller(output_blocks, divide_up(threads, blocks));
    const size_t zero_count = C > width ? C : width;
    float *zeros = limn_arena_floats(arena, zero_count);
    memset(zeros, 0, zero_count * sizeof *zeros);
    float *weights = limn_arena_floats(arena, output_blocks * WINOGRAD_POINTS * C * width);
    size_t *offsets = limn_arena_bytes(arena, tiles.at_once * sizeof *offsets);
    for (size_t t = 0; t < tiles.at_once; t++) offsets[t] = t * width;
    /* 36 strides of a power of two would all fall on one set of the first cache: a cache line more */
    winograd_scratch scratch = {.patch_stride = tiles.at_once * C + 16, .product_stride = tiles.at_once * width + 16};
    const size_t patch_floats = WINOGRAD_POINTS * scratch.patch_stride,
                 product_floats = WINOGRAD_POINTS * scratch.product_stride;
    scratch.patches = limn_arena_floats(arena, threads * patch_floats);
    scratch.products = limn_arena_floats(arena, threads * product_floats);
    scratch.rows = limn_arena_bytes(arena, threads * WINOGRAD_POINTS * tiles.at_once * sizeof *scratch.rows);
#pragma omp parallel num_threads((int)threads)
    {
        const size_t thread = (size_t)omp_get_thread_num(), runs = divide_up(C * width, WEIGHT_RUN);
        winograd_scratch mine = scratch;
        mine.patches += thread * patch_floats;
        mine.products += thread * product_floats;
        mine.rows += thread * WINOGRAD_POINTS * tiles.at_once;
        for (size_t i = 0; i < WINOGRAD_POINTS * tiles.at_once; i++)
            mine.rows[i] = mine.patches + i / tiles.at_once * mine.patch_stride + i % tiles.at_once * C;
#pragma omp for schedule(static)
        for (size_t i = 0; i < output_blocks * runs; i++) {
            const size_t block = i / runs, at = i % runs * WEIGHT_RUN;
            kernels->winograd_weights(weights + block * WINOGRAD_POINTS * C * width + at,
                                      sum->weights + block * 9 * C * width + at, C * width,
                                      smaller(WEIGHT_RUN, C * width - at));
        }
#pragma omp for schedule(dynamic)
        for (size_t item = 0; item < blocks * groups; item++) {
            const size_t first = item / groups * tiles.at_once, count = smaller(tiles.at_once, tiles.tiles - first);
            const size_t group = item % groups;
            transform_patches(kernels, mine.patches, mine.patch_stride, &tiles, first, count, sum->in, sum->Y, sum->X, C,
                              sum->dy[0], sum->dx[0], zeros);
            for (size_t block = group * output_blocks / groups; block < (group + 1) * output_blocks / groups; block++)
                winograd_output_block(kernels, sum, &tiles, &mine, first, count, block, weights, offsets, zeros);
        }
    }
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- gradient of the weights */

bool winograd_suits_weight(const convolution_kernels *kernels, const convolution_shape *shape) {
    return shape->kernel == 3 && shape->stride == 1 && shape->C % kernels->channel_step == 0 &&
           shape->O % kernels->channel_step == 0 &&
           tiles_pay(shape->B, convolution_out_rows(shape), convolution_out_columns(shape), 16 * limn_get_threads());
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
    const tiling tiles = cut_up(shape->B, convolution_out_rows(shape), convolution_out_columns(shape),
                                WINOGRAD_POINTS * (C + O), GRADIENT_BLOCK_FLOATS);
    const size_t blocks = divide_up(tiles.tiles, tiles.at_once), slices = smaller(threads, blocks);
    const size_t zero_count = C > O ? C : O, size = WINOGRAD_POINTS * O * C;
    float *zeros = limn_arena_floats(arena, zero_count);
    memset(zeros, 0, zero_count * sizeof *zeros);
    const size_t patch_stride = tiles.at_once * C + 16, gradient_stride = tiles.at_once * O + 16;
    float *all_sums = limn_arena_floats(arena, slices * size);
    float *all_patches = limn_arena_floats(arena, slices * WINOGRAD_POINTS * patch_stride);
    float *all_gradients = limn_arena_floats(arena, slices * WINOGRAD_POINTS * gradient_stride);
#pragma omp parallel num_threads((int)threads)
    {
#pragma omp for schedule(static)
        for (size_t slice = 0; slice < slices; slice++) {
            float *sums = all_sums + slice * size, *patches = all_patches + slice * WINOGRAD_POINTS * patch_stride;
            float *gradients = all_gradients + slice * WINOGRAD_POINTS * gradient_stride;
            memset(sums, 0, size * sizeof *sums);
            for (size_t block = slice * blocks / slices; block < (slice + 1) * blocks / slices; block++) {
                const size_t first = block * tiles.at_once, count = smaller(tiles.at_once, tiles.tiles - first);
                transform_patches(kernels, patches, patch_stride, &tiles, first, count, in, shape->Y, shape->X, C,
                                  -(ptrdiff_t)shape->pad_top, -(ptrdiff_t)shape->pad_left, zeros);
                for (size_t t = 0; t < count; t++) {
                    const size_t column = (first + t) % tiles.tile_columns,
                                 row = (first + t) / tiles.tile_columns % tiles.tile_rows;
                    const float *pixels[WINOGRAD_OUT * WINOGRAD_OUT];
                    patch_pixels(pixels, WINOGRAD_OUT, dout, (first + t) / tiles.tile_columns / tiles.tile_rows, tiles.rows,
                                 tiles.columns, O, (ptrdiff_t)(row * WINOGRAD_OUT), (ptrdiff_t)(column * WINOGRAD_OUT), zeros);
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
