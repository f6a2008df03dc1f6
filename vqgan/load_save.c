/* VQGAN weights on disk: taming's names in safetensors, vqgan-jax's in Flax msgpack. */
#include "vqgan/internal.h"

#include "formats/formats.h"

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

/* ---------------------------------------------------------------- loading */

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

/* The parameter's tensor, which must have its shape: OIHW in safetensors, (Y,X,I,O) in Flax. */
static const tensor *need_tensor(const parameter *self, const tensor_file *file, bool flax, limn_error *error) {
    size_t shape[4];
    file_shape(self, shape);
    if (!flax) return tensor_file_need(file, self->name, self->rank, shape, error);
    char name[256];
    flax_name(self, name);
    if (self->layout == PARAMETER_CONVOLUTION) {
        size_t flax_shape[4] = {self->shape[1], self->shape[2], self->shape[3], self->shape[0]};
        memcpy(shape, flax_shape, sizeof shape);
    }
    return tensor_file_need(file, name, self->rank, shape, error);
}

/* Fills in one parameter from the file's numbers. */
static void place_values(const parameter *self, const float *values, bool flax) {
    if (!flax || self->layout != PARAMETER_CONVOLUTION) {
        vqgan_layout_from_file(self, self->mutable_value, values);
        return;
    }
    size_t O = self->shape[0], rest = self->size / O;
    for (size_t o = 0; o < O; o++)
        for (size_t i = 0; i < rest; i++) self->mutable_value[o * rest + i] = values[i * O + o];
}

/* Every tensor is checked before memory is taken, so that a config that asks for far more than the file has is refused. */
static int load_weights(vqgan *model, const tensor_file *file, bool flax, bool training, limn_error *error) {
    size_t largest = 0;
    for (size_t i = 0; i < model->set.count; i++) {
        if (!need_tensor(&model->set.list[i], file, flax, error)) return -1;
        if (model->set.list[i].size > largest) largest = model->set.list[i].size;
    }
    if (parameters_allocate(&model->set, training, error) != 0) return -1;
    float *values = limn_allocate(largest, sizeof *values, error);
    if (!values) return -1;
    for (size_t i = 0; i < model->set.count; i++) {
        const parameter *self = &model->set.list[i];
        tensor_to_float(need_tensor(self, file, flax, error), 0, self->size, values);
        place_values(self, values, flax);
    }
    free(values);
    return 0;
}

/* The weights' path in the folder, and whether it is Flax's. */
static int find_weights(const char *directory, char path[4096], bool *flax, limn_error *error) {
    if (limn_path_join(path, 4096, directory, "model.safetensors", error) != 0) return -1;
    *flax = !limn_file_exists(path);
    if (!*flax) return 0;
    if (limn_path_join(path, 4096, directory, "flax_model.msgpack", error) != 0) return -1;
    if (limn_file_exists(path)) return 0;
    return limn_fail(error, "%s: neither model.safetensors nor flax_model.msgpack is there; name the folder of a VQGAN",
                     directory);
}

static int read_folder_config(vqgan_config *config, const char *directory, bool flax, limn_error *error) {
    char path[4096];
    if (limn_path_join(path, sizeof path, directory, "config.json", error) != 0) return -1;
    json_t *json = limn_json_load(path, error);
    if (!json) return -1;
    int status = vqgan_config_read(config, json, path, false, error);
    if (status == 0 && flax && !json_object_get(json, "pixel_range")) config->pixel_min = 0;
    json_decref(json);
    return status;
}

vqgan *vqgan_load(const char *directory, bool training, limn_error *error) {
    char path[4096];
    bool flax;
    vqgan_config config;
    if (find_weights(directory, path, &flax, error) != 0 || read_folder_config(&config, directory, flax, error) != 0)
        return NULL;
    tensor_file *file = flax ? flax_msgpack_open(path, error) : safetensors_open(path, error);
    vqgan *model = file ? vqgan_build(&config, training, error) : NULL;
    if (model && (load_weights(model, file, flax, training, error) != 0 || limn_sha256_file(path, model->sha256, error) != 0)) {
        vqgan_free(model);
        model = NULL;
    }
    tensor_file_close(file);
    vqgan_config_free(&config);
    return model;
}

/* ---------------------------------------------------------------- saving */

static int save_weights(const vqgan *model, const char *path, limn_error *error) {
    const parameters *set = &model->set;
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
