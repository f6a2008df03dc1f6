/* Shared by the fuzz programs of tokenizer/: a small tokenizer, its files, and what a tokenizer that was read must be able to.
 */
#ifndef LIMN_TESTS_FUZZ_TOKENIZERS_H
#define LIMN_TESTS_FUZZ_TOKENIZERS_H

#include "tests/fuzz/fuzz.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline tokenizer *fuzz_train(void) {
    static const char text[] = " a red apple, two red apples: it's caf\xC3\xA9 time in 2024 \xE8\x8B\xB9";
    tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
    tokenizer *trained = NULL;
    if (trainer && tokenizer_trainer_add(trainer, text, sizeof text - 1, NULL) == 0)
        trained = tokenizer_trainer_finish(trainer, 285, 1, NULL);
    tokenizer_trainer_free(trainer);
    return trained;
}

/* The run's own folder. */
static inline const char *fuzz_folder(void) {
    static char folder[512];
    if (!folder[0]) {
        const char *path = fuzz_file("anything", "", 0);
        snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    }
    return folder;
}

/* Takes away what an input before may have left there. */
static inline void fuzz_remove(const char *name) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    unlink(path);
}

/* One of the files that the small tokenizer is saved as there, appended to `out`. */
static inline bool fuzz_saved(const char *name, limn_buffer *out) {
    char path[600];
    size_t size;
    tokenizer *trained = fuzz_train();
    bool saved = trained && tokenizer_save(trained, fuzz_folder(), NULL) == 0;
    tokenizer_free(trained);
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    char *bytes = saved ? limn_file_read(path, 1 << 20, &size, NULL) : NULL;
    saved = bytes && limn_buffer_append(out, bytes, size, NULL) == 0;
    free(bytes);
    return saved;
}

/* Encodes the text twice, the second time from the cache, and decodes it. `exactly`: it must come back. */
static inline const char *fuzz_there_and_back(const tokenizer *tokens, const char *text, size_t size, bool exactly) {
    int32_t *ids[2] = {NULL, NULL}, caption[16], mask[16];
    size_t capacity[2] = {0, 0}, count[2] = {0, 0};
    limn_error error = {0};
    limn_buffer back = {0};
    const char *complaint = NULL;
    for (size_t i = 0; i < 2 && !complaint; i++)
        if (tokenizer_encode(tokens, text, size, &ids[i], &capacity[i], &count[i], &error))
            complaint = "a text cannot be encoded";
    if (!complaint && (count[0] != count[1] || (count[0] && memcmp(ids[0], ids[1], count[0] * sizeof **ids) != 0)))
        complaint = "the same text has other ids the second time";
    if (!complaint && tokenizer_decode(tokens, ids[0], count[0], &back, &error)) complaint = "its own ids cannot be decoded";
    if (!complaint && exactly && (back.size != size || (size && memcmp(back.data, text, size) != 0)))
        complaint = "decoding does not give back the text";
    if (!complaint && tokenizer_encode_caption(tokens, text, size, caption, mask, 16, &error))
        complaint = strstr(error.message, "no room") ? NULL : "a caption cannot be encoded"; /* a template may be long */
    limn_buffer_free(&back);
    free(ids[0]);
    free(ids[1]);
    return complaint;
}

/* Loads the folder and uses what it gets; `save`: saves it there and loads it again. */
static inline const char *fuzz_load(bool save) {
    static const char text[] =
        "it's a red <mask> apple\xFF \xE8\x8B\xB9 <x1>  <s>, and more than twenty-three lettersbutnotsixtyfour";
    limn_error error = {0};
    fuzz_remove("special_tokens_map.json");
    tokenizer *tokens = tokenizer_load(fuzz_folder(), &error);
    if (!tokens) return fuzz_check_error(&error);
    const char *complaint = fuzz_there_and_back(tokens, text, sizeof text - 1, false);
    if (!complaint && save && tokenizer_save(tokens, fuzz_folder(), &error)) complaint = "what was read cannot be saved";
    size_t count = tokenizer_vocabulary_size(tokens);
    tokenizer_free(tokens);
    if (complaint || !save) return complaint;
    tokens = tokenizer_load(fuzz_folder(), &error);
    if (!tokens || tokenizer_vocabulary_size(tokens) != count) complaint = "what was saved cannot be read";
    tokenizer_free(tokens);
    return complaint;
}

/* Saving waits for the disk, so only one input in a hundred or so is saved: a function of its bytes. */
static inline bool fuzz_save_this(const char *data, size_t size) {
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++) sum = sum * 31 + (unsigned char)data[i];
    return sum % 128 == 0;
}

#endif
