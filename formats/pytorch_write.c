/* PyTorch's zip form, as torch.save lays it out: archive/data.pkl, archive/byteorder, archive/data/N, archive/version; stored
 * entries whose bytes begin at multiples of 64, by padding in an extra field "FB". Unlike torch.save we know each size before
 * its bytes, and put the CRC-32 into the local header afterwards, so that no data descriptors are needed. */
#include "formats/internal.h"
#include "formats/sink.h"
#include "formats/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    ALIGNMENT = 64,
    FIELD_BYTES = 4,        /* id and length of an extra field */
    LOCAL_ZIP64_BYTES = 20, /* with both sizes */
    FLAG_UTF8 = 0x0800,
    VERSION = 20,
    VERSION_ZIP64 = 45,
    NAME_BYTES = 40
};

typedef struct {
    char name[NAME_BYTES];
    const void *content; /* NULL: a tensor's bytes */
    size_t tensor;
    size_t size, header, data; /* where its local header and its bytes begin */
    uint32_t checksum;
} entry;

typedef struct {
    const char *path;
    const tensor *tensors;
    size_t count;
    entry *entries;
    size_t entry_count;
    size_t directory, directory_bytes, size; /* where the directory begins; of the whole file */
    limn_buffer pickle;
    limn_error *error;
} writer;

/* ---------------------------------------------------------------- the pickle (protocol 2) */

static const char *storage_name(tensor_type type) {
    static const char *const names[] = {[TENSOR_F32] = "FloatStorage",
                                        [TENSOR_F16] = "HalfStorage",
                                        [TENSOR_BF16] = "BFloat16Storage",
                                        [TENSOR_F64] = "DoubleStorage",
                                        [TENSOR_I64] = "LongStorage",
                                        [TENSOR_I32] = "IntStorage",
                                        [TENSOR_U16] = NULL,
                                        [TENSOR_U8] = "ByteStorage",
                                        [TENSOR_BOOL] = "BoolStorage"};
    return names[type];
}

/* What comes again with each tensor is remembered under these numbers at its first use. */
enum { MEMO_REBUILD, MEMO_STORAGE, MEMO_CPU, MEMO_ORDERED_DICT, MEMO_TYPE /* + the tensor_type */, MEMO_END = MEMO_TYPE + 16 };

static int put(writer *self, const char *bytes, size_t length) {
    return limn_buffer_append(&self->pickle, bytes, length, self->error);
}

static int put_little(writer *self, char opcode, uint64_t number, size_t size) {
    char bytes[9] = {opcode};
    for (size_t i = 0; i < size; i++) bytes[1 + i] = (char)(number >> (8 * i));
    return put(self, bytes, 1 + size);
}

static int put_integer(writer *self, size_t number) {
    if (number <= UINT8_MAX) return put_little(self, 'K', number, 1);
    if (number <= UINT16_MAX) return put_little(self, 'M', number, 2);
    if (number <= INT32_MAX) return put_little(self, 'J', number, 4);
    return put(self, "\x8a\x08", 2) || put_little(self, (char)number, number >> 8, 7) ? -1 : 0;
}

static int put_text(writer *self, const char *text) {
    return put_little(self, 'X', strlen(text), 4) || put(self, text, strlen(text)) ? -1 : 0;
}

/* A class ("cMODULE\nNAME\n") or a text, remembered; `seen` holds what was. */
static int put_remembered(writer *self, bool *seen, unsigned number, const char *text) {
    if (seen[number]) return put_little(self, 'h', number, 1);
    seen[number] = true;
    int failed = text[0] == 'c' && strchr(text, '\n') ? put(self, text, strlen(text)) : put_text(self, text);
    return failed || put_little(self, 'q', number, 1) ? -1 : 0;
}

static int put_sizes(writer *self, const size_t *sizes, size_t count) {
    if (put(self, "(", 1)) return -1;
    for (size_t i = 0; i < count; i++)
        if (put_integer(self, sizes[i])) return -1;
    return put(self, "t", 1);
}

/* _rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict()), with ("storage", class, key, "cpu", elements) as the
 * storage's persistent name. */
static int put_tensor(writer *self, bool *seen, const tensor *one, size_t key, size_t count) {
    char class[48], text[24];
    size_t strides[TENSOR_MAX_RANK], stride = 1;
    for (size_t d = one->rank; d-- > 0;) {
        strides[d] = stride;
        if (one->shape[d]) stride *= one->shape[d];
    }
    snprintf(class, sizeof class, "ctorch\n%s\n", storage_name(one->type));
    snprintf(text, sizeof text, "%zu", key);
    return put_remembered(self, seen, MEMO_REBUILD, "ctorch._utils\n_rebuild_tensor_v2\n") || put(self, "((", 2) ||
                   put_remembered(self, seen, MEMO_STORAGE, "storage") ||
                   put_remembered(self, seen, MEMO_TYPE + (unsigned)one->type, class) || put_text(self, text) ||
                   put_remembered(self, seen, MEMO_CPU, "cpu") || put_integer(self, count) || put(self, "tQK\0", 4) ||
                   put_sizes(self, one->shape, one->rank) || put_sizes(self, strides, one->rank) || put(self, "\x89", 1) ||
                   put_remembered(self, seen, MEMO_ORDERED_DICT, "ccollections\nOrderedDict\n") || put(self, ")RtR", 4)
               ? -1
               : 0;
}

static int build_pickle(writer *self, const char *under) {
    bool seen[MEMO_END] = {false};
    if (put(self, "\x80\x02}", 3)) return -1;
    if (under && (put_text(self, under) || put(self, "}", 1))) return -1;
    if (self->count && put(self, "(", 1)) return -1;
    for (size_t i = 0; i < self->count; i++) {
        size_t count, bytes;
        if (tensor_measure(&self->tensors[i], &count, &bytes, self->error)) return -1;
        if (put_text(self, self->tensors[i].name) || put_tensor(self, seen, &self->tensors[i], i, count)) return -1;
    }
    if (self->count && put(self, "u", 1)) return -1;
    return put(self, under ? "s." : ".", under ? 2 : 1);
}

/* ---------------------------------------------------------------- records of the zip file */

/* A record under construction. */
typedef struct {
    unsigned char bytes[256];
    size_t used;
} record;

static void add(record *self, uint64_t number, size_t size) {
    for (size_t i = 0; i < size; i++) self->bytes[self->used++] = (unsigned char)(number >> (8 * i));
}

static uint64_t or_ones(size_t number) {
    return number >= UINT32_MAX ? UINT32_MAX : number;
}

static bool is_large(const entry *one) {
    return one->size >= UINT32_MAX;
}

/* Up to the length of the name, which both headers have in common. */
static void add_common(record *self, const entry *one, bool zip64) {
    add(self, zip64 ? VERSION_ZIP64 : VERSION, 2);
    add(self, FLAG_UTF8, 2);
    add(self, 0, 2); /* stored */
    add(self, 0, 4); /* no date: the bytes depend on the arguments alone */
    add(self, one->checksum, 4);
    add(self, or_ones(one->size), 4);
    add(self, or_ones(one->size), 4);
    add(self, strlen(one->name), 2);
}

static void add_name(record *self, const entry *one) {
    memcpy(self->bytes + self->used, one->name, strlen(one->name));
    self->used += strlen(one->name);
}

static record local_header(const entry *one) {
    record out = {.used = 0};
    size_t extra = one->data - one->header - LOCAL_BYTES - strlen(one->name);
    add(&out, LOCAL_SIGNATURE, 4);
    add_common(&out, one, is_large(one));
    add(&out, extra, 2);
    add_name(&out, one);
    if (is_large(one)) {
        add(&out, 1, 2);
        add(&out, 16, 2);
        add(&out, one->size, 8);
        add(&out, one->size, 8);
        extra -= LOCAL_ZIP64_BYTES;
    }
    add(&out, 0x4246, 2); /* "FB" */
    add(&out, extra - FIELD_BYTES, 2);
    memset(out.bytes + out.used, 'Z', extra - FIELD_BYTES);
    out.used += extra - FIELD_BYTES;
    return out;
}

static record central_header(const entry *one) {
    record out = {.used = 0};
    size_t fields = (is_large(one) ? 16u : 0) + (one->header >= UINT32_MAX ? 8u : 0);
    add(&out, CENTRAL_SIGNATURE, 4);
    add(&out, fields ? VERSION_ZIP64 : VERSION, 2);
    add_common(&out, one, fields != 0);
    add(&out, fields ? FIELD_BYTES + fields : 0, 2);
    add(&out, 0, 2); /* comment */
    add(&out, 0, 2); /* disk */
    add(&out, 0, 2); /* attributes */
    add(&out, 0, 4);
    add(&out, or_ones(one->header), 4);
    add_name(&out, one);
    if (!fields) return out;
    add(&out, 1, 2);
    add(&out, fields, 2);
    if (is_large(one)) {
        add(&out, one->size, 8);
        add(&out, one->size, 8);
    }
    if (one->header >= UINT32_MAX) add(&out, one->header, 8);
    return out;
}

static bool needs_end64(const writer *self) {
    return self->entry_count >= UINT16_MAX || self->directory >= UINT32_MAX || self->directory_bytes >= UINT32_MAX;
}

static record end_records(const writer *self) {
    record out = {.used = 0};
    size_t entries = self->entry_count;
    if (needs_end64(self)) {
        add(&out, END64_SIGNATURE, 4);
        add(&out, END64_BYTES - 12, 8);
        add(&out, VERSION_ZIP64, 2);
        add(&out, VERSION_ZIP64, 2);
        add(&out, 0, 8); /* disks */
        add(&out, entries, 8);
        add(&out, entries, 8);
        add(&out, self->directory_bytes, 8);
        add(&out, self->directory, 8);
        add(&out, LOCATOR_SIGNATURE, 4);
        add(&out, 0, 4);
        add(&out, self->directory + self->directory_bytes, 8);
        add(&out, 1, 4);
    }
    add(&out, END_SIGNATURE, 4);
    add(&out, 0, 4); /* disks */
    add(&out, entries < UINT16_MAX ? entries : UINT16_MAX, 2);
    add(&out, entries < UINT16_MAX ? entries : UINT16_MAX, 2);
    add(&out, or_ones(self->directory_bytes), 4);
    add(&out, or_ones(self->directory), 4);
    add(&out, 0, 2); /* comment */
    return out;
}

/* ---------------------------------------------------------------- the file */

/* Places an entry after the one before. */
static int add_entry(writer *self, const char *name, const void *content, size_t index, size_t size) {
    entry *one = &self->entries[self->entry_count++];
    *one = (entry){.content = content, .tensor = index, .size = size, .header = self->size};
    snprintf(one->name, sizeof one->name, "archive/%s", name);
    size_t least = one->header + LOCAL_BYTES + strlen(one->name) + (is_large(one) ? LOCAL_ZIP64_BYTES : 0) + FIELD_BYTES;
    one->data = (least + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (content) one->checksum = (uint32_t)crc32_z(0, content, size);
    if (__builtin_add_overflow(one->data, size, &self->size) || self->size > SINK_BYTES_MAX)
        return limn_fail(self->error, "%s: the tensors are too large", self->path);
    return 0;
}

static int plan(writer *self) {
    char name[32];
    self->entries = limn_allocate(self->count + 3, sizeof *self->entries, self->error);
    if (!self->entries || add_entry(self, "data.pkl", self->pickle.data, 0, self->pickle.size) ||
        add_entry(self, "byteorder", "little", 0, strlen("little")))
        return -1;
    for (size_t i = 0; i < self->count; i++) {
        size_t count, bytes;
        snprintf(name, sizeof name, "data/%zu", i);
        if (tensor_measure(&self->tensors[i], &count, &bytes, self->error) || add_entry(self, name, NULL, i, bytes)) return -1;
    }
    if (add_entry(self, "version", "3\n", 0, strlen("3\n"))) return -1;
    self->directory = self->size;
    for (size_t i = 0; i < self->entry_count; i++) self->directory_bytes += central_header(&self->entries[i]).used;
    self->size += self->directory_bytes + end_records(self).used;
    return 0;
}

static int put_record(tensor_sink *sink, record made, limn_error *error) {
    return sink_put(sink, made.bytes, made.used, error);
}

static int put_entry(writer *self, tensor_sink *sink, entry *one, tensor_producer producer, void *context) {
    if (put_record(sink, local_header(one), self->error)) return -1;
    if (one->content) return sink_put(sink, one->content, one->size, self->error);
    if (sink_put_tensor(sink, self->tensors, one->tensor, one->size, producer, context, self->error)) return -1;
    one->checksum = sink->checksum;
    record header = local_header(one); /* again, with the checksum */
    return sink_put_at(sink, one->header, header.bytes, header.used, self->error);
}

static int write_file(writer *self, tensor_producer producer, void *context) {
    tensor_sink sink;
    int failed = sink_open(&sink, self->path, self->size, self->error);
    sink.checked = true;
    for (size_t i = 0; !failed && i < self->entry_count; i++)
        failed = put_entry(self, &sink, &self->entries[i], producer, context);
    for (size_t i = 0; !failed && i < self->entry_count; i++)
        failed = put_record(&sink, central_header(&self->entries[i]), self->error);
    if (!failed) failed = put_record(&sink, end_records(self), self->error);
    return sink_close(&sink, failed, self->error);
}

static int compare_names(const void *a, const void *b) {
    return strcmp((*(const tensor *const *)a)->name, (*(const tensor *const *)b)->name);
}

static int check_tensors(const writer *self) {
    const tensor **sorted = limn_allocate(self->count, sizeof *sorted, self->error);
    if (!sorted) return -1;
    int failed = 0;
    size_t elements, bytes;
    for (size_t i = 0; i < self->count && !failed; i++) {
        const tensor *one = sorted[i] = &self->tensors[i];
        if (!limn_utf8_valid(one->name, strlen(one->name)))
            failed = limn_fail(self->error, "%s: a name is not valid UTF-8: %s", self->path, one->name);
        else if (one->rank > TENSOR_MAX_RANK)
            failed = limn_fail(self->error, "%s: tensor '%s' has too many dimensions", self->path, one->name);
        else if (tensor_measure(one, &elements, &bytes, self->error))
            failed = limn_fail_context(self->error, "%s: tensor '%s'", self->path, one->name);
        else if (!storage_name(one->type))
            failed = limn_fail(self->error, "%s: tensor '%s' is of a type that PyTorch cannot store; make it int32", self->path,
                               one->name);
    }
    if (!failed) qsort(sorted, self->count, sizeof *sorted, compare_names);
    for (size_t i = 1; i < self->count && !failed; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            failed = limn_fail(self->error, "%s: two tensors are named '%s'", self->path, sorted[i]->name);
    free(sorted);
    return failed;
}

int pytorch_write(const char *path, const tensor *tensors, size_t count, const char *under, tensor_producer producer,
                  void *context, limn_error *error) {
    writer self = {.path = path, .tensors = tensors, .count = count, .error = error};
    int failed = check_tensors(&self);
    if (!failed) failed = build_pickle(&self, under);
    if (!failed) failed = plan(&self);
    if (!failed) failed = write_file(&self, producer, context);
    limn_buffer_free(&self.pickle);
    free(self.entries);
    return failed;
}
