/* The nearest code, counting and revival. */
#include "tests/vqgan/tools.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 16, WIDTH = 8, CODES = 20, PICTURES = 6, ROWS = PICTURES * TOKENS };

static parameter *codebook_of(vqgan *model) {
    return parameters_find(vqgan_get_parameters(model), "quantize.embedding.weight");
}

/* The nearest in double, the lowest index where two are equally near. */
static int32_t nearest(const float *z, const float *codebook) {
    int32_t best = -1;
    double best_distance = INFINITY;
    for (int32_t v = 0; v < CODES; v++) {
        double distance = 0;
        for (size_t d = 0; d < WIDTH; d++) distance += pow((double)z[d] - (double)codebook[(size_t)v * WIDTH + d], 2);
        if (distance < best_distance) {
            best_distance = distance;
            best = v;
        }
    }
    return best;
}

static void check_tokens(vqgan *model) {
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(PICTURES, 4), latent[ROWS * WIDTH];
    int32_t tokens[ROWS];
    vqgan_encode(model, tokens, latent, pictures, PICTURES, arena);
    for (size_t i = 0; i < ROWS; i++) assert_int_equal(tokens[i], nearest(latent + i * WIDTH, codebook_of(model)->value));
    free(pictures);
    limn_arena_destroy(arena);
}

static void tokens_are_the_nearest_codes(void **state) {
    (void)state;
    vqgan *model = tiny_model(NULL, false);
    check_tokens(model);
    /* a codebook far smaller than the latents, as at the start of training */
    parameter *codebook = codebook_of(model);
    for (size_t i = 0; i < codebook->size; i++) codebook->mutable_value[i] *= 1e-4f;
    check_tokens(model);
    /* one far away from everything, where |e|² − 2 z·e has few digits left: codes that differ by little */
    for (size_t i = 0; i < codebook->size; i++) codebook->mutable_value[i] = 1000 + codebook->mutable_value[i] * 1e3f;
    check_tokens(model);
    vqgan_free(model);
}

static void of_equal_codes_the_first_is_taken(void **state) {
    (void)state;
    vqgan *model = tiny_model(NULL, false);
    float *codes = codebook_of(model)->mutable_value;
    memcpy(codes + 10 * WIDTH, codes, 10 * WIDTH * sizeof *codes);
    check_tokens(model);
    vqgan_free(model);
}

static void broken_pictures_still_give_tokens(void **state) {
    (void)state;
    vqgan *model = tiny_model(NULL, false);
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(1, 4);
    int32_t tokens[TOKENS];
    pictures[0] = NAN;
    pictures[100] = INFINITY;
    vqgan_encode(model, tokens, NULL, pictures, 1, arena);
    for (size_t i = 0; i < TOKENS; i++) assert_in_range(tokens[i], 0, CODES - 1);
    free(pictures);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

static void use_is_counted(void **state) {
    (void)state;
    float counts[4] = {2, 0, 0, 4};
    const int32_t tokens[3] = {0, 0, 1};
    vqgan_codebook_use use = {.revived = 9};
    vqgan_count_codes(counts, tokens, 3, 4, 0.5f);
    assert_true(counts[0] == 3 && counts[1] == 1 && counts[2] == 0 && counts[3] == 2);
    vqgan_measure_use(&use, counts, 4);
    assert_int_equal(use.used, 3);
    assert_int_equal(use.revived, 9);
    assert_true(fabs(use.perplexity - exp(0.5 * log(2) + log(6) / 6 + log(3) / 3)) < 1e-9);
    const float even[4] = {5, 5, 5, 5}, none[4] = {0};
    vqgan_measure_use(&use, even, 4);
    assert_true(fabs(use.perplexity - 4) < 1e-9);
    vqgan_measure_use(&use, none, 4);
    assert_true(use.used == 0 && use.perplexity == 0);
}

/* Row numbers are written into the latents, so that it can be seen which row a code got. */
static void dead_codes_move_onto_latents(void **state) {
    (void)state;
    enum { N = 37, DEAD = 12 };
    vqgan *model = tiny_model(NULL, false), *same = tiny_model(NULL, false);
    float latent[N * WIDTH], counts[CODES], before[CODES * WIDTH], *codes = codebook_of(model)->mutable_value;
    bool revived[CODES], taken[N] = {false};
    for (size_t i = 0; i < N * WIDTH; i++) latent[i] = 1000 + (float)(i / WIDTH);
    for (size_t v = 0; v < CODES; v++) {
        counts[v] = v < DEAD ? 0.1f : 10;
        revived[v] = true;
    }
    memcpy(before, codes, sizeof before);
    assert_int_equal(vqgan_revive_codes(model, counts, revived, latent, N, 0.5f, 7, 3), DEAD);
    for (size_t v = 0; v < CODES; v++) {
        assert_int_equal(revived[v], v < DEAD);
        if (v >= DEAD) {
            assert_memory_equal(codes + v * WIDTH, before + v * WIDTH, WIDTH * sizeof *codes);
            assert_true(counts[v] == 10);
            continue;
        }
        size_t row = (size_t)(codes[v * WIDTH] - 1000);
        assert_true(row < N && !taken[row]);
        taken[row] = true;
        assert_memory_equal(codes + v * WIDTH, latent + row * WIDTH, WIDTH * sizeof *codes);
        assert_true(counts[v] >= 1); /* twice the threshold at least */
    }
    /* nobody is dead now, and the same call elsewhere does the same */
    assert_int_equal(vqgan_revive_codes(model, counts, revived, latent, N, 0.5f, 7, 4), 0);
    float other_counts[CODES];
    for (size_t v = 0; v < CODES; v++) other_counts[v] = v < DEAD ? 0.1f : 10;
    vqgan_revive_codes(same, other_counts, revived, latent, N, 0.5f, 7, 3);
    assert_memory_equal(codes, codebook_of(same)->value, sizeof before);
    vqgan_free(model);
    vqgan_free(same);
}

static void more_dead_codes_than_latents(void **state) {
    (void)state;
    vqgan *model = tiny_model(NULL, false);
    const float *codes = codebook_of(model)->value;
    float latent[2 * WIDTH], counts[CODES] = {0};
    bool revived[CODES];
    for (size_t i = 0; i < 2 * WIDTH; i++) latent[i] = (float)(i / WIDTH);
    for (uint64_t step = 0; step < 5; step++) {
        memset(counts, 0, sizeof counts);
        assert_int_equal(vqgan_revive_codes(model, counts, revived, latent, 2, 0.5f, 7, step), CODES);
        assert_true(codes[0] != codes[WIDTH]);
    }
    memset(counts, 0, sizeof counts);
    assert_int_equal(vqgan_revive_codes(model, counts, revived, latent + WIDTH, 1, 0.5f, 7, 9), CODES);
    assert_true(codes[0] == 1 && codes[(CODES - 1) * WIDTH] == 1);
    vqgan_free(model);
}

/* Latents in CODES small clouds far from each other: k-means puts a code into the middle of most of them, and repeats itself.
 */
static void codes_start_in_the_middle_of_clouds(void **state) {
    (void)state;
    enum { EACH = 30, N = CODES * EACH };
    limn_error error = {0};
    limn_arena *arena = tiny_arena();
    vqgan *model = tiny_model(NULL, false), *same = tiny_model(NULL, false);
    float *latent = zeroed(N * WIDTH, sizeof *latent), *centres = zeroed(CODES * WIDTH, sizeof *centres);
    limn_random_fill_normal(centres, CODES * WIDTH, 10, 1, 1);
    for (size_t i = 0; i < N * WIDTH; i++)
        latent[i] = centres[i / WIDTH % CODES * WIDTH + i % WIDTH] + 0.01f * limn_random_normal(1, 2, i);
    assert_int_equal(vqgan_fit_codebook(model, latent, N, 10, 5, arena, &error), 0);
    assert_int_equal(vqgan_fit_codebook(same, latent, N, 10, 5, arena, &error), 0);
    const float *codes = codebook_of(model)->value;
    assert_memory_equal(codes, codebook_of(same)->value, CODES * WIDTH * sizeof *codes);
    size_t met = 0;
    for (size_t v = 0; v < CODES; v++) {
        size_t nearest_centre = (size_t)nearest(codes + v * WIDTH, centres);
        double distance = 0;
        for (size_t d = 0; d < WIDTH; d++)
            distance += pow((double)codes[v * WIDTH + d] - (double)centres[nearest_centre * WIDTH + d], 2);
        met += distance < 1e-2; /* the cloud's own mean is within 0.01·√(8/30) */
    }
    assert_true(met >= CODES / 2);

    assert_int_equal(vqgan_fit_codebook(model, latent, CODES - 1, 10, 5, arena, &error), -1);
    assert_non_null(strstr(error.message, "19"));
    assert_int_equal(limn_arena_mark(arena), 0);
    free(latent);
    free(centres);
    vqgan_free(model);
    vqgan_free(same);
    limn_arena_destroy(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_the_nearest_codes),        cmocka_unit_test(of_equal_codes_the_first_is_taken),
        cmocka_unit_test(broken_pictures_still_give_tokens),   cmocka_unit_test(use_is_counted),
        cmocka_unit_test(dead_codes_move_onto_latents),        cmocka_unit_test(more_dead_codes_than_latents),
        cmocka_unit_test(codes_start_in_the_middle_of_clouds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
