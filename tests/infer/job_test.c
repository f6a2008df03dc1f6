/* limn-sample's work: files of the right size and name, going on, refusing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "infer/internal.h"
#include "support.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], model_folder[128], output[128], singles[128], prompts[128], tokens_out[128];
static drawing_job job;

static int setup(void **state) {
    (void)state;
    limn_error error = {0};
    limn_set_log_level(LIMN_LOG_QUIET);
    limn_set_threads(1); /* so small a model is faster so */
    strcpy(folder, "/tmp/limn-infer-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(model_folder, sizeof model_folder, "%s/model", folder);
    snprintf(output, sizeof output, "%s/drawings", folder);
    snprintf(singles, sizeof singles, "%s/singles", folder);
    snprintf(prompts, sizeof prompts, "%s/prompts.txt", folder);
    snprintf(tokens_out, sizeof tokens_out, "%s/tokens.jsonl", folder);
    if (make_model(model_folder, 1, NULL, &error) == 0) return 0;
    print_error("%s\n", error.message);
    return -1;
}

static int teardown(void **state) {
    (void)state;
    return limn_remove_tree(folder, NULL);
}

/* Three prompts, the first of them twice. */
static int begin(void **state) {
    (void)state;
    static const char text[] = "A red, RED apple!\r\n\nblue heart\n\xE2\x9D\xA4\nA red, RED apple!\n";
    job = (drawing_job){.model = model_folder,
                        .prompts = prompts,
                        .output = output,
                        .sampling = {.count = 2, .seed = 3, .guidance = 3, .temperature = 1, .top_p = 1}};
    return limn_atomic_write(prompts, text, sizeof text - 1, NULL);
}

static int end(void **state) {
    (void)state;
    limn_remove_tree(output, NULL);
    limn_remove_tree(singles, NULL);
    unlink(tokens_out);
    return 0;
}

/* Runs the job; returns how many pictures it wrote. */
static size_t run(void) {
    char *names = NULL;
    size_t size, lines = 0;
    limn_error error = {0};
    FILE *results = open_memstream(&names, &size);
    if (draw_job(&job, results, &error)) fail_msg("%s", error.message);
    fclose(results);
    for (size_t i = 0; i < size; i++) lines += names[i] == '\n';
    free(names);
    return lines;
}

static void assert_refused(int exit_code, const char *words) {
    limn_error error = {0};
    FILE *results = tmpfile();
    assert_int_equal(draw_job(&job, results, &error), -1);
    fclose(results);
    if (error.exit_code != exit_code || !strstr(error.message, words)) fail_msg("expected '%s', got: %s", words, error.message);
}

static void assert_picture(const char *directory, const char *name, size_t width, size_t height) {
    char path[256];
    picture got;
    limn_error error = {0};
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (picture_load(&got, path, &error)) fail_msg("%s", error.message);
    assert_int_equal(got.width, width);
    assert_int_equal(got.height, height);
    picture_free(&got);
}

static char *read_tokens(void) {
    size_t size;
    char *text = limn_file_read(tokens_out, 1 << 24, &size, NULL);
    assert_non_null(text);
    return text;
}

static void test_nine_drawings_of_one_prompt(void **state) {
    (void)state;
    static const size_t cases[][3] = {{9, 3, 3}, {1, 1, 1}, {2, 2, 1}, {5, 3, 2}, {17, 5, 4}};
    char file[160];
    snprintf(file, sizeof file, "%s/nine.png", folder);
    job.prompts = NULL;
    job.prompt = "a red apple";
    job.output = file;
    job.singles = singles;
    for (size_t i = 0; i < 5; i++) {
        job.sampling.count = cases[i][0];
        assert_int_equal(run(), cases[i][0] + 1);
        assert_picture(folder, "nine.png", cases[i][1] * SIDE, cases[i][2] * SIDE);
    }
    assert_picture(singles, "a-red-apple-0017.png", SIDE, SIDE);

    picture sheet, one; /* drawing 7 of 17 stands in the second row */
    char path[256];
    snprintf(path, sizeof path, "%s/a-red-apple-0007.png", singles);
    assert_int_equal(picture_load(&sheet, file, NULL), 0);
    assert_int_equal(picture_load(&one, path, NULL), 0);
    for (size_t y = 0; y < SIDE; y++)
        assert_memory_equal(sheet.pixels + ((SIDE + y) * sheet.width + SIDE) * 3, one.pixels + y * SIDE * 3, SIDE * 3);
    picture_free(&sheet);
    picture_free(&one);
}

/* Looking on changes nothing: the same drawing, and nothing else is left. */
static void test_previews(void **state) {
    (void)state;
    char file[160], *with, *without;
    size_t with_size, without_size;
    snprintf(file, sizeof file, "%s/watched.png", folder);
    job.prompts = NULL;
    job.prompt = "a red apple";
    job.output = file;
    job.sampling.count = 18; /* two batches */
    assert_int_equal(run(), 1);
    without = limn_file_read(file, 1 << 24, &without_size, NULL);
    job.preview_every = 5;
    assert_int_equal(run(), 1);
    with = limn_file_read(file, 1 << 24, &with_size, NULL);
    assert_int_equal(with_size, without_size);
    assert_memory_equal(with, without, with_size);
    free(with);
    free(without);
}

static void test_previews_of_prompts(void **state) {
    (void)state;
    char path[256];
    job.preview_every = 4;
    assert_int_equal(run(), 4);
    snprintf(path, sizeof path, "%s/preview.png", output);
    assert_false(limn_file_exists(path));
}

/* What is drawn stands where it will stand; what is not is grey. */
static void test_what_a_preview_shows(void **state) {
    (void)state;
    limn_error error = {0};
    char path[160], vqgan_folder[160];
    snprintf(path, sizeof path, "%s/shown.png", folder);
    snprintf(vqgan_folder, sizeof vqgan_folder, "%s/vqgan", job.model);
    vqgan *model = vqgan_load_decoder(vqgan_folder, PRECISION_FP32, &error);
    limn_arena *arena = limn_arena_create((size_t)1 << 34, NULL);
    int32_t tokens[3 * TOKENS];
    for (int32_t i = 0; i < 3 * TOKENS; i++) tokens[i] = i % CODES;
    if (!model || draw_preview(model, tokens, 4, 1, 1, 6, path, arena, &error)) fail_msg("%s", error.message);
    picture shown, whole;
    assert_int_equal(picture_load(&shown, path, NULL), 0);
    assert_int_equal(draw_picture(model, tokens, &whole, arena, NULL), 0);
    for (size_t y = 0; y < SIDE; y++)
        for (size_t x = 0; x < SIDE; x++) {
            const unsigned char *first = shown.pixels + (y * 2 * SIDE + x) * 3, *second = first + SIDE * 3;
            assert_memory_equal(first, whole.pixels + (y * SIDE + x) * 3, 3);
            bool drawn = y / 4 * 4 + x / 4 < 6; /* four tokens a side, four pixels each */
            bool grey = second[0] == 0xDD && second[1] == 0xDD && second[2] == 0xDD;
            assert_true(drawn != grey);
            assert_int_equal(shown.pixels[((SIDE + y) * 2 * SIDE + x) * 3], 0xFF); /* not begun */
        }
    picture_free(&shown);
    picture_free(&whole);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

static void test_a_file_of_prompts(void **state) {
    (void)state;
    job.tokens_out = tokens_out;
    job.singles = singles;
    assert_int_equal(run(), 4 * 3);
    assert_picture(output, "0001-a-red-red-apple.png", 2 * SIDE, SIDE);
    assert_picture(output, "0002-blue-heart.png", 2 * SIDE, SIDE);
    assert_picture(output, "0003-prompt.png", 2 * SIDE, SIDE);
    assert_picture(output, "0004-a-red-red-apple.png", 2 * SIDE, SIDE);
    assert_picture(singles, "0002-blue-heart-0002.png", SIDE, SIDE);

    char *text = read_tokens();
    size_t rows = 0;
    static const char *const expected[] = {"A red, RED apple!", "blue heart", "\xE2\x9D\xA4", "A red, RED apple!"};
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), rows++) {
        json_t *row = json_loads(line, 0, NULL), *tokens = json_object_get(row, "tokens");
        assert_string_equal(json_string_value(json_object_get(row, "prompt")), expected[rows]);
        assert_int_equal(json_integer_value(json_object_get(row, "seed")), 3);
        assert_int_equal(json_array_size(tokens), 2);
        for (size_t i = 0; i < 2; i++) assert_int_equal(json_array_size(json_array_get(tokens, i)), TOKENS);
        json_decref(row);
    }
    assert_int_equal(rows, 4);
    free(text);
}

/* What a killed run leaves: some pictures, a tokens file whose last line is cut off. */
static void test_going_on(void **state) {
    (void)state;
    char path[256];
    job.tokens_out = tokens_out;
    assert_int_equal(run(), 4);
    char *whole = read_tokens();
    struct stat before, after;
    snprintf(path, sizeof path, "%s/0001-a-red-red-apple.png", output);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(run(), 0); /* all is there */

    snprintf(path, sizeof path, "%s/0002-blue-heart.png", output);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/0004-a-red-red-apple.png", output);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(truncate(tokens_out, (off_t)strlen(whole) - 5), 0);
    assert_int_equal(run(), 2);
    char *again = read_tokens();
    assert_string_equal(again, whole);
    snprintf(path, sizeof path, "%s/0001-a-red-red-apple.png", output);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* not written again */

    job.restart = true;
    assert_int_equal(run(), 4);
    free(again);
    again = read_tokens();
    assert_string_equal(again, whole);
    free(whole);
    free(again);
}

static void test_another_configuration_is_refused(void **state) {
    (void)state;
    static const char *const names[] = {"--count", "--seed",  "--guidance",  "--temperature",
                                        "--top-k", "--top-p", "--precision", "weights"};
    job.sampling.count = 1;
    assert_int_equal(run(), 4);
    const drawing_job first = job;
    char other[160];
    limn_error error = {0};
    snprintf(other, sizeof other, "%s/other", folder);
    assert_int_equal(make_model(other, 2, NULL, &error), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        job = first;
        if (i == 0) job.sampling.count = 2;
        if (i == 1) job.sampling.seed = 4;
        if (i == 2) job.sampling.guidance = 2;
        if (i == 3) job.sampling.temperature = 2;
        if (i == 4) job.sampling.top_k = 2;
        if (i == 5) job.sampling.top_p = 0.5;
        if (i == 6) job.precision = PRECISION_BF16;
        if (i == 7) job.model = other;
        assert_refused(LIMN_EXIT_USAGE, names[i]);
    }
    job.restart = true;
    assert_int_equal(run(), 4);
    job = first; /* and now it belongs to the other */
    assert_refused(LIMN_EXIT_USAGE, "weights");
}

static void test_wrong_input(void **state) {
    (void)state;
    assert_int_equal(limn_atomic_write(prompts, "fine\nnot \xFF fine\n", 16, NULL), 0);
    assert_refused(LIMN_EXIT_FAILED, "line 2 is not UTF-8");
    assert_int_equal(limn_atomic_write(prompts, "with\0NUL\n", 9, NULL), 0);
    assert_refused(LIMN_EXIT_FAILED, "line 1 is not UTF-8");
    assert_int_equal(limn_atomic_write(prompts, "\n\n", 2, NULL), 0);
    assert_refused(LIMN_EXIT_FAILED, "holds no prompt");
    job.prompts = "/nowhere/prompts.txt";
    assert_refused(LIMN_EXIT_FAILED, "/nowhere/prompts.txt");
    job.prompts = NULL;
    job.prompt = "caf\xC3";
    assert_refused(LIMN_EXIT_USAGE, "--prompt");
    job.prompt = "apple";
    job.output = folder;
    assert_refused(LIMN_EXIT_USAGE, "is a folder");
    job.output = "/nowhere/apple.png";
    assert_refused(LIMN_EXIT_FAILED, "/nowhere");
    job.output = output;
    job.model = "/nowhere";
    assert_refused(LIMN_EXIT_FAILED, "/nowhere");
}

static void test_a_tokens_file_of_something_else(void **state) {
    (void)state;
    static const char *const texts[] = {"a file of mine\n", "{\"prompt\": \"blue heart\", \"seed\": 99, \"tokens\": []}\n"};
    job.tokens_out = tokens_out;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(limn_atomic_write(tokens_out, texts[i], strlen(texts[i]), NULL), 0);
        assert_refused(LIMN_EXIT_USAGE, "--tokens-out");
        char *text = read_tokens();
        assert_string_equal(text, texts[i]);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(test_nine_drawings_of_one_prompt),
        TEST(test_a_file_of_prompts),
        TEST(test_going_on),
        TEST(test_previews),
        TEST(test_previews_of_prompts),
        TEST(test_what_a_preview_shows),
        TEST(test_another_configuration_is_refused),
        TEST(test_wrong_input),
        TEST(test_a_tokens_file_of_something_else),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
