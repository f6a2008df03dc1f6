/* A shard: rows wait in a spool file in the order they come and are packed in the list's order. */
#include "download/internal.h"
#include "formats/formats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TAIL_BYTES = 1 << 18, MAX_REASONS = 4096 };

/* KEPT: a pair of the finished shard that is made anew; its parts are there. */
typedef enum { ROW_OPEN, ROW_PAIR, ROW_KEPT, ROW_FAILED } row_state;

typedef struct {
    uint64_t offset; /* of the row's parts in the spool, one after the other */
    size_t image_size;
    const char *extension;
    uint32_t caption_size, json_size;
    uint32_t failed_size; /* of a failed row: its line of the table of failures */
    uint16_t reason;      /* of a failed row, and of one that is tried again: its place in `reasons` */
    uint8_t state;        /* a row_state */
    uint32_t line_size;   /* of a pair that may be a duplicate: its line of that table, before its other parts */
    uint64_t look;        /* of a pair: its perceptual hash */
} row_slot;

struct shard {
    const download_options *options;
    uint64_t number;
    int claim;         /* the claim it is made under; -1: none */
    hash_index *looks; /* NULL: duplicates are not left out */
    uint64_t *kept;    /* (kept_count): the shard's own hashes, once it is finished */
    size_t kept_count;
    json_t *before; /* stats of the finished shard whose failed rows are tried again; NULL otherwise */
    char spool_path[4096];
    int spool; /* -1 until the first bytes go there */
    double began;

    pthread_mutex_t mutex; /* for what follows */
    limn_buffer tail;      /* the spool's last bytes, not written yet: failed rows are small, and many */
    uint64_t spooled;      /* bytes in the file, before the tail */
    uint64_t received;
    size_t came, expected; /* expected is SIZE_MAX until the shard is ended */
    size_t rows, made;     /* of the list; that became pairs in this run */
    bool changed;          /* of a shard made anew: something is not as before */
    row_slot *slots;       /* (shard_size) */
    char (*reasons)[32];
    size_t reason_count;
};

/* ---------------------------------------------------------------- names */

void shard_key(const download_options *options, uint64_t number, size_t index, char out[64]) {
    int digits = 4;
    for (size_t last = options->shard_size - 1; last > 9999 && digits < 20; last /= 10) digits++;
    snprintf(out, 64, "%05llu%0*zu", (unsigned long long)number, digits, index);
}

int shard_path(const char *folder, uint64_t number, const char *suffix, char out[4096], limn_error *error) {
    char name[64];
    snprintf(name, sizeof name, "%05llu%s%s", (unsigned long long)number, suffix ? "." : "", suffix ? suffix : "");
    return limn_path_join(out, 4096, folder, name, error);
}

/* ---------------------------------------------------------------- the spool */

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

/* With the mutex held. */
static int flush_tail(shard *self, limn_error *error) {
    if (self->spool < 0) {
        self->spool = open(self->spool_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (self->spool < 0)
            return limn_fail(error, "%s: cannot be made: %s; is --output writable?", self->spool_path, strerror(errno));
    }
    if (write_at(self, self->spooled, self->tail.data, self->tail.size, error)) return -1;
    self->spooled += self->tail.size;
    self->tail.size = 0;
    return 0;
}

/* Appends to the spool, with the mutex held. */
static int append(shard *self, const void *data, size_t size, limn_error *error) {
    if (self->tail.size + size <= TAIL_BYTES) return limn_buffer_append(&self->tail, data, size, error);
    if (flush_tail(self, error)) return -1;
    if (size <= TAIL_BYTES) return limn_buffer_append(&self->tail, data, size, error);
    if (write_at(self, self->spooled, data, size, error)) return -1;
    self->spooled += size;
    return 0;
}

/* Reads a row's parts back. Only once the shard is full, when nobody appends. */
static int read_slot(const shard *self, const row_slot *slot, limn_buffer *buffer, limn_error *error) {
    const size_t size = slot->image_size + slot->caption_size + slot->json_size + slot->failed_size;
    buffer->size = 0;
    if (limn_buffer_reserve(buffer, size, error)) return -1;
    for (size_t got = 0; got < size;) {
        const uint64_t at = slot->offset + got;
        if (at >= self->spooled) {
            memcpy(buffer->data + got, self->tail.data + (at - self->spooled), size - got);
            break;
        }
        const size_t wanted = size - got < self->spooled - at ? size - got : (size_t)(self->spooled - at);
        const ssize_t part = pread(self->spool, buffer->data + got, wanted, (off_t)at);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0)
            return limn_fail(error, "%s: cannot be read back: %s", self->spool_path, part ? strerror(errno) : "cut short");
        got += (size_t)part;
    }
    buffer->size = size;
    return 0;
}

/* ---------------------------------------------------------------- creation */

static int reason_place(shard *self, const char *reason, uint16_t *out, limn_error *error) {
    size_t i = 0;
    while (i < self->reason_count && strcmp(self->reasons[i], reason)) i++;
    if (i == self->reason_count) {
        void *grown = i < MAX_REASONS ? realloc(self->reasons, (i + 1) * sizeof *self->reasons) : NULL;
        if (!grown) return limn_fail(error, "out of memory for the reason %s", reason);
        self->reasons = grown;
        snprintf(self->reasons[self->reason_count++], sizeof *self->reasons, "%s", reason);
    }
    *out = (uint16_t)i;
    return 0;
}

shard *shard_create(const download_options *options, uint64_t number, int claim, limn_error *error) {
    shard *self = limn_allocate(1, sizeof *self, error);
    if (!self) {
        claim_release(claim);
        return NULL;
    }
    self->options = options;
    self->number = number;
    self->claim = claim;
    self->spool = -1;
    self->expected = SIZE_MAX;
    self->began = limn_seconds();
    pthread_mutex_init(&self->mutex, NULL);
    self->slots = limn_allocate(options->shard_size, sizeof *self->slots, error);
    if (self->slots && !shard_spool_path(options, number, self->spool_path, error)) return self;
    shard_destroy(self);
    return NULL;
}

/* A row that failed in the finished shard: to be tried again, or its line is kept. */
static int take_failure(void *context, const failure *row, limn_error *error) {
    shard *self = context;
    if (row->index >= self->rows)
        return limn_fail(error, "%s: shard %05llu has fewer rows than its .failed.tsv; remove its .stats.json to make it anew",
                         self->options->output, (unsigned long long)self->number);
    row_slot *slot = &self->slots[row->index];
    if (reason_place(self, row->reason, &slot->reason, error)) return -1;
    if (failure_may_pass(row->reason)) {
        slot->state = ROW_OPEN;
        self->came--;
        return 0;
    }
    slot->state = ROW_FAILED;
    slot->offset = self->spooled + self->tail.size;
    slot->failed_size = (uint32_t)row->line.size;
    return append(self, row->line.data, row->line.size, error);
}

shard *shard_create_again(const download_options *options, uint64_t number, int claim, json_t *before, limn_error *error) {
    size_t rows = 0, failed = 0;
    shard *self = shard_create(options, number, claim, error);
    if (!self) {
        json_decref(before);
        return NULL;
    }
    self->before = before;
    if (!limn_json_get_size(before, "a shard's stats", "rows", 1, options->shard_size, &rows, error) &&
        !limn_json_get_size(before, "a shard's stats", "failed", 0, rows, &failed, error)) {
        self->rows = rows;
        self->came = rows; /* less those that failed, and come again or are kept */
        for (size_t i = 0; i < rows; i++) self->slots[i].state = ROW_KEPT;
        int status = failed ? failures_read(options, number, take_failure, self, error) : 0;
        size_t kept = 0;
        for (size_t i = 0; i < rows; i++) kept += self->slots[i].state == ROW_KEPT;
        if (!status && kept != rows - failed)
            status =
                limn_fail(error, "%s: %05llu.failed.tsv has %zu rows, its .stats.json %zu; remove this to make the shard anew",
                          options->output, (unsigned long long)number, rows - kept, failed);
        if (!status) return self;
    }
    shard_destroy(self);
    return NULL;
}

void shard_destroy(shard *self) {
    if (!self) return;
    if (self->spool >= 0) {
        close(self->spool);
        unlink(self->spool_path);
    }
    commit_discard(self->options, self->number);
    claim_release(self->claim); /* last: from here on it may be another's */
    pthread_mutex_destroy(&self->mutex);
    json_decref(self->before);
    limn_buffer_free(&self->tail);
    free(self->reasons);
    free(self->kept);
    free(self->slots);
    free(self);
}

/* ---------------------------------------------------------------- filling */

void shard_compare(shard *self, hash_index *with) {
    self->looks = with;
}

bool shard_wants(const shard *self, size_t index) {
    return self->slots[index].state == ROW_OPEN;
}

/* The line that the pair has in the table of failures when it turns out to be a duplicate. */
static int describe_duplicate(const shard *self, const download_row *row, limn_buffer *line, limn_error *error) {
    download_row failed = *row;
    char key[64];
    shard_key(self->options, self->number, row->index, key);
    download_row_fail(&failed, "duplicate", "looks like an earlier picture (--dedup-distance %zu)",
                      self->options->pair.dedup_distance);
    return failure_describe(&failed, key, line, error);
}

int shard_add_pair(shard *self, const download_row *row, const download_pair *pair, limn_error *error) {
    row_slot slot = {.state = ROW_PAIR,
                     .image_size = pair->image.size,
                     .extension = pair->extension,
                     .caption_size = (uint32_t)row->caption_size,
                     .json_size = (uint32_t)strlen(pair->json)};
    limn_buffer line = {0};
    int status = self->looks ? describe_duplicate(self, row, &line, error) : 0;
    pthread_mutex_lock(&self->mutex);
    slot.look = pair->look;
    slot.line_size = (uint32_t)line.size;
    if (!status && line.size) status = append(self, line.data, line.size, error);
    slot.offset = self->spooled + self->tail.size;
    if (!status && self->options->form != OUTPUT_NONE)
        status = append(self, pair->image.data, slot.image_size, error) ||
                 append(self, row->caption, slot.caption_size, error) || append(self, pair->json, slot.json_size, error);
    self->slots[row->index] = slot;
    self->came++;
    self->made++;
    self->changed = true;
    self->received += row->data_size;
    pthread_mutex_unlock(&self->mutex);
    limn_buffer_free(&line);
    return status ? -1 : 0;
}

int shard_add_failed(shard *self, const download_row *row, limn_error *error) {
    limn_buffer line = {0};
    char key[64];
    shard_key(self->options, self->number, row->index, key);
    int status = failure_describe(row, key, &line, error);
    pthread_mutex_lock(&self->mutex);
    row_slot *slot = &self->slots[row->index];
    const uint16_t reason_before = slot->reason;
    *slot = (row_slot){.state = ROW_FAILED, .failed_size = (uint32_t)line.size, .offset = self->spooled + self->tail.size};
    status = status || reason_place(self, row->reason, &slot->reason, error) || append(self, line.data, line.size, error);
    self->changed = self->changed || slot->reason != reason_before;
    self->came++;
    self->received += row->data_size;
    pthread_mutex_unlock(&self->mutex);
    limn_buffer_free(&line);
    return status ? -1 : 0;
}

void shard_end(shard *self, size_t rows) {
    pthread_mutex_lock(&self->mutex);
    self->rows = self->expected = rows;
    pthread_mutex_unlock(&self->mutex);
}

bool shard_is_full(const shard *self) {
    shard *locked = (shard *)(uintptr_t)self;
    pthread_mutex_lock(&locked->mutex);
    const bool full = locked->came == locked->expected;
    pthread_mutex_unlock(&locked->mutex);
    return full;
}

uint64_t shard_number(const shard *self) {
    return self->number;
}

void shard_count(const shard *self, size_t *rows, size_t *pairs) {
    *rows = self->rows;
    *pairs = self->made;
}

/* ---------------------------------------------------------------- finishing */

/* A commit without a single failed row has an empty table, which removes the one there is (commit.c). */
static int write_failures(const shard *self, const char *folder, limn_buffer *buffer, limn_error *error) {
    char path[4096];
    limn_atomic_file file = {0};
    size_t failed = 0;
    for (size_t i = 0; i < self->rows; i++) failed += self->slots[i].state == ROW_FAILED;
    if (shard_path(folder, self->number, "failed.tsv", path, error) || limn_atomic_open(&file, path, error)) return -1;
    if (failed) failures_write_header(file.stream);
    for (size_t i = 0; i < self->rows; i++) {
        if (self->slots[i].state != ROW_FAILED) continue;
        if (read_slot(self, &self->slots[i], buffer, error)) {
            limn_atomic_discard(&file);
            return -1;
        }
        fwrite(buffer->data, 1, buffer->size, file.stream); /* commit finds a short write */
    }
    return limn_atomic_commit(&file, error);
}

static int write_row(const shard *self, shard_body *to, size_t index, limn_buffer *buffer, limn_error *error) {
    const row_slot *slot = &self->slots[index];
    char key[64];
    shard_key(self->options, self->number, index, key);
    if (slot->state == ROW_KEPT) return body_keep(to, key, error);
    if (slot->state != ROW_PAIR || self->options->form == OUTPUT_NONE) return 0;
    if (read_slot(self, slot, buffer, error)) return -1;
    const char *const caption = buffer->data + slot->image_size;
    const pair_parts parts = {.extension = slot->extension,
                              .image = buffer->data,
                              .image_size = slot->image_size,
                              .caption = caption,
                              .caption_size = slot->caption_size,
                              .json = caption + slot->caption_size,
                              .json_size = slot->json_size};
    return body_add(to, key, &parts, error);
}

static int write_body(const shard *self, const char *folder, limn_buffer *buffer, limn_error *error) {
    shard_body *to = body_open(folder, self->options, self->number, self->before != NULL, error);
    if (!to) return -1;
    for (size_t i = 0; i < self->rows; i++) {
        if (!write_row(self, to, i, buffer, error)) continue;
        body_discard(to);
        return -1;
    }
    return body_commit(to, error);
}

/* The address of a failed row is its line's first field. */
static json_t *example_of(const shard *self, const row_slot *slot, limn_buffer *buffer, limn_error *error) {
    if (read_slot(self, slot, buffer, error)) return NULL;
    const char *const tab = memchr(buffer->data, '\t', buffer->size);
    return json_stringn(buffer->data, tab ? (size_t)(tab - buffer->data) : 0);
}

static json_int_t number_before(const shard *self, const char *key) {
    return json_integer_value(json_object_get(self->before, key));
}

static int write_stats(const shard *self, const char *folder, limn_buffer *buffer, limn_error *error) {
    char path[4096];
    size_t pairs = 0;
    json_int_t bytes = number_before(self, "bytes_of_pictures");
    json_t *reasons = json_object(), *examples = json_object();
    for (size_t i = 0; i < self->rows; i++) {
        const row_slot *slot = &self->slots[i];
        pairs += slot->state != ROW_FAILED;
        bytes += (json_int_t)slot->image_size;
        if (slot->state != ROW_FAILED) continue;
        const char *reason = self->reasons[slot->reason];
        const json_int_t count = json_integer_value(json_object_get(reasons, reason));
        json_object_set_new(reasons, reason, json_integer(count + 1));
        if (count == 0) json_object_set_new(examples, reason, example_of(self, slot, buffer, error));
    }
    json_t *stats = json_pack(
        "{s:I, s:I, s:I, s:I, s:o, s:o, s:I, s:I, s:f}", "shard", (json_int_t)self->number, "rows", (json_int_t)self->rows,
        "pairs", (json_int_t)pairs, "failed", (json_int_t)(self->rows - pairs), "reasons", reasons, "examples", examples,
        "bytes_received", number_before(self, "bytes_received") + (json_int_t)self->received, "bytes_of_pictures", bytes,
        "seconds", json_number_value(json_object_get(self->before, "seconds")) + limn_seconds() - self->began);
    if (!stats) return limn_fail(error, "out of memory for the stats of shard %05llu", (unsigned long long)self->number);
    int status = 0;
    if (self->options->form == OUTPUT_TARS || self->options->form == OUTPUT_TOKENS) {
        struct stat written;
        status = body_path(folder, self->options->form, self->number, path, error);
        if (!status && stat(path, &written)) status = limn_fail(error, "%s: cannot be found again: %s", path, strerror(errno));
        if (!status)
            json_object_set_new(stats, self->options->form == OUTPUT_TOKENS ? "h5_bytes" : "tar_bytes",
                                json_integer((json_int_t)written.st_size));
    }
    status = status || shard_path(folder, self->number, "stats.json", path, error) || limn_json_save(stats, path, error);
    json_decref(stats);
    return status ? -1 : 0;
}

static int leave_out_duplicates(shard *self, limn_error *error) {
    if (!self->looks) return 0;
    self->kept = limn_allocate(self->rows, sizeof *self->kept, error);
    if (!self->kept) return -1;
    for (size_t i = 0; i < self->rows; i++) {
        row_slot *slot = &self->slots[i];
        if (slot->state != ROW_PAIR || slot->look == 0) continue;
        if (!dedup_seen(self->looks, slot->look)) {
            self->kept[self->kept_count++] = slot->look;
            if (dedup_add(self->looks, slot->look, error)) return -1;
            continue;
        }
        *slot = (row_slot){.state = ROW_FAILED, .failed_size = slot->line_size, .offset = slot->offset - slot->line_size};
        if (reason_place(self, "duplicate", &slot->reason, error)) return -1;
        self->made--;
    }
    return 0;
}

static int write_looks(const shard *self, const char *folder, limn_error *error) {
    char path[4096];
    if (!self->looks) return 0;
    return shard_path(folder, self->number, "phash", path, error) || dedup_save(path, self->kept, self->kept_count, error);
}

int shard_finish(shard *self, limn_error *error) {
    limn_buffer buffer = {0};
    char folder[4096];
    int status = 0;
    if (!self->before || self->changed)
        status = leave_out_duplicates(self, error) || commit_begin(self->options, self->number, folder, error) ||
                 write_looks(self, folder, error) || write_failures(self, folder, &buffer, error) ||
                 write_body(self, folder, &buffer, error) || write_stats(self, folder, &buffer, error) ||
                 commit_publish(self->options, self->number, error);
    limn_buffer_free(&buffer);
    if (!status && self->options->retry_failed) status = claim_note(self->claim, error);
    return status ? -1 : 0;
}
