/* limn-download --encode: token shards with no tar in between, to the byte what limn-encode makes of the same pictures. */
#include "tests/dataset/encode_world.h"
#include "tests/download/world.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 45, SHARD = 10 };

static char folder[4096], vqgan_folder[4096], other_vqgan[4096];

static bool is_missing(int i) {
    return i % 6 == 4;
}

static void write_picture(int i) {
    char name[64];
    picture painted = paint((size_t)i, SIDE, SIDE);
    snprintf(name, sizeof name, "%d.png", i);
    assert_int_equal(picture_save_png(&painted, in(folder, name), NULL), 0);
    picture_free(&painted);
}

/* The list, its pictures but those that come late, and tars with all of them as limn-download would number them. */
static int set_up(void **state) {
    (void)state;
    limn_buffer list = {0};
    make_folder(folder);
    snprintf(vqgan_folder, sizeof vqgan_folder, "%s", in(folder, "vqgan"));
    snprintf(other_vqgan, sizeof other_vqgan, "%s", in(folder, "other"));
    save_random_vqgan(vqgan_folder, 5);
    save_random_vqgan(other_vqgan, 6);
    limn_buffer_printf(&list, NULL, "caption,url\n");
    for (int i = 0; i < ROWS; i++) {
        limn_buffer_printf(&list, NULL, "%s%d ,file://%s/%d.%s\n", i % 8 ? "picture " : "", i, folder, i,
                           i % 9 == 8 ? "txt" : "png");
        if (!is_missing(i)) write_picture(i);
    }
    write_text(folder, "8.txt", "a page that is no picture, as long as need be");
    write_file(folder, "list.csv", list.data, list.size);
    limn_buffer_free(&list);
    assert_int_equal(limn_make_directories(in(folder, "tars"), NULL), 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return limn_remove_tree(folder, NULL);
}

/* What limn-encode makes of tars with these pictures, in folder/NAME. */
static void encode_tars(const char *name, bool late) {
    char tars[4096], output[4096], pattern[4096];
    snprintf(tars, sizeof tars, "%s", in(folder, late ? "tars-late" : "tars"));
    snprintf(output, sizeof output, "%s", in(folder, name));
    assert_int_equal(limn_make_directories(tars, NULL), 0);
    for (int first = 0; first < ROWS; first += SHARD) {
        char file[64];
        snprintf(file, sizeof file, "%05d.tar", first / SHARD);
        tar_writer *writer = tar_writer_open(in(tars, file), NULL);
        for (int i = first; i < first + SHARD && i < ROWS; i++) {
            char key[64], caption[64];
            limn_buffer bytes = {0};
            if (i % 9 == 8 || (is_missing(i) && !late)) continue;
            picture painted = paint((size_t)i, SIDE, SIDE);
            assert_int_equal(picture_encode_png(&painted, &bytes, NULL), 0);
            snprintf(key, sizeof key, "%05d%04d", first / SHARD, i % SHARD);
            snprintf(caption, sizeof caption, "%s%d ", i % 8 ? "picture " : "", i);
            add_entry(writer, key, "png", bytes.data, bytes.size);
            add_entry(writer, key, "txt", caption, strlen(caption));
            limn_buffer_free(&bytes);
            picture_free(&painted);
        }
        assert_int_equal(tar_writer_commit(writer, NULL), 0);
    }
    limn_path_join(pattern, sizeof pattern, tars, "*.tar", NULL);
    const char *const arguments[] = {"--input", pattern, "--vqgan", vqgan_folder, "--output", output, NULL};
    program_result result = run_program(LIMN_ENCODE_PROGRAM, arguments, 0);
    if (result.exit_code) print_error("%s", result.err);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
}

static void arguments_of(const char *name, const char *threads, const char *last, const char *value, const char **out) {
    const char *const all[] = {
        "--input", in(folder, "list.csv"), "--output",  in(folder, name), "--encode", vqgan_folder, "--shard-size",
        "10",      "--allow-private",      "--threads", threads,          last,       value,        NULL};
    memcpy(out, all, sizeof all);
}

static void download(const char *name, const char *threads, const char *last, const char *value) {
    const char *arguments[20];
    arguments_of(name, threads, last, value, arguments);
    program_result result = run_program(LIMN_DOWNLOAD_PROGRAM, arguments, 0);
    if (result.exit_code) print_error("%s", result.err);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
}

static void assert_same_shards(const char *a, const char *b) {
    for (int i = 0; i < (ROWS + SHARD - 1) / SHARD; i++) {
        char name[64], first[65], second[65];
        snprintf(name, sizeof name, "%05d.h5", i);
        assert_int_equal(limn_sha256_file(in(in(folder, a), name), first, NULL), 0);
        assert_int_equal(limn_sha256_file(in(in(folder, b), name), second, NULL), 0);
        assert_string_equal(first, second);
    }
}

static void as_limn_encode(void **state) {
    (void)state;
    encode_tars("encoded", false);
    download("one-thread", "1", NULL, NULL);
    download("three-threads", "3", NULL, NULL);
    assert_same_shards("one-thread", "encoded");
    assert_same_shards("three-threads", "encoded");
    assert_int_equal(count_hidden(in(folder, "one-thread")), 0);
    assert_int_equal(stats_reason(in(folder, "one-thread"), "00000", "file"), 1);
    assert_int_equal(stats_number(in(folder, "one-thread"), "00000", "pairs"), 8);
    assert_false(limn_file_exists(in(in(folder, "one-thread"), "00000.tar")));
    download("shared", "1", "--coordinate", in(folder, "claims"));
    assert_same_shards("shared", "encoded");
}

/* kill -9, then the rows that come late, killed again. */
static void killed_and_retried(void **state) {
    (void)state;
    const char *arguments[20];
    int kills = 0;
    for (int late = 0; late < 2; late++) {
        for (int i = 0; i < ROWS && late; i++)
            if (is_missing(i) && i % 9 != 8) write_picture(i);
        for (uint64_t turn = 0;; turn++) {
            int status;
            arguments_of("killed", "2", late ? "--retry-failed" : NULL, NULL, arguments);
            const pid_t process = start_download(arguments);
            const struct timespec moment = {
                .tv_nsec = (long)limn_random_below(8, (uint64_t)late, turn, turn < 15 ? 150000000 : 900000000)};
            nanosleep(&moment, NULL);
            if (turn < 100) kill(process, SIGKILL);
            assert_int_equal(waitpid(process, &status, 0), process);
            kills += WIFSIGNALED(status);
            if (!WIFEXITED(status)) continue;
            assert_int_equal(WEXITSTATUS(status), 0);
            if (turn >= 15) break;
        }
        encode_tars(late ? "encoded-late" : "encoded-early", late);
        assert_same_shards("killed", late ? "encoded-late" : "encoded-early");
        assert_int_equal(count_hidden(in(folder, "killed")), 0);
    }
    assert_true(kills > 0);
}

static void refused(void **state) {
    (void)state;
    char list[4096], output[4096];
    snprintf(list, sizeof list, "%s", in(folder, "list.csv"));
    snprintf(output, sizeof output, "%s", in(folder, "refused"));
    download("refused", "1", NULL, NULL);
    const struct {
        const char *options[4], *sentence;
    } cases[] = {
        {{"--encode", other_vqgan}, "vqgan_sha256 was"},
        {{"--encode", vqgan_folder, "--precision", "bf16"}, "precision was"},
        {{"--encode", vqgan_folder, "--precision", "int8"}, "--precision"},
        {{"--encode", vqgan_folder, "--resize", "none"}, "--resize center-crop or border"},
        {{"--encode", vqgan_folder, "--only-if-bigger"}, "without --only-if-bigger"},
        {{"--encode", vqgan_folder, "--output-form", "files"}, "--output-form files"},
        {{NULL}, "output_form was"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const *o = cases[i].options;
        program_result result = run_download("--input", list, "--output", output, "--shard-size", "10", "--allow-private",
                                             "--size", "16", o[0], o[1], o[2], o[3], NULL);
        if (result.exit_code != 2 || !strstr(result.err, cases[i].sentence))
            print_error("case %zu, exit %d: %s", i, result.exit_code, result.err);
        assert_int_equal(result.exit_code, 2);
        assert_non_null(strstr(result.err, cases[i].sentence));
        program_result_free(&result);
    }
    program_result result =
        run_download("--input", list, "--output", in(folder, "nothing"), "--encode", in(folder, "tars"), NULL);
    assert_int_not_equal(result.exit_code, 0);
    assert_non_null(strstr(result.err, "tars"));
    program_result_free(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_limn_encode), cmocka_unit_test(killed_and_retried),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
