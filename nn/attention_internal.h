/* What attention.c and tiled_attention.c share. */
#ifndef LIMN_NN_ATTENTION_INTERNAL_H
#define LIMN_NN_ATTENTION_INTERNAL_H

#include "nn/internal.h"
#include "nn/large_product_kernels.h"

/* One head of one picture: its parts of the arrays, with their strides. */
typedef struct {
    const attention_shape *shape;
    numbers q, k, v;      /* (T,D), (S,D), (S,D) */
    numbers out;          /* (T,D): the forward's output, or in the backward its gradient */
    numbers dq, dk, dv;   /* with the strides of q, k, v; both pointers NULL: not wanted */
    float *dbias;         /* (T,S) or NULL */
    const int32_t *mask;  /* (S) or NULL */
    const float *bias;    /* (T,S) or NULL */
    const float *dropped; /* (T,S): the dropout's factors, or NULL */
    size_t query_stride, key_stride, value_stride, out_stride;
} attention_head;

/* Keys that the queries below `end` may see. */
LIMN_INLINE size_t keys_until(const attention_shape *shape, size_t end) {
    return shape->causal ? smaller(end, shape->S) : shape->S;
}

/* Softmax of scale·row + bias over the first `seen` of n keys, in place; the others become 0. All are 0 when no key is seen. */
void softmax_row(float *row, float scale, size_t n, size_t seen, const int32_t *mask, const float *bias);
/* d, the gradient of the weights w, becomes that of the scores: w·(d − Σ w·d). */
void softmax_backward_row(float *d, const float *w, size_t n);
/* Rows (count,D) to where they belong: nothing where that is nowhere, or where they lie there already. */
void keep_rows(numbers to, size_t to_stride, const float *rows, size_t stride, size_t count, size_t D);

/* Softmax attention whose products are those of large_product_kernels.h; all arrays are bfloat16 with kernels of pairs, else
 * float32. `scratch` has tiled_attention_floats and is 64-byte aligned. */
size_t tiled_attention_floats(const attention_shape *shape, const large_product_kernels *kernels);
void tiled_attention_forward(const attention_head *head, const large_product_kernels *kernels, float *scratch);
void tiled_attention_backward(const attention_head *head, const large_product_kernels *kernels, float *scratch);

#endif
