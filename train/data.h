/* What the two trainings read: pairs of caption and tokens, and pictures. Both are held in memory. Internal to train/. */
#ifndef LIMN_TRAIN_DATA_H
#define LIMN_TRAIN_DATA_H

#include "formats/formats.h"
#include "tokenizer/tokenizer.h"

typedef struct {
    size_t count, length;     /* pictures N, tokens a picture L */
    uint16_t *tokens;         /* (N,L) */
    uint64_t *caption_start;  /* (N+1): a picture's captions are caption_start[n] … caption_start[n+1]-1 */
    uint64_t *caption_offset; /* (M+1) into caption_bytes */
    char *caption_bytes;
} pair_set;

/* Reads every shard. All must have been made by the VQGAN with this SHA-256, with `length` tokens below `codebook_size`. A
 * picture without a caption is an error, since nothing could be learnt from it. */
int pair_set_read(pair_set *set, const limn_strings *paths, size_t length, size_t codebook_size, const char *vqgan_sha256,
                  limn_error *error);
void pair_set_free(pair_set *set);
/* A caption of picture n: the `choice`-th modulo how many it has. */
const char *pair_set_caption(const pair_set *set, size_t n, uint64_t choice, size_t *out_size);

typedef struct {
    size_t count;
    unsigned char *bytes;  /* the pictures as they lie in the tars, one after another */
    uint64_t *offset;      /* (count+1) */
    size_t broken;         /* left out, with a warning each for the first few */
} picture_set;

/* Reads every picture of the tars, still encoded; one that cannot be decoded is left out. */
int picture_set_read(picture_set *set, const limn_strings *paths, limn_error *error);
void picture_set_free(picture_set *set);
/* Decodes picture n as (side, side, 3) floats in [0,1], cropped and resized where it has another size. */
int picture_set_decode(const picture_set *set, size_t n, size_t side, float *out, limn_error *error);

#endif
