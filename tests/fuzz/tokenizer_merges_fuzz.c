/* vocab.json and merges.txt: the input's first line is the one, the rest the other. */
#include "tests/fuzz/tokenizers.h"

static bool make_seed(size_t index, limn_buffer *out) {
    if (index > 0 || !fuzz_saved("vocab.json", out) || limn_buffer_append(out, "\n", 1, NULL)) return false;
    return fuzz_saved("merges.txt", out);
}

static const char *target(const char *data, size_t size) {
    const char *newline = memchr(data, '\n', size);
    size_t first = newline ? (size_t)(newline - data) : size, rest = newline ? first + 1 : size;
    fuzz_remove("tokenizer.json"); /* it would be read instead */
    fuzz_file("vocab.json", data, first);
    fuzz_file("merges.txt", data + rest, size - rest);
    return fuzz_load(fuzz_save_this(data, size));
}

int main(int argc, char **argv) {
    limn_set_threads(1);
    return fuzz_main(argc, argv, make_seed, target);
}
