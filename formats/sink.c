/* Large files at the speed of the disk: the space is taken first, and what is written is sent on to the disk early, so that
 * the fsync at the end has little left to do. Everything goes through a small buffer that stays in the cache, so that the
 * system gets whole aligned pages: half its time, for a copy that costs a tenth of it. Writing one file with several threads
 * is no faster, since the file's lock is held during a write. */
#include "formats/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

enum { ROOM = 1 << 20, START_EVERY = 16 << 20, PART = 64 << 10 };

static const char *size_text(size_t bytes, char out[32]) {
    if (bytes < 10000000)
        snprintf(out, 32, "%zu bytes", bytes);
    else
        snprintf(out, 32, "%.1f GB", (double)bytes / 1e9);
    return out;
}

static int fail_full(const tensor_sink *sink, limn_error *error) {
    char wanted[32], free_text[32];
    struct statvfs disk;
    if (ftruncate(sink->descriptor, 0) != 0)
        return limn_fail(error, "%s: the disk is full", sink->path); /* what it took counts */
    size_t available = fstatvfs(sink->descriptor, &disk) == 0 ? (size_t)disk.f_bavail * disk.f_frsize : 0;
    return limn_fail(error, "%s: the disk is too full: %s are needed and %s are free; make room, or write elsewhere",
                     sink->path, size_text(sink->size, wanted), size_text(available, free_text));
}

static int fail_write(const tensor_sink *sink, int why, limn_error *error) {
    if (why == ENOSPC) return fail_full(sink, error);
    return limn_fail(error, "%s: cannot write: %s", sink->path, strerror(why));
}

/* Where the file system cannot take the space, what is free is looked at: others may take it in the meantime. */
static int take_space(tensor_sink *sink, limn_error *error) {
    struct statvfs disk;
    if (sink->size == 0 || fallocate(sink->descriptor, 0, 0, (off_t)sink->size) == 0) return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL && errno != EPERM) return fail_write(sink, errno, error);
    if (fstatvfs(sink->descriptor, &disk) == 0 && disk.f_bavail < sink->size / disk.f_frsize) return fail_full(sink, error);
    return 0;
}

int sink_open(tensor_sink *sink, const char *path, size_t size, limn_error *error) {
    *sink = (tensor_sink){.descriptor = -1, .size = size, .until_break = SIZE_MAX};
    snprintf(sink->path, sizeof sink->path, "%s", path);
    if (size > SINK_BYTES_MAX) return limn_fail(error, "%s: the tensors are too large: %zu bytes", path, size);
    if (limn_atomic_name(&sink->atomic, path, error)) return -1;
    sink->descriptor = open(sink->atomic.temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (sink->descriptor < 0) {
        sink->atomic.temporary[0] = '\0';
        return limn_fail(error, "%s: cannot write: %s", path, strerror(errno));
    }
    sink->room = aligned_alloc(4096, ROOM);
    if (!sink->room) return limn_fail(error, "%s: out of memory", path);
    return take_space(sink, error);
}

static int write_at(tensor_sink *sink, size_t at, const unsigned char *data, size_t bytes, limn_error *error) {
    while (bytes > 0) {
        ssize_t done = pwrite(sink->descriptor, data, bytes, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return fail_write(sink, done < 0 ? errno : ENOSPC, error);
        data += done;
        at += (size_t)done;
        bytes -= (size_t)done;
    }
    return 0;
}

/* Writes what the buffer holds, and empties it when it is full: so it always begins at a multiple of its size. */
static int flush(tensor_sink *sink, limn_error *error) {
    if (write_at(sink, sink->base + sink->sent, sink->room + sink->sent, sink->used - sink->sent, error)) return -1;
    sink->sent = sink->used;
    if (sink->used < ROOM) return 0;
    sink->base += ROOM;
    sink->used = sink->sent = 0;
    if (sink->base - sink->started >= START_EVERY) {
        /* Only a start: whether it works shows in fsync. */
        (void)sync_file_range(sink->descriptor, (off_t)sink->started, (off_t)(sink->base - sink->started),
                              SYNC_FILE_RANGE_WRITE);
        sink->started = sink->base;
    }
    return 0;
}

int sink_put(tensor_sink *sink, const void *data, size_t bytes, limn_error *error) {
    const unsigned char *from = data;
    if (bytes > sink->size - sink->at) return limn_fail(error, "%s: more bytes than were announced", sink->path);
    while (bytes > 0) {
        size_t part = bytes < ROOM - sink->used ? bytes : ROOM - sink->used;
        memcpy(sink->room + sink->used, from, part);
        sink->used += part;
        sink->at += part;
        from += part;
        bytes -= part;
        if (sink->used == ROOM && flush(sink, error)) return -1;
    }
    return 0;
}

int sink_put_at(tensor_sink *sink, size_t at, const void *data, size_t bytes, limn_error *error) {
    if (at > sink->at || bytes > sink->at - at) return limn_fail(error, "%s: bytes put before they were there", sink->path);
    if (at >= sink->base + sink->sent) {
        memcpy(sink->room + (at - sink->base), data, bytes);
        return 0;
    }
    return flush(sink, error) || write_at(sink, at, data, bytes, error) ? -1 : 0;
}

int tensor_sink_write(tensor_sink *sink, const void *data, size_t bytes, limn_error *error) {
    const unsigned char *from = data;
    if (bytes > sink->left) return limn_fail(error, "%s: a tensor was given more bytes than its shape needs", sink->path);
    while (bytes > 0) {
        if (sink->until_break == 0 && sink->on_break(sink, error)) return -1;
        size_t part = bytes < sink->until_break ? bytes : sink->until_break;
        if (part > PART) part = PART; /* stays in the cache between the two passes over it */
        if (sink->checked) sink->checksum = (uint32_t)crc32(sink->checksum, from, (uInt)part);
        if (sink_put(sink, from, part, error)) return -1;
        from += part;
        bytes -= part;
        sink->left -= part;
        if (sink->until_break != SIZE_MAX) sink->until_break -= part;
    }
    return 0;
}

int sink_put_tensor(tensor_sink *sink, const tensor *tensors, size_t index, size_t bytes, tensor_producer producer,
                    void *context, limn_error *error) {
    sink->left = bytes;
    sink->checksum = 0;
    int failed = producer(context, index, sink, error);
    if (failed && error && !error->message[0])
        limn_fail(error, "%s: tensor '%s' was not made", sink->path, tensors[index].name);
    if (!failed && sink->left)
        failed = limn_fail(error, "%s: tensor '%s' was given %zu bytes too few", sink->path, tensors[index].name, sink->left);
    return failed ? -1 : 0;
}

int sink_close(tensor_sink *sink, int failed, limn_error *error) {
    if (!failed && sink->at != sink->size)
        failed = limn_fail(error, "%s: %zu bytes were announced but %zu written", sink->path, sink->size, sink->at);
    if (!failed) failed = flush(sink, error);
    if (!failed && fsync(sink->descriptor) != 0) failed = fail_write(sink, errno, error);
    if (sink->descriptor >= 0 && close(sink->descriptor) != 0 && !failed) failed = fail_write(sink, errno, error);
    free(sink->room);
    if (!failed) return limn_atomic_publish(&sink->atomic, error);
    limn_atomic_discard(&sink->atomic);
    return -1;
}
