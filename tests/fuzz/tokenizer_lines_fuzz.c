/* Lines of a file: as JSON lines of ids to decode, and as text to encode and back. */
#include "tests/fuzz/tokenizers.h"

static tokenizer *tokens;

static bool make_seed(size_t index, limn_buffer *out) {
    static const char *const texts[] = {"{\"ids\": [0, 280, 12, 2]}\n[3, 4, 250]\n{\"ids\":[]}\n",
                                        " a red apple isn't <mask> caf\xC3\xA9\r\n\xE2\x80\xA8 '' 12\n\n\nlast"};
    return index < sizeof texts / sizeof *texts && limn_buffer_append(out, texts[index], strlen(texts[index]), NULL) == 0;
}

/* What the lines become; NULL and an error when they are refused. */
static char *turn(int (*function)(const tokenizer *, const char *, FILE *, limn_error *), const char *path, size_t *size,
                  limn_error *error) {
    char *text = NULL;
    FILE *out = open_memstream(&text, size);
    if (!out) return NULL;
    int status = function(tokens, path, out, error);
    fclose(out);
    if (status == 0) return text;
    free(text);
    return NULL;
}

static const char *target(const char *data, size_t size) {
    if (!tokens && !(tokens = fuzz_train())) return "no small tokenizer";
    limn_error error = {0};
    size_t ids_size = 0, back_size = 0;
    const char *path = fuzz_file("lines", data, size);
    char *back = turn(tokenizer_decode_lines, path, &back_size, &error);
    free(back);
    const char *complaint = back ? NULL : fuzz_check_error(&error);
    char *ids = turn(tokenizer_encode_lines, path, &ids_size, &error);
    back = ids ? turn(tokenizer_decode_lines, fuzz_file("lines", ids, ids_size), &back_size, &error) : NULL;
    if (!complaint && !back) complaint = "lines cannot be encoded and decoded";
    bool exactly = !memchr(data, '<', size) && !memchr(data, '\r', size);
    if (!complaint && exactly) { /* only a last newline may be more */
        size_t more = size && data[size - 1] != '\n';
        if (back_size != size + more || (size && memcmp(back, data, size) != 0)) complaint = "lines do not come back";
    }
    free(ids);
    free(back);
    return complaint;
}

int main(int argc, char **argv) {
    limn_set_threads(1);
    int exit_code = fuzz_main(argc, argv, make_seed, target);
    tokenizer_free(tokens);
    return exit_code;
}
