/* The VQGAN as limn-encode uses it: 8-bit pictures in, tokens out, a batch at a time. */
#include "dataset/encode.h"

#include <stdlib.h>

static const size_t ARENA_LIMIT = (size_t)1 << 38; /* address space, not memory */

static int open_model(encode_vqgan *self, const encode_options *options, nn_precision precision, limn_error *error) {
    if (vqgan_need_converted(options->vqgan, error)) return -1;
    self->model = vqgan_load(options->vqgan, false, error);
    if (!self->model || vqgan_need_encoder(self->model, options->vqgan, error)) return -1;
    if (vqgan_prepare(self->model, precision, VQGAN_ENCODER, error)) return -1;
    self->side = vqgan_get_config(self->model)->resolution;
    self->length = vqgan_token_count(self->model);
    size_t floats;
    if (limn_multiply(self->side * self->side * 3, options->batch, &floats, error)) return -1;
    self->arena = limn_arena_create(ARENA_LIMIT, error);
    self->pixels = limn_allocate(floats, sizeof *self->pixels, error);
    self->tokens = limn_allocate(options->batch * self->length, sizeof *self->tokens, error);
    return self->arena && self->pixels && self->tokens ? 0 : -1;
}

int encode_vqgan_open(encode_vqgan *self, const encode_options *options, nn_precision precision, limn_error *error) {
    *self = (encode_vqgan){0};
    if (open_model(self, options, precision, error) == 0) return 0;
    encode_vqgan_close(self);
    return -1;
}

void encode_vqgan_put(encode_vqgan *self, size_t place, const picture *from) {
    picture_to_floats(from, self->pixels + place * self->side * self->side * 3);
}

void encode_vqgan_run(encode_vqgan *self, size_t count) {
    vqgan_pixels_to_model(self->model, self->pixels, self->pixels, count * self->side * self->side * 3);
    vqgan_encode(self->model, self->tokens, NULL, self->pixels, count, self->arena);
    limn_arena_release(self->arena, 0);
}

void encode_vqgan_close(encode_vqgan *self) {
    free(self->pixels);
    free(self->tokens);
    if (self->arena) limn_arena_destroy(self->arena);
    vqgan_free(self->model);
    *self = (encode_vqgan){0};
}

size_t encode_usual_batch(void) {
    enum { LEAST = 4, MOST = 32 }; /* larger ones are no faster, and Ctrl-C waits for one */
    const size_t batch = 2 * limn_get_threads();
    return batch < LEAST ? LEAST : batch > MOST ? MOST : batch;
}

encode_kind encode_kind_of(const encode_options *options, const encode_vqgan *from) {
    encode_kind kind = {.options = options,
                        .side = from->side,
                        .length = from->length,
                        .codebook_size = vqgan_get_config(from->model)->n_embed};
    snprintf(kind.vqgan_sha256, sizeof kind.vqgan_sha256, "%s", vqgan_get_sha256(from->model));
    return kind;
}
