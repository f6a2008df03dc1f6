/* Pairs on their way from disk into batches. One thread reads the groups of pair_order ahead, another normalises and tokenizes
 * their captions into a queue of ready rows, so that a step only copies. In memory are at most two groups and that queue,
 * however large the set is. Internal to train/. */
#ifndef LIMN_TRAIN_PAIR_STREAM_H
#define LIMN_TRAIN_PAIR_STREAM_H

#include "tokenizer/tokenizer.h"
#include "train/pair_order.h"
#include "train/pair_set.h"

typedef struct {
    const pair_set *set;             /* must outlive the stream, as the next */
    const caption_encoder *captions; /* safe from several threads */
    size_t text_length;              /* S */
    bool shuffled; /* training: in pair_order, a caption of each picture by (seed, draw). Else: as the pairs lie, and the
                    * first caption */
    uint64_t buffer, seed;    /* pairs that are shuffled among each other; seed of order, captions and blanks */
    double condition_dropout; /* share of captions that are replaced by the empty one, by (seed, draw): arXiv 2207.12598 */
    /* Which draws this stream gives: of every `stride`, `rows` from `offset` on. One process alone takes all (rows = stride);
     * rank r of R takes offset r·B, rows B of stride R·B. */
    uint64_t stride, offset, rows;
    size_t ahead; /* rows that may be ready at once; at least what one call takes */
} pair_stream_options;

/* Memory for the rows of a batch. */
typedef struct {
    int32_t *input_ids, *attention_mask; /* (rows,S) */
    int32_t *decoder_input_ids, *labels; /* (rows,T); the first is not the stream's to fill */
} pair_rows;
int pair_rows_create(pair_rows *self, size_t rows, size_t S, size_t T, limn_error *error); /* freed after an error too */
void pair_rows_free(pair_rows *self);

typedef struct pair_stream pair_stream;
pair_stream *pair_stream_open(const pair_stream_options *options, limn_error *error);
/* Waits for the threads and frees; NULL allowed. */
void pair_stream_close(pair_stream *self);
/* The next `rows` draws of this stream from `draw` on, which must be one of its own: input_ids and attention_mask (rows,S),
 * labels (rows,L). Going on where the last call ended it only copies, and waits only for what is not ready; from another draw
 * the threads begin anew. Allocates nothing. A file that is gone or changed fails when its rows are asked for, not before; the
 * next call tries again. */
int pair_stream_fill(pair_stream *self, uint64_t draw, size_t rows, int32_t *input_ids, int32_t *attention_mask,
                     int32_t *labels, limn_error *error);
/* Seconds that all calls have waited for rows. */
double pair_stream_waited(pair_stream *self);
/* The most pairs that were in memory at once. */
uint64_t pair_stream_pairs_peak(pair_stream *self);

#endif
