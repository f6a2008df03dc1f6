/* Many perceptual hashes, and whether one of them is near another. */
#include "pictures/pictures.h"

#include <stdlib.h>

enum { QUARTERS = 4, BUCKETS = 1 << 16, QUARTER_BITS = 16, FIRST_ROOM = 1024 };

struct hash_index {
    size_t distance, count, room;
    uint64_t *hashes;                  /* (room) */
    uint32_t *next[QUARTERS];          /* (room): the one before with the same quarter, from 1; 0: none */
    uint32_t first[QUARTERS][BUCKETS]; /* the last one with this quarter */
};

static size_t quarter(uint64_t hash, size_t which) {
    return (size_t)(hash >> (which * QUARTER_BITS)) & (BUCKETS - 1);
}

hash_index *hash_index_create(size_t distance, limn_error *error) {
    hash_index *self = limn_allocate(1, sizeof *self, error);
    if (self) self->distance = distance;
    return self;
}

void hash_index_destroy(hash_index *self) {
    if (!self) return;
    free(self->hashes);
    for (size_t q = 0; q < QUARTERS; q++) free(self->next[q]);
    free(self);
}

static bool in_chain(const hash_index *self, uint64_t hash, size_t q, size_t bucket) {
    for (uint32_t at = self->first[q][bucket]; at; at = self->next[q][at - 1])
        if ((size_t)__builtin_popcountll(self->hashes[at - 1] ^ hash) <= self->distance) return true;
    return false;
}

bool hash_index_has_near(const hash_index *self, uint64_t hash) {
    for (size_t q = 0; q < QUARTERS; q++) {
        const size_t bucket = quarter(hash, q);
        if (in_chain(self, hash, q, bucket)) return true;
        for (size_t bit = 0; self->distance >= QUARTERS && bit < QUARTER_BITS; bit++)
            if (in_chain(self, hash, q, bucket ^ (size_t)1 << bit)) return true;
    }
    return false;
}

static int grow(hash_index *self, limn_error *error) {
    const size_t room = self->room ? self->room * 2 : FIRST_ROOM;
    if (room > UINT32_MAX) return limn_fail(error, "more than %zu pictures cannot be compared at once", self->count);
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

int hash_index_add(hash_index *self, uint64_t hash, limn_error *error) {
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

size_t hash_index_count(const hash_index *self) {
    return self->count;
}
