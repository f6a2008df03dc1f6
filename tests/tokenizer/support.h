/* What the tests of tokenizer/ share. */
#ifndef LIMN_TESTS_TOKENIZER_SUPPORT_H
#define LIMN_TESTS_TOKENIZER_SUPPORT_H

#include "tokenizer/tokenizer.h"

/* A tokenizer trained on a few sentences (also with accents, digits and repeated blanks); about 420 tokens. */
tokenizer *train_small(void);
/* A fresh folder, and its removal. */
void make_folder(char path[64]);
void remove_folder(const char *path);
void write_file(const char *folder, const char *name, const void *data, size_t size);
/* A text of random characters that are hard to split: blanks of all kinds, digits of many scripts, contractions, added tokens,
 * letters, marks, and (when `broken`) bytes that are not UTF-8. Returns its size, at most 400. */
size_t random_text(char out[400], uint64_t seed, bool broken);
/* The ids of a text, without <s> and </s>. */
size_t encode_inner(const tokenizer *tokens, const char *text, size_t size, int32_t *out, size_t room);

#endif
