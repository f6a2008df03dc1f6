/* New tokens behind a vocabulary, for fine-tuning. */
#include "tokenizer/internal.h"
#include <limits.h>
#include <string.h>

static bool is_known(const json_t *added, const char *text) {
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token) {
        const char *content = json_string_value(json_object_get(token, "content"));
        if (content && strcmp(content, text) == 0) return true;
    }
    return false;
}

/* Each becomes an added token of tokenizer.json with the next free id, found in a text before it is split. */
static int append(json_t *root, const limn_strings *texts, size_t next, const char *where, limn_error *error) {
    json_t *added = json_object_get(root, "added_tokens");
    const json_t *vocabulary = json_object_get(json_object_get(root, "model"), "vocab");
    for (size_t i = 0; i < texts->count; i++) {
        const char *text = texts->items[i];
        if (!*text) return limn_fail_usage(error, "--token: an empty one cannot be found in a text");
        if (is_known(added, text) || json_object_get(vocabulary, text))
            return limn_fail_usage(error, "--token %.80s: the tokenizer has it already", text);
        json_t *token = json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)(next + i), "content", text,
                                  "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
        if (!token) return limn_fail_usage(error, "--token %.80s: is not UTF-8", text);
        if (json_array_append_new(added, token)) return limn_fail(error, "%s: no memory for another token", where);
    }
    return 0;
}

int tokenizer_add_tokens(const char *directory, const limn_strings *texts, const char *output, limn_error *error) {
    char path[PATH_MAX];
    tokenizer *self = tokenizer_load(directory, error);
    if (!self) return -1;
    int status = limn_path_join(path, sizeof path, output, "tokenizer.json", error);
    if (status == 0 && limn_file_exists(path))
        status = limn_fail_usage(error, "--output %s holds a tokenizer; choose another folder", output);
    if (status == 0) status = limn_make_directories(output, error);
    if (status == 0) status = tokenizer_save(self, output, error);
    json_t *root = status == 0 ? limn_json_load(path, error) : NULL;
    status = root ? append(root, texts, tokenizer_vocabulary_size(self), path, error) : -1;
    if (status == 0)
        status = limn_json_save(root, path, error);
    else if (root)
        (void)limn_remove_tree(output, NULL); /* made just now */
    json_decref(root);
    tokenizer_free(self);
    if (status) return -1;
    self = tokenizer_load(output, error);
    tokenizer_free(self);
    return self ? 0 : -1;
}
