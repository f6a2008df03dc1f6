/* The innermost loops of packed_linear.c, once per instruction set; the widest that this CPU has is chosen at run time.
 *
 * Weights lie in panels of PANEL outputs, inputs in the order in which they are multiplied: float32 as (K, PANEL), bfloat16 in
 * pairs (K/2, PANEL, 2), 8 bits in fours (K/4, PANEL, 4). A block of a panel, some hundred inputs deep, stays in the first
 * cache while all rows pass it. */
#ifndef LIMN_NN_LINEAR_KERNELS_H
#define LIMN_NN_LINEAR_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PANEL = 32, BLOCK_BYTES = 16 << 10 };

#if defined(__x86_64__)
/* For __attribute__((target(…))): what "avx512" stands for, to which further sets are added. */
#define AVX512 "avx512f,avx512vl,avx512dq,avx512bw,fma"
/* sum += products of a and b, in place: for the intrinsics GCC 12 moves the sums from register to register. */
#define ADD_PRODUCTS(instruction, sum, a, b) __asm__(instruction " %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#endif

/* What a kernel multiplies, rows and weights alike. 8-bit weights meet rows of 8 bits, or of 16, which go through the 8-bit
 * multiplier as an upper and a lower half: twice the work, as much as bfloat16's, and no loss worth the name. */
typedef enum { MULTIPLY_FP32, MULTIPLY_BF16, MULTIPLY_INT8 } multiply_kind;

/* sums[r·sums_stride + o] = scale[o]·Σ over k below depth of in[r][k]·weights[k][o], added to what is there unless `first`; r
 * below rows, o below PANEL. */
typedef struct {
    float *sums;
    size_t sums_stride; /* floats */
    bool first;
    const void *in;
    size_t in_stride; /* bytes from one row to the next */
    const void *weights;
    size_t depth;       /* even for bfloat16, a multiple of 4 for 8 bits */
    size_t rows;        /* at most rows_at_once */
    const float *scale; /* (PANEL); NULL: 1 */
    const char *next;   /* so many bytes from here, PANEL·2 a step of the inner loop, are fetched into the cache on the way */
    size_t halves;      /* INT8: of a row's numbers, 1 or 2: in + 2^7 or in + 2^15, unsigned */
    size_t lower;       /* INT8: bytes from a row's upper halves to its lower ones */
    const float *in_scale; /* INT8: (rows), times which row r is */
    const int32_t *offset; /* INT8: (PANEL) Σ weights times that 2^7 or 2^15, modulo 2³² */
} block_product;

typedef struct {
    const char *name; /* "avx512vnni", "avx512bf16", "avx512", "avx2", "portable" */
    multiply_kind kind;
    size_t rows_at_once;
    void (*multiply)(const block_product *product);
    /* MULTIPLY_FP32 alone: packed weights, depth of them, to float32 as multiply takes it. */
    void (*expand_bf16)(float *to, const uint16_t *weights, size_t depth);
    void (*expand_int8)(float *to, const int8_t *weights, size_t depth);
} linear_kernels;

/* The best of a kind that this CPU has; NULL: none. There is always one for MULTIPLY_FP32. */
const linear_kernels *linear_kernels_find(multiply_kind kind);

#endif
