/* One layer: its residual branches around their cores, forward beside backward. */
#include "seq2seq/internal.h"

#include <string.h>

/* Dropout sites of a layer. The stack's embedding dropout comes before all layers'. */
enum {
    SITE_SELF_WEIGHTS,
    SITE_SELF,
    SITE_CROSS_WEIGHTS,
    SITE_CROSS,
    SITE_FEED_FORWARD_INSIDE,
    SITE_FEED_FORWARD,
    SITES_PER_LAYER
};

static size_t site_of(const stack *s, size_t index, size_t site) {
    return (s->is_decoder ? 1u << 15 : 0) + 1 + index * SITES_PER_LAYER + site;
}

static size_t rows(const pass *p, const stack *s) {
    return p->B * s->length;
}

/* ---------------------------------------------------------------- a residual branch */

void branch_take(const pass *p, const branch_norms *norms, branch_activations *acts, size_t N, float *out) {
    size_t C = p->model->config.d_model;
    *acts = (branch_activations){0};
    if (norms->before.present) {
        acts->normed = step_take(p->memory, N * C);
        acts->saved = step_take(p->memory, 2 * N);
    }
    if (norms->after.present) {
        acts->core = step_take(p->memory, N * C);
        acts->core_saved = step_take(p->memory, 2 * N);
    }
    if (norms->after_residual.present) {
        acts->sum = step_take(p->memory, N * C);
        acts->sum_saved = step_take(p->memory, 2 * N);
    }
    acts->out = out != NULL ? out : step_take(p->memory, N * C);
}

const float *branch_enter(const pass *p, const branch_norms *norms, branch_activations *acts, const float *in, size_t N) {
    acts->in = in;
    if (!norms->before.present) return in;
    norm_forward(p, &norms->before, acts->normed, acts->saved, in, N, p->model->config.d_model);
    return acts->normed;
}

static float *branch_sum(const branch_norms *norms, const branch_activations *acts) {
    return norms->after_residual.present ? acts->sum : acts->out;
}

float *branch_core(const branch_norms *norms, const branch_activations *acts) {
    return norms->after.present ? acts->core : branch_sum(norms, acts);
}

void branch_leave(const pass *p, const stack *s, const branch_norms *norms, branch_activations *acts, size_t site, size_t N) {
    size_t C = p->model->config.d_model;
    float *sum = branch_sum(norms, acts);
    if (norms->after.present) norm_forward(p, &norms->after, sum, acts->core_saved, acts->core, N, C);
    dropout_apply(p, sum, p->model->config.dropout, site, N * C);
    if (s->residual_gain == 1)
        add_forward(sum, sum, acts->in, N * C);
    else
        add_scaled(sum, acts->in, s->residual_gain, N * C);
    if (norms->after_residual.present) norm_forward(p, &norms->after_residual, acts->out, acts->sum_saved, sum, N, C);
}

typedef struct {
    float *dcore, *spare, *dentered;
} branch_gradients;

static void take_gradients(const pass *p, branch_gradients *g, size_t N) {
    size_t C = p->model->config.d_model;
    g->dcore = step_take(p->memory, N * C);
    g->spare = step_take(p->memory, N * C);
    g->dentered = step_take(p->memory, N * C);
}

/* From dx, the gradient of the branch's output (which becomes that of its sum), to the gradient of the core's output. */
static const float *branch_leave_backward(const pass *p, const branch_norms *norms, const branch_activations *acts,
                                          const branch_gradients *g, float *dx, size_t site, size_t N) {
    size_t C = p->model->config.d_model;
    if (norms->after_residual.present) {
        memcpy(g->spare, dx, N * C * sizeof(float));
        norm_backward(p, &norms->after_residual, dx, g->spare, acts->sum, acts->sum_saved, N, C, false);
    }
    const float *d = dx;
    if (dropout_wanted(p, p->model->config.dropout)) {
        dropout_apply_backward(p, g->spare, d, p->model->config.dropout, site, N * C);
        d = g->spare;
    }
    if (norms->after.present) {
        norm_backward(p, &norms->after, g->dcore, d, acts->core, acts->core_saved, N, C, false);
        d = g->dcore;
    }
    return d;
}

/* Adds the residual's and the core's (g->dentered) to make dx the gradient of the branch's input. */
static void branch_enter_backward(const pass *p, const stack *s, const branch_norms *norms, const branch_activations *acts,
                                  const branch_gradients *g, float *dx, size_t N) {
    size_t C = p->model->config.d_model;
    if (s->residual_gain != 1) scale_forward(dx, dx, s->residual_gain, N * C);
    if (norms->before.present)
        norm_backward(p, &norms->before, dx, g->dentered, acts->in, acts->saved, N, C, true);
    else
        add_forward(dx, dx, g->dentered, N * C);
}

/* ---------------------------------------------------------------- the layer */

void layer_take(const pass *p, const stack *s, const layer *l, layer_activations *acts, float *out) {
    size_t N = rows(p, s);
    branch_take(p, &l->self.norms, &acts->self_branch, N, NULL);
    attention_take(p, &l->self, &acts->self, N, p->B * l->self.keys);
    attention_take_weights(p, &l->self, &acts->self);
    if (s->is_decoder) {
        branch_take(p, &l->cross.norms, &acts->cross_branch, N, NULL);
        attention_take(p, &l->cross, &acts->cross, N, p->B * l->cross.keys);
        attention_take_weights(p, &l->cross, &acts->cross);
    }
    branch_take(p, &l->feed_forward.norms, &acts->feed_forward_branch, N, out);
    feed_forward_take(p, &l->feed_forward, &acts->feed_forward, N);
}

static void attention_branch_forward(const pass *p, const stack *s, const attention_block *block, branch_activations *branch,
                                     attention_activations *acts, const float *in, const float *encoder_hidden,
                                     const int32_t *key_mask, size_t weights_site, size_t site) {
    size_t N = rows(p, s);
    const float *entered = branch_enter(p, &block->norms, branch, in, N);
    attention_core_forward(p, block, acts, branch_core(&block->norms, branch), entered,
                           block->is_cross ? encoder_hidden : entered, key_mask, weights_site);
    branch_leave(p, s, &block->norms, branch, site, N);
}

void layer_forward(const pass *p, const stack *s, size_t index, layer_activations *acts, const float *in,
                   const float *encoder_hidden, const int32_t *key_mask) {
    const layer *l = &s->layers[index];
    size_t N = rows(p, s);
    attention_branch_forward(p, s, &l->self, &acts->self_branch, &acts->self, in, NULL, key_mask,
                             site_of(s, index, SITE_SELF_WEIGHTS), site_of(s, index, SITE_SELF));
    const float *x = acts->self_branch.out;
    if (s->is_decoder) {
        attention_branch_forward(p, s, &l->cross, &acts->cross_branch, &acts->cross, x, encoder_hidden, key_mask,
                                 site_of(s, index, SITE_CROSS_WEIGHTS), site_of(s, index, SITE_CROSS));
        x = acts->cross_branch.out;
    }
    const branch_norms *norms = &l->feed_forward.norms;
    branch_activations *branch = &acts->feed_forward_branch;
    const float *entered = branch_enter(p, norms, branch, x, N);
    feed_forward_core_forward(p, &l->feed_forward, &acts->feed_forward, branch_core(norms, branch), entered, N,
                              site_of(s, index, SITE_FEED_FORWARD_INSIDE));
    branch_leave(p, s, norms, branch, site_of(s, index, SITE_FEED_FORWARD), N);
}

static void attention_branch_backward(const pass *p, const stack *s, const attention_block *block,
                                      const branch_activations *branch, const attention_activations *acts,
                                      const branch_gradients *g, float *dx, float *dencoder_hidden, const int32_t *key_mask,
                                      size_t weights_site, size_t site) {
    size_t N = rows(p, s);
    const float *dcore = branch_leave_backward(p, &block->norms, branch, g, dx, site, N);
    attention_core_backward(p, block, acts, g->dentered, block->is_cross ? dencoder_hidden : NULL, dcore, key_mask,
                            weights_site);
    branch_enter_backward(p, s, &block->norms, branch, g, dx, N);
}

void layer_backward(const pass *p, const stack *s, size_t index, const layer_activations *acts, float *dx,
                    float *dencoder_hidden, const int32_t *key_mask) {
    const layer *l = &s->layers[index];
    size_t N = rows(p, s);
    size_t mark = step_mark(p->memory);
    branch_gradients g;
    take_gradients(p, &g, N);

    const branch_norms *norms = &l->feed_forward.norms;
    const branch_activations *branch = &acts->feed_forward_branch;
    const float *dcore = branch_leave_backward(p, norms, branch, &g, dx, site_of(s, index, SITE_FEED_FORWARD), N);
    feed_forward_core_backward(p, &l->feed_forward, &acts->feed_forward, g.dentered, dcore, N,
                               site_of(s, index, SITE_FEED_FORWARD_INSIDE));
    branch_enter_backward(p, s, norms, branch, &g, dx, N);

    if (s->is_decoder)
        attention_branch_backward(p, s, &l->cross, &acts->cross_branch, &acts->cross, &g, dx, dencoder_hidden, key_mask,
                                  site_of(s, index, SITE_CROSS_WEIGHTS), site_of(s, index, SITE_CROSS));
    attention_branch_backward(p, s, &l->self, &acts->self_branch, &acts->self, &g, dx, NULL, key_mask,
                              site_of(s, index, SITE_SELF_WEIGHTS), site_of(s, index, SITE_SELF));
    step_release(p->memory, mark);
}

/* ---------------------------------------------------------------- plan */

void layer_plan_forward(const pass *p, const stack *s, const layer *l) {
    attention_plan_forward(p, &l->self);
    if (s->is_decoder) attention_plan_forward(p, &l->cross);
}

void layer_plan_backward(const pass *p, const stack *s, const layer *l) {
    size_t N = rows(p, s), mark = step_mark(p->memory);
    branch_gradients g;
    take_gradients(p, &g, N);
    feed_forward_plan_backward(p, &l->feed_forward, N);
    if (s->is_decoder) attention_plan_backward(p, &l->cross);
    attention_plan_backward(p, &l->self);
    step_release(p->memory, mark);
}
