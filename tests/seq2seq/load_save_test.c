/* Model folders: what is saved is what is loaded, bit for bit, and what is wrong is named. */
#include "tests/seq2seq/tiny.h"

#include "formats/formats.h"
#include "tests/scratch.h"

static void save(const char *folder, const seq2seq *model) {
    limn_error error = {0};
    if (seq2seq_save(model, folder, &error) != 0) fail_msg("%s", error.message);
}

static void test_round_trip(void **state) {
    (void)state;
    for (size_t index = 0; index < COMBINATIONS; index++) {
        limn_error error = {0};
        seq2seq_config config = combination(index, true);
        seq2seq *model = tiny_model(&config, index);
        const parameters *set = seq2seq_get_parameters(model);
        const char *folder = scratch_path("model");
        save(folder, model);
        for (int training = 0; training < 2; training++) {
            seq2seq *again = seq2seq_load(folder, training, &error);
            if (again == NULL) fail_msg("%s", error.message);
            const parameters *other = seq2seq_get_parameters(again);
            assert_int_equal(set->count, other->count);
            for (size_t i = 0; i < set->count; i++) {
                assert_string_equal(set->list[i].name, other->list[i].name);
                assert_memory_equal(set->list[i].value, other->list[i].value, set->list[i].size * sizeof(float));
                assert_true(training ? other->list[i].grad != NULL && other->list[i].mutable_value != NULL
                                     : other->list[i].mutable_value == NULL); /* mapped */
            }
            assert_true(json_equal(config.json, seq2seq_get_config(again)->json));
            seq2seq_free(again);
        }
        seq2seq_free(model);
        seq2seq_config_free(&config);
    }
}

/* Saving the same weights twice gives the same bytes. */
static void test_bytes_are_reproducible(void **state) {
    (void)state;
    seq2seq_config config = combination(1, false);
    seq2seq *model = tiny_model(&config, 1);
    save(scratch_path("once"), model);
    save(scratch_path("twice"), model);
    assert_same_file(scratch_path("once/model.safetensors"), scratch_path("twice/model.safetensors"));
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

static void test_initialisation(void **state) {
    (void)state;
    limn_error error = {0};
    seq2seq_config config =
        config_from("{'d_model': 64, 'encoder_layers': 2, 'decoder_layers': 2, 'encoder_ffn_dim': 64, "
                    "'decoder_ffn_dim': 64, 'encoder_vocab_size': 99, 'image_vocab_size': 64, 'init_std': 0.5, "
                    "'use_deepnet_scaling': true, 'use_bias': true}");
    seq2seq *model = seq2seq_create(&config, 4, false, &error), *same = seq2seq_create(&config, 4, false, &error);
    seq2seq *other = seq2seq_create(&config, 5, false, &error);
    parameters *set = seq2seq_get_parameters(model);
    assert_memory_equal(set->storage, seq2seq_get_parameters(same)->storage, set->size * sizeof(float));
    assert_memory_not_equal(set->storage, seq2seq_get_parameters(other)->storage, set->size * sizeof(float));
    /* DeepNet's beta for decoders: (12·2)^−1/4. */
    static const struct {
        const char *name;
        double deviation;
    } expected[] = {{"lm_head.weight", 0.5},
                    {"model.decoder.layers.1.FlaxBartAttention_1.q_proj.weight", 0.5},
                    {"model.decoder.layers.1.FlaxBartAttention_1.v_proj.weight", 0.5 * 0.4518},
                    {"model.decoder.layers.0.GLU_0.Dense_2.weight", 0.5 * 0.4518},
                    {"model.decoder.layers.0.GLU_0.Dense_2.bias", 0}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const parameter *p = parameters_find(set, expected[i].name);
        assert_non_null(p);
        double squares = 0;
        for (size_t k = 0; k < p->size; k++) squares += (double)p->value[k] * (double)p->value[k];
        assert_true(fabs(sqrt(squares / (double)p->size) - expected[i].deviation) <= 0.05 * expected[i].deviation);
    }
    assert_float_equal(parameters_find(set, "model.decoder.layernorm_embedding.weight")->value[3], 1, 0);
    seq2seq_free(model);
    seq2seq_free(same);
    seq2seq_free(other);
    seq2seq_config_free(&config);
}

static void test_names_in_the_flax_tree(void **state) {
    (void)state;
    seq2seq_config config =
        config_from("{'d_model': 8, 'encoder_layers': 2, 'decoder_layers': 3, 'encoder_attention_heads': 2, "
                    "'decoder_attention_heads': 2, 'encoder_ffn_dim': 8, 'decoder_ffn_dim': 8, "
                    "'encoder_vocab_size': 9, 'image_vocab_size': 9, 'use_head_scale': true, "
                    "'force_ln_scale': true, 'use_swin_position_embeddings': true}");
    seq2seq *model = tiny_model(&config, 1);
    const parameters *set = seq2seq_get_parameters(model);
    static const struct {
        const char *name, *stacked, *single;
        size_t layer, layers;
        bool transposed;
    } expected[] = {
        {"lm_head.weight", "lm_head/kernel", "lm_head/kernel", 0, 1, true},
        {"model.encoder.embed_tokens.weight", "model/encoder/embed_tokens/embedding", "model/encoder/embed_tokens/embedding", 0,
         1, false},
        {"model.decoder.layers.2.GLU_0.LayerNorm_1.weight",
         "model/decoder/layers/FlaxBartDecoderLayers/GLU_0/LayerNorm_1/scale",
         "model/decoder/layers/FlaxBartDecoderLayer_2/GLU_0/LayerNorm_1/scale", 2, 3, false},
        {"model.encoder.layers.1.FlaxBartAttention_0.head_scale",
         "model/encoder/layers/FlaxBartEncoderLayers/FlaxBartAttention_0/head_scale",
         "model/encoder/layers/FlaxBartEncoderLayer_1/FlaxBartAttention_0/head_scale", 1, 2, false},
        {"model.decoder.layers.0.FlaxBartAttention_1.rel_bias.weight",
         "model/decoder/layers/FlaxBartDecoderLayers/FlaxBartAttention_1/rel_bias/embedding",
         "model/decoder/layers/FlaxBartDecoderLayer_0/FlaxBartAttention_1/rel_bias/embedding", 0, 3, false},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const parameter *p = parameters_find(set, expected[i].name);
        assert_non_null(p);
        tensor_place place;
        seq2seq_place_of(model, (size_t)(p - set->list), SEQ2SEQ_FLAX_SCANNED, &place);
        assert_string_equal(place.name, expected[i].stacked);
        assert_int_equal(place.layer, expected[i].layer);
        assert_int_equal(place.layers, expected[i].layers);
        assert_int_equal(place.stacked, expected[i].layers > 1);
        assert_int_equal(place.order, expected[i].transposed ? TENSOR_IN_OUT : TENSOR_PYTORCH);
        seq2seq_place_of(model, (size_t)(p - set->list), SEQ2SEQ_FLAX, &place);
        assert_string_equal(place.name, expected[i].single);
        assert_int_equal(place.layers, 1);
    }
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

/* ---------------------------------------------------------------- broken folders */

/* Saves a model's tensors with one changed by `change` into folder/model.safetensors. */
static void save_changed(const char *folder, seq2seq *model, size_t count, size_t changed, const tensor *replacement) {
    limn_error error = {0};
    const parameters *set = seq2seq_get_parameters(model);
    tensor *tensors = calloc(set->count + 1, sizeof *tensors);
    for (size_t i = 0; i < set->count; i++) {
        const parameter *p = &set->list[i];
        tensors[i] = (tensor){.name = p->name, .type = TENSOR_F32, .rank = p->rank, .count = p->size, .data = p->value};
        memcpy(tensors[i].shape, p->shape, sizeof p->shape);
    }
    if (replacement != NULL) tensors[changed] = *replacement;
    char path[1200];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(safetensors_write(path, tensors, count, NULL, &error), 0);
    free(tensors);
}

static void expect_failure(const char *folder, const char *one, const char *two) {
    for (int training = 0; training < 2; training++) {
        limn_error error = {0};
        assert_null(seq2seq_load(folder, training, &error));
        if (strstr(error.message, one) == NULL || strstr(error.message, two) == NULL)
            fail_msg("'%s' names neither or only one of '%s' and '%s'", error.message, one, two);
    }
}

static void test_broken_folders(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *model = tiny_model(&config, 1);
    parameters *set = seq2seq_get_parameters(model);
    const char *folder = scratch_path("broken");
    save(folder, model);
    float values[400] = {0};
    char shape[64];

    const parameter *last = &set->list[set->count - 1];
    save_changed(folder, model, set->count - 1, 0, NULL);
    expect_failure(folder, last->name, "model.safetensors");

    tensor extra = {
        .name = "model.decoder.more.weight", .type = TENSOR_F32, .rank = 1, .shape = {4}, .count = 4, .data = values};
    save_changed(folder, model, set->count + 1, set->count, &extra);
    expect_failure(folder, "model.decoder.more.weight", "model.safetensors");

    tensor wrong = {.name = last->name, .type = TENSOR_F32, .rank = 2, .shape = {9, 8}, .count = 72, .data = values};
    save_changed(folder, model, set->count, set->count - 1, &wrong);
    snprintf(shape, sizeof shape, "%zu", last->shape[0]);
    expect_failure(folder, last->name, shape);

    assert_int_equal(limn_atomic_write(scratch_path("broken/model.safetensors"), "junk", 4, NULL), 0);
    expect_failure(folder, "model.safetensors", "broken");
    assert_int_equal(remove(scratch_path("broken/model.safetensors")), 0);
    expect_failure(folder, "flax_model.msgpack", "broken");
    assert_int_equal(limn_atomic_write(scratch_path("broken/flax_model.msgpack"), "\x81\xa1", 2, NULL), 0);
    expect_failure(folder, "flax_model.msgpack", "broken");
    save(folder, model);
    assert_int_equal(remove(scratch_path("broken/config.json")), 0);
    expect_failure(folder, "config.json", "broken");
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

/* Half-precision weights cannot be mapped; they are converted. */
static void test_half_precision(void **state) {
    (void)state;
    limn_error error = {0};
    seq2seq_config config = combination(0, false);
    seq2seq *model = tiny_model(&config, 1);
    parameters *set = seq2seq_get_parameters(model);
    const char *folder = scratch_path("half");
    save(folder, model);
    const parameter *last = &set->list[set->count - 1];
    uint16_t *halves = malloc(last->size * sizeof *halves);
    for (size_t i = 0; i < last->size; i++) halves[i] = 0x3f80; /* 1 in bfloat16 */
    tensor half = {.name = last->name, .type = TENSOR_BF16, .rank = 2, .count = last->size, .data = halves};
    memcpy(half.shape, last->shape, sizeof last->shape);
    save_changed(folder, model, set->count, set->count - 1, &half);
    seq2seq *again = seq2seq_load(folder, false, &error);
    if (again == NULL) fail_msg("%s", error.message);
    const parameters *other = seq2seq_get_parameters(again);
    assert_float_equal(other->list[set->count - 1].value[3], 1, 0);
    assert_memory_equal(other->list[0].value, set->list[0].value, set->list[0].size * sizeof(float));
    seq2seq_free(again);
    seq2seq_free(model);
    free(halves);
    seq2seq_config_free(&config);
}

static void test_full_disk(void **state) {
    (void)state;
    limn_error error = {0};
    seq2seq_config config = combination(0, false);
    seq2seq *model = tiny_model(&config, 1);
    scratch_limit_files(1000);
    int status = seq2seq_save(model, scratch_path("full"), &error);
    scratch_limit_files(RLIM_INFINITY);
    assert_int_equal(status, -1);
    assert_non_null(strstr(error.message, "model.safetensors"));
    assert_false(limn_file_exists(scratch_path("full/model.safetensors")));
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_bytes_are_reproducible, scratch_setup, scratch_teardown),
        cmocka_unit_test(test_initialisation),
        cmocka_unit_test(test_names_in_the_flax_tree),
        cmocka_unit_test_setup_teardown(test_broken_folders, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_half_precision, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
