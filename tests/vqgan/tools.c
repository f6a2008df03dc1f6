#include "tests/vqgan/tools.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

json_t *tiny_json(const char *assignment) {
    limn_error error = {0};
    json_t *json = json_pack("{s:i, s:[i,i,i], s:i, s:[i], s:i, s:i, s:i, s:i}", "ch", 32, "ch_mult", 1, 2, 1, "num_res_blocks",
                             1, "attn_resolutions", 8, "resolution", 16, "z_channels", 24, "n_embed", 20, "embed_dim", 8);
    assert_non_null(json);
    if (assignment && limn_json_set(json, assignment, &error) != 0) fail_msg("%s", error.message);
    return json;
}

vqgan_config tiny_config(const char *assignment) {
    limn_error error = {0};
    vqgan_config config;
    json_t *json = tiny_json(assignment);
    if (vqgan_config_read(&config, json, "tiny", true, &error) != 0) fail_msg("%s", error.message);
    json_decref(json);
    return config;
}

vqgan *tiny_model(const char *assignment, bool training) {
    limn_error error = {0};
    vqgan_config config = tiny_config(assignment);
    vqgan *model = vqgan_create(&config, 11, training, &error);
    if (!model) fail_msg("%s", error.message);
    vqgan_config_free(&config);
    /* Residual branches start with a last convolution of zeros, and biases of zero: a gradient through them would be none. */
    parameters *set = vqgan_get_parameters(model);
    for (size_t i = 0; i < set->count; i++) {
        parameter *here = &set->list[i];
        float deviation = here->layout == PARAMETER_CONVOLUTION ? 0.57f / sqrtf((float)(here->size / here->shape[0])) : 0.05f;
        if (sum_of_squares(here->value, here->size) == 0)
            limn_random_fill_normal(here->mutable_value, here->size, deviation, 17, i);
    }
    parameter *codebook = parameters_find(set, "quantize.embedding.weight");
    limn_random_fill_normal(codebook->mutable_value, codebook->size, 0.3f, 5, 0);
    return model;
}

float *tiny_pictures(size_t B, uint64_t seed) {
    size_t n = B * 16 * 16 * 3;
    float *pictures = zeroed(n, sizeof *pictures);
    for (size_t i = 0; i < n; i++) {
        /* smooth in x and y, different in each picture, so that latents differ from place to place */
        float x = (float)(i / 3 % 16), y = (float)(i / 48 % 16), which = (float)(i / 768) + (float)seed;
        pictures[i] = sinf(0.7f * x + which) * cosf(0.5f * y * (float)(1 + i % 3)) + 0.2f * limn_random_normal(seed, 3, i);
    }
    return pictures;
}

typedef struct {
    char name[64];
    size_t rank, shape[4];
} lpips_weight;

/* Kernels keep the variance, heads are positive. */
static int produce_weight(void *context, size_t index, tensor_sink *sink, limn_error *error) {
    const lpips_weight *one = (const lpips_weight *)context + index;
    size_t fan_in = one->shape[1] * one->shape[2] * one->shape[3], count = one->shape[0] * fan_in;
    float *values = zeroed(count, sizeof *values), deviation = one->rank == 1 ? 0.1f : sqrtf(2.0f / (float)fan_in);
    limn_random_fill_normal(values, count, deviation, 3, limn_random_stream(one->name));
    for (size_t i = 0; one->name[0] == 'l' && i < count; i++) values[i] = fabsf(values[i]);
    int status = tensor_sink_write(sink, values, count * sizeof *values, error);
    free(values);
    return status;
}

static void write_weights(const char *path, const lpips_weight *weights, size_t count) {
    limn_error error = {0};
    tensor tensors[32];
    for (size_t i = 0; i < count; i++) {
        tensors[i] = (tensor){.name = weights[i].name, .type = TENSOR_F32, .rank = weights[i].rank};
        memcpy(tensors[i].shape, weights[i].shape, sizeof weights[i].shape);
    }
    if (pytorch_write(path, tensors, count, NULL, produce_weight, (void *)(uintptr_t)weights, &error))
        fail_msg("%s", error.message);
}

static size_t keep(lpips_weight *weights, size_t count, const char *left_out) {
    return count + (left_out == NULL || strcmp(weights[count].name, left_out) != 0);
}

void write_vgg(const char *path, const char *left_out) {
    static const size_t positions[] = {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28};
    static const size_t channels[] = {3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512};
    lpips_weight weights[26];
    size_t count = 0;
    for (size_t i = 0; i < 13; i++) {
        weights[count] = (lpips_weight){.rank = 4, .shape = {channels[i + 1], channels[i], 3, 3}};
        snprintf(weights[count].name, sizeof weights[count].name, "features.%zu.weight", positions[i]);
        count = keep(weights, count, left_out);
        weights[count] = (lpips_weight){.rank = 1, .shape = {channels[i + 1], 1, 1, 1}};
        snprintf(weights[count].name, sizeof weights[count].name, "features.%zu.bias", positions[i]);
        count = keep(weights, count, left_out);
    }
    write_weights(path, weights, count);
}

void write_heads(const char *path, const char *left_out) {
    static const size_t channels[] = {64, 128, 256, 512, 512};
    lpips_weight weights[5];
    size_t count = 0;
    for (size_t i = 0; i < 5; i++) {
        weights[count] = (lpips_weight){.rank = 4, .shape = {1, channels[i], 1, 1}};
        snprintf(weights[count].name, sizeof weights[count].name, "lin%zu.model.1.weight", i);
        count = keep(weights, count, left_out);
    }
    write_weights(path, weights, count);
}

limn_arena *tiny_arena(void) {
    limn_error error = {0};
    limn_arena *arena = limn_arena_create((size_t)4 << 30, &error);
    if (!arena) fail_msg("%s", error.message);
    return arena;
}

void *zeroed(size_t count, size_t size) {
    limn_error error = {0};
    void *memory = limn_allocate(count, size, &error);
    if (!memory) fail_msg("%s", error.message);
    return memory;
}

float *copy_of(const float *values, size_t count) {
    float *copy = zeroed(count, sizeof *copy);
    memcpy(copy, values, count * sizeof *copy);
    return copy;
}

void assert_near(const char *what, double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance * fabs(expected))) fail_msg("%s: %.6g, expected %.6g", what, got, expected);
}

bench bench_setup(const char *assignment) {
    limn_error error = {0};
    bench self = {.model = tiny_model(assignment, true),
                  .discriminator = vqgan_discriminator_create(2, 4, 3, &error),
                  .arena = tiny_arena(),
                  .pictures = tiny_pictures(BENCH_B, 5),
                  .options = {.codebook_weight = 1, .discriminator_weight = 0.8}};
    assert_non_null(self.discriminator);
    return self;
}

void bench_free(bench *self) {
    vqgan_free(self->model);
    vqgan_discriminator_free(self->discriminator);
    limn_arena_destroy(self->arena);
    free(self->pictures);
}

vqgan_losses bench_step(bench *self) {
    vqgan_losses losses;
    parameters_zero_grads(vqgan_get_parameters(self->model));
    vqgan_generator_step(self->model, self->discriminator, &losses, NULL, NULL, self->tokens, self->pictures, BENCH_B,
                         &self->options, self->arena);
    return losses;
}
