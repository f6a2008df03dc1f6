/* The three files: written, read in all their forms, and refused when they are wrong. */
#include "small.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_written_and_read(void **state) {
    (void)state;
    size_t before_size, after_size;
    char *before = read_text(folder, "tokenizer.json", &before_size);
    tokenizer *loaded = load_folder(folder);
    assert_same(tokens, loaded);
    assert_int_equal(tokenizer_save(loaded, folder, NULL), 0);
    char *after = read_text(folder, "tokenizer.json", &after_size);
    assert_int_equal(before_size, after_size);
    assert_memory_equal(before, after, after_size);
    tokenizer_free(loaded);
    free(before);
    free(after);
}

static void test_read_from_vocabulary_and_merges(void **state) {
    (void)state;
    remove_file(folder, "tokenizer.json");
    tokenizer *loaded = load_folder(folder);
    assert_same(tokens, loaded);
    tokenizer_free(loaded);

    size_t size, out = 0; /* with Windows line ends */
    char *text = read_text(folder, "merges.txt", &size), *windows = malloc(2 * size);
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') windows[out++] = '\r';
        windows[out++] = text[i];
    }
    write_file(folder, "merges.txt", windows, out);
    loaded = load_folder(folder);
    assert_same(tokens, loaded);
    tokenizer_free(loaded);
    free(text);
    free(windows);
}

static void test_merges_without_a_header(void **state) {
    (void)state;
    size_t size;
    remove_file(folder, "tokenizer.json");
    char *text = read_text(folder, "merges.txt", &size), *first = strchr(text, '\n') + 1;
    write_file(folder, "merges.txt", first, strlen(first) - 1); /* nor is there a last newline */
    tokenizer *loaded = load_folder(folder);
    assert_same(tokens, loaded);
    tokenizer_free(loaded);
    write_text(folder, "merges.txt", "\xEF\xBB\xBF#version: 0.2\n"); /* no merges at all, and a byte order mark */
    loaded = load_folder(folder);
    assert_null(tokenizer_merge(loaded, 0));
    assert_ids(loaded, "!\"", (const int32_t[]){0, 5, 6, 2}, 4);
    tokenizer_free(loaded);
    free(text);
}

/* ---------------------------------------------------------------- files beside */

static void test_special_tokens_are_named_beside(void **state) {
    (void)state;
    write_text(folder, "special_tokens_map.json",
               "{\"bos_token\": \"<mask>\", \"pad_token\": {\"content\": \"<unk>\", \"lstrip\": true}, \"other\": []}");
    write_text(folder, "tokenizer_config.json",
               "{\"pad_token\": \"!\", \"eos_token\": null, \"add_prefix_space\": true, \"model_max_length\": 1024}");
    for (int i = 0; i < 2; i++) { /* tokenizer.json says what bos and eos are, vocab.json and merges.txt do not */
        tokenizer *loaded = load_folder(folder);
        assert_int_equal(tokenizer_bos(loaded), i == 0 ? 0 : 4);
        assert_int_equal(tokenizer_eos(loaded), 2);
        assert_int_equal(tokenizer_pad(loaded), 3);
        int32_t led[16], got[16], ids[4], mask[4];
        size_t count = encode_inner(tokens, " red", 4, led, 16);
        int32_t *all = NULL;
        size_t capacity = 0, whole;
        assert_int_equal(tokenizer_encode(loaded, "red", 3, &all, &capacity, &whole, NULL), 0);
        assert_int_equal(whole, count + 2);
        assert_int_equal(all[0], tokenizer_bos(loaded));
        memcpy(got, all + 1, count * sizeof *got);
        assert_memory_equal(got, led, count * sizeof *led);
        free(all);
        assert_int_equal(tokenizer_encode_caption(loaded, "", 0, ids, mask, 4, NULL), 0);
        assert_memory_equal(ids, ((const int32_t[]){tokenizer_bos(loaded), 2, 3, 3}), sizeof ids);

        char other[64]; /* the names are saved with it */
        make_folder(other);
        assert_int_equal(tokenizer_save(loaded, other, NULL), 0);
        tokenizer *again = load_folder(other);
        assert_int_equal(tokenizer_bos(again), tokenizer_bos(loaded));
        assert_int_equal(tokenizer_pad(again), 3);
        assert_int_equal(tokenizer_save(tokens, other, NULL), 0);
        tokenizer_free(again);
        again = load_folder(other);
        assert_int_equal(tokenizer_pad(again), 1);
        tokenizer_free(again);
        remove_folder(other);
        tokenizer_free(loaded);
        if (i == 0) remove_file(folder, "tokenizer.json");
    }
}

static void test_wrong_files_beside(void **state) {
    (void)state;
    static const char *const wrong[][2] = {{"[]", "not an object"},
                                           {"{\"pad_token\": \"nosuch\"}", "\"nosuch\", which the vocabulary does not have"},
                                           {"{\"eos_token\": 2}", "\"eos_token\" is neither a text"},
                                           {"{\"bos_token\": {\"content\": []}}", "\"bos_token\" is neither a text"},
                                           {"{\"add_prefix_space\": 1}", "add_prefix_space"},
                                           {"{\"a\": 1, \"a\": 2}", "duplicate"},
                                           {"{\"pad_token\": \"<pad", ""}};
    static const char *const names[] = {"special_tokens_map.json", "tokenizer_config.json"};
    remove_file(folder, "tokenizer.json");
    for (size_t n = 0; n < 2; n++) {
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            write_text(folder, names[n], wrong[i][0]);
            assert_refused(folder, names[n], wrong[i][1]);
        }
        remove_file(folder, names[n]);
    }
}

/* ---------------------------------------------------------------- wrong files */

static void test_no_files(void **state) {
    (void)state;
    remove_file(folder, "tokenizer.json");
    remove_file(folder, "merges.txt");
    assert_refused(folder, folder, "neither tokenizer.json nor vocab.json and merges.txt");
}

static void test_a_file_cut_short(void **state) {
    (void)state;
    size_t size;
    char *text = read_text(folder, "tokenizer.json", &size);
    write_file(folder, "tokenizer.json", text, size / 2);
    assert_refused(folder, "tokenizer.json", "");
    write_file(folder, "tokenizer.json", "", 0);
    assert_refused(folder, "tokenizer.json", "");
    write_file(folder, "tokenizer.json", "[1, 2]", 6);
    assert_refused(folder, "tokenizer.json", "not a byte-level BPE tokenizer");
    free(text);
}

static void test_damaged_json(void **state) {
    (void)state;
    size_t size;
    char deep[20001], *whole = read_text(folder, "tokenizer.json", &size), *twice = malloc(size + 40);
    memset(deep, '[', 10000);
    memset(deep + 10000, ']', 10000);
    deep[20000] = '\0';
    char *nested = malloc(size + 300), *broken = malloc(size + 10);
    snprintf(twice, size + 40, "{\"version\": \"1.0\", %s", strchr(whole, '"'));
    snprintf(broken, size + 10, "{\"\xFF\": 1, %s", strchr(whole, '"'));
    snprintf(nested, size + 300, "{\"x\": %.*s%.*s, %s", 100, deep, 100, deep + 10000, strchr(whole, '"'));
    const char *const wrong[][2] = {
        {deep, ""}, {twice, "duplicate"}, {broken, "unable to decode"}, {nested, "nested"}, {"", ""}};
    for (size_t i = 0; i < 5; i++) {
        write_text(folder, "tokenizer.json", wrong[i][0]);
        assert_refused(folder, "tokenizer.json", wrong[i][1]);
    }
    remove_file(folder, "tokenizer.json");
    const char *const vocabularies[][2] = {{"{\"a\": 0, \"a\": 1}", "duplicate"},
                                           {"{\"\xFF\": 0}", "unable to decode"},
                                           {deep, ""},
                                           {"", ""},
                                           {"{\"a\": 99999999999999999999}", ""}};
    for (size_t i = 0; i < 5; i++) {
        write_text(folder, "vocab.json", vocabularies[i][0]);
        assert_refused(folder, "vocab.json", vocabularies[i][1]);
    }
    free(whole);
    free(twice);
    free(nested);
    free(broken);
}

static void test_wrong_vocabularies(void **state) {
    (void)state;
    remove_file(folder, "tokenizer.json");
    size_t last = tokenizer_vocabulary_size(tokens) - 1;
    static const char *const reasons[] = {
        "without gaps", "is both",  "without gaps",  "without gaps", "no token \"A\" for byte 65",
        "<pad>",        "is empty", "not an object", "without gaps", "without gaps"};
    for (int i = 0; i < 10; i++) {
        json_t *vocabulary = read_json(folder, "vocab.json"), *kept = json_copy(vocabulary);
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
        if (i == 8) json_object_set_new(vocabulary, tokenizer_token(tokens, 9), json_integer((json_int_t)1 << 31));
        if (i == 9) json_object_set_new(vocabulary, tokenizer_token(tokens, 9), json_real(9.0));
        if (i == 7) {
            json_decref(vocabulary);
            vocabulary = json_array();
        }
        write_json(folder, "vocab.json", vocabulary);
        if (i == 4) write_file(folder, "merges.txt", "#version: 0.2\n", 14);
        if (i == 6)
            assert_refused(folder, "", reasons[i]);
        else
            assert_refused(folder, "vocab.json", reasons[i]);
        write_json(folder, "vocab.json", kept);
    }
}

static void test_wrong_merges(void **state) {
    (void)state;
    remove_file(folder, "tokenizer.json");
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
        assert_refused(folder, "merges.txt", cases[i].reason);
    }
    write_file(folder, "merges.txt", "a\0 b\n", 5);
    assert_refused(folder, "merges.txt", "merge 1 is not two tokens");
    write_text(folder, "merges.txt", "");
    assert_refused(folder, "merges.txt", "is empty");

    limn_buffer many = {0}; /* more than there are ways */
    for (size_t i = 0; i < 5000; i++) assert_int_equal(limn_buffer_printf(&many, NULL, "%s\n", tokenizer_merge(tokens, 0)), 0);
    write_file(folder, "merges.txt", many.data, many.size);
    assert_refused(folder, "merges.txt", "5000 merges");
    limn_buffer_free(&many);
}

static void test_a_folder_that_cannot_be_written(void **state) {
    (void)state;
    char path[128];
    limn_error error = {0};
    snprintf(path, sizeof path, "%s/vocab.json/deeper", folder); /* vocab.json is a file */
    assert_int_equal(tokenizer_save(tokens, path, &error), -1);
    assert_true(error.message[0] != '\0');
}

/* Refused tokens leave the folder for the new tokenizer as it was. */
static void test_refused_tokens_remove_nothing(void **state) {
    (void)state;
    char output[64];
    make_folder(output);
    write_text(output, "mine", "kept");
    const char *const wrong[][2] = {{"<new>", "<s>"}, {"<new>", ""}, {"<new>", "\xff"}, {"<new>", "<new>"}};
    const char *const reasons[] = {"<s>: the tokenizer has it already", "an empty one", "is not UTF-8", "has it already"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        limn_error error = {0};
        const char *items[] = {wrong[i][0], wrong[i][1]}, *const written[] = {"tokenizer.json", "vocab.json", "merges.txt"};
        assert_int_equal(tokenizer_add_tokens(folder, &(limn_strings){2, items}, output, &error), -1);
        assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
        assert_non_null(strstr(error.message, reasons[i]));
        free(read_text(output, "mine", NULL));
        for (size_t n = 0; n < 3; n++) {
            char path[128];
            snprintf(path, sizeof path, "%s/%s", output, written[n]);
            assert_false(limn_file_exists(path));
        }
    }
    const char *items[] = {"<new>", "\xc3\xa9\"<"};
    assert_int_equal(tokenizer_add_tokens(folder, &(limn_strings){2, items}, output, NULL), 0);
    tokenizer *loaded = load_folder(output);
    const int32_t next = (int32_t)tokenizer_vocabulary_size(tokens);
    assert_int_equal(tokenizer_vocabulary_size(loaded), next + 2);
    assert_string_equal(tokenizer_token(loaded, next + 1), items[1]);
    const int32_t ids[] = {tokenizer_bos(loaded), next, next + 1, tokenizer_eos(loaded)};
    assert_ids(loaded, "<new>\xc3\xa9\"<", ids, 4);
    tokenizer_free(loaded);
    remove_file(output, "tokenizer.json"); /* vocab.json and merges.txt are a tokenizer too */
    limn_error error = {0};
    assert_int_equal(tokenizer_add_tokens(folder, &(limn_strings){2, items}, output, &error), -1);
    assert_non_null(strstr(error.message, "holds a tokenizer"));
    remove_folder(output);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_folder, close_folder)
        TEST(test_written_and_read),
        TEST(test_read_from_vocabulary_and_merges),
        TEST(test_merges_without_a_header),
        TEST(test_special_tokens_are_named_beside),
        TEST(test_wrong_files_beside),
        TEST(test_no_files),
        TEST(test_damaged_json),
        TEST(test_a_file_cut_short),
        TEST(test_wrong_vocabularies),
        TEST(test_wrong_merges),
        TEST(test_refused_tokens_remove_nothing),
        TEST(test_a_folder_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
