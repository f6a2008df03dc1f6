/* What the readers and writers of formats/ share; nothing outside formats/ includes this. */
#ifndef LIMN_FORMATS_INTERNAL_H
#define LIMN_FORMATS_INTERNAL_H

#include "formats/formats.h"

/* ---------------------------------------------------------------- reading */

/* Elements up to `end` (counted from the tensor's first) lie at data. */
typedef struct {
    size_t end;
    const unsigned char *data;
} tensor_chunk;

struct tensor_layout {
    const unsigned char *base;       /* strided: element 0; NULL when in chunks */
    size_t strides[TENSOR_MAX_RANK]; /* strided: in elements */
    size_t chunk_count;
    tensor_chunk chunks[];
};

struct tensor_file {
    limn_mapping mapping;
    tensor_form form;
    char path[4096];
    tensor *tensors; /* sorted by name; names and layouts are owned one by one */
    size_t count, capacity;
    json_t *metadata;
    tensor_file **shards; /* of an index: these own the layouts; else NULL */
    size_t shard_count;
};

/* A file with its mapping and no tensors yet; NULL with an error. */
tensor_file *tensor_file_create(const char *path, tensor_form form, limn_error *error);
/* Adds one tensor whose name is copied; its count must be right. A layout belongs to the file from here on, unless this fails.
 */
int tensor_file_add(tensor_file *file, const tensor *one, limn_error *error);
/* Sorts by name; the same name twice is an error. */
int tensor_file_sort(tensor_file *file, limn_error *error);
/* Product of the shape and the bytes it takes, both checked. */
int tensor_measure(const tensor *one, size_t *out_count, size_t *out_bytes, limn_error *error);

/* ---------------------------------------------------------------- writing */

/* Flax cuts arrays above this. */
#define FLAX_CHUNK_BYTES ((size_t)1 << 30)
/* flax_msgpack_write with another limit, for tests. */
int flax_msgpack_write_chunked(const char *path, const tensor *tensors, size_t count, size_t chunk_bytes,
                               tensor_producer producer, void *context, limn_error *error);

/* ---------------------------------------------------------------- event files */

/* CRC-32C, as records carry it before it is masked. */
uint32_t event_checksum(const void *data, size_t size);

#endif
