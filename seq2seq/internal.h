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

typedef struct {
    attention_block self, cross;
    feed_forward_block feed_forward;
} layer;

typedef struct {
    bool is_decoder;
    size_t length; /* S or T */
    size_t vocabulary;
    float residual_gain;
    long embed_tokens, embed_positions;
    norm_slot embedding_norm, final_norm;
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
static inline float *parameter_grad(const seq2seq *model, long slot) {
    return slot == ABSENT ? NULL : model->parameters.list[slot].grad;
}

/* ---------------------------------------------------------------- memory of a step (memory.c) */

/* Where a step's arrays come from: an arena or, with arena NULL, only a count of what would be taken, so that the plan
 * (plan.c) takes through the same functions as the step. */
typedef struct {
    limn_arena *arena;
    size_t taken, peak; /* bytes, when counting */
} step_memory;

float *step_take(step_memory *memory, size_t floats);
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
    step_memory *memory;
    bool packed; /* use the packed weights; scratch for that comes from … */
    limn_arena *scratch;
} pass;

/* ---------------------------------------------------------------- pieces (pieces.c) */

/* The norm of either kind over N rows of C; saved is (N,2). */
void norm_forward(const pass *p, const norm_slot *norm, float *out, float *saved, const float *in, size_t N, size_t C);
void norm_backward(const pass *p, const norm_slot *norm, float *din, const float *dout, const float *in, const float *saved,
                   size_t N, size_t C, bool accumulate);
/* out (N,OC) = in (N,C)·weightᵀ + bias. */
void dense_forward(const pass *p, const dense_slot *dense, float *out, const float *in, size_t N, size_t C, size_t OC);
/* Several of the same input. */
typedef struct {
    const dense_slot *dense;
    float *out;
    size_t OC;
} dense_output;
void dense_forward_many(const pass *p, const dense_output *outputs, size_t count, const float *in, size_t N, size_t C);
void dense_backward(const pass *p, const dense_slot *dense, float *din, const float *dout, const float *in, size_t N, size_t C,
                    size_t OC, bool accumulate);
/* Dropout. `site` numbers the places within a step, so that each has random numbers of its own. */
bool dropout_wanted(const pass *p, double rate);
void dropout_key(const pass *p, size_t site, uint64_t *seed, uint64_t *stream);
void dropout_apply(const pass *p, float *x, double rate, size_t site, size_t n); /* in place; does nothing when not wanted */
void dropout_apply_backward(const pass *p, float *din, const float *dout, double rate, size_t site, size_t n);
/* out (N,H,D) = in·scale[h], and its backward: din written, dscale (H) added to. */
void head_scale_forward(float *out, const float *in, const float *scale, size_t N, size_t H, size_t D);
void head_scale_backward(float *din, float *dscale, const float *dout, const float *in, const float *scale, size_t N, size_t H,
                         size_t D);
/* rel_bias' table (T, S·H), heads innermost, to what attention adds (H,T,S), and gradients the other way, added. */
void relative_bias_forward(float *out, const float *table, size_t T, size_t S, size_t H);
void relative_bias_backward(float *dtable, const float *dout, size_t T, size_t S, size_t H);

/* ---------------------------------------------------------------- attention (attention_block.c) */

/* What the forward of an attention core leaves for its backward. N rows of queries, M of keys. Arrays that a configuration
 * does not need are the same as the ones they would be made from. */
typedef struct {
    const float *in, *keys_in;    /* (N,C), (M,C): what q, and what k and v are made from */
    float *q, *k, *v;             /* (N,C), (M,C), (M,C) */
    float *q_unit, *k_unit;       /* cosine attention: normalised */
    float *q_norms, *k_norms;     /* cosine attention: (N,H), (M,H) */
    float *weights;               /* attention_weights_size; NULL when no backward follows */
    float *mixed;                 /* (N,C) weighted values */
    float *scaled;                /* (N,C) mixed·head_scale */
    float *normed, *normed_saved; /* (N,C) after the middle norm */
} attention_activations;

/* All but the weights. */
void attention_take(const pass *p, const attention_block *block, attention_activations *acts, size_t N, size_t M);
void attention_take_weights(const pass *p, const attention_block *block, attention_activations *acts);
/* The core is these around the mixing of values; decoding with a cache mixes in its own way. Queries, keys and values of the
 * same rows, or queries and keys (with values) of different ones: */
void attention_self_forward(const pass *p, const attention_block *block, attention_activations *acts, const float *in,
                            size_t N);
void attention_queries_forward(const pass *p, const attention_block *block, attention_activations *acts, const float *in,
                               size_t N);
void attention_keys_forward(const pass *p, const attention_block *block, attention_activations *acts, const float *keys_in,
                            size_t M);
void attention_finish_forward(const pass *p, const attention_block *block, attention_activations *acts, float *out, size_t N);
/* 1/sqrt(D), or 1/tau. */
float attention_scale(const pass *p, const attention_block *block);
/* out (N,C). */
void attention_core_forward(const pass *p, const attention_block *block, attention_activations *acts, float *out,
                            const float *in, const float *keys_in, const int32_t *key_mask, size_t site);
/* din (N,C) is written; dkeys_in (M,C) is added to for cross-attention, else NULL. */
void attention_core_backward(const pass *p, const attention_block *block, const attention_activations *acts, float *din,
                             float *dkeys_in, const float *dout, const int32_t *key_mask, size_t site);
/* Take and release what a forward and a backward need for a moment. */
void attention_plan_forward(const pass *p, const attention_block *block);
void attention_plan_backward(const pass *p, const attention_block *block);

/* ---------------------------------------------------------------- feed-forward (feed_forward_block.c) */

typedef struct {
    const float *in;              /* (N,C) */
    float *a, *b;                 /* (N,F); b with GLU only */
    float *product;               /* (N,F) f(a)·b, or f(a) */
    float *normed, *normed_saved; /* (N,F) after the middle norm and dropout */
} feed_forward_activations;

void feed_forward_take(const pass *p, const feed_forward_block *block, feed_forward_activations *acts, size_t N);
void feed_forward_core_forward(const pass *p, const feed_forward_block *block, feed_forward_activations *acts, float *out,
                               const float *in, size_t N, size_t site);
void feed_forward_core_backward(const pass *p, const feed_forward_block *block, const feed_forward_activations *acts,
                                float *din, const float *dout, size_t N, size_t site);
void feed_forward_plan_backward(const pass *p, const feed_forward_block *block, size_t N);

/* ---------------------------------------------------------------- layers (layer.c) */

/* What a residual branch keeps around its core. */
typedef struct {
    const float *in;          /* (N,C) */
    float *normed, *saved;    /* (N,C) after the `before` norm */
    float *core, *core_saved; /* (N,C) the core's output, kept only where an `after` norm follows it */
    float *sum, *sum_saved;   /* (N,C) before an `after_residual` norm */
    float *out;               /* (N,C) */
} branch_activations;

/* `out` NULL: the branch takes an array of its own. */
void branch_take(const pass *p, const branch_norms *norms, branch_activations *acts, size_t N, float *out);
/* The `before` norm; returns what the core reads. */
const float *branch_enter(const pass *p, const branch_norms *norms, branch_activations *acts, const float *in, size_t N);
/* Where the core writes. */
float *branch_core(const branch_norms *norms, const branch_activations *acts);
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
void layer_forward(const pass *p, const stack *s, size_t index, layer_activations *acts, const float *in,
                   const float *encoder_hidden, const int32_t *key_mask);
/* dx (N,C) is the gradient of the layer's output on entry and of its input on return; dencoder_hidden is added to. */
void layer_backward(const pass *p, const stack *s, size_t index, const layer_activations *acts, float *dx,
                    float *dencoder_hidden, const int32_t *key_mask);
void layer_plan_forward(const pass *p, const stack *s, const layer *l);
void layer_plan_backward(const pass *p, const stack *s, const layer *l);

/* ---------------------------------------------------------------- stacks (stack.c) */

typedef struct {
    float *embedded, *embedded_saved; /* (N,C) tokens and positions before their norm */
    float **inputs;                   /* layer_count + 1 arrays (N,C): what enters each layer, and what leaves the last */
    layer_activations *layers;        /* layer_count, KEEP_ALL only */
    float *final_saved;
    float *hidden; /* (N,C) the stack's output */
} stack_activations;

/* Embeds p->B sequences of `count` tokens at positions start …; embedded, out (B·count,C), saved (B·count,2). No dropout. */
void embed_rows(const pass *p, const stack *s, float *embedded, float *out, float *saved, const int32_t *ids, size_t start,
                size_t count);
void stack_take(const pass *p, const stack *s, stack_activations *acts);
/* From ids (B,length) to acts->hidden. */
void stack_forward(const pass *p, const stack *s, stack_activations *acts, const int32_t *ids, const float *encoder_hidden,
                   const int32_t *key_mask);
/* dhidden (N,C) is overwritten; dencoder_hidden (B·S,C; decoder only) is added to. */
void stack_backward(const pass *p, const stack *s, const stack_activations *acts, float *dhidden, const int32_t *ids,
                    const float *encoder_hidden, float *dencoder_hidden, const int32_t *key_mask);
void stack_plan_forward(const pass *p, const stack *s);
void stack_plan_backward(const pass *p, const stack *s);

/* ---------------------------------------------------------------- step (step.c) */

/* Rows of logits that are made at a time. */
size_t logits_slice_rows(const seq2seq_config *config, size_t N);

#endif
