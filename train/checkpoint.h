/* Checkpoints of a run: RUN/checkpoints/STEP/, a model folder plus train_state.h5, and the links RUN/model (the newest) and
 * RUN/best (the best by validation). They are written by a thread of their own while the next step's forward and backward run;
 * nothing is copied, so the next update of the weights waits for the thread (train_before_update). Internal to train/. */
#ifndef LIMN_TRAIN_CHECKPOINT_H
#define LIMN_TRAIN_CHECKPOINT_H

#include "train/guard.h"
#include "train/loop.h"

typedef struct train_checkpoints {
    const char *directory; /* RUN */
    train_task *task;
    size_t keep;      /* the newest so many; 0: all */
    bool keep_best;   /* and the best */
    uint64_t newest;  /* step of the newest that is whole; 0: there is none */
    uint64_t best;    /* step of the best validation; 0: there was none */
    float best_value; /* of task->valid_key there */
    double waited;    /* seconds that updates waited for the thread */

    /* the one being written, or written last */
    bool begun; /* and not yet waited for */
    bool is_there; /* a run that goes on from an earlier one has it already */
    limn_threads thread;
    uint64_t step, best_before;
    float best_value_before;
    state_array arrays[TRAIN_MAX_STATE + 2];
    size_t array_count;
    float sums[TRAIN_MAX_METRICS], loop[3];
    state_counter counters[2];
    int status;
    limn_error error;
} train_checkpoints;

/* Loads the newest checkpoint that can be read, and sets the links right; *step and what is noted in *guard and *self stay as
 * they are when there is none. */
int train_checkpoints_load(train_checkpoints *self, train_guard *guard, uint64_t *step, limn_error *error);
/* Notes a validation; true when it is the best so far. */
bool train_checkpoints_note(train_checkpoints *self, uint64_t step, double value);
/* Begins to write the state after `step`; what was begun before must have been waited for. Weights and state must not change
 * before the next train_checkpoints_wait. Weights that are no numbers are not written. */
int train_checkpoints_begin(train_checkpoints *self, const train_guard *guard, uint64_t step, limn_error *error);
/* Waits until what was begun is written; -1 with its error when it could not be: nothing is left of it then. */
int train_checkpoints_wait(train_checkpoints *self, limn_error *error);

#endif
