/* Convolutions for inference: weights are laid out, transformed and rounded once, and norms, activations and upsampling are
 * done as the input is read. */
#include "core/core.h"
#include "nn/channel_statistics.h"
#include "nn/convolution_internal.h"
#include "nn/internal.h"
#include "nn/math_inline.h"
#include "nn/onednn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_RUN = 64, MOMENT_RUN = 512 /* pixels that a thread takes at once */ };

struct packed_convolution {
    convolution_shape shape;
    const convolution_kernels *kernels; /* that the weights are laid out for */
    bool winograd, pairs;
    onednn_convolution *library; /* of one picture; what follows is not used then */
    limn_arena *room;            /* of the weights */
    float *weights, *bias;
    ptrdiff_t *dy, *dx; /* (taps) */
};

/* ---------------------------------------------------------------- packing */

/* to (rows/2, width) pairs of from (rows, width). */
LIMN_CLONES static void pair_rows(uint32_t *restrict to, const float *restrict from, size_t rows, size_t width) {
    for (size_t row = 0; row < rows; row += 2, from += 2 * width, to += width)
        for (size_t i = 0; i < width; i++)
            to[i] = (uint32_t)limn_bf16_from_float(from[width + i]) << 16 | limn_bf16_from_float(from[i]);
}

/* One block of outputs after another, so that no more than one stands in fp32 beside its pairs. */
static void pack_weights(packed_convolution *self, const float *weight, float *room) {
    const convolution_kernels *kernels = self->kernels;
    const size_t width = kernels->channels_per_block, C = self->shape.C, taps = self->shape.kernel * self->shape.kernel;
    const size_t points = self->winograd ? WINOGRAD_POINTS : taps, panel = points * C * width;
    float *plain = room, *transformed = self->winograd ? room + taps * C * width : plain;
    for (size_t block = 0; block < divide_up(self->shape.O, width); block++) {
        const size_t first = block * width;
        pack_forward(plain, weight + first * taps * C, smaller(width, self->shape.O - first), taps, C, width);
        if (self->winograd) winograd_transform_weights(kernels, transformed, plain, 1, C);
        if (self->pairs)
            pair_rows((uint32_t *)self->weights + block * panel / 2, transformed, points * C, width);
        else
            memcpy(self->weights + block * panel, transformed, panel * sizeof *transformed);
    }
}

static bool winograd_fits(const convolution_kernels *kernels, const convolution_shape *shape) {
    return shape->kernel == 3 && shape->stride == 1 && shape->C % kernels->channel_step == 0 &&
           winograd_tiles_pay(1, convolution_out_rows(shape), convolution_out_columns(shape), 1);
}

packed_convolution *packed_convolution_create(const float *weight, const float *bias, const convolution_shape *shape,
                                              nn_precision precision, limn_error *error) {
    packed_convolution *self = limn_allocate(1, sizeof *self, error);
    if (self == NULL) return NULL;
    const convolution_kernels *kernels = convolution_kernels_in_use();
    const size_t width = kernels->channels_per_block, blocks = divide_up(shape->O, width), taps = shape->kernel * shape->kernel;
    self->shape = *shape;
    self->kernels = kernels;
    if (backend_for(precision) == BACKEND_ONEDNN) {
        convolution_shape one = *shape;
        one.B = 1;
        self->library = onednn_convolution_create(weight, bias, &one, precision, error);
        if (self->library != NULL) return self;
        free(self);
        return NULL;
    }
    self->winograd = winograd_fits(kernels, shape);
    self->pairs = precision != PRECISION_FP32 && shape->C % 2 == 0;
    const size_t points = self->winograd ? WINOGRAD_POINTS : taps, bias_bytes = blocks * width * sizeof(float);
    const size_t weight_bytes = blocks * points * shape->C * width * (self->pairs ? 2 : 4);
    float *room = limn_allocate((points + taps) * shape->C * width, sizeof *room, error);
    self->room = room ? limn_arena_create(weight_bytes + bias_bytes + 2 * taps * sizeof(ptrdiff_t) + 256, error) : NULL;
    if (self->room == NULL) {
        free(room);
        packed_convolution_free(self);
        return NULL;
    }
    self->weights = limn_arena_bytes(self->room, weight_bytes);
    self->bias = limn_arena_bytes(self->room, bias_bytes);
    self->dy = limn_arena_bytes(self->room, 2 * taps * sizeof *self->dy);
    self->dx = self->dy + taps;
    for (size_t o = 0; o < blocks * width; o++) self->bias[o] = bias != NULL && o < shape->O ? bias[o] : 0.0f;
    for (size_t t = 0; t < taps; t++) {
        self->dy[t] = (ptrdiff_t)(t / shape->kernel) - (ptrdiff_t)shape->pad_top;
        self->dx[t] = (ptrdiff_t)(t % shape->kernel) - (ptrdiff_t)shape->pad_left;
    }
    pack_weights(self, weight, room);
    free(room);
    return self;
}

void packed_convolution_free(packed_convolution *self) {
    if (self == NULL) return;
    onednn_convolution_free(self->library);
    limn_arena_destroy(self->room);
    free(self);
}

size_t packed_convolution_bytes(const packed_convolution *self) {
    return sizeof *self + (self->library != NULL ? onednn_convolution_bytes(self->library) : limn_arena_peak(self->room));
}

/* ---------------------------------------------------------------- running */

static void run_winograd(const packed_convolution *self, const convolution_pass *pass, size_t B, limn_arena *arena) {
    const winograd_work work = {.in = pass->in,
                                .B = B,
                                .Y = self->shape.Y,
                                .X = self->shape.X,
                                .C = self->shape.C,
                                .O = self->shape.O,
                                .rows = convolution_out_rows(&self->shape),
                                .columns = convolution_out_columns(&self->shape),
                                .dy = self->dy[0],
                                .dx = self->dx[0],
                                .upsampled = pass->upsampled,
                                .pairs = self->pairs,
                                .swish = pass->swish,
                                .weights = self->weights,
                                .bias = self->bias,
                                .terms = pass->terms,
                                .add = pass->residual,
                                .out = pass->out,
                                .moments = pass->moments};
    winograd_products(self->kernels, &work, arena);
}

/* The input as the products read it: normed, rounded. */
static const float *read_input(const packed_convolution *self, const convolution_pass *pass, const float *in, size_t B,
                               limn_arena *arena) {
    const size_t P = self->shape.Y * self->shape.X, C = self->shape.C, runs = divide_up(P, ROW_RUN);
    const size_t row_floats = self->pairs ? C / 2 : C;
    if (!self->pairs && pass->terms == NULL) return in;
    float *out = limn_arena_floats(arena, B * P * row_floats);
#pragma omp parallel for num_threads((int)limn_get_threads()) schedule(static)
    for (size_t i = 0; i < B * runs; i++) {
        const size_t b = i / runs, first = i % runs * ROW_RUN;
        const float *terms = pass->terms != NULL ? pass->terms + b * 3 * C : NULL;
        const reading read =
            terms != NULL ? (reading){terms, terms + C, terms + 2 * C, pass->swish} : (reading){.swish = false};
        self->kernels->read_rows(out + (b * P + first) * row_floats, in + (b * P + first) * C, &read,
                                 smaller(ROW_RUN, P - first), C, self->pairs);
    }
    return out;
}

/* The input in its own size, normed and rounded. */
static const float *take_input(const packed_convolution *self, const convolution_pass *pass, size_t B, limn_arena *arena) {
    const convolution_shape *shape = &self->shape;
    const float *in = pass->in;
    if (pass->upsampled) {
        float *large = limn_arena_floats(arena, B * shape->Y * shape->X * shape->C);
        upsample_nearest_forward(large, in, B, shape->Y / 2, shape->X / 2, shape->C);
        in = large;
    }
    return read_input(self, pass, in, B, arena);
}

static void run_library(const packed_convolution *self, const convolution_pass *pass, size_t B, limn_arena *arena) {
    const convolution_shape *shape = &self->shape;
    const size_t P = convolution_out_rows(shape) * convolution_out_columns(shape);
    const float *in = take_input(self, pass, B, arena);
    for (size_t b = 0; b < B; b++)
        onednn_convolution_forward(self->library, pass->out + b * P * shape->O, in + b * shape->Y * shape->X * shape->C,
                                   pass->residual != NULL ? pass->residual + b * P * shape->O : NULL);
    if (pass->moments != NULL) picture_moments(pass->moments, pass->out, B, P, shape->O, arena);
}

static void run_direct(const packed_convolution *self, const convolution_pass *pass, size_t B, limn_arena *arena) {
    const convolution_shape *shape = &self->shape;
    const size_t rows = convolution_out_rows(shape), columns = convolution_out_columns(shape);
    const tap_sum sum = {.in = take_input(self, pass, B, arena),
                         .B = B,
                         .Y = shape->Y,
                         .X = shape->X,
                         .C = self->pairs ? shape->C / 2 : shape->C,
                         .rows = rows,
                         .columns = columns,
                         .step = shape->stride,
                         .taps = shape->kernel * shape->kernel,
                         .dy = self->dy,
                         .dx = self->dx,
                         .weights = self->weights,
                         .bias = self->bias,
                         .add = pass->residual,
                         .out = pass->out,
                         .out_Y = rows,
                         .out_X = columns,
                         .O = shape->O,
                         .out_step = 1};
    convolution_kernels kernels = *self->kernels;
    if (self->pairs) kernels.product = kernels.product_pairs;
    direct_run(&kernels, &sum, arena);
    if (pass->moments != NULL) picture_moments(pass->moments, pass->out, B, rows * columns, shape->O, arena);
}

void packed_convolution_forward(const packed_convolution *self, const convolution_pass *pass, size_t B, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena);
    if (self->library != NULL)
        run_library(self, pass, B, arena);
    else if (self->winograd)
        run_winograd(self, pass, B, arena);
    else
        run_direct(self, pass, B, arena);
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- norms in two halves */

void picture_moments(double *moments, const float *in, size_t B, size_t P, size_t C, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), runs = divide_up(P, MOMENT_RUN);
    double *parts = limn_arena_bytes(arena, B * runs * 2 * C * sizeof *parts);
#pragma omp parallel for num_threads((int)limn_get_threads()) schedule(static)
    for (size_t i = 0; i < B * runs; i++) {
        const size_t first = i % runs * MOMENT_RUN;
        for (size_t c = 0; c < C; c += CHANNELS_AT_ONCE)
            channel_moments(parts + i * 2 * C + c, parts + (i * 2 + 1) * C + c, in + (i / runs * P + first) * C + c,
                            smaller(MOMENT_RUN, P - first), C, smaller(CHANNELS_AT_ONCE, C - c));
    }
    for (size_t b = 0; b < B; b++) {
        memset(moments + b * 2 * C, 0, 2 * C * sizeof *moments);
        for (size_t run = 0; run < runs; run++) {
            const double *part = parts + (b * runs + run) * 2 * C;
            merge_channel_moments(moments + b * 2 * C, moments + (b * 2 + 1) * C, part, part + C, (double)(run * MOMENT_RUN),
                                  (double)smaller(MOMENT_RUN, P - run * MOMENT_RUN), C);
        }
    }
    limn_arena_release(arena, mark);
}

void groupnorm_terms(float *terms, const double *moments, const float *scale, const float *bias, size_t B, size_t P, size_t C,
                     size_t groups, float epsilon) {
    const size_t size = C / groups;
    for (size_t b = 0; b < B; b++, terms += 3 * C, moments += 2 * C)
        for (size_t group = 0; group < groups; group++) {
            const size_t first = group * size;
            double mean = moments[first], squares = moments[C + first];
            for (size_t i = 1; i < size; i++)
                merge_channel_moments(&mean, &squares, moments + first + i, moments + C + first + i, (double)(i * P), (double)P,
                                      1);
            const float reciprocal = (float)(1 / sqrt(squares / (double)(P * size) + (double)epsilon));
            for (size_t c = first; c < first + size; c++) {
                terms[c] = (float)mean;
                terms[C + c] = reciprocal * scale[c];
                terms[2 * C + c] = bias[c];
            }
        }
}
