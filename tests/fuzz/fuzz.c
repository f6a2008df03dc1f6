/* The command line, the child that does the work, and the report. */
#include "tests/fuzz/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[256];

const char *fuzz_file(const char *name, const char *data, size_t size) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    bool written = file >= 0 && (size == 0 || write(file, data, size) == (ssize_t)size);
    if (file < 0 || close(file) != 0 || !written) {
        perror(path);
        _exit(LIMN_EXIT_FAILED);
    }
    return path;
}

const char *fuzz_check_error(const limn_error *error) {
    if (!error->message[0] || !error->exit_code) return "refused without a sentence";
    if (strpbrk(error->message, "\r\n")) return "an error of several lines";
    return limn_utf8_valid(error->message, strlen(error->message)) ? NULL : "an error that is not UTF-8";
}

/* Read by the address sanitizer, where it is built in: an allocation that is too large fails, as it does without it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

/* Read by the leak sanitizer: clang's OpenMP forgets at a fork what it had allocated before, and HDF5 keeps what it had
 * allocated for a file that it finds damaged. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libomp\nleak:libhdf5";
}

/* ---------------------------------------------------------------- command line */

static bool parse_number(const char *text, uint64_t *out) {
    char *end;
    *out = strtoull(text, &end, 10);
    return *text && !*end;
}

static bool parse(int argc, char **argv, fuzz_request *out) {
    const char *findings = NULL, *slash = strrchr(argv[0], '/');
    bool counted = false, ok = true;
    out->program = argv[0];
    out->name = slash ? slash + 1 : argv[0];
    out->seed = 1;
    out->files = 1;
    for (; ok && out->files + 1 < argc && strncmp(argv[out->files], "--", 2) == 0; out->files += 2) {
        const char *name = argv[out->files], *value = argv[out->files + 1];
        if (strcmp(name, "--seed") == 0)
            ok = parse_number(value, &out->seed);
        else if (strcmp(name, "--from") == 0)
            ok = parse_number(value, &out->from);
        else if (strcmp(name, "--count") == 0)
            ok = counted = parse_number(value, &out->count);
        else if (strcmp(name, "--seconds") == 0)
            ok = parse_number(value, &out->seconds);
        else if (strcmp(name, "--corpus") == 0)
            out->corpus = value;
        else if (strcmp(name, "--findings") == 0)
            findings = value;
        else
            ok = false;
    }
    if (!counted) out->count = out->seconds ? 0 : 1000;
    snprintf(out->finding, sizeof out->finding, "%s/%s-%d", findings ? findings : ".", out->name, (int)getpid());
    return ok && (out->files >= argc || strncmp(argv[out->files], "--", 2) != 0);
}

/* ---------------------------------------------------------------- running */

static int run_files(char **files, fuzz_target target) {
    int exit_code = LIMN_EXIT_DONE;
    for (; *files; files++) {
        size_t size;
        limn_error error = {0};
        char *data = limn_file_read(*files, (size_t)1 << 30, &size, &error);
        char *exact = data ? malloc(size ? size : 1) : NULL; /* without the NUL that follows the contents */
        if (exact) memcpy(exact, data, size);
        free(data);
        const char *complaint = exact ? target(exact, size) : error.message;
        if (complaint) {
            fprintf(stderr, "%s: %s\n", *files, complaint);
            exit_code = LIMN_EXIT_FAILED;
        }
        free(exact);
    }
    return exit_code;
}

static pid_t child;

static void stop_child(int number) {
    if (child > 0) kill(child, number);
}

/* Forks; the child never returns. The status is that of waitpid; -1 when there is no child. */
static int run_child(const fuzz_request *request) {
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        limn_set_threads(1); /* after the fork, at which OpenMP forgets it */
        exit(fuzz_run(request));
    }
    if (child < 0) return -1;
    int status;
    signal(SIGINT, SIG_IGN); /* the child got it too */
    signal(SIGTERM, stop_child);
    while (waitpid(child, &status, 0) != child)
        if (errno != EINTR) return -1;
    return status;
}

/* What clang's OpenMP leaves behind when a process does not end by itself. */
static void remove_openmp_mark(void) {
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/__KMP_REGISTERED_LIB_%d_%d", (int)child, (int)getuid());
    unlink(path);
}

enum { LIBFUZZER_INTERRUPTED = 72 };

static bool was_stopped(int status) {
    if (WIFEXITED(status)) return WEXITSTATUS(status) == LIBFUZZER_INTERRUPTED;
    return WIFSIGNALED(status) && (WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGTERM);
}

static int watch(fuzz_request *request) {
    request->progress = mmap(NULL, sizeof *request->progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (request->progress == MAP_FAILED) return LIMN_EXIT_FAILED;
    const double start = limn_seconds();
    const int status = run_child(request);
    const double seconds = limn_seconds() - start;
    remove_openmp_mark();
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    const bool ended = status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0, stopped = !ended && was_stopped(status);
    const bool large = ended && usage.ru_maxrss / 1024 > FUZZ_MEMORY_MAX_MIB;
    const unsigned long long done = *request->progress;
    if (!ended && !stopped) {
        fprintf(stderr, "%s: failed after %llu executions (%s %d); repeat with: %s ", request->name, done,
                WIFSIGNALED(status) ? "signal" : "exit code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                request->program);
        fuzz_print_repetition(request);
    }
    if (large) fprintf(stderr, "%s: some mutation took %ld MiB\n", request->name, usage.ru_maxrss / 1024);
    if ((ended && !large) || stopped)
        printf("%s: %s: %llu executions, %.0f a second\n", request->name, ended ? "ok" : "stopped", done,
               (double)done / (seconds > 0 ? seconds : 1));
    munmap((void *)(uintptr_t)request->progress, sizeof *request->progress);
    if (stopped) return LIMN_EXIT_INTERRUPTED;
    return ended && !large ? LIMN_EXIT_DONE : LIMN_EXIT_FAILED;
}

int fuzz_main(int argc, char **argv, fuzz_seed_maker make_seed, fuzz_target target) {
    fuzz_request request = {.make_seed = make_seed, .target = target};
    if (!parse(argc, argv, &request)) {
        fprintf(stderr, "usage: %s [--count N] [--seconds S] [--seed N] [--from N] [--corpus DIR] [--findings DIR] [FILES]\n",
                argv[0]);
        return LIMN_EXIT_USAGE;
    }
    const char *refusal = fuzz_refuse(&request);
    if (refusal) {
        fprintf(stderr, "%s: %s\n", request.name, refusal);
        return LIMN_EXIT_USAGE;
    }
    limn_set_log_level(LIMN_LOG_QUIET);
    /* In memory where there is such a place: millions of files are written, one over the other. */
    const char *base = getenv("TMPDIR");
    if (!base) base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/limn-fuzz-XXXXXX", base);
    if (!mkdtemp(folder)) {
        perror(folder);
        return LIMN_EXIT_FAILED;
    }
    request.scratch = folder;
    int exit_code = request.files < argc ? run_files(argv + request.files, target) : watch(&request);
    limn_remove_tree(folder, NULL);
    return exit_code;
}
