/* The training state of several ranks in one file: run alone, and by world_test.sh as several ranks, in a folder that all see.
 * Every value says where it belongs, so that the file can be compared with one that was never shared out. */
#include "tests/scratch.h"
#include "tests/train/job.h"
#include "train/shared_state.h"

enum { TENSORS = 7, FROZEN = 2 };
static const size_t SHAPES[TENSORS][2] = {{200, 300}, {1, 19}, {40, 40}, {1500, 1000}, {1, 1}, {64, 130}, {1, 40}};

typedef struct {
    parameters set;
    optimizer_tensor tensors[TENSORS];
    optimizer_options options;
    exchange *exchange;
    optimizer *optimizer;
    shared_state state;
} run;

static void begin_run(run *self, optimizer_kind kind) {
    *self = (run){.options = optimizer_defaults(kind)};
    self->options.shampoo.block_size = 64;
    self->options.adafactor.momentum = 0.9;
    double costs[TENSORS];
    for (size_t t = 0; t < TENSORS; t++)
        assert_int_not_equal(parameters_add(&self->set, PARAMETER_PLAIN, 2, SHAPES[t], &error, "tensor %zu", t), SIZE_MAX);
    assert_int_equal(parameters_allocate(&self->set, true, &error), 0);
    optimizer_tensors_of(self->tensors, &self->set);
    self->tensors[FROZEN].grad = NULL;
    for (size_t t = 0; t < TENSORS; t++) costs[t] = (double)self->set.list[t].size;
    self->exchange =
        exchange_create(all, self->tensors, TENSORS, kind == OPTIMIZER_ADAMW ? NULL : costs, PRECISION_FP32, &error);
    assert_non_null(self->exchange);
    const optimizer_tensor *owned;
    size_t count = exchange_owned(self->exchange, &owned);
    self->optimizer = optimizer_create(&self->options, owned, count, &error);
    assert_non_null(self->optimizer);
    assert_int_equal(
        shared_state_add(&self->state, all, self->exchange, &self->options, self->tensors, TENSORS, self->optimizer, &error),
        0);
}

static void end_run(run *self) {
    shared_state_free(&self->state);
    optimizer_free(self->optimizer);
    exchange_free(self->exchange);
    parameters_free(&self->set);
}

static float value_at(size_t array, size_t i) {
    return (float)(i % 100003) * 16 + (float)array + 1;
}

/* Sets or compares what this rank keeps. */
static void each_kept(run *self, bool sets, float factor) {
    for (size_t a = 0; a < self->state.count; a++) {
        const shared_array *array = &self->state.arrays[a];
        size_t kept = 0;
        for (size_t p = 0; p < array->part_count; p++) {
            const exchange_part *part = &array->parts[p];
            if (part->owner != own) continue;
            for (size_t i = 0; i < part->count; i++, kept++) {
                float value = factor * value_at(a, part->start + i);
                if (sets)
                    array->own[kept] = value;
                else if (memcmp(&array->own[kept], &value, sizeof value) != 0)
                    fail_msg("rank %zu: %s[%zu] is %g, not %g", own, array->name, part->start + i, (double)array->own[kept],
                             (double)value);
            }
        }
    }
}

static int save(run *self, const char *path) {
    state_array arrays[SHARED_STATE_MAX];
    size_t count = shared_state_arrays(&self->state, arrays);
    if (own) return shared_state_follow(&self->state, true, &error);
    state_mover mover = shared_state_mover(&self->state);
    shared_state_begin(&self->state, true);
    int status = train_state_write_pieces(path, arrays, count, NULL, 0, &mover, &error);
    return shared_state_end(&self->state, NULL) ? -1 : status;
}

static int load(run *self, const char *path) {
    state_array arrays[SHARED_STATE_MAX];
    size_t count = shared_state_arrays(&self->state, arrays);
    if (own) return shared_state_follow(&self->state, false, &error);
    state_mover mover = shared_state_mover(&self->state);
    shared_state_begin(&self->state, false);
    int status = train_state_read_pieces(path, arrays, count, NULL, 0, &mover, &error);
    return shared_state_end(&self->state, NULL) ? -1 : status;
}

/* The same arrays whole, as one rank alone writes them. */
static void write_whole(const run *self, const char *path) {
    state_array arrays[SHARED_STATE_MAX];
    size_t count = shared_state_arrays(&self->state, arrays);
    for (size_t a = 0; a < count; a++) {
        arrays[a].values = malloc(arrays[a].count * sizeof(float));
        assert_non_null(arrays[a].values);
        for (size_t i = 0; i < arrays[a].count; i++) arrays[a].values[i] = value_at(a, i);
    }
    assert_int_equal(train_state_write(path, arrays, count, NULL, 0, &error), 0);
    for (size_t a = 0; a < count; a++) free(arrays[a].values);
}

static void is_whole_in_the_file(void **state) {
    (void)state;
    const optimizer_kind kinds[] = {OPTIMIZER_ADAMW, OPTIMIZER_ADAFACTOR, OPTIMIZER_SHAMPOO};
    for (size_t k = 0; k < 3; k++) {
        run self;
        begin_run(&self, kinds[k]);
        each_kept(&self, true, 1);
        assert_int_equal(save(&self, "shared.h5"), 0);
        if (own == 0) {
            write_whole(&self, "whole.h5");
            assert_same_file("shared.h5", "whole.h5");
        }
        each_kept(&self, true, -3);
        assert_int_equal(load(&self, "whole.h5"), 0);
        each_kept(&self, false, 1);
        end_run(&self);
    }
}

/* The others are not left waiting, and the next time goes well. */
static void a_file_that_fails_ends_well(void **state) {
    (void)state;
    run self;
    begin_run(&self, OPTIMIZER_ADAMW);
    each_kept(&self, true, 1);
    assert_int_equal(save(&self, "no/folder.h5"), own ? 0 : -1);
    assert_int_equal(load(&self, "none.h5"), own ? 0 : -1);
    each_kept(&self, true, 1);
    assert_int_equal(save(&self, "shared.h5"), 0);
    each_kept(&self, true, 2);
    assert_int_equal(load(&self, "shared.h5"), 0);
    each_kept(&self, false, 1);
    end_run(&self);
}

int main(void) {
    if (job_begin()) return 1;
    char folder[] = "/tmp/limn-shared-state-XXXXXX";
    if ((own == 0 && !mkdtemp(folder)) || world_broadcast(all, 0, folder, sizeof folder, &error) || chdir(folder)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_whole_in_the_file),
        cmocka_unit_test(a_file_that_fails_ends_well),
    };
    if (job_end(cmocka_run_group_tests(tests, NULL, NULL))) return 1;
    return own == 0 && limn_remove_tree(folder, &error) ? 1 : 0;
}
