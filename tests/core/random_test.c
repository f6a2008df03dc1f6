/* Philox4x32-10 against its authors' known answers, and what is built on it. */
#include "tests/scratch.h"

#include <math.h>

/* The known-answer vectors that come with Random123, for philox4x32 with 10 rounds. */
static void test_known_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const uint32_t *counter = vectors[i].counter, *key = vectors[i].key;
        uint32_t out[4];
        limn_random_block((uint64_t)key[1] << 32 | key[0], (uint64_t)counter[3] << 32 | counter[2],
                          (uint64_t)counter[1] << 32 | counter[0], out);
        assert_memory_equal(out, vectors[i].expected, sizeof out);
        assert_int_equal(limn_random_u32((uint64_t)key[1] << 32 | key[0], (uint64_t)counter[3] << 32 | counter[2],
                                         (uint64_t)counter[1] << 32 | counter[0]),
                         vectors[i].expected[0]);
    }
}

static void test_uniform_is_uniform(void **state) {
    (void)state;
    enum { N = 200000, BINS = 16 };
    size_t bins[BINS] = {0};
    for (uint64_t i = 0; i < N; i++) {
        float value = limn_random_uniform(7, 3, i);
        assert_true(value >= 0 && value < 1);
        bins[(size_t)(value * BINS)]++;
    }
    double chi_squared = 0, expected = (double)N / BINS;
    for (size_t i = 0; i < BINS; i++) chi_squared += ((double)bins[i] - expected) * ((double)bins[i] - expected) / expected;
    assert_true(chi_squared < 44); /* 15 degrees of freedom: passed by 99.99 % of true generators */
}

/* Mean, deviation and the share within one deviation. */
static void check_normal(const float *values, size_t n) {
    double sum = 0, squares = 0;
    size_t within = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
        within += fabsf(values[i]) < 1;
    }
    double mean = sum / (double)n;
    assert_true(fabs(mean) < 0.01);
    assert_true(fabs(squares / (double)n - 1) < 0.01);
    assert_true(fabs((double)within / (double)n - 0.6827) < 0.005);
}

static void test_normal(void **state) {
    (void)state;
    enum { N = 200000 };
    float *values = malloc(N * sizeof *values);
    for (uint64_t i = 0; i < N; i++) values[i] = limn_random_normal(1, 2, i);
    check_normal(values, N);
    limn_random_fill_normal(values, N, 1, 1, 2);
    check_normal(values, N);
    free(values);
}

/* out[i] must depend neither on the length nor on the number of threads. */
static void test_fill_is_a_function_of_the_index(void **state) {
    (void)state;
    enum { N = 10001 };
    float *whole = malloc(N * sizeof *whole), *part = malloc(N * sizeof *part);
    limn_set_threads(3);
    limn_random_fill_normal(whole, N, 0.5f, 11, 12);
    limn_set_threads(1);
    for (size_t n = 1; n < 10; n++) {
        limn_random_fill_normal(part, n, 0.5f, 11, 12);
        assert_memory_equal(part, whole, n * sizeof *part);
    }
    limn_random_fill_normal(part, N, 0.5f, 11, 12);
    assert_memory_equal(part, whole, N * sizeof *part);
    limn_random_fill_normal(part, N, 0.5f, 11, 13);
    assert_memory_not_equal(part, whole, N * sizeof *part);
    free(whole);
    free(part);
}

static void test_below(void **state) {
    (void)state;
    size_t counts[3] = {0};
    for (uint64_t i = 0; i < 30000; i++) counts[limn_random_below(5, 6, i, 3)]++;
    for (size_t i = 0; i < 3; i++) assert_in_range(counts[i], 9600, 10400);
    /* A bound just above 2^63 throws away almost half of all draws: the loop must end, below the bound, each time. */
    uint64_t bound = ((uint64_t)1 << 63) + 1;
    for (uint64_t i = 0; i < 1000; i++) assert_true(limn_random_below(5, 6, i, bound) < bound);
    assert_int_equal(limn_random_below(5, 6, 7, 0), 0);
    assert_int_equal(limn_random_below(5, 6, 7, 1), 0);
}

static void test_shuffle(void **state) {
    (void)state;
    enum { N = 1000 };
    uint64_t a[N], b[N], seen[N] = {0};
    size_t fixed = 0;
    for (uint64_t i = 0; i < N; i++) a[i] = b[i] = i;
    limn_random_shuffle(a, N, 1, 2);
    limn_random_shuffle(b, N, 1, 2);
    assert_memory_equal(a, b, sizeof a);
    for (size_t i = 0; i < N; i++) {
        seen[a[i]]++;
        fixed += a[i] == i;
    }
    for (size_t i = 0; i < N; i++) assert_int_equal(seen[i], 1);
    assert_true(fixed < 10); /* one is expected to stay in place, on average */
    limn_random_shuffle(b, N, 1, 3);
    assert_memory_not_equal(a, b, sizeof a);
    limn_random_shuffle(a, 0, 1, 2);
}

/* The published test vectors of 64-bit FNV-1a. */
static void test_stream(void **state) {
    (void)state;
    assert_true(limn_random_stream("") == 0xcbf29ce484222325u);
    assert_true(limn_random_stream("a") == 0xaf63dc4c8601ec8cu);
    assert_true(limn_random_stream("foobar") == 0x85944171f73967e8u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_uniform_is_uniform),
        cmocka_unit_test(test_normal),        cmocka_unit_test(test_fill_is_a_function_of_the_index),
        cmocka_unit_test(test_below),         cmocka_unit_test(test_shuffle),
        cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
