/* Distributed Shampoo. Each block G of a tensor keeps for each of its axes the running mean of G's products with itself along
 * it; every so many steps their inverse 2r-th roots (r axes) are computed, and the blocks are multiplied by these from all
 * sides. The length of the whole tensor's change is that of the grafted method's. */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "nn/inverse_root.h"
#include "nn/shampoo_internal.h"

/* Preconditioned gradients are made for several tensors at once, so that every thread has a block, up to so many floats. */
static const size_t GROUP_FLOATS = (size_t)1 << 24;

/* Which block's statistics a job is the root of, and along which of its axes. */
typedef struct {
    size_t block, axis;
} job_place;

struct shampoo {
    shampoo_view *views;   /* (members) */
    shampoo_block *blocks; /* in the members' order */
    size_t block_count;
    inverse_root_job *jobs; /* one for each block and axis */
    job_place *places;      /* (job_count) */
    size_t job_count;
    float *preconditioned; /* of a group of tensors */
    size_t group_floats;
    unsigned char *workspaces;
    size_t threads, workspace; /* bytes of each thread's */
    shampoo_times times;
};

/* ---------------------------------------------------------------- sizes */

typedef struct {
    size_t size, diagonal; /* floats of the tensors; of the grafted method */
    size_t statistics;     /* floats */
    size_t blocks, jobs, largest_side, sums, largest, preconditioned;
    size_t workspace; /* bytes a thread */
} sizes;

size_t shampoo_largest_block(const shampoo_options *options, const optimizer_member *members, size_t count) {
    size_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        shampoo_view view = shampoo_view_of(options, &members[i]);
        for (size_t k = 0; k < view.rank; k++) largest = larger(largest, smaller(view.shape[k], options->block_size));
    }
    return largest;
}

static bool has_diagonal(graft_type graft) {
    return graft != GRAFT_SGD && graft != GRAFT_SQRT_N;
}

static int measure(sizes *s, const optimizer_options *options, const optimizer_member *members, size_t count,
                   limn_error *error) {
    *s = (sizes){.workspace = 64};
    size_t padded = options->shampoo.padded_size;
    if (padded == 0) padded = shampoo_largest_block(&options->shampoo, members, count);
    for (size_t i = 0; i < count; i++) {
        if (members[i].grad == NULL) continue;
        s->size += members[i].size;
        s->sums = larger(s->sums, 2 * divide_up(members[i].size, LIMN_PIECE));
        shampoo_view view = shampoo_view_of(&options->shampoo, &members[i]);
        size_t blocks = shampoo_cut(&options->shampoo, &view, i, NULL, &s->statistics);
        if (blocks == 0) continue;
        s->blocks += blocks;
        s->jobs += blocks * view.rank;
        s->largest = larger(s->largest, members[i].size);
        s->preconditioned += members[i].size;
        size_t volume = 1, side = 1;
        for (size_t k = 0; k < view.rank; k++) {
            size_t extent = smaller(view.shape[k], options->shampoo.block_size);
            volume *= extent;
            side = larger(side, extent);
        }
        size_t root = inverse_root_bytes(side, padded);
        if (root == SIZE_MAX)
            return limn_fail(error, "Shampoo's block_size %zu is too large; 1024 is usual, 32768 the most",
                             options->shampoo.block_size);
        s->workspace = larger(s->workspace, root);
        s->workspace = larger(s->workspace, round_up((side * side + volume) * sizeof(float), 64));
        s->workspace = larger(s->workspace, round_up(2 * volume * sizeof(float), 64));
    }
    if (has_diagonal(options->shampoo.graft)) s->diagonal = s->size;
    return 0;
}

static size_t group_floats(const sizes *s) {
    return larger(s->largest, smaller(s->preconditioned, GROUP_FLOATS));
}

int shampoo_plan(optimizer_plan *plan, const optimizer_options *options, const optimizer_member *members, size_t count,
                 limn_error *error) {
    sizes s;
    if (measure(&s, options, members, count, error) != 0) return -1;
    optimizer_plan_array(plan, "shampoo_momentum", s.size, true);
    optimizer_plan_array(plan, "shampoo_graft_momentum", s.size, true);
    optimizer_plan_array(plan, "shampoo_diagonal", s.diagonal, true);
    optimizer_plan_array(plan, "shampoo_statistics", s.statistics, false);
    optimizer_plan_array(plan, "shampoo_preconditioners", s.statistics, false);
    plan->sums = s.sums;
    plan->scratch = sizeof(shampoo) + count * sizeof(shampoo_view) + s.blocks * sizeof(shampoo_block) +
                    s.jobs * (sizeof(inverse_root_job) + sizeof(job_place)) + group_floats(&s) * sizeof(float) +
                    limn_get_threads() * s.workspace;
    return 0;
}

/* ---------------------------------------------------------------- creation */

static void cut_all(shampoo *own, const optimizer *self) {
    size_t statistics = 0, block = 0;
    for (size_t i = 0; i < self->count; i++) {
        shampoo_view *view = &own->views[i];
        *view = shampoo_view_of(&self->options.shampoo, &self->members[i]);
        view->first_block = block;
        view->block_count = shampoo_cut(&self->options.shampoo, view, i, own->blocks + block, &statistics);
        block += view->block_count;
    }
}

/* Statistics begin as matrix_epsilon, roots as 1, on their diagonals. */
static void make_jobs(shampoo *own, const optimizer *self) {
    const shampoo_options *options = &self->options.shampoo;
    float *statistics = optimizer_array_named(self, "shampoo_statistics");
    float *roots = optimizer_array_named(self, "shampoo_preconditioners");
    size_t padded = options->padded_size;
    if (padded == 0) padded = shampoo_largest_block(options, self->members, self->count);
    size_t job = 0;
    for (size_t b = 0; b < own->block_count; b++) {
        const shampoo_block *block = &own->blocks[b];
        size_t at = block->statistics;
        for (size_t axis = 0; axis < block->rank; axis++, job++) {
            size_t n = block->extent[axis];
            own->places[job] = (job_place){b, axis};
            own->jobs[job] = (inverse_root_job){.matrix = statistics + at,
                                                .root = roots + at,
                                                .n = n,
                                                .exponent = 2 * block->rank,
                                                .padded = padded,
                                                .ridge = options->matrix_epsilon,
                                                .failure_threshold = options->inverse_failure_threshold};
            for (size_t i = 0; i < n; i++) {
                statistics[at + i * n + i] = (float)options->matrix_epsilon;
                roots[at + i * n + i] = 1;
            }
            at += n * n;
        }
    }
}

int shampoo_create(optimizer *self, limn_error *error) {
    sizes s;
    shampoo *own = self->shampoo = limn_allocate(1, sizeof *own, error);
    if (own == NULL || measure(&s, &self->options, self->members, self->count, error) != 0) return -1;
    own->block_count = s.blocks;
    own->job_count = s.jobs;
    own->group_floats = group_floats(&s);
    own->threads = limn_get_threads();
    own->workspace = s.workspace;
    own->views = limn_allocate(self->count, sizeof *own->views, error);
    own->blocks = limn_allocate(s.blocks, sizeof *own->blocks, error);
    own->jobs = limn_allocate(s.jobs, sizeof *own->jobs, error);
    own->places = limn_allocate(s.jobs, sizeof *own->places, error);
    own->preconditioned = limn_allocate(own->group_floats, sizeof(float), error);
    own->workspaces = limn_allocate(own->threads, own->workspace, error);
    if (own->views == NULL || own->blocks == NULL || own->jobs == NULL || own->places == NULL || own->preconditioned == NULL ||
        own->workspaces == NULL)
        return limn_fail_context(error, "Shampoo");
    cut_all(own, self);
    make_jobs(own, self);
    return 0;
}

void shampoo_free(shampoo *self) {
    if (self == NULL) return;
    free(self->views);
    free(self->blocks);
    free(self->jobs);
    free(self->places);
    free(self->preconditioned);
    free(self->workspaces);
    free(self);
}

void optimizer_shampoo_times(const optimizer *self, shampoo_times *out) {
    *out = self->shampoo != NULL ? self->shampoo->times : (shampoo_times){0};
}

/* ---------------------------------------------------------------- statistics and roots */

static void *workspace_of_thread(const shampoo *own) {
    return own->workspaces + (size_t)omp_get_thread_num() * own->workspace;
}

/* Blocks are of several sizes: each thread takes the next. What a block gets does not depend on who computes it. */
#define FOR_EACH_DYNAMICALLY(i, count, own)                                                                                    \
    _Pragma("omp parallel for schedule(dynamic) num_threads((int)(own)->threads)") for (size_t i = 0; i < (count); i++)

static void move_statistics(optimizer *self, const optimizer_pass *pass) {
    shampoo *own = self->shampoo;
    float *statistics = optimizer_array_named(self, "shampoo_statistics");
    double beta2 = self->options.beta2;
    float keep = (float)beta2, take = beta2 < 1 ? (float)(1 - beta2) : 1.0f;
    FOR_EACH_DYNAMICALLY(job, own->job_count, own) {
        const job_place place = own->places[job];
        const shampoo_block *block = &own->blocks[place.block];
        size_t at = (size_t)(own->jobs[job].matrix - statistics);
        shampoo_move_statistics(statistics + at, block, place.axis, self->members[block->member].grad + block->origin,
                                own->views[block->member].strides, pass->grad_scale, keep, take, workspace_of_thread(own));
    }
}

static void compute_roots(shampoo *own, uint64_t step) {
    FOR_EACH_DYNAMICALLY(job, own->job_count, own) inverse_root(&own->jobs[job], workspace_of_thread(own));
    own->times.root_count = own->job_count;
    size_t failed = 0;
    for (size_t job = 0; job < own->job_count; job++) failed += own->jobs[job].failed;
    if (failed > 0)
        limn_log(LIMN_LOG_WARNING, "step %llu: %zu of Shampoo's %zu roots failed; the ones before stay",
                 (unsigned long long)step, failed, own->job_count);
}

/* ---------------------------------------------------------------- preconditioning */

/* `out` is the tensor's place for its preconditioned gradient; by the calling thread alone. The first axis goes to the end with
 * each product, so that after all of them the order is the first again. */
static void precondition(float *out, const shampoo_block *block, const float *grad, const size_t *strides, float grad_scale,
                         const float *roots, float *workspace) {
    grad += block->origin;
    out += block->origin;
    roots += block->statistics;
    blasint n0 = (blasint)block->extent[0];
    if (block->rank == 1) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, n0, n0, grad_scale, roots, n0, grad, 1, 0, out, 1);
        return;
    }
    if (block->rank == 2) {
        blasint n1 = (blasint)block->extent[1], stride = (blasint)strides[0];
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n1, n0, n0, grad_scale, grad, stride, roots, n0, 0, workspace, n0);
        roots += block->extent[0] * block->extent[0];
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n0, n1, n1, 1, workspace, n0, roots, n1, 0, out, stride);
        return;
    }
    float *from = workspace, *to = workspace + block->size;
    shampoo_gather(from, block, grad, strides);
    for (size_t axis = 0; axis < block->rank; axis++) {
        blasint n = (blasint)block->extent[axis], rest = (blasint)(block->size / block->extent[axis]);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rest, n, n, axis == 0 ? grad_scale : 1.0f, from, rest, roots, n, 0,
                    to, n);
        roots += block->extent[axis] * block->extent[axis];
        float *turned = from;
        from = to;
        to = turned;
    }
    shampoo_scatter(out, block, from, strides);
}

/* How many members from `first` on fit into a group together, by where their preconditioned gradients go in it. */
static size_t group_length(const optimizer *self, size_t first) {
    const shampoo *own = self->shampoo;
    size_t floats = 0, i = first;
    for (; i < self->count; i++) {
        if (own->views[i].block_count == 0) continue;
        if (self->members[i].size > own->group_floats - floats) break;
        floats += self->members[i].size;
    }
    return i - first;
}

/* A preconditioned member's place in the group that begins at `first`. */
static float *place_in_group(const optimizer *self, size_t first, size_t member) {
    float *place = self->shampoo->preconditioned;
    for (size_t i = first; i < member; i++)
        if (self->shampoo->views[i].block_count > 0) place += self->members[i].size;
    return place;
}

static void precondition_group(optimizer *self, size_t first, size_t count, const optimizer_pass *pass) {
    shampoo *own = self->shampoo;
    const float *roots = optimizer_array_named(self, "shampoo_preconditioners");
    const shampoo_view *last = &own->views[first + count - 1];
    size_t begin = own->views[first].first_block, blocks = last->first_block + last->block_count - begin;
    FOR_EACH_DYNAMICALLY(i, blocks, own) {
        const shampoo_block *block = &own->blocks[begin + i];
        precondition(place_in_group(self, first, block->member), block, self->members[block->member].grad,
                     own->views[block->member].strides, pass->grad_scale, roots, workspace_of_thread(own));
    }
}

/* ---------------------------------------------------------------- the step */

typedef struct {
    graft_type graft;
    float grad_scale;  /* of the gradient */
    float graft_scale; /* of what is grafted: with the reciprocal norm where it is normalised */
    float keep, take;  /* of the grafted method's second moment */
    float epsilon;
    float length; /* of Shampoo's direction: brings it to the grafted change's */
    float decay, beta1, add, rate, average_decay;
    bool before_start, nesterov, preconditioned;
} constants;

/* change = the grafted method's; moves its second moment first when `moves`. */
LIMN_CLONES static void graft_piece(float *change, float *diagonal, const float *grad, bool moves, size_t n,
                                    const constants *c) {
    const constants k = *c;
    if (k.graft == GRAFT_SGD) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) change[i] = grad[i] * k.graft_scale;
        return;
    }
    if (k.graft == GRAFT_SQRT_N) {
        for (size_t i = 0; i < n; i++) change[i] = grad[i] > 0 ? 1.0f : grad[i] < 0 ? -1.0f : grad[i] * 0.0f;
        return;
    }
    if (moves) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            float g = grad[i] * k.graft_scale;
            diagonal[i] = k.keep * diagonal[i] + k.take * (g * g);
        }
    }
#pragma omp simd
    for (size_t i = 0; i < n; i++) change[i] = grad[i] * k.graft_scale / (sqrtf(diagonal[i]) + k.epsilon);
}

/* m = beta1·m + add·(scale·change + decay·value) */
LIMN_CLONES static void move_momentum(float *m, const float *change, float scale, const float *value, size_t n,
                                      const constants *c) {
    const constants k = *c;
#pragma omp simd
    for (size_t i = 0; i < n; i++) m[i] = k.beta1 * m[i] + k.add * (scale * change[i] + k.decay * value[i]);
}

/* value −= rate·m, or Nesterov's. Returns the sum of the squared changes. */
LIMN_CLONES static float move_value(float *value, const float *m, const float *change, float scale, size_t n,
                                    const constants *c) {
    const constants k = *c;
    float moved = 0;
    float ahead = k.nesterov ? k.add : 0.0f, share = k.nesterov ? k.beta1 : 1.0f;
#pragma omp simd reduction(+ : moved)
    for (size_t i = 0; i < n; i++) {
        float step = share * m[i];
        if (k.nesterov) step += ahead * (scale * change[i] + k.decay * value[i]);
        step *= k.rate;
        value[i] -= step;
        moved += step * step;
    }
    return moved;
}

/* Elements start … of a member: all that is kept one by one, then the value. */
static double finish_piece(const optimizer *self, const optimizer_member *member, const float *preconditioned, size_t start,
                           const constants *c) {
    float graft[LIMN_PIECE];
    size_t n = piece_length(start, member->size), at = member->offset + start;
    float *value = member->value + start, *diagonal = optimizer_array_named(self, "shampoo_diagonal");
    float *m = optimizer_array_named(self, "shampoo_momentum") + at;
    float *graft_m = optimizer_array_named(self, "shampoo_graft_momentum") + at;
    const float *change = preconditioned != NULL ? preconditioned + start : graft;
    if (c->before_start || !c->preconditioned)
        graft_piece(graft, diagonal != NULL ? diagonal + at : NULL, member->grad + start, false, n, c);
    move_momentum(m, change, c->length, value, n, c);
    /* From the start on nobody reads the grafted method's own momentum. */
    if (c->before_start) move_momentum(graft_m, graft, 1, value, n, c);
    double moved = c->before_start ? (double)move_value(value, graft_m, graft, 1, n, c)
                                   : (double)move_value(value, m, change, c->length, n, c);
    if (member->average != NULL) move_average(member->average + start, value, c->average_decay, n);
    return moved;
}

/* Norms of the whole tensor first, then its step. Returns the norm of its change. */
static double finish_member(optimizer *self, const optimizer_member *member, const float *preconditioned, constants c) {
    float *diagonal = optimizer_array_named(self, "shampoo_diagonal");
    size_t n = member->size, pieces = divide_up(n, LIMN_PIECE);
    bool normalized = c.graft == GRAFT_RMSPROP_NORMALIZED || c.graft == GRAFT_ADAGRAD_NORMALIZED;
    c.preconditioned = preconditioned != NULL;
    if (normalized)
        c.graft_scale = (float)((double)c.grad_scale /
                                (sqrt(sum_of_squares(member->grad, member->size)) * fabs((double)c.grad_scale) + 1e-16));
    LIMN_FOR_PIECES(start, n) {
        float graft[LIMN_PIECE];
        size_t length = piece_length(start, n), at = member->offset + start;
        double *sums = self->sums + 2 * (start / LIMN_PIECE);
        graft_piece(graft, diagonal != NULL ? diagonal + at : NULL, member->grad + start, true, length, &c);
        sums[0] = squares_of_row(graft, length);
        sums[1] = preconditioned != NULL ? squares_of_row(preconditioned + start, length) : sums[0];
    }
    double graft_square = 0, square = 0;
    for (size_t i = 0; i < pieces; i++) {
        graft_square += self->sums[2 * i];
        square += self->sums[2 * i + 1];
    }
    c.length = (float)(sqrt(graft_square) / (sqrt(square) + 1e-16));
    if (!member->decays) c.decay = 0;
    LIMN_FOR_PIECES(start, n)
    self->sums[2 * (start / LIMN_PIECE)] = finish_piece(self, member, preconditioned, start, &c);
    double moved = 0;
    for (size_t i = 0; i < pieces; i++) moved += self->sums[2 * i];
    return sqrt(moved);
}

static constants constants_of(const optimizer_options *options, const optimizer_pass *pass) {
    const shampoo_options *s = &options->shampoo;
    bool adds_up = s->graft == GRAFT_ADAGRAD || s->graft == GRAFT_ADAGRAD_NORMALIZED;
    return (constants){.graft = s->graft,
                       .grad_scale = pass->grad_scale,
                       .graft_scale = pass->grad_scale,
                       .keep = adds_up ? 1.0f : (float)options->beta2,
                       .take = adds_up || !(options->beta2 < 1) ? 1.0f : (float)(1 - options->beta2),
                       .epsilon = (float)s->diagonal_epsilon,
                       .decay = (float)options->weight_decay,
                       .beta1 = (float)options->beta1,
                       .add = s->moving_average_for_momentum ? (float)(1 - options->beta1) : 1.0f,
                       .rate = (float)pass->learning_rate,
                       .average_decay = (float)pass->average_decay,
                       .before_start = pass->step - 1 < s->start_preconditioning_step,
                       .nesterov = s->nesterov};
}

void shampoo_pass(optimizer *self, const optimizer_pass *pass) {
    shampoo *own = self->shampoo;
    const shampoo_options *options = &self->options.shampoo;
    const constants c = constants_of(&self->options, pass);
    uint64_t number = pass->step - 1;
    use_single_threaded_blas();
    double begin = limn_seconds();
    if (number % options->statistics_compute_steps == 0) {
        move_statistics(self, pass);
        own->times.statistics = limn_seconds() - begin;
    }
    begin = limn_seconds();
    if (number % options->preconditioning_compute_steps == 0) {
        compute_roots(own, pass->step);
        own->times.roots = limn_seconds() - begin;
    }
    own->times.preconditioning = own->times.update = 0;
    for (size_t first = 0, count; first < self->count; first += count) {
        count = group_length(self, first);
        begin = limn_seconds();
        precondition_group(self, first, count, pass);
        double middle = limn_seconds();
        own->times.preconditioning += middle - begin;
        for (size_t i = first; i < first + count; i++) {
            const optimizer_member *member = &self->members[i];
            const float *preconditioned = own->views[i].block_count > 0 ? place_in_group(self, first, i) : NULL;
            double moved = member->grad != NULL ? finish_member(self, member, preconditioned, c) : 0;
            if (pass->update_norms != NULL) pass->update_norms[i] = moved;
        }
        own->times.update += limn_seconds() - middle;
    }
}
