/* A hundred kill -9 at random moments, half of them while failed rows are tried again: tars, and folders of plain files, are
 * byte for byte those of a run that was left alone. An argument is the seed of the moments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "pictures/pictures.h"
#include "tests/download/world.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 400, KILLS = 50 };

static uint64_t seed;

typedef struct {
    test_server server;
    const char *form;
    char folder[4096], list[4096], first[4096], killed[4096], fresh[4096];
} fixture;

static bool comes_late(int i) {
    return i % 7 == 2;
}

static void make_list(fixture *self) {
    limn_buffer list = {0};
    limn_buffer_printf(&list, NULL, "caption,url,number\n");
    for (int i = 0; i < ROWS; i++) {
        if (comes_late(i))
            limn_buffer_printf(&list, NULL, "\"row %d\",file://%s/late-%d.jpg,%d\n", i, self->folder, i, i);
        else if (i % 29 == 5)
            limn_buffer_printf(&list, NULL, "\"row %d\",nothing,0\n", i);
        else
            limn_buffer_printf(&list, NULL, "\"row %d\",http://127.0.0.1:%d/%s/%d,%d\n", i, self->server.port,
                               i % 11 == 3   ? "missing"
                               : i % 13 == 7 ? "html"
                               : i % 17 == 4 ? "gone"
                               : i % 3 == 1  ? "late"
                                             : "picture",
                               i, i);
    }
    write_file(self->folder, "list.csv", list.data, list.size);
    snprintf(self->list, sizeof self->list, "%s", in(self->folder, "list.csv"));
    limn_buffer_free(&list);
}

static void make_late_files(const fixture *self) {
    for (int i = 0; i < ROWS; i++) {
        picture made;
        limn_buffer jpeg = {0};
        char name[64];
        if (!comes_late(i)) continue;
        assert_int_equal(picture_create(&made, 90, 80, NULL), 0);
        memset(made.pixels, i % 251, 90 * 80 * 3);
        assert_int_equal(picture_encode_jpeg(&made, 90, &jpeg, NULL), 0);
        snprintf(name, sizeof name, "late-%d.jpg", i);
        write_file(self->folder, name, jpeg.data, jpeg.size);
        limn_buffer_free(&jpeg);
        picture_free(&made);
    }
}

static void run(const char *program, const char *const *arguments) {
    program_result result = run_program(program, arguments, 0);
    if (result.exit_code) print_error("%s", result.err);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
}

static void copy_tree(const char *from, const char *to) {
    const char *const arguments[] = {"-a", from, to, NULL};
    run("/bin/cp", arguments);
}

static void expect_same(const char *folder, const char *wanted) {
    char *print = folder_print(folder), *wanted_print = folder_print(wanted);
    assert_string_equal(print, wanted_print);
    assert_int_equal(count_hidden(folder), 0);
    free(print);
    free(wanted_print);
}

/* KILLS times the run into self->killed, which begins as a copy of `from` (NULL: empty) and, whenever a run gets to its end, is
 * compared with `wanted` and begun anew. */
static void kill_often(const fixture *self, const char *const *arguments, const char *from, const char *wanted, uint64_t stream,
                       double seconds) {
    int kills = 0, ends = 0;
    if (from) copy_tree(from, self->killed);
    for (bool last = false;;) {
        int status;
        const double part = (double)limn_random_uniform(seed, stream, (uint64_t)(kills + ends)) * seconds / 4;
        const struct timespec moment = {.tv_sec = (time_t)part, .tv_nsec = (long)((part - (double)(time_t)part) * 1e9)};
        const pid_t process = start_download(arguments);
        if (!last) {
            nanosleep(&moment, NULL);
            kill(process, SIGKILL);
        }
        assert_int_equal(waitpid(process, &status, 0), process);
        if (WIFSIGNALED(status)) {
            last = ++kills == KILLS;
            continue;
        }
        assert_int_equal(WEXITSTATUS(status), 0);
        expect_same(self->killed, wanted);
        assert_int_equal(limn_remove_tree(self->killed, NULL), 0);
        if (last) break;
        ends++;
        if (from) copy_tree(from, self->killed);
    }
    print_message("killed %d times in %d runs\n", kills, ends + 1);
}

static void hundred_kills(const char *form) {
    fixture self = {.server = server_start(), .form = form};
    make_folder(self.folder);
    make_list(&self);
    snprintf(self.first, sizeof self.first, "%s", in(self.folder, "first"));
    snprintf(self.killed, sizeof self.killed, "%s", in(self.folder, "killed"));
    snprintf(self.fresh, sizeof self.fresh, "%s", in(self.folder, "fresh"));
    const char *arguments[] = {
        "--input",      self.list, "--output",      self.first, "--output-form", self.form, "--size",  "48",
        "--shard-size", "10",      "--concurrency", "8",        "--retries",     "0",       "--quiet", "--allow-private",
        NULL,           NULL};
    enum { OUTPUT = 3, LAST = 16 };
    double began = limn_seconds();
    run(LIMN_DOWNLOAD_PROGRAM, arguments);
    const double seconds = limn_seconds() - began;
    arguments[OUTPUT] = self.killed;
    kill_often(&self, arguments, NULL, self.first, 1, seconds);

    make_late_files(&self);
    arguments[OUTPUT] = self.fresh;
    run(LIMN_DOWNLOAD_PROGRAM, arguments);
    arguments[OUTPUT] = self.killed;
    arguments[LAST] = "--retry-failed";
    kill_often(&self, arguments, self.first, self.fresh, 2, seconds);
    server_stop(&self.server);
    assert_int_equal(limn_remove_tree(self.folder, NULL), 0);
}

static void tars(void **state) {
    (void)state;
    hundred_kills("tars");
}

static void plain_files(void **state) {
    (void)state;
    hundred_kills("files");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tars), cmocka_unit_test(plain_files)};
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
