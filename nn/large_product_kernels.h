/* The innermost loops of tile_product.c for CPUs with AVX-512. What is multiplied comes in words of 32 bits along K: a float,
 * or a pair of bfloat16 whose two products are added. */
#ifndef LIMN_NN_LARGE_PRODUCT_KERNELS_H
#define LIMN_NN_LARGE_PRODUCT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TILE_ROWS = 12, TILE_COLUMNS = 32 };

/* Up to 12 rows by up to 32 columns of the output, of `words` terms. Word k of row r is at a + r·row_stride + k·word_stride
 * (bytes), of column c at b[k·32 + c]. All 12 rows are read; `skip` rows in front are not stored, `rows` after them are. */
typedef struct {
    const char *a;
    size_t row_stride, word_stride;
    const uint32_t *b;
    size_t words;
    void *out;         /* where the first stored row's first column goes; bfloat16 when out_bf16 */
    size_t out_stride; /* numbers */
    size_t skip, rows, columns;
    bool out_bf16, accumulate; /* accumulate: float32 only */
} product_tile;

/* A matrix that is to be brought into words: element (k, n) is at k·k_stride + n·n_stride, one of which is 1. Strides in
 * numbers. */
typedef struct {
    const void *at;
    bool bf16;
    size_t k_stride, n_stride;
} word_source;

typedef struct {
    bool pairs; /* words are pairs of bfloat16 */
    void (*multiply)(const product_tile *tile);
    /* to[k·to_stride + n] = word k of column n, for k below words and n below columns; what lies beyond K is zero. */
    void (*pack)(uint32_t *to, size_t to_stride, const word_source *from, size_t K, size_t columns);
} large_product_kernels;

/* NULL where this CPU has none. */
const large_product_kernels *large_product_kernels_find(bool pairs);

#endif
