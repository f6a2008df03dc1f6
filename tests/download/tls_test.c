/* limn-download and certificates that are not valid. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/world.h"

#include <stdlib.h>
#include <string.h>

enum { KINDS = 4, ROWS = 20 };

typedef struct {
    test_server servers[KINDS];
    char folder[4096];
} fixture;

/* ROWS addresses at each server, one kind after the other. */
static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    if (!self) return -1;
    limn_buffer list = {0};
    make_folder(self->folder);
    for (int kind = 0; kind < KINDS; kind++) {
        self->servers[kind] = server_start_tls((server_certificate)kind, in(self->folder, "trusted.pem"));
        for (int i = 0; i < ROWS; i++)
            limn_buffer_printf(&list, NULL, "caption\thttps://127.0.0.1:%d/picture/%d\n", self->servers[kind].port, i);
    }
    write_file(self->folder, "list.tsv", list.data, list.size);
    limn_buffer_free(&list);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    for (int kind = 0; kind < KINDS; kind++) server_stop(&self->servers[kind]);
    limn_remove_tree(self->folder, NULL);
    free(self);
    return 0;
}

static void only_valid_ones_are_taken(void **state) {
    const fixture *self = *state;
    program_result result =
        run_download("--input", in(self->folder, "list.tsv"), "--output", in(self->folder, "valid"), "--size", "16",
                     "--timeout", "20", "--ca-file", in(self->folder, "trusted.pem"), "--allow-private", NULL);
    const char *out = in(self->folder, "valid");
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(stats_number(out, "00000", "pairs"), ROWS);
    assert_int_equal(stats_reason(out, "00000", "tls"), 3 * ROWS);
    char *keys = tar_keys(in(out, "00000.tar"));
    assert_non_null(strstr(keys, "000000000"));
    assert_non_null(strstr(keys, "000000019"));
    free(keys);
    /* What is not valid now is not valid at another try. */
    for (int kind = 1; kind < KINDS; kind++) {
        assert_int_equal(self->servers[kind].counts->requests, 0);
        assert_true(self->servers[kind].counts->connections <= ROWS);
    }
    program_result_free(&result);
}

static void the_system_trusts_none(void **state) {
    const fixture *self = *state;
    program_result result = run_download("--input", in(self->folder, "list.tsv"), "--output", in(self->folder, "none"),
                                         "--timeout", "20", "--allow-private", NULL);
    assert_int_equal(stats_reason(in(self->folder, "none"), "00000", "tls"), KINDS * ROWS);
    program_result_free(&result);
}

static void all_are_taken_on_request(void **state) {
    const fixture *self = *state;
    program_result result = run_download("--input", in(self->folder, "list.tsv"), "--output", in(self->folder, "all"), "--size",
                                         "16", "--timeout", "20", "--check-certificates", "no", "--allow-private", NULL);
    assert_int_equal(stats_number(in(self->folder, "all"), "00000", "pairs"), KINDS * ROWS);
    program_result_free(&result);
}

static void missing_file_of_certificates(void **state) {
    const fixture *self = *state;
    program_result result = run_download("--input", in(self->folder, "list.tsv"), "--output", in(self->folder, "missing"),
                                         "--ca-file", in(self->folder, "no.pem"), NULL);
    assert_int_equal(result.exit_code, 2);
    assert_non_null(strstr(result.err, "--ca-file"));
    program_result_free(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_valid_ones_are_taken),
        cmocka_unit_test(the_system_trusts_none),
        cmocka_unit_test(all_are_taken_on_request),
        cmocka_unit_test(missing_file_of_certificates),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
