/* Claims on shards by several processes, on one machine or many: DIR/NNNNN.lock, locked by who makes that shard. The locks are
 * of open file descriptions (fcntl, F_OFD_SETLK): the system, or the file server, frees them when their owner dies. */
#include "download/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_lock(const char *directory, const char *name, limn_error *error) {
    char path[4096];
    if (limn_path_join(path, sizeof path, directory, name, error)) return -1;
    const int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    return lock < 0 ? limn_fail(error, "%s: cannot be opened: %s", path, strerror(errno)) : lock;
}

/* 1, 0 where another process has it, -1. */
static int try_lock(const char *directory, int lock, limn_error *error) {
    const struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(lock, F_OFD_SETLK, &whole) == 0) return 1;
    if (errno == EAGAIN || errno == EACCES) return 0;
    return limn_fail(
        error,
        "%s: the file system of --coordinate does not lock files: %s; give a folder of one that does (NFS with its "
        "lock service, Lustre mounted with -o flock)",
        directory, strerror(errno));
}

int claim_take(const char *directory, uint64_t number, int *out, limn_error *error) {
    char name[64];
    snprintf(name, sizeof name, "%05llu.lock", (unsigned long long)number);
    const int lock = open_lock(directory, name, error);
    const int got = lock < 0 ? -1 : try_lock(directory, lock, error);
    if (got != 1) claim_release(lock);
    *out = got == 1 ? lock : -1;
    return got;
}

/* The time of the file server, so that clocks of several machines do not matter. */
static int note(int lock, struct timespec *out, limn_error *error) {
    struct stat status;
    if (pwrite(lock, "\n", 1, 0) != 1 || fstat(lock, &status))
        return limn_fail(error, "the folder of --coordinate cannot be written: %s", strerror(errno));
    *out = status.st_mtim;
    return 0;
}

int claim_configuration(const char *directory, int *out, struct timespec *now, limn_error *error) {
    const struct timespec moment = {.tv_nsec = 100 * 1000 * 1000};
    const int lock = open_lock(directory, "download.lock", error);
    int got = lock < 0 || note(lock, now, error) ? -1 : 0;
    for (size_t turns = 0; got == 0; turns++) {
        got = try_lock(directory, lock, error);
        if (got) break;
        if (limn_stop_requested()) got = limn_fail(error, "stopped while another process counts the rows of the lists");
        if (turns == 20) limn_log(LIMN_LOG_INFO, "waiting for another process, which counts the rows of the lists");
        nanosleep(&moment, NULL);
    }
    if (got != 1) claim_release(lock);
    *out = got == 1 ? lock : -1;
    return got == 1 ? 0 : -1;
}

void claim_release(int claim) {
    if (claim >= 0) close(claim);
}

int claim_note(int claim, limn_error *error) {
    struct timespec ignored;
    return claim < 0 ? 0 : note(claim, &ignored, error);
}

bool claim_noted_since(int claim, const struct timespec *since) {
    struct stat status;
    if (fstat(claim, &status) || status.st_size == 0) return false;
    return status.st_mtim.tv_sec > since->tv_sec ||
           (status.st_mtim.tv_sec == since->tv_sec && status.st_mtim.tv_nsec >= since->tv_nsec);
}
