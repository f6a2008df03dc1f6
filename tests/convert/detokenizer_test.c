/* min-dalle's detokenizer, which draws in [0,1], draws what the VQGAN drew in its own range. */
#include "convert/convert.h"
#include "tests/scratch.h"
#include "vqgan/vqgan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, TOKENS = 64, PIXELS = SIDE * SIDE * 3 };

static vqgan *load(const char *directory) {
    limn_error error = {0};
    vqgan *model = vqgan_load(directory, false, &error);
    if (!model) fail_msg("%s", error.message);
    return model;
}

/* Pixels in [0,1], not clamped. */
static void draw(const vqgan *model, float *out, limn_arena *arena) {
    int32_t tokens[TOKENS];
    for (size_t t = 0; t < TOKENS; t++) tokens[t] = (int32_t)(t * 7 % 40);
    vqgan_decode(model, out, tokens, 1, arena);
    const vqgan_config *config = vqgan_get_config(model);
    for (size_t i = 0; i < PIXELS; i++)
        out[i] = (out[i] - (float)config->pixel_min) / (float)(config->pixel_max - config->pixel_min);
}

static void a_detokenizer_draws_the_same(void **state) {
    (void)state;
    limn_error error = {0};
    json_t *json = json_pack("{s:i, s:[i,i], s:i, s:[i], s:i, s:i, s:i, s:i, s:[i,i]}", "ch", 32, "ch_mult", 1, 2,
                             "num_res_blocks", 1, "attn_resolutions", 8, "resolution", SIDE, "z_channels", 16, "n_embed", 40,
                             "embed_dim", 12, "pixel_range", -1, 1);
    vqgan_config config;
    assert_int_equal(vqgan_config_read(&config, json, "here", true, &error), 0);
    vqgan *model = vqgan_create(&config, 1, false, &error);
    parameter *bias = parameters_find(vqgan_get_parameters(model), "decoder.conv_out.bias");
    bias->mutable_value[1] = 0.3f; /* random weights have none */
    char whole[4096], exported[4096], back[4096];
    snprintf(whole, sizeof whole, "%s", scratch_path("whole"));
    snprintf(exported, sizeof exported, "%s", scratch_path("exported"));
    snprintf(back, sizeof back, "%s", scratch_path("back"));
    assert_int_equal(vqgan_save(model, whole, &error), 0);
    vqgan_free(model);
    assert_int_equal(convert_model(&(convert_options){.source = whole, .output = exported, .to = CONVERT_PYTORCH}, &error), 0);
    char detokenizer[4200];
    snprintf(detokenizer, sizeof detokenizer, "%s/detoker.pt", exported);
    assert_int_equal(convert_model(&(convert_options){.source = detokenizer, .output = back}, &error), 0);

    limn_arena *arena = limn_arena_create((size_t)1 << 32, &error);
    float expected[PIXELS], got[PIXELS];
    vqgan *original = load(whole), *copy = load(back);
    assert_false(vqgan_can_encode(copy));
    assert_true(vqgan_get_config(copy)->pixel_min == 0);
    draw(original, expected, arena);
    draw(copy, got, arena);
    for (size_t i = 0; i < PIXELS; i++)
        if (!(fabsf(expected[i] - got[i]) < 1e-5f)) fail_msg("pixel %zu: %g, not %g", i, (double)got[i], (double)expected[i]);
    vqgan_free(original);
    vqgan_free(copy);
    vqgan_config_free(&config);
    limn_arena_destroy(arena);
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_detokenizer_draws_the_same)};
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
