/* The machine's rate of matrix products, against which every speed is stated. */
#include "core/core.h"
#include "nn/nn.h"

#include <math.h>
#include <stdlib.h>

enum { SIDE = 4096, REPEATS = 5 };

/* One product of SIDE³ in fp32, or in bfloat16 by a packed convolution of one pixel. */
static void multiply(float *out, const float *a, const float *b, const packed_convolution *packed, limn_arena *arena) {
    if (packed != NULL)
        packed_convolution_forward(packed, &(convolution_pass){.out = out, .in = a}, 1, arena);
    else
        matmul(out, SIDE, a, SIDE, false, b, SIDE, true, SIDE, SIDE, SIDE, 1.0f, 0.0f);
}

int nn_measure_peak(nn_precision precision, double *out_gflops, limn_error *error) {
    const convolution_shape shape = {.B = 1, .Y = 64, .X = SIDE / 64, .C = SIDE, .O = SIDE, .kernel = 1, .stride = 1};
    const size_t size = (size_t)SIDE * SIDE;
    float *numbers = limn_allocate(3 * size, sizeof *numbers, error);
    if (numbers == NULL) return limn_fail_context(error, "three matrices of %d × %d", SIDE, SIDE);
    float *a = numbers, *b = numbers + size, *out = numbers + 2 * size;
    limn_random_fill_normal(a, 2 * size, 1.0f, 1, 1);
    limn_arena *arena = limn_arena_create((size_t)1 << 32, error);
    packed_convolution *packed = NULL;
    int status = arena ? 0 : -1;
    if (status == 0 && precision != PRECISION_FP32) {
        packed = packed_convolution_create(b, NULL, &shape, PRECISION_BF16, error);
        if (packed == NULL) status = -1;
    }
    double best = INFINITY;
    for (int i = 0; i <= REPEATS && status == 0; i++) {
        const double begin = limn_seconds();
        multiply(out, a, b, packed, arena);
        const double seconds = limn_seconds() - begin;
        if (i > 0) /* the first one, i = 0, warms up */
            limn_log(LIMN_LOG_INFO, "product %d of %d: %.3f s, %.1f GFLOP/s", i, REPEATS, seconds,
                     2e-9 * (double)size * SIDE / seconds);
        if (i > 0 && seconds < best) best = seconds;
        if (limn_stop_requested()) status = limn_fail(error, "stopped");
    }
    packed_convolution_free(packed);
    limn_arena_destroy(arena);
    free(numbers);
    *out_gflops = 2e-9 * (double)size * SIDE / best;
    return status;
}
