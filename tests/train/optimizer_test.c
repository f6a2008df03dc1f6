/* What a configuration can say of the optimizer, and what a training does with it. */
#include "tests/scratch.h"
#include "train/optimizer.h"

#include <jansson.h>
#include <math.h>

static optimizer_settings trained(void) {
    optimizer_settings settings = {.options = optimizer_defaults(OPTIMIZER_ADAMW)};
    settings.options.weight_decay = 0.01;
    return settings;
}

static int read_text(optimizer_settings *settings, const char *text, limn_error *error) {
    const char *keys[OPTIMIZER_KEYS_MAX + 1];
    json_t *section = json_loads(text, 0, NULL);
    assert_non_null(section);
    int status = optimizer_settings_read(settings, section, "file", keys, error);
    /* Whatever was read is a key that is known. */
    if (status == 0) assert_int_equal(limn_json_check_keys(section, "file", keys, error), 0);
    json_decref(section);
    return status;
}

static void refused(const char *text, const char *what) {
    optimizer_settings settings = trained();
    limn_error error = {0};
    assert_int_equal(read_text(&settings, text, &error), -1);
    assert_contains(error.message, what);
}

static void what_is_not_said_stays(void **state) {
    (void)state;
    optimizer_settings settings = trained();
    limn_error error;
    assert_int_equal(read_text(&settings, "{}", &error), 0);
    assert_true(settings.options.kind == OPTIMIZER_ADAMW && fabs(settings.options.weight_decay - 0.01) < 1e-12);
    assert_true(settings.exclude == EXCLUDE_NONE && settings.ema_decay == 0);
    /* Another optimizer than the training's own has its own defaults: those of DALL·E Mini's script. */
    assert_int_equal(read_text(&settings, "{\"optimizer\": \"shampoo\"}", &error), 0);
    const shampoo_options *s = &settings.options.shampoo;
    assert_true(settings.options.kind == OPTIMIZER_SHAMPOO && settings.options.weight_decay == 0);
    assert_true(s->block_size == 1024 && s->graft == GRAFT_RMSPROP_NORMALIZED && s->start_preconditioning_step == 101);
    assert_true(s->preconditioning_compute_steps == 10 && s->moving_average_for_momentum && !s->nesterov);
}

static void every_key_is_read(void **state) {
    (void)state;
    optimizer_settings settings = trained();
    limn_error error;
    assert_int_equal(
        read_text(&settings,
                  "{\"optimizer\": \"adamw\", \"beta1\": 0.5, \"beta2\": 0.6, \"epsilon\": 1e-3, \"weight_decay\": 0.2,"
                  " \"weight_decay_exclude\": \"norms\", \"ema_decay\": 0.99}",
                  &error),
        0);
    assert_true(fabs(settings.options.beta1 - 0.5) < 1e-12 && fabs(settings.options.beta2 - 0.6) < 1e-12);
    assert_true(fabs(settings.options.epsilon - 1e-3) < 1e-12 && fabs(settings.options.weight_decay - 0.2) < 1e-12);
    assert_true(settings.exclude == EXCLUDE_NORMS && fabs(settings.ema_decay - 0.99) < 1e-12);

    settings = trained();
    assert_int_equal(read_text(&settings,
                               "{\"optimizer\": \"adafactor\", \"min_dim_size_to_factor\": 7, \"second_moment_decay\": 0.7,"
                               " \"decay_offset\": 5, \"multiply_by_parameter_scale\": false, \"clipping_threshold\": 2,"
                               " \"momentum\": 0.3, \"weight_decay_exclude\": \"norms_and_embeddings\"}",
                               &error),
                     0);
    const adafactor_options *a = &settings.options.adafactor;
    assert_true(a->min_dim_size_to_factor == 7 && fabs(a->decay_rate - 0.7) < 1e-12 && a->decay_offset == 5);
    assert_true(!a->multiply_by_parameter_scale && fabs(a->clipping_threshold - 2) < 1e-12 && fabs(a->momentum - 0.3) < 1e-12);
    assert_true(settings.exclude == EXCLUDE_NORMS_AND_EMBEDDINGS);

    settings = trained();
    assert_int_equal(
        read_text(&settings,
                  "{\"optimizer\": \"shampoo\", \"beta1\": 0.1, \"beta2\": 0.2, \"block_size\": 33, \"graft_type\": \"sqrt_n\","
                  " \"diagonal_epsilon\": 1e-3, \"matrix_epsilon\": 1e-4, \"inverse_failure_threshold\": 0.5,"
                  " \"preconditioning_compute_steps\": 200, \"statistics_compute_steps\": 3,"
                  " \"best_effort_shape_interpretation\": false, \"merge_small_dims_block_size\": 77,"
                  " \"skip_preconditioning_dim_size_gt\": 88, \"moving_average_for_momentum\": false,"
                  " \"nesterov\": true}",
                  &error),
        0);
    const shampoo_options *s = &settings.options.shampoo;
    assert_true(s->block_size == 33 && s->graft == GRAFT_SQRT_N && fabs(s->diagonal_epsilon - 1e-3) < 1e-12);
    assert_true(fabs(s->matrix_epsilon - 1e-4) < 1e-12 && fabs(s->inverse_failure_threshold - 0.5) < 1e-12);
    assert_true(s->preconditioning_compute_steps == 200 && s->statistics_compute_steps == 3 &&
                s->start_preconditioning_step == 201);
    assert_true(!s->best_effort_shape_interpretation && s->merge_small_dims_block_size == 77);
    assert_true(s->skip_preconditioning_dim_size_gt == 88 && !s->moving_average_for_momentum && s->nesterov);
    assert_true(fabs(settings.options.beta1 - 0.1) < 1e-12 && fabs(settings.options.beta2 - 0.2) < 1e-12);
    static const char *const grafts[] = {"sgd", "adagrad", "rmsprop", "rmsprop_normalized", "sqrt_n", "adagrad_normalized"};
    for (int i = 0; i < 6; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"optimizer\": \"shampoo\", \"graft_type\": \"%s\", \"start_preconditioning_step\": %d}",
                 grafts[i], i);
        assert_int_equal(read_text(&settings, text, &error), 0);
        assert_true((int)settings.options.shampoo.graft == i &&
                    settings.options.shampoo.start_preconditioning_step == (uint64_t)i);
    }
}

static void wrong_settings_are_named(void **state) {
    (void)state;
    refused("{\"optimizer\": \"sgd\"}", "adamw|adafactor|shampoo");
    refused("{\"weight_decay_exclude\": \"all\"}", "none|norms|norms_and_embeddings");
    refused("{\"ema_decay\": 1}", "ema_decay");
    refused("{\"block_size\": 8}", "block_size is a setting of the optimizer shampoo, but this one is adamw");
    refused("{\"optimizer\": \"adafactor\", \"beta1\": 0.5}", "beta1 is a setting of the optimizer adamw");
    refused("{\"optimizer\": \"shampoo\", \"epsilon\": 1e-3}", "epsilon is a setting of the optimizer adamw");
    refused("{\"optimizer\": \"shampoo\", \"preconditioning_compute_steps\": 0}", "preconditioning_compute_steps");
    refused("{\"optimizer\": \"shampoo\", \"graft_type\": \"adam\"}", "rmsprop_normalized");
}

static void exponential_decay_needs_its_numbers(void **state) {
    (void)state;
    learning_rate_schedule schedule = {0};
    limn_error error = {0};
    json_t *section = json_loads("{\"decay\": \"exponential\", \"decay_rate\": 0.5}", 0, NULL);
    assert_int_equal(learning_rate_read(&schedule, section, "file", &error), -1);
    assert_contains(error.message, "transition_steps");
    json_object_set_new(section, "transition_steps", json_integer(30));
    json_object_set_new(section, "offset", json_integer(4));
    json_object_set_new(section, "staircase", json_true());
    assert_int_equal(learning_rate_read(&schedule, section, "file", &error), 0);
    assert_true(schedule.decay == DECAY_EXPONENTIAL && schedule.transition_steps == 30 && schedule.offset == 4 &&
                schedule.staircase);
    json_decref(section);
}

/* ---------------------------------------------------------------- the optimizer */

enum { MATRIX, BIAS, TOKENS, POSITIONS, CODES, COUNT };

static void make_weights(parameters *set) {
    limn_error error;
    const size_t two[] = {6, 4}, one[] = {5};
    *set = (parameters){0};
    parameters_add(set, PARAMETER_PLAIN, 2, two, &error, "model.q_proj.weight");
    parameters_add(set, PARAMETER_PLAIN, 1, one, &error, "model.layer_norm.bias");
    parameters_add(set, PARAMETER_PLAIN, 2, two, &error, "model.encoder.embed_tokens.weight");
    parameters_add(set, PARAMETER_PLAIN, 2, two, &error, "model.encoder.embed_positions.weight");
    parameters_add(set, PARAMETER_PLAIN, 2, two, &error, "quantize.embedding.weight");
    assert_int_equal(parameters_allocate(set, true, &error), 0);
    for (size_t i = 0; i < set->size; i++) {
        set->storage[i] = 1;
        set->grads[i] = (float)i - 20;
    }
}

static void decay_leaves_out_what_it_is_told_to(void **state) {
    (void)state;
    static const bool decays[][COUNT] = {
        {true, true, true, true, true}, {true, false, true, true, true}, {true, false, false, false, false}};
    for (int exclude = EXCLUDE_NONE; exclude <= EXCLUDE_NORMS_AND_EMBEDDINGS; exclude++) {
        parameters set;
        make_weights(&set);
        memset(set.grads, 0, set.size * sizeof *set.grads);
        optimizer_settings settings = trained();
        settings.exclude = (decay_exclusion)exclude;
        train_optimizer own = {0};
        limn_error error;
        assert_int_equal(train_optimizer_create(&own, &set, &settings, NULL, NULL, PRECISION_FP32, &error), 0);
        const learning_rate_schedule schedule = {.learning_rate = 0.1, .steps = 10};
        assert_int_equal(train_optimizer_step(&own, &schedule, 0, 1, 1, NULL, &error), 0);
        for (size_t i = 0; i < COUNT; i++) {
            assert_true(train_decays(&set.list[i], (decay_exclusion)exclude) == decays[exclude][i]);
            assert_true((set.list[i].value[0] < 1) == decays[exclude][i]);
        }
        train_optimizer_free(&own);
        parameters_free(&set);
    }
}

static void average_follows_the_weights_and_is_kept(void **state) {
    (void)state;
    parameters set;
    make_weights(&set);
    optimizer_settings settings = trained();
    settings.ema_decay = 0.5;
    const bool frozen[COUNT] = {[TOKENS] = true};
    train_optimizer own = {0};
    limn_error error;
    assert_int_equal(train_optimizer_create(&own, &set, &settings, frozen, NULL, PRECISION_FP32, &error), 0);
    const learning_rate_schedule schedule = {.learning_rate = 0.1, .steps = 20};
    double norms[COUNT], expected = 1;
    for (uint64_t step = 1; step <= 12; step++) {
        assert_int_equal(train_optimizer_step(&own, &schedule, 1, 10, step, norms, &error), 0);
        /* (1 + step)/(10 + step) until that is more than ema_decay. */
        double decay = fmin(0.5, (1 + (double)step) / (10 + (double)step));
        expected = decay * expected + (1 - decay) * (double)set.storage[3];
        assert_true(norms[MATRIX] > 0 && norms[TOKENS] == 0);
    }
    float trained_value = set.storage[3];
    assert_true(fabs((double)own.ema[3] - expected) < 1e-6 && fabs(expected - (double)trained_value) > 1e-3);
    assert_true(set.list[TOKENS].value[0] == 1);

    state_array arrays[TRAIN_OPTIMIZER_ARRAYS];
    assert_int_equal(train_optimizer_state(&own, "other_", arrays), 3);
    assert_string_equal(arrays[0].name, "other_adamw_m");
    assert_string_equal(arrays[1].name, "other_adamw_v");
    assert_string_equal(arrays[2].name, "other_ema");
    assert_true(arrays[0].count == set.size - 24 && arrays[2].count == set.size && arrays[2].values == own.ema);

    float average = own.ema[3];
    assert_int_equal(train_optimizer_exchange(&own, &error), 0);
    assert_true(set.storage[3] == average && own.ema[3] == trained_value && set.list[TOKENS].value[0] == 1);
    assert_int_equal(train_optimizer_exchange(&own, &error), 0);
    assert_true(set.storage[3] == trained_value && own.ema[3] == average);
    train_optimizer_free(&own);
    parameters_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_said_stays),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(wrong_settings_are_named),
        cmocka_unit_test(exponential_decay_needs_its_numbers),
        cmocka_unit_test(decay_leaves_out_what_it_is_told_to),
        cmocka_unit_test(average_follows_the_weights_and_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
