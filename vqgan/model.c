/* Making a VQGAN: its parameters, their first values, and the small things asked of it. */
#include "vqgan/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int vqgan_check_training(const vqgan_config *config, bool training, limn_error *error) {
    if (!training || !(config->dropout > 0)) return 0;
    return limn_fail_usage(error, "dropout %g: a VQGAN is trained without; set it to 0", config->dropout);
}

vqgan *vqgan_describe(const vqgan_config *config, bool with_encoder, limn_error *error) {
    vqgan *model = calloc(1, sizeof *model);
    if (!model) {
        limn_fail(error, "out of memory for a VQGAN");
        return NULL;
    }
    if (vqgan_config_copy(&model->config, config, error) != 0 || (with_encoder && vqgan_build_encoder(model, error) != 0))
        goto failed;
    model->codebook = parameters_add(&model->set, PARAMETER_PLAIN, 2, (const size_t[]){config->n_embed, config->embed_dim},
                                     error, "quantize.embedding.weight");
    if (model->codebook == SIZE_MAX || vqgan_build_decoder(model, error) != 0) goto failed;
    return model;
failed:
    vqgan_free(model);
    return NULL;
}

void vqgan_fill_uniform(parameter *self, float bound, uint64_t seed) {
    uint64_t stream = limn_random_stream(self->name);
#pragma omp parallel for
    for (size_t i = 0; i < self->size; i++) self->mutable_value[i] = bound * (2 * limn_random_uniform(seed, stream, i) - 1);
}

/* The last convolution of a residual branch starts at zero, and every other keeps the variance of its input: the model starts
 * as a chain of plain convolutions, in which colours are learnt at once. With PyTorch's default the strength of a colour is
 * lost between the branches' normalised outputs, and it takes some 1.6 times as many pictures to the same L1. */
static bool ends_a_branch(const char *name) {
    static const char *const ends[] = {".conv2.weight", ".proj_out.weight"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (length > strlen(ends[i]) && strcmp(name + length - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

/* A convolution's bias follows its weight in the set; a PARAMETER_PLAIN of rank 1 without a convolution before it belongs to a
 * norm. */
static void initialise(vqgan *model, uint64_t seed) {
    for (size_t i = 0; i < model->set.count; i++) {
        parameter *self = &model->set.list[i];
        if (i == model->codebook) {
            vqgan_fill_uniform(self, 1.0f / (float)self->shape[0], seed);
        } else if (self->layout == PARAMETER_CONVOLUTION) {
            float bound = ends_a_branch(self->name) ? 0 : sqrtf(3.0f / (float)(self->size / self->shape[0]));
            vqgan_fill_uniform(self, bound, seed);
            i++; /* its bias stays zero */
        } else { /* a norm's scale; its bias stays zero */
            for (size_t c = 0; c < self->size; c++) self->mutable_value[c] = 1;
            i++;
        }
    }
}

vqgan *vqgan_create(const vqgan_config *config, uint64_t seed, bool training, limn_error *error) {
    if (vqgan_check_training(config, training, error) != 0) return NULL;
    vqgan *model = vqgan_describe(config, true, error);
    if (!model) return NULL;
    if (parameters_allocate(&model->set, training, error) != 0) {
        vqgan_free(model);
        return NULL;
    }
    initialise(model, seed);
    return model;
}

void vqgan_free(vqgan *model) {
    if (!model) return;
    vqgan_free_prepared(model);
    vqgan_chain_free(&model->encoder);
    vqgan_chain_free(&model->decoder);
    parameters_free(&model->set);
    vqgan_config_free(&model->config);
    free(model);
}

const vqgan_config *vqgan_get_config(const vqgan *model) {
    return &model->config;
}

parameters *vqgan_get_parameters(vqgan *model) {
    return &model->set;
}

bool vqgan_can_encode(const vqgan *model) {
    return model->encoder.count > 0;
}

int vqgan_need_encoder(const vqgan *model, const char *directory, limn_error *error) {
    if (vqgan_can_encode(model)) return 0;
    return limn_fail(error, "%s: holds a decoder without an encoder; pictures are encoded with a whole VQGAN", directory);
}

size_t vqgan_token_count(const vqgan *model) {
    size_t side = model->config.resolution >> (model->config.levels - 1);
    return side * side;
}

const char *vqgan_get_sha256(const vqgan *model) {
    return model->sha256;
}

void vqgan_pixels_to_model(const vqgan *model, float *out, const float *in, size_t n) {
    float low = (float)model->config.pixel_min, range = (float)(model->config.pixel_max - model->config.pixel_min);
    for (size_t i = 0; i < n; i++) out[i] = low + range * in[i];
}

void vqgan_pixels_from_model(const vqgan *model, float *out, const float *in, size_t n) {
    float low = (float)model->config.pixel_min, factor = (float)(1 / (model->config.pixel_max - model->config.pixel_min));
    for (size_t i = 0; i < n; i++) {
        float value = (in[i] - low) * factor;
        out[i] = value > 1 ? 1 : value > 0 ? value : 0; /* also where it is not a number */
    }
}
