/* Errors are one printable line; UTF-8; nearest names; log lines. */
#include "tests/scratch.h"

static void test_error_is_one_printable_line(void **state) {
    (void)state;
    limn_error error = {0};
    assert_int_equal(limn_fail(&error, "bad\nname \x1b[31m\xff and \xc2\x85 %s", "caf\xc3\xa9"), -1);
    assert_string_equal(error.message, "bad name ?[31m? and ?? caf\xc3\xa9");
    assert_int_equal(error.exit_code, LIMN_EXIT_FAILED);
    assert_int_equal(limn_fail(NULL, "nobody listens"), -1);
}

static void test_error_that_is_too_long_stays_valid(void **state) {
    (void)state;
    limn_error error = {0};
    char text[3000];
    for (size_t i = 0; i + 1 < sizeof text; i += 2) memcpy(text + i, "\xc3\xa9", 2);
    text[sizeof text - 2] = '\0';
    limn_fail(&error, "%s", text);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    assert_true(limn_utf8_valid(error.message, strlen(error.message)));
}

static void test_context_goes_before_and_keeps_the_exit_code(void **state) {
    (void)state;
    limn_error error = {0};
    limn_fail_usage(&error, "width is 0");
    assert_int_equal(limn_fail_context(&error, "config.json: %s", "vqgan"), -1);
    assert_string_equal(error.message, "config.json: vqgan: width is 0");
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
}

static void test_error_may_quote_itself(void **state) {
    (void)state;
    limn_error error = {0};
    limn_fail(&error, "inner");
    limn_fail(&error, "outer %s", error.message);
    assert_string_equal(error.message, "outer inner");
}

static void test_utf8(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        bool valid;
    } cases[] = {
        {"", 0, true},
        {"abc", 3, true},
        {"\xc3\xa9", 2, true},
        {"\xf0\x9f\x98\x80", 4, true},
        {"\xc0\xaf", 2, false},         /* overlong / */
        {"\xe0\x80\xaf", 3, false},     /* overlong in three bytes */
        {"\xf0\x80\x80\xaf", 4, false}, /* overlong in four bytes */
        {"\xed\xa0\x80", 3, false},     /* surrogate */
        {"\xf4\x90\x80\x80", 4, false}, /* above U+10FFFF */
        {"\xe2\x82", 2, false},         /* cut short */
        {"\x80", 1, false},
        {"\xff", 1, false},
        {"a\xc3", 2, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t before = 0; before < 18; before++) { /* wherever it stands among eight bytes of ASCII */
            char text[32] = "abcdefghijklmnopqrstuvwxyz";
            memcpy(text + before, cases[i].bytes, cases[i].size);
            assert_int_equal(limn_utf8_valid(text, before + cases[i].size), cases[i].valid);
            if (cases[i].valid) assert_true(limn_utf8_valid(text, 31));
        }
    for (uint32_t point = 0; point <= 0x110000; point++) {
        char bytes[4];
        uint32_t back = 0;
        size_t size = limn_utf8_encode(point, bytes);
        if ((point >= 0xd800 && point <= 0xdfff) || point > 0x10ffff) {
            assert_int_equal(size, 0);
        } else {
            assert_int_equal(limn_utf8_decode(bytes, size, &back), size);
            assert_int_equal(back, point);
        }
    }
}

static void test_nearest(void **state) {
    (void)state;
    const char *known[] = {"shard-size", "size", "output", "input", NULL};
    assert_string_equal(limn_nearest("shard-sise", known), "shard-size");
    assert_string_equal(limn_nearest("ouptut", known), "output");
    assert_string_equal(limn_nearest("siz", known), "size");
    assert_null(limn_nearest("wavelength", known));
    char endless[500];
    memset(endless, 'a', sizeof endless);
    endless[sizeof endless - 1] = '\0';
    assert_null(limn_nearest(endless, known));
}

static void test_log_levels(void **state) {
    (void)state;
    scratch_capture(2);
    limn_set_log_level(LIMN_LOG_WARNING);
    limn_log(LIMN_LOG_INFO, "unseen");
    limn_log(LIMN_LOG_WARNING, "seen\n%d", 1);
    limn_set_log_level(LIMN_LOG_QUIET);
    limn_log(LIMN_LOG_ERROR, "unheard");
    limn_set_log_level(LIMN_LOG_INFO);
    char *text = scratch_captured(2);
    assert_contains(text, ": warning: seen 1\n");
    assert_null(strstr(text, "unseen"));
    assert_null(strstr(text, "unheard"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_is_one_printable_line),
        cmocka_unit_test(test_error_that_is_too_long_stays_valid),
        cmocka_unit_test(test_context_goes_before_and_keeps_the_exit_code),
        cmocka_unit_test(test_error_may_quote_itself),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_log_levels),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
