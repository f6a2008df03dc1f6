#include "tests/nn/gradient_check.h"

static const double epsilon = 1e-5;

typedef struct {
    size_t N, C;
    twin in, scale, bias, dout;
    double *out, *mean, *variance;
} layer;

static double loss(void *context) {
    layer *l = context;
    for (size_t c = 0; c < l->C; c++) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < l->N; i++) mean += l->in.d[i * l->C + c] / (double)l->N;
        for (size_t i = 0; i < l->N; i++) variance += (l->in.d[i * l->C + c] - mean) * (l->in.d[i * l->C + c] - mean);
        l->mean[c] = mean;
        l->variance[c] = variance / (double)l->N;
        for (size_t i = 0; i < l->N; i++)
            l->out[i * l->C + c] =
                (l->in.d[i * l->C + c] - mean) / sqrt(l->variance[c] + epsilon) * l->scale.d[c] + l->bias.d[c];
    }
    return weighted_sum(l->out, l->dout.d, l->N * l->C);
}

static void check_layer(size_t N, size_t C) {
    layer l = {.N = N,
               .C = C,
               .in = twin_random(N * C, 0.5, 1, "in"),
               .scale = twin_random(C, 1, 0.3, "scale"),
               .bias = twin_random(C, 0, 0.3, "bias"),
               .dout = twin_random(N * C, 0.1, 1, "dout"),
               .out = doubles_zeroed(N * C),
               .mean = doubles_zeroed(C),
               .variance = doubles_zeroed(C)};
    float *out = floats_filled(N * C, NAN), *saved = floats_filled(2 * C, NAN), *din = floats_filled(N * C, NAN);
    float *dscale = floats_filled(C, 0), *dbias = floats_filled(C, 0);
    float *running_mean = floats_filled(C, 0.5f), *running_var = floats_filled(C, 2);
    loss(&l);
    batchnorm_forward(out, saved, l.in.f, l.scale.f, l.bias.f, running_mean, running_var, 0.1f, N, C, (float)epsilon);
    batchnorm_backward(din, dscale, dbias, l.dout.f, l.in.f, saved, l.scale.f, N, C);
    check_close("out", out, l.out, N * C, 2e-6);
    for (size_t c = 0; c < C; c++) {
        l.mean[c] = 0.9 * 0.5 + 0.1 * l.mean[c];
        l.variance[c] = 0.9 * 2 + 0.1 * l.variance[c] * (double)N / (double)(N - 1);
    }
    check_close("running mean", running_mean, l.mean, C, 1e-6);
    check_close("running variance", running_var, l.variance, C, 1e-6);
    check_gradient("din", din, l.in.d, N * C, loss, &l, 5e-6);
    check_gradient("dscale", dscale, l.scale.d, C, loss, &l, 5e-6);
    check_gradient("dbias", dbias, l.bias.d, C, loss, &l, 5e-6);
    /* without running statistics and unwanted gradients */
    float *again = floats_filled(N * C, NAN);
    batchnorm_forward(again, saved, l.in.f, l.scale.f, l.bias.f, NULL, NULL, 0.1f, N, C, (float)epsilon);
    assert_memory_equal(again, out, N * C * sizeof *out);
    batchnorm_backward(NULL, NULL, NULL, l.dout.f, l.in.f, saved, l.scale.f, N, C);
    batchnorm_backward(again, NULL, NULL, l.dout.f, l.in.f, saved, l.scale.f, N, C);
    assert_memory_equal(again, din, N * C * sizeof *out);
    free(again);
    free(out);
    free(saved);
    free(din);
    free(dscale);
    free(dbias);
    free(running_mean);
    free(running_var);
    twin_free(&l.in);
    twin_free(&l.scale);
    twin_free(&l.bias);
    twin_free(&l.dout);
    free(l.out);
    free(l.mean);
    free(l.variance);
}

static void batchnorm_matches_the_naive_one(void **state) {
    (void)state;
    check_layer(35, 12);
    check_layer(97, 64);
    check_layer(3, 300);
}

static void leaky_relu_keeps_a_share_of_the_negative(void **state) {
    (void)state;
    enum { N = 5000 };
    twin in = twin_random(N, 0, 1, "in"), dout = twin_random(N, 0, 1, "dout");
    float out[N], din[N];
    in.f[0] = 0;
    leaky_relu_forward(out, in.f, 0.2f, N);
    leaky_relu_backward(din, dout.f, in.f, 0.2f, N);
    for (size_t i = 0; i < N; i++) {
        assert_true(out[i] == (in.f[i] > 0 ? in.f[i] : 0.2f * in.f[i]));
        assert_true(din[i] == (in.f[i] > 0 ? dout.f[i] : 0.2f * dout.f[i]));
    }
    twin_free(&in);
    twin_free(&dout);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(batchnorm_matches_the_naive_one),
                                       cmocka_unit_test(leaky_relu_keeps_a_share_of_the_negative)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
