/* The VQGAN and the shard of limn-encode for pictures in memory. */
#include "dataset/encode.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct token_encoder {
    encode_options options; /* of which kind speaks */
    encode_kind kind;
    encode_vqgan vqgan;
};

struct token_rows {
    encode_shard shard;
};

/* ---------------------------------------------------------------- the VQGAN */

token_encoder *token_encoder_open(const char *folder, nn_precision precision, limn_error *error) {
    if (precision != PRECISION_FP32 && precision != PRECISION_BF16) {
        limn_fail_usage(error, "--precision %s: a VQGAN encodes in fp32 or bf16", nn_precision_name(precision));
        return NULL;
    }
    token_encoder *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->options = (encode_options){.vqgan = folder, .batch = encode_usual_batch(), .precision = precision};
    if (encode_vqgan_open(&self->vqgan, &self->options, precision, error)) {
        free(self);
        return NULL;
    }
    self->kind = encode_kind_of(&self->options, &self->vqgan);
    return self;
}

size_t token_encoder_side(const token_encoder *self) {
    return self->kind.side;
}

size_t token_encoder_length(const token_encoder *self) {
    return self->kind.length;
}

size_t token_encoder_batch(const token_encoder *self) {
    return self->options.batch;
}

const char *token_encoder_sha256(const token_encoder *self) {
    return self->kind.vqgan_sha256;
}

const char *token_encoder_precision(const token_encoder *self) {
    return nn_precision_name(self->options.precision);
}

void token_encoder_put(token_encoder *self, size_t place, const unsigned char *pixels) {
    const picture from = {.width = self->kind.side, .height = self->kind.side, .pixels = (unsigned char *)(uintptr_t)pixels};
    encode_vqgan_put(&self->vqgan, place, &from);
}

const int32_t *token_encoder_run(token_encoder *self, size_t count) {
    omp_set_num_threads((int)limn_get_threads()); /* each thread has a size of team of its own */
    encode_vqgan_run(&self->vqgan, count);
    return self->vqgan.tokens;
}

void token_encoder_close(token_encoder *self) {
    if (!self) return;
    encode_vqgan_close(&self->vqgan);
    free(self);
}

/* ---------------------------------------------------------------- rows */

token_rows *token_rows_create(limn_error *error) {
    token_rows *self = limn_allocate(1, sizeof *self, error);
    if (!self || encode_shard_begin(&self->shard, 0, error) == 0) return self;
    token_rows_free(self);
    return NULL;
}

int token_rows_add(token_rows *self, const char *key, const int32_t *tokens, size_t length, const char *caption,
                   size_t caption_size, limn_error *error) {
    encode_sample sample = {.caption = {.data = (char *)(uintptr_t)caption, .size = caption_size}};
    snprintf(sample.key, sizeof sample.key, "%s", key);
    return encode_shard_add(&self->shard, tokens, length, &sample, error);
}

int token_rows_write(const token_rows *self, const token_encoder *encoder, const char *path, limn_error *error) {
    return encode_shard_save(&self->shard, &encoder->kind, path, error);
}

void token_rows_free(token_rows *self) {
    if (!self) return;
    encode_shard_free(&self->shard);
    free(self);
}
