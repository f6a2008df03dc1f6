/* The learning rate of each step: a function of the configuration alone, so that a run that goes on needs nothing but its step. */
#include "train/train.h"

#include <math.h>

double learning_rate_at(const learning_rate_schedule *schedule, uint64_t step) {
    if (step <= schedule->offset && schedule->offset > 0) return 0;
    uint64_t warm = schedule->offset + schedule->warmup_steps;
    double full = schedule->learning_rate;
    if (step < warm) return full * (double)(step - schedule->offset) / (double)schedule->warmup_steps;
    double after = (double)(step - warm);
    if (schedule->decay == DECAY_EXPONENTIAL) {
        double transitions = after / (double)schedule->transition_steps;
        return full * pow(schedule->decay_rate, schedule->staircase ? floor(transitions) : transitions);
    }
    if (schedule->decay == DECAY_NONE || schedule->steps <= warm) return full;
    double share = after / (double)(schedule->steps - warm);
    if (share > 1.0) share = 1.0;
    double left = schedule->decay == DECAY_LINEAR ? 1.0 - share : 0.5 * (1.0 + cos(3.14159265358979323846 * share));
    return full * (schedule->final_share + (1.0 - schedule->final_share) * left);
}
