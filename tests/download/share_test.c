/* limn-download --coordinate: several processes make one output, some die, and it is as one alone had made it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/world.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 150, SHARD = 10, SHARDS = ROWS / SHARD };

typedef struct {
    test_server server;
    char folder[4096], list[4096], whole[4096];
    char *whole_print; /* of a run alone */
} fixture;

static int set_up(void **state) {
    limn_buffer list = {0};
    fixture *self = calloc(1, sizeof *self);
    if (!self) return -1;
    *state = self;
    self->server = server_start();
    make_folder(self->folder);
    snprintf(self->list, sizeof self->list, "%s", in(self->folder, "list.csv"));
    snprintf(self->whole, sizeof self->whole, "%s", in(self->folder, "whole"));
    limn_buffer_printf(&list, NULL, "caption,url\n");
    for (int i = 0; i < ROWS; i++)
        limn_buffer_printf(&list, NULL, "\"row %d\",http://127.0.0.1:%d/%s/%d\n", i, self->server.port,
                           i % 11 == 3 ? "missing"
                           : i % 3     ? "late"
                                       : "picture",
                           i);
    write_file(self->folder, "list.csv", list.data, list.size);
    limn_buffer_free(&list);
    program_result result = run_download("--input", self->list, "--output", self->whole, "--size", "48", "--shard-size", "10",
                                         "--allow-private", NULL);
    const bool good = result.exit_code == 0;
    if (!good) print_error("%s", result.err);
    program_result_free(&result);
    if (!good) return -1;
    self->whole_print = folder_print(self->whole);
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    server_stop(&self->server);
    limn_remove_tree(self->folder, NULL);
    free(self->whole_print);
    free(self);
    return 0;
}

static void arguments_of(const fixture *self, const char *output, const char *claims, const char **out) {
    const char *const all[] = {"--input", self->list,     "--output", in(self->folder, output), "--size",
                               "48",      "--shard-size", "10",       "--allow-private",        "--concurrency",
                               "2",       "--threads",    "1",        "--coordinate",           in(self->folder, claims),
                               NULL};
    memcpy(out, all, sizeof all);
}

static void expect_whole(const fixture *self, const char *output) {
    char *print = folder_print(in(self->folder, output));
    assert_string_equal(print, self->whole_print);
    free(print);
    assert_int_equal(count_hidden(in(self->folder, output)), 0);
}

static void expect_end(pid_t process) {
    int status;
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void wait_for(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s", name);
    for (int tries = 0; tries < 5000; tries++, usleep(2000))
        if (limn_file_exists(path)) return;
    fail_msg("%s does not come", path);
}

/* Waits until a process holds the claim. */
static void wait_for_claim(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s", name);
    wait_for(path);
    const int file = open(path, O_RDWR | O_CLOEXEC);
    struct flock found = {.l_type = F_UNLCK};
    for (int tries = 0; tries < 5000 && found.l_type == F_UNLCK; tries++, usleep(1000)) {
        found = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
        assert_int_equal(fcntl(file, F_OFD_GETLK, &found), 0);
    }
    close(file);
    assert_int_not_equal(found.l_type, F_UNLCK);
}

static size_t finished_shards(const char *output) {
    size_t count = 0;
    for (int i = 0; i < SHARDS; i++) {
        char name[64];
        snprintf(name, sizeof name, "%05d.stats.json", i);
        count += limn_file_exists(in(output, name));
    }
    return count;
}

/* Three at once, one of which is killed -9 in the midst. */
static void three(void **state) {
    const fixture *self = *state;
    for (int turn = 0; turn < 3; turn++) {
        const char *arguments[20];
        char output[32], claims[32];
        pid_t processes[3];
        snprintf(output, sizeof output, "three-%d", turn);
        snprintf(claims, sizeof claims, "claims-%d", turn);
        arguments_of(self, output, claims, arguments);
        for (int i = 0; i < 3; i++) processes[i] = start_download(arguments);
        char some[32];
        snprintf(some, sizeof some, "%05d.lock", 3 * turn + 1);
        wait_for(in(in(self->folder, claims), some));
        kill(processes[turn], SIGKILL);
        waitpid(processes[turn], NULL, 0);
        for (int i = 0; i < 3; i++)
            if (i != turn) expect_end(processes[i]);
        expect_whole(self, output);
    }
}

/* One holds a shard and does not move; another does all the rest and waits; the first dies, and the other makes that too. */
static void takes_over(void **state) {
    const fixture *self = *state;
    const char *arguments[20];
    arguments_of(self, "over", "over-claims", arguments);
    char output[4096];
    snprintf(output, sizeof output, "%s", in(self->folder, "over"));
    const pid_t stuck = start_download(arguments);
    wait_for_claim(in(in(self->folder, "over-claims"), "00000.lock"));
    kill(stuck, SIGSTOP);
    const size_t held = SHARDS - finished_shards(output);
    const pid_t other = start_download(arguments);
    size_t done = 0;
    for (int tries = 0; tries < 5000 && done + 5 < SHARDS; tries++, usleep(2000)) done = finished_shards(output);
    assert_true(held > 0 && done >= SHARDS - 5);
    usleep(700000);
    assert_int_equal(waitpid(other, NULL, WNOHANG), 0); /* waits */
    assert_true(finished_shards(output) < SHARDS);
    kill(stuck, SIGKILL);
    waitpid(stuck, NULL, 0);
    expect_end(other);
    expect_whole(self, "over");

    /* One that comes later has nothing to do. */
    arguments_of(self, "over", "over-claims", arguments);
    program_result result = run_program(LIMN_DOWNLOAD_PROGRAM, arguments, 0);
    assert_int_equal(result.exit_code, 0);
    assert_non_null(strstr(result.out, "this run: 0 pairs"));
    program_result_free(&result);
}

/* Waits until the process has the file open, and a moment for what it does first with it. */
static void wait_for_open(pid_t process, const char *path) {
    for (int tries = 0; tries < 5000; tries++, usleep(2000))
        for (int fd = 3; fd < 32; fd++) {
            char link[64], target[4096];
            snprintf(link, sizeof link, "/proc/%ld/fd/%d", (long)process, fd);
            const ssize_t size = readlink(link, target, sizeof target - 1);
            if (size <= 0 || (size_t)size != strlen(path) || memcmp(target, path, (size_t)size)) continue;
            usleep(300000);
            return;
        }
    fail_msg("%s is not opened", path);
}

/* A shard is tried again once, by one of the processes. */
static void retry_together(void **state) {
    const fixture *self = *state;
    limn_buffer list = {0};
    limn_buffer_printf(&list, NULL, "caption,url\n");
    for (int i = 0; i < ROWS; i++)
        limn_buffer_printf(&list, NULL, "\"row %d\",http://127.0.0.1:%d/%s/%d\n", i, self->server.port,
                           i == ROWS - 1 ? "never"
                           : i % 5       ? "picture"
                                         : "missing",
                           i);
    write_file(self->folder, "again.csv", list.data, list.size);
    limn_buffer_free(&list);
    char output[4096];
    snprintf(output, sizeof output, "%s", in(self->folder, "again"));
    program_result result = run_download("--input", in(self->folder, "again.csv"), "--output", output, "--size", "48",
                                         "--shard-size", "10", "--allow-private", "--timeout", "0.2", NULL);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    char *before = folder_print(output);
    /* Both have begun before either goes on: until then the test holds the configuration's lock. */
    char claims[4096], lock_path[4096];
    const struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    snprintf(claims, sizeof claims, "%s", in(self->folder, "again-claims"));
    assert_int_equal(limn_make_directories(claims, NULL), 0);
    snprintf(lock_path, sizeof lock_path, "%s", in(claims, "download.lock"));
    const int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_int_equal(fcntl(lock, F_OFD_SETLK, &whole), 0);
    pid_t processes[2];
    for (int i = 0; i < 2; i++) {
        char command[4 * 4096 + 512];
        snprintf(command, sizeof command,
                 "exec '%s' --input '%s/again.csv' --output '%s' --size 48 --shard-size 10 --allow-private --timeout 1 "
                 "--retry-failed --coordinate '%s' --json > '%s/again-%d.json'",
                 LIMN_DOWNLOAD_PROGRAM, self->folder, output, claims, self->folder, i);
        const char *const shell[] = {"-c", command, NULL};
        processes[i] = start_program("/bin/sh", shell);
    }
    for (int i = 0; i < 2; i++) wait_for_open(processes[i], lock_path);
    close(lock);
    json_int_t rows = 0;
    for (int i = 0; i < 2; i++) {
        char name[64];
        expect_end(processes[i]);
        snprintf(name, sizeof name, "again-%d.json", i);
        json_t *summary = limn_json_load(in(self->folder, name), NULL);
        rows += json_integer_value(json_object_get(summary, "run_rows"));
        json_decref(summary);
    }
    assert_int_equal(rows, ROWS / 5 + 1);
    char *after = folder_print(output);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void expect_refusal(program_result result, int exit_code, const char *text) {
    if (result.exit_code != exit_code || !strstr(result.err, text)) print_error("exit %d: %s", result.exit_code, result.err);
    assert_int_equal(result.exit_code, exit_code);
    assert_non_null(strstr(result.err, text));
    program_result_free(&result);
}

/* Coordinated processes and others exclude each other. */
static void excluded(void **state) {
    const fixture *self = *state;
    write_text(self->folder, "never.tsv", "a\thttp://127.0.0.1:%d/never/1\n", self->server.port);
    char list[4096], output[4096], claims[4096];
    snprintf(list, sizeof list, "%s", in(self->folder, "never.tsv"));
    snprintf(output, sizeof output, "%s", in(self->folder, "never"));
    snprintf(claims, sizeof claims, "%s", in(self->folder, "never-claims"));
    const char *const together[] = {"--input", list, "--output", output, "--allow-private", "--coordinate", claims, NULL};
    const pid_t process = start_download(together);
    wait_for_claim(in(claims, "00000.lock"));
    expect_refusal(run_download("--input", list, "--output", output, "--allow-private", NULL), 1, "--coordinate");
    expect_refusal(run_download("--input", list, "--output", output, "--allow-private", "--part", "0/2", NULL), 1,
                   "--coordinate");
    kill(process, SIGKILL);
    assert_int_equal(waitpid(process, NULL, 0), process);

    for (int part = 0; part < 2; part++) {
        const char *const alone[] = {"--input", list, "--output", output, "--allow-private", part ? "--part" : NULL,
                                     "0/1",     NULL};
        const char *const divided[] = {"--input", list, "--output", output, "--allow-private", "--part", "0/2", NULL};
        const pid_t other = start_download(part ? divided : alone);
        char held[64];
        snprintf(held, sizeof held, part ? ".part-0-of-2/.lock" : ".lock");
        char *holder = NULL;
        for (int tries = 0; tries < 5000; tries++, usleep(2000)) {
            free(holder);
            holder = limn_file_read(in(output, held), 100, NULL, NULL);
            if (holder && strtol(holder, NULL, 10) == other) break;
        }
        assert_int_equal(holder ? strtol(holder, NULL, 10) : 0, other);
        free(holder);
        expect_refusal(run_program(LIMN_DOWNLOAD_PROGRAM, together, 0), 1, "without --coordinate");
        kill(other, SIGKILL);
        assert_int_equal(waitpid(other, NULL, 0), other);
    }
    expect_refusal(run_download("--input", list, "--output", output, "--coordinate", claims, "--part", "0/2", NULL), 2,
                   "--coordinate and --part");
    expect_refusal(run_download("--input", list, "--output", output, "--coordinate", claims, "--restart", NULL), 2,
                   "--restart");
    expect_refusal(run_download("--input", list, "--output", output, "--retry-failed", "--restart", NULL), 2, "--restart");
}

/* A file system without locks, made by a system that answers so: the program says it and does nothing. */
static void without_locks(void **state) {
    const fixture *self = *state;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_SETLK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOLCK),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    const char *arguments[21] = {LIMN_DOWNLOAD_PROGRAM};
    int status, out[2];
    char text[4096] = {0};
    arguments_of(self, "lockless", "lockless-claims", arguments + 1);
    assert_int_equal(pipe(out), 0);
    const pid_t process = fork();
    if (process == 0) {
        dup2(out[1], STDERR_FILENO);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(77);
        execv(arguments[0], (char **)(uintptr_t)arguments);
        _exit(127);
    }
    close(out[1]);
    size_t size = 0;
    for (ssize_t got; (got = read(out[0], text + size, sizeof text - 1 - size)) > 0;) size += (size_t)got;
    close(out[0]);
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip(); /* a machine on which filters are forbidden */
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(text, "does not lock files"));
    assert_false(limn_file_exists(in(in(self->folder, "lockless"), "download.json")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three),    cmocka_unit_test(takes_over),    cmocka_unit_test(retry_together),
        cmocka_unit_test(excluded), cmocka_unit_test(without_locks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
