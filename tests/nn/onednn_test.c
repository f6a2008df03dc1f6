/* The library's products and convolutions against our own. bf16 must be our product of rounded inputs up to fp32's rounding;
 * int8 must be exact where integers are, and otherwise within a stated error. */
#include "nn/onednn.h"
#include "tests/nn/gradient_check.h"

#include <omp.h>

static void need(nn_precision precision) {
    if (onednn_available(precision)) return;
    print_message("skipped: %s has no %s here\n", onednn_description(), nn_precision_name(precision));
    skip();
}

/* Millions of normal numbers, by all threads. */
static float *normal_floats(size_t n, const char *name) {
    float *out = floats_filled(n, 0);
    limn_random_fill_normal(out, n, 1, 7, limn_random_stream(name));
    return out;
}

/* The same numbers, as the precision sees them. */
static float *rounded_copy(const float *from, size_t n, nn_precision precision) {
    float *out = floats_filled(n, 0);
    for (size_t i = 0; i < n; i++) out[i] = rounded(from[i], precision);
    return out;
}

static double relative_error(const float *got, const float *expected, size_t n) {
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)got[i] - (double)expected[i]) * ((double)got[i] - (double)expected[i]);
        size += (double)expected[i] * (double)expected[i];
    }
    return sqrt(error / size);
}

static double *as_doubles(const float *from, size_t n) {
    double *out = doubles_zeroed(n);
    for (size_t i = 0; i < n; i++) out[i] = (double)from[i];
    return out;
}

/* ---------------------------------------------------------------- products */

/* Of all numbers in the root mean square, when weights and inputs are normal: each of the two roundings errs by about 0.12 %
 * in bf16 and 0.75 % (a 255th of six to seven deviations) in int8. */
static const double stated_error[] = {[PRECISION_FP32] = 1e-5, [PRECISION_BF16] = 0.003, [PRECISION_INT8] = 0.015};

typedef struct {
    size_t OC, C;
    nn_precision precision;
    float *weight, *seen_weight; /* as given, and as the precision sees it */
} matrix;

static void check_rows(onednn_linear *linear, const matrix *m, size_t N, bool with_gaps) {
    const size_t OC = m->OC, C = m->C, ldin = C + (with_gaps ? 3 : 0), ldout = OC + (with_gaps ? 2 : 0);
    float *in = normal_floats(N * ldin, "in"), *bias = normal_floats(OC, "bias");
    float *seen_in = rounded_copy(in, N * ldin, m->precision);
    float *out = floats_filled(N * ldout, 7), *expected = floats_filled(N * ldout, 7);
    limn_error error = {0};
    assert_int_equal(onednn_linear_prepare(linear, N, &error), 0);
    onednn_linear_forward(linear, out, ldout, in, ldin, with_gaps ? bias : NULL, N);
    char name[100];
    snprintf(name, sizeof name, "%zu rows, %zu to %zu, %s", N, C, OC, nn_precision_name(m->precision));
    for (int exact = 0; exact < 2; exact++) {
        matmul(expected, ldout, exact ? in : seen_in, ldin, false, exact ? m->weight : m->seen_weight, C, true, N, OC, C, 1, 0);
        for (size_t n = 0; with_gaps && n < N; n++)
            for (size_t o = 0; o < OC; o++) expected[n * ldout + o] += bias[o];
        if (exact && N * OC >= 300) { /* fewer have no mean worth stating */
            const double found = relative_error(out, expected, N * ldout);
            if (!(found <= stated_error[m->precision])) fail_msg("%s: the error is %.5f", name, found);
        }
        if (!exact && m->precision != PRECISION_INT8) {
            double *wanted = as_doubles(expected, N * ldout); /* the gaps' 7 among them */
            check_close(name, out, wanted, N * ldout, 5e-6);
            free(wanted);
        }
    }
    for (size_t n = 0; n < N; n++)
        for (size_t o = OC; o < ldout; o++) assert_true(out[n * ldout + o] == 7.0f);
    free(in);
    free(bias);
    free(seen_in);
    free(out);
    free(expected);
}

static void check_products(nn_precision precision) {
    static const size_t shapes[][2] = {{2730, 1024}, {1024, 2730}, {16385, 1024}, {70, 301}, {1, 64}, {5, 7}};
    static const size_t rows[] = {18, 1, 9, 128, 18};
    static const size_t sizes[] = {[PRECISION_FP32] = 4, [PRECISION_BF16] = 2, [PRECISION_INT8] = 1};
    need(precision);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        matrix m = {.OC = shapes[i][0], .C = shapes[i][1], .precision = precision};
        m.weight = normal_floats(m.OC * m.C, "weight");
        m.seen_weight = rounded_copy(m.weight, m.OC * m.C, precision);
        limn_error error = {0};
        onednn_linear *linear = onednn_linear_create(m.weight, m.OC, m.C, precision, &error);
        if (linear == NULL) fail_msg("%s", error.message);
        assert_true(onednn_linear_bytes(linear) >= m.OC * m.C * sizes[precision]);
        for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) check_rows(linear, &m, rows[j], j % 2);
        onednn_linear_free(linear);
        free(m.weight);
        free(m.seen_weight);
    }
}

static void products_in_fp32(void **state) {
    (void)state;
    check_products(PRECISION_FP32);
}

static void products_in_bf16(void **state) {
    (void)state;
    check_products(PRECISION_BF16);
}

static void products_in_int8(void **state) {
    (void)state;
    check_products(PRECISION_INT8);
}

/* Rows from −55 to 200 and weights from −127 to 127 are their own quantisation. */
static void integers_are_exact_in_int8(void **state) {
    (void)state;
    enum { N = 9, C = 4099, OC = 37 };
    need(PRECISION_INT8);
    float *in = floats_filled(N * C, 0), *weight = floats_filled(OC * C, 0), *out = floats_filled(N * OC, NAN);
    for (size_t i = 0; i < N * C; i++)
        in[i] = i % C == 5 ? -55 : i % C == 6 ? 200 : (float)limn_random_below(1, 2, i, 256) - 55;
    for (size_t i = 0; i < OC * C; i++) weight[i] = i % C == 9 ? 127 : (float)limn_random_below(1, 3, i, 255) - 127;
    onednn_linear *linear = onednn_linear_create(weight, OC, C, PRECISION_INT8, NULL);
    assert_non_null(linear);
    onednn_linear_forward(linear, out, OC, in, C, NULL, N);
    for (size_t n = 0; n < N; n++)
        for (size_t o = 0; o < OC; o++) {
            int64_t sum = 0;
            for (size_t c = 0; c < C; c++) sum += (int64_t)in[n * C + c] * (int64_t)weight[o * C + c];
            assert_true(out[n * OC + o] == (float)sum);
        }
    onednn_linear_free(linear);
    free(in);
    free(weight);
    free(out);
}

/* More numbers of rows than are kept, forward and back, some without having been prepared. */
static void any_number_of_rows_follows_any(void **state) {
    (void)state;
    enum { OC = 33, C = 40, MOST = 2 * ONEDNN_SHAPES };
    need(PRECISION_FP32);
    twin weight = twin_random(OC * C, 0, 1, "weight"), in = twin_random(MOST * C, 0, 1, "in");
    float *out = floats_filled(MOST * OC, NAN), *expected = floats_filled(MOST * OC, NAN);
    linear_forward(expected, in.f, weight.f, NULL, MOST, C, OC);
    double *wanted = as_doubles(expected, MOST * OC);
    onednn_linear *linear = onednn_linear_create(weight.f, OC, C, PRECISION_FP32, NULL);
    assert_non_null(linear);
    for (size_t i = 0; i < 2 * MOST; i++) {
        const size_t N = i < MOST ? i : 2 * MOST - i;
        if (i % 3 == 0) assert_int_equal(onednn_linear_prepare(linear, N, NULL), 0);
        onednn_linear_forward(linear, out, OC, in.f, C, NULL, N);
        check_close("rows", out, wanted, N * OC, 2e-6);
    }
    onednn_linear_free(linear);
    twin_free(&weight);
    twin_free(&in);
    free(out);
    free(expected);
    free(wanted);
}

/* What is not a number stays so, and stays in its row. */
static void what_is_not_finite_is_not_hidden(void **state) {
    (void)state;
    enum { N = 4, OC = 16, C = 64 };
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    need(PRECISION_FP32);
    for (nn_precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++)
        for (size_t i = 0; onednn_available(precision) && i < sizeof bad / sizeof *bad; i++) {
            twin weight = twin_random(OC * C, 0, 1, "weight"), in = twin_random(N * C, 0, 1, "in");
            float out[N * OC];
            onednn_linear *linear = onednn_linear_create(weight.f, OC, C, precision, NULL);
            assert_non_null(linear);
            in.f[2 * C + 9] = bad[i];
            memset(in.f + 3 * C, 0, C * sizeof(float));
            onednn_linear_forward(linear, out, OC, in.f, C, NULL, N);
            for (size_t j = 0; j < N * OC; j++) {
                assert_int_equal(j / OC == 2, !isfinite(out[j]));
                if (j / OC == 3) assert_true(out[j] == 0.0f);
            }
            onednn_linear_free(linear);
            twin_free(&weight);
            twin_free(&in);
        }
}

/* ---------------------------------------------------------------- matmul_mixed's products */

/* The numbers are tested with matmul_mixed; here, that the library makes them itself, and declines what it cannot. */
static void bfloat16_matrices_are_multiplied(void **state) {
    (void)state;
    need(PRECISION_BF16);
    enum { M = 64, N = 96, K = 128 };
    limn_error error = {0};
    const size_t bytes = onednn_matmul_scratch_bytes(M, N, K);
    limn_arena *arena = limn_arena_create(bytes + 64, &error);
    uint16_t *ones = malloc((M + N) * K * sizeof *ones);
    for (size_t i = 0; i < (M + N) * K; i++) ones[i] = limn_bf16_from_float(1);
    float *out = floats_filled(M * N, 1);
    for (unsigned i = 0; i < 8; i++) {
        const bool transpose_a = i & 1, transpose_b = i & 2, accumulate = i & 4;
        const float before = out[M * N - 1];
        assert_true(onednn_matmul(numbers_f32(out), N, ones, transpose_a ? M : K, transpose_a, ones + M * K,
                                  transpose_b ? K : N, transpose_b, M, N, K, accumulate, arena));
        assert_true(out[M * N - 1] == (accumulate ? before : 0) + K);
        assert_int_equal(limn_arena_mark(arena), 0);
    }
    assert_false(onednn_matmul(numbers_f32(out), N, ones, K, false, ones + M * K, N, false, M, N, 0, false, arena));
    /* Without scratch at least one of those that need some is declined, and `out` is as it was. */
    limn_arena_bytes(arena, limn_arena_left(arena));
    size_t declined = 0;
    for (unsigned i = 0; i < 12; i++) {
        const bool transpose_a = i & 1, transpose_b = i & 2, half = i / 4 == 1;
        const numbers to = {half ? NULL : out, half ? (uint16_t *)(void *)out : NULL};
        memset(out, 0, M * N * sizeof *out);
        if (onednn_matmul(to, N, ones, transpose_a ? M : K, transpose_a, ones + M * K, transpose_b ? K : N, transpose_b, M, N,
                          K, i / 4 == 2, arena))
            continue;
        declined++;
        assert_true(sum_of_squares(out, M * N) == 0);
    }
    assert_int_equal(declined > 0, bytes > 0);
    limn_arena_destroy(arena);
    free(ones);
    free(out);
}

/* ---------------------------------------------------------------- convolutions */

static void check_convolution(const convolution_shape *s, nn_precision precision) {
    const size_t in_size = s->B * s->Y * s->X * s->C, weight_size = s->O * s->kernel * s->kernel * s->C;
    const size_t out_size = s->B * convolution_out_rows(s) * convolution_out_columns(s) * s->O;
    float *in = normal_floats(in_size, "in"), *weight = normal_floats(weight_size, "weight");
    float *bias = normal_floats(s->O, "bias"), *residual = normal_floats(out_size, "residual");
    float *seen_in = rounded_copy(in, in_size, precision), *seen_weight = rounded_copy(weight, weight_size, precision);
    float *out = floats_filled(out_size, NAN), *expected = floats_filled(out_size, NAN);
    limn_arena *arena = limn_arena_create((size_t)1 << 30, NULL);
    assert_non_null(arena);
    char name[120];
    snprintf(name, sizeof name, "%zu×%zu×%zu×%zu to %zu, kernel %zu, stride %zu, %s", s->B, s->Y, s->X, s->C, s->O, s->kernel,
             s->stride, nn_precision_name(precision));
    for (int variant = 0; variant < 4; variant++) {
        const float *b = variant & 1 ? bias : NULL, *r = variant & 2 ? residual : NULL;
        limn_error error = {0};
        onednn_convolution *convolution = onednn_convolution_create(weight, b, s, precision, &error);
        if (convolution == NULL) fail_msg("%s", error.message);
        assert_true(onednn_convolution_bytes(convolution) >= weight_size * (precision == PRECISION_FP32 ? 4 : 2));
        onednn_convolution_forward(convolution, out, in, r);
        convolution_forward(expected, seen_in, seen_weight, b, r, s, arena);
        double *wanted = as_doubles(expected, out_size);
        check_close(name, out, wanted, out_size, 5e-6);
        if (r != NULL) { /* into the residual */
            memcpy(out, residual, out_size * sizeof *out);
            onednn_convolution_forward(convolution, out, in, out);
            check_close(name, out, wanted, out_size, 5e-6);
        }
        convolution_forward(expected, in, weight, b, r, s, arena);
        const double worst = relative_error(out, expected, out_size);
        if (!(worst <= stated_error[precision])) fail_msg("%s: the error is %.5f", name, worst);
        free(wanted);
        onednn_convolution_free(convolution);
    }
    limn_arena_destroy(arena);
    free(in);
    free(weight);
    free(bias);
    free(residual);
    free(seen_in);
    free(seen_weight);
    free(out);
    free(expected);
}

static void check_convolutions(nn_precision precision) {
    static const convolution_shape shapes[] = {
        {2, 9, 7, 16, 32, 3, 1, 1, 1, 1, 1},   {1, 32, 32, 128, 128, 3, 1, 1, 1, 1, 1}, {1, 16, 16, 512, 256, 3, 1, 1, 1, 1, 1},
        {2, 12, 10, 32, 32, 3, 2, 0, 0, 1, 1}, {1, 8, 8, 3, 32, 3, 1, 1, 1, 1, 1},      {1, 9, 8, 32, 3, 3, 1, 1, 1, 1, 1},
        {1, 10, 12, 20, 24, 4, 2, 1, 1, 1, 1}, {3, 5, 6, 48, 40, 1, 1, 0, 0, 0, 0},     {2, 7, 5, 5, 9, 3, 1, 1, 1, 1, 1},
        {1, 33, 29, 64, 64, 3, 2, 0, 0, 1, 1},
    };
    need(precision);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_convolution(&shapes[i], precision);
}

static void convolutions_in_fp32(void **state) {
    (void)state;
    check_convolutions(PRECISION_FP32);
}

static void convolutions_in_bf16(void **state) {
    (void)state;
    check_convolutions(PRECISION_BF16);
}

/* Made with so many threads, used with more or fewer: the same results. */
static void threads_may_change_afterwards(void **state) {
    (void)state;
    enum { N = 130, OC = 300, C = 200, SIDE = 20, CHANNELS = 32, PICTURE = SIDE * SIDE * CHANNELS };
    static const convolution_shape shape = {1, SIDE, SIDE, CHANNELS, CHANNELS, 3, 1, 1, 1, 1, 1};
    need(PRECISION_FP32);
    const int before = omp_get_max_threads();
    float *in = normal_floats(N * C, "in"), *weight = normal_floats(OC * C, "weight"), *out = floats_filled(N * OC, NAN);
    float *first = floats_filled(N * OC, NAN), *first_picture = floats_filled(PICTURE, NAN);
    for (nn_precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (!onednn_available(precision)) continue;
        for (int made_with = 1; made_with <= 5; made_with += 2) {
            omp_set_num_threads(made_with);
            onednn_linear *linear = onednn_linear_create(weight, OC, C, precision, NULL);
            assert_non_null(linear);
            assert_int_equal(onednn_linear_prepare(linear, N, NULL), 0);
            onednn_convolution *convolution =
                precision == PRECISION_INT8 ? NULL : onednn_convolution_create(weight, NULL, &shape, precision, NULL);
            for (int used_with = 1; used_with <= 5; used_with += 2) {
                const bool is_first = made_with == 1 && used_with == 1;
                omp_set_num_threads(used_with);
                onednn_linear_forward(linear, is_first ? first : out, OC, in, C, NULL, N);
                if (!is_first) assert_memory_equal(out, first, N * OC * sizeof *out);
                if (convolution == NULL) continue;
                onednn_convolution_forward(convolution, is_first ? first_picture : out, in, NULL);
                if (!is_first) assert_memory_equal(out, first_picture, PICTURE * sizeof *out);
            }
            onednn_linear_free(linear);
            onednn_convolution_free(convolution);
        }
    }
    omp_set_num_threads(before);
    free(in);
    free(weight);
    free(out);
    free(first);
    free(first_picture);
}

/* ---------------------------------------------------------------- what it says */

static void errors_say_what_to_do(void **state) {
    (void)state;
    float one = 1;
    const convolution_shape shape = {1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    for (nn_precision precision = PRECISION_FP32; precision <= PRECISION_INT8; precision++) {
        if (onednn_available(precision)) continue;
        limn_error error = {0};
        assert_null(onednn_linear_create(&one, 1, 1, precision, &error));
        assert_non_null(strstr(error.message, onednn_available(PRECISION_FP32) ? onednn_description() : "libdnnl-dev"));
        error = (limn_error){0};
        assert_null(onednn_convolution_create(&one, NULL, &shape, precision, &error));
        assert_true(error.message[0] != '\0');
    }
    onednn_linear_free(NULL);
    onednn_convolution_free(NULL);
}

static void impossible_sizes_are_errors(void **state) {
    (void)state;
    limn_error error = {0};
    need(PRECISION_FP32);
    float weight[6] = {1, 2, 3, 4, 5, 6}, in[3] = {1, 1, 1}, out[2];
    assert_null(onednn_linear_create(weight, 0, 3, PRECISION_FP32, &error));
    assert_non_null(strstr(error.message, "0 × 3"));
    onednn_linear *linear = onednn_linear_create(weight, 2, 3, PRECISION_FP32, &error);
    assert_non_null(linear);
    static const size_t too_many[] = {SIZE_MAX, SIZE_MAX / 8, SIZE_MAX / 64, (size_t)1 << 50, (size_t)1 << 31};
    for (size_t i = 0; i < sizeof too_many / sizeof *too_many; i++) {
        error = (limn_error){0};
        assert_int_equal(onednn_linear_prepare(linear, too_many[i], &error), -1);
        assert_true(error.message[0] != '\0');
    }
    assert_int_equal(onednn_linear_prepare(linear, 0, &error), 0);
    onednn_linear_forward(linear, out, 2, in, 3, NULL, 0);
    onednn_linear_forward(linear, out, 2, in, 3, NULL, 1);
    assert_true(out[0] == 6.0f && out[1] == 15.0f);
    onednn_linear_free(linear);
    const convolution_shape shape = {1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    assert_null(onednn_convolution_create(weight, NULL, &shape, PRECISION_INT8, &error));
    assert_non_null(strstr(error.message, "int8"));
}

static void the_description_names_the_library(void **state) {
    (void)state;
    print_message("%s%s\n", onednn_description(), onednn_has_amx() ? ", AMX" : "");
    if (onednn_available(PRECISION_FP32))
        assert_int_equal(strncmp(onednn_description(), "oneDNN ", 7), 0);
    else
        assert_string_equal(onednn_description(), "no oneDNN");
    if (onednn_has_amx()) assert_true(onednn_available(PRECISION_BF16) && onednn_available(PRECISION_INT8));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bfloat16_matrices_are_multiplied),
        cmocka_unit_test(the_description_names_the_library),
        cmocka_unit_test(errors_say_what_to_do),
        cmocka_unit_test(impossible_sizes_are_errors),
        cmocka_unit_test(products_in_fp32),
        cmocka_unit_test(products_in_bf16),
        cmocka_unit_test(products_in_int8),
        cmocka_unit_test(integers_are_exact_in_int8),
        cmocka_unit_test(any_number_of_rows_follows_any),
        cmocka_unit_test(what_is_not_finite_is_not_hidden),
        cmocka_unit_test(convolutions_in_fp32),
        cmocka_unit_test(convolutions_in_bf16),
        cmocka_unit_test(threads_may_change_afterwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
