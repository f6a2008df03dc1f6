#include "train/pair_order.h"

#include <stdlib.h>

enum { GROUP_SHIFT = 40 }; /* streams of random numbers: epochs below it, groups above */

int pair_order_create(pair_order *self, const uint64_t *pairs, size_t count, bool shuffled, uint64_t buffer, uint64_t seed,
                      limn_error *error) {
    *self = (pair_order){.count = count, .pairs = pairs, .buffer = buffer, .seed = seed, .shuffled = shuffled};
    self->epoch = UINT64_MAX;
    for (size_t i = 0; i < count; i++) self->total += pairs[i];
    self->shards = limn_allocate(count, sizeof *self->shards, error);
    self->group_shards = limn_allocate(count, sizeof *self->group_shards, error);
    if (self->shards && self->group_shards) return 0;
    pair_order_free(self);
    return -1;
}

void pair_order_free(pair_order *self) {
    free(self->shards);
    free(self->group_shards);
    *self = (pair_order){0};
}

static void turn_to(pair_order *self, uint64_t epoch) {
    if (self->epoch == epoch) return;
    for (size_t i = 0; i < self->count; i++) self->shards[i] = i;
    if (self->shuffled) limn_random_shuffle(self->shards, self->count, self->seed, limn_random_stream("shard order") + epoch);
    self->epoch = epoch;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void pair_order_find(pair_order *self, uint64_t draw, pair_group *out) {
    *out = (pair_group){.epoch = draw / self->total, .shards = self->group_shards};
    turn_to(self, out->epoch);
    out->first = out->epoch * self->total;
    for (size_t begin = 0;;) {
        size_t end = begin;
        for (out->count = 0; end < self->count; end++) {
            uint64_t more = self->pairs[self->shards[end]];
            if (out->count && (more > self->buffer || out->count > self->buffer - more)) break;
            out->count += more;
        }
        if (draw - out->first < out->count) {
            out->shard_count = end - begin;
            memcpy(self->group_shards, self->shards + begin, out->shard_count * sizeof *self->shards);
            qsort(self->group_shards, out->shard_count, sizeof *self->shards, ascending);
            return;
        }
        out->first += out->count;
        out->number++;
        begin = end;
    }
}

void pair_order_places(const pair_order *self, const pair_group *group, uint64_t *places) {
    for (uint64_t i = 0; i < group->count; i++) places[i] = i;
    uint64_t stream = limn_random_stream("data order") + group->epoch + (group->number << GROUP_SHIFT);
    if (self->shuffled) limn_random_shuffle(places, (size_t)group->count, self->seed, stream);
}

bool pair_order_is_whole(pair_order *self) {
    pair_group group;
    pair_order_find(self, 0, &group);
    return group.count == self->total;
}
