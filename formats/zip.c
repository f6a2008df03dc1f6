/* Zip directories (PKWARE's APPNOTE.TXT 6.3, sections 4.3.7 to 4.3.16 and 4.5.3). */
#include "formats/zip.h"

#include <stdlib.h>
#include <string.h>

enum { COMMENT_MAX = 0xffff, FLAG_ENCRYPTED = 1, EXTRA_ZIP64 = 1 };

typedef struct {
    const unsigned char *data;
    size_t size;
    const char *path;
    limn_error *error;
} source;

static uint64_t number(const unsigned char *bytes, size_t size) {
    uint64_t value = 0;
    while (size-- > 0) value = value << 8 | bytes[size];
    return value;
}

static int damaged(const source *self, const char *what) {
    limn_fail(self->error, "%s: %s: the file is cut short or damaged; fetch it again", self->path, what);
    return -1; /* in plain sight of the compiler, which else warns of what a caller would find unset after a 0 */
}

/* ---------------------------------------------------------------- the end of the file */

/* The record that ends the file, found by its comment, which must reach the end exactly. */
static int find_end(const source *self, size_t *out) {
    for (size_t comment = 0; comment <= COMMENT_MAX && comment + END_BYTES <= self->size; comment++) {
        size_t at = self->size - END_BYTES - comment;
        if (number(self->data + at, 4) != END_SIGNATURE || number(self->data + at + 20, 2) != comment) continue;
        *out = at;
        return 0;
    }
    return damaged(self, "a zip file without its directory at the end");
}

typedef struct {
    uint64_t entries, bytes, offset; /* of the central directory */
    size_t limit;                    /* where it must end */
} place;

/* The zip64 record, which its locator right before the end record points at. */
static int read_end64(const source *self, size_t locator, place *out) {
    uint64_t at = number(self->data + locator + 8, 8);
    if (at > locator || locator - at < END64_BYTES || number(self->data + at, 4) != END64_SIGNATURE)
        return damaged(self, "a zip64 record that is not where the file says");
    const unsigned char *record = self->data + at;
    if (number(record + 16, 4) != 0 || number(record + 20, 4) != 0) return damaged(self, "one part of a zip file of several");
    *out = (place){number(record + 32, 8), number(record + 40, 8), number(record + 48, 8), (size_t)at};
    return 0;
}

static int find_directory(const source *self, place *out) {
    size_t end;
    if (find_end(self, &end)) return -1;
    const unsigned char *record = self->data + end;
    if (end >= LOCATOR_BYTES && number(record - LOCATOR_BYTES, 4) == LOCATOR_SIGNATURE) {
        if (read_end64(self, end - LOCATOR_BYTES, out)) return -1;
    } else {
        if (number(record + 4, 2) != 0 || number(record + 6, 2) != 0) return damaged(self, "one part of a zip file of several");
        *out = (place){number(record + 10, 2), number(record + 12, 4), number(record + 16, 4), end};
    }
    if (out->offset > out->limit || out->bytes != out->limit - out->offset || out->entries > out->bytes / CENTRAL_BYTES)
        return damaged(self, "a zip directory that is not where the file says");
    return 0;
}

/* ---------------------------------------------------------------- entries */

/* Where the zip64 extra field of a directory record stands in for 32-bit fields that are all ones, in this order. */
static int read_zip64(const source *self, const unsigned char *extra, size_t length, uint64_t *values[3]) {
    while (length >= 4) {
        size_t id = (size_t)number(extra, 2), size = (size_t)number(extra + 2, 2);
        if (size > length - 4) break;
        if (id == EXTRA_ZIP64) {
            const unsigned char *at = extra + 4;
            for (size_t i = 0; i < 3; i++) {
                if (*values[i] != UINT32_MAX) continue;
                if (size < 8) return damaged(self, "a zip64 field that is too short");
                *values[i] = number(at, 8);
                at += 8;
                size -= 8;
            }
            return 0;
        }
        extra += 4 + size;
        length -= 4 + size;
    }
    return 0;
}

static int check_local(const source *self, zip_entry *entry, const unsigned char *central, size_t limit) {
    if (entry->header > limit || limit - entry->header < LOCAL_BYTES) return damaged(self, "a zip entry outside of the file");
    const unsigned char *local = self->data + entry->header;
    size_t name_length = (size_t)number(local + 26, 2), extra_length = (size_t)number(local + 28, 2);
    if (number(local, 4) != LOCAL_SIGNATURE || name_length != entry->name_length ||
        limit - entry->header - LOCAL_BYTES < name_length + extra_length ||
        memcmp(local + LOCAL_BYTES, entry->name, name_length) != 0)
        return damaged(self, "a zip entry that its directory calls by another name");
    if (memcmp(local + 8, central + 10, 2) != 0) return damaged(self, "a zip entry with two methods of compression");
    entry->data = entry->header + LOCAL_BYTES + name_length + extra_length;
    if (entry->size > limit - entry->data) return damaged(self, "a zip entry that is longer than the file");
    return 0;
}

static int read_entry(const source *self, const place *where, const unsigned char *central, size_t left, zip_entry *out,
                      size_t *out_bytes) {
    if (left < CENTRAL_BYTES || number(central, 4) != CENTRAL_SIGNATURE)
        return damaged(self, "a zip directory of other records");
    size_t name_length = (size_t)number(central + 28, 2), extra_length = (size_t)number(central + 30, 2);
    size_t bytes = CENTRAL_BYTES + name_length + extra_length + (size_t)number(central + 32, 2);
    if (bytes > left) return damaged(self, "a zip directory that is longer than it says");
    uint64_t size = number(central + 24, 4), packed = number(central + 20, 4), header = number(central + 42, 4);
    const unsigned char *name = central + CENTRAL_BYTES;
    if (read_zip64(self, name + name_length, extra_length, (uint64_t *[3]){&size, &packed, &header})) return -1;
    *out =
        (zip_entry){.name = (const char *)name, .name_length = name_length, .header = (size_t)header, .size = (size_t)packed};
    out->compressed = number(central + 10, 2) != 0;
    *out_bytes = bytes;
    if (number(central + 8, 2) & FLAG_ENCRYPTED)
        return limn_fail(self->error, "%s: the zip entry %.*s is encrypted, which is not read here", self->path,
                         (int)(name_length < 200 ? name_length : 200), out->name);
    if (!out->compressed && size != packed) return damaged(self, "a zip entry of two sizes");
    return check_local(self, out, central, (size_t)where->offset);
}

static int compare_names(const void *a, const void *b) {
    const zip_entry *x = a, *y = b;
    size_t shorter = x->name_length < y->name_length ? x->name_length : y->name_length;
    int order = memcmp(x->name, y->name, shorter);
    return order ? order : (x->name_length > y->name_length) - (x->name_length < y->name_length);
}

static int compare_places(const void *a, const void *b) {
    const zip_entry *x = a, *y = b;
    return (x->header > y->header) - (x->header < y->header);
}

static int check_entries(const source *self, zip_directory *out) {
    qsort(out->entries, out->count, sizeof *out->entries, compare_places);
    for (size_t i = 1; i < out->count; i++)
        if (out->entries[i].header < out->entries[i - 1].data + out->entries[i - 1].size)
            return damaged(self, "zip entries that overlap");
    qsort(out->entries, out->count, sizeof *out->entries, compare_names);
    for (size_t i = 1; i < out->count; i++)
        if (compare_names(&out->entries[i - 1], &out->entries[i]) == 0)
            return damaged(self, "a zip file that holds an entry twice");
    return 0;
}

int zip_read(zip_directory *out, const limn_mapping *mapping, const char *path, limn_error *error) {
    source self = {mapping->data, mapping->size, path, error};
    place where;
    *out = (zip_directory){0};
    if (find_directory(&self, &where)) return -1;
    out->entries = limn_allocate((size_t)where.entries + 1, sizeof *out->entries, error);
    if (!out->entries) return limn_fail_context(error, "%s", path);
    size_t at = (size_t)where.offset;
    for (; out->count < where.entries; out->count++) {
        size_t bytes;
        if (read_entry(&self, &where, self.data + at, where.limit - at, &out->entries[out->count], &bytes)) return -1;
        at += bytes;
    }
    if (at != where.limit) return damaged(&self, "a zip directory that is shorter than it says");
    return check_entries(&self, out);
}

const zip_entry *zip_find(const zip_directory *directory, const char *name, size_t name_length) {
    if (directory->count == 0) return NULL;
    zip_entry key = {.name = name, .name_length = name_length};
    return bsearch(&key, directory->entries, directory->count, sizeof key, compare_names);
}

void zip_free(zip_directory *directory) {
    free(directory->entries);
    *directory = (zip_directory){0};
}
