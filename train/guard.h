/* Stops a run whose loss is no number or has exploded, before anything bad is saved. Internal to train/. */
#ifndef LIMN_TRAIN_GUARD_H
#define LIMN_TRAIN_GUARD_H

#include "train/loop.h"

enum { GUARD_PATIENCE = 10 /* steps in a row above max_loss_rise that end a run */ };

typedef struct {
    float first;    /* the run's first loss */
    float smoothed; /* the loss, by exponential means of about fifty steps, without those that were too high; 0: none yet */
    size_t above;   /* how many steps in a row were too high; nothing is saved while there are any */
} train_guard;

typedef enum { LOSS_FINE, LOSS_RISEN, LOSS_EXPLODED, LOSS_NO_NUMBER } loss_verdict;
/* Looks at the loss of a step: more than max_rise times what it was is too high, and for GUARD_PATIENCE steps in a row an
 * explosion. What it was counts for at least a twentieth of the first: a small set that is known by heart has losses near 0,
 * and a rare sample in them. max_rise 0: only what is no number is looked for. */
double train_guard_usual(const train_guard *guard); /* what the loss was */
loss_verdict train_guard_look(train_guard *guard, double loss, double max_rise);

#endif
