/* A shard: rows wait in a spool file in the order they come and are packed in the list's order. */
#include "download/internal.h"
#include "formats/formats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    uint64_t offset; /* of the row's parts in the spool, one after the other */
    size_t image_size, caption_size, json_size;
    size_t failed_size; /* the row's line of the table of failures; 0 for a pair */
    char reason[32];
    bool came;
} row_slot;

struct shard {
    const download_options *options;
    uint64_t number;
    char spool_path[4096];
    int spool;
    double began;

    pthread_mutex_t mutex; /* for what follows */
    uint64_t spool_size, received;
    size_t came, rows; /* rows is SIZE_MAX until the shard is ended */
    row_slot *slots;   /* (shard_size) */
};

/* ---------------------------------------------------------------- names */

void shard_key(const download_options *options, uint64_t number, size_t index, char out[64]) {
    int digits = 4;
    for (size_t last = options->shard_size - 1; last > 9999 && digits < 20; last /= 10) digits++;
    snprintf(out, 64, "%05llu%0*zu", (unsigned long long)number, digits, index);
}

int shard_path(const download_options *options, uint64_t number, const char *suffix, char out[4096], limn_error *error) {
    char name[64];
    snprintf(name, sizeof name, "%05llu.%s", (unsigned long long)number, suffix);
    return limn_path_join(out, 4096, options->output, name, error);
}

/* ---------------------------------------------------------------- filling */

shard *shard_create(const download_options *options, uint64_t number, limn_error *error) {
    char name[96];
    shard *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->options = options;
    self->number = number;
    self->spool = -1;
    self->rows = SIZE_MAX;
    self->began = limn_seconds();
    pthread_mutex_init(&self->mutex, NULL);
    self->slots = limn_allocate(options->shard_size, sizeof *self->slots, error);
    snprintf(name, sizeof name, ".%05llu.spool.tmp-%ld", (unsigned long long)number, (long)getpid());
    if (!self->slots || limn_path_join(self->spool_path, sizeof self->spool_path, options->output, name, error)) {
        self->spool_path[0] = 0;
        shard_destroy(self);
        return NULL;
    }
    self->spool = open(self->spool_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (self->spool < 0) {
        limn_fail(error, "%s: cannot be made: %s; is --output writable?", self->spool_path, strerror(errno));
        shard_destroy(self);
        return NULL;
    }
    return self;
}

void shard_destroy(shard *self) {
    if (!self) return;
    if (self->spool >= 0) {
        close(self->spool);
        unlink(self->spool_path);
    }
    pthread_mutex_destroy(&self->mutex);
    free(self->slots);
    free(self);
}

static int write_at(const shard *self, uint64_t offset, const void *data, size_t size, limn_error *error) {
    const char *bytes = data;
    while (size) {
        const ssize_t written = pwrite(self->spool, bytes, size, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0)
            return limn_fail(error, "%s: cannot be written: %s; make room and run the same command again",
                             self->options->output, written < 0 ? strerror(errno) : strerror(ENOSPC));
        bytes += written, offset += (uint64_t)written, size -= (size_t)written;
    }
    return 0;
}

static uint64_t reserve(shard *self, size_t size) {
    pthread_mutex_lock(&self->mutex);
    const uint64_t offset = self->spool_size;
    self->spool_size += size;
    pthread_mutex_unlock(&self->mutex);
    return offset;
}

static void record(shard *self, const download_row *row, const row_slot *slot) {
    pthread_mutex_lock(&self->mutex);
    self->slots[row->index] = *slot;
    self->slots[row->index].came = true;
    self->came++;
    self->received += row->data_size;
    pthread_mutex_unlock(&self->mutex);
}

int shard_add_pair(shard *self, const download_row *row, const download_pair *pair, limn_error *error) {
    row_slot slot = {.image_size = pair->image.size, .caption_size = row->caption_size, .json_size = strlen(pair->json)};
    slot.offset = reserve(self, slot.image_size + slot.caption_size + slot.json_size);
    if (write_at(self, slot.offset, pair->image.data, slot.image_size, error) ||
        write_at(self, slot.offset + slot.image_size, row->caption, slot.caption_size, error) ||
        write_at(self, slot.offset + slot.image_size + slot.caption_size, pair->json, slot.json_size, error))
        return -1;
    record(self, row, &slot);
    return 0;
}

/* Appends a field of the table of failures: valid UTF-8 without tabs and line breaks. */
static int append_field(limn_buffer *line, const char *text, size_t size, char after, limn_error *error) {
    const size_t begin = line->size;
    if (limn_buffer_append(line, text, size, error)) return -1;
    for (size_t i = begin; i < line->size;) {
        uint32_t code_point;
        const size_t used = limn_utf8_decode(line->data + i, line->size - i, &code_point);
        if (used == 0 || code_point < ' ' || code_point == 0x7F) line->data[i] = used == 0 ? '?' : ' ';
        i += used ? used : 1;
    }
    return limn_buffer_append(line, &after, 1, error);
}

int shard_add_failed(shard *self, const download_row *row, limn_error *error) {
    limn_buffer line = {0};
    char key[64];
    shard_key(self->options, self->number, row->index, key);
    row_slot slot = {0};
    snprintf(slot.reason, sizeof slot.reason, "%s", row->reason);
    int status = append_field(&line, row->url ? row->url : "", row->url ? strlen(row->url) : 0, '\t', error) ||
                 append_field(&line, row->caption ? row->caption : "", row->caption_size, '\t', error) ||
                 append_field(&line, row->reason, strlen(row->reason), '\t', error) ||
                 append_field(&line, row->detail, strlen(row->detail), '\t', error) ||
                 append_field(&line, key, strlen(key), '\t', error) ||
                 append_field(&line, row->file, strlen(row->file), '\t', error) ||
                 limn_buffer_printf(&line, error, "%zu\n", row->line);
    slot.failed_size = line.size;
    if (!status) {
        slot.offset = reserve(self, line.size);
        status = write_at(self, slot.offset, line.data, line.size, error);
    }
    limn_buffer_free(&line);
    if (status) return -1;
    record(self, row, &slot);
    return 0;
}

void shard_end(shard *self, size_t rows) {
    pthread_mutex_lock(&self->mutex);
    self->rows = rows;
    pthread_mutex_unlock(&self->mutex);
}

bool shard_is_full(const shard *self) {
    shard *locked = (shard *)(uintptr_t)self;
    pthread_mutex_lock(&locked->mutex);
    const bool full = locked->came == locked->rows;
    pthread_mutex_unlock(&locked->mutex);
    return full;
}

uint64_t shard_number(const shard *self) {
    return self->number;
}

/* ---------------------------------------------------------------- finishing */

/* Reads a row's parts from the spool into `buffer`. */
static int read_slot(const shard *self, const row_slot *slot, limn_buffer *buffer, limn_error *error) {
    size_t size = slot->image_size + slot->caption_size + slot->json_size + slot->failed_size, got = 0;
    if (buffer->capacity < size + 1) {
        char *grown = realloc(buffer->data, size + 1);
        if (!grown) return limn_fail(error, "out of memory for %zu bytes of a pair", size);
        buffer->data = grown;
        buffer->capacity = size + 1;
    }
    while (got < size) {
        const ssize_t part = pread(self->spool, buffer->data + got, size - got, (off_t)(slot->offset + got));
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0)
            return limn_fail(error, "%s: cannot be read back: %s", self->spool_path, part ? strerror(errno) : "cut short");
        got += (size_t)part;
    }
    buffer->size = size;
    return 0;
}

static int write_failures(const shard *self, limn_buffer *buffer, limn_error *error) {
    static const char header[] = "url\tcaption\treason\tdetail\tkey\tlist\tline\n";
    char path[4096];
    limn_atomic_file file = {0};
    if (shard_path(self->options, self->number, "failed.tsv", path, error)) return -1;
    size_t failed = 0;
    for (size_t i = 0; i < self->rows; i++) failed += self->slots[i].failed_size > 0;
    if (failed == 0) {
        if (unlink(path) && errno != ENOENT) return limn_fail(error, "%s: cannot be removed: %s", path, strerror(errno));
        return 0;
    }
    if (limn_atomic_open(&file, path, error)) return -1;
    fputs(header, file.stream);
    for (size_t i = 0; i < self->rows; i++) {
        if (!self->slots[i].failed_size) continue;
        if (read_slot(self, &self->slots[i], buffer, error)) {
            limn_atomic_discard(&file);
            return -1;
        }
        fwrite(buffer->data, 1, buffer->size, file.stream); /* commit finds a short write */
    }
    return limn_atomic_commit(&file, error);
}

static int write_tar(const shard *self, limn_buffer *buffer, const char *path, limn_error *error) {
    tar_writer *tar = tar_writer_open(path, error);
    if (!tar) return -1;
    for (size_t i = 0; i < self->rows; i++) {
        const row_slot *slot = &self->slots[i];
        char key[64], name[80];
        if (slot->failed_size) continue;
        shard_key(self->options, self->number, i, key);
        int status = read_slot(self, slot, buffer, error);
        snprintf(name, sizeof name, "%s.jpg", key);
        status = status || tar_writer_add(tar, name, buffer->data, slot->image_size, error);
        snprintf(name, sizeof name, "%s.txt", key);
        status = status || tar_writer_add(tar, name, buffer->data + slot->image_size, slot->caption_size, error);
        snprintf(name, sizeof name, "%s.json", key);
        status =
            status || tar_writer_add(tar, name, buffer->data + slot->image_size + slot->caption_size, slot->json_size, error);
        if (status) {
            tar_writer_discard(tar);
            return -1;
        }
    }
    return tar_writer_commit(tar, error);
}

static int write_stats(const shard *self, const char *tar_path, limn_error *error) {
    char path[4096];
    struct stat tar;
    if (shard_path(self->options, self->number, "stats.json", path, error)) return -1;
    if (stat(tar_path, &tar)) return limn_fail(error, "%s: cannot be found again: %s", tar_path, strerror(errno));
    json_t *reasons = json_object();
    size_t pairs = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < self->rows; i++) {
        const row_slot *slot = &self->slots[i];
        pairs += slot->failed_size == 0;
        bytes += slot->image_size;
        if (slot->failed_size)
            json_object_set_new(reasons, slot->reason,
                                json_integer(json_integer_value(json_object_get(reasons, slot->reason)) + 1));
    }
    json_t *stats = json_pack("{s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:I, s:f}", "shard", (json_int_t)self->number, "rows",
                              (json_int_t)self->rows, "pairs", (json_int_t)pairs, "failed", (json_int_t)(self->rows - pairs),
                              "reasons", reasons, "bytes_received", (json_int_t)self->received, "bytes_of_pictures",
                              (json_int_t)bytes, "tar_bytes", (json_int_t)tar.st_size, "seconds", limn_seconds() - self->began);
    if (!stats) return limn_fail(error, "out of memory for %s", path);
    const int status = limn_json_save(stats, path, error);
    json_decref(stats);
    return status;
}

int shard_finish(shard *self, limn_error *error) {
    limn_buffer buffer = {0};
    char path[4096];
    /* The stats come last: they say that the shard is finished. */
    const int status = shard_path(self->options, self->number, "tar", path, error) || write_failures(self, &buffer, error) ||
                       write_tar(self, &buffer, path, error) || write_stats(self, path, error);
    limn_buffer_free(&buffer);
    return status ? -1 : 0;
}
