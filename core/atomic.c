/* Files that are whole or not there. */
#include "core/core.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int limn_atomic_name(limn_atomic_file *file, const char *path, limn_error *error) {
    memset(file, 0, sizeof *file);
    const char *slash = strrchr(path, '/');
    size_t folder = slash ? (size_t)(slash + 1 - path) : 0;
    const char *name = path + folder;
    if (!*name) return limn_fail(error, "%s: a file's name is expected, not a folder's", path);
    int written = snprintf(file->temporary, sizeof file->temporary, "%.*s.%s.tmp-%ld", (int)folder, path, name, (long)getpid());
    if (written < 0 || (size_t)written >= sizeof file->temporary) {
        memset(file, 0, sizeof *file);
        return limn_fail(error, "a path is too long: %.100s…", path);
    }
    snprintf(file->path, sizeof file->path, "%s", path);
    return 0;
}

int limn_atomic_open(limn_atomic_file *file, const char *path, limn_error *error) {
    if (limn_atomic_name(file, path, error)) return -1;
    file->stream = fopen(file->temporary, "wbe");
    if (!file->stream) {
        limn_fail(error, "%s: cannot write: %s", path, strerror(errno));
        memset(file, 0, sizeof *file);
        return -1;
    }
    return 0;
}

void limn_atomic_discard(limn_atomic_file *file) {
    if (file->stream) fclose(file->stream);
    if (file->temporary[0]) unlink(file->temporary);
    memset(file, 0, sizeof *file);
}

/* Notes what went wrong (errno) before the clean-up can change it. */
static int give_up(limn_atomic_file *file, const char *what, limn_error *error) {
    int why = errno;
    limn_fail(error, "%s: %s: %s", file->path, what, strerror(why));
    limn_atomic_discard(file);
    return -1;
}

int limn_sync_folder(const char *path, limn_error *error) {
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), why = 0;
    if (folder < 0 || fsync(folder) != 0) why = errno;
    if (folder >= 0) close(folder);
    /* Some file systems have nothing to sync for a folder and say so with EINVAL. */
    if (!why || (folder >= 0 && why == EINVAL)) return 0;
    limn_fail(error, "%s: cannot be flushed to disk: %s", path, strerror(why));
    errno = why;
    return -1;
}

static int sync_folder_of(const char *path) {
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        slash[slash == folder] = '\0';
    return limn_sync_folder(folder, NULL);
}

static int rename_into_place(limn_atomic_file *file, limn_error *error) {
    if (rename(file->temporary, file->path) != 0) return give_up(file, "cannot rename into place", error);
    file->temporary[0] = '\0';
    if (sync_folder_of(file->path) != 0) return give_up(file, "cannot sync its folder", error);
    memset(file, 0, sizeof *file);
    return 0;
}

int limn_atomic_commit(limn_atomic_file *file, limn_error *error) {
    if (!file->stream) return limn_fail(error, "a file was committed that is not open");
    bool earlier = ferror(file->stream) != 0;
    if (fflush(file->stream) != 0) return give_up(file, "cannot write", error);
    if (earlier) {
        errno = ENOSPC; /* the call that failed is long past; a full disk is by far the likeliest */
        return give_up(file, "a write failed", error);
    }
    if (fsync(fileno(file->stream)) != 0) return give_up(file, "cannot write to disk", error);
    FILE *stream = file->stream;
    file->stream = NULL;
    if (fclose(stream) != 0) return give_up(file, "cannot close", error);
    return rename_into_place(file, error);
}

int limn_atomic_publish(limn_atomic_file *file, limn_error *error) {
    int descriptor = open(file->temporary, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return give_up(file, "cannot open what was written", error);
    int result = fsync(descriptor), why = errno;
    close(descriptor);
    errno = why;
    if (result != 0) return give_up(file, "cannot write to disk", error);
    return rename_into_place(file, error);
}

int limn_atomic_write(const char *path, const void *data, size_t size, limn_error *error) {
    limn_atomic_file file;
    if (limn_atomic_open(&file, path, error)) return -1;
    if (size && fwrite(data, 1, size, file.stream) != size) return give_up(&file, "cannot write", error);
    return limn_atomic_commit(&file, error);
}

int limn_atomic_copy(const char *from, const char *to, limn_error *error) {
    limn_mapping mapping;
    if (limn_map(&mapping, from, error)) return -1;
    int status = limn_atomic_write(to, mapping.data, mapping.size, error);
    limn_unmap(&mapping);
    return status;
}

/* The process number in ".NAME.tmp-PID", 0 when the name has another form. */
static long temporary_owner(const char *name) {
    if (name[0] != '.') return 0;
    const char *mark = NULL;
    for (const char *next = name; (next = strstr(next, ".tmp-")); next++) mark = next;
    if (!mark || mark == name) return 0;
    const char *digits = mark + 5;
    if (!*digits || strspn(digits, "0123456789") != strlen(digits)) return 0;
    return strtol(digits, NULL, 10);
}

void limn_remove_temporaries(const char *directory) {
    DIR *folder = opendir(directory);
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        long owner = temporary_owner(entry->d_name);
        if (owner <= 0) continue;
        /* Another live process (a second part of the same work) may be writing it. Our own number is a dead namesake's,
         * since this is called before we write. */
        if (owner != getpid() && (kill((pid_t)owner, 0) == 0 || errno == EPERM)) continue;
        char path[4096];
        if (limn_path_join(path, sizeof path, directory, entry->d_name, NULL) == 0) unlink(path);
    }
    closedir(folder);
}
