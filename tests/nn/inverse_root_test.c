/* Inverse p-th roots: multiplied out again they must give the identity, whatever the condition number. */
#include "gradient_check.h"

#include "nn/inverse_root.h"

static void *workspace_for(const inverse_root_job *job) {
    size_t bytes = inverse_root_bytes(job->n, job->padded);
    assert_true(bytes != SIZE_MAX && bytes % 64 == 0);
    void *workspace = aligned_alloc(64, bytes);
    assert_non_null(workspace);
    return workspace;
}

/* Rotations by random Householder vectors of diag(values): a symmetric matrix with these eigenvalues, in float (lower triangle;
 * NaN above, which nobody may read) and in double. */
static void make_matrix(float *out, double *exact, const double *values, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) exact[i * n + j] = i == j ? values[i] : 0;
    for (int turn = 0; turn < 3; turn++) {
        char which[64];
        snprintf(which, sizeof which, "%s %d", name, turn);
        twin v = twin_random(n, 0, 1, which);
        double square = 0;
        for (size_t i = 0; i < n; i++) square += v.d[i] * v.d[i];
        for (int side = 0; side < 2; side++)
            for (size_t i = 0; i < n; i++) {
                double dot = 0;
                for (size_t j = 0; j < n; j++) dot += v.d[j] * (side ? exact[j * n + i] : exact[i * n + j]);
                for (size_t j = 0; j < n; j++) *(side ? &exact[j * n + i] : &exact[i * n + j]) -= 2 * dot / square * v.d[j];
            }
        twin_free(&v);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) out[i * n + j] = j <= i ? (float)exact[i * n + j] : NAN;
}

/* The largest |X^p·(A + damping) − 1| with X the root as floats. */
static double error_of(const inverse_root_job *job, const double *matrix, double damping) {
    size_t n = job->n;
    double *product = doubles_zeroed(n * n), *next = doubles_zeroed(n * n), worst = 0;
    for (size_t i = 0; i < n * n; i++) product[i] = matrix[i] + (i % (n + 1) == 0 ? damping : 0);
    for (size_t power = 0; power < job->exponent; power++) {
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                next[i * n + j] = 0;
                for (size_t k = 0; k < n; k++) next[i * n + j] += (double)job->root[i * n + k] * product[k * n + j];
            }
        memcpy(product, next, n * n * sizeof *product);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) worst = fmax(worst, fabs(product[i * n + j] - (i == j)));
    free(product);
    free(next);
    return worst;
}

/* Eigenvalues from 1 down to 1e-7, damped by 1e-6: the root is that of a condition number of a million. */
static void ill_conditioned_matrices_have_exact_roots(void **state) {
    (void)state;
    static const size_t exponents[] = {2, 4, 6, 8};
    enum { n = 40 };
    for (size_t k = 0; k < 4; k++) {
        double values[n], *exact = doubles_zeroed(n * n);
        float *matrix = floats_filled(n * n, 0), *root = floats_filled(n * n, NAN);
        for (size_t i = 0; i < n; i++) values[i] = pow(10, -7.0 * (double)i / (n - 1));
        make_matrix(matrix, exact, values, n, "ill");
        /* What is rooted is the float matrix. */
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) exact[i * n + j] = (double)(j <= i ? matrix[i * n + j] : matrix[j * n + i]);
        inverse_root_job job = {.matrix = matrix,
                                .root = root,
                                .n = n,
                                .exponent = exponents[k],
                                .padded = n,
                                .ridge = 1e-6,
                                .failure_threshold = 0.1};
        void *workspace = workspace_for(&job);
        inverse_root(&job, workspace);
        assert_false(job.failed);
        /* What floats hold of the root, 6e-8 of its largest element, times the condition number's share in it. */
        double error = error_of(&job, exact, 1e-6);
        if (!(error < 5e-3)) fail_msg("exponent %zu: error %g", exponents[k], error);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++) assert_true(root[i * n + j] == root[j * n + i]);
        free(workspace);
        free(exact);
        free(matrix);
        free(root);
    }
}

/* One number: everything can be said by hand. NumPy's RandomState(1729).uniform(-1, 1, 8) is where the power iteration starts.
 */
static void ridge_sees_the_filling_as_the_original_does(void **state) {
    (void)state;
    static const double start[8] = {-0.5756828188896179, -0.48196351528167725, -0.15295624732971191, 0.43932202458381653,
                                    0.3845018446445465,  0.456349641084671,    -0.42490026354789734, -0.49183332920074463};
    for (size_t padded = 1; padded <= 8; padded++)
        for (int k = 0; k < 5; k++) {
            float matrix = powf(10, (float)(-2 * k)), root = NAN;
            double a = (double)matrix, quotient = 0, own = start[0] * start[0], rest = 0;
            for (size_t i = 1; i < padded; i++) rest += start[i] * start[i];
            for (int round = 0; round < 100; round++) {
                double next = (own * a + rest) / (own + rest), change = fabs(next - quotient);
                quotient = next;
                own *= a * a;
                if (change <= 1e-6) break;
            }
            double ridge = 0.01, expected = pow(a + ridge * fmax(quotient, 1e-6), -1.0 / 4);
            inverse_root_job job = {.matrix = &matrix,
                                    .root = &root,
                                    .n = 1,
                                    .exponent = 4,
                                    .padded = padded,
                                    .ridge = ridge,
                                    .failure_threshold = 0.1};
            void *workspace = workspace_for(&job);
            inverse_root(&job, workspace);
            assert_false(job.failed);
            if (!(fabs((double)root / expected - 1) < 1e-6))
                fail_msg("%g filled to %zu: %.9g, expected %.9g", a, padded, (double)root, expected);
            free(workspace);
        }
}

static void must_fail(float *matrix, double threshold) {
    float root[4] = {5, 6, 7, 8};
    inverse_root_job job = {
        .matrix = matrix, .root = root, .n = 2, .exponent = 4, .padded = 2, .ridge = 1e-6, .failure_threshold = threshold};
    void *workspace = workspace_for(&job);
    inverse_root(&job, workspace);
    assert_true(job.failed);
    for (int i = 0; i < 4; i++) assert_true(root[i] == (float)(5 + i)); /* the one before stays */
    free(workspace);
}

static void failures_leave_the_root_before(void **state) {
    (void)state;
    must_fail((float[]){NAN, 0, 0, 1}, 0.1);
    must_fail((float[]){1, 0, INFINITY, 1}, 0.1);
    must_fail((float[]){1, 0, 0, -0.5f}, 0.1); /* not positive definite */
    must_fail((float[]){1, 0, 0.5f, 1}, 0);    /* no error is below 0 */
    inverse_root_job vast = {.n = (size_t)1 << 16, .exponent = 4, .padded = 1};
    assert_true(inverse_root_bytes(vast.n, 1) == SIZE_MAX);
    assert_true(inverse_root_bytes(0, 1) == SIZE_MAX);
    inverse_root(&vast, NULL);
    assert_true(vast.failed);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ill_conditioned_matrices_have_exact_roots),
                                       cmocka_unit_test(ridge_sees_the_filling_as_the_original_does),
                                       cmocka_unit_test(failures_leave_the_root_before)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
