/* What the tests of choose share: a folder, small sets of pairs in it, and looking at what was written. */
#ifndef LIMN_TESTS_CHOOSE_WORLD_H
#define LIMN_TESTS_CHOOSE_WORLD_H

#include "choose/internal.h"
#include "tests/dataset/encode_world.h"

extern char choose_folder[4096];
int choose_set_up(void **state);
int choose_tear_down(void **state);

/* A tar of `count` painted pictures of 16×16, keys number×10000+row; each has a caption and a .json made by these (NULL: none;
 * free()). */
typedef char *(*text_of_row)(size_t number, size_t row);
void make_tar(const char *name, size_t number, size_t count, text_of_row caption, text_of_row fields);
char *usual_caption(size_t number, size_t row); /* "picture ROW of NUMBER" and a word for every row */
char *usual_fields(size_t number, size_t row);  /* url of one of three hosts, width, height, score 0.ROW as a text, sha256 */
/* A shard of `count` rows: tokens (row + t) % CODES, one caption, every third row two; columns "score" (row / 10) and "clip".
 */
void make_shard(const char *name, size_t number, size_t count, const char *vqgan_sha256);
/* DIR/NAME as paths that choose_* take: expanded, in a list that lives until tear-down. */
limn_strings inputs(const char *pattern);
json_t *load(const char *name);
long long number_of(const json_t *object, const char *key);

#endif
