/* How often each of many texts occurs, in a bounded memory: lossy counting in the manner of Manku and Motwani, "Approximate
 * frequency counts over data streams" (VLDB 2002), but pruned by room instead of by error. */
#include "choose/internal.h"

#include <stdlib.h>

typedef struct {
    uint64_t hash, count;
    size_t offset; /* of its text */
    uint32_t size;
} entry;

struct choose_counter {
    size_t room;
    entry *entries; /* in the order in which they came */
    size_t count, capacity;
    uint32_t *table; /* number of the entry + 1; 0: empty */
    size_t table_size;
    limn_buffer texts;
    uint64_t total, low_by;
    bool exact;
};

enum { TEXT_MAX_BYTES = 1 << 12 };

static uint64_t hash_text(const char *text, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

choose_counter *choose_counter_create(size_t room, limn_error *error) {
    choose_counter *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->room = room;
    self->exact = true;
    self->table_size = 1 << 10;
    self->table = limn_allocate(self->table_size, sizeof *self->table, error);
    if (self->table) return self;
    choose_counter_free(self);
    return NULL;
}

void choose_counter_free(choose_counter *self) {
    if (!self) return;
    free(self->entries);
    free(self->table);
    limn_buffer_free(&self->texts);
    free(self);
}

static size_t place_of(const choose_counter *self, const char *text, size_t size, uint64_t hash) {
    size_t at = hash & (self->table_size - 1);
    for (; self->table[at]; at = (at + 1) & (self->table_size - 1)) {
        const entry *there = &self->entries[self->table[at] - 1];
        if (there->hash == hash && there->size == size && memcmp(self->texts.data + there->offset, text, size) == 0) break;
    }
    return at;
}

static void fill_table(choose_counter *self) {
    memset(self->table, 0, self->table_size * sizeof *self->table);
    for (size_t i = 0; i < self->count; i++) {
        size_t at = self->entries[i].hash & (self->table_size - 1);
        while (self->table[at]) at = (at + 1) & (self->table_size - 1);
        self->table[at] = (uint32_t)(i + 1);
    }
}

static int compare_counts(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Drops the entries that occur least, until at most `room` are left. */
static int prune(choose_counter *self, limn_error *error) {
    uint64_t *counts = limn_allocate(self->count, sizeof *counts, error);
    if (!counts) return -1;
    for (size_t i = 0; i < self->count; i++) counts[i] = self->entries[i].count;
    qsort(counts, self->count, sizeof *counts, compare_counts);
    const uint64_t limit = counts[self->count - self->room - 1];
    free(counts);
    size_t left = 0, end = 0;
    for (size_t i = 0; i < self->count; i++) {
        entry *each = &self->entries[i];
        if (each->count <= limit) continue;
        memmove(self->texts.data + end, self->texts.data + each->offset, each->size);
        each->offset = end;
        end += each->size;
        self->entries[left++] = *each;
    }
    self->count = left;
    self->texts.size = end;
    self->low_by += limit;
    self->exact = false;
    fill_table(self);
    return 0;
}

static int make_room(choose_counter *self, limn_error *error) {
    if (self->count == self->capacity) {
        const size_t capacity = self->capacity ? self->capacity * 2 : 256;
        entry *grown = realloc(self->entries, capacity * sizeof *grown);
        if (!grown) return limn_fail(error, "out of memory for counting texts");
        self->entries = grown;
        self->capacity = capacity;
    }
    if (self->count * 2 >= self->table_size) {
        uint32_t *grown = limn_allocate(self->table_size * 2, sizeof *grown, error);
        if (!grown) return -1;
        free(self->table);
        self->table = grown;
        self->table_size *= 2;
        fill_table(self);
    }
    return 0;
}

int choose_counter_add(choose_counter *self, const char *text, size_t size, uint64_t times, limn_error *error) {
    if (size > TEXT_MAX_BYTES) size = TEXT_MAX_BYTES;
    const uint64_t hash = hash_text(text, size);
    size_t at = place_of(self, text, size, hash);
    self->total += times;
    if (self->table[at]) {
        self->entries[self->table[at] - 1].count += times;
        return 0;
    }
    if (self->count == 2 * self->room && prune(self, error)) return -1;
    if (make_room(self, error)) return -1;
    at = place_of(self, text, size, hash);
    self->entries[self->count] = (entry){.hash = hash, .count = times, .offset = self->texts.size, .size = (uint32_t)size};
    if (limn_buffer_append(&self->texts, text, size, error)) return -1;
    self->table[at] = (uint32_t)++self->count;
    return 0;
}

int choose_counter_merge(choose_counter *self, const choose_counter *other, limn_error *error) {
    for (size_t i = 0; i < other->count; i++) {
        const entry *each = &other->entries[i];
        if (choose_counter_add(self, other->texts.data + each->offset, each->size, each->count, error)) return -1;
    }
    return 0;
}

static int compare_texts(const choose_counter *self, const entry *a, const entry *b) {
    const int order = memcmp(self->texts.data + a->offset, self->texts.data + b->offset, a->size < b->size ? a->size : b->size);
    return order ? order : (a->size > b->size) - (a->size < b->size);
}

json_t *choose_counter_json(const choose_counter *self, size_t top, limn_error *error) {
    json_t *list = json_array();
    const entry **best = limn_allocate(top + 1, sizeof *best, error);
    size_t found = 0;
    if (!list || !best) goto failed;
    for (size_t i = 0; i < self->count; i++) {
        const entry *each = &self->entries[i];
        size_t at = found < top ? found : top;
        while (at > 0 && (best[at - 1]->count < each->count ||
                          (best[at - 1]->count == each->count && compare_texts(self, best[at - 1], each) > 0))) {
            best[at] = best[at - 1]; /* best has one place more than `top` */
            at--;
        }
        if (at < top) best[at] = each;
        if (found < top) found++;
    }
    for (size_t i = 0; i < found; i++) {
        limn_buffer shown = {0};
        if (limn_buffer_append(&shown, self->texts.data + best[i]->offset, best[i]->size, error)) goto failed;
        for (size_t b = 0; b < shown.size;) { /* JSON wants UTF-8 */
            uint32_t code_point;
            const size_t used = limn_utf8_decode(shown.data + b, shown.size - b, &code_point);
            if (used == 0) shown.data[b] = '?';
            b += used ? used : 1;
        }
        json_array_append_new(list,
                              json_pack("{s:s%, s:I, s:f}", "text", shown.data, shown.size, "count", (json_int_t)best[i]->count,
                                        "share", (double)best[i]->count / (double)self->total));
        limn_buffer_free(&shown);
    }
    free(best);
    return json_pack("{s:I, s:I, s:b, s:I, s:o}", "total", (json_int_t)self->total, "different", (json_int_t)self->count,
                     "exact", self->exact, "low_by", (json_int_t)self->low_by, "top", list);
failed:
    free(best);
    json_decref(list);
    limn_fail(error, "out of memory for counting texts");
    return NULL;
}
