#include "tests/nn/gradient_check.h"

static const double epsilon = 1e-6;

typedef struct {
    size_t B, P, C, groups;
    bool swish;
    twin in, scale, bias, dout;
    double *out;
} layer;

static double loss(void *context) {
    layer *l = context;
    const size_t size = l->C / l->groups;
    for (size_t b = 0; b < l->B; b++)
        for (size_t g = 0; g < l->groups; g++) {
            double mean = 0, variance = 0;
            for (size_t p = 0; p < l->P; p++)
                for (size_t c = g * size; c < (g + 1) * size; c++) mean += l->in.d[(b * l->P + p) * l->C + c];
            mean /= (double)(l->P * size);
            for (size_t p = 0; p < l->P; p++)
                for (size_t c = g * size; c < (g + 1) * size; c++) {
                    const double d = l->in.d[(b * l->P + p) * l->C + c] - mean;
                    variance += d * d;
                }
            variance /= (double)(l->P * size);
            for (size_t p = 0; p < l->P; p++)
                for (size_t c = g * size; c < (g + 1) * size; c++) {
                    const size_t i = (b * l->P + p) * l->C + c;
                    const double z = (l->in.d[i] - mean) / sqrt(variance + epsilon) * l->scale.d[c] + l->bias.d[c];
                    l->out[i] = l->swish ? z / (1 + exp(-z)) : z;
                }
        }
    return weighted_sum(l->out, l->dout.d, l->B * l->P * l->C);
}

static layer make_layer(size_t B, size_t P, size_t C, size_t groups, bool swish, double mean) {
    return (layer){.B = B,
                   .P = P,
                   .C = C,
                   .groups = groups,
                   .swish = swish,
                   .in = twin_random(B * P * C, mean, 1, "in"),
                   .scale = twin_random(C, 1, 0.3, "scale"),
                   .bias = twin_random(C, 0, 0.3, "bias"),
                   .dout = twin_random(B * P * C, 0.1, 1, "dout"),
                   .out = doubles_zeroed(B * P * C)};
}

static void free_layer(layer *l) {
    twin_free(&l->in);
    twin_free(&l->scale);
    twin_free(&l->bias);
    twin_free(&l->dout);
    free(l->out);
}

static void check_layer(size_t B, size_t P, size_t C, size_t groups, bool swish, bool differences) {
    layer l = make_layer(B, P, C, groups, swish, 0.5);
    const size_t n = B * P * C;
    float *out = floats_filled(n, NAN), *saved = floats_filled(B * groups * 2, NAN);
    float *din = floats_filled(n, NAN), *added = floats_filled(n, 1);
    float *dscale = floats_filled(C, 0), *dbias = floats_filled(C, 0);
    limn_arena *arena = limn_arena_create(1 << 26, NULL);
    assert_non_null(arena);
    loss(&l);
    groupnorm_forward(out, saved, l.in.f, l.scale.f, l.bias.f, B, P, C, groups, (float)epsilon, swish);
    check_close("out", out, l.out, n, 2e-6);
    groupnorm_backward(din, dscale, dbias, l.dout.f, l.in.f, saved, l.scale.f, l.bias.f, B, P, C, groups, swish, false, arena);
    if (differences) {
        check_gradient("din", din, l.in.d, n, loss, &l, 5e-6);
        check_gradient("dscale", dscale, l.scale.d, C, loss, &l, 5e-6);
        check_gradient("dbias", dbias, l.bias.d, C, loss, &l, 5e-6);
    }
    /* adding, in place, and without what is not wanted */
    groupnorm_backward(added, NULL, NULL, l.dout.f, l.in.f, saved, l.scale.f, l.bias.f, B, P, C, groups, swish, true, arena);
    memcpy(out, l.dout.f, n * sizeof *out);
    groupnorm_backward(out, NULL, NULL, out, l.in.f, saved, l.scale.f, l.bias.f, B, P, C, groups, swish, false, arena);
    float *again_scale = floats_filled(C, 0), *again_bias = floats_filled(C, 0);
    groupnorm_backward(NULL, again_scale, again_bias, l.dout.f, l.in.f, saved, l.scale.f, l.bias.f, B, P, C, groups, swish,
                       false, arena);
    assert_memory_equal(out, din, n * sizeof *out);
    for (size_t c = 0; c < C; c++) {
        assert_true(fabsf(again_scale[c] - dscale[c]) <= 1e-5f * (1 + fabsf(dscale[c])));
        assert_true(fabsf(again_bias[c] - dbias[c]) <= 1e-5f * (1 + fabsf(dbias[c])));
    }
    for (size_t i = 0; i < n; i++) assert_true(fabsf(added[i] - 1 - din[i]) <= 1e-5f * (1 + fabsf(din[i])));
    limn_arena_destroy(arena);
    free(out);
    free(saved);
    free(din);
    free(added);
    free(dscale);
    free(dbias);
    free(again_scale);
    free(again_bias);
    free_layer(&l);
}

static void gradients_match_finite_differences(void **state) {
    (void)state;
    for (int swish = 0; swish < 2; swish++) {
        check_layer(2, 35, 12, 4, swish, true);
        check_layer(1, 9, 32, 32, swish, true);
        check_layer(3, 70, 8, 1, swish, true);
    }
}

static void many_channels_are_taken_in_parts(void **state) {
    (void)state;
    check_layer(1, 6, 600, 2, true, true); /* a group wider than CHANNELS_AT_ONCE */
    check_layer(1, 100, 512, 32, true, false);
    check_layer(5, 40, 288, 32, false, false);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    const size_t before = limn_get_threads(), B = 2, P = 50, C = 128, groups = 32, n = B * P * C;
    layer l = make_layer(B, P, C, groups, true, 0.5);
    float *out[2], *din[2], saved[2 * 32 * 2], *dscale = floats_filled(C, 0), *dbias = floats_filled(C, 0);
    limn_arena *arena = limn_arena_create(1 << 26, NULL);
    assert_non_null(arena);
    for (size_t run = 0; run < 2; run++) {
        out[run] = floats_filled(n, NAN);
        din[run] = floats_filled(n, NAN);
        limn_set_threads(run == 0 ? 1 : 5);
        groupnorm_forward(out[run], saved, l.in.f, l.scale.f, l.bias.f, B, P, C, groups, 1e-6f, true);
        groupnorm_backward(din[run], dscale, dbias, l.dout.f, l.in.f, saved, l.scale.f, l.bias.f, B, P, C, groups, true, false,
                           arena);
    }
    limn_set_threads(before);
    assert_memory_equal(out[0], out[1], n * sizeof(float));
    assert_memory_equal(din[0], din[1], n * sizeof(float));
    for (size_t run = 0; run < 2; run++) {
        free(out[run]);
        free(din[run]);
    }
    free(dscale);
    free(dbias);
    limn_arena_destroy(arena);
    free_layer(&l);
}

/* A mean a thousand deviations from zero: the squares must not be summed about zero. */
static void a_far_mean_keeps_its_variance(void **state) {
    (void)state;
    const size_t P = 4096, C = 4;
    layer l = make_layer(1, P, C, 2, false, 1000);
    float *out = floats_filled(P * C, NAN), saved[4];
    loss(&l);
    groupnorm_forward(out, saved, l.in.f, l.scale.f, l.bias.f, 1, P, C, 2, (float)epsilon, false);
    check_close("out", out, l.out, P * C, 1e-4); /* an input is only this exact after its mean is taken away */
    free(out);
    free_layer(&l);
}

static void a_constant_picture_gives_the_bias(void **state) {
    (void)state;
    float in[64 * 4], out[64 * 4], saved[8];
    const float scale[4] = {1, 2, 3, 4}, bias[4] = {5, 6, 7, 8};
    for (size_t i = 0; i < 64 * 4; i++) in[i] = 0.3f;
    groupnorm_forward(out, saved, in, scale, bias, 1, 64, 4, 4, (float)epsilon, false);
    for (size_t i = 0; i < 64 * 4; i++) assert_true(fabsf(out[i] - bias[i % 4]) < 1e-3f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_match_finite_differences), cmocka_unit_test(many_channels_are_taken_in_parts),
        cmocka_unit_test(threads_do_not_change_a_bit),        cmocka_unit_test(a_far_mean_keeps_its_variance),
        cmocka_unit_test(a_constant_picture_gives_the_bias),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
