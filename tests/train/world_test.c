/* What the ranks of a job do together: run alone, and by world_test.sh as several. Every rank knows what the others hold, so
 * each checks its own results to the bit. */
#include "tests/train/job.h"

#include <time.h>
#include <unistd.h>

static const nn_precision WIRES[] = {PRECISION_FP32, PRECISION_BF16};

static float held_by(size_t rank, size_t round, size_t i) {
    return limn_random_normal(rank, round, i);
}

static void hold(float *values, size_t count, size_t round) {
    for (size_t i = 0; i < count; i++) values[i] = held_by(own, round, i);
}

static size_t slice_holder(size_t count, size_t i) {
    size_t rank = 0;
    while (i >= world_slice(all, count, rank + 1)) rank++;
    return rank;
}

/* The holder's value first, then what came by the wire, in the ranks' order. */
static float expected_sum(size_t count, size_t round, size_t i, nn_precision wire) {
    size_t first = slice_holder(count, i);
    float sum = held_by(first, round, i);
    for (size_t rank = 0; rank < ranks; rank++) {
        if (rank == first) continue;
        float value = held_by(rank, round, i);
        sum += wire == PRECISION_BF16 ? limn_bf16_to_float(limn_bf16_from_float(value)) : value;
    }
    return sum;
}

static void check_sums(const float *values, size_t count, size_t round, size_t owner, nn_precision wire) {
    size_t start = owner == WORLD_SLICES ? world_slice(all, count, own) : 0;
    size_t end = owner == WORLD_SLICES ? world_slice(all, count, own + 1) : owner == own ? count : 0;
    for (size_t i = start; i < end; i++) {
        float expected = expected_sum(count, round, i, wire);
        if (memcmp(&values[i], &expected, sizeof expected) != 0)
            fail_msg("rank %zu of %zu, value %zu of %zu: %.9g, not %.9g", own, ranks, i, count, (double)values[i],
                     (double)expected);
    }
}

static void slices_cover_everything_once(void **state) {
    (void)state;
    const size_t counts[] = {0, 1, 15, 16, 17, 1000, world_bucket(all)};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        assert_int_equal(world_slice(all, counts[c], 0), 0);
        assert_int_equal(world_slice(all, counts[c], ranks), counts[c]);
        for (size_t rank = 0; rank < ranks; rank++) {
            assert_true(world_slice(all, counts[c], rank) <= world_slice(all, counts[c], rank + 1));
            assert_true(world_slice(all, counts[c], rank) % 16 == 0 || world_slice(all, counts[c], rank) == counts[c]);
        }
    }
    assert_true(world_slice(all, world_bucket(all), 1) <= world_bucket(all) / ranks + 16); /* equal shares */
}

static void gradients_are_summed_in_the_ranks_order(void **state) {
    (void)state;
    const size_t counts[] = {1, 17, 1000, 4099, world_bucket(all)};
    float *values = malloc(world_bucket(all) * sizeof *values);
    assert_non_null(values);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t to = 0; to <= ranks; to++)
            for (size_t w = 0; w < 2; w++) {
                size_t owner = to == ranks ? WORLD_SLICES : to;
                hold(values, counts[c], c);
                world_ticket ticket = world_reduce(all, values, counts[c], owner, WIRES[w]);
                assert_int_equal(world_wait(all, WORLD_TRAINING, ticket, &error), 0);
                check_sums(values, counts[c], c, owner, WIRES[w]);
            }
    free(values);
}

static void weights_reach_everybody(void **state) {
    (void)state;
    const size_t counts[] = {1, 17, 1000, 4099, world_bucket(all)};
    float *values = malloc(world_bucket(all) * sizeof *values);
    assert_non_null(values);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t from = 0; from <= ranks; from++) {
            size_t owner = from == ranks ? WORLD_SLICES : from;
            hold(values, counts[c], c);
            world_ticket ticket = world_share(all, values, counts[c], owner);
            assert_int_equal(world_wait(all, WORLD_TRAINING, ticket, &error), 0);
            for (size_t i = 0; i < counts[c]; i++) {
                float expected = held_by(owner == WORLD_SLICES ? slice_holder(counts[c], i) : owner, c, i);
                if (memcmp(&values[i], &expected, sizeof expected) != 0)
                    fail_msg("value %zu of %zu is not its owner's", i, counts[c]);
            }
        }
    free(values);
}

enum { MANY = 3000, FEW_VALUES = 40 };

static void more_orders_than_there_is_room_for(void **state) {
    (void)state;
    float(*values)[FEW_VALUES] = malloc(MANY * sizeof *values);
    assert_non_null(values);
    world_ticket ticket = 0;
    for (size_t n = 0; n < MANY; n++) {
        hold(values[n], FEW_VALUES, n);
        ticket = world_reduce(all, values[n], FEW_VALUES, n % 3 ? n % ranks : WORLD_SLICES, WIRES[n % 2]);
    }
    assert_int_equal(world_wait(all, WORLD_TRAINING, ticket, &error), 0);
    for (size_t n = 0; n < MANY; n++) check_sums(values[n], FEW_VALUES, n, n % 3 ? n % ranks : WORLD_SLICES, WIRES[n % 2]);
    free(values);
}

static void scalars_are_the_same_everywhere(void **state) {
    (void)state;
    enum { SUMS = 700 };
    double values[SUMS], expected[SUMS];
    for (size_t i = 0; i < SUMS; i++) {
        values[i] = (double)held_by(own, 1, i) * 1e9;
        expected[i] = 0;
        for (size_t rank = 0; rank < ranks; rank++) expected[i] += (double)held_by(rank, 1, i) * 1e9;
    }
    assert_int_equal(world_sum(all, values, SUMS, &error), 0);
    assert_memory_equal(values, expected, sizeof values);
}

static void all_agree(void **state) {
    (void)state; /* where one does not, world_test.sh looks at how the job ends */
    assert_int_equal(world_agree(all, 0, &error), 0);
}

static void bytes_of_one_reach_all(void **state) {
    (void)state;
    for (size_t from = 0; from < ranks; from++) {
        char text[100];
        snprintf(text, sizeof text, "said by %zu", own);
        assert_int_equal(world_broadcast(all, from, text, sizeof text, &error), 0);
        char expected[100];
        snprintf(expected, sizeof expected, "said by %zu", from);
        assert_string_equal(text, expected);
    }
}

static void another_configuration_is_named(void **state) {
    (void)state;
    assert_int_equal(world_same(all, "configuration", "batch 8", 7, &error), 0);
    if (ranks == 1) return;
    const char *text = own == ranks - 1 ? "batch 9" : "batch 8";
    assert_int_equal(world_same(all, "configuration", text, 7, &error), -1);
    char expected[200];
    snprintf(expected, sizeof expected, "rank %zu has another configuration than rank 0", ranks - 1);
    assert_non_null(strstr(error.message, expected));
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
}

enum { PARTS = 50, PART_BYTES = 100000 };

/* Every rank's parts go to rank 0, as states do that are written there. */
static void *save(void *context) {
    size_t *wrong = context;
    unsigned char *part = malloc(PART_BYTES);
    limn_error own_error;
    for (size_t n = 0; part && n < PARTS; n++) {
        size_t from = n % ranks;
        memset(part, (int)(own == from ? n : 255), PART_BYTES);
        world_ticket ticket = world_move(all, part, PART_BYTES, from, 0);
        if (world_wait(all, WORLD_SAVING, ticket, &own_error)) ++*wrong;
        for (size_t i = 0; own == 0 && i < PART_BYTES; i++) *wrong += part[i] != n;
    }
    free(part);
    return NULL;
}

static void saving_goes_on_beside_training(void **state) {
    (void)state;
    size_t wrong = 0;
    limn_threads thread = {0};
    assert_int_equal(limn_threads_start(&thread, 1, save, &wrong, &error), 0);
    float values[5000];
    for (size_t n = 0; n < 200; n++) {
        hold(values, 5000, n);
        assert_int_equal(world_wait(all, WORLD_TRAINING, world_reduce(all, values, 5000, WORLD_SLICES, PRECISION_FP32), &error),
                         0);
        check_sums(values, 5000, n, WORLD_SLICES, PRECISION_FP32);
    }
    limn_threads_join(&thread);
    assert_int_equal(wrong, 0);
}

static double processor_seconds(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}

static void who_waits_leaves_the_cores_alone(void **state) {
    (void)state;
    const struct timespec second = {.tv_sec = 1};
    double value = 1;
    assert_int_equal(world_sum(all, &value, 1, &error), 0);
    double before = processor_seconds();
    if (own == 0) nanosleep(&second, NULL);
    assert_int_equal(world_sum(all, &value, 1, &error), 0);
    assert_true(processor_seconds() - before < 0.15);
}

static void neighbours_share_the_cpus(void **state) {
    (void)state;
    assert_int_equal(world_neighbours(all), ranks); /* world_test.sh starts all on this machine and binds none */
}

int main(void) {
    if (job_begin()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_cover_everything_once),    cmocka_unit_test(gradients_are_summed_in_the_ranks_order),
        cmocka_unit_test(weights_reach_everybody),         cmocka_unit_test(more_orders_than_there_is_room_for),
        cmocka_unit_test(scalars_are_the_same_everywhere), cmocka_unit_test(all_agree),
        cmocka_unit_test(bytes_of_one_reach_all),          cmocka_unit_test(another_configuration_is_named),
        cmocka_unit_test(saving_goes_on_beside_training),  cmocka_unit_test(who_waits_leaves_the_cores_alone),
        cmocka_unit_test(neighbours_share_the_cpus),
    };
    return job_end(cmocka_run_group_tests(tests, NULL, NULL));
}
