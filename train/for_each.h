/* Files that all threads read, each by one. Internal to train/. */
#ifndef LIMN_TRAIN_FOR_EACH_H
#define LIMN_TRAIN_FOR_EACH_H

#include "core/core.h"

/* Calls one(context, i) for i < count by all threads at once: with many files it is disks that are waited for. Of several that
 * fail the first by number is told, whichever was first in time; those after it are left out, and so is what is left when the
 * program is asked to stop, which is an error too: "stopped while `doing`". */
int train_for_each(size_t count, int (*one)(void *context, size_t i, limn_error *error), void *context, const char *doing,
                   limn_error *error);

#endif
