/* Counting distinct pretokens: a hash table whose words lie in one block of bytes. */
#include "tokenizer/internal.h"
#include <stdlib.h>
#include <string.h>

static int grow_slots(word_counts *self, limn_error *error) {
    size_t slots = self->slots ? 2 * (self->slot_mask + 1) : 1024;
    size_t *fresh = limn_allocate(slots, sizeof *fresh, error);
    if (!fresh) return -1;
    for (size_t i = 0; i < self->count; i++) {
        size_t slot = self->words[i].hash & (slots - 1);
        while (fresh[slot]) slot = (slot + 1) & (slots - 1);
        fresh[slot] = i + 1;
    }
    free(self->slots);
    self->slots = fresh;
    self->slot_mask = slots - 1;
    return 0;
}

int word_counts_add(word_counts *self, const char *word, size_t size, uint64_t hash, uint64_t count, limn_error *error) {
    if ((!self->slots || 2 * self->count > self->slot_mask) && grow_slots(self, error)) return -1;
    size_t slot = hash & self->slot_mask;
    for (; self->slots[slot]; slot = (slot + 1) & self->slot_mask) {
        counted_word *known = &self->words[self->slots[slot] - 1];
        if (known->hash == hash && known->size == size && memcmp(self->bytes.data + known->offset, word, size) == 0) {
            known->count += count;
            return 0;
        }
    }
    if (self->count == self->capacity) {
        size_t capacity = self->capacity ? 2 * self->capacity : 512;
        counted_word *words = realloc(self->words, capacity * sizeof *words);
        if (!words) return limn_fail(error, "not enough memory for %zu distinct words", capacity);
        self->words = words;
        self->capacity = capacity;
    }
    size_t offset = self->bytes.size;
    if (limn_buffer_append(&self->bytes, word, size, error)) return -1;
    self->words[self->count++] = (counted_word){hash, count, offset, size};
    self->slots[slot] = self->count;
    return 0;
}

void word_counts_free(word_counts *self) {
    free(self->words);
    free(self->slots);
    limn_buffer_free(&self->bytes);
    *self = (word_counts){0};
}
