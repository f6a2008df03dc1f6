/* A training step's exchange: run alone, and by world_test.sh as several ranks. Gradients are small whole numbers, so that
 * their sums are exact in any order and in bfloat16 too. */
#include "tests/train/job.h"
#include "train/exchange.h"

enum { TENSORS = 9, FROZEN = 3 };
static const size_t SHAPES[TENSORS][2] = {{7, 3},     {1, 19}, {1200, 1000}, {50, 50}, {1, 1},
                                          {64, 2048}, {5, 5},  {300, 1000},  {1, 40}};

typedef struct {
    parameters set;
    optimizer_tensor tensors[TENSORS];
    double costs[TENSORS];
    size_t trained; /* numbers that are not frozen */
} model;

static float first_value(size_t tensor, size_t i) {
    return (float)((tensor * 31 + i * 7) % 101);
}

static float gradient_of(size_t rank, size_t tensor, size_t i) {
    return (float)((rank * 5 + tensor * 3 + i) % 11);
}

/* The first weights, and this rank's gradients. */
static void fill(model *self) {
    for (size_t t = 0; t < TENSORS; t++)
        for (size_t i = 0; i < self->set.list[t].size; i++) {
            self->set.list[t].mutable_value[i] = first_value(t, i);
            self->set.list[t].grad[i] = gradient_of(own, t, i);
        }
}

static void make_model(model *self) {
    *self = (model){0};
    for (size_t t = 0; t < TENSORS; t++)
        assert_int_not_equal(parameters_add(&self->set, PARAMETER_PLAIN, 2, SHAPES[t], &error, "tensor %zu", t), SIZE_MAX);
    assert_int_equal(parameters_allocate(&self->set, true, &error), 0);
    optimizer_tensors_of(self->tensors, &self->set);
    self->tensors[FROZEN].grad = NULL;
    for (size_t t = 0; t < TENSORS; t++) {
        self->tensors[t].decays = t % 2;
        if (t != FROZEN) self->trained += self->set.list[t].size;
        self->costs[t] = (double)self->set.list[t].size;
    }
    fill(self);
}

static float summed_gradient(size_t tensor, size_t i) {
    float sum = 0;
    for (size_t rank = 0; rank < ranks; rank++) sum += gradient_of(rank, tensor, i);
    return sum;
}

static void everything_has_one_owner(void **state) {
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        model m;
        make_model(&m);
        exchange *e = exchange_create(all, m.tensors, TENSORS, whole ? m.costs : NULL, PRECISION_FP32, &error);
        assert_non_null(e);
        const exchange_part *parts;
        size_t count = exchange_parts(e, &parts), at = 0, mine = 0, largest = 0;
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(parts[i].start, at);
            assert_true(parts[i].count > 0 && parts[i].owner < ranks);
            at += parts[i].count;
            if (parts[i].owner == own) mine += parts[i].count;
            largest = parts[i].count > largest ? parts[i].count : largest;
        }
        assert_int_equal(at, m.trained);
        const optimizer_tensor *owned;
        size_t owned_count = exchange_owned(e, &owned), owned_size = 0;
        for (size_t i = 0; i < owned_count; i++) {
            owned_size += optimizer_tensor_size(&owned[i]);
            assert_int_equal(owned[i].rank, whole || ranks == 1 ? 2 : 1);
            assert_int_equal(owned[i].grad - m.set.grads, owned[i].value - m.set.storage);
            size_t tensor = 0; /* decays as the tensor does that it is a piece of */
            while (m.set.list[tensor].value + m.set.list[tensor].size <= owned[i].value) tensor++;
            assert_int_equal(owned[i].decays, tensor % 2);
            assert_string_equal(owned[i].name, m.set.list[tensor].name);
        }
        assert_int_equal(owned_size, mine);
        double sum = (double)mine;
        assert_int_equal(world_sum(all, &sum, 1, &error), 0);
        assert_true((size_t)sum == m.trained);
        if (!whole)
            assert_true(mine <= m.trained / ranks + 16 * TENSORS * ranks);
        else
            assert_true(mine <= m.trained / ranks + largest); /* shared out by cost */
        exchange_free(e);
        parameters_free(&m.set);
    }
}

static void step(model *m, exchange *e) {
    exchange_begin(e);
    /* As a backward ends: the last tensors first, several at once; the first is never announced. */
    exchange_ready(e, 7, 2);
    exchange_ready(e, 5, 2);
    exchange_ready(e, 2, 3);
    exchange_ready(e, 1, 1);
    assert_int_equal(exchange_sum(e, &error), 0);
    const optimizer_tensor *owned;
    size_t count = exchange_owned(e, &owned);
    for (size_t n = 0; n < count; n++)
        for (size_t i = 0; i < optimizer_tensor_size(&owned[n]); i++) owned[n].value[i] -= owned[n].grad[i];
    assert_int_equal(exchange_share(e, &error), 0);
    for (size_t t = 0; t < TENSORS; t++)
        for (size_t i = 0; i < m->set.list[t].size; i++) {
            float expected = first_value(t, i) - (t == FROZEN ? 0 : summed_gradient(t, i)), found = m->set.list[t].value[i];
            if (found < expected || found > expected)
                fail_msg("rank %zu: %s[%zu] is %g, not %g", own, m->set.list[t].name, i, (double)found, (double)expected);
        }
}

static void a_step_moves_all_weights_everywhere(void **state) {
    (void)state;
    for (int whole = 0; whole < 2; whole++)
        for (int halves = 0; halves < 2; halves++) {
            model m;
            make_model(&m);
            exchange *e = exchange_create(all, m.tensors, TENSORS, whole ? m.costs : NULL,
                                          halves ? PRECISION_BF16 : PRECISION_FP32, &error);
            assert_non_null(e);
            step(&m, e);
            /* And again with the same exchange. */
            fill(&m);
            step(&m, e);
            exchange_free(e);
            parameters_free(&m.set);
        }
}

static void all_begin_with_rank_0s_weights(void **state) {
    (void)state;
    model m;
    make_model(&m);
    exchange *e = exchange_create(all, m.tensors, TENSORS, NULL, PRECISION_FP32, &error);
    assert_non_null(e);
    for (size_t i = 0; own > 0 && i < m.set.list[2].size; i++) m.set.list[2].mutable_value[i] = -1;
    assert_int_equal(exchange_spread(e, &error), 0);
    for (size_t i = 0; i < m.set.list[2].size; i++) assert_true(m.set.list[2].value[i] >= 0);
    exchange_free(e);
    parameters_free(&m.set);
}

static void nothing_to_train_is_no_fault(void **state) {
    (void)state;
    model m;
    make_model(&m);
    exchange *e = exchange_create(all, m.tensors + FROZEN, 1, NULL, PRECISION_FP32, &error);
    assert_non_null(e);
    const optimizer_tensor *owned;
    assert_int_equal(exchange_owned(e, &owned), 0);
    exchange_begin(e);
    exchange_ready(e, 0, 1);
    assert_int_equal(exchange_sum(e, &error), 0);
    assert_int_equal(exchange_share(e, &error), 0);
    exchange_free(e);
    parameters_free(&m.set);
}

int main(void) {
    if (job_begin()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_has_one_owner),
        cmocka_unit_test(a_step_moves_all_weights_everywhere),
        cmocka_unit_test(all_begin_with_rank_0s_weights),
        cmocka_unit_test(nothing_to_train_is_no_fault),
    };
    return job_end(cmocka_run_group_tests(tests, NULL, NULL));
}
