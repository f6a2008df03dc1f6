/* Pairs in memory: the pictures' tokens, and their captions grouped by picture. Internal to train/. */
#ifndef LIMN_TRAIN_PAIR_BLOCK_H
#define LIMN_TRAIN_PAIR_BLOCK_H

#include "formats/formats.h"

typedef struct {
    size_t count, capacity, length; /* pictures, room for them, tokens a picture L */
    uint16_t *tokens;               /* (capacity,L) */
    uint64_t *caption_start;        /* (capacity+1): a picture's captions are caption_start[n] … caption_start[n+1]-1 */
    limn_buffer offsets, bytes;     /* of the captions: uint64_t (captions+1), and their text */
} pair_block;

int pair_block_create(pair_block *self, size_t capacity, size_t length, limn_error *error);
/* Adds those pictures of a shard that are `taken` (shard->count), all of which have captions; `taken_count` of them, for which
 * there is room. */
int pair_block_add(pair_block *self, const token_shard *shard, const bool *taken, size_t taken_count, limn_error *error);
/* A caption of picture n: the `choice`-th modulo how many it has. */
const char *pair_block_caption(const pair_block *self, size_t n, uint64_t choice, size_t *out_size);
void pair_block_free(pair_block *self);

#endif
