/* What the files of nn/ share and nobody outside sees. */
#ifndef LIMN_NN_INTERNAL_H
#define LIMN_NN_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "nn/nn.h"

/* The program is compiled for any x86-64; functions marked LIMN_CLONES are compiled three times, and the dynamic linker takes
 * the one for this CPU. What such a function calls must be LIMN_INLINE, or it would stay baseline code. GCC also gives an
 * OpenMP region inside a cloned function baseline code: the loop over one thread's share is the cloned function, and the
 * region calls it. The sanitizers need single functions: the linker's choice would run before they are ready. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && !defined(__SANITIZE_ADDRESS__)
#define LIMN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline))
#else
#define LIMN_CLONES __attribute__((noinline))
#endif
#define LIMN_INLINE static inline __attribute__((always_inline))

LIMN_INLINE size_t divide_up(size_t a, size_t b) {
    return (a + b - 1) / b;
}

/* To a multiple of `to`. */
LIMN_INLINE size_t round_up(size_t n, size_t to) {
    return divide_up(n, to) * to;
}

LIMN_INLINE size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

LIMN_INLINE size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Long arrays are worked on in pieces of this many floats: a few fit in a core's first-level cache, and one is worth more than
 * what it costs to hand it to a thread. */
enum { LIMN_PIECE = 8192 };

/* The length of the piece that begins at `start` in an array of n. */
LIMN_INLINE size_t piece_length(size_t start, size_t n) {
    return n - start < LIMN_PIECE ? n - start : LIMN_PIECE;
}

/* for (size_t start = 0; …) over the pieces of n, divided among the threads. */
#define LIMN_FOR_PIECES(start, n)                                                                                              \
    _Pragma("omp parallel for schedule(static) if ((n) > 2 * LIMN_PIECE)") for (size_t start = 0; start < (n);                 \
                                                                                start += LIMN_PIECE)

/* Sums that must not depend on the number of threads are made in at most this many parts, each by one thread, and the parts
 * are added in order. */
enum { LIMN_PARTS = 256 };

/* By the calling thread alone; out may be one of the inputs (elementwise.c). */
void add_row(float *out, const float *a, const float *b, size_t n);
void multiply_row(float *out, const float *a, const float *b, size_t n);
void scale_row(float *out, const float *in, float scale, size_t n);
double squares_of_row(const float *in, size_t n); /* their sum */

/* OpenBLAS computes with the calling thread alone from here on; products are divided among threads by us. */
void use_single_threaded_blas(void);

/* out[i] = 0 or 1/(1−rate) for i = start … start+count−1, a function of (seed, stream, i). */
void dropout_factors(float *out, float rate, uint64_t seed, uint64_t stream, size_t start, size_t count);

/* Who multiplies weights that are packed for this precision now (backend.c); never BACKEND_AUTO. */
typedef enum { BACKEND_AUTO, BACKEND_LIMN, BACKEND_ONEDNN, BACKEND_OPENBLAS } nn_backend;
nn_backend backend_for(nn_precision precision);

#endif
