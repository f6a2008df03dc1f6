/* How limn-download treats a host: how many connections it gets, pauses that it asks for, and proxies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/world.h"

#include <stdlib.h>
#include <string.h>

static const char *list_of(const server_world *self, const char *kind, int count) {
    limn_buffer list = {0};
    for (int i = 0; i < count; i++)
        limn_buffer_printf(&list, NULL, "caption\thttp://127.0.0.1:%d/%s/%d\n", self->server.port, kind, i);
    write_file(self->folder, "list.tsv", list.data, list.size);
    limn_buffer_free(&list);
    return in(self->folder, "list.tsv");
}

/* A few connections serve all rows of a host; addresses without a picture do not cost theirs. */
static void few_connections(void **state) {
    const server_world *self = *state;
    static const char *const kinds[] = {"late", "missing"};
    for (int i = 0; i < 2; i++) {
        const char *out = in(self->folder, kinds[i]);
        program_result result =
            run_download("--input", list_of(self, kinds[i], 200), "--output", out, "--size", "16", "--timeout", "30",
                         "--concurrency", "100", "--per-host", "3", "--fetch-threads", "3", "--allow-private", NULL);
        assert_int_equal(result.exit_code, 0);
        assert_int_equal(i ? stats_reason(out, "00000", "http_404") : stats_number(out, "00000", "pairs"), 200);
        program_result_free(&result);
    }
    assert_true(self->server.counts->most_at_once <= 3);
    assert_true(self->server.counts->connections <= 6);
}

/* Rows that wait for a full host hold no transfers: the second host's start with the first's, not after them. 24 rows, 4 at a
 * time, are 6 seconds; one host after the other would be 12. */
static void full_hosts_hold_up_none(void **state) {
    const server_world *self = *state;
    limn_buffer list = {0};
    for (int i = 0; i < 48; i++)
        limn_buffer_printf(&list, NULL, "caption\thttp://%s:%d/never/%d\n", i < 24 ? "127.0.0.1" : "localhost",
                           self->server.port, i);
    write_file(self->folder, "full.tsv", list.data, list.size);
    limn_buffer_free(&list);
    program_result result =
        run_download("--input", in(self->folder, "full.tsv"), "--output", in(self->folder, "full"), "--timeout", "1",
                     "--retries", "0", "--concurrency", "8", "--per-host", "4", "--allow-private", NULL);
    assert_int_equal(stats_reason(in(self->folder, "full"), "00000", "timeout"), 48);
    assert_true(result.seconds > 5.5 && result.seconds < 11);
    program_result_free(&result);
}

static void pauses_are_heeded(void **state) {
    const server_world *self = *state;
    program_result result = run_download("--input", list_of(self, "pause", 20), "--output", in(self->folder, "pause"), "--size",
                                         "16", "--timeout", "20", "--per-host", "1", "--allow-private", NULL);
    assert_int_equal(stats_number(in(self->folder, "pause"), "00000", "pairs"), 20);
    assert_int_equal(self->server.counts->during_pause, 0);
    assert_true(result.seconds > 0.9);
    program_result_free(&result);
}

/* 300 rows × 3 tries with a pause of a second after each 4 would be 4 minutes. */
static void a_host_that_never_has_time(void **state) {
    const server_world *self = *state;
    const size_t before = self->server.counts->requests;
    program_result result = run_download("--input", list_of(self, "no-more", 300), "--output", in(self->folder, "no-more"),
                                         "--timeout", "1", "--per-host", "4", "--allow-private", NULL);
    assert_int_equal(stats_reason(in(self->folder, "no-more"), "00000", "http_429"), 300);
    assert_true(result.seconds < 30);
    assert_true(self->server.counts->requests - before <= 6 * 4);
    program_result_free(&result);
}

/* Names are the proxy's affair, so only what the list or a redirect says itself can be refused. */
static void through_a_proxy(void **state) {
    const server_world *self = *state;
    char proxy[64];
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", self->server.port);
    write_text(self->folder, "proxy.tsv",
               "a\thttp://public.example/picture/1\nb\thttp://public.example/to-private/2\nc\thttp://10.0.0.1/picture/3\n"
               "d\thttp://localhost/picture/4\ne\thttp://public.example/missing/5\n");
    program_result result = run_download("--input", in(self->folder, "proxy.tsv"), "--output", in(self->folder, "proxy"),
                                         "--timeout", "20", "--proxy", proxy, NULL);
    const char *out = in(self->folder, "proxy");
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(stats_number(out, "00000", "pairs"), 1);
    assert_int_equal(stats_reason(out, "00000", "private_address"), 3);
    assert_int_equal(stats_reason(out, "00000", "http_404"), 1);
    program_result_free(&result);
}

static void wrong_usage(void **state) {
    const server_world *self = *state;
    static const char *const cases[][2] = {
        {"--per-host", "0"}, {"--fetch-threads", "65"}, {"--proxy", "proxy.example"}, {"--user-agent", "two\nlines"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        program_result result = run_download("--input", list_of(self, "picture", 1), "--output", in(self->folder, "wrong"),
                                             cases[i][0], cases[i][1], NULL);
        assert_int_equal(result.exit_code, 2);
        assert_non_null(strstr(result.err, cases[i][0]));
        program_result_free(&result);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(few_connections, server_world_set_up, server_world_tear_down),
        cmocka_unit_test_setup_teardown(full_hosts_hold_up_none, server_world_set_up, server_world_tear_down),
        cmocka_unit_test_setup_teardown(pauses_are_heeded, server_world_set_up, server_world_tear_down),
        cmocka_unit_test_setup_teardown(a_host_that_never_has_time, server_world_set_up, server_world_tear_down),
        cmocka_unit_test_setup_teardown(through_a_proxy, server_world_set_up, server_world_tear_down),
        cmocka_unit_test_setup_teardown(wrong_usage, server_world_set_up, server_world_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
