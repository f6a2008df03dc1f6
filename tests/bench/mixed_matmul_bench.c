/* The products of mini's decoder layers in a bf16 training step: GFLOP/s of our kernels, and of oneDNN's where it is there.
 * usage: bench-mixed-matmul [ROWS], rows of a step (2048: 8 pairs) */
#include "nn/nn.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    const char *name;
    size_t M, N, K;
    bool transpose_a, transpose_b, half_a, half_out, accumulate;
} shape;

static double rate_of(const shape *s, uint16_t *half, float *single, float *out, const char *backend) {
    limn_error error = {0};
    if (nn_choose_backend(backend, PRECISION_BF16, &error) != 0) return NAN;
    limn_arena *arena = limn_arena_create(matmul_mixed_bytes(s->M, s->N, s->K, PRECISION_BF16), &error);
    if (arena == NULL) return NAN;
    const numbers in = {.bf16 = half}, other = {.f32 = single};
    /* weights are float32, what is kept for the backward bfloat16 */
    const numbers a = s->half_a ? in : other, b = s->accumulate ? in : other;
    const numbers to = s->half_out ? (numbers){.bf16 = (uint16_t *)(void *)out} : numbers_f32(out);
    double best = INFINITY;
    for (int i = 0; i < 8; i++) {
        const double begin = limn_seconds();
        matmul_mixed(to, s->N, a, s->transpose_a ? s->M : s->K, s->transpose_a, b, s->transpose_b ? s->K : s->N, s->transpose_b,
                     s->M, s->N, s->K, s->accumulate, PRECISION_BF16, arena);
        best = i > 0 ? fmin(best, limn_seconds() - begin) : best;
    }
    limn_arena_destroy(arena);
    return 2e-9 * (double)s->M * (double)s->N * (double)s->K / best;
}

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    const size_t R = argc > 1 ? strtoul(argv[1], NULL, 10) : 2048, C = 1024, F = 2730, V = 16385, L = 1024;
    const shape shapes[] = {
        {"q, k, v: in·weightᵀ", R, 3 * C, C, false, true, true, true, false},
        {"out: in·weightᵀ", R, C, C, false, true, true, true, false},
        {"feed-forward in: in·weightᵀ", R, F, C, false, true, true, true, false},
        {"feed-forward out: in·weightᵀ", R, C, F, false, true, true, true, false},
        {"feed-forward in: dout·weight", R, C, F, false, false, true, false, false},
        {"feed-forward out: dout·weight", R, F, C, false, false, true, true, false},
        {"feed-forward in: doutᵀ·in", F, C, R, true, false, true, false, true},
        {"out: doutᵀ·in", C, C, R, true, false, true, false, true},
        {"lm_head: in·weightᵀ", L, V, C, false, true, true, false, false},
        {"lm_head: dlogits·weight", L, C, V, false, false, false, false, false},
        {"lm_head: dlogitsᵀ·in", V, C, L, true, false, false, false, true},
    };
    const size_t most = (R > V ? R : V) * 3 * C;
    limn_error error = {0};
    uint16_t *half = limn_allocate(most, sizeof *half, &error);
    float *single = limn_allocate(most, sizeof *single, &error), *out = limn_allocate(most, sizeof *out, &error);
    if (half == NULL || single == NULL || out == NULL) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    limn_random_fill_normal(single, most, 1, 1, 1);
    round_to_bf16(half, single, most);
    printf("%-32s %8s %8s\n", "", "ours", "oneDNN");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const double ours = rate_of(&shapes[i], half, single, out, "limn");
        printf("%-32s %8.1f %8.1f\n", shapes[i].name, ours, rate_of(&shapes[i], half, single, out, "onednn"));
    }
    free(half);
    free(single);
    free(out);
    return 0;
}
