#include "gradient_check.h"

#include <omp.h>

enum { N = 200, V = 11, C = 150 };

static void rows_are_looked_up_and_added_back(void **state) {
    (void)state;
    int before = omp_get_max_threads();
    twin table = twin_random(V * C, 0, 1, "table"), dout = twin_random(N * C, 0, 1, "dout");
    int32_t ids[N]; /* each id comes many times, but 4 never */
    for (size_t n = 0; n < N; n++) ids[n] = (int32_t)((n * 7 + n / 13) % V) == 4 ? 10 : (int32_t)((n * 7 + n / 13) % V);
    float *out = floats_filled(N * C, NAN);
    embedding_forward(out, ids, table.f, N, C);
    double *expected = doubles_zeroed(V * C);
    for (size_t n = 0; n < N; n++) {
        assert_memory_equal(out + n * C, table.f + (size_t)ids[n] * C, sizeof(float) * C);
        for (size_t c = 0; c < C; c++) expected[(size_t)ids[n] * C + c] += dout.d[n * C + c];
    }
    /* The lookup is linear: its derivative is the sum above. It is added to what is there. */
    for (size_t i = 0; i < V * C; i++) expected[i] += 1;
    float *first = NULL;
    for (int threads = 1; threads <= 4; threads++) {
        omp_set_num_threads(threads);
        float *dtable = floats_filled(V * C, 1.0f);
        embedding_backward(dtable, ids, dout.f, N, V, C);
        check_close("embedding dtable", dtable, expected, V * C, 1e-6);
        for (size_t c = 0; c < C; c++) assert_true(dtable[4 * C + c] == 1.0f);
        if (first == NULL) {
            first = dtable;
            continue;
        }
        assert_memory_equal(first, dtable, sizeof(float) * V * C);
        free(dtable);
    }
    omp_set_num_threads(before);
    free(first);
    free(out);
    free(expected);
    twin_free(&table);
    twin_free(&dout);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_are_looked_up_and_added_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
