/* 10,000 addresses of which half misbehave: nothing is lost, and the run takes hardly longer than the misbehaving ones hold
 * transfers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/world.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 10000, CONCURRENCY = 400, TIMEOUT = 4 };

/* Every second row is a picture; the others take turns. `seconds`: how long one holds a transfer, all its tries together. */
static const struct {
    const char *path, *reason;
    double seconds;
} KINDS[] = {
    {"never", "timeout", TIMEOUT},       {"slow", "timeout", TIMEOUT}, {"headers", "timeout", TIMEOUT},
    {"drip", "too_slow", TIMEOUT / 2.0}, {"endless", "too_large", 0},  {"reset", "connection_lost", 0},
    {"hangup", "connection_lost", 0},    {"loop", "redirect", 0},      {"missing", "http_404", 0},
    {"broken", "http_500", 0},
};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

static void half_misbehave(void **state) {
    (void)state;
    char folder[4096], number[32], timeout[32];
    test_server server = server_start();
    limn_buffer list = {0};
    double held = 0;
    make_folder(folder);
    for (int i = 0; i < ROWS; i++) {
        const int kind = i / 2 % KIND_COUNT;
        held += i % 2 ? KINDS[kind].seconds : 0;
        limn_buffer_printf(&list, NULL, "caption\thttp://127.0.0.1:%d/%s/%d\n", server.port,
                           i % 2 ? KINDS[kind].path : "picture", i);
    }
    write_file(folder, "list.tsv", list.data, list.size);
    limn_buffer_free(&list);
    snprintf(number, sizeof number, "%d", CONCURRENCY);
    snprintf(timeout, sizeof timeout, "%d", TIMEOUT);
    const char *out = in(folder, "out");
    program_result result =
        run_download("--input", in(folder, "list.tsv"), "--output", out, "--size", "16", "--timeout", timeout, "--retries", "1",
                     "--max-bytes", "200k", "--concurrency", number, "--per-host", number, "--allow-private", NULL);
    const double least = held / CONCURRENCY;
    print_message("%d addresses, half of them misbehave: %.1f s; they hold transfers for %.1f s at least\n", ROWS,
                  result.seconds, least);
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(stats_number(out, "00000", "rows"), ROWS);
    assert_int_equal(stats_number(out, "00000", "pairs"), ROWS / 2);
    long expected[KIND_COUNT] = {0};
    for (int kind = 0; kind < KIND_COUNT; kind++)
        for (int other = 0; other < KIND_COUNT; other++)
            if (!strcmp(KINDS[kind].reason, KINDS[other].reason)) expected[kind] += ROWS / 2 / KIND_COUNT;
    for (int kind = 0; kind < KIND_COUNT; kind++)
        assert_int_equal(stats_reason(out, "00000", KINDS[kind].reason), expected[kind]);
    assert_true(result.seconds < 1.5 * least);
    program_result_free(&result);
    server_stop(&server);
    limn_remove_tree(folder, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(half_misbehave)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
