/* Shampoo's statistics. This file is compiled without fused multiply-adds: a gradient's outer product is singular, and what is
 * left of the statistics' small eigenvalues is decided by how each product is rounded; so it is rounded as the original does.
 */
#include <cblas.h>
#include <string.h>

#include "nn/shampoo_internal.h"

LIMN_CLONES static void move_row(float *row, const float *gram, float keep, float take, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float old = keep * row[i], add = take * gram[i];
        row[i] = old + add;
    }
}

LIMN_CLONES static void move_vector_row(float *row, const float *g, float factor, float keep, float take, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float gram = factor * g[i];
        float old = keep * row[i], add = take * gram;
        row[i] = old + add;
    }
}

void shampoo_move_statistics(float *statistics, const shampoo_block *block, size_t axis, const float *grad,
                             const size_t *strides, float grad_scale, float keep, float take, float *workspace) {
    size_t n = block->extent[axis];
    if (block->rank == 1) {
        scale_row(workspace, grad, grad_scale, n);
        for (size_t i = 0; i < n; i++) move_vector_row(statistics + i * n, workspace, workspace[i], keep, take, i + 1);
        return;
    }
    blasint N = (blasint)n;
    float *gram = workspace, square = grad_scale * grad_scale;
    if (block->rank == 2) {
        size_t other = block->extent[1 - axis];
        cblas_ssyrk(CblasRowMajor, CblasLower, axis == 0 ? CblasNoTrans : CblasTrans, N, (blasint)other, square, grad,
                    (blasint)strides[0], 0, gram, N);
    } else {
        /* (before, n, behind): one product for each place before. */
        float *block_grad = workspace + n * n;
        shampoo_gather(block_grad, block, grad, strides);
        size_t before = 1, behind = 1;
        for (size_t i = 0; i < axis; i++) before *= block->extent[i];
        for (size_t i = axis + 1; i < block->rank; i++) behind *= block->extent[i];
        if (behind == 1)
            cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, N, (blasint)before, square, block_grad, N, 0, gram, N);
        else
            for (size_t i = 0; i < before; i++)
                cblas_ssyrk(CblasRowMajor, CblasLower, CblasNoTrans, N, (blasint)behind, square, block_grad + i * n * behind,
                            (blasint)behind, i == 0 ? 0.0f : 1.0f, gram, N);
    }
    for (size_t i = 0; i < n; i++) move_row(statistics + i * n, gram + i * n, keep, take, i + 1);
}
