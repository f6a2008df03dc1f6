#include "nn/nn.h"

#include <string.h>

#include "nn/internal.h"

void embedding_forward(float *out, const int32_t *ids, const float *table, size_t N, size_t C) {
#pragma omp parallel for schedule(static) if (N * C > 2 * LIMN_PIECE)
    for (size_t n = 0; n < N; n++) memcpy(out + n * C, table + (size_t)ids[n] * C, C * sizeof *out);
}

LIMN_CLONES static void add_columns(float *dtable, const int32_t *ids, const float *dout, size_t N, size_t C, size_t columns) {
    for (size_t n = 0; n < N; n++) {
        float *row = dtable + (size_t)ids[n] * C;
        const float *d = dout + n * C;
#pragma omp simd
        for (size_t c = 0; c < columns; c++) row[c] += d[c];
    }
}

void embedding_backward(float *dtable, const int32_t *ids, const float *dout, size_t N, size_t V, size_t C) {
    (void)V; /* the shape of dtable; the ids are below it */
    /* An id that comes twice must be added to twice, in the same order for any number of threads: each thread has columns of
     * its own and goes through all rows. */
    const size_t width = 64;
#pragma omp parallel for schedule(static) if (N * C > 2 * LIMN_PIECE)
    for (size_t c = 0; c < C; c += width) add_columns(dtable + c, ids, dout + c, N, C, C - c < width ? C - c : width);
}
