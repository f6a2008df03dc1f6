/* For tests and fuzz programs of weights: pickles and zip files made by hand, byte by byte, so that they can lie. */
#ifndef LIMN_TESTS_FORMATS_MAKE_H
#define LIMN_TESTS_FORMATS_MAKE_H

#include "formats/formats.h"

#include <stdlib.h>
#include <string.h>

static inline void put(limn_buffer *out, const void *bytes, size_t size) {
    if (limn_buffer_append(out, bytes, size, NULL)) abort();
}

/* Bytes of a literal, which may hold NULs. */
#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static inline void put_number(limn_buffer *out, uint64_t number, size_t size) {
    for (size_t i = 0; i < size; i++) put(out, &(unsigned char){(unsigned char)(i < 8 ? number >> (8 * i) : 0)}, 1);
}

/* ---------------------------------------------------------------- pickles */

static inline void pickle_text(limn_buffer *out, const char *text) {
    PUT(out, "X");
    put_number(out, strlen(text), 4);
    put(out, text, strlen(text));
}

static inline void pickle_integer(limn_buffer *out, int64_t number) {
    PUT(out, "\x8a\x08");
    put_number(out, (uint64_t)number, 8);
}

/* "module name", as GLOBAL. */
static inline void pickle_class(limn_buffer *out, const char *module_and_name) {
    const char *space = strchr(module_and_name, ' ');
    PUT(out, "c");
    put(out, module_and_name, (size_t)(space - module_and_name));
    PUT(out, "\n");
    put(out, space + 1, strlen(space + 1));
    PUT(out, "\n");
}

static inline void pickle_storage(limn_buffer *out, const char *class, const char *key, int64_t elements) {
    PUT(out, "(");
    pickle_text(out, "storage");
    pickle_class(out, class);
    pickle_text(out, key);
    pickle_text(out, "cpu");
    pickle_integer(out, elements);
    PUT(out, "tQ");
}

static inline void pickle_sizes(limn_buffer *out, size_t count, const int64_t *sizes) {
    PUT(out, "(");
    for (size_t i = 0; i < count; i++) pickle_integer(out, sizes[i]);
    PUT(out, "t");
}

/* What stands between a storage and the end of a tensor's arguments. */
static inline void pickle_view(limn_buffer *out, int64_t offset, size_t rank, const int64_t *shape, const int64_t *strides) {
    pickle_integer(out, offset);
    pickle_sizes(out, rank, shape);
    pickle_sizes(out, rank, strides);
    PUT(out, "\x89");
    pickle_class(out, "collections OrderedDict");
    PUT(out, ")R");
}

static inline void pickle_tensor(limn_buffer *out, const char *class, const char *key, int64_t elements, int64_t offset,
                                 size_t rank, const int64_t *shape, const int64_t *strides) {
    pickle_class(out, "torch._utils _rebuild_tensor_v2");
    PUT(out, "(");
    pickle_storage(out, class, key, elements);
    pickle_view(out, offset, rank, shape, strides);
    PUT(out, "tR");
}

/* A float32 vector that is the whole storage. */
static inline void pickle_vector(limn_buffer *out, const char *key, int64_t elements) {
    pickle_tensor(out, "torch FloatStorage", key, elements, 0, 1, &elements, &(int64_t){1});
}

/* ---------------------------------------------------------------- zip files */

typedef struct {
    limn_buffer file, directory;
    size_t count;
} zip_maker;

/* An entry; what is 0 tells the truth. */
typedef struct {
    const char *name;
    const void *data;
    size_t size;
    const char *local_name; /* in the local header */
    unsigned method, local_method, flags;
    int64_t size_lie, packed_lie, offset_lie; /* added to the directory's */
    bool zip64;                               /* size and offset stand in the extra field */
} zip_made;

static inline void zip_common(limn_buffer *out, unsigned flags, unsigned method, uint64_t packed, uint64_t size,
                              const char *name) {
    put_number(out, 20, 2);
    put_number(out, flags, 2);
    put_number(out, method, 2);
    put_number(out, 0, 8); /* date and checksum */
    put_number(out, packed, 4);
    put_number(out, size, 4);
    put_number(out, strlen(name), 2);
}

static inline void zip_add(zip_maker *zip, zip_made entry) {
    const char *local_name = entry.local_name ? entry.local_name : entry.name;
    uint64_t size = entry.size + (uint64_t)entry.size_lie, packed = entry.size + (uint64_t)entry.packed_lie;
    uint64_t header = zip->file.size + (uint64_t)entry.offset_lie;
    limn_buffer *file = &zip->file, *directory = &zip->directory;
    put_number(file, 0x04034b50, 4);
    zip_common(file, entry.flags, entry.local_method ? entry.local_method : entry.method, entry.size, entry.size, local_name);
    put_number(file, 3, 2);
    put(file, local_name, strlen(local_name));
    PUT(file, "FB_"); /* an extra field */
    put(file, entry.data, entry.size);
    put_number(directory, 0x02014b50, 4);
    put_number(directory, 20, 2);
    zip_common(directory, entry.flags, entry.method, entry.zip64 ? UINT32_MAX : packed, entry.zip64 ? UINT32_MAX : size,
               entry.name);
    put_number(directory, entry.zip64 ? 33 : 0, 2);
    put_number(directory, 0, 10); /* comment, disk, attributes */
    put_number(directory, entry.zip64 ? UINT32_MAX : header, 4);
    put(directory, entry.name, strlen(entry.name));
    if (entry.zip64) {
        PUT(directory, "FB\x01\x00_\x01\x00\x18\x00"); /* another field before it */
        put_number(directory, size, 8);
        put_number(directory, packed, 8);
        put_number(directory, header, 8);
    }
    zip->count++;
}

/* The record at the end, with lies that are added to the number of entries and to the directory's place. */
static inline void zip_end(zip_maker *zip, int64_t count_lie, int64_t offset_lie) {
    size_t offset = zip->file.size;
    put(&zip->file, zip->directory.data, zip->directory.size);
    put_number(&zip->file, 0x06054b50, 4);
    put_number(&zip->file, 0, 4);
    put_number(&zip->file, zip->count + (uint64_t)count_lie, 2);
    put_number(&zip->file, zip->count + (uint64_t)count_lie, 2);
    put_number(&zip->file, zip->directory.size, 4);
    put_number(&zip->file, offset + (uint64_t)offset_lie, 4);
    put_number(&zip->file, 0, 2);
}

/* The same with zip64's records before it, whose locator lies by `locator_lie`. */
static inline void zip_end64(zip_maker *zip, int64_t locator_lie) {
    size_t offset = zip->file.size;
    put(&zip->file, zip->directory.data, zip->directory.size);
    size_t record = zip->file.size;
    put_number(&zip->file, 0x06064b50, 4);
    put_number(&zip->file, 44, 8);
    put_number(&zip->file, 45 | 45 << 16, 4);
    put_number(&zip->file, 0, 8);
    put_number(&zip->file, zip->count, 8);
    put_number(&zip->file, zip->count, 8);
    put_number(&zip->file, zip->directory.size, 8);
    put_number(&zip->file, offset, 8);
    put_number(&zip->file, 0x07064b50, 4);
    put_number(&zip->file, 0, 4);
    put_number(&zip->file, record + (uint64_t)locator_lie, 8);
    put_number(&zip->file, 1, 4);
    put_number(&zip->file, 0x06054b50, 4);
    put_number(&zip->file, 0, 4);
    put_number(&zip->file, UINT32_MAX, 4);
    put_number(&zip->file, UINT64_MAX, 8);
    put_number(&zip->file, 0, 2);
}

static inline void zip_discard(zip_maker *zip) {
    limn_buffer_free(&zip->file);
    limn_buffer_free(&zip->directory);
    *zip = (zip_maker){0};
}

/* A checkpoint with this pickle and the storages "0" (`count` floats 0, 1, 2, …) and "bytes" (8 bytes 1 … 8). */
static inline void make_checkpoint(zip_maker *zip, const limn_buffer *pickle, size_t count) {
    float values[64];
    for (size_t i = 0; i < count && i < 64; i++) values[i] = (float)i;
    zip_add(zip, (zip_made){.name = "archive/data.pkl", .data = pickle->data, .size = pickle->size});
    zip_add(zip, (zip_made){.name = "archive/byteorder", .data = "little", .size = 6});
    zip_add(zip, (zip_made){.name = "archive/data/0", .data = values, .size = count * sizeof *values});
    zip_add(zip, (zip_made){.name = "archive/data/bytes", .data = "\1\2\3\4\5\6\7\10", .size = 8});
    zip_add(zip, (zip_made){.name = "archive/version", .data = "3\n", .size = 2});
}

/* ---------------------------------------------------------------- the stream form */

/* The magic number, the version and the facts about the machine. */
static inline void stream_head(limn_buffer *out, bool little) {
    PUT(out, "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}(");
    pickle_text(out, "protocol_version");
    PUT(out, "M\xe9\x03");
    pickle_text(out, "little_endian");
    put(out, little ? "\x88" : "\x89", 1);
    pickle_text(out, "type_sizes");
    PUT(out, "}u.");
}

#endif
