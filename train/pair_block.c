#include "train/pair_block.h"

#include <stdlib.h>

int pair_block_create(pair_block *self, size_t capacity, size_t length, limn_error *error) {
    size_t tokens;
    const uint64_t zero = 0;
    *self = (pair_block){.capacity = capacity, .length = length};
    if (limn_multiply(capacity, length, &tokens, error) || limn_buffer_append(&self->offsets, &zero, sizeof zero, error))
        return -1;
    self->tokens = limn_allocate(tokens, sizeof *self->tokens, error);
    self->caption_start = limn_allocate(capacity + 1, sizeof *self->caption_start, error);
    if (self->tokens && self->caption_start) return 0;
    pair_block_free(self);
    return -1;
}

void pair_block_free(pair_block *self) {
    free(self->tokens);
    free(self->caption_start);
    limn_buffer_free(&self->offsets);
    limn_buffer_free(&self->bytes);
    *self = (pair_block){0};
}

static int add_caption(pair_block *self, const token_shard *shard, size_t m, limn_error *error) {
    uint64_t from = shard->caption_offsets[m], size = shard->caption_offsets[m + 1] - from;
    if (limn_buffer_append(&self->bytes, shard->caption_bytes + from, size, error)) return -1;
    uint64_t end = self->bytes.size;
    return limn_buffer_append(&self->offsets, &end, sizeof end, error);
}

/* Captions by picture, each picture's in their order: a stable counting sort. next (count+1) and order (captions) are scratch.
 */
static int add_captions(pair_block *self, const token_shard *shard, const bool *taken, uint64_t *next, uint32_t *order,
                        limn_error *error) {
    for (size_t m = 0; m < shard->captions; m++) next[shard->caption_row[m] + 1]++;
    for (size_t n = 0; n < shard->count; n++) next[n + 1] += next[n];
    for (size_t m = 0; m < shard->captions; m++) order[next[shard->caption_row[m]]++] = (uint32_t)m;
    /* next[n] is now the end of picture n's captions */
    for (size_t n = 0; n < shard->count; n++) {
        if (!taken[n]) continue;
        for (size_t i = n ? next[n - 1] : 0; i < next[n]; i++)
            if (add_caption(self, shard, order[i], error)) return -1;
        memcpy(self->tokens + self->count * self->length, shard->tokens + n * self->length,
               self->length * sizeof *self->tokens);
        self->caption_start[++self->count] = self->offsets.size / sizeof(uint64_t) - 1;
    }
    return 0;
}

int pair_block_add(pair_block *self, const token_shard *shard, const bool *taken, size_t taken_count, limn_error *error) {
    if (taken_count > self->capacity - self->count || shard->length != self->length)
        return limn_fail(error, "%zu pairs of %zu tokens are more than there is room for", taken_count, shard->length);
    uint64_t *next = limn_allocate(shard->count + 1, sizeof *next, error);
    uint32_t *order = limn_allocate(shard->captions, sizeof *order, error);
    int status = next && order ? add_captions(self, shard, taken, next, order, error) : -1;
    free(next);
    free(order);
    return status;
}

const char *pair_block_caption(const pair_block *self, size_t n, uint64_t choice, size_t *out_size) {
    uint64_t first = self->caption_start[n], m = first + choice % (self->caption_start[n + 1] - first);
    const uint64_t *offsets = (const uint64_t *)(const void *)self->offsets.data;
    *out_size = offsets[m + 1] - offsets[m];
    return self->bytes.data + offsets[m];
}
