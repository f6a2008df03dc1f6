#include "gradient_check.h"

#include <omp.h>

typedef struct {
    size_t N, C;
    bool with_scale, with_bias;
    double epsilon;
    twin in, scale, bias, dout;
    double *out;
} layernorm;

static void naive(layernorm *l) {
    for (size_t n = 0; n < l->N; n++) {
        const double *x = l->in.d + n * l->C;
        double mean = 0, variance = 0;
        for (size_t c = 0; c < l->C; c++) mean += x[c] / (double)l->C;
        for (size_t c = 0; c < l->C; c++) variance += (x[c] - mean) * (x[c] - mean) / (double)l->C;
        for (size_t c = 0; c < l->C; c++)
            l->out[n * l->C + c] = (x[c] - mean) / sqrt(variance + l->epsilon) * (l->with_scale ? l->scale.d[c] : 1) +
                                   (l->with_bias ? l->bias.d[c] : 0);
    }
}

static double loss(void *context) {
    layernorm *l = context;
    naive(l);
    return weighted_sum(l->out, l->dout.d, l->N * l->C);
}

static void check(size_t N, size_t C, bool with_scale, bool with_bias) {
    layernorm l = {.N = N, .C = C, .with_scale = with_scale, .with_bias = with_bias, .epsilon = 1e-5};
    size_t n = N * C;
    l.in = twin_random(n, 3, 2, "in");
    l.scale = twin_random(C, 1, 0.5, "scale");
    l.bias = twin_random(C, 0, 1, "bias");
    l.dout = twin_random(n, 0, 1, "dout");
    l.out = doubles_zeroed(n);
    const float *scale = with_scale ? l.scale.f : NULL, *bias = with_bias ? l.bias.f : NULL;
    float *out = floats_filled(n, NAN), *saved = floats_filled(2 * N, NAN), *din = floats_filled(n, NAN);
    float *dscale = floats_filled(C, 0), *dbias = floats_filled(C, 0);

    layernorm_forward(out, saved, l.in.f, scale, bias, N, C, 1e-5f);
    naive(&l);
    check_close("layernorm", out, l.out, n, 3e-6);
    layernorm_backward(din, with_scale ? dscale : NULL, with_bias ? dbias : NULL, l.dout.f, l.in.f, saved, scale, N, C, false);
    check_gradient("layernorm din", din, l.in.d, n, loss, &l, 2e-5);
    if (with_scale) check_gradient("layernorm dscale", dscale, l.scale.d, C, loss, &l, 2e-5);
    if (with_bias) check_gradient("layernorm dbias", dbias, l.bias.d, C, loss, &l, 2e-5);

    layernorm_backward(din, with_scale ? dscale : NULL, with_bias ? dbias : NULL, l.dout.f, l.in.f, saved, scale, N, C, true);
    for (size_t i = 0; i < n; i++) din[i] *= 0.5f;
    for (size_t c = 0; c < C; c++) {
        dscale[c] *= 0.5f;
        dbias[c] *= 0.5f;
    }
    check_gradient("layernorm din, twice", din, l.in.d, n, loss, &l, 2e-5);
    if (with_scale) check_gradient("layernorm dscale, twice", dscale, l.scale.d, C, loss, &l, 2e-5);
    if (with_bias) check_gradient("layernorm dbias, twice", dbias, l.bias.d, C, loss, &l, 2e-5);

    twin_free(&l.in);
    twin_free(&l.scale);
    twin_free(&l.bias);
    twin_free(&l.dout);
    free(l.out);
    free(out);
    free(saved);
    free(din);
    free(dscale);
    free(dbias);
}

static void gradients(void **state) {
    (void)state;
    for (int with = 0; with < 4; with++) {
        check(5, 33, with & 1, with & 2);
        check(3, 150, with & 1, with & 2);
    }
}

static void weights_get_the_same_bits_for_any_threads(void **state) {
    (void)state;
    enum { N = 70, C = 300 };
    int before = omp_get_max_threads();
    twin in = twin_random(N * C, 0, 1, "in"), dout = twin_random(N * C, 0, 1, "dout");
    float out[N * C], saved[2 * N], first[2 * C], again[2 * C];
    layernorm_forward(out, saved, in.f, NULL, NULL, N, C, 1e-5f);
    for (int threads = 1; threads <= 4; threads++) {
        float *d = threads == 1 ? first : again;
        memset(d, 0, sizeof first);
        omp_set_num_threads(threads);
        layernorm_backward(NULL, d, d + C, dout.f, in.f, saved, NULL, N, C, false);
        assert_memory_equal(first, d, sizeof first);
    }
    omp_set_num_threads(before);
    twin_free(&in);
    twin_free(&dout);
}

static void a_constant_row_gives_the_bias(void **state) {
    (void)state;
    float in[40], out[40], saved[2], bias[40];
    for (size_t c = 0; c < 40; c++) {
        in[c] = 7.0f;
        bias[c] = (float)c;
    }
    layernorm_forward(out, saved, in, NULL, bias, 1, 40, 1e-5f);
    for (size_t c = 0; c < 40; c++) assert_true(out[c] == bias[c]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients),
        cmocka_unit_test(weights_get_the_same_bits_for_any_threads),
        cmocka_unit_test(a_constant_row_gives_the_bias),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
