/* Large files at the speed of the disk. Bytes are gathered in rooms; two threads write full ones while another is being filled,
 * past the page cache where the file system allows it (O_DIRECT): the processor copies each byte once, the pages of what is
 * being read stay in memory, and the fsync at the end has nothing left to do. */
#include "formats/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

/* Threads and O_DIRECT are for files of SINK_LARGE bytes or more. Rooms begin and end at multiples of any disk's block. */
enum { ROOM = 16 << 20, ROOM_ALIGNMENT = 4096, SINK_LARGE = 64 << 20, CHECKSUM_PIECE = 16 << 20 };

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

/* Returns 0 or the errno. */
static int write_whole(tensor_sink *sink, size_t at, const unsigned char *data, size_t bytes) {
    bool plain = false;
    while (bytes > 0) {
        ssize_t done = pwrite(sink->descriptor, data, bytes, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == EINVAL && !plain) { /* O_DIRECT was taken at opening, but not for writing */
            plain = true;
            if (fcntl(sink->descriptor, F_SETFL, 0) == 0) continue;
        }
        if (done <= 0) return done < 0 ? errno : ENOSPC;
        data += done;
        at += (size_t)done;
        bytes -= (size_t)done;
    }
    return 0;
}

/* ---------------------------------------------------------------- the threads that write */

static sink_room *find_room(tensor_sink *sink, int state) {
    for (size_t i = 0; i < SINK_ROOMS; i++)
        if (sink->rooms[i].bytes && (int)sink->rooms[i].state == state) return &sink->rooms[i];
    return NULL;
}

static void *write_rooms(void *context) {
    tensor_sink *sink = context;
    pthread_mutex_lock(&sink->lock);
    for (;;) {
        sink_room *room;
        while (!(room = find_room(sink, ROOM_FULL)) && !sink->ending) pthread_cond_wait(&sink->changed, &sink->lock);
        if (!room) break;
        room->state = ROOM_BEING_WRITTEN;
        pthread_mutex_unlock(&sink->lock);
        int why = write_whole(sink, room->at, room->bytes, ROOM);
        pthread_mutex_lock(&sink->lock);
        if (why && !sink->why) sink->why = why;
        room->state = ROOM_FREE;
        pthread_cond_broadcast(&sink->changed);
    }
    pthread_mutex_unlock(&sink->lock);
    return NULL;
}

static int make_room(sink_room *room) {
    void *bytes = NULL;
    if (posix_memalign(&bytes, ROOM_ALIGNMENT, ROOM)) return -1;
    *room = (sink_room){.bytes = bytes};
    return 0;
}

/* Without them everything is only slower. */
static void start_threads(tensor_sink *sink) {
    for (size_t i = 1; i < SINK_ROOMS; i++)
        if (make_room(&sink->rooms[i])) return;
    pthread_mutex_init(&sink->lock, NULL);
    pthread_cond_init(&sink->changed, NULL);
    limn_threads_start(&sink->threads, SINK_THREADS, write_rooms, sink, NULL);
}

static void end_threads(tensor_sink *sink) {
    if (!sink->threads.count) return;
    pthread_mutex_lock(&sink->lock);
    sink->ending = true;
    pthread_cond_broadcast(&sink->changed);
    pthread_mutex_unlock(&sink->lock);
    limn_threads_join(&sink->threads);
    pthread_cond_destroy(&sink->changed);
    pthread_mutex_destroy(&sink->lock);
}

/* A full room is on its way to the disk, and another is there to be filled. */
static int hand_over(tensor_sink *sink, limn_error *error) {
    sink_room *full = &sink->rooms[sink->filling], *next;
    int why;
    full->at = sink->at - sink->used;
    if (sink->threads.count) {
        pthread_mutex_lock(&sink->lock);
        full->state = ROOM_FULL;
        pthread_cond_broadcast(&sink->changed);
        while (!(next = find_room(sink, ROOM_FREE))) pthread_cond_wait(&sink->changed, &sink->lock);
        why = sink->why;
        pthread_mutex_unlock(&sink->lock);
        sink->filling = (size_t)(next - sink->rooms);
    } else {
        why = sink->why = write_whole(sink, full->at, full->bytes, ROOM);
    }
    sink->used = 0;
    return why ? fail_write(sink, why, error) : 0;
}

/* ---------------------------------------------------------------- */

int sink_open(tensor_sink *sink, const char *path, size_t size, limn_error *error) {
    *sink = (tensor_sink){.descriptor = -1, .size = size, .until_break = SIZE_MAX};
    snprintf(sink->path, sizeof sink->path, "%s", path);
    if (size > INT64_MAX) return limn_fail(error, "%s: a file of %zu bytes is too large", path, size);
    if (limn_atomic_name(&sink->atomic, path, error)) return -1;
    int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
    if (size >= SINK_LARGE) sink->descriptor = open(sink->atomic.temporary, flags | O_DIRECT, 0666);
    sink->direct = sink->descriptor >= 0;
    if (!sink->direct) sink->descriptor = open(sink->atomic.temporary, flags, 0666);
    if (sink->descriptor < 0) {
        sink->atomic.temporary[0] = '\0';
        return limn_fail(error, "%s: cannot write: %s", path, strerror(errno));
    }
    if (take_space(sink, error)) return -1;
    if (make_room(&sink->rooms[0])) return limn_fail(error, "%s: not enough memory for %d bytes to be written", path, ROOM);
    if (size >= SINK_LARGE) start_threads(sink);
    return 0;
}

int sink_put(tensor_sink *sink, const void *data, size_t bytes, limn_error *error) {
    const unsigned char *from = data;
    if (bytes > sink->size - sink->at) return limn_fail(error, "%s: more bytes than were announced", sink->path);
    while (bytes > 0) {
        size_t part = bytes < ROOM - sink->used ? bytes : ROOM - sink->used;
        memcpy(sink->rooms[sink->filling].bytes + sink->used, from, part);
        sink->used += part;
        sink->at += part;
        from += part;
        bytes -= part;
        if (sink->used == ROOM && hand_over(sink, error)) return -1;
    }
    return 0;
}

int sink_put_at(tensor_sink *sink, size_t at, const void *data, size_t bytes, limn_error *error) {
    const sink_correction head = {at, bytes};
    if (at > sink->at || bytes > sink->at - at) return limn_fail(error, "%s: bytes put before they were there", sink->path);
    return limn_buffer_append(&sink->corrections, &head, sizeof head, error) ||
                   limn_buffer_append(&sink->corrections, data, bytes, error)
               ? -1
               : 0;
}

/* What the last room holds, and what was put over other bytes: pieces of no particular size, through the page cache. */
static int write_rest(tensor_sink *sink) {
    if (sink->direct && fcntl(sink->descriptor, F_SETFL, 0) != 0) return errno;
    sink->direct = false;
    int why = sink->why;
    if (!why) why = write_whole(sink, sink->at - sink->used, sink->rooms[sink->filling].bytes, sink->used);
    for (size_t read = 0; !why && read < sink->corrections.size;) {
        sink_correction head;
        memcpy(&head, sink->corrections.data + read, sizeof head);
        read += sizeof head;
        why = write_whole(sink, head.at, (const unsigned char *)sink->corrections.data + read, head.bytes);
        read += head.bytes;
    }
    return why;
}

int tensor_sink_write(tensor_sink *sink, const void *data, size_t bytes, limn_error *error) {
    const unsigned char *from = data;
    if (bytes > sink->left) return limn_fail(error, "%s: a tensor was given more bytes than its shape needs", sink->path);
    while (bytes > 0) {
        if (sink->until_break == 0 && sink->on_break(sink, error)) return -1;
        size_t part = bytes < sink->until_break ? bytes : sink->until_break;
        if (sink->checked)
            for (size_t done = 0; done < part; done += CHECKSUM_PIECE)
                sink->checksum = (uint32_t)crc32(sink->checksum, from + done,
                                                 (uInt)(part - done < CHECKSUM_PIECE ? part - done : CHECKSUM_PIECE));
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
    end_threads(sink);
    if (!failed && sink->at != sink->size)
        failed = limn_fail(error, "%s: %zu bytes were announced but %zu written", sink->path, sink->size, sink->at);
    int why = failed ? 0 : write_rest(sink);
    if (!failed && !why && fsync(sink->descriptor) != 0) why = errno;
    if (why) failed = fail_write(sink, why, error);
    if (sink->descriptor >= 0 && close(sink->descriptor) != 0 && !failed) failed = fail_write(sink, errno, error);
    for (size_t i = 0; i < SINK_ROOMS; i++) free(sink->rooms[i].bytes);
    limn_buffer_free(&sink->corrections);
    if (!failed) return limn_atomic_publish(&sink->atomic, error);
    limn_atomic_discard(&sink->atomic);
    return -1;
}
