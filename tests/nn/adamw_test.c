#include "gradient_check.h"

#include <omp.h>

enum { BODY = 30001, BIAS = 5, n = BODY + BIAS, STEPS = 6 };

/* The formula of the paper in double precision, step by step; golden-optimizers compares with optax itself. The bias takes no
 * part in the decay, a frozen tensor between them in nothing. */
static void steps_follow_the_paper(void **state) {
    (void)state;
    optimizer_options options = optimizer_defaults(OPTIMIZER_ADAMW);
    options.beta1 = 0.8;
    options.beta2 = 0.95;
    options.epsilon = 1e-3;
    options.weight_decay = 0.1;
    const double grad_scale = 0.5, rate = 0.03, average_decay = 0.75;
    int before = omp_get_max_threads();
    for (int threads = 1; threads <= 3; threads += 2) {
        omp_set_num_threads(threads);
        twin value = twin_random(n, 0, 1, "value"), grad = twin_random(n, 0, 1, "grad");
        float frozen[3] = {1, 2, 3}, *average = floats_filled(n, 0);
        double *first = doubles_zeroed(n), *second = doubles_zeroed(n), *mean = doubles_zeroed(n), norms[3];
        const optimizer_tensor tensors[3] = {
            {"body", 1, {BODY}, value.f, grad.f, average, true},
            {"frozen", 1, {3}, frozen, NULL, NULL, true},
            {"bias", 1, {BIAS}, value.f + BODY, grad.f + BODY, average + BODY, false},
        };
        limn_error error;
        optimizer *moves = optimizer_create(&options, tensors, 3, &error);
        assert_non_null(moves);
        for (uint64_t step = 1; step <= STEPS; step++) {
            char name[32];
            snprintf(name, sizeof name, "grad %d", (int)step);
            twin drawn = twin_random(n, 0.2, 1, name);
            memcpy(grad.f, drawn.f, n * sizeof(float));
            optimizer_step(moves, &(optimizer_pass){rate, step, (float)grad_scale, average_decay, norms});
            double moved[2] = {0};
            for (size_t i = 0; i < n; i++) {
                double g = drawn.d[i] * grad_scale, decay = i < BODY ? options.weight_decay : 0;
                first[i] = options.beta1 * first[i] + (1 - options.beta1) * g;
                second[i] = options.beta2 * second[i] + (1 - options.beta2) * g * g;
                double m_hat = first[i] / (1 - pow(options.beta1, (double)step));
                double v_hat = second[i] / (1 - pow(options.beta2, (double)step));
                double change = rate * (m_hat / (sqrt(v_hat) + options.epsilon) + decay * value.d[i]);
                value.d[i] -= change;
                mean[i] = average_decay * mean[i] + (1 - average_decay) * value.d[i];
                moved[i >= BODY] += change * change;
            }
            twin_free(&drawn);
            assert_true(fabs(norms[0] / sqrt(moved[0]) - 1) < 1e-4 && fabs(norms[2] / sqrt(moved[1]) - 1) < 1e-4);
            assert_true(norms[1] == 0);
        }
        check_close("value", value.f, value.d, n, 1e-6);
        check_close("average", average, mean, n, 1e-6);
        const optimizer_array *arrays;
        assert_int_equal(optimizer_arrays(moves, &arrays), 2);
        assert_string_equal(arrays[0].name, "adamw_m");
        assert_string_equal(arrays[1].name, "adamw_v");
        assert_true(arrays[0].size == n && arrays[1].size == n);
        check_close("m", arrays[0].data, first, n, 1e-6);
        check_close("v", arrays[1].data, second, n, 1e-6);
        assert_true(frozen[0] == 1 && frozen[1] == 2 && frozen[2] == 3);

        optimizer_forget(moves, 2, 1, 2);
        for (size_t i = 0; i < n; i++) {
            bool forgotten = i == BODY + 1 || i == BODY + 2;
            assert_true((arrays[0].data[i] == 0) == forgotten);
            assert_true((arrays[1].data[i] == 0) == forgotten);
        }
        optimizer_free(moves);
        twin_free(&value);
        twin_free(&grad);
        free(average);
        free(first);
        free(second);
        free(mean);
    }
    omp_set_num_threads(before);
}

static void pieces_of_a_tensor_give_the_same_bits(void **state) {
    (void)state;
    enum { CUT = 12345 };
    optimizer_options options = optimizer_defaults(OPTIMIZER_ADAMW);
    twin whole = twin_random(n, 0, 1, "value"), pieces = twin_random(n, 0, 1, "value"), grad = twin_random(n, 0, 1, "grad");
    const optimizer_tensor one = {"whole", 1, {n}, whole.f, grad.f, NULL, true};
    const optimizer_tensor two[2] = {{"first", 1, {CUT}, pieces.f, grad.f, NULL, true},
                                     {"second", 1, {n - CUT}, pieces.f + CUT, grad.f + CUT, NULL, true}};
    limn_error error;
    optimizer *a = optimizer_create(&options, &one, 1, &error), *b = optimizer_create(&options, two, 2, &error);
    assert_true(a != NULL && b != NULL);
    for (uint64_t step = 1; step <= STEPS; step++) {
        const optimizer_pass pass = {.learning_rate = 0.01, .step = step, .grad_scale = 0.3f};
        optimizer_step(a, &pass);
        optimizer_step(b, &pass);
    }
    assert_memory_equal(whole.f, pieces.f, n * sizeof(float));
    optimizer_free(a);
    optimizer_free(b);
    twin_free(&whole);
    twin_free(&pieces);
    twin_free(&grad);
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
                                       cmocka_unit_test(pieces_of_a_tensor_give_the_same_bits),
                                       cmocka_unit_test(clipping_brings_the_norm_down_to_the_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
