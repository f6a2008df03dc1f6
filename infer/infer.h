/* infer: from a sentence to drawings. */
#ifndef LIMN_INFER_H
#define LIMN_INFER_H

#include "core/core.h"
#include "pictures/pictures.h"
#include "seq2seq/seq2seq.h"
#include "tokenizer/tokenizer.h"
#include "vqgan/vqgan.h"

/* A model folder as DESIGN fixes it: seq2seq, its tokenizer, and vqgan/. */
typedef struct {
    seq2seq *seq2seq;
    caption_encoder captions; /* normalises where the config says normalize_text */
    vqgan *vqgan;
} drawing_model;
/* Also checks that the three belong together: as many image tokens as the VQGAN's pictures have, a head that covers its
 * codebook, a text vocabulary that covers the tokenizer's. On failure nothing is left to free. */
int drawing_model_load(drawing_model *model, const char *directory, nn_precision precision, limn_error *error);
void drawing_model_free(drawing_model *model);

/* A usage error that names the option (of limn-sample) whose value is impossible. */
int sampling_options_check(const sampling_options *options, limn_error *error);

/* Draws tokens (count, T) for one prompt, some drawings at a time; watcher may be NULL. Ctrl-C ends it with an error. The same
 * options and threads give the same tokens on the same kind of CPU. */
int draw_tokens(const drawing_model *model, const char *prompt, const sampling_options *options, int32_t *tokens,
                const drawing_watcher *watcher, limn_error *error);
/* How fast a model of this configuration draws: the best of `rounds` times of all image tokens of options->count drawings, from
 * the caption's ids on, with random weights and a caption of 14 words. */
typedef struct {
    double seconds;
    double flops; /* of the matrix products of those drawings, without attention's */
} draw_measurement;
int draw_measure(const seq2seq_config *config, nn_precision precision, const sampling_options *options, size_t rounds,
                 draw_measurement *out, limn_error *error);

/* The picture of one drawing's tokens (T). */
int draw_picture(const vqgan *model, const int32_t *tokens, picture *out, limn_arena *arena, limn_error *error);
/* The other way: tokens (T) of a picture of the VQGAN's size (only where vqgan_can_encode). */
void read_picture(const vqgan *model, const picture *in, int32_t *tokens, limn_arena *arena);

/* Pictures, cropped and resized to the VQGAN's size, to JSON lines {"picture": PATH, "tokens": [[…]]} in the file `output`. */
int tokens_encode(const char *vqgan_directory, const limn_strings *pictures, const char *output, limn_error *error);
/* JSON lines {"prompt": …, "tokens": [[…], …]} (DESIGN, "Tokens of drawings"), or of bare lists, to pictures: `output` is the
 * PNG of the only line or a folder for NNNN-PROMPT.png; `singles` as in drawing_job. Errors name file and line. */
int tokens_decode(const char *vqgan_directory, const limn_strings *files, const char *output, const char *singles,
                  FILE *results, limn_error *error);

/* What limn-sample does. */
typedef struct {
    const char *model;   /* model folder */
    const char *prompt;  /* one prompt, whose drawings become the PNG file `output`; or NULL and … */
    const char *prompts; /* … a file with a prompt on each line, which become INDEX-PROMPT.png in the folder `output` */
    const char *output;
    const char *singles;    /* folder for every drawing as a PNG of its own, NULL: none */
    const char *tokens_out; /* file for JSON lines {"prompt", "seed", "tokens"}, NULL: none */
    sampling_options sampling;
    nn_precision precision;
    size_t preview_every; /* tokens after which `output` (for prompts preview.png there) shows what is drawn; 0: never */
    bool restart;         /* draw again what is there */
} drawing_job;
/* Drawings of a prompt stand in one picture, in rows as long as the square root of their number, rounded up. A run over prompts
 * skips those whose files are there, and refuses (usage error) a folder that was drawn with other options or weights, which it
 * knows from drawings.json there. Names of written pictures go to `results`, one on a line. */
int draw_job(const drawing_job *job, FILE *results, limn_error *error);

#endif
