/* The stream of samples, and which files are gone through. */
#include "world.h"

#include <stdlib.h>

static void test_tar(void **state) {
    (void)state;
    limn_error error = {0};
    choose_sample sample;
    choose_counts seen = {0};
    double number;
    uint64_t identity, same;
    make_tar("00003.tar", 3, 4, usual_caption, usual_fields);
    choose_reader *reader = choose_reader_open(in(choose_folder, "00003.tar"), &seen, &error);
    assert_non_null(reader);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(choose_reader_next(reader, &sample, &error), 1);
        assert_int_equal(sample.row, i);
    }
    assert_string_equal(sample.key, "000030003");
    assert_string_equal(sample.entry->image_ending, "png");
    assert_int_equal(choose_first_caption(&sample).size, strlen("picture 3 of 3 tree"));
    assert_true(choose_number(&sample, "width", &number) && number == 16);
    assert_true(choose_number(&sample, "score", &number) && number == 0.3); /* a text that is a number */
    assert_false(choose_number(&sample, "url", &number));
    assert_false(choose_number(&sample, "absent", &number));
    assert_string_equal(choose_string(&sample, "url"), "http://a.example/3.jpg");
    assert_true(choose_identity(&sample, CHOOSE_BY_KEY, &identity));
    assert_true(identity == choose_hash("000030003", 9));
    assert_true(choose_identity(&sample, CHOOSE_BY_NEAR, &identity) && identity == (3 << 8 | 1));
    assert_true(choose_identity(&sample, CHOOSE_BY_ADDRESS, &identity));
    assert_true(choose_identity(&sample, CHOOSE_BY_PICTURE, &identity) && identity == (uint64_t)3 << 60);
    assert_true(choose_identity(&sample, CHOOSE_BY_CAPTION, &same) && same != identity);
    assert_int_equal(choose_reader_next(reader, &sample, &error), 0);
    choose_reader_close(reader);
    assert_int_equal(seen.samples, 4);
    assert_true(seen.bytes > 4096);
}

/* The first 64 bits of SHA-256, as anyone can compute them: those of "abc" in FIPS 180-4's example. */
static void test_hash(void **state) {
    (void)state;
    assert_true(choose_hash("abc", 3) == 0xba7816bf8f01cfeau);
}

static char *bad_fields(size_t number, size_t row) {
    (void)number;
    static const char *const texts[] = {"{", "[1]", "{\"caption\": \"of json\", \"score\": null}",
                                        "{\"score\": \" 1\", \"n\": \"1x\"}"};
    return strdup(texts[row]);
}

static void test_bad_fields(void **state) {
    (void)state;
    limn_error error = {0};
    choose_sample sample;
    double number;
    make_tar("bad.tar", 0, 4, NULL, bad_fields);
    choose_reader *reader = choose_reader_open(in(choose_folder, "bad.tar"), NULL, &error);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(choose_reader_next(reader, &sample, &error), 1);
        assert_null(sample.fields);
        assert_true(sample.fields_damaged);
        assert_false(choose_number(&sample, "score", &number));
        assert_null(choose_string(&sample, "url"));
    }
    assert_int_equal(choose_reader_next(reader, &sample, &error), 1);
    assert_int_equal(sample.captions, 1);
    assert_memory_equal(choose_first_caption(&sample).data, "of json", 7);
    assert_false(choose_number(&sample, "score", &number));
    assert_int_equal(choose_reader_next(reader, &sample, &error), 1);
    assert_false(choose_number(&sample, "score", &number)); /* begins with a space */
    assert_false(choose_number(&sample, "n", &number));
    choose_reader_close(reader);
    char *large = malloc((1 << 20) + 64); /* above a mebibyte it is not looked at */
    memset(large, ' ', (1 << 20) + 64);
    memcpy(large, "{\"a\":1}", 7);
    assert_null(choose_fields_parse(large, (1 << 20) + 64));
    json_t *fields = choose_fields_parse(large, 1 << 20);
    assert_non_null(fields);
    json_decref(fields);
    free(large);
}

static void test_shard(void **state) {
    (void)state;
    limn_error error = {0};
    choose_sample sample;
    double number;
    make_shard("00007.h5", 7, 5, "sha");
    choose_reader *reader = choose_reader_open(in(choose_folder, "00007.h5"), NULL, &error);
    assert_non_null(reader);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(choose_reader_next(reader, &sample, &error), 1);
        assert_int_equal(sample.captions, i % 3 == 0 ? 2 : 1);
    }
    assert_string_equal(sample.key, "000070003");
    assert_memory_equal(sample.caption[1].data, "caption 1 of 3 in 7 ", sample.caption[1].size);
    assert_int_equal(sample.tokens[2], (7 + 3 + 2) % CODES);
    assert_true(choose_number(&sample, "score", &number) && number > 0.29 && number < 0.31);
    assert_false(choose_number(&sample, "width", &number));
    choose_reader_close(reader);
}

static void test_damaged(void **state) {
    (void)state;
    limn_error error = {0};
    write_text(choose_folder, "no.tar", "not a tar");
    assert_null(choose_reader_open(in(choose_folder, "no.tar"), NULL, &error));
    write_text(choose_folder, "no.h5", "not HDF5");
    assert_null(choose_reader_open(in(choose_folder, "no.h5"), NULL, &error));
}

static void test_expand(void **state) {
    (void)state;
    limn_error error = {0};
    limn_strings paths;
    char mixed[4096], tars[4096], none[4096];
    snprintf(mixed, sizeof mixed, "%s", in(choose_folder, "mixed"));
    snprintf(tars, sizeof tars, "%s", in(choose_folder, "tars"));
    snprintf(none, sizeof none, "%s", in(choose_folder, "none"));
    limn_make_directories(mixed, NULL);
    limn_make_directories(tars, NULL);
    limn_make_directories(none, NULL);
    write_text(mixed, "0.tar", " ");
    write_text(mixed, "0.h5", " ");
    write_text(tars, "1.tar", " ");
    write_text(tars, "0.tar", " ");
    write_text(tars, "other.txt", " ");
    const char *one = mixed, *text = in(tars, "other.txt");
    const char *two[] = {tars, in(mixed, "0.tar")}, *both[] = {tars, in(mixed, "0.h5")};
    assert_int_equal(choose_expand(&(limn_strings){1, &one}, &paths, &error), -1);
    assert_non_null(strstr(error.message, "tars and token shards"));
    assert_int_equal(choose_expand(&(limn_strings){2, two}, &paths, &error), 0);
    assert_int_equal(paths.count, 3);
    assert_string_equal(limn_base_name(paths.items[1]), "1.tar");
    assert_string_equal(paths.items[2], two[1]);
    limn_strings_free(&paths);
    assert_int_equal(choose_expand(&(limn_strings){2, both}, &paths, &error), -1);
    assert_non_null(strstr(error.message, "not both"));
    limn_strings_free(&paths);
    assert_int_equal(choose_expand(&(limn_strings){1, &text}, &paths, &error), -1);
    assert_non_null(strstr(error.message, "neither"));
    limn_strings_free(&paths);
    one = none;
    assert_int_equal(choose_expand(&(limn_strings){1, &one}, &paths, &error), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tar),   cmocka_unit_test(test_hash),    cmocka_unit_test(test_bad_fields),
        cmocka_unit_test(test_shard), cmocka_unit_test(test_damaged), cmocka_unit_test(test_expand),
    };
    return cmocka_run_group_tests(tests, choose_set_up, choose_tear_down);
}
