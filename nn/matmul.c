#include "nn/nn.h"

#include <cblas.h>
#include <omp.h>
#include <string.h>

#include "nn/internal.h"

typedef struct {
    float *out;
    const float *a, *b;
    size_t ldout, lda, ldb;
    bool transpose_a, transpose_b;
    float alpha, beta;
} product;

/* Rows m … m+rows-1, columns n … n+columns-1, with the terms k … k+depth-1. */
static void multiply_block(const product *p, size_t m, size_t rows, size_t n, size_t columns, size_t k, size_t depth) {
    const float *a = p->transpose_a ? p->a + k * p->lda + m : p->a + m * p->lda + k;
    const float *b = p->transpose_b ? p->b + n * p->ldb + k : p->b + k * p->ldb + n;
    cblas_sgemm(CblasRowMajor, p->transpose_a ? CblasTrans : CblasNoTrans, p->transpose_b ? CblasTrans : CblasNoTrans,
                (blasint)rows, (blasint)columns, (blasint)depth, p->alpha, a, (blasint)p->lda, b, (blasint)p->ldb, p->beta,
                p->out + m * p->ldout + n, (blasint)p->ldout);
}

enum {
    /* Fewer multiplications than this are not worth waking the threads; OpenBLAS too draws its line here, which matters with
     * its OpenMP build: outside of a parallel region it would take threads of its own. */
    SERIAL_PRODUCT = 64 * 64 * 64,
    /* Blocks begin at multiples of the kernels' widest register block. */
    ALIGNMENT = 16,
    /* Outputs this small with a long K are summed in parts along K, at most this many. */
    SMALL_OUTPUT = 64 * 64,
    MOST_K_PARTS = 16
};

/* Each thread sums a stretch of K into a small output of its own; these are added in order. */
static void multiply_by_parts_of_k(const product *p, size_t M, size_t N, size_t K, size_t parts) {
    float partial[MOST_K_PARTS][SMALL_OUTPUT];
    size_t depth = round_up(divide_up(K, parts), ALIGNMENT);
    parts = divide_up(K, depth);
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < parts; part++) {
        product own = *p;
        own.out = partial[part];
        own.ldout = N;
        own.beta = 0.0f;
        size_t k = part * depth;
        multiply_block(&own, 0, M, 0, N, k, K - k < depth ? K - k : depth);
    }
    for (size_t m = 0; m < M; m++) {
        float *row = p->out + m * p->ldout;
        for (size_t n = 0; n < N; n++) {
            float sum = p->beta == 0.0f ? 0.0f : p->beta * row[n];
            for (size_t part = 0; part < parts; part++) sum += partial[part][m * N + n];
            row[n] = sum;
        }
    }
}

/* Divides an output of M by N into a grid for so many threads: what the largest block takes is its multiplications for each
 * term, and to pack its rows and columns. */
static void choose_grid(size_t M, size_t N, size_t threads, size_t *grid_rows, size_t *grid_columns) {
    const double pack = 32; /* what packing a number costs, in multiplications */
    double best = 0;
    *grid_rows = 1;
    *grid_columns = threads;
    for (size_t r = 1; r <= threads; r++) {
        size_t c = threads / r;
        size_t rows = smaller(round_up(divide_up(M, r), ALIGNMENT), M);
        size_t columns = smaller(round_up(divide_up(N, c), ALIGNMENT), N);
        double cost = (double)rows * (double)columns + pack * (double)rows + pack * (double)columns;
        if (r == 1 || cost < best) {
            best = cost;
            *grid_rows = r;
            *grid_columns = c;
        }
    }
}

void matmul(float *out, size_t ldout, const float *a, size_t lda, bool transpose_a, const float *b, size_t ldb,
            bool transpose_b, size_t M, size_t N, size_t K, float alpha, float beta) {
    if (M == 0 || N == 0) return;
    use_single_threaded_blas();
    product p = {out, a, b, ldout, lda, ldb, transpose_a, transpose_b, alpha, beta};
    size_t threads = omp_in_parallel() ? 1 : (size_t)omp_get_max_threads();
    if (threads <= 1 || (double)M * (double)N * (double)K <= SERIAL_PRODUCT) {
        multiply_block(&p, 0, M, 0, N, 0, K);
        return;
    }
    if (M * N <= SMALL_OUTPUT && K >= 64 * ALIGNMENT) {
        multiply_by_parts_of_k(&p, M, N, K, threads < MOST_K_PARTS ? threads : MOST_K_PARTS);
        return;
    }
    size_t grid_rows, grid_columns;
    choose_grid(M, N, threads, &grid_rows, &grid_columns);
    size_t rows = round_up(divide_up(M, grid_rows), ALIGNMENT), columns = round_up(divide_up(N, grid_columns), ALIGNMENT);
    size_t blocks_down = divide_up(M, rows), blocks_across = divide_up(N, columns);
#pragma omp parallel for schedule(static)
    for (size_t block = 0; block < blocks_down * blocks_across; block++) {
        size_t m = block / blocks_across * rows, n = block % blocks_across * columns;
        multiply_block(&p, m, M - m < rows ? M - m : rows, n, N - n < columns ? N - n : columns, 0, K);
    }
}

/* ---------------------------------------------------------------- linear */

void linear_forward(float *out, const float *in, const float *weight, const float *bias, size_t N, size_t C, size_t OC) {
    if (bias != NULL) {
#pragma omp parallel for schedule(static) if (N * OC > 2 * LIMN_PIECE)
        for (size_t n = 0; n < N; n++) memcpy(out + n * OC, bias, OC * sizeof *out);
    }
    matmul(out, OC, in, C, false, weight, C, true, N, OC, C, 1.0f, bias != NULL ? 1.0f : 0.0f);
}

LIMN_CLONES static void add_rows(float *sum, const float *rows, size_t stride, size_t N, size_t columns) {
    for (size_t n = 0; n < N; n++) {
        const float *row = rows + n * stride;
#pragma omp simd
        for (size_t c = 0; c < columns; c++) sum[c] += row[c];
    }
}

void linear_backward(float *din, float *dweight, float *dbias, const float *dout, const float *in, const float *weight,
                     size_t N, size_t C, size_t OC, bool accumulate) {
    if (din != NULL) matmul(din, C, dout, OC, false, weight, C, false, N, C, OC, 1.0f, accumulate ? 1.0f : 0.0f);
    if (dweight != NULL) matmul(dweight, C, dout, OC, true, in, C, false, OC, C, N, 1.0f, 1.0f);
    if (dbias != NULL) {
        /* Each thread has columns of its own, so the sums do not depend on how many there are. */
        const size_t width = 64;
#pragma omp parallel for schedule(static) if (N * OC > 2 * LIMN_PIECE)
        for (size_t c = 0; c < OC; c += width) {
            size_t columns = OC - c < width ? OC - c : width;
            float sum[64] = {0};
            add_rows(sum, dout + c, OC, N, columns);
            for (size_t i = 0; i < columns; i++) dbias[c + i] += sum[i];
        }
    }
}
