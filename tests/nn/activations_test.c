#include "gradient_check.h"

static double naive(activation kind, double x) {
    switch (kind) {
    case ACTIVATION_GELU:
        return 0.5 * x * erfc(-x * 0.70710678118654752440);
    case ACTIVATION_RELU:
        return x > 0 ? x : 0;
    case ACTIVATION_SWISH:
        return x / (1 + exp(-x));
    case ACTIVATION_SMELU:
        return x <= -1 ? 0 : x >= 1 ? x : (x + 1) * (x + 1) / 4;
    }
    return NAN;
}

static const struct {
    activation kind;
    const char *name;
} kinds[] = {{ACTIVATION_GELU, "gelu"}, {ACTIVATION_RELU, "relu"}, {ACTIVATION_SWISH, "swish"}, {ACTIVATION_SMELU, "smelu"}};
static const size_t kind_count = sizeof kinds / sizeof *kinds;

/* −12 … 12, and beyond where exp overflows, in steps that miss the corners of relu and smelu, which have no derivative there.
 */
enum { POINTS = 24001 };
static twin points(void) {
    twin x = twin_random(POINTS, 0, 1, "points");
    for (size_t i = 0; i < POINTS; i++) {
        x.f[i] = (float)(-12.0 + 24.0 * ((double)i + 0.37) / POINTS);
        x.d[i] = (double)x.f[i];
    }
    for (size_t i = 0; i < 40; i++) {
        x.f[i] = (i % 2 ? 1.0f : -1.0f) * (15.0f + 10.0f * (float)i);
        x.d[i] = (double)x.f[i];
    }
    return x;
}

static void values_and_slopes(void **state) {
    (void)state;
    twin x = points(), dout = twin_random(POINTS, 0, 1, "dout");
    float *out = floats_filled(POINTS, NAN), *din = floats_filled(POINTS, NAN);
    for (size_t k = 0; k < kind_count; k++) {
        activation kind = kinds[k].kind;
        activation_forward(out, x.f, kind, POINTS);
        activation_backward(din, dout.f, x.f, kind, POINTS);
        for (size_t i = 0; i < POINTS; i++) {
            double expected = naive(kind, x.d[i]), h = 1e-5;
            double slope = (naive(kind, x.d[i] + h) - naive(kind, x.d[i] - h)) / (2 * h);
            /* Relative to the value itself down to what is nothing beside 1. */
            if (!(fabs((double)out[i] - expected) <= 3e-6 * fabs(expected) + 1e-12))
                fail_msg("%s(%g) is %.9g, expected %.9g", kinds[k].name, x.d[i], (double)out[i], expected);
            if (!(fabs((double)din[i] - dout.d[i] * slope) <= 2e-6 * fabs(dout.d[i])))
                fail_msg("%s′(%g) is %.9g, expected %.9g", kinds[k].name, x.d[i], (double)din[i] / dout.d[i], slope);
        }
        float *in_place = floats_filled(POINTS, 0);
        memcpy(in_place, x.f, sizeof(float) * POINTS);
        activation_forward(in_place, in_place, kind, POINTS);
        assert_memory_equal(in_place, out, sizeof(float) * POINTS);
        memcpy(in_place, dout.f, sizeof(float) * POINTS);
        activation_backward(in_place, in_place, x.f, kind, POINTS);
        assert_memory_equal(in_place, din, sizeof(float) * POINTS);
        free(in_place);
    }
    twin_free(&x);
    twin_free(&dout);
    free(out);
    free(din);
}

static void a_nan_is_not_hidden(void **state) {
    (void)state;
    for (size_t k = 0; k < kind_count; k++) {
        float in[20], out[20];
        for (size_t i = 0; i < 20; i++) in[i] = i == 7 ? NAN : 1.0f;
        activation_forward(out, in, kinds[k].kind, 20);
        assert_true(isnan(out[7]) != 0);
        assert_true(isnan(out[6]) == 0);
    }
}

typedef struct {
    activation kind;
    size_t n;
    twin a, b, dout;
} glu;

static double glu_loss(void *context) {
    glu *g = context;
    double sum = 0;
    for (size_t i = 0; i < g->n; i++) sum += naive(g->kind, g->a.d[i]) * g->b.d[i] * g->dout.d[i];
    return sum;
}

static void glu_gradients(void **state) {
    (void)state;
    for (size_t k = 0; k < kind_count; k++) {
        glu g = {.kind = kinds[k].kind, .n = 271};
        g.a = twin_random(g.n, 0, 2, "a");
        g.b = twin_random(g.n, 0, 1, "b");
        g.dout = twin_random(g.n, 0, 1, "dout");
        float *out = floats_filled(g.n, NAN), *da = floats_filled(g.n, NAN), *db = floats_filled(g.n, NAN);
        double *expected = doubles_zeroed(g.n);
        for (size_t i = 0; i < g.n; i++) expected[i] = naive(g.kind, g.a.d[i]) * g.b.d[i];
        glu_forward(out, g.a.f, g.b.f, g.kind, g.n);
        check_close("glu", out, expected, g.n, 1e-6);
        glu_backward(da, db, g.dout.f, g.a.f, g.b.f, g.kind, g.n);
        check_gradient("glu da", da, g.a.d, g.n, glu_loss, &g, 1e-5);
        check_gradient("glu db", db, g.b.d, g.n, glu_loss, &g, 1e-5);
        twin_free(&g.a);
        twin_free(&g.b);
        twin_free(&g.dout);
        free(out);
        free(da);
        free(db);
        free(expected);
    }
}

static void names_of_configurations(void **state) {
    (void)state;
    activation kind;
    for (size_t k = 0; k < kind_count; k++) {
        assert_int_equal(activation_from_name(kinds[k].name, &kind), 0);
        assert_int_equal(kind, kinds[k].kind);
    }
    assert_int_equal(activation_from_name("silu", &kind), 0);
    assert_int_equal(kind, ACTIVATION_SWISH);
    assert_int_equal(activation_from_name("gelu_new", &kind), -1);
    assert_int_equal(activation_from_name("", &kind), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_slopes),
        cmocka_unit_test(a_nan_is_not_hidden),
        cmocka_unit_test(glu_gradients),
        cmocka_unit_test(names_of_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
