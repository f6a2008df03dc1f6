/* Products by one thread on the kernels of large_product_kernels.h, of a right operand that is packed once for many. */
#ifndef LIMN_NN_TILE_PRODUCT_H
#define LIMN_NN_TILE_PRODUCT_H

#include "nn/large_product_kernels.h"
#include "nn/nn.h"

/* Terms of a word, and words along K of so many terms. */
size_t tile_group(const large_product_kernels *kernels);
size_t tile_words(const large_product_kernels *kernels, size_t K);
/* An operand whose element (k, n) is at x[k·k_stride + n·n_stride]. */
word_source tile_source(numbers x, size_t k_stride, size_t n_stride);
/* The panels of a right operand of K by N: ceil(N/32) of tile_words(K)·32 words each. */
size_t tile_panels_words(const large_product_kernels *kernels, size_t K, size_t N);
void tile_pack_panels(const large_product_kernels *kernels, uint32_t *panels, const word_source *b, size_t K, size_t N);

typedef struct {
    const large_product_kernels *kernels;
    word_source a; /* rows are its n */
    size_t M, K;   /* its rows and terms */
    const uint32_t *panels;
    size_t panel_words; /* from one panel to the next, at least of K */
    numbers out;        /* of row 0 and the first panel's first column */
    size_t out_stride;
    bool accumulate;
    uint32_t *block; /* rows of A are packed here: their number, rounded up to 12, times tile_words(K). NULL: A is read where it
                        lies, which tile_reads_in_place allows */
} tile_product;
bool tile_reads_in_place(const large_product_kernels *kernels, const word_source *a, size_t M, size_t K);
/* Rows m … m+rows−1 by the first `columns` columns. */
void tile_multiply(const tile_product *product, size_t m, size_t rows, size_t columns);

#endif
