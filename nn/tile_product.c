#include "nn/tile_product.h"

#include "nn/internal.h"

size_t tile_group(const large_product_kernels *kernels) {
    return kernels->pairs ? 2 : 1;
}

size_t tile_words(const large_product_kernels *kernels, size_t K) {
    return divide_up(K, tile_group(kernels));
}

word_source tile_source(numbers x, size_t k_stride, size_t n_stride) {
    const bool half = x.bf16 != NULL;
    return (word_source){half ? (const void *)x.bf16 : (const void *)x.f32, half, k_stride, n_stride};
}

static const char *from_place(const word_source *x, size_t n) {
    return (const char *)x->at + n * x->n_stride * (x->bf16 ? sizeof(uint16_t) : sizeof(float));
}

size_t tile_panels_words(const large_product_kernels *kernels, size_t K, size_t N) {
    return round_up(N, TILE_COLUMNS) * tile_words(kernels, K);
}

void tile_pack_panels(const large_product_kernels *kernels, uint32_t *panels, const word_source *b, size_t K, size_t N) {
    for (size_t n = 0; n < N; n += TILE_COLUMNS) {
        const word_source from = {from_place(b, n), b->bf16, b->k_stride, b->n_stride};
        kernels->pack(panels + n * tile_words(kernels, K), TILE_COLUMNS, &from, K, smaller(TILE_COLUMNS, N - n));
    }
}

bool tile_reads_in_place(const large_product_kernels *kernels, const word_source *a, size_t M, size_t K) {
    return a->k_stride == 1 && M >= TILE_ROWS && a->bf16 == kernels->pairs && K % tile_group(kernels) == 0;
}

void tile_multiply(const tile_product *product, size_t m, size_t rows, size_t columns) {
    const large_product_kernels *kernels = product->kernels;
    const word_source *a = &product->a;
    /* rows of words, a tile's twelve beside each other */
    const size_t stride = round_up(rows, TILE_ROWS);
    if (product->block != NULL) {
        const word_source from = {from_place(a, m), a->bf16, a->k_stride, a->n_stride};
        kernels->pack(product->block, stride, &from, product->K, rows);
    }
    for (size_t j = 0; j < columns; j += TILE_COLUMNS)
        for (size_t i = 0; i < rows; i += TILE_ROWS) {
            product_tile tile = {.b = product->panels + j / TILE_COLUMNS * product->panel_words,
                                 .words = tile_words(kernels, product->K),
                                 .out_stride = product->out_stride,
                                 .rows = smaller(TILE_ROWS, rows - i),
                                 .columns = smaller(TILE_COLUMNS, columns - j),
                                 .out_bf16 = product->out.bf16 != NULL,
                                 .accumulate = product->accumulate};
            if (product->block == NULL) {
                /* the last rows are read with some before them, so that all 12 are there */
                const size_t first = smaller(m + i, product->M - TILE_ROWS);
                tile.skip = m + i - first;
                tile.a = from_place(a, first);
                tile.row_stride = (size_t)(from_place(a, 1) - from_place(a, 0));
                tile.word_stride = sizeof(uint32_t);
            } else {
                tile.a = (const char *)(product->block + i);
                tile.row_stride = sizeof(uint32_t);
                tile.word_stride = stride * sizeof(uint32_t);
            }
            const numbers out = numbers_from(product->out, (m + i) * product->out_stride + j);
            tile.out = tile.out_bf16 ? (void *)out.bf16 : (void *)out.f32;
            kernels->multiply(&tile);
        }
}
