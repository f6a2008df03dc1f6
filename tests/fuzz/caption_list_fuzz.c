/* Caption lists: the same bytes read in every form, and passed over. */
#include "tests/fuzz/fuzz.h"

#include "download/download.h"

#include <string.h>

static const char *const seeds[] = {
    "caption\turl\nA frog.\thttp://h/1.jpg\n\"caf\xC3\xA9\"\thttps://h/2.jpg\n\n",
    "url,caption,width\r\nhttp://h/1.jpg,\"a \"\"big\"\"\r\ncat\",640\r\nhttp://h/2.jpg,b,\r\n",
    "a cat\thttp://h/1\na dog\tftp://h/2\nno address\t\nthree\tcolumns\there\n",
    "{\"url\":\"http://h/1\",\"caption\":\"a "
    "\\u00e9\\ud83d\\ude00\",\"n\":[1,{\"a\":-0.5e+3}]}\r\n{\"title\":null,\"url\":\"http://h/2\"}\n",
    "http://h/1,a\nhttps://h/2\n\nno\n",
    "\xEF\xBB\xBFid,image,title,title\n1,file:///x/y.png,\"open\n2,http://h/3,\"\"\n",
};

static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= sizeof seeds / sizeof *seeds) return false;
    return limn_buffer_append(out, seeds[index], strlen(seeds[index]), NULL) == 0;
}

static bool good_text(text_span span) {
    return limn_utf8_valid(span.data, span.size) && (span.size == 0 || !memchr(span.data, 0, span.size));
}

static const char *pass_over(const char *data, size_t size, const caption_list_options *options, uint64_t rows) {
    limn_error error = {0};
    uint64_t skipped;
    caption_list *list = caption_list_open_memory("input", data, size, options, &error);
    if (!list) return "opens the first time only";
    const int status = caption_list_skip(list, rows + 1, &skipped, &error);
    caption_list_close(list);
    return status || skipped != rows ? "passes over another number of rows than there are" : NULL;
}

static const char *read_all(const char *data, size_t size, const caption_list_options *options) {
    limn_error error = {0};
    caption_row row;
    uint64_t number = 0;
    size_t line = 0;
    int got;
    caption_list *list = caption_list_open_memory("input", data, size, options, &error);
    if (!list) return fuzz_check_error(&error);
    const char *complaint = NULL;
    while (!complaint && (got = caption_list_next(list, &row, &error)) != 0) {
        if (got < 0)
            complaint = "bytes in memory cannot be read";
        else if (row.number != number++ || row.line <= line)
            complaint = "rows or lines are out of order";
        else if (row.problem)
            complaint = row.url.size || row.caption.size ? "a bad row has texts" : NULL;
        else if (!row.url.size || !good_text(row.url) || !good_text(row.caption))
            complaint = "a good row has bad texts";
        for (size_t i = 0; !complaint && !row.problem && i < row.extra_count; i++)
            if (!good_text(row.extra_values[i]) || !row.extra_names[i]) complaint = "a good row has a bad column";
        line = row.line;
    }
    caption_list_close(list);
    return complaint ? complaint : pass_over(data, size, options, number);
}

static const char *target(const char *data, size_t size) {
    static const caption_list_options ways[] = {{.format = "tsv"},
                                                {.format = "csv"},
                                                {.format = "txt"},
                                                {.format = "jsonl"},
                                                {.columns = "url,caption"},
                                                {.url_column = "image", .header = "yes", .caption_column = ""},
                                                {.hash_column = "id", .boxes_column = "n"}};
    const char *complaint = NULL;
    for (size_t i = 0; i < sizeof ways / sizeof *ways && !complaint; i++) complaint = read_all(data, size, &ways[i]);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
