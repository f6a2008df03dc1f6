/* PyTorch's checkpoints: a pickle whose tensors are views of storages, with the storages' bytes beside it. In the zip form
 * (torch/serialization.py, _save) PREFIX/data.pkl is the pickle and PREFIX/data/KEY a storage each; in the stream before it
 * (_legacy_save) come a magic number, a version, facts about the machine, the pickle, the list of keys, all pickled, and then
 * each storage as its number of elements (8 bytes) and its bytes. */
#include "formats/internal.h"
#include "formats/pickle.h"
#include "formats/zip.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64, NAME_MAX_BYTES = 1024, GROWTH_MAX = 16, SLACK = 1 << 20, STREAM_VERSION = 1001 };

/* 0x1950a86a20f9469cfc6c, as protocols 2 and 0 write it. */
static const unsigned char magic_bytes[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
static const char magic_digits[] = "119547037146038801333356";

/* A storage of the stream form. */
typedef struct {
    const char *key;
    size_t key_length, element_size;
    uint32_t order; /* of its first mention in the pickle */
    const unsigned char *data;
    size_t size;
} stored;

typedef struct {
    tensor_file *file;
    pickle pickle;
    zip_directory zip; /* the zip form */
    const char *prefix;
    size_t prefix_length; /* with the slash */
    stored *storages;     /* the stream form, sorted by key */
    size_t storage_count;
    char name[NAME_MAX_BYTES]; /* of the value at work: keys joined with '.' */
    size_t name_length;
    size_t visits_left, text_left, data_left; /* what the values may still grow to; see set_limits */
    limn_error *error;
} reader;

static const pickle_value *value_at(const reader *self, uint32_t number) {
    return &self->pickle.values[number];
}

/* ---------------------------------------------------------------- storages */

static int find_in_zip(const reader *self, const pickle_value *key, const unsigned char **out_data, size_t *out_size) {
    char name[NAME_MAX_BYTES];
    size_t length = self->prefix_length + strlen("data/") + key->as.text.length;
    const zip_entry *entry = NULL;
    if (length < sizeof name) {
        memcpy(name, self->prefix, self->prefix_length);
        memcpy(name + self->prefix_length, "data/", strlen("data/"));
        memcpy(name + length - key->as.text.length, key->as.text.bytes, key->as.text.length);
        entry = zip_find(&self->zip, name, length);
    }
    if (!entry) return -1;
    *out_data = self->file->mapping.data + entry->data;
    *out_size = entry->size;
    return 0;
}

static int compare_keys(const stored *x, const stored *y) {
    size_t shorter = x->key_length < y->key_length ? x->key_length : y->key_length;
    int order = memcmp(x->key, y->key, shorter);
    return order ? order : (x->key_length > y->key_length) - (x->key_length < y->key_length);
}

static int compare_stored(const void *a, const void *b) {
    const stored *x = a, *y = b;
    int order = compare_keys(x, y);
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

static stored *find_stored(const reader *self, const pickle_value *key) {
    stored wanted = {.key = key->as.text.bytes, .key_length = key->as.text.length};
    size_t low = 0, high = self->storage_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_keys(&self->storages[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < self->storage_count && compare_keys(&self->storages[low], &wanted) == 0 ? &self->storages[low] : NULL;
}

/* The bytes of a storage, or of the view of one that old versions of torch could save. */
static int find_storage(const reader *self, const pickle_value *storage, const unsigned char **out_data, size_t *out_size) {
    size_t count, bytes;
    const uint32_t *parts = pickle_tuple(&self->pickle, storage, &count);
    const pickle_value *key = value_at(self, parts[2]);
    size_t element = tensor_type_size(storage->global->type);
    int shown = (int)(key->as.text.length < 100 ? key->as.text.length : 100);
    const stored *found = self->storages ? find_stored(self, key) : NULL;
    if (self->storages ? !found || !found->data : find_in_zip(self, key, out_data, out_size))
        return limn_fail(self->error, "%s: %s needs the storage %.*s, which the file does not hold", self->file->path,
                         self->name, shown, key->as.text.bytes);
    if (found) {
        *out_data = found->data;
        *out_size = found->size;
    }
    if (limn_multiply((size_t)value_at(self, parts[4])->as.integer, element, &bytes, self->error) || bytes != *out_size)
        return limn_fail(self->error, "%s: %s needs a storage of %lld elements of %zu bytes, but storage %.*s has %zu bytes",
                         self->file->path, self->name, (long long)value_at(self, parts[4])->as.integer, element, shown,
                         key->as.text.bytes, *out_size);
    if (count < 6 || value_at(self, parts[5])->kind == PICKLE_NONE) return 0;
    const uint32_t *view = pickle_tuple(&self->pickle, value_at(self, parts[5]), &count);
    if (count != 3 || value_at(self, view[1])->kind != PICKLE_INTEGER || value_at(self, view[2])->kind != PICKLE_INTEGER ||
        value_at(self, view[1])->as.integer < 0 || value_at(self, view[2])->as.integer < 0)
        return limn_fail(self->error, "%s: %s needs a view of a storage that is not (key, offset, size)", self->file->path,
                         self->name);
    size_t offset = (size_t)value_at(self, view[1])->as.integer, size = (size_t)value_at(self, view[2])->as.integer;
    if (offset > *out_size / element || size > *out_size / element - offset)
        return limn_fail(self->error, "%s: %s needs a view that goes past the end of its storage", self->file->path,
                         self->name);
    *out_data += offset * element;
    *out_size = size * element;
    return 0;
}

/* ---------------------------------------------------------------- tensors */

static bool is_contiguous(const tensor *one, const size_t *strides) {
    size_t expected = 1;
    for (size_t d = one->rank; d-- > 0;) {
        if (one->shape[d] != 1 && strides[d] != expected) return false;
        expected *= one->shape[d];
    }
    return true;
}

/* The number of elements from the first to the last one, both included. False when that overflows. */
static bool measure_extent(const tensor *one, const size_t *strides, size_t *out) {
    size_t extent = 1;
    for (size_t d = 0; d < one->rank; d++) {
        size_t reach;
        if (__builtin_mul_overflow(one->shape[d] - 1, strides[d], &reach) || __builtin_add_overflow(extent, reach, &extent))
            return false;
    }
    *out = extent;
    return true;
}

static int place_tensor(reader *self, tensor *one, const size_t *strides, size_t offset, const pickle_value *storage,
                        size_t bytes) {
    const unsigned char *data = NULL;
    size_t size = 0, extent, element = tensor_type_size(one->type);
    if (find_storage(self, storage, &data, &size)) return -1;
    if (one->count == 0) return 0;
    size_t elements = size / element;
    if (!measure_extent(one, strides, &extent) || offset > elements || extent > elements - offset)
        return limn_fail(self->error, "%s: tensor '%s' goes past the end of its storage of %zu bytes", self->file->path,
                         one->name, size);
    if (bytes > self->data_left)
        return limn_fail(self->error, "%s: the tensors take more than %d times the bytes of the file", self->file->path,
                         GROWTH_MAX);
    self->data_left -= bytes;
    data += offset * element;
    if (is_contiguous(one, strides)) {
        one->data = data;
        return 0;
    }
    tensor_layout *layout = limn_allocate(1, sizeof *layout, self->error);
    if (!layout) return limn_fail_context(self->error, "%s", self->file->path);
    layout->base = data;
    memcpy(layout->strides, strides, sizeof layout->strides);
    one->layout = layout;
    return 0;
}

static int add_tensor(reader *self, const pickle_value *value) {
    size_t strides[TENSOR_MAX_RANK] = {0}, count, bytes;
    const uint32_t *parts = pickle_tuple(&self->pickle, value, &count);
    const pickle_value *storage = value_at(self, parts[0]);
    tensor one = {.name = self->name_length ? self->name : "tensor", .type = value->global->type};
    if (!value->global->known || !storage->global->known)
        return limn_fail(self->error, "%s: tensor '%s' has the type %s, which is not read here", self->file->path, one.name,
                         value->global->known ? storage->global->dtype : value->global->dtype);
    const uint32_t *sizes = pickle_tuple(&self->pickle, value_at(self, parts[2]), &one.rank);
    const uint32_t *steps = pickle_tuple(&self->pickle, value_at(self, parts[3]), &one.rank);
    for (size_t d = 0; d < one.rank; d++) {
        one.shape[d] = (size_t)value_at(self, sizes[d])->as.integer;
        strides[d] = (size_t)value_at(self, steps[d])->as.integer;
    }
    if (tensor_measure(&one, &one.count, &bytes, self->error))
        return limn_fail_context(self->error, "%s: tensor '%s'", self->file->path, one.name);
    if (place_tensor(self, &one, strides, (size_t)value_at(self, parts[1])->as.integer, storage, bytes)) return -1;
    if (tensor_file_add(self->file, &one, self->error) == 0) return 0;
    free((tensor_layout *)(uintptr_t)one.layout);
    return -1;
}

/* Numbers and texts that lie in dicts; of a name that occurs twice the first is kept. */
static int add_metadata(reader *self, const pickle_value *value) {
    json_t *json = NULL;
    if (value->kind == PICKLE_INTEGER) json = json_integer(value->as.integer);
    if (value->kind == PICKLE_REAL) json = json_real(value->as.real); /* NULL for what JSON cannot say: not a number */
    if (value->kind == PICKLE_BOOL) json = json_boolean(value->as.truth);
    if (value->kind == PICKLE_TEXT) json = json_stringn(value->as.text.bytes, value->as.text.length);
    if (!json) return 0;
    if (!self->file->metadata) self->file->metadata = json_object();
    if (json_object_get(self->file->metadata, self->name) || json_object_set(self->file->metadata, self->name, json) == 0) {
        json_decref(json);
        return 0;
    }
    json_decref(json);
    return limn_fail(self->error, "%s: out of memory", self->file->path);
}

/* ---------------------------------------------------------------- from the root to the tensors */

/* Values may be shared, so what they spell out can be exponentially larger than the pickle; names, visits and data stay in
 * proportion to the file. */
static void set_limits(reader *self, size_t pickle_bytes) {
    self->visits_left = pickle_bytes + SLACK / 64; /* as a tree, each value takes a byte at least */
    self->text_left = pickle_bytes * GROWTH_MAX + SLACK;
    self->data_left =
        self->file->mapping.size < SIZE_MAX / GROWTH_MAX - SLACK ? self->file->mapping.size * GROWTH_MAX + SLACK : SIZE_MAX;
}

static int append_key(reader *self, const pickle_value *key) {
    char text[NAME_MAX_BYTES];
    int length;
    switch (key->kind) {
    case PICKLE_TEXT:
    case PICKLE_BYTES:
        if (!limn_utf8_valid(key->as.text.bytes, key->as.text.length) || memchr(key->as.text.bytes, 0, key->as.text.length))
            return limn_fail(self->error, "%s: a key after '%s' is not UTF-8 text", self->file->path, self->name);
        length = key->as.text.length < sizeof text
                     ? snprintf(text, sizeof text, "%.*s", (int)key->as.text.length, key->as.text.bytes)
                     : NAME_MAX_BYTES;
        break;
    case PICKLE_INTEGER:
        length = snprintf(text, sizeof text, "%lld", (long long)key->as.integer);
        break;
    case PICKLE_CLASS:
        length = snprintf(text, sizeof text, "%s.%s", key->global->module, key->global->name);
        break;
    default:
        length = snprintf(text, sizeof text, "?");
    }
    size_t dot = self->name_length ? 1 : 0;
    if ((size_t)length + dot >= sizeof self->name - self->name_length)
        return limn_fail(self->error, "%s: names nested longer than %d bytes", self->file->path, NAME_MAX_BYTES - 1);
    if (dot) self->name[self->name_length] = '.';
    memcpy(self->name + self->name_length + dot, text, (size_t)length + 1);
    self->name_length += dot + (size_t)length;
    return 0;
}

static int walk(reader *self, uint32_t number, size_t depth, bool in_dict);

static int walk_named(reader *self, const pickle_value *key, uint32_t number, size_t depth, bool in_dict) {
    size_t before = self->name_length;
    if (append_key(self, key) || walk(self, number, depth, in_dict)) return -1;
    self->name_length = before;
    self->name[before] = '\0';
    return 0;
}

static int walk_list(reader *self, const pickle_value *list, size_t depth) {
    pickle_value index = {.kind = PICKLE_INTEGER};
    for (uint32_t at = list->first; at != PICKLE_EMPTY; at = self->pickle.segments[at].next)
        for (uint32_t i = 0; i < self->pickle.segments[at].count; i++, index.as.integer++)
            if (walk_named(self, &index, self->pickle.items[self->pickle.segments[at].start + i], depth, false)) return -1;
    return 0;
}

/* A list of pairs (Python 2's OrderedDict). */
static int walk_pairs(reader *self, const pickle_value *list, size_t depth) {
    for (uint32_t at = list->first; at != PICKLE_EMPTY; at = self->pickle.segments[at].next)
        for (uint32_t i = 0; i < self->pickle.segments[at].count; i++) {
            const pickle_value *pair = value_at(self, self->pickle.items[self->pickle.segments[at].start + i]);
            uint32_t parts[2];
            size_t found = 0;
            if (pair->kind != PICKLE_TUPLE && pair->kind != PICKLE_LIST)
                return limn_fail(self->error, "%s: a dict whose items are not pairs", self->file->path);
            for (uint32_t s = pair->first; s != PICKLE_EMPTY && found <= 2; s = self->pickle.segments[s].next)
                for (uint32_t k = 0; k < self->pickle.segments[s].count && found <= 2; k++, found++)
                    if (found < 2) parts[found] = self->pickle.items[self->pickle.segments[s].start + k];
            if (found != 2) return limn_fail(self->error, "%s: a dict whose items are not pairs", self->file->path);
            if (walk_named(self, value_at(self, parts[0]), parts[1], depth, true)) return -1;
        }
    return 0;
}

static int walk_dict(reader *self, const pickle_value *dict, size_t depth) {
    if (dict->as.pairs != PICKLE_EMPTY && walk_pairs(self, value_at(self, dict->as.pairs), depth)) return -1;
    for (uint32_t at = dict->first; at != PICKLE_EMPTY; at = self->pickle.segments[at].next)
        for (uint32_t i = 0; i + 1 < self->pickle.segments[at].count; i += 2) {
            const uint32_t *pair = self->pickle.items + self->pickle.segments[at].start + i;
            if (walk_named(self, value_at(self, pair[0]), pair[1], depth, true)) return -1;
        }
    return 0;
}

/* Presents every tensor at and below a value. */
static int walk(reader *self, uint32_t number, size_t depth, bool in_dict) {
    const pickle_value *value = value_at(self, number);
    if (depth > DEPTH_MAX)
        return limn_fail(self->error, "%s: values nested more than %d levels deep, or within themselves", self->file->path,
                         DEPTH_MAX);
    size_t text = self->name_length + 64 + (value->kind == PICKLE_TEXT ? value->as.text.length : 0);
    if (self->visits_left == 0) return limn_fail(self->error, "%s: values that repeat without end", self->file->path);
    self->visits_left--;
    bool leaf = value->kind == PICKLE_TENSOR || (in_dict && value->kind >= PICKLE_BOOL && value->kind <= PICKLE_TEXT);
    if (leaf && text > self->text_left) return limn_fail(self->error, "%s: names that repeat without end", self->file->path);
    if (leaf) self->text_left -= text;
    switch (value->kind) {
    case PICKLE_TENSOR:
        return add_tensor(self, value);
    case PICKLE_DICT:
        return walk_dict(self, value, depth + 1);
    case PICKLE_LIST:
    case PICKLE_TUPLE:
        return walk_list(self, value, depth + 1);
    default:
        return leaf ? add_metadata(self, value) : 0;
    }
}

/* ---------------------------------------------------------------- the zip form */

/* PREFIX/data.pkl, which begins the checkpoint. */
static const zip_entry *find_pickle(reader *self) {
    static const char ending[] = "/data.pkl";
    size_t ending_length = strlen(ending);
    const zip_entry *found = NULL;
    for (size_t i = 0; i < self->zip.count; i++) {
        const zip_entry *entry = &self->zip.entries[i];
        if (entry->name_length <= ending_length ||
            memcmp(entry->name + entry->name_length - ending_length, ending, ending_length) != 0 ||
            (const char *)memchr(entry->name, '/', entry->name_length) != entry->name + entry->name_length - ending_length)
            continue;
        if (found) {
            limn_fail(self->error, "%s: a zip file of two checkpoints", self->file->path);
            return NULL;
        }
        found = entry;
    }
    if (!found) limn_fail(self->error, "%s: a zip file without a data.pkl: not a PyTorch checkpoint", self->file->path);
    return found;
}

/* An entry beside data.pkl; NULL when absent. */
static const zip_entry *find_beside(const reader *self, const char *name) {
    char whole[NAME_MAX_BYTES];
    int length = snprintf(whole, sizeof whole, "%.*s%s", (int)self->prefix_length, self->prefix, name);
    return length > 0 && (size_t)length < sizeof whole ? zip_find(&self->zip, whole, (size_t)length) : NULL;
}

static int check_stored(const reader *self) {
    for (size_t i = 0; i < self->zip.count; i++) {
        const zip_entry *entry = &self->zip.entries[i];
        if (entry->compressed)
            return limn_fail(self->error,
                             "%s: the zip entry %.*s is compressed, which torch.save never does; pack the file again without "
                             "compression (zip -0)",
                             self->file->path, (int)(entry->name_length < 200 ? entry->name_length : 200), entry->name);
    }
    return 0;
}

static int read_zip(reader *self) {
    const limn_mapping *mapping = &self->file->mapping;
    if (zip_read(&self->zip, mapping, self->file->path, self->error)) return -1;
    const zip_entry *entry = find_pickle(self);
    if (!entry) return -1;
    self->prefix = entry->name;
    self->prefix_length = entry->name_length - strlen("data.pkl");
    if (self->prefix_length >= NAME_MAX_BYTES / 2)
        return limn_fail(self->error, "%s: the zip entries' prefix is too long", self->file->path);
    if (find_beside(self, "constants.pkl"))
        return limn_fail(self->error, "%s: a TorchScript program, not a checkpoint; save its state_dict() instead",
                         self->file->path);
    if (check_stored(self)) return -1;
    const zip_entry *order = find_beside(self, "byteorder");
    if (order && (order->size != strlen("little") || memcmp(mapping->data + order->data, "little", order->size) != 0))
        return limn_fail(self->error, "%s: was not saved on a little-endian machine, which is not read here", self->file->path);
    uint32_t root;
    self->pickle.at = mapping->data + entry->data;
    self->pickle.end = self->pickle.at + entry->size;
    if (pickle_run(&self->pickle, &root)) return -1;
    if (self->pickle.at != self->pickle.end)
        return limn_fail(self->error, "%s: bytes left over after the pickle", self->file->path);
    set_limits(self, entry->size);
    return walk(self, root, 0, false);
}

/* ---------------------------------------------------------------- the stream */

static bool is_magic(const pickle_value *value) {
    return value->kind == PICKLE_LARGE && ((value->as.text.length == sizeof magic_bytes &&
                                            memcmp(value->as.text.bytes, magic_bytes, sizeof magic_bytes) == 0) ||
                                           (value->as.text.length == strlen(magic_digits) &&
                                            memcmp(value->as.text.bytes, magic_digits, strlen(magic_digits)) == 0));
}

/* The three pickles before the checkpoint's own. */
static int read_stream_head(reader *self) {
    uint32_t number;
    if (pickle_run(&self->pickle, &number)) return -1;
    if (!is_magic(value_at(self, number))) return limn_fail(self->error, "%s: not a PyTorch checkpoint", self->file->path);
    if (pickle_run(&self->pickle, &number)) return -1;
    const pickle_value *version = value_at(self, number);
    if (version->kind != PICKLE_INTEGER || version->as.integer != STREAM_VERSION)
        return limn_fail(self->error, "%s: a PyTorch checkpoint of another version than %d", self->file->path, STREAM_VERSION);
    if (pickle_run(&self->pickle, &number)) return -1;
    const pickle_value *little = pickle_find(&self->pickle, value_at(self, number), "little_endian");
    if (!little || little->kind != PICKLE_BOOL || !little->as.truth)
        return limn_fail(self->error, "%s: was not saved on a little-endian machine, which is not read here", self->file->path);
    return 0;
}

/* The storages that the pickle mentioned, each key once. */
static int collect_storages(reader *self) {
    size_t count = 0;
    for (size_t i = 0; i < self->pickle.value_count; i++) count += self->pickle.values[i].kind == PICKLE_STORAGE;
    self->storages = limn_allocate(count + 1, sizeof *self->storages, self->error);
    if (!self->storages) return limn_fail_context(self->error, "%s", self->file->path);
    for (size_t i = 0; i < self->pickle.value_count; i++) {
        const pickle_value *value = &self->pickle.values[i];
        if (value->kind != PICKLE_STORAGE) continue;
        if (!value->global->known)
            return limn_fail(self->error, "%s: holds tensors of the type %s, which is not read here", self->file->path,
                             value->global->dtype);
        size_t parts;
        const pickle_value *key = value_at(self, pickle_tuple(&self->pickle, value, &parts)[2]);
        self->storages[self->storage_count++] = (stored){.key = key->as.text.bytes,
                                                         .key_length = key->as.text.length,
                                                         .element_size = tensor_type_size(value->global->type),
                                                         .order = (uint32_t)i};
    }
    qsort(self->storages, self->storage_count, sizeof *self->storages, compare_stored);
    size_t kept = 0;
    for (size_t i = 0; i < self->storage_count; i++)
        if (i == 0 || compare_keys(&self->storages[i], &self->storages[kept - 1]) != 0)
            self->storages[kept++] = self->storages[i];
    self->storage_count = kept;
    return 0;
}

static int read_storage(reader *self, const pickle_value *key) {
    stored *storage = key->kind == PICKLE_TEXT || key->kind == PICKLE_BYTES ? find_stored(self, key) : NULL;
    size_t left = (size_t)(self->pickle.end - self->pickle.at);
    uint64_t elements = 0;
    if (!storage || storage->data)
        return limn_fail(self->error, "%s: a storage that no tensor uses, or twice", self->file->path);
    if (left < 8) return limn_fail(self->error, "%s: the storages are cut short; fetch the file again", self->file->path);
    for (size_t i = 8; i-- > 0;) elements = elements << 8 | self->pickle.at[i];
    left -= 8;
    if (elements > left / storage->element_size)
        return limn_fail(self->error, "%s: a storage goes past the end: the file is cut short; fetch it again",
                         self->file->path);
    storage->data = self->pickle.at + 8;
    storage->size = (size_t)elements * storage->element_size;
    self->pickle.at += 8 + storage->size;
    return 0;
}

static int read_stream(reader *self) {
    uint32_t root, keys;
    self->pickle.at = self->file->mapping.data;
    self->pickle.end = self->pickle.at + self->file->mapping.size;
    if (read_stream_head(self) || pickle_run(&self->pickle, &root) || collect_storages(self) ||
        pickle_run(&self->pickle, &keys))
        return -1;
    set_limits(self, (size_t)(self->pickle.at - self->file->mapping.data));
    const pickle_value *list = value_at(self, keys);
    if (list->kind != PICKLE_LIST) return limn_fail(self->error, "%s: no list of storages after the pickle", self->file->path);
    for (uint32_t at = list->first; at != PICKLE_EMPTY; at = self->pickle.segments[at].next)
        for (uint32_t i = 0; i < self->pickle.segments[at].count; i++)
            if (read_storage(self, value_at(self, self->pickle.items[self->pickle.segments[at].start + i]))) return -1;
    if (self->pickle.at != self->pickle.end)
        return limn_fail(self->error, "%s: bytes left over after the storages", self->file->path);
    return walk(self, root, 0, false);
}

/* ---------------------------------------------------------------- opening */

static int read_any(reader *self) {
    const limn_mapping *mapping = &self->file->mapping;
    if (mapping->size >= 4 && memcmp(mapping->data, "PK", 2) == 0) return read_zip(self);
    if (mapping->size >= 262 && memcmp(mapping->data + 257, "ustar", 5) == 0)
        return limn_fail(
            self->error,
            "%s: the tar form of PyTorch before 2017, which is not read here; load it with PyTorch and save it again",
            self->file->path);
    return read_stream(self);
}

tensor_file *pytorch_open(const char *path, limn_error *error) {
    reader self = {.file = tensor_file_create(path, TENSOR_FORM_PYTORCH, error), .error = error};
    if (!self.file) return NULL;
    self.pickle.path = self.file->path;
    self.pickle.begin = self.file->mapping.data;
    self.pickle.error = error;
    int failed = self.file->mapping.size == 0 ? limn_fail(error, "%s: the file is empty", path) : read_any(&self);
    if (!failed) failed = tensor_file_sort(self.file, error);
    pickle_free(&self.pickle);
    zip_free(&self.zip);
    free(self.storages);
    if (!failed) return self.file;
    tensor_file_close(self.file);
    return NULL;
}
