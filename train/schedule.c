/* The learning rate of each step, and which sample each draw takes: both functions of the configuration alone, so that a run that
 * goes on needs nothing but its step. */
#include "train/train.h"

#include <math.h>

double learning_rate_at(const learning_rate_schedule *schedule, uint64_t step) {
    if (step < schedule->warmup_steps) return schedule->learning_rate * (double)step / (double)schedule->warmup_steps;
    if (schedule->decay == DECAY_NONE || schedule->steps <= schedule->warmup_steps) return schedule->learning_rate;
    double share = (double)(step - schedule->warmup_steps) / (double)(schedule->steps - schedule->warmup_steps);
    if (share > 1.0) share = 1.0;
    double left = schedule->decay == DECAY_LINEAR ? 1.0 - share : 0.5 * (1.0 + cos(3.14159265358979323846 * share));
    return schedule->learning_rate * (schedule->final_share + (1.0 - schedule->final_share) * left);
}

size_t data_order_at(uint64_t *order, uint64_t *epoch, size_t count, uint64_t seed, uint64_t draw) {
    uint64_t wanted = draw / count;
    if (*epoch != wanted) {
        for (size_t i = 0; i < count; i++) order[i] = i;
        limn_random_shuffle(order, count, seed, limn_random_stream("data order") + wanted);
        *epoch = wanted;
    }
    return (size_t)order[draw % count];
}
