/* Shampoo against its definition in double precision: statistics, roots by Jacobi's rotations, preconditioning and grafting
 * element by element. golden-optimizers compares with the original. */
#include "gradient_check.h"

#include <unistd.h>

enum { MOST = 4, SIDE = 64 };

typedef struct {
    size_t rank, shape[MOST];     /* as given */
    size_t seen_rank, seen[MOST]; /* as Shampoo sees it; 0: by the grafted method alone */
} subject;

/* Merged up to 24, blocks of 5, nothing longer than 40. */
static const subject subjects[] = {
    {1, {13}, 1, {13}},
    {2, {4, 6}, 1, {24}},
    {2, {7, 12}, 2, {7, 12}},
    {3, {7, 6, 5}, 3, {7, 6, 5}},
    {4, {2, 3, 7, 9}, 3, {6, 7, 9}},
    {0, {0}, 0, {0}},
    {2, {41, 2}, 0, {0}},
    {3, {1, 1, 1}, 1, {1}},
    {3, {1, 30, 1}, 1, {30}},
    {4, {5, 5, 5, 6}, 4, {5, 5, 5, 6}},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects, BLOCK = 5, MERGE = 24, SKIP = 40 };

/* Symmetric a (n,n) to its eigenvalues on the diagonal, with the vectors as columns of v. */
static void jacobi(double *a, double *v, size_t n) {
    for (size_t i = 0; i < n * n; i++) v[i] = i % (n + 1) == 0;
    for (int sweep = 0; sweep < 30; sweep++)
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++) {
                if (a[p * n + q] == 0) continue;
                double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), s = t * c;
                for (size_t k = 0; k < n; k++) {
                    double x = a[k * n + p], y = a[k * n + q];
                    a[k * n + p] = c * x - s * y;
                    a[k * n + q] = s * x + c * y;
                }
                for (size_t k = 0; k < n; k++) {
                    double x = a[p * n + k], y = a[q * n + k];
                    a[p * n + k] = c * x - s * y;
                    a[q * n + k] = s * x + c * y;
                }
                for (size_t k = 0; k < n; k++) {
                    double x = v[k * n + p], y = v[k * n + q];
                    v[k * n + p] = c * x - s * y;
                    v[k * n + q] = s * x + c * y;
                }
            }
}

static const double start_vector[BLOCK] = {-0.5756828188896179, -0.48196351528167725, -0.15295624732971191, 0.43932202458381653,
                                           0.3845018446445465};

/* The original's estimate of the largest eigenvalue, of the matrix filled up to the largest block. */
static double power_iteration(const double *matrix, size_t n) {
    double x[BLOCK], y[BLOCK], quotient = 0;
    memcpy(x, start_vector, sizeof x);
    for (int round = 0; round < 100; round++) {
        double square = 0, next = 0;
        for (size_t i = 0; i < BLOCK; i++) square += x[i] * x[i];
        for (size_t i = 0; i < BLOCK; i++) x[i] /= sqrt(square);
        for (size_t i = 0; i < BLOCK; i++) {
            y[i] = i < n ? 0 : x[i];
            for (size_t j = 0; i < n && j < n; j++) y[i] += matrix[i * n + j] * x[j];
            next += x[i] * y[i];
        }
        double change = fabs(next - quotient);
        quotient = next;
        memcpy(x, y, sizeof x);
        if (!(change > 1e-6)) break;
    }
    return quotient;
}

static void plain_root(double *root, const double *matrix, size_t n, double exponent) {
    double a[BLOCK * BLOCK], v[BLOCK * BLOCK], damping = 1e-6 * fmax(power_iteration(matrix, n), 1e-6);
    memcpy(a, matrix, n * n * sizeof *a);
    jacobi(a, v, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            root[i * n + j] = 0;
            for (size_t k = 0; k < n; k++)
                root[i * n + j] += v[i * n + k] * v[j * n + k] * pow(a[k * n + k] + damping, -1 / exponent);
        }
}

/* For each element of the tensor as it is seen and each axis: its own statistics row, kept per (block, axis) in a full table.
 */
typedef struct {
    size_t n;
    double *momentum, *graft_momentum, *diagonal;
    double *statistics[MOST], *roots[MOST]; /* (blocks)(BLOCK²) */
    size_t blocks;
} plain;

static size_t product_of(const size_t *shape, size_t rank) {
    size_t n = 1;
    for (size_t i = 0; i < rank; i++) n *= shape[i];
    return n;
}

static plain plain_begin(const subject *s) {
    plain p = {.n = product_of(s->shape, s->rank), .blocks = 1};
    p.momentum = doubles_zeroed(p.n);
    p.graft_momentum = doubles_zeroed(p.n);
    p.diagonal = doubles_zeroed(p.n);
    for (size_t i = 0; i < s->seen_rank; i++) p.blocks *= (s->seen[i] + BLOCK - 1) / BLOCK;
    for (size_t axis = 0; axis < s->seen_rank; axis++) {
        p.statistics[axis] = doubles_zeroed(p.blocks * BLOCK * BLOCK);
        p.roots[axis] = doubles_zeroed(p.blocks * BLOCK * BLOCK);
    }
    return p;
}

static void plain_end(plain *p) {
    free(p->momentum);
    free(p->graft_momentum);
    free(p->diagonal);
    for (size_t i = 0; i < MOST; i++) {
        free(p->statistics[i]);
        free(p->roots[i]);
    }
}

/* Block of element e, its extents, and where it stands in it. */
static size_t locate(const subject *s, size_t e, size_t *extent, size_t *place) {
    size_t block = 0, index[MOST];
    for (size_t i = s->seen_rank; i-- > 0;) {
        index[i] = e % s->seen[i];
        e /= s->seen[i];
    }
    for (size_t i = 0; i < s->seen_rank; i++) {
        size_t cuts = (s->seen[i] + BLOCK - 1) / BLOCK, cut = index[i] / BLOCK;
        block = block * cuts + cut;
        extent[i] = cut + 1 < cuts ? BLOCK : s->seen[i] - cut * BLOCK;
        place[i] = index[i] % BLOCK;
    }
    return block;
}

/* The element that differs from e only in its place on this axis within the block. */
static size_t neighbour(const subject *s, size_t e, size_t axis, size_t from, size_t to) {
    size_t stride = product_of(s->seen + axis + 1, s->seen_rank - axis - 1);
    return e - from * stride + to * stride;
}

static void plain_precondition(const subject *s, plain *p, const double *g, double *out, uint64_t number, double beta2,
                               uint64_t every) {
    size_t extent[MOST], place[MOST];
    double *next = doubles_zeroed(p->n);
    for (size_t axis = 0; axis < s->seen_rank; axis++) {
        double *gram = doubles_zeroed(p->blocks * BLOCK * BLOCK);
        size_t *sizes = calloc(p->blocks, sizeof *sizes);
        for (size_t e = 0; e < p->n; e++) {
            size_t block = locate(s, e, extent, place), n = extent[axis];
            sizes[block] = n;
            for (size_t j = 0; j < n; j++)
                gram[block * BLOCK * BLOCK + place[axis] * n + j] += g[e] * g[neighbour(s, e, axis, place[axis], j)];
        }
        for (size_t block = 0; block < p->blocks; block++) {
            double *statistics = p->statistics[axis] + block * BLOCK * BLOCK;
            size_t n = sizes[block];
            for (size_t i = 0; i < n * n; i++) {
                if (number == 0) statistics[i] = i % (n + 1) == 0 ? 1e-6 : 0;
                statistics[i] = beta2 * statistics[i] + (1 - beta2) * gram[block * BLOCK * BLOCK + i];
            }
            if (number % every == 0)
                plain_root(p->roots[axis] + block * BLOCK * BLOCK, statistics, n, 2 * (double)s->seen_rank);
        }
        free(gram);
        free(sizes);
    }
    memcpy(out, g, p->n * sizeof *out);
    for (size_t axis = 0; axis < s->seen_rank; axis++) {
        for (size_t e = 0; e < p->n; e++) {
            size_t block = locate(s, e, extent, place), n = extent[axis];
            next[e] = 0;
            for (size_t j = 0; j < n; j++)
                next[e] +=
                    p->roots[axis][block * BLOCK * BLOCK + place[axis] * n + j] * out[neighbour(s, e, axis, place[axis], j)];
        }
        memcpy(out, next, p->n * sizeof *out);
    }
    free(next);
}

static double norm_of(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

static void plain_graft(plain *p, const double *g, double *out, graft_type graft, double beta2) {
    double norm = graft == GRAFT_RMSPROP_NORMALIZED || graft == GRAFT_ADAGRAD_NORMALIZED ? norm_of(g, p->n) + 1e-16 : 1;
    bool adds = graft == GRAFT_ADAGRAD || graft == GRAFT_ADAGRAD_NORMALIZED;
    for (size_t i = 0; i < p->n; i++) {
        double x = g[i] / norm;
        p->diagonal[i] = adds ? p->diagonal[i] + x * x : beta2 * p->diagonal[i] + (1 - beta2) * x * x;
        out[i] = graft == GRAFT_SGD ? x : graft == GRAFT_SQRT_N ? (x > 0) - (x < 0) : x / (sqrt(p->diagonal[i]) + 1e-10);
    }
}

static void plain_step(const subject *s, plain *p, double *value, const double *g, uint64_t number,
                       const optimizer_options *o) {
    const shampoo_options *options = &o->shampoo;
    double *direction = doubles_zeroed(p->n), *graft = doubles_zeroed(p->n);
    double add = options->moving_average_for_momentum ? 1 - o->beta1 : 1, rate = 0.02;
    plain_graft(p, g, graft, options->graft, o->beta2);
    if (s->seen_rank == 0)
        memcpy(direction, graft, p->n * sizeof *graft);
    else
        plain_precondition(s, p, g, direction, number, o->beta2, options->preconditioning_compute_steps);
    double length = norm_of(graft, p->n) / (norm_of(direction, p->n) + 1e-16);
    for (size_t i = 0; i < p->n; i++) {
        double change = direction[i] * length + o->weight_decay * value[i], other = graft[i] + o->weight_decay * value[i];
        p->momentum[i] = o->beta1 * p->momentum[i] + add * change;
        p->graft_momentum[i] = o->beta1 * p->graft_momentum[i] + add * other;
        bool started = number >= options->start_preconditioning_step;
        double step = started ? p->momentum[i] : p->graft_momentum[i];
        if (options->nesterov) step = add * (started ? change : other) + o->beta1 * step;
        value[i] -= rate * step;
    }
    free(direction);
    free(graft);
}

/* All subjects in one optimizer, so that small statistics are filled up. */
static void compare(graft_type graft, bool moving_average, bool nesterov, int steps) {
    twin values[SUBJECTS], grads[SUBJECTS];
    plain plains[SUBJECTS];
    optimizer_tensor tensors[SUBJECTS];
    optimizer_options options = optimizer_defaults(OPTIMIZER_SHAMPOO);
    options.beta2 = 0.9;
    options.weight_decay = 0.01;
    options.shampoo.graft = graft;
    options.shampoo.block_size = BLOCK;
    options.shampoo.merge_small_dims_block_size = MERGE;
    options.shampoo.skip_preconditioning_dim_size_gt = SKIP;
    options.shampoo.start_preconditioning_step = 2;
    options.shampoo.preconditioning_compute_steps = 2;
    options.shampoo.moving_average_for_momentum = moving_average;
    options.shampoo.nesterov = nesterov;
    for (size_t k = 0; k < SUBJECTS; k++) {
        const subject *s = &subjects[k];
        plains[k] = plain_begin(s);
        values[k] = twin_random(plains[k].n, 0, 1, "value");
        grads[k] = twin_random(plains[k].n, 0, 1, "grad");
        tensors[k] =
            (optimizer_tensor){.name = "subject", .rank = s->rank, .value = values[k].f, .grad = grads[k].f, .decays = true};
        memcpy(tensors[k].shape, s->shape, sizeof s->shape);
    }
    limn_error error;
    optimizer *moves = optimizer_create(&options, tensors, SUBJECTS, &error);
    assert_non_null(moves);
    assert_int_equal(optimizer_padded_size(&options, tensors, SUBJECTS), BLOCK);
    for (int number = 0; number < steps; number++) {
        for (size_t k = 0; k < SUBJECTS; k++) {
            char name[64];
            snprintf(name, sizeof name, "grad %d of %zu", number, k);
            twin drawn = twin_random(plains[k].n, 0.1, 0.5, name);
            for (size_t i = 0; i < plains[k].n; i++) drawn.f[i] += (float)0.5 * grads[k].f[i];
            for (size_t i = 0; i < plains[k].n; i++) drawn.d[i] = 0.25 * (double)drawn.f[i];
            plain_step(&subjects[k], &plains[k], values[k].d, drawn.d, (uint64_t)number, &options);
            memcpy(grads[k].f, drawn.f, plains[k].n * sizeof(float));
            twin_free(&drawn);
        }
        optimizer_step(moves, &(optimizer_pass){.learning_rate = 0.02, .step = (uint64_t)number + 1, .grad_scale = 0.25f});
    }
    for (size_t k = 0; k < SUBJECTS; k++) {
        char name[64];
        snprintf(name, sizeof name, "subject %zu, graft %d", k, (int)graft);
        check_close(name, values[k].f, values[k].d, plains[k].n, 1e-3);
        plain_end(&plains[k]);
        twin_free(&values[k]);
        twin_free(&grads[k]);
    }
    shampoo_times times;
    optimizer_shampoo_times(moves, &times);
    assert_true(times.root_count > 0);
    optimizer_free(moves);
}

static void steps_follow_the_definition(void **state) {
    (void)state;
    for (int graft = GRAFT_SGD; graft <= GRAFT_ADAGRAD_NORMALIZED; graft++) compare((graft_type)graft, true, false, 6);
}

static void momentum_adds_up_or_looks_ahead(void **state) {
    (void)state;
    compare(GRAFT_RMSPROP, false, false, 4);
    compare(GRAFT_RMSPROP, true, true, 5);
}

/* ---------------------------------------------------------------- failures */

enum { N = 12 };

static optimizer *small_one(float *value, const float *grad, uint64_t every) {
    optimizer_options options = optimizer_defaults(OPTIMIZER_SHAMPOO);
    options.shampoo.start_preconditioning_step = 0;
    options.shampoo.preconditioning_compute_steps = every;
    const optimizer_tensor tensor = {"small", 1, {N}, value, grad, NULL, false};
    limn_error error;
    optimizer *moves = optimizer_create(&options, &tensor, 1, &error);
    assert_non_null(moves);
    return moves;
}

static const float *array_named(const optimizer *moves, const char *name, size_t *size) {
    const optimizer_array *arrays;
    size_t count = optimizer_arrays(moves, &arrays);
    for (size_t i = 0; i < count; i++)
        if (strcmp(arrays[i].name, name) == 0) {
            *size = arrays[i].size;
            return arrays[i].data;
        }
    fail_msg("no array %s", name);
    return NULL;
}

/* One step, and in `text` what it wrote to the log. */
static void step_and_read_log(optimizer *moves, uint64_t step, char *text, int size) {
    FILE *log = tmpfile();
    const int kept = dup(STDERR_FILENO);
    assert_true(log != NULL && kept >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    optimizer_step(moves, &(optimizer_pass){.learning_rate = 0.1, .step = step, .grad_scale = 1});
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(kept);
    rewind(log);
    text[0] = '\0';
    (void)!fgets(text, size, log);
    fclose(log);
}

static void a_failed_root_leaves_the_one_before(void **state) {
    (void)state;
    twin value = twin_random(N, 0, 1, "value"), grad = twin_random(N, 0, 1, "grad");
    optimizer *moves = small_one(value.f, grad.f, 1);
    size_t size = 0;
    const float *roots = array_named(moves, "shampoo_preconditioners", &size);
    assert_int_equal(size, N * N);
    for (size_t i = 0; i < size; i++) assert_true(roots[i] == (i % (N + 1) == 0 ? 1.0f : 0.0f));
    char log[200];
    step_and_read_log(moves, 1, log, sizeof log);
    assert_string_equal(log, "");
    float before[N * N];
    memcpy(before, roots, sizeof before);
    assert_true(before[0] != 1);
    grad.f[3] = NAN;
    step_and_read_log(moves, 2, log, sizeof log);
    assert_non_null(strstr(log, "warning: step 2: 1 of Shampoo's 1 roots failed"));
    assert_memory_equal(before, roots, sizeof before);
    optimizer_free(moves);
    twin_free(&value);
    twin_free(&grad);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_follow_the_definition),
                                       cmocka_unit_test(momentum_adds_up_or_looks_ahead),
                                       cmocka_unit_test(a_failed_root_leaves_the_one_before)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
