/* For tests of what limn-train reads: shards and lines of made-up pairs. Picture `id` has the tokens id, id+1, id+2, id+3
 * modulo PAIR_CODES (id below it) and 1 + id % 3 captions, "picture ID caption M". Its score is id % 10 / 10, and NaN where id
 * % 10 is 9. */
#ifndef LIMN_TESTS_TRAIN_PAIRS_H
#define LIMN_TESTS_TRAIN_PAIRS_H

#include "formats/formats.h"

enum { PAIR_LENGTH = 4, PAIR_CODES = 5000 };
#define PAIR_SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Pictures first … first+count-1, with the columns `clip_score` (the score) and `width` (the id). */
void pairs_write_shard(const char *path, size_t first, size_t count);
void pairs_write_lines(const char *path, size_t first, size_t count);
/* captions[i] of picture id */
void pairs_caption(char out[64], size_t id, size_t caption);

#endif
