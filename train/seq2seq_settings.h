/* What decides a run of limn-train: the section `train.seq2seq`, and the model's own. Internal to train/. */
#ifndef LIMN_TRAIN_SEQ2SEQ_SETTINGS_H
#define LIMN_TRAIN_SEQ2SEQ_SETTINGS_H

#include "seq2seq/seq2seq.h"
#include "train/loop.h"
#include "train/pair_data.h"

typedef struct {
    train_settings train;
    pair_settings data;
    nn_precision precision, wire; /* of products; of gradients on their way between ranks */
    seq2seq_lora lora;
    sampling_options drawing; /* of samples; how many is not said here */
} seq2seq_settings;

/* Texts in it are the configuration's, which must outlive it. */
int seq2seq_settings_read(seq2seq_settings *settings, const json_t *config, const char *file, limn_error *error);

/* What the section `seq2seq` leaves out follows from the tokenizer's vocabulary, the VQGAN's codes and its tokens a picture;
 * what it says must agree with them. */
int train_complete_seq2seq(json_t *section, const char *file, size_t words, size_t codes, size_t tokens, limn_error *error);

/* The section `seq2seq` of a configuration where tokenizer and VQGAN need not exist yet: their own sections say what follows
 * from them, and it is filled in. */
int train_seq2seq_config(seq2seq_config *out, json_t *config, const char *file, limn_error *error);

#endif
