/* limn-download killed, stopped, divided, refused: the tars are those of a run that nothing happened to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/world.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    test_server server;
    char folder[4096], list[4096], whole[4096];
    char *whole_print; /* of the run that nothing happened to */
} fixture;

/* 90 rows of which some are bad, missing or slower than the others, in shards of 20. */
static int set_up(void **state) {
    limn_buffer list = {0};
    fixture *self = calloc(1, sizeof *self);
    if (!self) return -1;
    *state = self;
    self->server = server_start();
    make_folder(self->folder);
    snprintf(self->list, sizeof self->list, "%s", in(self->folder, "list.csv"));
    snprintf(self->whole, sizeof self->whole, "%s", in(self->folder, "whole"));
    limn_buffer_printf(&list, NULL, "caption,url,score\n");
    for (int i = 0; i < 90; i++)
        limn_buffer_printf(&list, NULL,
                           i % 17 == 5   ? "\"row %d\",nothing,0\n"
                           : i % 11 == 3 ? "\"row %d\",http://127.0.0.1:%d/missing/%d,%d\n"
                           : i % 3 == 1  ? "\"row %d\",http://127.0.0.1:%d/late/%d,%d\n"
                                         : "\"row %d\",http://127.0.0.1:%d/picture/%d,%d\n",
                           i, self->server.port, i, i);
    write_file(self->folder, "list.csv", list.data, list.size);
    limn_buffer_free(&list);
    program_result result = run_download("--input", self->list, "--output", self->whole, "--size", "48", "--shard-size", "20",
                                         "--allow-private", "--concurrency", "3", NULL);
    const bool good = result.exit_code == 0;
    if (!good) print_error("%s", result.err);
    program_result_free(&result);
    if (!good) return -1;
    self->whole_print = folder_print(self->whole);
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    server_stop(&self->server);
    limn_remove_tree(self->folder, NULL);
    free(self->whole_print);
    free(self);
    return 0;
}

static void run_arguments(const fixture *self, const char *output, const char **out) {
    const char *const arguments[] = {"--input",      self->list, "--output",        output,          "--size", "48",
                                     "--shard-size", "20",       "--allow-private", "--concurrency", "3",      NULL};
    memcpy(out, arguments, sizeof arguments);
}

static void whole_run(void **state) {
    const fixture *self = *state;
    char *keys = tar_keys(in(self->whole, "00000.tar"));
    assert_string_equal(keys,
                        "000000000 000000001 000000002 000000004 000000006 000000007 000000008 000000009 000000010 000000011 "
                        "000000012 000000013 000000015 000000016 000000017 000000018 000000019");
    free(keys);
    assert_int_equal(stats_number(self->whole, "00004", "rows"), 10);
    assert_int_equal(stats_reason(self->whole, "00000", "bad_row"), 1);
    assert_int_equal(stats_reason(self->whole, "00000", "http_404"), 2);
    assert_int_equal(count_hidden(self->whole), 0);
}

/* kill -9 at random moments until a run gets through. */
static void killed(void **state) {
    const fixture *self = *state;
    char output[4096];
    const char *arguments[16];
    int kills = 0;
    snprintf(output, sizeof output, "%s", in(self->folder, "killed"));
    run_arguments(self, output, arguments);
    for (uint64_t turn = 0;; turn++) {
        int status;
        const pid_t process = start_download(arguments);
        const struct timespec moment = {.tv_nsec = (long)limn_random_below(3, 4, turn, turn < 40 ? 150000000 : 900000000)};
        nanosleep(&moment, NULL);
        kill(process, SIGKILL);
        assert_int_equal(waitpid(process, &status, 0), process);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
        kills++;
        assert_true(turn < 400);
    }
    assert_true(kills > 0);
    char *print = folder_print(output);
    assert_string_equal(print, self->whole_print);
    assert_int_equal(count_hidden(output), 0);
    free(print);
}

/* Waits until the process holds the folder's lock, by when it listens to signals. */
static void wait_for_lock(const char *output, pid_t process) {
    for (int tries = 0; tries < 2000; tries++, usleep(2000)) {
        char *holder = limn_file_read(in(output, ".lock"), 100, NULL, NULL);
        const bool held = holder && strtol(holder, NULL, 10) == process;
        free(holder);
        if (held) return;
    }
    fail();
}

/* Ctrl-C: ends at once, tidies up, and keeps finished shards. */
static void interrupted(void **state) {
    const fixture *self = *state;
    char output[4096];
    const char *arguments[16];
    snprintf(output, sizeof output, "%s", in(self->folder, "interrupted"));
    run_arguments(self, output, arguments);
    for (int turn = 0; turn < 2; turn++) {
        int status;
        const pid_t process = start_download(arguments);
        wait_for_lock(output, process);
        for (int tries = 0; !limn_file_exists(in(output, "00000.stats.json")) && tries < 1000; tries++) usleep(2000);
        kill(process, SIGINT);
        assert_int_equal(waitpid(process, &status, 0), process);
        assert_true(WIFEXITED(status));
        assert_int_equal(count_hidden(output), 0);
        assert_true(limn_file_exists(in(output, "00000.tar")));
    }
    program_result result =
        run_download("--input", self->list, "--output", output, "--size", "48", "--shard-size", "20", "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    char *print = folder_print(output);
    assert_string_equal(print, self->whole_print);
    free(print);
}

/* A finished shard is not touched; a tar that was cut is made again; so is one without stats. */
static void damaged(void **state) {
    const fixture *self = *state;
    assert_int_equal(truncate(in(self->whole, "00001.tar"), 3000), 0);
    assert_int_equal(unlink(in(self->whole, "00002.stats.json")), 0);
    program_result result = run_download("--input", self->list, "--output", self->whole, "--size", "48", "--shard-size", "20",
                                         "--allow-private", "--json", NULL);
    assert_int_equal(result.exit_code, 0);
    json_t *summary = json_loads(result.out, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(summary, "run_rows")), 40);
    assert_int_equal(json_integer_value(json_object_get(summary, "rows")), 90);
    assert_int_equal(json_integer_value(json_object_get(summary, "shards")), 5);
    json_decref(summary);
    program_result_free(&result);
    char *print = folder_print(self->whole);
    assert_string_equal(print, self->whole_print);
    free(print);
}

static void divided(void **state) {
    const fixture *self = *state;
    const char *output = in(self->folder, "divided");
    for (int part = 2; part >= 0; part--) {
        char text[8];
        snprintf(text, sizeof text, "%d/3", part);
        program_result result = run_download("--input", self->list, "--output", output, "--size", "48", "--shard-size", "20",
                                             "--allow-private", "--part", text, NULL);
        assert_int_equal(result.exit_code, 0);
        program_result_free(&result);
    }
    char *print = folder_print(output);
    assert_string_equal(print, self->whole_print);
    free(print);
}

static void expect_refusal(program_result result, const char *text) {
    if (result.exit_code != 2 || !strstr(result.err, text)) print_error("exit %d: %s", result.exit_code, result.err);
    assert_int_equal(result.exit_code, 2);
    assert_non_null(strstr(result.err, text));
    program_result_free(&result);
}

static void other_configuration(void **state) {
    const fixture *self = *state;
    expect_refusal(run_download("--input", self->list, "--output", self->whole, "--size", "32", "--shard-size", "20",
                                "--allow-private", NULL),
                   "download.json: size was 48 and is now 32");
    write_text(self->folder, "other.csv", "caption,url\na,http://127.0.0.1:%d/picture/1\n", self->server.port);
    expect_refusal(run_download("--input", in(self->folder, "other.csv"), "--output", self->whole, "--size", "48",
                                "--shard-size", "20", "--allow-private", NULL),
                   "made from other lists");
    char *print = folder_print(self->whole);
    assert_string_equal(print, self->whole_print);
    free(print);

    /* --restart: nothing of the first run is left, what is not ours is. */
    const char *output = in(self->folder, "restarted");
    program_result result =
        run_download("--input", self->list, "--output", output, "--size", "32", "--shard-size", "10", "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    write_text(output, "notes.txt", "mine");
    result = run_download("--input", self->list, "--output", output, "--size", "48", "--shard-size", "20", "--allow-private",
                          "--restart", NULL);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    assert_true(limn_file_exists(in(output, "notes.txt")));
    assert_int_equal(unlink(in(output, "notes.txt")), 0);
    print = folder_print(output);
    assert_string_equal(print, self->whole_print);
    free(print);
}

static void one_at_a_time(void **state) {
    const fixture *self = *state;
    const char *output = in(self->folder, "locked");
    write_text(self->folder, "never.tsv", "a\thttp://127.0.0.1:%d/never/1\n", self->server.port);
    const char *const arguments[] = {"--input", in(self->folder, "never.tsv"), "--output", output, "--allow-private", NULL};
    const pid_t process = start_download(arguments);
    for (int tries = 0; !limn_file_exists(in(output, "download.json")) && tries < 2000; tries++) usleep(2000);
    program_result result = run_download("--input", in(self->folder, "never.tsv"), "--output", output, "--allow-private", NULL);
    char number[32];
    snprintf(number, sizeof number, "%ld", (long)process);
    assert_int_equal(result.exit_code, 1);
    assert_non_null(strstr(result.err, number));
    program_result_free(&result);
    kill(process, SIGKILL);
    assert_int_equal(waitpid(process, NULL, 0), process);
}

/* A file that can grow no further is what a full disk is: one line, and nothing that looks whole. */
static void full_disk(void **state) {
    const fixture *self = *state;
    const char *output = in(self->folder, "full");
    const char *arguments[16];
    run_arguments(self, output, arguments);
    program_result result = run_download_limited(15000, arguments);
    assert_int_equal(result.exit_code, 1);
    assert_non_null(strstr(result.err, output));
    const char *last = strstr(result.err, "cannot");
    assert_non_null(last);
    assert_null(strchr(strchr(last, '\n') + 1, '\n'));
    assert_false(limn_file_exists(in(output, "00000.stats.json")));
    assert_false(limn_file_exists(in(output, "00000.tar")));
    assert_int_equal(count_hidden(output), 0);
    program_result_free(&result);
    result =
        run_download("--input", self->list, "--output", output, "--size", "48", "--shard-size", "20", "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    char *print = folder_print(output);
    assert_string_equal(print, self->whole_print);
    free(print);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_run),     cmocka_unit_test(killed),    cmocka_unit_test(interrupted),
        cmocka_unit_test(damaged),       cmocka_unit_test(divided),   cmocka_unit_test(other_configuration),
        cmocka_unit_test(one_at_a_time), cmocka_unit_test(full_disk),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
