/* What the files of limn-encode share; nothing outside but their tests includes it.
 *
 *   encode_ahead    threads of our own read tars and decode pictures, a bounded number ahead, across the tars' borders
 *   encode.c        the caller's thread takes them in their order and runs the VQGAN, whose OpenMP team has all cores
 *   encode_writer   one thread compresses and writes a finished shard, and waits for the disk
 *
 * A shard's bytes depend on its tar, the VQGAN and the precision alone. */
#ifndef LIMN_DATASET_ENCODE_H
#define LIMN_DATASET_ENCODE_H

#include "dataset/dataset.h"
#include "formats/formats.h"
#include "vqgan/vqgan.h"

enum {
    ENCODE_CAPTION_MAX_BYTES = 1 << 16
}; /* longer is of no use to a model of 64 tokens; a shard's captions are in memory at once */

/* What every shard of a run has in common. */
typedef struct {
    const encode_options *options;
    char vqgan_sha256[65];
    size_t side, length, codebook_size; /* pixels a side, tokens a picture */
} encode_kind;

/* ---------------------------------------------------------------- tars in, shards out (encode_input.c) */

/* OUTPUT/NNNNN and an ending, of DIR/NNNNN.tar. */
int encode_output_path(char *out, size_t size, const encode_options *options, const char *tar, const char *ending,
                       limn_error *error);
bool encode_is_mine(const encode_options *options, size_t input);
/* Two tars of one name would write one shard, and a shard's stats beside its tar would take the place of the tar's own. */
int encode_check_inputs(const encode_options *options, limn_error *error);
/* Makes the folder and locks it. One process a part: its lock is in the folder itself, or for one part of several in a hidden
 * folder of the part's. */
int encode_lock_output(const encode_options *options, int *lock, limn_error *error);
/* Removes what killed runs of this part left; the part's lock says that none is alive. `finished`: whole shards too. */
int encode_remove_leftovers(const encode_options *options, bool finished, limn_error *error);
/* Marks in `todo` the inputs to encode and counts those whose shards are whole. Every shard is looked at before any is made:
 * one of another VQGAN or precision is an error. */
int encode_find_work(const encode_kind *kind, bool *todo, size_t *whole, limn_error *error);

/* How much lies ahead: the pictures of tars whose stats limn-download left beside them, and the bytes of the others. */
typedef struct {
    uint64_t known_pictures, known_bytes, other_bytes;
} encode_amount;
encode_amount encode_measure(const encode_options *options, const bool *todo);
/* Pictures in all, where so many samples in so many bytes of the tars are read; 0 while nothing tells. */
uint64_t encode_estimate(const encode_amount *amount, uint64_t samples, uint64_t bytes);

/* ---------------------------------------------------------------- reading ahead (encode_ahead.c) */

typedef struct {
    char key[256];
    limn_buffer caption; /* cut one byte above the limit, which is enough to tell that it is over */
    picture pixels;      /* side × side; no pixels: it cannot be used */
    limn_error problem;  /* then: why */
} encode_sample;
void encode_sample_free(encode_sample *self);

typedef enum {
    ENCODE_SAMPLE,
    ENCODE_TAR_ENDS,
    ENCODE_TAR_DAMAGED, /* in the middle or at its start; the sample's problem says how */
    ENCODE_ALL_READ,
    ENCODE_FAILED /* out of memory; the sample's problem */
} encode_event;

typedef struct encode_ahead encode_ahead;
/* Begins with the tars of `todo` at once. At most `queue` decoded samples wait. options and todo must outlive it. */
encode_ahead *encode_ahead_start(const encode_options *options, const bool *todo, size_t side, size_t readers, size_t queue,
                                 limn_error *error);
/* The next event in the order of the tars, and its input. *sample must be zero or one of an earlier call, whose memory is used
 * again (its pixels are not freed). *waited grows by the seconds that this took. -1: limn_stop_requested. */
int encode_ahead_take(encode_ahead *self, encode_event *event, encode_sample *sample, size_t *input, double *waited,
                      limn_error *error);
/* How far reading is: samples, and bytes of the tars. True: there are no more. */
bool encode_ahead_position(encode_ahead *self, uint64_t *samples, uint64_t *bytes);
void encode_ahead_stop(encode_ahead *self); /* also in the middle; NULL allowed */

/* ---------------------------------------------------------------- a shard as it grows (encode_shard.c) */

/* A token shard's rows, and what its stats say. */
typedef struct {
    size_t input;
    token_shard_rows rows;
    size_t samples, skipped, captions_left_out;
    json_t *reasons, *named; /* reason -> count; key -> reason */
} encode_shard;
int encode_shard_begin(encode_shard *self, size_t input, limn_error *error);
/* Takes in a picture's tokens, its key and, where it has one that can be used, its caption. */
int encode_shard_add(encode_shard *self, const int32_t *tokens, size_t length, const encode_sample *sample, limn_error *error);
void encode_shard_skip(encode_shard *self, const encode_sample *sample); /* a sample that cannot be used, with its problem */
/* The stats first: the shard says that both are there. */
int encode_shard_write(const encode_shard *self, const encode_kind *kind, limn_error *error);
/* The shard alone. */
int encode_shard_save(const encode_shard *self, const encode_kind *kind, const char *path, limn_error *error);
void encode_shard_free(encode_shard *self); /* of a zeroed one too */

/* ---------------------------------------------------------------- writing behind (encode_writer.c) */

typedef struct encode_writer encode_writer;
encode_writer *encode_writer_start(const encode_kind *kind, limn_error *error);
/* Takes the shard, which is empty afterwards, to be written. While one is being written another can wait; *waited grows by the
 * seconds that this took when there were two. -1 when an earlier one could not be written: nothing is taken. */
int encode_writer_add(encode_writer *self, encode_shard *shard, double *waited, limn_error *error);
int encode_writer_check(encode_writer *self, limn_error *error); /* -1 when one could not be written */
/* Waits until all are written, adds them to the summary and ends the thread; -1 when one could not be written. NULL allowed. */
int encode_writer_end(encode_writer *self, encode_summary *summary, limn_error *error);

/* ---------------------------------------------------------------- the VQGAN at work (encode_vqgan.c) */

typedef struct {
    vqgan *model;
    limn_arena *arena;
    size_t side, length;
    float *pixels;   /* (batch, side, side, 3) */
    int32_t *tokens; /* (batch, length) */
} encode_vqgan;
/* Of options: the folder and the batch. On failure nothing is held. */
int encode_vqgan_open(encode_vqgan *self, const encode_options *options, nn_precision precision, limn_error *error);
/* Puts a picture of side × side at a place of the batch. */
void encode_vqgan_put(encode_vqgan *self, size_t place, const picture *from);
/* The tokens of the batch's first `count` pictures, which it does not keep. */
void encode_vqgan_run(encode_vqgan *self, size_t count);
void encode_vqgan_close(encode_vqgan *self);
size_t encode_usual_batch(void); /* pictures: larger batches are no faster */
/* What shards of this VQGAN have in common; options must outlive it. */
encode_kind encode_kind_of(const encode_options *options, const encode_vqgan *from);

/* ---------------------------------------------------------------- checking (encode_verify.c) */

/* Remembers some pictures of a run, chosen by their keys, whatever the order in which they come. */
typedef struct encode_verifier encode_verifier;
encode_verifier *encode_verifier_create(const encode_kind *kind, limn_error *error);
/* Row `row` of input's shard. Takes the sample's pixels when it needs them. */
void encode_verifier_offer(encode_verifier *self, encode_sample *sample, size_t input, size_t row, const int32_t *tokens);
/* Reads the rows back from the written shards; in another precision than fp32, also encodes the pictures in fp32. */
int encode_verifier_run(encode_verifier *self, encode_summary *summary, limn_error *error);
void encode_verifier_free(encode_verifier *self); /* NULL allowed */

#endif
