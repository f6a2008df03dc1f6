/* AdamW over all tensors in one parallel loop: reads value, gradient and both moments once. */
#include <math.h>

#include "nn/optimizer_internal.h"

typedef struct {
    float beta1, beta2, rest1, rest2; /* rest = 1 − beta */
    float correction1, correction2;   /* 1/(1 − beta^step) */
    float rate, epsilon, decay, grad_scale;
} constants;

/* Returns the sum of the squared changes. */
LIMN_CLONES static float step_piece(float *value, float *m, float *v, const float *grad, float *average, float average_decay,
                                    size_t n, const constants *c) {
    const constants k = *c;
    float moved = 0;
#pragma omp simd reduction(+ : moved)
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] * k.grad_scale;
        float first = k.beta1 * m[i] + k.rest1 * g;
        float second = k.beta2 * v[i] + k.rest2 * (g * g);
        m[i] = first;
        v[i] = second;
        float change = first * k.correction1 / (sqrtf(second * k.correction2) + k.epsilon);
        change = k.rate * (change + k.decay * value[i]);
        value[i] -= change;
        moved += change * change;
    }
    if (average != NULL) move_average(average, value, average_decay, n);
    return moved;
}

static size_t count_pieces(const optimizer_member *members, size_t count) {
    size_t pieces = 0;
    for (size_t i = 0; i < count; i++) pieces += members[i].grad != NULL ? divide_up(members[i].size, LIMN_PIECE) : 0;
    return pieces;
}

void adamw_plan(optimizer_plan *plan, const optimizer_member *members, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++) size += members[i].grad != NULL ? members[i].size : 0;
    optimizer_plan_array(plan, "adamw_m", size, true);
    optimizer_plan_array(plan, "adamw_v", size, true);
    plan->sums = count_pieces(members, count);
    plan->scratch = plan->sums * sizeof(adamw_piece);
}

int adamw_create(optimizer *self, limn_error *error) {
    self->piece_count = count_pieces(self->members, self->count);
    self->pieces = limn_allocate(self->piece_count, sizeof *self->pieces, error);
    if (self->pieces == NULL) return -1;
    adamw_piece *piece = self->pieces;
    for (size_t i = 0; i < self->count; i++)
        for (size_t start = 0; self->members[i].grad != NULL && start < self->members[i].size; start += LIMN_PIECE)
            *piece++ = (adamw_piece){i, start};
    return 0;
}

void adamw_pass(optimizer *self, const optimizer_pass *pass) {
    const optimizer_options *options = &self->options;
    const constants c = {.beta1 = (float)options->beta1,
                         .beta2 = (float)options->beta2,
                         .rest1 = (float)(1 - options->beta1),
                         .rest2 = (float)(1 - options->beta2),
                         .correction1 = (float)(1 / (1 - pow(options->beta1, (double)pass->step))),
                         .correction2 = (float)(1 / (1 - pow(options->beta2, (double)pass->step))),
                         .rate = (float)pass->learning_rate,
                         .epsilon = (float)options->epsilon,
                         .decay = (float)options->weight_decay,
                         .grad_scale = pass->grad_scale};
    float *m = optimizer_array_named(self, "adamw_m"), *v = optimizer_array_named(self, "adamw_v");
#pragma omp parallel for schedule(static) if (self->piece_count > 2)
    for (size_t i = 0; i < self->piece_count; i++) {
        const optimizer_member *member = &self->members[self->pieces[i].member];
        size_t start = self->pieces[i].start, at = member->offset + start;
        constants own = c;
        if (!member->decays) own.decay = 0;
        self->sums[i] = (double)step_piece(member->value + start, m + at, v + at, member->grad + start,
                                           member->average != NULL ? member->average + start : NULL, (float)pass->average_decay,
                                           piece_length(start, member->size), &own);
    }
    if (pass->update_norms == NULL) return;
    for (size_t i = 0; i < self->count; i++) pass->update_norms[i] = 0;
    for (size_t i = 0; i < self->piece_count; i++) pass->update_norms[self->pieces[i].member] += self->sums[i];
    for (size_t i = 0; i < self->count; i++) pass->update_norms[i] = sqrt(pass->update_norms[i]);
}
