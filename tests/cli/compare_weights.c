/* compare-weights A B: the names of the tensors of safetensors file B that A lacks or has with other numbers, a line each. */
#include "formats/formats.h"

#include <string.h>

static bool same(const tensor *a, const tensor *b) {
    if (a == NULL || a->type != b->type || a->count != b->count) return false;
    return memcmp(a->data, b->data, a->count * tensor_type_size(a->type)) == 0;
}

int main(int argc, char **argv) {
    limn_error error = {0};
    tensor_file *files[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++)
        if (argc != 3 || (files[i] = safetensors_open(argv[1 + i], &error)) == NULL) {
            fprintf(stderr, "compare-weights: %s\n", argc == 3 ? error.message : "give two files");
            return 2;
        }
    for (size_t i = 0; i < tensor_file_count(files[1]); i++) {
        const tensor *b = tensor_file_at(files[1], i);
        if (!same(tensor_file_find(files[0], b->name), b)) puts(b->name);
    }
    for (int i = 0; i < 2; i++) tensor_file_close(files[i]);
    return 0;
}
