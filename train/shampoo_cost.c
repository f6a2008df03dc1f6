/* What Distributed Shampoo would cost with a model that need not fit into this machine's memory with it. */
#include <stdlib.h>
#include <string.h>

#include "train/seq2seq_settings.h"

/* Tensors of one shape, so many of them. */
typedef struct {
    size_t rank, shape[4], size, count;
} shape_kind;

/* So many of a kind are measured at once: enough for every thread to have blocks of its own. */
enum { MOST_COPIES_A_THREAD = 2 };

static size_t gather_kinds(shape_kind *kinds, const parameters *set) {
    size_t count = 0;
    for (size_t i = 0; i < set->count; i++) {
        const parameter *p = &set->list[i];
        size_t k = 0;
        while (k < count && (kinds[k].rank != p->rank || memcmp(kinds[k].shape, p->shape, sizeof p->shape) != 0)) k++;
        if (k == count) {
            kinds[count] = (shape_kind){.rank = p->rank, .size = p->size};
            memcpy(kinds[count++].shape, p->shape, sizeof p->shape);
        }
        kinds[k].count++;
    }
    return count;
}

/* Two steps: statistics and roots in the first, and in the second none of what touches memory for the first time. */
static int measure_kind(const shape_kind *kind, const optimizer_options *options, shampoo_cost *out, limn_error *error) {
    size_t copies = MOST_COPIES_A_THREAD * limn_get_threads();
    if (copies > kind->count) copies = kind->count;
    float *values = limn_allocate(copies * kind->size, sizeof *values, error);
    float *grads = limn_allocate(copies * kind->size, sizeof *grads, error);
    optimizer_tensor *tensors = limn_allocate(copies, sizeof *tensors, error);
    optimizer *moves = NULL;
    int status = values && grads && tensors ? 0 : -1;
    if (status == 0) {
        limn_random_fill_normal(grads, copies * kind->size, 1, 1, limn_random_stream("gradients"));
        for (size_t i = 0; i < copies; i++) {
            tensors[i] = (optimizer_tensor){.name = "a copy",
                                            .rank = kind->rank,
                                            .value = values + i * kind->size,
                                            .grad = grads + i * kind->size,
                                            .decays = true};
            memcpy(tensors[i].shape, kind->shape, sizeof kind->shape);
        }
        moves = optimizer_create(options, tensors, copies, error);
        status = moves ? 0 : -1;
    }
    for (uint64_t step = 1; status == 0 && step <= 2; step++)
        optimizer_step(moves, &(optimizer_pass){.learning_rate = 1e-4, .step = step, .grad_scale = 1});
    if (status == 0) {
        shampoo_times times;
        optimizer_shampoo_times(moves, &times);
        double share = (double)kind->count / (double)copies;
        out->statistics += share * times.statistics;
        out->roots += share * times.roots;
        out->preconditioning += share * times.preconditioning;
        out->update += share * times.update;
        out->root_count += times.root_count / copies * kind->count;
    }
    optimizer_free(moves);
    free(values);
    free(grads);
    free(tensors);
    return status;
}

/* The options of the section train.seq2seq where it names Shampoo, else the defaults. */
static int read_options(const json_t *json, const char *path, optimizer_options *out, limn_error *error) {
    const json_t *section = json_object_get(json_object_get(json, "train"), "seq2seq");
    optimizer_settings settings = {.options = optimizer_defaults(OPTIMIZER_SHAMPOO)};
    const char *keys[OPTIMIZER_KEYS_MAX + 1];
    int status = json_is_object(section) ? optimizer_settings_read(&settings, section, path, keys, error) : 0;
    *out = settings.options.kind == OPTIMIZER_SHAMPOO ? settings.options : optimizer_defaults(OPTIMIZER_SHAMPOO);
    return status;
}

int train_measure_shampoo(const char *path, shampoo_cost *out, limn_error *error) {
    *out = (shampoo_cost){0};
    optimizer_options options;
    seq2seq_config config;
    const train_options given = {.config = path};
    json_t *json = train_configuration(&given, error);
    int status = json ? read_options(json, path, &options, error) : -1;
    if (status == 0) status = train_seq2seq_config(&config, json, path, error);
    json_decref(json);
    if (status) return -1;
    seq2seq *model = seq2seq_describe(&config, error);
    seq2seq_config_free(&config);
    if (!model) return -1;
    const parameters *set = seq2seq_get_parameters(model);
    shape_kind *kinds = limn_allocate(set->count, sizeof *kinds, error);
    size_t scratch;
    status =
        kinds ? train_optimizer_bytes(set, &options, &out->state_bytes, &scratch, &options.shampoo.padded_size, error) : -1;
    size_t count = status == 0 ? gather_kinds(kinds, set) : 0;
    /* What lies before the start of the preconditioning moves a second momentum too: a run's later steps are measured. */
    options.shampoo.start_preconditioning_step = 0;
    options.shampoo.preconditioning_compute_steps = options.shampoo.statistics_compute_steps = 1;
    for (size_t i = 0; i < count && status == 0; i++) {
        status = limn_stop_requested() ? limn_fail(error, "stopped before it was measured")
                                       : measure_kind(&kinds[i], &options, out, error);
    }
    free(kinds);
    seq2seq_free(model);
    return status;
}
