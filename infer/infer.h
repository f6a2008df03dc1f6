/* infer: from a sentence to drawings. */
#ifndef LIMN_INFER_H
#define LIMN_INFER_H

#include "core/core.h"
#include "seq2seq/seq2seq.h"
#include "tokenizer/tokenizer.h"
#include "vqgan/vqgan.h"

/* A model folder as DESIGN fixes it: seq2seq, its tokenizer, and vqgan/. */
typedef struct {
    seq2seq *seq2seq;
    tokenizer *tokenizer;
    vqgan *vqgan;
} drawing_model;
int drawing_model_load(drawing_model *model, const char *directory, limn_error *error);
void drawing_model_free(drawing_model *model);

typedef struct {
    size_t count;       /* drawings of one prompt */
    uint64_t seed;
    double guidance;    /* logits = uncond + guidance·(cond − uncond); 1: off (no unconditional rows) */
    double temperature; /* 0: always the most likely token */
    size_t top_k;       /* 0: all */
    double top_p;       /* 1: all */
} sampling_options;

/* Guidance, masking of ids that are not codes, temperature, top-k, top-p, then one draw a row. cond and uncond are (rows,V)
 * (uncond NULL when guidance is off); a row's draw depends only on (seed, row, position). Writes tokens[rows]. */
void sample_tokens(int32_t *tokens, const float *cond, const float *uncond, size_t rows, size_t V, size_t codes,
                   const sampling_options *options, size_t first_row, size_t position, limn_arena *arena);

/* Draws tokens (count, T) for one prompt. `progress(context, done, total)` may be NULL. */
int draw_tokens(const drawing_model *model, const char *prompt, const sampling_options *options, int32_t *tokens,
                void (*progress)(void *context, size_t done, size_t total), void *context, limn_error *error);

#endif
