/* The pictures that limn-vqgan train reads: where they lie in their tars, and their decoding ahead of the steps. Internal to
 * train/. */
#ifndef LIMN_TRAIN_PICTURE_SET_H
#define LIMN_TRAIN_PICTURE_SET_H

#include "core/core.h"

typedef struct {
    uint64_t offset;
    uint32_t size, file;
} picture_place;

/* Sixteen bytes a picture; the pictures stay in their tars. */
typedef struct {
    size_t count;
    picture_place *list; /* (count): tars in the order given, each in its own order */
    limn_strings paths;
    uint64_t *bytes; /* (paths): the tars' sizes, so that one that was exchanged is noticed */
} picture_set;

/* Opens tars, folders of them and patterns, and reads the tars' headers. With `decode` (for a set that is small and read in
 * whole) each picture is decoded once, and left out with a warning when that fails. A set without pictures is an error. */
int picture_set_open(picture_set *set, const limn_strings *given, bool decode, limn_error *error);
void picture_set_close(picture_set *set);

/* Picture n as (side, side, 3) floats in [0,1], cropped and resized where it has another size. `room` holds its file's bytes
 * and grows as needed. 1: it cannot be decoded, and the error says why; -1: its tar cannot be read or is not what it was. */
int picture_set_decode(const picture_set *set, size_t n, size_t side, float *out, limn_buffer *room, limn_error *error);

/* ---------------------------------------------------------------- decoded ahead */

/* Which of `count` pictures the run takes as its draw-th (from 0): every epoch is a shuffle of all, a function of (seed,
 * epoch). `order` (count) and *epoch cache the current one; *epoch starts as UINT64_MAX. */
size_t data_order_at(uint64_t *order, uint64_t *epoch, size_t count, uint64_t seed, uint64_t draw);

/* Batches of the run's order (data_order_at), decoded by threads of their own while the step before computes. A
 * picture that cannot be decoded is replaced by the one after it in its epoch's order, with a warning for the first few: a
 * function of the draw alone, so that a run that is gone on with takes the same. */
typedef struct picture_stream picture_stream;
/* The set must live longer. */
picture_stream *picture_stream_start(const picture_set *set, size_t side, size_t batch, uint64_t seed, limn_error *error);
/* Draws (number−1)·batch … number·batch−1 as (batch, side, side, 3) floats in [0,1]; number counts from 1. Waits only for what
 * is not there yet; batches asked for in turn are. An error when a tar cannot be read, or many pictures in a row not decoded.
 */
int picture_stream_take(picture_stream *stream, uint64_t number, float *out, limn_error *error);
void picture_stream_stop(picture_stream *stream); /* frees; says how many pictures were replaced; NULL allowed */

#endif
