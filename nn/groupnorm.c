/* GroupNorm (Wu and He, arXiv 1803.08494) of channels-last pictures, with an optional swish after it. */
#include "core/core.h"
#include "nn/channel_statistics.h"
#include "nn/nn.h"

#include <math.h>

/* How B pictures of so many groups are shared out: each item is one picture and a run of whole groups. Sharing out pixels would
 * need scratch for sums; sharing out channels gives the same bits for any number of threads. */
typedef struct {
    size_t P, C, groups, group_channels;
    size_t runs, run_groups; /* per picture; groups in a run (the last may have fewer) */
} partition;

static partition share_out(size_t B, size_t P, size_t C, size_t groups) {
    partition part = {.P = P, .C = C, .groups = groups, .group_channels = C / groups};
    /* As many channels as one call takes; fewer, down to a cache line of them, when pictures are fewer than threads want. */
    size_t channels = CHANNELS_AT_ONCE, wanted = limn_get_threads();
    while (channels > 16 && B % wanted != 0 && B < 4 * wanted && B * ((C + channels - 1) / channels) < 2 * wanted)
        channels /= 2;
    part.run_groups = channels / part.group_channels > 0 ? channels / part.group_channels : 1;
    part.runs = (groups + part.run_groups - 1) / part.run_groups;
    return part;
}

/* The channels of a run, CHANNELS_AT_ONCE at a time: begins at `first`, returns how many. */
static size_t channels_from(size_t first, size_t end) {
    return end - first < CHANNELS_AT_ONCE ? end - first : CHANNELS_AT_ONCE;
}

/* What channel_statistics.h wants to know of n channels from `first`, of one picture. */
typedef struct {
    float mean[CHANNELS_AT_ONCE], scale[CHANNELS_AT_ONCE], bias[CHANNELS_AT_ONCE];
} channel_terms;

static void gather_terms(channel_terms *terms, const float *saved, const float *scale, const float *bias, const partition *part,
                         size_t first, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float *group = saved + (first + i) / part->group_channels * 2;
        terms->mean[i] = group[0];
        terms->scale[i] = group[1] * scale[first + i];
        terms->bias[i] = bias[first + i];
    }
}

/* Mean and reciprocal deviation of groups [first_group, last_group) of one picture into saved (groups, 2). */
static void group_moments(float *saved, const float *in, const partition *part, size_t first_group, size_t last_group,
                          float epsilon) {
    double mean[CHANNELS_AT_ONCE], squares[CHANNELS_AT_ONCE];
    double group_mean = 0, group_squares = 0;
    size_t seen = 0; /* channels of the current group */
    const size_t end = last_group * part->group_channels;
    for (size_t first = first_group * part->group_channels, n; first < end; first += n) {
        n = channels_from(first, end);
        channel_moments(mean, squares, in + first, part->P, part->C, n);
        for (size_t i = 0; i < n; i++) {
            const double delta = mean[i] - group_mean, count = (double)seen;
            group_squares += squares[i] + (double)part->P * delta * delta * count / (count + 1);
            group_mean += delta / (count + 1);
            if (++seen < part->group_channels) continue;
            float *group = saved + (first + i) / part->group_channels * 2;
            group[0] = (float)group_mean;
            group[1] = (float)(1 / sqrt(group_squares / (double)(part->P * part->group_channels) + (double)epsilon));
            group_mean = group_squares = 0;
            seen = 0;
        }
    }
}

void groupnorm_forward(float *out, float *saved, const float *in, const float *scale, const float *bias, size_t B, size_t P,
                       size_t C, size_t groups, float epsilon, bool swish) {
    const partition part = share_out(B, P, C, groups);
#pragma omp parallel for schedule(dynamic) num_threads((int)limn_get_threads())
    for (size_t item = 0; item < B * part.runs; item++) {
        const size_t b = item / part.runs, first_group = item % part.runs * part.run_groups;
        const size_t last_group = first_group + part.run_groups < groups ? first_group + part.run_groups : groups;
        const size_t end = last_group * part.group_channels;
        group_moments(saved + b * groups * 2, in + b * P * C, &part, first_group, last_group, epsilon);
        for (size_t first = first_group * part.group_channels, n; first < end; first += n) {
            n = channels_from(first, end);
            channel_terms terms;
            gather_terms(&terms, saved + b * groups * 2, scale, bias, &part, first, n);
            channel_scale(out + b * P * C + first, in + b * P * C + first, terms.mean, terms.scale, terms.bias, swish, P, C, n);
        }
    }
}

/* One run of groups of one picture. sums is (2, C) for this picture: of dz, and of dz·x̂. dz is where dz is kept when there is a
 * swish: din, or scratch when din holds something. */
static void backward_run(float *din, double *sums, float *dz, const float *dout, const float *in, const float *saved,
                         const float *scale, const float *bias, const partition *part, size_t first_group, size_t last_group,
                         bool swish, bool accumulate) {
    channel_terms terms;
    const size_t P = part->P, C = part->C, size = part->group_channels;
    const size_t begin = first_group * size, end = last_group * size;
    for (size_t first = begin, n; first < end; first += n) {
        n = channels_from(first, end);
        gather_terms(&terms, saved, scale, bias, part, first, n);
        channel_gradient_sums(sums + first, sums + C + first, dz != NULL ? dz + first : NULL, dout + first, in + first,
                              terms.mean, terms.scale, terms.bias, swish, P, C, n);
        for (size_t i = 0; i < n; i++) sums[C + first + i] *= (double)saved[(first + i) / size * 2 + 1];
    }
    if (din == NULL) return;
    /* din = r·(dz·scale − mean over the group of dz·scale − x̂·mean over the group of dz·scale·x̂) */
    for (size_t first = begin, n; first < end; first += n) {
        float slope[CHANNELS_AT_ONCE], offset[CHANNELS_AT_ONCE];
        n = channels_from(first, end);
        gather_terms(&terms, saved, scale, bias, part, first, n);
        for (size_t i = 0; i < n; i++) {
            const size_t group = (first + i) / size;
            if (i > 0 && (first + i) % size != 0) { /* the same group as the channel before */
                slope[i] = slope[i - 1];
                offset[i] = offset[i - 1];
                continue;
            }
            double mean = 0, projection = 0;
            for (size_t c = group * size; c < (group + 1) * size; c++) {
                mean += (double)scale[c] * sums[c];
                projection += (double)scale[c] * sums[C + c];
            }
            const double count = (double)(P * size), reciprocal = (double)saved[group * 2 + 1];
            slope[i] = (float)(-reciprocal * reciprocal * projection / count);
            offset[i] = (float)(-reciprocal * mean / count);
        }
        channel_gradient(din + first, (swish ? dz : dout) + first, in + first, terms.mean, terms.scale, slope, offset,
                         accumulate, P, C, n);
    }
}

void groupnorm_backward(float *din, float *dscale, float *dbias, const float *dout, const float *in, const float *saved,
                        const float *scale, const float *bias, size_t B, size_t P, size_t C, size_t groups, bool swish,
                        bool accumulate, limn_arena *arena) {
    const partition part = share_out(B, P, C, groups);
    const size_t mark = limn_arena_mark(arena), picture = P * C;
    double *sums = limn_arena_bytes(arena, B * 2 * C * sizeof *sums);
    float *dz = swish && accumulate && din != NULL ? limn_arena_floats(arena, B * picture) : din;
#pragma omp parallel for schedule(dynamic) num_threads((int)limn_get_threads())
    for (size_t item = 0; item < B * part.runs; item++) {
        const size_t b = item / part.runs, first_group = item % part.runs * part.run_groups;
        const size_t last_group = first_group + part.run_groups < groups ? first_group + part.run_groups : groups;
        backward_run(din != NULL ? din + b * picture : NULL, sums + b * 2 * C, dz != NULL ? dz + b * picture : NULL,
                     dout + b * picture, in + b * picture, saved + b * groups * 2, scale, bias, &part, first_group, last_group,
                     swish, accumulate);
    }
    for (size_t c = 0; c < C; c++) {
        double bias_sum = 0, scale_sum = 0;
        for (size_t b = 0; b < B; b++) {
            bias_sum += sums[b * 2 * C + c];
            scale_sum += sums[(b * 2 + 1) * C + c];
        }
        if (dbias != NULL) dbias[c] += (float)bias_sum;
        if (dscale != NULL) dscale[c] += (float)scale_sum;
    }
    limn_arena_release(arena, mark);
}
