/* inverse_root: the inverse p-th root of a symmetric matrix, from which Shampoo makes its preconditioners. */
#ifndef LIMN_NN_INVERSE_ROOT_H
#define LIMN_NN_INVERSE_ROOT_H

#include <stdbool.h>
#include <stddef.h>

/* root = (matrix + ridge·λ·I)^(−1/exponent), with λ the largest eigenvalue as the original's power iteration estimates it for
 * the matrix filled up to `padded` by ones on the diagonal. */
typedef struct {
    const float *matrix; /* (n,n), symmetric; only its lower triangle is read */
    float *root;         /* (n,n); left as it was when the root fails */
    size_t n, exponent, padded;
    double ridge, failure_threshold;
    bool failed; /* set: not a number, not positive definite, or its error is at the threshold or above */
} inverse_root_job;
/* By an eigen-decomposition in double precision (LAPACK's dsyevd). workspace of inverse_root_bytes(n, padded), 64-byte aligned.
 */
void inverse_root(inverse_root_job *job, void *workspace);
size_t inverse_root_bytes(size_t n, size_t padded); /* SIZE_MAX when it does not fit into a size_t */

#endif
