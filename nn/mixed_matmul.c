/* Products of matrices that are float32 or bfloat16, large in all three directions: those of a training step. With AVX-512 the
 * loops are ours (BLIS, Van Zee and van de Geijn 2015): a thread brings a stretch of B into panels of 32 columns, which stay in
 * its share of the caches while blocks of rows of A pass them. Elsewhere they are OpenBLAS' or oneDNN's. */
#include "nn/internal.h"
#include "nn/large_product_kernels.h"
#include "nn/nn.h"
#include "nn/onednn.h"

#include <omp.h>

typedef struct {
    numbers at;
    size_t stride;
    bool transposed;
} operand;

typedef struct {
    numbers out;
    size_t ldout;
    operand a, b;
    size_t M, N, K;
    bool accumulate;
} mixed_product;

static bool is_half(numbers x) {
    return x.bf16 != NULL;
}

/* ---------------------------------------------------------------- our own loops */

enum {
    MOST_WORDS = 2048,          /* of K at a time, where sums can be added in the output */
    PANEL_BYTES = 4 << 20,      /* a thread's panels of B */
    ROW_BLOCK_BYTES = 384 << 10 /* its rows of A, which are to stay in the second cache */
};

/* A thread's part of the output, and where it packs. */
typedef struct {
    const mixed_product *product;
    const large_product_kernels *kernels;
    size_t m, rows, n, columns;
    char *panels, *block;
    bool direct; /* A is read where it lies */
} part;

static size_t group_of(const large_product_kernels *kernels) {
    return kernels->pairs ? 2 : 1;
}

/* Rows m … of A or columns n … of B, from term k on. */
static word_source source_of(const operand *from, bool is_a, size_t place, size_t k) {
    const bool runs = from->transposed != is_a; /* K in one run for each row of A or column of B */
    const size_t k_stride = runs ? 1 : from->stride, n_stride = runs ? from->stride : 1;
    const numbers first = numbers_from(from->at, k * k_stride + place * n_stride);
    return (word_source){is_half(first) ? (const void *)first.bf16 : (const void *)first.f32, is_half(first), k_stride,
                         n_stride};
}

/* How a product is divided: among threads, and what each brings into its caches at a time. */
typedef struct {
    size_t rows, columns, down, across;          /* a thread's part of the output, and parts below and beside each other */
    size_t words, rows_at_once, columns_at_once; /* of K, of a part's rows and of its columns */
    size_t panel_bytes, block_bytes;
} division;

static size_t round_up(size_t n, size_t to) {
    return divide_up(n, to) * to;
}

static division divide(size_t M, size_t N, size_t K, bool half_out, bool direct, const large_product_kernels *kernels) {
    const size_t threads = omp_in_parallel() ? 1 : (size_t)omp_get_max_threads(), all = divide_up(K, group_of(kernels));
    division d = {.words = half_out ? all : smaller(all, MOST_WORDS)};
    size_t grid_rows, grid_columns;
    /* what is read where it lies costs only its way into the cache */
    choose_grid(M, N, threads, direct ? 4 : 32, 32, TILE_COLUMNS, &grid_rows, &grid_columns);
    d.rows = round_up(divide_up(M, grid_rows), TILE_ROWS);
    d.columns = round_up(divide_up(N, grid_columns), TILE_COLUMNS);
    d.down = divide_up(M, d.rows);
    d.across = divide_up(N, d.columns);
    const size_t word = sizeof(uint32_t), panels = PANEL_BYTES / word / TILE_COLUMNS / (d.words ? d.words : 1);
    const size_t tiles = ROW_BLOCK_BYTES / word / TILE_ROWS / (d.words ? d.words : 1);
    d.columns_at_once = smaller((panels ? panels : 1) * TILE_COLUMNS, d.columns);
    d.rows_at_once = smaller((tiles ? tiles : 1) * TILE_ROWS, d.rows);
    d.panel_bytes = round_up(d.columns_at_once * d.words * word, 64);
    d.block_bytes = direct ? 0 : round_up(d.rows_at_once * d.words * word, 64);
    return d;
}

/* Rows [m, m+rows) by the columns [n, n+columns) whose panels are packed. */
static void multiply_rows(const part *own, size_t m, size_t rows, size_t n, size_t columns, size_t k, size_t terms) {
    const mixed_product *product = own->product;
    const size_t words = divide_up(terms, group_of(own->kernels));
    const word_source a = source_of(&product->a, true, 0, k);
    /* rows of words, a tile's twelve beside each other */
    const size_t stride = divide_up(rows, TILE_ROWS) * TILE_ROWS;
    if (!own->direct) {
        const word_source from = source_of(&product->a, true, m, k);
        own->kernels->pack((uint32_t *)own->block, stride, &from, terms, rows);
    }
    for (size_t j = 0; j < columns; j += TILE_COLUMNS)
        for (size_t i = 0; i < rows; i += TILE_ROWS) {
            product_tile tile = {.b = (const uint32_t *)own->panels + j * words,
                                 .words = words,
                                 .out_stride = product->ldout,
                                 .rows = smaller(TILE_ROWS, rows - i),
                                 .columns = smaller(TILE_COLUMNS, columns - j),
                                 .out_bf16 = is_half(product->out),
                                 .accumulate = product->accumulate || k > 0};
            if (own->direct) {
                /* the last rows are read with some before them, so that all 12 are there */
                const size_t first = smaller(m + i, product->M - TILE_ROWS), bytes = is_half(product->a.at) ? 2 : 4;
                tile.skip = m + i - first;
                tile.a = (const char *)a.at + first * a.n_stride * bytes;
                tile.row_stride = a.n_stride * bytes;
                tile.word_stride = sizeof(uint32_t);
            } else {
                tile.a = own->block + i * sizeof(uint32_t);
                tile.row_stride = sizeof(uint32_t);
                tile.word_stride = stride * sizeof(uint32_t);
            }
            const numbers out = numbers_from(product->out, (m + i) * product->ldout + n + j);
            tile.out = is_half(out) ? (void *)out.bf16 : (void *)out.f32;
            own->kernels->multiply(&tile);
        }
}

static void multiply_part(const part *own, const division *d) {
    const mixed_product *product = own->product;
    const size_t group = group_of(own->kernels);
    for (size_t k = 0; k < product->K; k += d->words * group) {
        const size_t terms = smaller(d->words * group, product->K - k), words = divide_up(terms, group);
        for (size_t n = 0; n < own->columns; n += d->columns_at_once) {
            const size_t columns = smaller(d->columns_at_once, own->columns - n);
            for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
                const word_source from = source_of(&product->b, false, own->n + n + j, k);
                own->kernels->pack((uint32_t *)own->panels + j * words, TILE_COLUMNS, &from, terms,
                                   smaller(TILE_COLUMNS, columns - j));
            }
            for (size_t m = 0; m < own->rows; m += d->rows_at_once)
                multiply_rows(own, own->m + m, smaller(d->rows_at_once, own->rows - m), own->n + n, columns, k, terms);
        }
    }
}

static void multiply_here(const mixed_product *product, const large_product_kernels *kernels, limn_arena *arena) {
    const bool direct = !product->a.transposed && product->M >= TILE_ROWS && is_half(product->a.at) == kernels->pairs &&
                        product->K % group_of(kernels) == 0;
    const division d = divide(product->M, product->N, product->K, is_half(product->out), direct, kernels);
    char *scratch = limn_arena_bytes(arena, d.down * d.across * (d.panel_bytes + d.block_bytes));
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < d.down * d.across; i++) {
        part own = {.product = product,
                    .kernels = kernels,
                    .m = i / d.across * d.rows,
                    .n = i % d.across * d.columns,
                    .direct = direct};
        own.rows = smaller(d.rows, product->M - own.m);
        own.columns = smaller(d.columns, product->N - own.n);
        own.panels = scratch + i * (d.panel_bytes + d.block_bytes);
        own.block = own.panels + d.panel_bytes;
        multiply_part(&own, &d);
    }
}

/* ---------------------------------------------------------------- by OpenBLAS */

/* The whole operand as float32. */
static const float *as_floats(const operand *from, size_t rows, size_t columns, size_t *stride, limn_arena *arena) {
    *stride = from->stride;
    if (!is_half(from->at)) return from->at.f32;
    *stride = columns;
    float *to = limn_arena_floats(arena, rows * columns);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) expand_bf16(to + r * columns, from->at.bf16 + r * from->stride, columns);
    return to;
}

static void multiply_by_blas(const mixed_product *product, limn_arena *arena) {
    const size_t M = product->M, N = product->N, K = product->K;
    const operand *a = &product->a, *b = &product->b;
    size_t lda, ldb, ldout = product->ldout;
    const float *left = as_floats(a, a->transposed ? K : M, a->transposed ? M : K, &lda, arena);
    const float *right = as_floats(b, b->transposed ? N : K, b->transposed ? K : N, &ldb, arena);
    float *out = product->out.f32;
    if (is_half(product->out)) {
        ldout = N;
        out = limn_arena_floats(arena, M * N);
    }
    matmul(out, ldout, left, lda, a->transposed, right, ldb, b->transposed, M, N, K, 1.0f, product->accumulate ? 1.0f : 0.0f);
    if (!is_half(product->out)) return;
#pragma omp parallel for schedule(static)
    for (size_t m = 0; m < M; m++) round_to_bf16(product->out.bf16 + m * product->ldout, out + m * N, N);
}

/* ---------------------------------------------------------------- choice */

/* The most that any kinds and orders of the three matrices take. */
size_t matmul_mixed_bytes(size_t M, size_t N, size_t K, nn_precision precision) {
    const large_product_kernels *kernels = large_product_kernels_find(precision != PRECISION_FP32);
    const size_t rounding = 256;
    if (kernels == NULL) return precision == PRECISION_FP32 ? 0 : (M * K + K * N + M * N) * sizeof(float) + rounding;
    size_t most = 0;
    for (int i = 0; i < 4; i++) {
        const division d = divide(M, N, K, kernels->pairs && i / 2, i % 2, kernels);
        const size_t bytes = d.down * d.across * (d.panel_bytes + d.block_bytes);
        most = bytes > most ? bytes : most;
    }
    return most + rounding;
}

void matmul_mixed(numbers out, size_t ldout, numbers a, size_t lda, bool transpose_a, numbers b, size_t ldb, bool transpose_b,
                  size_t M, size_t N, size_t K, bool accumulate, nn_precision precision, limn_arena *arena) {
    if (M == 0 || N == 0) return;
    const mixed_product product = {out, ldout, {a, lda, transpose_a}, {b, ldb, transpose_b}, M, N, K, accumulate};
    const size_t mark = limn_arena_mark(arena);
    const large_product_kernels *kernels = large_product_kernels_find(precision != PRECISION_FP32);
    if (kernels != NULL && backend_for(precision) == BACKEND_LIMN)
        multiply_here(&product, kernels, arena);
    else
        multiply_by_blas(&product, arena);
    limn_arena_release(arena, mark);
}
