/* What becomes of a fetched picture, and what the list may say of it. */
#include "download/internal.h"
#include "tests/pictures/make.h"

#include <math.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <png.h>

static const pair_options PLAIN = {.size = 64, .resize = RESIZE_CENTER_CROP, .resize_name = "center-crop", .quality = 95};

/* The row's reason, or "made". The picture and the JSON are those of the call before otherwise. */
static char last_reason[32];
static picture last;
static json_t *last_json;
static download_pair last_pair;

static void forget(void) {
    picture_free(&last);
    json_decref(last_json);
    last_json = NULL;
    pair_free(&last_pair);
    last_pair = (download_pair){0};
}

static const char *make(const pair_options *options, const limn_buffer *bytes, const char *hash, const char *boxes) {
    download_row row = {.url = (char *)(uintptr_t) "http://x/y", .caption = (char *)(uintptr_t) "a thing", .caption_size = 7};
    row.hash = (char *)(uintptr_t)hash;
    row.boxes = (char *)(uintptr_t)boxes;
    row.data = malloc(bytes->size ? bytes->size : 1); /* of exactly this size, for the sanitizer */
    memcpy(row.data, bytes->data, bytes->size);
    row.data_size = bytes->size;
    forget();
    const int status = pair_make(options, NULL, "000010002", &row, &last_pair);
    free(row.data);
    snprintf(last_reason, sizeof last_reason, "%s", row.reason);
    assert_true((status == 0) == (row.reason[0] == 0));
    if (status) {
        assert_true(row.detail[0] != 0);
        return last_reason;
    }
    assert_int_equal(
        picture_decode(&last, (const unsigned char *)last_pair.image.data, last_pair.image.size, NULL, NULL, NULL, NULL), 0);
    last_json = json_loads(last_pair.json, 0, NULL);
    assert_non_null(last_json);
    return "made";
}

static json_int_t number(const char *key) {
    return json_integer_value(json_object_get(last_json, key));
}

static limn_buffer photo_jpeg(size_t width, size_t height) {
    picture photo = make_photo(width, height, 4);
    limn_buffer out = make_jpeg(&photo, NULL, width, height, (jpeg_kind){.subsample = true});
    picture_free(&photo);
    return out;
}

static void each_mode_and_only_if_bigger(void **state) {
    (void)state;
    const struct {
        resize_mode mode;
        bool only;
        size_t width, height, made_width, made_height;
    } cases[] = {
        {RESIZE_CENTER_CROP, false, 300, 200, 64, 64},
        {RESIZE_CENTER_CROP, true, 300, 200, 64, 64},
        {RESIZE_CENTER_CROP, false, 90, 50, 64, 64},
        {RESIZE_CENTER_CROP, true, 90, 50, 90, 50},
        {RESIZE_CENTER_CROP, true, 90, 64, 90, 64},
        {RESIZE_CENTER_CROP, true, 90, 65, 64, 64},
        {RESIZE_BORDER, false, 300, 200, 64, 64},
        {RESIZE_BORDER, true, 40, 30, 40, 30},
        {RESIZE_BORDER, true, 64, 30, 64, 30},
        {RESIZE_BORDER, true, 65, 30, 64, 64},
        {RESIZE_BORDER, false, 40, 30, 64, 64},
        {RESIZE_KEEP_RATIO, false, 300, 200, 96, 64},
        {RESIZE_KEEP_RATIO, true, 300, 64, 300, 64},
        {RESIZE_KEEP_RATIO, true, 50, 300, 50, 300},
        {RESIZE_KEEP_RATIO, true, 128, 256, 64, 128},
        {RESIZE_KEEP_RATIO_LARGEST, false, 300, 150, 64, 32},
        {RESIZE_KEEP_RATIO_LARGEST, false, 32, 16, 64, 32},
        {RESIZE_KEEP_RATIO_LARGEST, true, 32, 16, 32, 16},
        {RESIZE_KEEP_RATIO_LARGEST, true, 128, 32, 64, 16},
        {RESIZE_NONE, false, 300, 200, 300, 200},
        {RESIZE_NONE, true, 30, 20, 30, 20},
        {RESIZE_CENTER_CROP, true, 1000, 64, 1000, 64},
        {RESIZE_CENTER_CROP, true, 2000, 130, 64, 64},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pair_options options = PLAIN;
        options.resize = cases[i].mode;
        options.only_if_bigger = cases[i].only;
        limn_buffer bytes = photo_jpeg(cases[i].width, cases[i].height);
        assert_string_equal(make(&options, &bytes, NULL, NULL), "made");
        if (last.width != cases[i].made_width || last.height != cases[i].made_height)
            fail_msg("case %zu: %zux%zu", i, last.width, last.height);
        assert_int_equal(number("width"), cases[i].made_width);
        assert_int_equal(number("height"), cases[i].made_height);
        assert_int_equal(number("original_width"), cases[i].width);
        assert_int_equal(number("original_height"), cases[i].height);
        limn_buffer_free(&bytes);
    }
    forget();
}

static void too_small_and_too_long(void **state) {
    (void)state;
    pair_options options = PLAIN;
    limn_buffer bytes = photo_jpeg(200, 100), tall = photo_jpeg(100, 201);
    options.max_aspect_ratio = 2;
    assert_string_equal(make(&options, &bytes, NULL, NULL), "made");
    assert_string_equal(make(&options, &tall, NULL, NULL), "aspect_ratio");
    options.max_aspect_ratio = 0;
    options.min_size = 100;
    assert_string_equal(make(&options, &bytes, NULL, NULL), "made");
    options.min_size = 101;
    assert_string_equal(make(&options, &bytes, NULL, NULL), "too_small");
    limn_buffer_free(&bytes);
    limn_buffer_free(&tall);
    forget();
}

static void every_form(void **state) {
    (void)state;
    const char *const names[] = {NULL, "jpg", "png", "webp", "webp"};
    const picture_format formats[] = {PICTURE_JPEG, PICTURE_JPEG, PICTURE_PNG, PICTURE_WEBP, PICTURE_WEBP};
    limn_buffer bytes = photo_jpeg(130, 100);
    picture exact = {0};
    for (size_t i = 5; i-- > 0;) { /* the exact ones first */
        pair_options options = PLAIN;
        options.image = names[i];
        options.quality = i == 4 ? 100 : 90;
        assert_string_equal(make(&options, &bytes, NULL, NULL), "made");
        assert_string_equal(last_pair.extension, names[i] ? names[i] : "jpg");
        assert_int_equal(picture_sniff((const unsigned char *)last_pair.image.data, last_pair.image.size), formats[i]);
        if (i == 4) {
            exact = last;
            last = (picture){0};
        } else {
            const double psnr = picture_psnr(&last, &exact);
            assert_true(i == 2 ? isinf(psnr) : psnr > 28);
        }
    }
    picture_free(&exact);
    limn_buffer_free(&bytes);
    forget();
}

static void original_bytes(void **state) {
    (void)state;
    pair_options options = PLAIN;
    options.resize = RESIZE_NONE;
    options.image = "original";
    picture photo = make_photo(50, 40, 1);
    unsigned char *rgba = make_rgba(&photo, true);
    limn_buffer files[] = {photo_jpeg(50, 40), make_png(photo.pixels, 150, 50, 40, PNG_COLOR_TYPE_RGB, 8, false, false),
                           make_webp(rgba, 50, 40, false)};
    const char *const extensions[] = {"jpg", "png", "webp"};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(make(&options, &files[i], NULL, NULL), "made");
        assert_string_equal(last_pair.extension, extensions[i]);
        assert_int_equal(last_pair.image.size, files[i].size);
        assert_memory_equal(last_pair.image.data, files[i].data, files[i].size);
        assert_int_equal(number("width"), 50);
        assert_string_equal(make(&options, &files[i], NULL, "[[0, 0, 0.5, 0.5]]"), "bad_boxes"); /* never unblurred */
        assert_string_equal(make(&options, &files[i], NULL, "[]"), "made");
        files[i].size -= 5; /* judged all the same */
        assert_string_equal(make(&options, &files[i], NULL, NULL), "broken_picture");
        limn_buffer_free(&files[i]);
    }
    free(rgba);
    picture_free(&photo);
    forget();
}

static void hashes_of_the_list(void **state) {
    (void)state;
    limn_buffer bytes = photo_jpeg(90, 80);
    char sha256[65], md5[33], upper[65];
    unsigned char digest[EVP_MAX_MD_SIZE];
    limn_sha256(bytes.data, bytes.size, sha256);
    assert_true(EVP_Digest(bytes.data, bytes.size, digest, NULL, EVP_md5(), NULL));
    for (size_t i = 0; i < 16; i++) snprintf(md5 + 2 * i, 3, "%02x", digest[i]);
    for (size_t i = 0; i < 65; i++) upper[i] = sha256[i] >= 'a' ? (char)(sha256[i] - 32) : sha256[i];
    const char *const right[] = {sha256, upper, md5, "", NULL};
    for (size_t i = 0; i < 5; i++) assert_string_equal(make(&PLAIN, &bytes, right[i], NULL), "made");
    assert_string_equal(json_string_value(json_object_get(last_json, "sha256")), sha256);
    sha256[63] = sha256[63] == '0' ? '1' : '0';
    md5[0] = md5[0] == 'f' ? '0' : 'f';
    assert_string_equal(make(&PLAIN, &bytes, sha256, NULL), "wrong_hash");
    assert_string_equal(make(&PLAIN, &bytes, md5, NULL), "wrong_hash");
    const char *const bad[] = {"0", "zz", "d41d8cd98f00b204e9800998ecf8427", "d41d8cd98f00b204e9800998ecf8427g", " ", md5 + 1};
    for (size_t i = 0; i < 6; i++) assert_string_equal(make(&PLAIN, &bytes, bad[i], NULL), "bad_row");
    /* Known before anything is fetched. */
    download_row row = {.hash = (char *)(uintptr_t) "nonsense"};
    assert_int_equal(pair_check_row(&row), -1);
    assert_string_equal(row.reason, "bad_row");
    limn_buffer_free(&bytes);
    forget();
}

static double variance(const picture *p, size_t left, size_t top, size_t right, size_t bottom) {
    double sum = 0, squares = 0, count = 0;
    for (size_t y = top; y < bottom; y++)
        for (size_t x = left; x < right; x++) {
            const double value = p->pixels[(y * p->width + x) * 3 + 1];
            sum += value;
            squares += value * value;
            count++;
        }
    return squares / count - sum * sum / count / count;
}

/* In the upright picture, before it is resized. */
static void boxes_are_blurred(void **state) {
    (void)state;
    picture stripes = make_plain(256, 128, 0, 0, 0);
    for (size_t i = 0; i < 256 * 128; i++) memset(stripes.pixels + i * 3, i % 256 / 4 % 2 ? 255 : 0, 3);
    limn_buffer bytes = make_png(stripes.pixels, 256 * 3, 256, 128, PNG_COLOR_TYPE_RGB, 8, false, false);
    pair_options options = PLAIN;
    options.resize = RESIZE_KEEP_RATIO;
    options.image = "png";
    assert_string_equal(make(&options, &bytes, NULL, "[[0.25, 0.0, 0.5, 0.5]]"), "made");
    assert_true(variance(&last, 32, 0, 64, 32) < 200 && variance(&last, 80, 0, 128, 64) > 5000);
    limn_buffer exif = make_exif(6, 3, true); /* the stripes lie now */
    put_metadata(&bytes, &exif, NULL, 0);
    assert_string_equal(make(&options, &bytes, NULL, "[[0, 0.25, 0.5, 0.5]]"), "made");
    assert_int_equal(last.width, 64);
    assert_true(variance(&last, 0, 32, 32, 64) < 200 && variance(&last, 0, 80, 64, 128) > 5000);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(last_json, "exif"), "Orientation")), 6);
    limn_buffer_free(&exif);
    limn_buffer_free(&bytes);
    picture_free(&stripes);
    forget();
}

static void texts_of_boxes(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "null",
        "{}",
        "0.5",
        "[0.1, 0.2, 0.3, 0.4]",
        "[[0,0,1]]",
        "[[0,0,1,1",
        "[[0,0,1,1]]x",
        "[[0,0,1,\"1\"]]",
        "[[0,0,1,NaN]]",
        "[[0,0,1,1e999]]",
        "[[10,20,300,400]]",
        "[[0.5,0,0.4,1]]",
        "[[0,0.5,1,0.4]]",
        "[[0,0,1,1],null]",
        "[[-3,0,1,1]]",
        "[[[0,0,1,1]]]",
        "[true]",
        "\xff\xfe",
    };
    picture_box out[BOXES_MAX];
    const char *problem;
    limn_buffer bytes = photo_jpeg(90, 80), many = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (boxes_parse(bad[i], strlen(bad[i]), out, &problem) >= 0) fail_msg("\"%s\" was read", bad[i]);
        assert_non_null(problem);
        assert_string_equal(make(&PLAIN, &bytes, NULL, bad[i]), "bad_boxes");
    }
    assert_int_equal(boxes_parse("[]", 2, out, &problem), 0);
    assert_int_equal(boxes_parse("[[0,0,1,1]]", 11, out, &problem), 1);
    const char *over = "[[-0.1, 0.25, 1.5, 0.5], [0.3, 0.3, 0.3, 0.9], [1.1, 0, 1.2, 1]]";
    assert_int_equal(boxes_parse(over, strlen(over), out, &problem), 1); /* drawn in; the others have no area in the picture */
    assert_true(out[0].left == 0 && out[0].right == 1 && out[0].top == 0.25 && out[0].bottom == 0.5);
    assert_int_equal(limn_buffer_append(&many, "[[0,0,1,1]", 10, NULL), 0);
    for (int i = 1; i < BOXES_MAX; i++) assert_int_equal(limn_buffer_append(&many, ",[0,0,1,1]", 10, NULL), 0);
    assert_int_equal(limn_buffer_append(&many, "]", 1, NULL), 0);
    assert_int_equal(boxes_parse(many.data, many.size, out, &problem), BOXES_MAX);
    many.size--;
    assert_int_equal(limn_buffer_append(&many, ",[0,0,1,1]]", 11, NULL), 0);
    assert_int_equal(boxes_parse(many.data, many.size, out, &problem), -1);
    limn_buffer_free(&many);
    limn_buffer deep = {0};
    for (int i = 0; i < 100000; i++) assert_int_equal(limn_buffer_append(&deep, "[", 1, NULL), 0);
    assert_int_equal(boxes_parse(deep.data, deep.size, out, &problem), -1);
    limn_buffer_free(&deep);
    limn_buffer_free(&bytes);
    forget();
}

/* Upright and in sRGB, with the hash of what it looks like. */
static void as_it_is_meant(void **state) {
    (void)state;
    picture photo = make_photo(120, 70, 9);
    limn_buffer bytes = make_png(photo.pixels, 360, 120, 70, PNG_COLOR_TYPE_RGB, 8, false, false), same = {0};
    limn_buffer profile = make_rgb_profile(), exif = make_exif(8, 3, false);
    assert_int_equal(limn_buffer_append(&same, bytes.data, bytes.size, NULL), 0);
    put_metadata(&bytes, &exif, &profile, 0);
    pair_options options = PLAIN;
    options.resize = RESIZE_NONE;
    options.image = "png";
    options.dedup = true;
    assert_string_equal(make(&options, &bytes, NULL, NULL), "made");
    assert_int_equal(last.width, 70);
    assert_int_equal(number("original_width"), 70);
    assert_int_equal(number("original_height"), 120);
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)last_pair.look);
    assert_string_equal(json_string_value(json_object_get(last_json, "phash")), text);
    picture seen = last, plain;
    const uint64_t look = last_pair.look;
    last = (picture){0};
    assert_string_equal(make(&options, &same, NULL, NULL), "made");
    assert_true(last_pair.look != look);
    assert_int_equal(picture_orient(&last, 8, NULL), 0);
    plain = last;
    const double psnr = picture_psnr(&seen, &plain);
    assert_true(psnr > 20 && psnr < 45); /* turned alike, coloured otherwise */
    picture_free(&seen);
    options.dedup = false;
    assert_string_equal(make(&options, &same, NULL, NULL), "made");
    assert_null(json_object_get(last_json, "phash"));
    assert_true(last_pair.look == 0);
    limn_buffer_free(&bytes);
    limn_buffer_free(&same);
    limn_buffer_free(&profile);
    limn_buffer_free(&exif);
    picture_free(&photo);
    forget();
}

static void a_context_changes_nothing(void **state) {
    (void)state;
    picture_context *context = picture_context_create(NULL);
    for (size_t round = 0; round < 2; round++)
        for (size_t width = 70; width < 370; width += 7) { /* more sizes than are kept */
            limn_buffer bytes = photo_jpeg(width, 80);
            download_row row = {.url = (char *)(uintptr_t) "u", .caption = (char *)(uintptr_t) "c", .caption_size = 1};
            row.data = (unsigned char *)bytes.data;
            row.data_size = bytes.size;
            download_pair with = {0}, without = {0};
            assert_int_equal(pair_make(&PLAIN, context, "k", &row, &with), 0);
            assert_int_equal(pair_make(&PLAIN, NULL, "k", &row, &without), 0);
            assert_int_equal(with.image.size, without.image.size);
            assert_memory_equal(with.image.data, without.image.data, with.image.size);
            assert_string_equal(with.json, without.json);
            pair_free(&with);
            pair_free(&without);
            limn_buffer_free(&bytes);
        }
    picture_context_destroy(context);
}

static void options_out_of_bounds(void **state) {
    (void)state;
    limn_error error = {0};
    pair_options options = PLAIN;
    assert_int_equal(pair_check(&options, &error), 0);
    options.image = "gif";
    assert_int_equal(pair_check(&options, &error), -1);
    options.image = "original"; /* cannot be cropped */
    assert_int_equal(pair_check(&options, &error), -1);
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
    options.resize = RESIZE_NONE;
    assert_int_equal(pair_check(&options, &error), 0);
    const double ratios[] = {0.5, -1, NAN, 1e9};
    for (size_t i = 0; i < 4; i++) {
        options.max_aspect_ratio = ratios[i];
        assert_int_equal(pair_check(&options, &error), -1);
    }
    options.max_aspect_ratio = 1;
    assert_int_equal(pair_check(&options, &error), 0);
    options.dedup_distance = 8;
    assert_int_equal(pair_check(&options, &error), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mode_and_only_if_bigger),
        cmocka_unit_test(too_small_and_too_long),
        cmocka_unit_test(every_form),
        cmocka_unit_test(original_bytes),
        cmocka_unit_test(hashes_of_the_list),
        cmocka_unit_test(boxes_are_blurred),
        cmocka_unit_test(texts_of_boxes),
        cmocka_unit_test(as_it_is_meant),
        cmocka_unit_test(a_context_changes_nothing),
        cmocka_unit_test(options_out_of_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
