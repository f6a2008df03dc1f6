/* Duplicates among the pictures of a run: the rule for pictures without structure, and shards' hashes on the disk. */
#include "download/dedup.h"

#include <stdlib.h>

hash_index *dedup_create(size_t distance, limn_error *error) {
    if (distance <= HASH_DISTANCE_MAX) return hash_index_create(distance, error);
    limn_fail_usage(error, "--dedup-distance: from 0 to %d bits", HASH_DISTANCE_MAX);
    return NULL;
}

bool dedup_seen(const hash_index *self, uint64_t hash) {
    return hash != 0 && hash_index_has_near(self, hash);
}

int dedup_add(hash_index *self, uint64_t hash, limn_error *error) {
    return hash == 0 ? 0 : hash_index_add(self, hash, error);
}

static uint64_t read_u64(const char *data) {
    uint64_t out = 0;
    for (size_t b = 0; b < 8; b++) out |= (uint64_t)(unsigned char)data[b] << (8 * b);
    return out;
}

static void write_u64(char *data, uint64_t value) {
    for (size_t b = 0; b < 8; b++) data[b] = (char)(value >> (8 * b));
}

int dedup_load(hash_index *self, const char *path, limn_error *error) {
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
