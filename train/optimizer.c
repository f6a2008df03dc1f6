#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the configuration */

static const char *const COMMON_KEYS[] = {"optimizer", "weight_decay", "weight_decay_exclude", "ema_decay", NULL};
static const char *const ADAMW_KEYS[] = {"beta1", "beta2", "epsilon", NULL};
static const char *const ADAFACTOR_KEYS[] = {"min_dim_size_to_factor",
                                             "second_moment_decay",
                                             "decay_offset",
                                             "multiply_by_parameter_scale",
                                             "clipping_threshold",
                                             "momentum",
                                             NULL};
static const char *const SHAMPOO_KEYS[] = {"beta1",
                                           "beta2",
                                           "block_size",
                                           "graft_type",
                                           "diagonal_epsilon",
                                           "matrix_epsilon",
                                           "inverse_failure_threshold",
                                           "start_preconditioning_step",
                                           "preconditioning_compute_steps",
                                           "statistics_compute_steps",
                                           "best_effort_shape_interpretation",
                                           "merge_small_dims_block_size",
                                           "skip_preconditioning_dim_size_gt",
                                           "moving_average_for_momentum",
                                           "nesterov",
                                           NULL};

static size_t add_keys(const char **keys, size_t count, const char *const *added) {
    for (size_t i = 0; added[i]; i++) keys[count++] = added[i];
    keys[count] = NULL;
    return count;
}

static bool contains(const char *const *keys, const char *key) {
    for (size_t i = 0; keys[i]; i++)
        if (strcmp(keys[i], key) == 0) return true;
    return false;
}

/* A key that only another optimizer has would be an unknown one: said better. */
static int refuse_others(const json_t *section, const char *where, const char *const *own, const char *name,
                         const char *const *others, const char *other_name, limn_error *error) {
    for (size_t i = 0; others[i]; i++)
        if (json_object_get(section, others[i]) && !contains(own, others[i]))
            return limn_fail_usage(
                error, "%s: %s is a setting of the optimizer %s, but this one is %s; remove it, or say \"optimizer\": \"%s\"",
                where, others[i], other_name, name, other_name);
    return 0;
}

static int read_adafactor(optimizer_options *o, const json_t *section, const char *where, limn_error *error) {
    adafactor_options *a = &o->adafactor;
    size_t offset = (size_t)a->decay_offset;
    if (limn_json_get_size(section, where, "min_dim_size_to_factor", 1, SIZE_MAX / 2, &a->min_dim_size_to_factor, error) ||
        limn_json_get_float(section, where, "second_moment_decay", 0, 10, &a->decay_rate, error) ||
        limn_json_get_size(section, where, "decay_offset", 0, SIZE_MAX / 2, &offset, error) ||
        limn_json_get_bool(section, where, "multiply_by_parameter_scale", &a->multiply_by_parameter_scale, error) ||
        limn_json_get_float(section, where, "clipping_threshold", 0, 1e9, &a->clipping_threshold, error) ||
        limn_json_get_float(section, where, "momentum", 0, 0.999999, &a->momentum, error))
        return -1;
    a->decay_offset = offset;
    return 0;
}

static int read_graft_type(graft_type *out, const json_t *section, const char *where, limn_error *error) {
    static const struct {
        const char *name;
        graft_type type;
    } types[] = {{"sgd", GRAFT_SGD},         {"adagrad", GRAFT_ADAGRAD},
                 {"rmsprop", GRAFT_RMSPROP}, {"rmsprop_normalized", GRAFT_RMSPROP_NORMALIZED},
                 {"sqrt_n", GRAFT_SQRT_N},   {"adagrad_normalized", GRAFT_ADAGRAD_NORMALIZED}};
    const char *name = NULL;
    if (limn_json_get_string(section, where, "graft_type", "sgd|adagrad|rmsprop|rmsprop_normalized|sqrt_n|adagrad_normalized",
                             &name, error))
        return -1;
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i].name) == 0) *out = types[i].type;
    return 0;
}

static int read_shampoo(optimizer_options *o, const json_t *section, const char *where, limn_error *error) {
    shampoo_options *s = &o->shampoo;
    const size_t many = 1000000000, block = 32768;
    size_t every = (size_t)s->preconditioning_compute_steps, statistics = (size_t)s->statistics_compute_steps;
    if (read_graft_type(&s->graft, section, where, error) ||
        limn_json_get_size(section, where, "block_size", 1, block, &s->block_size, error) ||
        limn_json_get_float(section, where, "diagonal_epsilon", 0, 1, &s->diagonal_epsilon, error) ||
        limn_json_get_float(section, where, "matrix_epsilon", 1e-15, 1, &s->matrix_epsilon, error) ||
        limn_json_get_float(section, where, "inverse_failure_threshold", 0, 1e9, &s->inverse_failure_threshold, error) ||
        limn_json_get_size(section, where, "preconditioning_compute_steps", 1, many, &every, error) ||
        limn_json_get_size(section, where, "statistics_compute_steps", 1, many, &statistics, error) ||
        limn_json_get_bool(section, where, "best_effort_shape_interpretation", &s->best_effort_shape_interpretation, error) ||
        limn_json_get_size(section, where, "merge_small_dims_block_size", 1, many, &s->merge_small_dims_block_size, error) ||
        limn_json_get_size(section, where, "skip_preconditioning_dim_size_gt", 1, many, &s->skip_preconditioning_dim_size_gt,
                           error) ||
        limn_json_get_bool(section, where, "moving_average_for_momentum", &s->moving_average_for_momentum, error) ||
        limn_json_get_bool(section, where, "nesterov", &s->nesterov, error))
        return -1;
    /* As DALL·E Mini's script has it: not before roots have been computed once more. */
    size_t start = every + 1 > 101 ? every + 1 : 101;
    if (limn_json_get_size(section, where, "start_preconditioning_step", 0, many, &start, error)) return -1;
    s->start_preconditioning_step = start;
    s->preconditioning_compute_steps = every;
    s->statistics_compute_steps = statistics;
    return 0;
}

int optimizer_settings_read(optimizer_settings *settings, const json_t *section, const char *where, const char **keys,
                            limn_error *error) {
    static const char *const names[] = {"adamw", "adafactor", "shampoo"}, *const exclusions[] = {"none", "norms",
                                                                                                 "norms_and_embeddings"};
    static const char *const *const own_keys[] = {ADAMW_KEYS, ADAFACTOR_KEYS, SHAMPOO_KEYS};
    const char *name = names[settings->options.kind], *exclude = exclusions[settings->exclude];
    if (limn_json_get_string(section, where, "optimizer", "adamw|adafactor|shampoo", &name, error) ||
        limn_json_get_string(section, where, "weight_decay_exclude", "none|norms|norms_and_embeddings", &exclude, error))
        return -1;
    optimizer_kind kind = strcmp(name, names[1]) == 0   ? OPTIMIZER_ADAFACTOR
                          : strcmp(name, names[2]) == 0 ? OPTIMIZER_SHAMPOO
                                                        : OPTIMIZER_ADAMW;
    if (kind != settings->options.kind) settings->options = optimizer_defaults(kind);
    settings->exclude = strcmp(exclude, exclusions[1]) == 0   ? EXCLUDE_NORMS
                        : strcmp(exclude, exclusions[2]) == 0 ? EXCLUDE_NORMS_AND_EMBEDDINGS
                                                              : EXCLUDE_NONE;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (refuse_others(section, where, own_keys[kind], names[kind], own_keys[i], names[i], error)) return -1;
    add_keys(keys, add_keys(keys, 0, COMMON_KEYS), own_keys[kind]);

    optimizer_options *o = &settings->options;
    if (limn_json_get_float(section, where, "weight_decay", 0, 10, &o->weight_decay, error) ||
        limn_json_get_float(section, where, "ema_decay", 0, 0.9999999, &settings->ema_decay, error))
        return -1;
    if (kind == OPTIMIZER_ADAFACTOR) return read_adafactor(o, section, where, error);
    if (limn_json_get_float(section, where, "beta1", 0, 0.999999, &o->beta1, error) ||
        limn_json_get_float(section, where, "beta2", 0, 0.999999, &o->beta2, error))
        return -1;
    return kind == OPTIMIZER_SHAMPOO ? read_shampoo(o, section, where, error)
                                     : limn_json_get_float(section, where, "epsilon", 1e-12, 1, &o->epsilon, error);
}

int learning_rate_read(learning_rate_schedule *schedule, const json_t *section, const char *where, limn_error *error) {
    const size_t many = 1000000000;
    const char *decay = "cosine";
    if (limn_json_get_float(section, where, "learning_rate", 0, 10, &schedule->learning_rate, error) ||
        limn_json_get_size(section, where, "offset", 0, many, &schedule->offset, error) ||
        limn_json_get_size(section, where, "warmup_steps", 0, many, &schedule->warmup_steps, error) ||
        limn_json_get_string(section, where, "decay", "none|linear|exponential|cosine", &decay, error) ||
        limn_json_get_float(section, where, "final_learning_rate_share", 0, 1, &schedule->final_share, error) ||
        limn_json_get_size(section, where, "transition_steps", 1, many, &schedule->transition_steps, error) ||
        limn_json_get_float(section, where, "decay_rate", 0, 1, &schedule->decay_rate, error) ||
        limn_json_get_bool(section, where, "staircase", &schedule->staircase, error))
        return -1;
    schedule->decay = strcmp(decay, "none") == 0          ? DECAY_NONE
                      : strcmp(decay, "linear") == 0      ? DECAY_LINEAR
                      : strcmp(decay, "exponential") == 0 ? DECAY_EXPONENTIAL
                                                          : DECAY_COSINE;
    if (schedule->decay == DECAY_EXPONENTIAL && !(schedule->transition_steps > 0 && schedule->decay_rate > 0))
        return limn_fail_usage(
            error,
            "%s: decay exponential needs transition_steps (at least 1) and decay_rate (above 0): the learning "
            "rate is multiplied by decay_rate every transition_steps",
            where);
    return 0;
}

bool train_decays(const parameter *p, decay_exclusion exclude) {
    if (exclude == EXCLUDE_NONE) return true;
    if (p->rank == 1) return false;
    return exclude == EXCLUDE_NORMS || (!strstr(p->name, "embed_") && !strstr(p->name, "embedding"));
}

/* ---------------------------------------------------------------- the optimizer */

/* How much an optimizer of whole tensors has to do for one: its numbers once, and each number that is kept of rows or blocks, which
 * products are made for, some eight times. */
static int cost_of(const optimizer_options *options, const optimizer_tensor *of, double *out, limn_error *error) {
    optimizer_array arrays[OPTIMIZER_ARRAYS_MAX];
    size_t count;
    if (optimizer_describe(options, of, 1, arrays, &count, error)) return -1;
    *out = 1;
    for (size_t i = 0; i < count; i++) *out += (arrays[i].elementwise ? 1.0 : 8.0) * (double)arrays[i].size;
    return 0;
}

static int share_out(train_optimizer *self, const optimizer_options *options, const optimizer_tensor *tensors, nn_precision wire,
                     limn_error *error) {
    size_t count = self->weights->count;
    bool whole = options->kind != OPTIMIZER_ADAMW;
    double *costs = whole ? limn_allocate(count, sizeof *costs, error) : NULL;
    int status = whole && !costs ? -1 : 0;
    for (size_t i = 0; status == 0 && whole && i < count; i++)
        if (tensors[i].grad) status = cost_of(options, &tensors[i], &costs[i], error);
    if (status == 0) self->between = exchange_create(self->all, tensors, count, costs, wire, error);
    free(costs);
    return self->between ? 0 : -1;
}

/* Where a number of the weights has its average. */
static float *average_of(const train_optimizer *self, const float *value) {
    return self->ema + (value - self->weights->storage);
}

/* Address space for all; memory comes with what is touched. */
static int begin_average(train_optimizer *self, limn_error *error) {
    self->averages = limn_arena_create(self->weights->size * sizeof(float) + 64, error);
    if (!self->averages) return limn_fail_context(error, "the moving average of the weights");
    self->ema = limn_arena_floats(self->averages, self->weights->size);
    return 0;
}

static int create(train_optimizer *self, optimizer_tensor *tensors, const optimizer_settings *settings, const bool *frozen,
                  nn_precision wire, limn_error *error) {
    optimizer_options options = settings->options;
    const parameters *weights = self->weights;
    if (settings->ema_decay > 0 && begin_average(self, error)) return -1;
    optimizer_tensors_of(tensors, weights);
    for (size_t i = 0; i < weights->count; i++) {
        tensors[i].decays = train_decays(&weights->list[i], settings->exclude);
        if (self->ema) tensors[i].average = average_of(self, tensors[i].value);
        if (frozen && frozen[i]) tensors[i].grad = NULL;
        /* Rank 0 has all of it: it is what saves it, and spreads it. */
        if (self->ema && (!tensors[i].grad || world_rank(self->all) == 0))
            memcpy(tensors[i].average, tensors[i].value, weights->list[i].size * sizeof(float));
    }
    /* As if one optimizer had them all. */
    if (options.kind == OPTIMIZER_SHAMPOO && !options.shampoo.padded_size)
        options.shampoo.padded_size = optimizer_padded_size(&options, tensors, weights->count);
    if (share_out(self, &options, tensors, wire, error)) return -1;
    const optimizer_tensor *owned;
    size_t count = exchange_owned(self->between, &owned);
    for (size_t i = 0; self->ema && i < count; i++) memcpy(owned[i].average, owned[i].value, optimizer_tensor_size(&owned[i]) * sizeof(float));
    bool alone = world_size(self->all) == 1;
    self->moves = alone ? optimizer_create(&options, tensors, weights->count, error) : optimizer_create(&options, owned, count, error);
    if (!self->moves) return -1;
    return shared_state_add(&self->state, self->all, self->between, &options, tensors, weights->count, self->moves, error);
}

int train_optimizer_create(train_optimizer *self, parameters *weights, const optimizer_settings *settings, const bool *frozen,
                           world *all, nn_precision wire, limn_error *error) {
    self->weights = weights;
    self->all = all;
    self->ema_decay = settings->ema_decay;
    self->squares = limn_allocate(weights->count, sizeof *self->squares, error);
    optimizer_tensor *tensors = limn_allocate(weights->count, sizeof *tensors, error);
    int status = self->squares && tensors ? create(self, tensors, settings, frozen, wire, error) : -1;
    free(tensors);
    return status;
}

void train_optimizer_free(train_optimizer *self) {
    shared_state_free(&self->state);
    optimizer_free(self->moves);
    exchange_free(self->between);
    limn_arena_destroy(self->averages);
    free(self->squares);
    *self = (train_optimizer){0};
}

size_t train_optimizer_state(train_optimizer *self, const char *prefix, state_array *out) {
    state_array arrays[SHARED_STATE_MAX];
    size_t count = shared_state_arrays(&self->state, arrays);
    for (size_t i = 0; i < count; i++) {
        snprintf(self->names[i], sizeof self->names[i], "%s%s", prefix, arrays[i].name);
        out[i] = (state_array){self->names[i], arrays[i].count, arrays[i].values};
    }
    if (self->ema) {
        snprintf(self->names[count], sizeof self->names[count], "%sema", prefix);
        out[count] = (state_array){self->names[count], self->weights->size, self->ema};
        count++;
    }
    return count;
}

/* ---------------------------------------------------------------- a step */

void train_optimizer_begin(train_optimizer *self) {
    exchange_begin(self->between);
}

void train_optimizer_ready(train_optimizer *self, size_t first, size_t count) {
    exchange_ready(self->between, first, count);
}

int train_optimizer_sum(train_optimizer *self, double *out_norm, limn_error *error) {
    if (world_size(self->all) == 1) {
        *out_norm = sqrt(sum_of_squares(self->weights->grads, self->weights->grad_size));
        return 0;
    }
    if (exchange_sum(self->between, error) || exchange_squares(self->between, self->squares, error)) return -1;
    double sum = 0;
    for (size_t i = 0; i < self->weights->count; i++) sum += self->squares[i];
    *out_norm = sqrt(sum);
    return 0;
}

int train_optimizer_step(train_optimizer *self, const learning_rate_schedule *schedule, double max_grad_norm, double grad_norm,
                         uint64_t step, double *update_norms, limn_error *error) {
    if (!isfinite(grad_norm)) return 0;
    /* In the first steps the average is over few: the first weights, which are random, must not stay in it. */
    double early = (1.0 + (double)step) / (10.0 + (double)step);
    optimizer_step(self->moves, &(optimizer_pass){.learning_rate = learning_rate_at(schedule, step),
                                                  .step = step,
                                                  .grad_scale = clip_by_global_norm_scale(grad_norm, max_grad_norm),
                                                  .average_decay = early < self->ema_decay ? early : self->ema_decay,
                                                  .update_norms = update_norms});
    return exchange_share(self->between, error);
}

/* ---------------------------------------------------------------- the moving average */

int train_optimizer_exchange(train_optimizer *self, limn_error *error) {
    const optimizer_tensor *owned;
    size_t count = exchange_owned(self->between, &owned);
    if (!self->ema) return 0;
    for (size_t t = 0; t < count; t++) {
        float *values = owned[t].value, *averages = owned[t].average;
        const size_t n = optimizer_tensor_size(&owned[t]);
#pragma omp parallel for simd schedule(static)
        for (size_t i = 0; i < n; i++) {
            float value = values[i];
            values[i] = averages[i];
            averages[i] = value;
        }
    }
    return exchange_share(self->between, error);
}

/* Each rank's part of the average to rank 0, or back; all ranks walk through the same parts. Parts are of what is not frozen. */
static int move_average(train_optimizer *self, bool to_rank_0, limn_error *error) {
    const exchange_part *parts;
    size_t count = exchange_parts(self->between, &parts), at_tensor = 0, start = 0; /* where this tensor begins among the parts */
    world_ticket last = 0;
    if (!self->ema || world_size(self->all) == 1) return 0;
    for (size_t p = 0; p < count; p++)
        for (size_t at = parts[p].start, end = at + parts[p].count; at < end;) {
            const parameter *of = &self->weights->list[at_tensor];
            size_t size = exchange_is_frozen(self->between, at_tensor) ? 0 : of->size;
            if (at >= start + size) {
                start += size;
                at_tensor++;
                continue;
            }
            const size_t most = (size_t)1 << 26;
            size_t left = (start + size < end ? start + size : end) - at, owner = parts[p].owner;
            if (left > most) left = most;
            float *average = average_of(self, of->value) + (at - start);
            if (owner) last = world_move(self->all, average, left * sizeof *average, to_rank_0 ? owner : 0, to_rank_0 ? 0 : owner);
            at += left;
        }
    return world_wait(self->all, WORLD_SAVING, last, error);
}

int train_optimizer_collect(train_optimizer *self, limn_error *error) {
    return move_average(self, true, error);
}

int train_optimizer_spread(train_optimizer *self, limn_error *error) {
    return exchange_spread(self->between, error) || move_average(self, false, error) ? -1 : 0;
}
