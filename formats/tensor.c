/* Named tensors: sets of them and look-up, whatever file they came from. */
#include "formats/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

size_t tensor_type_size(tensor_type type) {
    switch (type) {
    case TENSOR_F64:
    case TENSOR_I64:
        return 8;
    case TENSOR_F32:
    case TENSOR_I32:
        return 4;
    case TENSOR_F16:
    case TENSOR_BF16:
    case TENSOR_U16:
        return 2;
    case TENSOR_U8:
    case TENSOR_BOOL:
        return 1;
    }
    return 0;
}

int tensor_measure(const tensor *one, size_t *out_count, size_t *out_bytes, limn_error *error) {
    size_t count = 1;
    for (size_t i = 0; i < one->rank; i++)
        if (limn_multiply(count, one->shape[i], &count, error)) return -1;
    *out_count = count;
    return limn_multiply(count, tensor_type_size(one->type), out_bytes, error);
}

tensor_file *tensor_file_create(const char *path, tensor_form form, limn_error *error) {
    tensor_file *file = limn_allocate(1, sizeof *file, error);
    if (!file) return NULL;
    if (strlen(path) >= sizeof file->path) {
        limn_fail(error, "a path is too long: %.100s…", path);
    } else if (limn_map(&file->mapping, path, error) == 0) {
        memcpy(file->path, path, strlen(path) + 1);
        file->form = form;
        return file;
    }
    free(file);
    return NULL;
}

void tensor_file_close(tensor_file *file) {
    if (!file) return;
    for (size_t i = 0; i < file->count; i++) {
        free((char *)(uintptr_t)file->tensors[i].name);
        if (!file->shards) free((tensor_layout *)(uintptr_t)file->tensors[i].layout);
    }
    free(file->tensors);
    for (size_t i = 0; i < file->shard_count; i++) tensor_file_close(file->shards[i]);
    free(file->shards);
    json_decref(file->metadata);
    limn_unmap(&file->mapping);
    free(file);
}

int tensor_file_add(tensor_file *file, const tensor *one, limn_error *error) {
    if (file->count == file->capacity) {
        size_t capacity = file->capacity ? file->capacity * 2 : 64;
        tensor *grown = realloc(file->tensors, capacity * sizeof *grown);
        if (!grown) return limn_fail(error, "%s: out of memory for %zu tensors", file->path, capacity);
        file->tensors = grown;
        file->capacity = capacity;
    }
    char *name = strdup(one->name);
    if (!name) return limn_fail(error, "%s: out of memory", file->path);
    file->tensors[file->count] = *one;
    file->tensors[file->count++].name = name;
    return 0;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

int tensor_file_sort(tensor_file *file, limn_error *error) {
    if (file->count == 0) return 0;
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_names);
    for (size_t i = 1; i < file->count; i++)
        if (strcmp(file->tensors[i - 1].name, file->tensors[i].name) == 0)
            return limn_fail(error, "%s: holds two tensors named '%s'", file->path, file->tensors[i].name);
    return 0;
}

size_t tensor_file_count(const tensor_file *file) {
    return file->count;
}

const tensor *tensor_file_at(const tensor_file *file, size_t index) {
    return index < file->count ? &file->tensors[index] : NULL;
}

const tensor *tensor_file_find(const tensor_file *file, const char *name) {
    if (file->count == 0) return NULL;
    tensor key = {.name = name};
    return bsearch(&key, file->tensors, file->count, sizeof key, compare_names);
}

const char *tensor_file_path(const tensor_file *file) {
    return file->path;
}

tensor_form tensor_file_form(const tensor_file *file) {
    return file->form;
}

const json_t *tensor_file_metadata(const tensor_file *file) {
    return file->metadata;
}

/* "[2, 3]" */
static const char *shape_text(size_t rank, const size_t *shape, char out[224]) {
    size_t used = (size_t)snprintf(out, 224, "[");
    for (size_t i = 0; i < rank && i < TENSOR_MAX_RANK; i++)
        used += (size_t)snprintf(out + used, 224 - used, "%s%zu", i ? ", " : "", shape[i]);
    snprintf(out + used, 224 - used, "]");
    return out;
}

const tensor *tensor_file_need(const tensor_file *file, const char *name, size_t rank, const size_t *shape, limn_error *error) {
    const tensor *found = tensor_file_find(file, name);
    char have[224], want[224];
    if (!found) {
        limn_fail(error, "%s: holds no tensor '%s'; is it a model of this kind?", file->path, name);
        return NULL;
    }
    bool same = found->rank == rank;
    for (size_t i = 0; same && i < rank; i++) same = found->shape[i] == shape[i];
    if (!same) {
        limn_fail(error, "%s: tensor '%s' is %s but the configuration makes it %s; use the config that belongs to it",
                  file->path, name, shape_text(found->rank, found->shape, have), shape_text(rank, shape, want));
        return NULL;
    }
    return found;
}

void tensor_will_need(const tensor *source, size_t start, size_t count) {
    if (!source->data || count == 0) return;
    size_t size = tensor_type_size(source->type), page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)source->data + start * size, to = from + count * size, begin = from / page * page;
    (void)posix_madvise((void *)begin, to - begin, POSIX_MADV_WILLNEED); /* only faster */
}
