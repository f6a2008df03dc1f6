/* Captions from files: lines and tars to train on, lines to ids and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "formats/formats.h"
#include "support.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static tokenizer *tokens;
static char folder[64], path[128];

static int setup(void **state) {
    (void)state;
    limn_set_log_level(LIMN_LOG_WARNING);
    tokens = train_small();
    make_folder(folder);
    snprintf(path, sizeof path, "%s/lines", folder);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tokenizer_free(tokens);
    remove_folder(folder);
    return 0;
}

/* Runs a function on the file and returns what it printed. */
static char *turn(int (*function)(const tokenizer *, const char *, FILE *, limn_error *), int expected, limn_error *error) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    int status = function(tokens, path, out, error);
    fclose(out);
    if (status != expected) fail_msg("%s", error->message);
    return text;
}

/* Enough lines for several blocks and all threads; the last has no newline. */
static void test_many_lines_there_and_back(void **state) {
    (void)state;
    limn_buffer all = {0};
    limn_error error = {0};
    for (size_t i = 0; i < 150000; i++)
        assert_int_equal(limn_buffer_printf(&all, NULL, " red apple %zu, \xC3\xA9t\xC3\xA9 of a blue table%s", i,
                                            i + 1 < 150000 ? "\n" : ""),
                         0);
    write_file(folder, "lines", all.data, all.size);
    char *ids = turn(tokenizer_encode_lines, 0, &error);
    write_file(folder, "lines", ids, strlen(ids));
    char *back = turn(tokenizer_decode_lines, 0, &error);
    assert_int_equal(limn_buffer_append(&all, "\n", 1, NULL), 0);
    assert_string_equal(back, all.data);
    limn_buffer_free(&all);
    free(ids);
    free(back);
}

/* Several blocks, lines of all lengths, one longer than a block: the same bytes whoever reads which block. */
static void test_the_same_with_any_number_of_threads(void **state) {
    (void)state;
    limn_buffer all = {0};
    limn_error error = {0};
    for (uint64_t seed = 0; all.size < 6 << 20; seed++) {
        char text[400];
        size_t size = random_text(text, seed, true);
        assert_int_equal(limn_buffer_append(&all, text, size, NULL), 0);
        assert_int_equal(limn_buffer_append(&all, seed % 3 ? "\n" : "\r\n", seed % 3 ? 1 : 2, NULL), 0);
        for (size_t i = 0; seed == 7000 && i < 300000; i++) assert_int_equal(limn_buffer_append(&all, " apple", 6, NULL), 0);
    }
    write_file(folder, "lines", all.data, all.size);
    limn_buffer_free(&all);
    limn_set_threads(1);
    char *one = turn(tokenizer_encode_lines, 0, &error);
    for (size_t threads = 2; threads < 8; threads += 3) {
        limn_set_threads(threads);
        char *many = turn(tokenizer_encode_lines, 0, &error);
        assert_int_equal(strlen(one), strlen(many));
        assert_memory_equal(one, many, strlen(one));
        free(many);
    }
    free(one);
}

/* The first line that cannot be turned ends it, although threads work on later ones. */
static void test_the_first_wrong_line_counts(void **state) {
    (void)state;
    limn_buffer all = {0};
    for (size_t i = 1; all.size < 5 << 20; i++) {
        const char *line = i == 200000 || i == 300000 ? "[99999]" : i == 400000 ? "x" : "[5, 6]";
        assert_int_equal(limn_buffer_printf(&all, NULL, "%s\n", line), 0);
    }
    write_file(folder, "lines", all.data, all.size);
    limn_buffer_free(&all);
    limn_set_threads(4);
    limn_error error = {0};
    char *out = turn(tokenizer_decode_lines, -1, &error);
    assert_int_equal(strlen(out), 199999 * 3); /* !"\n */
    if (!strstr(error.message, "line 200000: ")) fail_msg("%s", error.message);
    free(out);
}

/* Ids of six digits are written by another way. */
static void test_ids_of_six_digits(void **state) {
    (void)state;
    tokenizer *before = tokens;
    json_t *root, *added;
    assert_int_equal(tokenizer_save(tokens, folder, NULL), 0);
    root = read_json(folder, "tokenizer.json");
    added = json_object_get(root, "added_tokens");
    for (int32_t id = (int32_t)tokenizer_vocabulary_size(tokens); id < 100003; id++) {
        char name[32];
        snprintf(name, sizeof name, "<x%d>", (int)id);
        json_array_append_new(added, json_pack("{s:i, s:s, s:b}", "id", (int)id, "content", name, "special", 0));
    }
    write_json(folder, "tokenizer.json", root);
    tokens = load_folder(folder);
    write_text(folder, "lines", "<x99999><x100000>!<x100002>\n");
    limn_error error = {0};
    char *ids = turn(tokenizer_encode_lines, 0, &error);
    assert_string_equal(ids, "{\"ids\": [0, 99999, 100000, 5, 100002, 2]}\n");
    free(ids);
    tokenizer_free(tokens);
    tokens = before;
}

static void test_a_line_beyond_all_bounds(void **state) {
    (void)state;
    size_t size = (64 << 20) + (4 << 20);
    char *text = malloc(size);
    limn_error error = {0};
    assert_non_null(text);
    memset(text, 'a', size);
    memcpy(text, "!\n!\n", 4);
    write_file(folder, "lines", text, size);
    free(text);
    limn_set_threads(3);
    char *out = turn(tokenizer_encode_lines, -1, &error);
    assert_string_equal(out, "{\"ids\": [0, 5, 2]}\n{\"ids\": [0, 5, 2]}\n");
    if (!strstr(error.message, "line 3 is longer than")) fail_msg("%s", error.message);
    free(out);
    tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
    tokenizer_corpus corpus = {0};
    assert_int_equal(tokenizer_trainer_add_file(trainer, path, &corpus, NULL, &error), -1);
    if (!strstr(error.message, "line 3 is longer than")) fail_msg("%s", error.message);
    tokenizer_trainer_free(trainer);
    write_text(folder, "lines", "");
}

static void test_a_full_disk(void **state) {
    (void)state;
    FILE *full = fopen("/dev/full", "w");
    if (!full) skip();
    limn_error error = {0};
    write_text(folder, "lines", "a\nb\n");
    assert_int_equal(tokenizer_encode_lines(tokens, path, full, &error), -1);
    assert_non_null(strstr(error.message, "cannot be written"));
    fclose(full);
}

static void test_the_form_of_a_line(void **state) {
    (void)state;
    limn_error error = {0};
    write_file(folder, "lines", "!\"\r\n\n#", 6);
    char *ids = turn(tokenizer_encode_lines, 0, &error);
    assert_string_equal(ids, "{\"ids\": [0, 5, 6, 2]}\n{\"ids\": [0, 2]}\n{\"ids\": [0, 7, 2]}\n");
    free(ids);
    write_file(folder, "lines", "[5,6]\n{\"ids\":[]}\n", 17);
    char *text = turn(tokenizer_decode_lines, 0, &error);
    assert_string_equal(text, "!\"\n\n");
    free(text);
}

static void test_wrong_lines_are_named(void **state) {
    (void)state;
    static const char *const wrong[][2] = {{"no json", "not JSON"},
                                           {"{\"tokens\": [1]}", "no list of ids"},
                                           {"{\"ids\": [1.5]}", "not a token id"},
                                           {"{\"ids\": [-1]}", "not a token id"},
                                           {"{\"ids\": [99999999999]}", "not a token id"},
                                           {"{\"ids\": [99999]}", "not in the vocabulary"},
                                           {"", "not JSON"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        limn_error error = {0};
        char text[128];
        int size = snprintf(text, sizeof text, "[5]\n[6]\n%s\n[7]\n", wrong[i][0]);
        write_file(folder, "lines", text, (size_t)size);
        char *out = turn(tokenizer_decode_lines, -1, &error);
        assert_string_equal(out, "!\n\"\n"); /* what came before it is there */
        if (!strstr(error.message, "line 3: ") || !strstr(error.message, wrong[i][1])) fail_msg("%s", error.message);
        free(out);
    }
}

static void test_a_line_that_is_too_long(void **state) {
    (void)state;
    size_t size = TOKENIZER_MAX_TEXT + 10;
    char *text = malloc(size);
    limn_error error = {0};
    memset(text, 'a', size);
    memcpy(text, "!\n", 2);
    text[size - 1] = '\n';
    write_file(folder, "lines", text, size);
    char *out = turn(tokenizer_encode_lines, -1, &error);
    assert_string_equal(out, "{\"ids\": [0, 5, 2]}\n");
    assert_non_null(strstr(error.message, "line 2: "));
    free(out);

    tokenizer_corpus corpus = {0}; /* training leaves it out and counts it */
    tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
    assert_int_equal(tokenizer_trainer_add_file(trainer, path, &corpus, NULL, &error), 0);
    assert_int_equal(corpus.captions, 1);
    assert_int_equal(corpus.too_long, 1);
    tokenizer_trainer_free(trainer);
    free(text);
}

static void test_no_such_file(void **state) {
    (void)state;
    limn_error error = {0};
    snprintf(path, sizeof path, "%s/absent", folder);
    free(turn(tokenizer_encode_lines, -1, &error));
    if (!strstr(error.message, "absent: cannot be opened")) fail_msg("%s", error.message);
    tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
    tokenizer_corpus corpus = {0};
    assert_int_equal(tokenizer_trainer_add_file(trainer, path, &corpus, NULL, &error), -1);
    tokenizer_trainer_free(trainer);
    snprintf(path, sizeof path, "%s", folder);
    free(turn(tokenizer_encode_lines, -1, &error));
    if (!strstr(error.message, "cannot be read")) fail_msg("%s", error.message);
    snprintf(path, sizeof path, "%s/lines", folder);
}

/* A tar's captions are led by a space; a line is taken as it is. */
static void test_training_on_a_tar_and_on_lines(void **state) {
    (void)state;
    static const char *const captions[] = {"red apple", " red apple",
                                           "red \xFF"
                                           "apple"};
    char tar[128];
    snprintf(tar, sizeof tar, "%s/00000.tar", folder);
    tar_writer *writer = tar_writer_open(tar, NULL);
    assert_non_null(writer);
    for (size_t i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "00000000%zu.txt", i);
        assert_int_equal(tar_writer_add(writer, name, captions[i], strlen(captions[i]), NULL), 0);
    }
    assert_int_equal(tar_writer_add(writer, "000000009.jpg", "x", 1, NULL), 0);
    assert_int_equal(tar_writer_commit(writer, NULL), 0);
    write_file(folder, "lines",
               " red apple\r\n red apple\n red \xFF"
               "apple\n",
               33 + 1);

    tokenizer *trained[2];
    for (size_t i = 0; i < 2; i++) {
        tokenizer_trainer *trainer = tokenizer_trainer_create(NULL);
        tokenizer_corpus corpus = {0};
        limn_error error = {0};
        if (tokenizer_trainer_add_file(trainer, i ? path : tar, &corpus, NULL, &error)) fail_msg("%s", error.message);
        assert_int_equal(corpus.captions, 3);
        assert_int_equal(corpus.not_utf8, 1);
        assert_int_equal(corpus.bytes, 31);
        trained[i] = tokenizer_trainer_finish(trainer, 300, 2, NULL);
        tokenizer_trainer_free(trainer);
        assert_non_null(trained[i]);
    }
    assert_true(tokenizer_vocabulary_size(trained[0]) > 265);
    assert_int_equal(tokenizer_vocabulary_size(trained[0]), tokenizer_vocabulary_size(trained[1]));
    for (size_t i = 0; tokenizer_merge(trained[0], i); i++)
        assert_string_equal(tokenizer_merge(trained[0], i), tokenizer_merge(trained[1], i));
    tokenizer_free(trained[0]);
    tokenizer_free(trained[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_lines_there_and_back),
        cmocka_unit_test(test_the_same_with_any_number_of_threads),
        cmocka_unit_test(test_the_first_wrong_line_counts),
        cmocka_unit_test(test_ids_of_six_digits),
        cmocka_unit_test(test_a_line_beyond_all_bounds),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_the_form_of_a_line),
        cmocka_unit_test(test_wrong_lines_are_named),
        cmocka_unit_test(test_a_line_that_is_too_long),
        cmocka_unit_test(test_no_such_file),
        cmocka_unit_test(test_training_on_a_tar_and_on_lines),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
