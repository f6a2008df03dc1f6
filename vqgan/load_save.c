/* VQGAN weights on disk, under taming's names, vqgan-jax's or min-dalle's. */
#include "vqgan/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- layouts */

/* out (O,C,P) from in (O,P,C). */
static void swap_inner(float *out, const float *in, size_t O, size_t P, size_t C) {
    for (size_t o = 0; o < O; o++)
        for (size_t p = 0; p < P; p++)
            for (size_t c = 0; c < C; c++) out[(o * C + c) * P + p] = in[(o * P + p) * C + c];
}

void vqgan_layout_to_file(const parameter *self, float *to, const float *from) {
    if (self->layout == PARAMETER_CONVOLUTION)
        swap_inner(to, from, self->shape[0], self->shape[1] * self->shape[2], self->shape[3]);
    else
        memcpy(to, from, self->size * sizeof *to);
}

void vqgan_layout_from_file(const parameter *self, float *to, const float *from) {
    if (self->layout == PARAMETER_CONVOLUTION)
        swap_inner(to, from, self->shape[0], self->shape[3], self->shape[1] * self->shape[2]);
    else
        memcpy(to, from, self->size * sizeof *to);
}

/* The shape that PyTorch gives the parameter: OIHW. */
static void file_shape(const parameter *self, size_t shape[4]) {
    memcpy(shape, self->shape, sizeof self->shape);
    if (self->layout != PARAMETER_CONVOLUTION) return;
    shape[1] = self->shape[3];
    shape[2] = self->shape[1];
    shape[3] = self->shape[2];
}

/* ---------------------------------------------------------------- others' names */

/* "encoder.down.0.block.1.conv1.weight" is "encoder/down_0/block_1/conv1/kernel" in vqgan-jax's tree. */
static void flax_name(const parameter *self, char out[256]) {
    const char *weight = self->layout == PARAMETER_CONVOLUTION ? "kernel" : self->rank == 2 ? "embedding" : "scale";
    size_t length = 0;
    for (const char *at = self->name; *at; at++) {
        if (strcmp(at, ".weight") == 0) {
            length += (size_t)snprintf(out + length, 256 - length, "/%s", weight);
            break;
        }
        bool number_follows = *at == '.' && at[1] >= '0' && at[1] <= '9';
        out[length++] = *at != '.' ? *at : number_follows ? '_' : '/';
    }
    out[length] = '\0';
}

void vqgan_place_of(const vqgan *model, size_t index, vqgan_naming naming, tensor_place *out) {
    const parameter *self = &model->set.list[index];
    *out = (tensor_place){.order = TENSOR_PYTORCH, .rank = self->rank, .layers = 1};
    file_shape(self, out->shape);
    if (naming == VQGAN_FLAX) {
        flax_name(self, out->name);
        if (self->layout == PARAMETER_CONVOLUTION) out->order = TENSOR_HWIO;
    } else if (naming == VQGAN_MIN_DALLE && index == model->codebook) {
        snprintf(out->name, sizeof out->name, "embedding.weight");
    } else {
        snprintf(out->name, sizeof out->name, "%s", self->name);
    }
}

int vqgan_find_naming(const tensor_file *file, vqgan_naming *out, char out_prefix[256], limn_error *error) {
    static const struct {
        const char *name; /* that every decoder has */
        vqgan_naming naming;
    } signs[] = {{"decoder/conv_in/kernel", VQGAN_FLAX}, {"decoder.conv_in.weight", VQGAN_TAMING}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (!tensor_file_find_prefix(file, signs[i].name, out_prefix)) continue;
        char codebook[512];
        snprintf(codebook, sizeof codebook, "%sembedding.weight", out_prefix);
        *out = tensor_file_find(file, codebook) ? VQGAN_MIN_DALLE : signs[i].naming;
        return 0;
    }
    return limn_fail(error, "%s: holds no VQGAN: none of its tensors is a decoder's conv_in", tensor_file_path(file));
}

bool vqgan_file_has_encoder(const tensor_file *file, vqgan_naming naming, const char *prefix) {
    return tensor_file_size(file, prefix, naming == VQGAN_FLAX ? "encoder/conv_in/kernel" : "encoder.conv_in.weight", 0) > 0;
}

int vqgan_check_weights(const vqgan *model, const tensor_file *file, vqgan_naming naming, const char *prefix,
                        limn_error *error) {
    for (size_t i = 0; i < model->set.count; i++) {
        tensor_place place;
        vqgan_place_of(model, i, naming, &place);
        if (!tensor_place_need(file, prefix, &place, error)) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- loading */

static int load_weights(vqgan *model, const tensor_file *file, vqgan_naming naming, const char *prefix, bool training,
                        limn_error *error) {
    size_t largest = 0;
    for (size_t i = 0; i < model->set.count; i++)
        if (model->set.list[i].size > largest) largest = model->set.list[i].size;
    if (parameters_allocate(&model->set, training, error) != 0) return -1;
    float *values = limn_allocate(largest, 2 * sizeof *values, error);
    if (!values) return -1;
    for (size_t i = 0; i < model->set.count; i++) {
        const parameter *self = &model->set.list[i];
        tensor_place place;
        vqgan_place_of(model, i, naming, &place);
        tensor_place_read(tensor_place_need(file, prefix, &place, error), &place, values, values + largest);
        vqgan_layout_from_file(self, self->mutable_value, values);
    }
    free(values);
    return 0;
}

/* What can be drawn from, and no more. */
static int keep_decoder(vqgan *model, nn_precision precision, limn_error *error) {
    if (vqgan_prepare(model, precision, VQGAN_DECODER, error) != 0) return -1;
    for (size_t i = 0; i < model->set.count; i++)
        if (model->set.list[i].layout == PARAMETER_CONVOLUTION) parameters_drop(&model->set, i);
    return 0;
}

/* Every tensor is checked before memory is taken, so that a config that asks for far more than the file has is refused. */
static vqgan *load_from(const vqgan_config *config, const tensor_file *file, vqgan_naming naming, const char *prefix,
                        bool with_encoder, bool training, limn_error *error) {
    vqgan *model = vqgan_describe(config, with_encoder && vqgan_file_has_encoder(file, naming, prefix), error);
    if (model && (!training || vqgan_need_encoder(model, tensor_file_path(file), error) == 0) &&
        vqgan_check_weights(model, file, naming, prefix, error) == 0 && vqgan_check_training(config, training, error) == 0 &&
        load_weights(model, file, naming, prefix, training, error) == 0 &&
        (!with_encoder || limn_sha256_file(tensor_file_path(file), model->sha256, error) == 0))
        return model;
    vqgan_free(model);
    return NULL;
}

static vqgan *load(const char *directory, bool with_encoder, bool training, limn_error *error) {
    tensor_file *file = tensor_folder_open(directory, error);
    if (!file) return NULL;
    vqgan_config config = {0};
    vqgan_naming naming = VQGAN_TAMING;
    char prefix[256];
    vqgan *model = NULL;
    if (vqgan_find_naming(file, &naming, prefix, error) == 0 &&
        vqgan_config_read_folder(&config, directory, file, naming, prefix, error) == 0)
        model = load_from(&config, file, naming, prefix, with_encoder, training, error);
    vqgan_config_free(&config);
    tensor_file_close(file);
    return model;
}

vqgan *vqgan_load(const char *directory, bool training, limn_error *error) {
    return load(directory, true, training, error);
}

vqgan *vqgan_load_decoder(const char *directory, nn_precision precision, limn_error *error) {
    vqgan *model = load(directory, false, false, error);
    if (model && keep_decoder(model, precision, error) == 0) return model;
    vqgan_free(model);
    return NULL;
}

int vqgan_need_converted(const char *directory, limn_error *error) {
    char path[4096];
    if (limn_path_join(path, sizeof path, directory, "model.safetensors", error) != 0) return -1;
    if (limn_file_exists(path)) return 0;
    return limn_fail_usage(error, "--vqgan %s has no model.safetensors; turn it into a model folder first, with limn-convert",
                           directory);
}

/* ---------------------------------------------------------------- saving */

static int save_weights(const vqgan *model, const char *path, limn_error *error) {
    const parameters *set = &model->set;
    for (size_t i = 0; i < set->count; i++)
        if (set->list[i].value == NULL) return limn_fail(error, "%s: the VQGAN was loaded for drawing alone", path);
    tensor *tensors = limn_allocate(set->count, sizeof *tensors, error);
    float *values = limn_allocate(set->size, sizeof *values, error);
    json_t *metadata = json_pack("{s: s}", "format", "pt");
    int status = -1;
    if (!tensors || !values) goto done;
    if (!metadata) {
        limn_fail(error, "%s: out of memory", path);
        goto done;
    }
    float *to = values;
    for (size_t i = 0; i < set->count; i++) {
        const parameter *self = &set->list[i];
        tensors[i] = (tensor){.name = self->name, .type = TENSOR_F32, .rank = self->rank, .count = self->size, .data = to};
        file_shape(self, tensors[i].shape);
        vqgan_layout_to_file(self, to, self->value);
        to += self->size;
    }
    status = safetensors_write(path, tensors, set->count, metadata, error);
done:
    json_decref(metadata);
    free(values);
    free(tensors);
    return status;
}

int vqgan_save(const vqgan *model, const char *directory, limn_error *error) {
    char config_path[4096], weights_path[4096];
    if (limn_make_directories(directory, error) != 0 ||
        limn_path_join(config_path, sizeof config_path, directory, "config.json", error) != 0 ||
        limn_path_join(weights_path, sizeof weights_path, directory, "model.safetensors", error) != 0)
        return -1;
    json_t *json = vqgan_config_to_json(&model->config, error);
    if (!json) return -1;
    int status = limn_json_save(json, config_path, error);
    json_decref(json);
    return status == 0 ? save_weights(model, weights_path, error) : -1;
}

int vqgan_save_values(const vqgan *model, const float *values, const char *directory, limn_error *error) {
    vqgan other = *model;
    if (parameters_with_values(&other.set, &model->set, values, error) != 0) return -1;
    const int status = vqgan_save(&other, directory, error);
    parameters_free(&other.set);
    return status;
}
