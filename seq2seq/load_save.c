/* Model folders: config.json with model.safetensors or the original's flax_model.msgpack. */
#include "seq2seq/internal.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- names in the Flax tree */

void seq2seq_flax_place_of(const seq2seq *model, size_t index, bool scanned, seq2seq_flax_place *out) {
    const parameter *p = &model->parameters.list[index];
    static const char *const leaves[] = {[LEAF_KERNEL] = "kernel",
                                         [LEAF_EMBEDDING] = "embedding",
                                         [LEAF_SCALE] = "scale",
                                         [LEAF_BIAS] = "bias",
                                         [LEAF_HEAD_SCALE] = "head_scale"};
    leaf_kind kind = model->notes[index].kind;
    *out = (seq2seq_flax_place){.layers = 1, .transposed = kind == LEAF_KERNEL};

    const char *middle = p->name; /* what follows the layer's number, or the whole name */
    size_t used = 0, layer_number;
    int consumed = 0;
    char side[8];
    if (sscanf(p->name, "model.%7[a-z].layers.%zu.%n", side, &layer_number, &consumed) == 2 && consumed > 0) {
        const stack *s = strcmp(side, "decoder") == 0 ? &model->decoder : &model->encoder;
        const char *class_name = s->is_decoder ? "FlaxBartDecoderLayer" : "FlaxBartEncoderLayer";
        middle = p->name + consumed;
        out->stacked = scanned;
        if (scanned) {
            out->layer = layer_number;
            out->layers = s->layer_count;
            used = (size_t)snprintf(out->path, sizeof out->path, "model/%s/layers/%ss/", side, class_name);
        } else {
            used = (size_t)snprintf(out->path, sizeof out->path, "model/%s/layers/%s_%zu/", side, class_name, layer_number);
        }
    }
    const char *last = strrchr(middle, '.');
    for (const char *c = middle; c <= last && used < sizeof out->path - 1; c++) out->path[used++] = *c == '.' ? '/' : *c;
    snprintf(out->path + used, sizeof out->path - used, "%s", leaves[kind]);
}

/* ---------------------------------------------------------------- safetensors */

/* An error that names the first tensor of the file that is no parameter's. */
static int fail_extra(const tensor_file *file, const char *name, limn_error *error) {
    return limn_fail(error, "%s: tensor '%s' is not part of the model that config.json beside it describes",
                     tensor_file_path(file), name);
}

static int load_safetensors(seq2seq *model, tensor_file *file, bool training, limn_error *error) {
    parameters *set = &model->parameters;
    bool mappable = !training;
    for (size_t i = 0; i < set->count; i++) {
        const parameter *p = &set->list[i];
        const tensor *t = tensor_file_need(file, p->name, p->rank, p->shape, error);
        if (t == NULL) return -1;
        if (t->type != TENSOR_F32 || (uintptr_t)t->data % sizeof(float) != 0) mappable = false;
    }
    if (tensor_file_count(file) != set->count)
        for (size_t i = 0; i < tensor_file_count(file); i++)
            if (parameters_find(set, tensor_file_at(file, i)->name) == NULL)
                return fail_extra(file, tensor_file_at(file, i)->name, error);

    if (!mappable && parameters_allocate(set, training, error) != 0) return -1;
    for (size_t i = 0; i < set->count; i++) {
        parameter *p = &set->list[i];
        const tensor *t = tensor_file_find(file, p->name);
        if (mappable)
            p->value = t->data;
        else
            tensor_to_float(t, 0, p->size, p->mutable_value);
    }
    if (mappable) model->mapped = file;
    return 0;
}

/* ---------------------------------------------------------------- Flax msgpack */

/* out (columns,rows) = in (rows,columns) transposed, in tiles that fit the cache. */
static void transpose(float *out, const float *in, size_t rows, size_t columns) {
    enum { TILE = 32 };
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t r = 0; r < rows; r += TILE)
        for (size_t c = 0; c < columns; c += TILE)
            for (size_t i = r; i < r + TILE && i < rows; i++)
                for (size_t j = c; j < c + TILE && j < columns; j++) out[j * rows + i] = in[i * columns + j];
}

static const tensor *need_flax(const tensor_file *file, const parameter *p, const seq2seq_flax_place *place,
                               limn_error *error) {
    size_t shape[5], rank = 0;
    if (place->stacked) shape[rank++] = place->layers;
    for (size_t d = 0; d < p->rank; d++) shape[rank++] = p->shape[place->transposed ? p->rank - 1 - d : d];
    return tensor_file_need(file, place->path, rank, shape, error);
}

static int load_flax(seq2seq *model, const tensor_file *file, bool training, limn_error *error) {
    parameters *set = &model->parameters;
    /* Scanned or not is read off the file: the original stacks and unstacks models without touching anything else. */
    bool scanned = false;
    for (size_t i = 0; i < tensor_file_count(file) && !scanned; i++)
        scanned = strstr(tensor_file_at(file, i)->name, "/FlaxBartEncoderLayers/") != NULL;
    size_t largest = 1, used = 0;
    seq2seq_flax_place place;
    for (size_t i = 0; i < set->count; i++) {
        seq2seq_flax_place_of(model, i, scanned, &place);
        if (need_flax(file, &set->list[i], &place, error) == NULL) return -1;
        if (place.layer == 0) used++; /* a stacked tensor serves all its layers */
        if (place.transposed && set->list[i].size > largest) largest = set->list[i].size;
    }
    for (size_t i = 0; i < tensor_file_count(file) && used != tensor_file_count(file); i++) {
        const char *name = tensor_file_at(file, i)->name;
        bool known = false;
        for (size_t k = 0; k < set->count && !known; k++) {
            seq2seq_flax_place_of(model, k, scanned, &place);
            known = strcmp(place.path, name) == 0;
        }
        if (!known) return fail_extra(file, name, error);
    }

    if (parameters_allocate(set, training, error) != 0) return -1;
    float *turned = limn_allocate(largest, sizeof *turned, error);
    if (turned == NULL) return -1;
    for (size_t i = 0; i < set->count; i++) {
        parameter *p = &set->list[i];
        seq2seq_flax_place_of(model, i, scanned, &place);
        const tensor *t = tensor_file_find(file, place.path);
        tensor_to_float(t, place.layer * p->size, p->size, place.transposed ? turned : p->mutable_value);
        if (place.transposed) transpose(p->mutable_value, turned, p->shape[1], p->shape[0]);
    }
    free(turned);
    return 0;
}

/* ---------------------------------------------------------------- folders */

static int load_weights(seq2seq *model, const char *directory, bool training, limn_error *error) {
    char path[PATH_MAX];
    if (limn_path_join(path, sizeof path, directory, "model.safetensors", error) != 0) return -1;
    if (limn_file_exists(path)) {
        tensor_file *file = safetensors_open(path, error);
        if (file == NULL) return -1;
        int status = load_safetensors(model, file, training, error);
        if (model->mapped != file) tensor_file_close(file);
        return status;
    }
    if (limn_path_join(path, sizeof path, directory, "flax_model.msgpack", error) != 0) return -1;
    if (!limn_file_exists(path))
        return limn_fail(error, "%s: holds neither model.safetensors nor flax_model.msgpack; name a model folder", directory);
    tensor_file *file = flax_msgpack_open(path, error);
    if (file == NULL) return -1;
    int status = load_flax(model, file, training, error);
    tensor_file_close(file);
    return status;
}

seq2seq *seq2seq_load(const char *directory, bool training, limn_error *error) {
    char path[PATH_MAX];
    if (limn_path_join(path, sizeof path, directory, "config.json", error) != 0) return NULL;
    json_t *json = limn_json_load(path, error);
    if (json == NULL) return NULL;
    seq2seq_config config;
    int status = seq2seq_config_read(&config, json, path, false, error);
    json_decref(json);
    if (status != 0) return NULL;
    seq2seq *model = seq2seq_build(&config, error);
    seq2seq_config_free(&config);
    if (model == NULL) return NULL;
    if (load_weights(model, directory, training, error) != 0) {
        seq2seq_free(model);
        return NULL;
    }
    return model;
}

int seq2seq_save(const seq2seq *model, const char *directory, limn_error *error) {
    char path[PATH_MAX];
    if (limn_make_directories(directory, error) != 0) return -1;
    if (limn_path_join(path, sizeof path, directory, "model.safetensors", error) != 0) return -1;
    const parameters *set = &model->parameters;
    tensor *tensors = limn_allocate(set->count, sizeof *tensors, error);
    json_t *metadata = json_pack("{s:s}", "format", "pt"); /* Hugging Face's loaders ask for it */
    int status = tensors != NULL && metadata != NULL ? 0 : limn_fail(error, "%s: no memory for the list of tensors", path);
    if (status == 0) {
        for (size_t i = 0; i < set->count; i++) {
            const parameter *p = &set->list[i];
            tensors[i] = (tensor){.name = p->name, .type = TENSOR_F32, .rank = p->rank, .count = p->size, .data = p->value};
            memcpy(tensors[i].shape, p->shape, p->rank * sizeof *p->shape);
        }
        status = safetensors_write(path, tensors, set->count, metadata, error);
    }
    json_decref(metadata);
    free(tensors);
    if (status != 0) return -1;
    if (limn_path_join(path, sizeof path, directory, "config.json", error) != 0) return -1;
    return limn_json_save(model->config.json, path, error);
}
