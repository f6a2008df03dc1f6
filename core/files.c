/* Folders, whole files, mappings, locks. */
#include "core/core.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int limn_make_directories(const char *path, limn_error *error) {
    char part[4096];
    size_t length = strlen(path);
    if (length == 0) return limn_fail(error, "a folder's name is empty");
    if (length >= sizeof part) return limn_fail(error, "a folder's name is too long: %.100s…", path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) == 0) continue;
        int why = errno;
        struct stat found;
        /* Asked of an existing folder, mkdir may answer EEXIST, EROFS or EACCES: what counts is that it is there. */
        if (stat(part, &found) == 0 && S_ISDIR(found.st_mode)) continue;
        return limn_fail(error, "%s: cannot make this folder: %s", part, strerror(why));
    }
    return 0;
}

bool limn_file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

int limn_find_one(const char *directory, const char *pattern, char out_path[4096], limn_error *error) {
    char escaped[4096], whole[4096];
    size_t used = 0;
    glob_t found;
    if (2 * strlen(directory) >= sizeof escaped) return limn_fail(error, "a path is too long: %.100s…", directory);
    for (const char *c = directory; *c; c++) { /* only `pattern` is one */
        if (strchr("*?[]\\", *c)) escaped[used++] = '\\';
        escaped[used++] = *c;
    }
    escaped[used] = '\0';
    if (limn_path_join(whole, sizeof whole, escaped, pattern, error)) return -1;
    if (glob(whole, 0, NULL, &found) != 0) return 0;
    int status = 1;
    if (found.gl_pathc > 1)
        status = limn_fail(error, "%s: both %s and %s could be meant; name the file, or keep one of them there", directory,
                           found.gl_pathv[0], found.gl_pathv[1]);
    else if (strlen(found.gl_pathv[0]) >= 4096)
        status = limn_fail(error, "%s: the path is too long", directory);
    else
        strcpy(out_path, found.gl_pathv[0]);
    globfree(&found);
    return status;
}

char *limn_file_read(const char *path, size_t limit, size_t *out_size, limn_error *error) {
    FILE *stream = fopen(path, "rb");
    if (!stream) {
        limn_fail(error, "%s: %s", path, strerror(errno));
        return NULL;
    }
    limn_buffer buffer = {0};
    char chunk[65536];
    size_t got;
    int failed = 0;
    while (!failed && (got = fread(chunk, 1, sizeof chunk, stream)) > 0) {
        if (got > limit - buffer.size)
            failed = limn_fail(error, "%s: larger than the %zu bytes allowed here", path, limit);
        else
            failed = limn_buffer_append(&buffer, chunk, got, error);
    }
    if (!failed && ferror(stream)) failed = limn_fail(error, "%s: cannot read: %s", path, strerror(errno));
    if (!failed && !buffer.data) failed = limn_buffer_append(&buffer, "", 0, error);
    fclose(stream);
    if (failed) {
        limn_buffer_free(&buffer);
        return NULL;
    }
    if (out_size) *out_size = buffer.size;
    return buffer.data;
}

int limn_path_join(char *out, size_t out_size, const char *directory, const char *name, limn_error *error) {
    size_t length = strlen(directory);
    const char *slash = length == 0 || directory[length - 1] == '/' ? "" : "/";
    int written = snprintf(out, out_size, "%s%s%s", directory, slash, name);
    if (written < 0 || (size_t)written >= out_size)
        return limn_fail(error, "a path is too long: %.100s…/%.100s", directory, name);
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status, (void)type, (void)walk;
    return remove(path);
}

int limn_remove_tree(const char *path, limn_error *error) {
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        return limn_fail(error, "%s: cannot remove: %s", path, strerror(errno));
    return 0;
}

/* ---------------------------------------------------------------- patterns */

/* Paths and the table that points at them are one block, so that limn_strings_free frees both. */
static int pack_strings(char **paths, size_t count, limn_strings *out, limn_error *error) {
    size_t bytes = count * sizeof(char *);
    for (size_t i = 0; i < count; i++) bytes += strlen(paths[i]) + 1;
    out->items = malloc(bytes ? bytes : 1);
    if (!out->items) return limn_fail(error, "out of memory for %zu file names", count);
    char *to = (char *)(out->items + count);
    for (size_t i = 0; i < count; i++) {
        out->items[i] = to;
        to = stpcpy(to, paths[i]) + 1;
    }
    out->count = count;
    return 0;
}

int limn_expand_paths(const limn_strings *patterns, limn_strings *out_paths, limn_error *error) {
    *out_paths = (limn_strings){0};
    glob_t found = {0};
    int flags = GLOB_BRACE | GLOB_NOMAGIC, failed = 0;
    for (size_t i = 0; i < patterns->count && !failed; i++) {
        const char *pattern = patterns->items[i];
        int result = glob(pattern, flags, NULL, &found);
        if (result == GLOB_NOMATCH)
            failed = limn_fail(error, "%s: no file matches this pattern", pattern);
        else if (result != 0)
            failed = limn_fail(error, "%s: cannot look for files: %s", pattern,
                               result == GLOB_NOSPACE ? "out of memory" : strerror(errno));
        flags |= GLOB_APPEND;
    }
    if (!failed) failed = pack_strings(found.gl_pathv, found.gl_pathc, out_paths, error);
    if (patterns->count) globfree(&found);
    return failed;
}

int limn_expand_folders(const limn_strings *given, const char *ending, limn_strings *out_paths, limn_error *error) {
    *out_paths = (limn_strings){0};
    limn_strings patterns = {.items = limn_allocate(given->count, sizeof *patterns.items, error)};
    limn_buffer *owned = limn_allocate(given->count, sizeof *owned, error);
    int failed = patterns.items && owned ? 0 : -1;
    for (size_t i = 0; !failed && i < given->count; i++) {
        struct stat status;
        bool folder = stat(given->items[i], &status) == 0 && S_ISDIR(status.st_mode);
        if (folder) failed = limn_buffer_printf(&owned[i], error, "%s/*%s", given->items[i], ending);
        patterns.items[patterns.count++] = folder ? owned[i].data : given->items[i];
    }
    if (!failed) failed = limn_expand_paths(&patterns, out_paths, error);
    for (size_t i = 0; owned && i < given->count; i++) limn_buffer_free(&owned[i]);
    free(owned);
    limn_strings_free(&patterns);
    return failed;
}

/* ---------------------------------------------------------------- locks */

const char *limn_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int limn_find_same_name(const limn_strings *paths, const char **out_name, limn_error *error) {
    const char **names = limn_allocate(paths->count, sizeof *names, error);
    if (!names) return -1;
    int found = 0;
    for (size_t i = 0; i < paths->count; i++) names[i] = limn_base_name(paths->items[i]);
    qsort(names, paths->count, sizeof *names, compare_names);
    for (size_t i = 1; !found && i < paths->count; i++) {
        found = strcmp(names[i - 1], names[i]) == 0;
        *out_name = names[i];
    }
    free(names);
    return found;
}

bool limn_any_in_folder(const limn_strings *paths, const char *folder) {
    char wanted[PATH_MAX], found[PATH_MAX], given[PATH_MAX];
    if (!realpath(folder, wanted)) return false;
    for (size_t i = 0; i < paths->count; i++) {
        const char *path = paths->items[i];
        const size_t length = (size_t)(limn_base_name(path) - path);
        snprintf(given, sizeof given, "%.*s", length ? (int)length : 1, length ? path : ".");
        if (realpath(given, found) && strcmp(found, wanted) == 0) return true;
    }
    return false;
}

static int open_lock(const char *directory, char path[4096], int *out, limn_error *error) {
    if (limn_path_join(path, 4096, directory, ".lock", error)) return -1;
    *out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    return *out < 0 ? limn_fail(error, "%s: cannot open the lock: %s", path, strerror(errno)) : 0;
}

/* The holder is noted only for others' messages: a full disk must not keep anyone from the lock itself. */
static void note_holder(int lock, const char *path, const char *holder) {
    const ssize_t length = (ssize_t)strlen(holder);
    if (ftruncate(lock, 0) == 0 && pwrite(lock, holder, (size_t)length, 0) != length)
        limn_log(LIMN_LOG_DEBUG, "%s: could not note who holds it", path);
}

int limn_lock(const char *directory, int *out_lock, limn_error *error) {
    char path[4096], holder[32] = {0};
    int lock;
    if (open_lock(directory, path, &lock, error)) return -1;
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        int why = errno;
        ssize_t got = read(lock, holder, sizeof holder - 1);
        close(lock);
        if (why != EWOULDBLOCK) return limn_fail(error, "%s: cannot lock: %s", path, strerror(why));
        holder[got > 0 ? strcspn(holder, "\n") : 0] = '\0';
        return limn_fail(error, "%s: in use by process %s; wait for it to end, or stop it", directory,
                         holder[0] ? holder : "unknown");
    }
    snprintf(holder, sizeof holder, "%ld\n", (long)getpid());
    note_holder(lock, path, holder);
    *out_lock = lock;
    return 0;
}

int limn_lock_shared(const char *directory, const char *option, int *out_lock, limn_error *error) {
    char path[4096], holder[64];
    int lock;
    if (open_lock(directory, path, &lock, error)) return -1;
    if (flock(lock, LOCK_SH | LOCK_NB) != 0) {
        const int why = errno;
        close(lock);
        return why == EWOULDBLOCK
                   ? limn_fail(error, "%s: in use by a process without %s; wait for it to end, or stop it", directory, option)
                   : limn_fail(error, "%s: cannot lock: %s", path, strerror(why));
    }
    snprintf(holder, sizeof holder, "of %s\n", option);
    note_holder(lock, path, holder);
    *out_lock = lock;
    return 0;
}

void limn_unlock(int lock) {
    if (lock >= 0) close(lock);
}

/* ---------------------------------------------------------------- mappings */

int limn_map(limn_mapping *mapping, const char *path, limn_error *error) {
    *mapping = (limn_mapping){0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return limn_fail(error, "%s: %s", path, strerror(errno));
    struct stat status;
    int failed = 0;
    if (fstat(file, &status) != 0)
        failed = limn_fail(error, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(status.st_mode))
        failed = limn_fail(error, "%s: not a file", path);
    if (!failed && status.st_size == 0) mapping->data = (const unsigned char *)""; /* a pointer that may be added to */
    if (!failed && status.st_size > 0) {
        void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0);
        if (data == MAP_FAILED) {
            failed = limn_fail(error, "%s: cannot map %lld bytes: %s", path, (long long)status.st_size, strerror(errno));
        } else {
            mapping->data = data;
            mapping->size = (size_t)status.st_size;
        }
    }
    close(file);
    return failed;
}

void limn_forget(const void *data, size_t size) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)data + page - 1) / page * page, end = ((uintptr_t)data + size) / page * page;
    if (end > begin) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void limn_unmap(limn_mapping *mapping) {
    if (mapping->size > 0) munmap((void *)(uintptr_t)mapping->data, mapping->size);
    *mapping = (limn_mapping){0};
}
