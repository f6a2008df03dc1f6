/* Where limn-download takes lists from: standard input that is kept, folders, packed files; settings of known lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/world.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static char folder[4096];

static int set_up(void **state) {
    (void)state;
    make_folder(folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return limn_remove_tree(folder, NULL);
}

/* Makes the file this process's standard input, and so that of programs it runs. */
static void feed(const char *path) {
    const int file = open(path, O_RDONLY);
    assert_true(file >= 0);
    assert_int_equal(dup2(file, STDIN_FILENO), STDIN_FILENO);
    close(file);
}

static void expect(program_result result, int exit_code, const char *text) {
    if (result.exit_code != exit_code || !strstr(result.exit_code ? result.err : result.out, text))
        print_error("exit %d, not \"%s\": %s %s", result.exit_code, text, result.out, result.err);
    assert_int_equal(result.exit_code, exit_code);
    assert_non_null(strstr(exit_code ? result.err : result.out, text));
    program_result_free(&result);
}

/* Kept before anything is fetched; given again it is the same list, none at all stands for it, another is refused. */
static void standard_input(void **state) {
    (void)state;
    char sha256[65], kept[65];
    const char *const out = in(folder, "out");
    write_text(folder, "list", "url,caption\nftp://h/1,a\nftp://h/2,b\n");
    write_text(folder, "other", "url,caption\nftp://h/1,a\n");
    write_text(folder, "broken", "url\tlegende\nftp://h/1\ta\n");
    feed("/dev/null");
    expect(run_download("--input", "-", "--output", out, NULL), 2, "standard input is empty");
    feed(in(folder, "broken")); /* what never made a configuration is no list to be held to */
    expect(run_download("--input", "-", "--output", out, NULL), 2, "stdin.list: no column of captions");
    feed(in(folder, "list"));
    expect(run_download("--input", "-", "--output", out, NULL), 0, "0 pairs of 2 rows");
    assert_int_equal(limn_sha256_file(in(folder, "list"), sha256, NULL), 0);
    assert_int_equal(limn_sha256_file(in(out, "stdin.list"), kept, NULL), 0);
    assert_string_equal(sha256, kept);
    assert_int_equal(unlink(in(out, "00000.stats.json")), 0); /* as after a kill */
    feed("/dev/null");
    expect(run_download("--input", "-", "--output", out, NULL), 0, "0 pairs of 2 rows in 1 shards, 2 failed");
    assert_true(limn_file_exists(in(out, "00000.stats.json")));
    feed(in(folder, "list"));
    expect(run_download("--input", "-", "--output", out, NULL), 0, "0 pairs of 2 rows");
    feed(in(folder, "other"));
    expect(run_download("--input", "-", "--output", out, NULL), 2, "another list than the one kept");
    assert_int_equal(limn_sha256_file(in(out, "stdin.list"), kept, NULL), 0);
    assert_string_equal(sha256, kept);
    feed(in(folder, "other"));
    expect(run_download("--input", "-", "--output", out, "--restart", NULL), 0, "0 pairs of 1 rows");
    expect(run_download("--input", "-", "-", "--output", out, NULL), 2, "once only");
    assert_int_equal(count_hidden(out), 0);
    feed("/dev/null");
}

/* A packed list comes the same way, and is kept as it came; a full disk keeps nothing. */
static void packed_input(void **state) {
    (void)state;
    const char *const out = in(folder, "packed");
    gzFile packed = gzopen(in(folder, "list.gz"), "wb");
    assert_non_null(packed);
    for (int i = 0; i < 1000; i++) gzprintf(packed, "{\"url\":\"ftp://h/%d\",\"caption\":\"a\"}\n", i * 7919);
    assert_int_equal(gzclose(packed), Z_OK);
    const char *const arguments[] = {"--input", "-", "--output", out, NULL};
    feed(in(folder, "list.gz"));
    expect(run_download_limited(2000, arguments), 1, "stdin.list");
    assert_false(limn_file_exists(in(out, "stdin.list")));
    feed(in(folder, "list.gz"));
    expect(run_download("--input", "-", "--output", out, NULL), 0, "0 pairs of 1000 rows");
    feed("/dev/null");
    assert_int_equal(truncate(in(folder, "list.gz"), 3000), 0);
    expect(run_download("--input", in(folder, "list.gz"), "--output", in(folder, "cut"), NULL), 1, "list.gz, after line ");
}

/* A folder is its lists; several --part processes and a run that goes on pass over what is not theirs. */
static void folders(void **state) {
    (void)state;
    const char *const lists = in(folder, "lists"), *const out = in(folder, "parts");
    assert_int_equal(limn_make_directories(lists, NULL), 0);
    write_text(lists, "b.tsv", "b\tftp://h/1\nb\tftp://h/2\n");
    write_text(lists, "a.tsv", "a\tftp://h/3\n");
    write_text(lists, "c.jsonl", "{\"url\":\"ftp://h/4\",\"caption\":\"c\"}\n");
    write_text(lists, "d.txt", "ftp://h/5\n");
    write_text(lists, "README.md", "No list.\n");
    expect(run_download("--input", lists, "--output", out, "--shard-size", "2", "--part", "1/2", NULL), 0,
           "0 pairs of 2 rows in 1");
    expect(run_download("--input", lists, "--output", out, "--shard-size", "2", NULL), 0,
           "0 pairs of 5 rows in 3 shards, 5 failed");
    char *failed = limn_file_read(in(out, "00000.failed.tsv"), 1 << 20, NULL, NULL);
    assert_non_null(strstr(failed, "ftp://h/3\ta\tbad_address"));
    assert_non_null(strstr(failed, "ftp://h/1\tb\tbad_address"));
    free(failed);
    failed = limn_file_read(in(out, "00002.failed.tsv"), 1 << 20, NULL, NULL);
    assert_non_null(strstr(failed, "ftp://h/5\t\tbad_address"));
    free(failed);
    assert_int_equal(limn_make_directories(in(folder, "bare"), NULL), 0);
    expect(run_download("--input", in(folder, "bare"), "--output", out, NULL), 1, "no file matches");
}

static void known_list(void **state) {
    (void)state;
    const char *const out = in(folder, "known");
    write_text(folder, "s.json", "{\"input_format\":\"tsv\",\"columns\":\"url,caption,score\",\"header\":\"no\"}");
    write_text(folder, "l.list", "ftp://h/1\ta\t7\n");
    expect(run_download("--input", in(folder, "l.list"), "--dataset", in(folder, "s.json"), "--output", out, NULL), 0,
           "0 pairs of 1 rows");
    /* The options by themselves are the same run; one that is given wins. */
    expect(run_download("--input", in(folder, "l.list"), "--input-format", "tsv", "--columns", "url,caption,score", "--header",
                        "no", "--output", out, NULL),
           0, "0 pairs of 1 rows");
    expect(run_download("--input", in(folder, "l.list"), "--dataset", in(folder, "s.json"), "--columns", "url,caption,hash",
                        "--output", out, NULL),
           2, "columns was \"url,caption,score\" and is now \"url,caption,hash\"");
    expect(run_download("--input", in(folder, "l.list"), "--dataset", in(folder, "none.json"), "--output", out, NULL), 2,
           "none.json");
    expect(run_download("--input", in(folder, "l.list"), "--dataset", in(folder, "s.json"), "--hash-column", "md5", "--output",
                        in(folder, "known2"), NULL),
           2, "no column \"md5\" for --hash-column");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(standard_input), cmocka_unit_test(packed_input),
                                       cmocka_unit_test(folders), cmocka_unit_test(known_list)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
