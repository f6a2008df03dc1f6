#include "gradient_check.h"

typedef struct {
    size_t N, C;
    bool l2; /* x/(‖x‖+ε) rather than RMSNorm */
    bool with_scale;
    double epsilon;
    twin in, scale, dout;
    double *out;
} norm;

static void naive(norm *l) {
    for (size_t n = 0; n < l->N; n++) {
        const double *x = l->in.d + n * l->C;
        double squares = 0;
        for (size_t c = 0; c < l->C; c++) squares += x[c] * x[c];
        double divisor = l->l2 ? sqrt(squares) + l->epsilon : sqrt(squares / (double)l->C + l->epsilon);
        for (size_t c = 0; c < l->C; c++) l->out[n * l->C + c] = x[c] / divisor * (l->with_scale ? l->scale.d[c] : 1);
    }
}

static double loss(void *context) {
    norm *l = context;
    naive(l);
    return weighted_sum(l->out, l->dout.d, l->N * l->C);
}

static norm make(size_t N, size_t C, bool l2, bool with_scale, double epsilon) {
    norm l = {.N = N, .C = C, .l2 = l2, .with_scale = with_scale, .epsilon = epsilon};
    l.in = twin_random(N * C, 0.5, 1, "in");
    l.scale = twin_random(C, 1, 0.5, "scale");
    l.dout = twin_random(N * C, 0, 1, "dout");
    l.out = doubles_zeroed(N * C);
    return l;
}

static void destroy(norm *l) {
    twin_free(&l->in);
    twin_free(&l->scale);
    twin_free(&l->dout);
    free(l->out);
}

static void rmsnorm_gradients(void **state) {
    (void)state;
    for (int with_scale = 0; with_scale < 2; with_scale++) {
        /* An ε that would be noticed. */
        norm l = make(6, 141, false, with_scale, 0.01);
        size_t n = l.N * l.C;
        const float *scale = with_scale ? l.scale.f : NULL;
        float *out = floats_filled(n, NAN), *saved = floats_filled(l.N, NAN), *din = floats_filled(n, NAN);
        float *dscale = floats_filled(l.C, 0);
        rmsnorm_forward(out, saved, l.in.f, scale, l.N, l.C, 0.01f);
        naive(&l);
        check_close("rmsnorm", out, l.out, n, 2e-6);
        rmsnorm_backward(din, with_scale ? dscale : NULL, l.dout.f, l.in.f, saved, scale, l.N, l.C, false);
        check_gradient("rmsnorm din", din, l.in.d, n, loss, &l, 1e-5);
        if (with_scale) check_gradient("rmsnorm dscale", dscale, l.scale.d, l.C, loss, &l, 1e-5);
        rmsnorm_backward(din, with_scale ? dscale : NULL, l.dout.f, l.in.f, saved, scale, l.N, l.C, true);
        for (size_t i = 0; i < n; i++) din[i] *= 0.5f;
        for (size_t c = 0; c < l.C; c++) dscale[c] *= 0.5f;
        check_gradient("rmsnorm din, twice", din, l.in.d, n, loss, &l, 1e-5);
        if (with_scale) check_gradient("rmsnorm dscale, twice", dscale, l.scale.d, l.C, loss, &l, 1e-5);
        destroy(&l);
        free(out);
        free(saved);
        free(din);
        free(dscale);
    }
}

static void l2_normalize_gradients(void **state) {
    (void)state;
    norm l = make(9, 17, true, false, 0.05);
    size_t n = l.N * l.C;
    float *out = floats_filled(n, NAN), *saved = floats_filled(l.N, NAN), *din = floats_filled(n, NAN);
    l2_normalize_forward(out, saved, l.in.f, l.N, l.C, 0.05f);
    naive(&l);
    check_close("l2_normalize", out, l.out, n, 2e-6);
    l2_normalize_backward(din, l.dout.f, l.in.f, saved, l.N, l.C, 0.05f);
    check_gradient("l2_normalize din", din, l.in.d, n, loss, &l, 1e-5);
    destroy(&l);
    free(out);
    free(saved);
    free(din);
}

static void a_zero_row_stays_zero_and_has_a_finite_gradient(void **state) {
    (void)state;
    float in[24] = {0}, out[24], saved[1], dout[24], din[24];
    for (size_t i = 0; i < 24; i++) dout[i] = 1.0f;
    l2_normalize_forward(out, saved, in, 1, 24, 0.5f);
    l2_normalize_backward(din, dout, in, saved, 1, 24, 0.5f);
    for (size_t i = 0; i < 24; i++) {
        assert_true(out[i] == 0.0f);
        assert_true(din[i] == 2.0f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_gradients),
        cmocka_unit_test(l2_normalize_gradients),
        cmocka_unit_test(a_zero_row_stays_zero_and_has_a_finite_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
