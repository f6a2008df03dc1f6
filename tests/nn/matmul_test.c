#include "gradient_check.h"

#include <omp.h>

static void naive_product(double *out, size_t ldout, const double *a, size_t lda, bool transpose_a, const double *b, size_t ldb,
                          bool transpose_b, size_t M, size_t N, size_t K, double alpha, double beta) {
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double sum = 0;
            for (size_t k = 0; k < K; k++)
                sum += (transpose_a ? a[k * lda + m] : a[m * lda + k]) * (transpose_b ? b[n * ldb + k] : b[k * ldb + n]);
            out[m * ldout + n] = alpha * sum + (beta == 0 ? 0 : beta * out[m * ldout + n]);
        }
}

/* All four transpositions, with rows longer than the matrices, into the middle of what must stay as it was. */
static void check_product(size_t M, size_t N, size_t K, float alpha, float beta) {
    for (int t = 0; t < 4; t++) {
        bool transpose_a = t & 1, transpose_b = t & 2;
        size_t lda = (transpose_a ? M : K) + 3, ldb = (transpose_b ? K : N) + 5, ldout = N + 2;
        twin a = twin_random((transpose_a ? K : M) * lda, 0, 1, "a"), b = twin_random((transpose_b ? N : K) * ldb, 0, 1, "b");
        twin out = twin_random(M * ldout, 0, 1, "out");
        if (beta == 0.0f) /* what was there does not count, not even a NaN */
            for (size_t m = 0; m < M; m++)
                for (size_t n = 0; n < N; n++) out.f[m * ldout + n] = NAN;
        matmul(out.f, ldout, a.f, lda, transpose_a, b.f, ldb, transpose_b, M, N, K, alpha, beta);
        naive_product(out.d, ldout, a.d, lda, transpose_a, b.d, ldb, transpose_b, M, N, K, (double)alpha, (double)beta);
        char name[100];
        snprintf(name, sizeof name, "%zu×%zu×%zu, transposed %d %d", M, N, K, transpose_a, transpose_b);
        check_close(name, out.f, out.d, M * ldout, 2e-6);
        twin_free(&a);
        twin_free(&b);
        twin_free(&out);
    }
}

static const size_t shapes[][3] = {{1, 1, 1},     {5, 7, 3},     {64, 64, 64},  {65, 63, 67},   {1, 300, 1000}, {300, 1, 1000},
                                   {33, 129, 65}, {200, 17, 90}, {9, 27, 5000}, {64, 64, 1025}, {17, 31, 1024}, {130, 250, 70}};

static void products_equal_the_naive_ones(void **state) {
    (void)state;
    int before = omp_get_max_threads();
    for (int threads = 1; threads <= 5; threads += 2) {
        omp_set_num_threads(threads);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            check_product(shapes[i][0], shapes[i][1], shapes[i][2], 1.0f, 0.0f);
            check_product(shapes[i][0], shapes[i][1], shapes[i][2], 0.5f, 2.0f);
        }
    }
    omp_set_num_threads(before);
}

static void an_empty_sum_is_zero(void **state) {
    (void)state;
    float out[6] = {1, 2, 3, 4, 5, 6}, nothing[1] = {0};
    matmul(out, 3, nothing, 1, false, nothing, 3, false, 2, 3, 0, 1.0f, 1.0f);
    assert_true(out[5] == 6.0f);
    matmul(out, 3, nothing, 1, false, nothing, 3, false, 2, 3, 0, 1.0f, 0.0f);
    for (size_t i = 0; i < 6; i++) assert_true(out[i] == 0.0f);
    matmul(out, 3, nothing, 1, false, nothing, 3, false, 0, 3, 1, 1.0f, 0.0f);
}

static void repeating_gives_the_same_bits(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t M = shapes[i][0], N = shapes[i][1], K = shapes[i][2];
        twin a = twin_random(M * K, 0, 1, "a"), b = twin_random(K * N, 0, 1, "b");
        float *first = floats_filled(M * N, NAN), *again = floats_filled(M * N, NAN);
        matmul(first, N, a.f, K, false, b.f, N, false, M, N, K, 1.0f, 0.0f);
        for (int repeat = 0; repeat < 5; repeat++) {
            matmul(again, N, a.f, K, false, b.f, N, false, M, N, K, 1.0f, 0.0f);
            assert_memory_equal(first, again, M * N * sizeof *first);
        }
        twin_free(&a);
        twin_free(&b);
        free(first);
        free(again);
    }
}

static void products_inside_a_parallel_region_are_right(void **state) {
    (void)state;
    enum { N = 120, COPIES = 8 };
    twin a = twin_random(N * N, 0, 1, "a"), b = twin_random(N * N, 0, 1, "b");
    double *expected = doubles_zeroed(N * N);
    naive_product(expected, N, a.d, N, false, b.d, N, true, N, N, N, 1, 0);
    float *out = floats_filled(COPIES * N * N, NAN);
#pragma omp parallel for
    for (size_t i = 0; i < COPIES; i++) matmul(out + i * N * N, N, a.f, N, false, b.f, N, true, N, N, N, 1.0f, 0.0f);
    for (size_t i = 0; i < COPIES; i++) check_close("product in a region", out + i * N * N, expected, N * N, 2e-6);
    twin_free(&a);
    twin_free(&b);
    free(expected);
    free(out);
}

/* ---------------------------------------------------------------- linear */

typedef struct {
    size_t N, C, OC;
    twin in, weight, bias, dout;
    double *out;
} linear;

static void linear_naive(linear *l) {
    naive_product(l->out, l->OC, l->in.d, l->C, false, l->weight.d, l->C, true, l->N, l->OC, l->C, 1, 0);
    for (size_t i = 0; i < l->N * l->OC; i++) l->out[i] += l->bias.d[i % l->OC];
}

static double linear_loss(void *context) {
    linear *l = context;
    linear_naive(l);
    return weighted_sum(l->out, l->dout.d, l->N * l->OC);
}

static void linear_gradients(void **state) {
    (void)state;
    linear l = {.N = 37, .C = 19, .OC = 70};
    l.in = twin_random(l.N * l.C, 0, 1, "in");
    l.weight = twin_random(l.OC * l.C, 0, 1, "weight");
    l.bias = twin_random(l.OC, 0, 1, "bias");
    l.dout = twin_random(l.N * l.OC, 0, 1, "dout");
    l.out = doubles_zeroed(l.N * l.OC);
    float *out = floats_filled(l.N * l.OC, NAN), *din = floats_filled(l.N * l.C, NAN);
    float *dweight = floats_filled(l.OC * l.C, 0), *dbias = floats_filled(l.OC, 0);
    linear_forward(out, l.in.f, l.weight.f, l.bias.f, l.N, l.C, l.OC);
    linear_naive(&l);
    check_close("linear", out, l.out, l.N * l.OC, 2e-6);
    linear_backward(din, dweight, dbias, l.dout.f, l.in.f, l.weight.f, l.N, l.C, l.OC, false);
    check_gradient("linear din", din, l.in.d, l.N * l.C, linear_loss, &l, 1e-5);
    check_gradient("linear dweight", dweight, l.weight.d, l.OC * l.C, linear_loss, &l, 1e-5);
    check_gradient("linear dbias", dbias, l.bias.d, l.OC, linear_loss, &l, 1e-5);

    /* A second time: the weights' gradients and an accumulated input's double. */
    linear_backward(din, dweight, dbias, l.dout.f, l.in.f, l.weight.f, l.N, l.C, l.OC, true);
    for (size_t i = 0; i < l.N * l.C; i++) din[i] *= 0.5f;
    for (size_t i = 0; i < l.OC * l.C; i++) dweight[i] *= 0.5f;
    for (size_t i = 0; i < l.OC; i++) dbias[i] *= 0.5f;
    check_gradient("linear din, twice", din, l.in.d, l.N * l.C, linear_loss, &l, 1e-5);
    check_gradient("linear dweight, twice", dweight, l.weight.d, l.OC * l.C, linear_loss, &l, 1e-5);
    check_gradient("linear dbias, twice", dbias, l.bias.d, l.OC, linear_loss, &l, 1e-5);

    /* Without bias, and without what is not wanted. */
    linear_forward(out, l.in.f, l.weight.f, NULL, l.N, l.C, l.OC);
    for (size_t i = 0; i < l.N * l.OC; i++) l.out[i] -= l.bias.d[i % l.OC];
    check_close("linear without bias", out, l.out, l.N * l.OC, 2e-6);
    linear_backward(NULL, NULL, NULL, l.dout.f, l.in.f, l.weight.f, l.N, l.C, l.OC, false);

    twin_free(&l.in);
    twin_free(&l.weight);
    twin_free(&l.bias);
    twin_free(&l.dout);
    free(l.out);
    free(out);
    free(din);
    free(dweight);
    free(dbias);
}

static void the_back_end_names_itself(void **state) {
    (void)state;
    const char *text = nn_backend_description();
    assert_non_null(strstr(text, "OpenBLAS"));
    assert_non_null(strstr(text, "thread"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_equal_the_naive_ones),
        cmocka_unit_test(an_empty_sum_is_zero),
        cmocka_unit_test(repeating_gives_the_same_bits),
        cmocka_unit_test(products_inside_a_parallel_region_are_right),
        cmocka_unit_test(linear_gradients),
        cmocka_unit_test(the_back_end_names_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
