/* The small operations that blocks are made of. */
#include "seq2seq/internal.h"

#include <string.h>

enum { MOST_OUTPUTS = 3 /* that are made of one input: queries, keys and values */ };

numbers take_multiplied(const pass *p, size_t count) {
    return step_take_numbers(p->memory, count, p->precision == PRECISION_BF16);
}

/* ---------------------------------------------------------------- norms */

void norm_block_forward(const pass *p, const norm_slot *norm, const row_block *block, float *out, float *saved,
                        const float *in) {
    const float *scale = parameter_value(p->model, norm->scale);
    const size_t C = block->blocks->width;
    if (p->model->config.rms_norm)
        rmsnorm_forward(out, saved + block->n, in, scale, block->count, C, NORM_EPSILON);
    else
        layernorm_forward(out, saved + 2 * block->n, in, scale, parameter_value(p->model, norm->bias), block->count, C,
                          NORM_EPSILON);
}

void norm_block_backward(const pass *p, const norm_slot *norm, const row_block *block, float *din, const float *dout,
                         const float *in, const float *saved, bool accumulate) {
    const float *scale = parameter_value(p->model, norm->scale);
    float *dscale = parameter_grad(p->model, norm->scale) != NULL ? block->dscale : NULL;
    float *dbias = parameter_grad(p->model, norm->bias) != NULL ? block->dbias : NULL;
    const size_t C = block->blocks->width;
    if (p->model->config.rms_norm)
        rmsnorm_backward(din, dscale, dout, in, saved + block->n, scale, block->count, C, accumulate);
    else
        layernorm_backward(din, dscale, dbias, dout, in, saved + 2 * block->n, scale, block->count, C, accumulate);
}

void norm_add_sums(const pass *p, const norm_slot *norm, const row_blocks *blocks) {
    rows_add_sums(blocks, parameter_grad(p->model, norm->scale), parameter_grad(p->model, norm->bias));
}

typedef struct {
    const pass *p;
    const norm_slot *norm;
    numbers out, in, din, dout;
    float *saved;
    const float *kept; /* the backward's `saved` */
    bool accumulate;
} norm_work;

static void norm_forward_work(const row_block *block, const void *context) {
    const norm_work *w = context;
    norm_block_forward(w->p, w->norm, block, rows_write(block, w->out, 0), w->saved, rows_read(block, w->in, 1));
    rows_written(block, w->out, 0);
}

void norm_forward(const pass *p, const norm_slot *norm, numbers out, float *saved, numbers in, size_t N, size_t C) {
    rows_each(p, N, C, norm_forward_work, &(norm_work){.p = p, .norm = norm, .out = out, .saved = saved, .in = in});
}

static void norm_backward_work(const row_block *block, const void *context) {
    const norm_work *w = context;
    norm_block_backward(w->p, w->norm, block, rows_write(block, w->din, 0), rows_read(block, w->dout, 1),
                        rows_read(block, w->in, 2), w->kept, w->accumulate);
    rows_written(block, w->din, 0);
}

void norm_backward(const pass *p, const norm_slot *norm, numbers din, numbers dout, numbers in, const float *saved, size_t N,
                   size_t C, bool accumulate) {
    const size_t mark = step_mark(p->memory);
    const row_blocks blocks = rows_take(p, N, C);
    const norm_work work = {.p = p, .norm = norm, .din = din, .dout = dout, .in = in, .kept = saved, .accumulate = accumulate};
    rows_do(&blocks, norm_backward_work, &work);
    norm_add_sums(p, norm, &blocks);
    step_release(p->memory, mark);
}

/* ---------------------------------------------------------------- dense layers */

typedef struct {
    numbers rows;
    const float *bias;
} bias_work;

static void bias_forward_work(const row_block *block, const void *context) {
    const bias_work *w = context;
    float *rows = rows_read(block, w->rows, 0);
    for (size_t n = 0; n < block->count; n++) add_scaled(rows + n * block->blocks->width, w->bias, 1, block->blocks->width);
    rows_written(block, w->rows, 0);
}

static void bias_backward_work(const row_block *block, const void *context) {
    const bias_work *w = context;
    const float *rows = rows_read(block, w->rows, 0);
    for (size_t n = 0; n < block->count; n++)
        add_scaled(block->dbias, rows + n * block->blocks->width, 1, block->blocks->width);
}

static void bias_forward(const pass *p, numbers rows, const float *bias, size_t N, size_t OC) {
    if (bias != NULL) rows_each(p, N, OC, bias_forward_work, &(bias_work){rows, bias});
}

static void bias_backward(const pass *p, numbers rows, float *dbias, size_t N, size_t OC) {
    if (dbias == NULL) return;
    const size_t mark = step_mark(p->memory);
    const row_blocks blocks = rows_take(p, N, OC);
    rows_do(&blocks, bias_backward_work, &(bias_work){.rows = rows});
    rows_add_sums(&blocks, NULL, dbias);
    step_release(p->memory, mark);
}

/* ---------------------------------------------------------------- adapters of dense layers (LoRA, arXiv 2106.09685) */

static const parameter *adapter_of(const pass *p, const dense_slot *dense) {
    const long index = p->model->adapters != NULL ? p->model->adapters[dense->weight] : ABSENT;
    return index != ABSENT ? &p->model->parameters.list[index] : NULL;
}

/* As one matrix the adapted weights cost a product of the rank for each of theirs, which is little beside the rows'. */
numbers dense_weight(const pass *p, const dense_slot *dense, size_t C, size_t OC) {
    const parameter *a = adapter_of(p, dense);
    if (a == NULL) return parameter_numbers(p->model, dense->weight);
    const parameter *b = a + 1;
    const size_t rank = a->shape[0];
    float *sum = step_take(p->memory, OC * C);
    memcpy(sum, parameter_value(p->model, dense->weight), OC * C * sizeof *sum);
    matmul(sum, C, b->value, rank, false, a->value, C, false, OC, C, rank, p->model->adapter_scale, 1);
    return numbers_f32(sum);
}

size_t adapter_rank(const seq2seq *model) {
    return model->adapters != NULL ? model->parameters.list[model->own_count].shape[0] : 0;
}

/* Of few rows the adapter's own two products are less than its sum with the weights. */
static void adapter_forward(const pass *p, const dense_slot *dense, float *out, const float *in, size_t N, size_t C,
                            size_t OC) {
    const parameter *a = adapter_of(p, dense);
    if (a == NULL) return;
    const size_t rank = a->shape[0], mark = step_mark(p->memory);
    float *inner = step_take(p->memory, N * rank);
    matmul(inner, rank, in, C, false, a->value, C, true, N, rank, C, 1, 0);
    matmul(out, OC, inner, rank, false, (a + 1)->value, rank, true, N, OC, rank, p->model->adapter_scale, 1);
    step_release(p->memory, mark);
}

static void adapter_backward(const pass *p, const dense_slot *dense, numbers dout, numbers in, size_t N, size_t C, size_t OC) {
    const parameter *a = adapter_of(p, dense);
    if (a == NULL || a->grad == NULL) return;
    const parameter *b = a + 1;
    const size_t rank = a->shape[0], mark = step_mark(p->memory);
    const float scale = p->model->adapter_scale;
    const numbers inner = numbers_f32(step_take(p->memory, N * rank));
    limn_arena *arena = p->memory->arena;
    const nn_precision precision = p->precision;
    matmul_mixed(inner, rank, dout, OC, false, numbers_f32((float *)(uintptr_t)b->value), rank, false, N, rank, OC, false,
                 precision, arena);
    scale_forward(inner.f32, inner.f32, scale, N * rank);
    matmul_mixed(numbers_f32(a->grad), C, inner, rank, true, in, C, false, rank, C, N, true, precision, arena);
    matmul_mixed(inner, rank, in, C, false, numbers_f32((float *)(uintptr_t)a->value), C, true, N, rank, C, false, precision,
                 arena);
    scale_forward(inner.f32, inner.f32, scale, N * rank);
    matmul_mixed(numbers_f32(b->grad), rank, dout, OC, true, inner, rank, false, OC, rank, N, true, precision, arena);
    step_release(p->memory, mark);
}

void dense_forward(const pass *p, const dense_slot *dense, numbers out, numbers in, size_t N, size_t C, size_t OC) {
    dense_forward_many(p, &(dense_output){dense, out, OC}, 1, in, N, C);
}

/* Packed weights serve the few rows of a decoding step. */
static void packed_forward_many(const pass *p, const dense_output *outputs, size_t count, numbers in, size_t N) {
    packed_product products[MOST_OUTPUTS];
    for (size_t i = 0; i < count; i++) {
        const dense_slot *dense = outputs[i].dense;
        products[i] =
            (packed_product){outputs[i].out.f32, p->model->packed[dense->weight], parameter_value(p->model, dense->bias)};
    }
    packed_linear_forward(products, count, in.f32, N, p->scratch);
}

void dense_forward_many(const pass *p, const dense_output *outputs, size_t count, numbers in, size_t N, size_t C) {
    if (p->packed) {
        packed_forward_many(p, outputs, count, in, N);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const dense_slot *dense = outputs[i].dense;
        const float *bias = parameter_value(p->model, dense->bias);
        const numbers out = outputs[i].out;
        const size_t OC = outputs[i].OC;
        if (p->few_rows) {
            linear_forward(out.f32, in.f32, parameter_value(p->model, dense->weight), bias, N, C, OC);
            adapter_forward(p, dense, out.f32, in.f32, N, C, OC);
            continue;
        }
        const size_t mark = step_mark(p->memory);
        matmul_mixed(out, OC, in, C, false, dense_weight(p, dense, C, OC), C, true, N, OC, C, false, p->precision,
                     p->memory->arena);
        step_release(p->memory, mark);
        bias_forward(p, out, bias, N, OC);
    }
}

void dense_backward(const pass *p, const dense_slot *dense, numbers din, numbers dout, numbers in, size_t N, size_t C,
                    size_t OC, bool accumulate) {
    float *dweight = parameter_grad(p->model, dense->weight);
    const size_t mark = step_mark(p->memory);
    matmul_mixed(din, C, dout, OC, false, dense_weight(p, dense, C, OC), C, false, N, C, OC, accumulate, p->precision,
                 p->memory->arena);
    step_release(p->memory, mark);
    adapter_backward(p, dense, dout, in, N, C, OC);
    if (dweight != NULL)
        matmul_mixed(numbers_f32(dweight), C, dout, OC, true, in, C, false, OC, C, N, !p->writes, p->precision,
                     p->memory->arena);
    bias_backward(p, dout, parameter_grad(p->model, dense->bias), N, OC);
}

void gradients_ready(const pass *p, parameter_range range) {
    if (p->options->gradients_ready != NULL) p->options->gradients_ready(p->options->self, range.first, range.count);
}

/* ---------------------------------------------------------------- dropout */

bool dropout_wanted(const pass *p, double rate) {
    return p->options != NULL && rate > 0;
}

/* A step's number takes the upper half of the stream, the micro-batch and the site a quarter each. The seed is marked, so that
 * these streams cannot meet others made from the same seed. */
void dropout_key(const pass *p, size_t site, uint64_t *seed, uint64_t *stream) {
    *seed = p->options->seed ^ limn_random_stream("seq2seq dropout");
    *stream = p->options->step << 32 | (p->options->micro_batch & 0xffff) << 16 | (site & 0xffff);
}

void dropout_block(const pass *p, const row_block *block, float *x, double rate, size_t site) {
    if (!dropout_wanted(p, rate)) return;
    uint64_t seed, stream;
    dropout_key(p, site, &seed, &stream);
    const size_t width = block->blocks->width;
    dropout_forward(x, x, (float)rate, seed, stream, block->n * width, block->count * width);
}

typedef struct {
    const pass *p;
    float *x;
    double rate;
    size_t site;
} dropout_work;

static void dropout_rows_work(const row_block *block, const void *context) {
    const dropout_work *w = context;
    dropout_block(w->p, block, w->x + block->n * block->blocks->width, w->rate, w->site);
}

void dropout_rows(const pass *p, float *x, double rate, size_t site, size_t N, size_t C) {
    if (!dropout_wanted(p, rate)) return;
    rows_each(p, N, C, dropout_rows_work, &(dropout_work){p, x, rate, site});
}

/* ---------------------------------------------------------------- head scale (NormFormer, arXiv 2110.09456) */

typedef struct {
    numbers out, in, dout;
    const float *scale;
    size_t H, D;
} head_scale_work;

static void head_scale_forward_work(const row_block *block, const void *context) {
    const head_scale_work *w = context;
    const float *in = rows_read(block, w->in, 0);
    float *out = rows_write(block, w->out, 1);
    for (size_t i = 0; i < block->count * w->H; i++)
        for (size_t d = 0; d < w->D; d++) out[i * w->D + d] = in[i * w->D + d] * w->scale[i % w->H];
    rows_written(block, w->out, 1);
}

void head_scale_forward(const pass *p, numbers out, numbers in, long scale, size_t N, size_t H, size_t D) {
    rows_each(p, N, H * D, head_scale_forward_work,
              &(head_scale_work){.out = out, .in = in, .scale = parameter_value(p->model, scale), .H = H, .D = D});
}

/* `out` is the gradient of the input; the heads' sums stand at the beginning of dscale's. */
static void head_scale_backward_work(const row_block *block, const void *context) {
    const head_scale_work *w = context;
    const float *in = rows_read(block, w->in, 0), *dout = rows_read(block, w->dout, 1);
    float *din = rows_write(block, w->out, 2);
    for (size_t i = 0; i < block->count * w->H; i++) {
        double sum = 0;
        for (size_t k = i * w->D; k < (i + 1) * w->D; k++) {
            sum += (double)dout[k] * (double)in[k];
            din[k] = dout[k] * w->scale[i % w->H];
        }
        block->dscale[i % w->H] += (float)sum;
    }
    rows_written(block, w->out, 2);
}

void head_scale_backward(const pass *p, numbers din, numbers dout, numbers in, long scale, size_t N, size_t H, size_t D) {
    const size_t mark = step_mark(p->memory);
    const row_blocks blocks = rows_take(p, N, H * D);
    rows_do(&blocks, head_scale_backward_work,
            &(head_scale_work){.out = din, .in = in, .dout = dout, .scale = parameter_value(p->model, scale), .H = H, .D = D});
    float *dscale = parameter_grad(p->model, scale);
    for (size_t part = 0; part < blocks.parts && dscale != NULL; part++)
        for (size_t h = 0; h < H; h++) dscale[h] += blocks.sums[part * 2 * blocks.width + h];
    step_release(p->memory, mark);
}

/* ---------------------------------------------------------------- unit vectors (cosine attention) */

typedef struct {
    numbers out, in, dout;
    float *saved;
    const float *kept; /* the backward's `saved` */
    size_t H, D;
} unit_work;

static void unit_forward_work(const row_block *block, const void *context) {
    const unit_work *w = context;
    l2_normalize_forward(rows_write(block, w->out, 0), w->saved + block->n * w->H, rows_read(block, w->in, 1),
                         block->count * w->H, w->D, COSINE_EPSILON);
    rows_written(block, w->out, 0);
}

void unit_forward(const pass *p, numbers out, float *saved, numbers in, size_t N, size_t H, size_t D) {
    rows_each(p, N, H * D, unit_forward_work, &(unit_work){.out = out, .in = in, .saved = saved, .H = H, .D = D});
}

static void unit_backward_work(const row_block *block, const void *context) {
    const unit_work *w = context;
    l2_normalize_backward(rows_write(block, w->out, 0), rows_read(block, w->dout, 1), rows_read(block, w->in, 2),
                          w->kept + block->n * w->H, block->count * w->H, w->D, COSINE_EPSILON);
    rows_written(block, w->out, 0);
}

void unit_backward(const pass *p, numbers din, numbers dout, numbers in, const float *saved, size_t N, size_t H, size_t D) {
    rows_each(p, N, H * D, unit_backward_work, &(unit_work){.out = din, .in = in, .dout = dout, .kept = saved, .H = H, .D = D});
}

/* ---------------------------------------------------------------- relative positions (Swin, arXiv 2103.14030) */

void relative_bias_forward(float *out, const float *table, size_t T, size_t S, size_t H) {
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t h = 0; h < H; h++)
        for (size_t t = 0; t < T; t++)
            for (size_t s = 0; s < S; s++) out[(h * T + t) * S + s] = table[(t * S + s) * H + h];
}

void relative_bias_backward(float *dtable, const float *dout, size_t T, size_t S, size_t H) {
#pragma omp parallel for schedule(static)
    for (size_t t = 0; t < T; t++)
        for (size_t s = 0; s < S; s++)
            for (size_t h = 0; h < H; h++) dtable[(t * S + s) * H + h] += dout[(h * T + t) * S + s];
}
