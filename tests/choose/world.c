#include "world.h"

#include <stdlib.h>

char choose_folder[4096];
static limn_strings lists[64];
static size_t list_count;

int choose_set_up(void **state) {
    (void)state;
    make_folder(choose_folder);
    limn_set_log_level(LIMN_LOG_QUIET);
    return 0;
}

int choose_tear_down(void **state) {
    (void)state;
    while (list_count) limn_strings_free(&lists[--list_count]);
    return limn_remove_tree(choose_folder, NULL);
}

limn_strings inputs(const char *pattern) {
    limn_error error = {0};
    const char *given = in(choose_folder, pattern);
    const limn_strings one = {1, &given};
    assert_true(list_count < 64);
    if (choose_expand(&one, &lists[list_count], &error)) fail_msg("%s", error.message);
    return lists[list_count++];
}

char *usual_caption(size_t number, size_t row) {
    static const char *const words[] = {"Café", "dog", "house", "tree", "sun"};
    char *text = NULL;
    assert_true(asprintf(&text, "picture %zu of %zu %s", row, number, words[row % 5]) > 0);
    return text;
}

char *usual_fields(size_t number, size_t row) {
    static const char *const hosts[] = {"a.example", "b.example:80", "user@c.example"};
    char *text = NULL;
    assert_true(
        asprintf(&text,
                 "{\"key\": \"%05zu%04zu\", \"url\": \"http://%s/%zu.jpg\", \"width\": 16, \"height\": 16, \"original_width\": "
                 "%zu, \"original_height\": 100, \"score\": \"0.%zu\", \"phash\": \"%016zx\", \"sha256\": \"%zx%063x\"}",
                 number, row, hosts[row % 3], row, 50 + 100 * (row % 2), row, row << 8 | (number & 1), row % 4, 0) > 0);
    return text;
}

void make_tar(const char *name, size_t number, size_t count, text_of_row caption, text_of_row fields) {
    limn_error error = {0};
    tar_writer *writer = tar_writer_open(in(choose_folder, name), &error);
    if (!writer) fail_msg("%s", error.message);
    for (size_t i = 0; i < count; i++) {
        char key[64];
        limn_buffer bytes = {0};
        picture painted = paint(number * 1000 + i, 16, 16);
        assert_int_equal(picture_encode_png(&painted, &bytes, NULL), 0);
        snprintf(key, sizeof key, "%05zu%04zu", number, i);
        add_entry(writer, key, "png", bytes.data, bytes.size);
        char *text = caption ? caption(number, i) : NULL, *json = fields ? fields(number, i) : NULL;
        if (text) add_entry(writer, key, "txt", text, strlen(text));
        if (json) add_entry(writer, key, "json", json, strlen(json));
        free(text);
        free(json);
        limn_buffer_free(&bytes);
        picture_free(&painted);
    }
    assert_int_equal(tar_writer_commit(writer, NULL), 0);
}

void make_shard(const char *name, size_t number, size_t count, const char *vqgan_sha256) {
    enum { L = 4, ROOM = 64 };
    limn_error error = {0};
    char *names[] = {"clip", "score"};
    uint16_t tokens[64 * L];
    unsigned char captions[128 * ROOM], keys[64 * ROOM];
    uint64_t caption_offsets[129] = {0}, key_offsets[65] = {0};
    uint32_t rows[128];
    float clip[64], score[64], *values[] = {clip, score};
    size_t made = 0;
    assert_true(count <= 64);
    for (size_t i = 0; i < count; i++) {
        for (size_t t = 0; t < L; t++) tokens[i * L + t] = (uint16_t)((number + i + t) % CODES);
        for (size_t c = 0; c < (i % 3 == 0 ? 2 : 1); c++) {
            const int size = sprintf((char *)captions + caption_offsets[made], "caption %zu of %zu in %zu ", c, i, number);
            rows[made] = (uint32_t)i;
            caption_offsets[made + 1] = caption_offsets[made] + (uint64_t)size;
            made++;
        }
        key_offsets[i + 1] = key_offsets[i] + (uint64_t)sprintf((char *)keys + key_offsets[i], "%05zu%04zu", number, i);
        clip[i] = 1;
        score[i] = (float)i / 10;
    }
    token_shard shard = {.count = count,
                         .length = L,
                         .tokens = tokens,
                         .captions = made,
                         .caption_bytes = captions,
                         .caption_offsets = caption_offsets,
                         .caption_row = rows,
                         .key_bytes = keys,
                         .key_offsets = key_offsets,
                         .columns = 2,
                         .column_names = names,
                         .column_values = values,
                         .image_size = 16,
                         .codebook_size = CODES};
    snprintf(shard.vqgan_sha256, sizeof shard.vqgan_sha256, "%s", vqgan_sha256);
    if (token_shard_write(in(choose_folder, name), &shard, &error)) fail_msg("%s", error.message);
}

json_t *load(const char *name) {
    limn_error error = {0};
    json_t *value = limn_json_load(in(choose_folder, name), &error);
    if (!value) fail_msg("%s", error.message);
    return value;
}

long long number_of(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) fail_msg("no number %s", key);
    return json_integer_value(value);
}
