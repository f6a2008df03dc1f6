/* The pictures that limn-vqgan train reads, held in memory. Internal to train/. */
#ifndef LIMN_TRAIN_DATA_H
#define LIMN_TRAIN_DATA_H

#include "formats/formats.h"

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
