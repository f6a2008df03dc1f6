/* The learning rate of every step and the order of the pictures: all that a resumed run has besides its step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "train/picture_set.h"
#include "train/train.h"

static void rate_rises_then_falls(void **state) {
    (void)state;
    learning_rate_schedule schedule = {.learning_rate = 0.5, .warmup_steps = 10, .decay = DECAY_LINEAR, .final_share = 0.2, .steps = 110};
    assert_true(fabs(learning_rate_at(&schedule, 1) - 0.05) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 10) - 0.5) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 60) - 0.5 * (0.2 + 0.8 * 0.5)) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 110) - 0.1) < 1e-12);
    schedule.decay = DECAY_COSINE;
    assert_true(fabs(learning_rate_at(&schedule, 35) - 0.5 * (0.2 + 0.8 * (0.5 + 0.25 * sqrt(2.0)))) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 110) - 0.1) < 1e-12);
    schedule.decay = DECAY_NONE;
    assert_true(fabs(learning_rate_at(&schedule, 110) - 0.5) < 1e-12);
}

static void no_warmup_starts_full(void **state) {
    (void)state;
    learning_rate_schedule schedule = {.learning_rate = 1, .decay = DECAY_NONE, .steps = 5};
    assert_true(fabs(learning_rate_at(&schedule, 1) - 1) < 1e-12);
}

/* optax.exponential_decay, from the end of the warm-up. */
static void exponential_decay_goes_in_transitions(void **state) {
    (void)state;
    learning_rate_schedule schedule = {.learning_rate = 0.4, .warmup_steps = 4, .decay = DECAY_EXPONENTIAL, .transition_steps = 10,
                                       .decay_rate = 0.5, .steps = 100};
    assert_true(fabs(learning_rate_at(&schedule, 2) - 0.2) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 4) - 0.4) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 9) - 0.4 * sqrt(0.5)) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 24) - 0.1) < 1e-12);
    schedule.staircase = true;
    assert_true(fabs(learning_rate_at(&schedule, 13) - 0.4) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 14) - 0.2) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 23) - 0.2) < 1e-12);
}

static void offset_keeps_the_rate_at_zero(void **state) {
    (void)state;
    learning_rate_schedule schedule = {.learning_rate = 1, .offset = 50, .warmup_steps = 10, .decay = DECAY_LINEAR, .steps = 110};
    assert_true(learning_rate_at(&schedule, 1) == 0 && learning_rate_at(&schedule, 50) == 0);
    assert_true(fabs(learning_rate_at(&schedule, 55) - 0.5) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 60) - 1) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 85) - 0.5) < 1e-12);
    assert_true(fabs(learning_rate_at(&schedule, 110)) < 1e-12);
    schedule.warmup_steps = 0;
    assert_true(learning_rate_at(&schedule, 50) == 0 && learning_rate_at(&schedule, 51) > 0.9);
}

enum { COUNT = 97 };

static void every_epoch_takes_each_sample_once(void **state) {
    (void)state;
    uint64_t order[COUNT], epoch = UINT64_MAX;
    size_t moved = 0, first[COUNT];
    for (uint64_t round = 0; round < 3; round++) {
        size_t seen[COUNT] = {0};
        for (uint64_t i = 0; i < COUNT; i++) {
            size_t n = data_order_at(order, &epoch, COUNT, 7, round * COUNT + i);
            assert_true(n < COUNT);
            seen[n]++;
            if (round == 0) first[i] = n;
            if (round == 1) moved += first[i] != n;
        }
        for (size_t n = 0; n < COUNT; n++) assert_int_equal(seen[n], 1);
    }
    assert_true(moved > COUNT / 2); /* another order in the next epoch */
}

static void order_needs_nothing_but_the_draw(void **state) {
    (void)state;
    uint64_t order[COUNT], other[COUNT], epoch = UINT64_MAX, other_epoch = UINT64_MAX;
    size_t same = 0;
    for (uint64_t draw = 0; draw < 5 * COUNT; draw++) {
        size_t n = data_order_at(order, &epoch, COUNT, 7, draw);
        other_epoch = UINT64_MAX; /* as a run that has just been gone on with */
        assert_int_equal(data_order_at(other, &other_epoch, COUNT, 7, draw), n);
        other_epoch = UINT64_MAX;
        same += data_order_at(other, &other_epoch, COUNT, 8, draw) == n;
    }
    assert_true(same < COUNT); /* another seed, another order */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_rises_then_falls),
        cmocka_unit_test(no_warmup_starts_full),
        cmocka_unit_test(exponential_decay_goes_in_transitions),
        cmocka_unit_test(offset_keeps_the_rate_at_zero),
        cmocka_unit_test(every_epoch_takes_each_sample_once),
        cmocka_unit_test(order_needs_nothing_but_the_draw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
