/* shared_state: the training state of a run whose ranks each keep a part of it. In train_state.h5 arrays are whole and in the
 * order of the tensors, whoever kept what, so that a run may go on with another number of ranks. Rank 0 writes and reads the
 * file and has a piece of it in memory at a time; the others follow it. Internal to train/. */
#ifndef LIMN_TRAIN_SHARED_STATE_H
#define LIMN_TRAIN_SHARED_STATE_H

#include "formats/formats.h"
#include "train/exchange.h"

enum { SHARED_STATE_MAX = 8 };

typedef struct {
    const char *name;
    size_t count;         /* of all ranks together */
    float *own;           /* what this rank keeps, part by part in their order; NULL: nothing */
    exchange_part *parts; /* who keeps which of its values; in their order */
    size_t part_count;
} shared_array;

typedef struct {
    world *all;
    shared_array arrays[SHARED_STATE_MAX];
    size_t count;
    size_t next_array, next_start; /* where rank 0 stands in the file */
    bool saves;                    /* the direction: to rank 0 */
    float *piece;                  /* (STATE_PIECE) of the other ranks' walk */
} shared_state;

/* Zero-initialise; what has been added is freed by shared_state_free, also after an error. */
void shared_state_free(shared_state *self);
/* Adds the arrays of an optimizer of everything in `tensors` (count); `own` is this rank's, of what the exchange gave it. */
int shared_state_add(shared_state *self, world *all, const exchange *between, const optimizer_options *options,
                     const optimizer_tensor *tensors, size_t count, const optimizer *own, limn_error *error);
/* As train_state_write and train_state_read have them: `values` are NULL where there are several ranks. Returns the count. */
size_t shared_state_arrays(const shared_state *self, state_array out[SHARED_STATE_MAX]);

/* Rank 0: begin, then train_state_write_pieces or train_state_read_pieces with the mover, then end, whatever came of it: the
 * others wait for all pieces. The other ranks: follow. On the SAVING lane. */
void shared_state_begin(shared_state *self, bool saves);
state_mover shared_state_mover(shared_state *self);
int shared_state_end(shared_state *self, limn_error *error);
int shared_state_follow(shared_state *self, bool saves, limn_error *error);

#endif
