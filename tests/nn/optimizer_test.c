/* What all optimizers have in common: what they take, what they refuse, and that their steps are repeatable. */
#include "tests/nn/gradient_check.h"
#include "tests/scratch.h"

#include <omp.h>

enum { TENSORS = 5, SIZE = 70 * 50 + 3 * 3 * 40 * 30 + 1 + 33 + 17000 };

typedef struct {
    twin value, grad;
    float *average;
    optimizer_tensor tensors[TENSORS];
} world;

static void begin(world *w) {
    static const optimizer_tensor shapes[TENSORS] = {{.name = "matrix", .rank = 2, .shape = {70, 50}},
                                                     {.name = "convolution", .rank = 4, .shape = {40, 3, 3, 30}},
                                                     {.name = "scalar"},
                                                     {.name = "bias", .rank = 1, .shape = {33}},
                                                     {.name = "long", .rank = 2, .shape = {8500, 2}}};
    *w = (world){twin_random(SIZE, 0, 1, "value"), twin_random(SIZE, 0.1, 1, "grad"), floats_filled(SIZE, 0), {{0}}};
    memcpy(w->tensors, shapes, sizeof shapes);
    size_t offset = 0;
    for (size_t i = 0; i < TENSORS; i++) {
        optimizer_tensor *t = &w->tensors[i];
        t->value = w->value.f + offset;
        t->grad = w->grad.f + offset;
        t->average = w->average + offset;
        t->decays = i != 3;
        offset += optimizer_tensor_size(t);
    }
    assert_int_equal(offset, SIZE);
}

static void end(world *w) {
    twin_free(&w->value);
    twin_free(&w->grad);
    free(w->average);
}

static optimizer_options small_options(optimizer_kind kind) {
    optimizer_options options = optimizer_defaults(kind);
    options.weight_decay = 0.05;
    options.adafactor.min_dim_size_to_factor = 20;
    options.adafactor.momentum = 0.5;
    options.shampoo.block_size = 16;
    options.shampoo.start_preconditioning_step = 2;
    options.shampoo.preconditioning_compute_steps = 2;
    options.shampoo.merge_small_dims_block_size = 64;
    return options;
}

/* Runs `steps` steps from the beginning, by so many threads. */
static optimizer *run_steps(world *w, optimizer_kind kind, int threads, uint64_t steps, double *norms) {
    optimizer_options options = small_options(kind);
    limn_error error;
    begin(w);
    omp_set_num_threads(threads);
    optimizer *moves = optimizer_create(&options, w->tensors, TENSORS, &error);
    assert_non_null(moves);
    for (uint64_t step = 1; step <= steps; step++) optimizer_step(moves, &(optimizer_pass){0.01, step, 0.7f, 0.9, norms});
    return moves;
}

static const optimizer_kind kinds[] = {OPTIMIZER_ADAMW, OPTIMIZER_ADAFACTOR, OPTIMIZER_SHAMPOO};

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    int before = omp_get_max_threads();
    for (size_t k = 0; k < 3; k++) {
        world one, three;
        double norms[TENSORS], others[TENSORS];
        optimizer *a = run_steps(&one, kinds[k], 1, 5, norms), *b = run_steps(&three, kinds[k], 3, 5, others);
        assert_memory_equal(one.value.f, three.value.f, SIZE * sizeof(float));
        assert_memory_equal(one.average, three.average, SIZE * sizeof(float));
        assert_memory_equal(norms, others, sizeof norms);
        const optimizer_array *from, *to;
        size_t count = optimizer_arrays(a, &from);
        assert_int_equal(optimizer_arrays(b, &to), count);
        for (size_t i = 0; i < count; i++) {
            assert_true(from[i].size == to[i].size && from[i].size > 0);
            assert_memory_equal(from[i].data, to[i].data, from[i].size * sizeof(float));
        }
        optimizer_free(a);
        optimizer_free(b);
        end(&one);
        end(&three);
    }
    omp_set_num_threads(before);
}

/* A checkpoint keeps values and arrays, nothing else. */
static void arrays_are_all_that_a_step_needs(void **state) {
    (void)state;
    int threads = omp_get_max_threads();
    for (size_t k = 0; k < 3; k++) {
        world through, again;
        optimizer *a = run_steps(&through, kinds[k], threads, 6, NULL), *b = run_steps(&again, kinds[k], threads, 3, NULL);
        optimizer_options options = small_options(kinds[k]);
        limn_error error;
        optimizer *c = optimizer_create(&options, again.tensors, TENSORS, &error);
        const optimizer_array *from, *to;
        size_t count = optimizer_arrays(b, &from);
        assert_int_equal(optimizer_arrays(c, &to), count);
        for (size_t i = 0; i < count; i++) {
            assert_string_equal(from[i].name, to[i].name);
            memcpy(to[i].data, from[i].data, from[i].size * sizeof(float));
        }
        for (uint64_t step = 4; step <= 6; step++) optimizer_step(c, &(optimizer_pass){0.01, step, 0.7f, 0.9, NULL});
        assert_memory_equal(through.value.f, again.value.f, SIZE * sizeof(float));
        assert_memory_equal(through.average, again.average, SIZE * sizeof(float));
        optimizer_free(a);
        optimizer_free(b);
        optimizer_free(c);
        end(&through);
        end(&again);
    }
}

static void norms_are_those_of_the_changes(void **state) {
    (void)state;
    int threads = omp_get_max_threads();
    for (size_t k = 0; k < 3; k++) {
        world w, last;
        double norms[TENSORS];
        optimizer *a = run_steps(&w, kinds[k], threads, 3, NULL), *b = run_steps(&last, kinds[k], threads, 4, norms);
        size_t offset = 0;
        for (size_t i = 0; i < TENSORS; i++) {
            size_t size = optimizer_tensor_size(&w.tensors[i]);
            double moved = 0;
            for (size_t e = offset; e < offset + size; e++)
                moved += ((double)last.value.f[e] - (double)w.value.f[e]) * ((double)last.value.f[e] - (double)w.value.f[e]);
            assert_true(moved > 0 && fabs(norms[i] / sqrt(moved) - 1) < 1e-3);
            offset += size;
        }
        optimizer_free(a);
        optimizer_free(b);
        end(&w);
        end(&last);
    }
}

static void frozen_tensors_keep_nothing(void **state) {
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        world w, without;
        optimizer_options options = small_options(kinds[k]);
        limn_error error;
        double norms[TENSORS];
        begin(&w);
        begin(&without);
        w.tensors[1].grad = NULL;
        memmove(without.tensors + 1, without.tensors + 2, 3 * sizeof *without.tensors);
        optimizer *a = optimizer_create(&options, w.tensors, TENSORS, &error);
        optimizer *b = optimizer_create(&options, without.tensors, TENSORS - 1, &error);
        for (uint64_t step = 1; step <= 4; step++) {
            optimizer_step(a, &(optimizer_pass){0.01, step, 1, 0.9, norms});
            optimizer_step(b, &(optimizer_pass){0.01, step, 1, 0.9, NULL});
        }
        assert_memory_equal(w.value.f, without.value.f, SIZE * sizeof(float));
        assert_true(norms[1] == 0 && norms[2] > 0);
        optimizer_forget(a, 1, 0, 10); /* nothing to forget */
        const optimizer_array *from, *to;
        size_t count = optimizer_arrays(a, &from);
        assert_int_equal(optimizer_arrays(b, &to), count);
        for (size_t i = 0; i < count; i++) assert_int_equal(from[i].size, to[i].size);
        optimizer_free(a);
        optimizer_free(b);
        end(&w);
        end(&without);
    }
}

static void bytes_are_counted_without_taking_them(void **state) {
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        world w;
        optimizer_options options = small_options(kinds[k]);
        limn_error error;
        size_t kept, scratch, sum = 0;
        begin(&w);
        assert_int_equal(optimizer_bytes(&options, w.tensors, TENSORS, &kept, &scratch, &error), 0);
        optimizer *moves = optimizer_create(&options, w.tensors, TENSORS, &error);
        const optimizer_array *arrays;
        size_t count = optimizer_arrays(moves, &arrays);
        for (size_t i = 0; i < count; i++) sum += arrays[i].size * sizeof(float);
        assert_int_equal(kept, sum);
        assert_true(scratch > 0);
        optimizer_free(moves);
        end(&w);
    }
    /* Ten thousand million weights, which nobody has here. */
    float any = 0;
    optimizer_tensor large = {.name = "large", .rank = 2, .shape = {100000, 100000}, .value = &any, .grad = &any};
    optimizer_options options = optimizer_defaults(OPTIMIZER_ADAMW);
    limn_error error;
    size_t kept, scratch;
    assert_int_equal(optimizer_bytes(&options, &large, 1, &kept, &scratch, &error), 0);
    assert_true(kept == 80000000000u);
}

static void refused(const optimizer_options *options, const optimizer_tensor *tensor, const char *what) {
    limn_error error = {0};
    size_t kept, scratch;
    assert_null(optimizer_create(options, tensor, 1, &error));
    assert_contains(error.message, what);
    error = (limn_error){0};
    assert_int_equal(optimizer_bytes(options, tensor, 1, &kept, &scratch, &error), -1);
    assert_contains(error.message, what);
}

static void what_cannot_be_is_refused_by_name(void **state) {
    (void)state;
    float any = 0;
    const optimizer_tensor fine = {.name = "fine", .rank = 1, .shape = {1}, .value = &any, .grad = &any};
    optimizer_options options = optimizer_defaults(OPTIMIZER_ADAMW);
    optimizer_tensor tensor = fine;
    tensor.rank = 5;
    refused(&options, &tensor, "rank 5");
    tensor = (optimizer_tensor){.name = "none", .rank = 2, .shape = {3, 0}, .value = &any, .grad = &any};
    refused(&options, &tensor, "size 0 in dimension 1");
    tensor = (optimizer_tensor){.name = "vast", .rank = 2, .shape = {SIZE_MAX / 2, 3}, .value = &any, .grad = &any};
    refused(&options, &tensor, "vast");
    tensor = (optimizer_tensor){.name = "vast", .rank = 1, .shape = {SIZE_MAX / 8}, .value = &any, .grad = &any};
    refused(&options, &tensor, "too large to address");
    options.beta2 = 1;
    refused(&options, &fine, "beta2");
    options = optimizer_defaults(OPTIMIZER_SHAMPOO);
    options.shampoo.preconditioning_compute_steps = 0;
    refused(&options, &fine, "preconditioning_compute_steps");
    options = optimizer_defaults(OPTIMIZER_SHAMPOO);
    options.shampoo.block_size = options.shampoo.skip_preconditioning_dim_size_gt = 100000;
    options.shampoo.merge_small_dims_block_size = 100000;
    tensor = (optimizer_tensor){.name = "long", .rank = 1, .shape = {40000}, .value = &any, .grad = &any};
    refused(&options, &tensor, "block_size");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_change_a_bit),           cmocka_unit_test(arrays_are_all_that_a_step_needs),
        cmocka_unit_test(norms_are_those_of_the_changes),        cmocka_unit_test(frozen_tensors_keep_nothing),
        cmocka_unit_test(bytes_are_counted_without_taking_them), cmocka_unit_test(what_cannot_be_is_refused_by_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
