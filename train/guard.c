/* Stops a run whose loss is no number or has exploded. */
#include "train/guard.h"

#include <math.h>

static const float SMOOTHING = 0.02f;

loss_verdict train_guard_look(train_guard *guard, double loss, double max_rise) {
    if (!isfinite(loss)) return LOSS_NO_NUMBER;
    bool known = guard->smoothed > 0;
    if (known && max_rise > 0 && loss > max_rise * (double)guard->smoothed)
        return ++guard->above < GUARD_PATIENCE ? LOSS_RISEN : LOSS_EXPLODED;
    guard->above = 0;
    guard->smoothed = known ? guard->smoothed + SMOOTHING * ((float)loss - guard->smoothed) : (float)loss;
    return LOSS_FINE;
}
