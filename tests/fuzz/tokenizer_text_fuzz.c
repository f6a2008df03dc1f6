/* Any bytes to ids and back. */
#include "tests/fuzz/tokenizers.h"

static tokenizer *tokens;

static bool make_seed(size_t index, limn_buffer *out) {
    static const char *const texts[] = {" a red apple isn't <mask> caf\xC3\xA9\n\xE2\x80\xA8 '' 12",
                                        "they'll've   had\t\t2\xC2\xBD \xF0\x9F\x98\x80\xF0\x9F\x98\x80 <s></s>",
                                        "donaudampfschifffahrtsgesellschaftskapit\xC3\xA4nsm\xC3\xBCtzenabzeichen and so on",
                                        "\xE8\x8B\xB9\xE6\x9E\x9C\xE3\x80\x80\xD9\xA0\xCC\x81\x80\xFF\xED\xA0\x80"};
    return index < sizeof texts / sizeof *texts && limn_buffer_append(out, texts[index], strlen(texts[index]), NULL) == 0;
}

/* Special tokens, which begin with <, are left out by decoding. */
static const char *target(const char *data, size_t size) {
    if (!tokens && !(tokens = fuzz_train())) return "no small tokenizer";
    return fuzz_there_and_back(tokens, data, size, !memchr(data, '<', size));
}

int main(int argc, char **argv) {
    limn_set_threads(1);
    int exit_code = fuzz_main(argc, argv, make_seed, target);
    tokenizer_free(tokens);
    return exit_code;
}
