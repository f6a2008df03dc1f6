/* LoRA (Hu and others, arXiv 2106.09685): small matrices that are trained beside large ones. In a folder they lie as Hugging
 * Face's PEFT writes them: adapter_config.json with r and lora_alpha, adapter_model.safetensors. */
#include "seq2seq/internal.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_FILE "adapter_config.json"
#define WEIGHTS_FILE "adapter_model.safetensors"

/* KERNEL.weight without its last part. */
static int stem_length(const parameter *kernel) {
    return (int)(strlen(kernel->name) - strlen(".weight"));
}

static int add_adapter(seq2seq *model, size_t kernel, size_t rank, limn_error *error) {
    parameters *set = &model->parameters;
    const parameter it = set->list[kernel]; /* adding moves the list */
    const int stem = stem_length(&it);
    const size_t a =
        parameters_add(set, PARAMETER_PLAIN, 2, (size_t[]){rank, it.shape[1]}, error, "%.*s.lora_A.weight", stem, it.name);
    if (a == SIZE_MAX) return -1;
    model->adapters[kernel] = (long)a;
    return parameters_add(set, PARAMETER_PLAIN, 2, (size_t[]){it.shape[0], rank}, error, "%.*s.lora_B.weight", stem, it.name) ==
                   SIZE_MAX
               ? -1
               : 0;
}

int adapters_describe(seq2seq *model, const seq2seq_lora *lora, limn_error *error) {
    bool *selected = limn_allocate(model->own_count, sizeof *selected, error);
    model->adapters = limn_allocate(model->own_count, sizeof *model->adapters, error);
    int status = selected != NULL && model->adapters != NULL ? 0 : -1;
    if (status == 0) status = parameters_select(&model->parameters, lora->targets, selected, "lora_targets", error);
    size_t added = 0;
    for (size_t i = 0; i < model->own_count && status == 0; i++) {
        model->adapters[i] = ABSENT;
        if (!selected[i] || model->notes[i].kind != LEAF_KERNEL) continue;
        status = add_adapter(model, i, lora->rank, error);
        added++;
    }
    free(selected);
    if (status == 0 && added == 0)
        status = limn_fail_usage(error, "lora_targets %s: none of these is a dense layer's weight; try q_proj,v_proj",
                                 lora->targets);
    model->adapter_scale = (float)(lora->alpha / (double)lora->rank);
    return status;
}

/* A as PEFT begins it: uniform within 1/sqrt(C) (He's with a = sqrt 5); B is zero. */
void adapters_initialise(seq2seq *model, uint64_t seed) {
    for (size_t i = model->own_count; i < model->parameters.count; i += 2) {
        parameter *a = &model->parameters.list[i];
        const uint64_t stream = limn_random_stream(a->name);
        const float bound = 1 / sqrtf((float)a->shape[1]);
        for (size_t k = 0; k < a->size; k++) a->mutable_value[k] = (2 * limn_random_uniform(seed, stream, k) - 1) * bound;
    }
}

size_t adapter_floats(const seq2seq *model, size_t B, nn_precision precision) {
    const size_t text = B * model->encoder.length, image = B * model->decoder.length, N = text > image ? text : image;
    size_t most = 0;
    for (size_t i = model->own_count; i < model->parameters.count; i += 2) {
        const parameter *a = &model->parameters.list[i], *b = &model->parameters.list[i + 1];
        const size_t rank = a->shape[0], C = a->shape[1], OC = b->shape[0], rounding = 64;
        const size_t products[] = {matmul_mixed_bytes(N, rank, OC, precision), matmul_mixed_bytes(rank, C, N, precision),
                                   matmul_mixed_bytes(N, rank, C, precision), matmul_mixed_bytes(OC, rank, N, precision)};
        size_t product = 0;
        for (size_t k = 0; k < 4; k++) product = products[k] > product ? products[k] : product;
        const size_t floats = OC * C + N * rank + product / sizeof(float) + rounding;
        most = floats > most ? floats : most;
    }
    return most;
}

bool seq2seq_has_adapters(const char *directory) {
    char path[PATH_MAX];
    return limn_path_join(path, sizeof path, directory, CONFIG_FILE, NULL) == 0 && limn_file_exists(path);
}

int adapters_save(const seq2seq *model, const char *directory, limn_error *error) {
    char path[PATH_MAX];
    const parameters *set = &model->parameters;
    const parameter *adapters = set->list + model->own_count;
    const size_t count = set->count - model->own_count, rank = adapters[0].shape[0];
    if (save_weights(adapters, count, directory, WEIGHTS_FILE, error) != 0 ||
        limn_path_join(path, sizeof path, directory, CONFIG_FILE, error) != 0)
        return -1;
    json_t *targets = json_array();
    for (size_t i = 0; i < count; i += 2)
        json_array_append_new(targets, json_stringn(adapters[i].name, strlen(adapters[i].name) - strlen(".lora_A.weight")));
    json_t *config = json_pack("{s:s, s:i, s:f, s:o}", "peft_type", "LORA", "r", (int)rank, "lora_alpha",
                               (double)model->adapter_scale * (double)rank, "target_modules", targets);
    const int status = config != NULL ? limn_json_save(config, path, error) : limn_fail(error, "%s: no memory for it", path);
    json_decref(config);
    return status;
}

/* alpha/rank of the folder. */
static int read_scale(const char *directory, size_t *rank, double *alpha, limn_error *error) {
    char path[PATH_MAX];
    if (limn_path_join(path, sizeof path, directory, CONFIG_FILE, error) != 0) return -1;
    json_t *config = limn_json_load(path, error);
    if (config == NULL) return -1;
    *rank = 0;
    *alpha = 0;
    int status = limn_json_get_size(config, path, "r", 1, 1u << 16, rank, error) != 0 ||
                         limn_json_get_float(config, path, "lora_alpha", -1e6, 1e6, alpha, error) != 0
                     ? -1
                     : 0;
    if (status == 0 && *rank == 0) status = limn_fail(error, "%s: has no r, the adapters' rank", path);
    json_decref(config);
    return status;
}

static tensor_file *open_weights(const char *directory, limn_error *error) {
    char path[PATH_MAX];
    return limn_path_join(path, sizeof path, directory, WEIGHTS_FILE, error) == 0 ? safetensors_open(path, error) : NULL;
}

int adapters_load(seq2seq *model, const char *directory, limn_error *error) {
    size_t rank;
    double alpha;
    if (read_scale(directory, &rank, &alpha, error) != 0) return -1;
    tensor_file *file = open_weights(directory, error);
    if (file == NULL) return -1;
    int status = 0;
    for (size_t i = model->own_count; i < model->parameters.count && status == 0; i++) {
        parameter *p = &model->parameters.list[i];
        const tensor *t = tensor_file_need(file, p->name, p->rank, p->shape, error);
        if (t == NULL)
            status = -1;
        else
            tensor_to_float(t, 0, t->count, p->mutable_value);
    }
    tensor_file_close(file);
    return status;
}

/* W += scale·B·A of one kernel, where the file has an adapter for it; *found says so. */
static int merge_kernel(parameter *kernel, const tensor_file *file, size_t rank, double scale, bool *found, limn_error *error) {
    char names[2][sizeof kernel->name + 16];
    for (int i = 0; i < 2; i++)
        snprintf(names[i], sizeof names[i], "%.*s.lora_%c.weight", stem_length(kernel), kernel->name, "AB"[i]);
    *found = tensor_file_find(file, names[0]) != NULL;
    if (!*found) return 0;
    const size_t OC = kernel->shape[0], C = kernel->shape[1];
    const tensor *a = tensor_file_need(file, names[0], 2, (size_t[]){rank, C}, error);
    const tensor *b = a != NULL ? tensor_file_need(file, names[1], 2, (size_t[]){OC, rank}, error) : NULL;
    if (b == NULL) return -1;
    float *values = limn_allocate(rank * (C + OC), sizeof *values, error); /* as many as the file has */
    if (values == NULL) return -1;
    tensor_to_float(a, 0, a->count, values);
    tensor_to_float(b, 0, b->count, values + rank * C);
    matmul(kernel->mutable_value, C, values + rank * C, rank, false, values, C, false, OC, C, rank, (float)scale, 1);
    free(values);
    return 0;
}

int adapters_merge_folder(seq2seq *model, const char *directory, limn_error *error) {
    size_t rank, merged = 0;
    double alpha;
    if (read_scale(directory, &rank, &alpha, error) != 0) return -1;
    tensor_file *file = open_weights(directory, error);
    if (file == NULL) return -1;
    int status = 0;
    for (size_t i = 0; i < model->own_count && status == 0; i++) {
        bool found = false;
        if (model->notes[i].kind == LEAF_KERNEL)
            status = merge_kernel(&model->parameters.list[i], file, rank, alpha / (double)rank, &found, error);
        merged += found;
    }
    if (status == 0 && 2 * merged != tensor_file_count(file))
        status = limn_fail(error, "%s: holds adapters for layers that the model does not have", tensor_file_path(file));
    tensor_file_close(file);
    return status;
}
