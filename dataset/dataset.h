/* dataset: what becomes of pictures with captions that are there: from WebDataset tars to token shards (limn-encode).
 * Tars come from strangers: a bad sample is counted and named, never fatal. */
#ifndef LIMN_DATASET_H
#define LIMN_DATASET_H

#include "core/core.h"
#include "nn/nn.h"
#include "pictures/pictures.h"

/* ---------------------------------------------------------------- parts of a run */

enum { PARTS_MAX = 4096 };
/* "I/N" to part and parts. A usage error when it is not that, or as part_check. */
int part_parse(const char *text, size_t *part, size_t *parts, limn_error *error);
/* A usage error unless parts is from 1 to PARTS_MAX and part below it. */
int part_check(size_t part, size_t parts, limn_error *error);

/* ---------------------------------------------------------------- encoding to token shards */

typedef struct {
    limn_strings inputs; /* tars, already expanded and sorted; two of one file name are an error */
    const char *vqgan;   /* model folder */
    const char *output;  /* folder, made when missing */
    size_t part, parts;  /* this process encodes inputs with number % parts == part */
    size_t batch;        /* pictures the VQGAN sees at once; 0: two a thread, from 4 to 32 */
    nn_precision precision;
    size_t verify;  /* pictures to check afterwards; 0: none */
    size_t readers; /* threads that read and decode ahead; 0: chosen by the CPUs */
    size_t queue;   /* decoded pictures that may wait; 0: chosen by batch and size */
    bool restart;   /* make every shard of this part anew, whatever is there */
} encode_options;

typedef struct {
    size_t shards_made, shards_kept; /* kept: whole already, made in the same way */
    uint64_t pictures;               /* the VQGAN has encoded in this run */
    uint64_t captions, skipped;      /* of the shards made; skipped: samples without a picture that can be used */
    double seconds;                  /* of all, loading the VQGAN included */
    double encode_seconds;           /* from the first tar's opening to the last shard's writing */
    double rate;                     /* pictures a second of these */
    double vqgan_wait_seconds;       /* of these, that the VQGAN waited for a picture or for a shard to be taken away */
    size_t verified;                 /* pictures checked */
    double token_agreement;          /* share of their tokens that fp32 gives too, */
    double least_agreement;          /* and of the one picture with the smallest share */
    char least_key[256];
} encode_summary;

/* Encodes every DIR/NNNNN.tar to OUTPUT/NNNNN.h5 (formats.h, "token shards"; DESIGN, "Files"), with OUTPUT/NNNNN.stats.json:
 * counts, and reason -> how many of the samples skipped. A picture of another size than the model's is resized, the middle
 * square of it. A picture without a caption is kept without one. A shard that is whole and was made with this VQGAN (by the
 * SHA-256 of its weights) in this precision is left as it is; one that was made otherwise is an error before anything is
 * encoded. A tar that cannot be read to its end makes no shard and is an error when all others are done.
 *
 * Pictures are read and decoded ahead on threads of their own, and shards are written behind, so that the VQGAN does not wait;
 * the shards' bytes depend neither on threads nor on the queue.
 * `verify` pictures, chosen by their keys from all of this run, are read back from the shards and compared: with what the VQGAN
 * gave (fp32), else with what it gives for the same pixels in fp32. Reading back anything else than was written is an error.
 * Stops after the batch at hand when limn_stop_requested: -1, and no half shard is left. */
int encode_run(const encode_options *options, encode_summary *summary, limn_error *error);

/* ---------------------------------------------------------------- token shards of pictures in memory */

/* A VQGAN for who has the pictures in memory. One thread runs it, with OpenMP's team; the tokens of a picture are the same in
 * whatever batch it comes. */
typedef struct token_encoder token_encoder;
token_encoder *token_encoder_open(const char *vqgan, nn_precision precision, limn_error *error); /* a model folder */
size_t token_encoder_side(const token_encoder *self);           /* pixels, of width and height */
size_t token_encoder_length(const token_encoder *self);         /* tokens a picture */
size_t token_encoder_batch(const token_encoder *self);          /* pictures that are best encoded at once */
const char *token_encoder_sha256(const token_encoder *self);    /* of the VQGAN's model.safetensors */
const char *token_encoder_precision(const token_encoder *self); /* "fp32" */
/* Puts a picture at a place of the batch: 8-bit RGB (side, side, 3). */
void token_encoder_put(token_encoder *self, size_t place, const unsigned char *pixels);
/* The tokens (count, length) of the batch's first `count` pictures, until the next call. */
const int32_t *token_encoder_run(token_encoder *self, size_t count);
void token_encoder_close(token_encoder *self); /* NULL allowed */

/* A token shard that grows row by row, to the very bytes that limn-encode writes for the same pictures. */
typedef struct token_rows token_rows;
token_rows *token_rows_create(limn_error *error);
/* A picture's tokens (length), its key, and its caption, which is left out where limn-encode leaves it out. */
int token_rows_add(token_rows *self, const char *key, const int32_t *tokens, size_t length, const char *caption,
                   size_t caption_size, limn_error *error);
int token_rows_write(const token_rows *self, const token_encoder *encoder, const char *path, limn_error *error); /* fsynced */
void token_rows_free(token_rows *self); /* NULL allowed */

#endif
