/* limn-download --retry-failed: what failed on the way is tried again, what came and was refused is not, and a shard is as if
 * those rows had succeeded at first, whatever is killed on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "download/internal.h"
#include "tests/download/world.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 60, SHARD = 10 };

/* Rows that fail at first are of files that are not there yet, or of /flaky; shard 3 has none, shard 4 only lasting ones. */
static bool comes_late(int i) {
    return i / SHARD != 3 && i / SHARD != 4 && i % 5 == 2;
}

/* Files and addresses are of this name, so that no two lists share them. */
static void make_list(const server_world *self, const char *name, bool lasting, int rows) {
    limn_buffer list = {0};
    char file[300];
    limn_buffer_printf(&list, NULL, "caption,url\n");
    for (int i = 0; i < rows; i++) {
        limn_buffer_printf(&list, NULL, "\"row %d\",", i);
        if (comes_late(i))
            limn_buffer_printf(&list, NULL, "file://%s/%s-%d.jpg\n", self->folder, name, i);
        else if (i % 13 == 8 && i / SHARD != 3 && i / SHARD != 4)
            limn_buffer_printf(&list, NULL, "http://127.0.0.1:%d/flaky/%d?%s\n", self->server.port, i, name);
        else if (lasting && i / SHARD != 3 && i % 7 == 6)
            limn_buffer_printf(&list, NULL, "http://127.0.0.1:%d/missing/%d\n", self->server.port, i);
        else if (lasting && i / SHARD != 3 && i % 11 == 5)
            limn_buffer_printf(&list, NULL, "http://127.0.0.1:%d/html/%d\n", self->server.port, i);
        else
            limn_buffer_printf(&list, NULL, "http://127.0.0.1:%d/%s/%d\n", self->server.port, i % 4 ? "picture" : "late", i);
    }
    snprintf(file, sizeof file, "%s.csv", name);
    write_file(self->folder, file, list.data, list.size);
    limn_buffer_free(&list);
}

static void make_late_files(const server_world *self, const char *name) {
    for (int i = 0; i < ROWS; i++) {
        picture made;
        limn_buffer jpeg = {0};
        char file[300];
        if (!comes_late(i)) continue;
        assert_int_equal(picture_create(&made, 70, 60, NULL), 0);
        memset(made.pixels, i * 3, 70 * 60 * 3);
        assert_int_equal(picture_encode_jpeg(&made, 90, &jpeg, NULL), 0);
        snprintf(file, sizeof file, "%s-%d.jpg", name, i);
        write_file(self->folder, file, jpeg.data, jpeg.size);
        limn_buffer_free(&jpeg);
        picture_free(&made);
    }
}

/* The arguments of a run over the list of this name into `output`. */
static void arguments_of(const server_world *self, const char *name, const char *output, const char *form, const char *last,
                         const char **out) {
    char file[300];
    snprintf(file, sizeof file, "%s.csv", name);
    const char *const all[] = {"--input",
                               in(self->folder, file),
                               "--output",
                               in(self->folder, output),
                               "--output-form",
                               form,
                               "--size",
                               "32",
                               "--shard-size",
                               "10",
                               "--json",
                               "--allow-private",
                               "--retries",
                               "0",
                               last,
                               NULL};
    memcpy(out, all, sizeof all);
}

/* Runs to its end; returns its summary's run_rows. */
static long run_list(const server_world *self, const char *name, const char *output, const char *form, const char *last) {
    const char *arguments[20];
    arguments_of(self, name, output, form, last, arguments);
    program_result result = run_program(LIMN_DOWNLOAD_PROGRAM, arguments, 0);
    if (result.exit_code) print_error("%s", result.err);
    assert_int_equal(result.exit_code, 0);
    json_t *summary = json_loads(result.out, 0, NULL);
    const long rows = (long)json_integer_value(json_object_get(summary, "run_rows"));
    json_decref(summary);
    program_result_free(&result);
    return rows;
}

static void assert_same_print(const server_world *self, const char *a, const char *b) {
    char *first = folder_print(in(self->folder, a)), *second = folder_print(in(self->folder, b));
    assert_string_equal(first, second);
    free(first);
    free(second);
}

/* All that stats say but times and bytes on the way. */
static void assert_same_stats(const server_world *self, const char *a, const char *b) {
    for (int number = 0; number < ROWS / SHARD; number++) {
        static const char *const keys[] = {"rows", "pairs", "failed", "reasons", "examples", "bytes_of_pictures", "tar_bytes"};
        char name[64];
        snprintf(name, sizeof name, "%05d.stats.json", number);
        json_t *left = limn_json_load(in(in(self->folder, a), name), NULL);
        json_t *right = limn_json_load(in(in(self->folder, b), name), NULL);
        assert_non_null(left);
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            const json_t *const value = json_object_get(left, keys[i]);
            if (value ? !json_equal(value, json_object_get(right, keys[i])) : json_object_get(right, keys[i]) != NULL)
                fail_msg("%s of %s differs", keys[i], name);
        }
        json_decref(left);
        json_decref(right);
    }
}

static struct stat status_of(const char *folder, const char *name) {
    struct stat status;
    if (stat(in(folder, name), &status)) fail_msg("%s is not there", name);
    return status;
}

static void retried(const server_world *self, const char *form) {
    char first[64], fresh[64], list[64];
    snprintf(list, sizeof list, "list-%s", form);
    snprintf(first, sizeof first, "first-%s", form);
    snprintf(fresh, sizeof fresh, "fresh-%s", form);
    make_list(self, list, true, ROWS);
    assert_int_equal(run_list(self, list, first, form, NULL), ROWS);
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", in(self->folder, first));
    assert_int_equal(stats_reason(folder, "00000", "file"), 2);
    assert_int_equal(stats_reason(folder, "00000", "http_500"), 1);
    assert_int_equal(stats_reason(folder, "00000", "http_404"), 1);
    assert_int_equal(stats_reason(folder, "00000", "not_a_picture"), 1);
    const struct stat whole = status_of(folder, "00003.stats.json"), lasting = status_of(folder, "00004.stats.json");

    /* The flaky ones come now, the files do not yet. */
    const long tried = run_list(self, list, first, form, "--retry-failed");
    assert_int_equal(stats_reason(folder, "00000", "file"), 2);
    assert_int_equal(stats_reason(folder, "00000", "http_500"), 0);
    make_late_files(self, list);
    const long again = run_list(self, list, first, form, "--retry-failed");
    assert_true(again > 0 && again < tried && tried < ROWS / 2);
    assert_int_equal(stats_reason(folder, "00000", "file"), 0);
    assert_int_equal(stats_reason(folder, "00000", "not_a_picture"), 1);
    assert_int_equal(count_hidden(folder), 0);

    run_list(self, list, fresh, form, NULL);
    assert_same_print(self, first, fresh);
    assert_same_stats(self, first, fresh);
    const struct stat whole_now = status_of(folder, "00003.stats.json"), lasting_now = status_of(folder, "00004.stats.json");
    assert_int_equal(whole.st_ino, whole_now.st_ino);     /* nothing failed */
    assert_int_equal(lasting.st_ino, lasting_now.st_ino); /* tried, and all the same */
}

static void tars(void **state) {
    retried(*state, "tars");
}

static void plain_files(void **state) {
    const server_world *self = *state;
    retried(self, "files");
    const char *const third = in(in(self->folder, "first-files"), "00003");
    char *caption = limn_file_read(in(third, "000030007.txt"), 100, NULL, NULL);
    assert_string_equal(caption, "row 37");
    free(caption);
    assert_true(limn_file_exists(in(third, "000030007.jpg")));
    assert_true(limn_file_exists(in(third, "000030007.json")));

    /* --restart removes the folders that it knows. */
    assert_int_equal(mkdir(in(in(self->folder, "first-files"), "20240101"), 0777), 0);
    run_list(self, "list-files", "first-files", "none", "--restart");
    assert_false(limn_file_exists(third));
    assert_true(limn_file_exists(in(in(self->folder, "first-files"), "20240101")));
}

static void counts_alone(void **state) {
    const server_world *self = *state;
    retried(self, "none");
    assert_false(limn_file_exists(in(in(self->folder, "first-none"), "00000.tar")));
    assert_false(limn_file_exists(in(in(self->folder, "first-none"), "00000")));
    assert_true(limn_file_exists(in(in(self->folder, "first-none"), "00000.failed.tsv")));
}

/* Rows of unfinished shards are done by the same command, and all their rows. */
static void unfinished(void **state) {
    const server_world *self = *state;
    make_list(self, "unfinished", true, ROWS);
    make_late_files(self, "unfinished");
    run_list(self, "unfinished", "unfinished", "tars", NULL);
    run_list(self, "unfinished", "unfinished", "tars", "--retry-failed");
    run_list(self, "unfinished", "unfinished-whole", "tars", NULL);
    assert_int_equal(unlink(in(in(self->folder, "unfinished"), "00003.stats.json")), 0);
    const long lasting = stats_reason(in(self->folder, "unfinished"), "00000", "http_404");
    assert_true(lasting > 0);
    assert_true(run_list(self, "unfinished", "unfinished", "tars", "--retry-failed") >= SHARD + lasting);
    assert_same_print(self, "unfinished", "unfinished-whole");
}

/* ---------------------------------------------------------------- commits */

static void copy_tree(const server_world *self, const char *from, const char *to) {
    const char *const arguments[] = {"-a", in(self->folder, from), in(self->folder, to), NULL};
    program_result result = run_program("/bin/cp", arguments, 0);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
}

static void move(const char *from_folder, const char *from, const char *to_folder, const char *to) {
    assert_int_equal(rename(in(from_folder, from), in(to_folder, to)), 0);
}

/* A process was killed after so many steps of putting a shard's new files in their places. */
static void killed_between(const server_world *self, const char *form, bool lasting) {
    const bool files = !strcmp(form, "files");
    const char *const body = files ? "00000" : "00000.tar";
    char list[64], before[64], after[64];
    snprintf(list, sizeof list, "commit-%s-%d", form, lasting);
    snprintf(before, sizeof before, "before-%s-%d", form, lasting);
    snprintf(after, sizeof after, "after-%s-%d", form, lasting);
    make_list(self, list, lasting, SHARD);
    run_list(self, list, before, form, NULL);
    make_late_files(self, list);
    run_list(self, list, after, form, NULL);
    assert_int_equal(limn_file_exists(in(in(self->folder, after), "00000.failed.tsv")), lasting);
    for (int steps = 0; steps <= 4; steps++) {
        char name[128], parts[160];
        snprintf(name, sizeof name, "%s-%d", before, steps);
        snprintf(parts, sizeof parts, "%s-parts", name);
        copy_tree(self, before, name);
        copy_tree(self, after, parts);
        const char *const folder = in(self->folder, name), *const source = in(self->folder, parts);
        const char *const commit = in(folder, ".00000.commit");
        assert_int_equal(mkdir(commit, 0777), 0);
        move(source, body, commit, body);
        move(source, "00000.stats.json", commit, "00000.stats.json");
        if (lasting)
            move(source, "00000.failed.tsv", commit, "00000.failed.tsv");
        else
            write_file(commit, "00000.failed.tsv", "", 0);
        if (steps >= 1 && files) move(folder, body, commit, "old");
        if (steps >= 2) move(commit, body, folder, body);
        if (steps >= 3 && lasting) move(commit, "00000.failed.tsv", folder, "00000.failed.tsv");
        if (steps >= 3 && !lasting) assert_int_equal(unlink(in(folder, "00000.failed.tsv")), 0);
        if (steps >= 4) move(commit, "00000.stats.json", folder, "00000.stats.json");
        assert_int_equal(run_list(self, list, name, form, NULL), 0);
        assert_int_equal(count_hidden(folder), 0);
        assert_same_print(self, name, after);
    }
    /* What was not committed is nothing. */
    char name[128];
    snprintf(name, sizeof name, "%s-new", before);
    copy_tree(self, before, name);
    copy_tree(self, after, in(name, ".00000.new"));
    write_text(in(self->folder, name), ".00000.spool", "half of a picture");
    assert_int_equal(run_list(self, list, name, form, NULL), 0);
    assert_int_equal(count_hidden(in(self->folder, name)), 0);
    assert_same_print(self, name, before);
}

static void commits(void **state) {
    killed_between(*state, "tars", true);
    killed_between(*state, "tars", false);
    killed_between(*state, "files", true);
    killed_between(*state, "files", false);
}

/* kill -9 while it tries again, at random moments. */
static void killed(void **state) {
    const server_world *self = *state;
    for (int form = 0; form < 2; form++) {
        const char *const name = form ? "files" : "tars";
        char list[64], fresh[64];
        const char *arguments[20];
        int kills = 0;
        snprintf(list, sizeof list, "killed-%s", name);
        snprintf(fresh, sizeof fresh, "killed-fresh-%s", name);
        make_list(self, list, true, ROWS);
        run_list(self, list, list, name, NULL);
        make_late_files(self, list);
        arguments_of(self, list, list, name, "--retry-failed", arguments);
        for (uint64_t turn = 0;; turn++) {
            int status;
            const pid_t process = start_download(arguments);
            const struct timespec moment = {
                .tv_nsec = (long)limn_random_below(5, (uint64_t)form, turn, turn < 25 ? 90000000 : 900000000)};
            nanosleep(&moment, NULL);
            kill(process, SIGKILL);
            assert_int_equal(waitpid(process, &status, 0), process);
            if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
            kills += WIFSIGNALED(status);
            if (WIFEXITED(status) && turn >= 25) break;
            assert_true(turn < 400);
        }
        assert_true(kills > 0);
        run_list(self, list, fresh, name, NULL);
        assert_same_print(self, list, fresh);
        assert_same_stats(self, list, fresh);
        assert_int_equal(count_hidden(in(self->folder, list)), 0);
    }
}

/* ---------------------------------------------------------------- what is not as it was written */

static void expect_failure(const server_world *self, const char *name, const char *form, const char *sentence) {
    const char *arguments[20];
    arguments_of(self, "damaged", name, form, "--retry-failed", arguments);
    program_result result = run_program(LIMN_DOWNLOAD_PROGRAM, arguments, 0);
    if (result.exit_code != 1 || !strstr(result.err, sentence)) print_error("exit %d: %s", result.exit_code, result.err);
    assert_int_equal(result.exit_code, 1);
    assert_non_null(strstr(result.err, sentence));
    assert_int_equal(count_hidden(in(self->folder, name)), 0);
    program_result_free(&result);
}

static void damaged(void **state) {
    const server_world *self = *state;
    static const char header[] = "url\tcaption\treason\tdetail\tkey\tlist\tline\n";
    const struct {
        const char *header, *lines;
        int line;
    } tables[] = {
        {"url\tcaption\n", "", 1},
        {header, "u\tc\tfile\td\t000000002\tl\n", 2},                                      /* a field less */
        {header, "u\tc\tfile\td\t000000002\tl\t3\tx\n", 2},                                /* one more */
        {header, "u\tc\tfile\td\t000000002\tl\t3", 2},                                     /* cut */
        {header, "u\tc\t\td\t000000002\tl\t3\n", 2},                                       /* no reason */
        {header, "u\tc\tabcdefghijklmnopqrstuvwxyzabcdefghijkl\td\t000000002\tl\t3\n", 2}, /* a long one */
        {header, "u\tc\tfile\td\t000010002\tl\t3\n", 2},                                   /* another shard's key */
        {header, "u\tc\tfile\td\t00000000a\tl\t3\n", 2},                                   /* no key */
        {header, "u\tc\tfile\td\t000000010\tl\t3\n", 2},                                   /* beyond the shard */
        {header, "u\tc\tfile\td\t000000002\tl\t3\nu\tc\tfile\td\t000000002\tl\t3\n", 3},   /* twice */
    };
    make_list(self, "damaged", true, SHARD);
    run_list(self, "damaged", "damaged", "tars", NULL);
    run_list(self, "damaged", "damaged-files", "files", NULL);
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", in(self->folder, "damaged"));
    char *before = limn_file_read(in(folder, "00000.failed.tsv"), 1 << 20, NULL, NULL);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sentence[64];
        write_text(folder, "00000.failed.tsv", "%s%s", tables[i].header, tables[i].lines);
        snprintf(sentence, sizeof sentence, "line %d is not as", tables[i].line);
        expect_failure(self, "damaged", "tars", sentence);
    }
    assert_int_equal(unlink(in(folder, "00000.failed.tsv")), 0);
    expect_failure(self, "damaged", "tars", "00000.failed.tsv");

    /* A shard of fewer rows than the table speaks of. */
    write_text(folder, "00000.failed.tsv", "%su\tc\tfile\td\t000000009\tl\t3\n", header);
    json_t *stats = limn_json_load(in(folder, "00000.stats.json"), NULL);
    const json_int_t rows = json_integer_value(json_object_get(stats, "rows"));
    json_object_set_new(stats, "rows", json_integer(9));
    assert_int_equal(limn_json_save(stats, in(folder, "00000.stats.json"), NULL), 0);
    expect_failure(self, "damaged", "tars", "fewer rows");

    /* A table without all that failed. */
    json_object_set_new(stats, "rows", json_integer(rows));
    assert_int_equal(limn_json_save(stats, in(folder, "00000.stats.json"), NULL), 0);
    expect_failure(self, "damaged", "tars", "has 1 rows");

    /* A pair that the tar has not. */
    json_object_set_new(stats, "failed", json_integer(1));
    assert_int_equal(limn_json_save(stats, in(folder, "00000.stats.json"), NULL), 0);
    json_decref(stats);
    make_late_files(self, "damaged");
    write_text(folder, "00000.failed.tsv", "%su\tc\tfile\td\t000000003\tl\t3\n", header);
    expect_failure(self, "damaged", "tars", "lacks 000000002");
    write_file(folder, "00000.failed.tsv", before, strlen(before));
    free(before);

    assert_int_equal(unlink(in(in(in(self->folder, "damaged-files"), "00000"), "000000001.json")), 0);
    expect_failure(self, "damaged-files", "files", "lacks 000000001");
    assert_true(limn_file_exists(in(in(in(self->folder, "damaged-files"), "00000"), "000000001.jpg")));
}

static void reasons(void **state) {
    (void)state;
    static const char *const passing[] = {"dns",  "connect",  "timeout",  "tls",      "connection_lost",
                                          "http", "http_404", "http_503", "redirect", "file"};
    static const char *const lasting[] = {"bad_row", "bad_address", "private_address", "noai",           "too_large",
                                          "encode",  "too_small",   "not_a_picture",   "broken_picture", "resize"};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) assert_true(failure_may_pass(passing[i]));
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++) assert_false(failure_may_pass(lasting[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reasons),    cmocka_unit_test(tars),    cmocka_unit_test(plain_files), cmocka_unit_test(counts_alone),
        cmocka_unit_test(unfinished), cmocka_unit_test(commits), cmocka_unit_test(killed),      cmocka_unit_test(damaged),
    };
    return cmocka_run_group_tests(tests, server_world_set_up, server_world_tear_down);
}
