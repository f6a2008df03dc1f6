/* The generator's and the discriminator's gradients against central differences of the losses.
 *
 * A step along the gradient itself must change the loss by the step times the gradient's length. The golden data check every
 * value; this checks configs and loss weights that have none. Steps are small because L1, LeakyReLU and hinge have corners.
 * Tokens must not change under the steps, and where the model does not follow the loss exactly (the straight-through estimator,
 * the legacy codebook loss) the test says what is compared. */
#include "tests/vqgan/tools.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = BENCH_B, SIDE = 16, TOKENS = BENCH_TOKENS, FLOATS = B * SIDE * SIDE * 3 };

/* The discriminator's weights are large enough that its logits spread to both sides of the hinge. */
static bench spread_bench(const char *assignment) {
    bench self = bench_setup(assignment);
    parameters *set = vqgan_discriminator_get_parameters(self.discriminator);
    for (size_t i = 0; i < set->size; i++) set->storage[i] *= 4;
    return self;
}

/* Parameters whose names begin with one of two prefixes move along `direction`, as long as the whole set. */
static void move(parameters *set, const char *prefix, const char *other, const float *direction, float distance) {
    size_t offset = 0;
    for (size_t i = 0; i < set->count; i++) {
        parameter *here = &set->list[i];
        bool chosen =
            strncmp(here->name, prefix, strlen(prefix)) == 0 || (other && strncmp(here->name, other, strlen(other)) == 0);
        if (chosen) add_scaled(here->mutable_value, direction + offset, distance, here->size);
        offset += here->size;
    }
}

/* The length of the chosen part of a direction, which is scaled to length 1. */
static double normalise(const parameters *set, const char *prefix, const char *other, float *direction) {
    double squares = 0;
    size_t offset = 0;
    for (size_t i = 0; i < set->count; i++) {
        const parameter *here = &set->list[i];
        if (strncmp(here->name, prefix, strlen(prefix)) == 0 || (other && strncmp(here->name, other, strlen(other)) == 0))
            squares += sum_of_squares(direction + offset, here->size);
        offset += here->size;
    }
    assert_true(squares > 0);
    scale_forward(direction, direction, (float)(1 / sqrt(squares)), set->size);
    return sqrt(squares);
}

typedef double (*loss_function)(bench *self);

/* The derivative of a loss along a direction of length 1. */
static double slope(bench *self, parameters *set, const char *prefix, const char *other, const float *direction, float distance,
                    loss_function loss) {
    float *before = copy_of(set->storage, set->size);
    int32_t tokens[B * TOKENS];
    memcpy(tokens, self->tokens, sizeof tokens);
    move(set, prefix, other, direction, distance);
    double high = loss(self);
    assert_memory_equal(tokens, self->tokens, sizeof tokens);
    memcpy(set->storage, before, set->size * sizeof *before);
    move(set, prefix, other, direction, -distance);
    double low = loss(self);
    assert_memory_equal(tokens, self->tokens, sizeof tokens);
    memcpy(set->storage, before, set->size * sizeof *before);
    free(before);
    return (high - low) / (2 * (double)distance);
}

static double fixed_weight; /* the adaptive weight is a constant of the gradient */

static double loss_of_pictures(bench *self) {
    vqgan_losses losses = bench_step(self);
    return losses.l1 + fixed_weight * losses.generator;
}

static double loss_of_codes(bench *self) {
    return bench_step(self).codebook;
}

/* The decoder follows L1 and the discriminator; only the codebook loss does not concern it. */
static void check_decoder(const char *assignment, bool use_discriminator) {
    bench self = spread_bench(assignment);
    parameters *set = vqgan_get_parameters(self.model);
    self.options.use_discriminator = use_discriminator;
    vqgan_losses losses = bench_step(&self);
    if (use_discriminator) assert_true(losses.adaptive_weight > 0);
    assert_true(fabs(losses.total - losses.l1 - losses.codebook - losses.adaptive_weight * losses.generator) < 1e-9);
    fixed_weight = losses.adaptive_weight;
    const char *const parts[][2] = {
        {"decoder.", "post_quant_conv."}, {"decoder.up.2.", NULL}, {"decoder.conv_out.", NULL}, {"decoder.mid.", NULL}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bench_step(&self);
        float *direction = copy_of(set->grads, set->size);
        double length = normalise(set, parts[i][0], parts[i][1], direction);
        assert_near(parts[i][0], length, slope(&self, set, parts[i][0], parts[i][1], direction, 4e-4f, loss_of_pictures), 0.02);
        free(direction);
    }
    bench_free(&self);
}

static void the_decoder_follows_l1(void **state) {
    (void)state;
    check_decoder(NULL, false);
    check_decoder("attn_resolutions=[4,16]", false);
}

static void the_decoder_follows_the_discriminator(void **state) {
    (void)state;
    check_decoder(NULL, true);
}

static void resampling_without_convolutions(void **state) {
    (void)state;
    check_decoder("resamp_with_conv=false", true);
}

/* The codebook loss alone is what gradients with weight 1000 have and with weight 0 have not, over 1000. Its value is
 * 1.25·mean((q − z)²), of which the encoder gets the derivative of mean((q − z)²) and the codes that of 0.25 of it. */
static void encoder_and_codes_follow_the_codebook_loss(void **state) {
    (void)state;
    const char *const assignments[] = {NULL, "resamp_with_conv=false"};
    for (size_t i = 0; i < 2; i++) {
        bench self = spread_bench(assignments[i]);
        parameters *set = vqgan_get_parameters(self.model);
        self.options.codebook_weight = 0;
        bench_step(&self);
        float *without = copy_of(set->grads, set->size);
        self.options.codebook_weight = 1000;
        bench_step(&self);
        float *direction = copy_of(set->grads, set->size);
        add_scaled(direction, without, -1, set->size);
        scale_forward(direction, direction, 1e-3f, set->size);
        float *of_codes = copy_of(direction, set->size);
        double length = normalise(set, "encoder.", "quant_conv.", direction);
        assert_near("encoder", length, slope(&self, set, "encoder.", "quant_conv.", direction, 2e-4f, loss_of_codes) / 1.25,
                    0.02);
        length = normalise(set, "quantize.", NULL, of_codes);
        assert_near("codes", length, slope(&self, set, "quantize.", NULL, of_codes, 2e-3f, loss_of_codes) * 0.25 / 1.25, 0.02);
        free(without);
        free(direction);
        free(of_codes);
        bench_free(&self);
    }
}

/* Straight through: the latents get the gradient of their codes. When all codes and the latents' last bias move alike, tokens
 * stay and every code in use moves; L1's derivative is then what the bias was given. */
static void latents_get_the_gradient_of_their_codes(void **state) {
    (void)state;
    bench self = spread_bench(NULL);
    parameters *set = vqgan_get_parameters(self.model);
    self.options.codebook_weight = 0;
    self.options.use_discriminator = true;
    fixed_weight = bench_step(&self).adaptive_weight;
    const parameter *bias = parameters_find(set, "quant_conv.bias"), *codes = parameters_find(set, "quantize.embedding.weight");
    assert_true(sum_of_squares(codes->grad, codes->size) == 0);
    float *direction = zeroed(set->size, sizeof *direction);
    double length = sqrt(sum_of_squares(bias->grad, bias->size));
    for (size_t c = 0; c < bias->size; c++) {
        float along = bias->grad[c] / (float)length;
        direction[(size_t)(bias->value - set->storage) + c] = along;
        for (size_t v = 0; v < codes->shape[0]; v++)
            direction[(size_t)(codes->value - set->storage) + v * bias->size + c] = along;
    }
    assert_near("quant_conv.bias", length,
                slope(&self, set, "quant_conv.bias", "quantize.", direction, 4e-4f, loss_of_pictures), 0.02);
    free(direction);
    bench_free(&self);
}

/* Without a codebook the whole model follows the loss, and neither codes nor tokens are touched. */
static void without_a_codebook_all_follow(void **state) {
    (void)state;
    const char *const assignments[] = {NULL, "resamp_with_conv=false"};
    for (size_t i = 0; i < 2; i++) {
        bench self = spread_bench(assignments[i]);
        parameters *set = vqgan_get_parameters(self.model);
        self.options.without_codebook = true;
        fixed_weight = 0;
        for (size_t t = 0; t < B * TOKENS; t++) self.tokens[t] = -7;
        vqgan_losses losses = bench_step(&self);
        assert_true(losses.codebook == 0 && losses.total == losses.l1);
        assert_int_equal(self.tokens[0], -7);
        const parameter *codes = parameters_find(set, "quantize.embedding.weight");
        assert_true(sum_of_squares(codes->grad, codes->size) == 0);
        const char *const parts[] = {"encoder.", "encoder.down.0.", "quant_conv.", ""};
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
            bench_step(&self);
            float *direction = copy_of(set->grads, set->size);
            double length = normalise(set, parts[k], NULL, direction);
            assert_near(parts[k], length, slope(&self, set, parts[k], NULL, direction, 5e-5f, loss_of_pictures), 0.02);
            free(direction);
        }
        bench_free(&self);
    }
}

static double loss_of_discriminator(bench *self) {
    vqgan_losses losses = {0};
    parameters_zero_grads(vqgan_discriminator_get_parameters(self->discriminator));
    /* the second picture plays the forgery */
    vqgan_discriminator_step(self->discriminator, &losses, self->pictures, self->pictures + FLOATS / 2, 1, SIDE, SIDE,
                             self->arena);
    return losses.discriminator;
}

static void the_discriminator_follows_the_hinge(void **state) {
    (void)state;
    bench self = spread_bench(NULL);
    parameters *set = vqgan_discriminator_get_parameters(self.discriminator);
    const char *const parts[] = {"main.", "main.0.", "main.3.", "main.8."};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        loss_of_discriminator(&self);
        float *direction = copy_of(set->grads, set->size);
        double length = normalise(set, parts[i], NULL, direction);
        assert_near(parts[i], length, slope(&self, set, parts[i], NULL, direction, 5e-4f, loss_of_discriminator), 0.02);
        free(direction);
    }
    bench_free(&self);
}

/* The generator's pass leaves the discriminator's gradients alone, and both passes move its running statistics. */
static void statistics_run_and_gradients_stay(void **state) {
    (void)state;
    bench self = spread_bench(NULL);
    parameters *set = vqgan_discriminator_get_parameters(self.discriminator);
    size_t count;
    float *statistics = vqgan_discriminator_statistics(self.discriminator, &count);
    assert_int_equal(count, 2 * (8 + 16));
    float *before = copy_of(statistics, count);
    self.options.use_discriminator = true;
    bench_step(&self);
    assert_true(sum_of_squares(set->grads, set->size) == 0);
    assert_memory_not_equal(before, statistics, count * sizeof *before);
    memcpy(before, statistics, count * sizeof *before);
    loss_of_discriminator(&self);
    assert_true(sum_of_squares(set->grads, set->size) > 0);
    assert_memory_not_equal(before, statistics, count * sizeof *before);
    free(before);
    bench_free(&self);
}

/* Gradients of two passes add up. */
static void gradients_accumulate(void **state) {
    (void)state;
    bench self = spread_bench(NULL);
    parameters *set = vqgan_get_parameters(self.model);
    vqgan_losses losses;
    bench_step(&self);
    float *once = copy_of(set->grads, set->size);
    vqgan_generator_step(self.model, NULL, &losses, NULL, NULL, NULL, self.pictures, B, &self.options, self.arena);
    for (size_t i = 0; i < set->size; i++) assert_true(fabsf(set->grads[i] - 2 * once[i]) <= 1e-5f);
    free(once);
    bench_free(&self);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_decoder_follows_l1),
        cmocka_unit_test(the_decoder_follows_the_discriminator),
        cmocka_unit_test(resampling_without_convolutions),
        cmocka_unit_test(encoder_and_codes_follow_the_codebook_loss),
        cmocka_unit_test(latents_get_the_gradient_of_their_codes),
        cmocka_unit_test(without_a_codebook_all_follow),
        cmocka_unit_test(the_discriminator_follows_the_hinge),
        cmocka_unit_test(statistics_run_and_gradients_stay),
        cmocka_unit_test(gradients_accumulate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
