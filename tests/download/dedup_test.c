/* The index of perceptual hashes finds all that is near, and nothing else. */
#include "download/dedup.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t random_hash(uint64_t i) {
    uint32_t block[4];
    limn_random_block(3, 1, i, block);
    return (uint64_t)block[0] << 32 | block[1];
}

/* The hash with `bits` different bits turned. */
static uint64_t turn(uint64_t hash, size_t bits, uint64_t round) {
    uint64_t mask = 0;
    for (uint64_t i = 0; (size_t)__builtin_popcountll(mask) < bits; i++)
        mask |= (uint64_t)1 << limn_random_below(4, round, i, 64);
    return hash ^ mask;
}

/* Against comparing with every one. */
static void as_comparing_with_all(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    for (size_t distance = 0; distance <= HASH_DISTANCE_MAX; distance++) {
        static uint64_t kept[COUNT];
        hash_index *index = dedup_create(distance, NULL);
        for (uint64_t i = 0; i < COUNT; i++) {
            kept[i] = random_hash(i);
            assert_int_equal(dedup_add(index, kept[i], NULL), 0);
        }
        assert_int_equal(hash_index_count(index), COUNT);
        for (uint64_t i = 0; i < COUNT; i++)
            for (size_t bits = 0; bits <= 9; bits++) {
                const uint64_t asked = turn(kept[i], bits, i * 10 + bits);
                int expected = 0;
                for (size_t k = 0; k < COUNT && !expected; k++)
                    expected = (size_t)__builtin_popcountll(asked ^ kept[k]) <= distance;
                assert_int_equal(dedup_seen(index, asked), expected);
            }
        hash_index_destroy(index);
    }
}

static void hash_zero_is_like_none(void **state) {
    (void)state;
    hash_index *index = dedup_create(3, NULL);
    assert_int_equal(dedup_add(index, 0, NULL), 0);
    assert_int_equal(hash_index_count(index), 0);
    assert_int_equal(dedup_seen(index, 0), 0);
    assert_int_equal(dedup_add(index, 1, NULL), 0);
    assert_int_equal(dedup_seen(index, 0), 0);
    assert_int_equal(dedup_seen(index, 3), 1);
    hash_index_destroy(index);
    limn_error error = {0};
    assert_null(dedup_create(HASH_DISTANCE_MAX + 1, &error));
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
}

static void saved_and_loaded(void **state) {
    (void)state;
    char path[] = "/tmp/limn-dedup-XXXXXX";
    close(mkstemp(path));
    uint64_t hashes[100];
    for (uint64_t i = 0; i < 100; i++) hashes[i] = random_hash(i);
    assert_int_equal(dedup_save(path, hashes, 100, NULL), 0);
    hash_index *index = dedup_create(2, NULL);
    assert_int_equal(dedup_load(index, path, NULL), 0);
    assert_int_equal(hash_index_count(index), 100);
    for (uint64_t i = 0; i < 100; i++) assert_int_equal(dedup_seen(index, hashes[i]), 1);
    assert_int_equal(dedup_save(path, NULL, 0, NULL), 0);
    assert_int_equal(dedup_load(index, path, NULL), 0);
    assert_int_equal(hash_index_count(index), 100);
    limn_error error = {0};
    assert_int_equal(limn_atomic_write(path, "0123456789", 10, NULL), 0); /* cut */
    assert_int_equal(dedup_load(index, path, &error), -1);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(limn_atomic_write(path, "\2\0\0\0\0\0\0\0abcdefgh", 16, NULL), 0); /* one of two */
    assert_int_equal(dedup_load(index, path, &error), -1);
    unlink(path);
    assert_int_equal(dedup_load(index, path, &error), -1);
    hash_index_destroy(index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_comparing_with_all),
        cmocka_unit_test(hash_zero_is_like_none),
        cmocka_unit_test(saved_and_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
