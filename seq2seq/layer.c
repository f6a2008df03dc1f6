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
        acts->normed = take_multiplied(p, N * C);
        acts->saved = step_take(p->memory, 2 * N);
    }
    if (norms->after.present) {
        acts->core = take_multiplied(p, N * C);
        acts->core_saved = step_take(p->memory, 2 * N);
    }
    if (norms->after_residual.present) {
        acts->sum = step_take(p->memory, N * C);
        acts->sum_saved = step_take(p->memory, 2 * N);
    }
    acts->out = out != NULL ? out : step_take(p->memory, N * C);
}

numbers branch_enter(const pass *p, const branch_norms *norms, branch_activations *acts, float *in, size_t N) {
    acts->in = in;
    if (!norms->before.present) return numbers_f32(in);
    norm_forward(p, &norms->before, acts->normed, acts->saved, numbers_f32(in), N, p->model->config.d_model);
    return acts->normed;
}

static float *branch_sum(const branch_norms *norms, const branch_activations *acts) {
    return norms->after_residual.present ? acts->sum : acts->out;
}

numbers branch_core(const branch_norms *norms, const branch_activations *acts) {
    return norms->after.present ? acts->core : numbers_f32(branch_sum(norms, acts));
}

typedef struct {
    const pass *p;
    const branch_norms *norms;
    const branch_activations *acts;
    float residual_gain;
    size_t site;
    /* the way back */
    float *dx, *dentered;
    numbers dcore;
} branch_work;

static void leave_block(const row_block *block, const void *context) {
    const branch_work *w = context;
    const size_t C = block->blocks->width, n = block->count * C;
    float *sum = branch_sum(w->norms, w->acts) + block->n * C;
    const float *in = w->acts->in + block->n * C;
    if (w->norms->after.present)
        norm_block_forward(w->p, &w->norms->after, block, sum, w->acts->core_saved, rows_read(block, w->acts->core, 0));
    dropout_block(w->p, block, sum, w->p->model->config.dropout, w->site);
    if (w->residual_gain == 1)
        add_forward(sum, sum, in, n);
    else
        add_scaled(sum, in, w->residual_gain, n);
    if (w->norms->after_residual.present)
        norm_block_forward(w->p, &w->norms->after_residual, block, w->acts->out + block->n * C, w->acts->sum_saved, sum);
}

void branch_leave(const pass *p, const stack *s, const branch_norms *norms, branch_activations *acts, size_t site, size_t N) {
    rows_each(p, N, p->model->config.d_model, leave_block,
              &(branch_work){.p = p, .norms = norms, .acts = acts, .residual_gain = s->residual_gain, .site = site});
}

typedef struct {
    numbers dcore;
    float *dentered;
} branch_gradients;

static void take_gradients(const pass *p, branch_gradients *g, size_t N) {
    size_t C = p->model->config.d_model;
    g->dcore = take_multiplied(p, N * C);
    g->dentered = step_take(p->memory, N * C);
}

static void after_residual_backward(const row_block *block, const void *context) {
    const branch_work *w = context;
    const size_t C = block->blocks->width;
    float *dx = w->dx + block->n * C, *d = rows_room(block, 0);
    memcpy(d, dx, block->count * C * sizeof *d);
    norm_block_backward(w->p, &w->norms->after_residual, block, dx, d, w->acts->sum + block->n * C, w->acts->sum_saved, false);
}

static void leave_block_backward(const row_block *block, const void *context) {
    const branch_work *w = context;
    const size_t C = block->blocks->width;
    float *d = rows_room(block, 0), *dcore = rows_write(block, w->dcore, 1);
    memcpy(d, w->dx + block->n * C, block->count * C * sizeof *d);
    dropout_block(w->p, block, d, w->p->model->config.dropout, w->site);
    if (w->norms->after.present)
        norm_block_backward(w->p, &w->norms->after, block, dcore, d, rows_read(block, w->acts->core, 2), w->acts->core_saved,
                            false);
    else
        memcpy(dcore, d, block->count * C * sizeof *d);
    rows_written(block, w->dcore, 1);
}

/* From dx, the gradient of the branch's output (which becomes that of its sum), to the gradient of the core's output. */
static numbers branch_leave_backward(const pass *p, const branch_norms *norms, const branch_activations *acts,
                                     const branch_gradients *g, float *dx, size_t site, size_t N) {
    const size_t mark = step_mark(p->memory);
    const row_blocks blocks = rows_take(p, N, p->model->config.d_model);
    const branch_work work = {.p = p, .norms = norms, .acts = acts, .site = site, .dx = dx, .dcore = g->dcore};
    if (norms->after_residual.present) {
        rows_do(&blocks, after_residual_backward, &work);
        norm_add_sums(p, &norms->after_residual, &blocks);
    }
    rows_do(&blocks, leave_block_backward, &work);
    if (norms->after.present) norm_add_sums(p, &norms->after, &blocks);
    step_release(p->memory, mark);
    return g->dcore;
}

static void enter_block_backward(const row_block *block, const void *context) {
    const branch_work *w = context;
    const size_t C = block->blocks->width, n = block->count * C;
    float *dx = w->dx + block->n * C;
    const float *dentered = w->dentered + block->n * C;
    if (w->residual_gain != 1) scale_forward(dx, dx, w->residual_gain, n);
    if (w->norms->before.present)
        norm_block_backward(w->p, &w->norms->before, block, dx, dentered, w->acts->in + block->n * C, w->acts->saved, true);
    else
        add_forward(dx, dx, dentered, n);
}

/* Adds the residual's and the core's (g->dentered) to make dx the gradient of the branch's input. */
static void branch_enter_backward(const pass *p, const stack *s, const branch_norms *norms, const branch_activations *acts,
                                  const branch_gradients *g, float *dx, size_t N) {
    const size_t mark = step_mark(p->memory);
    const row_blocks blocks = rows_take(p, N, p->model->config.d_model);
    rows_do(&blocks, enter_block_backward,
            &(branch_work){
                .p = p, .norms = norms, .acts = acts, .residual_gain = s->residual_gain, .dx = dx, .dentered = g->dentered});
    if (norms->before.present) norm_add_sums(p, &norms->before, &blocks);
    step_release(p->memory, mark);
}

/* ---------------------------------------------------------------- the layer */

void layer_take(const pass *p, const stack *s, const layer *l, layer_activations *acts, float *out) {
    size_t N = rows(p, s);
    branch_take(p, &l->self.norms, &acts->self_branch, N, NULL);
    attention_take(p, &l->self, &acts->self, N, p->B * l->self.keys);
    if (s->is_decoder) {
        branch_take(p, &l->cross.norms, &acts->cross_branch, N, NULL);
        attention_take(p, &l->cross, &acts->cross, N, p->B * l->cross.keys);
    }
    branch_take(p, &l->feed_forward.norms, &acts->feed_forward_branch, N, out);
    feed_forward_take(p, &l->feed_forward, &acts->feed_forward, N);
}

static void attention_branch_forward(const pass *p, const stack *s, const attention_block *block, branch_activations *branch,
                                     attention_activations *acts, float *in, numbers encoder_hidden, const int32_t *key_mask,
                                     size_t weights_site, size_t site) {
    size_t N = rows(p, s);
    const numbers entered = branch_enter(p, &block->norms, branch, in, N);
    attention_core_forward(p, block, acts, branch_core(&block->norms, branch), entered,
                           block->is_cross ? encoder_hidden : entered, key_mask, weights_site);
    branch_leave(p, s, &block->norms, branch, site, N);
}

void layer_forward(const pass *p, const stack *s, size_t index, layer_activations *acts, float *in, numbers encoder_hidden,
                   const int32_t *key_mask) {
    const layer *l = &s->layers[index];
    size_t N = rows(p, s);
    attention_branch_forward(p, s, &l->self, &acts->self_branch, &acts->self, in, (numbers){0}, key_mask,
                             site_of(s, index, SITE_SELF_WEIGHTS), site_of(s, index, SITE_SELF));
    float *x = acts->self_branch.out;
    if (s->is_decoder) {
        attention_branch_forward(p, s, &l->cross, &acts->cross_branch, &acts->cross, x, encoder_hidden, key_mask,
                                 site_of(s, index, SITE_CROSS_WEIGHTS), site_of(s, index, SITE_CROSS));
        x = acts->cross_branch.out;
    }
    const branch_norms *norms = &l->feed_forward.norms;
    branch_activations *branch = &acts->feed_forward_branch;
    const numbers entered = branch_enter(p, norms, branch, x, N);
    feed_forward_core_forward(p, &l->feed_forward, &acts->feed_forward, branch_core(norms, branch), entered, N,
                              site_of(s, index, SITE_FEED_FORWARD_INSIDE));
    branch_leave(p, s, norms, branch, site_of(s, index, SITE_FEED_FORWARD), N);
}

static void attention_branch_backward(const pass *p, const stack *s, const attention_block *block,
                                      const branch_activations *branch, const attention_activations *acts,
                                      const branch_gradients *g, float *dx, float *dencoder_hidden, const int32_t *key_mask,
                                      size_t weights_site, size_t site) {
    size_t N = rows(p, s);
    const numbers dcore = branch_leave_backward(p, &block->norms, branch, g, dx, site, N);
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
    const numbers dcore = branch_leave_backward(p, norms, branch, &g, dx, site_of(s, index, SITE_FEED_FORWARD), N);
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
    rows_plan(p, rows(p, s), p->model->config.d_model);
    attention_plan_forward(p, &l->self);
    if (s->is_decoder) attention_plan_forward(p, &l->cross);
    feed_forward_plan_forward(p, &l->feed_forward, rows(p, s));
}

void layer_plan_backward(const pass *p, const stack *s, const layer *l) {
    size_t N = rows(p, s), mark = step_mark(p->memory);
    branch_gradients g;
    take_gradients(p, &g, N);
    rows_plan(p, N, p->model->config.d_model);
    feed_forward_plan_backward(p, &l->feed_forward, N);
    if (s->is_decoder) attention_plan_backward(p, &l->cross);
    attention_plan_backward(p, &l->self);
    step_release(p->memory, mark);
}
