/* Model folders: config.json with weights in any of the forms that formats/ reads. */
#include "seq2seq/internal.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- loading */

/* An error that names the first tensor of the file that is no parameter's. */
static int refuse_extra(const seq2seq *model, const tensor_file *file, seq2seq_naming naming, const char *prefix,
                        limn_error *error) {
    size_t skip = strlen(prefix);
    tensor_place place;
    for (size_t i = 0; i < tensor_file_count(file); i++) {
        const char *name = tensor_file_at(file, i)->name;
        bool known = strncmp(name, prefix, skip) != 0; /* what lies beside the model is nobody's business */
        for (size_t k = 0; k < model->parameters.count && !known; k++) {
            seq2seq_place_of(model, k, naming, &place);
            known = strcmp(place.name, name + skip) == 0;
        }
        if (!known)
            return limn_fail(error, "%s: tensor '%s' is not part of the model that its config.json describes",
                             tensor_file_path(file), name);
    }
    return 0;
}

int seq2seq_check_weights(const seq2seq *model, const tensor_file *file, seq2seq_naming naming, const char *prefix,
                          limn_error *error) {
    size_t used = 0;
    tensor_place place;
    for (size_t i = 0; i < model->parameters.count; i++) {
        seq2seq_place_of(model, i, naming, &place);
        if (!tensor_place_need(file, prefix, &place, error)) return -1;
        if (place.layer == 0) used++; /* a stacked tensor serves all its layers */
    }
    return used == tensor_file_count(file) ? 0 : refuse_extra(model, file, naming, prefix, error);
}

/* Weights under our own names and types serve as they lie in the mapping. */
static bool can_map(const seq2seq *model, const tensor_file *file, seq2seq_naming naming, const char *prefix) {
    if (naming != SEQ2SEQ_LIMN || *prefix) return false;
    for (size_t i = 0; i < model->parameters.count; i++) {
        const tensor *t = tensor_file_find(file, model->parameters.list[i].name);
        if (t->type != TENSOR_F32 || t->data == NULL || (uintptr_t)t->data % sizeof(float) != 0) return false;
    }
    return true;
}

static int copy_weights(seq2seq *model, const tensor_file *file, seq2seq_naming naming, const char *prefix, bool training,
                        limn_error *error) {
    parameters *set = &model->parameters;
    size_t largest = 1;
    for (size_t i = 0; i < set->count; i++)
        if (set->list[i].size > largest) largest = set->list[i].size;
    if (parameters_allocate(set, training, error) != 0) return -1;
    float *scratch = limn_allocate(largest, sizeof *scratch, error);
    if (scratch == NULL) return -1;
    for (size_t i = 0; i < set->count; i++) {
        tensor_place place;
        seq2seq_place_of(model, i, naming, &place);
        tensor_place_read(tensor_place_need(file, prefix, &place, error), &place, set->list[i].mutable_value, scratch);
    }
    free(scratch);
    return 0;
}

/* Takes over the file when the weights stay in its mapping. */
static int load_weights(seq2seq *model, tensor_file *file, seq2seq_naming naming, const char *prefix, bool writable,
                        bool training, limn_error *error) {
    if (seq2seq_check_weights(model, file, naming, prefix, error) != 0) return -1;
    if (writable || training || !can_map(model, file, naming, prefix))
        return copy_weights(model, file, naming, prefix, training, error);
    for (size_t i = 0; i < model->parameters.count; i++) {
        parameter *p = &model->parameters.list[i];
        p->value = tensor_file_find(file, p->name)->data;
    }
    model->mapped = file;
    return 0;
}

/* The folder's own weights, without adapters. */
static seq2seq *load_plain(const char *directory, bool writable, bool training, limn_error *error) {
    tensor_file *file = tensor_folder_open(directory, error);
    if (file == NULL) return NULL;
    seq2seq_config config = {0};
    seq2seq_naming naming;
    char prefix[256];
    seq2seq *model = NULL;
    if (seq2seq_find_naming(file, &naming, prefix, error) == 0 &&
        seq2seq_config_read_folder(&config, directory, file, naming, prefix, error) == 0)
        model = seq2seq_describe(&config, error);
    seq2seq_config_free(&config);
    if (model != NULL && load_weights(model, file, naming, prefix, writable, training, error) != 0) {
        seq2seq_free(model);
        model = NULL;
    }
    if (model == NULL || model->mapped != file) tensor_file_close(file);
    return model;
}

seq2seq *seq2seq_load(const char *directory, bool training, limn_error *error) {
    const bool adapted = seq2seq_has_adapters(directory);
    seq2seq *model = load_plain(directory, adapted, training, error);
    if (model != NULL && adapted && adapters_merge_folder(model, directory, error) != 0) {
        seq2seq_free(model);
        return NULL;
    }
    return model;
}

static int copy_from(seq2seq *model, const seq2seq *source, const char *directory, limn_error *error) {
    for (size_t i = 0; i < model->own_count; i++) {
        parameter *to = &model->parameters.list[i];
        const parameter *from = parameters_find(&source->parameters, to->name);
        const bool words = (long)i == model->encoder.embed_tokens; /* may have become more */
        bool same = from != NULL && from->rank == to->rank;
        for (size_t k = 0; k < to->rank && same; k++)
            same = from->shape[k] == to->shape[k] || (words && k == 0 && from->shape[k] < to->shape[k]);
        if (!same)
            return limn_fail(error, "%s: %s is missing or has another shape; the configuration must be that model's", directory,
                             to->name);
        memcpy(to->mutable_value, from->value, from->size * sizeof *from->value);
    }
    return 0;
}

int seq2seq_load_into(seq2seq *model, const char *directory, limn_error *error) {
    const bool adapted = seq2seq_has_adapters(directory), adapts = model->adapters != NULL;
    /* A model without adapters of its own starts from the sum. */
    seq2seq *source = adapts ? load_plain(directory, false, false, error) : seq2seq_load(directory, false, error);
    if (source == NULL) return -1;
    const int status = copy_from(model, source, directory, error);
    seq2seq_free(source);
    return status == 0 && adapted && adapts ? adapters_load(model, directory, error) : status;
}

int save_weights(const parameter *list, size_t count, const char *directory, const char *name, limn_error *error) {
    char path[PATH_MAX];
    if (limn_path_join(path, sizeof path, directory, name, error) != 0) return -1;
    tensor *tensors = limn_allocate(count, sizeof *tensors, error);
    json_t *metadata = json_pack("{s:s}", "format", "pt"); /* Hugging Face's loaders ask for it */
    int status = tensors != NULL && metadata != NULL ? 0 : limn_fail(error, "%s: no memory for the list of tensors", path);
    if (status == 0) {
        for (size_t i = 0; i < count; i++) {
            const parameter *p = &list[i];
            tensors[i] = (tensor){.name = p->name, .type = TENSOR_F32, .rank = p->rank, .count = p->size, .data = p->value};
            memcpy(tensors[i].shape, p->shape, p->rank * sizeof *p->shape);
        }
        status = safetensors_write(path, tensors, count, metadata, error);
    }
    json_decref(metadata);
    free(tensors);
    return status;
}

int seq2seq_save(const seq2seq *model, const char *directory, limn_error *error) {
    char path[PATH_MAX];
    if (limn_make_directories(directory, error) != 0 ||
        save_weights(model->parameters.list, model->own_count, directory, "model.safetensors", error) != 0 ||
        (model->adapters != NULL && adapters_save(model, directory, error) != 0) ||
        limn_path_join(path, sizeof path, directory, "config.json", error) != 0)
        return -1;
    return limn_json_save(model->config.json, path, error);
}

int seq2seq_save_values(const seq2seq *model, const float *values, const char *directory, limn_error *error) {
    seq2seq other = *model;
    if (parameters_with_values(&other.parameters, &model->parameters, values, error) != 0) return -1;
    const int status = seq2seq_save(&other, directory, error);
    parameters_free(&other.parameters);
    return status;
}
