/* safetensors (https://github.com/huggingface/safetensors, "Format"): eight bytes of little-endian header length, a JSON
 * header that gives each tensor's dtype, shape and [begin, end) in what follows, then the bytes of all tensors. */
#include "formats/internal.h"
#include "formats/sink.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, HEADER_MAX = 100 << 20, HEADER_ALIGNMENT = 8 };

static const struct {
    const char *name;
    tensor_type type;
} type_names[] = {
    {"F32", TENSOR_F32}, {"F16", TENSOR_F16}, {"BF16", TENSOR_BF16}, {"F64", TENSOR_F64},   {"I64", TENSOR_I64},
    {"I32", TENSOR_I32}, {"U16", TENSOR_U16}, {"U8", TENSOR_U8},     {"BOOL", TENSOR_BOOL},
};
enum { TYPE_NAMES = sizeof type_names / sizeof *type_names };

static uint64_t read_u64(const unsigned char *bytes) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static int read_shape(tensor *one, const json_t *shape) {
    if (!json_is_array(shape) || json_array_size(shape) > TENSOR_MAX_RANK) return -1;
    one->rank = json_array_size(shape);
    for (size_t i = 0; i < one->rank; i++) {
        const json_t *size = json_array_get(shape, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0) return -1;
        one->shape[i] = (size_t)json_integer_value(size);
    }
    return 0;
}

/* Where a tensor lies, for the check that no two overlap. */
typedef struct {
    size_t begin, end;
    const char *name;
} extent;

static int read_entry(tensor_file *file, const char *name, const json_t *entry, const unsigned char *data, size_t data_size,
                      extent *out_extent, limn_error *error) {
    tensor one = {.name = name};
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    size_t known = 0;
    while (known < TYPE_NAMES && (!type || strcmp(type, type_names[known].name) != 0)) known++;
    if (known == TYPE_NAMES)
        return limn_fail(error, "%s: tensor '%s' has the type %s, which is not read here", file->path, name,
                         type ? type : "(none)");
    one.type = type_names[known].type;
    if (read_shape(&one, json_object_get(entry, "shape")))
        return limn_fail(error, "%s: tensor '%s' has no shape of at most %d sizes", file->path, name, TENSOR_MAX_RANK);
    size_t bytes;
    if (tensor_measure(&one, &one.count, &bytes, error)) return limn_fail_context(error, "%s: tensor '%s'", file->path, name);
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin))
        return limn_fail(error, "%s: tensor '%s' has no data_offsets [begin, end]", file->path, name);
    out_extent->begin = (size_t)json_integer_value(begin);
    out_extent->end = (size_t)json_integer_value(end);
    out_extent->name = name;
    if (out_extent->end > data_size)
        return limn_fail(error, "%s: tensor '%s' ends at byte %zu of %zu: the file is cut short; fetch it again", file->path,
                         name, out_extent->end, data_size);
    if (out_extent->end - out_extent->begin != bytes)
        return limn_fail(error, "%s: tensor '%s' has %zu bytes but its shape and type need %zu", file->path, name,
                         out_extent->end - out_extent->begin, bytes);
    one.data = data ? data + out_extent->begin : NULL;
    return tensor_file_add(file, &one, error);
}

static int compare_extents(const void *a, const void *b) {
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The format allows neither overlaps nor holes. */
static int check_extents(const tensor_file *file, extent *extents, size_t count, size_t data_size, limn_error *error) {
    size_t held = 0;
    qsort(extents, count, sizeof *extents, compare_extents);
    for (size_t i = 0; i < count; i++) held += extents[i].end - extents[i].begin;
    for (size_t i = 1; i < count; i++)
        if (extents[i].begin < extents[i - 1].end)
            return limn_fail(error, "%s: tensors '%s' and '%s' overlap: the file is damaged", file->path, extents[i - 1].name,
                             extents[i].name);
    if (held != data_size)
        return limn_fail(error, "%s: %zu of its bytes belong to no tensor: the file is damaged", file->path, data_size - held);
    return 0;
}

static int read_header(tensor_file *file, const json_t *header, size_t header_size, limn_error *error) {
    const unsigned char *data = file->mapping.data + LENGTH_BYTES + header_size;
    size_t data_size = file->mapping.size - LENGTH_BYTES - header_size, count = 0;
    extent *extents = limn_allocate(json_object_size(header) + 1, sizeof *extents, error);
    if (!extents) return -1;
    int failed = 0;
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            file->metadata = json_incref(entry);
            if (!json_is_object(entry)) failed = limn_fail(error, "%s: __metadata__ is not an object", file->path);
        } else {
            failed = read_entry(file, name, entry, data, data_size, &extents[count++], error);
        }
        if (failed) break;
    }
    if (!failed) failed = check_extents(file, extents, count, data_size, error);
    free(extents);
    return failed;
}

tensor_file *safetensors_open(const char *path, limn_error *error) {
    tensor_file *file = tensor_file_create(path, TENSOR_FORM_SAFETENSORS, error);
    if (!file) return NULL;
    int failed = 0;
    json_t *header = NULL;
    uint64_t header_size = file->mapping.size >= LENGTH_BYTES ? read_u64(file->mapping.data) : UINT64_MAX;
    if (header_size == UINT64_MAX || header_size > file->mapping.size - LENGTH_BYTES) {
        failed = limn_fail(error, "%s: not a safetensors file, or cut short", path);
    } else if (header_size > HEADER_MAX) {
        failed = limn_fail(error, "%s: a header of %llu bytes is not believable", path, (unsigned long long)header_size);
    } else {
        json_error_t trouble;
        header =
            json_loadb((const char *)file->mapping.data + LENGTH_BYTES, (size_t)header_size, JSON_REJECT_DUPLICATES, &trouble);
        if (!header)
            failed = limn_fail(error, "%s: bad header: %s", path, trouble.text);
        else if (!json_is_object(header))
            failed = limn_fail(error, "%s: bad header: not an object", path);
    }
    if (!failed) failed = read_header(file, header, (size_t)header_size, error);
    if (!failed) failed = tensor_file_sort(file, error);
    json_decref(header);
    if (!failed) return file;
    tensor_file_close(file);
    return NULL;
}

/* ---------------------------------------------------------------- writing */

static int compare_pointers(const void *a, const void *b) {
    return strcmp((*(const tensor *const *)a)->name, (*(const tensor *const *)b)->name);
}

static int append_quoted(limn_buffer *out, const char *text, limn_error *error) {
    json_t *string = json_string(text);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    int failed = quoted ? limn_buffer_append(out, quoted, strlen(quoted), error)
                        : limn_fail(error, "a tensor's name is not valid UTF-8: %s", text);
    free(quoted);
    json_decref(string);
    return failed;
}

/* Appends `"name":{"dtype":…,"shape":[…],"data_offsets":[begin,end]}` and moves *offset to the end. */
static int append_entry(limn_buffer *out, const tensor *one, size_t *offset, limn_error *error) {
    size_t count, bytes, known = 0;
    if (one->rank > TENSOR_MAX_RANK)
        return limn_fail(error, "tensor '%s' has more than %d dimensions", one->name, TENSOR_MAX_RANK);
    if (tensor_measure(one, &count, &bytes, error)) return limn_fail_context(error, "tensor '%s'", one->name);
    while (known + 1 < TYPE_NAMES && type_names[known].type != one->type) known++;
    if (strcmp(one->name, "__metadata__") == 0) return limn_fail(error, "a tensor cannot be named '__metadata__'");
    if (append_quoted(out, one->name, error) ||
        limn_buffer_printf(out, error, ":{\"dtype\":\"%s\",\"shape\":[", type_names[known].name))
        return -1;
    for (size_t i = 0; i < one->rank; i++)
        if (limn_buffer_printf(out, error, "%s%zu", i ? "," : "", one->shape[i])) return -1;
    if (limn_buffer_printf(out, error, "],\"data_offsets\":[%zu,%zu]}", *offset, *offset + bytes)) return -1;
    *offset += bytes;
    return 0;
}

static int build_header(limn_buffer *out, const tensor *const *sorted, size_t count, const json_t *metadata,
                        limn_error *error) {
    size_t offset = 0;
    if (limn_buffer_append(out, "{", 1, error)) return -1;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key,
                        value) if (!json_is_string(value)) return limn_fail(error, "metadata '%s' is not a text", key);
    if (metadata) {
        char *text = json_dumps(metadata, JSON_COMPACT | JSON_SORT_KEYS);
        int failed = text ? limn_buffer_printf(out, error, "\"__metadata__\":%s%s", text, count ? "," : "")
                          : limn_fail(error, "metadata that cannot be written as JSON");
        free(text);
        if (failed) return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            return limn_fail(error, "two tensors are named '%s'", sorted[i]->name);
        if ((i > 0 && limn_buffer_append(out, ",", 1, error)) || append_entry(out, sorted[i], &offset, error)) return -1;
    }
    if (limn_buffer_append(out, "}", 1, error)) return -1;
    /* Spaces up to a multiple of eight, so that mapped tensors lie aligned. */
    while (out->size % HEADER_ALIGNMENT != 0)
        if (limn_buffer_append(out, " ", 1, error)) return -1;
    return 0;
}

/* A model's tensors in the order of the file. */
typedef struct {
    const tensor *tensors;
    const tensor **sorted;
    size_t count;
} ordered;

static int write_file(const char *path, const ordered *order, const limn_buffer *header, tensor_producer producer,
                      void *context, limn_error *error) {
    unsigned char length[LENGTH_BYTES];
    size_t total = sizeof length + header->size, elements, bytes;
    for (size_t i = 0; i < order->count; i++)
        if (tensor_measure(order->sorted[i], &elements, &bytes, error) || __builtin_add_overflow(total, bytes, &total))
            return limn_fail(error, "%s: the tensors are too large", path);
    for (size_t i = 0; i < LENGTH_BYTES; i++) length[i] = (unsigned char)(header->size >> (8 * i));
    tensor_sink sink;
    int failed = sink_open(&sink, path, total, error);
    if (!failed) failed = sink_put(&sink, length, sizeof length, error);
    if (!failed) failed = sink_put(&sink, header->data, header->size, error);
    for (size_t i = 0; !failed && i < order->count; i++) {
        tensor_measure(order->sorted[i], &elements, &bytes, NULL);
        failed = sink_put_tensor(&sink, order->tensors, (size_t)(order->sorted[i] - order->tensors), bytes, producer, context,
                                 error);
    }
    return sink_close(&sink, failed, error);
}

int safetensors_write_from(const char *path, const tensor *tensors, size_t count, const json_t *metadata,
                           tensor_producer producer, void *context, limn_error *error) {
    ordered order = {.tensors = tensors, .sorted = limn_allocate(count, sizeof *order.sorted, error), .count = count};
    if (!order.sorted) return -1;
    for (size_t i = 0; i < count; i++) order.sorted[i] = &tensors[i];
    qsort(order.sorted, count, sizeof *order.sorted, compare_pointers);
    limn_buffer header = {0};
    int failed = build_header(&header, order.sorted, count, metadata, error);
    if (failed)
        limn_fail_context(error, "%s", path);
    else
        failed = write_file(path, &order, &header, producer, context, error);
    limn_buffer_free(&header);
    free(order.sorted);
    return failed;
}

/* Pieces of a tensor that does not lie in one run are gathered here. */
enum { PIECE_BYTES = 1 << 20 };

static int produce_own(void *context, size_t index, tensor_sink *sink, limn_error *error) {
    const tensor *one = (const tensor *)context + index;
    size_t count, bytes, size = tensor_type_size(one->type);
    if (tensor_measure(one, &count, &bytes, error)) return -1;
    if (!one->layout) return tensor_sink_write(sink, one->data, bytes, error);
    unsigned char *piece = limn_allocate(PIECE_BYTES, 1, error);
    int failed = piece ? 0 : -1;
    for (size_t start = 0, part; !failed && start < count; start += part) {
        part = count - start < PIECE_BYTES / size ? count - start : PIECE_BYTES / size;
        tensor_copy(one, start, part, piece);
        failed = tensor_sink_write(sink, piece, part * size, error);
    }
    free(piece);
    return failed;
}

int safetensors_write(const char *path, const tensor *tensors, size_t count, const json_t *metadata, limn_error *error) {
    return safetensors_write_from(path, tensors, count, metadata, produce_own, (void *)(uintptr_t)tensors, error);
}
