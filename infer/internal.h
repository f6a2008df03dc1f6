/* What the files of infer/ share. */
#ifndef LIMN_INFER_INTERNAL_H
#define LIMN_INFER_INTERNAL_H

#include "infer/infer.h"

#include <limits.h>

enum { SLUG_LENGTH = 60, NAME_LENGTH = SLUG_LENGTH + 32 };

/* "A red apple, please" to "a-red-apple-please", for names of files. */
void make_slug(char slug[SLUG_LENGTH + 1], const char *text);
/* FOLDER/NAME-0001.png for drawing 0. */
int single_path(char path[PATH_MAX], const char *folder, const char *name, size_t drawing, limn_error *error);
/* The drawings of tokens (count,T) in one PNG at `path`, in rows as long as the square root of their number, rounded up; and
 * each as a PNG of its own in the folder `singles`, unless that is NULL. Their names go to `results`, one on a line. */
int draw_sheet(const vqgan *model, const int32_t *tokens, size_t count, const char *path, const char *singles, const char *name,
               FILE *results, limn_arena *arena, limn_error *error);
/* What is there of drawings of which the first `whole` are finished, the next `begun` have `position` tokens, and the rest
 * none. */
int draw_preview(const vqgan *model, const int32_t *tokens, size_t count, size_t whole, size_t begun, size_t position,
                 const char *path, limn_arena *arena, limn_error *error);
/* The tokens (count,T) as JSON: [[…], …]. */
void print_tokens(FILE *out, const int32_t *tokens, size_t count, size_t T);

#endif
