/* The inverse p-th root of a symmetric matrix: Shampoo's preconditioners.
 *
 * The original iterates (coupled Newton). An eigen-decomposition in double precision is exact for any condition number that the
 * ridge leaves, and takes a thirtieth of the time for 1,024². The ridge is relative to the largest eigenvalue as the original's
 * power iteration finds it, which ends early where eigenvalues are small; in the basis of the eigenvectors that iteration
 * costs n multiplications a round. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "nn/internal.h"
#include "nn/inverse_root.h"

/* LAPACK, which OpenBLAS brings along; the last two are the lengths of the strings. */
void dsyevd_(const char *jobz, const char *uplo, const blasint *n, double *a, const blasint *lda, double *w, double *work,
             const blasint *lwork, blasint *iwork, const blasint *liwork, blasint *info, size_t jobz_length,
             size_t uplo_length);

/* Lengths in doubles. */
typedef struct {
    size_t matrix, values, work, integers, start, all;
} workspace_layout;

static size_t work_length(size_t n) {
    return 1 + 6 * n + 2 * n * n;
}

static int lay_out(size_t n, size_t padded, workspace_layout *l) {
    if (n == 0 || n > 1u << 15 || padded > 1u << 24) return -1; /* 2·n² must be a 32-bit integer for LAPACK */
    size_t integers = divide_up((3 + 5 * n) * sizeof(blasint), sizeof(double));
    *l = (workspace_layout){.matrix = n * n, .values = 2 * n, .work = work_length(n), .integers = integers, .start = padded};
    l->all = l->matrix + l->values + l->work + l->integers + l->start;
    return 0;
}

size_t inverse_root_bytes(size_t n, size_t padded) {
    workspace_layout l;
    return lay_out(n, larger(padded, n), &l) == 0 ? round_up(l.all * sizeof(double), 64) : SIZE_MAX;
}

/* The first `count` numbers of NumPy's RandomState(1729).uniform(-1, 1), in float32: where the original's power iteration
 * starts. (MT19937, Matsumoto and Nishimura 1998.) */
static void start_vector(double *out, size_t count) {
    enum { N = 624, M = 397 };
    uint32_t state[N] = {1729}, pair[2];
    for (uint32_t i = 1; i < N; i++) state[i] = 1812433253u * (state[i - 1] ^ (state[i - 1] >> 30)) + i;
    for (size_t k = 0; k < 2 * count; k++) {
        size_t i = k % N;
        uint32_t y = (state[i] & 0x80000000u) | (state[(i + 1) % N] & 0x7fffffffu);
        state[i] = state[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
        y = state[i];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680u;
        y ^= (y << 15) & 0xefc60000u;
        y ^= y >> 18;
        pair[k % 2] = y;
        double uniform = ((double)(pair[0] >> 5) * 67108864.0 + (double)(pair[1] >> 6)) / 9007199254740992.0;
        if (k % 2 == 1) out[k / 2] = (double)(float)(2 * uniform - 1);
    }
}

/* The Rayleigh quotient where the power iteration stops: weights (n) are the squares of the start vector's components along the
 * eigenvectors, `ones` its share in the filling, whose eigenvalues are 1. */
static double power_iteration(const double *values, double *weights, size_t n, double ones) {
    enum { MOST_ROUNDS = 100 };
    const double tolerance = 1e-6;
    double quotient = 0;
    for (size_t round = 0; round < MOST_ROUNDS; round++) {
        double above = ones, below = ones;
        for (size_t i = 0; i < n; i++) {
            above += weights[i] * values[i];
            below += weights[i];
        }
        double next = above / below, change = fabs(next - quotient);
        quotient = next;
        if (!(change > tolerance)) break;
        /* A multiplication by the matrix; then all at its scale. */
        double largest = ones;
        for (size_t i = 0; i < n; i++) {
            weights[i] *= values[i] * values[i];
            largest = fmax(largest, weights[i]);
        }
        if (!(largest > 0)) break;
        for (size_t i = 0; i < n; i++) weights[i] /= largest;
        ones /= largest;
    }
    return quotient;
}

/* max|(X^p·A − 1)·x| for a vector x of ones, where X has the eigenvectors `vectors` (n,n), one a row, and the values `roots`,
 * and A is the damped matrix (lower triangle, float). u, v, t are (n). */
static double residual(const inverse_root_job *job, const double *vectors, const double *roots, double damping, double *u,
                       double *v, double *t) {
    size_t n = job->n;
    blasint N = (blasint)n;
    for (size_t i = 0; i < n; i++) u[i] = damping;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double a = (double)job->matrix[i * n + j];
            u[i] += a;
            if (j < i) u[j] += a;
        }
    cblas_dgemv(CblasRowMajor, CblasNoTrans, N, N, 1, vectors, N, u, 1, 0, t, 1);
    for (size_t i = 0; i < n; i++) t[i] *= pow(roots[i], (double)job->exponent);
    cblas_dgemv(CblasRowMajor, CblasTrans, N, N, 1, vectors, N, t, 1, 0, v, 1);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double error = fabs(v[i] - 1);
        if (!(error <= worst)) worst = error; /* a NaN stays */
        if (isnan(worst)) break;
    }
    return worst;
}

/* root = vectorsᵀ·diag(roots)·vectors; `vectors` is overwritten, product is (n,n). */
static void multiply_out(inverse_root_job *job, double *vectors, const double *roots, double *product) {
    size_t n = job->n;
    blasint N = (blasint)n;
    for (size_t i = 0; i < n; i++) cblas_dscal(N, sqrt(roots[i]), vectors + i * n, 1);
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, N, N, 1, vectors, N, 0, product, N);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) job->root[i * n + j] = job->root[j * n + i] = (float)product[i * n + j];
}

void inverse_root(inverse_root_job *job, void *workspace) {
    size_t n = job->n;
    workspace_layout l;
    job->failed = true;
    if (lay_out(n, larger(job->padded, n), &l) != 0) return;
    double *vectors = workspace, *values = vectors + l.matrix, *weights = values + n, *work = values + l.values;
    double *start = work + l.work + l.integers;
    blasint *integers = (blasint *)(void *)(work + l.work);
    /* LAPACK's lower triangle, column by column, is our upper one: element (i,j), j ≤ i, goes to (j,i). */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            if (!isfinite(job->matrix[i * n + j])) return;
            vectors[j * n + i] = (double)job->matrix[i * n + j];
        }
    use_single_threaded_blas();
    blasint N = (blasint)n, work_size = (blasint)l.work, integer_size = (blasint)(3 + 5 * n), info = 0;
    dsyevd_("V", "L", &N, vectors, &N, values, work, &work_size, integers, &integer_size, &info, 1, 1);
    if (info != 0) return;

    start_vector(start, l.start);
    cblas_dgemv(CblasRowMajor, CblasNoTrans, N, N, 1, vectors, N, start, 1, 0, weights, 1);
    double ones = 0;
    for (size_t i = 0; i < n; i++) weights[i] *= weights[i];
    for (size_t i = n; i < l.start; i++) ones += start[i] * start[i];
    double damping = job->ridge * fmax(power_iteration(values, weights, n, ones), 1e-6);
    for (size_t i = 0; i < n; i++) {
        double damped = values[i] + damping;
        if (!(damped > 0)) return;
        values[i] = pow(damped, -1.0 / (double)job->exponent);
    }
    /* `work` is free again. */
    if (!(residual(job, vectors, values, damping, work, work + n, work + 2 * n) < job->failure_threshold)) return;
    multiply_out(job, vectors, values, work);
    job->failed = false;
}
