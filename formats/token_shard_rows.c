/* The rows of a token shard that grows in memory. */
#include "formats/formats.h"

#include <string.h>

int token_shard_rows_begin(token_shard_rows *self, limn_error *error) {
    const uint64_t zero = 0;
    *self = (token_shard_rows){0};
    return limn_buffer_append(&self->caption_offsets, &zero, sizeof zero, error) ||
                   limn_buffer_append(&self->key_offsets, &zero, sizeof zero, error)
               ? -1
               : 0;
}

static int append_text(limn_buffer *bytes, limn_buffer *offsets, const char *text, size_t size, limn_error *error) {
    if (size && limn_buffer_append(bytes, text, size, error)) return -1;
    const uint64_t end = bytes->size;
    return limn_buffer_append(offsets, &end, sizeof end, error);
}

int token_shard_rows_caption(token_shard_rows *self, const char *text, size_t size, limn_error *error) {
    const uint32_t row = (uint32_t)self->count;
    if (append_text(&self->caption_bytes, &self->caption_offsets, text, size, error) ||
        limn_buffer_append(&self->caption_row, &row, sizeof row, error))
        return -1;
    self->captions++;
    return 0;
}

int token_shard_rows_end(token_shard_rows *self, const char *key, limn_error *error) {
    if (append_text(&self->key_bytes, &self->key_offsets, key, strlen(key), error)) return -1;
    self->count++;
    return 0;
}

void token_shard_rows_lend(const token_shard_rows *self, token_shard *shard) {
    shard->count = self->count;
    shard->captions = self->captions;
    shard->tokens = (uint16_t *)(void *)self->tokens.data;
    shard->caption_bytes = (unsigned char *)self->caption_bytes.data;
    shard->caption_offsets = (uint64_t *)(void *)self->caption_offsets.data;
    shard->caption_row = (uint32_t *)(void *)self->caption_row.data;
    shard->key_bytes = (unsigned char *)self->key_bytes.data;
    shard->key_offsets = (uint64_t *)(void *)self->key_offsets.data;
}

void token_shard_rows_free(token_shard_rows *self) {
    limn_buffer *buffers[] = {&self->tokens,      &self->caption_bytes, &self->caption_offsets,
                              &self->caption_row, &self->key_bytes,     &self->key_offsets};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) limn_buffer_free(buffers[i]);
    *self = (token_shard_rows){0};
}
