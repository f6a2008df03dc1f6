/* The sheet: what is drawn where, the same for the same seed, and the tokens of shards by a VQGAN. */
#include "world.h"

#include <stdlib.h>

/* Fontconfig keeps what it has read until the process ends, and the leak sanitizer does not see who holds it. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libfontconfig\nleak:libpango\nleak:libglib";
}

static int set_up(void **state) {
    choose_set_up(state);
    limn_make_directories(in(choose_folder, "tars"), NULL);
    for (size_t i = 0; i < 10; i++) {
        char name[64];
        snprintf(name, sizeof name, "tars/%05zu.tar", i);
        make_tar(name, i, 6, usual_caption, usual_fields);
    }
    return 0;
}

static picture view(choose_view_options options, const char *name, size_t expected) {
    limn_error error = {0};
    picture sheet;
    size_t drawn;
    options.output = in(choose_folder, name);
    if (choose_view(&options, &drawn, &error)) fail_msg("%s", error.message);
    assert_int_equal(drawn, expected);
    assert_int_equal(picture_load(&sheet, options.output, &error), 0);
    return sheet;
}

static void assert_view_refused(choose_view_options options, const char *reason) {
    limn_error error = {0};
    size_t drawn;
    options.output = in(choose_folder, "never.png");
    assert_int_equal(choose_view(&options, &drawn, &error), -1);
    if (!strstr(error.message, reason)) fail_msg("\"%s\" does not say \"%s\"", error.message, reason);
    assert_false(limn_file_exists(options.output));
}

static size_t dark_pixels(const picture *sheet, size_t x, size_t y, size_t width, size_t height) {
    size_t count = 0;
    for (size_t row = y; row < y + height; row++)
        for (size_t column = x; column < x + width; column++)
            count += sheet->pixels[(row * sheet->width + column) * 3 + 1] < 100;
    return count;
}

static void test_sheet(void **state) {
    (void)state;
    const choose_view_options options = {.inputs = inputs("tars"), .count = 7, .columns = 3, .size = 64, .seed = 3};
    picture first = view(options, "a.png", 7), again = view(options, "b.png", 7);
    assert_int_equal(first.width, again.width);
    assert_int_equal(first.height, again.height);
    assert_memory_equal(first.pixels, again.pixels, first.width * first.height * 3);
    assert_true(first.width > 3 * 64 && first.height > 3 * (64 + 20));
    /* The title and, under the first picture, a caption; nothing in the left margin. */
    assert_true(dark_pixels(&first, 17, 0, first.width - 17, 40) > 50);
    assert_int_equal(dark_pixels(&first, 0, 0, 16, first.height), 0);
    const size_t x = 64 / 12 + 4 + 8, y = x + 2 * 11 + 14;
    assert_true(dark_pixels(&first, x, y + 64 + 4, 64, 30) > 30);
    choose_view_options other = options;
    other.seed = 4;
    picture different = view(other, "c.png", 7);
    assert_true(different.height != first.height ||
                memcmp(different.pixels, first.pixels, first.width * first.height * 3) != 0);
    picture_free(&first);
    picture_free(&again);
    picture_free(&different);
}

static char *odd_caption(size_t number, size_t row) {
    static const char *const texts[] = {"\xff\xfe not UTF-8", "\xe7\x8c\xab\xe3\x81\xae\xe5\x86\x99\xe7\x9c\x9f",
                                        "\xd8\xb5\xd9\x88\xd8\xb1\xd8\xa9", "",
                                        "averylongwordthatdoesnotfitintoonelineandisbrokenwhereverthewidthends"};
    (void)number;
    return strdup(texts[row]);
}

static void test_odd_captions(void **state) {
    (void)state;
    limn_make_directories(in(choose_folder, "odd"), NULL);
    make_tar("odd/0.tar", 0, 5, odd_caption, NULL);
    const choose_view_options options = {.inputs = inputs("odd"), .count = 50, .columns = 50, .size = 40};
    picture sheet = view(options, "odd.png", 5); /* there are no more */
    picture_free(&sheet);
}

static void test_tokens(void **state) {
    (void)state;
    limn_make_directories(in(choose_folder, "vqgan"), NULL);
    limn_make_directories(in(choose_folder, "shards"), NULL);
    save_random_vqgan(in(choose_folder, "vqgan"), 1);
    make_tar("tars16.tar", 0, 5, usual_caption, NULL);
    const char *tar = in(choose_folder, "tars16.tar");
    limn_error error = {0};
    encode_summary summary;
    const encode_options encoding = {
        .inputs = {1, &tar}, .vqgan = in(choose_folder, "vqgan"), .output = in(choose_folder, "encoded"), .parts = 1};
    if (encode_run(&encoding, &summary, &error)) fail_msg("%s", error.message);
    choose_view_options options = {
        .inputs = inputs("encoded"), .count = 4, .columns = 2, .size = 64, .vqgan = in(choose_folder, "vqgan")};
    picture sheet = view(options, "tokens.png", 4);
    picture_free(&sheet);
    make_shard("shards/0.h5", 0, 5, "sha"); /* four tokens a picture */
    options.inputs = inputs("shards");
    assert_view_refused(options, "64 tokens of 37 codes");
    options.vqgan = NULL;
    assert_view_refused(options, "--vqgan DIR is needed");
    options.inputs = inputs("tars");
    options.vqgan = "vqgan";
    assert_view_refused(options, "these are tars");
}

static void test_refusals(void **state) {
    (void)state;
    const choose_view_options good = {.inputs = inputs("tars"), .count = 4, .columns = 2, .size = 64};
    choose_view_options options = good;
    options.count = 0;
    assert_view_refused(options, "--count");
    options = good;
    options.columns = 0;
    assert_view_refused(options, "--columns");
    options = good;
    options.size = 10;
    assert_view_refused(options, "--size");
    options = good;
    options.size = 4096;
    options.count = options.columns = 100;
    assert_view_refused(options, "too large");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sheet),
        cmocka_unit_test(test_odd_captions),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, choose_tear_down);
}
