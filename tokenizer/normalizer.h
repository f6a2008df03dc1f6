/* What the files of the text normaliser share. Nothing outside tokenizer/ includes this.
 *
 * A caption goes through them in this order, as in DALL·E Mini's TextNormalizer (Python's ftfy, html.unescape twice,
 * emoji.demojize, unidecode, lower case, and a chain of substitutions):
 *
 *     codes.c      bytes to code points
 *     fix_text.c   repairs: entities, mojibake, ligatures, widths, quotes, control characters, NFC
 *     entities.c   HTML's character references
 *     emoji.c      emoji to their names
 *     codes.c      everything to ASCII in lower case
 *     rules.c      people, tags, addresses, numbers, quotes, punctuation
 *     normalize.c  all of it, and the short way for captions in ASCII
 *
 * fix_text.c has mojibake.c, badness.c and charmaps.c to help it, rules.c has hashtags.c. */
#ifndef LIMN_TOKENIZER_NORMALIZER_H
#define LIMN_TOKENIZER_NORMALIZER_H

#include "tokenizer/tokenizer.h"

/* ---------------------------------------------------------------- tables, made at build time by tables/ */

enum {
    UNICODE_WORD = 1,      /* \w of Python's re, but for the underscore */
    UNICODE_DIGIT = 2,     /* \d */
    UNICODE_SPACE = 4,     /* \s */
    UNICODE_NOT_NFC = 8,   /* has to be looked at by NFC, or by its neighbours' */
    UNICODE_REPAIRED = 16, /* changed by fix_text, apart from mojibake */
    UNICODE_EMOJI = 32     /* an emoji begins with it */
};
extern const uint8_t unicode_flag_rows[][256];
extern const uint16_t unicode_flag_row[];
static inline unsigned unicode_flags(uint32_t code) {
    return unicode_flag_rows[unicode_flag_row[code >> 8]][code & 255];
}

/* String n is transliteration_text[transliteration_start[n] … transliteration_start[n+1]). */
extern const uint16_t transliteration_rows[][256];
extern const uint16_t transliteration_row[];
extern const uint32_t transliteration_start[];
extern const char transliteration_text[];

/* The tree of emoji: node 0 is the root, the children of a node are sorted by code. */
typedef struct {
    uint32_t code;
    uint16_t children, child_count;
    uint16_t name; /* number in emoji_name + 1; 0: no emoji ends here */
    uint8_t component;
} emoji_node;
extern const emoji_node emoji_nodes[];
extern const uint32_t emoji_name_start[];
extern const char emoji_name_text[]; /* ":red_heart:" */

enum { HTML_ENTITY_CODES = 3, HTML_ENTITY_NAME_MAX = 32 };
typedef struct {
    char name[HTML_ENTITY_NAME_MAX + 1]; /* as it stands after "&", with ";" where there is one */
    uint32_t codes[HTML_ENTITY_CODES];   /* 0 after the last */
    uint8_t capitals;                    /* not HTML's: "NTILDE;" */
} html_entity;
extern const html_entity html_entities[]; /* sorted by name */
extern const size_t html_entity_count;

/* ---------------------------------------------------------------- codes.c: lists of code points */

typedef struct {
    uint32_t *items;
    size_t count, capacity;
} code_list;

int codes_reserve(code_list *list, size_t more, limn_error *error);
int codes_append(code_list *list, const uint32_t *codes, size_t count, limn_error *error);
static inline int codes_add(code_list *list, uint32_t code, limn_error *error) {
    if (list->count == list->capacity && codes_reserve(list, 1, error)) return -1;
    list->items[list->count++] = code;
    return 0;
}
void codes_free(code_list *list);

/* Appends the code points of UTF-8; U+FFFD stands for what is not UTF-8, one for each longest beginning of a character, as in
 * Python's errors="replace" (Unicode 15, 3.9, "Substitution of Maximal Subparts"). */
int codes_decode(code_list *list, const char *text, size_t size, limn_error *error);
/* One character of `size` > 0 bytes, the same way: returns the bytes used. */
size_t utf8_take(const unsigned char *text, size_t size, uint32_t *code, bool *valid);
/* Appends what the code points are in ASCII and lower case (Sean M. Burke's Text::Unidecode, see tables/transliteration.c). */
int codes_transliterate(const uint32_t *codes, size_t count, limn_buffer *out, limn_error *error);

/* ---------------------------------------------------------------- entities.c: HTML's character references */

/* Appends the text with its references replaced, as html.unescape of Python does by the rules of HTML (WHATWG, 13.2.5.72): the
 * longest known beginning of a name counts, with or without a semicolon. */
int entities_unescape(const uint32_t *codes, size_t count, code_list *out, limn_error *error);
/* Only those that are sure to be meant: whole names with a semicolon, also in capitals (&EACUTE;), and numbers. */
int entities_unescape_sure(const uint32_t *codes, size_t count, code_list *out, limn_error *error);

/* ---------------------------------------------------------------- charmaps.c: encodings of one byte a character */

enum {
    CHARMAP_LATIN_1,
    CHARMAP_1252,
    CHARMAP_1251,
    CHARMAP_1250,
    CHARMAP_1253,
    CHARMAP_1254,
    CHARMAP_1257,
    CHARMAP_8859_2,
    CHARMAP_MACROMAN,
    CHARMAP_437,
    CHARMAP_COUNT
};
/* The character of a byte from 0x80 on. Where Windows has none, it is Latin-1's, a control character. */
uint32_t charmap_character(size_t charmap, unsigned char byte);

/* ---------------------------------------------------------------- mojibake.c: text that was decoded in a wrong encoding */

/* What role characters play in mojibake, and which encodings have them. */
typedef struct mojibake_clues mojibake_clues;
mojibake_clues *mojibake_clues_create(limn_error *error);
void mojibake_clues_free(mojibake_clues *self);

/* Repairs go on until nothing changes, and a text can be made such that each changes next to nothing ("&amp;amp;amp;…"). What
 * they may cost together, in characters looked at, is limited; no text of less than 4,000 characters gets near the limit. */
typedef struct {
    size_t left;
} fix_budget;
/* False when that is more than is left; then nothing is. */
static inline bool budget_spend(fix_budget *self, size_t cost) {
    bool enough = cost <= self->left;
    self->left = enough ? self->left - cost : 0;
    return enough;
}

/* Undoes it, in place, as ftfy.fix_encoding does. */
int mojibake_fix(const mojibake_clues *self, code_list *text, fix_budget *budget, limn_error *error);

/* ---------------------------------------------------------------- fix_text.c: repairs */

typedef struct text_fixer text_fixer;
text_fixer *text_fixer_create(limn_error *error);
void text_fixer_free(text_fixer *self);

/* Appends the repaired text, as ftfy.fix_text does. */
int text_fix(const text_fixer *self, const uint32_t *codes, size_t count, code_list *out, limn_error *error);

/* ---------------------------------------------------------------- emoji.c: emoji to names */

/* Appends the text with emoji as ":red_heart:", and without variation selectors, as emoji.demojize does. */
int emoji_name(const uint32_t *codes, size_t count, code_list *out, limn_error *error);

/* ---------------------------------------------------------------- hashtags.c */

typedef struct hashtag_words hashtag_words;
/* NULL: no words. */
hashtag_words *hashtag_words_read(const char *path, limn_error *error);
void hashtag_words_free(hashtag_words *self);
/* Appends the words of a run of letters and digits, with blanks between. */
int hashtag_split(const hashtag_words *self, const char *text, size_t size, limn_buffer *out, limn_error *error);

/* ---------------------------------------------------------------- rules.c: substitutions in ASCII */

/* Memory that one text needs; zero-initialise. */
typedef struct {
    limn_buffer a, b;
} rule_buffers;
/* `text` is in buffers->a and is used up; the result is appended to `out`. `seed` decides what a <person> becomes. */
int rules_apply(const hashtag_words *words, uint64_t seed, rule_buffers *buffers, limn_buffer *out, limn_error *error);

#endif
