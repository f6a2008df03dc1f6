/* Every kind of picture that is wrong is refused with a short reason, and costs little. */
#include "make.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <png.h>
#include <zlib.h>

/* 0 and freed, or -1 with a reason of one line. */
static int try(const void *data, size_t size, const picture_decode_options *options, limn_error *error) {
    picture out;
    picture_facts facts = {0};
    *error = (limn_error){0};
    /* A copy of exactly this size, so that the sanitizer sees any read past its end. */
    unsigned char *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    int status = picture_decode_upright(&out, copy, size, options, NULL, &facts, error);
    if (!status) picture_to_srgb(&out, NULL, &facts);
    picture_facts_free(&facts);
    free(copy);
    if (status) {
        assert_null(out.pixels);
        assert_true(error->message[0] != '\0' && !strchr(error->message, '\n'));
    }
    picture_free(&out);
    return status;
}

static void assert_refused(limn_buffer *bytes, const picture_decode_options *options, const char *reason) {
    limn_error error;
    assert_int_equal(try(bytes->data, bytes->size, options, &error), -1);
    if (!strstr(error.message, reason)) fail_msg("\"%s\" does not say \"%s\"", error.message, reason);
}

/* Cut at every byte, and with bytes changed at random: the first is always an error, the second never a crash. */
static void torture(const char *name, limn_buffer bytes) {
    limn_error error;
    if (try(bytes.data, bytes.size, NULL, &error)) fail_msg("%s: %s", name, error.message);
    for (size_t size = 0; size < bytes.size; size++)
        if (try(bytes.data, size, NULL, &error) == 0) fail_msg("%s cut to %zu of %zu bytes decodes", name, size, bytes.size);
    picture_decode_options options = {.max_pixels = 1 << 20, .min_side = 8};
    for (uint64_t round = 0; round < 600; round++) {
        limn_buffer changed = {0};
        assert_int_equal(limn_buffer_append(&changed, bytes.data, bytes.size, NULL), 0);
        for (uint64_t i = 0; i < 1 + round % 8; i++) {
            uint64_t where = limn_random_below(5, round, 2 * i, bytes.size);
            changed.data[where] = (char)limn_random_u32(5, round, 2 * i + 1);
        }
        try(changed.data, changed.size, &options, &error);
        limn_buffer_free(&changed);
    }
    limn_buffer_free(&bytes);
}

static void cut_and_changed_jpeg(void **state) {
    (void)state;
    picture photo = make_photo(29, 23, 1);
    unsigned char *inks = make_rgba(&photo, true);
    torture("baseline JPEG", make_jpeg(&photo, NULL, 29, 23, (jpeg_kind){.subsample = true}));
    torture("progressive JPEG", make_jpeg(&photo, NULL, 29, 23, (jpeg_kind){.progressive = true}));
    torture("CMYK JPEG", make_jpeg(NULL, inks, 29, 23, (jpeg_kind){.cmyk = 2}));
    free(inks);
    picture_free(&photo);
}

static void cut_and_changed_png(void **state) {
    (void)state;
    picture photo = make_photo(23, 17, 2);
    unsigned char *rgba = make_rgba(&photo, true);
    torture("PNG", make_png(photo.pixels, 23 * 3, 23, 17, PNG_COLOR_TYPE_RGB, 8, false, false));
    torture("interlaced PNG with alpha", make_png(rgba, 23 * 4, 23, 17, PNG_COLOR_TYPE_RGB_ALPHA, 8, true, false));
    free(rgba);
    picture_free(&photo);
}

static void cut_and_changed_webp(void **state) {
    (void)state;
    picture photo = make_photo(31, 23, 3);
    unsigned char *opaque = make_rgba(&photo, false), *graded = make_rgba(&photo, true);
    const unsigned char colours[3][4] = {{10, 200, 30, 255}, {255, 0, 0, 255}, {0, 0, 255, 255}};
    torture("lossy WebP", make_webp(opaque, 31, 23, false));
    torture("lossy WebP with alpha", make_webp(graded, 31, 23, false));
    torture("lossless WebP", make_webp(graded, 31, 23, true));
    torture("animated WebP", make_animated_webp(31, 23, colours, 3));
    free(opaque);
    free(graded);
    picture_free(&photo);
}

static void a_longer_progressive_jpeg_is_cut(void **state) {
    (void)state;
    picture photo = make_photo(320, 240, 4);
    limn_buffer bytes = make_jpeg(&photo, NULL, 320, 240, (jpeg_kind){.progressive = true});
    limn_error error;
    for (size_t size = 700; size < bytes.size; size += 997) {
        assert_int_equal(try(bytes.data, size, NULL, &error), -1);
        assert_string_equal(error.message, "truncated JPEG");
        assert_int_equal(try(bytes.data, size, &(picture_decode_options){.min_side = 40}, &error), -1);
    }
    limn_buffer_free(&bytes);
    picture_free(&photo);
}

static void nothing_and_nonsense(void **state) {
    (void)state;
    limn_error error;
    assert_int_equal(try("", 0, NULL, &error), -1);
    assert_string_equal(error.message, "empty file");
    const char *page = "<!DOCTYPE html><html><body>404</body></html>";
    assert_int_equal(try(page, strlen(page), NULL, &error), -1);
    assert_string_equal(error.message, "not a JPEG, PNG or WebP");
    assert_int_equal(try("GIF89a\1\0\1\0\0\0\0;", 14, NULL, &error), -1);
    assert_int_equal(try("RIFF\4\0\0\0WEBP", 12, NULL, &error), -1);
    picture out;
    assert_int_equal(picture_load(&out, "no-such-picture.png", &error), -1);
    assert_non_null(strstr(error.message, "no-such-picture.png"));
}

static void put_png_size(limn_buffer *bytes, uint32_t width, uint32_t height) {
    unsigned char *header = (unsigned char *)bytes->data + 8; /* length, "IHDR", width, height, … , checksum */
    for (int i = 0; i < 4; i++) {
        header[8 + i] = (unsigned char)(width >> (24 - 8 * i));
        header[12 + i] = (unsigned char)(height >> (24 - 8 * i));
    }
    uint32_t checksum = (uint32_t)crc32(crc32(0, NULL, 0), header + 4, 17);
    for (int i = 0; i < 4; i++) header[21 + i] = (unsigned char)(checksum >> (24 - 8 * i));
}

static void put_jpeg_size(limn_buffer *bytes, unsigned width, unsigned height) {
    unsigned char *data = (unsigned char *)bytes->data;
    for (size_t i = 2; i + 9 < bytes->size; i++)
        if (data[i] == 0xff && data[i + 1] >= 0xc0 && data[i + 1] <= 0xc2) {
            data[i + 5] = (unsigned char)(height >> 8);
            data[i + 6] = (unsigned char)height;
            data[i + 7] = (unsigned char)(width >> 8);
            data[i + 8] = (unsigned char)width;
            return;
        }
    fail_msg("no frame header");
}

/* Headers that promise 3,600,000,000 pixels are refused before memory is taken: with the limit on address space of the tests'
 * machine at hand or not, the resident memory hardly moves. */
static void headers_that_lie(void **state) {
    (void)state;
    picture photo = make_photo(40, 30, 5);
    unsigned char *graded = make_rgba(&photo, true);
    const unsigned char colours[2][4] = {{10, 200, 30, 255}, {255, 0, 0, 255}};
    size_t before = limn_resident_bytes_peak();
    limn_buffer bytes = make_png(photo.pixels, 40 * 3, 40, 30, PNG_COLOR_TYPE_RGB, 8, false, false);
    put_png_size(&bytes, 60000, 60000);
    assert_refused(&bytes, NULL, "60000x60000 pixels are more than the limit");
    put_png_size(&bytes, 2000000000, 2000000000);
    assert_refused(&bytes, NULL, "pixels are more than the limit");
    put_png_size(&bytes, 0, 30);
    assert_refused(&bytes, NULL, "PNG");
    put_png_size(&bytes, 40, 31); /* one row more than there is */
    assert_refused(&bytes, NULL, "PNG");
    put_png_size(&bytes, 40, 30);
    assert_refused(&bytes, &(picture_decode_options){.max_pixels = 1199}, "40x30 pixels are more than the limit of 1199");
    limn_error error;
    assert_int_equal(try(bytes.data, bytes.size, &(picture_decode_options){.max_pixels = 1200}, &error), 0);
    limn_buffer_free(&bytes);

    bytes = make_jpeg(&photo, NULL, 40, 30, (jpeg_kind){0});
    put_jpeg_size(&bytes, 60000, 60000);
    assert_refused(&bytes, NULL, "60000x60000 pixels are more than the limit");
    assert_refused(&bytes, &(picture_decode_options){.min_side = 64}, "60000x60000 pixels are more than the limit");
    put_jpeg_size(&bytes, 2000, 2000);
    assert_refused(&bytes, NULL, "JPEG");
    limn_buffer_free(&bytes);

    bytes =
        make_webp(graded, 40, 30, false); /* RIFF, size, WEBP, VP8X, 10, flags, canvas width - 1 and height - 1 in 24 bits */
    assert_memory_equal(bytes.data + 12, "VP8X", 4);
    memcpy(bytes.data + 24, "\x5f\xea\x00\x5f\xea\x00", 6);
    assert_refused(&bytes, NULL, "");
    limn_buffer_free(&bytes);

    bytes = make_animated_webp(40, 30, colours, 2);
    memcpy(bytes.data + 24, "\x5f\xea\x00\x5f\xea\x00", 6);
    assert_refused(&bytes, NULL, "60000x60000 pixels are more than the limit");
    limn_buffer_free(&bytes);
    assert_true(limn_resident_bytes_peak() - before < 100u * 1024 * 1024);
    free(graded);
    picture_free(&photo);
}

/* A sequential JPEG may repeat a scan, and each repetition costs a pass over the picture. */
static void scans_without_end(void **state) {
    (void)state;
    picture photo = make_photo(64, 64, 6);
    limn_buffer bytes = make_jpeg(&photo, NULL, 64, 64, (jpeg_kind){.one_scan_each = true}), many = {0};
    size_t last = bytes.size - 2;
    while (memcmp(bytes.data + last, "\xff\xda", 2) != 0) last--;
    assert_int_equal(limn_buffer_append(&many, bytes.data, last, NULL), 0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(limn_buffer_append(&many, bytes.data + last, bytes.size - 2 - last, NULL), 0);
    assert_int_equal(limn_buffer_append(&many, "\xff\xd9", 2, NULL), 0);
    assert_refused(&many, NULL, "scans");
    limn_buffer_free(&many);
    limn_buffer_free(&bytes);
    picture_free(&photo);
}

/* A wrong checksum in a chunk that matters, and in one that does not. */
static void png_checksums(void **state) {
    (void)state;
    picture photo = make_photo(40, 30, 7);
    limn_buffer bytes = make_png(photo.pixels, 40 * 3, 40, 30, PNG_COLOR_TYPE_RGB, 8, false, false);
    const char *chunks[] = {"IDAT", "zTXt"};
    for (size_t i = 0; i < 2; i++) {
        char *found = memmem(bytes.data, bytes.size, chunks[i], 4);
        assert_non_null(found);
        unsigned char *length = (unsigned char *)found - 4;
        char *checksum = found + 4 + (length[2] << 8 | length[3]);
        checksum[1] ^= 1;
        assert_refused(&bytes, NULL, "damaged PNG");
        checksum[1] ^= 1;
    }
    limn_error error;
    assert_int_equal(try(bytes.data, bytes.size, NULL, &error), 0);
    limn_buffer_free(&bytes);
    picture_free(&photo);
}

static void arithmetic_and_deep_jpeg(void **state) {
    (void)state;
    picture photo = make_photo(29, 23, 8), got;
    torture("arithmetic-coded JPEG", make_jpeg(&photo, NULL, 29, 23, (jpeg_kind){.arithmetic = true}));
    limn_buffer bytes = make_jpeg(&photo, NULL, 29, 23, (jpeg_kind){.arithmetic = true});
    assert_int_equal(picture_decode(&got, (const unsigned char *)bytes.data, bytes.size, NULL, NULL, NULL, NULL), 0);
    assert_true(picture_psnr(&got, &photo) > 30);
    picture_free(&got);
    limn_buffer_free(&bytes);
    bytes = make_jpeg(&photo, NULL, 29, 23, (jpeg_kind){0});
    char *frame = memmem(bytes.data, bytes.size, "\xff\xc0\0\x11", 4);
    assert_non_null(frame);
    frame[4] = 12; /* bits a sample */
    assert_refused(&bytes, NULL, "precision");
    frame[4] = 8;
    frame[1] = (char)0xc3; /* lossless */
    assert_refused(&bytes, NULL, "JPEG");
    limn_buffer_free(&bytes);
    picture_free(&photo);
}

/* With EXIF and a profile, before and (in WebP) behind the pixels. */
static void cut_and_changed_with_metadata(void **state) {
    (void)state;
    picture photo = make_photo(23, 17, 9);
    unsigned char *graded = make_rgba(&photo, true);
    limn_buffer exif = make_exif(6, 3, true), profile = make_rgb_profile();
    limn_buffer files[] = {make_jpeg(&photo, NULL, 23, 17, (jpeg_kind){0}),
                           make_png(photo.pixels, 23 * 3, 23, 17, PNG_COLOR_TYPE_RGB, 8, false, false),
                           make_webp(graded, 23, 17, false)};
    const char *const names[] = {"JPEG with a profile", "PNG with a profile", "WebP with a profile"};
    for (size_t i = 0; i < 3; i++) {
        put_metadata(&files[i], &exif, &profile, 100);
        torture(names[i], files[i]);
    }
    limn_buffer_free(&exif);
    limn_buffer_free(&profile);
    free(graded);
    picture_free(&photo);
}

/* A file that is two: it is what it begins as, whatever follows or stands inside. */
static void polyglots(void **state) {
    (void)state;
    picture photo = make_photo(23, 17, 10);
    unsigned char *opaque = make_rgba(&photo, false);
    const char *const tails[] = {"PK\3\4 a ZIP archive PK\5\6",
                                 "<html><script>alert(1)</script></html>",
                                 "GIF89a",
                                 "\x89PNG\r\n\x1a\n",
                                 "RIFF....WEBPVP8 ",
                                 "%PDF-1.7",
                                 "\xff\xd8\xff\xe0"};
    const picture_format formats[] = {PICTURE_JPEG, PICTURE_PNG, PICTURE_WEBP};
    limn_error error;
    for (size_t i = 0; i < 3; i++)
        for (size_t t = 0; t < sizeof tails / sizeof *tails; t++) {
            limn_buffer bytes = i == 0   ? make_jpeg(&photo, NULL, 23, 17, (jpeg_kind){0})
                                : i == 1 ? make_png(photo.pixels, 23 * 3, 23, 17, PNG_COLOR_TYPE_RGB, 8, false, false)
                                         : make_webp(opaque, 23, 17, true);
            assert_int_equal(limn_buffer_append(&bytes, tails[t], strlen(tails[t]), NULL), 0);
            assert_int_equal(picture_sniff((const unsigned char *)bytes.data, bytes.size), formats[i]);
            assert_int_equal(try(bytes.data, bytes.size, NULL, &error), 0);
            limn_buffer before = {0}; /* the other way round it is not a picture, or a broken one */
            assert_int_equal(limn_buffer_append(&before, tails[t], strlen(tails[t]), NULL), 0);
            assert_int_equal(limn_buffer_append(&before, bytes.data, bytes.size, NULL), 0);
            assert_int_equal(try(before.data, before.size, NULL, &error), -1);
            limn_buffer_free(&before);
            limn_buffer_free(&bytes);
        }
    const char *script = "GIF89a/*\1\0\1\0*/=1;alert(1)//;";
    assert_int_equal(try(script, strlen(script), NULL, &error), -1);
    free(opaque);
    picture_free(&photo);
}

/* An animated PNG gives the picture that everyone sees who does not know of animation. */
static void animated_png(void **state) {
    (void)state;
    picture photo = make_photo(23, 17, 11), got;
    limn_buffer bytes = make_png(photo.pixels, 23 * 3, 23, 17, PNG_COLOR_TYPE_RGB, 8, false, false);
    static const unsigned char frame[26] = {0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 10, 0, 0};
    put_png_chunk(&bytes, "fcTL", frame, sizeof frame);
    put_png_chunk(&bytes, "acTL", "\xff\xff\xff\xff\0\0\0\0", 8); /* frames without number */
    assert_int_equal(picture_decode(&got, (const unsigned char *)bytes.data, bytes.size, NULL, NULL, NULL, NULL), 0);
    assert_memory_equal(got.pixels, photo.pixels, 23 * 17 * 3);
    picture_free(&got);
    limn_buffer_free(&bytes);
    picture_free(&photo);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_and_changed_jpeg),
        cmocka_unit_test(cut_and_changed_png),
        cmocka_unit_test(cut_and_changed_webp),
        cmocka_unit_test(a_longer_progressive_jpeg_is_cut),
        cmocka_unit_test(nothing_and_nonsense),
        cmocka_unit_test(headers_that_lie),
        cmocka_unit_test(arithmetic_and_deep_jpeg),
        cmocka_unit_test(cut_and_changed_with_metadata),
        cmocka_unit_test(polyglots),
        cmocka_unit_test(animated_png),
        cmocka_unit_test(scans_without_end),
        cmocka_unit_test(png_checksums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
