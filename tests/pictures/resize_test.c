/* Resizing against filters written plainly in double, as Pillow computes them: stretched when shrinking, and normalised over
 * what lies inside the picture. */
#include "make.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double pi = 3.14159265358979323846;

static double sinc(double x) {
    return x == 0 ? 1 : sin(pi * x) / (pi * x);
}

static double lanczos(double x) {
    return fabs(x) < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static double cubic(double x) { /* Keys, a = -1/2 */
    x = fabs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
    return 0;
}

/* One axis: in (n_in, inner) with `stride` between its elements. */
static void filter_line(double *out, size_t n_out, const double *in, size_t n_in, size_t stride, double scale, double offset,
                        double (*kernel)(double)) {
    double stretch = scale > 1 ? scale : 1;
    for (size_t i = 0; i < n_out; i++) {
        double centre = offset + ((double)i + 0.5) * scale - 0.5, sum = 0, weights = 0;
        for (size_t j = centre > 3 * stretch ? (size_t)(centre - 3 * stretch) : 0; j < n_in; j++) {
            if ((double)j > centre + 3 * stretch) break;
            double weight = kernel(((double)j - centre) / stretch);
            sum += weight * in[j * stride];
            weights += weight;
        }
        out[i * stride] = sum / weights;
    }
}

/* Resizes to whole_width × whole_height and cuts `width` × `height` at (left, top). */
static picture resize_plainly(const picture *in, size_t whole_width, size_t whole_height, size_t left, size_t top, size_t width,
                              size_t height, double (*kernel)(double)) {
    double across = (double)in->width / (double)whole_width, down = (double)in->height / (double)whole_height;
    double *source = calloc(in->width * in->height, sizeof *source), *rows = calloc(width * in->height, sizeof *rows);
    double *line_in = calloc(in->width + in->height, sizeof *line_in), *line_out = calloc(width + height, sizeof *line_out);
    picture out;
    assert_int_equal(picture_create(&out, width, height, NULL), 0);
    for (size_t c = 0; c < 3; c++) {
        for (size_t i = 0; i < in->width * in->height; i++) source[i] = in->pixels[i * 3 + c];
        for (size_t y = 0; y < in->height; y++) {
            memcpy(line_in, source + y * in->width, in->width * sizeof *line_in);
            filter_line(line_out, width, line_in, in->width, 1, across, (double)left * across, kernel);
            memcpy(rows + y * width, line_out, width * sizeof *line_out);
        }
        for (size_t x = 0; x < width; x++) {
            for (size_t y = 0; y < in->height; y++) line_in[y] = rows[y * width + x];
            filter_line(line_out, height, line_in, in->height, 1, down, (double)top * down, kernel);
            for (size_t y = 0; y < height; y++)
                out.pixels[(y * width + x) * 3 + c] = (unsigned char)fmin(fmax(line_out[y] + 0.5, 0), 255);
        }
    }
    free(source);
    free(rows);
    free(line_in);
    free(line_out);
    return out;
}

static picture resize(const picture *in, resize_mode mode, size_t size) {
    limn_error error = {0};
    picture out;
    if (picture_resize(in, &out, mode, size, &error)) fail_msg("%s", error.message);
    return out;
}

static void assert_near(picture *got, picture *expected, double psnr) {
    assert_int_equal(got->width, expected->width);
    assert_int_equal(got->height, expected->height);
    double found = picture_psnr(got, expected);
    print_message("           %zux%zu: %.1f dB\n", got->width, got->height, found);
    if (!(found > psnr)) fail_msg("%.1f dB is not more than %.1f", found, psnr);
    picture_free(got);
    picture_free(expected);
}

static void shrinking_is_lanczos(void **state) {
    (void)state;
    const struct {
        size_t width, height, size, whole_width, whole_height;
    } cases[] = {{320, 213, 64, 96, 64},
                 {213, 320, 100, 100, 150},
                 {500, 90, 64, 356, 64},
                 {128, 128, 64, 64, 64},
                 {257, 255, 254, 256, 254}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size = cases[i].size, width = cases[i].whole_width, height = cases[i].whole_height;
        picture photo = make_photo(cases[i].width, cases[i].height, i);
        picture got = resize(&photo, RESIZE_CENTER_CROP, size);
        picture expected = resize_plainly(&photo, width, height, (width - size) / 2, (height - size) / 2, size, size, lanczos);
        assert_near(&got, &expected, 58);
        got = resize(&photo, RESIZE_KEEP_RATIO, size);
        expected = resize_plainly(&photo, width, height, 0, 0, width, height, lanczos);
        assert_near(&got, &expected, 58);
        picture_free(&photo);
    }
}

static void growing_is_bicubic(void **state) {
    (void)state;
    picture photo = make_photo(60, 40, 8);
    picture got = resize(&photo, RESIZE_CENTER_CROP, 100);
    picture expected = resize_plainly(&photo, 150, 100, 25, 0, 100, 100, cubic);
    assert_near(&got, &expected, 58);
    got = resize(&photo, RESIZE_KEEP_RATIO_LARGEST, 90);
    expected = resize_plainly(&photo, 90, 60, 0, 0, 90, 60, cubic);
    assert_near(&got, &expected, 58);
    picture_free(&photo);
}

static void borders_are_white_and_even(void **state) {
    (void)state;
    picture photo = make_photo(200, 100, 9), inner;
    picture got = resize(&photo, RESIZE_BORDER, 64);
    assert_int_equal(got.width, 64);
    assert_int_equal(got.height, 64);
    for (size_t y = 0; y < 64; y++)
        for (size_t i = 0; i < 64 * 3; i++)
            if (y < 16 || y >= 48) assert_int_equal(got.pixels[y * 64 * 3 + i], 255);
    assert_int_equal(picture_create(&inner, 64, 32, NULL), 0);
    memcpy(inner.pixels, got.pixels + 16 * 64 * 3, 64 * 32 * 3);
    picture expected = resize_plainly(&photo, 64, 32, 0, 0, 64, 32, lanczos);
    assert_near(&inner, &expected, 58);
    picture_free(&got);
    picture_free(&photo);
}

static void sizes_of_every_mode(void **state) {
    (void)state;
    picture photo = make_photo(90, 31, 10);
    const struct {
        resize_mode mode;
        size_t size, width, height;
    } cases[] = {{RESIZE_CENTER_CROP, 31, 31, 31},        {RESIZE_KEEP_RATIO, 31, 90, 31}, {RESIZE_KEEP_RATIO, 62, 180, 62},
                 {RESIZE_KEEP_RATIO_LARGEST, 45, 45, 16}, {RESIZE_NONE, 5, 90, 31},        {RESIZE_BORDER, 100, 100, 100},
                 {RESIZE_KEEP_RATIO_LARGEST, 1, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        picture got = resize(&photo, cases[i].mode, cases[i].size);
        assert_int_equal(got.width, cases[i].width);
        assert_int_equal(got.height, cases[i].height);
        picture_free(&got);
    }
    picture same = resize(&photo, RESIZE_KEEP_RATIO, 31);
    assert_true(isinf(picture_psnr(&same, &photo)));
    picture_free(&same);
    picture middle = resize(&photo, RESIZE_CENTER_CROP, 31); /* a cut alone changes no pixel */
    for (size_t y = 0; y < 31; y++) assert_memory_equal(middle.pixels + y * 31 * 3, photo.pixels + (y * 90 + 29) * 3, 31 * 3);
    picture_free(&middle);
    picture_free(&photo);
    resize_mode mode;
    assert_int_equal(resize_mode_from_name("keep-ratio-largest", &mode), 0);
    assert_int_equal(mode, RESIZE_KEEP_RATIO_LARGEST);
    assert_int_equal(resize_mode_from_name("crop", &mode), -1);
}

/* A plain colour stays that colour, whatever the sizes: pixels and slivers too. */
static void smallest_and_thinnest(void **state) {
    (void)state;
    const size_t sides[] = {1, 2, 3, 5, 9, 64, 1000};
    const size_t sizes[] = {1, 2, 7, 64};
    const resize_mode modes[] = {RESIZE_CENTER_CROP, RESIZE_KEEP_RATIO, RESIZE_BORDER, RESIZE_KEEP_RATIO_LARGEST};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        for (size_t j = 0; j < sizeof sides / sizeof *sides; j++) {
            picture plain = make_plain(sides[i], sides[j], 200, 100, 50);
            for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
                for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
                    picture got = resize(&plain, modes[m], sizes[k]);
                    const unsigned char *middle = got.pixels + ((got.height - 1) / 2 * got.width + (got.width - 1) / 2) * 3;
                    if (abs(middle[0] - 200) > 1 || abs(middle[1] - 100) > 1 || abs(middle[2] - 50) > 1)
                        fail_msg("%zux%zu to %zu: %d %d %d", sides[i], sides[j], sizes[k], middle[0], middle[1], middle[2]);
                    picture_free(&got);
                }
            picture_free(&plain);
        }
    picture sliver = make_plain(100000, 1, 1, 2, 3), out;
    limn_error error = {0};
    assert_int_equal(picture_resize(&sliver, &out, RESIZE_KEEP_RATIO, 10000, &error), -1);
    assert_null(out.pixels);
    assert_int_equal(picture_resize(&sliver, &out, RESIZE_CENTER_CROP, 0, &error), -1);
    picture_free(&sliver);
}

/* The whole way of a downloaded JPEG: decoded scaled, then resized, against a full decode and a plain filter. */
static void scaled_decoding_keeps_quality(void **state) {
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        picture photo = make_photo(640 + i * 37, 427 + i * 31, 20 + i), full, part;
        size_t size = 64;
        limn_buffer bytes = make_jpeg(&photo, NULL, photo.width, photo.height, (jpeg_kind){.subsample = true});
        const unsigned char *data = (const unsigned char *)bytes.data;
        assert_int_equal(picture_decode(&full, data, bytes.size, NULL, NULL, NULL, NULL), 0);
        size_t width = (size_t)round((double)(full.width * size) / (double)full.height);
        for (size_t margin = 1; margin <= 4; margin++) {
            picture_decode_options options = {.min_side = size * margin};
            assert_int_equal(picture_decode(&part, data, bytes.size, &options, NULL, NULL, NULL), 0);
            picture got = resize(&part, RESIZE_CENTER_CROP, size);
            picture expected = resize_plainly(&full, width, size, (width - size) / 2, 0, size, size, lanczos);
            print_message("           margin %zu, decoded at %zux%zu\n", margin, part.width, part.height);
            assert_near(&got, &expected, margin > 1 ? 45 : 38);
            picture_free(&part);
        }
        limn_buffer_free(&bytes);
        picture_free(&full);
        picture_free(&photo);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shrinking_is_lanczos),       cmocka_unit_test(growing_is_bicubic),
        cmocka_unit_test(borders_are_white_and_even), cmocka_unit_test(sizes_of_every_mode),
        cmocka_unit_test(smallest_and_thinnest),      cmocka_unit_test(scaled_decoding_keeps_quality),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
