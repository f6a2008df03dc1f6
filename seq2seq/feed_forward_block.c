/* The core of a feed-forward branch, plain or gated (GLU Variants Improve Transformer, arXiv 2002.05202). */
#include "seq2seq/internal.h"

void feed_forward_take(const pass *p, const feed_forward_block *block, feed_forward_activations *acts, size_t N) {
    acts->a = step_take(p->memory, N * block->F);
    acts->b = block->glu ? step_take(p->memory, N * block->F) : NULL;
    acts->product = step_take(p->memory, N * block->F);
    acts->normed = acts->product;
    acts->normed_saved = NULL;
    if (block->middle.present) {
        acts->normed = step_take(p->memory, N * block->F);
        acts->normed_saved = step_take(p->memory, 2 * N);
    }
}

void feed_forward_core_forward(const pass *p, const feed_forward_block *block, feed_forward_activations *acts, float *out,
                               const float *in, size_t N, size_t site) {
    const seq2seq_config *config = &p->model->config;
    size_t C = config->d_model, F = block->F;
    acts->in = in;
    const dense_output outputs[] = {{&block->in, acts->a, F}, {&block->gate, acts->b, F}};
    dense_forward_many(p, outputs, block->glu ? 2 : 1, in, N, C);
    if (block->glu) {
        glu_forward(acts->product, acts->a, acts->b, config->activation_function, N * F);
    } else {
        activation_forward(acts->product, acts->a, config->activation_function, N * F);
    }
    if (block->middle.present) norm_forward(p, &block->middle, acts->normed, acts->normed_saved, acts->product, N, F);
    /* In place: neither the norm's backward nor the product's reads what is overwritten. */
    dropout_apply(p, acts->normed, config->activation_dropout, site, N * F);
    dense_forward(p, &block->out, out, acts->normed, N, F, C);
}

typedef struct {
    float *dproduct, *da, *db;
} feed_forward_gradients;

static void take_gradients(const pass *p, const feed_forward_block *block, feed_forward_gradients *g, size_t N) {
    g->dproduct = step_take(p->memory, N * block->F);
    g->da = step_take(p->memory, N * block->F);
    g->db = block->glu ? step_take(p->memory, N * block->F) : NULL;
}

void feed_forward_core_backward(const pass *p, const feed_forward_block *block, const feed_forward_activations *acts,
                                float *din, const float *dout, size_t N, size_t site) {
    const seq2seq_config *config = &p->model->config;
    size_t C = config->d_model, F = block->F;
    size_t mark = step_mark(p->memory);
    feed_forward_gradients g;
    take_gradients(p, block, &g, N);

    /* da's array serves as the gradient before the middle norm's backward. */
    float *dnormed = block->middle.present ? g.da : g.dproduct;
    dense_backward(p, &block->out, dnormed, dout, acts->normed, N, F, C, false);
    if (dropout_wanted(p, config->activation_dropout))
        dropout_apply_backward(p, dnormed, dnormed, config->activation_dropout, site, N * F);
    if (block->middle.present)
        norm_backward(p, &block->middle, g.dproduct, dnormed, acts->product, acts->normed_saved, N, F, false);

    if (block->glu) {
        glu_backward(g.da, g.db, g.dproduct, acts->a, acts->b, config->activation_function, N * F);
        dense_backward(p, &block->in, din, g.da, acts->in, N, C, F, false);
        dense_backward(p, &block->gate, din, g.db, acts->in, N, C, F, true);
    } else {
        activation_backward(g.da, g.dproduct, acts->a, config->activation_function, N * F);
        dense_backward(p, &block->in, din, g.da, acts->in, N, C, F, false);
    }
    step_release(p->memory, mark);
}

void feed_forward_plan_backward(const pass *p, const feed_forward_block *block, size_t N) {
    size_t mark = step_mark(p->memory);
    feed_forward_gradients g;
    take_gradients(p, block, &g, N);
    step_release(p->memory, mark);
}
