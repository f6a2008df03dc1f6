/* Captions as texts, counting them, and identities. */
#include "world.h"

#include <stdlib.h>

static choose_text of(const char *text) {
    return (choose_text){text, strlen(text)};
}

static void test_lengths(void **state) {
    (void)state;
    const choose_text trimmed = choose_trim(" \t a b\n", 7);
    assert_int_equal(trimmed.size, 3);
    assert_memory_equal(trimmed.data, "a b", 3);
    assert_int_equal(choose_trim(" \n", 2).size, 0);
    assert_int_equal(choose_characters(of("h\xc3\xa9!")), 3);
    assert_int_equal(choose_characters(of("a\xff\xfe")), 3);
    assert_int_equal(choose_words(of("  two  words ")), 2);
    assert_int_equal(choose_words(of("")), 0);
}

static void assert_folds(const char *text, const char *expected) {
    limn_buffer out = {0};
    assert_int_equal(choose_fold(of(text), &out, NULL), 0);
    assert_string_equal(out.data, expected);
    limn_buffer_free(&out);
}

static void test_folding(void **state) {
    (void)state;
    assert_folds("Caf\xc3\xa9 AU-lait!", " cafe au lait ");
    assert_folds("Stra\xc3\x9f"
                 "e \xef\xbc\xa1",
                 " strasse a ");
    assert_folds("\xd0\x99od", " \xd0\xb8od "); /* the short i's mark goes too */
    assert_folds("bad \xff\xc3\xa9 bytes", " bad \xc3\xa9 bytes ");
    assert_folds("...", " ");
}

static int join_word(void *context, const char *word, size_t size, limn_error *error) {
    return limn_buffer_append(context, word, size, error) || limn_buffer_append(context, "|", 1, error);
}

static void test_words(void **state) {
    (void)state;
    limn_buffer out = {0};
    char longer[1001];
    assert_int_equal(choose_each_word(of("The \xc3\x84pfel, 3x\xff"
                                         "end"),
                                      join_word, &out, NULL),
                     0);
    assert_string_equal(out.data, "the|\xc3\xa4pfel|3x|end|");
    out.size = 0;
    memset(longer, 'x', 1000);
    assert_int_equal(choose_each_word((choose_text){longer, 1000}, join_word, &out, NULL), 0);
    assert_true(out.size > 200 && out.size < 300); /* cut, and no more */
    limn_buffer_free(&out);
}

static void test_scripts(void **state) {
    (void)state;
    assert_true(choose_script_share(of("caf\xc3\xa9 12!"), "latin") == 1);
    assert_true(choose_script_share(of("ab\xd0\xb6\xd0\xb7"), "cyrillic") == 0.5);
    assert_true(choose_script_share(of("\xe7\x8c\xab\xe3\x81\xae"), "han") == 0.5);
    assert_true(choose_script_share(of("123"), "latin") == 0);
    assert_true(choose_script_share(of("abc"), "klingon") == -1);
}

static void assert_host(const char *url, const char *expected) {
    choose_text host;
    assert_true(choose_host(url, &host));
    assert_int_equal(host.size, strlen(expected));
    assert_memory_equal(host.data, expected, host.size);
}

static void test_hosts(void **state) {
    (void)state;
    choose_text host;
    assert_host("http://a.example/b@c?d", "a.example");
    assert_host("https://u:p@b.example:8080", "b.example");
    assert_host("http://[::1]:80/x", "[::1]");
    assert_false(choose_host("a.example/b", &host));
    assert_false(choose_host("http:///x", &host));
}

static bool has_blocked(const choose_blocklist *list, const char *caption) {
    limn_buffer scratch = {0};
    const int found = choose_blocklist_find(list, of(caption), &scratch, NULL);
    limn_buffer_free(&scratch);
    assert_true(found >= 0);
    return found == 1;
}

static void test_blocklist(void **state) {
    (void)state;
    limn_error error = {0};
    write_text(choose_folder, "blocked.txt", "# remark\nCaf\xc3\xa9\n\n  red   BARN \n!!\n");
    choose_blocklist *list = choose_blocklist_load(in(choose_folder, "blocked.txt"), &error);
    assert_non_null(list);
    assert_true(has_blocked(list, "a CAFE, closed"));
    assert_true(has_blocked(list, "the red-barn"));
    assert_false(has_blocked(list, "cafes and a barn, red"));
    assert_false(has_blocked(list, "remark"));
    assert_false(has_blocked(list, ""));
    choose_blocklist_free(list);
    write_text(choose_folder, "none.txt", "# remark\n");
    assert_null(choose_blocklist_load(in(choose_folder, "none.txt"), &error));
    assert_non_null(strstr(error.message, "no words"));
    assert_null(choose_blocklist_load(in(choose_folder, "absent.txt"), &error));
}

static void test_counter(void **state) {
    (void)state;
    choose_counter *counter = choose_counter_create(10, NULL), *other = choose_counter_create(10, NULL);
    assert_int_equal(choose_counter_add(other, "b", 1, 2, NULL), 0);
    assert_int_equal(choose_counter_add(other, "a\xff", 2, 2, NULL), 0);
    assert_int_equal(choose_counter_add(counter, "b", 1, 5, NULL), 0);
    assert_int_equal(choose_counter_merge(counter, other, NULL), 0);
    json_t *all = choose_counter_json(counter, 1, NULL), *top = json_object_get(all, "top");
    assert_int_equal(number_of(all, "total"), 9);
    assert_int_equal(number_of(all, "different"), 2);
    assert_true(json_is_true(json_object_get(all, "exact")));
    assert_int_equal(json_array_size(top), 1);
    assert_int_equal(number_of(json_array_get(top, 0), "count"), 7);
    json_decref(all);
    all = choose_counter_json(counter, 5, NULL);
    assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(all, "top"), 1), "text")), "a?");
    json_decref(all);
    choose_counter_free(counter);
    choose_counter_free(other);
}

/* Frequent ones among many rare ones keep their counts but for "low_by". */
static void test_counter_prunes(void **state) {
    (void)state;
    choose_counter *counter = choose_counter_create(100, NULL);
    for (size_t i = 0; i < 20000; i++) {
        char rare[32];
        snprintf(rare, sizeof rare, "rare %zu", i);
        assert_int_equal(choose_counter_add(counter, rare, strlen(rare), 1, NULL), 0);
        if (i % 4 == 0) assert_int_equal(choose_counter_add(counter, "often", 5, 1, NULL), 0);
    }
    json_t *all = choose_counter_json(counter, 3, NULL), *first = json_array_get(json_object_get(all, "top"), 0);
    assert_true(json_is_false(json_object_get(all, "exact")));
    assert_true(number_of(all, "different") <= 200);
    assert_int_equal(number_of(all, "total"), 25000);
    assert_string_equal(json_string_value(json_object_get(first, "text")), "often");
    assert_true(number_of(first, "count") <= 5000 && number_of(first, "count") >= 5000 - number_of(all, "low_by"));
    json_decref(all);
    choose_counter_free(counter);
}

static void test_equal_values(void **state) {
    (void)state;
    enum { N = 5000 };
    static uint64_t values[N];
    uint64_t surplus, most;
    for (size_t i = 0; i < N; i++) values[i] = (i % 1000) * 0x0123456789abcdefu; /* each five times */
    choose_count_equal(values, N, &surplus, &most);
    assert_int_equal(surplus, 4000);
    assert_int_equal(most, 5);
    for (size_t i = 1; i < N; i++) assert_true(values[i - 1] <= values[i]);
    choose_count_equal(values, 0, &surplus, &most);
    assert_int_equal(surplus + most, 0);
}

static void test_seen(void **state) {
    (void)state;
    choose_seen *seen = choose_seen_create(0, NULL);
    for (uint64_t i = 0; i < 200000; i++) assert_int_equal(choose_seen_add(seen, i * 3, NULL), 0); /* grows; 0 too */
    for (uint64_t i = 0; i < 200000; i += 997) assert_int_equal(choose_seen_add(seen, i * 3, NULL), 1);
    assert_int_equal(choose_seen_add(seen, 1, NULL), 0);
    choose_seen_free(seen);
}

/* Against all pairs: with random bits flipped wherever, exactly those within the distance are found. */
static void test_near(void **state) {
    (void)state;
    for (size_t distance = 1; distance <= HASH_DISTANCE_MAX; distance++) {
        enum { N = 600 };
        uint64_t kept[N];
        size_t count = 0;
        choose_seen *seen = choose_seen_create(distance, NULL);
        assert_non_null(seen);
        for (uint64_t i = 0; i < N; i++) {
            uint64_t value = (uint64_t)limn_random_u32(1, 1, i % 60) << 32 | limn_random_u32(1, 2, i % 60);
            for (uint64_t f = 0; f < i % 10; f++) value ^= (uint64_t)1 << limn_random_below(1, i, f, 64);
            int expected = 0;
            for (size_t k = 0; k < count; k++) expected |= (size_t)__builtin_popcountll(kept[k] ^ value) <= distance;
            assert_int_equal(choose_seen_add(seen, value, NULL), expected);
            if (!expected) kept[count++] = value;
        }
        assert_true(count > 60 && count < N);
        choose_seen_free(seen);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_folding),        cmocka_unit_test(test_words),
        cmocka_unit_test(test_scripts), cmocka_unit_test(test_hosts),          cmocka_unit_test(test_blocklist),
        cmocka_unit_test(test_counter), cmocka_unit_test(test_counter_prunes), cmocka_unit_test(test_equal_values),
        cmocka_unit_test(test_seen),    cmocka_unit_test(test_near),
    };
    return cmocka_run_group_tests(tests, choose_set_up, choose_tear_down);
}
