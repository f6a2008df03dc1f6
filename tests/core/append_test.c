/* Files that grow by whole pieces, on a disk that is full for a while. */
#include "tests/scratch.h"

static void test_goes_on_at_the_end(void **state) {
    (void)state;
    const char *path = scratch_path("log");
    for (int run = 0; run < 2; run++) {
        limn_append_file file;
        assert_int_equal(limn_append_open(&file, path, NULL), 0);
        assert_int_equal(limn_append(&file, "one\n", 4, NULL), 0);
        assert_int_equal(limn_append(&file, "two\n", 4, NULL), 0);
        assert_int_equal(limn_append_close(&file, NULL), 0);
        assert_int_equal(limn_append_close(&file, NULL), 0); /* nothing to close */
    }
    assert_file_holds(path, "one\ntwo\none\ntwo\n", 16);
    limn_error error = {0};
    limn_append_file file;
    assert_int_equal(limn_append_open(&file, scratch_path("not/there"), &error), -1);
    assert_contains(error.message, "not/there");
}

static void test_a_full_disk_delays(void **state) {
    (void)state;
    const char *path = scratch_path("full");
    limn_append_file file;
    limn_error error = {0};
    limn_set_log_level(LIMN_LOG_QUIET);
    assert_int_equal(limn_append_open(&file, path, NULL), 0);
    assert_int_equal(limn_append(&file, "first\n", 6, NULL), 0);
    scratch_limit_files(9);
    assert_int_equal(limn_append(&file, "second\n", 7, NULL), 0); /* three bytes of it would fit */
    assert_file_holds(path, "first\n", 6);
    assert_int_equal(limn_append(&file, "third\n", 6, NULL), 0);
    assert_file_holds(path, "first\n", 6);
    scratch_limit_files(RLIM_INFINITY);
    assert_int_equal(limn_append(&file, "fourth\n", 7, NULL), 0);
    assert_file_holds(path, "first\nsecond\nthird\nfourth\n", 26);
    scratch_limit_files(30);
    assert_int_equal(limn_append(&file, "fifth\n", 6, NULL), 0);
    assert_int_equal(limn_append_close(&file, &error), -1);
    scratch_limit_files(RLIM_INFINITY);
    assert_contains(error.message, "full");
    assert_file_holds(path, "first\nsecond\nthird\nfourth\n", 26);
    limn_set_log_level(LIMN_LOG_INFO);
}

static void test_not_without_end(void **state) {
    (void)state;
    enum { PIECE = 1 << 20 };
    limn_append_file file;
    limn_error error = {0};
    char *piece = calloc(PIECE, 1);
    assert_non_null(piece);
    limn_set_log_level(LIMN_LOG_QUIET);
    assert_int_equal(limn_append_open(&file, scratch_path("endless"), NULL), 0);
    scratch_limit_files(10);
    size_t taken = 0;
    while (taken < 100 && limn_append(&file, piece, PIECE, &error) == 0) taken++;
    assert_int_equal(taken, 64);
    assert_contains(error.message, "endless");
    assert_int_equal(limn_append_close(&file, NULL), -1);
    scratch_limit_files(RLIM_INFINITY);
    limn_set_log_level(LIMN_LOG_INFO);
    free(piece);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_on_at_the_end),
        cmocka_unit_test(test_a_full_disk_delays),
        cmocka_unit_test(test_not_without_end),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
