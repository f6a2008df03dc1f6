/* limn-download's command line: lists of every form, files of this machine, options, errors of usage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "pictures/pictures.h"
#include "tests/download/world.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[4096];

static int set_up(void **state) {
    (void)state;
    picture made;
    limn_buffer jpeg = {0};
    make_folder(folder);
    if (picture_create(&made, 60, 40, NULL)) return -1;
    memset(made.pixels, 200, 60 * 40 * 3);
    if (picture_encode_jpeg(&made, 90, &jpeg, NULL) || picture_save_png(&made, in(folder, "a b.png"), NULL)) return -1;
    write_file(folder, "1.jpg", jpeg.data, jpeg.size);
    write_file(folder, "cut.jpg", jpeg.data, jpeg.size / 2);
    write_file(folder, "empty.jpg", "", 0);
    write_text(folder, "page.jpg", "<!DOCTYPE html><title>nothing of a picture</title>");
    mkfifo(in(folder, "pipe.jpg"), 0600);

    /* An EXIF segment: big-endian, one entry, Orientation 6, and one that points outside. */
    static const unsigned char exif[] = {0xFF, 0xE1, 0, 0x2A + 4, 'E',  'x',  'i', 'f', 0,    0,    'M',  'M',  0, 42, 0, 0,
                                         0,    8,    0, 2,        0x01, 0x12, 0,   3,   0,    0,    0,    1,    0, 6,  0, 0,
                                         0x01, 0x0F, 0, 2,        0,    0,    1,   0,   0x7F, 0xFF, 0xFF, 0xFF, 0, 0,  0, 0};
    limn_buffer with_exif = {0};
    limn_buffer_append(&with_exif, jpeg.data, 2, NULL);
    limn_buffer_append(&with_exif, exif, sizeof exif, NULL);
    limn_buffer_append(&with_exif, jpeg.data + 2, jpeg.size - 2, NULL);
    write_file(folder, "exif.jpg", with_exif.data, with_exif.size);
    limn_buffer_free(&with_exif);
    limn_buffer_free(&jpeg);
    picture_free(&made);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return limn_remove_tree(folder, NULL);
}

static void local_files(void **state) {
    (void)state;
    write_text(folder, "local.tsv",
               "caption\turl\tsource\n"
               "one\tfile://%s/1.jpg\tmine\n"
               "two\tfile://localhost%s/a%%20b.png\tmine\n"
               "three\tFILE://%s/a b.png\tmine\n"
               "four\tfile://%s/none.jpg\tmine\n"
               "five\tfile://elsewhere%s/1.jpg\tmine\n"
               "six\tfile://%s/empty.jpg\tmine\n"
               "seven\tfile://%s/cut.jpg\tmine\n"
               "eight\tfile://%s/page.jpg\tmine\n"
               "nine\tfile://%s/pipe.jpg\tmine\n"
               "ten\tfile://%s\tmine\n"
               "eleven\tfile:///dev/zero\tmine\n"
               "twelve\tfile://%s/exif.jpg\tmine\n",
               folder, folder, folder, folder, folder, folder, folder, folder, folder, folder, folder);
    const char *out = in(folder, "local");
    program_result result =
        run_download("--input", in(folder, "local.tsv"), "--output", out, "--size", "32", "--allow-private", NULL);
    if (result.exit_code) print_error("%s", result.err);
    assert_int_equal(result.exit_code, 0);
    assert_true(result.seconds < 5);
    assert_non_null(strstr(result.out, "4 pairs of 12 rows in 1 shards, 8 failed"));
    assert_non_null(strstr(result.err, "not_a_picture"));
    program_result_free(&result);
    char *keys = tar_keys(in(out, "00000.tar"));
    assert_string_equal(keys, "000000000 000000001 000000002 000000011");
    free(keys);
    assert_int_equal(stats_reason(out, "00000", "file"), 4); /* none, a pipe, a folder, a device */
    assert_int_equal(stats_reason(out, "00000", "bad_address"), 1);
    assert_int_equal(stats_reason(out, "00000", "empty"), 1);
    assert_int_equal(stats_reason(out, "00000", "broken_picture"), 1);
    assert_int_equal(stats_reason(out, "00000", "not_a_picture"), 1);
    json_t *pair = tar_json(in(out, "00000.tar"), "000000011");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(pair, "exif"), "Orientation")), 6);
    assert_null(json_object_get(json_object_get(pair, "exif"), "Make"));
    assert_string_equal(json_string_value(json_object_get(pair, "source")), "mine");
    json_decref(pair);
    char *failed = limn_file_read(in(out, "00000.failed.tsv"), 1 << 20, NULL, NULL);
    assert_non_null(strstr(failed, "\t000000003\t"));
    assert_non_null(strstr(failed, "local.tsv\t5\n"));
    free(failed);
}

static size_t side(const char *out, const char *what) {
    json_t *pair = tar_json(in(out, "00000.tar"), "000000000");
    const size_t value = (size_t)json_integer_value(json_object_get(pair, what));
    json_decref(pair);
    return value;
}

static void sizes(void **state) {
    (void)state;
    static const struct {
        const char *resize;
        size_t width, height;
    } modes[] = {
        {"center-crop", 20, 20}, {"border", 20, 20}, {"keep-ratio", 30, 20}, {"keep-ratio-largest", 20, 13}, {"none", 60, 40}};
    write_text(folder, "one.tsv", "one\tfile://%s/1.jpg\n", folder);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        const char *out = in(folder, modes[i].resize);
        program_result result = run_download("--input", in(folder, "one.tsv"), "--output", out, "--size", "20", "--resize",
                                             modes[i].resize, "--allow-private", "--quiet", NULL);
        assert_int_equal(result.exit_code, 0);
        assert_string_equal(result.err, "");
        program_result_free(&result);
        assert_int_equal(side(out, "width"), modes[i].width);
        assert_int_equal(side(out, "height"), modes[i].height);
        assert_int_equal(side(out, "original_width"), 60);
    }
    const char *out = in(folder, "small");
    program_result result =
        run_download("--input", in(folder, "one.tsv"), "--output", out, "--min-size", "41", "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    assert_int_equal(stats_reason(out, "00000", "too_small"), 1);
    out = in(folder, "large");
    result = run_download("--input", in(folder, "one.tsv"), "--output", out, "--max-bytes", "100", "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    assert_int_equal(stats_reason(out, "00000", "too_large"), 1);
}

/* Several lists of different forms are one list, row after row; numbers and gaps are the same whatever fails. */
static void many_lists(void **state) {
    (void)state;
    write_text(folder, "part-1.csv", "url,caption\n\"file://%s/1.jpg\",\"a, \"\"b\"\"\nc\"\nnothing\n", folder);
    write_text(folder, "part-2.tsv", "d\tfile://%s/1.jpg\ne\tfile://%s/1.jpg\n", folder, folder);
    write_file(folder, "part-3.tsv", "", 0);
    write_text(folder, "part-4.txt", "text\timage_url\nf\tfile://%s/1.jpg\n\xFF\tfile://%s/1.jpg\n", folder, folder);
    const char *out = in(folder, "many");
    program_result result = run_download("--input", in(folder, "part-*"), "--output", out, "--size", "16", "--shard-size", "3",
                                         "--allow-private", NULL);
    if (result.exit_code) print_error("%s", result.err);
    assert_int_equal(result.exit_code, 0);
    assert_non_null(strstr(result.err, "part-1.csv, line 4: has 1 column where 2 are expected"));
    assert_non_null(strstr(result.err, "part-4.txt, line 3: is not valid UTF-8"));
    program_result_free(&result);
    char *keys = tar_keys(in(out, "00000.tar")), *more = tar_keys(in(out, "00001.tar"));
    assert_string_equal(keys, "000000000 000000002");
    assert_string_equal(more, "000010000 000010001");
    free(keys);
    free(more);
    json_t *pair = tar_json(in(out, "00000.tar"), "000000000");
    assert_string_equal(json_string_value(json_object_get(pair, "caption")), "a, \"b\"\nc");
    json_decref(pair);
    pair = tar_json(in(out, "00001.tar"), "000010001");
    assert_string_equal(json_string_value(json_object_get(pair, "caption")), "f");
    json_decref(pair);
}

static void expect_usage(program_result result, const char *text) {
    if (result.exit_code != 2 || !strstr(result.err, text))
        print_error("exit %d, not \"%s\": %s", result.exit_code, text, result.err);
    assert_int_equal(result.exit_code, 2);
    assert_non_null(strstr(result.err, text));
    assert_null(strchr(strchr(result.err, '\n') + 1, '\n')); /* one line */
    program_result_free(&result);
}

static void wrong_usage(void **state) {
    (void)state;
    const char *list = in(folder, "one.tsv"), *out = in(folder, "unused");
    write_text(folder, "one.tsv", "one\tfile://%s/1.jpg\n", folder);
    write_text(folder, "header.tsv", "url\tcaption\tscore\nfile://%s/1.jpg\ta\t1\n", folder);
    expect_usage(run_download("--output", out, NULL), "--input");
    expect_usage(run_download("--input", list, NULL), "--output");
    expect_usage(run_download("--input", in(folder, "nowhere.tsv"), "--output", out, NULL), "nowhere.tsv");
    expect_usage(run_download("--input", in(folder, "header.tsv"), "--output", out, "--columns", "url,caption,hash", NULL),
                 "no column \"hash\" for --columns; its header line has: url, caption, score");
    expect_usage(run_download("--input", list, "--output", out, "--columns", "url,caption", NULL), "--columns");
    expect_usage(run_download("--input", list, "--output", out, "--size", "0", NULL), "--size");
    expect_usage(run_download("--input", list, "--output", out, "--part", "4/4", NULL), "--part");
    expect_usage(run_download("--input", list, "--output", out, "--part", "1-4", NULL), "--part");
    expect_usage(run_download("--input", list, "--output", out, "--resize", "squash", NULL), "--resize");
    expect_usage(run_download("--input", list, "--output", out, "--timeout", "0", NULL), "--timeout");
    expect_usage(run_download("--input", in(folder, "1.jpg"), "--output", out, NULL), "1.jpg");
    /* Nothing of all this began a folder that a later run would trip over. */
    program_result result = run_download("--input", list, "--output", out, "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    result = run_download("--input", list, "--output", in(in(folder, "1.jpg"), "out"), "--allow-private", NULL);
    assert_int_equal(result.exit_code, 1);
    program_result_free(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(local_files), cmocka_unit_test(sizes), cmocka_unit_test(many_lists),
                                       cmocka_unit_test(wrong_usage)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
