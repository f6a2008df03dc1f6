#include "tests/nn/gradient_check.h"

enum { B = 2, C = 5 };

typedef struct {
    size_t Y, X;
    twin in, dout;
    double *out;
} layer;

static double loss(void *context) {
    layer *l = context;
    for (size_t b = 0; b < B; b++)
        for (size_t y = 0; y < l->Y / 2; y++)
            for (size_t x = 0; x < l->X / 2; x++)
                for (size_t c = 0; c < C; c++) {
                    double largest = -INFINITY;
                    for (size_t i = 0; i < 4; i++)
                        largest = fmax(largest, l->in.d[((b * l->Y + 2 * y + i / 2) * l->X + 2 * x + i % 2) * C + c]);
                    l->out[((b * (l->Y / 2) + y) * (l->X / 2) + x) * C + c] = largest;
                }
    return weighted_sum(l->out, l->dout.d, l->dout.n);
}

static void check(size_t Y, size_t X) {
    layer l = {.Y = Y, .X = X, .in = twin_random(B * Y * X * C, 0, 1, "in")};
    l.dout = twin_random(B * (Y / 2) * (X / 2) * C, 0, 1, "dout");
    l.out = doubles_zeroed(l.dout.n);
    float *out = floats_filled(l.dout.n, NAN), *din = floats_filled(l.in.n, NAN);
    loss(&l);
    max_pool_forward(out, l.in.f, B, Y, X, C);
    max_pool_backward(din, l.dout.f, l.in.f, B, Y, X, C);
    check_close("out", out, l.out, l.dout.n, 0);
    check_gradient("din", din, l.in.d, l.in.n, loss, &l, 1e-6);
    free(out);
    free(din);
    free(l.out);
    twin_free(&l.in);
    twin_free(&l.dout);
}

static void the_largest_of_four(void **state) {
    (void)state;
    check(4, 6);
}

static void odd_rows_and_columns_are_left_out(void **state) {
    (void)state;
    check(5, 6);
    check(4, 7);
    check(7, 5);
}

static void of_equal_ones_the_first_gets_the_gradient(void **state) {
    (void)state;
    for (size_t first = 0; first < 4; first++) {
        float in[4] = {0, 0, 0, 0}, dout = 3, din[4] = {NAN, NAN, NAN, NAN};
        for (size_t i = first; i < 4; i++) in[i] = 1;
        max_pool_backward(din, &dout, in, 1, 2, 2, 1);
        for (size_t i = 0; i < 4; i++) assert_true(fabsf(din[i] - (i == first ? 3.0f : 0.0f)) == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_of_four),
        cmocka_unit_test(odd_rows_and_columns_are_left_out),
        cmocka_unit_test(of_equal_ones_the_first_gets_the_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
