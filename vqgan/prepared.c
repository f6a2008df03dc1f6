/* Encoder and decoder with weights packed for inference. Norms and upsampling are no layers of their own here: the convolution
 * behind them does them as it reads; and what a norm must know of a picture is gathered as the picture is written. */
#include "vqgan/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- packing */

static packed_convolution *pack(const parameters *set, const convolution_layer *self, nn_precision precision,
                                limn_error *error) {
    return packed_convolution_create(set->list[self->weight].value, set->list[self->bias].value, &self->shape, precision,
                                     error);
}

/* Query, key and value as one convolution. */
static packed_convolution *pack_attention(const parameters *set, const layer *self, nn_precision precision, limn_error *error) {
    const size_t C = self->C;
    const size_t weights[] = {self->attention.query_weight, self->attention.key_weight, self->attention.value_weight};
    const size_t biases[] = {self->attention.query_bias, self->attention.key_bias, self->attention.value_bias};
    float *weight = limn_allocate(3 * C * (C + 1), sizeof *weight, error), *bias = weight ? weight + 3 * C * C : NULL;
    if (weight == NULL) return NULL;
    for (size_t i = 0; i < 3; i++) {
        memcpy(weight + i * C * C, set->list[weights[i]].value, C * C * sizeof *weight);
        memcpy(bias + i * C, set->list[biases[i]].value, C * sizeof *bias);
    }
    convolution_shape shape = self->attention.out.shape;
    shape.O = 3 * C;
    packed_convolution *packed = packed_convolution_create(weight, bias, &shape, precision, error);
    free(weight);
    return packed;
}

static int pack_layer(const parameters *set, const layer *self, packed_layer *packed, nn_precision precision,
                      limn_error *error) {
    switch (self->kind) {
    case LAYER_CONVOLUTION:
        return (packed->first = pack(set, &self->convolution, precision, error)) ? 0 : -1;
    case LAYER_RESNET:
        if (self->resnet.has_shortcut && !(packed->shortcut = pack(set, &self->resnet.shortcut, precision, error))) return -1;
        return (packed->first = pack(set, &self->resnet.conv1, precision, error)) &&
                       (packed->second = pack(set, &self->resnet.conv2, precision, error))
                   ? 0
                   : -1;
    case LAYER_ATTENTION:
        return (packed->first = pack_attention(set, self, precision, error)) &&
                       (packed->second = pack(set, &self->attention.out, precision, error))
                   ? 0
                   : -1;
    case LAYER_NORM_SWISH:
    case LAYER_POOL:
    case LAYER_UPSAMPLE:
        break;
    }
    return 0;
}

static size_t bytes_of(const packed_convolution *self) {
    return self ? packed_convolution_bytes(self) : 0;
}

static int pack_chain(const parameters *set, const chain *self, packed_layer **out, nn_precision precision, size_t *bytes,
                      limn_error *error) {
    packed_layer *list = *out = limn_allocate(self->count, sizeof *list, error);
    int status = list ? 0 : -1;
    for (size_t i = 0; i < self->count && status == 0; i++) {
        status = pack_layer(set, &self->list[i], &list[i], precision, error);
        *bytes += bytes_of(list[i].first) + bytes_of(list[i].second) + bytes_of(list[i].shortcut);
    }
    return status;
}

static void free_packed(packed_layer **list, size_t count) {
    for (size_t i = 0; *list && i < count; i++) {
        packed_convolution_free((*list)[i].first);
        packed_convolution_free((*list)[i].second);
        packed_convolution_free((*list)[i].shortcut);
    }
    free(*list);
    *list = NULL;
}

void vqgan_free_prepared(vqgan *model) {
    free_packed(&model->packed_encoder, model->encoder.count);
    free_packed(&model->packed_decoder, model->decoder.count);
    vqgan_codebook_free(model->packed_codes);
    model->packed_codes = NULL;
}

static int pack_encoder(vqgan *model, nn_precision precision, size_t *bytes, limn_error *error) {
    const parameter *codebook = &model->set.list[model->codebook];
    if (pack_chain(&model->set, &model->encoder, &model->packed_encoder, precision, bytes, error)) return -1;
    model->packed_codes = vqgan_codebook_pack(codebook->value, codebook->shape[0], codebook->shape[1], precision, error);
    if (!model->packed_codes) return -1;
    *bytes += vqgan_codebook_bytes(model->packed_codes);
    return 0;
}

int vqgan_prepare(vqgan *model, nn_precision precision, vqgan_half half, limn_error *error) {
    const double begin = limn_seconds();
    size_t bytes = 0;
    for (size_t i = 0; i < model->set.count; i++)
        if (model->set.list[i].value == NULL)
            return limn_fail(error, "the VQGAN was loaded for drawing alone, its weights are gone");
    vqgan_free_prepared(model);
    if ((half != VQGAN_DECODER && vqgan_can_encode(model) && pack_encoder(model, precision, &bytes, error)) ||
        (half != VQGAN_ENCODER && pack_chain(&model->set, &model->decoder, &model->packed_decoder, precision, &bytes, error))) {
        vqgan_free_prepared(model);
        return limn_fail_context(error, "the VQGAN's weights cannot be laid out");
    }
    limn_log(LIMN_LOG_DEBUG, "VQGAN laid out in %s: %.0f MB in %.2f s", nn_precision_name(precision), (double)bytes * 1e-6,
             limn_seconds() - begin);
    return 0;
}

/* ---------------------------------------------------------------- running */

static bool is_folded(const chain *self, size_t i) {
    const layer_kind kind = self->list[i].kind;
    if (i + 1 == self->count || self->list[i + 1].kind != LAYER_CONVOLUTION) return false;
    return kind == LAYER_NORM_SWISH || kind == LAYER_UPSAMPLE;
}

static bool begins_with_norm(const chain *self, size_t i) {
    if (i == self->count) return false;
    const layer_kind kind = self->list[i].kind;
    return kind == LAYER_RESNET || kind == LAYER_ATTENTION || kind == LAYER_NORM_SWISH;
}

/* Pictures on their way: moments of them where the next layer is a norm, terms where the last one was. */
typedef struct {
    float *x;
    double *moments;
    const float *terms;
    bool upsampled;
} flow;

static const float *terms_of(const parameters *set, const norm_layer *norm, const double *moments, size_t B, size_t pixels,
                             limn_arena *arena) {
    float *terms = limn_arena_floats(arena, B * 3 * norm->channels);
    groupnorm_terms(terms, moments, set->list[norm->scale].value, set->list[norm->bias].value, B, pixels, norm->channels,
                    VQGAN_GROUPS, VQGAN_GROUP_EPSILON);
    return terms;
}

static void infer_resnet(const parameters *set, const layer *self, const packed_layer *packed, const flow *from, float *out,
                         double *moments, size_t B, limn_arena *arena) {
    const size_t pixels = self->Y * self->X;
    float *hidden = limn_arena_floats(arena, B * pixels * self->out_C), *residual = from->x;
    double *of_hidden = limn_arena_bytes(arena, B * 2 * self->out_C * sizeof *of_hidden);
    const convolution_pass first = {.out = hidden,
                                    .in = from->x,
                                    .terms = terms_of(set, &self->resnet.norm1, from->moments, B, pixels, arena),
                                    .swish = true,
                                    .moments = of_hidden};
    packed_convolution_forward(packed->first, &first, B, arena);
    if (packed->shortcut) {
        packed_convolution_forward(packed->shortcut, &(convolution_pass){.out = out, .in = from->x}, B, arena);
        residual = out;
    }
    const convolution_pass second = {.out = out,
                                     .in = hidden,
                                     .terms = terms_of(set, &self->resnet.norm2, of_hidden, B, pixels, arena),
                                     .swish = true,
                                     .residual = residual,
                                     .moments = moments};
    packed_convolution_forward(packed->second, &second, B, arena);
}

static void infer_attention(const parameters *set, const layer *self, const packed_layer *packed, const flow *from, float *out,
                            double *moments, size_t B, limn_arena *arena) {
    const size_t T = self->Y * self->X, C = self->C;
    float *projected = limn_arena_floats(arena, B * T * 3 * C), *mixed = limn_arena_floats(arena, B * T * C);
    attention_shape shape = vqgan_attention_shape(self, B);
    shape.query_stride = shape.key_stride = shape.value_stride = 3 * C;
    const convolution_pass first = {
        .out = projected, .in = from->x, .terms = terms_of(set, &self->attention.norm, from->moments, B, T, arena)};
    packed_convolution_forward(packed->first, &first, B, arena);
    attention_forward(numbers_f32(mixed), numbers_f32(projected), numbers_f32(projected + C), numbers_f32(projected + 2 * C), &shape,
                      arena);
    const convolution_pass second = {.out = out, .in = mixed, .residual = from->x, .moments = moments};
    packed_convolution_forward(packed->second, &second, B, arena);
}

/* Layers [first, last) of B pictures into `out`, and the moments of these when they are wanted. from->x is overwritten unless
 * the first layer is a convolution. */
static void infer_layers(const parameters *set, const chain *self, const packed_layer *packed, size_t first, size_t last,
                         flow from, float *out, double *out_moments, size_t B, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena);
    size_t largest = 0, channels = 0;
    for (size_t i = first; i < last; i++) {
        const layer *here = &self->list[i];
        const size_t size = here->out_Y * here->out_X * here->out_C;
        if (!is_folded(self, i) && size > largest) largest = size;
        if (here->out_C > channels) channels = here->out_C;
    }
    float *rooms[2] = {limn_arena_floats(arena, B * largest), limn_arena_floats(arena, B * largest)};
    double *moments = limn_arena_bytes(arena, B * 2 * channels * sizeof *moments);
    for (size_t i = first; i < last; i++) {
        const layer *here = &self->list[i];
        const size_t layer_mark = limn_arena_mark(arena);
        if (is_folded(self, i)) {
            if (here->kind == LAYER_UPSAMPLE)
                from.upsampled = true;
            else
                from.terms = terms_of(set, &here->norm, from.moments, B, here->Y * here->X, arena);
            continue;
        }
        const bool in_place =
            i > first && ((here->kind == LAYER_RESNET && !here->resnet.has_shortcut) || here->kind == LAYER_ATTENTION);
        float *to = i + 1 == last ? out : in_place ? from.x : from.x == rooms[0] ? rooms[1] : rooms[0];
        double *wanted = !begins_with_norm(self, i + 1) ? NULL : i + 1 == last ? out_moments : moments;
        const convolution_pass pass = {.out = to,
                                       .in = from.x,
                                       .terms = from.terms,
                                       .swish = from.terms != NULL,
                                       .upsampled = from.upsampled,
                                       .moments = wanted};
        switch (here->kind) {
        case LAYER_CONVOLUTION:
            packed_convolution_forward(packed[i].first, &pass, B, arena);
            break;
        case LAYER_RESNET:
            infer_resnet(set, here, &packed[i], &from, to, wanted, B, arena);
            break;
        case LAYER_ATTENTION:
            infer_attention(set, here, &packed[i], &from, to, wanted, B, arena);
            break;
        case LAYER_NORM_SWISH: /* always folded: a convolution follows it */
        case LAYER_POOL:
        case LAYER_UPSAMPLE: {
            layer_saved saved;
            vqgan_layer_forward(set, here, &saved, to, from.x, B, arena);
            if (wanted) picture_moments(wanted, to, B, here->out_Y * here->out_X, here->out_C, arena);
            break;
        }
        }
        limn_arena_release(arena, layer_mark);
        from = (flow){.x = to, .moments = wanted};
    }
    limn_arena_release(arena, mark);
}

/* How many of B pictures to run at once through layer i: one where they are large, more where they are small, since every
 * pass over a layer's weights costs as much as some hundred tiles of products. */
static size_t pictures_at_once(const chain *self, size_t i, size_t B) {
    const size_t floats = (size_t)2 << 20;
    if (is_folded(self, i)) i++;
    const layer *here = &self->list[i];
    size_t in = here->Y * here->X * here->C, out = here->out_Y * here->out_X * here->out_C;
    if (i > 0 && self->list[i - 1].kind == LAYER_UPSAMPLE && is_folded(self, i - 1)) in /= 4;
    const size_t size = in > out ? in : out, count = size < floats ? floats / size : 1;
    return count < B ? count : B;
}

void vqgan_prepared_infer(const parameters *set, const chain *self, const packed_layer *packed, float *out, const float *in,
                          size_t B, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena);
    flow from = {.x = (float *)(uintptr_t)in}; /* the first layer is a convolution, which only reads */
    for (size_t first = 0, last; first < self->count; first = last) {
        const size_t at_once = pictures_at_once(self, first, B);
        for (last = first + 1; last < self->count && pictures_at_once(self, last, B) == at_once;) last++;
        const layer *head = &self->list[first], *tail = &self->list[last - 1];
        const size_t in_size = head->Y * head->X * head->C, out_size = tail->out_Y * tail->out_X * tail->out_C;
        float *to = last == self->count ? out : limn_arena_floats(arena, B * out_size);
        double *moments = limn_arena_bytes(arena, B * 2 * tail->out_C * sizeof *moments);
        for (size_t start = 0; start < B; start += at_once) {
            const size_t count = B - start < at_once ? B - start : at_once;
            const flow part = {.x = from.x + start * in_size,
                               .moments = from.moments ? from.moments + start * 2 * head->C : NULL};
            infer_layers(set, self, packed, first, last, part, to + start * out_size, moments + start * 2 * tail->out_C, count,
                         arena);
        }
        from = (flow){.x = to, .moments = moments};
    }
    limn_arena_release(arena, mark);
}
