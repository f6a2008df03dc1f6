/* onednn: products and convolutions by the library oneDNN (API 2.x and 3.x) in fp32, bf16 and int8, where it was found when
 * Limn was built and where this CPU has instructions for them. Arrays are float32 on both sides; sums are float32 or, for
 * int8, exact.
 *
 * Weights are brought into the library's own layout once. Everything a forward needs is made when a layer is created or
 * prepared; a forward takes only a few hundred bytes, for the library's bookkeeping. Use these from outside of parallel
 * regions; two threads may use two layers at once, but not the same one. */
#ifndef LIMN_NN_ONEDNN_H
#define LIMN_NN_ONEDNN_H

#include "nn/nn.h"

/* Whether the library is there and this CPU has instructions that make the precision faster than fp32: bf16 needs AVX512-BF16
 * or AMX, int8 AVX512-VNNI or AMX (from API 3 on AVX-VNNI is enough). ONEDNN_MAX_CPU_ISA in the environment (2.x:
 * DNNL_MAX_CPU_ISA) hides instructions. Layers of a precision that is not available cannot be created. */
bool onednn_available(nn_precision precision);
bool onednn_has_amx(void); /* the CPU has tiles for bf16 and int8, and the library uses them */
/* "oneDNN 2.6.3 avx512_core_bf16", or "no oneDNN". */
const char *onednn_description(void);

/* ---------------------------------------------------------------- products */

typedef struct onednn_linear onednn_linear;
/* weight is (OC,C) and no longer needed afterwards. INT8: weights have a scale per output, inputs are quantised anew in every
 * forward, each row with a scale and a zero point of its own. */
onednn_linear *onednn_linear_create(const float *weight, size_t OC, size_t C, nn_precision precision, limn_error *error);
/* Makes what a product of N rows needs. It stays until many other N have been prepared (ONEDNN_SHAPES, the one not used for
 * longest goes). Fails without memory, or with the library's own reason. */
int onednn_linear_prepare(onednn_linear *self, size_t N, limn_error *error);
enum { ONEDNN_SHAPES = 16 };
/* out (N,OC) = in (N,C)·weightᵀ + bias; bias (OC) or NULL; ldout and ldin are row strides in floats. ldout = OC is the fast
 * way. An N that was not prepared is prepared now. If that fails, out is filled with NaN and the log says why. */
void onednn_linear_forward(onednn_linear *self, float *out, size_t ldout, const float *in, size_t ldin, const float *bias,
                           size_t N);
size_t onednn_linear_bytes(const onednn_linear *self); /* weights and scratch */
void onednn_linear_free(onednn_linear *self);          /* NULL allowed */

/* out (M,N) = A·B in bfloat16, sums in float32, added to out (float32 then) when accumulate: matmul_mixed's product of operands
 * that are bfloat16 already. Scratch: at most onednn_matmul_scratch_bytes where no rows have gaps. False, with `out` as it was,
 * where the library has no fast kernel for it or the arena has not what this product needs. */
bool onednn_matmul(numbers out, size_t ldout, const uint16_t *a, size_t lda, bool transpose_a, const uint16_t *b, size_t ldb,
                   bool transpose_b, size_t M, size_t N, size_t K, bool accumulate, limn_arena *arena);
/* The most of any order of A and B and any kind of out. Asks the library a dozen times: for plans, not for every product. */
size_t onednn_matmul_scratch_bytes(size_t M, size_t N, size_t K);

/* ---------------------------------------------------------------- convolutions */

typedef struct onednn_convolution onednn_convolution;
/* As convolution_forward of nn.h: weight (O,kernel,kernel,C), bias (O) or NULL; neither is needed afterwards. For this one
 * shape, its B included. */
onednn_convolution *onednn_convolution_create(const float *weight, const float *bias, const convolution_shape *shape,
                                              nn_precision precision, limn_error *error);
/* in (B,Y,X,C), residual (B,Y′,X′,O) or NULL is added, out (B,Y′,X′,O). out may be residual, which saves a
 * copy. */
void onednn_convolution_forward(onednn_convolution *self, float *out, const float *in, const float *residual);
size_t onednn_convolution_bytes(const onednn_convolution *self); /* weights and scratch */
void onednn_convolution_free(onednn_convolution *self);          /* NULL allowed */

#endif
