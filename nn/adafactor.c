/* Adafactor. A factored tensor is taken as (P,A,M,B,Q): A and B are its two largest axes, of which the second moment keeps
 * means along each other; P, M and Q are the axes before, between and behind, each place of which is a matrix (A,B) of its own.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/optimizer_internal.h"

typedef struct {
    bool factored;
    size_t P, A, M, B, Q;
    size_t parts;   /* into which A is cut: P·parts units of work */
    size_t rows;    /* offset in adafactor_rows, (P,A,M,Q): means over B */
    size_t columns; /* offset in adafactor_columns, (P,M,B,Q): means over A */
    size_t whole;   /* offset in adafactor_v, where it is not factored */
} layout;

struct adafactor {
    layout *layouts;
    float *partial;                    /* (units, M·B·Q) of the tensor at hand: sums over the rows of one unit */
    float *row_factor, *column_factor; /* as rows and columns, of the tensor at hand */
};

enum { MOST_UNITS = 64 };

static layout layout_of(const optimizer_member *member, const adafactor_options *options) {
    layout l = {0};
    /* The two largest; of equal ones the last, as a stable sort by size has them. */
    size_t order[4];
    for (size_t i = 0; i < member->rank; i++) {
        size_t at = i;
        for (; at > 0 && member->shape[order[at - 1]] > member->shape[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    if (member->rank < 2 || member->shape[order[member->rank - 2]] < options->min_dim_size_to_factor) return l;
    size_t one = order[member->rank - 2], other = order[member->rank - 1];
    size_t a = smaller(one, other), b = larger(one, other);
    l = (layout){.factored = true, .P = 1, .A = member->shape[a], .M = 1, .B = member->shape[b], .Q = 1};
    for (size_t i = 0; i < a; i++) l.P *= member->shape[i];
    for (size_t i = a + 1; i < b; i++) l.M *= member->shape[i];
    for (size_t i = b + 1; i < member->rank; i++) l.Q *= member->shape[i];
    l.parts = smaller(divide_up(MOST_UNITS, l.P), l.A);
    return l;
}

typedef struct {
    size_t rows, columns, whole, size;                  /* floats in all */
    size_t most_partial, most_rows, most_columns, sums; /* of one tensor */
} sizes;

/* layouts (count) may be NULL. */
static sizes lay_out(layout *layouts, const optimizer_options *options, const optimizer_member *members, size_t count) {
    sizes s = {0};
    for (size_t i = 0; i < count; i++) {
        if (members[i].grad == NULL) continue;
        layout l = layout_of(&members[i], &options->adafactor);
        l.rows = s.rows;
        l.columns = s.columns;
        l.whole = s.whole;
        s.size += members[i].size;
        if (l.factored) {
            size_t rows = l.P * l.A * l.M * l.Q, columns = l.P * l.M * l.B * l.Q;
            s.rows += rows;
            s.columns += columns;
            s.most_rows = larger(s.most_rows, rows);
            s.most_columns = larger(s.most_columns, columns);
            s.most_partial = larger(s.most_partial, columns * l.parts);
            s.sums = larger(s.sums, 2 * l.P * l.parts);
        } else {
            s.whole += members[i].size;
            s.sums = larger(s.sums, 2 * divide_up(members[i].size, LIMN_PIECE));
        }
        if (layouts != NULL) layouts[i] = l;
    }
    return s;
}

/* All sizes are below MOST_UNITS times the tensors', which have been checked. */
void adafactor_plan(optimizer_plan *plan, const optimizer_options *options, const optimizer_member *members, size_t count) {
    sizes s = lay_out(NULL, options, members, count);
    optimizer_plan_array(plan, "adafactor_rows", s.rows, false);
    optimizer_plan_array(plan, "adafactor_columns", s.columns, false);
    optimizer_plan_array(plan, "adafactor_v", s.whole, false);
    optimizer_plan_array(plan, "adafactor_m", options->adafactor.momentum > 0 ? s.size : 0, true);
    plan->sums = s.sums;
    plan->scratch =
        sizeof(adafactor) + count * sizeof(layout) + (s.most_partial + s.most_rows + s.most_columns) * sizeof(float);
}

int adafactor_create(optimizer *self, limn_error *error) {
    adafactor *own = self->adafactor = limn_allocate(1, sizeof *own, error);
    if (own == NULL) return -1;
    own->layouts = limn_allocate(self->count, sizeof *own->layouts, error);
    if (own->layouts == NULL) return -1;
    sizes s = lay_out(own->layouts, &self->options, self->members, self->count);
    own->partial = limn_allocate(s.most_partial, sizeof(float), error);
    own->row_factor = limn_allocate(s.most_rows, sizeof(float), error);
    own->column_factor = limn_allocate(s.most_columns, sizeof(float), error);
    return own->partial != NULL && own->row_factor != NULL && own->column_factor != NULL ? 0 : -1;
}

void adafactor_free(adafactor *self) {
    if (self == NULL) return;
    free(self->layouts);
    free(self->partial);
    free(self->row_factor);
    free(self->column_factor);
    free(self);
}

void adafactor_forget(optimizer *self, size_t member, size_t start, size_t count) {
    const layout *l = &self->adafactor->layouts[member];
    if (!l->factored) memset(optimizer_array_named(self, "adafactor_v") + l->whole + start, 0, count * sizeof(float));
}

/* ---------------------------------------------------------------- second moment */

typedef struct {
    float grad_scale, epsilon;
    float decay, rest; /* of the second moment in this step, and 1 − it */
} moment_constants;

/* One row (B·Q): adds its squares to column_sums (B·Q), and returns their sum (Q = 1). */
LIMN_CLONES static double square_row(float *column_sums, const float *grad, size_t n, const moment_constants *c) {
    const moment_constants k = *c;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] * k.grad_scale, square = g * g + k.epsilon;
        column_sums[i] += square;
        sum += (double)square;
    }
    return sum;
}

static void square_row_with_places(float *row_sums, float *column_sums, const float *grad, size_t n, size_t Q,
                                   const moment_constants *c) {
    for (size_t q = 0; q < Q; q++) {
        double sum = 0;
        for (size_t i = q; i < n; i += Q) {
            float g = grad[i] * c->grad_scale, square = g * g + c->epsilon;
            column_sums[i] += square;
            sum += (double)square;
        }
        row_sums[q] = (float)sum;
    }
}

/* The rows of unit u: place p of P, rows first … first+*count−1 of A. */
static size_t unit_rows(const layout *l, size_t unit, size_t *p, size_t *count) {
    size_t part = unit % l->parts;
    *p = unit / l->parts;
    size_t first = part * l->A / l->parts;
    *count = (part + 1) * l->A / l->parts - first;
    return first;
}

/* One place of (P,M,B,Q): its mean over A, summed in the order of the parts. */
static float mean_of_parts(const float *partial, const layout *l, size_t place, size_t all) {
    double sum = 0;
    size_t p = place / all, i = place % all;
    for (size_t part = 0; part < l->parts; part++) sum += (double)partial[(p * l->parts + part) * all + i];
    return (float)(sum / (double)l->A);
}

/* Moves rows and columns, and makes of them the factors by whose product the gradient is multiplied. */
static void move_factored(optimizer *self, const optimizer_member *member, const layout *l, const moment_constants *c) {
    adafactor *own = self->adafactor;
    float *rows = optimizer_array_named(self, "adafactor_rows") + l->rows;
    float *columns = optimizer_array_named(self, "adafactor_columns") + l->columns;
    size_t width = l->B * l->Q, all = l->M * width;
#pragma omp parallel for schedule(static) if (member->size > 2 * LIMN_PIECE)
    for (size_t unit = 0; unit < l->P * l->parts; unit++) {
        size_t p, count, first = unit_rows(l, unit, &p, &count);
        float *sums = own->partial + unit * all;
        memset(sums, 0, all * sizeof *sums);
        for (size_t a = first; a < first + count; a++)
            for (size_t m = 0; m < l->M; m++) {
                size_t row = (p * l->A + a) * l->M + m;
                const float *grad = member->grad + row * width;
                float *row_sums = own->row_factor + row * l->Q;
                if (l->Q == 1)
                    *row_sums = (float)square_row(sums + m * width, grad, width, c);
                else
                    square_row_with_places(row_sums, sums + m * width, grad, width, l->Q, c);
                for (size_t at = row * l->Q; at < (row + 1) * l->Q; at++)
                    rows[at] = c->decay * rows[at] + c->rest * (own->row_factor[at] / (float)l->B);
            }
    }
#pragma omp parallel for schedule(static) if (member->size > 2 * LIMN_PIECE)
    for (size_t i = 0; i < l->P * all; i++) {
        columns[i] = c->decay * columns[i] + c->rest * mean_of_parts(own->partial, l, i, all);
        own->column_factor[i] = 1.0f / sqrtf(columns[i]);
    }
    /* Of a matrix, (A,B), these are A numbers in all. */
    for (size_t p = 0; p < l->P; p++)
        for (size_t i = 0; i < l->M * l->Q; i++) {
            size_t first = p * l->A * l->M * l->Q + i, step = l->M * l->Q;
            double mean = 0;
            for (size_t a = 0; a < l->A; a++) mean += (double)rows[first + a * step] / (double)l->A;
            for (size_t a = 0; a < l->A; a++)
                own->row_factor[first + a * step] = 1.0f / sqrtf(rows[first + a * step] / (float)mean);
        }
}

/* ---------------------------------------------------------------- the step */

typedef struct {
    float grad_scale, scale, momentum, decay, average_decay;
} step_constants;

/* change = the gradient over the root of its second moment. */
LIMN_CLONES static void factored_piece(float *change, const float *grad, float row, const float *columns, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) change[i] = grad[i] * row * columns[i];
}

LIMN_CLONES static void whole_piece(float *change, const float *grad, const float *v, float scale, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) change[i] = grad[i] * scale / sqrtf(v[i]);
}

LIMN_CLONES static void move_whole_piece(float *v, const float *grad, size_t n, const moment_constants *c) {
    const moment_constants k = *c;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] * k.grad_scale;
        v[i] = k.decay * v[i] + k.rest * (g * g + k.epsilon);
    }
}

LIMN_CLONES static void add_squares(double *sums, const float *change, const float *value, size_t n) {
    float changes = 0, values = 0;
#pragma omp simd reduction(+ : changes, values)
    for (size_t i = 0; i < n; i++) {
        changes += change[i] * change[i];
        values += value[i] * value[i];
    }
    sums[0] += (double)changes;
    sums[1] += (double)values;
}

/* m may be NULL. Returns the sum of the squared changes. */
LIMN_CLONES static float finish_piece(float *value, float *m, float *average, float *change, size_t n,
                                      const step_constants *c) {
    const step_constants k = *c;
    float moved = 0;
    if (m != NULL) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            m[i] = k.momentum * m[i] + (1.0f - k.momentum) * (k.scale * change[i]);
            change[i] = m[i];
        }
    }
    float scale = m != NULL ? 1.0f : k.scale;
#pragma omp simd reduction(+ : moved)
    for (size_t i = 0; i < n; i++) {
        float step = scale * change[i] + k.decay * value[i];
        value[i] -= step;
        moved += step * step;
    }
    if (average != NULL) move_average(average, value, k.average_decay, n);
    return moved;
}

/* What both passes over a tensor do with a stretch of at most LIMN_PIECE of its elements. */
typedef struct {
    const optimizer_member *member;
    float *m;                     /* NULL without momentum */
    const step_constants *finish; /* NULL: the first pass, that only measures */
} pass_over;

static void take_stretch(const pass_over *over, double *sums, float *change, size_t start, size_t n) {
    const optimizer_member *member = over->member;
    if (over->finish == NULL) {
        add_squares(sums, change, member->value + start, n);
        return;
    }
    float *average = member->average != NULL ? member->average + start : NULL;
    sums[0] +=
        (double)finish_piece(member->value + start, over->m != NULL ? over->m + start : NULL, average, change, n, over->finish);
}

static void pass_factored(optimizer *self, const layout *l, const pass_over *over, float grad_scale) {
    const adafactor *own = self->adafactor;
    size_t width = l->B * l->Q;
#pragma omp parallel for schedule(static) if (over->member->size > 2 * LIMN_PIECE)
    for (size_t unit = 0; unit < l->P * l->parts; unit++) {
        float change[LIMN_PIECE];
        double *sums = self->sums + 2 * unit;
        sums[0] = sums[1] = 0;
        size_t p, count, first = unit_rows(l, unit, &p, &count);
        for (size_t i = 0; i < count * l->M; i++) {
            size_t row = (p * l->A + first) * l->M + i, m = row % l->M;
            const float *columns = own->column_factor + (p * l->M + m) * width, *factors = own->row_factor + row * l->Q;
            for (size_t start = 0; start < width; start += LIMN_PIECE) {
                size_t n = piece_length(start, width);
                const float *grad = over->member->grad + row * width + start;
                if (l->Q == 1)
                    factored_piece(change, grad, *factors * grad_scale, columns + start, n);
                else
                    for (size_t k = 0; k < n; k++)
                        change[k] = grad[k] * grad_scale * factors[(start + k) % l->Q] * columns[start + k];
                take_stretch(over, sums, change, row * width + start, n);
            }
        }
    }
}

static void pass_whole(optimizer *self, const float *v, const pass_over *over, float grad_scale) {
    size_t n = over->member->size;
    LIMN_FOR_PIECES(start, n) {
        float change[LIMN_PIECE];
        double *sums = self->sums + 2 * (start / LIMN_PIECE);
        sums[0] = sums[1] = 0;
        whole_piece(change, over->member->grad + start, v + start, grad_scale, piece_length(start, n));
        take_stretch(over, sums, change, start, piece_length(start, n));
    }
}

static void move_whole(float *v, const float *grad, size_t n, const moment_constants *c) {
    LIMN_FOR_PIECES(start, n) move_whole_piece(v + start, grad + start, piece_length(start, n), c);
}

void adafactor_pass(optimizer *self, const optimizer_pass *pass) {
    const adafactor_options *options = &self->options.adafactor;
    double t = fmax(1, (double)pass->step - (double)options->decay_offset);
    double decay = 1 - pow(t, -options->decay_rate);
    const moment_constants moment = {.grad_scale = pass->grad_scale,
                                     .epsilon = (float)self->options.epsilon,
                                     .decay = (float)decay,
                                     .rest = (float)(1 - decay)};
    float *momentum = optimizer_array_named(self, "adafactor_m"), *whole = optimizer_array_named(self, "adafactor_v");
    for (size_t i = 0; i < self->count; i++) {
        const optimizer_member *member = &self->members[i];
        const layout *l = &self->adafactor->layouts[i];
        if (pass->update_norms != NULL) pass->update_norms[i] = 0;
        if (member->grad == NULL) continue;
        size_t units = l->factored ? l->P * l->parts : divide_up(member->size, LIMN_PIECE);
        float *v = whole != NULL ? whole + l->whole : NULL;
        pass_over over = {.member = member, .m = momentum != NULL ? momentum + member->offset : NULL};
        if (l->factored) {
            move_factored(self, member, l, &moment);
            pass_factored(self, l, &over, pass->grad_scale);
        } else {
            move_whole(v, member->grad, member->size, &moment);
            pass_whole(self, v, &over, pass->grad_scale);
        }
        double changes = 0, values = 0;
        for (size_t k = 0; k < units; k++) {
            changes += self->sums[2 * k];
            values += self->sums[2 * k + 1];
        }
        double scale = pass->learning_rate, size = (double)member->size;
        if (options->clipping_threshold > 0) scale /= fmax(1, sqrt(changes / size) / options->clipping_threshold);
        if (options->multiply_by_parameter_scale) scale *= fmax(sqrt(values / size), 1e-3);
        const step_constants finish = {.scale = (float)scale,
                                       .momentum = (float)options->momentum,
                                       .decay = member->decays ? (float)self->options.weight_decay : 0,
                                       .average_decay = (float)pass->average_decay};
        over.finish = &finish;
        if (l->factored)
            pass_factored(self, l, &over, pass->grad_scale);
        else
            pass_whole(self, v, &over, pass->grad_scale);
        if (pass->update_norms == NULL) continue;
        for (size_t k = 0; k < units; k++) pass->update_norms[i] += self->sums[2 * k];
        pass->update_norms[i] = sqrt(pass->update_norms[i]);
    }
}
