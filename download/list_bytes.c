/* The bytes of a list: a file or memory, as they are or unpacked (gzip, RFC 1952; zstd, RFC 8878). */
#include "download/list_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { CHUNK = 1 << 18 };

typedef enum { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD } packing;

struct list_bytes {
    const char *name;
    int file; /* -1: memory */
    limn_sha256_sum *sum;
    const unsigned char *chunk; /* stored bytes that wait: `at` of `held` are used */
    size_t at, held;
    unsigned char *room; /* what `chunk` points to when there is a file */
    uint64_t before;     /* stored bytes before the chunk */
    bool ended;          /* no stored bytes follow the chunk */

    packing packing;
    z_stream inflater;
    ZSTD_DStream *zstd;
    bool begun, inside; /* the unpacker is made; it stands inside a member or frame */
    bool padding;       /* zeros after a gzip member */
    bool damaged;
    limn_error damage; /* told when what came before it has been given */
};

void list_bytes_close(list_bytes *self) {
    if (!self) return;
    if (self->packing == PACKING_GZIP && self->begun) inflateEnd(&self->inflater);
    ZSTD_freeDStream(self->zstd);
    limn_sha256_drop(self->sum);
    if (self->file >= 0) close(self->file);
    free(self->room);
    free(self);
}

/* The next stored bytes, when those that are held are used up. */
static int refill(list_bytes *self, limn_error *error) {
    if (self->at < self->held || self->ended) return 0;
    self->before += self->held;
    self->at = self->held = 0;
    ssize_t part;
    do part = read(self->file, self->room, CHUNK);
    while (part < 0 && errno == EINTR);
    if (part < 0)
        return limn_fail(error, "cannot be read after byte %llu of the file: %s", (unsigned long long)self->before,
                         strerror(errno));
    self->held = (size_t)part;
    self->ended = part == 0;
    if (self->sum) limn_sha256_add(self->sum, self->chunk, self->held);
    return 0;
}

/* ---------------------------------------------------------------- opening */

/* Tells the packing by the first bytes; a form that is no text is an error that says how to make it one. */
static int sniff(list_bytes *self, limn_error *error) {
    const size_t size = self->held;
    const unsigned char *const first = self->chunk;
    if (size >= 2 && !memcmp(first, "\x1F\x8B", 2)) {
        self->packing = PACKING_GZIP;
    } else if (size >= 4 && !memcmp(first, "\x28\xB5\x2F\xFD", 4)) {
        self->packing = PACKING_ZSTD;
    } else if (size >= 4 && first[0] >= 0x50 && first[0] <= 0x5F && !memcmp(first + 1, "\x2A\x4D\x18", 3)) {
        self->packing = PACKING_ZSTD; /* it begins with a skippable frame */
    } else if (size >= 4 && !memcmp(first, "PAR1", 4)) {
        return limn_fail_usage(error,
                               "%s: is Parquet, which is not read; make it CSV first, with DuckDB: duckdb -c \"COPY (FROM "
                               "'in.parquet') TO 'out.csv' (HEADER)\"",
                               self->name);
    } else if (size >= 6 && (!memcmp(first, "BZh", 3) ||
                             !memcmp(first,
                                     "\xFD"
                                     "7zXZ",
                                     5) ||
                             !memcmp(first, "PK\x03\x04", 4))) {
        return limn_fail_usage(error, "%s: is packed with %s, which is not read; unpack it, or pack it with gzip or zstd",
                               self->name,
                               first[0] == 'B'   ? "bzip2"
                               : first[0] == 'P' ? "zip"
                                                 : "xz");
    }
    return 0;
}

static list_bytes *create(const char *name, limn_error *error) {
    list_bytes *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->name = name;
    self->file = -1;
    return self;
}

list_bytes *list_bytes_open(const char *path, bool sum, limn_error *error) {
    struct stat status;
    list_bytes *self = create(path, error);
    if (!self) return NULL;
    /* O_NONBLOCK so that a named pipe does not hold us; it is refused, since a list is read more than once. */
    self->file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (self->file < 0 || fstat(self->file, &status)) {
        limn_fail_usage(error, "%s: cannot be opened: %s", path, strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        limn_fail_usage(error, "%s: is %s; give list files, or - for a list on standard input", path,
                        S_ISDIR(status.st_mode) ? "a folder without lists"
                                                : "no regular file, and a list is read more than once");
    } else if ((self->chunk = self->room = limn_allocate(1, CHUNK, error)) &&
               (!sum || (self->sum = limn_sha256_begin(error))) && !refill(self, error) && !sniff(self, error)) {
        return self;
    }
    list_bytes_close(self);
    return NULL;
}

list_bytes *list_bytes_open_memory(const char *name, const void *data, size_t size, limn_error *error) {
    list_bytes *self = create(name, error);
    if (!self) return NULL;
    self->chunk = data;
    self->held = size;
    self->ended = true;
    if (!sniff(self, error)) return self;
    list_bytes_close(self);
    return NULL;
}

int list_bytes_pass(list_bytes *self, limn_error *error) {
    self->at = self->held;
    return refill(self, error) ? -1 : self->held > 0;
}

uint64_t list_bytes_taken(const list_bytes *self) {
    return self->before + self->at;
}

void list_bytes_sha256(list_bytes *self, char out_hex[65]) {
    limn_sha256_end(self->sum, out_hex);
    self->sum = NULL;
}

/* ---------------------------------------------------------------- unpacking */

static void note_damage(list_bytes *self, const char *what, const char *detail) {
    self->damaged = true;
    limn_fail(&self->damage, "its %s data %s%s%s at byte %llu of the file; fetch the file again",
              self->packing == PACKING_GZIP ? "gzip" : "zstd", what, detail ? ": " : "", detail ? detail : "",
              (unsigned long long)list_bytes_taken(self));
}

/* Steps from one gzip member to the next. Zeros may follow the last one (tapes are padded so). */
static void next_member(list_bytes *self) {
    while (self->at < self->held && self->chunk[self->at] == 0) self->at++, self->padding = true;
    if (self->at == self->held) return;
    if (self->padding)
        note_damage(self, "is followed by other bytes", NULL);
    else
        self->inside = inflateReset(&self->inflater) == Z_OK;
}

/* One step of inflate(); *got bytes come of it. */
static int unpack_gzip(list_bytes *self, char *out, size_t size, size_t *got, limn_error *error) {
    z_stream *const stream = &self->inflater;
    if (!self->begun) {
        if (inflateInit2(stream, 15 + 16) != Z_OK) return limn_fail(error, "out of memory for unpacking it");
        self->begun = self->inside = true;
    }
    if (!self->inside) next_member(self);
    if (!self->inside || self->damaged) return 0;
    const size_t given = self->held - self->at < CHUNK ? self->held - self->at : CHUNK;
    stream->next_in = (unsigned char *)(uintptr_t)(self->chunk + self->at);
    stream->avail_in = (uInt)given;
    stream->next_out = (unsigned char *)out;
    stream->avail_out = (uInt)size;
    const int result = inflate(stream, Z_NO_FLUSH);
    self->at += given - stream->avail_in;
    *got = size - stream->avail_out;
    if (result == Z_STREAM_END)
        self->inside = false;
    else if (result == Z_MEM_ERROR)
        return limn_fail(error, "out of memory for unpacking it");
    else if (result != Z_OK && result != Z_BUF_ERROR) /* BUF_ERROR: it only wants more */
        note_damage(self, "is damaged", stream->msg);
    return 0;
}

static int unpack_zstd(list_bytes *self, char *out, size_t size, size_t *got, limn_error *error) {
    if (!self->zstd) self->zstd = ZSTD_createDStream();
    if (!self->zstd) return limn_fail(error, "out of memory for unpacking it");
    ZSTD_inBuffer in = {self->chunk, self->held, self->at};
    ZSTD_outBuffer to = {out, size, 0};
    const size_t result = ZSTD_decompressStream(self->zstd, &to, &in);
    self->at = in.pos;
    *got = to.pos;
    self->inside = result != 0;
    if (ZSTD_isError(result)) note_damage(self, "is damaged", ZSTD_getErrorName(result));
    return 0;
}

int list_bytes_read(list_bytes *self, char *out, size_t size, size_t *got, limn_error *error) {
    *got = 0;
    while (!*got) {
        if (self->damaged) {
            if (error) *error = self->damage;
            return -1;
        }
        if (refill(self, error)) return -1;
        const bool no_more = self->ended && self->at == self->held;
        if (self->packing == PACKING_NONE) {
            *got = self->held - self->at < size ? self->held - self->at : size;
            memcpy(out, self->chunk + self->at, *got);
            self->at += *got;
        } else if (no_more && !self->inside) {
            return 0;
        } else if (self->packing == PACKING_GZIP ? unpack_gzip(self, out, size, got, error)
                                                 : unpack_zstd(self, out, size, got, error)) {
            return -1;
        } else if (no_more && !*got && self->inside && !self->damaged) {
            note_damage(self, "ends too early", NULL); /* the unpacker has given all that it held back */
        }
        if (no_more && self->packing == PACKING_NONE) return 0;
    }
    return 0;
}
