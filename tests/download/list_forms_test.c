/* Caption lists: JSON lines, plain text, what form a list is taken for, header and roles by option, settings of known lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/dataset/tools.h"
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

static void json_lines(void **state) {
    (void)state;
    check("{\"url\":\"http://h/1\",\"caption\":\"a cat\"}\n{ \"caption\" : \"b\" , \"url\" : \"http://h/2\" }\r\n", "l.jsonl",
          "1:a cat|http://h/1\n2:b|http://h/2\n");
    check("\n{\"url\":\"http://h/1\",\"caption\":\"a\"}\n\n\r\n{\"url\":\"http://h/2\",\"caption\":\"b\"}", "l.ndjson",
          "2:a|http://h/1\n5:b|http://h/2\n");
    /* Escapes, a pair of surrogates, letters as they are. */
    check("{\"url\":\"http:\\/\\/h\\/1\",\"caption\":\"\\\"\\u00e9\\uD83D\\uDE00\xC3\xA9\\\\\\b\\f\\n\\r\\t\"}\n", "l.jsonl",
          "1:\"\xC3\xA9\xF0\x9F\x98\x80\xC3\xA9\\\b\f\n\r\t|http://h/1\n");
    /* Values that are no strings stay as they are: numbers of any size and precision, objects. */
    check("{\"URL\":\"http://h/1\",\"TEXT\":\"a\",\"n\":0.1000,\"big\":123456789012345678901,\"t\":true,\"no\":null,"
          "\"o\":{\"a\": [1, \"\\u0041]}\"]},\"e\":\"\",\"\\u006b\":\"\\u0041\"}\n",
          "l.jsonl", "1:a|http://h/1|n=0.1000|big=123456789012345678901|t=true|no=null|o={\"a\": [1, \"\\u0041]}\"]}|e=|k=A\n");
    /* Not every object has all; columns are found in the first ones taken together. */
    check("{\"url\":\"http://h/1\",\"title\":\"t\"}\n{\"caption\":\"a\",\"title\":\"t\",\"url\":\"http://h/2\"}\n"
          "{\"url\":\"http://h/3\",\"caption\":null}\n{\"caption\":5,\"url\":\"http://h/4\"}\n",
          "l.jsonl", "1:|http://h/1|title=t\n2:a|http://h/2|title=t\n3:|http://h/3\n4:5|http://h/4\n");
    const caption_list_options named = {
        .url_column = "Foto", .caption_column = "", .hash_column = "md5", .boxes_column = "faces"};
    check_options("{\"foto\":\"http://h/1\",\"md5\":\"00ff\",\"faces\":[[1,2,3,4]],\"text\":\"a\"}\n{\"foto\":\"http://h/2\","
                  "\"md5\":null}\n",
                  "l.jsonl", &named,
                  "1:|http://h/1|md5=00ff|faces=[[1,2,3,4]]|text=a|hash:00ff|boxes:[[1,2,3,4]]\n2:|http://h/2|md5=null\n");
}

static void json_lines_bad(void **state) {
    (void)state;
    static const struct {
        const char *line, *problem;
    } bad[] = {
        {"[1]", "is not a JSON object"},
        {"\"url\"", "is not a JSON object"},
        {"{\"url\":\"http://h/1\"", "is not a JSON object"},
        {"{\"url\":\"http://h/1\"}}", "is not a JSON object"},
        {"{\"url\":\"http://h/1\",}", "is not a JSON object"},
        {"{\"url\" \"http://h/1\"}", "is not a JSON object"},
        {"{url:\"http://h/1\"}", "is not a JSON object"},
        {"{\"url\":\"http://h/1", "is not a JSON object"},
        {"{\"url\":\"a\tb\"}", "is not a JSON object"},
        {"{\"url\":\"\\x\"}", "is not a JSON object"},
        {"{\"url\":\"\\u12g4\"}", "is not a JSON object"},
        {"{\"n\":01}", "is not a JSON object"},
        {"{\"n\":-}", "is not a JSON object"},
        {"{\"n\":1.}", "is not a JSON object"},
        {"{\"n\":1e}", "is not a JSON object"},
        {"{\"n\":nul}", "is not a JSON object"},
        {"{\"n\":[1,]}", "is not a JSON object"},
        {"{\"n\":[1}}", "is not a JSON object"},
        {"{\"n\":{\"a\"}}", "is not a JSON object"},
        {"{\"url\":\"\\uD800\"}", "has half a character (\\u of a lone surrogate)"},
        {"{\"url\":\"\\uD800\\u0041\"}", "has half a character (\\u of a lone surrogate)"},
        {"{\"url\":\"\\uDC00\"}", "has half a character (\\u of a lone surrogate)"},
        {"{\"url\":\"\\u0000\"}", "has a NUL byte"},
        {"{\"url\":\"\xFF\"}", "is not valid UTF-8"},
        {"{\"a\":1,\"a\":2}", "has a name twice"},
        {"{\"caption\":\"a\"}", "has no address"},
        {"{\"url\":null}", "has no address"},
        {"{\"url\":[\"http://h/1\"]}", "has no address in its column of addresses (http://, https:// or file://)"},
        {"{\"url\":\"http://h/1\",\"caption\":[\"a\"]}", "has a caption that is no text"},
        {"{\"url\":\"http://h/1\",\"caption\":true}", "has a caption that is no text"},
        {"{}", "has no address"},
    };
    limn_buffer text = {0}, expected = {0};
    limn_buffer_printf(&text, NULL, "{\"url\":\"http://h/0\",\"caption\":\"x\"}\n");
    limn_buffer_printf(&expected, NULL, "1:x|http://h/0\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        limn_buffer_printf(&text, NULL, "%s\n", bad[i].line);
        limn_buffer_printf(&expected, NULL, "%zu!%s\n", i + 2, bad[i].problem);
    }
    check(text.data, "l.jsonl", expected.data);
    limn_buffer_free(&text);
    limn_buffer_free(&expected);

    /* 64 levels are well, 65 are not; 256 names are well, 257 are not. */
    for (int deep = 63; deep <= 64; deep++) {
        limn_buffer_printf(&text, NULL, "{\"url\":\"http://h/0\",\"caption\":\"\",\"o\":");
        for (int i = 0; i < deep; i++) limn_buffer_printf(&text, NULL, "[");
        for (int i = 0; i < deep; i++) limn_buffer_printf(&text, NULL, "]");
        limn_buffer_printf(&text, NULL, "}\n");
    }
    char *rows = list_rows(text.data, text.size, "l.jsonl", &BY_ITSELF);
    assert_memory_equal(rows, "1:|http://h/0|o=[[", 18);
    assert_non_null(strstr(rows, "\n2!is nested more than 64 levels deep\n"));
    free(rows);
    limn_buffer_free(&text);
    for (int names = 256; names <= 257; names++) {
        limn_buffer_printf(&text, NULL, "{\"url\":\"http://h/0\",\"caption\":\"\"");
        for (int i = 2; i < names; i++) limn_buffer_printf(&text, NULL, ",\"%d\":%d", i, i);
        limn_buffer_printf(&text, NULL, "}\n");
    }
    rows = list_rows(text.data, text.size, "l.jsonl", &BY_ITSELF);
    assert_non_null(strstr(rows, "|255=255\n2!has more than 256 columns\n"));
    free(rows);
    limn_buffer_free(&text);
}

/* A line longer than the first piece that is read, and one longer than a row may be. */
static void json_lines_long(void **state) {
    (void)state;
    for (size_t size = 200000; size <= 2000000; size *= 10) {
        limn_buffer text = {0};
        char *caption = malloc(size + 1);
        assert_non_null(caption);
        memset(caption, 'a', size);
        caption[size] = 0;
        limn_buffer_printf(&text, NULL, "{\"caption\":\"%s\",\"url\":\"http://h/1\"}\n", caption);
        limn_buffer_printf(&text, NULL, "{\"caption\":\"b\",\"url\":\"http://h/2\"}\n");
        char *rows = list_rows(text.data, text.size, "l.jsonl", &BY_ITSELF);
        if (size == 200000) {
            assert_int_equal(strcspn(rows, "|"), size + 2);
            assert_non_null(strstr(rows, "|http://h/1\n2:b|http://h/2\n"));
        } else { /* the first is where columns would be looked for; with a good one before it, it is a bad row */
            assert_non_null(strstr(rows, "is longer than 1 MiB"));
            assert_non_null(strstr(rows, "2!has no address"));
        }
        free(rows);
        free(caption);
        limn_buffer_free(&text);
    }
}

static void json_lines_wrong(void **state) {
    (void)state;
    check("[\n {\"url\":\"http://h/1\"}\n]\n", "l.jsonl", "1!is not a JSON object\n2:|http://h/1\n3!is not a JSON object\n");
    check("a\thttp://h/1\n", "l.jsonl",
          "error: l.jsonl: is not JSONL: its first line is not a JSON object; each line must be a JSON object (jq -c makes "
          "such)");
    check("{\"foto\":\"http://h/1\",\"n\":1}\n", "l.jsonl",
          "error: l.jsonl: no column of addresses; its objects have: foto, n; say which with --url-column");
    check("{\"url\":\"http://h/1\",\"n\":1}\n", "l.jsonl",
          "error: l.jsonl: no column of captions; its objects have: url, n; say which with --caption-column (\"\" if there is "
          "none)");
    const caption_list_options boxes = {.boxes_column = "faces"};
    check_options("{\"url\":\"http://h/1\"}\n", "l.jsonl", &boxes,
                  "error: l.jsonl: no column \"faces\" for --boxes-column; its objects have: url");
    check("", "l.jsonl", "");
}

static void plain_text(void **state) {
    (void)state;
    check("http://h/1,a\nhttp://h/2\n", "l.txt.gz", "1:|http://h/1,a\n2:|http://h/2\n");
    const caption_list_options text = {.format = "txt"};
    check_options("http://h/1,a?b=c d\nhttps://h/2\r\n\n file:///x \nno\n\xFF\n", "l", &text,
                  "1:|http://h/1,a?b=c d\n2:|https://h/2\n4:|file:///x\n"
                  "5!has no address in its column of addresses (http://, https:// or file://)\n6!is not valid UTF-8\n");
    check("http://h/1\nhttp://h/2,b\n", "l.txt", "1:|http://h/1\n2:|http://h/2,b\n");
    check("url\nhttp://h/1\n", "l", "2:|http://h/1\n");
    const caption_list_options other = {.columns = "url,caption"};
    check_options("http://h/1,a\n", "l.txt", &other, "1:a|http://h/1\n");
    const caption_list_options two = {.format = "txt", .columns = "caption,url"};
    check_options("http://h/1\n", "l", &two, "error: l: plain text has one column, --columns names 2 (caption,url)");
}

/* By name, also below .gz and .zst; else by the first line. */
static void forms(void **state) {
    (void)state;
    static const char tsv[] = "a, b\thttp://h/1\n", csv[] = "\"a\tb\",http://h/1\n",
                      jsonl[] = "{\"url\":\"http://h/1\",\"caption\":\"a\tb\"}\n";
    check(tsv, "l.TSV.gz", "1:a, b|http://h/1\n");
    check(tsv, "l.tab", "1:a, b|http://h/1\n");
    check(tsv, "l", "1:a, b|http://h/1\n");
    check(tsv, "l.txt", "1:a, b|http://h/1\n");
    check(csv, "l.csv.zst", "1:a\tb|http://h/1\n");
    check("a,http://h/1\n", "l", "1:a|http://h/1\n");
    check("{\"url\":\"http://h/1\",\"caption\":\"a\"}\n", "l", "1:a|http://h/1\n");
    check(jsonl, "l.jsonl.gz",
          "error: l.jsonl.gz: is not JSONL: its first line is not a JSON object; each line must be a JSON "
          "object (jq -c makes such)"); /* a tab inside a string is not JSON */
    const caption_list_options said = {.format = "csv"};
    check_options(csv, "l.tsv", &said, "1:a\tb|http://h/1\n");
    check("PAR1\x15\x04", "l.parquet",
          "error: l.parquet: is Parquet, which is not read; make it CSV first, with DuckDB: duckdb -c \"COPY (FROM "
          "'in.parquet') TO "
          "'out.csv' (HEADER)\"");
    check("BZh91AY", "l.tsv.bz2",
          "error: l.tsv.bz2: is packed with bzip2, which is not read; unpack it, or pack it with gzip or zstd");
}

static void header_by_option(void **state) {
    (void)state;
    const caption_list_options none = {.header = "no", .columns = "url,caption"};
    const caption_list_options some = {.header = "yes", .url_column = "foto", .caption_column = ""};
    check_options("url\tcaption\nhttp://h/1\ta\n", "l.tsv", &none,
                  "1!has no address in its column of addresses (http://, https:// or file://)\n2:a|http://h/1\n");
    check_options("\nsee http://h/\tfoto\nx\thttp://h/1\n", "l.tsv", &some, "3:|http://h/1|see http://h/=x\n");
    const caption_list_options bare = {.columns = "url,score", .caption_column = ""}; /* an empty field names no column */
    check_options("\t5\nhttp://h/1\t6\n", "l.tsv", &bare, "1!has no address\n2:|http://h/1|score=6\n");
    const caption_list_options asked = {.hash_column = "sha256", .boxes_column = "Faces"};
    check_options("url,caption,faces,sha256\nhttp://h/1,a,\"1,2,3,4\",00\nhttp://h/2,b,,\n", "l.csv", &asked,
                  "2:a|http://h/1|faces=1,2,3,4|sha256=00|hash:00|boxes:1,2,3,4\n3:b|http://h/2|faces=|sha256=\n");
    check_options("url,caption,faces\nhttp://h/1,a,\n", "l.csv", &asked,
                  "error: l.csv: no column \"sha256\" for --hash-column; its header line has: url, caption, faces");
    /* LAION's columns are known by their names; its hash is of other things than the picture and stays a further column. */
    check("URL\tTEXT\tWIDTH\tHEIGHT\tsimilarity\thash\tpunsafe\tpwatermark\nhttp://h/1\ta\t6\t5\t0.3\t-7\t0.1\t0.2\n", "l.tsv",
          "2:a|http://h/1|WIDTH=6|HEIGHT=5|similarity=0.3|hash=-7|punsafe=0.1|pwatermark=0.2\n");
}

static void settings(void **state) {
    (void)state;
    char folder[4096];
    limn_error error = {0};
    json_t *held;
    make_folder(folder);
    write_text(folder, "s.json",
               "{\"about\":\"x\",\"input_format\":\"tsv\",\"header\":\"no\",\"columns\":\"url,legende\","
               "\"caption_column\":\"legende\"}");
    caption_list_options options = {.columns = "legende,url"};
    assert_int_equal(caption_list_load_settings(in(folder, "s.json"), &options, &held, &error), 0);
    assert_string_equal(options.format, "tsv");
    assert_string_equal(options.header, "no");
    assert_string_equal(options.columns, "legende,url"); /* what was there wins */
    assert_string_equal(options.caption_column, "legende");
    assert_null(options.url_column);
    json_decref(held);
    static const char *const wrong[][2] = {{"{\"colums\":\"url\"}", "columns"},
                                           {"{\"header\":true}", "header"},
                                           {"{\"input_format\":\"xml\"}", "input_format"},
                                           {"[]", "object"},
                                           {"{", "line 1"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_text(folder, "w.json", "%s", wrong[i][0]);
        error = (limn_error){0};
        assert_int_equal(caption_list_load_settings(in(folder, "w.json"), &options, &held, &error), -1);
        assert_null(held);
        assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
        assert_non_null(strstr(error.message, "w.json"));
        if (!strstr(error.message, wrong[i][1])) print_error("%s\n", error.message);
        assert_non_null(strstr(error.message, wrong[i][1]));
    }
    assert_int_equal(limn_remove_tree(folder, NULL), 0);
}

/* configs/datasets on the beginnings of such lists. */
static void known_lists(void **state) {
    (void)state;
    static const struct {
        const char *settings, *name, *text, *expected;
    } known[] = {
        {"cc3m", "Train_GCC-training.tsv", "a very typical bus station\thttp://h/1\n",
         "1:a very typical bus station|http://h/1\n"},
        {"cc12m", "cc12m.tsv", "http://h/1\t<PERSON> was the first\n", "1:<PERSON> was the first|http://h/1\n"},
        {"yfcc-openai", "metadata_000.jsonl.gz",
         "{\"title\":\"A+cat\",\"title_clean\":\"A "
         "cat\",\"downloadurl\":\"http://h/1\",\"pageurl\":\"http://h/p\",\"photoid\":7}\n",
         "1:A cat|http://h/1|title=A+cat|pageurl=http://h/p|photoid=7\n"},
        {"laion", "laion.csv.gz",
         "SAMPLE_ID,URL,TEXT,HEIGHT,WIDTH,LICENSE,NSFW,similarity\n1,http://h/1,\"a, b\",5,6,?,UNLIKELY,0.3\n",
         "2:a, b|http://h/1|SAMPLE_ID=1|HEIGHT=5|WIDTH=6|LICENSE=?|NSFW=UNLIKELY|similarity=0.3\n"},
        {"redcaps", "stdin.list",
         "{\"image_id\":\"x\",\"url\":\"https://h/1\",\"raw_caption\":\"A\",\"caption\":\"a\",\"subreddit\":3}\n",
         "1:a|https://h/1|image_id=x|raw_caption=A|subreddit=3\n"},
        {"pd12m", "pd12m.csv", "id,url,caption,hash\nq,https://h/1,a,00\n", "2:a|https://h/1|id=q|hash=00\n"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char path[256];
        limn_error error = {0};
        caption_list_options options = {0};
        json_t *held = NULL;
        snprintf(path, sizeof path, "../../configs/datasets/%s.json", known[i].settings);
        if (caption_list_load_settings(path, &options, &held, &error)) print_error("%s\n", error.message);
        assert_non_null(held);
        check_options(known[i].text, known[i].name, &options, known[i].expected);
        json_decref(held);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines),       cmocka_unit_test(json_lines_bad), cmocka_unit_test(json_lines_long),
        cmocka_unit_test(json_lines_wrong), cmocka_unit_test(plain_text),     cmocka_unit_test(forms),
        cmocka_unit_test(header_by_option), cmocka_unit_test(settings),       cmocka_unit_test(known_lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
