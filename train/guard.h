/* Stops a run whose loss is no number or has exploded, before anything bad is saved. Internal to train/. */
#ifndef LIMN_TRAIN_GUARD_H
#define LIMN_TRAIN_GUARD_H

#include "train/loop.h"

enum { GUARD_PATIENCE = 10 /* steps in a row above max_loss_rise that end a run */ };

/* Saved with every checkpoint, so that a run that was killed ends where one ends that was not. */
typedef struct {
    float smoothed; /* the loss, by exponential means of about fifty steps, without those that were too high; 0: none yet */
    float above;    /* how many steps in a row were too high */
} train_guard;

/* Looks at the loss of a step. 0; or -1 when the run must end, with what is wrong in `reason`. max_rise 0: only what is no number. */
int train_guard_look(train_guard *guard, const char *name, double loss, double max_rise, char *reason, size_t room);

#endif
