/* What the files of tokenizer/ share. Nothing outside the folder includes this. */
#ifndef LIMN_TOKENIZER_INTERNAL_H
#define LIMN_TOKENIZER_INTERNAL_H

#include "tokenizer/tokenizer.h"

/* ---------------------------------------------------------------- classes.c: Unicode classes */

enum { CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE };
enum { UNICODE_END = 0x110000 };

/* The class of every code point, one byte each (UNICODE_END of them): letters are \p{L} and numbers \p{N} of the PCRE2 that is
 * installed, spaces are the White_Space property. Free with free(). */
unsigned char *unicode_classes_create(limn_error *error);

/* ---------------------------------------------------------------- pretokens.c: GPT-2's splitting */

/* The end of the pretoken that begins at `start` < size: the match there of
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ . A byte that is not UTF-8 counts as neither
 * letter, number nor space. */
size_t pretoken_end(const unsigned char *classes, const char *text, size_t size, size_t start);

/* ---------------------------------------------------------------- alphabet.c: bytes as printable characters */

/* GPT-2's bijection of the 256 bytes with printable characters: printable Latin-1 stays, the rest goes to U+0100 on. */
uint32_t byte_character(unsigned char byte);
/* The byte of a character, or -1 when it stands for none. */
int character_byte(uint32_t character);
/* The bytes in the order of their characters' code points: the order of the base vocabulary. */
void alphabet_order(unsigned char order[256]);

/* ---------------------------------------------------------------- the tokenizer */

typedef struct {
    char *data;      /* all strings, each with a NUL after it */
    size_t *offsets; /* (count+1) */
    size_t count, capacity;
    size_t size, room; /* bytes used of data, and allocated */
} string_list;
int string_list_add(string_list *list, const char *text, size_t size, limn_error *error);
const char *string_list_at(const string_list *list, size_t index);
size_t string_list_size_at(const string_list *list, size_t index); /* without the NUL */
void string_list_free(string_list *list);

/* One entry of the table of merges: the pair (left id, right id) gives `id`; lower ranks go first. */
typedef struct {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: empty */
    uint32_t rank;
    int32_t id;
} merge_entry;

static inline uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}
static inline uint64_t pair_hash(uint64_t pair) {
    pair *= 0x9E3779B97F4A7C15u;
    return pair ^ pair >> 32;
}

/* A token that is found in the text itself before it is split ("added token" in tokenizer.json). */
typedef struct {
    int32_t id;
    bool special;        /* left out by decoding */
    bool normalized;     /* looked for in what the others leave */
    bool lstrip, rstrip; /* swallows the white space before, after */
} added_token;

typedef struct word_cache word_cache;

struct tokenizer {
    string_list texts;  /* every token as vocab.json spells it */
    string_list bytes;  /* every token as it decodes */
    string_list merges; /* "left right" */
    merge_entry *table; /* open addressing */
    size_t table_mask;  /* entries - 1; a power of two */
    int32_t byte_ids[256];
    added_token *added; /* longest first */
    size_t added_count;
    bool added_first[2][256];  /* whether a token of level raw, normalized begins with this byte */
    size_t *added_order;       /* indices into added, as the file lists them (for writing) */
    unsigned char *is_special; /* (count): decoding leaves it out */
    bool add_prefix_space, use_regex;
    int32_t bos, eos, pad;
    unsigned char *classes;
    word_cache *cache;
};

/* ---------------------------------------------------------------- tokenizer.c: putting one together */

/* An empty tokenizer; then tokens in the order of their ids, added tokens, merges, and at last tokenizer_complete. */
tokenizer *tokenizer_create(limn_error *error);
int tokenizer_add_token(tokenizer *self, const char *text, size_t size, limn_error *error);
int tokenizer_add_special(tokenizer *self, const added_token *token, limn_error *error);
typedef struct {
    int32_t left, right, result;
} merge_rule;
/* Rules in order of rank. Of a pair that comes twice, the last counts, as in Hugging Face tokenizers. */
int tokenizer_set_merges(tokenizer *self, const merge_rule *rules, size_t count, limn_error *error);
/* Checks that all bytes have a token and that <s>, </s> and <pad> (when bos, eos are not set yet) are there; `where` names the
 * file. */
int tokenizer_complete(tokenizer *self, const char *where, limn_error *error);
/* The id of a token by its text, -1 when there is none. Slow: for the few special ones. */
int32_t tokenizer_find(const tokenizer *self, const char *text);
static inline merge_entry *tokenizer_find_merge(const tokenizer *self, uint64_t pair) {
    size_t slot = (size_t)pair_hash(pair) & self->table_mask;
    while (self->table[slot].pair != pair) {
        if (self->table[slot].pair == UINT64_MAX) return NULL;
        slot = (slot + 1) & self->table_mask;
    }
    return &self->table[slot];
}

/* ---------------------------------------------------------------- bpe.c: merging one word */

typedef struct {
    int32_t *items;
    size_t count, capacity;
} id_list;
int id_list_reserve(id_list *list, size_t more, limn_error *error);

word_cache *word_cache_create(limn_error *error);
void word_cache_free(word_cache *cache);
uint64_t hash_bytes(const char *data, size_t size);
/* Appends the ids of one pretoken. */
int encode_word(const tokenizer *self, const char *word, size_t size, id_list *out, limn_error *error);

/* ---------------------------------------------------------------- lines.c: line by line */

/* What becomes of one line: `out` gets the answer's line. `self` is what answer_lines got, `scratch` is the thread's own. */
typedef int (*line_function)(const void *self, const char *line, size_t size, id_list *scratch, limn_buffer *out,
                             limn_error *error);
/* The lines of a file (NULL: standard input) by all threads, answered in their order. */
int answer_lines(const void *self, const char *path, FILE *out, line_function function, limn_error *error);

/* ---------------------------------------------------------------- words.c: counting pretokens */

typedef struct {
    uint64_t hash, count;
    size_t offset;
    size_t size;
} counted_word;
typedef struct {
    counted_word *words;
    size_t count, capacity;
    size_t *slots; /* index + 1 of a word; 0: empty */
    size_t slot_mask;
    limn_buffer bytes;
} word_counts;
int word_counts_add(word_counts *self, const char *word, size_t size, uint64_t hash, uint64_t count, limn_error *error);
void word_counts_free(word_counts *self);

#endif
