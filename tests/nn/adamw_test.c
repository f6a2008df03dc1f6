#include "gradient_check.h"

#include <omp.h>

/* The formula of the paper in double precision, step by step; golden-optimizers compares with optax itself. */
static void steps_follow_the_paper(void **state) {
    (void)state;
    enum { n = 30001, STEPS = 6 };
    const adamw_options options = {.learning_rate = 0.03, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .weight_decay = 0.1};
    const double grad_scale = 0.5;
    int before = omp_get_max_threads();
    for (int threads = 1; threads <= 3; threads += 2) {
        omp_set_num_threads(threads);
        twin value = twin_random(n, 0, 1, "value");
        float *m = floats_filled(n, 0), *v = floats_filled(n, 0);
        double *first = doubles_zeroed(n), *second = doubles_zeroed(n);
        for (uint64_t step = 1; step <= STEPS; step++) {
            char name[32];
            snprintf(name, sizeof name, "grad %d", (int)step);
            twin grad = twin_random(n, 0.2, 1, name);
            adamw_step(value.f, m, v, grad.f, n, &options, step, (float)grad_scale);
            for (size_t i = 0; i < n; i++) {
                double g = grad.d[i] * grad_scale;
                first[i] = options.beta1 * first[i] + (1 - options.beta1) * g;
                second[i] = options.beta2 * second[i] + (1 - options.beta2) * g * g;
                double m_hat = first[i] / (1 - pow(options.beta1, (double)step));
                double v_hat = second[i] / (1 - pow(options.beta2, (double)step));
                value.d[i] -=
                    options.learning_rate * (m_hat / (sqrt(v_hat) + options.epsilon) + options.weight_decay * value.d[i]);
            }
            twin_free(&grad);
        }
        check_close("value", value.f, value.d, n, 1e-6);
        check_close("m", m, first, n, 1e-6);
        check_close("v", v, second, n, 1e-6);
        twin_free(&value);
        free(m);
        free(v);
        free(first);
        free(second);
    }
    omp_set_num_threads(before);
}

static void clipping_brings_the_norm_down_to_the_limit(void **state) {
    (void)state;
    assert_true(clip_by_global_norm_scale(0.5, 1.0) == 1.0f);
    assert_true(clip_by_global_norm_scale(1.0, 1.0) == 1.0f);
    assert_true(clip_by_global_norm_scale(4.0, 1.0) == 0.25f);
    assert_true(clip_by_global_norm_scale(0.0, 1.0) == 1.0f);
    assert_true(clip_by_global_norm_scale(1e9, 0.0) == 1.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_follow_the_paper),
                                       cmocka_unit_test(clipping_brings_the_norm_down_to_the_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
