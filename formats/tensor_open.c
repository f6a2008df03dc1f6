/* Whatever holds weights, told apart by content; and sets of files under an index. */
#include "formats/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- which form */

typedef enum { CONTENT_SAFETENSORS, CONTENT_FLAX, CONTENT_PYTORCH, CONTENT_JSON, CONTENT_UNKNOWN } content;

static bool begins(const limn_mapping *mapping, size_t at, const char *text) {
    size_t length = strlen(text);
    return mapping->size >= at + length && memcmp(mapping->data + at, text, length) == 0;
}

/* The first byte that is not white space. */
static unsigned char first_visible(const limn_mapping *mapping) {
    size_t at = begins(mapping, 0, "\xef\xbb\xbf") ? 3 : 0;
    while (at < mapping->size && memchr(" \t\r\n", mapping->data[at], 4)) at++;
    return at < mapping->size ? mapping->data[at] : 0;
}

/* A map of msgpack, whose first key is a text (many files begin with 0x89, which alone would be a map). */
static bool begins_msgpack(const limn_mapping *mapping) {
    unsigned char first = mapping->data[0];
    size_t key = (first & 0xf0) == 0x80 ? 1 : first == 0xde ? 3 : first == 0xdf ? 5 : 0;
    if (key == 0) return false;
    return mapping->size <= key || (mapping->data[key] & 0xe0) == 0xa0 ||
           (mapping->data[key] >= 0xd9 && mapping->data[key] <= 0xdb);
}

static content recognise(const limn_mapping *mapping) {
    uint64_t length = 0;
    for (size_t i = 8; i-- > 0 && mapping->size > 8;) length = length << 8 | mapping->data[i];
    if (mapping->size > 8 && length <= mapping->size - 8 && mapping->data[8] == '{') return CONTENT_SAFETENSORS;
    if (begins(mapping, 0, "PK") || begins(mapping, 257, "ustar") || begins(mapping, 0, "L119547037146038801333356L"))
        return CONTENT_PYTORCH;
    if (first_visible(mapping) == '{') return CONTENT_JSON;
    if (mapping->size == 0) return CONTENT_UNKNOWN;
    /* 0x80 begins a pickle of protocol 2 or later, and is msgpack's empty map. */
    if (mapping->data[0] == 0x80 && mapping->size > 1) return CONTENT_PYTORCH;
    return begins_msgpack(mapping) ? CONTENT_FLAX : CONTENT_UNKNOWN;
}

static void fail_unknown(const limn_mapping *mapping, const char *path, limn_error *error) {
    if (mapping->size == 0)
        limn_fail(error, "%s: the file is empty", path);
    else if (begins(mapping, 0, "version https://git-lfs"))
        limn_fail(error, "%s: a Git LFS pointer, not the file itself; fetch it with git lfs pull", path);
    else if (first_visible(mapping) == '<')
        limn_fail(error, "%s: a web page, not weights; fetch the file again", path);
    else
        limn_fail(error, "%s: not safetensors, nor Flax msgpack, a PyTorch checkpoint or an index of these", path);
}

static tensor_file *open_index(const char *path, limn_error *error);

/* `alone`: an index is not followed. */
static tensor_file *open_any(const char *path, bool alone, limn_error *error) {
    limn_mapping mapping;
    if (limn_map(&mapping, path, error)) return NULL;
    content found = recognise(&mapping);
    if (found == CONTENT_UNKNOWN) fail_unknown(&mapping, path, error);
    limn_unmap(&mapping);
    switch (found) {
    case CONTENT_SAFETENSORS:
        return safetensors_open(path, error);
    case CONTENT_FLAX:
        return flax_msgpack_open(path, error);
    case CONTENT_PYTORCH:
        return pytorch_open(path, error);
    case CONTENT_JSON:
        if (!alone) return open_index(path, error);
        limn_fail(error, "%s: a JSON file, where an index expects weights", path);
        return NULL;
    default:
        return NULL;
    }
}

tensor_file *tensor_file_open(const char *path, limn_error *error) {
    return open_any(path, false, error);
}

/* ---------------------------------------------------------------- an index and its shards */

/* A line of the weight_map. */
typedef struct {
    const char *tensor, *file;
} mapped;

static int compare_files(const void *a, const void *b) {
    const mapped *x = a, *y = b;
    int order = strcmp(x->file, y->file);
    return order ? order : strcmp(x->tensor, y->tensor);
}

/* The lines of the map, sorted by file and tensor. NULL with an error; an empty map is one. */
static mapped *read_map(const char *path, const json_t *index, size_t *out_count, limn_error *error) {
    const json_t *map = json_object_get(index, "weight_map");
    size_t count = 0;
    if (json_object_size(map) == 0) { /* also of what is no object */
        limn_fail(error, "%s: a JSON file without a weight_map: not an index of weights", path);
        return NULL;
    }
    mapped *lines = limn_allocate(json_object_size(map), sizeof *lines, error);
    if (!lines) return NULL;
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)(uintptr_t)map, name, file) {
        const char *text = json_string_value(file);
        if (!text || !*text || strchr(text, '/') || strcmp(text, ".") == 0 || strcmp(text, "..") == 0) {
            limn_fail(error, "%s: tensor '%s' is in '%s', which is not the name of a file beside the index", path, name,
                      text ? text : "(no text)");
            free(lines);
            return NULL;
        }
        lines[count++] = (mapped){name, text};
    }
    qsort(lines, count, sizeof *lines, compare_files);
    *out_count = count;
    return lines;
}

/* Opens the shard of these lines and adds its tensors, which must be those of the lines. */
static int add_shard(tensor_file *set, const mapped *lines, size_t count, limn_error *error) {
    char path[4096];
    const char *slash = strrchr(set->path, '/');
    int folder = slash ? (int)(slash + 1 - set->path) : 0;
    int length = snprintf(path, sizeof path, "%.*s%s", folder, set->path, lines->file);
    if (length < 0 || (size_t)length >= sizeof path) return limn_fail(error, "%s: a path is too long", set->path);
    tensor_file *shard = open_any(path, true, error);
    if (!shard) return limn_fail_context(error, "%s", set->path);
    set->shards[set->shard_count++] = shard;
    if (set->shard_count > 1 && shard->form != set->form)
        return limn_fail(error, "%s: its shards are of different forms", set->path);
    set->form = shard->form;
    for (size_t i = 0; i < count; i++) {
        const tensor *found = tensor_file_find(shard, lines[i].tensor);
        if (!found)
            return limn_fail(error, "%s: tensor '%s' is not in %s, where the index says; fetch both again", set->path,
                             lines[i].tensor, lines->file);
        if (tensor_file_add(set, found, error)) return -1;
    }
    for (size_t i = 0, k = 0; count != shard->count; i++, k++)
        if (k == count || strcmp(shard->tensors[i].name, lines[k].tensor) != 0)
            return limn_fail(error, "%s: %s holds the tensor '%s', which the index has not in it; fetch both again", set->path,
                             lines->file, shard->tensors[i].name);
    return 0;
}

static int add_shards(tensor_file *set, const mapped *lines, size_t count, limn_error *error) {
    size_t files = 0, end;
    for (size_t i = 0; i < count; i++) files += i == 0 || strcmp(lines[i].file, lines[i - 1].file) != 0;
    set->shards = limn_allocate(files, sizeof *set->shards, error);
    if (!set->shards) return -1;
    for (size_t begin = 0; begin < count; begin = end) {
        for (end = begin + 1; end < count && strcmp(lines[end].file, lines[begin].file) == 0; end++) continue;
        if (add_shard(set, lines + begin, end - begin, error)) return -1;
    }
    return tensor_file_sort(set, error);
}

static tensor_file *open_index(const char *path, limn_error *error) {
    json_t *index = limn_json_load(path, error);
    if (!index) return NULL;
    size_t count = 0;
    mapped *lines = read_map(path, index, &count, error);
    tensor_file *set = lines ? tensor_file_create(path, TENSOR_FORM_SAFETENSORS, error) : NULL;
    int failed = set ? add_shards(set, lines, count, error) : -1;
    if (!failed) set->metadata = json_incref(json_object_get(index, "metadata"));
    free(lines);
    json_decref(index);
    if (!failed) return set;
    tensor_file_close(set);
    return NULL;
}
