/* Statistics and scaling per channel of channels-last pictures: what GroupNorm and BatchNorm have in common.
 *
 * Every function works on `n` neighbouring channels of `P` pixels that lie `stride` floats apart (stride is all the channels),
 * on one thread; the sums do not depend on how channels are shared out among calls. n is at most CHANNELS_AT_ONCE. */
#ifndef LIMN_NN_CHANNEL_STATISTICS_H
#define LIMN_NN_CHANNEL_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>

enum { CHANNELS_AT_ONCE = 256 };

/* mean (n) and the sum of squared distances from it (n). */
void channel_moments(double *mean, double *squares, const float *in, size_t P, size_t stride, size_t n);

/* mean and squares (n) of `seen` numbers become those of these and of `more` others, whose are other_mean and other_squares. */
void merge_channel_moments(double *mean, double *squares, const double *other_mean, const double *other_squares, double seen,
                           double more, size_t n);

/* out = f((in − mean)·scale + bias), f the swish or nothing. scale and bias have the reciprocal deviation in them. */
void channel_scale(float *out, const float *in, const float *mean, const float *scale, const float *bias, bool swish, size_t P,
                   size_t stride, size_t n);

/* With z = (in − mean)·scale + bias and gradient = dout·f′(z): sum (n) of gradient and product (n) of gradient·(in − mean).
 * With the swish, gradient is kept (placed as dout, which it may be; NULL: not), so that the exponentials are not needed
 * again. */
void channel_gradient_sums(double *sum, double *product, float *gradient, const float *dout, const float *in, const float *mean,
                           const float *scale, const float *bias, bool swish, size_t P, size_t stride, size_t n);

/* din = gradient·scale + (in − mean)·slope + offset; added to din when accumulate. din may be gradient when not accumulate. */
void channel_gradient(float *din, const float *gradient, const float *in, const float *mean, const float *scale,
                      const float *slope, const float *offset, bool accumulate, size_t P, size_t stride, size_t n);

#endif
