/* The core of an attention branch: projections, attention, head scale, sub-LN's norm, output projection. */
#include "seq2seq/internal.h"

#include <math.h>
#include <omp.h>
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
    acts->q = step_take(p->memory, N * C);
    acts->k = step_take(p->memory, M * C);
    acts->v = step_take(p->memory, M * C);
    acts->q_unit = acts->q;
    acts->k_unit = acts->k;
    if (p->model->config.use_cosine_attention) {
        acts->q_unit = step_take(p->memory, N * C);
        acts->k_unit = step_take(p->memory, M * C);
        acts->q_norms = step_take(p->memory, N * block->heads);
        acts->k_norms = step_take(p->memory, M * block->heads);
    }
    acts->mixed = step_take(p->memory, N * C);
    acts->scaled = block->head_scale != ABSENT ? step_take(p->memory, N * C) : acts->mixed;
    acts->normed = acts->scaled;
    if (block->middle.present) {
        acts->normed = step_take(p->memory, N * C);
        acts->normed_saved = step_take(p->memory, 2 * N);
    }
}

void attention_take_weights(const pass *p, const attention_block *block, attention_activations *acts) {
    attention_shape shape = shape_of(p, block, NULL, 0);
    acts->weights = p->keep == KEEP_NOTHING ? NULL : step_take(p->memory, attention_weights_size(&shape));
}

static void normalize_queries(const pass *p, const attention_block *block, attention_activations *acts, size_t N) {
    size_t H = block->heads;
    if (acts->q_norms != NULL) l2_normalize_forward(acts->q_unit, acts->q_norms, acts->q, N * H, width(p) / H, COSINE_EPSILON);
}

static void normalize_keys(const pass *p, const attention_block *block, attention_activations *acts, size_t M) {
    size_t H = block->heads;
    if (acts->k_norms != NULL) l2_normalize_forward(acts->k_unit, acts->k_norms, acts->k, M * H, width(p) / H, COSINE_EPSILON);
}

void attention_self_forward(const pass *p, const attention_block *block, attention_activations *acts, const float *in,
                            size_t N) {
    size_t C = width(p);
    acts->in = acts->keys_in = in;
    const dense_output outputs[] = {{&block->q, acts->q, C}, {&block->k, acts->k, C}, {&block->v, acts->v, C}};
    dense_forward_many(p, outputs, 3, in, N, C);
    normalize_queries(p, block, acts, N);
    normalize_keys(p, block, acts, N);
}

void attention_queries_forward(const pass *p, const attention_block *block, attention_activations *acts, const float *in,
                               size_t N) {
    acts->in = in;
    dense_forward(p, &block->q, acts->q, in, N, width(p), width(p));
    normalize_queries(p, block, acts, N);
}

void attention_keys_forward(const pass *p, const attention_block *block, attention_activations *acts, const float *keys_in,
                            size_t M) {
    size_t C = width(p);
    acts->keys_in = keys_in;
    const dense_output outputs[] = {{&block->k, acts->k, C}, {&block->v, acts->v, C}};
    dense_forward_many(p, outputs, 2, keys_in, M, C);
    normalize_keys(p, block, acts, M);
}

void attention_finish_forward(const pass *p, const attention_block *block, attention_activations *acts, float *out, size_t N) {
    size_t C = width(p), H = block->heads;
    if (block->head_scale != ABSENT)
        head_scale_forward(acts->scaled, acts->mixed, parameter_value(p->model, block->head_scale), N, H, C / H);
    if (block->middle.present) norm_forward(p, &block->middle, acts->normed, acts->normed_saved, acts->scaled, N, C);
    dense_forward(p, &block->out, out, acts->normed, N, C, C);
}

/* The relative positions as attention wants them, or NULL. */
static float *take_bias(const pass *p, const attention_block *block) {
    return block->rel_bias == ABSENT ? NULL : step_take(p->memory, block->heads * block->queries * block->keys);
}

void attention_core_forward(const pass *p, const attention_block *block, attention_activations *acts, float *out,
                            const float *in, const float *keys_in, const int32_t *key_mask, size_t site) {
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
    attention_forward(acts->mixed, acts->weights, acts->q_unit, acts->k_unit, acts->v, &shape, p->memory->arena);
    step_release(p->memory, mark);
    attention_finish_forward(p, block, acts, out, p->B * block->queries);
}

typedef struct {
    float *dmixed, *spare, *dq, *dk, *dv, *dq_unit, *dk_unit, *bias, *dbias;
} attention_gradients;

static void take_gradients(const pass *p, const attention_block *block, attention_gradients *g) {
    size_t C = width(p), N = p->B * block->queries, M = p->B * block->keys;
    bool cosine = p->model->config.use_cosine_attention;
    *g = (attention_gradients){0};
    g->dmixed = step_take(p->memory, N * C);
    if (block->middle.present || block->head_scale != ABSENT) g->spare = step_take(p->memory, N * C);
    g->dq = step_take(p->memory, N * C);
    g->dk = step_take(p->memory, M * C);
    g->dv = step_take(p->memory, M * C);
    g->dq_unit = cosine ? step_take(p->memory, N * C) : g->dq;
    g->dk_unit = cosine ? step_take(p->memory, M * C) : g->dk;
    g->bias = take_bias(p, block);
    g->dbias = take_bias(p, block);
}

void attention_core_backward(const pass *p, const attention_block *block, const attention_activations *acts, float *din,
                             float *dkeys_in, const float *dout, const int32_t *key_mask, size_t site) {
    size_t C = width(p), H = block->heads, N = p->B * block->queries, M = p->B * block->keys;
    size_t mark = step_mark(p->memory);
    attention_gradients g;
    take_gradients(p, block, &g);

    /* Two arrays take turns on the way back from the output to the mixed values. */
    float *d = g.dmixed, *other = g.spare;
    dense_backward(p, &block->out, d, dout, acts->normed, N, C, C, false);
    if (block->middle.present) {
        norm_backward(p, &block->middle, other, d, acts->scaled, acts->normed_saved, N, C, false);
        float *turn = d;
        d = other;
        other = turn;
    }
    if (block->head_scale != ABSENT) {
        head_scale_backward(other, parameter_grad(p->model, block->head_scale), d, acts->mixed,
                            parameter_value(p->model, block->head_scale), N, H, C / H);
        d = other;
    }

    attention_shape shape = shape_of(p, block, key_mask, site);
    if (g.bias != NULL) {
        relative_bias_forward(g.bias, parameter_value(p->model, block->rel_bias), block->queries, block->keys, H);
        memset(g.dbias, 0, H * block->queries * block->keys * sizeof(float));
        shape.bias = g.bias;
    }
    attention_backward(g.dq_unit, g.dk_unit, g.dv, g.dbias, d, acts->weights, acts->q_unit, acts->k_unit, acts->v, &shape,
                       p->memory->arena);
    if (g.dbias != NULL)
        relative_bias_backward(parameter_grad(p->model, block->rel_bias), g.dbias, block->queries, block->keys, H);
    if (acts->q_norms != NULL) {
        l2_normalize_backward(g.dq, g.dq_unit, acts->q, acts->q_norms, N * H, C / H, COSINE_EPSILON);
        l2_normalize_backward(g.dk, g.dk_unit, acts->k, acts->k_norms, M * H, C / H, COSINE_EPSILON);
    }

    dense_backward(p, &block->q, din, g.dq, acts->in, N, C, C, false);
    float *dkeys = block->is_cross ? dkeys_in : din;
    dense_backward(p, &block->k, dkeys, g.dk, acts->keys_in, M, C, C, true);
    dense_backward(p, &block->v, dkeys, g.dv, acts->keys_in, M, C, C, true);
    step_release(p->memory, mark);
}

/* ---------------------------------------------------------------- plan */

/* What nn's attention takes of the arena for a moment: a map of the dropout and, for each thread, two blocks of at most 64
 * queries (with Sinkhorn all queries, and a map an iteration where nobody keeps them). */
static size_t scratch_floats(const pass *p, const attention_shape *shape) {
    size_t block = shape->T, maps = 2;
    if (shape->sinkhorn_iterations == 1 && block > 64) block = 64;
    if (p->keep == KEEP_NOTHING && shape->sinkhorn_iterations > 1) maps = 1 + shape->sinkhorn_iterations;
    size_t dropped = shape->dropout > 0 ? shape->T * shape->S + 16 : 0; /* 16: the arena's rounding */
    return dropped + (size_t)omp_get_max_threads() * (maps * block + 2) * shape->S;
}

void attention_plan_forward(const pass *p, const attention_block *block) {
    size_t mark = step_mark(p->memory);
    attention_shape shape = shape_of(p, block, NULL, 0);
    take_bias(p, block);
    step_take(p->memory, scratch_floats(p, &shape));
    step_release(p->memory, mark);
}

void attention_plan_backward(const pass *p, const attention_block *block) {
    size_t mark = step_mark(p->memory);
    attention_shape shape = shape_of(p, block, NULL, 0);
    attention_gradients g;
    take_gradients(p, block, &g);
    step_take(p->memory, scratch_floats(p, &shape));
    step_release(p->memory, mark);
}
