/* Which pictures look alike: perceptual hashes of those kept so far, found again within a few bits. */
#ifndef LIMN_DOWNLOAD_DEDUP_H
#define LIMN_DOWNLOAD_DEDUP_H

#include "core/core.h"

enum { DEDUP_DISTANCE_MAX = 7 };

/* 24 bytes a picture: its hash, and a chain for each quarter of it. Two hashes within 3 bits of each other have a quarter in
 * common, two within 7 have one within 1 bit (the pigeonhole principle; Norouzi et al., "Fast Search in Hamming Space with
 * Multi-Index Hashing", CVPR 2012). */
typedef struct dedup_index dedup_index;
dedup_index *dedup_create(size_t distance, limn_error *error); /* 0 to DEDUP_DISTANCE_MAX */
void dedup_destroy(dedup_index *self);                         /* NULL allowed */
/* 1 when a hash within the distance was added before, else 0. Hash 0 is that of pictures without structure, and like none. */
int dedup_seen(const dedup_index *self, uint64_t hash);
int dedup_add(dedup_index *self, uint64_t hash, limn_error *error); /* 0 is not kept */
size_t dedup_count(const dedup_index *self);
/* A finished shard's hashes, for a run that goes on: how many, and each, in 8 bytes, least significant first. */
int dedup_load(dedup_index *self, const char *path, limn_error *error);
int dedup_save(const char *path, const uint64_t *hashes, size_t count, limn_error *error);

#endif
