#include "train/exchange.h"

#include <stdlib.h>
#include <string.h>

/* Numbers that lie one after another in memory and in the order of the tensors. */
typedef struct {
    size_t start, count; /* among all that are not frozen */
    float *grad, *value;
    size_t owner;   /* or WORLD_SLICES */
    size_t waiting; /* numbers whose gradients are not final */
    bool sent;
} bucket;

typedef struct {
    size_t start; /* among all that are not frozen */
    size_t size;  /* 0: frozen */
    size_t owner;
} member;

struct exchange {
    world *all;
    nn_precision wire;
    size_t count;
    optimizer_tensor *tensors; /* (count) */
    member *members;           /* (count) */
    bucket *buckets;
    size_t bucket_count;
    optimizer_tensor *owned;
    size_t *owned_of; /* the tensor that each is, or is a piece of */
    size_t owned_count;
    exchange_part *parts;
    size_t part_count;
    world_ticket last;
};

/* ---------------------------------------------------------------- buckets and owners */

static bool follows(const optimizer_tensor *before, const optimizer_tensor *after) {
    size_t size = optimizer_tensor_size(before);
    return before->grad + size == after->grad && before->value + size == after->value;
}

/* Tensors smaller than this go together with their neighbours. */
enum { SMALL = 1 << 16 };

/* Neighbours that have one owner, and that buckets do not reach beyond. */
typedef struct {
    size_t first, count; /* tensors */
    size_t size;
    double cost;
} unit;

/* Whole tensors: large ones alone, small ones in groups. Pieces: all that lies one after another. */
static size_t make_units(const exchange *self, const double *costs, unit *units) {
    size_t count = 0;
    for (size_t i = 0; i < self->count; i++) {
        size_t size = self->members[i].size;
        if (!size) continue;
        unit *last = count ? &units[count - 1] : NULL;
        bool joins = last && last->first + last->count == i && follows(&self->tensors[i - 1], &self->tensors[i]) &&
                     (!costs || (last->size < SMALL && size < SMALL));
        if (!joins) {
            last = &units[count++];
            *last = (unit){.first = i};
        }
        last->count++;
        last->size += size;
        last->cost += costs ? costs[i] : 0;
    }
    return count;
}

/* The costliest first, each to the rank that has least to do. */
static int choose_owners(exchange *self, const unit *units, size_t count, limn_error *error) {
    size_t ranks = world_size(self->all);
    double *load = limn_allocate(ranks, sizeof *load, error);
    bool *placed = limn_allocate(count + 1, sizeof *placed, error);
    int status = load && placed ? 0 : -1;
    for (size_t n = 0; status == 0 && n < count; n++) {
        size_t costliest = count, least = 0;
        for (size_t i = 0; i < count; i++)
            if (!placed[i] && (costliest == count || units[i].cost > units[costliest].cost)) costliest = i;
        for (size_t rank = 1; rank < ranks; rank++)
            if (load[rank] < load[least]) least = rank;
        placed[costliest] = true;
        load[least] += units[costliest].cost;
        for (size_t i = 0; i < units[costliest].count; i++) self->members[units[costliest].first + i].owner = least;
    }
    free(load);
    free(placed);
    return status;
}

static int make_buckets(exchange *self, const unit *units, size_t unit_count, limn_error *error) {
    size_t most = world_bucket(self->all), count = 0;
    for (size_t i = 0; i < unit_count; i++) count += (units[i].size + most - 1) / most;
    self->buckets = limn_allocate(count + 1, sizeof *self->buckets, error);
    if (!self->buckets) return -1;
    for (size_t i = 0; i < unit_count; i++) {
        const optimizer_tensor *first = &self->tensors[units[i].first];
        const member *of = &self->members[units[i].first];
        for (size_t start = 0; start < units[i].size; start += most) {
            size_t left = units[i].size - start;
            self->buckets[self->bucket_count++] = (bucket){.start = of->start + start,
                                                           .count = left < most ? left : most,
                                                           .grad = (float *)(uintptr_t)first->grad + start,
                                                           .value = first->value + start,
                                                           .owner = of->owner};
        }
    }
    return 0;
}

/* What of a tensor lies in numbers start … start+count−1, as a vector. */
static bool cut(const exchange *self, size_t index, size_t start, size_t count, optimizer_tensor *out) {
    const member *of = &self->members[index];
    size_t from = of->start > start ? of->start : start;
    size_t to = of->start + of->size < start + count ? of->start + of->size : start + count;
    if (from >= to) return false;
    const optimizer_tensor *tensor = &self->tensors[index];
    size_t offset = from - of->start;
    *out = (optimizer_tensor){.name = tensor->name,
                              .rank = 1,
                              .shape = {to - from},
                              .value = tensor->value + offset,
                              .grad = tensor->grad + offset,
                              .average = tensor->average ? tensor->average + offset : NULL,
                              .decays = tensor->decays};
    return true;
}

static void add_part(exchange *self, size_t start, size_t count, size_t owner) {
    if (count) self->parts[self->part_count++] = (exchange_part){start, count, owner};
}

/* Each rank owns its slice of each bucket. */
static void part_slices(exchange *self) {
    for (size_t b = 0; b < self->bucket_count; b++) {
        const bucket *of = &self->buckets[b];
        for (size_t rank = 0; rank < world_size(self->all); rank++) {
            size_t start = world_slice(self->all, of->count, rank), end = world_slice(self->all, of->count, rank + 1);
            add_part(self, of->start + start, end - start, rank);
        }
    }
}

static void own(exchange *self, size_t tensor, const optimizer_tensor *piece) {
    self->owned_of[self->owned_count] = tensor;
    self->owned[self->owned_count++] = *piece;
}

static void part_tensors(exchange *self) {
    for (size_t i = 0; i < self->count; i++) {
        const member *of = &self->members[i];
        add_part(self, of->start, of->size, of->owner);
        if (of->size && of->owner == world_rank(self->all)) own(self, i, &self->tensors[i]);
    }
}

/* The own parts, cut where tensors end. */
static void own_slices(exchange *self) {
    size_t tensor = 0;
    for (size_t p = 0; p < self->part_count; p++) {
        const exchange_part *part = &self->parts[p];
        if (part->owner != world_rank(self->all)) continue;
        while (self->members[tensor].start + self->members[tensor].size <= part->start) tensor++;
        for (size_t i = tensor; i < self->count && self->members[i].start < part->start + part->count; i++) {
            optimizer_tensor piece;
            if (cut(self, i, part->start, part->count, &piece)) own(self, i, &piece);
        }
    }
}

static int share_out(exchange *self, const double *costs, limn_error *error) {
    unit *units = limn_allocate(self->count + 1, sizeof *units, error);
    if (!units) return -1;
    size_t count = make_units(self, costs, units);
    int status = costs ? choose_owners(self, units, count, error) : 0;
    if (status == 0) status = make_buckets(self, units, count, error);
    free(units);
    return status;
}

exchange *exchange_create(world *all, const optimizer_tensor *tensors, size_t count, const double *costs, nn_precision wire,
                          limn_error *error) {
    exchange *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    *self = (exchange){.all = all, .wire = wire, .count = count};
    self->tensors = limn_allocate(count + 1, sizeof *self->tensors, error);
    self->members = limn_allocate(count + 1, sizeof *self->members, error);
    int status = self->tensors && self->members ? 0 : -1;
    bool alone = world_size(all) == 1, whole = alone || costs;
    size_t start = 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        self->tensors[i] = tensors[i];
        self->members[i] = (member){start, tensors[i].grad ? optimizer_tensor_size(&tensors[i]) : 0, whole ? 0 : WORLD_SLICES};
        start += self->members[i].size;
    }
    if (status == 0 && !alone) status = share_out(self, costs, error);
    if (status == 0) {
        size_t pieces = self->bucket_count * world_size(all);
        self->owned = limn_allocate(count + self->bucket_count + 1, sizeof *self->owned, error);
        self->owned_of = limn_allocate(count + self->bucket_count + 1, sizeof *self->owned_of, error);
        self->parts = limn_allocate((whole ? count : pieces) + 1, sizeof *self->parts, error);
        status = self->owned && self->owned_of && self->parts ? 0 : -1;
    }
    if (status) {
        exchange_free(self);
        return NULL;
    }
    if (whole) {
        part_tensors(self);
    } else {
        part_slices(self);
        own_slices(self);
    }
    return self;
}

void exchange_free(exchange *self) {
    if (!self) return;
    free(self->tensors);
    free(self->members);
    free(self->buckets);
    free(self->owned);
    free(self->owned_of);
    free(self->parts);
    free(self);
}

size_t exchange_owned(const exchange *self, const optimizer_tensor **out) {
    *out = self->owned;
    return self->owned_count;
}

size_t exchange_parts(const exchange *self, const exchange_part **out) {
    *out = self->parts;
    return self->part_count;
}

bool exchange_is_frozen(const exchange *self, size_t tensor) {
    return self->members[tensor].size == 0;
}

/* ---------------------------------------------------------------- a step */

void exchange_begin(exchange *self) {
    for (size_t b = 0; b < self->bucket_count; b++) {
        self->buckets[b].waiting = self->buckets[b].count;
        self->buckets[b].sent = false;
    }
}

static void send(exchange *self, bucket *of) {
    self->last = world_reduce(self->all, of->grad, of->count, of->owner, self->wire);
    of->sent = true;
}

/* The bucket that holds this number. */
static size_t find_bucket(const exchange *self, size_t number) {
    size_t low = 0, high = self->bucket_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (self->buckets[middle].start <= number)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void exchange_ready(exchange *self, size_t first, size_t count) {
    if (!self->bucket_count) return;
    for (size_t i = first; i < first + count; i++) {
        const member *of = &self->members[i];
        size_t end = of->start + of->size;
        if (!of->size) continue;
        for (size_t b = find_bucket(self, of->start); b < self->bucket_count && self->buckets[b].start < end; b++) {
            bucket *at = &self->buckets[b];
            size_t from = of->start > at->start ? of->start : at->start;
            size_t to = end < at->start + at->count ? end : at->start + at->count;
            at->waiting -= to - from;
            if (!at->waiting) send(self, at);
        }
    }
}

int exchange_sum(exchange *self, limn_error *error) {
    for (size_t b = 0; b < self->bucket_count; b++)
        if (!self->buckets[b].sent) send(self, &self->buckets[b]);
    return world_wait(self->all, WORLD_TRAINING, self->last, error);
}

int exchange_squares(exchange *self, double *out, limn_error *error) {
    for (size_t i = 0; i < self->count; i++) out[i] = 0;
    for (size_t i = 0; i < self->owned_count; i++)
        out[self->owned_of[i]] += sum_of_squares(self->owned[i].grad, optimizer_tensor_size(&self->owned[i]));
    return world_sum(self->all, out, self->count, error);
}

static int give(exchange *self, bool from_rank_0, limn_error *error) {
    for (size_t b = 0; b < self->bucket_count; b++) {
        const bucket *of = &self->buckets[b];
        self->last = world_share(self->all, of->value, of->count, from_rank_0 ? 0 : of->owner);
    }
    return world_wait(self->all, WORLD_TRAINING, self->last, error);
}

int exchange_share(exchange *self, limn_error *error) {
    return give(self, false, error);
}

int exchange_spread(exchange *self, limn_error *error) {
    return give(self, true, error);
}
