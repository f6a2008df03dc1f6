#include "train/for_each.h"

int train_for_each(size_t count, int (*one)(void *context, size_t i, limn_error *error), void *context, const char *doing,
                   limn_error *error) {
    size_t first_bad = SIZE_MAX;
#pragma omp parallel for schedule(dynamic) num_threads((int)limn_get_threads())
    for (size_t i = 0; i < count; i++) {
        limn_error why = {0};
        size_t bad;
#pragma omp atomic read
        bad = first_bad;
        if (bad < i || limn_stop_requested() || one(context, i, &why) == 0) continue;
#pragma omp critical(train_for_each)
        if (i < first_bad) {
#pragma omp atomic write
            first_bad = i;
            if (error) *error = why;
        }
    }
    if (first_bad != SIZE_MAX) return -1;
    return limn_stop_requested() ? limn_fail(error, "stopped while %s", doing) : 0;
}
