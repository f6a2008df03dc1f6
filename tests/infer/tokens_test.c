/* Tokens as text: what limn-sample and others write is drawn, what is wrong is named by file and line. */
#include "support.h"

#include "tests/scratch.h"

static const char *model_folder(void) {
    static char folder[4096];
    limn_error error = {0};
    snprintf(folder, sizeof folder, "%s", scratch_path("model"));
    if (!limn_file_exists(folder) && make_model(folder, 1, NULL, &error)) fail_msg("%s", error.message);
    strcat(folder, "/vqgan");
    return folder;
}

static const char *write_lines(const char *text) {
    return scratch_write("tokens.jsonl", text, strlen(text));
}

/* A list of `count` times `id`. */
static const char *list_of(size_t count, int id) {
    static char text[4096];
    size_t used = (size_t)snprintf(text, sizeof text, "[");
    for (size_t i = 0; i < count; i++) used += (size_t)snprintf(text + used, sizeof text - used, "%s%d", i ? "," : "", id);
    snprintf(text + used, sizeof text - used, "]");
    return text;
}

static int decode(const char *file, const char *output, const char *singles, limn_error *error) {
    limn_strings files = {.count = 1, .items = &file};
    FILE *results = fopen("/dev/null", "w");
    int status = tokens_decode(model_folder(), &files, output, singles, results, error);
    fclose(results);
    return status;
}

static void refuse(const char *text, const char *words) {
    limn_error error = {0};
    char output[4096];
    snprintf(output, sizeof output, "%s", scratch_path("refused.png"));
    assert_int_equal(decode(write_lines(text), output, NULL, &error), -1);
    assert_contains(error.message, words);
    assert_contains(error.message, "tokens.jsonl");
    assert_false(limn_file_exists(output));
}

/* Our form, one drawing without its brackets, and bare lists: the same picture from each. */
static void every_form_is_drawn(void **state) {
    (void)state;
    static const char *const forms[] = {"{\"prompt\": \"A red apple\", \"seed\": 3, \"tokens\": [%s]}\n", "{\"tokens\": %s}",
                                        "[%s]\r\n", "\n%s\n\n"};
    char first[65] = "";
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        limn_error error = {0};
        limn_buffer line = {0};
        char output[4096], sha256[65];
        const char *hole = strstr(forms[i], "%s");
        assert_int_equal(
            limn_buffer_printf(&line, NULL, "%.*s%s%s", (int)(hole - forms[i]), forms[i], list_of(TOKENS, 5), hole + 2), 0);
        snprintf(output, sizeof output, "%s", scratch_path("one.png"));
        if (decode(write_lines(line.data), output, NULL, &error)) fail_msg("%s", error.message);
        assert_int_equal(limn_sha256_file(output, sha256, &error), 0);
        if (i == 0) strcpy(first, sha256);
        assert_string_equal(sha256, first);
        limn_buffer_free(&line);
    }
}

static void several_lines_go_to_a_folder(void **state) {
    (void)state;
    limn_error error = {0};
    limn_buffer lines = {0};
    char output[4096], singles[4096], path[8300];
    assert_int_equal(limn_buffer_printf(&lines, NULL, "{\"prompt\": \"A red apple\", \"tokens\": [%s,", list_of(TOKENS, 5)), 0);
    assert_int_equal(limn_buffer_printf(&lines, NULL, "%s]}\n", list_of(TOKENS, 6)), 0);
    assert_int_equal(limn_buffer_printf(&lines, NULL, "%s\n", list_of(TOKENS, 7)), 0);
    snprintf(output, sizeof output, "%s", scratch_path("drawings"));
    snprintf(singles, sizeof singles, "%s", scratch_path("singles"));
    if (decode(write_lines(lines.data), output, singles, &error)) fail_msg("%s", error.message);
    const char *const names[][2] = {{output, "0001-a-red-apple.png"},
                                    {output, "0002-drawing.png"},
                                    {singles, "0001-a-red-apple-0001.png"},
                                    {singles, "0001-a-red-apple-0002.png"},
                                    {singles, "0002-drawing-0001.png"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", names[i][0], names[i][1]);
        assert_true(limn_file_exists(path));
    }
    snprintf(path, sizeof path, "%s", scratch_path("only.png"));
    assert_int_equal(decode(scratch_path("tokens.jsonl"), path, NULL, &error), -1);
    assert_contains(error.message, "line 2 is not the first");
    limn_buffer_free(&lines);
}

static void what_is_wrong_is_named(void **state) {
    (void)state;
    refuse(list_of(TOKENS, CODES), "line 1: token 1 of a drawing is not a number below the VQGAN's 24 codes");
    refuse(list_of(TOKENS, -1), "token 1");
    refuse(list_of(TOKENS - 1, 1), "has 15 tokens, but the VQGAN's pictures have 16");
    refuse("{\"tokens\": [[]]}", "has 0 tokens");
    refuse("{\"tokens\": []}", "has no \"tokens\"");
    refuse("{\"prompt\": \"x\"}", "has no \"tokens\"");
    refuse("{\"tokens\": [\"a\"]}", "line 1");
    refuse("\n{\"tokens\": [1.5]}", "line 2");
    refuse("{\"tokens\": [[1]], \"tokens\": [[1]]}", "line 1 is not JSON: duplicate");
    refuse("\xff\n", "line 1 is not JSON");
    refuse("", "holds no tokens");
}

/* A picture's tokens, drawn, give back the picture's reconstruction; a picture that is none is named and nothing is written. */
static void pictures_become_tokens(void **state) {
    (void)state;
    limn_error error = {0};
    picture blank;
    char png[4096], output[4096];
    assert_int_equal(picture_create(&blank, SIDE, SIDE, &error), 0);
    memset(blank.pixels, 200, SIDE * SIDE * 3);
    snprintf(png, sizeof png, "%s", scratch_path("blank.png"));
    assert_int_equal(picture_save_png(&blank, png, &error), 0);
    picture_free(&blank);
    snprintf(output, sizeof output, "%s", scratch_path("encoded.jsonl"));
    const char *paths[] = {png, png};
    if (tokens_encode(model_folder(), &(limn_strings){.count = 2, .items = paths}, output, &error))
        fail_msg("%s", error.message);
    size_t size;
    char *text = limn_file_read(output, 1 << 20, &size, &error);
    json_t *row = json_loadb(text, strcspn(text, "\n"), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(row, "picture")), png);
    assert_int_equal(json_array_size(json_array_get(json_object_get(row, "tokens"), 0)), TOKENS);
    json_decref(row);
    free(text);
    assert_int_equal(decode(output, scratch_path("decoded"), NULL, &error), 0);

    assert_int_equal(remove(output), 0);
    paths[1] = scratch_write("broken.png", "junk", 4);
    assert_int_equal(tokens_encode(model_folder(), &(limn_strings){.count = 2, .items = paths}, output, &error), -1);
    assert_contains(error.message, "broken.png");
    assert_false(limn_file_exists(output));
}

int main(void) {
    limn_set_log_level(LIMN_LOG_WARNING);
    limn_set_threads(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_drawn),
        cmocka_unit_test(several_lines_go_to_a_folder),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(pictures_become_tokens),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
