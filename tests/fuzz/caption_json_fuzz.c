/* JSON lines: what is taken for an object, and its texts, beside Jansson. */
#include "tests/fuzz/fuzz.h"

#include "download/download.h"

#include <stdlib.h>
#include <string.h>

/* Gives the list its columns whatever follows. */
static const char first_line[] = "{\"url\":\"http://h/0\",\"caption\":\"\"}\n";

static const char *const seeds[] = {
    "{\"url\":\"http:\\/\\/h\\/1\",\"caption\":\"a\\u00e9\\ud83d\\ude00\\\"\\\\\\b\\f\\n\\r\\t\",\"n\":[1,{\"a\":-0.5e+3}, "
    "true]}\r\n"
    "{ \"caption\" : null , \"url\":\"caf\xC3\xA9://\" }\n\n{}\n[1]\n",
    "{\"url\":\"a://b\",\"c\":[[],{},\"\\ud800\",\"]\"],\"d\":false,\"e\":1E9,\"f\":0,\"caption\":7}\n{\"url\":\"a://b\"",
};

static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= sizeof seeds / sizeof *seeds) return false;
    return limn_buffer_append(out, seeds[index], strlen(seeds[index]), NULL) == 0;
}

static bool same_text(const json_t *object, const char *key, text_span text, bool trimmed) {
    const json_t *value = json_object_get(object, key);
    const char *string = json_string_value(value);
    if (!string) return !value || json_is_null(value) ? text.size == 0 : json_is_number(value);
    if (trimmed) return memmem(string, json_string_length(value), text.data, text.size) != NULL;
    return text.size == json_string_length(value) && !memcmp(string, text.data, text.size);
}

/* What is wrong with how a line was read. */
static const char *compare(const char *line, size_t size, const caption_row *row) {
    json_error_t trouble;
    const char *const problem = row->problem ? row->problem : "";
    /* Limits of ours, and names given twice, say nothing about the rest of the line. */
    if (strstr(problem, "more than") || strstr(problem, "twice") || strstr(problem, "longer") || strstr(problem, "NUL"))
        return NULL;
    json_t *value = json_loadb(line, size, JSON_ALLOW_NUL, &trouble);
    const char *complaint = NULL;
    if (!value) {
        const bool of_jansson =
            json_error_code(&trouble) == json_error_numeric_overflow || json_error_code(&trouble) == json_error_stack_overflow;
        if (!of_jansson && !strstr(problem, "JSON") && !strstr(problem, "UTF-8") && !strstr(problem, "half"))
            complaint = "takes for an object what Jansson does not";
    } else if (!json_is_object(value)) {
        if (!strstr(problem, "JSON")) complaint = "takes for an object what is another value";
    } else if (strstr(problem, "JSON") || strstr(problem, "UTF-8") || strstr(problem, "half")) {
        complaint = "refuses an object that Jansson takes";
    } else if (!row->problem) {
        if (!same_text(value, "url", row->url, true) || !same_text(value, "caption", row->caption, false))
            complaint = "has other texts than Jansson";
        if (row->extra_count > json_object_size(value)) complaint = "has more columns than there are names";
    }
    json_decref(value);
    return complaint;
}

static const char *target(const char *data, size_t size) {
    static const caption_list_options options = {.format = "jsonl"};
    limn_error error = {0};
    limn_buffer text = {0};
    caption_row row;
    const char *complaint = NULL;
    if (limn_buffer_append(&text, first_line, sizeof first_line - 1, NULL) || limn_buffer_append(&text, data, size, NULL))
        abort();
    caption_list *list = caption_list_open_memory("input", text.data, text.size, &options, &error);
    if (!list || caption_list_next(list, &row, &error) != 1 || row.problem) complaint = "the first line is not read";
    const char *line = text.data;
    size_t number = 1;
    while (!complaint && caption_list_next(list, &row, &error) == 1) {
        for (; number < row.line; number++) line = memchr(line, '\n', text.size) + 1;
        const char *end = memchr(line, '\n', (size_t)(text.data + text.size - line));
        complaint = compare(line, (size_t)((end ? end : text.data + text.size) - line), &row);
    }
    caption_list_close(list);
    limn_buffer_free(&text);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
