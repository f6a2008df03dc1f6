/* The data of one seq2seq training: the stream of its pairs, and the sets kept from it. Internal to train/. */
#ifndef LIMN_TRAIN_PAIR_DATA_H
#define LIMN_TRAIN_PAIR_DATA_H

#include "train/loop.h"
#include "train/pair_stream.h"

/* Keys of train.seq2seq that are read here, NULL-terminated. */
extern const char *const PAIR_KEYS[];
typedef struct {
    double condition_dropout;
    size_t shuffle_buffer; /* pairs */
    pair_filters filters;  /* of training pairs; their names are the section's */
} pair_settings;
int pair_settings_read(pair_settings *settings, const json_t *section, const char *file, limn_error *error);

typedef struct {
    char metric[64]; /* "valid_loss", or "valid_loss_NAME" of --valid NAME=PATTERN */
    pair_set set;
    pair_stream *stream;
    uint64_t first, count; /* the pairs that this rank reads */
    uint64_t epoch;        /* how often they have been read */
} valid_set;

typedef struct {
    pair_set set;
    pair_stream *stream;
    valid_set *valid; /* that without a name first, then in the order given */
    size_t valid_count;
} pair_data;

/* Which pairs of each step, and of each set kept from training, this process reads. */
typedef struct {
    size_t rank, ranks;
    uint64_t stride;       /* pairs of a step */
    uint64_t first, count; /* of these, this rank's */
    size_t at_once;        /* pairs of a forward pass */
} pair_share;
/* Rank `rank` of `ranks` gets every ranks-th part, as even as can be. A usage error where a rank would get none. */
int pair_share_of(pair_share *out, size_t rank, size_t ranks, size_t batch_size, size_t accumulation, limn_error *error);

/* Opens --data and --valid; what they are goes into `inputs`, since it decides the run. `needs` comes without filters.
 * `captions` must outlive it. Zero-initialise; pair_data_close also after an error. */
int pair_data_open(pair_data *self, const train_options *options, const pair_settings *settings, const pair_needs *needs,
                   const caption_encoder *captions, size_t text_length, const pair_share *share, uint64_t seed, json_t *inputs,
                   limn_error *error);
void pair_data_close(pair_data *self);

#endif
