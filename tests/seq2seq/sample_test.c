/* Tokens from logits: how often each is drawn, against probabilities worked out by sorting everything. */
#include "seq2seq/seq2seq.h"
#include "tests/scratch.h"

#include <math.h>

enum { V = 40, K = 33, DRAWS = 50000 }; /* K codes; the ids behind them are none */

static int by_probability(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

/* The probability of each code by the definition. No two logits are equal. */
static void slow_probabilities(double out[K], const float *cond, const float *uncond, const sampling_options *options) {
    double sorted[K], sum = 0, threshold = 0, share = 0;
    for (size_t i = 0; i < K; i++) {
        double logit = uncond ? (double)uncond[i] + options->guidance * ((double)cond[i] - (double)uncond[i]) : (double)cond[i];
        out[i] = exp(logit / options->temperature);
    }
    memcpy(sorted, out, sizeof sorted);
    qsort(sorted, K, sizeof *sorted, by_probability);
    size_t kept = options->top_k && options->top_k < K ? options->top_k : K;
    for (size_t i = 0; i < kept; i++) sum += sorted[i];
    for (size_t i = 0; i < kept && share < options->top_p * sum; i++) {
        share += sorted[i];
        threshold = sorted[i];
    }
    for (size_t i = 0; i < K; i++) out[i] = out[i] >= threshold ? out[i] / share : 0;
}

static void test_how_often_each_token_is_drawn(void **state) {
    (void)state;
    static const sampling_options cases[] = {
        {.seed = 1, .guidance = 1, .temperature = 1, .top_p = 1},
        {.seed = 2, .guidance = 1, .temperature = 0.5, .top_p = 1},
        {.seed = 3, .guidance = 1, .temperature = 2.5, .top_p = 1},
        {.seed = 4, .guidance = 3, .temperature = 1, .top_p = 1},
        {.seed = 5, .guidance = 1, .temperature = 1, .top_k = 5, .top_p = 1},
        {.seed = 6, .guidance = 1, .temperature = 1, .top_k = 1, .top_p = 1},
        {.seed = 7, .guidance = 1, .temperature = 1, .top_k = 1000, .top_p = 1},
        {.seed = 8, .guidance = 1, .temperature = 1, .top_p = 0.8},
        {.seed = 9, .guidance = 1, .temperature = 1, .top_p = 1e-9},
        {.seed = 10, .guidance = 1, .temperature = 1.5, .top_k = 12, .top_p = 0.9},
        {.seed = 11, .guidance = -0.5, .temperature = 0.7, .top_k = 20, .top_p = 0.5},
    };
    float *cond = malloc(DRAWS * V * sizeof *cond), *uncond = malloc(DRAWS * V * sizeof *uncond);
    int32_t *tokens = malloc(DRAWS * sizeof *tokens);
    assert_true(cond && uncond && tokens);
    for (size_t row = 0; row < DRAWS; row++)
        for (size_t i = 0; i < V; i++) {
            cond[row * V + i] = limn_random_normal(77, 1, i) + (i >= K ? 50.0f : 0); /* what is no code is tempting */
            uncond[row * V + i] = limn_random_normal(77, 2, i) + (i >= K ? 50.0f : 0);
        }
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const float *second = cases[c].guidance == 1 ? NULL : uncond; /* exactly 1, as given above */
        double expected[K], counts[V] = {0};
        slow_probabilities(expected, cond, second, &cases[c]);
        sample_tokens(tokens, cond, second, DRAWS, V, K, &cases[c], 0, 3, scratch_arena);
        for (size_t row = 0; row < DRAWS; row++) {
            assert_in_range(tokens[row], 0, K - 1);
            counts[tokens[row]]++;
        }
        for (size_t i = 0; i < K; i++) {
            double deviation = sqrt(expected[i] * (1 - expected[i]) * DRAWS);
            if (fabs(counts[i] - expected[i] * DRAWS) > 5 * deviation + 1e-9)
                fail_msg("case %zu: token %zu is drawn %.0f times, not %.1f ± %.1f", c + 1, i, counts[i], expected[i] * DRAWS,
                         deviation);
        }
    }
    free(cond);
    free(uncond);
    free(tokens);
}

static void test_temperature_0_takes_the_most_likely(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        float cond[V], uncond[V];
        int32_t token, best = 0;
        sampling_options options = {.seed = seed, .guidance = 3, .temperature = 0, .top_k = 7, .top_p = 0.9};
        for (size_t i = 0; i < V; i++) {
            cond[i] = limn_random_normal(seed, 1, i);
            uncond[i] = limn_random_normal(seed, 2, i);
        }
        for (int32_t i = 1; i < K; i++)
            if (uncond[i] + 3 * (cond[i] - uncond[i]) > uncond[best] + 3 * (cond[best] - uncond[best])) best = i;
        sample_tokens(&token, cond, uncond, 1, V, K, &options, 0, 0, scratch_arena);
        assert_int_equal(token, best);
    }
}

/* A row's draw is a function of seed, row and position. */
static void test_what_a_draw_depends_on(void **state) {
    (void)state;
    enum { ROWS = 64 };
    float logits[ROWS * V] = {0};
    int32_t first[ROWS], other[ROWS];
    sampling_options options = {.seed = 5, .guidance = 1, .temperature = 1, .top_p = 1};
    sample_tokens(first, logits, NULL, ROWS, V, K, &options, 0, 9, scratch_arena);
    sample_tokens(other, logits, NULL, ROWS, V, K, &options, 0, 9, scratch_arena);
    assert_memory_equal(first, other, sizeof first);
    sample_tokens(other, logits, NULL, 10, V, K, &options, 20, 9, scratch_arena); /* rows 20 to 29 on their own */
    assert_memory_equal(first + 20, other, 10 * sizeof *other);
    sample_tokens(other, logits, NULL, ROWS, V, K, &options, 0, 10, scratch_arena);
    assert_memory_not_equal(first, other, sizeof first);
    options.seed = 6;
    sample_tokens(other, logits, NULL, ROWS, V, K, &options, 0, 9, scratch_arena);
    assert_memory_not_equal(first, other, sizeof first);
    size_t different = 0;
    for (size_t row = 1; row < ROWS; row++) different += first[row] != first[0];
    assert_true(different > ROWS / 2);
}

/* A model that has gone wrong gives tokens that exist all the same. */
static void test_logits_that_are_no_numbers(void **state) {
    (void)state;
    static const sampling_options cases[] = {{.guidance = 1, .temperature = 1, .top_p = 1},
                                             {.guidance = 1, .temperature = 1, .top_k = 3, .top_p = 0.5},
                                             {.guidance = 1, .temperature = 1e-30, .top_p = 0.5},
                                             {.guidance = 1, .temperature = 0, .top_p = 1}};
    for (size_t c = 0; c < 4; c++) {
        float logits[V];
        int32_t token = -1;
        for (size_t i = 0; i < V; i++) logits[i] = i % 2 ? NAN : -INFINITY;
        sample_tokens(&token, logits, NULL, 1, V, K, &cases[c], 0, 0, scratch_arena);
        assert_in_range(token, 0, K - 1);
        logits[6] = -1e30f; /* the only one that may be drawn */
        sample_tokens(&token, logits, NULL, 1, V, K, &cases[c], 0, 0, scratch_arena);
        assert_int_equal(token, 6);
        logits[8] = INFINITY;
        sample_tokens(&token, logits, NULL, 1, V, K, &cases[c], 0, 0, scratch_arena);
        assert_int_equal(token, 8);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_how_often_each_token_is_drawn),
        cmocka_unit_test(test_temperature_0_takes_the_most_likely),
        cmocka_unit_test(test_what_a_draw_depends_on),
        cmocka_unit_test(test_logits_that_are_no_numbers),
    };
    return cmocka_run_group_tests(tests, scratch_arena_setup, scratch_arena_teardown);
}
