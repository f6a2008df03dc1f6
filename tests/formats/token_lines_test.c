/* Pairs as JSON lines: what is taken, and that whatever is wrong is said with its line. */
#include "formats/formats.h"
#include "tests/scratch.h"

#include <math.h>

enum { LENGTH = 3, CODES = 100 };
static const token_lines_part ALL = {0, 1, SIZE_MAX};
static const char *const COLUMNS[] = {"score"};

static int read_text(const char *text, size_t columns, token_shard *shard, limn_error *error) {
    *error = (limn_error){0};
    return token_lines_read(scratch_write("a.jsonl", text, strlen(text)), &ALL, LENGTH, CODES, COLUMNS, columns, shard, error);
}

static token_shard must_read(const char *text, size_t columns) {
    token_shard shard;
    limn_error error;
    if (read_text(text, columns, &shard, &error)) fail_msg("%s", error.message);
    return shard;
}

static void refuse(const char *text, size_t columns, const char *words) {
    token_shard shard;
    limn_error error;
    assert_int_equal(read_text(text, columns, &shard, &error), -1);
    assert_contains(error.message, words);
    assert_contains(error.message, "a.jsonl: line ");
    assert_null(shard.tokens);
}

static void assert_caption(const token_shard *shard, size_t m, size_t row, const char *text) {
    size_t size = shard->caption_offsets[m + 1] - shard->caption_offsets[m];
    assert_int_equal(shard->caption_row[m], row);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(shard->caption_bytes + shard->caption_offsets[m], text, size);
}

static void both_names_of_each_column(void **state) {
    (void)state;
    token_shard shard = must_read("{\"caption\": \"a cat\", \"encoding\": [0, 1, 99], \"score\": 0.5, \"url\": \"x\"}\n"
                                  "\n  \t\r\n"
                                  "{\"tokens\": [3, 4, 5], \"captions\": [\"a dog\", \"\", \"\\u00e9\"], \"score\": null}\r\n"
                                  "{\"captions\": \"one\", \"encoding\": [7, 8, 9], \"score\": 3}",
                                  1);
    static const uint16_t tokens[] = {0, 1, 99, 3, 4, 5, 7, 8, 9};
    assert_int_equal(shard.count, 3);
    assert_int_equal(shard.length, LENGTH);
    assert_int_equal(shard.codebook_size, CODES);
    assert_memory_equal(shard.tokens, tokens, sizeof tokens);
    assert_int_equal(shard.captions, 5);
    assert_caption(&shard, 0, 0, "a cat");
    assert_caption(&shard, 1, 1, "a dog");
    assert_caption(&shard, 2, 1, "");
    assert_caption(&shard, 3, 1, "\xc3\xa9");
    assert_caption(&shard, 4, 2, "one");
    assert_int_equal(shard.columns, 1);
    assert_string_equal(shard.column_names[0], "score");
    assert_true(shard.column_values[0][0] == 0.5f && isnan(shard.column_values[0][1]) && shard.column_values[0][2] == 3);
    token_shard_free(&shard);
    shard = must_read("", 1);
    assert_int_equal(shard.count, 0);
    token_shard_free(&shard);
}

static void wrong_lines_are_named(void **state) {
    (void)state;
#define GOOD "{\"caption\": \"a\", \"encoding\": [1, 2, 3], \"score\": 1}\n"
    refuse(GOOD "{\"caption\": \"a\", \"encoding\": [1, 2, 3]", 0, "line 2: is not JSON");
    refuse(GOOD "\n" GOOD "a cat\t1 2 3\n", 0, "line 4: is not JSON");
    refuse(GOOD "{\"caption\": \"\xff\", \"encoding\": [1, 2, 3]}\n", 0, "line 2: is not JSON: unable to decode byte 0xff");
    refuse("[1, 2, 3]\n", 0, "line 1: is not a JSON object");
    refuse("{\"caption\": \"a\", \"caption\": \"b\", \"encoding\": [1, 2, 3]}\n", 0, "duplicate");
    refuse(GOOD "{\"encoding\": [1, 2, 3]}\n", 0, "line 2: has no \"caption\"");
    refuse("{\"caption\": 7, \"encoding\": [1, 2, 3]}\n", 0, "its caption is not a text");
    refuse("{\"captions\": [], \"encoding\": [1, 2, 3]}\n", 0, "an empty list of captions");
    refuse("{\"captions\": [\"a\", null], \"encoding\": [1, 2, 3]}\n", 0, "its caption is not a text");
    refuse(GOOD "{\"caption\": \"a\"}\n", 0, "line 2: has no list of numbers");
    refuse("{\"caption\": \"a\", \"encoding\": \"1 2 3\"}\n", 0, "has no list of numbers");
    refuse(GOOD "{\"caption\": \"a\", \"encoding\": [1, 2]}\n", 0, "line 2: has 2 tokens instead of 3");
    refuse("{\"caption\": \"a\", \"encoding\": [[1, 2, 3]]}\n", 0, "has 1 tokens instead of 3");
    refuse("{\"caption\": \"a\", \"encoding\": [1, 2, 3.5]}\n", 0, "token 2 is not a whole number");
    refuse("{\"caption\": \"a\", \"encoding\": [1, 2, 100]}\n", 0, "has token 100, but the codebook has 100");
    refuse("{\"caption\": \"a\", \"encoding\": [1, 2, -1]}\n", 0, "has token -1");
    refuse("{\"caption\": \"a\", \"encoding\": [1, 2, 65537]}\n", 0, "has token 65537");
    refuse(GOOD "{\"caption\": \"a\", \"encoding\": [1, 2, 3], \"width\": 3, \"height\": 4.5, \"url\": \"x\"}\n", 1,
           "line 2: has no number 'score'; its numbers are: width, height");
    refuse("{\"caption\": \"a\", \"encoding\": [1, 2, 3], \"score\": \"1\"}\n", 1, "its numbers are: none");
#undef GOOD
}

static void endless_lines_are_refused(void **state) {
    (void)state;
    size_t size = (size_t)5 << 20;
    char *text = malloc(size + 1);
    memset(text, ' ', size);
    text[size] = '\0';
    refuse(text, 0, "line 1: longer than");
    free(text);
}

/* The files of each part, read alone, are the whole. */
static void parts_join(void **state) {
    (void)state;
    enum { COUNT = 30000 }; /* several of the reader's blocks */
    limn_buffer text = {0};
    limn_error error = {0};
    for (size_t i = 0; i < COUNT; i++) {
        if (i % 7 == 0) limn_buffer_printf(&text, NULL, "\n");
        limn_buffer_printf(&text, NULL, "{\"caption\": \"%zu\", \"encoding\": [1, 2, %zu]}%s", i, i % CODES,
                           i + 1 < COUNT ? "\n" : "");
    }
    const char *path = scratch_write("parts.jsonl", text.data, text.size);
    static const size_t sizes[] = {1, 999, 10000, 1000000};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        token_lines_part *parts;
        size_t count, seen = 0;
        assert_int_equal(token_lines_cut(path, sizes[s], &parts, &count, &error), 0);
        size_t lines = COUNT + (COUNT + 6) / 7;
        assert_int_equal(count, (lines + sizes[s] - 1) / sizes[s]);
        for (size_t i = 0; i < count; i += sizes[s] == 1 ? 1000 : 1) {
            token_shard shard;
            if (token_lines_read(path, &parts[i], LENGTH, CODES, NULL, 0, &shard, &error)) fail_msg("%s", error.message);
            assert_int_equal(parts[i].line, i * sizes[s] + 1);
            for (size_t n = 0; sizes[s] > 1 && n < shard.count; n++, seen++) {
                char number[16];
                snprintf(number, sizeof number, "%zu", seen);
                assert_caption(&shard, n, n, number);
                assert_int_equal(shard.tokens[n * LENGTH + 2], seen % CODES);
            }
            token_shard_free(&shard);
        }
        if (sizes[s] > 1) assert_int_equal(seen, COUNT);
        free(parts);
    }
    limn_buffer_free(&text);
}

/* Bytes that this process has read so far; 0 where the system does not say. */
static unsigned long long bytes_read(void) {
    unsigned long long bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    if (!file) return 0;
    if (fscanf(file, "rchar: %llu", &bytes) != 1) bytes = 0;
    fclose(file);
    return bytes;
}

/* What lies before a part is not read. */
static void parts_are_sought(void **state) {
    (void)state;
    enum { LINES = 200000 };
    static const char line[] = "{\"caption\": \"a\", \"encoding\": [1, 2, 3]}\n";
    limn_buffer text = {0};
    limn_error error = {0};
    token_lines_part *parts;
    size_t count;
    for (size_t i = 0; i < LINES; i++) assert_int_equal(limn_buffer_append(&text, line, sizeof line - 1, NULL), 0);
    const char *path = scratch_write("long.jsonl", text.data, text.size);
    assert_int_equal(token_lines_cut(path, LINES - 1, &parts, &count, &error), 0);
    assert_int_equal(count, 2);
    token_shard shard;
    unsigned long long before = bytes_read();
    assert_int_equal(token_lines_read(path, &parts[1], LENGTH, CODES, NULL, 0, &shard, &error), 0);
    assert_int_equal(shard.count, 1);
    assert_true(bytes_read() - before < text.size / 4);
    token_shard_free(&shard);
    free(parts);
    limn_buffer_free(&text);
}

static void no_file_no_parts(void **state) {
    (void)state;
    token_lines_part *parts;
    size_t count;
    limn_error error = {0};
    assert_int_equal(token_lines_cut(scratch_path("not there"), 10, &parts, &count, &error), -1);
    assert_contains(error.message, "no such file");
    assert_int_equal(token_lines_cut(scratch_folder, 10, &parts, &count, &error), -1);
    assert_int_equal(token_lines_cut(scratch_write("none", "", 0), 10, &parts, &count, &error), 0);
    assert_int_equal(count, 0);
    free(parts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_names_of_each_column), cmocka_unit_test(wrong_lines_are_named),
        cmocka_unit_test(endless_lines_are_refused), cmocka_unit_test(parts_join),
        cmocka_unit_test(parts_are_sought),          cmocka_unit_test(no_file_no_parts),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
