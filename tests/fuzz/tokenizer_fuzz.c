/* A tokenizer's three files, texts to encode, and lines to decode: the same bytes are read as each of them. */
#include "tests/fuzz/fuzz.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {"tokenizer.json", "vocab.json", "merges.txt"};
static limn_buffer files[3]; /* of a small tokenizer */
static tokenizer *small;
static char folder[512];

/* The small tokenizer and its files, once. */
static bool prepare(void) {
    static const char text[] = " a red apple, two red apples: it's caf\xC3\xA9 time in 2024 \xE8\x8B\xB9";
    if (small) return true;
    const char *path = fuzz_file("anything", "", 0);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
    if (!trainer || tokenizer_trainer_add(trainer, text, sizeof text - 1, NULL)) return false;
    small = tokenizer_trainer_finish(trainer, 285, 1, NULL);
    tokenizer_trainer_free(trainer);
    if (!small || tokenizer_save(small, folder, NULL)) return false;
    for (size_t i = 0; i < 3; i++) {
        char name[600];
        size_t size;
        snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        char *bytes = limn_file_read(name, 1 << 20, &size, NULL);
        bool kept = bytes && limn_buffer_append(&files[i], bytes, size, NULL) == 0;
        free(bytes);
        if (!kept) return false;
    }
    return true;
}

static bool make_seed(size_t index, limn_buffer *out) {
    static const char *const lines[] = {"{\"ids\": [0, 280, 12, 2]}\n[3, 4, 250]\n",
                                        " a red apple isn't <mask> caf\xC3\xA9\n\xE2\x80\xA8 '' 12"};
    if (!prepare() || index >= 5) return false;
    if (index < 3) return limn_buffer_append(out, files[index].data, files[index].size, NULL) == 0;
    return limn_buffer_append(out, lines[index - 3], strlen(lines[index - 3]), NULL) == 0;
}

/* What was encoded must decode to itself; special tokens, which begin with <, are left out by decoding. */
static const char *there_and_back(const tokenizer *tokens, const char *text, size_t size, bool exactly) {
    int32_t *ids = NULL, caption[16], mask[16];
    size_t capacity = 0, count;
    limn_error error = {0};
    limn_buffer back = {0};
    const char *complaint = NULL;
    if (tokenizer_encode(tokens, text, size, &ids, &capacity, &count, &error)) return fuzz_check_error(&error);
    if (tokenizer_decode(tokens, ids, count, &back, &error)) complaint = "its own ids cannot be decoded";
    bool same = back.size == size && (size == 0 || memcmp(back.data, text, size) == 0);
    if (!complaint && exactly && !same) complaint = "decoding does not give back the text";
    if (tokenizer_encode_caption(tokens, text, size, caption, mask, 16, &error)) complaint = "a caption cannot be encoded";
    limn_buffer_free(&back);
    free(ids);
    return complaint;
}

/* The input in the place of one of the files, the others as they should be. */
static const char *as_file(size_t which, const char *data, size_t size) {
    limn_error error = {0};
    for (size_t i = 0; i < 3; i++) fuzz_file(names[i], i == which ? data : files[i].data, i == which ? size : files[i].size);
    if (which > 0) { /* tokenizer.json would be read instead */
        char path[600];
        snprintf(path, sizeof path, "%s/%s", folder, names[0]);
        unlink(path);
    }
    tokenizer *tokens = tokenizer_load(folder, &error);
    if (!tokens) return fuzz_check_error(&error);
    static const char text[] = "it's a red <mask> apple\xFF \xE8\x8B\xB9";
    const char *complaint = there_and_back(tokens, text, sizeof text - 1, false);
    if (!complaint && tokenizer_save(tokens, folder, &error)) complaint = "what was read cannot be saved";
    size_t count = tokenizer_vocabulary_size(tokens);
    tokenizer_free(tokens);
    if (complaint) return complaint;
    tokens = tokenizer_load(folder, &error);
    if (!tokens || tokenizer_vocabulary_size(tokens) != count) complaint = "what was saved cannot be read";
    tokenizer_free(tokens);
    return complaint;
}

static const char *as_lines(const char *data, size_t size) {
    FILE *out = fopen("/dev/null", "w");
    limn_error error = {0};
    const char *complaint = NULL;
    if (!out) return "no /dev/null";
    if (tokenizer_decode_lines(small, fuzz_file("lines", data, size), out, &error)) complaint = fuzz_check_error(&error);
    fclose(out);
    return complaint;
}

static const char *target(const char *data, size_t size) {
    if (!prepare()) return "no small tokenizer";
    const char *complaint = there_and_back(small, data, size, !memchr(data, '<', size));
    if (!complaint) complaint = as_lines(data, size);
    for (size_t i = 0; i < 3 && !complaint; i++) complaint = as_file(i, data, size);
    return complaint;
}

int main(int argc, char **argv) {
    limn_set_threads(1);
    int exit_code = fuzz_main(argc, argv, make_seed, target);
    tokenizer_free(small);
    for (size_t i = 0; i < 3; i++) limn_buffer_free(&files[i]);
    return exit_code;
}
