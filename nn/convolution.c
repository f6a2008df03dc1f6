/* Convolutions as sums over taps. Output pixel p of a convolution is Σ over taps t of in[p·stride + t]·W_t, a product whose
 * left rows are pixels as they lie in memory; so the blocked product of convolution_kernels.h needs only a table that says
 * where each tap of each pixel begins. The gradient of the input is again such a sum (for stride s, one for each of the s·s
 * places of an input pixel within a step), and the gradient of the weights is, for each tap, a product over all pixels. */
#include "core/core.h"
#include "nn/convolution_internal.h"
#include "nn/internal.h"

#include <omp.h>
#include <string.h>

enum {
    TILE_PIXELS = 128,           /* pixels whose table is made at once, and that share a pass over the weights */
    WEIGHTS_IN_CACHE = 48 << 10, /* floats of a block's weights that stay in the second cache while a tile passes */
    GRADIENT_TILE = 48 << 10,    /* floats of both pictures that a thread takes at once for the gradient of the weights */
    BIAS_CHUNK = 256             /* pixels summed in fp32 before they are added in double */
};

size_t convolution_out_rows(const convolution_shape *shape) {
    return (shape->Y + shape->pad_top + shape->pad_bottom - shape->kernel) / shape->stride + 1;
}

size_t convolution_out_columns(const convolution_shape *shape) {
    return (shape->X + shape->pad_left + shape->pad_right - shape->kernel) / shape->stride + 1;
}

/* ---------------------------------------------------------------- sums over taps */

/* Which of `count` outputs, from `first`, read inside [0, size): *begin … *end. */
static void inside(ptrdiff_t shift, size_t step, size_t size, size_t first, size_t count, size_t *begin, size_t *end) {
    /* i·step + shift ≥ 0 and ≤ size − 1 */
    const ptrdiff_t s = (ptrdiff_t)step;
    ptrdiff_t low = shift >= 0 ? 0 : (-shift + s - 1) / s;
    ptrdiff_t high = (ptrdiff_t)size - shift > 0 ? ((ptrdiff_t)size - shift + s - 1) / s : 0;
    const ptrdiff_t a = (ptrdiff_t)first, b = (ptrdiff_t)(first + count);
    if (low < a) low = a;
    if (high > b) high = b;
    if (high < low) high = low = a;
    *begin = (size_t)low;
    *end = (size_t)high;
}

/* Where each tap of pixels [first, first + count) begins, and where each pixel's outputs go. */
static void fill_table(const tap_sum *sum, size_t first, size_t count, const float *zeros, const float **table,
                       size_t *offsets) {
    const size_t picture = sum->rows * sum->columns;
    for (size_t done = 0; done < count;) {
        const size_t b = (first + done) / picture, i = (first + done) % picture / sum->columns;
        const size_t j = (first + done) % sum->columns, run = smaller(count - done, sum->columns - j);
        const size_t place = ((b * sum->out_Y + sum->out_y + i * sum->out_step) * sum->out_X + sum->out_x) * sum->O;
        for (size_t k = 0; k < run; k++) offsets[done + k] = place + (j + k) * sum->out_step * sum->O;
        for (size_t t = 0; t < sum->taps; t++) {
            const float **pointers = table + t * TILE_PIXELS + done;
            const ptrdiff_t y = (ptrdiff_t)(i * sum->step) + sum->dy[t];
            size_t begin = j, end = j;
            if (y >= 0 && y < (ptrdiff_t)sum->Y) inside(sum->dx[t], sum->step, sum->X, j, run, &begin, &end);
            for (size_t k = j; k < begin; k++) pointers[k - j] = zeros;
            if (begin < end) {
                const size_t x = (size_t)((ptrdiff_t)(begin * sum->step) + sum->dx[t]);
                const float *in = sum->in + ((b * sum->Y + (size_t)y) * sum->X + x) * sum->C;
                for (size_t k = 0; k < end - begin; k++) pointers[begin - j + k] = in + k * sum->step * sum->C;
            }
            for (size_t k = end; k < j + run; k++) pointers[k - j] = zeros;
        }
        done += run;
    }
}

/* One block of output channels of one tile of pixels. */
static void tile_product(const convolution_kernels *kernels, const tap_sum *sum, size_t output_block, size_t pixels,
                         const float *const *table, const size_t *offsets, const float *zeros) {
    const size_t width = kernels->channels_per_block, o = output_block * width;
    const size_t taps_at_once = smaller(sum->taps, 1 + WEIGHTS_IN_CACHE / (sum->C * width));
    size_t t = 0;
    do {
        product_block block = {.in_stride = TILE_PIXELS,
                               .taps = smaller(taps_at_once, sum->taps - t),
                               .C = sum->C,
                               .weights = sum->weights + (output_block * sum->taps + t) * sum->C * width,
                               .bias = t == 0 ? sum->bias + o : zeros,
                               .out = sum->out + o,
                               .channels = smaller(width, sum->O - o)};
        block.add = t > 0 ? block.out : sum->add != NULL ? sum->add + o : NULL;
        /* blocks as equal as can be: 16 pixels are 6 + 5 + 5, not 6 + 6 + 4 */
        size_t blocks = divide_up(pixels, kernels->pixels_per_block);
        for (size_t p = 0; blocks > 0; p += block.pixels, blocks--) {
            block.pixels = divide_up(pixels - p, blocks);
            block.in = table + t * TILE_PIXELS + p;
            block.offsets = offsets + p;
            kernels->product(&block);
        }
        t += block.taps;
    } while (t < sum->taps);
}

void direct_run(const convolution_kernels *kernels, const tap_sum *sum, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), threads = limn_get_threads();
    const size_t pixels = sum->B * sum->rows * sum->columns, tiles = divide_up(pixels, TILE_PIXELS);
    const size_t output_blocks = divide_up(sum->O, kernels->channels_per_block);
    /* few tiles: their output channels are shared out too */
    const size_t groups = tiles >= 4 * threads ? 1 : smaller(output_blocks, divide_up(4 * threads, tiles));
    const size_t zero_count = sum->C > kernels->channels_per_block ? sum->C : kernels->channels_per_block;
    float *zeros = limn_arena_floats(arena, zero_count);
    memset(zeros, 0, zero_count * sizeof *zeros);
    const float **tables = limn_arena_bytes(arena, threads * (sum->taps + 1) * TILE_PIXELS * sizeof *tables);
    size_t *offset_lists = limn_arena_bytes(arena, threads * TILE_PIXELS * sizeof *offset_lists);
#pragma omp parallel num_threads((int)threads)
    {
        const size_t thread = (size_t)omp_get_thread_num();
        const float **table = tables + thread * (sum->taps + 1) * TILE_PIXELS;
        size_t *offsets = offset_lists + thread * TILE_PIXELS;
#pragma omp for schedule(dynamic)
        for (size_t item = 0; item < tiles * groups; item++) {
            const size_t first = item / groups * TILE_PIXELS, count = smaller(TILE_PIXELS, pixels - first);
            const size_t group = item % groups;
            fill_table(sum, first, count, zeros, table, offsets);
            for (size_t block = group * output_blocks / groups; block < (group + 1) * output_blocks / groups; block++)
                tile_product(kernels, sum, block, count, table, offsets, zeros);
        }
    }
    limn_arena_release(arena, mark);
}

/* out[x·O + o] += from[x·from_step + o] */
LIMN_INLINE void add_pixels(float *restrict out, const float *restrict from, size_t from_step, size_t count, const size_t O) {
    for (size_t x = 0; x < count; x++)
        for (size_t o = 0; o < O; o++) out[x * O + o] += from[x * from_step + o];
}

/* Three outputs (a picture) or one (the discriminator's verdict) leave most of a block's registers empty. Then each pixel of
 * the input is multiplied with all taps at once, as if they were taps·O outputs of a 1×1 convolution, and every output pixel
 * collects its taps. */
static void collecting_run(const convolution_kernels *kernels, const tap_sum *sum, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), width = kernels->channels_per_block, C = sum->C, O = sum->O;
    const size_t products = sum->taps * O, padded = round_up(products, width);
    float *weights = limn_arena_floats(arena, padded * C), *no_bias = limn_arena_floats(arena, padded);
    float *every = limn_arena_floats(arena, sum->B * sum->Y * sum->X * products);
    memset(weights, 0, padded * C * sizeof *weights);
    memset(no_bias, 0, padded * sizeof *no_bias);
    for (size_t i = 0; i < products; i++)
        for (size_t c = 0; c < C; c++)
            weights[(i / width * C + c) * width + i % width] = sum->weights[(i / O * C + c) * width + i % O];
    const ptrdiff_t nowhere = 0;
    const tap_sum one_tap = {.in = sum->in,
                             .B = sum->B,
                             .Y = sum->Y,
                             .X = sum->X,
                             .C = C,
                             .rows = sum->Y,
                             .columns = sum->X,
                             .step = 1,
                             .taps = 1,
                             .dy = &nowhere,
                             .dx = &nowhere,
                             .weights = weights,
                             .bias = no_bias,
                             .out = every,
                             .out_Y = sum->Y,
                             .out_X = sum->X,
                             .O = products,
                             .out_step = 1};
    direct_run(kernels, &one_tap, arena);
    const size_t threads = limn_get_threads();
    float *lines = limn_arena_floats(arena, threads * sum->columns * O);
#pragma omp parallel num_threads((int)threads)
    {
        float *line = lines + (size_t)omp_get_thread_num() * sum->columns * O;
#pragma omp for schedule(static)
        for (size_t row = 0; row < sum->B * sum->rows; row++) {
            const size_t b = row / sum->rows, i = row % sum->rows;
            memset(line, 0, sum->columns * O * sizeof *line);
            for (size_t t = 0; t < sum->taps; t++) {
                const ptrdiff_t y = (ptrdiff_t)(i * sum->step) + sum->dy[t];
                if (y < 0 || y >= (ptrdiff_t)sum->Y) continue;
                size_t begin, end;
                inside(sum->dx[t], sum->step, sum->X, 0, sum->columns, &begin, &end);
                if (begin == end) continue;
                const size_t x = (size_t)((ptrdiff_t)(begin * sum->step) + sum->dx[t]);
                const float *from = every + ((b * sum->Y + (size_t)y) * sum->X + x) * products + t * O;
                if (O == 3)
                    add_pixels(line + begin * O, from, sum->step * products, end - begin, 3);
                else
                    add_pixels(line + begin * O, from, sum->step * products, end - begin, O);
            }
            const size_t place = ((b * sum->out_Y + sum->out_y + i * sum->out_step) * sum->out_X + sum->out_x) * O;
            for (size_t j = 0; j < sum->columns; j++)
                for (size_t o = 0; o < O; o++) {
                    const size_t at = place + j * sum->out_step * O + o;
                    sum->out[at] = line[j * O + o] + sum->bias[o] + (sum->add != NULL ? sum->add[at] : 0.0f);
                }
        }
    }
    limn_arena_release(arena, mark);
}

static void tap_sum_run(const convolution_kernels *kernels, const tap_sum *sum, limn_arena *arena) {
    if (winograd_suits(kernels, sum))
        winograd_run(kernels, sum, arena);
    else if (sum->O <= 4 && sum->step == 1 && sum->taps > 1)
        collecting_run(kernels, sum, arena);
    else
        direct_run(kernels, sum, arena);
}

/* ---------------------------------------------------------------- forward */

void pack_forward(float *packed, const float *weight, size_t O, size_t taps, size_t C, size_t width) {
    const size_t blocks = divide_up(O, width);
#pragma omp parallel for num_threads((int)limn_get_threads()) if (O * taps * C > 16384)
    for (size_t i = 0; i < blocks * taps; i++) {
        const size_t first = i / taps * width, outputs = smaller(width, O - first);
        const float *from = weight + (first * taps + i % taps) * C;
        float *to = packed + i * C * width;
        if (outputs < width) memset(to, 0, C * width * sizeof *to);
        for (size_t c0 = 0; c0 < C; c0 += 16) /* a cache line of each output at a time */
            for (size_t o = 0; o < outputs; o++)
                for (size_t c = c0; c < smaller(C, c0 + 16); c++) to[c * width + o] = from[o * taps * C + c];
    }
}

void convolution_forward(float *out, const float *in, const float *weight, const float *bias, const float *residual,
                         const convolution_shape *shape, limn_arena *arena) {
    const convolution_kernels *kernels = convolution_kernels_in_use();
    const size_t mark = limn_arena_mark(arena), width = kernels->channels_per_block;
    const size_t taps = shape->kernel * shape->kernel, padded = round_up(shape->O, width);
    ptrdiff_t *dy = limn_arena_bytes(arena, 2 * taps * sizeof *dy), *dx = dy + taps;
    for (size_t t = 0; t < taps; t++) {
        dy[t] = (ptrdiff_t)(t / shape->kernel) - (ptrdiff_t)shape->pad_top;
        dx[t] = (ptrdiff_t)(t % shape->kernel) - (ptrdiff_t)shape->pad_left;
    }
    float *packed = limn_arena_floats(arena, padded * taps * shape->C), *packed_bias = limn_arena_floats(arena, padded);
    pack_forward(packed, weight, shape->O, taps, shape->C, width);
    for (size_t o = 0; o < padded; o++) packed_bias[o] = bias != NULL && o < shape->O ? bias[o] : 0.0f;
    const size_t rows = convolution_out_rows(shape), columns = convolution_out_columns(shape);
    const tap_sum sum = {.in = in,
                         .B = shape->B,
                         .Y = shape->Y,
                         .X = shape->X,
                         .C = shape->C,
                         .rows = rows,
                         .columns = columns,
                         .step = shape->stride,
                         .taps = taps,
                         .dy = dy,
                         .dx = dx,
                         .weights = packed,
                         .bias = packed_bias,
                         .add = residual,
                         .out = out,
                         .out_Y = rows,
                         .out_X = columns,
                         .O = shape->O,
                         .out_step = 1};
    tap_sum_run(kernels, &sum, arena);
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- gradient of the input */

/* The chosen taps of (O, taps, C) to (blocks of C, chosen, O, C within the block), with zeros after the last channel. */
static void pack_backward(float *packed, const float *weight, size_t O, size_t taps, size_t C, const size_t *chosen,
                          size_t chosen_count, size_t width) {
    const size_t blocks = divide_up(C, width);
#pragma omp parallel for num_threads((int)limn_get_threads()) if (O * chosen_count * C > 16384)
    for (size_t i = 0; i < blocks * chosen_count; i++) {
        const size_t first = i / chosen_count * width, channels = smaller(width, C - first);
        for (size_t o = 0; o < O; o++) {
            float *to = packed + (i * O + o) * width;
            memcpy(to, weight + (o * taps + chosen[i % chosen_count]) * C + first, channels * sizeof *to);
            memset(to + channels, 0, (width - channels) * sizeof *to);
        }
    }
}

/* Input pixels y = i·stride + remainder: output row y′ reads them by tap k when y′·stride + k = y + pad, so by every stride-th
 * tap, and y′ = i + (remainder + pad − k)/stride. Returns how many taps, with tap numbers and
 * shifts, the shifts rising. */
static size_t taps_of_remainder(size_t kernel, size_t stride, size_t pad, size_t remainder, size_t *tap, ptrdiff_t *shift) {
    const size_t lowest = (remainder + pad) % stride, count = lowest < kernel ? divide_up(kernel - lowest, stride) : 0;
    for (size_t i = 0; i < count; i++) {
        tap[i] = lowest + (count - 1 - i) * stride;
        shift[i] = ((ptrdiff_t)(remainder + pad) - (ptrdiff_t)tap[i]) / (ptrdiff_t)stride;
    }
    return count;
}

static void backward_input(const convolution_kernels *kernels, float *din, const float *dout, const float *weight,
                           const convolution_shape *shape, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), width = kernels->channels_per_block, kernel = shape->kernel;
    const size_t taps = kernel * kernel, stride = shape->stride, padded = round_up(shape->C, width);
    size_t *chosen = limn_arena_bytes(arena, (taps + 2 * kernel) * sizeof *chosen);
    size_t *tap_y = chosen + taps, *tap_x = tap_y + kernel;
    ptrdiff_t *dy = limn_arena_bytes(arena, 2 * (taps + kernel) * sizeof *dy), *dx = dy + taps;
    ptrdiff_t *shift_y = dx + taps, *shift_x = shift_y + kernel;
    float *packed = limn_arena_floats(arena, padded * taps * shape->O), *no_bias = limn_arena_floats(arena, padded);
    memset(no_bias, 0, padded * sizeof *no_bias);
    for (size_t y = 0; y < smaller(stride, shape->Y); y++)
        for (size_t x = 0; x < smaller(stride, shape->X); x++) {
            const size_t count_y = taps_of_remainder(kernel, stride, shape->pad_top, y, tap_y, shift_y);
            const size_t count_x = taps_of_remainder(kernel, stride, shape->pad_left, x, tap_x, shift_x);
            for (size_t t = 0; t < count_y * count_x; t++) {
                chosen[t] = tap_y[t / count_x] * kernel + tap_x[t % count_x];
                dy[t] = shift_y[t / count_x];
                dx[t] = shift_x[t % count_x];
            }
            pack_backward(packed, weight, shape->O, taps, shape->C, chosen, count_y * count_x, width);
            const tap_sum sum = {.in = dout,
                                 .B = shape->B,
                                 .Y = convolution_out_rows(shape),
                                 .X = convolution_out_columns(shape),
                                 .C = shape->O,
                                 .rows = divide_up(shape->Y - y, stride),
                                 .columns = divide_up(shape->X - x, stride),
                                 .step = 1,
                                 .taps = count_y * count_x,
                                 .dy = dy,
                                 .dx = dx,
                                 .weights = packed,
                                 .bias = no_bias,
                                 .out = din,
                                 .out_Y = shape->Y,
                                 .out_X = shape->X,
                                 .O = shape->C,
                                 .out_y = y,
                                 .out_x = x,
                                 .out_step = stride};
            tap_sum_run(kernels, &sum, arena);
        }
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- gradient of the weights */

/* The work is cut into slices of pixels, each with a sum of its own (slice 0 adds to dweight itself), and within a slice into
 * blocks of outputs. */
typedef struct {
    float *dweight; /* (O, taps, C) */
    const float *dout, *in;
    const convolution_shape *shape;
    size_t rows, columns; /* of dout */
    size_t tile_rows;     /* rows of dout of one picture that are taken at once */
    size_t tiles;         /* B·⌈rows/tile_rows⌉ */
} weight_gradient;

/* Adds to dweight what one tile says of outputs [first, last). */
static void weight_gradient_tile(const convolution_kernels *kernels, const weight_gradient *work, float *dweight, size_t tile,
                                 size_t first, size_t last) {
    const convolution_shape *shape = work->shape;
    const size_t tiles_of_picture = divide_up(work->rows, work->tile_rows), kernel = shape->kernel;
    const size_t C = shape->C, O = shape->O, taps = kernel * kernel;
    const size_t b = tile / tiles_of_picture, row = tile % tiles_of_picture * work->tile_rows;
    const size_t row_count = smaller(work->tile_rows, work->rows - row);
    for (size_t t = 0; t < taps; t++) {
        const ptrdiff_t dy = (ptrdiff_t)(t / kernel) - (ptrdiff_t)shape->pad_top;
        const ptrdiff_t dx = (ptrdiff_t)(t % kernel) - (ptrdiff_t)shape->pad_left;
        size_t y, y_end, x, x_end;
        inside(dy, shape->stride, shape->Y, row, row_count, &y, &y_end);
        inside(dx, shape->stride, shape->X, 0, work->columns, &x, &x_end);
        if (y == y_end || x == x_end) continue;
        const size_t in_y = (size_t)((ptrdiff_t)(y * shape->stride) + dy), in_x = (size_t)((ptrdiff_t)(x * shape->stride) + dx);
        const float *in = work->in + ((b * shape->Y + in_y) * shape->X + in_x) * C;
        const float *dout = work->dout + ((b * work->rows + y) * work->columns + x) * O;
        weight_gradient_block block = {.dout_row = work->columns * O,
                                       .dout_pixel = O,
                                       .in_row = shape->stride * shape->X * C,
                                       .in_pixel = shape->stride * C,
                                       .rows = y_end - y,
                                       .columns = x_end - x,
                                       .dweight_stride = taps * C};
        for (size_t c = 0; c < C; c += block.channels) {
            block.channels = C - c >= kernels->gradient_channels ? kernels->gradient_channels : kernels->channel_step;
            block.in = in + c;
            for (size_t o = first; o < last; o += block.outputs) {
                block.outputs = smaller(kernels->gradient_outputs, last - o);
                block.dout = dout + o;
                block.dweight = dweight + (o * taps + t) * C + c;
                kernels->weight_gradient(&block);
            }
        }
    }
}

/* Of a shape whose C is a multiple of the kernels' step. */
static void backward_weight(const convolution_kernels *kernels, float *dweight, const float *dout, const float *in,
                            const convolution_shape *shape, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), threads = limn_get_threads();
    weight_gradient work = {.dweight = dweight,
                            .dout = dout,
                            .in = in,
                            .shape = shape,
                            .rows = convolution_out_rows(shape),
                            .columns = convolution_out_columns(shape)};
    const size_t row_floats = shape->stride * shape->X * shape->C + work.columns * shape->O;
    work.tile_rows = smaller(work.rows, 1 + GRADIENT_TILE / row_floats);
    work.tiles = shape->B * divide_up(work.rows, work.tile_rows);
    /* Threads share out the outputs first, which costs no second copy of the sums; what is over, the pixels. */
    const size_t output_blocks = divide_up(shape->O, kernels->gradient_outputs);
    const size_t groups = smaller(threads, output_blocks), slices = smaller(work.tiles, divide_up(threads, groups));
    const size_t size = shape->O * shape->kernel * shape->kernel * shape->C;
    float *sums = limn_arena_floats(arena, (slices - 1) * size);
#pragma omp parallel num_threads((int)threads)
    {
#pragma omp for schedule(static)
        for (size_t item = 0; item < groups * slices; item++) {
            const size_t slice = item / groups, group = item % groups;
            const size_t first = group * output_blocks / groups * kernels->gradient_outputs;
            const size_t last = smaller(shape->O, (group + 1) * output_blocks / groups * kernels->gradient_outputs);
            float *sum = dweight;
            if (slice > 0) {
                sum = sums + (slice - 1) * size;
                memset(sum + first * (size / shape->O), 0, (last - first) * (size / shape->O) * sizeof *sum);
            }
            for (size_t tile = slice * work.tiles / slices; tile < (slice + 1) * work.tiles / slices; tile++)
                weight_gradient_tile(kernels, &work, sum, tile, first, last);
        }
        if (slices > 1) {
#pragma omp for schedule(static)
            for (size_t i = 0; i < size; i++)
                for (size_t slice = 1; slice < slices; slice++) dweight[i] += sums[(slice - 1) * size + i];
        }
    }
    limn_arena_release(arena, mark);
}

/* in (B,Y,X,C) as patches (pixels, width): every tap's channels one after another, then zeros. */
static void copy_patches(float *patches, const float *in, const convolution_shape *shape, size_t width) {
    const size_t rows = convolution_out_rows(shape), columns = convolution_out_columns(shape);
#pragma omp parallel for num_threads((int)limn_get_threads()) schedule(static)
    for (size_t row = 0; row < shape->B * rows; row++) {
        float *patch = patches + row * columns * width;
        for (size_t x = 0; x < columns; x++, patch += width) {
            memset(patch, 0, width * sizeof *patch);
            for (size_t ky = 0; ky < shape->kernel; ky++) {
                const size_t y_padded = row % rows * shape->stride + ky, x_padded = x * shape->stride;
                if (y_padded < shape->pad_top || y_padded >= shape->Y + shape->pad_top) continue;
                /* taps [from, to) of this row lie inside */
                const size_t from = x_padded < shape->pad_left ? smaller(shape->kernel, shape->pad_left - x_padded) : 0;
                const size_t limit = shape->X + shape->pad_left;
                const size_t to = smaller(shape->kernel, limit > x_padded ? limit - x_padded : 0);
                if (from >= to) continue;
                const size_t y = row / rows * shape->Y + y_padded - shape->pad_top;
                memcpy(patch + (ky * shape->kernel + from) * shape->C,
                       in + (y * shape->X + x_padded + from - shape->pad_left) * shape->C,
                       (to - from) * shape->C * sizeof *patch);
            }
        }
    }
}

/* A few channels (a picture's three) do not fill a register: then the patches are copied out and it is a 1×1 convolution of
 * them, with the taps' channels for channels. */
static void backward_weight_by_patches(const convolution_kernels *kernels, float *dweight, const float *dout, const float *in,
                                       const convolution_shape *shape, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), size = shape->kernel * shape->kernel * shape->C;
    const size_t width = round_up(size, kernels->channel_step);
    const convolution_shape patch_shape = {.B = shape->B,
                                           .Y = convolution_out_rows(shape),
                                           .X = convolution_out_columns(shape),
                                           .C = width,
                                           .O = shape->O,
                                           .kernel = 1,
                                           .stride = 1};
    float *patches = limn_arena_floats(arena, patch_shape.B * patch_shape.Y * patch_shape.X * width);
    float *sums = limn_arena_floats(arena, shape->O * width);
    copy_patches(patches, in, shape, width);
    memset(sums, 0, shape->O * width * sizeof *sums);
    backward_weight(kernels, sums, dout, patches, &patch_shape, arena);
    for (size_t o = 0; o < shape->O; o++)
        for (size_t k = 0; k < size; k++) dweight[o * size + k] += sums[o * width + k];
    limn_arena_release(arena, mark);
}

LIMN_CLONES static void add_rows(float *restrict sum, const float *restrict rows, size_t count, size_t O) {
    size_t n = 0;
    for (; n + 4 <= count; n += 4, rows += 4 * O)
        for (size_t o = 0; o < O; o++) sum[o] += (rows[o] + rows[O + o]) + (rows[2 * O + o] + rows[3 * O + o]);
    for (; n < count; n++, rows += O)
        for (size_t o = 0; o < O; o++) sum[o] += rows[o];
}

/* dbias (O) += column sums of dout (N, O). */
static void backward_bias(float *dbias, const float *dout, size_t N, size_t O, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), threads = limn_get_threads(), chunks = divide_up(N, BIAS_CHUNK);
    double *sums = limn_arena_bytes(arena, threads * O * sizeof *sums);
    float *chunk_sums = limn_arena_floats(arena, threads * O);
#pragma omp parallel for num_threads((int)threads) schedule(static)
    for (size_t slice = 0; slice < threads; slice++) {
        double *sum = sums + slice * O;
        float *chunk_sum = chunk_sums + slice * O;
        memset(sum, 0, O * sizeof *sum);
        for (size_t chunk = slice * chunks / threads; chunk < (slice + 1) * chunks / threads; chunk++) {
            memset(chunk_sum, 0, O * sizeof *chunk_sum);
            const size_t first = chunk * BIAS_CHUNK;
            add_rows(chunk_sum, dout + first * O, smaller(BIAS_CHUNK, N - first), O);
            for (size_t o = 0; o < O; o++) sum[o] += (double)chunk_sum[o];
        }
    }
    for (size_t o = 0; o < O; o++) {
        double sum = 0;
        for (size_t slice = 0; slice < threads; slice++) sum += sums[slice * O + o];
        dbias[o] += (float)sum;
    }
    limn_arena_release(arena, mark);
}

void convolution_backward(float *din, float *dweight, float *dbias, const float *dout, const float *in, const float *weight,
                          const convolution_shape *shape, limn_arena *arena) {
    const convolution_kernels *kernels = convolution_kernels_in_use();
    if (din != NULL) backward_input(kernels, din, dout, weight, shape, arena);
    if (dweight != NULL && winograd_suits_weight(kernels, shape))
        winograd_backward_weight(kernels, dweight, dout, in, shape, arena);
    else if (dweight != NULL && shape->C % kernels->channel_step == 0)
        backward_weight(kernels, dweight, dout, in, shape, arena);
    else if (dweight != NULL)
        backward_weight_by_patches(kernels, dweight, dout, in, shape, arena);
    if (dbias != NULL)
        backward_bias(dbias, dout, shape->B * convolution_out_rows(shape) * convolution_out_columns(shape), shape->O, arena);
}
