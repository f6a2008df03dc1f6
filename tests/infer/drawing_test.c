/* Drawing with a tiny model, against the model run over the whole sequence at once; and folders whose parts do not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "support.h"
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char folder[64];
static drawing_model model;

static int setup(void **state) {
    (void)state;
    limn_error error = {0};
    limn_set_log_level(LIMN_LOG_WARNING);
    limn_set_threads(1); /* so small a model is faster so */
    strcpy(folder, "/tmp/limn-infer-XXXXXX");
    if (!mkdtemp(folder) || make_model(folder, 1, NULL, &error) || drawing_model_load(&model, folder, PRECISION_FP32, &error)) {
        print_error("%s\n", error.message);
        return -1;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    drawing_model_free(&model);
    return limn_remove_tree(folder, NULL);
}

static void draw(int32_t *tokens, const char *prompt, const sampling_options *options) {
    limn_error error = {0};
    if (draw_tokens(&model, prompt, options, tokens, NULL, &error)) fail_msg("%s", error.message);
}

/* Each token drawn at temperature 0 is the most likely one under guidance of what the uncached model says of the tokens before.
 */
static void test_equals_the_whole_model(void **state) {
    (void)state;
    static const char prompt[] = "a red apple";
    int32_t tokens[2 * TOKENS], ids[2 * WORDS], mask[2 * WORDS], before[2 * TOKENS];
    float *logits = malloc(2 * TOKENS * (IMAGE_IDS + 1) * sizeof *logits);
    const sampling_options options = {.count = 1, .guidance = 3, .temperature = 0, .top_p = 1};
    draw(tokens, prompt, &options);
    memcpy(tokens + TOKENS, tokens, TOKENS * sizeof *tokens);
    assert_int_equal(tokenizer_encode_caption(model.captions.tokenizer, prompt, strlen(prompt), ids, mask, WORDS, NULL), 0);
    assert_int_equal(tokenizer_encode_caption(model.captions.tokenizer, "", 0, ids + WORDS, mask + WORDS, WORDS, NULL), 0);
    assert_int_equal(ids[WORDS], 0); /* <s></s>, then <pad> */
    assert_int_equal(ids[WORDS + 1], 2);
    assert_int_equal(ids[WORDS + 2], 1);
    assert_int_equal(mask[WORDS + 2], 0);
    seq2seq_shift_right(seq2seq_get_config(model.seq2seq), before, tokens, 2);
    limn_arena *arena = limn_arena_create((size_t)1 << 34, NULL);
    seq2seq_evaluate(model.seq2seq, &(seq2seq_batch){2, ids, mask, before, NULL}, PRECISION_FP32, NULL, logits, NULL, arena);
    bool several = false;
    for (size_t t = 0; t < TOKENS; t++) {
        const float *cond = logits + t * (IMAGE_IDS + 1), *uncond = cond + TOKENS * (IMAGE_IDS + 1);
        float best = -1e30f, drawn = uncond[tokens[t]] + 3 * (cond[tokens[t]] - uncond[tokens[t]]);
        assert_in_range(tokens[t], 0, CODES - 1);
        for (size_t i = 0; i < CODES; i++) {
            float logit = uncond[i] + 3 * (cond[i] - uncond[i]);
            if (logit > best) best = logit;
        }
        assert_true(drawn >= best - 1e-3f);
        several = several || tokens[t] != tokens[0];
    }
    assert_true(several);
    limn_arena_destroy(arena);
    free(logits);
}

static void test_the_same_seed_draws_the_same(void **state) {
    (void)state;
    int32_t first[20 * TOKENS], second[20 * TOKENS];
    sampling_options options = {.count = 20, .seed = 4, .guidance = 3, .temperature = 1, .top_k = 20, .top_p = 0.95};
    draw(first, "red heart", &options);
    draw(second, "red heart", &options);
    assert_memory_equal(first, second, sizeof first);
    for (size_t i = 0; i < 20 * TOKENS; i++) assert_in_range(first[i], 0, CODES - 1);
    for (size_t i = 1; i < 20; i++) assert_memory_not_equal(first, first + i * TOKENS, TOKENS * sizeof *first);
    options.seed = 5;
    draw(second, "red heart", &options);
    assert_memory_not_equal(first, second, sizeof first);
    options.seed = 4;
    draw(second, "a blue apple", &options);
    assert_memory_not_equal(first, second, sizeof first);
}

/* Without guidance there are no unconditional rows; guidance 1 would give the same logits. */
static void test_without_guidance(void **state) {
    (void)state;
    int32_t off[3 * TOKENS], near[3 * TOKENS];
    sampling_options options = {.count = 3, .seed = 4, .guidance = 1, .temperature = 1, .top_p = 1};
    draw(off, "red heart", &options);
    options.guidance = 1 + 1e-7;
    draw(near, "red heart", &options);
    assert_memory_equal(off, near, sizeof off);
}

static void count_progress(void *context, size_t first, size_t drawings, size_t position) {
    size_t *last = context, done = first * TOKENS + drawings * position;
    assert_true(done > *last && position <= TOKENS && first + drawings <= 20);
    *last = done;
}

static void test_progress_reaches_the_end(void **state) {
    (void)state;
    int32_t tokens[20 * TOKENS];
    size_t last = 0;
    const sampling_options options = {.count = 20, .guidance = 3, .temperature = 1, .top_p = 1};
    assert_int_equal(draw_tokens(&model, "red heart", &options, tokens, &(drawing_watcher){count_progress, &last}, NULL), 0);
    assert_int_equal(last, 20 * TOKENS);
}

static void test_a_picture_of_tokens(void **state) {
    (void)state;
    int32_t tokens[TOKENS];
    picture drawn;
    for (int32_t i = 0; i < TOKENS; i++) tokens[i] = i;
    limn_arena *arena = limn_arena_create((size_t)1 << 34, NULL);
    assert_int_equal(draw_picture(model.vqgan, tokens, &drawn, arena, NULL), 0);
    assert_int_equal(drawn.width, SIDE);
    assert_int_equal(drawn.height, SIDE);
    picture_free(&drawn);
    limn_arena_destroy(arena);
}

/* Where the config says so, captions are what DALL·E Mini's normaliser makes of them; hashtags by the words in the folder. */
static void test_captions_are_normalised(void **state) {
    (void)state;
    char other[64] = "/tmp/limn-infer-XXXXXX", words[128];
    limn_error error = {0};
    drawing_model normal;
    static const char *const cases[][2] = {
        {"A <b>RED</b> Apple!!!! &amp; more", " a red apple, & more"}, {"#redapple", " red apple"}, {"", " "}};
    assert_non_null(mkdtemp(other));
    if (make_model(other, 1, "seq2seq.normalize_text=true", &error)) fail_msg("%s", error.message);
    snprintf(words, sizeof words, "%s/%s", other, TEXT_NORMALIZER_WORDS);
    assert_int_equal(limn_atomic_write(words, "red 9\napple 5\n", 14, &error), 0);
    if (drawing_model_load(&normal, other, PRECISION_FP32, &error)) fail_msg("%s", error.message);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t got[WORDS], got_mask[WORDS], expected[WORDS], mask[WORDS];
        assert_int_equal(
            caption_encoder_encode(&normal.captions, cases[i][0], strlen(cases[i][0]), got, got_mask, WORDS, &error), 0);
        assert_int_equal(
            tokenizer_encode_caption(model.captions.tokenizer, cases[i][1], strlen(cases[i][1]), expected, mask, WORDS, &error),
            0);
        assert_memory_equal(got, expected, sizeof got);
        assert_memory_equal(got_mask, mask, sizeof mask);
        assert_int_equal(
            caption_encoder_encode(&model.captions, cases[i][0], strlen(cases[i][0]), got, got_mask, WORDS, &error), 0);
        assert_memory_not_equal(got, expected, sizeof got); /* a model without it takes them as they are */
    }
    int32_t blank[WORDS], mask[WORDS]; /* guidance's is not */
    assert_int_equal(caption_encoder_encode_blank(&normal.captions, blank, mask, WORDS, &error), 0);
    assert_true(blank[0] == 0 && blank[1] == 2 && blank[2] == 1);
    drawing_model_free(&normal);
    assert_int_equal(limn_atomic_write(words, "\xff\xfe", 2, &error), 0);
    assert_int_equal(drawing_model_load(&normal, other, PRECISION_FP32, &error), -1);
    assert_non_null(strstr(error.message, TEXT_NORMALIZER_WORDS));
    assert_int_equal(limn_remove_tree(other, NULL), 0);
}

static void test_parts_that_do_not_fit(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"seq2seq.image_length=25", "draws 25 tokens, but vqgan/ has 16"},
                                           {"vqgan.n_embed=31", "knows 30 image tokens, but vqgan/ has 31"},
                                           {"seq2seq.encoder_vocab_size=270", "knows 270 words, but its tokenizer has 280"}};
    for (size_t i = 0; i < 3; i++) {
        char other[64] = "/tmp/limn-infer-XXXXXX";
        drawing_model wrong;
        limn_error error = {0};
        assert_non_null(mkdtemp(other));
        if (make_model(other, 1, cases[i][0], &error)) fail_msg("%s", error.message);
        assert_int_equal(drawing_model_load(&wrong, other, PRECISION_FP32, &error), -1);
        if (!strstr(error.message, cases[i][1])) fail_msg("%s", error.message);
        assert_int_equal(limn_remove_tree(other, NULL), 0);
        assert_int_equal(drawing_model_load(&wrong, other, PRECISION_FP32, &error), -1); /* nothing there */
    }
}

static void test_impossible_options(void **state) {
    (void)state;
    const sampling_options good = {.count = 9, .guidance = 10, .temperature = 1, .top_p = 1};
    static const char *const names[] = {"--count", "--guidance", "--guidance", "--temperature", "--temperature",
                                        "--top-p", "--top-p",    "--top-p",    "--seed"};
    assert_int_equal(sampling_options_check(&good, NULL), 0);
    for (size_t i = 0; i < 9; i++) {
        sampling_options options = good;
        limn_error error = {0};
        if (i == 0) options.count = 0;
        if (i == 1) options.guidance = INFINITY;
        if (i == 2) options.guidance = NAN;
        if (i == 3) options.temperature = -1;
        if (i == 4) options.temperature = NAN;
        if (i == 5) options.top_p = 0;
        if (i == 6) options.top_p = 1.5;
        if (i == 7) options.top_p = NAN;
        if (i == 8) options.seed = UINT64_MAX;
        assert_int_equal(sampling_options_check(&options, &error), -1);
        assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
        assert_non_null(strstr(error.message, names[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_impossible_options),           cmocka_unit_test(test_equals_the_whole_model),
        cmocka_unit_test(test_the_same_seed_draws_the_same), cmocka_unit_test(test_without_guidance),
        cmocka_unit_test(test_progress_reaches_the_end),     cmocka_unit_test(test_a_picture_of_tokens),
        cmocka_unit_test(test_captions_are_normalised),      cmocka_unit_test(test_parts_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
