/* ICC profiles: applied where they are right, without effect where they are not. */
#include "make.h"
#include "pictures/internal.h"

#include <lcms2.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <png.h>
#include <zlib.h>

enum { SIDE = 24 };

static limn_buffer encode(const picture *p, int format) {
    unsigned char *rgba = make_rgba(p, false);
    limn_buffer out = format == 0 ? make_jpeg(p, NULL, p->width, p->height, (jpeg_kind){0})
                      : format == 1
                          ? make_png(p->pixels, p->width * 3, p->width, p->height, PNG_COLOR_TYPE_RGB, 8, false, false)
                          : make_webp(rgba, p->width, p->height, true);
    free(rgba);
    return out;
}

/* As a program does it: decoded, then to sRGB. *was_there says whether a profile was left to be applied. Frees the bytes. */
static picture show(limn_buffer *bytes, picture_context *context, bool *was_there) {
    picture out;
    picture_facts facts = {0};
    limn_error error = {0};
    if (picture_decode_upright(&out, (const unsigned char *)bytes->data, bytes->size, NULL, context, &facts, &error))
        fail_msg("%s", error.message);
    if (was_there) *was_there = facts.profile.size > 0;
    picture_to_srgb(&out, context, &facts);
    picture_facts_free(&facts);
    limn_buffer_free(bytes);
    return out;
}

static void assert_colour(picture *got, double red, double green, double blue, int tolerance) {
    const unsigned char *p = got->pixels + (SIDE / 2 * got->width + SIDE / 2) * 3;
    if (fabs(p[0] - red) > tolerance || fabs(p[1] - green) > tolerance || fabs(p[2] - blue) > tolerance)
        fail_msg("%d %d %d, not %.0f %.0f %.0f", p[0], p[1], p[2], red, green, blue);
    picture_free(got);
}

static double srgb(double light) {
    return 255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * pow(light, 1 / 2.4) - 0.055);
}

/* Adobe RGB (1998) to sRGB by its specification's matrices: both are D65, so no adaptation is between. */
static void adobe_to_srgb(const unsigned char in[3], double out[3]) {
    static const double to_xyz[3][3] = {{0.57667, 0.18556, 0.18823}, {0.29734, 0.62736, 0.07529}, {0.02703, 0.07069, 0.99134}};
    static const double to_rgb[3][3] = {{3.2406, -1.5372, -0.4986}, {-0.9689, 1.8758, 0.0415}, {0.0557, -0.2040, 1.0570}};
    double xyz[3] = {0};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) xyz[i] += to_xyz[i][j] * pow(in[j] / 255.0, 563.0 / 256);
    for (int i = 0; i < 3; i++) {
        double light = 0;
        for (int j = 0; j < 3; j++) light += to_rgb[i][j] * xyz[j];
        out[i] = srgb(fmin(fmax(light, 0), 1));
    }
}

static void wide_colours_of_every_format(void **state) {
    (void)state;
    static const unsigned char colours[][3] = {{120, 160, 110}, {200, 180, 190}, {60, 50, 70}, {128, 128, 128}};
    limn_buffer profile = make_rgb_profile();
    picture_context *context = picture_context_create(NULL);
    for (size_t i = 0; i < 4; i++) {
        picture plain = make_plain(SIDE, SIDE, colours[i][0], colours[i][1], colours[i][2]);
        double expected[3];
        adobe_to_srgb(colours[i], expected);
        for (int format = 0; format < 3; format++)
            for (size_t part = 0; part < 200; part += 100) {
                limn_buffer bytes = encode(&plain, format);
                put_metadata(&bytes, NULL, &profile, part);
                bool there;
                picture got = show(&bytes, part ? context : NULL, &there);
                assert_true(there);
                assert_colour(&got, expected[0], expected[1], expected[2], format == 0 ? 3 : 2);
            }
        picture_free(&plain);
    }
    picture_context_destroy(context);
    limn_buffer_free(&profile);
}

static void srgb_costs_nothing(void **state) {
    (void)state;
    limn_buffer profile = make_srgb_profile();
    picture plain = make_plain(SIDE, SIDE, 120, 160, 110);
    for (int format = 0; format < 3; format++) {
        limn_buffer bytes = encode(&plain, format);
        put_metadata(&bytes, NULL, &profile, 0);
        bool there;
        picture got = show(&bytes, NULL, &there);
        assert_false(there);
        assert_colour(&got, 120, 160, 110, format == 0 ? 2 : 0);
    }
    assert_true(colour_profile_is_srgb(&profile));
    limn_buffer other = make_rgb_profile();
    assert_false(colour_profile_is_srgb(&other));
    limn_buffer_free(&other);
    for (size_t size = 0; size < profile.size; size++) { /* exactly as many bytes, for the sanitizer */
        limn_buffer cut = {.data = malloc(size + 1), .size = size};
        memcpy(cut.data, profile.data, size);
        char *exact = realloc(cut.data, size ? size : 1);
        cut.data = exact;
        colour_profile_is_srgb(&cut);
        free(exact);
    }
    limn_buffer_free(&profile);
    picture_free(&plain);
}

static void grey_with_its_gamma(void **state) {
    (void)state;
    limn_buffer linear = make_grey_profile(1.0), colour = make_rgb_profile();
    picture plain = make_plain(SIDE, SIDE, 55, 55, 55);
    limn_buffer bytes = make_jpeg(&plain, NULL, SIDE, SIDE, (jpeg_kind){.grey = true});
    put_metadata(&bytes, NULL, &linear, 0);
    picture got = show(&bytes, NULL, NULL);
    const double light = srgb(55 / 255.0);
    assert_colour(&got, light, light, light, 2);
    unsigned char rows[SIDE * SIDE];
    memset(rows, 55, sizeof rows);
    bytes = make_png(rows, SIDE, SIDE, SIDE, PNG_COLOR_TYPE_GRAY, 8, false, false);
    put_metadata(&bytes, NULL, &linear, 0);
    got = show(&bytes, NULL, NULL);
    assert_colour(&got, light, light, light, 2);
    /* A profile of the other kind than the picture says nothing about it. */
    bytes = encode(&plain, 1);
    put_metadata(&bytes, NULL, &linear, 0);
    got = show(&bytes, NULL, NULL);
    assert_colour(&got, 55, 55, 55, 0);
    bytes = make_png(rows, SIDE, SIDE, SIDE, PNG_COLOR_TYPE_GRAY, 8, false, false);
    put_metadata(&bytes, NULL, &colour, 0);
    got = show(&bytes, NULL, NULL);
    assert_colour(&got, 55, 55, 55, 0);
    limn_buffer_free(&linear);
    limn_buffer_free(&colour);
    picture_free(&plain);
}

static void deep_png(void **state) {
    (void)state;
    static unsigned char rows[SIDE * SIDE * 6];
    static const unsigned char colour[3] = {120, 160, 110};
    for (size_t i = 0; i < sizeof rows; i++) rows[i] = colour[i / 2 % 3]; /* 257 times the value of 8 bits */
    limn_buffer profile = make_rgb_profile();
    limn_buffer bytes = make_png(rows, SIDE * 6, SIDE, SIDE, PNG_COLOR_TYPE_RGB, 16, false, false);
    put_metadata(&bytes, NULL, &profile, 0);
    double expected[3];
    adobe_to_srgb(colour, expected);
    picture got = show(&bytes, NULL, NULL);
    assert_colour(&got, expected[0], expected[1], expected[2], 2);
    limn_buffer_free(&profile);
}

/* L* of make_cmyk_profile's inks as sRGB. */
static double grey_of_lightness(double lightness) {
    const double f = (lightness + 16) / 116;
    return srgb(f > 6.0 / 29 ? f * f * f : 3 * 36.0 / 841 * (f - 4.0 / 29));
}

static void inks(void **state) {
    (void)state;
    unsigned char stored[SIDE * SIDE * 4];
    limn_buffer profile = make_cmyk_profile(), other = make_rgb_profile();
    for (size_t i = 0; i < SIDE * SIDE; i++) memcpy(stored + i * 4, (unsigned char[]){102, 10, 20, 255}, 4); /* cyan 60 % */
    for (int kind = 1; kind <= 2; kind++) {
        limn_buffer bytes = make_jpeg(NULL, stored, SIDE, SIDE, (jpeg_kind){.cmyk = kind});
        put_metadata(&bytes, NULL, &profile, 500);
        bool there;
        picture got = show(&bytes, NULL, &there);
        assert_false(there); /* it has been applied */
        const double grey = grey_of_lightness(100 - 50 * 0.6);
        assert_colour(&got, grey, grey, grey, 4);
    }
    limn_buffer bytes = make_jpeg(NULL, stored, SIDE, SIDE, (jpeg_kind){.cmyk = 1, .no_adobe_marker = true});
    put_metadata(&bytes, NULL, &profile, 0);
    picture got = show(&bytes, NULL, NULL);
    const double grey = grey_of_lightness(100 - 50 * 0.4 - 45);
    assert_colour(&got, grey, grey, grey, 4);
    bytes = make_jpeg(NULL, stored, SIDE, SIDE, (jpeg_kind){.cmyk = 1}); /* with another kind's: as without */
    put_metadata(&bytes, NULL, &other, 0);
    got = show(&bytes, NULL, NULL);
    assert_colour(&got, 102, 10, 20, 3);
    limn_buffer_free(&profile);
    limn_buffer_free(&other);
}

/* Every cut, and bytes changed at random: the picture is there, whatever its colours. */
static void damaged_profiles(void **state) {
    (void)state;
    picture plain = make_plain(SIDE, SIDE, 120, 160, 110);
    limn_buffer profiles[] = {make_rgb_profile(), make_srgb_profile()};
    picture_context *context = picture_context_create(NULL);
    for (size_t p = 0; p < 2; p++)
        for (uint64_t round = 0; round < 400; round++) {
            limn_buffer profile = {0}, bytes = encode(&plain, (int)(round % 3));
            assert_int_equal(limn_buffer_append(&profile, profiles[p].data, profiles[p].size, NULL), 0);
            if (round < 100)
                profile.size = 1 + profile.size * round / 100;
            else
                for (uint64_t i = 0; i < 1 + round % 4; i++)
                    profile.data[limn_random_below(7, round, 2 * i, profile.size)] = (char)limn_random_u32(7, round, 2 * i + 1);
            put_metadata(&bytes, NULL, &profile, 0);
            picture got = show(&bytes, context, NULL);
            assert_int_equal(got.width, SIDE);
            picture_free(&got);
            limn_buffer_free(&profile);
        }
    picture_context_destroy(context);
    for (size_t p = 0; p < 2; p++) limn_buffer_free(&profiles[p]);
    picture_free(&plain);
}

static void absurd_profiles(void **state) {
    (void)state;
    picture plain = make_plain(SIDE, SIDE, 120, 160, 110);
    limn_buffer profile = make_rgb_profile(); /* colorants of nothing: white would be black */
    for (size_t i = 128; i + 20 <= profile.size; i++)
        if (!memcmp(profile.data + i, "XYZ \0\0\0\0", 8)) memset(profile.data + i + 8, 0, 12);
    limn_buffer bytes = encode(&plain, 1);
    put_metadata(&bytes, NULL, &profile, 0);
    picture got = show(&bytes, NULL, NULL);
    assert_colour(&got, 120, 160, 110, 0);
    limn_buffer_free(&profile);
    /* A part of a JPEG's profile is missing, or is there twice. */
    profile = make_rgb_profile();
    for (int twice = 0; twice < 2; twice++) {
        bytes = encode(&plain, 0);
        put_metadata(&bytes, NULL, &profile, 100);
        char *part = memmem(bytes.data, bytes.size, "ICC_PROFILE\0\2", 13);
        assert_non_null(part);
        part[12] = twice ? 3 : 77;
        bool there;
        got = show(&bytes, NULL, &there);
        assert_false(there);
        assert_colour(&got, 120, 160, 110, 2);
    }
    limn_buffer_free(&profile);
    picture_free(&plain);
}

/* A PNG's profile that unpacks to 200 MB. */
static void a_profile_without_end(void **state) {
    (void)state;
    picture plain = make_plain(SIDE, SIDE, 120, 160, 110);
    const size_t size = 200 << 20;
    unsigned char *zeros = calloc(1, size), *packed = malloc(1 << 20);
    uLongf packed_size = (1 << 20) - 3;
    assert_true(zeros && packed);
    memcpy(packed, "p\0", 3);
    assert_int_equal(compress2(packed + 3, &packed_size, zeros, size, 1), Z_OK);
    free(zeros);
    limn_buffer bytes = encode(&plain, 1);
    put_png_chunk(&bytes, "iCCP", packed, packed_size + 3);
    free(packed);
    picture_metadata metadata;
    metadata_read(&metadata, (const unsigned char *)bytes.data, bytes.size, true);
    assert_int_equal(metadata.profile.size, 0);
    assert_true(metadata.profile.capacity == 0);
    picture got = show(&bytes, NULL, NULL);
    assert_colour(&got, 120, 160, 110, 0);
    picture_free(&plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_colours_of_every_format),
        cmocka_unit_test(srgb_costs_nothing),
        cmocka_unit_test(grey_with_its_gamma),
        cmocka_unit_test(deep_png),
        cmocka_unit_test(inks),
        cmocka_unit_test(damaged_profiles),
        cmocka_unit_test(absurd_profiles),
        cmocka_unit_test(a_profile_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
