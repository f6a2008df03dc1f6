#include "gradient_check.h"

#ifdef __SANITIZE_ADDRESS__
/* The test of a model larger than memory wants malloc's NULL, not the sanitizer's report. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}
#endif

static size_t add(parameters *set, const char *name, size_t rank, const size_t *shape, limn_error *error) {
    return parameters_add(set, PARAMETER_PLAIN, rank, shape, error, "%s", name);
}

static void added_parameters_lie_in_one_block(void **state) {
    (void)state;
    parameters set = {0};
    limn_error error = {0};
    for (size_t i = 0; i < 100; i++) {
        size_t shape[2] = {i + 1, 3};
        assert_int_equal(parameters_add(&set, PARAMETER_PLAIN, 2, shape, &error, "layers.%zu.weight", i), i);
    }
    assert_int_equal(set.size, 3 * 100 * 101 / 2);
    assert_int_equal(parameters_allocate(&set, true, &error), 0);
    float *next = set.storage, *next_grad = set.grads;
    for (size_t i = 0; i < set.count; i++) {
        parameter *p = &set.list[i];
        assert_ptr_equal(p->value, next);
        assert_ptr_equal(p->mutable_value, next);
        assert_ptr_equal(p->grad, next_grad);
        assert_int_equal(p->size, 3 * (i + 1));
        assert_true(p->value[p->size - 1] == 0.0f && p->grad[p->size - 1] == 0.0f);
        next += p->size;
        next_grad += p->size;
    }
    parameter *found = parameters_find(&set, "layers.41.weight");
    assert_ptr_equal(found, &set.list[41]);
    assert_null(parameters_find(&set, "layers.100.weight"));

    for (size_t i = 0; i < set.size; i++) set.grads[i] = 1.0f;
    parameters_zero_grads(&set);
    for (size_t i = 0; i < set.size; i++) assert_true(set.grads[i] == 0.0f);
    parameters_free(&set);
    assert_null(set.list);
}

static void without_training_there_are_no_gradients(void **state) {
    (void)state;
    parameters set = {0};
    limn_error error = {0};
    size_t shape[1] = {5};
    assert_int_equal(add(&set, "bias", 1, shape, &error), 0);
    assert_int_equal(parameters_allocate(&set, false, &error), 0);
    assert_null(set.grads);
    assert_null(set.list[0].grad);
    parameters_zero_grads(&set);
    parameters_free(&set);
}

static void bad_parameters_are_refused_by_name(void **state) {
    (void)state;
    parameters set = {0};
    size_t shape[4] = {2, 3, 3, 2}, none[2] = {4, 0}, huge[4] = {SIZE_MAX / 2, 4, 1, 1}, large[1] = {SIZE_MAX / 8};
    limn_error error = {0};
    assert_int_equal(add(&set, "w", 2, shape, &error), 0);

    assert_int_equal(add(&set, "w", 2, shape, &error), SIZE_MAX);
    assert_non_null(strstr(error.message, "'w'"));
    assert_int_equal(add(&set, "empty", 2, none, &error), SIZE_MAX);
    assert_non_null(strstr(error.message, "'empty'"));
    assert_int_equal(add(&set, "huge", 2, huge, &error), SIZE_MAX);
    assert_non_null(strstr(error.message, "'huge'"));
    assert_int_equal(add(&set, "large", 1, large, &error), SIZE_MAX);
    assert_non_null(strstr(error.message, "'large'"));
    assert_int_equal(add(&set, "flat", 0, shape, &error), SIZE_MAX);
    assert_int_equal(add(&set, "deep", 5, shape, &error), SIZE_MAX);
    assert_int_equal(parameters_add(&set, PARAMETER_CONVOLUTION, 2, shape, &error, "conv"), SIZE_MAX);
    char name[256];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(add(&set, name, 1, shape, &error), SIZE_MAX);
    assert_int_equal(set.count, 1);

    assert_int_equal(parameters_allocate(&set, false, &error), 0);
    assert_int_equal(add(&set, "late", 1, shape, &error), SIZE_MAX);
    assert_non_null(strstr(error.message, "'late'"));
    parameters_free(&set);
}

static void a_model_larger_than_memory_is_an_error(void **state) {
    (void)state;
    parameters set = {0};
    limn_error error = {0};
    size_t shape[1] = {(size_t)1 << 58};
    assert_int_equal(add(&set, "w", 1, shape, &error), 0);
    assert_int_equal(parameters_allocate(&set, true, &error), -1);
    assert_true(error.message[0] != 0);
    parameters_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(added_parameters_lie_in_one_block),
        cmocka_unit_test(without_training_there_are_no_gradients),
        cmocka_unit_test(bad_parameters_are_refused_by_name),
        cmocka_unit_test(a_model_larger_than_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
