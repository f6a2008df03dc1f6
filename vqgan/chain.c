/* Building and running a chain of layers. */
#include "vqgan/internal.h"

#include <stdarg.h>
#include <stdlib.h>

enum { NAME_SIZE = 160 };

/* ---------------------------------------------------------------- building */

static size_t add_parameter(chain_builder *builder, parameter_layout layout, size_t rank, const size_t *shape, const char *name,
                            const char *part, const char *suffix) {
    if (builder->failed) return 0;
    size_t index = parameters_add(builder->set, layout, rank, shape, builder->error, "%s%s.%s", name, part, suffix);
    if (index == SIZE_MAX) builder->failed = true;
    return index;
}

static convolution_layer make_convolution(chain_builder *builder, size_t Y, size_t X, size_t C, size_t O, size_t kernel,
                                          const char *name, const char *part) {
    size_t pad = kernel / 2;
    convolution_layer self = {.shape = {.Y = Y,
                                        .X = X,
                                        .C = C,
                                        .O = O,
                                        .kernel = kernel,
                                        .stride = 1,
                                        .pad_top = pad,
                                        .pad_left = pad,
                                        .pad_bottom = pad,
                                        .pad_right = pad}};
    const size_t weight_shape[] = {O, kernel, kernel, C};
    self.weight = add_parameter(builder, PARAMETER_CONVOLUTION, 4, weight_shape, name, part, "weight");
    self.bias = add_parameter(builder, PARAMETER_PLAIN, 1, &O, name, part, "bias");
    return self;
}

static norm_layer make_norm(chain_builder *builder, size_t channels, const char *name, const char *part) {
    norm_layer self = {.channels = channels};
    self.scale = add_parameter(builder, PARAMETER_PLAIN, 1, &channels, name, part, "weight");
    self.bias = add_parameter(builder, PARAMETER_PLAIN, 1, &channels, name, part, "bias");
    return self;
}

/* The next layer, with the picture's size on both sides filled in; NULL after a failure. */
static layer *append_layer(chain_builder *builder, layer_kind kind, size_t out_Y, size_t out_X, size_t out_C) {
    chain *list = builder->chain;
    if (builder->failed) return NULL;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 32;
        layer *grown = realloc(list->list, capacity * sizeof *grown);
        if (!grown) {
            limn_fail(builder->error, "out of memory for the VQGAN's layers");
            builder->failed = true;
            return NULL;
        }
        list->list = grown;
        list->capacity = capacity;
    }
    layer *self = &list->list[list->count++];
    *self = (layer){
        .kind = kind, .Y = builder->Y, .X = builder->X, .C = builder->C, .out_Y = out_Y, .out_X = out_X, .out_C = out_C};
    builder->Y = out_Y;
    builder->X = out_X;
    builder->C = out_C;
    size_t size = out_Y * out_X * out_C;
    if (size > list->largest) list->largest = size;
    return self;
}

static void format_name(char name[NAME_SIZE], const char *format, va_list arguments) {
    vsnprintf(name, NAME_SIZE, format, arguments);
}
/* Every vqgan_add_… begins with this: the layer's name from its format. */
#define FORMAT_NAME(name, format)                                                                                              \
    char name[NAME_SIZE];                                                                                                      \
    do {                                                                                                                       \
        va_list arguments;                                                                                                     \
        va_start(arguments, format);                                                                                           \
        format_name(name, format, arguments);                                                                                  \
        va_end(arguments);                                                                                                     \
    } while (0)

void vqgan_add_convolution(chain_builder *builder, size_t O, size_t kernel, const char *name_format, ...) {
    FORMAT_NAME(name, name_format);
    layer *self = append_layer(builder, LAYER_CONVOLUTION, builder->Y, builder->X, O);
    if (self) self->convolution = make_convolution(builder, self->Y, self->X, self->C, O, kernel, name, "");
}

void vqgan_add_resnet(chain_builder *builder, size_t O, const char *name_format, ...) {
    FORMAT_NAME(name, name_format);
    layer *self = append_layer(builder, LAYER_RESNET, builder->Y, builder->X, O);
    if (!self) return;
    size_t Y = self->Y, X = self->X, C = self->C;
    self->resnet.norm1 = make_norm(builder, C, name, ".norm1");
    self->resnet.conv1 = make_convolution(builder, Y, X, C, O, 3, name, ".conv1");
    self->resnet.norm2 = make_norm(builder, O, name, ".norm2");
    self->resnet.conv2 = make_convolution(builder, Y, X, O, O, 3, name, ".conv2");
    self->resnet.has_shortcut = C != O;
    if (C != O) self->resnet.shortcut = make_convolution(builder, Y, X, C, O, 1, name, ".nin_shortcut");
}

void vqgan_add_attention(chain_builder *builder, const char *name_format, ...) {
    FORMAT_NAME(name, name_format);
    layer *self = append_layer(builder, LAYER_ATTENTION, builder->Y, builder->X, builder->C);
    if (!self) return;
    size_t Y = self->Y, X = self->X, C = self->C;
    self->attention.norm = make_norm(builder, C, name, ".norm");
    convolution_layer query = make_convolution(builder, Y, X, C, C, 1, name, ".q");
    convolution_layer key = make_convolution(builder, Y, X, C, C, 1, name, ".k");
    convolution_layer value = make_convolution(builder, Y, X, C, C, 1, name, ".v");
    self->attention.query_weight = query.weight;
    self->attention.query_bias = query.bias;
    self->attention.key_weight = key.weight;
    self->attention.key_bias = key.bias;
    self->attention.value_weight = value.weight;
    self->attention.value_bias = value.bias;
    self->attention.out = make_convolution(builder, Y, X, C, C, 1, name, ".proj_out");
}

void vqgan_add_norm_swish(chain_builder *builder, const char *name_format, ...) {
    FORMAT_NAME(name, name_format);
    layer *self = append_layer(builder, LAYER_NORM_SWISH, builder->Y, builder->X, builder->C);
    if (self) self->norm = make_norm(builder, self->C, name, "");
}

void vqgan_add_downsample(chain_builder *builder, bool with_convolution, const char *name_format, ...) {
    FORMAT_NAME(name, name_format);
    layer *self =
        append_layer(builder, with_convolution ? LAYER_CONVOLUTION : LAYER_POOL, builder->Y / 2, builder->X / 2, builder->C);
    if (!self || !with_convolution) return;
    self->convolution = make_convolution(builder, self->Y, self->X, self->C, self->C, 3, name, ".conv");
    self->convolution.shape.stride = 2;
    self->convolution.shape.pad_top = self->convolution.shape.pad_left = 0;
}

void vqgan_add_upsample(chain_builder *builder, bool with_convolution, const char *name_format, ...) {
    FORMAT_NAME(name, name_format);
    append_layer(builder, LAYER_UPSAMPLE, 2 * builder->Y, 2 * builder->X, builder->C);
    if (with_convolution) vqgan_add_convolution(builder, builder->C, 3, "%s.conv", name);
}

void vqgan_chain_free(chain *self) {
    free(self->list);
    *self = (chain){0};
}

/* ---------------------------------------------------------------- running */

static size_t output_size(const layer *self, size_t B) {
    return B * self->out_Y * self->out_X * self->out_C;
}

void vqgan_chain_infer(const parameters *set, const chain *self, float *out, const float *in, size_t B, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena);
    float *rooms[2] = {limn_arena_floats(arena, B * self->largest), limn_arena_floats(arena, B * self->largest)};
    for (size_t i = 0; i < self->count; i++) {
        size_t layer_mark = limn_arena_mark(arena);
        float *to = i + 1 == self->count ? out : rooms[i % 2];
        layer_saved saved;
        vqgan_layer_forward(set, &self->list[i], &saved, to, in, B, arena);
        limn_arena_release(arena, layer_mark);
        in = to;
    }
    limn_arena_release(arena, mark);
}

layer_saved *vqgan_chain_forward(const parameters *set, const chain *self, const float **out, const float *in, size_t B,
                                 limn_arena *arena) {
    layer_saved *saved = limn_arena_bytes(arena, self->count * sizeof *saved);
    for (size_t i = 0; i < self->count; i++) {
        float *to = limn_arena_floats(arena, output_size(&self->list[i], B));
        vqgan_layer_forward(set, &self->list[i], &saved[i], to, in, B, arena);
        in = to;
    }
    *out = in;
    return saved;
}

void vqgan_chain_backward(parameters *set, const chain *self, const layer_saved *saved, size_t count, float *din, float *dout,
                          size_t B, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena);
    float *rooms[2] = {limn_arena_floats(arena, B * self->largest), limn_arena_floats(arena, B * self->largest)};
    for (size_t i = count; i-- > 0;) {
        float *spare = i == 0 ? din : dout == rooms[0] ? rooms[1] : rooms[0];
        dout = vqgan_layer_backward(set, &self->list[i], &saved[i], dout, spare, B, arena);
    }
    limn_arena_release(arena, mark);
}

static double convolution_flops(const convolution_layer *self) {
    const convolution_shape *shape = &self->shape;
    return 2.0 * (double)(convolution_out_rows(shape) * convolution_out_columns(shape) * shape->O) *
           (double)(shape->kernel * shape->kernel * shape->C);
}

double vqgan_chain_flops(const chain *self) {
    double sum = 0;
    for (size_t i = 0; i < self->count; i++) {
        const layer *here = &self->list[i];
        const double T = (double)(here->Y * here->X), C = (double)here->C;
        if (here->kind == LAYER_CONVOLUTION) sum += convolution_flops(&here->convolution);
        if (here->kind == LAYER_RESNET) {
            sum += convolution_flops(&here->resnet.conv1) + convolution_flops(&here->resnet.conv2);
            if (here->resnet.has_shortcut) sum += convolution_flops(&here->resnet.shortcut);
        }
        if (here->kind == LAYER_ATTENTION) sum += 2 * T * C * 4 * C + 4 * T * T * C;
    }
    return sum;
}

/* Enough pictures for large products at the lowest resolution, few enough that the highest one's activations stay small. */
size_t vqgan_chain_chunk(const chain *self, size_t B) {
    const size_t floats = (size_t)2 << 20;
    size_t chunk = floats / self->largest;
    return chunk < 1 ? 1 : chunk < B ? chunk : B;
}
