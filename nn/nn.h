/* nn: layers as plain functions on float arrays, each x_forward beside its x_backward; matrix products and convolutions;
 * optimizers. Knows nothing of images, text or files.
 *
 * Letters: B batch, T queries or image tokens, S keys or text tokens, N rows (B·T), C channels or width, F feed-forward width,
 * H heads, D head width (C/H), V vocabulary; for pictures (B, Y, X, C): Y rows and X columns of pixels.
 * All arrays are row-major float32. Pictures are channels-last (B, Y, X, C).
 *
 * Gradients: a function *adds* to the gradients of weights (dweight += …) and *writes* the gradient of its input
 * (din = …) unless it says otherwise. A gradient that is not wanted is passed as NULL. No function allocates: scratch comes
 * from the arena it is given, and is given back before it returns. `in` and `out` may be the same array only where it is said.
 * Functions are multi-threaded inside (OpenMP) and give the same bits for the same number of threads. */
#ifndef LIMN_NN_H
#define LIMN_NN_H

#include "core/core.h"

/* ---------------------------------------------------------------- parameters */

typedef enum {
    PARAMETER_PLAIN,
    PARAMETER_CONVOLUTION /* shape is (O, Y, X, I) here; files have PyTorch's (O, I, Y, X) */
} parameter_layout;

typedef struct {
    char name[192];
    parameter_layout layout;
    size_t rank, shape[4];
    size_t size;          /* product of shape */
    const float *value;   /* where the weights are: a mapping, or the set's own memory (then writable through mutable_value) */
    float *mutable_value; /* NULL when the weights are mapped read-only */
    float *grad;          /* NULL unless allocated for training */
    bool frozen;          /* set before the set is allocated: it is not trained and gets no gradient */
} parameter;

/* An ordered list of parameters. Models add theirs when they are built and keep pointers by index. */
typedef struct {
    parameter *list;
    size_t count, capacity;
    size_t size;      /* floats in all */
    float *storage;   /* one block for all values, NULL when they are mapped */
    float *grads;     /* one block for all gradients, NULL unless training */
    size_t grad_size; /* floats of it: all but the frozen ones' */
} parameters;

/* Adds one; returns its index, or SIZE_MAX with an error. Names are unique. */
size_t parameters_add(parameters *set, parameter_layout layout, size_t rank, const size_t *shape, limn_error *error,
                      const char *name_format, ...) LIMN_PRINTF(6, 7);
/* Gives every parameter a place in one block of memory (and, with_grads, every gradient), zeroed. Call once all are added. */
int parameters_allocate(parameters *set, bool with_grads, limn_error *error);
/* Gives the memory of one value back: it is NULL from now on. For weights that have been packed and are not read again. */
void parameters_drop(parameters *set, size_t index);
parameter *parameters_find(const parameters *set, const char *name); /* NULL when absent */
/* selected[i] (count) becomes true where parameter i's name holds one of the comma-separated `names`: whole parts between dots,
 * one after another ("decoder.embed_tokens" is in "model.decoder.embed_tokens.weight"). A usage error that begins with `option`
 * when a name is in none. */
int parameters_select(const parameters *set, const char *names, bool *selected, const char *option, limn_error *error);
void parameters_zero_grads(parameters *set);
/* The same parameters with other values, read-only: `values` lies as the set's own storage does (a moving average of the weights).
 * The copy holds nothing but its list; free it with parameters_free. */
int parameters_with_values(parameters *out, const parameters *set, const float *values, limn_error *error);
void parameters_free(parameters *set);

/* ---------------------------------------------------------------- precision */

/* What numbers are multiplied in; sums are float32 everywhere. INT8: weights of 8 bits with a scale an output, activations in
 * bfloat16. */
typedef enum { PRECISION_FP32, PRECISION_BF16, PRECISION_INT8 } nn_precision;
/* "fp32", "bf16", "int8" and back; a usage error that names the option --precision when unknown. */
int nn_precision_parse(nn_precision *out, const char *text, limn_error *error);
const char *nn_precision_name(nn_precision precision);
/* Who multiplies what is packed from here on, and matmul_mixed: "limn" (kernels of our own, on any CPU), "onednn", "openblas"
 * (fp32 products; convolutions stay ours), "auto": ours, but oneDNN's bf16 where the CPU has AMX. A usage error that names the
 * option --backend where that cannot be. For the whole process; call it before models are loaded. */
int nn_choose_backend(const char *name, nn_precision precision, limn_error *error);

/* Numbers in float32 or in bfloat16 (the upper half of a float32): one of the two pointers is there. Mixed precision keeps in
 * bfloat16 what is multiplied, and all else in float32. */
typedef struct {
    float *f32;
    uint16_t *bf16;
} numbers;
static inline numbers numbers_f32(float *x) {
    return (numbers){.f32 = x};
}
/* To the nearest bfloat16, ties to even; a NaN stays one. And back. By the calling thread alone. */
void round_to_bf16(uint16_t *out, const float *in, size_t n);
void expand_bf16(float *out, const uint16_t *in, size_t n);
void add_bf16(float *out, const uint16_t *in, size_t n); /* out += in */
/* From the i-th on. */
static inline numbers numbers_from(numbers x, size_t i) {
    return (numbers){x.f32 != NULL ? x.f32 + i : NULL, x.bf16 != NULL ? x.bf16 + i : NULL};
}

/* ---------------------------------------------------------------- products */

/* Call first in main(). libgomp's threads spin for milliseconds at the end of every parallel region; where another process
 * holds one of the cores, each of a step's thousand regions then waits that long. This starts the program anew (execv) with a
 * short GOMP_SPINCOUNT, unless the user has set that or OMP_WAIT_POLICY. */
void nn_prepare_threads(char **argv);
/* One line naming OpenBLAS with the kernels that it uses here, and the threads: "OpenBLAS 0.3.21 SkylakeX, 2 threads". Our own
 * kernels and oneDNN are not in it. */
const char *nn_backend_description(void);
/* This machine's rate in GFLOP/s, against which every speed is stated: the best of five 4096³ products (2·4096³ operations
 * each), after one to warm up, in fp32, or in bfloat16 for BF16 and INT8. A line on the log for each. Fails without memory, or
 * when the program is stopped. */
int nn_measure_peak(nn_precision precision, double *out_gflops, limn_error *error);

/* out (M,N) = alpha·A·B + beta·out; A is (M,K), or (K,M) when transpose_a; B is (K,N), or (N,K) when transpose_b. lda, ldb,
 * ldout are row strides in floats. Multi-threaded; inside a parallel region single-threaded. */
void matmul(float *out, size_t ldout, const float *a, size_t lda, bool transpose_a, const float *b, size_t ldb,
            bool transpose_b, size_t M, size_t N, size_t K, float alpha, float beta);

/* The same, added to out (float32 then) when accumulate; K is at least 1. In BF16 of numbers of either kind: it multiplies in
 * bfloat16, to which it rounds what is float32 (unless the CPU cannot: then in float32, by OpenBLAS), and sums in float32. In
 * FP32 all three are float32. Made for products that are large in all three directions. Scratch: matmul_mixed_bytes. */
void matmul_mixed(numbers out, size_t ldout, numbers a, size_t lda, bool transpose_a, numbers b, size_t ldb, bool transpose_b,
                  size_t M, size_t N, size_t K, bool accumulate, nn_precision precision, limn_arena *arena);
size_t matmul_mixed_bytes(size_t M, size_t N, size_t K, nn_precision precision);

/* out (N,OC) = in (N,C) · weightᵀ + bias; weight is (OC,C), bias (OC) or NULL. */
void linear_forward(float *out, const float *in, const float *weight, const float *bias, size_t N, size_t C, size_t OC);
/* din (N,C) = dout·weight (added to din when accumulate); dweight += doutᵀ·in; dbias += column sums of dout. */
void linear_backward(float *din, float *dweight, float *dbias, const float *dout, const float *in, const float *weight,
                     size_t N, size_t C, size_t OC, bool accumulate);

/* A dense layer's weights (OC,C) in the form in which this CPU multiplies fastest, made once when a model is loaded. FP32 holds
 * them as they are; BF16 rounds them; INT8 rounds them to 8 bits with a scale for each output and stretch of inputs. Where the
 * CPU multiplies bfloat16 or 8 bits the inputs are rounded too: to bfloat16 in BF16; in INT8 to 8 bits, relative to their row's
 * largest, where they are `normed` and so of one size, and to 16 where they are not. Elsewhere they stay float32. */
typedef struct packed_linear packed_linear;
/* It lives in the arena `storage` (whose pages are large, which a stream of weights needs) and takes at most so many bytes of
 * it; oneDNN's has memory of its own, and OpenBLAS' reads `weight` itself. NULL with an error. */
const packed_linear *packed_linear_create(const float *weight, size_t OC, size_t C, nn_precision precision, bool normed,
                                          limn_arena *storage, limn_error *error);
void packed_linear_free(const packed_linear *self); /* what is not in the arena; NULL allowed */
size_t packed_linear_bytes(size_t OC, size_t C, nn_precision precision);
/* out (N,OC) = in (N,C)·weightᵀ + bias (OC, or NULL), for `count` layers that read the same input (N,C). One pass over the
 * weights serves up to 48 rows: made for the few rows of a decoding step. Scratch of 2·(C+1)·N bytes and 6 KiB a thread. */
typedef struct {
    float *out;
    const packed_linear *weight;
    const float *bias;
} packed_product;
void packed_linear_forward(const packed_product *products, size_t count, const float *in, size_t N, limn_arena *arena);
/* The innermost loops exist for "avx512bf16", "avx512", "avx2" and "portable"; what is packed after this uses the named ones or
 * lesser ones, for tests and measurements. False when the CPU lacks them or the name is none of these. */
bool packed_linear_choose_kernels(const char *name);

/* ---------------------------------------------------------------- elementwise */

void add_forward(float *out, const float *a, const float *b, size_t n); /* out = a + b; out may be a or b */
void add_scaled(float *out, const float *a, float scale, size_t n);     /* out += scale·a */
void scale_forward(float *out, const float *in, float scale, size_t n); /* out = scale·in; in place allowed */
double sum_of_squares(const float *in, size_t n);                       /* in double, same bits for any threads */

typedef enum { ACTIVATION_GELU, ACTIVATION_RELU, ACTIVATION_SWISH, ACTIVATION_SMELU } activation;
/* gelu: the exact x·Φ(x) (erf). swish (silu): x·σ(x). smelu: Shamir and others, arXiv 2202.06499, beta 1: 0 below −1, x above
 * 1, (x+1)²/4 between. In place allowed. */
void activation_forward(float *out, const float *in, activation kind, size_t n);
/* din = dout·f′(in); din may be dout. */
void activation_backward(float *din, const float *dout, const float *in, activation kind, size_t n);
/* "gelu", "relu", "swish" or "silu", "smelu"; -1 when unknown. */
int activation_from_name(const char *name, activation *out);

void leaky_relu_forward(float *out, const float *in, float slope, size_t n);
void leaky_relu_backward(float *din, const float *dout, const float *in, float slope, size_t n);

/* GLU (Shazeer, arXiv 2002.05202): out = f(a)·b, all (n). */
void glu_forward(float *out, const float *a, const float *b, activation kind, size_t n);
void glu_backward(float *da, float *db, const float *dout, const float *a, const float *b, activation kind, size_t n);

/* Inverted dropout: out = in·keep/(1−rate), keep a function of (seed, stream, index) alone; the first number's index is
 * `start`. rate 0 copies. In place allowed. */
void dropout_forward(float *out, const float *in, float rate, uint64_t seed, uint64_t stream, size_t start, size_t n);
void dropout_backward(float *din, const float *dout, float rate, uint64_t seed, uint64_t stream, size_t start, size_t n);

/* ---------------------------------------------------------------- norms */

/* LayerNorm over the last axis. scale and bias are (C) or NULL; saved is (N,2): mean and reciprocal deviation. */
void layernorm_forward(float *out, float *saved, const float *in, const float *scale, const float *bias, size_t N, size_t C,
                       float epsilon);
/* din is written, or added to when accumulate. */
void layernorm_backward(float *din, float *dscale, float *dbias, const float *dout, const float *in, const float *saved,
                        const float *scale, size_t N, size_t C, bool accumulate);
/* RMSNorm (arXiv 1910.07467): out = in/sqrt(mean(in²)+ε)·scale. saved is (N): the reciprocal root. scale may be NULL. */
void rmsnorm_forward(float *out, float *saved, const float *in, const float *scale, size_t N, size_t C, float epsilon);
void rmsnorm_backward(float *din, float *dscale, const float *dout, const float *in, const float *saved, const float *scale,
                      size_t N, size_t C, bool accumulate);
/* GroupNorm (arXiv 1803.08494) of (B, P, C), P = Y·X pixels; followed by swish when `swish`. saved is (B, groups, 2). */
void groupnorm_forward(float *out, float *saved, const float *in, const float *scale, const float *bias, size_t B, size_t P,
                       size_t C, size_t groups, float epsilon, bool swish);
/* Recomputes what lies before the swish from `in`. din is written, or added to when accumulate. din may be dout when not
 * accumulate. */
void groupnorm_backward(float *din, float *dscale, float *dbias, const float *dout, const float *in, const float *saved,
                        const float *scale, const float *bias, size_t B, size_t P, size_t C, size_t groups, bool swish,
                        bool accumulate, limn_arena *arena);
/* BatchNorm of (N, C) with the batch's statistics (training mode); saved is (2, C): mean and reciprocal deviation. When
 * running_mean and running_var (C) are given they move by `momentum` (PyTorch's meaning; unbiased variance). */
void batchnorm_forward(float *out, float *saved, const float *in, const float *scale, const float *bias, float *running_mean,
                       float *running_var, float momentum, size_t N, size_t C, float epsilon);
void batchnorm_backward(float *din, float *dscale, float *dbias, const float *dout, const float *in, const float *saved,
                        const float *scale, size_t N, size_t C);
/* x/(‖x‖+ε) over the last axis of (N, D); saved is (N): the norm. */
void l2_normalize_forward(float *out, float *saved, const float *in, size_t N, size_t D, float epsilon);
void l2_normalize_backward(float *din, const float *dout, const float *in, const float *saved, size_t N, size_t D,
                           float epsilon);

/* ---------------------------------------------------------------- embedding */

/* out (N,C) = table[ids[n]]; table is (V,C). Every id must be below V (the caller checks its input once). */
void embedding_forward(float *out, const int32_t *ids, const float *table, size_t N, size_t C);
/* dtable += ; deterministic for any number of threads. */
void embedding_backward(float *dtable, const int32_t *ids, const float *dout, size_t N, size_t V, size_t C);

/* ---------------------------------------------------------------- attention */

typedef struct {
    size_t B, T, S, H, D;
    size_t query_stride, key_stride, value_stride, out_stride; /* floats from one token to the next; 0 means H·D */
    float scale;                                               /* of the products: 1/sqrt(D), or 1/tau */
    bool causal;                                               /* key s is seen by query t when s ≤ t */
    const int32_t *key_mask;                                   /* (B,S), 0 hides a key; NULL: all are seen */
    const float *bias;          /* (H,T,S) added before the softmax (relative positions); NULL: none */
    size_t sinkhorn_iterations; /* 1: softmax. More: rows and columns in turn, arXiv 2110.11773; not with causal */
    float dropout;              /* of the weights, one mask for all of batch and heads as in the original; 0: none */
    uint64_t seed, stream;      /* of the dropout */
} attention_shape;

/* q (B,T,H·D), k and v (B,S,H·D), out (B,T,H·D). Attention is All You Need (arXiv 1706.03762). A query that sees no key
 * gets zeros. q, k, v and out are of one kind. Where they are bfloat16 and the CPU multiplies that, weights are rounded to it;
 * all else, and all sums, are float32. */
void attention_forward(numbers out, numbers q, numbers k, numbers v, const attention_shape *shape, limn_arena *arena);
/* dbias (H,T,S) += when given. dq, dk, dv are written, with the strides and the kinds of q, k and v; they may be left out
 * (both pointers NULL). The weights are not kept from the forward but made again. */
void attention_backward(numbers dq, numbers dk, numbers dv, float *dbias, numbers dout, numbers q, numbers k, numbers v,
                        const attention_shape *shape, limn_arena *arena);
/* What either takes of the arena for a moment; half: the arrays are bfloat16. */
size_t attention_scratch_bytes(const attention_shape *shape, bool half);

/* Keys and values of sequences that grow by a token a step, laid out so that a step reads them in long runs: keys by sixteen
 * positions (sequences, H, capacity/16, D, 16), values (sequences, H, capacity, D). In INT8 each key and value of a head has a
 * scale of its own. `memory` is the caller's, attention_cache_bytes long and 64-byte aligned; its contents need no beginning.
 */
typedef struct {
    size_t sequences, H, capacity, D;
    nn_precision precision;
    void *memory;
} attention_cache;
size_t attention_cache_bytes(const attention_cache *cache);
/* Keys and values (sequences·count, H·D) of the first `sequences` sequences to their positions start, start+1, … One position
 * after the other: what lies behind the last one stored is undefined. */
void attention_cache_store(const attention_cache *cache, const float *keys, const float *values, size_t sequences, size_t start,
                           size_t count);
typedef struct {
    size_t rows;
    const size_t *row_sequence;         /* (rows); NULL: row r reads sequence r */
    size_t count;                       /* positions that are there */
    const float *new_keys, *new_values; /* (rows,H·D), stored first, as the last of them; NULL: it is there already */
    const int32_t *mask;                /* (sequences, capacity), 0 hides a position; NULL: all are seen */
    const float *bias;                  /* added before the softmax, of head h and position s at bias[s·H + h]; NULL: none */
    float scale;
} cached_attention;
/* out (rows,H·D): each row's query q (rows,H·D) over its sequence. A row that sees nothing gets zeros. */
void attention_cache_attend(const attention_cache *cache, float *out, const float *q, const cached_attention *how,
                            limn_arena *arena);

/* ---------------------------------------------------------------- pictures */

typedef struct {
    size_t B, Y, X, C; /* input */
    size_t O;          /* output channels */
    size_t kernel, stride;
    size_t pad_top, pad_left, pad_bottom, pad_right; /* zeros; VQGAN's downsampling pads only bottom and right by one */
} convolution_shape;

size_t convolution_out_rows(const convolution_shape *shape);    /* Y′ */
size_t convolution_out_columns(const convolution_shape *shape); /* X′ */
/* in (B,Y,X,C), weight (O,kernel,kernel,C), bias (O) or NULL, residual (B,Y′,X′,O) or NULL is added, out (B,Y′,X′,O). The
 * padded picture must be at least as large as the kernel. 3×3 convolutions of stride 1 and channels in sixteens are done, where
 * pictures are large enough, by Winograd's F(4×4, 3×3) (arXiv 1509.09308), whose rounding errors are up to twice the direct
 * sum's. Speeds: bench-convolution. */
void convolution_forward(float *out, const float *in, const float *weight, const float *bias, const float *residual,
                         const convolution_shape *shape, limn_arena *arena);
void convolution_backward(float *din, float *dweight, float *dbias, const float *dout, const float *in, const float *weight,
                          const convolution_shape *shape, limn_arena *arena);
/* The convolutions' innermost loops exist for "avx512", "avx2" and "portable"; the widest that the CPU has is used. Chooses
 * another, for tests and measurements; false when the CPU lacks it or the name is none of these. */
bool convolution_choose_kernels(const char *name);
/* For inference: a convolution whose weights (as convolution_forward's) are laid out for this CPU once; shape->B is not looked
 * at. BF16: inputs and weights are rounded to bfloat16 where they are multiplied (for Winograd's method, after its transforms),
 * sums and all between layers are fp32; an odd number of channels stays fp32. INT8 is taken as BF16. NULL with an error without
 * memory. May be used by several threads at once. */
typedef struct packed_convolution packed_convolution;
packed_convolution *packed_convolution_create(const float *weight, const float *bias, const convolution_shape *shape,
                                              nn_precision precision, limn_error *error);
void packed_convolution_free(packed_convolution *self);
size_t packed_convolution_bytes(const packed_convolution *self);
typedef struct {
    float *out;            /* (B,Y′,X′,O) */
    const float *in;       /* (B,Y,X,C) */
    const float *residual; /* added, as out; NULL: nothing. May be out */
    bool upsampled;        /* in is (B,Y/2,X/2,C), and each pixel is read four times; Y and X are even */
    const float *terms;    /* of groupnorm_terms for `in`: the norm is taken as it is read; NULL: none */
    bool swish;            /* and the swish after the norm */
    double *moments;       /* (B,2,O) gets picture_moments of out; NULL: not wanted */
} convolution_pass;
void packed_convolution_forward(const packed_convolution *self, const convolution_pass *pass, size_t B, limn_arena *arena);
/* GroupNorm in two halves: moments (B,2,C) of (B,P,C), mean and sum of squared distances from it of each channel of each
 * picture; then terms (B,3,C), mean, scale and bias, with which the norm is (in − mean)·scale + bias. */
void picture_moments(double *moments, const float *in, size_t B, size_t P, size_t C, limn_arena *arena);
void groupnorm_terms(float *terms, const double *moments, const float *scale, const float *bias, size_t B, size_t P, size_t C,
                     size_t groups, float epsilon);
/* (B,Y,X,C) to (B,2Y,2X,C), every pixel four times. */
void upsample_nearest_forward(float *out, const float *in, size_t B, size_t Y, size_t X, size_t C);
void upsample_nearest_backward(float *din, const float *dout, size_t B, size_t Y, size_t X, size_t C);
/* (B,Y,X,C) to (B,⌊Y/2⌋,⌊X/2⌋,C): the largest of every 2×2 pixels; an odd last row or column is left out. */
void max_pool_forward(float *out, const float *in, size_t B, size_t Y, size_t X, size_t C);
/* din (B,Y,X,C): each gradient goes to the largest of its four, of equal ones to the first in raster order. */
void max_pool_backward(float *din, const float *dout, const float *in, size_t B, size_t Y, size_t X, size_t C);

/* ---------------------------------------------------------------- loss */

/* Mean over the N rows of −log softmax(logits)[label]. logits (N,V); labels (N), below V. When dlogits (N,V) is given it is
 * written: scale·(softmax − onehot)/N; it may be `logits`. losses (N) when given receives each row's. Returns the mean. */
double softmax_cross_entropy(float *dlogits, float *losses, const float *logits, const int32_t *labels, size_t N, size_t V,
                             float scale);

/* x = exp(scale·(x − largest)) for n logits of which none is above `largest`; returns their sum. */
double softmax_weights(float *x, float largest, float scale, size_t n);

/* ---------------------------------------------------------------- optimizers */

/* The factor that brings a gradient of this norm to at most max_norm: min(1, max_norm/norm); 1 when max_norm is 0. */
float clip_by_global_norm_scale(double norm, double max_norm);

/* Decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), as optax.adamw: p −= lr·(m̂/(√v̂+ε) + decay·p). Adafactor
 * (Shazeer and Stern, arXiv 1804.04235), as optax.adafactor. Distributed Shampoo (Anil and others, arXiv 2002.09018), as DALL·E
 * Mini's copy. */
typedef enum { OPTIMIZER_ADAMW, OPTIMIZER_ADAFACTOR, OPTIMIZER_SHAMPOO } optimizer_kind;

typedef struct {
    size_t min_dim_size_to_factor;    /* second moments are factored over the two largest axes when both have so many */
    double decay_rate;                /* of the second moment at step t: 1 − t^−decay_rate */
    uint64_t decay_offset;            /* steps that this t leaves out */
    bool multiply_by_parameter_scale; /* the learning rate is relative to the tensor's root mean square, at least 1e-3 */
    double clipping_threshold;        /* largest root mean square of a tensor's change before the learning rate; 0: none */
    double momentum;                  /* 0: none, and no memory for it */
} adafactor_options;

/* What gives the length of a tensor's change, while Shampoo gives the direction. */
typedef enum {
    GRAFT_SGD,
    GRAFT_ADAGRAD,
    GRAFT_RMSPROP,
    GRAFT_RMSPROP_NORMALIZED,
    GRAFT_SQRT_N,
    GRAFT_ADAGRAD_NORMALIZED
} graft_type;

/* Step numbers are the original's here: the first step has number 0. */
typedef struct {
    size_t block_size;                 /* tensors are cut into blocks of at most so many along each axis */
    graft_type graft;
    double diagonal_epsilon;           /* of the grafted method */
    double matrix_epsilon;             /* times the largest eigenvalue is added to the statistics before the root */
    double inverse_failure_threshold;  /* a root with a larger error is not taken: the one before stays */
    uint64_t start_preconditioning_step;      /* the grafted method alone moves the weights before it */
    uint64_t preconditioning_compute_steps;   /* roots are computed every so many steps */
    uint64_t statistics_compute_steps;
    bool best_effort_shape_interpretation;    /* neighbouring axes are merged while their product is … */
    size_t merge_small_dims_block_size;       /* … at most this */
    size_t skip_preconditioning_dim_size_gt;  /* a tensor with a longer axis moves by the grafted method */
    bool moving_average_for_momentum;         /* m = β1·m + (1−β1)·change; else + change */
    bool nesterov;
    size_t padded_size; /* The original fills statistics up to the model's largest block by ones on the diagonal, which the largest
                         * eigenvalue sees. 0: the largest of the tensors given; see optimizer_padded_size. */
} shampoo_options;

typedef struct {
    optimizer_kind kind;
    double beta1, beta2;                     /* AdamW and Shampoo */
    double epsilon;                          /* AdamW's; of Adafactor's squared gradient */
    double weight_decay;                     /* times the learning rate, but in Adafactor by itself */
    adafactor_options adafactor;
    shampoo_options shampoo;
} optimizer_options;
/* The defaults of optax, and for Shampoo those of DALL·E Mini's training script; the weight decay is 0. */
optimizer_options optimizer_defaults(optimizer_kind kind);

/* A tensor in training. AdamW may be given any piece of one as a vector; the others need whole ones. */
typedef struct {
    const char *name;      /* for messages; need not live longer than the call */
    size_t rank, shape[4]; /* rank 0: a scalar */
    float *value;
    const float *grad;     /* NULL: frozen. It is not moved, and nothing is kept for it */
    float *average;        /* an exponential moving average of the value, moved in the same pass; NULL: none */
    bool decays;           /* takes part in the weight decay */
} optimizer_tensor;

size_t optimizer_tensor_size(const optimizer_tensor *tensor); /* product of shape */
/* One for each parameter of an allocated set, in its order; all decay, none has an average. out is (set->count). */
void optimizer_tensors_of(optimizer_tensor *out, const parameters *set);

typedef struct optimizer optimizer;
/* NULL with an error without memory, or where options or shapes cannot be. Tensors and options are copied. */
optimizer *optimizer_create(const optimizer_options *options, const optimizer_tensor *tensors, size_t count, limn_error *error);
void optimizer_free(optimizer *self); /* NULL allowed */
/* Bytes that optimizer_create would take, without taking them: *state for what a checkpoint keeps, *scratch for the rest (which
 * depends on the number of threads). value, grad and average are looked at only for being NULL. */
int optimizer_bytes(const optimizer_options *options, const optimizer_tensor *tensors, size_t count, size_t *state,
                    size_t *scratch, limn_error *error);
/* What shampoo_options.padded_size 0 stands for with these tensors: to be set where they are divided among several optimizers. */
size_t optimizer_padded_size(const optimizer_options *options, const optimizer_tensor *tensors, size_t count);

/* What is kept from step to step: few large arrays, each laid out tensor by tensor in the order given. */
typedef struct {
    const char *name; /* "adamw_m" */
    size_t size;      /* floats; never 0 */
    float *data;
    bool elementwise; /* has a number for each of the tensors' numbers, in their order */
} optimizer_array;
size_t optimizer_arrays(const optimizer *self, const optimizer_array **out);
/* The arrays that optimizer_create would make, with `data` NULL, into `out`. An array's part of one tensor has the size that this
 * gives for that tensor alone; 0, and not among them, where nothing is kept there. */
enum { OPTIMIZER_ARRAYS_MAX = 5 };
int optimizer_describe(const optimizer_options *options, const optimizer_tensor *tensors, size_t count,
                       optimizer_array out[OPTIMIZER_ARRAYS_MAX], size_t *out_count, limn_error *error);
/* Zeroes what is kept one by one for the elements start … start+count−1 of a tensor: for weights that were put elsewhere. What is
 * kept of whole rows or blocks stays. */
void optimizer_forget(optimizer *self, size_t tensor, size_t start, size_t count);

typedef struct {
    double learning_rate;
    uint64_t step;        /* counts from 1 */
    float grad_scale;     /* gradients are multiplied by it first (clipping) */
    double average_decay; /* average = decay·average + (1−decay)·value */
    double *update_norms; /* of each tensor's change in this step, (count); NULL: not wanted */
} optimizer_pass;
/* One step. Fused and multi-threaded; allocates nothing; the same bits for any number of threads. A warning on the log where
 * some of Shampoo's roots fail. */
void optimizer_step(optimizer *self, const optimizer_pass *pass);

/* Seconds that Shampoo's parts took in the last step that did them. */
typedef struct {
    double statistics, roots, preconditioning, update;
    size_t root_count;
} shampoo_times;
void optimizer_shampoo_times(const optimizer *self, shampoo_times *out);

#endif
