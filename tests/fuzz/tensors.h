/* Shared by the fuzz programs of files that hold tensors. */
#ifndef LIMN_TESTS_FUZZ_TENSORS_H
#define LIMN_TESTS_FUZZ_TENSORS_H

#include "formats/formats.h"

#include <stdlib.h>
#include <string.h>

/* Converts every element of every tensor, one by one and in runs, looks each up by name, and closes the file. */
static inline const char *fuzz_read_tensors(tensor_file *file) {
    enum { RUN = 1500 };
    static float reals[RUN];
    static unsigned char copied[RUN * 8];
    const char *complaint = NULL;
    for (size_t i = 0; i < tensor_file_count(file); i++) {
        const tensor *one = tensor_file_at(file, i);
        if (tensor_file_find(file, one->name) != one) complaint = "a tensor is not found by its own name";
        if (!limn_utf8_valid(one->name, strlen(one->name))) complaint = "a tensor's name is not UTF-8";
        for (size_t k = 0, run; k < one->count; k += run) {
            run = one->count - k < RUN ? one->count - k : RUN;
            tensor same = {.type = one->type, .rank = 1, .shape = {run}, .count = run, .data = copied};
            tensor_to_float(one, k, run, reals);
            tensor_copy(one, k, run, copied);
            for (size_t e = 0; e < run; e++) {
                float real, again;
                int64_t whole;
                tensor_to_float(one, k + e, 1, &real);
                tensor_to_float(&same, e, 1, &again);
                tensor_to_int64(one, k + e, 1, &whole);
                if (memcmp(&real, &reals[e], sizeof real) != 0 || memcmp(&real, &again, sizeof real) != 0)
                    complaint = "an element differs between two ways to read it";
            }
        }
    }
    tensor_file_close(file);
    return complaint;
}

#endif
