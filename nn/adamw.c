#include "nn/nn.h"

#include <math.h>

#include "nn/internal.h"

typedef struct {
    float beta1, beta2, rest1, rest2; /* rest = 1 − beta */
    float correction1, correction2;   /* 1/(1 − beta^step) */
    float rate, epsilon, decay, grad_scale;
} constants;

LIMN_CLONES static void step_piece(float *value, float *m, float *v, const float *grad, size_t n, const constants *c) {
    const constants k = *c;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] * k.grad_scale;
        float first = k.beta1 * m[i] + k.rest1 * g;
        float second = k.beta2 * v[i] + k.rest2 * (g * g);
        m[i] = first;
        v[i] = second;
        float change = first * k.correction1 / (sqrtf(second * k.correction2) + k.epsilon);
        value[i] -= k.rate * (change + k.decay * value[i]);
    }
}

void adamw_step(float *value, float *m, float *v, const float *grad, size_t n, const adamw_options *options, uint64_t step,
                float grad_scale) {
    const constants c = {.beta1 = (float)options->beta1,
                         .beta2 = (float)options->beta2,
                         .rest1 = (float)(1 - options->beta1),
                         .rest2 = (float)(1 - options->beta2),
                         .correction1 = (float)(1 / (1 - pow(options->beta1, (double)step))),
                         .correction2 = (float)(1 / (1 - pow(options->beta2, (double)step))),
                         .rate = (float)options->learning_rate,
                         .epsilon = (float)options->epsilon,
                         .decay = (float)options->weight_decay,
                         .grad_scale = grad_scale};
    LIMN_FOR_PIECES(start, n) step_piece(value + start, m + start, v + start, grad + start, piece_length(start, n), &c);
}

float clip_by_global_norm_scale(double norm, double max_norm) {
    return max_norm == 0 || norm <= max_norm ? 1.0f : (float)(max_norm / norm);
}
