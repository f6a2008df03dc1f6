/* What the files of tokenizer/ share. Nothing outside the folder includes this. */
#ifndef LIMN_TOKENIZER_INTERNAL_H
#define LIMN_TOKENIZER_INTERNAL_H

#include "tokenizer/tokenizer.h"

/* ---------------------------------------------------------------- classes.c: Unicode classes */

/* Letters are \p{L}, numbers \p{N}, spaces the White_Space property; CLASS_WORD is added to what \w matches. */
enum { CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE, CLASS_KIND = 3, CLASS_WORD = 4 };
enum { BMP_END = 0x10000, UNICODE_END = 0x110000 };

/* The classes of the code points below BMP_END, one byte each. Free with free(). */
unsigned char *unicode_classes_create(limn_error *error);
/* The class of any code point, by a binary search: for those from BMP_END on. */
unsigned char unicode_class_beyond(uint32_t code_point);
static inline unsigned char unicode_class(const unsigned char *classes, uint32_t code_point) {
    return code_point < BMP_END ? classes[code_point] : unicode_class_beyond(code_point);
}

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
void string_list_shorten(string_list *list, size_t size); /* the last string, to its first `size` bytes */
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
    bool beyond;         /* not in the model's vocabulary */
    bool normalized;     /* looked for in what the others leave */
    bool single_word;    /* not where a word goes on before or after it */
    bool lstrip, rstrip; /* swallows the white space before, after */
} added_token;

/* The added tokens of one level, which stand together when they are sorted. */
typedef struct {
    size_t start, count;
    bool begins[256];        /* whether one of them begins with this byte */
    size_t beginnings;       /* how many such bytes there are */
    unsigned char beginning; /* one of them */
} added_level;

typedef struct {
    int32_t *items;
    size_t count, capacity;
} id_list;
int id_list_reserve(id_list *list, size_t more, limn_error *error);
int id_list_append(id_list *list, const int32_t *ids, size_t count, limn_error *error);

typedef struct word_cache word_cache;

/* SPECIAL: left out by decoding. BEYOND: an added token that the model's own vocabulary does not have. */
enum { TOKEN_SPECIAL = 1, TOKEN_BEYOND = 2 };

struct tokenizer {
    string_list texts;  /* every token as vocab.json spells it */
    string_list bytes;  /* every token as it decodes */
    string_list merges; /* "left right" */
    merge_entry *table; /* open addressing */
    size_t table_mask;  /* entries - 1; a power of two */
    int32_t byte_ids[256];
    added_token *added; /* in the order of the file */
    size_t added_count, added_capacity;
    uint32_t *added_sorted; /* indices into added, for finding */
    added_level levels[2];  /* those looked for in the raw text, and the normalized ones */
    unsigned char *kinds;   /* of each token, TOKEN_SPECIAL and TOKEN_BEYOND */
    bool add_prefix_space, use_regex, ignore_merges;
    int32_t *whole_words; /* with ignore_merges: open addressing by bytes, id + 1 */
    size_t whole_mask;
    id_list before, after; /* what is put around a text */
    char *processor;       /* the JSON that says so, where it is not RobertaProcessing with bos and eos */
    int32_t bos, eos, pad;
    unsigned char *classes;
    word_cache *cache;
};

/* ---------------------------------------------------------------- tokenizer.c: putting one together */

/* An empty tokenizer; then tokens in the order of their ids, added tokens, merges, and at last tokenizer_complete. */
tokenizer *tokenizer_create(limn_error *error);
int tokenizer_add_token(tokenizer *self, const char *text, size_t size, limn_error *error);
int tokenizer_add_added(tokenizer *self, const added_token *token, limn_error *error);
typedef struct {
    int32_t left, right, result;
} merge_rule;
typedef struct {
    merge_rule *rules;
    size_t count, room;
} merge_list;
/* Rules in order of rank. Of a pair that comes twice, the last counts, as in Hugging Face tokenizers; more rules than the
 * tokens have ways to be made of two are an error. */
int tokenizer_set_merges(tokenizer *self, const merge_rule *rules, size_t count, limn_error *error);
/* Checks that all bytes have a token and that <s>, </s> and <pad> (when bos, eos are not set yet) are there; `where` names the
 * file. */
int tokenizer_complete(tokenizer *self, const char *where, limn_error *error);
/* The kinds of all tokens, once more where there are further ones. */
int tokenizer_mark_kinds(tokenizer *self, limn_error *error);
/* The id of a token by its text, -1 when there is none. Slow: for the few special ones. */
int32_t tokenizer_find(const tokenizer *self, const char *text);
/* With ignore_merges: the token that is the whole word, or -1. */
int32_t tokenizer_whole_word(const tokenizer *self, const char *word, size_t size);
static inline merge_entry *tokenizer_find_merge(const tokenizer *self, uint64_t pair) {
    size_t slot = (size_t)pair_hash(pair) & self->table_mask;
    while (self->table[slot].pair != pair) {
        if (self->table[slot].pair == UINT64_MAX) return NULL;
        slot = (slot + 1) & self->table_mask;
    }
    return &self->table[slot];
}

/* ---------------------------------------------------------------- files.c and tokenizer_json.c: reading */

/* <s> <pad> </s> <unk> <mask> */
extern const char *const special_names[TOKENIZER_SPECIALS];

/* Adds the tokens of a vocabulary (text to id) and of added tokens (NULL, or the list of tokenizer.json) beyond it, in the
 * order of their ids. Every id from 0 on must be there once. */
int read_tokens(tokenizer *self, const json_t *vocabulary, const json_t *added, const char *where, limn_error *error);
/* One merge of the vocabulary's tokens, or -1; `number` counts from 1. */
typedef struct {
    const json_t *vocabulary;
    const char *where;
    limn_buffer scratch;
} merge_reader;
int read_merge(merge_reader *reader, const char *left, size_t left_size, const char *right, size_t right_size, size_t number,
               merge_rule *rule, limn_error *error);
int read_merge_text(merge_reader *reader, const char *text, size_t size, size_t number, merge_rule *rule, limn_error *error);
/* The vocabulary, merges and everything else of a tokenizer.json; then tokenizer_complete is due. */
int read_tokenizer_json(tokenizer *self, const char *path, limn_error *error);

/* ---------------------------------------------------------------- added.c: finding added tokens */

/* Fails, naming `where`, when one comes twice. */
int added_tokens_sort(tokenizer *self, const char *where, limn_error *error);
/* Where the next byte is, from `position` on, that begins an added token of this level; `size` when there is none. */
size_t added_token_byte(const tokenizer *self, int level, const char *text, size_t size, size_t position);
/* The longest added token of this level at the beginning of the text, or NULL. */
const added_token *added_token_at(const tokenizer *self, int level, const char *text, size_t size);

/* ---------------------------------------------------------------- words.c: short words, and counting */

/* A word of at most SHORT_WORD bytes as three numbers: its bytes, then zeros, and its size in the last byte. Most words are
 * short; they are hashed and compared without a loop. All zeros is no word. */
enum { SHORT_WORD = 23 };
typedef struct {
    uint64_t part[3];
} short_word;
static inline size_t short_word_size(const short_word *word) {
    return ((const unsigned char *)word)[SHORT_WORD];
}
/* 1 to SHORT_WORD bytes; `readable` of them may be looked at. */
short_word short_word_load(const char *word, size_t size, size_t readable);
static inline uint64_t short_word_hash(const short_word *word) {
    uint64_t hash =
        word->part[0] * 0x9E3779B97F4A7C15u + word->part[1] * 0xD6E8FEB86659FD93u + word->part[2] * 0xC2B2AE3D27D4EB4Fu;
    hash = (hash ^ hash >> 32) * 0xFF51AFD7ED558CCDu;
    return hash ^ hash >> 29;
}
static inline bool short_word_equal(const short_word *a, const short_word *b) {
    return a->part[0] == b->part[0] && a->part[1] == b->part[1] && a->part[2] == b->part[2];
}
uint64_t hash_bytes(const char *data, size_t size);

/* The next words of a text, split but not looked up yet: a table's lines are fetched for all before they are used. */
enum { WORD_BATCH = 32 };
typedef struct {
    const char *text;
    size_t size;
    short_word word; /* of the short ones */
    uint64_t hash;
} split_word;
/* Splits up to WORD_BATCH words off text[*start…size), of which bytes up to text[readable) may be looked at; moves *start.
 * Without classes (NULL) the whole text is one word. */
size_t split_words(const unsigned char *classes, const char *text, size_t size, size_t readable, size_t *start,
                   split_word words[WORD_BATCH]);

typedef struct {
    short_word word;
    uint64_t count;
} short_count;
typedef struct {
    uint64_t hash, count;
    size_t offset, size; /* in the block of bytes */
} long_count;

/* How often each pretoken occurs: short ones in a table of their own, and the few long ones. */
typedef struct {
    short_count *shorts;
    size_t short_total, short_mask;
    long_count *longs;
    size_t long_total, long_capacity;
    size_t *long_slots; /* index + 1 of a long word; 0: empty */
    size_t long_mask;
    limn_buffer long_bytes;
} word_counts;
int word_counts_add_text(word_counts *self, const unsigned char *classes, const char *text, size_t size, size_t readable,
                         limn_error *error);
/* Adds the counts of the other. */
int word_counts_merge(word_counts *self, const word_counts *other, limn_error *error);
void word_counts_free(word_counts *self);

/* ---------------------------------------------------------------- merges.c: learning the merges */

/* The merges that these words teach, and after the tokens that there are, the bytes among them, one for each merge: until there
 * are vocabulary_size or no pair occurs min_frequency times. */
int make_merges(const word_counts *words, size_t vocabulary_size, size_t min_frequency, string_list *tokens, merge_list *merges,
                limn_error *error);

/* ---------------------------------------------------------------- bpe.c: merging one word */

word_cache *word_cache_create(limn_error *error);
void word_cache_free(word_cache *cache);
/* Appends the ids of all pretokens of a text, of which bytes up to text[readable) may be looked at, until there are `enough`.
 */
int encode_words(const tokenizer *self, const char *text, size_t size, size_t readable, size_t enough, id_list *out,
                 limn_error *error);

/* ---------------------------------------------------------------- encode.c: text to ids */

/* As tokenizer_encode, where bytes up to text[readable) may be looked at. */
int encode_text(const tokenizer *self, const char *text, size_t size, size_t readable, id_list *out, limn_error *error);

/* ---------------------------------------------------------------- blocks.c: the lines of a file, by all threads */

/* Whole lines; the newline of the last is included where the file has one. Bytes up to data[readable) may be looked at. */
typedef struct {
    const char *data;
    size_t size, readable;
} line_block;
/* The length of the line at data[start] without its end (\n or \r\n); *next is where the following begins. */
size_t line_length(const line_block *block, size_t start, size_t *next);

/* What becomes of the blocks. `work` is called by all threads at once, each with its number and a block of its own; after it
 * `finish` with the same number, by one at a time, in the order of the file. It adds to *line the lines that are done, and
 * fails where a line cannot be. */
typedef struct {
    void *context;
    void (*work)(void *context, size_t thread, const line_block *block);
    int (*finish)(void *context, size_t thread, const char *name, uint64_t *line, limn_error *error);
} line_work;
/* path NULL: standard input. */
int for_each_block(const char *path, size_t threads, const line_work *work, limn_error *error);

/* ---------------------------------------------------------------- lines.c: a line for each line */

/* A thread's answer to its block. */
typedef struct {
    limn_buffer out;
    id_list ids; /* scratch */
    uint64_t lines;
    int status;
    limn_error error;
} line_answer;

typedef struct line_turning line_turning;
struct line_turning {
    const void *self; /* what turns: a tokenizer, a normaliser */
    /* Appends the answer to one line, of which bytes up to line[readable) may be looked at. */
    int (*turn)(const line_turning *turning, const char *line, size_t size, size_t readable, line_answer *to);
    const void *written; /* encoding: its ids as text */
    FILE *out;
    line_answer *answers; /* of each thread; turn_lines sees to this and what follows */
    limn_progress *progress;
};
/* The lines of a file (NULL: standard input), by all threads, answered in their order. */
int turn_lines(line_turning *turning, const char *path, limn_error *error);

#endif
