/* For tests of weights: checkpoints in the scratch folder, and what is asserted of the files read. */
#ifndef LIMN_TESTS_FORMATS_CHECK_H
#define LIMN_TESTS_FORMATS_CHECK_H

#include "tests/formats/make.h"
#include "tests/scratch.h"

/* Writes make_checkpoint's file, and frees the pickle. */
static inline const char *write_checkpoint(const char *name, limn_buffer *pickle, size_t count) {
    zip_maker zip = {0};
    make_checkpoint(&zip, pickle, count);
    zip_end(&zip, 0, 0);
    const char *path = scratch_write(name, zip.file.data, zip.file.size);
    zip_discard(&zip);
    limn_buffer_free(pickle);
    return path;
}

static inline void assert_refused(tensor_file *file, const limn_error *error, const char *path, const char *part) {
    if (file) fail_msg("taken, but should fail with: %s", part);
    assert_contains(error->message, strrchr(path, '/') + 1);
    assert_contains(error->message, part);
}

/* The tensor's numbers, which are also its bytes' as tensor_copy gives them. */
static inline void assert_floats(const tensor_file *file, const char *name, size_t count, const float *expected) {
    const tensor *one = tensor_file_find(file, name);
    if (!one) fail_msg("no tensor '%s'", name);
    assert_int_equal(one->count, count);
    float values[64];
    tensor_to_float(one, 0, count, values);
    assert_memory_equal(values, expected, count * sizeof(float));
    for (size_t i = 0; i < count; i++) {
        tensor_to_float(one, i, 1, values);
        assert_memory_equal(values, &expected[i], sizeof(float));
    }
    unsigned char bytes[64 * 8];
    tensor_copy(one, 0, count, bytes);
    tensor same = *one;
    same.layout = NULL;
    same.data = bytes;
    tensor_to_float(&same, 0, count, values);
    assert_memory_equal(values, expected, count * sizeof(float));
}

#define FLOATS(...)                                                                                                            \
    sizeof((float[]){__VA_ARGS__}) / sizeof(float), (float[]) {                                                                \
        __VA_ARGS__                                                                                                            \
    }

#endif
