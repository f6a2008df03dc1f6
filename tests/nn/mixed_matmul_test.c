/* matmul_mixed against products in double of the numbers rounded to bfloat16, for every kind and order of its matrices. */
#include "gradient_check.h"

#include <omp.h>

/* A matrix (rows, columns) of numbers of one kind, with rows longer than that; what lies between them is NaN. */
typedef struct {
    numbers at;
    size_t rows, columns, stride;
} matrix;

enum { NOT_A_NUMBER = 0x7fc1 };

static matrix matrix_make(size_t rows, size_t columns, size_t gap, bool half) {
    matrix x = {.rows = rows, .columns = columns, .stride = columns + gap};
    if (half) {
        x.at.bf16 = malloc(rows * x.stride * sizeof(uint16_t));
        for (size_t i = 0; i < rows * x.stride; i++) x.at.bf16[i] = NOT_A_NUMBER;
    } else
        x.at.f32 = floats_filled(rows * x.stride, NAN);
    return x;
}

static void matrix_free(matrix *x) {
    free(x->at.f32);
    free(x->at.bf16);
}

static void matrix_set(const matrix *x, size_t row, size_t column, float value) {
    const size_t i = row * x->stride + column;
    if (x->at.bf16 != NULL)
        x->at.bf16[i] = limn_bf16_from_float(value);
    else
        x->at.f32[i] = value;
}

static float matrix_get(const matrix *x, size_t row, size_t column) {
    const size_t i = row * x->stride + column;
    return x->at.bf16 != NULL ? limn_bf16_to_float(x->at.bf16[i]) : x->at.f32[i];
}

static void check_gaps(const matrix *x, const char *name) {
    for (size_t r = 0; r < x->rows; r++)
        for (size_t c = x->columns; c < x->stride; c++)
            if (!isnan(matrix_get(x, r, c))) fail_msg("%s: something is written behind row %zu", name, r);
}

/* An operand of `logical` (rows, columns), stored so or transposed. */
static matrix operand_make(const float *logical, size_t rows, size_t columns, bool half, bool transposed) {
    const size_t gap = 3;
    matrix x = matrix_make(transposed ? columns : rows, transposed ? rows : columns, gap, half);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) matrix_set(&x, transposed ? c : r, transposed ? r : c, logical[r * columns + c]);
    return x;
}

/* One product's shape and numbers, and what it should be. */
typedef struct {
    size_t M, N, K, row_step;   /* every row_step-th row is looked at */
    float *a, *b, *before;      /* (M,K), (K,N), (M,N) */
    matrix lefts[4], rights[4]; /* the two as operands: bfloat16 when bit 0, transposed when bit 1 */
    double *expected;           /* (M,N) of a and b rounded */
    double largest;
    limn_arena *arena; /* as large as matmul_mixed_bytes says */
    nn_precision precision;
} product_case;

static double as_multiplied(const product_case *p, float x) {
    return (double)rounded(x, p->precision);
}

static product_case case_make(size_t M, size_t N, size_t K, size_t row_step, nn_precision precision, bool rounds) {
    product_case p = {.M = M, .N = N, .K = K, .row_step = row_step, .precision = precision};
    p.a = floats_filled(M * K, 0);
    p.b = floats_filled(K * N, 0);
    p.before = floats_filled(M * N, 0);
    p.expected = doubles_zeroed(M * N);
    limn_random_fill_normal(p.a, M * K, 1, 1, M * K);
    limn_random_fill_normal(p.b, K * N, 1, 2, K * N);
    limn_random_fill_normal(p.before, M * N, 1, 3, M * N);
    /* Who does not round is given numbers that need no rounding. */
    for (size_t i = 0; !rounds && i < M * K; i++) p.a[i] = rounded(p.a[i], precision);
    for (size_t i = 0; !rounds && i < K * N; i++) p.b[i] = rounded(p.b[i], precision);
    for (size_t m = 0; m < M; m += row_step)
        for (size_t k = 0; k < K; k++) {
            const double a = as_multiplied(&p, p.a[m * K + k]);
            for (size_t n = 0; n < N; n++) p.expected[m * N + n] += a * as_multiplied(&p, p.b[k * N + n]);
        }
    for (unsigned i = 0; i < 4; i++) {
        p.lefts[i] = operand_make(p.a, M, K, i & 1, i & 2);
        p.rights[i] = operand_make(p.b, K, N, i & 1, i & 2);
    }
    for (size_t i = 0; i < M * N; i++) p.largest = fmax(p.largest, fabs(p.expected[i]));
    limn_error error = {0};
    p.arena = limn_arena_create(matmul_mixed_bytes(M, N, K, precision), &error);
    assert_non_null(p.arena);
    return p;
}

static void case_free(product_case *p) {
    free(p->a);
    free(p->b);
    free(p->before);
    free(p->expected);
    for (size_t i = 0; i < 4; i++) {
        matrix_free(&p->lefts[i]);
        matrix_free(&p->rights[i]);
    }
    limn_arena_destroy(p->arena);
}

typedef struct {
    bool half_a, half_b, transpose_a, transpose_b, half_out, accumulate;
} kinds;

static void check_out(const product_case *p, const kinds *how, const matrix *out) {
    char name[160];
    snprintf(name, sizeof name, "%zu × %zu × %zu, bf16 a %d b %d out %d, transposed %d %d, added %d", p->M, p->N, p->K,
             how->half_a, how->half_b, how->half_out, how->transpose_a, how->transpose_b, how->accumulate);
    const double allowed = 2e-7 * sqrt((double)p->K) + 1e-6, last_bit = 1.0 / 256;
    for (size_t m = 0; m < p->M; m += p->row_step)
        for (size_t n = 0; n < p->N; n++) {
            const double before = how->accumulate ? (double)p->before[m * p->N + n] : 0;
            const double expected = p->expected[m * p->N + n] + before, got = (double)matrix_get(out, m, n);
            const double most = allowed * (p->largest + fabs(before)) + (how->half_out ? last_bit * fabs(expected) : 0);
            if (!(fabs(got - expected) <= most)) fail_msg("%s: (%zu, %zu) is %.9g, expected %.9g", name, m, n, got, expected);
        }
    check_gaps(out, name);
}

static void check_kinds(const product_case *p, const kinds *how) {
    const matrix *a = &p->lefts[how->half_a + 2 * how->transpose_a], *b = &p->rights[how->half_b + 2 * how->transpose_b];
    matrix out = matrix_make(p->M, p->N, 5, how->half_out);
    for (size_t m = 0; how->accumulate && m < p->M; m++)
        for (size_t n = 0; n < p->N; n++) matrix_set(&out, m, n, p->before[m * p->N + n]);
    matmul_mixed(out.at, out.stride, a->at, a->stride, how->transpose_a, b->at, b->stride, how->transpose_b, p->M, p->N, p->K,
                 how->accumulate, p->precision, p->arena);
    assert_int_equal(limn_arena_mark(p->arena), 0);
    check_out(p, how, &out);
    matrix_free(&out);
}

/* All kinds and orders of one shape; and, when `tight`, of the memory that was asked for almost all is used by one of them. */
static void check_shape(size_t M, size_t N, size_t K, size_t row_step, nn_precision precision, bool rounds, bool tight) {
    product_case p = case_make(M, N, K, row_step, precision, rounds);
    const unsigned all = precision == PRECISION_FP32 ? 8 : 64;
    for (unsigned i = 0; i < all; i++) {
        const kinds how = {.transpose_a = i & 1,
                           .transpose_b = i & 2,
                           .accumulate = i & 4,
                           .half_a = i & 8,
                           .half_b = i & 16,
                           .half_out = i & 32};
        if (!(how.half_out && how.accumulate)) check_kinds(&p, &how);
    }
    const size_t bytes = matmul_mixed_bytes(M, N, K, precision), peak = limn_arena_peak(p.arena);
    if (tight && bytes > peak + 1024) fail_msg("%zu × %zu × %zu: %zu bytes wanted, %zu used", M, N, K, bytes, peak);
    case_free(&p);
}

static void check_shapes(const size_t *sizes, size_t count, nn_precision precision, bool rounds, bool tight) {
    const int before = omp_get_max_threads();
    for (size_t i = 0; i < count * count * count; i++) {
        omp_set_num_threads(i % 7 == 0 ? 3 : 1); /* the threads' waiting would take most of the time */
        check_shape(sizes[i % count], sizes[i / count % count], sizes[i / count / count], 1, precision, rounds, tight);
    }
    /* Several stretches of K, panels of columns and blocks of rows. */
    for (int threads = 1; threads <= 2; threads++) {
        omp_set_num_threads(threads);
        check_shape(75, 700, 4200, 17, precision, rounds, tight);
    }
    omp_set_num_threads(before);
}

static const size_t many[] = {1, 5, 12, 13, 31, 32, 33, 64, 100, 257}, some[] = {1, 12, 33, 100};
enum { MANY = sizeof many / sizeof *many, SOME = sizeof some / sizeof *some };

/* Whether the CPU has these; else the test has nothing to look at. */
static void choose(const char *kernels) {
    if (!packed_linear_choose_kernels(kernels)) skip();
}

static void bfloat16(void **state) {
    (void)state;
    choose("avx512bf16");
    check_shapes(many, MANY, PRECISION_BF16, true, true);
}

static void floats(void **state) {
    (void)state;
    choose("avx512");
    check_shapes(many, MANY, PRECISION_FP32, false, true);
}

static void bfloat16_without_its_instructions(void **state) {
    (void)state;
    choose("avx512");
    check_shapes(some, SOME, PRECISION_BF16, false, true);
}

static void both_by_openblas(void **state) {
    (void)state;
    choose("avx2");
    check_shapes(some, SOME, PRECISION_BF16, false, true);
    check_shapes(some, SOME, PRECISION_FP32, false, true);
}

/* oneDNN says itself how much it takes. */
static void bfloat16_by_onednn(void **state) {
    (void)state;
    if (nn_choose_backend("onednn", PRECISION_BF16, NULL) != 0) skip();
    check_shapes(some, SOME, PRECISION_BF16, true, false);
    assert_int_equal(nn_choose_backend("auto", PRECISION_BF16, NULL), 0);
}

static void floats_by_openblas(void **state) {
    (void)state;
    assert_int_equal(nn_choose_backend("openblas", PRECISION_FP32, NULL), 0);
    assert_int_equal(matmul_mixed_bytes(100, 100, 100, PRECISION_FP32), 0);
    check_shapes(some, SOME, PRECISION_FP32, true, true);
    assert_int_equal(nn_choose_backend("auto", PRECISION_FP32, NULL), 0);
}

/* With as many threads the same bits, whatever lay in the scratch. */
static void repeating_gives_the_same_bits(void **state) {
    (void)state;
    product_case p = case_make(130, 270, 515, 1, PRECISION_BF16, true);
    float *out[2] = {floats_filled(p.M * p.N, NAN), floats_filled(p.M * p.N, NAN)};
    for (int threads = 1; threads <= 4; threads++) {
        omp_set_num_threads(threads);
        const size_t bytes = matmul_mixed_bytes(p.M, p.N, p.K, PRECISION_BF16);
        limn_error error = {0};
        limn_arena *arena = limn_arena_create(bytes, &error);
        for (int turn = 0; turn < 2; turn++) {
            matmul_mixed(numbers_f32(out[turn]), p.N, numbers_f32(p.a), p.K, false, numbers_f32(p.b), p.N, false, p.M, p.N, p.K,
                         false, PRECISION_BF16, arena);
            memset(limn_arena_bytes(arena, bytes), 0xff, bytes);
            limn_arena_release(arena, 0);
        }
        assert_memory_equal(out[0], out[1], p.M * p.N * sizeof(float));
        limn_arena_destroy(arena);
    }
    omp_set_num_threads((int)limn_get_threads());
    free(out[0]);
    free(out[1]);
    case_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(bfloat16, choose_best),
        cmocka_unit_test_teardown(floats, choose_best),
        cmocka_unit_test_teardown(bfloat16_without_its_instructions, choose_best),
        cmocka_unit_test_teardown(both_by_openblas, choose_best),
        cmocka_unit_test(bfloat16_by_onednn),
        cmocka_unit_test(floats_by_openblas),
        cmocka_unit_test(repeating_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
