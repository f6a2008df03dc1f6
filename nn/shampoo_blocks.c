/* How Shampoo sees a tensor: small neighbouring axes merged, long ones cut into blocks. */
#include <string.h>

#include "nn/shampoo_internal.h"

static size_t merge_axes(const optimizer_member *member, size_t most, size_t *out) {
    size_t rank = 0, product = 1;
    for (size_t i = 0; i < member->rank; i++) {
        if (product * member->shape[i] <= most) {
            product *= member->shape[i];
            continue;
        }
        if (product > 1) out[rank++] = product;
        product = member->shape[i];
    }
    if (product > 1) out[rank++] = product;
    if (rank == 0) out[rank++] = 1; /* nothing but ones */
    return rank;
}

shampoo_view shampoo_view_of(const shampoo_options *options, const optimizer_member *member) {
    shampoo_view view = {0};
    for (size_t i = 0; i < member->rank; i++)
        if (member->shape[i] > options->skip_preconditioning_dim_size_gt) return view;
    if (member->rank == 0 || member->grad == NULL) return view;
    if (options->best_effort_shape_interpretation)
        view.rank = merge_axes(member, options->merge_small_dims_block_size, view.shape);
    else {
        view.rank = member->rank;
        memcpy(view.shape, member->shape, sizeof view.shape);
    }
    size_t stride = 1;
    for (size_t i = view.rank; i-- > 0;) {
        view.strides[i] = stride;
        stride *= view.shape[i];
    }
    return view;
}

size_t shampoo_cut(const shampoo_options *options, const shampoo_view *view, size_t member, shampoo_block *blocks,
                   size_t *statistics) {
    size_t side = options->block_size, cuts[4] = {1, 1, 1, 1}, count = view->rank > 0;
    for (size_t i = 0; i < view->rank; i++) {
        cuts[i] = divide_up(view->shape[i], side);
        count *= cuts[i];
    }
    for (size_t k = 0; k < count; k++) {
        shampoo_block block = {.member = member, .rank = view->rank, .size = 1, .statistics = *statistics};
        size_t left = k;
        for (size_t i = view->rank; i-- > 0;) {
            size_t start = left % cuts[i] * side;
            left /= cuts[i];
            block.extent[i] = smaller(side, view->shape[i] - start);
            block.origin += start * view->strides[i];
            block.size *= block.extent[i];
            *statistics += block.extent[i] * block.extent[i];
        }
        if (blocks != NULL) blocks[k] = block;
    }
    return count;
}

/* Rows of the last axis, which are contiguous in both. */
static void copy_rows(float *to, const float *from, const shampoo_block *block, const size_t *strides, bool gather) {
    size_t n = block->extent[block->rank - 1], rows = block->size / n;
    for (size_t row = 0; row < rows; row++) {
        size_t left = row, at = 0;
        for (size_t i = block->rank - 1; i-- > 0;) {
            at += left % block->extent[i] * strides[i];
            left /= block->extent[i];
        }
        memcpy(to + (gather ? row * n : at), from + (gather ? at : row * n), n * sizeof *to);
    }
}

void shampoo_gather(float *out, const shampoo_block *block, const float *tensor, const size_t *strides) {
    copy_rows(out, tensor, block, strides, true);
}

void shampoo_scatter(float *tensor, const shampoo_block *block, const float *in, const size_t *strides) {
    copy_rows(tensor, in, block, strides, false);
}
