/* Addresses taken apart, what is private, and what servers say of use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "download/fetch.h"

#include <stdlib.h>
#include <string.h>

static void parts(void **state) {
    (void)state;
    static const struct {
        const char *url, *host, *cleaned; /* host NULL: it is refused */
    } cases[] = {
        {"http://Example.COM./a b", "example.com", "http://Example.COM./a%20b"},
        {"https://user:word@example.org:8443/x?y#z", "example.org", "https://user:word@example.org:8443/x?y#z"},
        {"http://127.1/", "127.0.0.1", "http://127.0.0.1/"},
        {"http://0x7f000001:80/", "127.0.0.1", "http://127.0.0.1:80/"},
        {"http://[::1]/", "[::1]", "http://[::1]/"},
        {"http://b\xC3\xBC"
         "cher.example/\xC3\xA9",
         "xn--bcher-kva.example", "http://xn--bcher-kva.example/%C3%A9"},
        {"http://", NULL, NULL},
        {"http:///path", "path", "http://path/"}, /* as browsers do */
        {"http://\xFF\xFE/", NULL, NULL},
        {"http://a b/", NULL, NULL},
        {"http://a%7Fb/", NULL, NULL},
        {"http://host:99999/", NULL, NULL},
        {"http://[::1/", NULL, NULL},
        {"ftp://example.com/", NULL, NULL},
        {"file:///etc/passwd", NULL, NULL},
        {"gopher://h/", NULL, NULL},
        {"", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        url_parts found;
        const char *problem = NULL;
        const int status = url_take_apart(cases[i].url, strlen(cases[i].url), &found, &problem);
        if (!cases[i].host) {
            if (status != -1) fail_msg("%s leads to %s", cases[i].url, found.host);
            assert_non_null(problem);
            continue;
        }
        assert_int_equal(status, 0);
        assert_string_equal(found.host, cases[i].host);
        assert_string_equal(found.url, cases[i].cleaned);
        assert_int_equal(found.https, cases[i].url[4] == 's');
        url_parts_free(&found);
    }
    char *longest = malloc(400);
    assert_non_null(longest);
    memcpy(longest, "http://", 7);
    memset(longest + 7, 'a', 393);
    url_parts found;
    const char *problem = NULL;
    assert_int_equal(url_take_apart(longest, 400, &found, &problem), -1);
    free(longest);
}

static void literals(void **state) {
    (void)state;
    host_address found;
    assert_true(host_is_literal("192.0.2.1", &found) && found.family == AF_INET && found.bytes[0] == 192);
    assert_true(host_is_literal("[2001:db8::1]", &found) && found.family == AF_INET6 && found.bytes[15] == 1);
    assert_false(host_is_literal("example.com", &found));
    assert_false(host_is_literal("[zz]", &found));
    assert_false(host_is_literal("[]", &found));
    assert_true(host_is_literal("8.8.8.8", &found) && !host_address_is_private(&found));
    assert_true(host_is_literal("192.168.0.1", &found) && host_address_is_private(&found));
    assert_true(host_is_literal("[2606:4700::1]", &found) && !host_address_is_private(&found));
    assert_true(host_is_literal("[::ffff:10.0.0.1]", &found) && host_address_is_private(&found));
}

static void robots(void **state) {
    (void)state;
    static const struct {
        const char *line;
        bool forbids;
    } cases[] = {
        {"X-Robots-Tag: noai\r\n", true},
        {"x-robots-tag:noarchive ,NOIMAGEINDEX\r\n", true},
        {"X-Robots-Tag: otherbot: noai\r\n", false},
        {"X-Robots-Tag: otherbot: noai, limn-download: noindex\r\n", true},
        {"X-Robots-Tag: limn-download: nofollow, otherbot: noindex\r\n", false},
        {"X-Robots-Tag: *: noai\r\n", true},
        {"X-Robots-Tag: max-image-preview: large, noai\r\n", true},
        {"X-Robots-Tag: unavailable_after: 25 Jun 2030 15:00:00 PST\r\n", false},
        {"X-Robots-Tag: unavailable_after: 25 Jun 2030 15:00:00 PST, noai\r\n", true},
        {"X-Robots-Tag: all\r\n", false},
        {"X-Robots-Tag: noaix, xnoai\r\n", false},
        {"X-Robots-Tag:\r\n", false},
        {"X-Robots-Tag: ,,:,\r\n", false},
        {"X-Robots-Tags: noai\r\n", false},
        {"tdm-reservation: 1\r\n", true},
        {"TDM-Reservation:1\r\n", true},
        {"tdm-reservation: 0\r\n", false},
        {"tdm-reservation: 10\r\n", false},
        {"tdm-policy: 1\r\n", false},
        {"no colon\r\n", false},
        {"\r\n", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (header_forbids_learning(cases[i].line, strlen(cases[i].line)) != cases[i].forbids) fail_msg("%s", cases[i].line);
}

/* Hosts with nothing to do make room for others, the longest unused first; busy ones stay. */
static void hosts_are_forgotten(void **state) {
    (void)state;
    host_table table;
    char name[32];
    assert_int_equal(host_table_create(&table, 100, NULL), 0);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "host%d.example", i);
        host *made = host_table_get(&table, name, fetcher_host_hash(name));
        assert_non_null(made);
        assert_string_equal(made->name, name);
        if (i < 10) made->running = 1;
        made->pauses = (size_t)i;
    }
    assert_int_equal(table.count, 100);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "host%d.example", i);
        assert_int_equal(host_table_get(&table, name, fetcher_host_hash(name))->pauses, i);
    }
    assert_int_equal(host_table_get(&table, "host999.example", fetcher_host_hash("host999.example"))->pauses, 999);
    assert_int_equal(host_table_get(&table, "host500.example", fetcher_host_hash("host500.example"))->pauses, 0);
    host_table_free(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts),
        cmocka_unit_test(literals),
        cmocka_unit_test(robots),
        cmocka_unit_test(hosts_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
