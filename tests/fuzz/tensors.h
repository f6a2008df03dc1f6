/* Shared by the fuzz programs of files that hold tensors. */
#ifndef LIMN_TESTS_FUZZ_TENSORS_H
#define LIMN_TESTS_FUZZ_TENSORS_H

#include "formats/formats.h"

#include <stdlib.h>
#include <string.h>

/* Converts every element of every tensor, looks each up by name, and closes the file. */
static inline const char *fuzz_read_tensors(tensor_file *file) {
    const char *complaint = NULL;
    for (size_t i = 0; i < tensor_file_count(file); i++) {
        const tensor *one = tensor_file_at(file, i);
        if (tensor_file_find(file, one->name) != one) complaint = "a tensor is not found by its own name";
        for (size_t k = 0; k < one->count; k++) {
            float real;
            int64_t whole;
            tensor_to_float(one, k, 1, &real);
            tensor_to_int64(one, k, 1, &whole);
        }
    }
    tensor_file_close(file);
    return complaint;
}

#endif
