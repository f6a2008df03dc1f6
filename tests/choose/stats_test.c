/* Statistics: every figure against what the sets were made of. */
#include "tokenizer/tokenizer.h"
#include "world.h"

#include <math.h>
#include <stdlib.h>

static json_t *stats_of(const char *pattern) {
    limn_error error = {0};
    const choose_stats_options options = {.inputs = inputs(pattern), .top = 3, .duplicates = true};
    json_t *stats = choose_stats(&options, &error);
    if (!stats) fail_msg("%s", error.message);
    return stats;
}

static int set_up(void **state) {
    choose_set_up(state);
    limn_make_directories(in(choose_folder, "tars"), NULL);
    limn_make_directories(in(choose_folder, "shards"), NULL);
    make_tar("tars/00000.tar", 0, 10, usual_caption, usual_fields);
    make_tar("tars/00001.tar", 1, 12, usual_caption, NULL);
    make_tar("tars/00002.tar", 2, 3, NULL, usual_fields);
    write_text(in(choose_folder, "tars"), "00000.stats.json",
               "{\"rows\": 14, \"pairs\": 10, \"failed\": 4, \"reasons\": {\"http_404\": 3, \"too_small\": 1}}");
    make_shard("shards/00000.h5", 0, 10, "sha");
    make_shard("shards/00001.h5", 0, 10, "sha");
    return 0;
}

static const json_t *path(const json_t *object, const char *a, const char *b) {
    return json_object_get(json_object_get(object, a), b);
}

static void test_tars(void **state) {
    (void)state;
    json_t *stats = stats_of("tars"), *top = json_object_get(json_object_get(stats, "hosts"), "top");
    assert_int_equal(number_of(stats, "samples"), 25);
    assert_int_equal(number_of(stats, "pictures"), 25);
    assert_int_equal(number_of(stats, "captions"), 22);
    assert_int_equal(number_of(stats, "without_caption"), 3);
    assert_int_equal(number_of(stats, "without_json"), 12);
    assert_int_equal(number_of(stats, "damaged_files"), 0);
    assert_int_equal(json_integer_value(path(stats, "list", "failed")), 4);
    assert_int_equal(json_array_size(path(json_object_get(stats, "list"), "reasons", "top")), 2);
    assert_int_equal(json_array_size(top), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(top, 0), "text")), "a.example");
    assert_int_equal(number_of(json_array_get(top, 0), "count"), 5); /* rows 0, 3, 6, 9, and 0 */
    assert_string_equal(json_string_value(json_object_get(json_array_get(top, 2), "text")), "c.example");
    assert_int_equal(json_integer_value(path(stats, "words", "median")), 5);
    assert_int_equal(json_integer_value(path(stats, "characters", "most")), (json_int_t)strlen("picture 2 of 1 house"));
    assert_int_equal(json_integer_value(path(stats, "frequent_words", "total")), 22 * 5);
    /* Widths: from KEY.json or, where there is none, from the picture itself. */
    const json_t *bin = json_array_get(json_object_get(stats, "widths"), 0);
    assert_int_equal(number_of(bin, "count"), 25);
    assert_true(json_number_value(json_object_get(bin, "below")) == 64);
    /* Of the 13 with originals 7 are 50×100 and 6 are 150×100; 12 are square. */
    const json_t *aspects = json_object_get(stats, "aspects");
    assert_int_equal(json_array_size(aspects), 3);
    assert_int_equal(number_of(json_array_get(aspects, 0), "count"), 7);
    assert_int_equal(number_of(json_array_get(aspects, 1), "count"), 12);
    assert_int_equal(number_of(json_array_get(aspects, 2), "count"), 6);
    /* sha256 of four kinds in KEY.json: of 13 there 9 are too many; those without differ. */
    const json_t *duplicates = json_object_get(stats, "duplicates");
    assert_int_equal(json_integer_value(path(duplicates, "pictures", "looked_at")), 25);
    assert_int_equal(json_integer_value(path(duplicates, "pictures", "duplicates")), 9);
    assert_int_equal(json_integer_value(path(duplicates, "addresses", "duplicates")), 3);
    assert_int_equal(json_integer_value(path(duplicates, "captions", "duplicates")), 0);
    assert_int_equal(json_integer_value(path(duplicates, "perceptual_hashes", "duplicates")), 3);
    json_decref(stats);
}

static void test_shards(void **state) {
    (void)state;
    json_t *stats = stats_of("shards"), *codes = json_object_get(stats, "codes");
    assert_int_equal(number_of(stats, "samples"), 20);
    assert_int_equal(number_of(stats, "captions"), 28);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(stats, "captions_of_picture"), 2)), 8);
    assert_int_equal(number_of(codes, "tokens"), 80);
    assert_int_equal(number_of(codes, "used"), 13); /* codes 0 … 12 */
    assert_true(json_is_false(json_object_get(codes, "mixed_vqgans")));
    /* 0 and 12 once, 1 and 11 twice, 2 and 10 three times, 3 … 9 four times, of 40 */
    double entropy = 0;
    static const int counts[] = {1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 3, 2, 1};
    for (size_t i = 0; i < 13; i++) entropy -= counts[i] / 40.0 * log(counts[i] / 40.0);
    assert_true(fabs(json_number_value(json_object_get(codes, "perplexity")) - exp(entropy)) < 1e-9);
    assert_int_equal(number_of(codes, "codes_of_half"), 5);
    assert_int_equal(json_integer_value(path(json_object_get(stats, "duplicates"), "pictures", "duplicates")), 10);
    json_decref(stats);
}

static void test_threads_do_not_show(void **state) {
    (void)state;
    char *before = NULL;
    for (size_t threads = 1; threads < 5; threads++) {
        limn_set_threads(threads);
        json_t *stats = stats_of("tars");
        char *text = json_dumps(stats, JSON_SORT_KEYS);
        if (before) assert_string_equal(text, before);
        free(before);
        before = text;
        json_decref(stats);
    }
    free(before);
    limn_set_threads(2);
}

/* A tokenizer of the bytes alone: a token a byte, the space before a caption, and the two at its ends. */
static void test_tokenizer(void **state) {
    (void)state;
    limn_error error = {0};
    tokenizer_trainer *trainer = tokenizer_trainer_create(&error);
    assert_int_equal(tokenizer_trainer_add(trainer, "x", 1, &error), 0);
    tokenizer *bytes = tokenizer_trainer_finish(trainer, TOKENIZER_BASE, 2, &error);
    tokenizer_trainer_free(trainer);
    assert_non_null(bytes);
    limn_make_directories(in(choose_folder, "tokenizer"), NULL);
    assert_int_equal(tokenizer_save(bytes, in(choose_folder, "tokenizer"), &error), 0);
    tokenizer_free(bytes);
    const choose_stats_options options = {
        .inputs = inputs("tars/00001.tar"), .top = 3, .tokenizer = in(choose_folder, "tokenizer"), .normalize = false};
    json_t *stats = choose_stats(&options, &error);
    assert_non_null(stats);
    assert_int_equal(json_integer_value(path(stats, "caption_tokens", "least")), (json_int_t)strlen(" picture 1 of 1 dog") + 2);
    assert_null(json_object_get(stats, "duplicates"));
    json_decref(stats);
}

static void test_page(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char *text;
        size_t size;
        json_t *stats = stats_of(i ? "shards" : "tars");
        FILE *page = open_memstream(&text, &size);
        choose_stats_print(stats, page);
        fclose(page);
        assert_true(limn_utf8_valid(text, size));
        assert_non_null(strstr(text, i ? "13 of 37 codes used" : "http_404"));
        assert_non_null(strstr(text, "words a caption"));
        if (!i) assert_non_null(strstr(text, "a.example"));
        free(text);
        json_decref(stats);
    }
}

static void test_damaged(void **state) {
    (void)state;
    limn_make_directories(in(choose_folder, "damaged"), NULL);
    make_tar("damaged/0.tar", 0, 4, usual_caption, usual_fields);
    write_text(in(choose_folder, "damaged"), "1.tar", "no tar");
    json_t *stats = stats_of("damaged");
    assert_int_equal(number_of(stats, "damaged_files"), 1);
    assert_int_equal(number_of(stats, "samples"), 4);
    json_decref(stats);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tars),      cmocka_unit_test(test_shards), cmocka_unit_test(test_threads_do_not_show),
        cmocka_unit_test(test_tokenizer), cmocka_unit_test(test_page),   cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, set_up, choose_tear_down);
}
