#include "gradient_check.h"

#include <omp.h>

typedef struct {
    size_t N, V;
    twin logits;
    int32_t *labels;
    double *rows;
    double scale;
} cross_entropy;

static double loss(void *context) {
    cross_entropy *l = context;
    double sum = 0;
    for (size_t n = 0; n < l->N; n++) {
        const double *x = l->logits.d + n * l->V;
        double largest = x[0], total = 0;
        for (size_t v = 0; v < l->V; v++) largest = fmax(largest, x[v]);
        for (size_t v = 0; v < l->V; v++) total += exp(x[v] - largest);
        l->rows[n] = log(total) + largest - x[l->labels[n]];
        sum += l->rows[n];
    }
    return l->scale * sum / (double)l->N;
}

static void check(size_t N, size_t V, double deviation) {
    cross_entropy l = {.N = N, .V = V, .scale = 1};
    l.logits = twin_random(N * V, 2, deviation, "logits");
    l.labels = calloc(N, sizeof *l.labels);
    assert_non_null(l.labels);
    l.rows = doubles_zeroed(N);
    for (size_t n = 0; n < N; n++) l.labels[n] = (int32_t)((n * 31 + 5) % V);
    float *dlogits = floats_filled(N * V, NAN), *rows = floats_filled(N, NAN), *original = floats_filled(N * V, 0);
    memcpy(original, l.logits.f, N * V * sizeof(float));

    double expected = loss(&l);
    double without = softmax_cross_entropy(NULL, rows, l.logits.f, l.labels, N, V, 1.0f);
    assert_true(fabs(without - expected) <= 1e-6 * expected + 1e-6);
    check_close("row losses", rows, l.rows, N, 1e-6);
    double mean = softmax_cross_entropy(dlogits, NULL, l.logits.f, l.labels, N, V, 0.5f);
    assert_true(fabs(mean - expected) <= 1e-6 * expected + 1e-6);
    l.scale = 0.5; /* of the gradient alone */
    check_gradient("dlogits", dlogits, l.logits.d, N * V, loss, &l, 1e-5);

    /* In place, and again for other threads: the same bits. */
    int before = omp_get_max_threads();
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        memcpy(l.logits.f, original, N * V * sizeof(float));
        assert_true(softmax_cross_entropy(l.logits.f, NULL, l.logits.f, l.labels, N, V, 0.5f) == mean);
        assert_memory_equal(l.logits.f, dlogits, N * V * sizeof(float));
    }
    omp_set_num_threads(before);
    twin_free(&l.logits);
    free(l.labels);
    free(l.rows);
    free(dlogits);
    free(rows);
    free(original);
}

static void losses_and_gradients(void **state) {
    (void)state;
    check(1, 1, 1);
    check(7, 23, 1);
    check(300, 19, 3);
    check(5, 1000, 30); /* logits that would overflow without subtracting the largest */
    check(600, 100, 2);
}

static void no_rows_no_loss(void **state) {
    (void)state;
    assert_true(softmax_cross_entropy(NULL, NULL, NULL, NULL, 0, 5, 1.0f) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(losses_and_gradients), cmocka_unit_test(no_rows_no_loss)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
