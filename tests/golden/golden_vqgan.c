/* golden-vqgan DIR: the VQGAN against taming-transformers. --only takes the names of golden.safetensors, up to the slash. */
#include "tests/golden/golden.h"
#include "vqgan/vqgan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double STATE_TOLERANCE = 5e-5; /* of the largest value */
static const double LOSS_TOLERANCE = 1e-5;
static const double GRADIENT_TOLERANCE = 1e-4; /* of the larger of the tensor's largest and a hundredth of the largest of all */

typedef struct {
    golden report;
    tensor_file *expected;
    vqgan *model;
    vqgan_discriminator *discriminator;
    limn_arena *arena;
    size_t B, side, latent_side;
    float *pictures, *reconstruction, *latent, *logits, *room; /* room: for one array in the file's layout */
    int32_t *tokens;
    vqgan_loss_options options;
} run;

static float largest_of(const tensor *source) {
    float largest = 0;
    for (size_t i = 0; i < source->count; i++) {
        float value;
        tensor_to_float(source, i, 1, &value);
        largest = fmaxf(largest, fabsf(value));
    }
    return largest;
}

/* The largest value of all tensors PREFIX/…. */
static float largest_under(const tensor_file *file, const char *prefix) {
    float largest = 0;
    size_t length = strlen(prefix);
    for (size_t i = 0; i < tensor_file_count(file); i++) {
        const tensor *source = tensor_file_at(file, i);
        if (strncmp(source->name, prefix, length) == 0 && source->name[length] == '/')
            largest = fmaxf(largest, largest_of(source));
    }
    return largest;
}

static void compare_value(run *self, const char *name, double got, double tolerance) {
    if (!golden_wants(&self->report, name)) return;
    const tensor *expected = tensor_file_find(self->expected, name);
    float value = NAN;
    if (expected && expected->count == 1) tensor_to_float(expected, 0, 1, &value);
    golden_compare_value(&self->report, name, got, (double)value, tolerance);
}

static void compare_picture(run *self, const char *name, const float *got, size_t side, size_t C) {
    if (!golden_wants(&self->report, name)) return;
    golden_exchange(self->room, got, self->B, side * side, C);
    golden_compare(&self->report, name, self->room, self->B * side * side * C, tensor_file_find(self->expected, name), 0,
                   STATE_TOLERANCE);
}

/* The largest value of the whole of a gradient whose first values alone are in the golden file: ours, but no more than the
 * original's norm, so that a wrong gradient does not widen its own tolerance. */
static double largest_of_whole(const run *self, const parameter *here) {
    char name[256];
    snprintf(name, sizeof name, "grad_gan_norm/%s", here->name);
    const tensor *source = tensor_file_find(self->expected, name);
    float norm = source ? largest_of(source) : 0, largest = 0;
    for (size_t i = 0; i < here->size; i++) largest = fmaxf(largest, fabsf(here->grad[i]));
    return (double)fminf(largest, norm);
}

/* Compares the gradients of a set, the first 64 values of each, or their norms, with PREFIX/NAME. */
typedef enum { WHOLE, HEAD, NORM } part;

static void compare_gradients(run *self, const parameters *set, const char *prefix, part wanted) {
    if (!golden_wants(&self->report, prefix)) return;
    double floor = (double)largest_under(self->expected, prefix) / 100;
    if (wanted == HEAD)
        for (size_t i = 0; i < set->count; i++) floor = fmax(floor, largest_of_whole(self, &set->list[i]) / 100);
    for (size_t i = 0; i < set->count; i++) {
        const parameter *here = &set->list[i];
        char name[256];
        snprintf(name, sizeof name, "%s/%s", prefix, here->name);
        const tensor *expected = tensor_file_find(self->expected, name);
        double reference = fmax(floor, expected ? (double)largest_of(expected) : 0);
        size_t count = here->size;
        vqgan_layout_to_file(here, self->room, here->grad);
        if (wanted == HEAD) {
            reference = fmax(reference, largest_of_whole(self, here));
            if (count > 64) count = 64;
        } else if (wanted == NORM) {
            self->room[0] = (float)sqrt(sum_of_squares(here->grad, here->size));
            count = 1;
        }
        golden_compare(&self->report, name, self->room, count, expected, reference, GRADIENT_TOLERANCE);
    }
}

/* The pictures of the golden file, channels last. */
static int read_pictures(run *self, limn_error *error) {
    const vqgan_config *config = vqgan_get_config(self->model);
    const tensor *image = tensor_file_find(self->expected, "image");
    if (!image || image->rank != 4) return limn_fail(error, "%s: no image of rank 4", tensor_file_path(self->expected));
    self->B = image->shape[0];
    self->side = config->resolution;
    self->latent_side = config->resolution >> (config->levels - 1);
    size_t shape[4] = {self->B, 3, self->side, self->side};
    if (self->B == 0 || self->B > 64 || !tensor_file_need(self->expected, "image", 4, shape, error))
        return limn_fail_context(error, "the pictures do not fit the config's resolution");
    size_t L = vqgan_token_count(self->model), room = image->count;
    if (self->B * L * config->embed_dim > room) room = self->B * L * config->embed_dim;
    parameters *sets[2] = {vqgan_get_parameters(self->model), vqgan_discriminator_get_parameters(self->discriminator)};
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < sets[s]->count; i++)
            if (sets[s]->list[i].size > room) room = sets[s]->list[i].size;
    self->room = limn_allocate(room, sizeof(float), error);
    self->pictures = limn_allocate(image->count, sizeof(float), error);
    self->reconstruction = limn_allocate(image->count, sizeof(float), error);
    self->latent = limn_allocate(self->B * L * config->embed_dim, sizeof(float), error);
    self->tokens = limn_allocate(self->B * L, sizeof(int32_t), error);
    if (!self->room || !self->pictures || !self->reconstruction || !self->latent || !self->tokens) return -1;
    tensor_to_float(image, 0, image->count, self->room);
    golden_exchange(self->pictures, self->room, self->B, 3, self->side * self->side);
    return 0;
}

/* A discriminator as wide and deep as the weights in the golden file, filled with them. */
static int read_discriminator(run *self, limn_error *error) {
    const tensor *first = tensor_file_find(self->expected, "discriminator/main.0.weight");
    if (!first || first->rank != 4)
        return limn_fail(error, "%s: no discriminator/main.0.weight", tensor_file_path(self->expected));
    size_t n_layers = 0, last = 0;
    for (size_t i = 0; i < tensor_file_count(self->expected); i++) {
        size_t position;
        if (sscanf(tensor_file_at(self->expected, i)->name, "discriminator/main.%zu.", &position) == 1 && position > last)
            last = position;
    }
    n_layers = last / 3; /* the last convolution stands at 2 + 3·n_layers */
    self->discriminator = vqgan_discriminator_create(n_layers, first->shape[0], 0, error);
    if (!self->discriminator) return -1;
    parameters *set = vqgan_discriminator_get_parameters(self->discriminator);
    for (size_t i = 0; i < set->count; i++) {
        const parameter *here = &set->list[i];
        char name[256];
        snprintf(name, sizeof name, "discriminator/%s", here->name);
        size_t shape[4] = {here->shape[0], here->shape[3], here->shape[1], here->shape[2]};
        const tensor *source = tensor_file_need(self->expected, name, here->rank, here->rank == 4 ? shape : here->shape, error);
        float *values = source ? limn_allocate(here->size, sizeof *values, error) : NULL;
        if (!values) return -1;
        tensor_to_float(source, 0, here->size, values);
        vqgan_layout_from_file(here, here->mutable_value, values);
        free(values);
    }
    return 0;
}

/* The weights of the losses, where the folder has the original's config.yaml; else what the goldens were made with. */
static int read_options(run *self, limn_error *error) {
    self->options = (vqgan_loss_options){.codebook_weight = 1, .discriminator_weight = 0.8};
    char path[4096];
    if (limn_path_join(path, sizeof path, self->report.path, "config.yaml", error) != 0) return -1;
    if (!limn_file_exists(path)) return 0;
    json_t *yaml = limn_json_load(path, error);
    if (!yaml) return -1;
    const json_t *losses = json_object_get(
        json_object_get(json_object_get(json_object_get(json_object_get(yaml, "model"), "params"), "lossconfig"), "params"),
        "disc_weight");
    if (losses) self->options.discriminator_weight = json_number_value(losses);
    json_decref(yaml);
    return 0;
}

static int set_up(run *self, limn_error *error) {
    char path[4096];
    self->model = vqgan_load(self->report.path, true, error);
    if (!self->model || limn_path_join(path, sizeof path, self->report.path, "golden.safetensors", error) != 0) return -1;
    self->expected = safetensors_open(path, error);
    self->arena = limn_arena_create((size_t)64 << 30, error);
    if (!self->expected || !self->arena || read_options(self, error) != 0 || read_discriminator(self, error) != 0) return -1;
    return read_pictures(self, error);
}

static void compare_inference(run *self) {
    const vqgan_config *config = vqgan_get_config(self->model);
    vqgan_encode(self->model, self->tokens, self->latent, self->pictures, self->B, self->arena);
    compare_picture(self, "latent", self->latent, self->latent_side, config->embed_dim);
    if (golden_wants(&self->report, "indices"))
        golden_compare_ids(&self->report, "indices", self->tokens, self->B * vqgan_token_count(self->model),
                           tensor_file_find(self->expected, "indices"));
    vqgan_decode(self->model, self->reconstruction, self->tokens, self->B, self->arena);
    compare_picture(self, "reconstruction", self->reconstruction, self->side, 3);
}

/* The same with weights packed: in fp32 against the original, in bf16 against our fp32. Pictures' differences in units of the
 * original's spread, in decibels. */
static void compare_prepared(run *self, limn_error *error) {
    const size_t L = vqgan_token_count(self->model), pixels = self->B * self->side * self->side * 3;
    float *rounded = limn_allocate(pixels, sizeof *rounded, error);
    int32_t *tokens = limn_allocate(self->B * L, sizeof *tokens, error);
    static const char *const backends[] = {"onednn", "auto"};
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        if (nn_choose_backend(backends[i], PRECISION_FP32, NULL) != 0) continue;
        if (!rounded || !tokens || vqgan_prepare(self->model, PRECISION_FP32, VQGAN_BOTH, error) != 0) {
            golden_error(&self->report, error);
            goto done;
        }
        printf("packed, %s:\n", backends[i]);
        compare_inference(self);
    }
    if (vqgan_prepare(self->model, PRECISION_BF16, VQGAN_BOTH, error) != 0) {
        golden_error(&self->report, error);
        goto done;
    }
    if (!golden_wants(&self->report, "bf16")) goto done;
    vqgan_decode(self->model, rounded, self->tokens, self->B, self->arena);
    vqgan_encode(self->model, tokens, NULL, self->pictures, self->B, self->arena);
    double squares = 0;
    size_t same = 0;
    float least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < pixels; i++) {
        const double difference = (double)rounded[i] - (double)self->reconstruction[i];
        squares += difference * difference;
        least = fminf(least, self->reconstruction[i]);
        most = fmaxf(most, self->reconstruction[i]);
    }
    for (size_t i = 0; i < self->B * L; i++) same += tokens[i] == self->tokens[i];
    const double range = (double)(most - least), psnr = 10 * log10(range * range * (double)pixels / squares);
    printf("bf16: %zu of %zu tokens are fp32's; pictures differ by %.1f dB of their range\n", same, self->B * L, psnr);
    golden_compare_value(&self->report, "bf16", fmin(psnr, 30), 30,
                         1e-9); /* 42 to 49 on the goldens we have; a fault gives 10 */
done:
    free(rounded);
    free(tokens);
}

static void compare_generator(run *self) {
    parameters *set = vqgan_get_parameters(self->model);
    vqgan_losses losses;
    vqgan_generator_step(self->model, NULL, &losses, NULL, NULL, NULL, self->pictures, self->B, &self->options, self->arena);
    compare_value(self, "l1_loss", losses.l1, LOSS_TOLERANCE);
    compare_value(self, "codebook_loss", losses.codebook, LOSS_TOLERANCE);
    compare_gradients(self, set, "grad_l1_codebook", WHOLE);

    parameters_zero_grads(set);
    self->options.use_discriminator = true;
    vqgan_generator_step(self->model, self->discriminator, &losses, self->reconstruction, NULL, NULL, self->pictures, self->B,
                         &self->options, self->arena);
    compare_value(self, "g_loss", losses.generator, LOSS_TOLERANCE);
    compare_value(self, "d_weight", losses.adaptive_weight, GRADIENT_TOLERANCE * fmax(1, losses.adaptive_weight));
    compare_value(self, "total_loss_gan", losses.total, LOSS_TOLERANCE);
    compare_gradients(self, set, "grad_gan_norm", NORM);
    compare_gradients(self, set, "grad_gan_head", HEAD);
}

static int compare_discriminator(run *self, limn_error *error) {
    vqgan_losses losses;
    size_t side = self->side, count = vqgan_discriminator_forward(self->discriminator, NULL, NULL, self->B, side, side, NULL);
    if (count == 0) return limn_fail(error, "the pictures are too small for the discriminator");
    self->logits = limn_allocate(count, sizeof(float), error);
    if (!self->logits) return -1;
    vqgan_discriminator_forward(self->discriminator, self->logits, self->reconstruction, self->B, side, side, self->arena);
    if (golden_wants(&self->report, "logits_fake"))
        golden_compare(&self->report, "logits_fake", self->logits, count, tensor_file_find(self->expected, "logits_fake"), 0,
                       STATE_TOLERANCE);
    vqgan_discriminator_step(self->discriminator, &losses, self->pictures, self->reconstruction, self->B, side, side,
                             self->arena);
    compare_value(self, "disc_loss", losses.discriminator, LOSS_TOLERANCE);
    compare_gradients(self, vqgan_discriminator_get_parameters(self->discriminator), "grad_disc", WHOLE);
    return 0;
}

static void tear_down(run *self) {
    free(self->pictures);
    free(self->reconstruction);
    free(self->latent);
    free(self->logits);
    free(self->room);
    free(self->tokens);
    limn_arena_destroy(self->arena);
    vqgan_discriminator_free(self->discriminator);
    vqgan_free(self->model);
    tensor_file_close(self->expected);
}

int main(int argc, char **argv) {
    run self = {0};
    limn_error error = {0};
    nn_prepare_threads(argv);
    golden_begin(&self.report, "golden-vqgan", argc, argv);
    if (set_up(&self, &error) != 0) {
        golden_error(&self.report, &error);
    } else {
        compare_inference(&self);
        compare_generator(&self);
        if (compare_discriminator(&self, &error) != 0) golden_error(&self.report, &error);
        compare_prepared(&self, &error);
    }
    tear_down(&self);
    return golden_finish(&self.report);
}
