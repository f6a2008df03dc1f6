/* What makes two pairs one, and remembering it for millions. */
#include "choose/internal.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>

uint64_t choose_hash(const void *data, size_t size) {
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    uint64_t first = 0;
    EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL);
    for (size_t i = 0; i < 8; i++) first = first << 8 | digest[i];
    return first;
}

int choose_by_from_name(const char *name, choose_by *out) {
    static const char *const names[] = {"key", "caption", "address", "picture", "near"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name)) continue;
        *out = (choose_by)i;
        return 0;
    }
    return -1;
}

/* The first 16 of exactly `digits` hexadecimal digits. */
static bool parse_hexadecimal(const char *text, size_t digits, uint64_t *out) {
    if (!text || strlen(text) != digits) return false;
    *out = 0;
    for (size_t i = 0; i < digits; i++) {
        const int c = tolower((unsigned char)text[i]);
        if (!isxdigit(c)) return false;
        if (i < 16) *out = *out << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

static bool identity_of_picture(const choose_sample *sample, uint64_t *out) {
    if (sample->shard) {
        *out = choose_hash(sample->tokens, sample->shard->length * sizeof *sample->tokens);
        return true;
    }
    if (parse_hexadecimal(choose_string(sample, "sha256"), 64, out)) return true;
    if (!sample->entry->image) return false;
    *out = choose_hash(sample->entry->image, sample->entry->image_size);
    return true;
}

bool choose_identity(const choose_sample *sample, choose_by by, uint64_t *out) {
    const char *text;
    const choose_text caption = choose_first_caption(sample);
    switch (by) {
    case CHOOSE_BY_KEY:
        *out = choose_hash(sample->key, strlen(sample->key));
        return true;
    case CHOOSE_BY_CAPTION:
        *out = choose_hash(caption.data, caption.size);
        return caption.size > 0;
    case CHOOSE_BY_ADDRESS:
        text = choose_string(sample, "url");
        if (!text || !*text) return false;
        *out = choose_hash(text, strlen(text));
        return true;
    case CHOOSE_BY_PICTURE:
        return identity_of_picture(sample, out);
    case CHOOSE_BY_NEAR:
        return parse_hexadecimal(choose_string(sample, "phash"), 16, out);
    }
    return false;
}

/* ---------------------------------------------------------------- equal values of many */

static int compare_values(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* By the first byte in place (American flag sort), then each of the 256 pieces by qsort, whose own memory is then small. */
static void sort_values(uint64_t *values, size_t count) {
    size_t ends[256] = {0}, next[256];
    for (size_t i = 0; i < count; i++) ends[values[i] >> 56]++;
    for (size_t b = 0, sum = 0; b < 256; b++) {
        next[b] = sum;
        sum += ends[b];
        ends[b] = sum;
    }
    for (size_t b = 0; b < 256; b++)
        while (next[b] < ends[b]) {
            const size_t to = values[next[b]] >> 56;
            if (to == b) {
                next[b]++;
                continue;
            }
            const uint64_t other = values[next[to]];
            values[next[to]++] = values[next[b]];
            values[next[b]] = other;
        }
    for (size_t b = 0, from = 0; b < 256; from = ends[b++])
        if (ends[b] > from) qsort(values + from, ends[b] - from, sizeof *values, compare_values);
}

void choose_count_equal(uint64_t *values, size_t count, uint64_t *out_surplus, uint64_t *out_most) {
    sort_values(values, count);
    *out_surplus = 0;
    *out_most = count ? 1 : 0;
    for (size_t i = 1, run = 1; i < count; i++) {
        run = values[i] == values[i - 1] ? run + 1 : 1;
        *out_surplus += run > 1;
        if (run > *out_most) *out_most = run;
    }
}

/* ---------------------------------------------------------------- seen before */

/* Equal ones: open addressing, 0 is an empty place (a zero is remembered apart). Near ones: pictures' own index. */
struct choose_seen {
    hash_index *near; /* NULL: equal ones */
    bool zero;
    uint64_t *table;
    size_t count, capacity; /* a power of two */
};

choose_seen *choose_seen_create(size_t distance, limn_error *error) {
    choose_seen *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->capacity = 1 << 16;
    if (distance ? (self->near = hash_index_create(distance, error)) != NULL
                 : (self->table = limn_allocate(self->capacity, sizeof *self->table, error)) != NULL)
        return self;
    choose_seen_free(self);
    return NULL;
}

void choose_seen_free(choose_seen *self) {
    if (!self) return;
    hash_index_destroy(self->near);
    free(self->table);
    free(self);
}

/* The place of a value, or the empty one where it would be. Identities are hashes already. */
static size_t place_of(const uint64_t *table, size_t capacity, uint64_t value) {
    size_t at = (size_t)(value * 0x9e3779b97f4a7c15u >> 20) & (capacity - 1);
    while (table[at] && table[at] != value) at = (at + 1) & (capacity - 1);
    return at;
}

static int grow(choose_seen *self, limn_error *error) {
    const size_t capacity = self->capacity * 2;
    uint64_t *table = limn_allocate(capacity, sizeof *table, error);
    if (!table) return -1;
    for (size_t i = 0; i < self->capacity; i++)
        if (self->table[i]) table[place_of(table, capacity, self->table[i])] = self->table[i];
    free(self->table);
    self->table = table;
    self->capacity = capacity;
    return 0;
}

static int add_equal(choose_seen *self, uint64_t value, limn_error *error) {
    if (value == 0) {
        const int was = self->zero;
        self->zero = true;
        return was;
    }
    if (self->count + 1 > self->capacity / 8 * 7 && grow(self, error)) return -1;
    const size_t at = place_of(self->table, self->capacity, value);
    if (self->table[at]) return 1;
    self->table[at] = value;
    self->count++;
    return 0;
}

int choose_seen_add(choose_seen *self, uint64_t identity, limn_error *error) {
    if (!self->near) return add_equal(self, identity, error);
    return hash_index_has_near(self->near, identity) ? 1 : hash_index_add(self->near, identity, error);
}
