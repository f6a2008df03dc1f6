/* Caption lists: TSV, CSV, header lines, and every kind of bad row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/rows.h"

#include <stdlib.h>
#include <string.h>

static const caption_list_options BY_ITSELF;

static void check_options(const char *text, const char *name, const caption_list_options *options, const char *expected) {
    char *rows = list_rows(text, strlen(text), name, options);
    assert_string_equal(rows, expected);
    free(rows);
}

static void check(const char *text, const char *name, const char *expected) {
    check_options(text, name, &BY_ITSELF, expected);
}

static void without_header(void **state) {
    (void)state;
    check("a cat\thttp://h/1\na dog\thttps://h/2\n", "l.tsv", "1:a cat|http://h/1\n2:a dog|https://h/2\n");
    check("a cat\thttp://h/1\r\na dog\t http://h/2 ", "l.tsv", "1:a cat|http://h/1\n2:a dog|http://h/2\n");
    check("a cat,http://h/1\n", "l.csv", "1:a cat|http://h/1\n");
    check("\n\na cat\thttp://h/1\n\n\nb\thttp://h/2\n\n", "l.tsv", "3:a cat|http://h/1\n6:b|http://h/2\n");
    check("", "l.tsv", "");
    const caption_list_options other = {.columns = "url, caption ,score"};
    check_options("http://h/1\ta\t0.5\n", "l.tsv", &other, "1:a|http://h/1|score=0.5\n");
    const caption_list_options addresses = {.columns = "url"};
    check_options("http://h/1\nhttp://h/2\n", "l.txt", &addresses, "1:|http://h/1\n2:|http://h/2\n");
}

static void with_header(void **state) {
    (void)state;
    check("url\tcaption\nhttp://h/1\ta\n", "l.tsv", "2:a|http://h/1\n");
    check("\xEF\xBB\xBFURL,TEXT,WIDTH\nhttp://h/1,a,5\n", "l.csv", "2:a|http://h/1|WIDTH=5\n");
    check("id,image,title\n7,http://h/1,a\n", "l.csv", "2:a|http://h/1|id=7\n");
    check("text,caption,url\nx,a,http://h/1\n", "l.csv", "2:a|http://h/1|text=x\n");
    check(",url,caption,caption\n0,http://h/1,a,b\n", "l.csv", "2:a|http://h/1|column_1=0|caption_column_4=b\n");
    check("url\nhttp://h/1\n", "l.txt", "2:|http://h/1\n");
    check("url\tcaption\n", "l.tsv", "");
    check("url,caption\nhttp://h/1,a\n", "no-ending", "2:a|http://h/1\n");
    check("url\tcaption\nhttp://h/1\ta\n", "no-ending", "2:a|http://h/1\n");
    /* A header's word in a first row of data does not make it a header. */
    check("caption\thttp://h/1\n", "l.tsv", "1:caption|http://h/1\n");
    const caption_list_options named = {.url_column = "foto", .caption_column = "legende"};
    check_options("legende\tfoto\turl\na\thttp://h/1\thttp://h/2\n", "l.tsv", &named, "2:a|http://h/1|url=http://h/2\n");
}

static void quotes(void **state) {
    (void)state;
    check("\"a \"\"big\"\" cat, red\",\"http://h/1\"\nb,http://h/2\n", "l.csv",
          "1:a \"big\" cat, red|http://h/1\n2:b|http://h/2\n");
    check("\"two\nlines\",http://h/1\r\n\"b\",http://h/2", "l.csv", "1:two\nlines|http://h/1\n3:b|http://h/2\n");
    check("a \"b\" c,http://h/1\n", "l.csv", "1:a \"b\" c|http://h/1\n");
    check("\"\",http://h/1\n", "l.csv", "1:|http://h/1\n");
    /* In TSV a quote is a character like any other. */
    check("\"a\" cat\thttp://h/1\n\"b\thttp://h/2\n", "l.tsv", "1:\"a\" cat|http://h/1\n2:\"b|http://h/2\n");
    /* A stray quote costs its line, not the rest of the list. */
    check("\"a,http://h/1\nb,http://h/2\nc,http://h/3\n", "l.csv",
          "1!has a quote that never closes\n2:b|http://h/2\n3:c|http://h/3\n");
    check("\"a\"x,http://h/1\nb,http://h/2\n", "l.csv", "1!has text after a closing quote\n2:b|http://h/2\n");
}

static void bad_rows(void **state) {
    (void)state;
    check("caption\turl\na\thttp://h/1\nonly\nb\thttp://h/2\tmore\nc\thttp://h/3\n", "l.tsv",
          "2:a|http://h/1\n3!has 1 column where 2 are expected\n4!has 3 columns where 2 are expected\n5:c|http://h/3\n");
    check("caption\turl\na\t\nb\tnonsense\nc\thttp://h/3\n", "l.tsv",
          "2!has no address\n3!has no address in its column of addresses (http://, https:// or file://)\n4:c|http://h/3\n");
    check("caption\turl\n\xFF\xFE\thttp://h/1\nb\thttp://h/2\n", "l.tsv", "2!is not valid UTF-8\n3:b|http://h/2\n");
    check("caption,url\n\"\xC3\",http://h/1\nb,http://h/2\n", "l.csv", "2!is not valid UTF-8\n3:b|http://h/2\n");
    static const char nul[] = "caption\turl\na\0b\thttp://h/1\nc\thttp://h/2\n";
    char *rows = list_rows(nul, sizeof nul - 1, "l.tsv", &BY_ITSELF);
    assert_string_equal(rows, "2!has a NUL byte\n3:c|http://h/2\n");
    free(rows);
}

/* 10 MB in a caption, in both forms, with and without quotes and line breaks; the rows around it are whole. */
static void long_rows(void **state) {
    (void)state;
    const size_t size = 10000000;
    for (int kind = 0; kind < 4; kind++) {
        limn_buffer text = {0};
        const bool csv = kind > 0, quoted = kind > 1;
        const char separator = csv ? ',' : '\t';
        char *caption = malloc(size);
        assert_non_null(caption);
        memset(caption, 'a', size);
        limn_buffer_printf(&text, NULL, "caption%curl\nx%chttp://h/1\n%s", separator, separator, quoted ? "\"" : "");
        limn_buffer_append(&text, caption, size, NULL);
        if (kind == 3) limn_buffer_printf(&text, NULL, "\n"); /* a row of its own, as it turns out */
        limn_buffer_printf(&text, NULL, "%s%chttp://h/2\ny%chttp://h/3\n", quoted ? "\"" : "", separator, separator);
        char *rows = list_rows(text.data, text.size, csv ? "l.csv" : "l.tsv", &BY_ITSELF);
        assert_string_equal(rows, kind < 3 ? "2:x|http://h/1\n3!is longer than 1 MiB, the most a row may have\n4:y|http://h/3\n"
                                           : "2:x|http://h/1\n3!is longer than 1 MiB, the most a row may have\n"
                                             "4!has a quote that never closes\n5:y|http://h/3\n");
        free(rows);
        free(caption);
        limn_buffer_free(&text);
    }
}

/* Rows across the reader's chunks come out as they went in. */
static void long_lists(void **state) {
    (void)state;
    limn_buffer text = {0}, expected = {0};
    for (int i = 0; i < 60000; i++) {
        const int width = (int)limn_random_below(1, 0, (uint64_t)i, 100);
        limn_buffer_printf(&text, NULL, "\"%0*d, \"\"%d\"\"\",http://h/%d\n", width, i, i, i);
        limn_buffer_printf(&expected, NULL, "%d:%0*d, \"%d\"|http://h/%d\n", i + 1, width, i, i, i);
    }
    assert_true(text.size > 2 * (size_t)CAPTION_ROW_MAX_BYTES);
    check(text.data, "l.csv", expected.data);
    limn_buffer_free(&text);
    limn_buffer_free(&expected);
}

static void wrong_columns(void **state) {
    (void)state;
    const caption_list_options url = {.url_column = "foto"}, caption = {.caption_column = "legende"},
                               columns = {.columns = "text,url,score"};
    const caption_list_options none = {.columns = "caption,score"}, empty = {.columns = "caption,,url"};
    check_options("url\tcaption\thash\nhttp://h/1\ta\t7\n", "l.tsv", &url,
                  "error: l.tsv: no column \"foto\" for --url-column; its header line has: url, caption, hash");
    check_options("url\tcaption\thash\nhttp://h/1\ta\t7\n", "l.tsv", &caption,
                  "error: l.tsv: no column \"legende\" for --caption-column; its header line has: url, caption, hash");
    check_options("url\tcaption\thash\nhttp://h/1\ta\t7\n", "l.tsv", &columns,
                  "error: l.tsv: no column \"score\" for --columns; its header line has: url, caption, hash");
    check_options("a\thttp://h/1\n", "l.tsv", &none,
                  "error: l.tsv: no column of addresses; --columns names: caption, score; say which with --url-column");
    check_options("a\thttp://h/1\n", "l.tsv", &empty,
                  "error: --columns: an empty name; give names separated by commas, such as caption,url");
    check("url\tlegende\nhttp://h/1\ta\n", "l.tsv",
          "error: l.tsv: no column of captions; its header line has: url, legende; say which with --caption-column (\"\" if "
          "there "
          "is none)");
    check("caption\tfoto\na\thttp://h/1\n", "l.tsv",
          "error: l.tsv: no column of addresses; its header line has: caption, foto; say which with --url-column");
    /* Not thousands of bad rows, but a wrong order or number of columns. */
    check("http://h/1\ta\nhttp://h/2\tb\n", "l.tsv",
          "error: l.tsv: the addresses are in column 1, but --columns (caption,url) has them in column 2 and no header line is "
          "known "
          "by its names; give --columns in the list's order");
    check(
        "7\ta\thttp://h/1\n", "l.tsv",
        "error: l.tsv: rows have 3 columns and no header line is known by its names, but --columns names 2 (caption,url); give "
        "--columns or --url-column and --caption-column");
}

/* Any bytes: no crash, numbers in order, and every line break is a row's end or inside quotes. */
static void noise(void **state) {
    (void)state;
    static const char letters[] = "a,\"\n\t\r:/h\xC3\xA9 url";
    char text[200];
    for (uint64_t round = 0; round < 5000; round++) {
        const size_t size = (size_t)limn_random_below(7, 1, round, sizeof text);
        for (size_t i = 0; i < size; i++)
            text[i] = letters[limn_random_below(7, 2, round * sizeof text + i, sizeof letters - 1)];
        free(list_rows(text, size, round % 2 ? "l.csv" : "l.tsv", &BY_ITSELF));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_header), cmocka_unit_test(with_header), cmocka_unit_test(quotes),
        cmocka_unit_test(bad_rows),       cmocka_unit_test(long_rows),   cmocka_unit_test(long_lists),
        cmocka_unit_test(wrong_columns),  cmocka_unit_test(noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
