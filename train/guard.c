/* Stops a run whose loss is no number or has exploded. */
#include "train/guard.h"

#include <math.h>

static const float SMOOTHING = 0.02f;

int train_guard_look(train_guard *guard, const char *name, double loss, double max_rise, char *reason, size_t room) {
    if (!isfinite(loss)) {
        snprintf(reason, room, "%s is not a number", name);
        return -1;
    }
    bool known = guard->smoothed > 0;
    if (known && max_rise > 0 && loss > max_rise * (double)guard->smoothed) {
        guard->above++;
        if (guard->above < GUARD_PATIENCE) return 0;
        snprintf(reason, room, "%s is %.4g, and for %d steps it was more than max_loss_rise %g times the %.4g that it was before", name, loss,
                 GUARD_PATIENCE, max_rise, (double)guard->smoothed);
        return -1;
    }
    guard->above = 0;
    guard->smoothed = known ? guard->smoothed + SMOOTHING * ((float)loss - guard->smoothed) : (float)loss;
    return 0;
}
