/* Convolutions against a naive one in double precision, for every instruction set that this CPU has. */
#include "tests/nn/gradient_check.h"

static const char *const instruction_sets[] = {"avx512bf16", "avx512", "avx2", "portable"};

typedef struct {
    convolution_shape shape;
    twin in, weight, bias, residual, dout;
    double *out;
} layer;

static size_t in_size(const convolution_shape *s) {
    return s->B * s->Y * s->X * s->C;
}

static size_t weight_size(const convolution_shape *s) {
    return s->O * s->kernel * s->kernel * s->C;
}

static size_t out_size(const convolution_shape *s) {
    return s->B * convolution_out_rows(s) * convolution_out_columns(s) * s->O;
}

/* Calls `visit` for every product of the sum: out[p] gets in[i]·weight[w]. */
typedef void (*visitor)(layer *l, size_t p, size_t i, size_t w, double *const *arrays);

static void for_each_product(layer *l, visitor visit, double *const *arrays) {
    const convolution_shape *s = &l->shape;
    const size_t rows = convolution_out_rows(s), columns = convolution_out_columns(s);
    for (size_t b = 0; b < s->B; b++)
        for (size_t y = 0; y < rows; y++)
            for (size_t x = 0; x < columns; x++)
                for (size_t ky = 0; ky < s->kernel; ky++)
                    for (size_t kx = 0; kx < s->kernel; kx++) {
                        const size_t from_y = y * s->stride + ky, from_x = x * s->stride + kx;
                        if (from_y < s->pad_top || from_y >= s->Y + s->pad_top) continue;
                        if (from_x < s->pad_left || from_x >= s->X + s->pad_left) continue;
                        const size_t i = ((b * s->Y + from_y - s->pad_top) * s->X + from_x - s->pad_left) * s->C;
                        for (size_t o = 0; o < s->O; o++)
                            for (size_t c = 0; c < s->C; c++)
                                visit(l, ((b * rows + y) * columns + x) * s->O + o, i + c,
                                      ((o * s->kernel + ky) * s->kernel + kx) * s->C + c, arrays);
                    }
}

static void visit_forward(layer *l, size_t p, size_t i, size_t w, double *const *arrays) {
    (void)arrays;
    l->out[p] += l->in.d[i] * l->weight.d[w];
}

static void visit_backward(layer *l, size_t p, size_t i, size_t w, double *const *arrays) {
    arrays[0][i] += l->dout.d[p] * l->weight.d[w];
    arrays[1][w] += l->dout.d[p] * l->in.d[i];
}

static void naive_forward(layer *l) {
    for (size_t p = 0; p < out_size(&l->shape); p++) l->out[p] = l->bias.d[p % l->shape.O] + l->residual.d[p];
    for_each_product(l, visit_forward, NULL);
}

static double loss(void *context) {
    layer *l = context;
    naive_forward(l);
    return weighted_sum(l->out, l->dout.d, out_size(&l->shape));
}

static layer make_layer(convolution_shape shape) {
    return (layer){.shape = shape,
                   .in = twin_random(in_size(&shape), 0.1, 1, "in"),
                   .weight = twin_random(weight_size(&shape), 0, 1, "weight"),
                   .bias = twin_random(shape.O, 0, 1, "bias"),
                   .residual = twin_random(out_size(&shape), 0, 1, "residual"),
                   .dout = twin_random(out_size(&shape), 0.1, 1, "dout"),
                   .out = doubles_zeroed(out_size(&shape))};
}

static void free_layer(layer *l) {
    twin_free(&l->in);
    twin_free(&l->weight);
    twin_free(&l->bias);
    twin_free(&l->residual);
    twin_free(&l->dout);
    free(l->out);
}

typedef struct {
    float *out, *din, *dweight, *dbias;
} results;

/* Everything starts as NAN or as 1 where the layer adds, so that a place left alone is seen. */
static results run_layer(const layer *l) {
    const convolution_shape *s = &l->shape;
    results r = {floats_filled(out_size(s), NAN), floats_filled(in_size(s), NAN), floats_filled(weight_size(s), 1),
                 floats_filled(s->O, 1)};
    limn_arena *arena = limn_arena_create((size_t)1 << 30, NULL);
    assert_non_null(arena);
    convolution_forward(r.out, l->in.f, l->weight.f, l->bias.f, l->residual.f, s, arena);
    convolution_backward(r.din, r.dweight, r.dbias, l->dout.f, l->in.f, l->weight.f, s, arena);
    assert_int_equal(limn_arena_mark(arena), 0);
    limn_arena_destroy(arena);
    for (size_t i = 0; i < weight_size(s); i++) r.dweight[i] -= 1;
    for (size_t i = 0; i < s->O; i++) r.dbias[i] -= 1;
    return r;
}

static void free_results(results *r) {
    free(r->out);
    free(r->din);
    free(r->dweight);
    free(r->dbias);
}

static void compare_with_naive(convolution_shape shape) {
    const double tolerance = shape.C > 256 ? 5e-6 : 2e-6; /* thousands of terms summed in fp32 */
    layer l = make_layer(shape);
    double *din = doubles_zeroed(in_size(&shape)), *dweight = doubles_zeroed(weight_size(&shape));
    double *dbias = doubles_zeroed(shape.O);
    naive_forward(&l);
    for_each_product(&l, visit_backward, (double *const[]){din, dweight});
    for (size_t p = 0; p < out_size(&shape); p++) dbias[p % shape.O] += l.dout.d[p];
    for (size_t set = 0; set < sizeof instruction_sets / sizeof *instruction_sets; set++) {
        if (!convolution_choose_kernels(instruction_sets[set])) continue;
        results r = run_layer(&l);
        check_close(instruction_sets[set], r.out, l.out, out_size(&shape), tolerance);
        check_close(instruction_sets[set], r.din, din, in_size(&shape), tolerance);
        check_close(instruction_sets[set], r.dweight, dweight, weight_size(&shape), tolerance);
        check_close(instruction_sets[set], r.dbias, dbias, shape.O, tolerance);
        free_results(&r);
    }
    free(din);
    free(dweight);
    free(dbias);
    free_layer(&l);
}

static void compare_with_differences(convolution_shape shape) {
    for (size_t set = 0; set < sizeof instruction_sets / sizeof *instruction_sets; set++) {
        if (!convolution_choose_kernels(instruction_sets[set])) continue;
        layer l = make_layer(shape);
        results r = run_layer(&l);
        check_gradient("din", r.din, l.in.d, l.in.n, loss, &l, 2e-6);
        check_gradient("dweight", r.dweight, l.weight.d, l.weight.n, loss, &l, 2e-6);
        check_gradient("dbias", r.dbias, l.bias.d, l.bias.n, loss, &l, 2e-6);
        free_results(&r);
        free_layer(&l);
    }
}

static convolution_shape shape_of(size_t B, size_t Y, size_t X, size_t C, size_t O, size_t kernel, size_t stride, size_t before,
                                  size_t after) {
    return (convolution_shape){B, Y, X, C, O, kernel, stride, before, before, after, after};
}

static void gradients_match_finite_differences(void **state) {
    (void)state;
    compare_with_differences(shape_of(2, 4, 5, 3, 4, 3, 1, 1, 1));
    compare_with_differences(shape_of(1, 6, 5, 16, 3, 3, 2, 0, 1)); /* VQGAN's downsampling */
    compare_with_differences(shape_of(2, 3, 3, 4, 5, 1, 1, 0, 0));
    compare_with_differences(shape_of(1, 6, 6, 2, 3, 4, 2, 1, 1)); /* the discriminator's */
}

static void any_shape_matches_the_naive_one(void **state) {
    (void)state;
    compare_with_naive(shape_of(2, 9, 17, 16, 32, 3, 1, 1, 1)); /* more than one tile, cut in the middle of a row */
    compare_with_naive(shape_of(3, 8, 8, 32, 48, 3, 2, 0, 1));
    compare_with_naive(shape_of(2, 7, 9, 20, 37, 3, 1, 1, 1));  /* neither a register nor a block */
    compare_with_naive(shape_of(1, 5, 6, 800, 40, 3, 1, 1, 1)); /* weights beyond WEIGHTS_IN_CACHE are taken in parts */
    compare_with_naive(shape_of(2, 12, 10, 3, 16, 4, 2, 1, 1));
    compare_with_naive(shape_of(1, 7, 6, 64, 1, 4, 1, 1, 1));
    compare_with_naive(shape_of(2, 16, 16, 48, 3, 3, 1, 1, 1));
    compare_with_naive(shape_of(1, 40, 33, 16, 24, 1, 1, 0, 0));
    compare_with_naive(shape_of(2, 1, 1, 32, 32, 3, 1, 1, 1)); /* nearly all padding */
    compare_with_naive(shape_of(1, 6, 7, 8, 16, 1, 3, 0, 0));  /* input pixels that no output reads */
    compare_with_naive(shape_of(1, 130, 40, 16, 16, 3, 1, 1, 1));
}

/* Enough tiles of 4×4 that these are done by Winograd's method. */
static void winograd_matches_the_naive_one(void **state) {
    (void)state;
    const size_t before = limn_get_threads();
    for (size_t threads = 1; threads <= 3; threads += 2) {
        limn_set_threads(threads);
        compare_with_naive(shape_of(3, 32, 32, 16, 48, 3, 1, 1, 1));
        compare_with_naive(shape_of(2, 37, 42, 80, 16, 3, 1, 1, 1)); /* the last tiles hang over */
        compare_with_naive(shape_of(2, 44, 47, 16, 32, 3, 1, 0, 0));
        compare_with_naive((convolution_shape){4, 31, 30, 32, 32, 3, 1, 0, 2, 1, 0}); /* another padding on each side */
    }
    limn_set_threads(before);
}

static void uneven_padding(void **state) {
    (void)state;
    convolution_shape shape = {.B = 1, .Y = 6, .X = 5, .C = 16, .O = 8, .kernel = 3, .stride = 2, .pad_top = 2, .pad_right = 1};
    assert_int_equal(convolution_out_rows(&shape), 3);
    assert_int_equal(convolution_out_columns(&shape), 2);
    compare_with_naive(shape);
}

static void bias_residual_and_gradients_are_optional(void **state) {
    (void)state;
    const convolution_shape shape = shape_of(1, 4, 4, 16, 16, 3, 1, 1, 1);
    layer l = make_layer(shape);
    limn_arena *arena = limn_arena_create(1 << 26, NULL);
    assert_non_null(arena);
    memset(l.bias.d, 0, l.bias.n * sizeof(double));
    memset(l.residual.d, 0, l.residual.n * sizeof(double));
    naive_forward(&l);
    float *out = floats_filled(out_size(&shape), NAN);
    convolution_forward(out, l.in.f, l.weight.f, NULL, NULL, &shape, arena);
    check_close("out", out, l.out, out_size(&shape), 2e-6);
    convolution_backward(NULL, NULL, NULL, l.dout.f, l.in.f, l.weight.f, &shape, arena);
    free(out);
    limn_arena_destroy(arena);
    free_layer(&l);
}

static void same_bits_for_the_same_threads(void **state) {
    (void)state;
    const convolution_shape shape = shape_of(3, 20, 20, 16, 24, 3, 1, 1, 1);
    layer l = make_layer(shape);
    const size_t before = limn_get_threads();
    for (size_t threads = 1; threads <= 5; threads++) {
        limn_set_threads(threads);
        results first = run_layer(&l), second = run_layer(&l);
        assert_memory_equal(first.out, second.out, out_size(&shape) * sizeof(float));
        assert_memory_equal(first.din, second.din, in_size(&shape) * sizeof(float));
        assert_memory_equal(first.dweight, second.dweight, weight_size(&shape) * sizeof(float));
        assert_memory_equal(first.dbias, second.dbias, shape.O * sizeof(float));
        free_results(&first);
        free_results(&second);
    }
    limn_set_threads(before);
    free_layer(&l);
}

static void more_threads_than_outputs_share_the_pixels(void **state) {
    (void)state;
    const size_t before = limn_get_threads();
    limn_set_threads(7);
    compare_with_naive(shape_of(5, 60, 60, 16, 16, 3, 1, 1, 1));
    limn_set_threads(before);
}

static void unknown_kernels_are_refused(void **state) {
    (void)state;
    assert_false(convolution_choose_kernels("abacus"));
    assert_true(convolution_choose_kernels("portable"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_match_finite_differences),
        cmocka_unit_test(any_shape_matches_the_naive_one),
        cmocka_unit_test(winograd_matches_the_naive_one),
        cmocka_unit_test(uneven_padding),
        cmocka_unit_test(bias_residual_and_gradients_are_optional),
        cmocka_unit_test(same_bits_for_the_same_threads),
        cmocka_unit_test(more_threads_than_outputs_share_the_pixels),
        cmocka_unit_test(unknown_kernels_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
