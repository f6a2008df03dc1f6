/* Resampling against the same filters in double, one sum over the whole filter a pixel, mirrored at the edges; and every kind
 * of processor's passes against each other. */
#include "pictures/resample.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    size_t width, height;
    picture_part part;
    size_t out_width, out_height;
} sizes;

static const sizes cases[] = {
    {640, 427, {0, 0, 640, 427}, 384, 256},
    {640, 427, {106.5, 0, 427, 427}, 256, 256},
    {427, 641, {0, 107.25, 427, 426.5}, 256, 256},
    {188, 127, {0.25, 0.5, 187.75, 126.375}, 95, 64},
    {257, 255, {0, 0, 257, 255}, 256, 254},
    {60, 40, {0, 0, 60, 40}, 150, 100},
    {60, 40, {11.3, 2.7, 33.1, 30.9}, 101, 97},
    {31, 17, {0, 0, 31, 17}, 310, 170},
    {20000, 3, {0, 0, 20000, 3}, 1024, 3},
    {20000, 3, {9998.5, 0, 3, 3}, 64, 64}, /* grows */
    {20000, 3, {0, 0, 20000, 3}, 256, 1},
    {3, 5000, {0, 0, 3, 5000}, 2, 3333},
    {3, 5000, {0, 0, 3, 5000}, 1, 100},
    {1, 50, {0, 0, 1, 50}, 20, 1000},
    {1, 999, {0, 0, 1, 999}, 1, 64},
    {999, 1, {0, 0, 999, 1}, 64, 1},
    {50, 1, {0, 0, 50, 1}, 350, 7},
    {1, 1, {0, 0, 1, 1}, 9, 9},
    {2, 2, {0, 0, 2, 2}, 1, 1},
    {5, 5, {0, 0, 5, 5}, 3, 3},
    {7, 4, {0, 0, 7, 4}, 3, 2},
    {700, 500, {0, 0, 700, 500}, 1, 1},
    {300, 200, {0, 0, 300, 200}, 20, 400}, /* one direction shrinks, the other grows */
};
enum { CASES = sizeof cases / sizeof *cases };

/* Exactly as much memory as there are pixels, so that the sanitizers see every step beyond. */
static picture make_noise(size_t width, size_t height, uint32_t seed) {
    picture out = {.width = width, .height = height, .pixels = malloc(width * height * 3)};
    assert_non_null(out.pixels);
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width * 3; x++) {
            seed = seed * 1664525 + 1013904223;
            const double wave = 128 + 90 * sin(0.05 * (double)x) * cos(0.11 * (double)y);
            const bool extreme = (x / 30 + y / 7) % 5 == 0; /* blocks of black and white: the filters overshoot there */
            const double value = extreme ? ((x / 60) % 2 ? 255 : 0) : wave + (double)(seed >> 27) - 16;
            out.pixels[y * width * 3 + x] = (unsigned char)fmin(fmax(value, 0), 255);
        }
    return out;
}

static picture resample(const sizes *s, const picture *in, const resample_kernels *kernels) {
    limn_error error = {0};
    picture out = {.width = s->out_width, .height = s->out_height, .pixels = malloc(s->out_width * s->out_height * 3)};
    assert_non_null(out.pixels);
    if (picture_resample(in, &s->part, &out, kernels, &error)) fail_msg("%s", error.message);
    return out;
}

/* ---------------------------------------------------------------- the reference */

static double filter_at(double x, bool lanczos) {
    static const double pi = 3.14159265358979323846;
    x = fabs(x);
    if (lanczos) return x == 0 ? 1 : x < 3 ? sin(pi * x) / (pi * x) * sin(pi * x / 3) / (pi * x / 3) : 0;
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/* count values `stride` apart to outputs of them, from `from` on. */
static void filter_line(double *out, size_t outputs, const double *in, size_t count, size_t stride, double from, double length,
                        bool lanczos) {
    const double ratio = length / (double)outputs, stretch = fmax(ratio, 1);
    for (size_t i = 0; i < outputs; i++) {
        const double centre = from + ((double)i + 0.5) * ratio;
        double sum = 0, weights = 0;
        for (long j = lround(centre - 3 * stretch) - 1; (double)j < centre + 3 * stretch + 1; j++) {
            const double weight = filter_at(((double)j + 0.5 - centre) / stretch, lanczos);
            long at = j < 0 ? -1 - j : j;
            if (at >= (long)count) at = 2 * (long)count - 1 - at;
            if (at < 0) at = 0;
            if (at >= (long)count) at = (long)count - 1;
            sum += weight * in[(size_t)at * stride];
            weights += weight;
        }
        out[i * stride] = sum / weights;
    }
}

static double *filter_picture(const sizes *s, const picture *in) {
    const picture_part part = s->part;
    const bool lanczos = (double)s->out_width < part.width || (double)s->out_height < part.height;
    double *rows = calloc(in->width * s->out_height * 3, sizeof *rows),
           *column = calloc(in->height + s->out_height, sizeof *column);
    double *out = calloc(s->out_width * s->out_height * 3, sizeof *out), *line = column + in->height;
    assert_true(rows && column && out);
    for (size_t x = 0; x < in->width * 3; x++) {
        for (size_t y = 0; y < in->height; y++) column[y] = in->pixels[y * in->width * 3 + x];
        filter_line(line, s->out_height, column, in->height, 1, part.top, part.height, lanczos);
        for (size_t y = 0; y < s->out_height; y++) rows[y * in->width * 3 + x] = line[y];
    }
    for (size_t y = 0; y < s->out_height; y++)
        for (size_t c = 0; c < 3; c++)
            filter_line(out + y * s->out_width * 3 + c, s->out_width, rows + y * in->width * 3 + c, in->width, 3, part.left,
                        part.width, lanczos);
    free(rows);
    free(column);
    return out;
}

static void near_the_filters_in_double(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        picture in = make_noise(cases[i].width, cases[i].height, (uint32_t)i);
        picture out = resample(&cases[i], &in, NULL);
        double *expected = filter_picture(&cases[i], &in), most = 0, sum = 0;
        const size_t count = out.width * out.height * 3;
        for (size_t k = 0; k < count; k++) {
            const double off = fabs(out.pixels[k] - fmin(fmax(expected[k], 0), 255));
            most = fmax(most, off);
            sum += off;
        }
        /* rounding to whole levels is off by 1/2 at most, and by 1/4 in the mean */
        if (!(most < 0.75)) fail_msg("case %zu: a pixel is off by %.3f", i, most);
        if (count > 100 && !(sum / (double)count < 0.26)) fail_msg("case %zu: off by %.4f in the mean", i, sum / (double)count);
        free(expected);
        picture_free(&in);
        picture_free(&out);
    }
}

static void every_processor_makes_the_same_bytes(void **state) {
    (void)state;
    size_t kinds = 0;
    while (resample_kernels_at(kinds)) kinds++;
    assert_true(kinds >= 1);
    assert_string_equal(resample_kernels_at(kinds - 1)->name, "portable");
    for (size_t i = 0; i < CASES; i++) {
        picture in = make_noise(cases[i].width, cases[i].height, (uint32_t)(100 + i));
        picture expected = resample(&cases[i], &in, resample_kernels_at(kinds - 1));
        for (size_t k = 0; k + 1 < kinds; k++) {
            picture got = resample(&cases[i], &in, resample_kernels_at(k));
            if (memcmp(got.pixels, expected.pixels, got.width * got.height * 3) != 0)
                fail_msg("case %zu: %s makes other bytes", i, resample_kernels_at(k)->name);
            picture_free(&got);
        }
        picture_free(&in);
        picture_free(&expected);
    }
}

/* What the passes lean on. */
static void weights_are_whole_and_bounded(void **state) {
    (void)state;
    static const struct {
        size_t size;
        double from, length;
        size_t outputs;
    } axes[] = {{1, 0, 1, 1},      {1, 0, 1, 100},       {2, 0, 2, 1},       {3, 0, 3, 256},           {640, 106.5, 427, 256},
                {100, 0, 100, 99}, {100, 0.5, 99.25, 7}, {5000, 0, 5000, 1}, {1048576, 0, 1048576, 3}, {33, 0, 33, 1000}};
    for (size_t a = 0; a < 4 * (sizeof axes / sizeof *axes); a++) {
        const size_t i = a / 4;
        const bool lanczos = a & 1, even = a & 2;
        resample_axis axis;
        assert_int_equal(
            resample_axis_make(&axis, axes[i].size, axes[i].from, axes[i].length, axes[i].outputs, lanczos, even, NULL), 0);
        assert_int_equal(axis.stride % 8, 0);
        assert_true(axis.start + axis.inputs <= axes[i].size);
        for (size_t x = 0; x < axis.outputs; x++) {
            long sum = 0, magnitude = 0;
            for (size_t k = 0; k < axis.stride; k++) {
                sum += axis.weights[x * axis.stride + k];
                magnitude += labs((long)axis.weights[x * axis.stride + k]);
                if (k >= axis.taps[x]) assert_int_equal(axis.weights[x * axis.stride + k], 0);
            }
            assert_int_equal(sum, 1 << RESAMPLE_WEIGHT);
            assert_true(magnitude < 2 << RESAMPLE_WEIGHT);
            assert_true(axis.taps[x] <= axis.most_taps && axis.first[x] + axis.taps[x] <= axis.inputs);
            if (even) assert_int_equal(axis.first[x] % 2, 0);
        }
        resample_axis_free(&axis);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_the_filters_in_double),
        cmocka_unit_test(every_processor_makes_the_same_bytes),
        cmocka_unit_test(weights_are_whole_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
