/* The machine's rate of matrix products, against which every speed is stated. */
#include "core/core.h"
#include "nn/nn.h"

#include <math.h>
#include <stdlib.h>

enum { SIDE = 4096, REPEATS = 5 };

int nn_measure_peak(nn_precision precision, double *out_gflops, limn_error *error) {
    const size_t size = (size_t)SIDE * SIDE;
    const bool rounds = precision != PRECISION_FP32;
    float *memory = limn_allocate(3 * size, sizeof *memory, error);
    uint16_t *half = rounds ? limn_allocate(size, sizeof *half, error) : NULL;
    limn_arena *arena = limn_arena_create(matmul_mixed_bytes(SIDE, SIDE, SIDE, precision), error);
    int status = 0;
    if (memory == NULL || (rounds && half == NULL) || arena == NULL)
        status = limn_fail_context(error, "three matrices of %d × %d", SIDE, SIDE);
    double best = INFINITY;
    if (status == 0) {
        limn_random_fill_normal(memory, 2 * size, 1.0f, 1, 1);
        if (rounds) round_to_bf16(half, memory, size);
    }
    const numbers a = rounds ? (numbers){.bf16 = half} : numbers_f32(memory);
    for (int i = 0; i <= REPEATS && status == 0; i++) {
        const double begin = limn_seconds();
        matmul_mixed(numbers_f32(memory + 2 * size), SIDE, a, SIDE, false, numbers_f32(memory + size), SIDE, true, SIDE, SIDE,
                     SIDE, false, precision, arena);
        const double seconds = limn_seconds() - begin;
        if (i > 0) /* the first one, i = 0, warms up */
            limn_log(LIMN_LOG_INFO, "product %d of %d: %.3f s, %.1f GFLOP/s", i, REPEATS, seconds,
                     2e-9 * (double)size * SIDE / seconds);
        if (i > 0 && seconds < best) best = seconds;
        if (limn_stop_requested()) status = limn_fail(error, "stopped");
    }
    limn_arena_destroy(arena);
    free(half);
    free(memory);
    *out_gflops = 2e-9 * (double)size * SIDE / best;
    return status;
}
