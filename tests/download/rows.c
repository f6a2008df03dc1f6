#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/rows.h"

#include <string.h>

static void pass_over(const char *text, size_t size, const char *name, const caption_list_options *options, uint64_t rows,
                      const limn_error *expected) {
    limn_error error = {0};
    uint64_t all = 0, skipped = 3;
    int status = 0;
    caption_list *list = caption_list_open_memory(name, text, size, options, &error);
    while (list && !status && skipped == 3) {
        status = caption_list_skip(list, 3, &skipped, &error);
        all += skipped;
    }
    assert_int_equal(all, rows);
    assert_string_equal(error.message, expected->message);
    caption_list_close(list);
}

char *list_rows(const char *text, size_t size, const char *name, const caption_list_options *options) {
    limn_error error = {0};
    limn_buffer out = {0};
    caption_row row;
    uint64_t number = 0;
    int got = -1;
    limn_buffer_append(&out, "", 0, NULL);
    caption_list *list = caption_list_open_memory(name, text, size, options, &error);
    if (!list) assert_int_equal(error.exit_code, strstr(error.message, " data ") ? LIMN_EXIT_FAILED : LIMN_EXIT_USAGE);
    while (list && (got = caption_list_next(list, &row, &error)) == 1) {
        assert_int_equal(row.number, number++);
        assert_string_equal(row.file, name);
        if (row.problem) {
            limn_buffer_printf(&out, NULL, "%zu!%s\n", row.line, row.problem);
            continue;
        }
        limn_buffer_printf(&out, NULL, "%zu:%.*s|%.*s", row.line, (int)row.caption.size, row.caption.data, (int)row.url.size,
                           row.url.data);
        for (size_t i = 0; i < row.extra_count; i++)
            limn_buffer_printf(&out, NULL, "|%s=%.*s", row.extra_names[i], (int)row.extra_values[i].size,
                               row.extra_values[i].data);
        if (row.hash.size) limn_buffer_printf(&out, NULL, "|hash:%.*s", (int)row.hash.size, row.hash.data);
        if (row.boxes.size) limn_buffer_printf(&out, NULL, "|boxes:%.*s", (int)row.boxes.size, row.boxes.data);
        limn_buffer_printf(&out, NULL, "\n");
    }
    if (got < 0) limn_buffer_printf(&out, NULL, "error: %s", error.message);
    caption_list_close(list);
    pass_over(text, size, name, options, number, &error);
    return out.data;
}
