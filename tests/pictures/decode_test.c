/* Every kind of picture that is right decodes to the right pixels. */
#include "make.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <png.h>

static picture decode(limn_buffer *bytes, const picture_decode_options *options) {
    limn_error error = {0};
    picture out;
    size_t width = 0, height = 0;
    int status = picture_decode(&out, (const unsigned char *)bytes->data, bytes->size, options, &width, &height, &error);
    if (status) fail_msg("%s", error.message);
    assert_true(width >= out.width && height >= out.height);
    limn_buffer_free(bytes);
    return out;
}

static void assert_near(picture *got, const picture *expected, double psnr) {
    assert_int_equal(got->width, expected->width);
    assert_int_equal(got->height, expected->height);
    double found = picture_psnr(got, expected);
    if (!(found >= psnr)) fail_msg("%.1f dB, less than %.1f", found, psnr);
    picture_free(got);
}

static void assert_pixel(const picture *got, size_t x, size_t y, int red, int green, int blue, int tolerance) {
    const unsigned char *p = got->pixels + (y * got->width + x) * 3;
    if (abs(p[0] - red) > tolerance || abs(p[1] - green) > tolerance || abs(p[2] - blue) > tolerance)
        fail_msg("pixel (%zu,%zu) is %d %d %d, not %d %d %d", x, y, p[0], p[1], p[2], red, green, blue);
}

static void sniffs_by_magic_bytes(void **state) {
    (void)state;
    assert_int_equal(picture_sniff((const unsigned char *)"\xff\xd8\xff\xe0", 4), PICTURE_JPEG);
    assert_int_equal(picture_sniff((const unsigned char *)"\x89PNG\r\n\x1a\n", 8), PICTURE_PNG);
    assert_int_equal(picture_sniff((const unsigned char *)"RIFF....WEBPVP8 ", 16), PICTURE_WEBP);
    assert_int_equal(picture_sniff((const unsigned char *)"RIFF....WAVE", 12), PICTURE_UNKNOWN);
    assert_int_equal(picture_sniff((const unsigned char *)"\xff\xd8", 2), PICTURE_UNKNOWN);
    assert_int_equal(picture_sniff(NULL, 0), PICTURE_UNKNOWN);
}

static void jpeg_colour_grey_progressive(void **state) {
    (void)state;
    picture photo = make_photo(97, 61, 1), got;
    for (int progressive = 0; progressive < 2; progressive++) {
        limn_buffer bytes = make_jpeg(&photo, NULL, 97, 61, (jpeg_kind){.progressive = progressive});
        got = decode(&bytes, NULL);
        assert_near(&got, &photo, 33);
    }
    limn_buffer bytes = make_jpeg(&photo, NULL, 97, 61, (jpeg_kind){.grey = true});
    got = decode(&bytes, NULL);
    for (size_t i = 0; i < 97 * 61; i++) {
        const unsigned char *was = photo.pixels + i * 3, *is = got.pixels + i * 3;
        double light = 0.299 * was[0] + 0.587 * was[1] + 0.114 * was[2];
        assert_true(is[0] == is[1] && is[1] == is[2]);
        assert_true(fabs(is[0] - light) < 30);
    }
    picture_free(&got);
    picture_free(&photo);
}

/* What an ink of value v (as Adobe stores it, 255 without ink) leaves of the light. */
static void jpeg_cmyk(void **state) {
    (void)state;
    enum { SIDE = 16 };
    unsigned char inks[SIDE * SIDE * 4];
    for (size_t i = 0; i < SIDE * SIDE; i++) memcpy(inks + i * 4, (unsigned char[]){200, 100, 50, 128}, 4);
    for (int kind = 1; kind <= 2; kind++) {
        limn_buffer bytes = make_jpeg(NULL, inks, SIDE, SIDE, (jpeg_kind){.cmyk = kind});
        picture got = decode(&bytes, NULL);
        assert_pixel(&got, 7, 8, 200 * 128 / 255, 100 * 128 / 255, 50 * 128 / 255, 2);
        picture_free(&got);
    }
    limn_buffer bytes = make_jpeg(NULL, inks, SIDE, SIDE, (jpeg_kind){.cmyk = 1, .no_adobe_marker = true});
    picture got = decode(&bytes, NULL);
    assert_pixel(&got, 7, 8, 55 * 127 / 255, 155 * 127 / 255, 205 * 127 / 255, 2);
    picture_free(&got);
}

static void jpeg_scaled(void **state) {
    (void)state;
    const struct {
        size_t width, height, min_side, expected_width, expected_height;
    } cases[] = {{640, 400, 0, 640, 400},   {640, 400, 401, 640, 400}, {640, 400, 201, 640, 400},
                 {640, 400, 200, 320, 200}, {640, 400, 50, 80, 50},    {640, 400, 1, 80, 50},
                 {101, 75, 38, 51, 38},     {101, 75, 39, 101, 75},    {40, 300, 10, 10, 75}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        picture photo = make_photo(cases[i].width, cases[i].height, 2);
        limn_buffer bytes = make_jpeg(&photo, NULL, photo.width, photo.height, (jpeg_kind){.subsample = true});
        size_t width, height;
        picture got;
        picture_decode_options options = {.min_side = cases[i].min_side};
        assert_int_equal(picture_decode(&got, (unsigned char *)bytes.data, bytes.size, &options, &width, &height, NULL), 0);
        assert_int_equal(got.width, cases[i].expected_width);
        assert_int_equal(got.height, cases[i].expected_height);
        assert_int_equal(width, cases[i].width);
        assert_int_equal(height, cases[i].height);
        limn_buffer_free(&bytes);
        picture_free(&got);
        picture_free(&photo);
    }
}

static void png_colour(void **state) {
    (void)state;
    picture photo = make_photo(53, 37, 3);
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        limn_buffer bytes = make_png(photo.pixels, 53 * 3, 53, 37, PNG_COLOR_TYPE_RGB, 8, interlaced, false);
        picture got = decode(&bytes, NULL);
        assert_near(&got, &photo, INFINITY);
    }
    picture_free(&photo);
}

static unsigned char on_white(double value, double alpha) {
    return (unsigned char)(value * alpha + 255 * (1 - alpha) + 0.5);
}

/* 16 bits a sample, with alpha: against the formula in double. */
static void png_deep_with_alpha(void **state) {
    (void)state;
    enum { WIDTH = 40, HEIGHT = 31 };
    static unsigned char rows[HEIGHT][WIDTH][4][2];
    picture expected;
    assert_int_equal(picture_create(&expected, WIDTH, HEIGHT, NULL), 0);
    for (size_t y = 0; y < HEIGHT; y++)
        for (size_t x = 0; x < WIDTH; x++) {
            unsigned sample[4] = {(unsigned)(x * 1600), (unsigned)(y * 2100), (unsigned)((x ^ y) * 1000),
                                  (unsigned)(x * y * 53)};
            for (size_t c = 0; c < 4; c++) {
                rows[y][x][c][0] = (unsigned char)(sample[c] >> 8);
                rows[y][x][c][1] = (unsigned char)sample[c];
                if (c < 3) expected.pixels[(y * WIDTH + x) * 3 + c] = on_white(sample[c] / 257.0, sample[3] / 65535.0);
            }
        }
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        limn_buffer bytes =
            make_png(&rows[0][0][0][0], WIDTH * 8, WIDTH, HEIGHT, PNG_COLOR_TYPE_RGB_ALPHA, 16, interlaced, false);
        picture got = decode(&bytes, NULL);
        for (size_t i = 0; i < WIDTH * HEIGHT * 3; i++) assert_true(abs(got.pixels[i] - expected.pixels[i]) <= 1);
        picture_free(&got);
    }
    picture_free(&expected);
}

static void png_palette_and_grey(void **state) {
    (void)state;
    const unsigned char indices[2][3] = {{0, 1, 2}, {2, 1, 0}};
    limn_buffer bytes = make_png(&indices[0][0], 3, 3, 2, PNG_COLOR_TYPE_PALETTE, 8, false, false);
    picture got = decode(&bytes, NULL);
    assert_pixel(&got, 0, 0, 255, 0, 0, 0);
    assert_pixel(&got, 1, 0, 127, 255, 127, 0); /* half of green, half of white */
    assert_pixel(&got, 2, 0, 255, 255, 255, 0); /* not there: white */
    assert_pixel(&got, 2, 1, 255, 0, 0, 0);
    picture_free(&got);

    const unsigned char bits[1] = {0xa0}; /* 1 0 1 of one bit each: black and white */
    bytes = make_png(bits, 1, 3, 1, PNG_COLOR_TYPE_GRAY, 1, false, false);
    got = decode(&bytes, NULL);
    assert_pixel(&got, 0, 0, 255, 255, 255, 0);
    assert_pixel(&got, 1, 0, 0, 0, 0, 0);
    picture_free(&got);

    const unsigned char greys[3] = {0, 1, 100}; /* grey 1 is transparent here */
    bytes = make_png(greys, 3, 3, 1, PNG_COLOR_TYPE_GRAY, 8, false, true);
    got = decode(&bytes, NULL);
    assert_pixel(&got, 0, 0, 0, 0, 0, 0);
    assert_pixel(&got, 1, 0, 255, 255, 255, 0);
    assert_pixel(&got, 2, 0, 100, 100, 100, 0);
    picture_free(&got);

    const unsigned char deep[4] = {0x12, 0x34, 0xff, 0xff}; /* 16-bit grey */
    bytes = make_png(deep, 4, 2, 1, PNG_COLOR_TYPE_GRAY, 16, false, false);
    got = decode(&bytes, NULL);
    assert_pixel(&got, 0, 0, 18, 18, 18, 0);
    assert_pixel(&got, 1, 0, 255, 255, 255, 0);
    picture_free(&got);

    const unsigned char grey_alpha[4] = {60, 255, 60, 51};
    bytes = make_png(grey_alpha, 4, 2, 1, PNG_COLOR_TYPE_GRAY_ALPHA, 8, false, false);
    got = decode(&bytes, NULL);
    assert_pixel(&got, 0, 0, 60, 60, 60, 0);
    assert_pixel(&got, 1, 0, 216, 216, 216, 0); /* a fifth of 60 and four fifths of white */
    picture_free(&got);
}

static void webp_still(void **state) {
    (void)state;
    picture photo = make_photo(70, 45, 4);
    unsigned char *opaque = make_rgba(&photo, false), *graded = make_rgba(&photo, true);
    limn_buffer bytes = make_webp(opaque, 70, 45, false);
    picture got = decode(&bytes, NULL);
    assert_near(&got, &photo, 30);
    bytes = make_webp(opaque, 70, 45, true);
    got = decode(&bytes, NULL);
    assert_near(&got, &photo, INFINITY);
    bytes = make_webp(graded, 70, 45, true);
    got = decode(&bytes, NULL);
    for (size_t y = 0; y < 45; y++)
        for (size_t x = 0; x < 70; x++) {
            const unsigned char *p = photo.pixels + (y * 70 + x) * 3;
            double alpha = (double)(x + y) / 255;
            if (x + y > 0) /* the encoder may drop the colour of what cannot be seen */
                assert_pixel(&got, x, y, on_white(p[0], alpha), on_white(p[1], alpha), on_white(p[2], alpha), 1);
        }
    picture_free(&got);
    free(opaque);
    free(graded);
    picture_free(&photo);
}

static void webp_animated_gives_its_first_frame(void **state) {
    (void)state;
    const unsigned char colours[3][4] = {{10, 200, 30, 255}, {255, 0, 0, 255}, {0, 0, 255, 255}};
    limn_buffer bytes = make_animated_webp(33, 20, colours, 3);
    picture got = decode(&bytes, NULL);
    assert_int_equal(got.width, 33);
    assert_int_equal(got.height, 20);
    assert_pixel(&got, 0, 0, 10, 200, 30, 0);
    assert_pixel(&got, 32, 19, 10, 200, 30, 0);
    picture_free(&got);
    const unsigned char clear[2][4] = {{0, 0, 0, 51}, {255, 0, 0, 255}};
    bytes = make_animated_webp(8, 8, clear, 2);
    got = decode(&bytes, NULL);
    assert_pixel(&got, 4, 4, 204, 204, 204, 1);
    picture_free(&got);
}

static void what_we_encode_we_decode(void **state) {
    (void)state;
    picture photo = make_photo(64, 64, 5), got;
    limn_buffer bytes = {0};
    assert_int_equal(picture_encode_png(&photo, &bytes, NULL), 0);
    got = decode(&bytes, NULL);
    assert_near(&got, &photo, INFINITY);
    bytes = (limn_buffer){0};
    assert_int_equal(picture_encode_jpeg(&photo, 95, &bytes, NULL), 0);
    got = decode(&bytes, NULL);
    assert_near(&got, &photo, 38);
    bytes = (limn_buffer){0};
    assert_int_equal(picture_encode_jpeg(&photo, 75, &bytes, NULL), 0);
    got = decode(&bytes, NULL);
    assert_near(&got, &photo, 20);
    limn_error error = {0};
    assert_int_equal(picture_encode_jpeg(&photo, 0, &bytes, &error), -1);
    assert_int_equal(picture_encode_jpeg(&(picture){.width = 70000, .height = 1}, 90, &bytes, &error), -1);
    assert_int_equal(picture_encode_png(&(picture){0}, &bytes, &error), -1);
    picture_free(&photo);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sniffs_by_magic_bytes),
        cmocka_unit_test(jpeg_colour_grey_progressive),
        cmocka_unit_test(jpeg_cmyk),
        cmocka_unit_test(jpeg_scaled),
        cmocka_unit_test(png_colour),
        cmocka_unit_test(png_deep_with_alpha),
        cmocka_unit_test(png_palette_and_grey),
        cmocka_unit_test(webp_still),
        cmocka_unit_test(webp_animated_gives_its_first_frame),
        cmocka_unit_test(what_we_encode_we_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
