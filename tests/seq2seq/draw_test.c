/* Drawings of several captions at once, by a model as it is in training. */
#include "tests/seq2seq/tiny.h"

enum { CAPTIONS = 3, COUNT = 7, CODES = 9 };

typedef struct {
    seq2seq_config config;
    seq2seq *model;
    tiny_batch texts; /* CAPTIONS, and one that is taken for none */
    drawing_captions captions;
    size_t T;
} world;

static world make_world(size_t index) {
    world made = {.config = combination(index, true)};
    made.model = tiny_model(&made.config, index);
    made.texts = make_batch(&made.config, CAPTIONS + 1, 5);
    made.captions = (drawing_captions){made.texts.arrays[0], made.texts.arrays[1], CAPTIONS, CODES};
    made.T = made.config.image_length;
    return made;
}

static void free_world(world *self) {
    free_batch(&self->texts);
    seq2seq_free(self->model);
    seq2seq_config_free(&self->config);
}

static void draw(const world *self, const drawing_captions *captions, const sampling_options *options, int32_t *tokens) {
    limn_error error = {0};
    if (seq2seq_draw(self->model, captions, options, tokens, NULL, &error) != 0) fail_msg("%s", error.message);
}

/* Each token is the code that the whole decoder finds most likely after those before it. */
static void test_each_token_is_the_most_likely(void **state) {
    (void)state;
    for (size_t index = 0; index < 12; index++) {
        world w = make_world(index);
        size_t T = w.T, S = w.config.max_text_length, V = w.config.image_vocab_size + 1;
        int32_t tokens[COUNT * 6];
        assert_true(T <= 6);
        const sampling_options greedy = {.count = COUNT, .guidance = 1, .temperature = 0, .top_p = 1};
        draw(&w, &w.captions, &greedy, tokens);
        tiny_batch rows = make_batch(&w.config, COUNT, 6);
        for (size_t i = 0; i < COUNT; i++) {
            memcpy(rows.arrays[0] + i * S, w.captions.ids + i % CAPTIONS * S, S * sizeof(int32_t));
            memcpy(rows.arrays[1] + i * S, w.captions.mask + i % CAPTIONS * S, S * sizeof(int32_t));
        }
        memcpy(rows.arrays[3], tokens, COUNT * T * sizeof *tokens);
        seq2seq_shift_right(&w.config, rows.arrays[2], rows.arrays[3], COUNT);
        limn_arena *arena = planned_arena(&w.config, COUNT);
        float *logits = malloc(COUNT * T * V * sizeof *logits);
        seq2seq_evaluate(w.model, &rows.batch, PRECISION_FP32, NULL, logits, NULL, arena);
        for (size_t i = 0; i < COUNT * T; i++) {
            float largest = -INFINITY;
            for (size_t k = 0; k < CODES; k++) largest = fmaxf(largest, logits[i * V + k]);
            assert_in_range(tokens[i], 0, CODES - 1);
            if (!(logits[i * V + (size_t)tokens[i]] >= largest - 1e-3f * fabsf(largest)))
                fail_msg("place %zu: token %d is not the most likely: %s", i, (int)tokens[i], describe(&w.config));
        }
        free(logits);
        limn_arena_destroy(arena);
        free_batch(&rows);
        free_world(&w);
    }
}

/* Guided, alone or among others. */
static void test_captions_do_not_mix(void **state) {
    (void)state;
    world w = make_world(0);
    size_t S = w.config.max_text_length, T = w.T;
    int32_t together[COUNT * 6], alone[6], ids[2 * 8], mask[2 * 8];
    sampling_options greedy = {.count = COUNT, .guidance = 2, .temperature = 0, .top_p = 1};
    draw(&w, &w.captions, &greedy, together);
    greedy.count = 1;
    for (size_t i = 0; i < COUNT; i++) {
        size_t from[2] = {i % CAPTIONS, CAPTIONS};
        for (size_t k = 0; k < 2; k++) {
            memcpy(ids + k * S, w.captions.ids + from[k] * S, S * sizeof *ids);
            memcpy(mask + k * S, w.captions.mask + from[k] * S, S * sizeof *mask);
        }
        draw(&w, &(drawing_captions){ids, mask, 1, CODES}, &greedy, alone);
        assert_memory_equal(together + i * T, alone, T * sizeof *alone);
    }
    assert_memory_not_equal(together, together + T, T * sizeof *together);
    free_world(&w);
}

static void test_a_function_of_the_seed_that_changes_nothing(void **state) {
    (void)state;
    world w = make_world(0);
    const parameters *set = seq2seq_get_parameters(w.model);
    for (size_t i = 0; i < set->size; i++) set->grads[i] = (float)i;
    float *before = copy_of(set->storage, set->size), *grads = copy_of(set->grads, set->size);
    int32_t first[COUNT * 6], second[COUNT * 6], other[COUNT * 6];
    sampling_options options = {.count = COUNT, .seed = 3, .guidance = 2, .temperature = 1, .top_k = 5, .top_p = 1};
    draw(&w, &w.captions, &options, first);
    draw(&w, &w.captions, &options, second);
    options.seed = 4;
    draw(&w, &w.captions, &options, other);
    assert_memory_equal(first, second, COUNT * w.T * sizeof *first);
    assert_memory_not_equal(first, other, COUNT * w.T * sizeof *first);
    assert_memory_equal(before, set->storage, set->size * sizeof *before);
    assert_memory_equal(grads, set->grads, set->size * sizeof *grads);
    free(before);
    free(grads);
    free_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_token_is_the_most_likely),
        cmocka_unit_test(test_captions_do_not_mix),
        cmocka_unit_test(test_a_function_of_the_seed_that_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
