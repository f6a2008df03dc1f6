/* EXIF's orientation, from every format that has one, and what is wrong with it. */
#include "make.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <png.h>

enum { WIDTH = 48, HEIGHT = 32 };

/* Quarters: red, green / blue, yellow. */
static picture make_quarters(void) {
    picture out = make_plain(WIDTH, HEIGHT, 250, 250, 0);
    for (size_t y = 0; y < HEIGHT; y++)
        for (size_t x = 0; x < WIDTH; x++) {
            static const unsigned char colours[4][3] = {{250, 0, 0}, {0, 250, 0}, {0, 0, 250}, {250, 250, 0}};
            memcpy(out.pixels + (y * WIDTH + x) * 3, colours[(y >= HEIGHT / 2) * 2 + (x >= WIDTH / 2)], 3);
        }
    return out;
}

static char colour_at(const picture *p, size_t x, size_t y) {
    const unsigned char *rgb = p->pixels + (y * p->width + x) * 3;
    return rgb[0] > 125 ? (rgb[1] > 125 ? 'y' : 'r') : rgb[1] > 125 ? 'g' : 'b';
}

static limn_buffer encode(const picture *p, int format) {
    unsigned char *rgba = make_rgba(p, false);
    limn_buffer out = format == 0 ? make_jpeg(p, NULL, p->width, p->height, (jpeg_kind){0})
                      : format == 1
                          ? make_png(p->pixels, p->width * 3, p->width, p->height, PNG_COLOR_TYPE_RGB, 8, false, false)
                          : make_webp(rgba, p->width, p->height, true);
    free(rgba);
    return out;
}

static picture decode(const limn_buffer *bytes, size_t min_side, picture_facts *facts) {
    picture out;
    limn_error error = {0};
    *facts = (picture_facts){0};
    if (picture_decode_upright(&out, (const unsigned char *)bytes->data, bytes->size,
                               &(picture_decode_options){.min_side = min_side}, NULL, facts, &error))
        fail_msg("%s", error.message);
    return out;
}

static void expect_corners(const picture *quarters, int format, const limn_buffer *exif, const char *corners, bool turned) {
    limn_buffer bytes = encode(quarters, format);
    put_metadata(&bytes, exif, NULL, 0);
    picture_facts facts;
    picture got = decode(&bytes, 0, &facts);
    assert_int_equal(got.width, turned ? HEIGHT : WIDTH);
    assert_int_equal(got.height, turned ? WIDTH : HEIGHT);
    assert_int_equal(facts.width, got.width);
    assert_int_equal(facts.height, got.height);
    const char found[] = {colour_at(&got, 2, 2), colour_at(&got, got.width - 3, 2), colour_at(&got, 2, got.height - 3),
                          colour_at(&got, got.width - 3, got.height - 3), 0};
    assert_string_equal(found, corners);
    picture_free(&got);
    picture_facts_free(&facts);
    limn_buffer_free(&bytes);
}

/* Top left, top right, bottom left, bottom right as they are to be seen. */
static const char *const CORNERS[] = {NULL, "rgby", "gryb", "ybgr", "byrg", "rbgy", "bryg", "ygbr", "gyrb"};

static void all_eight_of_every_format(void **state) {
    (void)state;
    picture quarters = make_quarters();
    for (unsigned orientation = 1; orientation <= 8; orientation++)
        for (int format = 0; format < 3; format++) {
            limn_buffer exif = make_exif(orientation, 3 + (unsigned)(format == 1), orientation % 2);
            expect_corners(&quarters, format, &exif, CORNERS[orientation], orientation >= 5);
            limn_buffer_free(&exif);
        }
    picture_free(&quarters);
}

static void other_numbers_leave_it(void **state) {
    (void)state;
    picture quarters = make_quarters();
    for (int format = 0; format < 3; format++)
        for (int big = 0; big < 2; big++) {
            const unsigned numbers[] = {0, 9, 255, 0x600, 65535};
            for (size_t i = 0; i < 5; i++) {
                limn_buffer exif = make_exif(numbers[i], 3, big);
                expect_corners(&quarters, format, &exif, "rgby", false);
                limn_buffer_free(&exif);
            }
            limn_buffer exif = make_exif(6, 2, big); /* a text */
            expect_corners(&quarters, format, &exif, "rgby", false);
            limn_buffer_free(&exif);
            exif = make_exif(6, 3, big); /* every cut of it, too */
            for (; exif.size > 1; exif.size--)
                expect_corners(&quarters, format, &exif, exif.size >= 22 ? CORNERS[6] : "rgby", exif.size >= 22);
            limn_buffer_free(&exif);
        }
    picture_free(&quarters);
}

/* A directory that points at itself, at the header, at its own entries, and past the end. */
static void loops(void **state) {
    (void)state;
    picture quarters = make_quarters();
    for (unsigned at = 0; at < 40; at++)
        for (unsigned to = 0; to < 40; to++) {
            unsigned char tiff[] = {'M', 'M', 0, 42, 0, 0, 0,    8,    0,    2,    0x87, 0x69, 0, 4, 0, 0, 0, 1, 0, 0, 0,
                                    8,   0,   0, 0,  0, 0, 0x88, 0x27, 0x00, 0x87, 0x69, 0,    4, 0, 0, 0, 1, 0, 0, 0, 8};
            tiff[7] = (unsigned char)at;
            tiff[21] = (unsigned char)to;
            limn_buffer exif = {.data = (char *)tiff, .size = sizeof tiff};
            limn_buffer bytes = encode(&quarters, 0);
            put_metadata(&bytes, &exif, NULL, 0);
            assert_int_equal(exif_orientation((const unsigned char *)bytes.data, bytes.size), 1);
            json_decref(exif_read((const unsigned char *)bytes.data, bytes.size));
            limn_buffer_free(&bytes);
        }
    picture_free(&quarters);
}

static void tags_of_every_format(void **state) {
    (void)state;
    picture quarters = make_quarters();
    for (int format = 0; format < 3; format++) {
        limn_buffer exif = make_exif(6, 3, true), headed = {0};
        limn_buffer bytes = encode(&quarters, format);
        put_metadata(&bytes, &exif, NULL, 0);
        json_t *tags = exif_read((const unsigned char *)bytes.data, bytes.size);
        assert_int_equal(json_integer_value(json_object_get(tags, "Orientation")), 6);
        json_decref(tags);
        limn_buffer_free(&bytes);
        if (format == 2) { /* WebP's chunk with JPEG's header before it */
            assert_int_equal(limn_buffer_append(&headed, "Exif\0", 6, NULL), 0);
            assert_int_equal(limn_buffer_append(&headed, exif.data, exif.size, NULL), 0);
            expect_corners(&quarters, 2, &headed, CORNERS[6], true);
        }
        limn_buffer_free(&headed);
        limn_buffer_free(&exif);
    }
    picture_free(&quarters);
}

/* A JPEG decoded scaled down whose sides are no multiple of the scale: turned and cropped, it is what the whole picture turned
 * and cropped is. */
static void scaled_and_turned(void **state) {
    (void)state;
    picture photo = make_photo(1111, 751, 3);
    limn_buffer plain = make_jpeg(&photo, NULL, 1111, 751, (jpeg_kind){0});
    for (unsigned orientation = 1; orientation <= 8; orientation++) {
        limn_buffer bytes = {0}, exif = make_exif(orientation, 3, true);
        assert_int_equal(limn_buffer_append(&bytes, plain.data, plain.size, NULL), 0);
        put_metadata(&bytes, &exif, NULL, 0);
        picture_facts facts;
        picture whole = decode(&bytes, 0, &facts), small, expected, got;
        picture_facts_free(&facts);
        small = decode(&bytes, 93, &facts);
        assert_true(small.width < 150);
        assert_int_equal(facts.width, orientation >= 5 ? 751 : 1111);
        assert_int_equal(picture_resize(&whole, &expected, RESIZE_CENTER_CROP, 64, NULL), 0);
        assert_int_equal(picture_resize(&small, &got, RESIZE_CENTER_CROP, 64, NULL), 0);
        const double psnr = picture_psnr(&got, &expected);
        if (!(psnr >= 40)) fail_msg("orientation %u: %.1f dB", orientation, psnr);
        picture_free(&whole);
        picture_free(&small);
        picture_free(&expected);
        picture_free(&got);
        picture_facts_free(&facts);
        limn_buffer_free(&bytes);
        limn_buffer_free(&exif);
    }
    limn_buffer_free(&plain);
    picture_free(&photo);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_eight_of_every_format), cmocka_unit_test(other_numbers_leave_it), cmocka_unit_test(loops),
        cmocka_unit_test(tags_of_every_format),      cmocka_unit_test(scaled_and_turned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
