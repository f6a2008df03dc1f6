#include "tests/vqgan/tools.h"

#include <stdlib.h>
#include <string.h>

/* Reads the tiny config with one change; the error must be of usage and contain `word`. */
static void refuse(const char *assignment, const char *word) {
    limn_error error = {0};
    vqgan_config config;
    json_t *json = tiny_json(assignment);
    if (vqgan_config_read(&config, json, "bad.json", true, &error) == 0) fail_msg("%s was accepted", assignment);
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
    if (!strstr(error.message, word) || !strstr(error.message, "bad.json"))
        fail_msg("%s: the error does not name '%s' and the file: %s", assignment, word, error.message);
    assert_null(strchr(error.message, '\n'));
    json_decref(json);
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    refuse("ch=48", "ch");
    refuse("ch=0", "ch");
    refuse("ch=-32", "ch");
    refuse("ch=32000000000", "ch");
    refuse("ch=\"32\"", "ch");
    refuse("resolution=18", "resolution");
    refuse("resolution=0", "resolution");
    refuse("resolution=1000000", "resolution");
    refuse("ch_mult=[]", "ch_mult");
    refuse("ch_mult=[1,0]", "ch_mult");
    refuse("ch_mult=[1,1,1,1,1,1,1,1,1]", "ch_mult");
    refuse("num_res_blocks=0", "num_res_blocks");
    refuse("z_channels=0", "z_channels");
    refuse("n_embed=0", "n_embed");
    refuse("n_embed=65537", "n_embed");
    refuse("embed_dim=0", "embed_dim");
    refuse("in_channels=1", "in_channels");
    refuse("out_ch=4", "out_ch");
    refuse("double_z=true", "double_z");
    refuse("give_pre_end=true", "give_pre_end");
    refuse("dropout=2", "dropout");
    refuse("pixel_range=[0,255]", "pixel_range");
    refuse("pixel_range=[0]", "pixel_range");
    refuse("pixel_range=\"0,1\"", "pixel_range");
    refuse("resolutoin=16", "resolution");
}

static void not_an_object_is_refused(void **state) {
    (void)state;
    limn_error error = {0};
    vqgan_config config;
    json_t *json = json_array();
    assert_int_equal(vqgan_config_read(&config, json, "bad.json", false, &error), -1);
    assert_non_null(strstr(error.message, "bad.json"));
    json_decref(json);
    assert_int_equal(vqgan_config_read(&config, NULL, "bad.json", false, &error), -1);
}

static void defaults_are_the_f16_model(void **state) {
    (void)state;
    limn_error error = {0};
    vqgan_config config;
    json_t *json = json_object();
    assert_int_equal(vqgan_config_read(&config, json, "empty", true, &error), 0);
    assert_int_equal(config.ch, 128);
    assert_int_equal(config.levels, 5);
    assert_int_equal(config.ch_mult[4], 4);
    assert_int_equal(config.resolution, 256);
    assert_true(config.pixel_min == -1 && config.pixel_max == 1);
    vqgan_config_free(&config);
    json_decref(json);
}

static void unknown_keys_are_kept_when_not_strict(void **state) {
    (void)state;
    limn_error error = {0};
    vqgan_config config;
    json_t *json = tiny_json("architectures=[\"VQModel\"]");
    assert_int_equal(vqgan_config_read(&config, json, "tiny", false, &error), 0);
    assert_non_null(json_object_get(config.json, "architectures"));
    vqgan_config_free(&config);
    json_decref(json);
}

/* The original looks for the side length in the list and ignores the rest; so does a level reached twice. */
static void attention_stands_where_the_list_says(void **state) {
    (void)state;
    vqgan *none = tiny_model("attn_resolutions=[]", false), *never = tiny_model("attn_resolutions=[7,1000]", false);
    vqgan *some = tiny_model("attn_resolutions=[8,16]", false);
    assert_null(parameters_find(vqgan_get_parameters(none), "encoder.down.1.attn.0.q.weight"));
    assert_non_null(parameters_find(vqgan_get_parameters(none), "encoder.mid.attn_1.q.weight"));
    assert_int_equal(vqgan_get_parameters(none)->size, vqgan_get_parameters(never)->size);
    assert_non_null(parameters_find(vqgan_get_parameters(some), "encoder.down.0.attn.0.q.weight"));
    assert_non_null(parameters_find(vqgan_get_parameters(some), "decoder.up.1.attn.1.proj_out.bias"));
    assert_null(parameters_find(vqgan_get_parameters(some), "decoder.up.2.attn.0.q.weight"));
    vqgan_free(none);
    vqgan_free(never);
    vqgan_free(some);
}

static void dropout_loads_but_does_not_train(void **state) {
    (void)state;
    limn_error error = {0};
    vqgan_config config = tiny_config("dropout=0.1");
    vqgan *model = vqgan_create(&config, 1, false, &error);
    assert_non_null(model);
    vqgan_free(model);
    assert_null(vqgan_create(&config, 1, true, &error));
    assert_non_null(strstr(error.message, "dropout"));
    vqgan_config_free(&config);
}

static void discriminators_of_impossible_size_are_refused(void **state) {
    (void)state;
    limn_error error = {0};
    assert_null(vqgan_discriminator_create(0, 16, 1, &error));
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
    assert_null(vqgan_discriminator_create(9, 16, 1, &error));
    assert_null(vqgan_discriminator_create(2, 0, 1, &error));
    vqgan_discriminator *small = vqgan_discriminator_create(2, 4, 1, &error);
    assert_int_equal(vqgan_discriminator_forward(small, NULL, NULL, 3, 16, 12, NULL), 3 * 2 * 1);
    assert_int_equal(vqgan_discriminator_forward(small, NULL, NULL, 3, 16, 11, NULL), 0);
    assert_int_equal(vqgan_discriminator_forward(small, NULL, NULL, 3, 1, 16, NULL), 0);
    vqgan_discriminator_free(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(not_an_object_is_refused),
        cmocka_unit_test(defaults_are_the_f16_model),
        cmocka_unit_test(unknown_keys_are_kept_when_not_strict),
        cmocka_unit_test(attention_stands_where_the_list_says),
        cmocka_unit_test(dropout_loads_but_does_not_train),
        cmocka_unit_test(discriminators_of_impossible_size_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
