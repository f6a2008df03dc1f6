/* Words as numbers, and counting distinct pretokens. */
#include "tokenizer/internal.h"
#include <endian.h>
#include <stdlib.h>
#include <string.h>

short_word short_word_load(const char *word, size_t size, size_t readable) {
    static const unsigned char kept[2 * sizeof(short_word)] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                                               255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    short_word out = {{0}}, mask;
    if (readable >= sizeof out) { /* a copy of a fixed size is two instructions */
        memcpy(&out, word, sizeof out);
        memcpy(&mask, kept + sizeof mask - size, sizeof mask);
        for (size_t i = 0; i < 3; i++) out.part[i] &= mask.part[i];
    } else {
        memcpy(&out, word, size);
    }
    out.part[2] |= htole64((uint64_t)size << 56);
    return out;
}

uint64_t hash_bytes(const char *data, size_t size) {
    uint64_t hash = 0x9E3779B97F4A7C15u ^ size, part;
    for (; size >= 8; data += 8, size -= 8) {
        memcpy(&part, data, 8);
        hash = (hash ^ part) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    part = 0;
    memcpy(&part, data, size);
    hash = (hash ^ part) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
    hash *= 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 29;
}

size_t split_words(const unsigned char *classes, const char *text, size_t size, size_t readable, size_t *start,
                   split_word words[WORD_BATCH]) {
    size_t count = 0;
    while (count < WORD_BATCH && *start < size) {
        split_word *word = &words[count++];
        word->text = text + *start;
        word->size = classes ? pretoken_end(classes, text, size, *start) - *start : size;
        if (word->size <= SHORT_WORD) {
            word->word = short_word_load(word->text, word->size, readable - *start);
            word->hash = short_word_hash(&word->word);
        } else {
            word->hash = hash_bytes(word->text, word->size);
        }
        *start += word->size;
    }
    return count;
}

/* ---------------------------------------------------------------- short words */

static short_count *find_short(const word_counts *self, const short_word *word, uint64_t hash) {
    size_t slot = (size_t)hash & self->short_mask;
    while (self->shorts[slot].count && !short_word_equal(&self->shorts[slot].word, word)) slot = (slot + 1) & self->short_mask;
    return &self->shorts[slot];
}

static int grow_shorts(word_counts *self, limn_error *error) {
    word_counts grown = {.short_mask = self->shorts ? 2 * self->short_mask + 1 : 1023};
    grown.shorts = limn_allocate(grown.short_mask + 1, sizeof *grown.shorts, error);
    if (!grown.shorts) return -1;
    for (size_t i = 0; self->shorts && i <= self->short_mask; i++)
        if (self->shorts[i].count)
            *find_short(&grown, &self->shorts[i].word, short_word_hash(&self->shorts[i].word)) = self->shorts[i];
    free(self->shorts);
    self->shorts = grown.shorts;
    self->short_mask = grown.short_mask;
    return 0;
}

static int add_short(word_counts *self, const short_word *word, uint64_t hash, uint64_t count, limn_error *error) {
    if (3 * self->short_total >= 2 * self->short_mask && grow_shorts(self, error)) return -1;
    short_count *found = find_short(self, word, hash);
    if (!found->count) {
        found->word = *word;
        self->short_total++;
    }
    found->count += count;
    return 0;
}

/* ---------------------------------------------------------------- long words */

static int grow_long_slots(word_counts *self, limn_error *error) {
    size_t slots = self->long_slots ? 2 * (self->long_mask + 1) : 256;
    size_t *fresh = limn_allocate(slots, sizeof *fresh, error);
    if (!fresh) return -1;
    for (size_t i = 0; i < self->long_total; i++) {
        size_t slot = self->longs[i].hash & (slots - 1);
        while (fresh[slot]) slot = (slot + 1) & (slots - 1);
        fresh[slot] = i + 1;
    }
    free(self->long_slots);
    self->long_slots = fresh;
    self->long_mask = slots - 1;
    return 0;
}

static int add_long(word_counts *self, const char *word, size_t size, uint64_t hash, uint64_t count, limn_error *error) {
    if ((!self->long_slots || 2 * self->long_total > self->long_mask) && grow_long_slots(self, error)) return -1;
    size_t slot = hash & self->long_mask;
    for (; self->long_slots[slot]; slot = (slot + 1) & self->long_mask) {
        long_count *known = &self->longs[self->long_slots[slot] - 1];
        if (known->hash == hash && known->size == size && memcmp(self->long_bytes.data + known->offset, word, size) == 0) {
            known->count += count;
            return 0;
        }
    }
    if (self->long_total == self->long_capacity) {
        size_t capacity = self->long_capacity ? 2 * self->long_capacity : 128;
        long_count *longs = realloc(self->longs, capacity * sizeof *longs);
        if (!longs) return limn_fail(error, "not enough memory for %zu distinct long words", capacity);
        self->longs = longs;
        self->long_capacity = capacity;
    }
    size_t offset = self->long_bytes.size;
    if (limn_buffer_append(&self->long_bytes, word, size, error)) return -1;
    self->longs[self->long_total++] = (long_count){hash, count, offset, size};
    self->long_slots[slot] = self->long_total;
    return 0;
}

/* ---------------------------------------------------------------- both */

int word_counts_add_text(word_counts *self, const unsigned char *classes, const char *text, size_t size, size_t readable,
                         limn_error *error) {
    split_word words[WORD_BATCH];
    if (!self->shorts && grow_shorts(self, error)) return -1;
    for (size_t start = 0; start < size;) {
        size_t count = split_words(classes, text, size, readable, &start, words);
        for (size_t i = 0; i < count; i++) __builtin_prefetch(&self->shorts[words[i].hash & self->short_mask], 1);
        for (size_t i = 0; i < count; i++)
            if (words[i].size <= SHORT_WORD ? add_short(self, &words[i].word, words[i].hash, 1, error)
                                            : add_long(self, words[i].text, words[i].size, words[i].hash, 1, error))
                return -1;
    }
    return 0;
}

int word_counts_merge(word_counts *self, const word_counts *other, limn_error *error) {
    enum { AHEAD = 16 };
    if (!self->shorts && grow_shorts(self, error)) return -1;
    for (size_t i = 0; other->shorts && i <= other->short_mask; i++) {
        if (i + AHEAD <= other->short_mask && other->shorts[i + AHEAD].count)
            __builtin_prefetch(&self->shorts[short_word_hash(&other->shorts[i + AHEAD].word) & self->short_mask], 1);
        const short_count *from = &other->shorts[i];
        if (from->count && add_short(self, &from->word, short_word_hash(&from->word), from->count, error)) return -1;
    }
    for (size_t i = 0; i < other->long_total; i++) {
        const long_count *from = &other->longs[i];
        if (add_long(self, other->long_bytes.data + from->offset, from->size, from->hash, from->count, error)) return -1;
    }
    return 0;
}

void word_counts_free(word_counts *self) {
    free(self->shorts);
    free(self->longs);
    free(self->long_slots);
    limn_buffer_free(&self->long_bytes);
    *self = (word_counts){0};
}
