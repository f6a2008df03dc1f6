/* LPIPS (Zhang and others, arXiv 1801.03924): how different two pictures look. VGG16's features (Simonyan and Zisserman,
 * arXiv 1409.1556) after each of five stages, normalised to length 1 at every pixel; the squared differences weighted by
 * channel, averaged over pixels, added up over the stages.
 *
 * VGG16's weights never change, so its convolutions, and those that carry the gradient back (the same weights, turned and
 * transposed), are packed when it is loaded. */
#include "vqgan/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STAGES = 5, CONVOLUTIONS = 13, SMALLEST_SIDE = 16, PIXELS_AT_ONCE = 2 * 256 * 256, KERNEL = 3, TAPS = 9 };
#define NORM_EPSILON 1e-10f

/* Mean and deviation that pictures in [-1,1] are shifted and divided by. */
static const float SHIFT[VQGAN_PICTURE_CHANNELS] = {-0.030f, -0.088f, -0.188f};
static const float SCALE[VQGAN_PICTURE_CHANNELS] = {0.458f, 0.448f, 0.450f};

/* A convolution with its ReLU; `number` is its place in torchvision's `features`. A 2×2 pooling stands between the stages. */
static const struct {
    size_t number, stage, in, out;
} LAYERS[CONVOLUTIONS] = {{0, 0, 3, 64},     {2, 0, 64, 64},    {5, 1, 64, 128},   {7, 1, 128, 128},  {10, 2, 128, 256},
                          {12, 2, 256, 256}, {14, 2, 256, 256}, {17, 3, 256, 512}, {19, 3, 512, 512}, {21, 3, 512, 512},
                          {24, 4, 512, 512}, {26, 4, 512, 512}, {28, 4, 512, 512}};
static const size_t STAGE_CHANNELS[STAGES] = {64, 128, 256, 512, 512};

struct vqgan_lpips {
    size_t Y, X;
    packed_convolution *forward[CONVOLUTIONS];
    packed_convolution *backward[CONVOLUTIONS]; /* all NULL where no gradient is wanted */
    float *heads[STAGES];                       /* a weight for each channel */
};

static bool ends_stage(size_t which) {
    return which + 1 == CONVOLUTIONS || LAYERS[which + 1].stage != LAYERS[which].stage;
}

static size_t stage_pixels(const vqgan_lpips *self, size_t stage) {
    return (self->Y >> stage) * (self->X >> stage);
}

/* ---------------------------------------------------------------- loading */

/* The tensor as floats in `out`; an error that names both. */
static int read_tensor(const tensor_file *file, const char *prefix, const char *name, const size_t *shape, size_t rank,
                       const char *belongs_to, float *out, limn_error *error) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    const tensor *found = tensor_file_find(file, whole);
    if (!found) return limn_fail(error, "%s: holds no tensor '%s', which %s has", tensor_file_path(file), whole, belongs_to);
    bool same = found->rank == rank;
    for (size_t i = 0; same && i < rank; i++) same = found->shape[i] == shape[i];
    if (!same)
        return limn_fail(error, "%s: tensor '%s' has another shape than in %s; is it another network's file?",
                         tensor_file_path(file), whole, belongs_to);
    tensor_to_float(found, 0, found->count, out);
    for (size_t i = 0; i < found->count; i++)
        if (!isfinite(out[i]))
            return limn_fail(error, "%s: tensor '%s' holds what is no number", tensor_file_path(file), whole);
    return 0;
}

/* Prefix before all names of the file; an error that says which file is which where they are exchanged. */
static int find_prefix(const tensor_file *file, const char *sign, const char *sign_of_other, char prefix[256],
                       limn_error *error) {
    char other[256];
    if (tensor_file_find_prefix(file, sign, prefix)) return 0;
    bool exchanged = tensor_file_find_prefix(file, sign_of_other, other);
    return limn_fail_usage(error,
                           "%s: holds no '%s'%s; torchvision's vgg16-397923af.pth is --lpips-vgg (features.N.weight), LPIPS' "
                           "vgg.pth --lpips-heads (linN.model.1.weight)",
                           tensor_file_path(file), sign, exchanged ? ": the two files are exchanged" : "");
}

static convolution_shape shape_of(const vqgan_lpips *self, size_t which, bool backward) {
    size_t stage = LAYERS[which].stage;
    return (convolution_shape){.B = 1,
                               .Y = self->Y >> stage,
                               .X = self->X >> stage,
                               .C = backward ? LAYERS[which].out : LAYERS[which].in,
                               .O = backward ? LAYERS[which].in : LAYERS[which].out,
                               .kernel = KERNEL,
                               .stride = 1,
                               .pad_top = 1,
                               .pad_left = 1,
                               .pad_bottom = 1,
                               .pad_right = 1};
}

/* in (O,C,3,3) as in the file. out (O,3,3,C), or, for the gradient of the input, (C,3,3,O) with the taps turned by 180°. */
static void lay_out(float *out, const float *in, size_t O, size_t C, bool backward) {
    for (size_t o = 0; o < O; o++)
        for (size_t c = 0; c < C; c++)
            for (size_t t = 0; t < TAPS; t++)
                out[backward ? (c * TAPS + TAPS - 1 - t) * O + o : (o * TAPS + t) * C + c] = in[(o * C + c) * TAPS + t];
}

static int load_layer(vqgan_lpips *self, size_t which, const tensor_file *file, const char *prefix, bool with_gradient,
                      float *values, float *room, limn_error *error) {
    const size_t O = LAYERS[which].out, C = LAYERS[which].in;
    float bias[512];
    char name[64];
    snprintf(name, sizeof name, "features.%zu.bias", LAYERS[which].number);
    if (read_tensor(file, prefix, name, (size_t[]){O}, 1, "torchvision's VGG16", bias, error)) return -1;
    snprintf(name, sizeof name, "features.%zu.weight", LAYERS[which].number);
    if (read_tensor(file, prefix, name, (size_t[]){O, C, KERNEL, KERNEL}, 4, "torchvision's VGG16", values, error)) return -1;
    for (int backward = 0; backward <= with_gradient; backward++) {
        convolution_shape shape = shape_of(self, which, backward);
        lay_out(room, values, O, C, backward);
        packed_convolution *packed = packed_convolution_create(room, backward ? NULL : bias, &shape, PRECISION_FP32, error);
        if (!packed) return -1;
        *(backward ? &self->backward[which] : &self->forward[which]) = packed;
    }
    return 0;
}

static int load_vgg(vqgan_lpips *self, const char *path, bool with_gradient, limn_error *error) {
    tensor_file *file = tensor_file_open(path, error);
    float *rooms = file ? limn_allocate((size_t)2 * TAPS * 512 * 512, sizeof *rooms, error) : NULL;
    char prefix[256];
    int status = rooms ? find_prefix(file, "features.0.weight", "lin0.model.1.weight", prefix, error) : -1;
    for (size_t i = 0; status == 0 && i < CONVOLUTIONS; i++)
        status = load_layer(self, i, file, prefix, with_gradient, rooms, rooms + TAPS * 512 * 512, error);
    free(rooms);
    tensor_file_close(file);
    return status;
}

static int load_heads(vqgan_lpips *self, const char *path, limn_error *error) {
    tensor_file *file = tensor_file_open(path, error);
    char prefix[256];
    int status = file ? find_prefix(file, "lin0.model.1.weight", "features.0.weight", prefix, error) : -1;
    for (size_t i = 0; status == 0 && i < STAGES; i++) {
        char name[64];
        snprintf(name, sizeof name, "lin%zu.model.1.weight", i);
        self->heads[i] = limn_allocate(STAGE_CHANNELS[i], sizeof *self->heads[i], error);
        status = self->heads[i] ? read_tensor(file, prefix, name, (size_t[]){1, STAGE_CHANNELS[i], 1, 1}, 4, "LPIPS' vgg.pth",
                                              self->heads[i], error)
                                : -1;
    }
    tensor_file_close(file);
    return status;
}

vqgan_lpips *vqgan_lpips_load(const char *vgg, const char *heads, size_t Y, size_t X, bool with_gradient, limn_error *error) {
    if (Y < SMALLEST_SIDE || X < SMALLEST_SIDE || Y > 1u << 16 || X > 1u << 16) {
        limn_fail_usage(error, "LPIPS is not defined for pictures of %zu×%zu pixels: four times halved, they need at least %d",
                        X, Y, SMALLEST_SIDE);
        return NULL;
    }
    vqgan_lpips *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->Y = Y;
    self->X = X;
    if (load_heads(self, heads, error) == 0 && load_vgg(self, vgg, with_gradient, error) == 0) return self;
    vqgan_lpips_free(self);
    return NULL;
}

void vqgan_lpips_free(vqgan_lpips *lpips) {
    if (!lpips) return;
    for (size_t i = 0; i < CONVOLUTIONS; i++) {
        packed_convolution_free(lpips->forward[i]);
        packed_convolution_free(lpips->backward[i]);
    }
    for (size_t i = 0; i < STAGES; i++) free(lpips->heads[i]);
    free(lpips);
}

/* ---------------------------------------------------------------- features */

static void scale_pictures(float *out, const float *in, size_t pixels) {
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < VQGAN_PICTURE_CHANNELS; c++)
            out[i * VQGAN_PICTURE_CHANNELS + c] = (in[i * VQGAN_PICTURE_CHANNELS + c] - SHIFT[c]) / SCALE[c];
}

/* One layer with its ReLU, and before the first of a stage the pooling, from `in`, the layer before's output. */
static void layer_forward(const vqgan_lpips *self, size_t which, float *out, const float *in, size_t B, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), stage = LAYERS[which].stage, C = LAYERS[which].in;
    if (which > 0 && LAYERS[which - 1].stage != stage) {
        float *pooled = limn_arena_floats(arena, B * stage_pixels(self, stage) * C);
        max_pool_forward(pooled, in, B, self->Y >> (stage - 1), self->X >> (stage - 1), C);
        in = pooled;
    }
    packed_convolution_forward(self->forward[which], &(convolution_pass){.out = out, .in = in}, B, arena);
    activation_forward(out, out, ACTIVATION_RELU, B * stage_pixels(self, stage) * LAYERS[which].out);
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- distance of features */

/* One pixel's Σ weight·(â − b̂)², â and b̂ of length 1; db (NULL allowed) gets `slope` times its gradient with respect to b. */
static double compare_pixel(float *db, const float *a, const float *b, const float *weight, size_t C, float slope) {
    float squares_a = 0, squares_b = 0, distance = 0, along = 0;
#pragma omp simd reduction(+ : squares_a, squares_b)
    for (size_t c = 0; c < C; c++) {
        squares_a += a[c] * a[c];
        squares_b += b[c] * b[c];
    }
    const float norm_b = sqrtf(squares_b), of_a = 1 / (sqrtf(squares_a) + NORM_EPSILON), of_b = 1 / (norm_b + NORM_EPSILON);
#pragma omp simd reduction(+ : distance, along)
    for (size_t c = 0; c < C; c++) {
        const float difference = b[c] * of_b - a[c] * of_a, weighted = weight[c] * difference;
        distance += weighted * difference;
        along += weighted * b[c];
    }
    if (db) {
        const float back = norm_b > 0 ? along * of_b / norm_b : 0, factor = 2 * slope * of_b;
#pragma omp simd
        for (size_t c = 0; c < C; c++) db[c] = factor * (weight[c] * (b[c] * of_b - a[c] * of_a) - b[c] * back);
    }
    return (double)distance;
}

/* Adds one stage's distance to each picture's; db (NULL allowed) as above, for the mean over `all` pictures. */
static void compare_stage(const vqgan_lpips *self, size_t stage, double *distances, float *db, const float *a, const float *b,
                          size_t B, size_t all, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), rows = self->Y >> stage, columns = self->X >> stage, C = STAGE_CHANNELS[stage];
    const double pixels = (double)(rows * columns);
    const float slope = (float)(1 / (pixels * (double)all));
    double *sums = limn_arena_bytes(arena, B * rows * sizeof *sums);
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t row = 0; row < B * rows; row++) {
        sums[row] = 0;
        for (size_t i = row * columns * C; i < (row + 1) * columns * C; i += C)
            sums[row] += compare_pixel(db ? db + i : NULL, a + i, b + i, self->heads[stage], C, slope);
    }
    for (size_t row = 0; row < B * rows; row++) distances[row / rows] += sums[row] / pixels;
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- all */

/* From the gradients of the stages' features (each overwritten) to that of the pictures. */
static void backward(const vqgan_lpips *self, float *dpictures, float *const dfeatures[STAGES],
                     float *const rectified[CONVOLUTIONS], size_t B, limn_arena *arena) {
    float *dout = dfeatures[STAGES - 1];
    for (size_t which = CONVOLUTIONS; which-- > 0;) {
        const size_t stage = LAYERS[which].stage, pixels = B * stage_pixels(self, stage), C = LAYERS[which].in;
        activation_backward(dout, dout, rectified[which], ACTIVATION_RELU, pixels * LAYERS[which].out);
        float *din = which > 0 ? limn_arena_floats(arena, pixels * C) : dpictures;
        packed_convolution_forward(self->backward[which], &(convolution_pass){.out = din, .in = dout}, B, arena);
        dout = din;
        if (which == 0 || LAYERS[which - 1].stage == stage) continue;
        const size_t larger = B * stage_pixels(self, stage - 1) * C;
        dout = limn_arena_floats(arena, larger);
        max_pool_backward(dout, din, rectified[which - 1], B, self->Y >> (stage - 1), self->X >> (stage - 1), C);
        add_forward(dout, dout, dfeatures[stage - 1], larger);
    }
    for (size_t i = 0; i < B * stage_pixels(self, 0) * VQGAN_PICTURE_CHANNELS; i++)
        dpictures[i] /= SCALE[i % VQGAN_PICTURE_CHANNELS];
}

/* As many pictures as are held at once. */
static void compare_some(const vqgan_lpips *self, double *distances, float *db, const float *a, const float *b, size_t B,
                         size_t all, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), pixels = B * stage_pixels(self, 0);
    float *rectified[CONVOLUTIONS], *dfeatures[STAGES], *rooms[2];
    float *scaled = limn_arena_floats(arena, pixels * VQGAN_PICTURE_CHANNELS);
    const float *in = scaled;
    scale_pictures(scaled, b, pixels);
    for (size_t i = 0; i < CONVOLUTIONS; i++) {
        rectified[i] = limn_arena_floats(arena, B * stage_pixels(self, LAYERS[i].stage) * LAYERS[i].out);
        layer_forward(self, i, rectified[i], in, B, arena);
        in = rectified[i];
    }
    for (size_t i = 0; i < STAGES; i++)
        dfeatures[i] = db ? limn_arena_floats(arena, B * stage_pixels(self, i) * STAGE_CHANNELS[i]) : NULL;
    const size_t before_rooms = limn_arena_mark(arena);
    for (size_t i = 0; i < 2; i++) rooms[i] = limn_arena_floats(arena, pixels * STAGE_CHANNELS[0]);
    scale_pictures(scaled, a, pixels);
    in = scaled;
    for (size_t i = 0; i < CONVOLUTIONS; i++) {
        float *out = rooms[i % 2];
        layer_forward(self, i, out, in, B, arena);
        in = out;
        if (ends_stage(i)) {
            const size_t stage = LAYERS[i].stage;
            compare_stage(self, stage, distances, dfeatures[stage], out, rectified[i], B, all, arena);
        }
    }
    limn_arena_release(arena, before_rooms);
    if (db) backward(self, db, dfeatures, rectified, B, arena);
    limn_arena_release(arena, mark);
}

void vqgan_lpips_compare(const vqgan_lpips *lpips, double *distances, float *db, const float *a, const float *b, size_t B,
                         limn_arena *arena) {
    const size_t pixels = stage_pixels(lpips, 0), floats = pixels * VQGAN_PICTURE_CHANNELS;
    size_t at_once = PIXELS_AT_ONCE / pixels;
    if (at_once == 0) at_once = 1;
    memset(distances, 0, B * sizeof *distances);
    for (size_t first = 0; first < B; first += at_once) {
        const size_t count = B - first < at_once ? B - first : at_once;
        compare_some(lpips, distances + first, db ? db + first * floats : NULL, a + first * floats, b + first * floats, count,
                     B, arena);
    }
}
