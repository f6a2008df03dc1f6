/* limn: runs limn-X for `limn X`, as git does. */
#include "core/core.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char PREFIX[] = "limn-";
enum { PREFIX_LENGTH = sizeof PREFIX - 1, PROGRAMS_MAX = 64 };

/* The folder that this program lies in. */
static int own_folder(char out[PATH_MAX], limn_error *error) {
    ssize_t length = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (length <= 0) return limn_fail(error, "cannot find where this program lies: %s", strerror(errno));
    out[length] = '\0';
    *strrchr(out, '/') = '\0';
    return 0;
}

typedef struct {
    char *names[PROGRAMS_MAX + 1]; /* without the prefix, ends with NULL */
    size_t count;
} program_list;

static void add_from_folder(program_list *list, const char *folder) {
    DIR *entries = opendir(folder);
    if (!entries) return;
    for (struct dirent *entry; (entry = readdir(entries)) && list->count < PROGRAMS_MAX;) {
        char path[PATH_MAX];
        const char *name = entry->d_name + PREFIX_LENGTH;
        if (strncmp(entry->d_name, PREFIX, PREFIX_LENGTH) != 0 || strchr(name, '.')) continue;
        if (limn_path_join(path, sizeof path, folder, entry->d_name, NULL) || access(path, X_OK) != 0) continue;
        bool known = false;
        for (size_t i = 0; i < list->count; i++) known = known || strcmp(list->names[i], name) == 0;
        char *copy = known ? NULL : strdup(name);
        if (copy) list->names[list->count++] = copy;
    }
    closedir(entries);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All limn-* programs: those beside this one, then those of PATH. */
static void find_programs(program_list *list, const char *folder) {
    add_from_folder(list, folder);
    const char *path = getenv("PATH");
    while (path && *path) {
        char part[PATH_MAX];
        size_t length = strcspn(path, ":");
        if (length > 0 && length < sizeof part) {
            memcpy(part, path, length);
            part[length] = '\0';
            add_from_folder(list, part);
        }
        path += length + (path[length] == ':');
    }
    qsort(list->names, list->count, sizeof *list->names, compare_names);
}

static void print_programs(const program_list *list) {
    printf("limn: DALL-E Mini, whole: from addresses of pictures with captions to drawings\n\nusage: limn PROGRAM [options]\n\n"
           "programs:\n");
    for (size_t i = 0; i < list->count; i++) printf("  %s\n", list->names[i]);
    printf("\n'limn PROGRAM --help' says what one of them does. 'limn PROGRAM' is the same as 'limn-PROGRAM'.\n");
}

/* Becomes limn-NAME; comes back only when there is none. */
static int become(const char *folder, char **argv, limn_error *error) {
    char name[NAME_MAX + 1], path[PATH_MAX];
    if (snprintf(name, sizeof name, "%s%s", PREFIX, argv[0]) >= (int)sizeof name || strchr(argv[0], '/')) return 0;
    if (limn_path_join(path, sizeof path, folder, name, error)) return -1;
    char *given = argv[0];
    argv[0] = name;
    execv(path, argv);
    if (errno == ENOENT) execvp(name, argv);
    int why = errno;
    argv[0] = given;
    return why == ENOENT ? 0 : limn_fail(error, "cannot start %s: %s", name, strerror(why));
}

static int run(int argc, char **argv, limn_error *error) {
    char folder[PATH_MAX];
    if (own_folder(folder, error)) return -1;
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("limn %s\n", LIMN_VERSION);
        return 0;
    }
    program_list list = {0};
    const char *wanted = argc > 1 ? argv[1] : NULL;
    int failed = 0;
    if (!wanted || strcmp(wanted, "--help") == 0 || strcmp(wanted, "-h") == 0) {
        find_programs(&list, folder);
        print_programs(&list);
    } else if (wanted[0] == '-') {
        failed = limn_fail_usage(error, "unknown option %s; 'limn --help' lists the programs", wanted);
    } else {
        failed = become(folder, argv + 1, error);
        find_programs(&list, folder);
        const char *nearest = limn_nearest(wanted, (const char *const *)list.names);
        if (!failed && nearest)
            failed = limn_fail_usage(error, "there is no program '%s'; did you mean '%s'?", wanted, nearest);
        else if (!failed)
            failed = limn_fail_usage(error, "there is no program '%s'; 'limn --help' lists the programs", wanted);
    }
    for (size_t i = 0; i < list.count; i++) free(list.names[i]);
    return failed;
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
