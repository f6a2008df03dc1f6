/* Stops a run whose loss is no number or has exploded. */
#include "train/guard.h"

#include <math.h>

static const float SMOOTHING = 0.02f;

static const double LEAST_SHARE = 0.05; /* of the first loss */

double train_guard_usual(const train_guard *guard) {
    return fmax((double)guard->smoothed, LEAST_SHARE * (double)guard->first);
}

loss_verdict train_guard_look(train_guard *guard, double loss, double max_rise) {
    if (!isfinite(loss)) return LOSS_NO_NUMBER;
    bool known = guard->smoothed > 0;
    if (!known) guard->first = (float)loss;
    if (known && max_rise > 0 && loss > max_rise * train_guard_usual(guard))
        return ++guard->above < GUARD_PATIENCE ? LOSS_RISEN : LOSS_EXPLODED;
    guard->above = 0;
    guard->smoothed = known ? guard->smoothed + SMOOTHING * ((float)loss - guard->smoothed) : (float)loss;
    return LOSS_FINE;
}
