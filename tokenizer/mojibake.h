/* What mojibake.c and badness.c share. */
#ifndef LIMN_TOKENIZER_MOJIBAKE_H
#define LIMN_TOKENIZER_MOJIBAKE_H

#include "tokenizer/normalizer.h"

/* The roles that characters play, as in ftfy (Robyn Speer, Apache License 2.0), whose heuristic this is. */
enum {
    ROLE_COMMON = 1 << 0, /* stands in many places */
    ROLE_C1 = 1 << 1,     /* control characters U+0080 to U+009F: nothing but mojibake */
    ROLE_BAD = 1 << 2,    /* hardly used but in mojibake */
    ROLE_LAW = 1 << 3,
    ROLE_CURRENCY = 1 << 4,
    ROLE_START = 1 << 5, /* punctuation that begins something */
    ROLE_END = 1 << 6,   /* punctuation that ends something */
    ROLE_NUMERIC = 1 << 7,
    ROLE_KAOMOJI = 1 << 8, /* used in faces, so it may stand beside strange things */
    ROLE_UPPER_ACCENTED = 1 << 9,
    ROLE_LOWER_ACCENTED = 1 << 10,
    ROLE_UPPER_COMMON = 1 << 11, /* capitals that often end words: not suspicious there */
    ROLE_LOWER_COMMON = 1 << 12,
    ROLE_BOX = 1 << 13,
    ROLES_OF_BADNESS = (1 << 14) - 1,
    /* what bytes of UTF-8 look like in an encoding of one byte a character */
    ROLE_FIRST_OF_2 = 1 << 14,
    ROLE_FIRST_OF_3 = 1 << 15,
    ROLE_FIRST_OF_4 = 1 << 16,
    ROLE_CONTINUATION = 1 << 17,        /* with the blank, which may have been U+00A0 */
    ROLE_CONTINUATION_STRICT = 1 << 18, /* without what also stands beside words: dashes, quotes, blanks */
    ROLE_BITS = 19                      /* a bit for each charmap comes after */
};

/* Characters of the encodings are below 0x2600, but for four. */
enum { CLUES_DENSE = 0x2600, CLUES_NONE = CLUES_DENSE + 4, CLUES_COUNT = CLUES_DENSE + 5 };
struct mojibake_clues {
    uint32_t roles[CLUES_COUNT]; /* ROLE_…, and 1 << (ROLE_BITS + charmap) where the charmap has the character */
    unsigned char bytes[CHARMAP_COUNT][CLUES_COUNT];
};

static inline size_t clue_place(uint32_t code) {
    if (code < CLUES_DENSE) return code;
    return code == 0xF8FF   ? CLUES_DENSE
           : code == 0xFB01 ? CLUES_DENSE + 1
           : code == 0xFB02 ? CLUES_DENSE + 2
           : code == 0xFFFD ? CLUES_DENSE + 3
                            : CLUES_NONE;
}
static inline uint32_t clue_roles(const mojibake_clues *self, uint32_t code) {
    return self->roles[clue_place(code)];
}

/* badness.c: sets the roles. */
void badness_roles(mojibake_clues *self);
/* Whether the text has characters beside each other that are unlikely to be meant (ftfy.badness.is_bad). */
bool badness_found(const mojibake_clues *self, const uint32_t *codes, size_t count);

#endif
