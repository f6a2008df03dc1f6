/* #redapple to "red apple": the words that are most likely together, by Zipf's law from their place in a list of frequencies
 * (the method of the Python package wordninja, as DALL·E Mini changed it). */
#include "tokenizer/normalizer.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORD_MAX = 100,   /* bytes; longer words of the list are left out */
    COST_SLOTS = 128, /* > WORD_MAX; a power of two */
    FILTER_STEP = 3,  /* letters between two looks into the filter */
};
static const size_t FILE_LIMIT = (size_t)1 << 30;
static const uint64_t HASH_START = 0xCBF29CE484222325u, HASH_FACTOR = 0x100000001B3u;

typedef struct {
    uint64_t hash; /* of the word read from its end; 0: empty */
    double cost;
    uint32_t offset; /* into `text` */
    uint8_t size;
} word_entry;

struct hashtag_words {
    char *text;
    word_entry *entries;
    size_t mask;      /* entries - 1; a power of two */
    uint64_t *filter; /* bits: some word may end with letters of this hash */
    uint64_t filter_mask;
    size_t longest;
};

/* Splitting looks at words from their end backwards, so that is how they are hashed. */
static uint64_t hash_letter(uint64_t hash, char letter) {
    return (hash ^ (unsigned char)letter) * HASH_FACTOR;
}

static uint64_t finish_hash(uint64_t hash) {
    hash ^= hash >> 32;
    return hash ? hash : 1;
}

/* ---------------------------------------------------------------- the list */

/* The characters that Python's str.splitlines ends a line at, and str.split a word; 0 when none stands at the place. */
static size_t line_end_length(const char *at, size_t size) {
    unsigned char c = (unsigned char)*at;
    if (c == '\r' && size > 1 && at[1] == '\n') return 2;
    if ((c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E)) return 1;
    if (c == 0xC2 && size > 1 && (unsigned char)at[1] == 0x85) return 2;
    return c == 0xE2 && size > 2 && (memcmp(at, "\xE2\x80\xA8", 3) == 0 || memcmp(at, "\xE2\x80\xA9", 3) == 0) ? 3 : 0;
}

static size_t space_length(const char *at, size_t size) {
    uint32_t code;
    size_t used = limn_utf8_decode(at, size, &code);
    return used && (unicode_flags(code) & UNICODE_SPACE) ? used : 0;
}

static void add_to_filter(hashtag_words *self, uint64_t hash) {
    uint64_t bit = finish_hash(hash) & self->filter_mask;
    self->filter[bit / 64] |= (uint64_t)1 << bit % 64;
}

static bool may_end_so(const hashtag_words *self, uint64_t hash) {
    uint64_t bit = finish_hash(hash) & self->filter_mask;
    return self->filter[bit / 64] >> bit % 64 & 1;
}

static word_entry *find_slot(const hashtag_words *self, uint64_t hash, const char *word, size_t size) {
    size_t slot = (size_t)hash & self->mask;
    for (;; slot = (slot + 1) & self->mask) {
        word_entry *entry = &self->entries[slot];
        if (!entry->hash) return entry;
        if (entry->hash == hash && entry->size == size && memcmp(self->text + entry->offset, word, size) == 0) return entry;
    }
}

/* Of a word that comes twice the last place counts, as in the original's dictionary. */
static void add_word(hashtag_words *self, const char *word, size_t size, size_t place) {
    if (size > WORD_MAX) return;
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < size; i++) {
        hash = hash_letter(hash, word[size - 1 - i]);
        if ((i + 1) % FILTER_STEP == 0) add_to_filter(self, hash);
    }
    hash = finish_hash(hash);
    word_entry *entry = find_slot(self, hash, word, size);
    *entry = (word_entry){hash, log((double)(place + 1)), (uint32_t)(word - self->text), (uint8_t)size};
    if (size > self->longest) self->longest = size;
}

/* Goes over the lines; gives the words to `self` if it has tables, and counts them and their letters in any case. */
static int read_lines(hashtag_words *self, const char *path, size_t size, size_t *words, size_t *letters, limn_error *error) {
    size_t place = 0;
    *letters = 0;
    for (size_t start = 0, end, next; start < size; start = next, place++) {
        const char *text = self->text;
        size_t length = 0, word_end;
        for (end = start; end < size && !(length = line_end_length(text + end, size - end));) end++;
        next = end + length;
        for (size_t used; start < end && (used = space_length(text + start, end - start));) start += used;
        for (word_end = start; word_end < end && !space_length(text + word_end, end - word_end);) word_end++;
        if (word_end == start)
            return limn_fail(error, "%s: line %zu has no word; expected \"word count\", the most frequent first", path,
                             place + 1);
        *letters += word_end - start;
        if (self->entries) add_word(self, text + start, word_end - start, place);
    }
    *words = place;
    return place ? 0 : limn_fail(error, "%s: is empty; a word list is expected, with \"word count\" on each line", path);
}

static int make_tables(hashtag_words *self, size_t words, size_t letters, limn_error *error) {
    size_t slots = 16, bits = 64;
    while (slots < 2 * words) slots *= 2;
    while (bits < letters / FILTER_STEP * 8) bits *= 2;
    self->entries = limn_allocate(slots, sizeof *self->entries, error);
    self->filter = limn_allocate(bits / 64, sizeof *self->filter, error);
    self->mask = slots - 1;
    self->filter_mask = bits - 1;
    return self->entries && self->filter ? 0 : -1;
}

hashtag_words *hashtag_words_read(const char *path, limn_error *error) {
    size_t size, words, letters;
    hashtag_words *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->text = limn_file_read(path, FILE_LIMIT, &size, error);
    if (!self->text) goto failed;
    if (!limn_utf8_valid(self->text, size)) {
        limn_fail(error, "%s: is not UTF-8; a word list is expected, with \"word count\" on each line", path);
        goto failed;
    }
    if (read_lines(self, path, size, &words, &letters, error) || make_tables(self, words, letters, error) ||
        read_lines(self, path, size, &words, &letters, error))
        goto failed;
    return self;
failed:
    hashtag_words_free(self);
    return NULL;
}

void hashtag_words_free(hashtag_words *self) {
    if (!self) return;
    free(self->text);
    free(self->entries);
    free(self->filter);
    free(self);
}

/* ---------------------------------------------------------------- splitting */

/* The length of the last word of the cheapest split of text[0, end), and its cost. costs[i % COST_SLOTS] is that of text[0, i).
 * Of equal costs the shorter word is taken; without any word it is one letter. */
static size_t best_last_word(const hashtag_words *self, const char *text, size_t end, const double *costs, double *out_cost) {
    size_t best = 1, longest = self && self->longest < end ? self->longest : end;
    uint64_t hash = HASH_START;
    *out_cost = INFINITY;
    for (size_t length = 1; self && length <= longest; length++) {
        hash = hash_letter(hash, text[end - length]);
        if (length % FILTER_STEP == 0 && !may_end_so(self, hash)) break;
        const word_entry *entry = find_slot(self, finish_hash(hash), text + end - length, length);
        double cost = entry->hash ? costs[(end - length) % COST_SLOTS] + entry->cost : INFINITY;
        if (cost < *out_cost) {
            *out_cost = cost;
            best = length;
        }
    }
    return best;
}

/* The words of text[0, size) are marked in `begins` by their first letters. Digits are put together again. */
static void mark_words(const hashtag_words *self, const char *text, size_t size, unsigned char *lengths,
                       unsigned char *begins) {
    double costs[COST_SLOTS] = {0};
    for (size_t end = 1; end <= size; end++)
        lengths[end - 1] = (unsigned char)best_last_word(self, text, end, costs, &costs[end % COST_SLOTS]);
    for (size_t end = size; end;) {
        size_t start = end - lengths[end - 1];
        begins[start] = 1;
        bool digits = end < size && text[end - 1] >= '0' && text[end - 1] <= '9' && text[end] >= '0' && text[end] <= '9';
        if (digits) begins[end] = 0;
        end = start;
    }
}

int hashtag_split(const hashtag_words *self, const char *text, size_t size, limn_buffer *out, limn_error *error) {
    unsigned char small[512] = {0};
    unsigned char *marks = 2 * size <= sizeof small ? small : limn_allocate(size, 2, error);
    if (!marks || limn_buffer_reserve(out, 2 * size, error)) {
        if (marks != small) free(marks);
        return -1;
    }
    bool first = true;
    for (size_t start = 0, end; start < size; start = end) {
        for (end = start; end < size && text[end] != '_';) end++;
        mark_words(self, text + start, end - start, marks + start, marks + size + start);
        for (size_t i = start; i < end; i++) {
            if (marks[size + i] && !first) out->data[out->size++] = ' ';
            out->data[out->size++] = text[i];
            first = false;
        }
        if (end < size) end++; /* the underscore */
    }
    if (marks != small) free(marks);
    return 0;
}
