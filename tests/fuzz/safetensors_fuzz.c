/* safetensors files, and indices of them: an input that is JSON is read as the index of one good shard beside it. */
#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tensors.h"

#include <stdlib.h>
#include <string.h>

static const char indices[2][160] = {
    "{\"metadata\":{\"total_size\":58},\"weight_map\":{\"ids\":\"shard\",\"model.weight\":\"shard\",\"scalar\":\"shard\"}}",
    "{\"weight_map\": {\"ids\": \"shard\", \"scalar\": \"../shard\"}}"};

static bool make_seed(size_t index, limn_buffer *out) {
    static const float weights[12] = {1, 2, 3};
    static const uint16_t ids[3] = {1, 2, 3};
    const tensor tensors[] = {
        {.name = "model.weight", .type = TENSOR_F32, .rank = 2, .shape = {3, 4}, .data = weights},
        {.name = "ids", .type = TENSOR_U16, .rank = 1, .shape = {3}, .data = ids},
        {.name = "scalar", .type = TENSOR_F32, .rank = 0, .data = weights},
    };
    if (index >= 3) return index < 5 && limn_buffer_append(out, indices[index - 3], strlen(indices[index - 3]), NULL) == 0;
    const char *path = fuzz_file("shard", "", 0); /* the last one stays, for the indices */
    json_t *metadata = index == 2 ? json_pack("{s:s}", "format", "pt") : NULL;
    size_t size;
    char *bytes = safetensors_write(path, tensors, index == 0 ? 1 : 3, metadata, NULL)
                      ? NULL
                      : limn_file_read(path, 1 << 20, &size, NULL);
    bool made = bytes && limn_buffer_append(out, bytes, size, NULL) == 0;
    json_decref(metadata);
    free(bytes);
    return made;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0};
    bool index = size > 0 && data[0] == '{';
    const char *path = fuzz_file(index ? "input.index.json" : "input.safetensors", data, size);
    tensor_file *file = index ? tensor_file_open(path, &error) : safetensors_open(path, &error);
    return file ? fuzz_read_tensors(file) : fuzz_check_error(&error);
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
