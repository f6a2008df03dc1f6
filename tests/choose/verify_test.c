/* Every kind of fault is found, named by file and key; whole files are remembered. */
#include "world.h"

#include <stdlib.h>

static char *faults_of(const choose_verify_options *options, choose_verify_summary *summary) {
    limn_error error = {0};
    char *text;
    size_t size;
    FILE *page = open_memstream(&text, &size);
    if (choose_verify(options, page, summary, &error)) fail_msg("%s", error.message);
    fclose(page);
    json_decref(summary->faults_json);
    return text;
}

/* There must be exactly this many, and each of the texts in one. */
static void assert_faults(const char *pattern, size_t count, const char *const *texts) {
    choose_verify_summary summary;
    const choose_verify_options options = {.inputs = inputs(pattern), .decode = true, .stored_sha256 = true};
    char *faults = faults_of(&options, &summary);
    if (summary.faults != count) fail_msg("%zu faults expected:\n%s", count, faults);
    for (size_t i = 0; i < count; i++)
        if (!strstr(faults, texts[i])) fail_msg("no \"%s\" in\n%s", texts[i], faults);
    free(faults);
}

static char *honest_fields(size_t number, size_t row) {
    char *text = NULL;
    assert_true(asprintf(&text, "{\"key\": \"%05zu%04zu\", \"width\": 16, \"height\": 16}", number, row) > 0);
    return text;
}

static char *lying_fields(size_t number, size_t row) {
    static const char *const texts[] = {"{\"key\": \"000050000\", \"width\": 17, \"height\": 16}", "{\"key\": \"other\"}",
                                        "{\"a\":", "{\"sha256\": \"00\"}"};
    (void)number;
    return strdup(texts[row]);
}

static void test_whole(void **state) {
    (void)state;
    make_tar("whole.tar", 0, 5, usual_caption, honest_fields);
    make_shard("whole.h5", 0, 5, "sha");
    write_text(choose_folder, "whole.stats.json", "{\"pairs\": 5, \"pictures\": 5, \"captions\": 7}");
    assert_faults("whole.tar", 0, NULL);
    assert_faults("whole.h5", 0, NULL);
}

static void test_lies(void **state) {
    (void)state;
    const char *const texts[] = {"000050000\tthe picture is 16x16, KEY.json says 17x16", "000050001\tKEY.json says key other",
                                 "000050002\tits .json is no JSON object", "000050003\tthe picture's SHA-256 is"};
    make_tar("lies.tar", 5, 4, usual_caption, lying_fields);
    assert_faults("lies.tar", 4, texts);
}

static void test_pictures(void **state) {
    (void)state;
    const char *const texts[] = {"a\ta caption that is not UTF-8", "b\tneither JPEG", "c\tno picture", "d\t",
                                 "a\tthis key comes twice",        "a\tno picture"};
    limn_buffer png = {0};
    picture painted = paint(1, 16, 16);
    assert_int_equal(picture_encode_png(&painted, &png, NULL), 0);
    tar_writer *writer = tar_writer_open(in(choose_folder, "pictures.tar"), NULL);
    add_entry(writer, "a", "png", png.data, png.size);
    add_entry(writer, "a", "txt", "\xff", 1);
    add_entry(writer, "b", "jpg", "<html>", 6);
    add_entry(writer, "c", "txt", "text", 4);
    add_entry(writer, "d", "png", png.data, png.size - 20);
    add_entry(writer, "a", "txt", "again", 5);
    assert_int_equal(tar_writer_commit(writer, NULL), 0);
    limn_buffer_free(&png);
    picture_free(&painted);
    assert_faults("pictures.tar", 6, texts);
}

static void test_counts(void **state) {
    (void)state;
    const char *const texts[] = {"its stats.json says pairs 6, there are 5", "its stats.json says tar_bytes 3"};
    make_tar("counts.tar", 0, 5, usual_caption, honest_fields);
    write_text(choose_folder, "counts.stats.json", "{\"pairs\": 6, \"tar_bytes\": 3}");
    assert_faults("counts.tar", 2, texts);
    const char *const shard_texts[] = {"its stats.json says pictures 6", "its stats.json says captions 6, there are 7"};
    make_shard("shard.h5", 0, 5, "sha");
    write_text(choose_folder, "shard.stats.json", "{\"pictures\": 6, \"captions\": 6}");
    assert_faults("shard.h5", 2, shard_texts);
    const char *const json_texts[] = {"broken.stats.json"};
    make_tar("broken.tar", 0, 5, usual_caption, honest_fields);
    write_text(choose_folder, "broken.stats.json", "{");
    assert_faults("broken.tar", 1, json_texts);
}

static void test_damaged(void **state) {
    (void)state;
    size_t size;
    limn_make_directories(in(choose_folder, "mixed"), NULL);
    make_shard("mixed/0.h5", 0, 5, "sha");
    make_shard("mixed/1.h5", 0, 5, "other");
    char *bytes = limn_file_read(in(choose_folder, "mixed/0.h5"), 1 << 20, &size, NULL);
    write_file(in(choose_folder, "mixed"), "2.h5", bytes, size / 2);
    free(bytes);
    const char *const texts[] = {"1.h5\t-\tanother kind of shard", "2.h5\t-\t"};
    assert_faults("mixed", 2, texts);
    make_tar("cut.tar", 0, 5, usual_caption, honest_fields);
    bytes = limn_file_read(in(choose_folder, "cut.tar"), 1 << 20, &size, NULL);
    write_file(choose_folder, "cut.tar", bytes, size / 2 / 512 * 512);
    free(bytes);
    const char *const cut[] = {"cut short"};
    assert_faults("cut.tar", 1, cut);
}

static void test_record(void **state) {
    (void)state;
    choose_verify_summary summary;
    limn_make_directories(in(choose_folder, "recorded"), NULL);
    make_tar("recorded/0.tar", 0, 5, usual_caption, honest_fields);
    make_tar("recorded/1.tar", 5, 4, usual_caption, lying_fields);
    choose_verify_options options = {.inputs = inputs("recorded"), .record = in(choose_folder, "record")};
    free(faults_of(&options, &summary));
    assert_int_equal(summary.faults, 2); /* not decoded: the key, the JSON */
    assert_int_equal(summary.files_known, 0);
    free(faults_of(&options, &summary));
    assert_int_equal(summary.faults, 2); /* what has faults is looked at again, */
    assert_int_equal(summary.files_known, 1);
    options.decode = true; /* and whole ones when more is asked */
    free(faults_of(&options, &summary));
    assert_int_equal(summary.files_known, 0);
    options.decode = false;
    make_tar("recorded/0.tar", 0, 6, usual_caption, honest_fields); /* or when the file has changed */
    free(faults_of(&options, &summary));
    assert_int_equal(summary.files_known, 0);
    assert_int_equal(summary.samples, 6 + 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),  cmocka_unit_test(test_lies),    cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_counts), cmocka_unit_test(test_damaged), cmocka_unit_test(test_record),
    };
    return cmocka_run_group_tests(tests, choose_set_up, choose_tear_down);
}
