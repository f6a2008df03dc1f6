/* What the discriminator is made of besides convolutions. BatchNorm (Ioffe and Szegedy, arXiv 1502.03167) in training mode:
 * channels are shared out among threads, so that results are the same for any number of them. */
#include "core/core.h"
#include "nn/channel_statistics.h"
#include "nn/internal.h"
#include "nn/nn.h"

#include <math.h>

/* Channels of one item of work: a cache line of them, more when that still leaves every thread something to do. */
static size_t channels_per_item(size_t C) {
    size_t channels = CHANNELS_AT_ONCE;
    while (channels > 16 && (C + channels - 1) / channels < 2 * limn_get_threads()) channels /= 2;
    return channels;
}

void batchnorm_forward(float *out, float *saved, const float *in, const float *scale, const float *bias, float *running_mean,
                       float *running_var, float momentum, size_t N, size_t C, float epsilon) {
    const size_t step = channels_per_item(C);
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t first = 0; first < C; first += step) {
        const size_t n = C - first < step ? C - first : step;
        double mean[CHANNELS_AT_ONCE], squares[CHANNELS_AT_ONCE];
        float full_scale[CHANNELS_AT_ONCE];
        channel_moments(mean, squares, in + first, N, C, n);
        for (size_t i = 0; i < n; i++) {
            const size_t c = first + i;
            saved[c] = (float)mean[i];
            saved[C + c] = (float)(1 / sqrt(squares[i] / (double)N + (double)epsilon));
            full_scale[i] = saved[C + c] * scale[c];
            if (running_mean == NULL || running_var == NULL) continue;
            /* of one row there is no unbiased variance; like PyTorch, that is the caller's to avoid */
            const double unbiased = squares[i] / (double)(N > 1 ? N - 1 : 1);
            running_mean[c] += momentum * ((float)mean[i] - running_mean[c]);
            running_var[c] += momentum * ((float)unbiased - running_var[c]);
        }
        channel_scale(out + first, in + first, saved + first, full_scale, bias + first, false, N, C, n);
    }
}

void batchnorm_backward(float *din, float *dscale, float *dbias, const float *dout, const float *in, const float *saved,
                        const float *scale, size_t N, size_t C) {
    const size_t step = channels_per_item(C);
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t first = 0; first < C; first += step) {
        const size_t n = C - first < step ? C - first : step;
        double sum[CHANNELS_AT_ONCE], product[CHANNELS_AT_ONCE];
        float full_scale[CHANNELS_AT_ONCE], slope[CHANNELS_AT_ONCE], offset[CHANNELS_AT_ONCE];
        const float *mean = saved + first;
        /* nothing follows the norm, so its bias plays no part in the gradient; any array will do for it */
        channel_gradient_sums(sum, product, NULL, dout + first, in + first, mean, mean, mean, false, N, C, n);
        for (size_t i = 0; i < n; i++) {
            const size_t c = first + i;
            const double reciprocal = (double)saved[C + c];
            full_scale[i] = saved[C + c] * scale[c];
            slope[i] = (float)(-(double)full_scale[i] * reciprocal * reciprocal * product[i] / (double)N);
            offset[i] = (float)(-(double)full_scale[i] * sum[i] / (double)N);
            if (dbias != NULL) dbias[c] += (float)sum[i];
            if (dscale != NULL) dscale[c] += (float)(product[i] * reciprocal);
        }
        if (din != NULL)
            channel_gradient(din + first, dout + first, in + first, mean, full_scale, slope, offset, false, N, C, n);
    }
}

/* ---------------------------------------------------------------- LeakyReLU, which follows it in the discriminator */

LIMN_CLONES static void leaky_relu_run(float *out, const float *in, float slope, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = in[i] > 0.0f ? in[i] : slope * in[i];
}

LIMN_CLONES static void leaky_relu_gradient_run(float *din, const float *dout, const float *in, float slope, size_t n) {
    for (size_t i = 0; i < n; i++) din[i] = in[i] > 0.0f ? dout[i] : slope * dout[i];
}

enum { LEAKY_RUN = 4096 };

void leaky_relu_forward(float *out, const float *in, float slope, size_t n) {
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t i = 0; i < n; i += LEAKY_RUN) leaky_relu_run(out + i, in + i, slope, n - i < LEAKY_RUN ? n - i : LEAKY_RUN);
}

void leaky_relu_backward(float *din, const float *dout, const float *in, float slope, size_t n) {
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t i = 0; i < n; i += LEAKY_RUN)
        leaky_relu_gradient_run(din + i, dout + i, in + i, slope, n - i < LEAKY_RUN ? n - i : LEAKY_RUN);
}
