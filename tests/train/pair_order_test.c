/* The order in which a training takes its pairs: a function of seed, epoch and the shards' counts. */
#include "train/pair_order.h"
#include "train/picture_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SHARDS = 9, TOTAL = 10 + 3 + 25 + 7 + 7 + 40 + 1 + 12 };
static const uint64_t PAIRS[SHARDS] = {10, 3, 0, 25, 7, 7, 40, 1, 12};

static pair_order make(uint64_t buffer, uint64_t seed) {
    pair_order order;
    assert_int_equal(pair_order_create(&order, PAIRS, SHARDS, true, buffer, seed, NULL), 0);
    return order;
}

/* The pair of a draw, counted through all shards. */
static size_t pair_at(pair_order *order, uint64_t draw) {
    pair_group group;
    uint64_t places[TOTAL];
    pair_order_find(order, draw, &group);
    assert_in_range(draw, group.first, group.first + group.count - 1);
    assert_true(group.count <= TOTAL);
    pair_order_places(order, &group, places);
    uint64_t place = places[draw - group.first];
    for (size_t i = 0; i < group.shard_count; i++) {
        uint64_t shard = group.shards[i], before = 0;
        if (place >= PAIRS[shard]) {
            place -= PAIRS[shard];
            continue;
        }
        for (size_t j = 0; j < shard; j++) before += PAIRS[j];
        return (size_t)(before + place);
    }
    fail_msg("draw %llu is beyond its group", (unsigned long long)draw);
    return 0;
}

static void every_epoch_takes_each_pair_once(void **state) {
    (void)state;
    static const uint64_t buffers[] = {1, 8, 30, 60, 104, 105, 1000};
    for (size_t b = 0; b < sizeof buffers / sizeof *buffers; b++) {
        pair_order order = make(buffers[b], 3);
        size_t first[TOTAL], moved = 0;
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            size_t seen[TOTAL] = {0};
            for (uint64_t i = 0; i < TOTAL; i++) {
                size_t pair = pair_at(&order, epoch * TOTAL + i);
                seen[pair]++;
                if (epoch == 0) first[i] = pair;
                if (epoch == 1) moved += first[i] != pair;
            }
            for (size_t n = 0; n < TOTAL; n++) assert_int_equal(seen[n], 1);
        }
        assert_true(moved > TOTAL / 2);
        pair_order_free(&order);
    }
}

static void groups_fit_the_buffer(void **state) {
    (void)state;
    enum { BUFFER = 30 };
    pair_order order = make(BUFFER, 3);
    size_t several = 0, next_may_fit = 0;
    for (uint64_t draw = 0; draw < 4 * TOTAL;) {
        pair_group group, next;
        pair_order_find(&order, draw, &group);
        assert_int_equal(group.first, draw);
        uint64_t sum = 0, most = 0, full = 0;
        for (size_t i = 0; i < group.shard_count; i++) {
            uint64_t pairs = PAIRS[group.shards[i]];
            sum += pairs;
            full += pairs > 0;
            if (pairs > most) most = pairs;
            if (i) assert_true(group.shards[i] > group.shards[i - 1]);
        }
        assert_int_equal(sum, group.count);
        assert_true(sum <= BUFFER || full == 1); /* what is larger than the buffer stands alone */
        several += full > 1;
        draw += group.count;
        pair_order_find(&order, draw, &next);
        next_may_fit += next.epoch == group.epoch && group.count + next.count <= BUFFER;
    }
    assert_true(several > 0);
    assert_int_equal(next_may_fit, 0); /* no group could have taken all of the next one */
    pair_order_free(&order);
}

/* A run that is gone on with, or that only reads every eleventh pair, finds the same pair at the same draw. */
static void order_needs_nothing_but_the_draw(void **state) {
    (void)state;
    pair_order order = make(30, 3), other = make(30, 4);
    size_t same = 0;
    for (uint64_t draw = 0; draw < 3 * TOTAL; draw++) {
        size_t pair = pair_at(&order, draw);
        pair_order fresh = make(30, 3);
        assert_int_equal(pair_at(&fresh, draw), pair);
        pair_order_free(&fresh);
        same += pair_at(&other, draw) == pair;
    }
    for (uint64_t draw = 3 * TOTAL; draw-- > 0;) {
        pair_order fresh = make(30, 3);
        assert_int_equal(pair_at(&fresh, draw), pair_at(&order, draw));
        pair_order_free(&fresh);
    }
    assert_true(same < TOTAL);
    pair_order_free(&order);
    pair_order_free(&other);
}

/* What fits in the buffer is shuffled as a whole, as pictures are. */
static void all_in_one_group_is_a_full_shuffle(void **state) {
    (void)state;
    pair_order order = make(TOTAL, 7), smaller = make(TOTAL - 1, 7);
    uint64_t scratch[TOTAL], epoch = UINT64_MAX;
    for (uint64_t draw = 0; draw < 3 * TOTAL; draw++)
        assert_int_equal(pair_at(&order, draw), data_order_at(scratch, &epoch, TOTAL, 7, draw));
    assert_true(pair_order_is_whole(&order));
    assert_false(pair_order_is_whole(&smaller));
    pair_order_free(&order);
    pair_order_free(&smaller);
}

static void unshuffled_is_as_it_lies(void **state) {
    (void)state;
    pair_order order;
    pair_group group;
    assert_int_equal(pair_order_create(&order, PAIRS, SHARDS, false, 0, 3, NULL), 0);
    for (uint64_t draw = 0; draw < 3 * TOTAL; draw++) assert_int_equal(pair_at(&order, draw), draw % TOTAL);
    pair_order_find(&order, 13, &group);
    assert_int_equal(group.count, 25); /* a shard at a time */
    pair_order_free(&order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_epoch_takes_each_pair_once), cmocka_unit_test(groups_fit_the_buffer),
        cmocka_unit_test(order_needs_nothing_but_the_draw), cmocka_unit_test(all_in_one_group_is_a_full_shuffle),
        cmocka_unit_test(unshuffled_is_as_it_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
