/* The core of a feed-forward branch, plain or gated (GLU Variants Improve Transformer, arXiv 2002.05202). */
#include "seq2seq/internal.h"

void feed_forward_take(const pass *p, const feed_forward_block *block, feed_forward_activations *acts, size_t N) {
    acts->a = take_multiplied(p, N * block->F);
    acts->b = block->glu ? take_multiplied(p, N * block->F) : (numbers){0};
    acts->normed = take_multiplied(p, N * block->F);
    acts->normed_saved = block->middle.present ? step_take(p->memory, 2 * N) : NULL;
}

typedef struct {
    const pass *p;
    const feed_forward_block *block;
    const feed_forward_activations *acts;
    numbers dnormed, da, db;
    size_t site;
} middle_work;

/* f(a)·b, or f(a), of a block of rows. */
static void activate(const middle_work *w, float *out, const float *a, const float *b, size_t n) {
    const activation kind = w->p->model->config.activation_function;
    if (w->block->glu)
        glu_forward(out, a, b, kind, n);
    else
        activation_forward(out, a, kind, n);
}

static void middle_forward(const row_block *rows, const void *context) {
    const middle_work *w = context;
    const float *a = rows_read(rows, w->acts->a, 0), *b = w->block->glu ? rows_read(rows, w->acts->b, 1) : NULL;
    const bool norm = w->block->middle.present;
    float *out = rows_write(rows, w->acts->normed, 2), *product = norm ? rows_room(rows, 3) : out;
    activate(w, product, a, b, rows->count * w->block->F);
    if (norm) norm_block_forward(w->p, &w->block->middle, rows, out, w->acts->normed_saved, product);
    dropout_block(w->p, rows, out, w->p->model->config.activation_dropout, w->site);
    rows_written(rows, w->acts->normed, 2);
}

void feed_forward_core_forward(const pass *p, const feed_forward_block *block, feed_forward_activations *acts, numbers out,
                               numbers in, size_t N, size_t site) {
    const size_t C = p->model->config.d_model, F = block->F;
    acts->in = in;
    const dense_output outputs[] = {{&block->in, acts->a, F}, {&block->gate, acts->b, F}};
    dense_forward_many(p, outputs, block->glu ? 2 : 1, in, N, C);
    rows_each(p, N, F, middle_forward, &(middle_work){.p = p, .block = block, .acts = acts, .site = site});
    dense_forward(p, &block->out, out, acts->normed, N, F, C);
}

typedef struct {
    numbers dnormed, da, db;
} feed_forward_gradients;

static void take_gradients(const pass *p, const feed_forward_block *block, feed_forward_gradients *g, size_t N) {
    g->dnormed = take_multiplied(p, N * block->F);
    g->da = take_multiplied(p, N * block->F);
    g->db = block->glu ? take_multiplied(p, N * block->F) : (numbers){0};
}

/* The product is made again: keeping it would cost more memory than time. */
static void middle_backward(const row_block *rows, const void *context) {
    const middle_work *w = context;
    const seq2seq_config *config = &w->p->model->config;
    const size_t n = rows->count * w->block->F;
    const float *a = rows_read(rows, w->acts->a, 0), *b = w->block->glu ? rows_read(rows, w->acts->b, 1) : NULL;
    float *d = rows_read(rows, w->dnormed, 2);
    dropout_block(w->p, rows, d, config->activation_dropout, w->site);
    if (w->block->middle.present) {
        float *product = rows_room(rows, 3), *dproduct = rows_room(rows, 4);
        activate(w, product, a, b, n);
        norm_block_backward(w->p, &w->block->middle, rows, dproduct, d, product, w->acts->normed_saved, false);
        d = dproduct;
    }
    float *da = rows_write(rows, w->da, 5), *db = w->block->glu ? rows_write(rows, w->db, 6) : NULL;
    if (w->block->glu)
        glu_backward(da, db, d, a, b, config->activation_function, n);
    else
        activation_backward(da, d, a, config->activation_function, n);
    rows_written(rows, w->da, 5);
    if (w->block->glu) rows_written(rows, w->db, 6);
}

void feed_forward_core_backward(const pass *p, const feed_forward_block *block, const feed_forward_activations *acts,
                                float *din, numbers dout, size_t N, size_t site) {
    const size_t C = p->model->config.d_model, F = block->F, mark = step_mark(p->memory);
    feed_forward_gradients g;
    take_gradients(p, block, &g, N);
    dense_backward(p, &block->out, g.dnormed, dout, acts->normed, N, F, C, false);
    const size_t rows_mark = step_mark(p->memory);
    const row_blocks rows = rows_take(p, N, F);
    rows_do(&rows, middle_backward,
            &(middle_work){.p = p, .block = block, .acts = acts, .dnormed = g.dnormed, .da = g.da, .db = g.db, .site = site});
    if (block->middle.present) norm_add_sums(p, &block->middle, &rows);
    step_release(p->memory, rows_mark);
    dense_backward(p, &block->in, numbers_f32(din), g.da, acts->in, N, C, F, false);
    if (block->glu) dense_backward(p, &block->gate, numbers_f32(din), g.db, acts->in, N, C, F, true);
    step_release(p->memory, mark);
}

void feed_forward_plan_forward(const pass *p, const feed_forward_block *block, size_t N) {
    rows_plan(p, N, block->F);
}

void feed_forward_plan_backward(const pass *p, const feed_forward_block *block, size_t N) {
    const size_t mark = step_mark(p->memory);
    feed_forward_gradients g;
    take_gradients(p, block, &g, N);
    rows_plan(p, N, block->F);
    step_release(p->memory, mark);
}
