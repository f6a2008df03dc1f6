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
void write_text(const char *folder, const char *name, const char *text);
char *read_text(const char *folder, const char *name, size_t *size); /* free() */
json_t *read_json(const char *folder, const char *name);
void write_json(const char *folder, const char *name, json_t *value); /* takes the value */
void remove_file(const char *folder, const char *name);
/* The folder's tokenizer, which must load; and that it is refused with one line that has both texts. */
tokenizer *load_folder(const char *folder);
void assert_refused(const char *folder, const char *file, const char *reason);
/* A text of random characters that are hard to split: blanks of all kinds, digits of many scripts, contractions, added tokens,
 * letters, marks, and (when `broken`) bytes that are not UTF-8. Returns its size, at most 400. */
size_t random_text(char out[400], uint64_t seed, bool broken);
/* The ids of a text, without <s> and </s>. */
size_t encode_inner(const tokenizer *tokens, const char *text, size_t size, int32_t *out, size_t room);
/* That both have the same tokens, merges and ids for random texts. */
void assert_same(const tokenizer *a, const tokenizer *b);
/* That a text has exactly these ids, with what is put around it. */
void assert_ids(const tokenizer *tokens, const char *text, const int32_t *expected, size_t count);

#endif
