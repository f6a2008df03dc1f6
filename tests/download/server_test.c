/* limn-download against a server that misbehaves: it ends on time, with each failure named and counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/world.h"

#include <stdlib.h>
#include <string.h>

/* The reason each address must fail for; NULL for one that must become a pair. */
static const struct {
    const char *path, *reason;
} CASES[] = {
    {"picture/1", NULL},
    {"png/2", NULL},
    {"wrong-type/3", NULL},
    {"redirect/4", NULL},
    {"flaky/5", NULL},
    {"busy/6", NULL},
    {"otherbot/7", NULL},
    {"picture/8?a b=\xC3\xA9#top", NULL},
    {"hops/8", NULL},
    {"gzip/9", NULL},
    {"unreserved/10", NULL},
    {"hops/9", "redirect"},
    {"slow-hop/0", "timeout"},
    {"gzip-bomb/0", "too_large"},
    {"not-gzip/0", "bad_encoding"},
    {"flood/0", "http"},
    {"drip/0", "too_slow"},
    {"preview/0", "noai"},
    {"reserved/0", "noai"},
    {"loop/0", "redirect"},
    {"to-file/0", "redirect"},
    {"to-nowhere/0", "redirect"},
    {"missing/0", "http_404"},
    {"gone/0", "http_410"},
    {"broken/0", "http_500"},
    {"odd/0", "http_304"},
    {"never/0", "timeout"},
    {"slow/0", "timeout"},
    {"headers/0", "timeout"},
    {"endless/0", "too_large"},
    {"vast/0", "too_large"},
    {"long/0", "connection_lost"},
    {"reset/0", "connection_lost"},
    {"hangup/0", "connection_lost"},
    {"short/0", "broken_picture"},
    {"cut/0", "broken_picture"},
    {"bomb/0", "broken_picture"},
    {"html/0", "not_a_picture"},
    {"empty/0", "empty"},
    {"noai/0", "noai"},
    {"noindex/0", "noai"},
    {"ourbot/0", "noai"},
};

static void every_kind_of_answer(void **state) {
    const server_world *self = *state;
    const size_t count = sizeof CASES / sizeof *CASES;
    limn_buffer list = {0};
    limn_buffer_printf(&list, NULL, "url\tcaption\tnumber\n");
    for (size_t i = 0; i < count; i++)
        limn_buffer_printf(&list, NULL, "http://127.0.0.1:%d/%s\tcaption %zu\t%zu\n", self->server.port, CASES[i].path, i, i);
    write_file(self->folder, "list.tsv", list.data, list.size);
    limn_buffer_free(&list);
    program_result result =
        run_download("--input", in(self->folder, "list.tsv"), "--output", in(self->folder, "out"), "--size", "64", "--timeout",
                     "6", "--retries", "1", "--max-bytes", "1M", "--allow-private", "--json", NULL);
    if (result.exit_code != 0) print_error("%s", result.err);
    assert_int_equal(result.exit_code, 0);
    /* No retry after a timeout, one try more after 0.5 s elsewhere. */
    assert_true(result.seconds < 25);

    /* Each failure under its own reason and key, each success in the tar. */
    const char *out = in(self->folder, "out");
    char *failed = limn_file_read(in(out, "00000.failed.tsv"), 1 << 20, NULL, NULL), *keys = tar_keys(in(out, "00000.tar"));
    assert_non_null(failed);
    long pairs = 0;
    for (size_t i = 0; i < count; i++) {
        char key[32], line[64];
        snprintf(key, sizeof key, "00000%04zu", i);
        snprintf(line, sizeof line, "\tcaption %zu\t%s\t", i, CASES[i].reason ? CASES[i].reason : "");
        pairs += CASES[i].reason == NULL;
        if (CASES[i].reason ? !strstr(failed, line) || strstr(keys, key) : !strstr(keys, key)) {
            print_error("%s was to be %s\n%s\n%s\n", CASES[i].path, CASES[i].reason ? CASES[i].reason : "a pair", keys, failed);
            fail();
        }
    }
    assert_int_equal(stats_number(out, "00000", "pairs"), pairs);
    assert_int_equal(stats_number(out, "00000", "failed"), (long)count - pairs);
    assert_int_equal(stats_reason(out, "00000", "timeout"), 4);
    assert_int_equal(stats_reason(out, "00000", "noai"), 5);

    json_t *summary = json_loads(result.out, 0, NULL);
    assert_non_null(summary);
    assert_int_equal(json_integer_value(json_object_get(summary, "pairs")), pairs);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(summary, "reasons"), "redirect")), 4);
    json_decref(summary);

    json_t *pair = tar_json(in(out, "00000.tar"), "000000003");
    assert_non_null(pair);
    assert_string_equal(json_string_value(json_object_get(pair, "caption")), "caption 3");
    assert_string_equal(json_string_value(json_object_get(pair, "number")), "3");
    assert_string_equal(json_string_value(json_object_get(pair, "status")), "success");
    assert_non_null(strstr(json_string_value(json_object_get(pair, "url")), "/redirect/4"));
    assert_int_equal(json_integer_value(json_object_get(pair, "width")), 64);
    assert_int_equal(json_integer_value(json_object_get(pair, "height")), 64);
    assert_int_equal(json_integer_value(json_object_get(pair, "original_width")), 96);
    assert_int_equal(json_integer_value(json_object_get(pair, "original_height")), 80);
    assert_int_equal(strlen(json_string_value(json_object_get(pair, "sha256"))), 64);
    json_decref(pair);
    free(failed);
    free(keys);
    program_result_free(&result);
}

/* What is not HTTP at all has no answer's number to be counted under. */
static void not_http(void **state) {
    const server_world *self = *state;
    write_text(self->folder, "garbage.tsv",
               "a\thttp://127.0.0.1:%d/garbage/0\nb\thttp://127.0.0.1:1/x\nc\thttp://nowhere.invalid/x\nd\tgopher://h/x\n",
               self->server.port);
    program_result result = run_download("--input", in(self->folder, "garbage.tsv"), "--output", in(self->folder, "garbage"),
                                         "--timeout", "2", "--retries", "0", "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    const char *out = in(self->folder, "garbage");
    assert_int_equal(stats_reason(out, "00000", "http"), 1);
    assert_int_equal(stats_reason(out, "00000", "connect"), 1);
    assert_int_equal(stats_reason(out, "00000", "dns"), 1);
    assert_int_equal(stats_reason(out, "00000", "bad_address"), 1);
    program_result_free(&result);
}

/* A list of a stranger's reaches nothing of this machine and its network, however the address is written. */
static void private_addresses(void **state) {
    const server_world *self = *state;
    static const char *const hosts[] = {"127.0.0.1",   "localhost",          "127.1",           "2130706433", "0x7f000001",
                                        "0.0.0.0",     "10.0.0.1",           "10.1.2.3",        "172.16.0.1", "172.31.255.255",
                                        "192.168.1.1", "169.254.169.254",    "100.64.0.1",      "224.0.0.1",  "255.255.255.255",
                                        "[::1]",       "[::ffff:127.0.0.1]", "[::ffff:a00:1]",  "[fe80::1]",  "[fc00::1]",
                                        "[fd12::1]",   "[64:ff9b::7f00:1]",  "[2002:7f00:1::]", "[ff02::1]",  "[::127.0.0.1]"};
    const size_t count = sizeof hosts / sizeof *hosts;
    limn_buffer list = {0};
    for (size_t i = 0; i < count; i++)
        limn_buffer_printf(&list, NULL, "%s\thttp://%s:%d/picture/1\n", hosts[i], hosts[i], self->server.port);
    limn_buffer_printf(&list, NULL, "file\tfile:///etc/passwd\n");
    write_file(self->folder, "private.tsv", list.data, list.size);
    limn_buffer_free(&list);
    program_result result = run_download("--input", in(self->folder, "private.tsv"), "--output", in(self->folder, "private"),
                                         "--timeout", "2", "--retries", "0", NULL);
    assert_int_equal(result.exit_code, 0);
    const char *out = in(self->folder, "private");
    char *failed = limn_file_read(in(out, "00000.failed.tsv"), 1 << 20, NULL, NULL);
    if (stats_reason(out, "00000", "private_address") != (long)count + 1) print_error("%s", failed);
    assert_int_equal(stats_reason(out, "00000", "private_address"), (long)count + 1);
    free(failed);
    program_result_free(&result);
}

static void noai_can_be_overridden(void **state) {
    const server_world *self = *state;
    write_text(self->folder, "noai.tsv", "a\thttp://127.0.0.1:%d/noai/1\n", self->server.port);
    program_result result = run_download("--input", in(self->folder, "noai.tsv"), "--output", in(self->folder, "noai"),
                                         "--respect-noai", "no", "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(stats_number(in(self->folder, "noai"), "00000", "pairs"), 1);
    program_result_free(&result);
}

/* What failed is itself a list: given again it is tried again. */
static void failures_are_a_list(void **state) {
    const server_world *self = *state;
    write_text(self->folder, "first.tsv", "a\thttp://127.0.0.1:%d/flaky/100\nb\thttp://127.0.0.1:%d/picture/1\n",
               self->server.port, self->server.port);
    program_result result = run_download("--input", in(self->folder, "first.tsv"), "--output", in(self->folder, "first"),
                                         "--retries", "0", "--allow-private", NULL);
    assert_int_equal(stats_reason(in(self->folder, "first"), "00000", "http_500"), 1);
    program_result_free(&result);
    const char *first = in(self->folder, "first");
    result =
        run_download("--input", in(first, "00000.failed.tsv"), "--output", in(self->folder, "again"), "--allow-private", NULL);
    assert_int_equal(result.exit_code, 0);
    json_t *pair = tar_json(in(in(self->folder, "again"), "00000.tar"), "000000000");
    assert_string_equal(json_string_value(json_object_get(pair, "caption")), "a");
    assert_string_equal(json_string_value(json_object_get(pair, "reason")), "http_500");
    assert_string_equal(json_string_value(json_object_get(pair, "key_in_list")), "000000000");
    json_decref(pair);
    program_result_free(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_answer), cmocka_unit_test(not_http),
        cmocka_unit_test(private_addresses),    cmocka_unit_test(noai_can_be_overridden),
        cmocka_unit_test(failures_are_a_list),
    };
    return cmocka_run_group_tests(tests, server_world_set_up, server_world_tear_down);
}
