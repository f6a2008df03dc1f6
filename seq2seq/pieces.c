/* The small operations that blocks are made of. */
#include "seq2seq/internal.h"

enum { MOST_OUTPUTS = 3 /* that are made of one input: queries, keys and values */ };

/* ---------------------------------------------------------------- norms and dense layers */

void norm_forward(const pass *p, const norm_slot *norm, float *out, float *saved, const float *in, size_t N, size_t C) {
    const float *scale = parameter_value(p->model, norm->scale);
    if (p->model->config.rms_norm)
        rmsnorm_forward(out, saved, in, scale, N, C, NORM_EPSILON);
    else
        layernorm_forward(out, saved, in, scale, parameter_value(p->model, norm->bias), N, C, NORM_EPSILON);
}

void norm_backward(const pass *p, const norm_slot *norm, float *din, const float *dout, const float *in, const float *saved,
                   size_t N, size_t C, bool accumulate) {
    const float *scale = parameter_value(p->model, norm->scale);
    float *dscale = parameter_grad(p->model, norm->scale);
    if (p->model->config.rms_norm)
        rmsnorm_backward(din, dscale, dout, in, saved, scale, N, C, accumulate);
    else
        layernorm_backward(din, dscale, parameter_grad(p->model, norm->bias), dout, in, saved, scale, N, C, accumulate);
}

void dense_forward(const pass *p, const dense_slot *dense, float *out, const float *in, size_t N, size_t C, size_t OC) {
    dense_forward_many(p, &(dense_output){dense, out, OC}, 1, in, N, C);
}

void dense_forward_many(const pass *p, const dense_output *outputs, size_t count, const float *in, size_t N, size_t C) {
    packed_product products[MOST_OUTPUTS];
    for (size_t i = 0; i < count; i++) {
        const dense_slot *dense = outputs[i].dense;
        const float *bias = parameter_value(p->model, dense->bias);
        if (p->packed)
            products[i] = (packed_product){outputs[i].out, p->model->packed[dense->weight], bias};
        else
            linear_forward(outputs[i].out, in, parameter_value(p->model, dense->weight), bias, N, C, outputs[i].OC);
    }
    if (p->packed) packed_linear_forward(products, count, in, N, p->scratch);
}

void dense_backward(const pass *p, const dense_slot *dense, float *din, const float *dout, const float *in, size_t N, size_t C,
                    size_t OC, bool accumulate) {
    linear_backward(din, parameter_grad(p->model, dense->weight), parameter_grad(p->model, dense->bias), dout, in,
                    parameter_value(p->model, dense->weight), N, C, OC, accumulate);
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

void dropout_apply(const pass *p, float *x, double rate, size_t site, size_t n) {
    if (!dropout_wanted(p, rate)) return;
    uint64_t seed, stream;
    dropout_key(p, site, &seed, &stream);
    dropout_forward(x, x, (float)rate, seed, stream, n);
}

void dropout_apply_backward(const pass *p, float *din, const float *dout, double rate, size_t site, size_t n) {
    uint64_t seed, stream;
    dropout_key(p, site, &seed, &stream);
    dropout_backward(din, dout, (float)rate, seed, stream, n);
}

/* ---------------------------------------------------------------- head scale (NormFormer, arXiv 2110.09456) */

void head_scale_forward(float *out, const float *in, const float *scale, size_t N, size_t H, size_t D) {
#pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++)
        for (size_t h = 0; h < H; h++)
            for (size_t d = n * H * D + h * D; d < n * H * D + h * D + D; d++) out[d] = in[d] * scale[h];
}

void head_scale_backward(float *din, float *dscale, const float *dout, const float *in, const float *scale, size_t N, size_t H,
                         size_t D) {
    /* A head to a thread, rows in order: the same bits for any number of threads. */
#pragma omp parallel for schedule(static)
    for (size_t h = 0; h < H; h++) {
        double sum = 0;
        for (size_t n = 0; n < N; n++)
            for (size_t d = n * H * D + h * D; d < n * H * D + h * D + D; d++) {
                sum += (double)dout[d] * (double)in[d];
                din[d] = dout[d] * scale[h];
            }
        if (dscale != NULL) dscale[h] += (float)sum;
    }
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
