/* The layers of encoder and decoder (Esser and others, arXiv 2012.09841, table 7), each forward beside its backward. */
#include "vqgan/internal.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- building blocks */

static void convolution_layer_forward(const parameters *set, const convolution_layer *self, float *out, const float *in,
                                      const float *residual, size_t B, limn_arena *arena) {
    convolution_shape shape = self->shape;
    shape.B = B;
    convolution_forward(out, in, set->list[self->weight].value, set->list[self->bias].value, residual, &shape, arena);
}

static void convolution_layer_backward(parameters *set, const convolution_layer *self, float *din, const float *dout,
                                       const float *in, size_t B, limn_arena *arena) {
    convolution_shape shape = self->shape;
    shape.B = B;
    convolution_backward(din, set->list[self->weight].grad, set->list[self->bias].grad, dout, in, set->list[self->weight].value,
                         &shape, arena);
}

/* pixels: of all that `in` holds for one picture. */
static void norm_layer_forward(const parameters *set, const norm_layer *self, float *out, float *statistics, const float *in,
                               size_t B, size_t pixels, bool swish) {
    groupnorm_forward(out, statistics, in, set->list[self->scale].value, set->list[self->bias].value, B, pixels, self->channels,
                      VQGAN_GROUPS, VQGAN_GROUP_EPSILON, swish);
}

static void norm_layer_backward(parameters *set, const norm_layer *self, float *din, const float *dout, const float *in,
                                const float *statistics, size_t B, size_t pixels, bool swish, bool accumulate,
                                limn_arena *arena) {
    parameter *scale = &set->list[self->scale], *bias = &set->list[self->bias];
    groupnorm_backward(din, scale->grad, bias->grad, dout, in, statistics, scale->value, bias->value, B, pixels, self->channels,
                       VQGAN_GROUPS, swish, accumulate, arena);
}

static float *take_statistics(limn_arena *arena, size_t B) {
    return limn_arena_floats(arena, B * VQGAN_GROUPS * 2);
}

/* ---------------------------------------------------------------- residual block */

static void resnet_forward(const parameters *set, const layer *self, layer_saved *saved, float *out, const float *in, size_t B,
                           limn_arena *arena) {
    size_t pixels = self->Y * self->X, n_in = B * pixels * self->C, n_out = B * pixels * self->out_C;
    saved->statistics1 = take_statistics(arena, B);
    saved->normed1 = limn_arena_floats(arena, n_in);
    norm_layer_forward(set, &self->resnet.norm1, saved->normed1, saved->statistics1, in, B, pixels, true);
    saved->hidden = limn_arena_floats(arena, n_out);
    convolution_layer_forward(set, &self->resnet.conv1, saved->hidden, saved->normed1, NULL, B, arena);
    saved->statistics2 = take_statistics(arena, B);
    saved->normed2 = limn_arena_floats(arena, n_out);
    norm_layer_forward(set, &self->resnet.norm2, saved->normed2, saved->statistics2, saved->hidden, B, pixels, true);
    const float *residual = in;
    size_t mark = limn_arena_mark(arena);
    if (self->resnet.has_shortcut) {
        float *shortcut = limn_arena_floats(arena, n_out);
        convolution_layer_forward(set, &self->resnet.shortcut, shortcut, in, NULL, B, arena);
        residual = shortcut;
    }
    convolution_layer_forward(set, &self->resnet.conv2, out, saved->normed2, residual, B, arena);
    limn_arena_release(arena, mark);
}

static float *resnet_backward(parameters *set, const layer *self, const layer_saved *saved, float *dout, float *spare, size_t B,
                              limn_arena *arena) {
    size_t pixels = self->Y * self->X, mark = limn_arena_mark(arena);
    float *dhidden = limn_arena_floats(arena, B * pixels * self->out_C);
    float *dnormed = limn_arena_floats(arena, B * pixels * self->C);
    convolution_layer_backward(set, &self->resnet.conv2, dhidden, dout, saved->normed2, B, arena);
    norm_layer_backward(set, &self->resnet.norm2, dhidden, dhidden, saved->hidden, saved->statistics2, B, pixels, true, false,
                        arena);
    convolution_layer_backward(set, &self->resnet.conv1, dnormed, dhidden, saved->normed1, B, arena);
    float *din = dout; /* what comes back past the block unchanged */
    if (self->resnet.has_shortcut) {
        din = spare;
        convolution_layer_backward(set, &self->resnet.shortcut, din, dout, saved->in, B, arena);
    }
    norm_layer_backward(set, &self->resnet.norm1, din, dnormed, saved->in, saved->statistics1, B, pixels, true, true, arena);
    limn_arena_release(arena, mark);
    return din;
}

/* ---------------------------------------------------------------- attention block */

attention_shape vqgan_attention_shape(const layer *self, size_t B) {
    size_t T = self->Y * self->X;
    return (attention_shape){
        .B = B, .T = T, .S = T, .H = 1, .D = self->C, .scale = 1.0f / sqrtf((float)self->C), .sinkhorn_iterations = 1};
}

static void attention_block_forward(const parameters *set, const layer *self, layer_saved *saved, float *out, const float *in,
                                    size_t B, limn_arena *arena) {
    size_t T = self->Y * self->X, C = self->C, n = B * T * C;
    attention_shape shape = vqgan_attention_shape(self, B);
    const parameter *list = set->list;
    saved->statistics1 = take_statistics(arena, B);
    saved->normed1 = limn_arena_floats(arena, n);
    saved->query = limn_arena_floats(arena, n);
    saved->key = limn_arena_floats(arena, n);
    saved->value = limn_arena_floats(arena, n);
    saved->mixed = limn_arena_floats(arena, n);
    norm_layer_forward(set, &self->attention.norm, saved->normed1, saved->statistics1, in, B, T, false);
    linear_forward(saved->query, saved->normed1, list[self->attention.query_weight].value,
                   list[self->attention.query_bias].value, B * T, C, C);
    linear_forward(saved->key, saved->normed1, list[self->attention.key_weight].value, list[self->attention.key_bias].value,
                   B * T, C, C);
    linear_forward(saved->value, saved->normed1, list[self->attention.value_weight].value,
                   list[self->attention.value_bias].value, B * T, C, C);
    attention_forward(numbers_f32(saved->mixed), numbers_f32(saved->query), numbers_f32(saved->key), numbers_f32(saved->value),
                      &shape, arena);
    convolution_layer_forward(set, &self->attention.out, out, saved->mixed, in, B, arena);
}

static float *attention_block_backward(parameters *set, const layer *self, const layer_saved *saved, float *dout, size_t B,
                                       limn_arena *arena) {
    size_t T = self->Y * self->X, C = self->C, n = B * T * C, mark = limn_arena_mark(arena);
    attention_shape shape = vqgan_attention_shape(self, B);
    parameter *list = set->list;
    float *dmixed = limn_arena_floats(arena, n), *dnormed = limn_arena_floats(arena, n);
    float *dquery = limn_arena_floats(arena, n), *dkey = limn_arena_floats(arena, n), *dvalue = limn_arena_floats(arena, n);
    convolution_layer_backward(set, &self->attention.out, dmixed, dout, saved->mixed, B, arena);
    attention_backward(numbers_f32(dquery), numbers_f32(dkey), numbers_f32(dvalue), NULL, numbers_f32(dmixed),
                       numbers_f32(saved->query), numbers_f32(saved->key), numbers_f32(saved->value), &shape, arena);
    linear_backward(dnormed, list[self->attention.query_weight].grad, list[self->attention.query_bias].grad, dquery,
                    saved->normed1, list[self->attention.query_weight].value, B * T, C, C, false);
    linear_backward(dnormed, list[self->attention.key_weight].grad, list[self->attention.key_bias].grad, dkey, saved->normed1,
                    list[self->attention.key_weight].value, B * T, C, C, true);
    linear_backward(dnormed, list[self->attention.value_weight].grad, list[self->attention.value_bias].grad, dvalue,
                    saved->normed1, list[self->attention.value_weight].value, B * T, C, C, true);
    norm_layer_backward(set, &self->attention.norm, dout, dnormed, saved->in, saved->statistics1, B, T, false, true, arena);
    limn_arena_release(arena, mark);
    return dout;
}

/* ---------------------------------------------------------------- resampling */

/* out (B,Y/2,X/2,C): the mean of every 2×2 pixels of in (B,Y,X,C). */
static void pool_forward(float *out, const float *in, size_t B, size_t Y, size_t X, size_t C) {
    size_t row = X * C;
#pragma omp parallel for
    for (size_t y = 0; y < B * (Y / 2); y++) {
        for (size_t x = 0; x < X / 2; x++) {
            const float *top = in + 2 * y * row + 2 * x * C, *bottom = top + row;
            float *to = out + (y * (X / 2) + x) * C;
            for (size_t c = 0; c < C; c++) to[c] = 0.25f * (top[c] + top[C + c] + bottom[c] + bottom[C + c]);
        }
    }
}

/* Every pixel of din gets a quarter of its mean's gradient. */
static void pool_backward(float *din, const float *dout, size_t B, size_t Y, size_t X, size_t C) {
#pragma omp parallel for
    for (size_t y = 0; y < B * Y; y++) {
        for (size_t x = 0; x < X; x++) {
            const float *from = dout + ((y / 2) * (X / 2) + x / 2) * C; /* Y is even, so rows pair up across pictures too */
            float *to = din + (y * X + x) * C;
            for (size_t c = 0; c < C; c++) to[c] = 0.25f * from[c];
        }
    }
}

/* ---------------------------------------------------------------- any layer */

void vqgan_layer_forward(const parameters *set, const layer *self, layer_saved *saved, float *out, const float *in, size_t B,
                         limn_arena *arena) {
    *saved = (layer_saved){.in = in};
    switch (self->kind) {
    case LAYER_CONVOLUTION:
        convolution_layer_forward(set, &self->convolution, out, in, NULL, B, arena);
        break;
    case LAYER_RESNET:
        resnet_forward(set, self, saved, out, in, B, arena);
        break;
    case LAYER_ATTENTION:
        attention_block_forward(set, self, saved, out, in, B, arena);
        break;
    case LAYER_NORM_SWISH:
        saved->statistics1 = take_statistics(arena, B);
        norm_layer_forward(set, &self->norm, out, saved->statistics1, in, B, self->Y * self->X, true);
        break;
    case LAYER_POOL:
        pool_forward(out, in, B, self->Y, self->X, self->C);
        break;
    case LAYER_UPSAMPLE:
        upsample_nearest_forward(out, in, B, self->Y, self->X, self->C);
        break;
    }
}

float *vqgan_layer_backward(parameters *set, const layer *self, const layer_saved *saved, float *dout, float *spare, size_t B,
                            limn_arena *arena) {
    switch (self->kind) {
    case LAYER_RESNET:
        return resnet_backward(set, self, saved, dout, spare, B, arena);
    case LAYER_ATTENTION:
        return attention_block_backward(set, self, saved, dout, B, arena);
    case LAYER_NORM_SWISH:
        norm_layer_backward(set, &self->norm, dout, dout, saved->in, saved->statistics1, B, self->Y * self->X, true, false,
                            arena);
        return dout;
    case LAYER_CONVOLUTION:
        convolution_layer_backward(set, &self->convolution, spare, dout, saved->in, B, arena);
        break;
    case LAYER_POOL:
        pool_backward(spare, dout, B, self->Y, self->X, self->C);
        break;
    case LAYER_UPSAMPLE:
        upsample_nearest_backward(spare, dout, B, self->Y, self->X, self->C);
        break;
    }
    return spare;
}
