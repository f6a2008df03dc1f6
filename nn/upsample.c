#include "core/core.h"
#include "nn/nn.h"

#include <string.h>

void upsample_nearest_forward(float *out, const float *in, size_t B, size_t Y, size_t X, size_t C) {
    const size_t row = 2 * X * C;
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t y = 0; y < B * Y; y++) {
        float *to = out + 2 * y * row;
        for (size_t x = 0; x < X; x++) {
            memcpy(to + 2 * x * C, in + (y * X + x) * C, C * sizeof *to);
            memcpy(to + (2 * x + 1) * C, in + (y * X + x) * C, C * sizeof *to);
        }
        memcpy(to + row, to, row * sizeof *to);
    }
}

void upsample_nearest_backward(float *din, const float *dout, size_t B, size_t Y, size_t X, size_t C) {
    const size_t row = 2 * X * C;
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t y = 0; y < B * Y; y++)
        for (size_t x = 0; x < X; x++) {
            const float *upper = dout + 2 * y * row + 2 * x * C, *lower = upper + row;
            float *to = din + (y * X + x) * C;
            for (size_t c = 0; c < C; c++) to[c] = (upper[c] + upper[C + c]) + (lower[c] + lower[C + c]);
        }
}
