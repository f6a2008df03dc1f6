/* Configurations: defaults, and every way of being impossible, each refused by its key's name. */
#include "tests/seq2seq/tiny.h"

static void test_defaults_are_the_originals(void **state) {
    (void)state;
    seq2seq_config config = config_from("{}");
    assert_int_equal(config.d_model, 1024);
    assert_int_equal(config.encoder_ffn_dim, 4096);
    assert_int_equal(config.encoder_vocab_size, 50264);
    assert_int_equal(config.image_vocab_size, 16384);
    assert_int_equal(config.decoder_start_token_id, 16384);
    assert_int_equal(config.ln_positions, LN_NORMFORMER);
    assert_float_equal(config.dropout, 0.1, 0);
    assert_true(config.use_scan && config.use_glu && config.gradient_checkpointing);
    /* What is saved says all of it. */
    assert_int_equal(json_integer_value(json_object_get(config.json, "decoder_start_token_id")), 16384);
    assert_string_equal(json_string_value(json_object_get(config.json, "model_type")), "dallebart");
    seq2seq_config_free(&config);

    config = config_from("{'ln_positions': 'swinv2', 'use_scan': null}");
    assert_false(config.use_scan);
    seq2seq_config_free(&config);
    config = config_from("{'ln_positions': 'deepnet'}");
    assert_int_equal(config.ln_positions, LN_POSTLN);
    seq2seq_config_free(&config);
    config = config_from("{'image_vocab_size': 16415, 'decoder_start_token_id': 16384, 'activation_function': 'silu'}");
    assert_int_equal(config.bos_token_id, 16415);
    assert_int_equal(config.decoder_start_token_id, 16384);
    assert_int_equal(config.activation_function, ACTIVATION_SWISH);
    seq2seq_config_free(&config);
}

static void test_bad_values_are_named(void **state) {
    (void)state;
    static const struct {
        const char *json, *key;
    } bad[] = {
        {"{\"d_model\": 0}", "d_model"},
        {"{\"d_model\": -4}", "d_model"},
        {"{\"d_model\": 9007199254740993}", "d_model"},
        {"{\"d_model\": \"wide\"}", "d_model"},
        {"{\"d_model\": 1024.5}", "d_model"},
        {"{\"d_model\": 100}", "encoder_attention_heads"},
        {"{\"decoder_attention_heads\": 7}", "decoder_attention_heads"},
        {"{\"encoder_layers\": 0}", "encoder_layers"},
        {"{\"decoder_layers\": 100000}", "decoder_layers"},
        {"{\"image_length\": 0}", "image_length"},
        {"{\"max_text_length\": 1000000000}", "max_text_length"},
        {"{\"decoder_ffn_dim\": 0}", "decoder_ffn_dim"},
        {"{\"encoder_vocab_size\": 0}", "encoder_vocab_size"},
        {"{\"activation_function\": \"tanh\"}", "activation_function"},
        {"{\"activation_function\": 3}", "activation_function"},
        {"{\"ln_type\": \"batchnorm\"}", "ln_type"},
        {"{\"ln_positions\": \"sideways\"}", "ln_positions"},
        {"{\"dropout\": 1}", "dropout"},
        {"{\"attention_dropout\": -0.1}", "attention_dropout"},
        {"{\"tau_init\": 0}", "tau_init"},
        {"{\"sinkhorn_iters\": 0}", "sinkhorn_iters"},
        {"{\"use_alibi\": true}", "use_alibi"},
        {"{\"tie_word_embeddings\": true}", "tie_word_embeddings"},
        {"{\"is_encoder_decoder\": false}", "is_encoder_decoder"},
        {"{\"use_glu\": \"yes\"}", "use_glu"},
        {"{\"use_scan\": 1}", "use_scan"},
        {"{\"use_scan\": true, \"ln_positions\": \"swinv2\"}", "use_scan"},
        {"{\"ln_positions\": \"postln\", \"use_final_ln_encoder\": false}", "use_final_ln_encoder"},
        {"{\"ln_positions\": \"postln\", \"use_final_ln_decoder\": false}", "use_final_ln_decoder"},
        {"{\"decoder_start_token_id\": 16385}", "decoder_start_token_id"},
        {"[1]", "object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        limn_error error = {0};
        seq2seq_config config;
        json_t *json = json_loads(bad[i].json, 0, NULL);
        assert_non_null(json);
        if (seq2seq_config_read(&config, json, "there.json", false, &error) == 0) fail_msg("accepted: %s", bad[i].json);
        if (error.exit_code != LIMN_EXIT_USAGE || strstr(error.message, bad[i].key) == NULL ||
            strstr(error.message, "there.json") == NULL)
            fail_msg("%s: exit code %d, '%s'", bad[i].json, error.exit_code, error.message);
        json_decref(json);
    }
}

static void test_unknown_keys(void **state) {
    (void)state;
    limn_error error = {0};
    seq2seq_config config;
    json_t *json = json_pack("{s:i, s:i, s:i}", "d_model", 32, "encoder_attention_head", 4, "decoder_attention_heads", 4);
    assert_int_equal(seq2seq_config_read(&config, json, "there", true, &error), -1);
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
    assert_non_null(strstr(error.message, "encoder_attention_head"));
    /* Published files hold keys of other programs': kept, and not looked at. */
    assert_int_equal(seq2seq_config_read(&config, json, "there", false, &error), 0);
    assert_int_equal(json_integer_value(json_object_get(config.json, "encoder_attention_head")), 4);
    seq2seq_config_free(&config);
    json_decref(json);
}

static void test_ids_out_of_range(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    static const char *const names[] = {"input_ids", "attention_mask", "decoder_input_ids", "labels"};
    const int32_t wrong[4][2] = {{13, -1}, {2, -1}, {11, -1}, {11, -5}};
    for (size_t array = 0; array < 4; array++)
        for (size_t w = 0; w < 2; w++) {
            limn_error error = {0};
            tiny_batch data = make_batch(&config, TINY_B, 1);
            assert_int_equal(seq2seq_check_batch(&config, &data.batch, &error), 0);
            data.arrays[array][TINY_B * 5 - 1] = wrong[array][w];
            assert_int_equal(seq2seq_check_batch(&config, &data.batch, &error), -1);
            assert_non_null(strstr(error.message, names[array]));
            free_batch(&data);
        }
    seq2seq_config_free(&config);
}

static void test_shift_right(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    int32_t labels[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2}, expected[12] = {10, 1, 2, 3, 4, 5, 10, 7, 8, 9, 0, 1}, got[12];
    seq2seq_shift_right(&config, got, labels, 2);
    assert_memory_equal(got, expected, sizeof got);
    seq2seq_config_free(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_the_originals),
        cmocka_unit_test(test_bad_values_are_named),
        cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_ids_out_of_range),
        cmocka_unit_test(test_shift_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
