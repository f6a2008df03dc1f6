/* Norms by layer, which layer went wrong, and the guard against losses that explode. */
#include "tests/scratch.h"
#include "train/guard.h"
#include "train/layers.h"

#include <math.h>

static void test_group_names(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"model.encoder.layers.0.FlaxBartAttention_0.q_proj.weight", "encoder.layers.0"},
        {"model.decoder.layers.11.GLU_0.Dense_0.weight", "decoder.layers.11"},
        {"model.encoder.embed_tokens.weight", "encoder.embed_tokens"},
        {"model.decoder.layernorm_embedding.bias", "decoder.layernorm_embedding"},
        {"lm_head.weight", "lm_head"},
        {"encoder.down.3.block.0.conv1.weight", "encoder.down.3"},
        {"decoder.mid.block_1.norm1.bias", "decoder.mid"},
        {"quantize.embedding.weight", "quantize.embedding"},
        {"quant_conv.weight", "quant_conv"},
        {"weight", "weight"},
        {"model.7", "7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char group[192];
        layer_group_name(group, cases[i][0]);
        assert_string_equal(group, cases[i][1]);
    }
}

/* Two layers and a head; the second layer's matrix is larger than what is kept of it. */
static parameters make_weights(void) {
    parameters set = {0};
    const size_t small[] = {7}, large[] = {300, 100}, head[] = {9};
    assert_int_equal(parameters_add(&set, PARAMETER_PLAIN, 1, small, NULL, "model.layers.0.a"), 0);
    assert_int_equal(parameters_add(&set, PARAMETER_PLAIN, 2, large, NULL, "model.layers.1.a"), 1);
    assert_int_equal(parameters_add(&set, PARAMETER_PLAIN, 1, small, NULL, "model.layers.1.b"), 2);
    assert_int_equal(parameters_add(&set, PARAMETER_PLAIN, 1, head, NULL, "head.a"), 3);
    assert_int_equal(parameters_allocate(&set, true, NULL), 0);
    limn_random_fill_normal(set.storage, set.size, 1, 1, 1);
    limn_random_fill_normal(set.grads, set.size, 1, 1, 2);
    return set;
}

static double norm_of(const float *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

static void test_norms(void **state) {
    (void)state;
    parameters set = make_weights();
    layer_norms norms;
    assert_int_equal(layer_norms_create(&norms, &set, NULL), 0);
    assert_int_equal(norms.count, 3);
    static const char *const names[] = {"layers.0", "layers.1", "head"};
    double moved[4], gradients[4];
    layer_norms_before_update(&norms);
    for (size_t i = 0; i < 4; i++) {
        parameter *p = &set.list[i];
        moved[i] = 0.01 * (double)(i + 1) * norm_of(p->grad, p->size);
        gradients[i] = norm_of(p->grad, p->size);
        for (size_t k = 0; k < p->size; k++) p->mutable_value[k] += 0.01f * (float)(i + 1) * p->grad[k];
    }
    layer_norms_after_update(&norms);
    const double expected_moved[] = {moved[0], hypot(moved[1], moved[2]), moved[3]};
    const double expected_gradient[] = {gradients[0], hypot(gradients[1], gradients[2]), gradients[3]};
    for (size_t g = 0; g < 3; g++) {
        assert_string_equal(norms.groups[g].name, names[g]);
        assert_true(fabs(norms.groups[g].gradient / expected_gradient[g] - 1) < 1e-6);
        double tolerance = g == 1 ? 0.05 : 1e-5; /* an estimate from 4,286 of 30,000 values */
        if (!(fabs(norms.groups[g].update / expected_moved[g] - 1) < tolerance))
            fail_msg("%s: %g, not %g", names[g], norms.groups[g].update, expected_moved[g]);
    }
    layer_norms_free(&norms);
    parameters_free(&set);
}

static void assert_culprit(layer_norms *norms, const char *part) {
    char sentence[512];
    layer_culprit(sentence, sizeof sentence, norms);
    assert_contains(sentence, part);
}

static void test_which_layer_went_wrong(void **state) {
    (void)state;
    parameters set = make_weights();
    layer_norms norms;
    assert_int_equal(layer_norms_create(&norms, &set, NULL), 0);
    assert_culprit(&norms, "layers.1 ");
    assert_null(layer_first_without_number(&set));
    set.list[0].grad[3] = 1e5f;
    assert_culprit(&norms, "layers.0 (norm 1e+05)");
    set.list[2].grad[6] = NAN;
    set.list[0].grad[0] = INFINITY;
    assert_culprit(&norms, "layers.1 went first: on the way back, the gradient of model.layers.1.b");
    const double squares[] = {INFINITY, 1, 2, 3}; /* of several ranks: what lies in the gradients here is undefined then */
    norms.squares = squares;
    assert_culprit(&norms, "layers.0 went first: on the way back, the gradient of ");
    norms.squares = NULL;
    set.list[3].mutable_value[8] = -2e6f;
    assert_culprit(&norms, "head went first: its weights head.a are as large as 2e+06");
    set.list[2].mutable_value[0] = 3e30f;
    assert_culprit(&norms, "layers.1 went first: its weights model.layers.1.b are as large as 3e+30");
    set.list[3].mutable_value[0] = NAN;
    assert_culprit(&norms, "head went first: its weights head.a hold what is no number");
    set.list[1].mutable_value[29999] = -INFINITY;
    assert_culprit(&norms, "layers.1 went first: its weights model.layers.1.a hold what is no number");
    assert_ptr_equal(layer_first_without_number(&set), &set.list[1]);
    layer_norms_free(&norms);
    parameters_free(&set);
}

static void test_guard(void **state) {
    (void)state;
    train_guard guard = {0};
    /* Noise, and a slow fall, as losses do. */
    for (size_t step = 0; step < 1000; step++) {
        double loss = (9 - 0.005 * (double)step) * (1 + 0.5 * (double)limn_random_normal(1, 2, step) / 3);
        assert_int_equal(train_guard_look(&guard, loss, 3), LOSS_FINE);
    }
    assert_true(guard.smoothed > 3.5f && guard.smoothed < 5);
    /* Some steps that are too high, then well again. */
    float before = guard.smoothed;
    for (size_t i = 0; i + 1 < GUARD_PATIENCE; i++) assert_int_equal(train_guard_look(&guard, 100, 3), LOSS_RISEN);
    assert_true(guard.above == GUARD_PATIENCE - 1 && guard.smoothed >= before && guard.smoothed <= before);
    assert_int_equal(train_guard_look(&guard, 5, 3), LOSS_FINE);
    assert_int_equal(guard.above, 0);
    for (size_t i = 0; i + 1 < GUARD_PATIENCE; i++) assert_int_equal(train_guard_look(&guard, 100, 3), LOSS_RISEN);
    assert_int_equal(train_guard_look(&guard, 100, 3), LOSS_EXPLODED);
    assert_int_equal(train_guard_look(&guard, NAN, 3), LOSS_NO_NUMBER);
    assert_int_equal(train_guard_look(&guard, INFINITY, 0), LOSS_NO_NUMBER);
    /* A set that is known by heart. */
    guard = (train_guard){0};
    assert_int_equal(train_guard_look(&guard, 10, 3), LOSS_FINE);
    for (size_t i = 0; i < 500; i++) assert_int_equal(train_guard_look(&guard, 0.01, 3), LOSS_FINE);
    assert_int_equal(train_guard_look(&guard, 1.4, 3), LOSS_FINE);
    assert_int_equal(train_guard_look(&guard, 1.6, 3), LOSS_RISEN);
    guard = (train_guard){0};
    for (double loss = 1; loss < 1e30; loss *= 10) assert_int_equal(train_guard_look(&guard, loss, 0), LOSS_FINE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_names),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_which_layer_went_wrong),
        cmocka_unit_test(test_guard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
