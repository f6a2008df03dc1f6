#include "tests/dataset/tools.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 64, IN_PATHS = 256 };

static void must(bool condition, const char *what) {
    if (condition) return;
    perror(what);
    abort();
}

void make_folder(char out[4096]) {
    const char *base = getenv("TMPDIR");
    snprintf(out, 4096, "%s/limn-test-XXXXXX", base && *base ? base : "/tmp");
    must(mkdtemp(out) != NULL, out);
}

const char *in(const char *folder, const char *name) {
    static char paths[IN_PATHS][4096];
    static size_t turn;
    char *path = paths[turn++ % IN_PATHS];
    must(limn_path_join(path, sizeof paths[0], folder, name, NULL) == 0, name);
    return path;
}

void write_file(const char *folder, const char *name, const void *data, size_t size) {
    FILE *file = fopen(in(folder, name), "wb");
    must(file && fwrite(data, 1, size, file) == size && fclose(file) == 0, name);
}

void write_text(const char *folder, const char *name, const char *format, ...) {
    va_list arguments;
    FILE *file = fopen(in(folder, name), "wb");
    must(file != NULL, name);
    va_start(arguments, format);
    vfprintf(file, format, arguments);
    va_end(arguments);
    must(fclose(file) == 0, name);
}

/* ---------------------------------------------------------------- running */

static pid_t start(const char *program, const char *const *arguments, int out, int err, size_t file_bytes) {
    const char *argv[MAX_ARGUMENTS + 2] = {program};
    for (size_t i = 0; i < MAX_ARGUMENTS && arguments[i]; i++) argv[i + 1] = arguments[i];
    const pid_t process = fork();
    must(process >= 0, "fork");
    if (process == 0) {
        const struct rlimit limit = {file_bytes, file_bytes};
        if (file_bytes) {
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &limit);
        }
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        execv(argv[0], (char **)(uintptr_t)argv);
        _exit(127);
    }
    return process;
}

static char *read_all(int fd) {
    limn_buffer text = {0};
    char part[4096];
    limn_buffer_append(&text, "", 0, NULL);
    must(lseek(fd, 0, SEEK_SET) == 0, "lseek");
    for (ssize_t got; (got = read(fd, part, sizeof part)) > 0;) limn_buffer_append(&text, part, (size_t)got, NULL);
    close(fd);
    return text.data;
}

program_result run_program(const char *program, const char *const *arguments, size_t file_bytes) {
    int status;
    program_result result = {.exit_code = -1};
    FILE *out = tmpfile(), *err = tmpfile();
    must(out && err, "tmpfile");
    const double began = limn_seconds();
    const pid_t process = start(program, arguments, fileno(out), fileno(err), file_bytes);
    must(waitpid(process, &status, 0) == process, "waitpid");
    result.seconds = limn_seconds() - began;
    if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
    result.out = read_all(dup(fileno(out)));
    result.err = read_all(dup(fileno(err)));
    fclose(out);
    fclose(err);
    return result;
}

void program_result_free(program_result *self) {
    free(self->out);
    free(self->err);
}

pid_t start_program(const char *program, const char *const *arguments) {
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    must(nowhere >= 0, "/dev/null");
    const pid_t process = start(program, arguments, nowhere, nowhere, 0);
    close(nowhere);
    return process;
}

/* ---------------------------------------------------------------- looking at what was written */

static void print_into(limn_buffer *text, const char *folder, const char *before) {
    struct dirent **entries;
    const int count = scandir(folder, &entries, NULL, alphasort);
    must(count >= 0, folder);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        struct stat status;
        char sha256[65], path[4096], inside[4096];
        must(limn_path_join(path, sizeof path, folder, name, NULL) == 0, name);
        if (name[0] != '.' && !strstr(name, "stats.json")) {
            must(lstat(path, &status) == 0, path);
            snprintf(inside, sizeof inside, "%s%s/", before, name);
            if (S_ISDIR(status.st_mode)) {
                limn_buffer_printf(text, NULL, "%s\n", inside);
                print_into(text, path, inside);
            } else {
                must(limn_sha256_file(path, sha256, NULL) == 0, name);
                limn_buffer_printf(text, NULL, "%s%s %s\n", before, name, sha256);
            }
        }
        free(entries[i]);
    }
    free(entries);
}

char *folder_print(const char *folder) {
    limn_buffer text = {0};
    limn_buffer_append(&text, "", 0, NULL);
    print_into(&text, folder, "");
    return text.data;
}

size_t count_hidden(const char *folder) {
    size_t count = 0;
    DIR *open_folder = opendir(folder);
    must(open_folder != NULL, folder);
    for (struct dirent *entry; (entry = readdir(open_folder));)
        count += entry->d_name[0] == '.' && strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
                 strcmp(entry->d_name, ".lock");
    closedir(open_folder);
    return count;
}

char *tar_keys(const char *path) {
    limn_buffer keys = {0};
    tar_sample sample;
    limn_error error = {0};
    tar_reader *tar = tar_reader_open(path, &error);
    must(tar != NULL, error.message);
    limn_buffer_append(&keys, "", 0, NULL);
    int got;
    while ((got = tar_reader_next(tar, &sample, &error)) == 1)
        limn_buffer_printf(&keys, NULL, "%s%s", keys.size ? " " : "", sample.key);
    must(got == 0, error.message);
    tar_reader_close(tar);
    return keys.data;
}

json_t *tar_json(const char *path, const char *key) {
    tar_sample sample;
    json_t *found = NULL;
    tar_reader *tar = tar_reader_open(path, NULL);
    must(tar != NULL, path);
    while (!found && tar_reader_next(tar, &sample, NULL) == 1)
        if (!strcmp(sample.key, key) && sample.json) found = json_loadb(sample.json, sample.json_size, 0, NULL);
    tar_reader_close(tar);
    return found;
}

static json_t *load_stats(const char *folder, const char *shard) {
    char name[64];
    limn_error error = {0};
    snprintf(name, sizeof name, "%s.stats.json", shard);
    json_t *stats = limn_json_load(in(folder, name), &error);
    must(stats != NULL, error.message);
    return stats;
}

long stats_reason(const char *folder, const char *shard, const char *reason) {
    json_t *stats = load_stats(folder, shard);
    const long count = (long)json_integer_value(json_object_get(json_object_get(stats, "reasons"), reason));
    json_decref(stats);
    return count;
}

long stats_number(const char *folder, const char *shard, const char *key) {
    json_t *stats = load_stats(folder, shard);
    const long count = (long)json_integer_value(json_object_get(stats, key));
    json_decref(stats);
    return count;
}
