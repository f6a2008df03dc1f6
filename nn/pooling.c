#include "core/core.h"
#include "nn/nn.h"

#include <string.h>

void max_pool_forward(float *out, const float *in, size_t B, size_t Y, size_t X, size_t C) {
    const size_t rows = Y / 2, columns = X / 2, row = X * C;
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t i = 0; i < B * rows; i++) {
        const float *upper = in + (i / rows * Y + i % rows * 2) * row, *lower = upper + row;
        float *to = out + i * columns * C;
        for (size_t x = 0; x < columns; x++, upper += 2 * C, lower += 2 * C, to += C)
            for (size_t c = 0; c < C; c++) {
                const float left = upper[c] >= lower[c] ? upper[c] : lower[c];
                const float right = upper[C + c] >= lower[C + c] ? upper[C + c] : lower[C + c];
                to[c] = left >= right ? left : right;
            }
    }
}

/* One row of pairs of columns; of equal ones the first in raster order counts. */
static void backward_row(float *upper_din, float *lower_din, const float *dout, const float *upper, const float *lower,
                         size_t columns, size_t C) {
    for (size_t x = 0; x < columns; x++) {
        for (size_t c = 0; c < C; c++) {
            const float a = upper[c], b = upper[C + c], d = lower[c], e = lower[C + c];
            const bool first = a >= b && a >= d && a >= e, second = !first && b >= d && b >= e;
            const bool third = !first && !second && d >= e;
            upper_din[c] = first ? dout[c] : 0.0f;
            upper_din[C + c] = second ? dout[c] : 0.0f;
            lower_din[c] = third ? dout[c] : 0.0f;
            lower_din[C + c] = first || second || third ? 0.0f : dout[c];
        }
        upper += 2 * C, lower += 2 * C, upper_din += 2 * C, lower_din += 2 * C, dout += C;
    }
}

void max_pool_backward(float *din, const float *dout, const float *in, size_t B, size_t Y, size_t X, size_t C) {
    const size_t rows = Y / 2, columns = X / 2, row = X * C;
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t i = 0; i < B * ((Y + 1) / 2); i++) {
        const size_t b = i / ((Y + 1) / 2), y = i % ((Y + 1) / 2), start = (b * Y + 2 * y) * row;
        if (y == rows) { /* the odd last row */
            memset(din + start, 0, row * sizeof *din);
            continue;
        }
        backward_row(din + start, din + start + row, dout + (b * rows + y) * columns * C, in + start, in + start + row, columns,
                     C);
        if (X % 2) {
            memset(din + start + row - C, 0, C * sizeof *din);
            memset(din + start + 2 * row - C, 0, C * sizeof *din);
        }
    }
}
