/* Encoding and decoding without keeping activations: the same as in training, in any portions. */
#include "tests/vqgan/tools.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, TOKENS = 16, WIDTH = 8, CODES = 20 };

static size_t floats_of(size_t B) {
    return B * SIDE * SIDE * 3;
}

static void inference_is_the_same_as_training(const char *assignment) {
    enum { B = 3 };
    vqgan *model = tiny_model(assignment, true);
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(B, 1), *trained = zeroed(floats_of(B), 4), *drawn = zeroed(floats_of(B), 4);
    float *latent = zeroed(B * TOKENS * WIDTH, 4), *latent_trained = zeroed(B * TOKENS * WIDTH, 4);
    int32_t tokens[B * TOKENS], tokens_trained[B * TOKENS];
    vqgan_losses losses;
    const vqgan_loss_options options = {.codebook_weight = 1};
    assert_int_equal(vqgan_token_count(model), TOKENS);
    vqgan_generator_step(model, NULL, &losses, trained, latent_trained, tokens_trained, pictures, B, &options, arena);
    vqgan_encode(model, tokens, latent, pictures, B, arena);
    vqgan_decode(model, drawn, tokens, B, arena);
    assert_memory_equal(tokens, tokens_trained, sizeof tokens);
    assert_memory_equal(latent, latent_trained, B * TOKENS * WIDTH * sizeof *latent);
    assert_memory_equal(drawn, trained, floats_of(B) * sizeof *drawn);
    assert_int_equal(limn_arena_mark(arena), 0);

    double l1 = 0;
    for (size_t i = 0; i < floats_of(B); i++) l1 += fabs((double)drawn[i] - (double)pictures[i]);
    assert_true(fabs(l1 / (double)floats_of(B) - losses.l1) < 1e-6);
    free(pictures);
    free(trained);
    free(drawn);
    free(latent);
    free(latent_trained);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

static void inference_with_convolutions(void **state) {
    (void)state;
    inference_is_the_same_as_training(NULL);
}

static void inference_with_plain_resampling(void **state) {
    (void)state;
    inference_is_the_same_as_training("resamp_with_conv=false");
}

static void inference_of_one_level(void **state) {
    (void)state;
    /* nothing is made smaller: 4×4 pixels are 4×4 tokens */
    limn_error error = {0};
    json_t *json = json_pack("{s:i, s:[i], s:i, s:i, s:i, s:i}", "ch", 32, "ch_mult", 2, "resolution", 4, "z_channels", 5,
                             "n_embed", 7, "embed_dim", 3);
    vqgan_config config;
    assert_int_equal(vqgan_config_read(&config, json, "one level", true, &error), 0);
    vqgan *model = vqgan_create(&config, 1, true, &error);
    limn_arena *arena = tiny_arena();
    int32_t tokens[16];
    float picture[48] = {0.5f, -0.5f}, drawn[48];
    vqgan_losses losses;
    vqgan_generator_step(model, NULL, &losses, drawn, NULL, tokens, picture, 1, &(vqgan_loss_options){.codebook_weight = 1},
                         arena);
    const parameters *set = vqgan_get_parameters(model);
    assert_true(isfinite(losses.total) && sum_of_squares(set->grads, set->grad_size) > 0);
    limn_arena_destroy(arena);
    vqgan_free(model);
    vqgan_config_free(&config);
    json_decref(json);
}

/* However many pictures there are, each is coded as it would be alone. */
static void portions_do_not_matter(void **state) {
    (void)state;
    /* more than run at once: 2 Mi floats hold 256 pictures of 16×16 with 32 channels, or 128 with 64 */
    enum { B = 260 };
    vqgan *model = tiny_model(NULL, false);
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(B, 2), *drawn = zeroed(floats_of(B), 4), *alone = zeroed(floats_of(1), 4);
    int32_t *tokens = zeroed(B * TOKENS, sizeof *tokens), lone[TOKENS];
    vqgan_encode(model, tokens, NULL, pictures, B, arena);
    vqgan_decode(model, drawn, tokens, B, arena);
    size_t distinct = 0;
    for (int32_t code = 0; code < CODES; code++)
        for (size_t i = 0; i < B * TOKENS; i++)
            if (tokens[i] == code) {
                distinct++;
                break;
            }
    assert_true(distinct > 3); /* or the comparison below would say little */
    const size_t checked[] = {0, 127, 128, 255, 256, 259};
    for (size_t i = 0; i < sizeof checked / sizeof *checked; i++) {
        size_t b = checked[i];
        vqgan_encode(model, lone, NULL, pictures + floats_of(b), 1, arena);
        assert_memory_equal(lone, tokens + b * TOKENS, sizeof lone);
        vqgan_decode(model, alone, lone, 1, arena);
        for (size_t k = 0; k < floats_of(1); k++) assert_true(fabsf(alone[k] - drawn[floats_of(b) + k]) < 1e-4f);
    }
    free(pictures);
    free(drawn);
    free(alone);
    free(tokens);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

static void pixels_go_to_the_range_and_back(void **state) {
    (void)state;
    const float in[4] = {0, 0.25f, 0.5f, 1}, wild[4] = {-7, NAN, 7, 0.5f};
    float out[4], back[4];
    vqgan *signed_range = tiny_model(NULL, false), *unit = tiny_model("pixel_range=[0,1]", false);
    vqgan_pixels_to_model(signed_range, out, in, 4);
    assert_true(out[0] == -1 && out[1] == -0.5f && out[2] == 0 && out[3] == 1);
    vqgan_pixels_from_model(signed_range, back, out, 4);
    assert_memory_equal(back, in, sizeof in);
    vqgan_pixels_from_model(signed_range, out, wild, 4);
    assert_true(out[0] == 0 && out[1] == 0 && out[2] == 1 && out[3] == 0.75f);
    vqgan_pixels_to_model(unit, out, in, 4);
    assert_memory_equal(out, in, sizeof in);
    vqgan_pixels_from_model(unit, out, wild, 4);
    assert_true(out[0] == 0 && out[2] == 1 && out[3] == 0.5f);
    vqgan_free(signed_range);
    vqgan_free(unit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inference_with_convolutions),     cmocka_unit_test(inference_with_plain_resampling),
        cmocka_unit_test(inference_of_one_level),          cmocka_unit_test(portions_do_not_matter),
        cmocka_unit_test(pixels_go_to_the_range_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
