/* What the readers and writers of formats/ share; nothing outside formats/ includes this. */
#ifndef LIMN_FORMATS_INTERNAL_H
#define LIMN_FORMATS_INTERNAL_H

#include "formats/formats.h"

struct tensor_file {
    limn_mapping mapping;
    char path[4096];
    tensor *tensors; /* sorted by name; the names are owned one by one */
    size_t count, capacity;
    json_t *metadata;
};

/* A file with its mapping and no tensors yet; NULL with an error. */
tensor_file *tensor_file_create(const char *path, limn_error *error);
/* Adds one tensor whose name is copied; its count must be right. */
int tensor_file_add(tensor_file *file, const tensor *one, limn_error *error);
/* Sorts by name; the same name twice is an error. */
int tensor_file_sort(tensor_file *file, limn_error *error);
/* Product of the shape and the bytes it takes, both checked. */
int tensor_measure(const tensor *one, size_t *out_count, size_t *out_bytes, limn_error *error);

#endif
