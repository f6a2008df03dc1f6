/* LPIPS: its weights' files, its gradient, and its place among the VQGAN's losses. golden-lpips compares values with the
 * original's. */
#include "tests/vqgan/tools.h"

#include "tests/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, FLOATS = SIDE * SIDE * 3 };

static vqgan_lpips *tiny; /* for all tests: loading takes a second */

static int make_files(void **state) {
    limn_error error = {0};
    if (scratch_setup(state)) return -1;
    write_vgg(scratch_path("vgg16.pth"), NULL);
    write_heads(scratch_path("vgg.pth"), NULL);
    tiny = vqgan_lpips_load(scratch_path("vgg16.pth"), scratch_path("vgg.pth"), SIDE, SIDE, true, &error);
    if (!tiny) fprintf(stderr, "%s\n", error.message);
    return tiny ? 0 : -1;
}

static int remove_files(void **state) {
    vqgan_lpips_free(tiny);
    return scratch_teardown(state);
}

/* ---------------------------------------------------------------- files */

static void expect_refused(const char *vgg, const char *heads, size_t Y, size_t X, const char *words, const char *more) {
    limn_error error = {0};
    vqgan_lpips *lpips = vqgan_lpips_load(scratch_path(vgg), scratch_path(heads), Y, X, false, &error);
    assert_null(lpips);
    assert_contains(error.message, words);
    assert_contains(error.message, more);
}

static void exchanged_files_are_told(void **state) {
    (void)state;
    expect_refused("vgg.pth", "vgg16.pth", SIDE, SIDE, "exchanged", "vgg16.pth");
    expect_refused("vgg.pth", "vgg.pth", SIDE, SIDE, "exchanged", "vgg16-397923af.pth");
}

static void a_tensor_that_lacks_is_named(void **state) {
    (void)state;
    write_vgg(scratch_path("cut.pth"), "features.14.bias");
    expect_refused("cut.pth", "vgg.pth", SIDE, SIDE, "features.14.bias", "cut.pth");
    write_heads(scratch_path("cut-heads.pth"), "lin3.model.1.weight");
    expect_refused("vgg16.pth", "cut-heads.pth", SIDE, SIDE, "lin3.model.1.weight", "cut-heads.pth");
    expect_refused("none.pth", "vgg.pth", SIDE, SIDE, "none.pth", "");
}

/* A file that begins as VGG16's does, with another first kernel: AlexNet's, for instance. */
static void another_network_is_refused(void **state) {
    (void)state;
    limn_error error = {0};
    float *values = zeroed(64 * 3 * 11 * 11, sizeof *values), bias[64] = {0}, head[64] = {0};
    const tensor alex[] = {{.name = "features.0.bias", .type = TENSOR_F32, .rank = 1, .shape = {64}, .count = 64, .data = bias},
                           {.name = "features.0.weight",
                            .type = TENSOR_F32,
                            .rank = 4,
                            .shape = {64, 3, 11, 11},
                            .count = 64 * 3 * 11 * 11,
                            .data = values}};
    assert_int_equal(safetensors_write(scratch_path("alex.safetensors"), alex, 2, NULL, &error), 0);
    expect_refused("alex.safetensors", "vgg.pth", SIDE, SIDE, "features.0.weight", "another shape");
    head[5] = NAN;
    const tensor first = {
        .name = "lin0.model.1.weight", .type = TENSOR_F32, .rank = 4, .shape = {1, 64, 1, 1}, .count = 64, .data = head};
    assert_int_equal(safetensors_write(scratch_path("nan.safetensors"), &first, 1, NULL, &error), 0);
    expect_refused("vgg16.pth", "nan.safetensors", SIDE, SIDE, "lin0.model.1.weight", "no number");
    free(values);
}

static void small_pictures_are_refused(void **state) {
    (void)state;
    expect_refused("vgg16.pth", "vgg.pth", 15, 64, "64×15", "16");
    expect_refused("vgg16.pth", "vgg.pth", 64, 15, "15×64", "16");
}

/* ---------------------------------------------------------------- distances */

static void equal_pictures_have_no_distance(void **state) {
    (void)state;
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(2, 4), gradient[FLOATS];
    double same, other;
    vqgan_lpips_compare(tiny, &same, gradient, pictures, pictures, 1, arena);
    assert_true(same == 0);
    for (size_t i = 0; i < FLOATS; i++) assert_true(fabsf(gradient[i]) < 1e-9f);
    vqgan_lpips_compare(tiny, &other, NULL, pictures, pictures + FLOATS, 1, arena);
    assert_true(other > 1e-4);
    free(pictures);
    limn_arena_destroy(arena);
}

/* A step along the gradient changes the mean distance by the step times the gradient's length. */
static void the_gradient_is_the_slope(void **state) {
    (void)state;
    limn_arena *arena = tiny_arena();
    float *a = tiny_pictures(2, 4), *b = tiny_pictures(2, 9), gradient[2 * FLOATS];
    double distances[2], slope = 0;
    vqgan_lpips_compare(tiny, distances, gradient, a, b, 2, arena);
    double length = sqrt(sum_of_squares(gradient, 2 * FLOATS));
    assert_true(length > 0);
    for (int side = -1; side <= 1; side += 2) {
        const float distance = 1e-2f;
        float *moved = copy_of(b, 2 * FLOATS);
        add_scaled(moved, gradient, (float)side * distance / (float)length, 2 * FLOATS);
        vqgan_lpips_compare(tiny, distances, NULL, a, moved, 2, arena);
        slope += side * (distances[0] + distances[1]) / 2 / (2 * (double)distance);
        free(moved);
    }
    assert_near("the slope along the gradient", slope, length, 0.02);
    free(a);
    free(b);
    limn_arena_destroy(arena);
}

/* More pixels than are held at once, and sides that do not halve evenly: each picture is as if it were alone. */
static void a_batch_is_its_pictures(void **state) {
    (void)state;
    enum { ROWS = 261, COLUMNS = 270, ALL = ROWS * COLUMNS * 3 };
    limn_error error = {0};
    vqgan_lpips *lpips = vqgan_lpips_load(scratch_path("vgg16.pth"), scratch_path("vgg.pth"), ROWS, COLUMNS, true, &error);
    limn_arena *arena = tiny_arena();
    float *a = zeroed(2 * ALL, sizeof *a), *b = zeroed(2 * ALL, sizeof *b), *both = zeroed(2 * ALL, sizeof *both);
    float *one = zeroed(ALL, sizeof *one);
    double distances[2], alone;
    limn_random_fill_normal(a, 2 * ALL, 0.3f, 1, 0);
    limn_random_fill_normal(b, 2 * ALL, 0.3f, 1, 1);
    vqgan_lpips_compare(lpips, distances, both, a, b, 2, arena);
    vqgan_lpips_compare(lpips, &alone, one, a + ALL, b + ALL, 1, arena);
    assert_true(alone == distances[1]);
    for (size_t i = 0; i < ALL; i++) assert_true(fabsf(one[i] - 2 * both[ALL + i]) <= 1e-6f * fabsf(one[i])); /* of the mean */
    assert_true(limn_arena_peak(arena) < (size_t)VQGAN_LPIPS_BYTES_PER_PIXEL * ROWS * COLUMNS);
    free(a);
    free(b);
    free(both);
    free(one);
    limn_arena_destroy(arena);
    vqgan_lpips_free(lpips);
}

/* ---------------------------------------------------------------- in training */

static bench perceptual_bench(const char *assignment) {
    bench self = bench_setup(assignment);
    self.options.lpips = tiny;
    self.options.perceptual_weight = 20;
    return self;
}

static const parameter *last_layer(const bench *self) {
    return parameters_find(vqgan_get_parameters(self->model), "decoder.conv_out.weight");
}

static void check_decoder(const char *assignment) {
    bench self = perceptual_bench(assignment);
    vqgan_losses losses = bench_step(&self);
    assert_true(losses.perceptual > 1e-3);
    assert_true(fabs(losses.total - losses.l1 - losses.codebook - 20 * losses.perceptual) < 1e-9);
    const parameter *last = last_layer(&self);
    float *direction = copy_of(last->grad, last->size);
    double length = sqrt(sum_of_squares(direction, last->size)), slope = 0;
    scale_forward(direction, direction, (float)(1 / length), last->size);
    const float distance = 1e-3f;
    for (int side = -1; side <= 1; side += 2) {
        add_scaled(last->mutable_value, direction, (float)side * distance, last->size);
        losses = bench_step(&self);
        slope += side * (losses.l1 + 20 * losses.perceptual) / (2 * (double)distance);
        add_scaled(last->mutable_value, direction, (float)-side * distance, last->size);
    }
    assert_near("the slope along the gradient", slope, length, 0.02);
    free(direction);
    bench_free(&self);
}

static void the_decoder_follows_it(void **state) {
    (void)state;
    check_decoder(NULL);
    check_decoder("pixel_range=[0,1]");
}

/* λ is 0.8 times the ratio of the last layer's gradients: of L1 with LPIPS, and of the discriminator's opinion. */
static void the_adaptive_weight_counts_it(void **state) {
    (void)state;
    bench self = perceptual_bench(NULL);
    const parameter *last = last_layer(&self);
    bench_step(&self);
    float *of_pixels = copy_of(last->grad, last->size);
    self.options.use_discriminator = true;
    vqgan_losses losses = bench_step(&self);
    double length = sqrt(sum_of_squares(of_pixels, last->size)), generator = 0;
    for (size_t i = 0; i < last->size; i++)
        generator += pow((double)(last->grad[i] - of_pixels[i]) / losses.adaptive_weight, 2);
    double expected = 0.8 * length / (sqrt(generator) + 1e-4);
    assert_near("λ", losses.adaptive_weight, expected, 1e-3);
    free(of_pixels);
    bench_free(&self);
}

/* The decoder's gradient is what it is with a trained encoder, bit for bit; the encoder has none. */
static void a_frozen_encoder_changes_nothing_else(void **state) {
    (void)state;
    bench self = perceptual_bench(NULL);
    parameters *set = vqgan_get_parameters(self.model);
    bench_step(&self);
    float *before = copy_of(set->grads, set->size);
    self.options.encoder_frozen = true;
    bench_step(&self);
    for (size_t i = 0; i < set->count; i++) {
        const parameter *here = &set->list[i];
        bool frozen = strncmp(here->name, "encoder.", 8) == 0 || strncmp(here->name, "quant_conv.", 11) == 0;
        if (frozen)
            assert_true(sum_of_squares(here->grad, here->size) == 0);
        else
            assert_memory_equal(here->grad, before + (here->grad - set->grads), here->size * sizeof *before);
    }
    free(before);
    bench_free(&self);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanged_files_are_told),        cmocka_unit_test(a_tensor_that_lacks_is_named),
        cmocka_unit_test(another_network_is_refused),      cmocka_unit_test(small_pictures_are_refused),
        cmocka_unit_test(equal_pictures_have_no_distance), cmocka_unit_test(the_gradient_is_the_slope),
        cmocka_unit_test(a_batch_is_its_pictures),         cmocka_unit_test(the_decoder_follows_it),
        cmocka_unit_test(the_adaptive_weight_counts_it),   cmocka_unit_test(a_frozen_encoder_changes_nothing_else),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
