/* How fast a configuration's VQGAN encodes and decodes on this machine, with random weights and random data. */
#include "vqgan/internal.h"

#include <math.h>
#include <stdlib.h>

/* Every parameter that starts at zero gets values: a model whose branches end in zeros may not be slower, but shows less. */
static void fill_zeros(parameters *set) {
    for (size_t i = 0; i < set->count; i++) {
        parameter *here = &set->list[i];
        if (here->value[0] == 0)
            limn_random_fill_normal(here->mutable_value, here->size, 0.5f / sqrtf((float)(here->size / here->shape[0])), 1, i);
    }
}

typedef struct {
    vqgan *model;
    float *pictures;
    int32_t *tokens;
    limn_arena *arena;
} bench;

static int allocate(bench *self, const char *path, nn_precision precision, bool decode, size_t B, limn_error *error) {
    json_t *json = limn_json_load(path, error), *section = json ? json_object_get(json, "vqgan") : NULL;
    vqgan_config config = {0};
    int status = section ? vqgan_config_read(&config, section, path, true, error)
                 : json  ? limn_fail_usage(error, "%s: no section vqgan", path)
                         : -1;
    if (status == 0 && !(self->model = vqgan_create(&config, 1, false, error))) status = -1;
    if (status == 0) {
        const size_t pixels = B * config.resolution * config.resolution * VQGAN_PICTURE_CHANNELS;
        const size_t tokens = B * vqgan_token_count(self->model);
        fill_zeros(&self->model->set);
        self->pictures = limn_allocate(pixels, sizeof *self->pictures, error);
        self->tokens = limn_allocate(tokens, sizeof *self->tokens, error);
        self->arena = limn_arena_create((size_t)1 << 38, error);
        if (!self->pictures || !self->tokens || !self->arena) status = -1;
        for (size_t i = 0; status == 0 && i < pixels; i++) self->pictures[i] = limn_random_uniform(1, 0, i);
        for (size_t i = 0; status == 0 && i < tokens; i++)
            self->tokens[i] = (int32_t)limn_random_below(1, 1, i, config.n_embed);
    }
    if (status == 0) status = vqgan_prepare(self->model, precision, decode ? VQGAN_DECODER : VQGAN_ENCODER, error);
    vqgan_config_free(&config);
    json_decref(json);
    return status;
}

int vqgan_measure(const char *path, bool decode, nn_precision precision, size_t B, size_t steps, vqgan_measurement *out,
                  limn_error *error) {
    bench self = {0};
    *out = (vqgan_measurement){.seconds = INFINITY};
    int status = allocate(&self, path, precision, decode, B, error);
    for (size_t step = 0; status == 0 && step <= steps; step++) {
        const double begin = limn_seconds();
        if (decode)
            vqgan_decode(self.model, self.pictures, self.tokens, B, self.arena);
        else
            vqgan_encode(self.model, self.tokens, NULL, self.pictures, B, self.arena);
        const double seconds = limn_seconds() - begin;
        limn_log(LIMN_LOG_INFO, "step %zu%s: %.3f s", step + 1, step == 0 ? " (warm-up)" : "", seconds);
        if (step > 0 && seconds < out->seconds) out->seconds = seconds;
        if (limn_stop_requested()) status = limn_fail(error, "stopped before it was measured");
    }
    if (status == 0) {
        const vqgan_config *config = &self.model->config;
        const double codes = 2.0 * (double)(vqgan_token_count(self.model) * config->n_embed * config->embed_dim);
        out->flops =
            (double)B * (decode ? vqgan_chain_flops(&self.model->decoder) : vqgan_chain_flops(&self.model->encoder) + codes);
    }
    vqgan_free(self.model);
    limn_arena_destroy(self.arena);
    free(self.pictures);
    free(self.tokens);
    return status;
}
