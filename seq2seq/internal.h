/* What the files of seq2seq/ share.
 *
 * The model is two stacks (encoder, decoder) of layers; a layer is two or three residual branches: self-attention,
 * cross-attention (decoder), feed-forward. Every branch computes
 *     out = after_residual(gain·in + dropout(after(core(before(in)))))
 * where each norm may be missing; which are there is what `ln_positions` decides (describe_layer in model.c). */
#ifndef LIMN_SEQ2SEQ_INTERNAL_H
#define LIMN_SEQ2SEQ_INTERNAL_H

#include "seq2seq/seq2seq.h"

#define NORM_EPSILON 1e-5f
#define COSINE_EPSILON 1e-8f

enum { ABSENT = -1 };

/* ---------------------------------------------------------------- the model (model.c) */

/* Places in the list of parameters; ABSENT where the configuration has none. */
typedef struct {
    bool present; /* an RMSNorm without scale has no parameters and is still a norm */
    long scale, bias;
} norm_slot;
typedef struct {
    long weight, bias;
} dense_slot;

typedef struct {
    norm_slot before, after, after_residual;
} branch_norms;

typedef struct {
    branch_norms norms;
    norm_slot middle; /* sub-LN's, before out_proj */
    dense_slot q, k, v, out;
    long head_scale, rel_bias;
    bool is_cross, causal;
    size_t heads, queries, keys; /* queries and keys: full lengths, T or S */
    size_t sinkhorn_iterations;
} attention_block;

typedef struct {
    branch_norms norms;
    norm_slot middle; /* before the last product */
    bool glu;
    dense_slot in, gate, out; /* gate only with glu: f(in)·gate */
    size_t F;
} feed_forward_block;

/* Neighbours in the list of parameters, whose gradients are complete at the same moment. */
typedef struct {
    size_t first, count;
} parameter_range;

typedef struct {
    attention_block self, cross;
    feed_forward_block feed_forward;
    parameter_range parameters;
} layer;

typedef struct {
    bool is_decoder;
    size_t length; /* S or T */
    size_t vocabulary;
    float residual_gain;
    long embed_tokens, embed_positions;
    norm_slot embedding_norm, final_norm;
    parameter_range embedding_parameters, final_parameters;
    size_t layer_count;
    layer *layers;
} stack;

/* What the original calls a parameter's last part, and the factor on its initial deviation. */
typedef enum { LEAF_KERNEL, LEAF_EMBEDDING, LEAF_SCALE, LEAF_BIAS, LEAF_HEAD_SCALE } leaf_kind;
typedef struct {
    leaf_kind kind;
    double gain;
} parameter_note;

struct seq2seq {
    seq2seq_config config;
    parameters parameters;
    parameter_note *notes; /* one for each parameter */
    size_t note_capacity;
    stack encoder, decoder;
    long lm_head;
    size_t own_count; /* parameters of the model itself; behind them in the list are the adapters' (adapters.c) */
    long *adapters;   /* (own_count) of each kernel: where its adapter's A stands, B behind it; ABSENT. NULL: there are none */
    float adapter_scale;
    tensor_file *mapped; /* holds the weights when they are mapped, else NULL */
    /* prepare.c: one for each parameter, NULL where it is not packed; NULL before seq2seq_prepare */
    const packed_linear **packed;
    limn_arena *packed_storage;
    nn_precision precision;
};

void seq2seq_forget_packed(seq2seq *model);
int seq2seq_config_copy(seq2seq_config *out, const seq2seq_config *config, limn_error *error);
static inline const float *parameter_value(const seq2seq *model, long slot) {
    return slot == ABSENT ? NULL : model->parameters.list[slot].value;
}
static inline numbers parameter_numbers(const seq2seq *model, long slot) {
    return numbers_f32((float *)(uintptr_t)parameter_value(model, slot)); /* only read */
}
static inline float *parameter_grad(const seq2seq *model, long slot) {
    return slot == ABSENT ? NULL : model->parameters.list[slot].grad;
}

/* ---------------------------------------------------------------- adapters (adapters.c) */

/* Adds A (r,C) and B (OC,r) for every kernel that is targeted; before the parameters are allocated. */
int adapters_describe(seq2seq *model, const seq2seq_lora *lora, limn_error *error);
void adapters_initialise(seq2seq *model, uint64_t seed);
/* Adds the folder's adapters to the model's own weights, which must be writable. */
int adapters_merge_folder(seq2seq *model, const char *directory, limn_error *error);
/* What they take of a step's arena. */
size_t adapter_floats(const seq2seq *model, size_t B, nn_precision precision);
int adapters_load(seq2seq *model, const char *directory, limn_error *error);
/* Parameters as a safetensors file of that name in the folder (load_save.c). */
int save_weights(const parameter *list, size_t count, const char *directory, const char *name, limn_error *error);
int adapters_save(const seq2seq *model, const char *directory, limn_error *error);

/* ---------------------------------------------------------------- memory of a step (memory.c) */

/* Where a step's arrays come from: an arena or, with arena NULL, only a count of what would be taken, so that the plan
 * (plan.c) takes through the same functions as the step. */
typedef struct {
    limn_arena *arena;
    size_t taken, peak; /* bytes, when counting */
} step_memory;

float *step_take(step_memory *memory, size_t floats);
/* In bfloat16 when `half`. */
numbers step_take_numbers(step_memory *memory, size_t count, bool half);
void *step_take_bytes(step_memory *memory, size_t bytes);
size_t step_mark(const step_memory *memory);
void step_release(step_memory *memory, size_t mark);

/* How much of a forward pass stays: nothing (evaluation), each layer's input (gradient checkpointing: the backward runs the
 * layer again), or all that the backward needs. */
typedef enum { KEEP_NOTHING, KEEP_INPUTS, KEEP_ALL } keep_kind;

/* What one pass over a batch knows. */
typedef struct {
    const seq2seq *model;
    const seq2seq_step_options *options; /* NULL: no dropout */
    size_t B;
    keep_kind keep;
    bool writes;            /* the gradients of kernels, instead of adding to them */
    nn_precision precision; /* of the products; in BF16 what is multiplied is also kept in bfloat16 */
    step_memory *memory;
    bool few_rows; /* decoding: products are of few rows */
    bool packed;   /* use the packed weights; scratch for that comes from … */
    limn_arena *scratch;
} pass;

/* An array of what is multiplied: bfloat16 in mixed precision. */
numbers take_multiplied(const pass *p, size_t count);

/* ---------------------------------------------------------------- blocks of rows (rows.c) */

/* What lies between two products is done for some rows at a time, as float32, while they are in a core's cache; only what the
 * products and the backward read is written to memory. Rows are divided into parts by their number alone, so that sums over
 * rows are the same for any number of threads. */
enum { MOST_PARTS = 64, MOST_ROOMS = 7 };
typedef struct {
    size_t N, width;
    size_t parts, part_rows; /* of all N rows */
    size_t block_rows;       /* that a room holds */
    float *rooms;            /* MOST_ROOMS for each thread, (block_rows,width) */
    float *sums;             /* (parts, 2, width): dscale and dbias; NULL in rows_each */
} row_blocks;

row_blocks rows_take(const pass *p, size_t N, size_t width);
void rows_plan(const pass *p, size_t N, size_t width); /* takes and releases the most of it */
/* Calls `work` for all blocks: rows [n, n + count). */
typedef struct {
    const row_blocks *blocks;
    size_t n, count;
    float *rooms;          /* this thread's */
    float *dscale, *dbias; /* (width) this part's sums */
} row_block;
typedef void row_work(const row_block *block, const void *context);
void rows_do(const row_blocks *blocks, row_work *work, const void *context);
/* The same where nothing is summed over the rows: takes what it needs, and releases it. */
void rows_each(const pass *p, size_t N, size_t width, row_work *work, const void *context);
/* Adds the parts' sums to dscale and dbias (width); each may be NULL. */
void rows_add_sums(const row_blocks *blocks, float *dscale, float *dbias);
/* The block's rows of an array (N,width) as float32: where they are, or expanded into this room. */
float *rows_read(const row_block *block, numbers from, size_t room);
/* Where the block's rows of an array are to be written as float32, and what to call when they are. */
float *rows_write(const row_block *block, numbers to, size_t room);
void rows_written(const row_block *block, numbers to, size_t room);
/* A room by itself. */
float *rows_room(const row_block *block, size_t room);

/* ---------------------------------------------------------------- pieces (pieces.c) */

/* The norm of either kind over N rows of C; saved is (N,2). */
void norm_forward(const pass *p, const norm_slot *norm, numbers out, float *saved, numbers in, size_t N, size_t C);
void norm_backward(const pass *p, const norm_slot *norm, numbers din, numbers dout, numbers in, const float *saved, size_t N,
                   size_t C, bool accumulate);
/* The same of a block. What scale and bias get goes to the block's sums, for rows_add_sums. */
void norm_block_forward(const pass *p, const norm_slot *norm, const row_block *block, float *out, float *saved,
                        const float *in);
void norm_block_backward(const pass *p, const norm_slot *norm, const row_block *block, float *din, const float *dout,
                         const float *in, const float *saved, bool accumulate);
void norm_add_sums(const pass *p, const norm_slot *norm, const row_blocks *blocks);
/* out (N,OC) = in (N,C)·weightᵀ + bias. */
void dense_forward(const pass *p, const dense_slot *dense, numbers out, numbers in, size_t N, size_t C, size_t OC);
/* Several of the same input. */
typedef struct {
    const dense_slot *dense;
    numbers out;
    size_t OC;
} dense_output;
void dense_forward_many(const pass *p, const dense_output *outputs, size_t count, numbers in, size_t N, size_t C);
/* din is float32 when it is added to. */
void dense_backward(const pass *p, const dense_slot *dense, numbers din, numbers dout, numbers in, size_t N, size_t C,
                    size_t OC, bool accumulate);
/* A kernel's weights (OC,C) in products: with its adapter, W + scale·B·A in memory that the caller releases. */
numbers dense_weight(const pass *p, const dense_slot *dense, size_t C, size_t OC);
/* Floats that few_rows take for a moment of each row; 0 without adapters. */
size_t adapter_rank(const seq2seq *model);
/* Tells whoever waits for them that these gradients are complete. */
void gradients_ready(const pass *p, parameter_range range);
/* Dropout. `site` numbers the places within a step, so that each has random numbers of its own. */
bool dropout_wanted(const pass *p, double rate);
void dropout_key(const pass *p, size_t site, uint64_t *seed, uint64_t *stream);
/* Of a block of rows, in place; its own backward. Does nothing when not wanted. */
void dropout_block(const pass *p, const row_block *block, float *x, double rate, size_t site);
void dropout_rows(const pass *p, float *x, double rate, size_t site, size_t N, size_t C); /* of all rows */
/* out (N,H,D) = in·scale[h], and its backward: din written, dscale (H) added to. */
void head_scale_forward(const pass *p, numbers out, numbers in, long scale, size_t N, size_t H, size_t D);
void head_scale_backward(const pass *p, numbers din, numbers dout, numbers in, long scale, size_t N, size_t H, size_t D);
/* x/(‖x‖+ε) of each head's part of a row; saved is (N,H). */
void unit_forward(const pass *p, numbers out, float *saved, numbers in, size_t N, size_t H, size_t D);
void unit_backward(const pass *p, numbers din, numbers dout, numbers in, const float *saved, size_t N, size_t H, size_t D);
/* rel_bias' table (T, S·H), heads innermost, to what attention adds (H,T,S), and gradients the other way, added. */
void relative_bias_forward(float *out, const float *table, size_t T, size_t S, size_t H);
void relative_bias_backward(float *dtable, const float *dout, size_t T, size_t S, size_t H);

/* ---------------------------------------------------------------- attention (attention_block.c) */

/* What the forward of an attention core leaves for its backward. N rows of queries, M of keys. Arrays that a configuration
 * does not need are the same as the ones they would be made from. */
typedef struct {
    numbers in, keys_in;      /* (N,C), (M,C): what q, and what k and v are made from */
    numbers q, k, v;          /* (N,C), (M,C), (M,C) */
    numbers q_unit, k_unit;   /* cosine attention: normalised */
    float *q_norms, *k_norms; /* cosine attention: (N,H), (M,H) */
    numbers mixed;            /* (N,C) weighted values */
    numbers scaled;           /* (N,C) mixed·head_scale */
    numbers normed;           /* (N,C) after the middle norm */
    float *normed_saved;
} attention_activations;

void attention_take(const pass *p, const attention_block *block, attention_activations *acts, size_t N, size_t M);
/* The core is these around the mixing of values; decoding with a cache mixes in its own way. Queries, keys and values of the
 * same rows, or queries and keys (with values) of different ones: */
void attention_self_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers in, size_t N);
void attention_queries_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers in, size_t N);
void attention_keys_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers keys_in,
                            size_t M);
void attention_finish_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers out, size_t N);
/* 1/sqrt(D), or 1/tau. */
float attention_scale(const pass *p, const attention_block *block);
/* out (N,C). */
void attention_core_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers out, numbers in,
                            numbers keys_in, const int32_t *key_mask, size_t site);
/* din (N,C) is written; dkeys_in (M,C) is added to for cross-attention, else NULL. */
void attention_core_backward(const pass *p, const attention_block *block, const attention_activations *acts, float *din,
                             float *dkeys_in, numbers dout, const int32_t *key_mask, size_t site);
/* Take and release what a forward and a backward need for a moment. */
void attention_plan_forward(const pass *p, const attention_block *block);
void attention_plan_backward(const pass *p, const attention_block *block);

/* ---------------------------------------------------------------- feed-forward (feed_forward_block.c) */

typedef struct {
    numbers in;     /* (N,C) */
    numbers a, b;   /* (N,F); b with GLU only */
    numbers normed; /* (N,F) f(a)·b, or f(a), after the middle norm and dropout */
    float *normed_saved;
} feed_forward_activations;

void feed_forward_take(const pass *p, const feed_forward_block *block, feed_forward_activations *acts, size_t N);
void feed_forward_core_forward(const pass *p, const feed_forward_block *block, feed_forward_activations *acts, numbers out,
                               numbers in, size_t N, size_t site);
/* din (N,C) is written. */
void feed_forward_core_backward(const pass *p, const feed_forward_block *block, const feed_forward_activations *acts,
                                float *din, numbers dout, size_t N, size_t site);
void feed_forward_plan_forward(const pass *p, const feed_forward_block *block, size_t N);
void feed_forward_plan_backward(const pass *p, const feed_forward_block *block, size_t N);

/* ---------------------------------------------------------------- layers (layer.c) */

/* What a residual branch keeps around its core. */
typedef struct {
    float *in;      /* (N,C) */
    numbers normed; /* (N,C) after the `before` norm */
    float *saved;
    numbers core; /* (N,C) the core's output, kept only where an `after` norm follows it */
    float *core_saved;
    float *sum, *sum_saved; /* (N,C) before an `after_residual` norm */
    float *out;             /* (N,C) */
} branch_activations;

/* `out` NULL: the branch takes an array of its own. */
void branch_take(const pass *p, const branch_norms *norms, branch_activations *acts, size_t N, float *out);
/* The `before` norm; returns what the core reads. */
numbers branch_enter(const pass *p, const branch_norms *norms, branch_activations *acts, float *in, size_t N);
/* Where the core writes. */
numbers branch_core(const branch_norms *norms, const branch_activations *acts);
/* From the core's output to acts->out. */
void branch_leave(const pass *p, const stack *s, const branch_norms *norms, branch_activations *acts, size_t site, size_t N);

typedef struct {
    branch_activations self_branch, cross_branch, feed_forward_branch;
    attention_activations self, cross;
    feed_forward_activations feed_forward;
} layer_activations;

/* `out` (N,C) is where the layer's result goes. */
void layer_take(const pass *p, const stack *s, const layer *l, layer_activations *acts, float *out);
/* encoder_hidden (B·S,C) for a decoder's layer; key_mask (B,S) is the text's. */
void layer_forward(const pass *p, const stack *s, size_t index, layer_activations *acts, float *in, numbers encoder_hidden,
                   const int32_t *key_mask);
/* dx (N,C) is the gradient of the layer's output on entry and of its input on return; dencoder_hidden is added to. */
void layer_backward(const pass *p, const stack *s, size_t index, const layer_activations *acts, float *dx,
                    float *dencoder_hidden, const int32_t *key_mask);
/* What a layer's forward takes for a moment, and its backward. */
void layer_plan_forward(const pass *p, const stack *s, const layer *l);
void layer_plan_backward(const pass *p, const stack *s, const layer *l);

/* ---------------------------------------------------------------- stacks (stack.c) */

typedef struct {
    float *embedded, *embedded_saved; /* (N,C) tokens and positions before their norm */
    float **inputs;                   /* layer_count + 1 arrays (N,C): what enters each layer, and what leaves the last */
    layer_activations *layers;        /* layer_count, KEEP_ALL only */
    float *final_saved;
    numbers hidden; /* (N,C) the stack's output: what is multiplied, or where there is no final norm the last layer's */
} stack_activations;

/* Embeds p->B sequences of `count` tokens at positions start …; embedded, out (B·count,C), saved (B·count,2). No dropout. */
void embed_rows(const pass *p, const stack *s, float *embedded, float *out, float *saved, const int32_t *ids, size_t start,
                size_t count);
void stack_take(const pass *p, const stack *s, stack_activations *acts);
/* From ids (B,length) to acts->hidden. */
void stack_forward(const pass *p, const stack *s, stack_activations *acts, const int32_t *ids, numbers encoder_hidden,
                   const int32_t *key_mask);
/* dhidden (N,C) is overwritten; dencoder_hidden (B·S,C; decoder only) is added to. */
void stack_backward(const pass *p, const stack *s, const stack_activations *acts, float *dhidden, const int32_t *ids,
                    numbers encoder_hidden, float *dencoder_hidden, const int32_t *key_mask);
void stack_plan_forward(const pass *p, const stack *s);
void stack_plan_backward(const pass *p, const stack *s);

/* ---------------------------------------------------------------- step (step.c) */

/* Rows of logits that are made at a time. */
size_t logits_slice_rows(const seq2seq_config *config, size_t N);

#endif
