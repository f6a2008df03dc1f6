/* The three files: written, read in all their forms, and refused when they are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "support.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tokenizer *tokens;
static char folder[64];

static int setup(void **state) {
    (void)state;
    limn_set_log_level(LIMN_LOG_WARNING);
    tokens = train_small();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tokenizer_free(tokens);
    return 0;
}

/* A folder with the small tokenizer's files. */
static int open_folder(void **state) {
    (void)state;
    make_folder(folder);
    assert_int_equal(tokenizer_save(tokens, folder, NULL), 0);
    return 0;
}

static int close_folder(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

static void remove_file(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
}

static json_t *read_json(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *value = limn_json_load(path, NULL);
    assert_non_null(value);
    return value;
}

static void write_json(const char *name, json_t *value) {
    char *text = json_dumps(value, 0);
    write_file(folder, name, text, strlen(text));
    free(text);
    json_decref(value);
}

static char *read_text(const char *name, size_t *size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *text = limn_file_read(path, 1 << 24, size, NULL);
    assert_non_null(text);
    return text;
}

static tokenizer *load(void) {
    limn_error error = {0};
    tokenizer *loaded = tokenizer_load(folder, &error);
    if (!loaded) fail_msg("%s", error.message);
    return loaded;
}

static void assert_refused(const char *file, const char *reason) {
    limn_error error = {0};
    assert_null(tokenizer_load(folder, &error));
    if (!strstr(error.message, file) || !strstr(error.message, reason) || strchr(error.message, '\n'))
        fail_msg("expected one line with '%s' and '%s', got: %s", file, reason, error.message);
}

static void assert_same(const tokenizer *a, const tokenizer *b) {
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

static void test_written_and_read(void **state) {
    (void)state;
    size_t before_size, after_size;
    char *before = read_text("tokenizer.json", &before_size);
    tokenizer *loaded = load();
    assert_same(tokens, loaded);
    assert_int_equal(tokenizer_save(loaded, folder, NULL), 0);
    char *after = read_text("tokenizer.json", &after_size);
    assert_int_equal(before_size, after_size);
    assert_memory_equal(before, after, after_size);
    tokenizer_free(loaded);
    free(before);
    free(after);
}

static void test_read_from_vocabulary_and_merges(void **state) {
    (void)state;
    remove_file("tokenizer.json");
    tokenizer *loaded = load();
    assert_same(tokens, loaded);
    tokenizer_free(loaded);

    size_t size, out = 0; /* with Windows line ends */
    char *text = read_text("merges.txt", &size), *windows = malloc(2 * size);
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') windows[out++] = '\r';
        windows[out++] = text[i];
    }
    write_file(folder, "merges.txt", windows, out);
    loaded = load();
    assert_same(tokens, loaded);
    tokenizer_free(loaded);
    free(text);
    free(windows);
}

static void test_merges_as_pairs(void **state) {
    (void)state;
    json_t *root = read_json("tokenizer.json"), *model = json_object_get(root, "model"), *pairs = json_array(), *merge;
    size_t i;
    json_array_foreach(json_object_get(model, "merges"), i, merge) {
        const char *text = json_string_value(merge), *space = strchr(text, ' ');
        json_array_append_new(pairs, json_pack("[s#, s]", text, (int)(space - text), space + 1));
    }
    json_object_set_new(model, "merges", pairs);
    write_json("tokenizer.json", root);
    tokenizer *loaded = load();
    assert_same(tokens, loaded);
    tokenizer_free(loaded);
}

/* Of a pair that stands twice, the last place counts. */
static void test_a_merge_that_comes_twice(void **state) {
    (void)state;
    json_t *root = read_json("tokenizer.json"), *merges = json_object_get(json_object_get(root, "model"), "merges");
    size_t count = json_array_size(merges);
    json_array_append(merges, json_array_get(merges, 0));
    write_json("tokenizer.json", root);
    tokenizer *loaded = load();
    assert_string_equal(tokenizer_merge(loaded, 0), tokenizer_merge(tokens, 1));
    assert_string_equal(tokenizer_merge(loaded, count - 1), tokenizer_merge(tokens, 0));
    assert_null(tokenizer_merge(loaded, count));
    tokenizer_free(loaded);
}

static json_t *added_token_json(json_t *root, const char *content) {
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(root, "added_tokens"), i, item) {
        if (strcmp(json_string_value(json_object_get(item, "content")), content) == 0) return item;
    }
    return NULL;
}

static void test_added_tokens_swallow_blanks(void **state) {
    (void)state;
    json_t *root = read_json("tokenizer.json");
    json_object_set_new(added_token_json(root, "<mask>"), "lstrip", json_true());
    json_object_set_new(added_token_json(root, "<unk>"), "rstrip", json_true());
    write_json("tokenizer.json", root);
    tokenizer *loaded = load();
    int32_t plain[64], stripped[64];
    static const char *const pairs[][2] = {{"red \xC2\xA0 <mask> apple", "red<mask> apple"},
                                           {"red <unk> \t apple", "red <unk>apple"}};
    for (size_t i = 0; i < 2; i++) {
        size_t count = encode_inner(tokens, pairs[i][1], strlen(pairs[i][1]), plain, 64);
        assert_int_equal(encode_inner(loaded, pairs[i][0], strlen(pairs[i][0]), stripped, 64), count);
        assert_memory_equal(plain, stripped, count * sizeof *plain);
    }
    tokenizer_free(loaded);
}

static void test_prefix_space(void **state) {
    (void)state;
    json_t *root = read_json("tokenizer.json");
    json_object_set_new(json_object_get(root, "pre_tokenizer"), "add_prefix_space", json_true());
    write_json("tokenizer.json", root);
    tokenizer *loaded = load();
    int32_t led[64], got[64];
    static const char *const pairs[][2] = {{"red<mask>apple", " red<mask> apple"}, {" red", " red"}, {"", ""}};
    for (size_t i = 0; i < 3; i++) {
        size_t count = encode_inner(tokens, pairs[i][1], strlen(pairs[i][1]), led, 64);
        assert_int_equal(encode_inner(loaded, pairs[i][0], strlen(pairs[i][0]), got, 64), count);
        assert_memory_equal(led, got, count * sizeof *led);
    }
    tokenizer_free(loaded);
}

/* An added token beyond the vocabulary, found before shorter ones. */
static void test_added_token_beyond_the_vocabulary(void **state) {
    (void)state;
    json_t *root = read_json("tokenizer.json");
    int32_t id = (int32_t)tokenizer_vocabulary_size(tokens), got[8];
    json_array_append_new(json_object_get(root, "added_tokens"),
                          json_pack("{s:i, s:s, s:b}", "id", (int)id, "content", "<s>x", "special", 0));
    write_json("tokenizer.json", root);
    tokenizer *loaded = load();
    assert_int_equal(encode_inner(loaded, "<s>x<s>", 7, got, 8), 2);
    assert_int_equal(got[0], id);
    assert_int_equal(got[1], 0);
    limn_buffer text = {0};
    assert_int_equal(tokenizer_decode(loaded, got, 2, &text, NULL), 0);
    assert_string_equal(text.data, "<s>x");
    limn_buffer_free(&text);
    tokenizer_free(loaded);
}

/* ---------------------------------------------------------------- wrong files */

static void test_no_files(void **state) {
    (void)state;
    remove_file("tokenizer.json");
    remove_file("merges.txt");
    assert_refused(folder, "neither tokenizer.json nor vocab.json and merges.txt");
}

static void test_a_file_cut_short(void **state) {
    (void)state;
    size_t size;
    char *text = read_text("tokenizer.json", &size);
    write_file(folder, "tokenizer.json", text, size / 2);
    assert_refused("tokenizer.json", "");
    write_file(folder, "tokenizer.json", "", 0);
    assert_refused("tokenizer.json", "");
    write_file(folder, "tokenizer.json", "[1, 2]", 6);
    assert_refused("tokenizer.json", "not a byte-level BPE tokenizer");
    free(text);
}

static void test_wrong_vocabularies(void **state) {
    (void)state;
    remove_file("tokenizer.json");
    size_t last = tokenizer_vocabulary_size(tokens) - 1;
    static const char *const reasons[] = {
        "without gaps", "is both",  "without gaps", "without gaps", "no token \"A\" for byte 65",
        "<pad>",        "is empty", "not an object"};
    for (int i = 0; i < 8; i++) {
        json_t *vocabulary = read_json("vocab.json"), *kept = json_copy(vocabulary);
        if (i == 0) json_object_set_new(vocabulary, tokenizer_token(tokens, (int32_t)last), json_integer((json_int_t)last + 1));
        if (i == 1) json_object_set_new(vocabulary, tokenizer_token(tokens, (int32_t)last), json_integer(7));
        if (i == 2) json_object_set_new(vocabulary, tokenizer_token(tokens, 9), json_integer(-1));
        if (i == 3) json_object_set_new(vocabulary, tokenizer_token(tokens, 9), json_string("9"));
        if (i == 4 || i == 5 || i == 6) { /* another token takes the place */
            const char *name = i == 4 ? "A" : i == 5 ? "<pad>" : tokenizer_token(tokens, (int32_t)last);
            json_t *id = json_incref(json_object_get(vocabulary, name));
            json_object_del(vocabulary, name);
            json_object_set_new(vocabulary, i == 6 ? "" : "zzzz", id);
        }
        if (i == 7) {
            json_decref(vocabulary);
            vocabulary = json_array();
        }
        write_json("vocab.json", vocabulary);
        if (i == 4) write_file(folder, "merges.txt", "#version: 0.2\n", 14);
        if (i == 6)
            assert_refused("", reasons[i]);
        else
            assert_refused("vocab.json", reasons[i]);
        write_json("vocab.json", kept);
    }
}

static void test_wrong_merges(void **state) {
    (void)state;
    remove_file("tokenizer.json");
    static const struct {
        const char *text, *reason;
    } cases[] = {{"a b c\n", "merge 1 is not two tokens"},
                 {"ab\n", "merge 1 is not two tokens"},
                 {"a \n", "merge 1 is not two tokens"},
                 {" a\n", "merge 1 is not two tokens"},
                 {"#version: 0.2\n\n", "merge 1 is not two tokens"},
                 {"nosuch a\n", "\"nosuch\" that the vocabulary does not have"},
                 {"a nosuch\n", "\"nosuch\" that the vocabulary does not have"},
                 {"Z Q\n", "\"ZQ\" that the vocabulary does not have"},
                 {"\xFF\xFE a\n", "that the vocabulary does not have"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(folder, "merges.txt", cases[i].text, strlen(cases[i].text));
        assert_refused("merges.txt", cases[i].reason);
    }
    write_file(folder, "merges.txt", "a\0 b\n", 5);
    assert_refused("merges.txt", "merge 1 is not two tokens");
}

static void test_wrong_tokenizer_json(void **state) {
    (void)state;
    static const char *const reasons[] = {"\"normalizer\" is not supported",
                                          "pre_tokenizer is \"Whitespace\"",
                                          "only \"BPE\"",
                                          "\"dropout\"",
                                          "merge 1 is neither",
                                          "\"vocab\" and \"merges\"",
                                          "\"single_word\"",
                                          "\"cls\"",
                                          "which the vocabulary contradicts",
                                          "post_processor is \"TemplateProcessing\"",
                                          "no \"content\""};
    for (int i = 0; i < 11; i++) {
        json_t *root = read_json("tokenizer.json"), *kept = json_deep_copy(root), *model = json_object_get(root, "model");
        if (i == 0) json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "Lowercase"));
        if (i == 1) json_object_set_new(root, "pre_tokenizer", json_pack("{s:s}", "type", "Whitespace"));
        if (i == 2) json_object_set_new(model, "type", json_string("Unigram"));
        if (i == 3) json_object_set_new(model, "dropout", json_real(0.1));
        if (i == 4) json_array_insert_new(json_object_get(model, "merges"), 0, json_pack("[s]", "a"));
        if (i == 5) json_object_del(model, "merges");
        if (i == 6) json_object_set_new(added_token_json(root, "<s>"), "single_word", json_true());
        if (i == 7) json_object_set_new(json_object_get(root, "post_processor"), "cls", json_pack("[s, i]", "<s>", 77));
        if (i == 8) json_object_set_new(added_token_json(root, "<s>"), "id", json_integer(9));
        if (i == 9) json_object_set_new(root, "post_processor", json_pack("{s:s}", "type", "TemplateProcessing"));
        if (i == 10) json_object_del(added_token_json(root, "<s>"), "content");
        write_json("tokenizer.json", root);
        assert_refused("tokenizer.json", reasons[i]);
        write_json("tokenizer.json", kept);
    }
}

static void test_a_folder_that_cannot_be_written(void **state) {
    (void)state;
    char path[128];
    limn_error error = {0};
    snprintf(path, sizeof path, "%s/vocab.json/deeper", folder); /* vocab.json is a file */
    assert_int_equal(tokenizer_save(tokens, path, &error), -1);
    assert_true(error.message[0] != '\0');
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_folder, close_folder)
        TEST(test_written_and_read),
        TEST(test_read_from_vocabulary_and_merges),
        TEST(test_merges_as_pairs),
        TEST(test_a_merge_that_comes_twice),
        TEST(test_added_tokens_swallow_blanks),
        TEST(test_prefix_space),
        TEST(test_added_token_beyond_the_vocabulary),
        TEST(test_no_files),
        TEST(test_a_file_cut_short),
        TEST(test_wrong_vocabularies),
        TEST(test_wrong_merges),
        TEST(test_wrong_tokenizer_json),
        TEST(test_a_folder_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
