/* In which order a run takes the pairs of its shards. Draw d (0, 1, 2, … over all epochs) is a function of the seed, the
 * shards' counts and the buffer alone: neither of batches, machines and threads nor of where a run was gone on with.
 *
 * In each epoch the shards are shuffled. Neighbours in that order form groups of as many shards as fit in the buffer, at least
 * one, and the pairs of a group are shuffled among each other. So only the groups that are read now and next need be in memory,
 * and any draw is found by reading one group. When all shards fit in the buffer every epoch is a shuffle of all pairs. Internal
 * to train/. */
#ifndef LIMN_TRAIN_PAIR_ORDER_H
#define LIMN_TRAIN_PAIR_ORDER_H

#include "core/core.h"

typedef struct {
    size_t count;          /* shards */
    const uint64_t *pairs; /* (count) of each shard; borrowed */
    uint64_t total;        /* of all; at least 1 */
    uint64_t buffer, seed;
    bool shuffled;                   /* false: every epoch takes all pairs as they lie in the shards */
    uint64_t epoch;                  /* whose order of shards is in `shards` */
    uint64_t *shards, *group_shards; /* (count) each */
} pair_order;

typedef struct {
    uint64_t first, count;  /* its draws are first … first+count-1 */
    uint64_t epoch, number; /* in the epoch, from 0 */
    size_t shard_count;
    const uint64_t *shards; /* (shard_count) ascending; the order's own, until the next call */
} pair_group;

int pair_order_create(pair_order *self, const uint64_t *pairs, size_t count, bool shuffled, uint64_t buffer, uint64_t seed,
                      limn_error *error);
void pair_order_free(pair_order *self);
/* The group of a draw. */
void pair_order_find(pair_order *self, uint64_t draw, pair_group *out);
/* places[i] (count of the group) is the pair taken at draw first+i, counted through the group's shards in their order. */
void pair_order_places(const pair_order *self, const pair_group *group, uint64_t *places);
/* True when each epoch is one group: all its pairs may stay in memory from one epoch to the next. */
bool pair_order_is_whole(pair_order *self);

#endif
