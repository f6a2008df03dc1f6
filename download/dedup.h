/* Which pictures look alike: perceptual hashes of those kept so far, found again within a few bits. */
#ifndef LIMN_DOWNLOAD_DEDUP_H
#define LIMN_DOWNLOAD_DEDUP_H

#include "pictures/pictures.h"

hash_index *dedup_create(size_t distance, limn_error *error); /* a usage error beyond HASH_DISTANCE_MAX */
/* Whether a hash within the distance was added before. Hash 0 is that of pictures without structure, and like none. */
bool dedup_seen(const hash_index *self, uint64_t hash);
int dedup_add(hash_index *self, uint64_t hash, limn_error *error); /* 0 is not kept */
/* A finished shard's hashes, for a run that goes on: how many, and each, in 8 bytes, least significant first. */
int dedup_load(hash_index *self, const char *path, limn_error *error);
int dedup_save(const char *path, const uint64_t *hashes, size_t count, limn_error *error);

#endif
