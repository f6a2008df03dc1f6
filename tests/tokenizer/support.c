#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "support.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

tokenizer *train_small(void) {
    static const char *const lines[] = {" a red apple on a table",
                                        " the red apples aren't blue, they're red",
                                        " an appetising apple pie",
                                        " a caf\xC3\xA9 in 1999 and 2019",
                                        " two  red  hearts   and a blue heart",
                                        " grinning face, blue face",
                                        " the table's apple isn't grinning",
                                        " \xE8\x8B\xB9\xE6\x9E\x9C \xE8\x8B\xB9\xE6\x9E\x9C \xE8\x8B\xB9"};
    limn_error error = {0};
    tokenizer_trainer *trainer = tokenizer_trainer_create(&error);
    assert_non_null(trainer);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_int_equal(tokenizer_trainer_add(trainer, lines[i], strlen(lines[i]), &error), 0);
    tokenizer *tokens = tokenizer_trainer_finish(trainer, 420, 1, &error);
    tokenizer_trainer_free(trainer);
    if (!tokens) fail_msg("%s", error.message);
    return tokens;
}

void make_folder(char path[64]) {
    strcpy(path, "/tmp/limn-tokenizer-XXXXXX");
    assert_non_null(mkdtemp(path));
}

void remove_folder(const char *path) {
    assert_int_equal(limn_remove_tree(path, NULL), 0);
}

void write_file(const char *folder, const char *name, const void *data, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(limn_atomic_write(path, data, size, NULL), 0);
}

void write_text(const char *folder, const char *name, const char *text) {
    write_file(folder, name, text, strlen(text));
}

char *read_text(const char *folder, const char *name, size_t *size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *text = limn_file_read(path, 1 << 24, size, NULL);
    assert_non_null(text);
    return text;
}

json_t *read_json(const char *folder, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *value = limn_json_load(path, NULL);
    assert_non_null(value);
    return value;
}

void write_json(const char *folder, const char *name, json_t *value) {
    char *text = json_dumps(value, 0);
    assert_non_null(text);
    write_text(folder, name, text);
    free(text);
    json_decref(value);
}

void remove_file(const char *folder, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
}

tokenizer *load_folder(const char *folder) {
    limn_error error = {0};
    tokenizer *loaded = tokenizer_load(folder, &error);
    if (!loaded) fail_msg("%s", error.message);
    return loaded;
}

void assert_refused(const char *folder, const char *file, const char *reason) {
    limn_error error = {0};
    assert_null(tokenizer_load(folder, &error));
    if (!strstr(error.message, file) || !strstr(error.message, reason) || strchr(error.message, '\n'))
        fail_msg("expected one line with '%s' and '%s', got: %s", file, reason, error.message);
}

/* A code point of a range that had all its characters before Unicode 14: a PCRE2 of any age agrees about it. */
static uint32_t settled_point(uint64_t seed, uint64_t i) {
    static const uint32_t ranges[][2] = {{0x1, 0x377},       {0x3400, 0x4DB5},   {0x4E00, 0x9FA5}, {0xAC00, 0xD7A3},
                                         {0x1F600, 0x1F64F}, {0x20000, 0x2A6D6}, {0xE000, 0xF8FF}};
    const uint32_t *range = ranges[limn_random_below(seed, 4, i, sizeof ranges / sizeof ranges[0])];
    return range[0] + (uint32_t)limn_random_below(seed, 6, i, range[1] - range[0] + 1);
}

size_t random_text(char out[400], uint64_t seed, bool broken) {
    static const char *const pieces[] = {" ",
                                         "  ",
                                         "\t",
                                         "\n",
                                         "\r\n",
                                         "\x0B",
                                         "\xC2\x85",
                                         "\xC2\xA0",
                                         "\xE2\x80\xA8",
                                         "\xE3\x80\x80",
                                         "a",
                                         "red",
                                         "apple",
                                         "\xC3\xA9",
                                         "0",
                                         "19",
                                         "\xD9\xA0",
                                         "\xC2\xBD",
                                         "\xE2\x85\xA7",
                                         "'s",
                                         "'ll",
                                         "'re",
                                         "'ve",
                                         "'t",
                                         "'m",
                                         "'d",
                                         "'R",
                                         "'",
                                         "''",
                                         "\xCC\x81",
                                         "\xE2\x80\x8D",
                                         "!",
                                         ",",
                                         "...",
                                         "<s>",
                                         "</s>",
                                         "<mask>",
                                         "<mas",
                                         "<",
                                         "\xF0\x9F\x98\x80",
                                         "\xE8\x8B\xB9",
                                         "table",
                                         "they",
                                         "_"};
    static const char *const damaged[] = {"\x80", "\xC3", "\xE2\x80", "\xED\xA0\x80", "\xFF", "\xF5\x90\x80\x80"};
    size_t size = 0, count = (size_t)limn_random_below(seed, 1, 0, 40);
    for (size_t i = 0; i < count; i++) {
        uint64_t kind = limn_random_below(seed, 2, i, 10);
        char point[5] = {0};
        const char *piece = pieces[limn_random_below(seed, 3, i, sizeof pieces / sizeof pieces[0])];
        size_t length = strlen(piece);
        if (kind == 0) {
            length = limn_utf8_encode(settled_point(seed, i), point);
            piece = point;
        } else if (kind == 1 && broken) {
            piece = damaged[limn_random_below(seed, 5, i, sizeof damaged / sizeof damaged[0])];
            length = strlen(piece);
        } else if (kind == 2 && broken) { /* a NUL */
            piece = point;
            length = 1;
        }
        memcpy(out + size, piece, length);
        size += length;
    }
    return size;
}

size_t encode_inner(const tokenizer *tokens, const char *text, size_t size, int32_t *out, size_t room) {
    int32_t *ids = NULL;
    size_t capacity = 0, count;
    limn_error error = {0};
    if (tokenizer_encode(tokens, text, size, &ids, &capacity, &count, &error)) fail_msg("%s", error.message);
    assert_true(count >= 2 && count - 2 <= room);
    assert_int_equal(ids[0], tokenizer_bos(tokens));
    assert_int_equal(ids[count - 1], tokenizer_eos(tokens));
    memcpy(out, ids + 1, (count - 2) * sizeof *ids);
    free(ids);
    return count - 2;
}

void assert_ids(const tokenizer *tokens, const char *text, const int32_t *expected, size_t count) {
    int32_t *ids = NULL;
    size_t capacity = 0, got;
    limn_error error = {0};
    if (tokenizer_encode(tokens, text, strlen(text), &ids, &capacity, &got, &error)) fail_msg("%s", error.message);
    assert_int_equal(got, count);
    if (count) assert_memory_equal(ids, expected, count * sizeof *ids);
    free(ids);
}

void assert_same(const tokenizer *a, const tokenizer *b) {
    assert_int_equal(tokenizer_vocabulary_size(a), tokenizer_vocabulary_size(b));
    for (int32_t id = 0; tokenizer_token(a, id); id++) assert_string_equal(tokenizer_token(a, id), tokenizer_token(b, id));
    for (size_t i = 0; tokenizer_merge(a, i) || tokenizer_merge(b, i); i++) {
        assert_non_null(tokenizer_merge(a, i));
        assert_non_null(tokenizer_merge(b, i));
        assert_string_equal(tokenizer_merge(a, i), tokenizer_merge(b, i));
    }
    for (uint64_t seed = 0; seed < 50; seed++) {
        char text[400];
        int32_t left[800], right[800];
        size_t size = random_text(text, seed, true), count = encode_inner(a, text, size, left, 800);
        assert_int_equal(encode_inner(b, text, size, right, 800), count);
        assert_memory_equal(left, right, count * sizeof *left);
    }
}
