#include "train/shared_state.h"

#include <stdlib.h>
#include <string.h>

void shared_state_free(shared_state *self) {
    for (size_t i = 0; i < self->count; i++) free(self->arrays[i].parts);
    free(self->piece);
    *self = (shared_state){0};
}

/* ---------------------------------------------------------------- who keeps what */

static shared_array *add_array(shared_state *self, const char *name, size_t size, float *own, size_t parts, limn_error *error) {
    if (self->count == SHARED_STATE_MAX) {
        limn_fail(error, "a training state of more than %d arrays", SHARED_STATE_MAX);
        return NULL;
    }
    shared_array *array = &self->arrays[self->count];
    *array =
        (shared_array){.name = name, .count = size, .own = own, .parts = limn_allocate(parts + 1, sizeof *array->parts, error)};
    if (!array->parts) return NULL;
    self->count++;
    return array;
}

static int add_elementwise(shared_state *self, const char *name, float *own, const exchange *between, limn_error *error) {
    const exchange_part *parts;
    size_t count = exchange_parts(between, &parts), size = count ? parts[count - 1].start + parts[count - 1].count : 0;
    shared_array *array = add_array(self, name, size, own, count, error);
    if (!array) return -1;
    memcpy(array->parts, parts, count * sizeof *parts);
    array->part_count = count;
    return 0;
}

/* Values in the array of this name that an optimizer keeps of one tensor. */
static int kept_of(const optimizer_options *options, const optimizer_tensor *of, const char *name, size_t *out,
                   limn_error *error) {
    optimizer_array arrays[OPTIMIZER_ARRAYS_MAX];
    size_t count;
    *out = 0;
    if (optimizer_describe(options, of, 1, arrays, &count, error)) return -1;
    for (size_t i = 0; i < count; i++)
        if (strcmp(arrays[i].name, name) == 0) *out = arrays[i].size;
    return 0;
}

/* Of whole tensors, each of which is one part of the exchange's. */
static int add_by_tensor(shared_state *self, const optimizer_array *described, float *own, const exchange *between,
                         const optimizer_options *options, const optimizer_tensor *tensors, size_t count, limn_error *error) {
    const exchange_part *parts;
    size_t tensor_parts = exchange_parts(between, &parts), at = 0;
    shared_array *array = add_array(self, described->name, described->size, own, tensor_parts, error);
    if (!array) return -1;
    for (size_t i = 0, part = 0; i < count; i++) {
        size_t size;
        if (!tensors[i].grad) continue;
        if (kept_of(options, &tensors[i], described->name, &size, error)) return -1;
        if (size) array->parts[array->part_count++] = (exchange_part){at, size, parts[part].owner};
        at += size;
        part++;
    }
    return at == described->size ? 0 : limn_fail(error, "%s is not laid out tensor by tensor", described->name);
}

static float *own_array(const optimizer *own, const char *name) {
    const optimizer_array *arrays;
    size_t count = own ? optimizer_arrays(own, &arrays) : 0;
    for (size_t i = 0; i < count; i++)
        if (strcmp(arrays[i].name, name) == 0) return arrays[i].data;
    return NULL;
}

int shared_state_add(shared_state *self, world *all, const exchange *between, const optimizer_options *options,
                     const optimizer_tensor *tensors, size_t count, const optimizer *own, limn_error *error) {
    optimizer_array described[OPTIMIZER_ARRAYS_MAX];
    size_t array_count;
    self->all = all;
    if (!self->piece) self->piece = limn_allocate(STATE_PIECE, sizeof *self->piece, error);
    if (!self->piece || optimizer_describe(options, tensors, count, described, &array_count, error)) return -1;
    for (size_t i = 0; i < array_count; i++) {
        float *kept = own_array(own, described[i].name);
        if (described[i].elementwise ? add_elementwise(self, described[i].name, kept, between, error)
                                     : add_by_tensor(self, &described[i], kept, between, options, tensors, count, error))
            return -1;
    }
    return 0;
}

size_t shared_state_arrays(const shared_state *self, state_array out[SHARED_STATE_MAX]) {
    for (size_t i = 0; i < self->count; i++) {
        const shared_array *array = &self->arrays[i];
        out[i] = (state_array){array->name, array->count, world_size(self->all) == 1 ? array->own : NULL};
    }
    return self->count;
}

/* ---------------------------------------------------------------- to rank 0 and back */

/* Values start … start+count−1 of an array, which rank 0 wants or has in `piece`: each rank's part of them goes there, or comes
 * from it. All ranks walk through the same parts, so that their calls of world_move meet. */
static int move(shared_state *self, const shared_array *array, size_t start, size_t count, float *piece, limn_error *error) {
    size_t rank = world_rank(self->all), kept = 0;
    world_ticket last = 0;
    for (size_t p = 0; p < array->part_count; p++) {
        const exchange_part *part = &array->parts[p];
        size_t from = part->start > start ? part->start : start;
        size_t to = part->start + part->count < start + count ? part->start + part->count : start + count;
        if (from < to) {
            float *here = part->owner == rank ? array->own + kept + (from - part->start) : NULL;
            float *there = piece + (from - start);
            size_t bytes = (to - from) * sizeof *piece;
            if (part->owner) {
                last = world_move(self->all, rank ? here : there, bytes, self->saves ? part->owner : 0,
                                  self->saves ? 0 : part->owner);
            } else if (rank == 0) {
                memcpy(self->saves ? there : here, self->saves ? here : there, bytes);
            }
        }
        if (part->owner == rank) kept += part->count;
    }
    return world_wait(self->all, WORLD_SAVING, last, error);
}

static void stand_behind(shared_state *self, size_t start, size_t count) {
    self->next_start = start + count;
    if (self->next_start == self->arrays[self->next_array].count) {
        self->next_array++;
        self->next_start = 0;
    }
}

/* From where this rank stands to the end. */
static int walk(shared_state *self, limn_error *error) {
    while (self->next_array < self->count) {
        const shared_array *array = &self->arrays[self->next_array];
        size_t start = self->next_start, left = array->count - start, count = left < STATE_PIECE ? left : STATE_PIECE;
        if (count && move(self, array, start, count, self->piece, error)) return -1;
        stand_behind(self, start, count);
    }
    return 0;
}

void shared_state_begin(shared_state *self, bool saves) {
    self->next_array = self->next_start = 0;
    self->saves = saves;
}

static int move_next(void *context, const state_array *array, size_t start, size_t count, float *piece, limn_error *error) {
    shared_state *self = context;
    (void)array; /* the file's are in our order */
    if (move(self, &self->arrays[self->next_array], start, count, piece, error)) return -1;
    stand_behind(self, start, count);
    return 0;
}

state_mover shared_state_mover(shared_state *self) {
    return (state_mover){move_next, self};
}

int shared_state_end(shared_state *self, limn_error *error) {
    return world_size(self->all) == 1 ? 0 : walk(self, error);
}

int shared_state_follow(shared_state *self, bool saves, limn_error *error) {
    shared_state_begin(self, saves);
    return walk(self, error);
}
