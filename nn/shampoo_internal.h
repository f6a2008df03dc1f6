/* What the files of Shampoo share. */
#ifndef LIMN_NN_SHAMPOO_INTERNAL_H
#define LIMN_NN_SHAMPOO_INTERNAL_H

#include "nn/optimizer_internal.h"

/* One block of a tensor whose neighbouring axes may have been merged. */
typedef struct {
    size_t member, rank, extent[4];
    size_t origin;     /* of its first element in the tensor */
    size_t size;       /* elements */
    size_t statistics; /* where its matrices begin in the arrays: (extent[0]²), (extent[1]²), … */
} shampoo_block;

/* How a tensor is seen: merged axes, row-major. rank 0: it is not preconditioned. */
typedef struct {
    size_t rank, shape[4], strides[4];
    size_t first_block, block_count;
} shampoo_view;

/* A view without its blocks. */
shampoo_view shampoo_view_of(const shampoo_options *options, const optimizer_member *member);
/* Writes the view's blocks (NULL: only counts); returns how many. *statistics moves on behind theirs. */
size_t shampoo_cut(const shampoo_options *options, const shampoo_view *view, size_t member, shampoo_block *blocks,
                   size_t *statistics);

/* Blocks of three and more axes to and from one stretch. `tensor` points at the block's first element. */
void shampoo_gather(float *out, const shampoo_block *block, const float *tensor, const size_t *strides);
void shampoo_scatter(float *tensor, const shampoo_block *block, const float *in, const size_t *strides);

/* statistics (n,n, lower triangle) = keep·statistics + take·(scaled gradient, its axis kept, times itself). workspace: n² and
 * the block. By the calling thread alone. */
void shampoo_move_statistics(float *statistics, const shampoo_block *block, size_t axis, const float *grad,
                             const size_t *strides, float grad_scale, float keep, float take, float *workspace);

#endif
