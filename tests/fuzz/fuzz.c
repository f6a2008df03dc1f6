/* Mutations, the child that reads them, and the report. */
#include "tests/fuzz/fuzz.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEDS_MAX = 16, OPERATIONS_MAX = 8, PIECE_MAX = 64, INPUT_MAX = 4 << 20, SECONDS_MAX = 20 };
static const long MEMORY_MAX_KIB = 2 << 20;

static char folder[256];

const char *fuzz_file(const char *name, const char *data, size_t size) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *stream = fopen(path, "wb");
    bool written = stream && fwrite(data, 1, size, stream) == size;
    if (!stream || fclose(stream) != 0 || !written) {
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

/* Read by the leak sanitizer: HDF5 keeps what it had allocated for a file that it finds damaged. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5";
}

/* ---------------------------------------------------------------- mutations */

/* A sequence of choices that (seed, mutation) decides. */
typedef struct {
    uint64_t seed, stream, next;
} choices;

static size_t choose(choices *self, size_t bound) {
    return (size_t)limn_random_below(self->seed, self->stream, self->next++, bound);
}

/* Numbers that sit at the edges of what code expects. */
static uint64_t edge_number(choices *self) {
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     0xfffffffffffffff8,
                                     0xffffffffffffffff};
    return edges[choose(self, sizeof edges / sizeof *edges)];
}

static void put_number(choices *self, char *data, size_t size) {
    uint64_t number = choose(self, 2) ? edge_number(self) : choose(self, 65536);
    size_t bytes = (size_t)1 << choose(self, 4);
    bool big_endian = choose(self, 2);
    if (bytes > size) return;
    size_t at = choose(self, size - bytes + 1);
    for (size_t i = 0; i < bytes; i++) data[at + i] = (char)(number >> (8 * (big_endian ? bytes - 1 - i : i)));
}

static void erase(limn_buffer *buffer, size_t at, size_t count) {
    memmove(buffer->data + at, buffer->data + at + count, buffer->size - at - count);
    buffer->size -= count;
}

static void insert(limn_buffer *buffer, size_t at, const char *piece, size_t count) {
    size_t before = buffer->size;
    if (before + count > INPUT_MAX || limn_buffer_append(buffer, piece, count, NULL)) return;
    memmove(buffer->data + at + count, buffer->data + at, before - at);
    memcpy(buffer->data + at, piece, count);
}

/* A piece of the source: its place and a length of at most PIECE_MAX. */
static size_t choose_piece(choices *self, size_t size, size_t *out_at) {
    *out_at = choose(self, size);
    size_t room = size - *out_at < PIECE_MAX ? size - *out_at : PIECE_MAX;
    return 1 + choose(self, room);
}

static void mutate_once(choices *self, limn_buffer *buffer, const limn_buffer *other) {
    char piece[PIECE_MAX];
    size_t from, length;
    if (buffer->size == 0) return;
    size_t at = choose(self, buffer->size);
    switch (choose(self, 10)) {
    case 0:
    case 1:
        buffer->data[at] = (char)(buffer->data[at] ^ 1 << choose(self, 8));
        break;
    case 2:
        buffer->data[at] = (char)choose(self, 256);
        break;
    case 3:
    case 4:
        put_number(self, buffer->data, buffer->size);
        break;
    case 5: /* a digit for a digit: texts stay texts, numbers change */
        for (size_t i = 0; i < buffer->size; i++, at = (at + 1) % buffer->size)
            if (buffer->data[at] >= '0' && buffer->data[at] <= '9') {
                buffer->data[at] = (char)('0' + choose(self, 10));
                break;
            }
        break;
    case 6:
        length = choose_piece(self, buffer->size, &from);
        erase(buffer, from, length);
        break;
    case 7:
        length = choose_piece(self, buffer->size, &from);
        memcpy(piece, buffer->data + from, length);
        insert(buffer, at, piece, length);
        break;
    case 8:
        if (other->size == 0) break;
        length = choose_piece(self, other->size, &from);
        insert(buffer, at, other->data + from, length);
        break;
    case 9: /* cutting off the end says much about a reader, but leaves little to the rest: seldom */
        if (choose(self, 4) == 0) buffer->size = at;
        break;
    }
}

static void mutate(uint64_t seed, uint64_t index, const limn_buffer *seeds, size_t seed_count, limn_buffer *out) {
    choices self = {.seed = seed, .stream = limn_random_stream("fuzz") + index};
    const limn_buffer *base = &seeds[choose(&self, seed_count)], *other = &seeds[choose(&self, seed_count)];
    out->size = 0;
    if (limn_buffer_append(out, base->data, base->size, NULL)) _exit(LIMN_EXIT_FAILED);
    size_t operations = 1 + choose(&self, OPERATIONS_MAX);
    for (size_t i = 0; i < operations; i++) mutate_once(&self, out, other);
    out->data[out->size] = '\0';
}

/* ---------------------------------------------------------------- running */

typedef struct {
    uint64_t seed, from, count;
    int files; /* index of the first file in argv; argc when there is none */
} request;

static bool parse(int argc, char **argv, request *out) {
    *out = (request){.seed = 1, .from = 0, .count = 1000, .files = 1};
    for (; out->files + 1 < argc && strncmp(argv[out->files], "--", 2) == 0; out->files += 2) {
        const char *name = argv[out->files];
        char *end;
        uint64_t value = strtoull(argv[out->files + 1], &end, 10);
        uint64_t *to = strcmp(name, "--seed") == 0    ? &out->seed
                       : strcmp(name, "--from") == 0  ? &out->from
                       : strcmp(name, "--count") == 0 ? &out->count
                                                      : NULL;
        if (!to || *end) return false;
        *to = value;
    }
    return out->files >= argc || strncmp(argv[out->files], "--", 2) != 0;
}

/* An exact copy on the heap, without a byte of slack: a reader that looks past the end is caught by the sanitizer. */
static const char *give(fuzz_target target, const char *data, size_t size) {
    char *exact = malloc(size ? size : 1);
    if (!exact) return "no memory";
    memcpy(exact, data, size);
    const char *complaint = target(exact, size);
    free(exact);
    return complaint;
}

static int run_files(char **files, fuzz_target target) {
    int exit_code = LIMN_EXIT_DONE;
    for (; *files; files++) {
        size_t size;
        limn_error error = {0};
        char *data = limn_file_read(*files, (size_t)1 << 30, &size, &error);
        const char *complaint = data ? give(target, data, size) : error.message;
        if (complaint) {
            fprintf(stderr, "%s: %s\n", *files, complaint);
            exit_code = LIMN_EXIT_FAILED;
        }
        free(data);
    }
    return exit_code;
}

/* The child: *progress is the mutation at work, shared with the parent. */
static int run_mutations(const request *wanted, volatile uint64_t *progress, fuzz_seed_maker make_seed, fuzz_target target) {
    limn_buffer seeds[SEEDS_MAX] = {{0}}, input = {0};
    size_t seed_count = 0;
    while (seed_count < SEEDS_MAX && make_seed(seed_count, &seeds[seed_count])) seed_count++;
    const char *complaint = seed_count ? NULL : "makes no seed";
    for (size_t i = 0; i < seed_count && !complaint; i++) complaint = give(target, seeds[i].data, seeds[i].size);
    for (uint64_t i = wanted->from; i < wanted->from + wanted->count && !complaint; i++) {
        *progress = i;
        alarm(SECONDS_MAX);
        mutate(wanted->seed, i, seeds, seed_count, &input);
        complaint = give(target, input.data, input.size);
    }
    if (complaint) fprintf(stderr, "%s\n", complaint);
    for (size_t i = 0; i < seed_count; i++) limn_buffer_free(&seeds[i]);
    limn_buffer_free(&input);
    return complaint ? LIMN_EXIT_FAILED : LIMN_EXIT_DONE;
}

static int watch(const char *program, const request *wanted, fuzz_seed_maker make_seed, fuzz_target target) {
    volatile uint64_t *progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED) return LIMN_EXIT_FAILED;
    pid_t child = fork();
    if (child == 0) exit(run_mutations(wanted, progress, make_seed, target));
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child) return LIMN_EXIT_FAILED;
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    if (failed)
        fprintf(stderr, "%s: failed (%s %d); repeat with: %s --seed %llu --from %llu --count 1\n", program,
                WIFSIGNALED(status) ? "signal" : "exit code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                program, (unsigned long long)wanted->seed, (unsigned long long)*progress);
    if (!failed && usage.ru_maxrss > MEMORY_MAX_KIB) {
        fprintf(stderr, "%s: some mutation took %ld MiB\n", program, usage.ru_maxrss / 1024);
        failed = true;
    }
    if (!failed) printf("%s: ok: %llu mutations\n", program, (unsigned long long)wanted->count);
    munmap((void *)(uintptr_t)progress, sizeof *progress);
    return failed ? LIMN_EXIT_FAILED : LIMN_EXIT_DONE;
}

int fuzz_main(int argc, char **argv, fuzz_seed_maker make_seed, fuzz_target target) {
    request wanted;
    if (!parse(argc, argv, &wanted)) {
        fprintf(stderr, "usage: %s [--count N] [--seed N] [--from N] [FILES]\n", argv[0]);
        return LIMN_EXIT_USAGE;
    }
    limn_set_log_level(LIMN_LOG_QUIET);
    /* In memory where there is such a place: thousands of files are written, one over the other. */
    const char *base = getenv("TMPDIR");
    if (!base) base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/limn-fuzz-XXXXXX", base);
    if (!mkdtemp(folder)) {
        perror(folder);
        return LIMN_EXIT_FAILED;
    }
    int exit_code = wanted.files < argc ? run_files(argv + wanted.files, target) : watch(argv[0], &wanted, make_seed, target);
    limn_remove_tree(folder, NULL);
    return exit_code;
}
