/* limn-download and names that do not resolve, or to the wrong place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "download/fetch.h"
#include "tests/download/names.h"
#include "tests/download/world.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

typedef struct {
    test_server server;
    test_names names;
    char folder[4096];
} fixture;

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    if (!self) return -1;
    self->server = server_start();
    self->names = names_start();
    make_folder(self->folder);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    server_stop(&self->server);
    names_stop(&self->names);
    limn_remove_tree(self->folder, NULL);
    free(self);
    return 0;
}

/* None holds up another, and each is asked for once: 100 that nobody answers take seconds together, not each. */
static void ten_thousand_dead_names(void **state) {
    const fixture *self = *state;
    static const char *const kinds[] = {"nx", "nx", "nx", "nx", "nx", "servfail", "garbage", "circle", "private", "nx"};
    limn_buffer list = {0};
    for (int i = 0; i < 10000; i++)
        limn_buffer_printf(&list, NULL, "caption\thttp://%s%d.example.test/%d.jpg\n",
                           i % 100 == 99   ? "silent"
                           : i % 100 == 89 ? "stub"
                                           : kinds[i % 10],
                           i, i);
    write_file(self->folder, "dead.tsv", list.data, list.size);
    limn_buffer_free(&list);
    const size_t before = *self->names.questions;
    program_result result = run_download("--input", in(self->folder, "dead.tsv"), "--output", in(self->folder, "dead"),
                                         "--timeout", "3", "--resolver", self->names.address, "--fetch-threads", "2", NULL);
    if (result.exit_code) print_error("%s", result.err);
    assert_int_equal(result.exit_code, 0);
    const char *out = in(self->folder, "dead");
    print_message("10,000 names in %.1f s, %zu questions\n", result.seconds, *self->names.questions - before);
    assert_int_equal(stats_number(out, "00000", "rows"), 10000);
    assert_int_equal(stats_reason(out, "00000", "dns"), 9000);
    assert_int_equal(stats_reason(out, "00000", "private_address"), 1000);
    assert_true(result.seconds < 90);
    /* Two records a name, again after a failure or a silence. */
    assert_true(*self->names.questions - before < 2 * 10000 + 6 * 4000);
    program_result_free(&result);
}

static void one_look_up_for_all_rows_of_a_host(void **state) {
    const fixture *self = *state;
    limn_buffer list = {0};
    for (int i = 0; i < 3000; i++)
        limn_buffer_printf(&list, NULL, "caption\thttp://%s.test:%d/picture/%d\n", i % 3 ? "nx-one" : "here-one",
                           self->server.port, i);
    write_file(self->folder, "one.tsv", list.data, list.size);
    limn_buffer_free(&list);
    const size_t before = *self->names.questions;
    program_result result =
        run_download("--input", in(self->folder, "one.tsv"), "--output", in(self->folder, "one"), "--timeout", "20", "--size",
                     "16", "--resolver", self->names.address, "--allow-private", NULL);
    const char *out = in(self->folder, "one");
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(stats_number(out, "00000", "pairs"), 1000);
    assert_int_equal(stats_reason(out, "00000", "dns"), 2000);
    assert_true(*self->names.questions - before <= 8);
    program_result_free(&result);
}

static void names_lead_where_they_should(void **state) {
    const fixture *self = *state;
    const int port = self->server.port;
    write_text(self->folder, "lead.tsv",
               "a\thttp://two.test:%d/picture/1\nb\thttp://here.test:%d/away/2\nc\thttp://Here.TEST.:%d/picture/3\n"
               "d\thttp://localhost:%d/picture/4\ne\thttp://b\xC3\xBC"
               "cher.test:%d/picture/5\n",
               port, port, port, port, port);
    program_result result =
        run_download("--input", in(self->folder, "lead.tsv"), "--output", in(self->folder, "lead"), "--timeout", "20",
                     "--retries", "0", "--resolver", self->names.address, "--allow-private", NULL);
    char *failed = limn_file_read(in(in(self->folder, "lead"), "00000.failed.tsv"), 1 << 20, NULL, NULL);
    if (failed) print_error("%s", failed);
    free(failed);
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(stats_number(in(self->folder, "lead"), "00000", "pairs"), 5);
    program_result_free(&result);

    /* The same names, where the list is a stranger's. */
    result = run_download("--input", in(self->folder, "lead.tsv"), "--output", in(self->folder, "stranger"), "--timeout", "20",
                          "--retries", "0", "--resolver", self->names.address, NULL);
    assert_int_equal(stats_reason(in(self->folder, "stranger"), "00000", "private_address"), 5);
    program_result_free(&result);
}

static void count_answer(void *owner, host *about) {
    (void)about;
    ++*(int *)owner;
}

static host *look_up(resolver *from, int epoll, host_table *table, const char *name, int *answers) {
    host *found = host_table_get(table, name, fetcher_host_hash(name));
    struct epoll_event event;
    const int before = *answers;
    assert_non_null(found);
    found->state = HOST_LOOKED_UP;
    resolver_ask(from, found);
    while (*answers == before) {
        if (epoll_wait(epoll, &event, 1, (int)(1000 * resolver_wait(from, 1)) + 1) == 1)
            resolver_event(from, (int)(uint32_t)event.data.u64, event.events);
        resolver_timers(from);
    }
    return found;
}

/* A host whose name server is gone for a while stays where it was; one that was never known has no address. */
static void a_name_server_that_goes_away(void **state) {
    (void)state;
    test_names names = names_start();
    const fetch_options options = {.timeout = 1, .resolver = names.address, .allow_private = true};
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    int answers = 0;
    host_table table;
    resolver *made = resolver_create(&options, epoll, count_answer, &answers, NULL);
    assert_non_null(made);
    assert_int_equal(host_table_create(&table, 10, NULL), 0);
    const host *known = look_up(made, epoll, &table, "here.test", &answers);
    assert_int_equal(known->state, HOST_KNOWN);
    assert_int_equal(known->address_count, 1);
    assert_true(known->expires > limn_seconds() + 50); /* its record says 60 seconds */
    const host *missing = look_up(made, epoll, &table, "nx.test", &answers);
    assert_int_equal(missing->state, HOST_FAILED);
    assert_string_equal(missing->reason, "dns");
    names_stop(&names);
    assert_ptr_equal(look_up(made, epoll, &table, "here.test", &answers), known);
    assert_int_equal(known->state, HOST_KNOWN);
    assert_int_equal(known->address_count, 1);
    assert_int_equal(look_up(made, epoll, &table, "never-known.test", &answers)->state, HOST_FAILED);
    resolver_destroy(made);
    host_table_free(&table);
    close(epoll);
}

static void wrong_resolver(void **state) {
    const fixture *self = *state;
    write_text(self->folder, "any.tsv", "a\thttp://here.test/1\n");
    program_result result = run_download("--input", in(self->folder, "any.tsv"), "--output", in(self->folder, "any"),
                                         "--resolver", "not an address", NULL);
    assert_int_equal(result.exit_code, 2);
    assert_non_null(strstr(result.err, "--resolver"));
    program_result_free(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_dead_names),
        cmocka_unit_test(one_look_up_for_all_rows_of_a_host),
        cmocka_unit_test(names_lead_where_they_should),
        cmocka_unit_test(a_name_server_that_goes_away),
        cmocka_unit_test(wrong_resolver),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
