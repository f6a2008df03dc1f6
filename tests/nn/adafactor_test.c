/* Adafactor against the paper's formulas in double precision, element by element, for every place the two factored axes can
 * have; golden-optimizers compares with optax itself. */
#include "gradient_check.h"

enum { MOST = 4 };

typedef struct {
    size_t rank, shape[MOST];
    int row_axis, column_axis; /* the factored ones; −1: none */
} subject;

static const subject subjects[] = {
    {2, {30, 17}, 1, 0},  {2, {17, 30}, 0, 1},       {2, {7, 300}, -1, -1},      {1, {50}, -1, -1},
    {0, {0}, -1, -1},     {3, {3, 12, 20}, 1, 2},    {3, {20, 12, 3}, 1, 0},     {3, {12, 3, 20}, 0, 2},
    {3, {9, 9, 9}, 1, 2}, {4, {20, 3, 3, 12}, 3, 0}, {4, {12, 2, 20, 5}, 0, 2},  {4, {3, 12, 20, 2}, 1, 2},
    {2, {9000, 8}, 1, 0}, {2, {8, 9000}, 0, 1},      {3, {90, 100, 85}, 0, 1}, {3, {1, 40, 1}, -1, -1},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

static size_t size_of(const subject *s) {
    size_t size = 1;
    for (size_t i = 0; i < s->rank; i++) size *= s->shape[i];
    return size;
}

/* The index of element i without the place on one axis, counted in full-sized steps: elements that share it share a mean. */
static size_t without_axis(const subject *s, size_t i, int axis) {
    size_t stride = 1;
    for (size_t k = s->rank; k-- > (size_t)axis + 1;) stride *= s->shape[k];
    return i - i / stride % s->shape[axis] * stride;
}

typedef struct {
    double *rows, *columns, *v, *m; /* all (size), means where without_axis points */
} moments;

static const double WEIGHT_DECAY = 0.01, RATE = 0.1, SCALE = 0.5, CLIPPING = 0.8;

static void plain_step(const subject *s, double *value, const double *grad, moments *k, uint64_t step, double momentum) {
    size_t n = size_of(s);
    double decay = 1 - pow((double)step, -0.8), changes = 0, values = 0;
    double *change = doubles_zeroed(n), *row_mean = doubles_zeroed(n);
    if (s->row_axis >= 0) {
        for (size_t i = 0; i < n; i++) { /* decayed once, where the mean lies */
            if (without_axis(s, i, s->column_axis) == i) k->rows[i] *= decay;
            if (without_axis(s, i, s->row_axis) == i) k->columns[i] *= decay;
        }
        for (size_t i = 0; i < n; i++) {
            double square = grad[i] * SCALE * grad[i] * SCALE + 1e-30;
            k->rows[without_axis(s, i, s->column_axis)] += (1 - decay) * square / (double)s->shape[s->column_axis];
            k->columns[without_axis(s, i, s->row_axis)] += (1 - decay) * square / (double)s->shape[s->row_axis];
        }
        for (size_t i = 0; i < n; i++)
            if (without_axis(s, i, s->column_axis) == i)
                row_mean[without_axis(s, i, s->row_axis)] += k->rows[i] / (double)s->shape[s->row_axis];
    }
    for (size_t i = 0; i < n; i++) {
        double g = grad[i] * SCALE, second;
        if (s->row_axis < 0)
            second = k->v[i] = decay * k->v[i] + (1 - decay) * (g * g + 1e-30);
        else {
            size_t row = without_axis(s, i, s->column_axis);
            second = k->rows[row] / row_mean[without_axis(s, row, s->row_axis)] * k->columns[without_axis(s, i, s->row_axis)];
        }
        change[i] = g / sqrt(second);
        changes += change[i] * change[i];
        values += value[i] * value[i];
    }
    double scale = RATE / fmax(1, sqrt(changes / (double)n) / CLIPPING) * fmax(sqrt(values / (double)n), 1e-3);
    for (size_t i = 0; i < n; i++) {
        k->m[i] = momentum * k->m[i] + (1 - momentum) * scale * change[i];
        value[i] -= k->m[i] + WEIGHT_DECAY * value[i];
    }
    free(change);
    free(row_mean);
}

static void compare(double momentum) {
    for (size_t k = 0; k < SUBJECTS; k++) {
        const subject *s = &subjects[k];
        size_t n = size_of(s);
        char name[64];
        twin value = twin_random(n, 0, k == 3 ? 1e-5 : 1, "value");
        twin grad = twin_random(n, 0, 1, "grad");
        moments own = {doubles_zeroed(n), doubles_zeroed(n), doubles_zeroed(n), doubles_zeroed(n)};
        optimizer_options options = optimizer_defaults(OPTIMIZER_ADAFACTOR);
        options.weight_decay = WEIGHT_DECAY;
        options.adafactor.min_dim_size_to_factor = 8;
        options.adafactor.clipping_threshold = CLIPPING;
        options.adafactor.momentum = momentum;
        optimizer_tensor tensor = {.name = "subject", .rank = s->rank, .value = value.f, .grad = grad.f, .decays = true};
        memcpy(tensor.shape, s->shape, sizeof tensor.shape);
        limn_error error;
        optimizer *moves = optimizer_create(&options, &tensor, 1, &error);
        assert_non_null(moves);
        for (uint64_t step = 1; step <= 4; step++) {
            snprintf(name, sizeof name, "grad %d", (int)step);
            twin drawn = twin_random(n, 0.1, 1, name);
            memcpy(grad.f, drawn.f, n * sizeof(float));
            optimizer_step(moves, &(optimizer_pass){.learning_rate = RATE, .step = step, .grad_scale = (float)SCALE});
            plain_step(s, value.d, drawn.d, &own, step, momentum);
            twin_free(&drawn);
        }
        snprintf(name, sizeof name, "subject %zu, momentum %g", k, momentum);
        check_close(name, value.f, value.d, n, 2e-6);
        optimizer_free(moves);
        twin_free(&value);
        twin_free(&grad);
        free(own.rows);
        free(own.columns);
        free(own.v);
        free(own.m);
    }
}

static void steps_follow_the_paper(void **state) {
    (void)state;
    compare(0);
}

static void momentum_is_a_moving_average(void **state) {
    (void)state;
    compare(0.7);
}

/* Rows and columns in place of a number for each element. */
static void factored_moments_are_small(void **state) {
    (void)state;
    float *any = floats_filled(1000 * 500, 1);
    const optimizer_tensor tensor = {"large", 2, {1000, 500}, any, any, NULL, false};
    optimizer_options options = optimizer_defaults(OPTIMIZER_ADAFACTOR);
    limn_error error;
    optimizer *moves = optimizer_create(&options, &tensor, 1, &error);
    const optimizer_array *arrays;
    assert_int_equal(optimizer_arrays(moves, &arrays), 2);
    assert_int_equal(arrays[0].size, 1000); /* of each row */
    assert_int_equal(arrays[1].size, 500);
    optimizer_free(moves);
    options.adafactor.min_dim_size_to_factor = 501;
    moves = optimizer_create(&options, &tensor, 1, &error);
    assert_int_equal(optimizer_arrays(moves, &arrays), 1);
    assert_int_equal(arrays[0].size, 1000 * 500);
    optimizer_step(moves, &(optimizer_pass){.learning_rate = 0.1, .step = 1, .grad_scale = 1});
    optimizer_forget(moves, 0, 3, 2);
    for (size_t i = 0; i < 10; i++) assert_true((arrays[0].data[i] == 0) == (i == 3 || i == 4));
    optimizer_free(moves);
    free(any);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_follow_the_paper), cmocka_unit_test(momentum_is_a_moving_average),
                                       cmocka_unit_test(factored_moments_are_small)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
