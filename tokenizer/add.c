/* New tokens behind a vocabulary, for fine-tuning. */
#include "tokenizer/internal.h"
#include <limits.h>
#include <string.h>

/* Each becomes a special token with the next free id, found in a text before it is split. */
static int append(tokenizer *self, const limn_strings *texts, limn_error *error) {
    for (size_t i = 0; i < texts->count; i++) {
        const char *text = texts->items[i];
        const added_token token = {.id = (int32_t)self->texts.count, .special = true, .beyond = true};
        if (!*text) return limn_fail_usage(error, "--token: an empty one cannot be found in a text");
        if (!limn_utf8_valid(text, strlen(text))) return limn_fail_usage(error, "--token %.80s: is not UTF-8", text);
        if (tokenizer_find(self, text) >= 0) return limn_fail_usage(error, "--token %.80s: the tokenizer has it already", text);
        if (tokenizer_add_token(self, text, strlen(text), error) || tokenizer_add_added(self, &token, error)) return -1;
    }
    return tokenizer_mark_kinds(self, error);
}

static int refuse_tokenizer(const char *output, limn_error *error) {
    static const char *const names[] = {"tokenizer.json", "vocab.json", "merges.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX];
        if (limn_path_join(path, sizeof path, output, names[i], error)) return -1;
        if (limn_file_exists(path))
            return limn_fail_usage(error, "--output %s holds a tokenizer; choose another folder", output);
    }
    return 0;
}

int tokenizer_add_tokens(const char *directory, const limn_strings *texts, const char *output, limn_error *error) {
    tokenizer *self = tokenizer_load(directory, error);
    int status = self && refuse_tokenizer(output, error) == 0 && append(self, texts, error) == 0 &&
                         tokenizer_save(self, output, error) == 0
                     ? 0
                     : -1;
    tokenizer_free(self);
    return status;
}
