/* Flax's msgpack, byte for byte what flax.serialization.msgpack_serialize makes of nested dicts with sorted keys. Names are
 * sorted part by part, so that each map is a run of them. Everything goes through put(), first to be counted, then written. */
#include "formats/internal.h"
#include "formats/sink.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64, EXTENSION_ARRAY = 1 };

typedef struct {
    const char *path;
    const tensor *tensors;
    const tensor **sorted;
    size_t count, chunk_bytes; /* the largest array that is not cut */
    tensor_sink *sink;         /* NULL while counting */
    size_t total;              /* bytes so far */
    size_t index;              /* of the tensor at work */
    size_t chunk;              /* of its chunks, the next one */
    tensor_producer producer;
    void *context;
    limn_error *error;
} writer;

static const char *type_name(tensor_type type) {
    static const char *const names[] = {[TENSOR_F32] = "float32", [TENSOR_F16] = "float16", [TENSOR_BF16] = "bfloat16",
                                        [TENSOR_F64] = "float64", [TENSOR_I64] = "int64",   [TENSOR_I32] = "int32",
                                        [TENSOR_U16] = "uint16",  [TENSOR_U8] = "uint8",    [TENSOR_BOOL] = "bool"};
    return names[type];
}

/* ---------------------------------------------------------------- msgpack */

static int put(writer *self, const void *data, size_t bytes) {
    if (__builtin_add_overflow(self->total, bytes, &self->total)) return limn_fail(self->error, "%s: too large", self->path);
    return self->sink ? sink_put(self->sink, data, bytes, self->error) : 0;
}

/* A first byte and a big-endian number. */
static int put_head(writer *self, unsigned first, uint64_t number, size_t size) {
    unsigned char bytes[9] = {(unsigned char)first};
    for (size_t i = 0; i < size; i++) bytes[1 + i] = (unsigned char)(number >> (8 * (size - 1 - i)));
    return put(self, bytes, 1 + size);
}

static int put_integer(writer *self, uint64_t number) {
    if (number < 0x80) return put_head(self, (unsigned)number, 0, 0);
    if (number <= UINT8_MAX) return put_head(self, 0xcc, number, 1);
    if (number <= UINT16_MAX) return put_head(self, 0xcd, number, 2);
    return number <= UINT32_MAX ? put_head(self, 0xce, number, 4) : put_head(self, 0xcf, number, 8);
}

static int put_map(writer *self, size_t pairs) {
    if (pairs < 16) return put_head(self, 0x80 | (unsigned)pairs, 0, 0);
    return pairs <= UINT16_MAX ? put_head(self, 0xde, pairs, 2) : put_head(self, 0xdf, pairs, 4);
}

static int put_text(writer *self, const char *text, size_t length) {
    int failed;
    if (length < 32)
        failed = put_head(self, 0xa0 | (unsigned)length, 0, 0);
    else if (length <= UINT8_MAX)
        failed = put_head(self, 0xd9, length, 1);
    else
        failed = length <= UINT16_MAX ? put_head(self, 0xda, length, 2) : put_head(self, 0xdb, length, 4);
    return failed || put(self, text, length) ? -1 : 0;
}

static int put_literal(writer *self, const char *text) {
    return put_text(self, text, strlen(text));
}

/* "12" */
static int put_position(writer *self, size_t position) {
    char text[24];
    return put_text(self, text, (size_t)snprintf(text, sizeof text, "%zu", position));
}

/* ---------------------------------------------------------------- arrays */

/* All of (shape, dtype name, bytes) but the bytes themselves. */
static int put_tuple_head(writer *self, tensor_type type, size_t rank, const size_t *shape, size_t bytes) {
    if (put_head(self, 0x93, 0, 0) || put_head(self, 0x90 | (unsigned)rank, 0, 0)) return -1;
    for (size_t i = 0; i < rank; i++)
        if (put_integer(self, shape[i])) return -1;
    if (put_literal(self, type_name(type))) return -1;
    if (bytes <= UINT8_MAX) return put_head(self, 0xc4, bytes, 1);
    return bytes <= UINT16_MAX ? put_head(self, 0xc5, bytes, 2) : put_head(self, 0xc6, bytes, 4);
}

/* The head of the extension around an array; its bytes follow. */
static int put_array_head(writer *self, tensor_type type, size_t rank, const size_t *shape, size_t bytes) {
    writer count = {.path = self->path, .error = self->error};
    if (put_tuple_head(&count, type, rank, shape, bytes)) return -1;
    size_t length = count.total + bytes;
    int failed;
    if (length <= 16 && (length & (length - 1)) == 0) {
        unsigned first = 0xd4;
        for (size_t size = 1; size < length; size *= 2) first++;
        failed = put_head(self, first, 0, 0);
    } else if (length <= UINT8_MAX) {
        failed = put_head(self, 0xc7, length, 1);
    } else {
        failed = length <= UINT16_MAX ? put_head(self, 0xc8, length, 2) : put_head(self, 0xc9, length, 4);
    }
    return failed || put_head(self, EXTENSION_ARRAY, 0, 0) || put_tuple_head(self, type, rank, shape, bytes) ? -1 : 0;
}

/* Elements of a chunk, as Flax counts them. */
static size_t chunk_elements(const writer *self, const tensor *one) {
    size_t elements = self->chunk_bytes / tensor_type_size(one->type);
    return elements ? elements : 1;
}

/* The key and head of the next chunk of the tensor at work. */
static int put_chunk_head(writer *self) {
    const tensor *one = &self->tensors[self->index];
    size_t count, bytes, size = tensor_type_size(one->type), elements = chunk_elements(self, one);
    if (tensor_measure(one, &count, &bytes, self->error)) return -1;
    size_t start = self->chunk * elements, length = count - start < elements ? count - start : elements;
    if (put_position(self, self->chunk++) || put_array_head(self, one->type, 1, &length, length * size)) return -1;
    if (self->sink) self->sink->until_break = length * size;
    return 0;
}

static int on_break(tensor_sink *sink, limn_error *error) {
    (void)error; /* the same as the writer's */
    return put_chunk_head(sink->context);
}

/* {"__msgpack_chunked_array__": true, "shape": {"0": …}, "chunks": {"0": array, …}}: chunks are flat. */
static int put_chunked(writer *self, const tensor *one, size_t count) {
    size_t elements = chunk_elements(self, one), chunks = count / elements + (count % elements != 0);
    if (put_map(self, 3) || put_literal(self, "__msgpack_chunked_array__") || put_head(self, 0xc3, 0, 0) ||
        put_literal(self, "shape") || put_map(self, one->rank))
        return -1;
    for (size_t i = 0; i < one->rank; i++)
        if (put_position(self, i) || put_integer(self, one->shape[i])) return -1;
    if (put_literal(self, "chunks") || put_map(self, chunks)) return -1;
    self->chunk = 0;
    if (self->sink) {
        self->sink->until_break = 0;
        return 0;
    }
    for (size_t i = 0; i < chunks; i++)
        if (put_chunk_head(self)) return -1;
    return 0;
}

static int put_tensor(writer *self, const tensor *one) {
    size_t count, bytes;
    if (tensor_measure(one, &count, &bytes, self->error)) return -1;
    self->index = (size_t)(one - self->tensors);
    if (self->sink) self->sink->until_break = SIZE_MAX;
    int failed = bytes > self->chunk_bytes ? put_chunked(self, one, count)
                                           : put_array_head(self, one->type, one->rank, one->shape, bytes);
    if (failed) return -1;
    if (self->sink)
        return sink_put_tensor(self->sink, self->tensors, self->index, bytes, self->producer, self->context, self->error);
    return put(self, NULL, bytes);
}

/* ---------------------------------------------------------------- maps */

/* Part by part: '/' comes before every other byte. */
static int compare_paths(const void *a, const void *b) {
    const unsigned char *x = (const unsigned char *)(*(const tensor *const *)a)->name;
    const unsigned char *y = (const unsigned char *)(*(const tensor *const *)b)->name;
    while (*x && *x == *y) x++, y++;
    int left = *x == '/' ? 1 : *x ? *x + 1 : 0, right = *y == '/' ? 1 : *y ? *y + 1 : 0;
    return left - right;
}

static size_t part_length(const char *name) {
    return strcspn(name, "/");
}

static bool same_part(const char *x, const char *y) {
    size_t length = part_length(x);
    return part_length(y) == length && memcmp(x, y, length) == 0;
}

/* The map of sorted[begin … end), whose names agree in their first `prefix` bytes. */
static int put_names(writer *self, size_t begin, size_t end, size_t prefix, size_t depth) {
    size_t keys = 0, next;
    for (size_t i = begin; i < end; i++)
        keys += i == begin || !same_part(self->sorted[i - 1]->name + prefix, self->sorted[i]->name + prefix);
    if (put_map(self, keys)) return -1;
    for (size_t i = begin; i < end; i = next) {
        const char *rest = self->sorted[i]->name + prefix;
        size_t length = part_length(rest);
        for (next = i + 1; next < end && same_part(rest, self->sorted[next]->name + prefix);) next++;
        if (put_text(self, rest, length)) return -1;
        int failed =
            rest[length] ? put_names(self, i, next, prefix + length + 1, depth + 1) : put_tensor(self, self->sorted[i]);
        if (failed) return -1;
    }
    return 0;
}

static int check_name(const writer *self, const char *name) {
    size_t depth = 1;
    if (!limn_utf8_valid(name, strlen(name)))
        return limn_fail(self->error, "%s: a name is not valid UTF-8: %s", self->path, name);
    for (const char *part = name; part; depth++) {
        size_t length = part_length(part);
        if (length == 0) return limn_fail(self->error, "%s: the name '%s' has an empty part", self->path, name);
        if (depth > DEPTH_MAX)
            return limn_fail(self->error, "%s: the name '%s' has more than %d parts", self->path, name, DEPTH_MAX);
        part = part[length] ? part + length + 1 : NULL;
    }
    return 0;
}

static int check_tensors(const writer *self) {
    size_t total = 0;
    for (size_t i = 0; i < self->count; i++) {
        const tensor *one = self->sorted[i];
        size_t count, bytes;
        if (check_name(self, one->name)) return -1;
        if (one->rank > TENSOR_MAX_RANK)
            return limn_fail(self->error, "%s: tensor '%s' has too many dimensions", self->path, one->name);
        if (tensor_measure(one, &count, &bytes, self->error))
            return limn_fail_context(self->error, "%s: tensor '%s'", self->path, one->name);
        if (bytes > SINK_BYTES_MAX - total) return limn_fail(self->error, "%s: the tensors are too large", self->path);
        total += bytes;
        if (i == 0) continue;
        const char *before = self->sorted[i - 1]->name;
        size_t length = strlen(before);
        if (strcmp(before, one->name) == 0)
            return limn_fail(self->error, "%s: two tensors are named '%s'", self->path, one->name);
        if (strncmp(before, one->name, length) == 0 && one->name[length] == '/')
            return limn_fail(self->error, "%s: '%s' is a tensor, and '%s' would lie in it", self->path, before, one->name);
    }
    return 0;
}

int flax_msgpack_write_chunked(const char *path, const tensor *tensors, size_t count, size_t chunk_bytes,
                               tensor_producer producer, void *context, limn_error *error) {
    writer self = {.path = path,
                   .tensors = tensors,
                   .count = count,
                   .chunk_bytes = chunk_bytes,
                   .producer = producer,
                   .context = context,
                   .error = error,
                   .sorted = limn_allocate(count, sizeof *self.sorted, error)};
    if (!self.sorted) return -1;
    for (size_t i = 0; i < count; i++) self.sorted[i] = &tensors[i];
    qsort(self.sorted, count, sizeof *self.sorted, compare_paths);
    int failed = check_tensors(&self);
    if (!failed) failed = put_names(&self, 0, count, 0, 0);
    if (!failed) {
        tensor_sink sink;
        failed = sink_open(&sink, path, self.total, error);
        sink.on_break = on_break;
        sink.context = &self;
        self.sink = &sink;
        if (!failed) failed = put_names(&self, 0, count, 0, 0);
        failed = sink_close(&sink, failed, error);
    }
    free(self.sorted);
    return failed;
}

int flax_msgpack_write(const char *path, const tensor *tensors, size_t count, tensor_producer producer, void *context,
                       limn_error *error) {
    return flax_msgpack_write_chunked(path, tensors, count, FLAX_CHUNK_BYTES, producer, context, error);
}
