/* The index of perceptual hashes. */
#include "download/dedup.h"

#include <stdlib.h>
#include <string.h>

enum { QUARTERS = 4, BUCKETS = 1 << 16, QUARTER_BITS = 16, FIRST_ROOM = 1024 };

struct dedup_index {
    size_t distance, count, room;
    uint64_t *hashes;                  /* (room) */
    uint32_t *next[QUARTERS];          /* (room): the one before with the same quarter, from 1; 0: none */
    uint32_t first[QUARTERS][BUCKETS]; /* the last one with this quarter */
};

static size_t quarter(uint64_t hash, size_t which) {
    return (size_t)(hash >> (which * QUARTER_BITS)) & (BUCKETS - 1);
}

dedup_index *dedup_create(size_t distance, limn_error *error) {
    if (distance > DEDUP_DISTANCE_MAX) {
        limn_fail_usage(error, "--dedup-distance: from 0 to %d bits", DEDUP_DISTANCE_MAX);
        return NULL;
    }
    dedup_index *self = limn_allocate(1, sizeof *self, error);
    if (self) self->distance = distance;
    return self;
}

void dedup_destroy(dedup_index *self) {
    if (!self) return;
    free(self->hashes);
    for (size_t q = 0; q < QUARTERS; q++) free(self->next[q]);
    free(self);
}

static bool in_chain(const dedup_index *self, uint64_t hash, size_t q, size_t bucket) {
    for (uint32_t at = self->first[q][bucket]; at; at = self->next[q][at - 1])
        if ((size_t)__builtin_popcountll(self->hashes[at - 1] ^ hash) <= self->distance) return true;
    return false;
}

int dedup_seen(const dedup_index *self, uint64_t hash) {
    if (hash == 0) return 0;
    for (size_t q = 0; q < QUARTERS; q++) {
        const size_t bucket = quarter(hash, q);
        if (in_chain(self, hash, q, bucket)) return 1;
        for (size_t bit = 0; self->distance >= QUARTERS && bit < QUARTER_BITS; bit++)
            if (in_chain(self, hash, q, bucket ^ (size_t)1 << bit)) return 1;
    }
    return 0;
}

static int grow(dedup_index *self, limn_error *error) {
    const size_t room = self->room ? self->room * 2 : FIRST_ROOM;
    if (room > UINT32_MAX) return limn_fail(error, "more than %zu pictures to compare: divide the list (--part)", self->count);
    uint64_t *hashes = realloc(self->hashes, room * sizeof *hashes);
    if (hashes) self->hashes = hashes;
    bool made = hashes != NULL;
    for (size_t q = 0; made && q < QUARTERS; q++) {
        uint32_t *next = realloc(self->next[q], room * sizeof *next);
        made = next != NULL;
        if (next) self->next[q] = next;
    }
    if (!made) return limn_fail(error, "out of memory for the hashes of %zu pictures", room);
    self->room = room;
    return 0;
}

int dedup_add(dedup_index *self, uint64_t hash, limn_error *error) {
    if (hash == 0) return 0;
    if (self->count == self->room && grow(self, error)) return -1;
    self->hashes[self->count] = hash;
    for (size_t q = 0; q < QUARTERS; q++) {
        uint32_t *first = &self->first[q][quarter(hash, q)];
        self->next[q][self->count] = *first;
        *first = (uint32_t)(self->count + 1);
    }
    self->count++;
    return 0;
}

size_t dedup_count(const dedup_index *self) {
    return self->count;
}

static uint64_t read_u64(const char *data) {
    uint64_t out = 0;
    for (size_t b = 0; b < 8; b++) out |= (uint64_t)(unsigned char)data[b] << (8 * b);
    return out;
}

static void write_u64(char *data, uint64_t value) {
    for (size_t b = 0; b < 8; b++) data[b] = (char)(value >> (8 * b));
}

int dedup_load(dedup_index *self, const char *path, limn_error *error) {
    size_t size;
    char *data = limn_file_read(path, (size_t)1 << 30, &size, error);
    if (!data) return -1;
    int status = 0;
    if (size % 8 || size < 8 || read_u64(data) != size / 8 - 1)
        status = limn_fail(error, "%s: not the hashes of a shard; remove its .stats.json to make it anew", path);
    for (size_t at = 8; !status && at < size; at += 8) status = dedup_add(self, read_u64(data + at), error);
    free(data);
    return status;
}

int dedup_save(const char *path, const uint64_t *hashes, size_t count, limn_error *error) {
    char *data = limn_allocate(count + 1, 8, error);
    if (!data) return -1;
    write_u64(data, count);
    for (size_t i = 0; i < count; i++) write_u64(data + 8 + i * 8, hashes[i]);
    const int status = limn_atomic_write(path, data, 8 + count * 8, error);
    free(data);
    return status;
}
