/* A shard of limn-encode as it grows in memory, and as files. */
#include "dataset/encode.h"

#include <string.h>

enum {
    SKIPPED_NAMED = 100, /* skipped samples that the stats name one by one */
    REASONS_NAMED = 100
};

int encode_shard_begin(encode_shard *self, size_t input, limn_error *error) {
    *self = (encode_shard){.input = input, .reasons = json_object(), .named = json_object()};
    if (!self->reasons || !self->named) return limn_fail(error, "out of memory for a shard's stats");
    return token_shard_rows_begin(&self->rows, error);
}

void encode_shard_free(encode_shard *self) {
    token_shard_rows_free(&self->rows);
    json_decref(self->reasons);
    json_decref(self->named);
    *self = (encode_shard){0};
}

void encode_shard_skip(encode_shard *self, const encode_sample *sample) {
    const char *reason = sample->problem.message;
    self->skipped++;
    if (json_object_size(self->named) < SKIPPED_NAMED) json_object_set_new(self->named, sample->key, json_string(reason));
    if (!json_object_get(self->reasons, reason) && json_object_size(self->reasons) >= REASONS_NAMED) reason = "other";
    json_int_t before = json_integer_value(json_object_get(self->reasons, reason));
    json_object_set_new(self->reasons, reason, json_integer(before + 1));
}

int encode_shard_add(encode_shard *self, const int32_t *tokens, size_t length, const encode_sample *sample, limn_error *error) {
    for (size_t i = 0; i < length; i++) {
        const uint16_t token = (uint16_t)tokens[i]; /* vqgan_config_read allows no larger codebook */
        if (limn_buffer_append(&self->rows.tokens, &token, sizeof token, error)) return -1;
    }
    const char *caption = sample->caption.data;
    size_t size = sample->caption.size;
    while (size && strchr(" \t\r\n", caption[size - 1])) size--;
    if (size > ENCODE_CAPTION_MAX_BYTES || (size && !limn_utf8_valid(caption, size)))
        self->captions_left_out++;
    else if (size && token_shard_rows_caption(&self->rows, caption, size, error))
        return -1;
    return token_shard_rows_end(&self->rows, sample->key, error);
}

int encode_shard_save(const encode_shard *self, const encode_kind *kind, const char *path, limn_error *error) {
    token_shard whole = {.length = kind->length, .image_size = kind->side, .codebook_size = kind->codebook_size};
    token_shard_rows_lend(&self->rows, &whole);
    snprintf(whole.vqgan_sha256, sizeof whole.vqgan_sha256, "%s", kind->vqgan_sha256);
    snprintf(whole.precision, sizeof whole.precision, "%s", nn_precision_name(kind->options->precision));
    return token_shard_write(path, &whole, error);
}

int encode_shard_write(const encode_shard *self, const encode_kind *kind, limn_error *error) {
    const char *tar = kind->options->inputs.items[self->input];
    char path[4096];
    if (encode_output_path(path, sizeof path, kind->options, tar, ".stats.json", error)) return -1;
    json_t *stats =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:O, s:O}", "tar", limn_base_name(tar), "vqgan_sha256",
                  kind->vqgan_sha256, "samples", (json_int_t)self->samples, "pictures", (json_int_t)self->rows.count,
                  "captions", (json_int_t)self->rows.captions, "captions_left_out", (json_int_t)self->captions_left_out,
                  "skipped", (json_int_t)self->skipped, "reasons", self->reasons, "first_skipped", self->named);
    if (!stats) return limn_fail(error, "out of memory for %s", path);
    int status = limn_json_save(stats, path, error);
    json_decref(stats);
    if (status || encode_output_path(path, sizeof path, kind->options, tar, ".h5", error)) return -1;
    return encode_shard_save(self, kind, path, error);
}
