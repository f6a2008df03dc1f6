/* Where the pairs of a training lie: token shards and token lines, how many pairs each holds, and which of them are taken. The
 * pairs themselves stay on the disk. Internal to train/. */
#ifndef LIMN_TRAIN_PAIR_SET_H
#define LIMN_TRAIN_PAIR_SET_H

#include "train/pair_block.h"

enum { PAIR_FILTERS_MAX = 2 };

/* Takes the pictures whose number in this column lies in [min, max]; NaN, which stands for "not known", does not. */
typedef struct {
    const char *column, *option; /* borrowed; the option that asked for it, for errors */
    double min, max;
} pair_filter;
typedef struct {
    size_t count;
    pair_filter list[PAIR_FILTERS_MAX];
} pair_filters;

typedef struct {
    size_t length, codebook_size; /* of every shard: tokens a picture, and what they lie below */
    const char *vqgan_sha256;     /* that made the shards; NULL: any. Borrowed. Token lines do not say it. */
    pair_filters filters;
} pair_needs;

/* A token shard, or a part of a file of token lines: what is read at once. */
typedef struct {
    const char *path; /* the set's own */
    bool is_lines;
    token_lines_part part;
} pair_source;

typedef struct {
    pair_needs needs;
    limn_strings paths;
    size_t count; /* of sources */
    pair_source *sources;
    bool has_lines;           /* some are token lines: their VQGAN is not known */
    uint64_t *pairs;          /* (count) taken of each */
    uint64_t total, left_out; /* taken by the filters, and not */
} pair_set;

/* Opens files, folders and patterns, and counts the pairs of each. Of token shards it reads all but captions and tokens; token
 * lines it reads whole. Fails when no pair is left, or a picture that is taken has no caption. A column that is missing is a
 * usage error. */
int pair_set_open(pair_set *self, const limn_strings *given, const pair_needs *needs, limn_error *error);
void pair_set_close(pair_set *self);
/* Reads the sources of these numbers, one after another, into a block of their `pairs` pairs. Fails when a file is not what it
 * was when the set was opened. Safe beside other threads. */
int pair_set_read(const pair_set *self, const uint64_t *numbers, size_t count, uint64_t pairs, pair_block *block,
                  limn_error *error);
/* Appends to out[i] (count) the first caption of pair numbers[i], counted through all sources in their order; the numbers
 * ascend. For samples, since it reads all of each source that has one. */
int pair_set_captions(const pair_set *self, const uint64_t *numbers, size_t count, limn_buffer *out, limn_error *error);
/* A hash of the counts of all sources in their order: together with the seed it fixes the order of the pairs. */
void pair_set_digest(const pair_set *self, char out_hex[65]);

#endif
