/* The machine's rate in bfloat16. */
#include "core/core.h"
#include "nn/nn.h"

#include <math.h>
#include <stdlib.h>

enum { SIDE = 4096, REPEATS = 5 };

int nn_measure_bf16_peak(double *out_seconds, limn_error *error) {
    const convolution_shape shape = {.B = 1, .Y = 64, .X = SIDE / 64, .C = SIDE, .O = SIDE, .kernel = 1, .stride = 1};
    const size_t size = (size_t)SIDE * SIDE;
    float *numbers = limn_allocate(2 * size, sizeof *numbers, error);
    limn_arena *arena = numbers ? limn_arena_create((size_t)1 << 32, error) : NULL;
    packed_convolution *product = arena ? packed_convolution_create(numbers, NULL, &shape, PRECISION_BF16, error) : NULL;
    int status = product ? 0 : -1;
    *out_seconds = INFINITY;
    for (size_t i = 0; i <= REPEATS && status == 0; i++) {
        const double begin = limn_seconds();
        packed_convolution_forward(product, &(convolution_pass){.out = numbers + size, .in = numbers}, 1, arena);
        const double seconds = limn_seconds() - begin;
        if (i > 0 && seconds < *out_seconds) *out_seconds = seconds; /* the first one touches memory for the first time */
        if (limn_stop_requested()) status = limn_fail(error, "stopped before it was measured");
    }
    packed_convolution_free(product);
    limn_arena_destroy(arena);
    free(numbers);
    return status;
}
