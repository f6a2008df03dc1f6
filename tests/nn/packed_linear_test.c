/* Packed products against sums in double, for every precision and every instruction set that this CPU has. */
#include "tests/nn/gradient_check.h"
#include "tests/scratch.h"

static const nn_precision precisions[] = {PRECISION_FP32, PRECISION_BF16, PRECISION_INT8};

typedef struct {
    size_t N, C, OC;
} product_shape;

/* One row and many, more than stay together, one number too many for a pair, a four, a panel and a block. */
static const product_shape shapes[] = {{1, 1, 1},     {1, 64, 32},    {18, 1024, 96}, {9, 2730, 33}, {7, 513, 65},
                                       {12, 255, 31}, {13, 1026, 40}, {50, 130, 100}, {97, 67, 64}};

/* The largest error as a share of the outputs' deviation: that of rounding to 24, 8 and 7 bits, times what chance allows. */
static double tolerance(nn_precision precision, bool normed) {
    return precision == PRECISION_FP32 ? 1e-5 : precision == PRECISION_BF16 ? 0.02 : normed ? 0.07 : 0.05;
}

static void naive(double *out, const double *in, const double *weight, const double *bias, const product_shape *s) {
    for (size_t n = 0; n < s->N; n++)
        for (size_t o = 0; o < s->OC; o++) {
            double sum = bias != NULL ? bias[o] : 0;
            for (size_t c = 0; c < s->C; c++) sum += in[n * s->C + c] * weight[o * s->C + c];
            out[n * s->OC + o] = sum;
        }
}

static void check_product(const product_shape *s, nn_precision precision, bool normed, bool with_bias, const char *set) {
    twin in = twin_random(s->N * s->C, 0, 1, "in"), weight = twin_random(s->OC * s->C, 0, 1, "weight");
    twin bias = twin_random(s->OC, 0, 1, "bias");
    double *expected = doubles_zeroed(s->N * s->OC);
    float *out = floats_filled(s->N * s->OC, NAN);
    size_t mark = limn_arena_mark(scratch_arena);
    naive(expected, in.d, weight.d, with_bias ? bias.d : NULL, s);
    const packed_linear *packed = packed_linear_create(weight.f, s->OC, s->C, precision, normed, scratch_arena, NULL);
    assert_non_null(packed);
    assert_true(limn_arena_mark(scratch_arena) - mark <= packed_linear_bytes(s->OC, s->C, precision));
    packed_linear_forward(&(packed_product){out, packed, with_bias ? bias.f : NULL}, 1, in.f, s->N, scratch_arena);
    double deviation = sqrt((double)s->C);
    for (size_t i = 0; i < s->N * s->OC; i++)
        if (!(fabs((double)out[i] - expected[i]) <= tolerance(precision, normed) * deviation))
            fail_msg("%s %s, (%zu,%zu)·(%zu,%zu): output %zu is %g, not %g", set, nn_precision_name(precision), s->N, s->C,
                     s->OC, s->C, i, (double)out[i], expected[i]);
    packed_linear_free(packed);
    limn_arena_release(scratch_arena, mark);
    twin_free(&in);
    twin_free(&weight);
    twin_free(&bias);
    free(expected);
    free(out);
}

static void test_products(void **state) {
    (void)state;
    for (size_t set = 0; set < LINEAR_INSTRUCTION_SETS; set++) {
        if (!packed_linear_choose_kernels(linear_instruction_sets[set])) continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (size_t p = 0; p < 3; p++) {
                check_product(&shapes[i], precisions[p], true, false, linear_instruction_sets[set]);
                check_product(&shapes[i], precisions[p], false, true, linear_instruction_sets[set]);
            }
    }
    assert_int_equal(choose_best(NULL), 0);
}

/* Whole numbers that every precision holds exactly give exact sums: there no kernel may be off by anything. */
static void test_whole_numbers_are_exact(void **state) {
    (void)state;
    enum { N = 19, C = 515, OC = 70 };
    float in[N * C], weight[OC * C], out[N * OC];
    for (size_t i = 0; i < N * C; i++) in[i] = i % C == 0 ? 127 : (float)(int)limn_random_below(3, 0, i, 255) - 127;
    for (size_t i = 0; i < OC * C; i++) weight[i] = i % C % 128 == 0 ? 127 : (float)(int)limn_random_below(3, 1, i, 255) - 127;
    for (size_t set = 0; set < LINEAR_INSTRUCTION_SETS; set++) {
        if (!packed_linear_choose_kernels(linear_instruction_sets[set])) continue;
        for (size_t p = 0; p < 3; p++) {
            size_t mark = limn_arena_mark(scratch_arena);
            const packed_linear *packed = packed_linear_create(weight, OC, C, precisions[p], true, scratch_arena, NULL);
            packed_linear_forward(&(packed_product){out, packed, NULL}, 1, in, N, scratch_arena);
            for (size_t n = 0; n < N; n++)
                for (size_t o = 0; o < OC; o++) {
                    double sum = 0;
                    for (size_t c = 0; c < C; c++) sum += (double)in[n * C + c] * (double)weight[o * C + c];
                    assert_float_equal(out[n * OC + o], sum, 0);
                }
            limn_arena_release(scratch_arena, mark);
        }
    }
    assert_int_equal(choose_best(NULL), 0);
}

/* A row's outputs are a function of the row: neither the other rows nor the number of threads count. */
static void test_rows_do_not_depend_on_each_other(void **state) {
    (void)state;
    enum { N = 60, C = 700, OC = 75 };
    twin in = twin_random(N * C, 0, 1, "in"), weight = twin_random(OC * C, 0, 1, "weight");
    float *all = floats_filled(N * OC, NAN), *one = floats_filled(OC, NAN);
    size_t threads = limn_get_threads();
    for (size_t p = 0; p < 3; p++) {
        size_t mark = limn_arena_mark(scratch_arena);
        const packed_linear *packed = packed_linear_create(weight.f, OC, C, precisions[p], false, scratch_arena, NULL);
        packed_linear_forward(&(packed_product){all, packed, NULL}, 1, in.f, N, scratch_arena);
        for (size_t n = 0; n < N; n += 7) {
            limn_set_threads(1 + n % 3);
            packed_linear_forward(&(packed_product){one, packed, NULL}, 1, in.f + n * C, 1, scratch_arena);
            assert_memory_equal(one, all + n * OC, OC * sizeof(float));
        }
        limn_set_threads(threads);
        limn_arena_release(scratch_arena, mark);
    }
    twin_free(&in);
    twin_free(&weight);
    free(all);
    free(one);
}

/* Several layers of one input at once give what each gives alone. */
static void test_several_at_once(void **state) {
    (void)state;
    enum { N = 5, C = 96, LAYERS = 3 };
    const size_t OC[LAYERS] = {40, 128, 1};
    twin in = twin_random(N * C, 0, 1, "in"), weight = twin_random(128 * C, 0, 1, "weight");
    for (size_t p = 0; p < 3; p++) {
        size_t mark = limn_arena_mark(scratch_arena);
        packed_product products[LAYERS];
        float *alone[LAYERS];
        for (size_t i = 0; i < LAYERS; i++) {
            products[i] = (packed_product){
                floats_filled(N * OC[i], NAN),
                packed_linear_create(weight.f + i, OC[i], C - 2, precisions[p], true, scratch_arena, NULL), NULL};
            alone[i] = floats_filled(N * OC[i], NAN);
            packed_product single = products[i];
            single.out = alone[i];
            packed_linear_forward(&single, 1, in.f, N, scratch_arena);
        }
        packed_linear_forward(products, LAYERS, in.f, N, scratch_arena);
        for (size_t i = 0; i < LAYERS; i++) {
            assert_memory_equal(products[i].out, alone[i], N * OC[i] * sizeof(float));
            free(products[i].out);
            free(alone[i]);
        }
        limn_arena_release(scratch_arena, mark);
    }
    twin_free(&in);
    twin_free(&weight);
}

/* What is no number spoils its own row or output and nothing else; a row of zeros gives zeros. */
static void test_what_is_no_number(void **state) {
    (void)state;
    enum { N = 6, C = 600, OC = 40 };
    for (size_t set = 0; set < LINEAR_INSTRUCTION_SETS; set++) {
        if (!packed_linear_choose_kernels(linear_instruction_sets[set])) continue;
        for (size_t p = 0; p < 3; p++)
            for (int normed = 0; normed < 2; normed++) {
                twin in = twin_random(N * C, 0, 1, "in"), weight = twin_random(OC * C, 0, 1, "weight");
                float out[N * OC];
                in.f[1 * C + 599] = NAN;
                in.f[2 * C + 3] = INFINITY;
                for (size_t c = 0; c < C; c++) in.f[3 * C + c] = weight.f[5 * C + c] = 0;
                weight.f[7 * C + 599] = NAN;
                size_t mark = limn_arena_mark(scratch_arena);
                const packed_linear *packed = packed_linear_create(weight.f, OC, C, precisions[p], normed, scratch_arena, NULL);
                packed_linear_forward(&(packed_product){out, packed, NULL}, 1, in.f, N, scratch_arena);
                for (size_t n = 0; n < N; n++)
                    for (size_t o = 0; o < OC; o++) {
                        bool spoilt = n == 1 || o == 7 || (n == 2 && o != 5);
                        if (n == 2 && o == 5) continue; /* infinity times zero */
                        assert_true(isfinite(out[n * OC + o]) == !spoilt);
                        if (!spoilt && (n == 3 || o == 5)) assert_float_equal(out[n * OC + o], 0, 0);
                    }
                limn_arena_release(scratch_arena, mark);
                twin_free(&in);
                twin_free(&weight);
            }
    }
    assert_int_equal(choose_best(NULL), 0);
}

static void test_backends(void **state) {
    (void)state;
    limn_error error = {0};
    const product_shape shape = {18, 300, 70};
    assert_int_equal(nn_choose_backend("mkl", PRECISION_FP32, &error), -1);
    assert_non_null(strstr(error.message, "--backend mkl"));
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
    assert_int_equal(nn_choose_backend("openblas", PRECISION_BF16, &error), -1);
    assert_non_null(strstr(error.message, "fp32 alone, not bf16"));
    assert_int_equal(nn_choose_backend("openblas", PRECISION_FP32, &error), 0);
    check_product(&shape, PRECISION_FP32, true, true, "openblas");
    for (size_t p = 0; p < 3; p++)
        if (nn_choose_backend("onednn", precisions[p], &error) == 0)
            check_product(&shape, precisions[p], true, true, "onednn");
        else
            assert_non_null(strstr(error.message, "--backend onednn"));
    assert_int_equal(nn_choose_backend("auto", PRECISION_BF16, &error), 0);
}

static void test_names(void **state) {
    (void)state;
    limn_error error = {0};
    nn_precision precision;
    for (size_t p = 0; p < 3; p++) {
        assert_int_equal(nn_precision_parse(&precision, nn_precision_name(precisions[p]), &error), 0);
        assert_int_equal(precision, precisions[p]);
    }
    assert_int_equal(nn_precision_parse(&precision, "fp16", &error), -1);
    assert_non_null(strstr(error.message, "--precision fp16"));
    assert_false(packed_linear_choose_kernels("amx"));
    assert_true(packed_linear_choose_kernels("portable"));
    assert_int_equal(choose_best(NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_whole_numbers_are_exact),
                                       cmocka_unit_test(test_several_at_once),
                                       cmocka_unit_test(test_rows_do_not_depend_on_each_other),
                                       cmocka_unit_test(test_what_is_no_number),
                                       cmocka_unit_test(test_backends),
                                       cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, scratch_arena_setup, scratch_arena_teardown);
}
