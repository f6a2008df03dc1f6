/* The one door to the optimizers: what they keep, in arrays that a checkpoint can name, and who does the step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/optimizer_internal.h"

float clip_by_global_norm_scale(double norm, double max_norm) {
    return max_norm == 0 || norm <= max_norm ? 1.0f : (float)(max_norm / norm);
}

optimizer_options optimizer_defaults(optimizer_kind kind) {
    return (optimizer_options){.kind = kind,
                               .beta1 = 0.9,
                               .beta2 = 0.999,
                               .epsilon = kind == OPTIMIZER_ADAFACTOR ? 1e-30 : 1e-8,
                               .adafactor = {.min_dim_size_to_factor = 128,
                                             .decay_rate = 0.8,
                                             .multiply_by_parameter_scale = true,
                                             .clipping_threshold = 1},
                               .shampoo = {.block_size = 1024,
                                           .graft = GRAFT_RMSPROP_NORMALIZED,
                                           .diagonal_epsilon = 1e-10,
                                           .matrix_epsilon = 1e-6,
                                           .inverse_failure_threshold = 0.1,
                                           .start_preconditioning_step = 101,
                                           .preconditioning_compute_steps = 10,
                                           .statistics_compute_steps = 1,
                                           .best_effort_shape_interpretation = true,
                                           .merge_small_dims_block_size = 4096,
                                           .skip_preconditioning_dim_size_gt = 4096,
                                           .moving_average_for_momentum = true}};
}

void optimizer_plan_array(optimizer_plan *plan, const char *name, size_t size, bool elementwise) {
    if (size == 0) return;
    plan->arrays[plan->array_count].name = name;
    plan->arrays[plan->array_count].size = size;
    plan->arrays[plan->array_count++].elementwise = elementwise;
}

float *optimizer_array_named(const optimizer *self, const char *name) {
    for (size_t i = 0; i < self->array_count; i++)
        if (strcmp(self->arrays[i].name, name) == 0) return self->arrays[i].data;
    return NULL;
}

/* ---------------------------------------------------------------- what it takes */

static int check_tensor(const optimizer_tensor *tensor, size_t *size, limn_error *error) {
    if (tensor->rank > 4)
        return limn_fail(error, "tensor '%s' has rank %zu; an optimizer takes 0 to 4", tensor->name, tensor->rank);
    *size = 1;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->shape[i] == 0) return limn_fail(error, "tensor '%s' has size 0 in dimension %zu", tensor->name, i);
        if (limn_multiply(*size, tensor->shape[i], size, error) != 0)
            return limn_fail_context(error, "tensor '%s'", tensor->name);
    }
    return 0;
}

static int check_options(const optimizer_options *o, limn_error *error) {
    bool betas =
        o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && (o->kind == OPTIMIZER_SHAMPOO ? o->beta2 <= 1 : o->beta2 < 1);
    if (o->kind != OPTIMIZER_ADAFACTOR && !betas)
        return limn_fail(error, "an optimizer's beta1 %g and beta2 %g must be at least 0 and below 1%s", o->beta1, o->beta2,
                         o->kind == OPTIMIZER_SHAMPOO ? ", but that Shampoo's beta2 may be 1" : "");
    const shampoo_options *s = &o->shampoo;
    if (o->kind == OPTIMIZER_SHAMPOO &&
        (s->block_size == 0 || s->preconditioning_compute_steps == 0 || s->statistics_compute_steps == 0))
        return limn_fail(error,
                         "Shampoo's block_size, preconditioning_compute_steps and statistics_compute_steps must be at least 1");
    return 0;
}

static int fill_members(optimizer_member *members, const optimizer_tensor *tensors, size_t count, limn_error *error) {
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const optimizer_tensor *tensor = &tensors[i];
        optimizer_member *member = &members[i];
        *member = (optimizer_member){.rank = tensor->rank,
                                     .offset = offset,
                                     .value = tensor->value,
                                     .average = tensor->average,
                                     .grad = tensor->grad,
                                     .decays = tensor->decays};
        if (check_tensor(tensor, &member->size, error) != 0) return -1;
        memcpy(member->shape, tensor->shape, sizeof member->shape);
        if (member->grad == NULL) continue;
        if (member->size > SIZE_MAX / 4 / sizeof(double) - offset)
            return limn_fail(error, "tensor '%s' makes the model too large to address", tensor->name);
        offset += member->size;
    }
    return 0;
}

static int plan_arrays(optimizer_plan *plan, const optimizer_options *options, const optimizer_member *members, size_t count,
                       limn_error *error) {
    *plan = (optimizer_plan){0};
    switch (options->kind) {
    case OPTIMIZER_ADAMW:
        adamw_plan(plan, members, count);
        return 0;
    case OPTIMIZER_ADAFACTOR:
        adafactor_plan(plan, options, members, count);
        return 0;
    case OPTIMIZER_SHAMPOO:
        return shampoo_plan(plan, options, members, count, error);
    }
    return limn_fail(error, "unknown optimizer %d", (int)options->kind);
}

static optimizer_member *make_members(const optimizer_options *options, const optimizer_tensor *tensors, size_t count,
                                      optimizer_plan *plan, limn_error *error) {
    if (check_options(options, error) != 0) return NULL;
    optimizer_member *members = limn_allocate(count, sizeof *members, error);
    if (members == NULL) return NULL;
    if (fill_members(members, tensors, count, error) == 0 && plan_arrays(plan, options, members, count, error) == 0)
        return members;
    free(members);
    return NULL;
}

int optimizer_bytes(const optimizer_options *options, const optimizer_tensor *tensors, size_t count, size_t *state,
                    size_t *scratch, limn_error *error) {
    optimizer_plan plan;
    optimizer_member *members = make_members(options, tensors, count, &plan, error);
    if (members == NULL) return -1;
    free(members);
    size_t floats = 0;
    for (size_t i = 0; i < plan.array_count; i++) floats += plan.arrays[i].size;
    *state = floats * sizeof(float);
    *scratch = plan.scratch + plan.sums * sizeof(double) + count * sizeof *members;
    return 0;
}

size_t optimizer_padded_size(const optimizer_options *options, const optimizer_tensor *tensors, size_t count) {
    size_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        optimizer_member member;
        if (fill_members(&member, &tensors[i], 1, NULL) != 0) continue;
        largest = larger(largest, shampoo_largest_block(&options->shampoo, &member, 1));
    }
    return largest;
}

optimizer *optimizer_create(const optimizer_options *options, const optimizer_tensor *tensors, size_t count,
                            limn_error *error) {
    optimizer_plan plan;
    optimizer_member *members = make_members(options, tensors, count, &plan, error);
    if (members == NULL) return NULL;
    optimizer *self = limn_allocate(1, sizeof *self, error);
    if (self == NULL) {
        free(members);
        return NULL;
    }
    self->options = *options;
    self->members = members;
    self->count = count;
    self->sums = limn_allocate(plan.sums, sizeof *self->sums, error);
    int status = self->sums != NULL ? 0 : -1;
    for (size_t i = 0; i < plan.array_count && status == 0; i++) {
        float *data = limn_allocate(plan.arrays[i].size, sizeof *data, error);
        if (data == NULL)
            status = limn_fail_context(error, "the optimizer's %s", plan.arrays[i].name);
        else
            self->arrays[self->array_count++] =
                (optimizer_array){plan.arrays[i].name, plan.arrays[i].size, data, plan.arrays[i].elementwise};
    }
    if (status == 0)
        status = options->kind == OPTIMIZER_ADAMW       ? adamw_create(self, error)
                 : options->kind == OPTIMIZER_ADAFACTOR ? adafactor_create(self, error)
                                                        : shampoo_create(self, error);
    if (status == 0) return self;
    optimizer_free(self);
    return NULL;
}

void optimizer_free(optimizer *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < self->array_count; i++) free(self->arrays[i].data);
    adafactor_free(self->adafactor);
    shampoo_free(self->shampoo);
    free(self->pieces);
    free(self->sums);
    free(self->members);
    free(self);
}

/* ---------------------------------------------------------------- use */

size_t optimizer_tensor_size(const optimizer_tensor *tensor) {
    size_t size = 1;
    for (size_t i = 0; i < tensor->rank; i++) size *= tensor->shape[i];
    return size;
}

void optimizer_tensors_of(optimizer_tensor *out, const parameters *set) {
    for (size_t i = 0; i < set->count; i++) {
        const parameter *p = &set->list[i];
        out[i] = (optimizer_tensor){
            .name = p->name, .rank = p->rank, .value = p->mutable_value, .grad = p->grad, .decays = true};
        memcpy(out[i].shape, p->shape, sizeof out[i].shape);
    }
}

size_t optimizer_arrays(const optimizer *self, const optimizer_array **out) {
    *out = self->arrays;
    return self->array_count;
}

int optimizer_describe(const optimizer_options *options, const optimizer_tensor *tensors, size_t count,
                       optimizer_array out[OPTIMIZER_ARRAYS_MAX], size_t *out_count, limn_error *error) {
    optimizer_plan plan;
    optimizer_member *members = make_members(options, tensors, count, &plan, error);
    if (members == NULL) return -1;
    free(members);
    for (size_t i = 0; i < plan.array_count; i++)
        out[i] = (optimizer_array){plan.arrays[i].name, plan.arrays[i].size, NULL, plan.arrays[i].elementwise};
    *out_count = plan.array_count;
    return 0;
}

void optimizer_forget(optimizer *self, size_t tensor, size_t start, size_t count) {
    const optimizer_member *member = &self->members[tensor];
    if (member->grad == NULL) return;
    for (size_t i = 0; i < self->array_count; i++)
        if (self->arrays[i].elementwise) memset(self->arrays[i].data + member->offset + start, 0, count * sizeof(float));
    if (self->options.kind == OPTIMIZER_ADAFACTOR) adafactor_forget(self, tensor, start, count);
}

void optimizer_step(optimizer *self, const optimizer_pass *pass) {
    switch (self->options.kind) {
    case OPTIMIZER_ADAMW:
        adamw_pass(self, pass);
        break;
    case OPTIMIZER_ADAFACTOR:
        adafactor_pass(self, pass);
        break;
    case OPTIMIZER_SHAMPOO:
        shampoo_pass(self, pass);
        break;
    }
}
