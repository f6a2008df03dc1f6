/* Products of matrices that are float32 or bfloat16, large in all three directions: those of a training step. With AVX-512 the
 * loops are ours (BLIS, Van Zee and van de Geijn 2015): all threads bring a stretch of B into panels of 32 columns, which stay
 * in the last cache while each thread takes blocks of rows of A past them. Elsewhere they are OpenBLAS'; with AMX they are
 * oneDNN's. */
#include "nn/internal.h"
#include "nn/large_product_kernels.h"
#include "nn/nn.h"
#include "nn/onednn.h"
#include "nn/tile_product.h"

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
    MOST_WORDS = 2048,           /* of K at a time, where sums can be added in the output */
    PANELS_BYTES = 12 << 20,     /* of B at a time, in the last cache */
    ROW_BLOCK_BYTES = 384 << 10, /* of A, in a thread's second cache */
    MOST_BLOCK_TILES = 64
};

/* Rows m … of A or columns n … of B, from term k on. */
static word_source source_of(const operand *from, bool is_a, size_t place, size_t k) {
    const bool runs = from->transposed != is_a; /* K in one run for each row of A or column of B */
    const size_t k_stride = runs ? 1 : from->stride, n_stride = runs ? from->stride : 1;
    return tile_source(numbers_from(from->at, k * k_stride + place * n_stride), k_stride, n_stride);
}

/* How a product is divided. */
typedef struct {
    size_t words, columns_at_once;    /* of K and of the output's columns, whose panels are packed at a time */
    size_t block_rows, block_columns; /* of the output, what a thread takes at a time */
    size_t panels_bytes, block_bytes; /* what is packed of B, by all, and of A, by each thread */
    size_t threads;
} division;

/* Of how many tiles a block of rows is, at most `most`: of all sizes the one with which the thread that has most to do has
 * least, when each takes the next block as it is done with one. A block by itself costs about a sixth of a tile. */
static size_t choose_block(size_t tiles, size_t most, size_t threads) {
    size_t best = 1;
    double least = 0;
    for (size_t size = smaller(most, MOST_BLOCK_TILES); size > 0; size--) {
        const size_t whole = tiles / size, rest = tiles % size, each = whole / threads;
        const size_t longest = whole % threads != 0 ? (each + 1) * size : each * size + rest;
        const double cost = (double)longest + (double)divide_up(divide_up(tiles, size), threads) / 6;
        if (least <= 0 || cost < least) {
            best = size;
            least = cost;
        }
    }
    return best;
}

static division divide(size_t M, size_t N, size_t K, bool half_out, bool direct, const large_product_kernels *kernels) {
    const size_t word = sizeof(uint32_t), all = tile_words(kernels, K);
    division d = {.threads = omp_in_parallel() ? 1 : (size_t)omp_get_max_threads()};
    d.words = half_out ? all : smaller(all, MOST_WORDS);
    if (d.words == 0) d.words = 1;
    const size_t panels = PANELS_BYTES / word / TILE_COLUMNS / d.words, tiles = ROW_BLOCK_BYTES / word / TILE_ROWS / d.words;
    d.columns_at_once = smaller((panels ? panels : 1) * TILE_COLUMNS, round_up(N, TILE_COLUMNS));
    d.block_rows = choose_block(divide_up(M, TILE_ROWS), tiles ? tiles : 1, d.threads) * TILE_ROWS;
    /* where there are fewer blocks than threads, parts of the columns */
    const size_t beside = divide_up(d.threads, divide_up(M, d.block_rows));
    d.block_columns = round_up(divide_up(d.columns_at_once, beside), TILE_COLUMNS);
    d.panels_bytes = round_up(d.columns_at_once * d.words * word, 64);
    d.block_bytes = direct ? 0 : round_up(d.block_rows * d.words * word, 64);
    return d;
}

/* What all threads know of a product, and of the stretch of it that they are at. */
typedef struct {
    const mixed_product *product;
    const large_product_kernels *kernels;
    bool direct;       /* A is read where it lies */
    size_t k, terms;   /* of K */
    size_t n, columns; /* of N, whose panels are packed */
    uint32_t *panels;
} stretch;

static void pack_panel(const stretch *s, size_t j) {
    const word_source from = source_of(&s->product->b, false, s->n + j, s->k);
    tile_pack_panels(s->kernels, s->panels + j * tile_words(s->kernels, s->terms), &from, s->terms,
                     smaller(TILE_COLUMNS, s->columns - j));
}

/* Rows [m, m+rows) by the stretch's columns [first, end). `block` is this thread's. */
static void multiply_block(const stretch *s, size_t m, size_t rows, size_t first, size_t end, uint32_t *block) {
    const mixed_product *product = s->product;
    const size_t words = tile_words(s->kernels, s->terms);
    const tile_product tiles = {.kernels = s->kernels,
                                .a = source_of(&product->a, true, 0, s->k),
                                .M = product->M,
                                .K = s->terms,
                                .panels = s->panels + first * words,
                                .panel_words = TILE_COLUMNS * words,
                                .out = numbers_from(product->out, s->n + first),
                                .out_stride = product->ldout,
                                .accumulate = product->accumulate || s->k > 0,
                                .block = s->direct ? NULL : block};
    tile_multiply(&tiles, m, rows, end - first);
}

static void multiply_here(const mixed_product *product, const large_product_kernels *kernels, limn_arena *arena) {
    const word_source a = source_of(&product->a, true, 0, 0);
    const bool direct = tile_reads_in_place(kernels, &a, product->M, product->K);
    const division d = divide(product->M, product->N, product->K, is_half(product->out), direct, kernels);
    uint32_t *panels = limn_arena_bytes(arena, d.panels_bytes), *blocks = limn_arena_bytes(arena, d.threads * d.block_bytes);
    const size_t down = divide_up(product->M, d.block_rows), terms_most = d.words * tile_group(kernels);
#pragma omp parallel num_threads((int)d.threads)
    for (size_t k = 0; k < product->K; k += terms_most)
        for (size_t n = 0; n < product->N; n += d.columns_at_once) {
            const stretch s = {.product = product,
                               .kernels = kernels,
                               .direct = direct,
                               .k = k,
                               .terms = smaller(terms_most, product->K - k),
                               .n = n,
                               .columns = smaller(d.columns_at_once, product->N - n),
                               .panels = panels};
            const size_t across = divide_up(s.columns, d.block_columns);
#pragma omp for schedule(dynamic)
            for (size_t j = 0; j < s.columns; j += TILE_COLUMNS) pack_panel(&s, j);
#pragma omp for schedule(dynamic)
            for (size_t i = 0; i < down * across; i++) {
                const size_t m = i / across * d.block_rows, first = i % across * d.block_columns;
                multiply_block(&s, m, smaller(d.block_rows, product->M - m), first, smaller(first + d.block_columns, s.columns),
                               blocks + (size_t)omp_get_thread_num() * (d.block_bytes / sizeof *blocks));
            }
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

/* ---------------------------------------------------------------- by oneDNN */

/* The whole operand as bfloat16. */
static operand as_halves(const operand *from, size_t rows, size_t columns, limn_arena *arena) {
    if (is_half(from->at)) return *from;
    uint16_t *to = limn_arena_bytes(arena, rows * columns * sizeof *to);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) round_to_bf16(to + r * columns, from->at.f32 + r * from->stride, columns);
    return (operand){{.bf16 = to}, columns, from->transposed};
}

static bool multiply_by_onednn(const mixed_product *product, limn_arena *arena) {
    const size_t M = product->M, N = product->N, K = product->K, mark = limn_arena_mark(arena);
    const bool transpose_a = product->a.transposed, transpose_b = product->b.transposed;
    const operand a = as_halves(&product->a, transpose_a ? K : M, transpose_a ? M : K, arena);
    const operand b = as_halves(&product->b, transpose_b ? N : K, transpose_b ? K : N, arena);
    const bool done = onednn_matmul(product->out, product->ldout, a.at.bf16, a.stride, transpose_a, b.at.bf16, b.stride,
                                    transpose_b, M, N, K, product->accumulate, arena);
    limn_arena_release(arena, mark);
    return done;
}

/* ---------------------------------------------------------------- choice */

/* The most that any kinds and orders of the three matrices take. */
size_t matmul_mixed_bytes(size_t M, size_t N, size_t K, nn_precision precision) {
    const large_product_kernels *kernels = large_product_kernels_find(precision != PRECISION_FP32);
    const size_t rounding = 256;
    if (precision == PRECISION_FP32 && (kernels == NULL || backend_for(precision) != BACKEND_LIMN)) return 0;
    size_t most = 0;
    /* with oneDNN too what ours takes, which has to do what the library cannot */
    if (precision != PRECISION_FP32 && backend_for(precision) == BACKEND_ONEDNN)
        most = (M * K + K * N) * sizeof(uint16_t) + onednn_matmul_scratch_bytes(M, N, K);
    if (kernels == NULL) return larger(most, (M * K + K * N + M * N) * sizeof(float)) + rounding;
    for (int half_out = 0; half_out <= kernels->pairs; half_out++) {
        const division d = divide(M, N, K, half_out, false, kernels);
        most = larger(most, d.panels_bytes + d.threads * d.block_bytes);
    }
    return most + rounding;
}

void matmul_mixed(numbers out, size_t ldout, numbers a, size_t lda, bool transpose_a, numbers b, size_t ldb, bool transpose_b,
                  size_t M, size_t N, size_t K, bool accumulate, nn_precision precision, limn_arena *arena) {
    if (M == 0 || N == 0) return;
    const mixed_product product = {out, ldout, {a, lda, transpose_a}, {b, ldb, transpose_b}, M, N, K, accumulate};
    const size_t mark = limn_arena_mark(arena);
    const large_product_kernels *kernels = large_product_kernels_find(precision != PRECISION_FP32);
    const nn_backend backend = backend_for(precision);
    /* oneDNN's products in float32 are no faster than the others */
    const bool by_onednn = precision != PRECISION_FP32 && backend == BACKEND_ONEDNN && !omp_in_parallel();
    if (!by_onednn || !multiply_by_onednn(&product, arena)) {
        if (kernels != NULL && (precision != PRECISION_FP32 || backend == BACKEND_LIMN))
            multiply_here(&product, kernels, arena);
        else
            multiply_by_blas(&product, arena);
    }
    limn_arena_release(arena, mark);
}
