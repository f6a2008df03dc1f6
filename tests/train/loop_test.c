/* The loop with a model of a few numbers, whose saving can be slow or fail: checkpoints beside the steps, what is kept, and
 * what ends a run. */
#include "tests/scratch.h"
#include "train/checkpoint.h"
#include "train/loop.h"

#include <math.h>
#include <unistd.h>

enum { STEPS = 12, SIZE = 50 };

typedef struct {
    parameters weights;
    float moment[SIZE];
    train_task task;
    train_settings settings;
    train_run folder;
    bool without_wait;                       /* changes the weights without waiting for the checkpoint */
    useconds_t slow;                         /* how long a save takes before it reads the weights */
    uint64_t save_fails_from, save_fails_to; /* of these steps */
    uint64_t without_data;                   /* this step fails */
    uint64_t spoilt;                         /* after this step a weight is no number */
    uint64_t risen_from, risen_to;           /* of these steps the loss is a thousand times as high */
    uint64_t step;                           /* the one at work */
    double valid[STEPS + 1];
    char said[2048];
} fake;

static int fake_step(void *self, uint64_t step, limn_error *error) {
    fake *f = self;
    if (step == f->without_data) return limn_fail(error, "a shard is gone");
    f->step = step;
    for (size_t i = 0; i < SIZE; i++) f->weights.grads[i] = 0.1f * f->weights.storage[i] + limn_random_normal(1, step, i);
    float norm = (float)sqrt(sum_of_squares(f->weights.grads, SIZE));
    f->task.metrics[0].value = norm * (step >= f->risen_from && step <= f->risen_to ? 1000.0f : 1.0f);
    f->task.metrics[1].value = norm;
    if (!f->without_wait) train_before_update(&f->folder);
    if (!isfinite(norm)) return 0;
    for (size_t i = 0; i < SIZE; i++) {
        f->moment[i] = 0.9f * f->moment[i] + f->weights.grads[i];
        f->weights.storage[i] -= 0.01f * f->moment[i];
    }
    if (step == f->spoilt) f->weights.storage[SIZE - 1] = NAN;
    return 0;
}

static int fake_validate(void *self, json_t *line, limn_error *error) {
    (void)error;
    fake *f = self;
    json_object_set_new(line, "valid_loss", json_real(f->valid[f->step]));
    return 0;
}

static int fake_save(void *self, const char *directory, limn_error *error) {
    fake *f = self;
    char path[4096];
    uint64_t step = strtoull(strrchr(directory, '-') + 1, NULL, 10);
    if (limn_path_join(path, sizeof path, directory, "weights", error)) return -1;
    usleep(f->slow);
    if (limn_atomic_write(path, f->weights.storage, SIZE * sizeof(float), error)) return -1;
    if (step >= f->save_fails_from && step <= f->save_fails_to) return limn_fail(error, "%s: no space", path);
    return 0;
}

static int fake_load(void *self, const char *directory, limn_error *error) {
    fake *f = self;
    char path[4096];
    size_t size;
    if (limn_path_join(path, sizeof path, directory, "weights", error)) return -1;
    float *read = (float *)(void *)limn_file_read(path, 1 << 20, &size, error);
    if (!read) return -1;
    assert_int_equal(size, SIZE * sizeof(float));
    memcpy(f->weights.storage, read, size);
    free(read);
    return 0;
}

static fake *make_fake(void) {
    fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    const size_t first[] = {30}, second[] = {SIZE - 30};
    assert_int_equal(parameters_add(&f->weights, PARAMETER_PLAIN, 1, first, NULL, "layers.0.weight"), 0);
    assert_int_equal(parameters_add(&f->weights, PARAMETER_PLAIN, 1, second, NULL, "layers.1.weight"), 1);
    assert_int_equal(parameters_allocate(&f->weights, true, NULL), 0);
    for (size_t i = 0; i <= STEPS; i++) f->valid[i] = 5 + fabs((double)i - 6); /* the best at step 6 */
    f->settings = (train_settings){.schedule = {.learning_rate = 0.01, .decay = DECAY_NONE, .steps = STEPS},
                                   .log_every = 3,
                                   .valid_every = 2,
                                   .checkpoint_every = 4,
                                   .keep_checkpoints = 1,
                                   .keep_best = true,
                                   .max_loss_rise = 3};
    f->task = (train_task){.self = f,
                           .section = "train.fake",
                           .unit = "pairs",
                           .samples_per_step = 2,
                           .weights = &f->weights,
                           .metrics = {{.name = "train_loss"}, {.name = "grad_norm"}},
                           .metric_count = 2,
                           .state = {{"moment", SIZE, f->moment}},
                           .state_count = 1,
                           .step = fake_step,
                           .validate = fake_validate,
                           .valid_key = "valid_loss",
                           .save = fake_save,
                           .load = fake_load};
    return f;
}

static void free_fake(fake *f) {
    parameters_free(&f->weights);
    free(f);
}

/* Runs or goes on with the run in this folder; what the log says is kept. */
static int run(fake *f, const char *name, bool force, limn_error *error) {
    train_options options = {.output = scratch_path(name), .force = force};
    json_t *config = json_pack("{s:f}", "rate", f->settings.schedule.learning_rate);
    scratch_capture(2);
    int status = train_run_open(&f->folder, &options, config, &f->settings, NULL, error);
    if (status == 0) status = train_loop(&f->folder, &f->task, &f->settings, &options, error);
    train_run_close(&f->folder);
    char *said = scratch_captured(2);
    snprintf(f->said, sizeof f->said, "%s", said);
    free(said);
    json_decref(config);
    return status;
}

static void assert_runs(fake *f, const char *name) {
    limn_error error = {0};
    if (run(f, name, false, &error)) fail_msg("%s", error.message);
}

static void assert_link(const char *path, const char *target) {
    char found[256] = "";
    ssize_t length = readlink(scratch_path(path), found, sizeof found - 1);
    if (!target) {
        if (length >= 0) fail_msg("%s is there and leads to %s", path, found);
        return;
    }
    assert_string_equal(found, target);
}

static bool is_there(const char *path) {
    return limn_file_exists(scratch_path(path));
}

/* The weights after so many steps of a run that saves nothing on the way. */
static void expect_weights(float out[SIZE], size_t steps) {
    static size_t number;
    char name[64];
    fake *f = make_fake();
    f->settings.schedule.steps = steps;
    f->settings.checkpoint_every = 0;
    f->settings.keep_best = false;
    snprintf(name, sizeof name, "plain-%zu", number++);
    assert_runs(f, name);
    memcpy(out, f->weights.storage, SIZE * sizeof *out);
    free_fake(f);
}

static void assert_saved(const char *path, size_t steps) {
    float expected[SIZE];
    expect_weights(expected, steps);
    assert_file_holds(scratch_path(path), expected, sizeof expected);
}

/* What is written slowly, beside the next step, is what was there after its step. */
static void test_written_beside_the_steps(void **state) {
    (void)state;
    fake *f = make_fake();
    f->slow = 30000;
    f->settings.keep_checkpoints = 0;
    assert_runs(f, "slow");
    for (size_t step = 2; step <= STEPS; step += 2) {
        bool saved = step % 4 == 0 || step <= 6; /* due, or the best so far */
        char path[64];
        snprintf(path, sizeof path, "slow/checkpoints/%08zu/weights", step);
        assert_int_equal(is_there(path), saved);
        if (saved) assert_saved(path, step);
    }
    assert_link("slow/model", "checkpoints/00000012");
    assert_link("slow/best", "checkpoints/00000006");
    free_fake(f);
    /* Without waiting the test above would fail. */
    f = make_fake();
    f->slow = 30000;
    f->settings.keep_checkpoints = 0;
    f->without_wait = true;
    limn_error error = {0};
    f->settings.checkpoint_every = 0;
    f->settings.valid_every = 6;
    assert_int_equal(run(f, "careless", false, &error), 0);
    float expected[SIZE];
    expect_weights(expected, 6);
    char *found = limn_file_read(scratch_path("careless/checkpoints/00000006/weights"), 1 << 20, NULL, NULL);
    assert_non_null(found);
    assert_memory_not_equal(found, expected, sizeof expected);
    free(found);
    free_fake(f);
}

static void test_the_newest_and_the_best_are_kept(void **state) {
    (void)state;
    fake *f = make_fake();
    assert_runs(f, "kept");
    assert_true(is_there("kept/checkpoints/00000006") && is_there("kept/checkpoints/00000012"));
    assert_false(is_there("kept/checkpoints/00000004") || is_there("kept/checkpoints/00000008"));
    json_t *summary = limn_json_load(scratch_path("kept/summary.json"), NULL);
    assert_int_equal(json_integer_value(json_object_get(summary, "steps")), STEPS);
    assert_int_equal(json_integer_value(json_object_get(summary, "pairs")), 2 * STEPS);
    assert_int_equal(json_integer_value(json_object_get(summary, "best_step")), 6);
    assert_true(fabs(json_number_value(json_object_get(summary, "best_valid_loss")) - 5) < 1e-6);
    assert_true(fabs(json_number_value(json_object_get(summary, "valid_loss")) - 11) < 1e-6);
    assert_true(json_number_value(json_object_get(summary, "pairs_per_second")) > 0);
    json_decref(summary);
    free_fake(f);

    f = make_fake();
    f->settings.keep_best = false;
    assert_runs(f, "unkept");
    assert_false(is_there("unkept/checkpoints/00000006"));
    assert_link("unkept/best", NULL);
    free_fake(f);

    f = make_fake(); /* more is better: the first and the last are equally good, and the first stays */
    f->task.more_is_better = true;
    assert_runs(f, "more");
    assert_link("more/best", "checkpoints/00000012");
    free_fake(f);
}

static void test_a_checkpoint_that_cannot_be_written(void **state) {
    (void)state;
    fake *f = make_fake();
    f->save_fails_from = 5;
    f->save_fails_to = 9;
    assert_runs(f, "full");
    assert_contains(f->said, "NO CHECKPOINT of step 6");
    assert_contains(f->said, "NO CHECKPOINT of step 8");
    assert_contains(f->said, "no space");
    assert_saved("full/model/weights", STEPS);
    assert_link("full/best", "checkpoints/00000004"); /* of those that could be written */
    free_fake(f);

    f = make_fake();
    f->save_fails_from = 9;
    f->save_fails_to = STEPS;
    limn_error error = {0};
    assert_int_equal(run(f, "full-at-last", false, &error), -1);
    assert_contains(error.message, "no space");
    assert_link("full-at-last/model", "checkpoints/00000008");
    assert_false(is_there("full-at-last/checkpoints/.partial-00000012"));
    /* With room again, the same call ends it. */
    f->save_fails_to = 0;
    assert_runs(f, "full-at-last");
    assert_saved("full-at-last/model/weights", STEPS);
    free_fake(f);
}

static void test_a_step_without_data(void **state) {
    (void)state;
    for (int keeps = 0; keeps < 2; keeps++) {
        fake *f = make_fake();
        limn_error error = {0};
        const char *name = keeps ? "gone-but-saved" : "gone";
        char path[64];
        f->task.fails_before_change = keeps;
        f->without_data = 11;
        assert_int_equal(run(f, name, false, &error), -1);
        assert_contains(error.message, keeps ? "step 11: a shard is gone" : "a shard is gone");
        snprintf(path, sizeof path, "%s/model", name);
        assert_link(path, keeps ? "checkpoints/00000010" : "checkpoints/00000008");
        f->without_data = 0;
        assert_runs(f, name);
        snprintf(path, sizeof path, "%s/model/weights", name);
        assert_saved(path, STEPS);
        free_fake(f);
    }
    fake *f = make_fake(); /* before any step there is nothing to save */
    limn_error error = {0};
    f->task.fails_before_change = true;
    f->without_data = 1;
    assert_int_equal(run(f, "gone-at-first", false, &error), -1);
    assert_contains(error.message, "step 1: a shard is gone");
    assert_link("gone-at-first/model", NULL);
    free_fake(f);
}

static void test_what_is_no_number(void **state) {
    (void)state;
    fake *f = make_fake();
    f->spoilt = 8; /* a checkpoint is due after it */
    limn_error error = {0};
    assert_int_equal(run(f, "spoilt", false, &error), -1);
    assert_int_equal(error.exit_code, LIMN_EXIT_FAILED);
    assert_contains(error.message, "step 9: train_loss is not a number");
    assert_contains(error.message, "layers.1 went first");
    assert_contains(error.message, "checkpoints/00000006");
    assert_contains(error.message, "train.fake.learning_rate");
    assert_contains(f->said, "layers.1.weight holds what is no number");
    assert_link("spoilt/model", "checkpoints/00000006");
    assert_saved("spoilt/model/weights", 6);
    free_fake(f);
}

static void test_a_loss_that_explodes(void **state) {
    (void)state;
    fake *f = make_fake();
    f->settings.schedule.steps = 30;
    f->task.validate = NULL;
    f->risen_from = 5;
    f->risen_to = 30;
    limn_error error = {0};
    assert_int_equal(run(f, "explodes", false, &error), -1);
    assert_contains(error.message, "step 14: train_loss is ");
    assert_contains(error.message, "max_loss_rise");
    assert_contains(error.message, "the largest gradient is that of layers.");
    assert_contains(error.message, "checkpoints/00000004");
    assert_link("explodes/model", "checkpoints/00000004");
    assert_contains(f->said, "step 8: no checkpoint");
    free_fake(f);

    f = make_fake(); /* a while only */
    f->risen_from = 7;
    f->risen_to = 9;
    assert_runs(f, "rises");
    assert_false(is_there("rises/checkpoints/00000008"));
    assert_saved("rises/model/weights", STEPS);
    free_fake(f);

    f = make_fake(); /* at the end */
    f->risen_from = STEPS;
    f->risen_to = STEPS;
    assert_int_equal(run(f, "rises-at-last", false, &error), -1);
    assert_contains(error.message, "this is not saved");
    assert_link("rises-at-last/model", "checkpoints/00000008");
    free_fake(f);
}

/* What is best on a step that is not saved is not the best. */
static void test_the_best_of_what_is_saved(void **state) {
    (void)state;
    fake *f = make_fake();
    f->risen_from = f->risen_to = 6;
    assert_runs(f, "risen-best");
    assert_link("risen-best/best", "checkpoints/00000004");
    assert_true(is_there("risen-best/best/weights"));
    free_fake(f);
}

static void test_another_configuration(void **state) {
    (void)state;
    fake *f = make_fake();
    f->settings.schedule.steps = 4;
    assert_runs(f, "forced");
    f->settings.schedule.steps = STEPS;
    limn_error error = {0};
    assert_int_equal(run(f, "forced", false, &error), -1);
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
    assert_contains(error.message, "\"steps\" differs");
    assert_contains(error.message, "--force");
    if (run(f, "forced", true, &error)) fail_msg("%s", error.message);
    assert_contains(f->said, "another configuration: \"steps\" differs");
    assert_saved("forced/model/weights", STEPS);
    json_t *old = limn_json_load(scratch_path("forced/config.00000004.json"), NULL);
    json_t *now = limn_json_load(scratch_path("forced/config.json"), NULL);
    assert_int_equal(json_integer_value(json_object_get(old, "steps")), 4);
    assert_int_equal(json_integer_value(json_object_get(now, "steps")), STEPS);
    json_decref(old);
    json_decref(now);
    assert_runs(f, "forced"); /* is the run's own now */

    /* --restart removes what is the run's, and nothing else. */
    train_options options = {.output = scratch_path("forced"), .restart = true};
    json_t *config = json_object();
    scratch_write("forced/config.mine.json", "{}", 2);
    assert_int_equal(train_run_open(&f->folder, &options, config, &f->settings, NULL, &error), 0);
    train_run_close(&f->folder);
    json_decref(config);
    char left[4096];
    assert_int_equal(limn_find_one(scratch_path("forced"), "config.*", left, NULL), 1);
    assert_contains(left, "config.mine.json");
    assert_int_equal(limn_find_one(scratch_path("forced"), "events.out.*", left, NULL), 0);
    assert_false(is_there("forced/model") || is_there("forced/checkpoints/00000012"));
    free_fake(f);
}

/* Links that a kill left behind are put right. */
static void test_links_after_a_kill(void **state) {
    (void)state;
    fake *f = make_fake();
    f->settings.schedule.steps = 6;
    assert_runs(f, "killed");
    assert_int_equal(unlink(scratch_path("killed/model")), 0);
    assert_int_equal(unlink(scratch_path("killed/best")), 0);
    assert_int_equal(symlink("checkpoints/00000001", scratch_path("killed/model")), 0);
    assert_runs(f, "killed");
    assert_link("killed/model", "checkpoints/00000006");
    assert_link("killed/best", "checkpoints/00000006");
    /* A link that cannot be made is no reason to throw the run away. */
    limn_error error = {0};
    assert_int_equal(unlink(scratch_path("killed/model")), 0);
    assert_int_equal(limn_make_directories(scratch_path("killed/model"), NULL), 0);
    assert_int_equal(run(f, "killed", false, &error), -1);
    assert_contains(error.message, "cannot be made a link");
    assert_null(strstr(error.message, "--restart"));
    free_fake(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_beside_the_steps),
        cmocka_unit_test(test_the_newest_and_the_best_are_kept),
        cmocka_unit_test(test_a_checkpoint_that_cannot_be_written),
        cmocka_unit_test(test_a_step_without_data),
        cmocka_unit_test(test_what_is_no_number),
        cmocka_unit_test(test_a_loss_that_explodes),
        cmocka_unit_test(test_the_best_of_what_is_saved),
        cmocka_unit_test(test_another_configuration),
        cmocka_unit_test(test_links_after_a_kill),
    };
    limn_set_threads(1); /* so small a model is faster so */
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
