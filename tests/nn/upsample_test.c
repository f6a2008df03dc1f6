#include "tests/nn/gradient_check.h"

enum { B = 2, Y = 3, X = 4, C = 5 };

typedef struct {
    twin in, dout;
    double out[B * 2 * Y * 2 * X * C];
} layer;

static double loss(void *context) {
    layer *l = context;
    for (size_t b = 0; b < B; b++)
        for (size_t y = 0; y < 2 * Y; y++)
            for (size_t x = 0; x < 2 * X; x++)
                for (size_t c = 0; c < C; c++)
                    l->out[((b * 2 * Y + y) * 2 * X + x) * C + c] = l->in.d[((b * Y + y / 2) * X + x / 2) * C + c];
    return weighted_sum(l->out, l->dout.d, sizeof l->out / sizeof *l->out);
}

static void upsampling_copies_and_its_gradient_sums(void **state) {
    (void)state;
    layer l = {.in = twin_random(B * Y * X * C, 0, 1, "in"), .dout = twin_random(4 * B * Y * X * C, 0, 1, "dout")};
    float *out = floats_filled(4 * l.in.n, NAN), *din = floats_filled(l.in.n, NAN);
    loss(&l);
    upsample_nearest_forward(out, l.in.f, B, Y, X, C);
    upsample_nearest_backward(din, l.dout.f, B, Y, X, C);
    check_close("out", out, l.out, 4 * l.in.n, 0);
    check_gradient("din", din, l.in.d, l.in.n, loss, &l, 1e-6);
    free(out);
    free(din);
    twin_free(&l.in);
    twin_free(&l.dout);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(upsampling_copies_and_its_gradient_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
