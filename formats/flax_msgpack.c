/* Flax's checkpoints: flax.serialization.to_bytes, which is msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md)
 * of nested maps. Leaves are extension type 1, an array packed in turn as (shape, dtype name, raw bytes), or type 3, a NumPy
 * scalar packed in the same way. An array above 1 GiB is a map of its shape and its chunks. */
#include "formats/internal.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64, NAME_MAX_BYTES = 1024, EXTENSION_ARRAY = 1, EXTENSION_COMPLEX = 2, EXTENSION_SCALAR = 3 };

static const char chunked_mark[] = "__msgpack_chunked_array__";

/* What lies at a place: its kind, and either a number or a length. */
typedef enum {
    ITEM_NIL,
    ITEM_BOOL,
    ITEM_INTEGER,
    ITEM_FLOAT,
    ITEM_STRING,
    ITEM_BINARY,
    ITEM_ARRAY,
    ITEM_MAP,
    ITEM_EXTENSION
} item_kind;
typedef struct {
    item_kind kind;
    uint64_t length;            /* bytes of text, binary and extension; items of an array; pairs of a map; an integer's value */
    bool negative;              /* of an integer */
    int extension;              /* its type */
    const unsigned char *bytes; /* of text, binary and extension */
} item;

typedef struct {
    const unsigned char *at, *end;
    tensor_file *file;
    char name[NAME_MAX_BYTES];
    size_t name_length;
    limn_error *error;
} reader;

static int damaged(reader *self, const char *what) {
    return limn_fail(self->error, "%s: byte %zu%s%.200s: %s", self->file->path, (size_t)(self->at - self->file->mapping.data),
                     self->name_length ? ", in " : "", self->name_length ? self->name : "", what);
}

static int take_number(reader *self, size_t bytes, uint64_t *out) {
    if ((size_t)(self->end - self->at) < bytes) return damaged(self, "the file is cut short; fetch it again");
    *out = 0;
    for (size_t i = 0; i < bytes; i++) *out = *out << 8 | *self->at++;
    return 0;
}

/* The bytes of text, binary or an extension, whose length is known. */
static int take_bytes(reader *self, item *out) {
    if (out->length > (size_t)(self->end - self->at))
        return damaged(self, "a length goes past the end: the file is cut short or damaged");
    out->bytes = self->at;
    self->at += out->length;
    return 0;
}

static int take_sized(reader *self, item *out, item_kind kind, size_t length_bytes) {
    out->kind = kind;
    return take_number(self, length_bytes, &out->length);
}

static int take_extension(reader *self, item *out, size_t length_bytes, uint64_t fixed) {
    uint64_t type = 0;
    out->kind = ITEM_EXTENSION;
    out->length = fixed;
    if (length_bytes && take_number(self, length_bytes, &out->length)) return -1;
    if (take_number(self, 1, &type)) return -1;
    out->extension = (int)type;
    return take_bytes(self, out);
}

static int take_integer(reader *self, item *out, size_t bytes, bool is_signed) {
    out->kind = ITEM_INTEGER;
    if (take_number(self, bytes, &out->length)) return -1;
    out->negative = is_signed && out->length >> (8 * bytes - 1);
    return 0;
}

/* Reads the head of the next item; text, binary and extensions whole. */
static int take(reader *self, item *out) {
    uint64_t byte = 0;
    memset(out, 0, sizeof *out);
    if (take_number(self, 1, &byte)) return -1;
    if (byte <= 0x7f || byte >= 0xe0) {
        out->kind = ITEM_INTEGER;
        out->length = byte;
        out->negative = byte >= 0xe0;
        return 0;
    }
    if (byte <= 0x9f) {
        out->kind = byte <= 0x8f ? ITEM_MAP : ITEM_ARRAY;
        out->length = byte & 0x0f;
        return 0;
    }
    if (byte <= 0xbf) {
        out->kind = ITEM_STRING;
        out->length = byte & 0x1f;
        return take_bytes(self, out);
    }
    switch (byte) {
    case 0xc0:
        out->kind = ITEM_NIL;
        return 0;
    case 0xc2:
    case 0xc3:
        out->kind = ITEM_BOOL;
        out->length = byte == 0xc3;
        return 0;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return take_sized(self, out, ITEM_BINARY, (size_t)1 << (byte - 0xc4)) || take_bytes(self, out) ? -1 : 0;
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return take_extension(self, out, (size_t)1 << (byte - 0xc7), 0);
    case 0xca:
    case 0xcb:
        return take_sized(self, out, ITEM_FLOAT, byte == 0xca ? 4 : 8);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return take_integer(self, out, (size_t)1 << (byte - 0xcc), false);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return take_integer(self, out, (size_t)1 << (byte - 0xd0), true);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return take_extension(self, out, 0, (uint64_t)1 << (byte - 0xd4));
    case 0xd9:
    case 0xda:
    case 0xdb:
        return take_sized(self, out, ITEM_STRING, (size_t)1 << (byte - 0xd9)) || take_bytes(self, out) ? -1 : 0;
    case 0xdc:
    case 0xdd:
        return take_sized(self, out, ITEM_ARRAY, byte == 0xdc ? 2 : 4);
    case 0xde:
    case 0xdf:
        return take_sized(self, out, ITEM_MAP, byte == 0xde ? 2 : 4);
    default:
        return damaged(self, "not msgpack");
    }
}

static int type_from_name(reader *self, const item *name, tensor_type *out) {
    static const struct {
        const char *name;
        tensor_type type;
    } known[] = {{"float32", TENSOR_F32}, {"float16", TENSOR_F16}, {"bfloat16", TENSOR_BF16},
                 {"float64", TENSOR_F64}, {"int64", TENSOR_I64},   {"int32", TENSOR_I32},
                 {"uint16", TENSOR_U16},  {"uint8", TENSOR_U8},    {"bool", TENSOR_BOOL}};
    if (name->kind != ITEM_STRING && name->kind != ITEM_BINARY) return damaged(self, "an array without the name of its type");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == name->length && memcmp(known[i].name, name->bytes, name->length) == 0) {
            *out = known[i].type;
            return 0;
        }
    return damaged(self, "an array of a type that is not read here");
}

static int take_shape(reader *self, tensor *one) {
    item shape, size;
    if (take(self, &shape)) return -1;
    if (shape.kind != ITEM_ARRAY || shape.length > TENSOR_MAX_RANK)
        return damaged(self, "an array without a shape of at most 8 sizes");
    one->rank = (size_t)shape.length;
    for (size_t i = 0; i < one->rank; i++) {
        if (take(self, &size)) return -1;
        if (size.kind != ITEM_INTEGER || size.negative) return damaged(self, "a shape that is not of whole numbers");
        one->shape[i] = (size_t)size.length;
    }
    return 0;
}

/* Reads the inside of an extension, which is msgpack again: all of a tensor but its name. */
static int read_array(reader *self, const item *extension, tensor *out) {
    reader inside = *self;
    inside.at = extension->bytes;
    inside.end = extension->bytes + extension->length;
    *out = (tensor){.name = self->name};
    item tuple, name, bytes;
    if (take(&inside, &tuple)) return -1;
    if (tuple.kind != ITEM_ARRAY || tuple.length != 3) return damaged(&inside, "an array that is not (shape, type, bytes)");
    if (take_shape(&inside, out) || take(&inside, &name) || type_from_name(&inside, &name, &out->type) || take(&inside, &bytes))
        return -1;
    if (bytes.kind != ITEM_BINARY) return damaged(&inside, "an array without its bytes");
    if (inside.at != inside.end) return damaged(&inside, "bytes left over after an array");
    size_t needed;
    if (tensor_measure(out, &out->count, &needed, self->error))
        return limn_fail_context(self->error, "%s: %s", self->file->path, self->name);
    if (needed != bytes.length)
        return limn_fail(self->error, "%s: %s has %llu bytes but its shape and type need %zu", self->file->path, self->name,
                         (unsigned long long)bytes.length, needed);
    out->data = bytes.bytes;
    return 0;
}

static int add_tensor(reader *self, const item *extension) {
    tensor one;
    return read_array(self, extension, &one) || tensor_file_add(self->file, &one, self->error) ? -1 : 0;
}

/* ---------------------------------------------------------------- arrays in chunks */

static bool is_text(const item *one, const char *text) {
    return one->kind == ITEM_STRING && one->length == strlen(text) && memcmp(one->bytes, text, (size_t)one->length) == 0;
}

/* A map whose keys are "0", "1", … is Flax's tuple: reads its head, or a key of it. */
static int take_positions(reader *self, const char *key, uint64_t *out_count) {
    item name, map;
    if (take(self, &name) || take(self, &map)) return -1;
    if (!is_text(&name, key) || map.kind != ITEM_MAP) return damaged(self, "an array in chunks without its shape and chunks");
    *out_count = map.length;
    return 0;
}

static int take_position(reader *self, size_t position) {
    char text[24];
    item key;
    snprintf(text, sizeof text, "%zu", position);
    if (take(self, &key)) return -1;
    return is_text(&key, text) ? 0 : damaged(self, "an array in chunks that are not numbered in order");
}

static int take_chunked_shape(reader *self, tensor *one) {
    uint64_t rank;
    item size;
    if (take_positions(self, "shape", &rank)) return -1;
    if (rank > TENSOR_MAX_RANK) return damaged(self, "an array without a shape of at most 8 sizes");
    for (one->rank = 0; one->rank < rank; one->rank++) {
        if (take_position(self, one->rank) || take(self, &size)) return -1;
        if (size.kind != ITEM_INTEGER || size.negative) return damaged(self, "a shape that is not of whole numbers");
        one->shape[one->rank] = (size_t)size.length;
    }
    return 0;
}

/* Reads chunk after chunk into the layout; *out_count is the number of elements of all. */
static int take_chunks(reader *self, tensor_layout *layout, size_t count, tensor *one, size_t *out_count) {
    *out_count = 0;
    for (size_t i = 0; i < count; i++) {
        item value;
        tensor chunk;
        if (take_position(self, i) || take(self, &value)) return -1;
        if (value.kind != ITEM_EXTENSION || value.extension != EXTENSION_ARRAY)
            return damaged(self, "an array in chunks of which one is none");
        if (read_array(self, &value, &chunk)) return -1;
        if (chunk.rank != 1 || (i > 0 && chunk.type != one->type))
            return damaged(self, "an array in chunks that are not flat or not of one type");
        one->type = chunk.type;
        *out_count += chunk.count; /* cannot overflow: all lie in the file, one after another */
        layout->chunks[i] = (tensor_chunk){*out_count, chunk.data};
    }
    return 0;
}

/* The rest of {"__msgpack_chunked_array__": true, "shape": {"0": …}, "chunks": {"0": array, …}}, after the first key. */
static int read_chunked(reader *self, uint64_t pairs) {
    item mark;
    tensor one = {.name = self->name};
    uint64_t count;
    size_t held, needed;
    if (take(self, &mark)) return -1;
    if (pairs != 3 || mark.kind != ITEM_BOOL || !mark.length)
        return damaged(self, "an array in chunks without its shape and chunks");
    if (take_chunked_shape(self, &one) || take_positions(self, "chunks", &count)) return -1;
    if (count == 0 || count > (size_t)(self->end - self->at)) return damaged(self, "an array in chunks without them");
    tensor_layout *layout = limn_allocate(1, sizeof *layout + (size_t)count * sizeof *layout->chunks, self->error);
    if (!layout) return limn_fail_context(self->error, "%s", self->file->path);
    layout->chunk_count = (size_t)count;
    one.layout = layout;
    int failed = take_chunks(self, layout, (size_t)count, &one, &held);
    if (!failed && (tensor_measure(&one, &one.count, &needed, NULL) || one.count != held))
        failed = damaged(self, "an array whose chunks do not add up to its shape");
    if (!failed) failed = tensor_file_add(self->file, &one, self->error);
    if (failed) free(layout);
    return failed;
}

/* ---------------------------------------------------------------- maps */

static int read_value(reader *self, size_t depth);

/* Reads one key and its value, whose name is the name so far, '/', key. */
static int read_pair(reader *self, size_t depth) {
    item key;
    if (take(self, &key)) return -1;
    if (key.kind != ITEM_STRING || !limn_utf8_valid((const char *)key.bytes, (size_t)key.length) ||
        memchr(key.bytes, 0, (size_t)key.length))
        return damaged(self, "a key that is not text");
    if (is_text(&key, chunked_mark)) return damaged(self, "an array in chunks whose mark does not come first");
    size_t before = self->name_length, slash = before ? 1 : 0;
    if (key.length >= NAME_MAX_BYTES - before - slash) return damaged(self, "names nested longer than 1023 bytes");
    if (slash) self->name[before] = '/';
    memcpy(self->name + before + slash, key.bytes, (size_t)key.length);
    self->name_length = before + slash + (size_t)key.length;
    self->name[self->name_length] = '\0';
    if (read_value(self, depth)) return -1;
    self->name_length = before;
    self->name[before] = '\0';
    return 0;
}

/* Whether the map begins with the mark of an array in chunks, as Flax writes it; then the mark is read past. */
static int take_mark(reader *self, const item *map, bool *out) {
    item key = {0};
    const unsigned char *before = self->at;
    if (map->length && take(self, &key)) return -1;
    *out = map->length && is_text(&key, chunked_mark);
    if (!*out) self->at = before;
    return 0;
}

static int read_value(reader *self, size_t depth) {
    item value;
    bool chunked;
    if (take(self, &value)) return -1;
    switch (value.kind) {
    case ITEM_MAP:
        if (depth >= DEPTH_MAX) return damaged(self, "maps nested more than 64 levels deep");
        if (take_mark(self, &value, &chunked)) return -1;
        if (chunked) return read_chunked(self, value.length);
        for (uint64_t i = 0; i < value.length; i++)
            if (read_pair(self, depth + 1)) return -1;
        return 0;
    case ITEM_ARRAY:
        return damaged(self, "a list, where maps and arrays are expected");
    case ITEM_EXTENSION:
        if (value.extension == EXTENSION_ARRAY || value.extension == EXTENSION_SCALAR) return add_tensor(self, &value);
        return damaged(self, value.extension == EXTENSION_COMPLEX ? "a complex number, which is not read here"
                                                                  : "an extension that Flax does not write");
    default:
        return 0; /* a plain number, text or nil beside the parameters (a step count, a name) is not a tensor */
    }
}

tensor_file *flax_msgpack_open(const char *path, limn_error *error) {
    tensor_file *file = tensor_file_create(path, TENSOR_FORM_FLAX, error);
    if (!file) return NULL;
    reader self = {.at = file->mapping.data, .file = file, .error = error};
    int failed = file->mapping.size == 0 ? limn_fail(error, "%s: the file is empty", path) : 0;
    if (!failed) self.end = self.at + file->mapping.size;
    if (!failed && (*self.at & 0xf0) != 0x80 && *self.at != 0xde && *self.at != 0xdf)
        failed = limn_fail(error, "%s: not a Flax checkpoint: its msgpack does not begin with a map", path);
    if (!failed) failed = read_value(&self, 0);
    if (!failed && self.at != self.end) failed = damaged(&self, "bytes left over after the checkpoint");
    if (!failed) failed = tensor_file_sort(file, error);
    if (!failed) return file;
    tensor_file_close(file);
    return NULL;
}
