/* tokenizer: byte-level BPE (Radford and others, GPT-2; Sennrich and others, arXiv 1508.07909), its training, and the files
 * vocab.json, merges.txt and tokenizer.json of the Hugging Face world. */
#ifndef LIMN_TOKENIZER_H
#define LIMN_TOKENIZER_H

#include "core/core.h"

typedef struct tokenizer tokenizer;

/* A folder with tokenizer.json, or with vocab.json and merges.txt. */
tokenizer *tokenizer_load(const char *directory, limn_error *error);
/* Writes vocab.json, merges.txt and tokenizer.json. */
int tokenizer_save(const tokenizer *self, const char *directory, limn_error *error);
void tokenizer_free(tokenizer *self);

size_t tokenizer_vocabulary_size(const tokenizer *self);
int32_t tokenizer_bos(const tokenizer *self); /* <s> */
int32_t tokenizer_eos(const tokenizer *self); /* </s> */
int32_t tokenizer_pad(const tokenizer *self); /* <pad> */
/* "left right" of merge i in order; NULL past the end. Borrowed. */
const char *tokenizer_merge(const tokenizer *self, size_t i);

/* Text (any bytes) to ids between <s> and </s>. ids is a growing array of the caller's (realloc; capacity kept in *capacity).
 * add_prefix_space is as the files say. Safe from many threads at once. */
int tokenizer_encode(const tokenizer *self, const char *text, size_t size, int32_t **ids, size_t *capacity, size_t *out_count,
                     limn_error *error);
/* The same into exactly `length` places: truncated so that </s> stays last, padded with <pad>; mask is 1 for text. The text is
 * led by a space when it is not empty, as DALL·E Mini's processor does with its normalised captions. */
int tokenizer_encode_caption(const tokenizer *self, const char *text, size_t size, int32_t *ids, int32_t *mask, size_t length,
                             limn_error *error);
/* Ids to bytes; special tokens are left out. */
int tokenizer_decode(const tokenizer *self, const int32_t *ids, size_t count, limn_buffer *out, limn_error *error);

/* Training: feed lines, then make merges until vocabulary_size or until no pair occurs min_frequency times; ties go to the pair
 * of smallest ids, as in Hugging Face tokenizers. Special tokens <s> <pad> </s> <unk> <mask> have ids 0-4. */
typedef struct tokenizer_trainer tokenizer_trainer;
tokenizer_trainer *tokenizer_trainer_create(limn_error *error);
int tokenizer_trainer_add(tokenizer_trainer *trainer, const char *text, size_t size, limn_error *error);
tokenizer *tokenizer_trainer_finish(tokenizer_trainer *trainer, size_t vocabulary_size, size_t min_frequency, limn_error *error);
void tokenizer_trainer_free(tokenizer_trainer *trainer);

#endif
