/* 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3): a quarter of the multiplications, and sums to and fro around them.
 * The pictures are cut into tiles of 4×4 outputs. A block of tiles that stays in the second cache is transformed (36 numbers
 * for a tile and channel), multiplied with the transformed weights (36 products), and transformed back. */
#include "nn/winograd_internal.h"

#include "core/core.h"
#include "nn/channel_statistics.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum {
    BLOCK_BYTES = 640 << 10, /* of transformed patches at once */
    MOST_TILES = 64,
    FEWEST_TILES = 32,
    WEIGHT_RUN = 1024 /* floats of a tap's weights transformed at once */
};

/* ---------------------------------------------------------------- tiles */

tiling winograd_cut_up(size_t B, size_t rows, size_t columns, size_t most) {
    tiling tiles = {.rows = rows,
                    .columns = columns,
                    .tile_rows = divide_up(rows, WINOGRAD_OUT),
                    .tile_columns = divide_up(columns, WINOGRAD_OUT),
                    .pictures = B,
                    .blocks_of_picture = 1,
                    .pictures_of_block = 1};
    const size_t threads = limn_get_threads(), of_picture = tiles.tile_rows * tiles.tile_columns;
    if (of_picture >= most || B < threads) {
        tiles.blocks_of_picture = divide_up(of_picture, most);
        /* as many blocks for each thread */
        for (size_t i = 0; i < threads && B * tiles.blocks_of_picture % threads != 0; i++) tiles.blocks_of_picture++;
        tiles.at_once = divide_up(of_picture, tiles.blocks_of_picture);
        tiles.blocks_of_picture = divide_up(of_picture, tiles.at_once);
        tiles.blocks = B * tiles.blocks_of_picture;
    } else {
        const size_t wanted = divide_up(B, most / of_picture);
        tiles.blocks = smaller(B, round_up(wanted, threads));
        tiles.pictures_of_block = divide_up(B, tiles.blocks);
        tiles.blocks = divide_up(B, tiles.pictures_of_block);
        tiles.at_once = tiles.pictures_of_block * of_picture;
    }
    return tiles;
}

void winograd_block(const tiling *tiles, size_t block, size_t *first, size_t *count) {
    const size_t of_picture = tiles->tile_rows * tiles->tile_columns;
    const size_t b = block / tiles->blocks_of_picture * tiles->pictures_of_block;
    const size_t start = block % tiles->blocks_of_picture * tiles->at_once;
    const size_t pictures = smaller(tiles->pictures_of_block, tiles->pictures - b);
    *first = b * of_picture + start;
    *count = smaller(tiles->at_once, pictures * of_picture - start);
}

bool winograd_tiles_pay(size_t B, size_t rows, size_t columns, size_t fewest) {
    const size_t tiles = B * divide_up(rows, WINOGRAD_OUT) * divide_up(columns, WINOGRAD_OUT);
    return tiles >= fewest && B * rows * columns * 3 >= tiles * WINOGRAD_OUT * WINOGRAD_OUT * 2;
}

bool winograd_pixels(const float **pixels, size_t size, const float *in, size_t b, size_t Y, size_t X, size_t C, ptrdiff_t top,
                     ptrdiff_t left, size_t shift) {
    const ptrdiff_t bottom = top + (ptrdiff_t)size, right = left + (ptrdiff_t)size;
    const size_t row_floats = (X >> shift) * C;
    const float *picture = in + b * (Y >> shift) * row_floats;
    if (top >= 0 && left >= 0 && bottom <= (ptrdiff_t)Y && right <= (ptrdiff_t)X) { /* nearly always: no questions */
        for (size_t y = (size_t)top; y < (size_t)bottom; y++)
            for (size_t x = (size_t)left; x < (size_t)right; x++)
                *pixels++ = picture + (y >> shift) * row_floats + (x >> shift) * C;
        return false;
    }
    for (ptrdiff_t y = top; y < bottom; y++)
        for (ptrdiff_t x = left; x < right; x++)
            *pixels++ = y >= 0 && y < (ptrdiff_t)Y && x >= 0 && x < (ptrdiff_t)X
                            ? picture + ((size_t)y >> shift) * row_floats + ((size_t)x >> shift) * C
                            : NULL;
    return true;
}

void winograd_patches(const convolution_kernels *kernels, float *to, size_t stride, float *carry, const tiling *tiles,
                      size_t first, size_t count, const winograd_work *work) {
    const float *pixels[WINOGRAD_POINTS];
    const size_t C = work->C, tile_floats = work->pairs ? C / 2 : C;
    patch_work patch = {.pixels = pixels, .carry = carry, .pairs = work->pairs, .stride = stride, .C = C};
    patch.ahead = (work->upsampled ? WINOGRAD_OUT / 2 : WINOGRAD_OUT) * C * sizeof(float);
    for (size_t t = 0; t < count; t++) {
        const size_t column = (first + t) % tiles->tile_columns, row = (first + t) / tiles->tile_columns % tiles->tile_rows;
        const size_t b = (first + t) / tiles->tile_columns / tiles->tile_rows;
        patch.outside = winograd_pixels(pixels, WINOGRAD_PATCH, work->in, b, work->Y, work->X, C,
                                        (ptrdiff_t)(row * WINOGRAD_OUT) + work->dy,
                                        (ptrdiff_t)(column * WINOGRAD_OUT) + work->dx, work->upsampled ? 1 : 0);
        patch.fresh = t == 0 || column == 0;
        patch.to = to + t * tile_floats;
        if (work->terms != NULL) {
            const float *terms = work->terms + b * 3 * C;
            patch.read = (reading){terms, terms + C, terms + 2 * C, work->swish};
        }
        kernels->winograd_patch(&patch);
    }
}

/* ---------------------------------------------------------------- moments */

/* What a block of tiles says of the outputs of one picture: (2, O), mean and sum of squares about it. */
static double *moments_part(double *parts, const tiling *tiles, size_t O, size_t b, size_t block_of_picture) {
    return parts + (b * tiles->blocks_of_picture + block_of_picture) * 2 * O;
}

static size_t pixels_of(const tiling *tiles, size_t first, size_t count) {
    size_t pixels = 0;
    for (size_t t = first; t < first + count; t++) {
        const size_t column = t % tiles->tile_columns * WINOGRAD_OUT;
        const size_t row = t / tiles->tile_columns % tiles->tile_rows * WINOGRAD_OUT;
        pixels += smaller(WINOGRAD_OUT, tiles->rows - row) * smaller(WINOGRAD_OUT, tiles->columns - column);
    }
    return pixels;
}

static void keep_moments(double *part, const running_moments *moments, size_t O, size_t o, size_t channels, size_t pixels) {
    for (size_t i = 0; i < channels; i++) {
        const double sum = (double)moments->sum[i], shift = sum / (double)pixels;
        part[o + i] = (double)moments->pivot[i] + shift;
        part[O + o + i] = fmax(0, (double)moments->squares[i] - sum * shift);
    }
}

/* All blocks of a picture, in order. */
static void merge_moments(double *moments, double *parts, const tiling *tiles, size_t O, size_t b) {
    const size_t of_picture = tiles->tile_rows * tiles->tile_columns;
    double *mean = moments + b * 2 * O, seen = 0;
    memset(mean, 0, 2 * O * sizeof *mean);
    for (size_t block = 0; block < tiles->blocks_of_picture; block++) {
        const size_t start = tiles->pictures_of_block > 1 ? 0 : block * tiles->at_once;
        const size_t count = tiles->pictures_of_block > 1 ? of_picture : smaller(tiles->at_once, of_picture - start);
        const double pixels = (double)pixels_of(tiles, start, count), *part = moments_part(parts, tiles, O, b, block);
        merge_channel_moments(mean, mean + O, part, part + O, seen, pixels, O);
        seen += pixels;
    }
}

/* ---------------------------------------------------------------- forward, and the gradient of the input */

bool winograd_suits(const convolution_kernels *kernels, const tap_sum *sum) {
    if (sum->taps != 9 || sum->step != 1 || sum->out_step != 1) return false;
    if (sum->C % kernels->channel_step != 0 || sum->O % kernels->channel_step != 0) return false;
    for (size_t t = 0; t < 9; t++)
        if (sum->dy[t] != sum->dy[0] + (ptrdiff_t)(t / 3) || sum->dx[t] != sum->dx[0] + (ptrdiff_t)(t % 3)) return false;
    return winograd_tiles_pay(sum->B, sum->rows, sum->columns, 32);
}

/* What one thread works in. */
typedef struct {
    float *patches, *products; /* (36, at_once, C) and (36, at_once, channels of a block), each with a gap after every k */
    size_t patch_stride, product_stride, row_floats;
    const float **rows; /* (36, at_once): the rows of patches */
    float *carry;       /* (12, C) */
} winograd_scratch;

/* The outputs of one block of channels, [first, first + count) tiles. */
static void transform_back(const convolution_kernels *kernels, const winograd_work *work, const tiling *tiles,
                           const winograd_scratch *scratch, size_t first, size_t count, size_t output_block, double *parts) {
    const size_t width = kernels->channels_per_block, o = output_block * width, channels = smaller(width, work->O - o);
    const size_t of_picture = tiles->tile_rows * tiles->tile_columns;
    running_moments moments;
    size_t begin = 0; /* of the picture that is gathered */
    for (size_t t = 0; t < count; t++) {
        const size_t column = (first + t) % tiles->tile_columns * WINOGRAD_OUT;
        const size_t row = (first + t) / tiles->tile_columns % tiles->tile_rows * WINOGRAD_OUT;
        const size_t b = (first + t) / of_picture;
        float *pixels[WINOGRAD_OUT * WINOGRAD_OUT];
        const float *add[WINOGRAD_OUT * WINOGRAD_OUT];
        const size_t place = ((b * work->rows + row) * work->columns + column) * work->O + o;
        for (size_t i = 0; i < WINOGRAD_OUT * WINOGRAD_OUT; i++) {
            const size_t y = i / WINOGRAD_OUT, x = i % WINOGRAD_OUT, at = place + (y * work->columns + x) * work->O;
            const bool inside = row + y < work->rows && column + x < work->columns;
            pixels[i] = inside ? work->out + at : NULL;
            add[i] = inside && work->add != NULL ? work->add + at : NULL;
        }
        kernels->winograd_output(pixels, work->add != NULL ? add : NULL, work->bias + o, scratch->products + t * width,
                                 scratch->product_stride, channels, parts != NULL ? &moments : NULL, t == begin);
        const bool last = t + 1 == count || (first + t + 1) / of_picture != b;
        if (parts == NULL || !last) continue;
        keep_moments(moments_part(parts, tiles, work->O, b, (first + begin) % of_picture / tiles->at_once), &moments, work->O,
                     o, channels, pixels_of(tiles, first + begin, t + 1 - begin));
        begin = t + 1;
    }
}

/* Brings the places of these tiles' outputs into the cache while there are products to compute. */
static void fetch_outputs(const winograd_work *work, const tiling *tiles, size_t first, size_t last, size_t o, size_t width) {
    for (size_t t = first; t < last; t++) {
        const size_t column = t % tiles->tile_columns * WINOGRAD_OUT, row_of_tiles = t / tiles->tile_columns;
        const size_t row = row_of_tiles % tiles->tile_rows * WINOGRAD_OUT, b = row_of_tiles / tiles->tile_rows;
        for (size_t y = row; y < row + WINOGRAD_OUT && y < work->rows; y++) {
            const size_t place = ((b * work->rows + y) * work->columns + column) * work->O + o;
            for (size_t x = 0; x < WINOGRAD_OUT && column + x < work->columns; x++)
                for (size_t i = 0; i < width; i += 16) {
                    __builtin_prefetch(work->out + place + x * work->O + i, 1);
                    if (work->add != NULL && work->add != work->out) __builtin_prefetch(work->add + place + x * work->O + i);
                }
        }
    }
}

static void output_block_products(const convolution_kernels *kernels, const winograd_work *work, const tiling *tiles,
                                  const winograd_scratch *scratch, size_t first, size_t count, size_t output_block,
                                  const size_t *offsets, const float *zeros) {
    const size_t width = kernels->channels_per_block;
    for (size_t k = 0; k < WINOGRAD_POINTS; k++) {
        fetch_outputs(work, tiles, first + k * count / WINOGRAD_POINTS, first + (k + 1) * count / WINOGRAD_POINTS,
                      output_block * width, width);
        product_block block = {.taps = 1,
                               .C = scratch->row_floats,
                               .weights = work->weights + (output_block * WINOGRAD_POINTS + k) * scratch->row_floats * width,
                               .bias = zeros,
                               .out = scratch->products + k * scratch->product_stride,
                               .channels = width};
        size_t blocks = divide_up(count, kernels->pixels_per_block);
        for (size_t t = 0; blocks > 0; t += block.pixels, blocks--) {
            block.pixels = divide_up(count - t, blocks);
            block.in = scratch->rows + k * tiles->at_once + t;
            block.offsets = offsets + t;
            if (work->pairs)
                kernels->product_pairs(&block);
            else
                kernels->product(&block);
        }
    }
}

void winograd_products(const convolution_kernels *kernels, const winograd_work *work, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), threads = limn_get_threads(), width = kernels->channels_per_block;
    const size_t row_floats = work->pairs ? work->C / 2 : work->C, output_blocks = divide_up(work->O, width);
    size_t most = BLOCK_BYTES / (WINOGRAD_POINTS * row_floats * sizeof(float)) / 8 * 8;
    most = most > MOST_TILES ? MOST_TILES : most < FEWEST_TILES ? FEWEST_TILES : most;
    const tiling tiles = winograd_cut_up(work->B, work->rows, work->columns, most);
    /* too few blocks for the threads: the outputs are shared out too, and patches are transformed more than once */
    const size_t groups = tiles.blocks >= threads ? 1 : smaller(output_blocks, divide_up(threads, tiles.blocks));
    float *zeros = limn_arena_floats(arena, width);
    memset(zeros, 0, width * sizeof *zeros);
    size_t *offsets = limn_arena_bytes(arena, tiles.at_once * sizeof *offsets);
    for (size_t t = 0; t < tiles.at_once; t++) offsets[t] = t * width;
    /* 36 strides of a power of two would all fall on one set of the first cache: a cache line more */
    winograd_scratch scratch = {.patch_stride = tiles.at_once * row_floats + 16,
                                .product_stride = tiles.at_once * width + 16,
                                .row_floats = row_floats};
    const size_t patch_floats = WINOGRAD_POINTS * scratch.patch_stride,
                 product_floats = WINOGRAD_POINTS * scratch.product_stride;
    scratch.patches = limn_arena_floats(arena, threads * patch_floats);
    scratch.products = limn_arena_floats(arena, threads * product_floats);
    scratch.rows = limn_arena_bytes(arena, threads * WINOGRAD_POINTS * tiles.at_once * sizeof *scratch.rows);
    scratch.carry = limn_arena_floats(arena, threads * 2 * WINOGRAD_PATCH * work->C);
    double *parts =
        work->moments == NULL ? NULL : limn_arena_bytes(arena, work->B * tiles.blocks_of_picture * 2 * work->O * sizeof *parts);
#pragma omp parallel num_threads((int)threads)
    {
        const size_t thread = (size_t)omp_get_thread_num();
        winograd_scratch mine = scratch;
        mine.patches += thread * patch_floats;
        mine.products += thread * product_floats;
        mine.rows += thread * WINOGRAD_POINTS * tiles.at_once;
        mine.carry += thread * 2 * WINOGRAD_PATCH * work->C;
        for (size_t i = 0; i < WINOGRAD_POINTS * tiles.at_once; i++)
            mine.rows[i] = mine.patches + i / tiles.at_once * mine.patch_stride + i % tiles.at_once * row_floats;
#pragma omp for schedule(dynamic)
        for (size_t item = 0; item < tiles.blocks * groups; item++) {
            size_t first, count;
            winograd_block(&tiles, item / groups, &first, &count);
            const size_t group = item % groups;
            winograd_patches(kernels, mine.patches, mine.patch_stride, mine.carry, &tiles, first, count, work);
            for (size_t block = group * output_blocks / groups; block < (group + 1) * output_blocks / groups; block++) {
                output_block_products(kernels, work, &tiles, &mine, first, count, block, offsets, zeros);
                transform_back(kernels, work, &tiles, &mine, first, count, block, parts);
            }
        }
    }
    for (size_t b = 0; work->moments != NULL && b < work->B; b++) merge_moments(work->moments, parts, &tiles, work->O, b);
    limn_arena_release(arena, mark);
}

void winograd_transform_weights(const convolution_kernels *kernels, float *to, const float *packed, size_t blocks, size_t C) {
    const size_t size = C * kernels->channels_per_block, runs = divide_up(size, WEIGHT_RUN);
#pragma omp parallel for num_threads((int)limn_get_threads()) schedule(static)
    for (size_t i = 0; i < blocks * runs; i++) {
        const size_t block = i / runs, at = i % runs * WEIGHT_RUN;
        kernels->winograd_weights(to + block * WINOGRAD_POINTS * size + at, packed + block * 9 * size + at, size,
                                  smaller(WEIGHT_RUN, size - at));
    }
}

void winograd_run(const convolution_kernels *kernels, const tap_sum *sum, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), output_blocks = divide_up(sum->O, kernels->channels_per_block);
    float *weights = limn_arena_floats(arena, output_blocks * WINOGRAD_POINTS * sum->C * kernels->channels_per_block);
    winograd_transform_weights(kernels, weights, sum->weights, output_blocks, sum->C);
    const winograd_work work = {.in = sum->in,
                                .B = sum->B,
                                .Y = sum->Y,
                                .X = sum->X,
                                .C = sum->C,
                                .O = sum->O,
                                .rows = sum->rows,
                                .columns = sum->columns,
                                .dy = sum->dy[0],
                                .dx = sum->dx[0],
                                .weights = weights,
                                .bias = sum->bias,
                                .add = sum->add,
                                .out = sum->out};
    winograd_products(kernels, &work, arena);
    limn_arena_release(arena, mark);
}
