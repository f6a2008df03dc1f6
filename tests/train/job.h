/* For tests that are run alone, and by world_test.sh as several ranks: the job that they are. */
#ifndef LIMN_TESTS_TRAIN_JOB_H
#define LIMN_TESTS_TRAIN_JOB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "train/world.h"

static world *all;
static size_t ranks, own;
static limn_error error;

/* 0 or -1. */
static inline int job_begin(void) {
    all = world_start(&error);
    if (!all) {
        fprintf(stderr, "world_start: %s\n", error.message);
        return -1;
    }
    ranks = world_size(all);
    own = world_rank(all);
    return 0;
}

/* What main returns, of what cmocka returned. */
static inline int job_end(int failed) {
    return failed ? failed : world_finish(all, 0, &error) != 0;
}

#endif
