/* Files that grow by whole pieces, and outlive a full disk. */
#include "core/core.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const size_t MOST_WAITING = (size_t)64 << 20;

int limn_append_open(limn_append_file *file, const char *path, limn_error *error) {
    *file = (limn_append_file){.descriptor = -1};
    if (snprintf(file->path, sizeof file->path, "%s", path) >= (int)sizeof file->path)
        return limn_fail(error, "%s: the name is too long", path);
    file->descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    off_t end = file->descriptor >= 0 ? lseek(file->descriptor, 0, SEEK_END) : -1;
    if (end >= 0) {
        file->end = (uint64_t)end;
        return 0;
    }
    limn_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
    if (file->descriptor >= 0) close(file->descriptor);
    file->descriptor = -1;
    return -1;
}

/* All that waits, or nothing of it; 0 or errno. */
static int write_waiting(limn_append_file *file) {
    size_t done = 0;
    while (done < file->waiting.size) {
        ssize_t written =
            pwrite(file->descriptor, file->waiting.data + done, file->waiting.size - done, (off_t)(file->end + done));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            int why = written < 0 ? errno : ENOSPC;
            if (ftruncate(file->descriptor, (off_t)file->end)) limn_log(LIMN_LOG_DEBUG, "%s: could not be cut", file->path);
            return why;
        }
        done += (size_t)written;
    }
    file->end += done;
    file->waiting.size = 0;
    return 0;
}

int limn_append(limn_append_file *file, const void *data, size_t size, limn_error *error) {
    if (limn_buffer_append(&file->waiting, data, size, error)) return -1;
    int why = write_waiting(file);
    if (why == 0) {
        if (file->stuck) limn_log(LIMN_LOG_INFO, "%s: is written again, with all that waited", file->path);
        file->stuck = false;
        return 0;
    }
    if (file->waiting.size > MOST_WAITING)
        return limn_fail(error, "%s: cannot be written: %s; %zu bytes wait to be written by now, which is the most", file->path,
                         strerror(why), file->waiting.size);
    if (!file->stuck)
        limn_log(LIMN_LOG_WARNING, "%s: cannot be written: %s; make room: it is tried again", file->path, strerror(why));
    file->stuck = true;
    return 0;
}

int limn_append_close(limn_append_file *file, limn_error *error) {
    if (file->descriptor < 0) return 0;
    int why = write_waiting(file), status = 0;
    if (close(file->descriptor) && !why) why = errno;
    if (why) status = limn_fail(error, "%s: the end of it cannot be written: %s", file->path, strerror(why));
    limn_buffer_free(&file->waiting);
    *file = (limn_append_file){.descriptor = -1};
    return status;
}
