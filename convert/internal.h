/* What the files of convert/ share. */
#ifndef LIMN_CONVERT_INTERNAL_H
#define LIMN_CONVERT_INTERNAL_H

#include "convert/convert.h"
#include "seq2seq/seq2seq.h"
#include "vqgan/vqgan.h"

/* ---------------------------------------------------------------- source.c */

/* An opened source: the description of a model of one of the two kinds (the other is NULL), and the file its weights are in. */
typedef struct {
    char folder[4096]; /* where its configuration and tokenizer lie */
    tensor_file *file;
    char prefix[256]; /* before all names in the file */
    seq2seq *seq2seq;
    seq2seq_naming seq2seq_naming;
    vqgan *vqgan;
    vqgan_naming vqgan_naming;
} model_source;

/* A folder, a file of one, or min-dalle's split files. Every tensor's name and shape is checked. */
int model_source_open(model_source *source, const char *path, const char *pixel_range, limn_error *error);
void model_source_close(model_source *source);

/* A conversion at work. */
typedef struct {
    const convert_options *options;
    limn_progress *progress; /* in MB, over all files */
    uint64_t bytes_done, bytes_total;
} conversion;

static inline uint64_t in_megabytes(uint64_t bytes) {
    return (bytes + 999999) / 1000000;
}

/* ---------------------------------------------------------------- weights.c */

/* One weight on its way: out = scale·in + shift. */
typedef struct {
    tensor_place from, to;
    float scale, shift;
} weight_move;

/* The weights of one file to be. */
typedef struct {
    const tensor_file *file;
    const char *prefix;
    tensor_type type; /* as which they are written */
    weight_move *moves;
    size_t count;
    conversion *run;
} weight_moves;

typedef enum { WRITE_SAFETENSORS, WRITE_FLAX, WRITE_PYTORCH, WRITE_PYTORCH_STATE_DICT } write_form;

/* Room for `count` moves, none of them made yet. */
int weight_moves_begin(weight_moves *moves, conversion *run, const model_source *source, size_t count, limn_error *error);
/* Writes all to the file `name` in the folder, moves to the same stacked tensor brought together; where directory is NULL their
 * bytes are only added to run->bytes_total. Frees the moves. */
int weight_moves_finish(weight_moves *moves, conversion *run, const char *directory, const char *name, write_form form,
                        limn_error *error);

/* ---------------------------------------------------------------- seq2seq_folder.c, vqgan_folder.c */

/* Write all of a folder but the VQGAN in it; directory NULL only counts bytes. */
int seq2seq_folder_write(conversion *run, const model_source *source, const char *directory, limn_error *error);
int vqgan_folder_write(conversion *run, const model_source *source, const char *directory, limn_error *error);

#endif
