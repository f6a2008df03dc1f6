/* The core of an attention branch: projections, attention, head scale, sub-LN's norm, output projection. */
#include "seq2seq/internal.h"

#include <math.h>
#include <string.h>

static size_t width(const pass *p) {
    return p->model->config.d_model;
}

float attention_scale(const pass *p, const attention_block *block) {
    const seq2seq_config *config = &p->model->config;
    return config->use_cosine_attention ? (float)(1 / config->tau_init) : 1 / sqrtf((float)(config->d_model / block->heads));
}

static attention_shape shape_of(const pass *p, const attention_block *block, const int32_t *key_mask, size_t site) {
    const seq2seq_config *config = &p->model->config;
    attention_shape shape = {
        .B = p->B,
        .T = block->queries,
        .S = block->keys,
        .H = block->heads,
        .D = config->d_model / block->heads,
        .scale = attention_scale(p, block),
        .causal = block->causal,
        .key_mask = block->causal ? NULL : key_mask, /* image tokens are all there; text is padded */
        .sinkhorn_iterations = block->sinkhorn_iterations,
    };
    /* The original has this dropout too, but forgets to switch it on. */
    if (dropout_wanted(p, config->attention_dropout)) {
        shape.dropout = (float)config->attention_dropout;
        dropout_key(p, site, &shape.seed, &shape.stream);
    }
    return shape;
}

void attention_take(const pass *p, const attention_block *block, attention_activations *acts, size_t N, size_t M) {
    size_t C = width(p);
    *acts = (attention_activations){0};
    acts->q = take_multiplied(p, N * C);
    acts->k = take_multiplied(p, M * C);
    acts->v = take_multiplied(p, M * C);
    acts->q_unit = acts->q;
    acts->k_unit = acts->k;
    if (p->model->config.use_cosine_attention) {
        acts->q_unit = take_multiplied(p, N * C);
        acts->k_unit = take_multiplied(p, M * C);
        acts->q_norms = step_take(p->memory, N * block->heads);
        acts->k_norms = step_take(p->memory, M * block->heads);
    }
    acts->mixed = take_multiplied(p, N * C);
    acts->scaled = block->head_scale != ABSENT ? take_multiplied(p, N * C) : acts->mixed;
    acts->normed = acts->scaled;
    if (block->middle.present) {
        acts->normed = take_multiplied(p, N * C);
        acts->normed_saved = step_take(p->memory, 2 * N);
    }
}

static void normalize_queries(const pass *p, const attention_block *block, attention_activations *acts, size_t N) {
    size_t H = block->heads;
    if (acts->q_norms != NULL) unit_forward(p, acts->q_unit, acts->q_norms, acts->q, N, H, width(p) / H);
}

static void normalize_keys(const pass *p, const attention_block *block, attention_activations *acts, size_t M) {
    size_t H = block->heads;
    if (acts->k_norms != NULL) unit_forward(p, acts->k_unit, acts->k_norms, acts->k, M, H, width(p) / H);
}

void attention_self_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers in, size_t N) {
    size_t C = width(p);
    acts->in = acts->keys_in = in;
    const dense_output outputs[] = {{&block->q, acts->q, C}, {&block->k, acts->k, C}, {&block->v, acts->v, C}};
    dense_forward_many(p, outputs, 3, in, N, C);
    normalize_queries(p, block, acts, N);
    normalize_keys(p, block, acts, N);
}

void attention_queries_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers in, size_t N) {
    acts->in = in;
    dense_forward(p, &block->q, acts->q, in, N, width(p), width(p));
    normalize_queries(p, block, acts, N);
}

void attention_keys_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers keys_in,
                            size_t M) {
    size_t C = width(p);
    acts->keys_in = keys_in;
    const dense_output outputs[] = {{&block->k, acts->k, C}, {&block->v, acts->v, C}};
    dense_forward_many(p, outputs, 2, keys_in, M, C);
    normalize_keys(p, block, acts, M);
}

void attention_finish_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers out, size_t N) {
    size_t C = width(p), H = block->heads;
    if (block->head_scale != ABSENT) head_scale_forward(p, acts->scaled, acts->mixed, block->head_scale, N, H, C / H);
    if (block->middle.present) norm_forward(p, &block->middle, acts->normed, acts->normed_saved, acts->scaled, N, C);
    dense_forward(p, &block->out, out, acts->normed, N, C, C);
}

/* The relative positions as attention wants them, or NULL. */
static float *take_bias(const pass *p, const attention_block *block) {
    return block->rel_bias == ABSENT ? NULL : step_take(p->memory, block->heads * block->queries * block->keys);
}

void attention_core_forward(const pass *p, const attention_block *block, attention_activations *acts, numbers out, numbers in,
                            numbers keys_in, const int32_t *key_mask, size_t site) {
    if (block->is_cross) {
        attention_queries_forward(p, block, acts, in, p->B * block->queries);
        attention_keys_forward(p, block, acts, keys_in, p->B * block->keys);
    } else {
        attention_self_forward(p, block, acts, in, p->B * block->queries);
    }
    size_t mark = step_mark(p->memory);
    attention_shape shape = shape_of(p, block, key_mask, site);
    float *bias = take_bias(p, block);
    if (bias != NULL)
        relative_bias_forward(bias, parameter_value(p->model, block->rel_bias), block->queries, block->keys, block->heads);
    shape.bias = bias;
    attention_forward(acts->mixed, acts->q_unit, acts->k_unit, acts->v, &shape, p->memory->arena);
    step_release(p->memory, mark);
    attention_finish_forward(p, block, acts, out, p->B * block->queries);
}

typedef struct {
    numbers dmixed, spare, dq, dk, dv, dq_unit, dk_unit;
    float *bias, *dbias;
} attention_gradients;

static void take_gradients(const pass *p, const attention_block *block, attention_gradients *g) {
    size_t C = width(p), N = p->B * block->queries, M = p->B * block->keys;
    bool cosine = p->model->config.use_cosine_attention;
    *g = (attention_gradients){0};
    g->dmixed = take_multiplied(p, N * C);
    if (block->middle.present || block->head_scale != ABSENT) g->spare = take_multiplied(p, N * C);
    g->dq = take_multiplied(p, N * C);
    g->dk = take_multiplied(p, M * C);
    g->dv = take_multiplied(p, M * C);
    g->dq_unit = cosine ? take_multiplied(p, N * C) : g->dq;
    g->dk_unit = cosine ? take_multiplied(p, M * C) : g->dk;
    g->bias = take_bias(p, block);
    g->dbias = take_bias(p, block);
}

void attention_core_backward(const pass *p, const attention_block *block, const attention_activations *acts, float *din,
                             float *dkeys_in, numbers dout, const int32_t *key_mask, size_t site) {
    size_t C = width(p), H = block->heads, N = p->B * block->queries, M = p->B * block->keys;
    size_t mark = step_mark(p->memory);
    attention_gradients g;
    take_gradients(p, block, &g);

    /* Two arrays take turns on the way back from the output to the mixed values. */
    numbers d = g.dmixed, other = g.spare;
    dense_backward(p, &block->out, d, dout, acts->normed, N, C, C, false);
    if (block->middle.present) {
        norm_backward(p, &block->middle, other, d, acts->scaled, acts->normed_saved, N, C, false);
        numbers turn = d;
        d = other;
        other = turn;
    }
    if (block->head_scale != ABSENT) {
        head_scale_backward(p, other, d, acts->mixed, block->head_scale, N, H, C / H);
        d = other;
    }

    attention_shape shape = shape_of(p, block, key_mask, site);
    if (g.bias != NULL) {
        relative_bias_forward(g.bias, parameter_value(p->model, block->rel_bias), block->queries, block->keys, H);
        memset(g.dbias, 0, H * block->queries * block->keys * sizeof(float));
        shape.bias = g.bias;
    }
    attention_backward(g.dq_unit, g.dk_unit, g.dv, g.dbias, d, acts->q_unit, acts->k_unit, acts->v, &shape, p->memory->arena);
    float *dtable = parameter_grad(p->model, block->rel_bias);
    if (dtable != NULL) relative_bias_backward(dtable, g.dbias, block->queries, block->keys, H);
    if (acts->q_norms != NULL) {
        unit_backward(p, g.dq, g.dq_unit, acts->q, acts->q_norms, N, H, C / H);
        unit_backward(p, g.dk, g.dk_unit, acts->k, acts->k_norms, M, H, C / H);
    }

    dense_backward(p, &block->q, numbers_f32(din), g.dq, acts->in, N, C, C, false);
    const numbers dkeys = numbers_f32(block->is_cross ? dkeys_in : din);
    dense_backward(p, &block->k, dkeys, g.dk, acts->keys_in, M, C, C, true);
    dense_backward(p, &block->v, dkeys, g.dv, acts->keys_in, M, C, C, true);
    step_release(p->memory, mark);
}

/* ---------------------------------------------------------------- plan */

/* Norms, scales and biases of queries and of keys. */
static void plan_rows(const pass *p, const attention_block *block) {
    rows_plan(p, p->B * block->queries, width(p));
    rows_plan(p, p->B * block->keys, width(p));
}

void attention_plan_forward(const pass *p, const attention_block *block) {
    size_t mark = step_mark(p->memory);
    plan_rows(p, block);
    attention_shape shape = shape_of(p, block, NULL, 0);
    take_bias(p, block);
    step_take_bytes(p->memory, attention_scratch_bytes(&shape, p->precision != PRECISION_FP32));
    step_release(p->memory, mark);
}

void attention_plan_backward(const pass *p, const attention_block *block) {
    size_t mark = step_mark(p->memory);
    attention_shape shape = shape_of(p, block, NULL, 0);
    attention_gradients g;
    take_gradients(p, block, &g);
    plan_rows(p, block);
    step_take_bytes(p->memory, attention_scratch_bytes(&shape, p->precision != PRECISION_FP32));
    step_release(p->memory, mark);
}
