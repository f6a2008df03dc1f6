#include "gradient_check.h"

#include <omp.h>

/* Long enough for several pieces and threads, and not a multiple of anything. */
enum { LENGTH = 50003 };

static void sums_and_scales(void **state) {
    (void)state;
    twin a = twin_random(LENGTH, 0, 1, "a"), b = twin_random(LENGTH, 0, 1, "b");
    double *expected = doubles_zeroed(LENGTH);
    float *out = floats_filled(LENGTH, NAN);

    for (size_t i = 0; i < LENGTH; i++) expected[i] = a.d[i] + b.d[i];
    add_forward(out, a.f, b.f, LENGTH);
    check_close("add", out, expected, LENGTH, 1e-7);
    memcpy(out, a.f, sizeof(float) * LENGTH);
    add_forward(out, out, b.f, LENGTH);
    check_close("add in place of a", out, expected, LENGTH, 1e-7);
    memcpy(out, b.f, sizeof(float) * LENGTH);
    add_forward(out, a.f, out, LENGTH);
    check_close("add in place of b", out, expected, LENGTH, 1e-7);

    for (size_t i = 0; i < LENGTH; i++) expected[i] = b.d[i] - 0.75 * a.d[i];
    memcpy(out, b.f, sizeof(float) * LENGTH);
    add_scaled(out, a.f, -0.75f, LENGTH);
    check_close("add_scaled", out, expected, LENGTH, 1e-7);

    for (size_t i = 0; i < LENGTH; i++) expected[i] = 3.5 * a.d[i];
    scale_forward(out, a.f, 3.5f, LENGTH);
    check_close("scale", out, expected, LENGTH, 1e-7);
    memcpy(out, a.f, sizeof(float) * LENGTH);
    scale_forward(out, out, 3.5f, LENGTH);
    check_close("scale in place", out, expected, LENGTH, 1e-7);

    twin_free(&a);
    twin_free(&b);
    free(expected);
    free(out);
}

static void sum_of_squares_is_the_same_for_any_threads(void **state) {
    (void)state;
    static const size_t lengths[] = {0, 1, 255, 256, 257, LENGTH};
    int before = omp_get_max_threads();
    twin a = twin_random(LENGTH, 1, 1, "a");
    for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
        double expected = 0;
        for (size_t i = 0; i < lengths[j]; i++) expected += a.d[i] * a.d[i];
        omp_set_num_threads(1);
        double one = sum_of_squares(a.f, lengths[j]);
        assert_true(fabs(one - expected) <= 1e-12 * expected);
        for (int threads = 2; threads <= 5; threads++) {
            omp_set_num_threads(threads);
            assert_true(sum_of_squares(a.f, lengths[j]) == one);
        }
    }
    omp_set_num_threads(before);
    twin_free(&a);
}

static void dropout_keeps_the_right_share(void **state) {
    (void)state;
    int before = omp_get_max_threads();
    float *in = floats_filled(LENGTH, 2.0f), *out = floats_filled(LENGTH, NAN), *again = floats_filled(LENGTH, NAN);
    dropout_forward(out, in, 0.25f, 5, 6, 0, LENGTH);
    size_t kept = 0;
    for (size_t i = 0; i < LENGTH; i++) {
        assert_true(out[i] == 0.0f || fabsf(out[i] - 2.0f / 0.75f) < 1e-6f);
        kept += out[i] != 0.0f;
    }
    /* Five standard deviations of a binomial. */
    assert_true(fabs((double)kept / LENGTH - 0.75) < 5 * sqrt(0.75 * 0.25 / LENGTH));

    /* No part of it is another part again. */
    for (size_t length = 1024; length <= LENGTH / 2; length *= 2)
        assert_memory_not_equal(out, out + length, sizeof(float) * length);

    /* A function of seed, stream and index: not of the threads, not of the length. */
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        dropout_forward(again, in, 0.25f, 5, 6, 0, LENGTH);
        assert_memory_equal(out, again, sizeof(float) * LENGTH);
        dropout_forward(again, in, 0.25f, 5, 6, 0, 1001);
        assert_memory_equal(out, again, sizeof(float) * 1001);
    }
    omp_set_num_threads(before);
    dropout_forward(again + 700, in + 700, 0.25f, 5, 6, 700, LENGTH - 700); /* in pieces */
    assert_memory_equal(out + 700, again + 700, (LENGTH - 700) * sizeof(float));
    dropout_forward(again, in, 0.25f, 5, 7, 0, LENGTH);
    assert_memory_not_equal(out, again, sizeof(float) * LENGTH);
    dropout_forward(again, in, 0.25f, 6, 6, 0, LENGTH);
    assert_memory_not_equal(out, again, sizeof(float) * LENGTH);

    /* The backward drops the same ones. */
    dropout_backward(again, in, 0.25f, 5, 6, 0, LENGTH);
    assert_memory_equal(out, again, sizeof(float) * LENGTH);
    memcpy(again, in, sizeof(float) * LENGTH);
    dropout_forward(again, again, 0.25f, 5, 6, 0, LENGTH);
    assert_memory_equal(out, again, sizeof(float) * LENGTH);

    dropout_forward(again, in, 0.0f, 5, 6, 0, LENGTH);
    assert_memory_equal(in, again, sizeof(float) * LENGTH);
    dropout_forward(again, in, 1.0f, 5, 6, 0, LENGTH);
    for (size_t i = 0; i < LENGTH; i++) assert_true(again[i] == 0.0f);
    free(in);
    free(out);
    free(again);
}

/* Number i is decided by word i mod 4 of block i/4, wherever a call begins and ends. */
static void dropout_is_made_of_random_blocks(void **state) {
    (void)state;
    static const float rates[] = {0.1f, 0.5f, 0.9999999f, 1.0f};
    static const uint64_t seeds[] = {5, UINT64_MAX, 0x123456789abcdef0};
    enum { MOST = 300 };
    float in[MOST], out[MOST + 1];
    for (size_t i = 0; i < MOST; i++) in[i] = (float)i + 1;
    for (size_t i = 0; i < 400; i++) {
        const float rate = rates[i % 4], kept = rate < 1.0f ? 1.0f / (1.0f - rate) : 0.0f;
        const uint64_t seed = seeds[i % 3], stream = seeds[i / 3 % 3];
        const size_t start = i * 37 + (i % 5 == 0 ? (size_t)UINT32_MAX * 4 - 100 : 0), count = i * 7 % MOST;
        out[count] = NAN;
        dropout_forward(out, in, rate, seed, stream, start, count);
        for (size_t k = 0; k < count; k++) {
            uint32_t words[4];
            limn_random_block(seed, stream, (start + k) / 4, words);
            const bool dropped = (double)words[(start + k) % 4] < (double)rate * 4294967296.0;
            assert_true(out[k] == in[k] * (dropped ? 0.0f : kept));
        }
        assert_true(isnan(out[count]));
    }
}

static void bf16_rounds_to_even_and_is_added(void **state) {
    (void)state;
    enum { COUNT = 1003 };
    float in[COUNT], sum[COUNT];
    uint16_t rounded[COUNT];
    for (size_t i = 0; i < COUNT; i++) in[i] = limn_random_normal(3, 0, i) * (i % 2 ? 1e-30f : 1e10f);
    const uint32_t ties[] = {0x3f808000, 0x3f818000, 0x7f7fffff, 0x7f800001};
    memcpy(in, ties, sizeof ties);
    round_to_bf16(rounded, in, COUNT);
    assert_int_equal(rounded[0], 0x3f80); /* to even */
    assert_int_equal(rounded[1], 0x3f82);
    assert_int_equal(rounded[2], 0x7f80); /* to infinity */
    assert_int_equal(rounded[3], 0x7fc0); /* a NaN stays one */
    for (size_t i = 4; i < COUNT; i++) {
        sum[i] = in[i];
        assert_int_equal(rounded[i], limn_bf16_from_float(in[i]));
        assert_true(fabsf(limn_bf16_to_float(rounded[i]) - in[i]) <= fabsf(in[i]) / 256);
    }
    add_bf16(sum + 4, rounded + 4, COUNT - 4);
    for (size_t i = 4; i < COUNT; i++) {
        float expected = in[i] + limn_bf16_to_float(rounded[i]);
        assert_memory_equal(&sum[i], &expected, sizeof expected);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_rounds_to_even_and_is_added),
        cmocka_unit_test(sums_and_scales),
        cmocka_unit_test(sum_of_squares_is_the_same_for_any_threads),
        cmocka_unit_test(dropout_keeps_the_right_share),
        cmocka_unit_test(dropout_is_made_of_random_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
