/* Drawings of a few captions by the seq2seq model in training, so that one sees what it has learnt. Internal to train/. */
#ifndef LIMN_TRAIN_SEQ2SEQ_SAMPLES_H
#define LIMN_TRAIN_SEQ2SEQ_SAMPLES_H

#include "pictures/pictures.h"
#include "seq2seq/seq2seq.h"
#include "tokenizer/tokenizer.h"
#include "vqgan/vqgan.h"

enum { SAMPLE_CAPTIONS = 9 };

typedef struct {
    size_t length;       /* S */
    int32_t *ids, *mask; /* (SAMPLE_CAPTIONS + 1, S): the captions and, after them, none */
    limn_buffer text;    /* the captions in Markdown, in the order of the pictures */
    sampling_options options;
} seq2seq_samples;

/* Without captions yet; the options' count is how many there are. */
int seq2seq_samples_create(seq2seq_samples *self, size_t length, limn_error *error);
void seq2seq_samples_free(seq2seq_samples *self);
/* One more caption, of `size` bytes; at most SAMPLE_CAPTIONS. */
int seq2seq_samples_add(seq2seq_samples *self, const caption_encoder *encoder, const char *caption, size_t size,
                        limn_error *error);
/* The list of sentences at section["sample_prompts"]; none is fine. Anything else than one to SAMPLE_CAPTIONS strings is a
 * usage error. */
int seq2seq_samples_add_prompts(seq2seq_samples *self, const caption_encoder *encoder, const json_t *section, const char *where,
                                limn_error *error);
/* One picture of each caption, in rows as long as the square root of their number, rounded up. A function of the weights and
 * the options' seed; changes nothing of the model. */
int seq2seq_samples_draw(const seq2seq_samples *self, const seq2seq *model, const vqgan *pictures, picture *out,
                         limn_error *error);

#endif
