/* A tiny model with random weights. */
#ifndef LIMN_TESTS_INFER_SUPPORT_H
#define LIMN_TESTS_INFER_SUPPORT_H

#include "infer/infer.h"

enum { SIDE = 16, TOKENS = 16, CODES = 24, IMAGE_IDS = 30, WORDS = 12 };

/* Writes a whole model folder: pictures of 16×16 from 16 tokens of 24 codes; the head has 31 ids, of which the last are no
 * codes; captions of 12 tokens. `change`, when not NULL, is "section.key=value" for another configuration. 0 or -1 with the
 * error. */
int make_model(const char *folder, uint64_t seed, const char *change, limn_error *error);

#endif
