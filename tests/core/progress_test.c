/* The progress line, on a terminal and without one. */
#include "tests/scratch.h"

#include <fcntl.h>
#include <sys/ioctl.h>

static void test_plain(void **state) {
    (void)state;
    scratch_capture(2);
    limn_progress *progress = limn_progress_start("download", "pictures", 1000, 1000000);
    usleep(20000);
    limn_progress_update(progress, 2000, "%d failed", 3);
    limn_progress_update(progress, 12340, "%d failed\x1b", 4);
    limn_log(LIMN_LOG_INFO, "between");
    limn_progress_finish(progress);
    char *text = scratch_captured(2);
    /* Within the first half minute only the last line is written, whole and without control characters. */
    assert_contains(text, "download  12,340 / 1,000,000 pictures  1.2%  ");
    assert_contains(text, "/s  in 0 s  4 failed?\n");
    assert_null(strstr(text, "2,000"));
    assert_null(strchr(text, '\r'));
    assert_null(strchr(text, '\033'));
    free(text);
}

static void test_unknown_total(void **state) {
    (void)state;
    scratch_capture(2);
    limn_progress *progress = limn_progress_start("train", "steps", 0, 0);
    usleep(1000);
    limn_progress_update(progress, 7, NULL);
    limn_progress_finish(progress);
    limn_progress_finish(NULL);
    char *text = scratch_captured(2);
    assert_contains(text, "train  7 steps  ");
    assert_null(strchr(text, '%'));
    free(text);
}

static void test_quiet(void **state) {
    (void)state;
    scratch_capture(2);
    limn_set_log_level(LIMN_LOG_QUIET);
    limn_progress *progress = limn_progress_start("train", "steps", 0, 10);
    limn_progress_update(progress, 7, "%s", "text");
    limn_progress_finish(progress);
    limn_set_log_level(LIMN_LOG_INFO);
    char *text = scratch_captured(2);
    assert_string_equal(text, "");
    free(text);
}

static void test_terminal(void **state) {
    (void)state;
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) skip();
    int side = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    struct winsize size = {.ws_row = 10, .ws_col = 60};
    ioctl(side, TIOCSWINSZ, &size);
    fflush(NULL);
    int saved = dup(2);
    dup2(side, 2);
    limn_progress *progress = limn_progress_start("draw", "tokens", 0, 100);
    usleep(150000);
    limn_progress_update(progress, 10, "%s", "a text that goes on well past the last column of this little terminal");
    limn_progress_update(progress, 11, "%s", "too soon to be drawn");
    limn_log(LIMN_LOG_WARNING, "look here");
    limn_progress_finish(progress);
    fflush(NULL);
    dup2(saved, 2);
    close(saved);
    char text[4096] = {0};
    close(side);
    size_t length = 0;
    for (ssize_t got; (got = read(terminal, text + length, sizeof text - 1 - length)) > 0;) length += (size_t)got;
    close(terminal);
    /* Redrawn in place, cut to the width, wiped before the log line and drawn again after it. */
    const char *first = strstr(text, "\r\033[Kdraw  10 / 100 tokens  10.0%  ");
    assert_non_null(first);
    assert_int_equal(strcspn(first + 4, "\r"), 59);
    assert_contains(first, " s left  a text");
    const char *log = strstr(text, "warning: look here\r\n\r\033[Kdraw  11 / 100");
    assert_non_null(log);
    const char *wiped = strstr(first + 4, "\r\033[K");
    assert_true(wiped && wiped < log);
    assert_contains(log, " in 0 s  too soon to be drawn\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_unknown_total),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_terminal),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
