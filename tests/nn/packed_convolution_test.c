/* Packed convolutions against convolution_forward on inputs that were normed, upsampled and rounded by hand, for every
 * instruction set that this CPU has. */
#include "tests/nn/gradient_check.h"

#ifdef __SANITIZE_ADDRESS__
/* The test of weights larger than memory wants malloc's NULL, not the sanitizer's report. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}
#endif

static const char *const instruction_sets[] = {"avx512bf16", "avx512", "avx2", "portable"};
enum { SETS = sizeof instruction_sets / sizeof *instruction_sets, GROUPS = 4 };

typedef struct {
    convolution_shape shape;
    bool normed, swish, upsampled, residual;
} example;

typedef struct {
    example of;
    size_t in_rows, in_columns, in_size, out_size, P; /* P: pixels of an output */
    twin in, weight, bias, residual, scale, offset;
    double *moments, *expected_moments;
    float *terms, *read, *expected, *out; /* read: what the products see, before any rounding */
    limn_arena *arena;
} bench;

/* Plainly, in double. */
static void moments_of(double *moments, const float *in, size_t B, size_t P, size_t C) {
    for (size_t b = 0; b < B; b++)
        for (size_t c = 0; c < C; c++) {
            double mean = 0, squares = 0;
            for (size_t p = 0; p < P; p++) mean += (double)in[(b * P + p) * C + c] / (double)P;
            for (size_t p = 0; p < P; p++) squares += pow((double)in[(b * P + p) * C + c] - mean, 2);
            moments[b * 2 * C + c] = mean;
            moments[(b * 2 + 1) * C + c] = squares;
        }
}

static void set_up(bench *self, example of) {
    const convolution_shape *s = &of.shape;
    const size_t shrink = of.upsampled ? 2 : 1;
    *self = (bench){.of = of, .in_rows = s->Y / shrink, .in_columns = s->X / shrink};
    self->P = convolution_out_rows(s) * convolution_out_columns(s);
    self->in_size = s->B * self->in_rows * self->in_columns * s->C;
    self->out_size = s->B * self->P * s->O;
    self->in = twin_random(self->in_size, 0.3, 1, "in");
    self->weight = twin_random(s->O * s->kernel * s->kernel * s->C, 0, 1, "weight");
    self->bias = twin_random(s->O, 0, 1, "bias");
    self->residual = twin_random(self->out_size, 0, 1, "residual");
    self->scale = twin_random(s->C, 1, 0.3, "scale");
    self->offset = twin_random(s->C, 0, 0.5, "offset");
    self->moments = doubles_zeroed(s->B * 2 * (s->C > s->O ? s->C : s->O));
    self->expected_moments = doubles_zeroed(s->B * 2 * s->O);
    self->terms = floats_filled(s->B * 3 * s->C, NAN);
    self->read = floats_filled(s->B * s->Y * s->X * s->C, NAN);
    self->expected = floats_filled(self->out_size, NAN);
    self->out = floats_filled(self->out_size, NAN);
    self->arena = limn_arena_create((size_t)1 << 32, NULL);
    assert_non_null(self->arena);
    float *small = of.upsampled ? floats_filled(self->in_size, NAN) : self->read;
    if (of.normed) {
        float *saved = floats_filled(s->B * GROUPS * 2, NAN);
        groupnorm_forward(small, saved, self->in.f, self->scale.f, self->offset.f, s->B, self->in_rows * self->in_columns, s->C,
                          GROUPS, 1e-6f, of.swish);
        free(saved);
        picture_moments(self->moments, self->in.f, s->B, self->in_rows * self->in_columns, s->C, self->arena);
        groupnorm_terms(self->terms, self->moments, self->scale.f, self->offset.f, s->B, self->in_rows * self->in_columns, s->C,
                        GROUPS, 1e-6f);
    } else {
        memcpy(small, self->in.f, self->in_size * sizeof *small);
    }
    if (!of.upsampled) return;
    upsample_nearest_forward(self->read, small, s->B, self->in_rows, self->in_columns, s->C);
    free(small);
}

static void tear_down(bench *self) {
    twin *twins[] = {&self->in, &self->weight, &self->bias, &self->residual, &self->scale, &self->offset};
    for (size_t i = 0; i < sizeof twins / sizeof *twins; i++) twin_free(twins[i]);
    assert_int_equal(limn_arena_mark(self->arena), 0);
    limn_arena_destroy(self->arena);
    void *blocks[] = {self->moments, self->expected_moments, self->terms, self->read, self->expected, self->out};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

/* Into self->out, from memory that held NAN; the residual lies in `out`, as in a residual block. */
static void run_packed(bench *self, nn_precision precision, bool with_bias) {
    limn_error error = {0};
    const convolution_shape *s = &self->of.shape;
    convolution_shape any_batch = *s;
    any_batch.B = 77;
    packed_convolution *packed =
        packed_convolution_create(self->weight.f, with_bias ? self->bias.f : NULL, &any_batch, precision, &error);
    if (packed == NULL) fail_msg("%s", error.message);
    assert_true(packed_convolution_bytes(packed) >= self->weight.n * (precision == PRECISION_FP32 ? 4 : 2));
    for (size_t i = 0; i < self->out_size; i++) self->out[i] = self->of.residual ? self->residual.f[i] : NAN;
    const convolution_pass pass = {.out = self->out,
                                   .in = self->in.f,
                                   .residual = self->of.residual ? self->out : NULL,
                                   .upsampled = self->of.upsampled,
                                   .terms = self->of.normed ? self->terms : NULL,
                                   .swish = self->of.swish,
                                   .moments = self->moments};
    packed_convolution_forward(packed, &pass, s->B, self->arena);
    packed_convolution_free(packed);
}

static double difference(const float *a, const float *b, size_t n) {
    double sum = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        sum += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(sum / size);
}

static void check_moments(const char *name, bench *self) {
    const convolution_shape *s = &self->of.shape;
    moments_of(self->expected_moments, self->out, s->B, self->P, s->O);
    for (size_t b = 0; b < s->B; b++)
        for (size_t o = 0; o < s->O; o++) {
            const size_t mean = b * 2 * s->O + o, squares = mean + s->O;
            const double spread = sqrt(self->expected_moments[squares] / (double)self->P) + 1e-3;
            if (!(fabs(self->moments[mean] - self->expected_moments[mean]) < 2e-6 * spread + 1e-6))
                fail_msg("%s: mean of channel %zu is %.9g, expected %.9g", name, o, self->moments[mean],
                         self->expected_moments[mean]);
            if (!(fabs(self->moments[squares] - self->expected_moments[squares]) <
                  1e-5 * self->expected_moments[squares] + 1e-6))
                fail_msg("%s: squares of channel %zu are %.9g, expected %.9g", name, o, self->moments[squares],
                         self->expected_moments[squares]);
        }
}

/* Largest relative differences (of the root of the mean square): fp32 from the unpacked convolution; bf16 from that. A direct
 * sum of rounded numbers is off by 0.23 %, Winograd's by 1.1 % for an input without any smoothness. */
static void compare(example of) {
    const double fp32 = 5e-6, bf16 = 0.02;
    bench self;
    set_up(&self, of);
    const convolution_shape *s = &of.shape;
    float *first = floats_filled(self.out_size, NAN);
    bool has_first = false;
    for (size_t set = 0; set < SETS; set++) {
        if (!convolution_choose_kernels(instruction_sets[set])) continue;
        convolution_forward(self.expected, self.read, self.weight.f, self.bias.f, of.residual ? self.residual.f : NULL, s,
                            self.arena);
        run_packed(&self, PRECISION_FP32, true);
        const double plain = difference(self.out, self.expected, self.out_size);
        if (!(plain < fp32)) fail_msg("%s: fp32 differs by %.3g", instruction_sets[set], plain);
        check_moments(instruction_sets[set], &self);
        run_packed(&self, PRECISION_BF16, true);
        const double rounded = difference(self.out, self.expected, self.out_size);
        if (!(rounded < bf16)) fail_msg("%s: bf16 differs by %.3g", instruction_sets[set], rounded);
        if (s->C % 2 == 0) assert_true(rounded > 1e-4); /* or nothing was rounded */
        check_moments(instruction_sets[set], &self);
        /* every set rounds the same numbers, so that they differ far less from each other: by sums that are on the verge */
        if (has_first && s->C % 16 == 0) {
            const double apart = difference(self.out, first, self.out_size);
            if (!(apart < 2e-4)) fail_msg("%s: bf16 differs by %.3g from another set's", instruction_sets[set], apart);
        }
        memcpy(first, self.out, self.out_size * sizeof *first);
        has_first = true;
    }
    free(first);
    tear_down(&self);
}

static convolution_shape shape_of(size_t B, size_t Y, size_t X, size_t C, size_t O, size_t kernel, size_t stride, size_t before,
                                  size_t after) {
    return (convolution_shape){B, Y, X, C, O, kernel, stride, before, before, after, after};
}

static void by_winograd(void **state) {
    (void)state;
    const size_t before = limn_get_threads();
    for (size_t threads = 1; threads <= 3; threads++) {
        limn_set_threads(threads);
        compare((example){.shape = shape_of(1, 16, 16, 32, 64, 3, 1, 1, 1)});
        compare((example){.shape = shape_of(3, 21, 18, 16, 48, 3, 1, 1, 1), .normed = true, .swish = true, .residual = true});
        compare((example){.shape = shape_of(2, 44, 47, 48, 3, 3, 1, 1, 1), .normed = true, .swish = true}); /* to a picture */
        compare((example){.shape = shape_of(5, 8, 8, 64, 40, 3, 1, 1, 1), .normed = true, .residual = true});
        compare((example){.shape = shape_of(2, 24, 32, 32, 32, 3, 1, 1, 1), .upsampled = true});
        compare((example){.shape = shape_of(2, 20, 12, 16, 32, 3, 1, 1, 1), .upsampled = true, .normed = true, .swish = true});
        compare((example){.shape = {9, 15, 14, 16, 32, 3, 1, 0, 2, 1, 0}, .residual = true});
    }
    limn_set_threads(before);
}

static void directly(void **state) {
    (void)state;
    compare((example){.shape = shape_of(2, 32, 32, 16, 48, 3, 2, 0, 1)}); /* VQGAN's downsampling */
    compare((example){.shape = shape_of(2, 17, 13, 3, 40, 3, 1, 1, 1)});  /* from a picture; an odd number stays fp32 */
    compare((example){.shape = shape_of(3, 9, 7, 48, 20, 1, 1, 0, 0), .normed = true, .residual = true});
    compare((example){.shape = shape_of(2, 9, 7, 20, 24, 3, 1, 1, 1), .normed = true, .swish = true});
    compare((example){.shape = shape_of(1, 12, 10, 20, 24, 3, 1, 1, 1), .upsampled = true});
    compare((example){.shape = shape_of(2, 2, 2, 32, 32, 3, 1, 1, 1), .normed = true, .swish = true}); /* too small for tiles */
    compare((example){.shape = shape_of(1, 16, 16, 600, 33, 3, 2, 0, 1)});
}

static void bias_is_optional(void **state) {
    (void)state;
    bench self;
    set_up(&self, (example){.shape = shape_of(1, 16, 12, 16, 16, 3, 1, 1, 1)});
    assert_true(convolution_choose_kernels("portable"));
    convolution_forward(self.expected, self.read, self.weight.f, NULL, NULL, &self.of.shape, self.arena);
    run_packed(&self, PRECISION_FP32, false);
    assert_true(difference(self.out, self.expected, self.out_size) < 5e-6);
    tear_down(&self);
}

/* Weights stay as they were laid out, whatever kernels are chosen later; INT8 is BF16. */
static void kernels_are_those_of_the_packing(void **state) {
    (void)state;
    limn_error error = {0};
    bench self;
    set_up(&self, (example){.shape = shape_of(1, 16, 12, 16, 16, 3, 1, 1, 1)});
    for (size_t set = 0; set < SETS; set++) {
        if (!convolution_choose_kernels(instruction_sets[set])) continue;
        run_packed(&self, PRECISION_BF16, true);
        packed_convolution *packed =
            packed_convolution_create(self.weight.f, self.bias.f, &self.of.shape, PRECISION_INT8, &error);
        assert_non_null(packed);
        assert_true(convolution_choose_kernels("portable"));
        packed_convolution_forward(packed, &(convolution_pass){.out = self.expected, .in = self.in.f}, 1, self.arena);
        assert_memory_equal(self.out, self.expected, self.out_size * sizeof *self.out);
        packed_convolution_free(packed);
    }
    tear_down(&self);
}

static void extreme_values_pass_through_the_swish(void **state) {
    (void)state;
    enum { N = 16 };
    const float values[N] = {-INFINITY, -3e38f, -1e4f, -126, -88, -87, -20, -1, -0.0f, 1e-30f, 1, 20, 87, 126, 3e38f, NAN};
    float terms[3 * N], weight[N * N] = {0}, out[N];
    const convolution_shape shape = shape_of(1, 1, 1, N, N, 1, 1, 0, 0);
    limn_arena *arena = limn_arena_create(1 << 24, NULL);
    for (size_t i = 0; i < N; i++) {
        terms[i] = 0;
        terms[N + i] = 1;
        terms[2 * N + i] = 0;
        weight[i * N + i] = 1;
    }
    for (size_t set = 0; set < SETS; set++) {
        if (!convolution_choose_kernels(instruction_sets[set])) continue;
        for (size_t i = 0; i < N; i++) {
            float in[N] = {0};
            in[i] = values[i];
            packed_convolution *packed = packed_convolution_create(weight, NULL, &shape, PRECISION_FP32, NULL);
            packed_convolution_forward(packed, &(convolution_pass){.out = out, .in = in, .terms = terms, .swish = true}, 1,
                                       arena);
            packed_convolution_free(packed);
            const double z = (double)values[i], expected = z < -700 ? 0 : z / (1 + exp(-z));
            if (isnan(z))
                assert_true(isnan(out[i]));
            else if (!(fabs((double)out[i] - expected) <= 1e-6 * fabs(expected) + 1e-34))
                fail_msg("%s: swish(%g) is %g, not %g", instruction_sets[set], z, (double)out[i], expected);
        }
    }
    limn_arena_destroy(arena);
}

static void no_memory_is_an_error(void **state) {
    (void)state;
    limn_error error = {0};
    const float weight = 1;
    convolution_shape shape = shape_of(1, 4, 4, (size_t)1 << 50, 1, 1, 1, 0, 0); /* one block of outputs is too large */
    assert_null(packed_convolution_create(&weight, NULL, &shape, PRECISION_FP32, &error));
    assert_non_null(strstr(error.message, "out of memory"));
    shape.C = 4096;
    shape.O = (size_t)1 << 36; /* all are */
    assert_null(packed_convolution_create(&weight, NULL, &shape, PRECISION_FP32, &error));
    assert_non_null(strstr(error.message, "cannot reserve"));
    packed_convolution_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_winograd),
        cmocka_unit_test(directly),
        cmocka_unit_test(bias_is_optional),
        cmocka_unit_test(kernels_are_those_of_the_packing),
        cmocka_unit_test(extreme_values_pass_through_the_swish),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
