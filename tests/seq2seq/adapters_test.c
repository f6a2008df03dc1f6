/* LoRA: its gradients, its folder, and that what is frozen stays. */
#include "tests/scratch.h"
#include "tests/seq2seq/tiny.h"

#include <math.h>

enum { RANK = 3 };

static seq2seq *tuned(const seq2seq_config *config, const char *train, const char *targets) {
    const seq2seq_tuning tuning = {.train = train,
                                   .lora = {.rank = targets != NULL ? RANK : 0, .alpha = 6, .targets = targets}};
    limn_error error = {0};
    seq2seq *model = seq2seq_create_tuned(config, 3, &tuning, &error);
    if (model == NULL) fail_msg("%s", error.message);
    return model;
}

static limn_arena *arena_for(const seq2seq *model) {
    limn_error error = {0};
    limn_arena *arena = limn_arena_create(seq2seq_training_bytes(model, TINY_B, PRECISION_FP32), &error);
    assert_non_null(arena);
    return arena;
}

/* B's that are not zero, so that every gradient is there. */
static void disturb(seq2seq *model) {
    parameters *set = seq2seq_get_parameters(model);
    for (size_t i = 0; i < set->count; i++)
        if (strstr(set->list[i].name, "lora_B") != NULL)
            limn_random_fill_normal(set->list[i].mutable_value, set->list[i].size, 0.3f, 7, i);
}

static void test_gradients(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *model = tuned(&config, NULL, "q_proj,v_proj,GLU_0");
    disturb(model);
    parameters *set = seq2seq_get_parameters(model);
    tiny_batch data = make_batch(&config, TINY_B, 1);
    limn_arena *arena = arena_for(model);
    const seq2seq_step_options options = {.grad_scale = 1};
    seq2seq_forward_backward(model, &data.batch, &options, arena);
    size_t checked = 0;
    for (size_t i = 0; i < set->count; i++) {
        parameter *p = &set->list[i];
        assert_true((strstr(p->name, ".lora_") != NULL) == (p->grad != NULL));
        if (p->grad == NULL) continue;
        const double length = sqrt(sum_of_squares(p->grad, p->size));
        if (length < 1e-4) continue;
        float *kept = copy_of(p->value, p->size), *slope = copy_of(p->grad, p->size);
        for (size_t k = 0; k < p->size; k++) slope[k] /= (float)length;
        const double step = 3e-3;
        double loss[2];
        for (int side = 0; side < 2; side++) {
            for (size_t k = 0; k < p->size; k++) p->mutable_value[k] = kept[k] + (side ? 1 : -1) * (float)step * slope[k];
            loss[side] = seq2seq_evaluate(model, &data.batch, PRECISION_FP32, NULL, NULL, NULL, arena);
        }
        memcpy(p->mutable_value, kept, p->size * sizeof *kept);
        free(kept);
        free(slope);
        assert_true(fabs((loss[1] - loss[0]) / (2 * step) - length) < 0.03 * length + 1e-4);
        checked++;
    }
    assert_true(checked > 4);
    limn_arena_destroy(arena);
    free_batch(&data);
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

/* The folder is the model that was trained: loaded merged it gives the same loss, loaded into a model with adapters the same
 * adapters. */
static void test_folder(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *model = tuned(&config, NULL, "q_proj,v_proj");
    disturb(model);
    tiny_batch data = make_batch(&config, TINY_B, 1);
    limn_arena *arena = arena_for(model);
    const double loss = seq2seq_evaluate(model, &data.batch, PRECISION_FP32, NULL, NULL, NULL, arena);
    limn_error error = {0};
    const char *folder = scratch_path("lora");
    assert_int_equal(seq2seq_save(model, folder, &error), 0);

    seq2seq *merged = seq2seq_load(folder, false, &error);
    assert_non_null(merged);
    assert_true(fabs(seq2seq_evaluate(merged, &data.batch, PRECISION_FP32, NULL, NULL, NULL, arena) - loss) < 1e-5);
    seq2seq *again = tuned(&config, NULL, "q_proj,v_proj");
    assert_int_equal(seq2seq_load_into(again, folder, &error), 0);
    parameters *before = seq2seq_get_parameters(model), *after = seq2seq_get_parameters(again);
    for (size_t i = 0; i < before->count; i++)
        assert_memory_equal(before->list[i].value, after->list[i].value, before->list[i].size * sizeof(float));

    /* Adapters of other layers, or of another rank. */
    seq2seq *other = tuned(&config, NULL, "q_proj,k_proj");
    assert_int_not_equal(seq2seq_load_into(other, folder, &error), 0);
    assert_contains(error.message, "k_proj.lora_A");
    seq2seq_free(other);
    seq2seq_free(again);
    seq2seq_free(merged);
    limn_arena_destroy(arena);
    free_batch(&data);
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

/* What is drawn while adapters are trained is drawn with them: decoding gives the logits of the evaluation. */
static void test_decoding(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *model = tuned(&config, NULL, "q_proj,k_proj,v_proj,GLU_0");
    disturb(model);
    tiny_batch data = make_batch(&config, TINY_B, 1);
    limn_arena *arena = arena_for(model);
    const size_t V = config.image_vocab_size + 1, T = config.image_length;
    float *whole = malloc(TINY_B * T * V * sizeof *whole), *logits = malloc(TINY_B * V * sizeof *logits);
    seq2seq_evaluate(model, &data.batch, PRECISION_FP32, NULL, whole, NULL, arena);
    limn_error error = {0};
    seq2seq_decoder *decoder = seq2seq_decoder_create(model, TINY_B, &error);
    assert_non_null(decoder);
    size_t row_text[TINY_B];
    int32_t tokens[TINY_B];
    for (size_t b = 0; b < TINY_B; b++) row_text[b] = b;
    seq2seq_decoder_begin(decoder, data.batch.input_ids, data.batch.attention_mask, TINY_B, row_text);
    for (size_t t = 0; t < T; t++) {
        for (size_t b = 0; b < TINY_B; b++) tokens[b] = data.batch.decoder_input_ids[b * T + t];
        seq2seq_decoder_step(decoder, tokens, logits);
        for (size_t b = 0; b < TINY_B; b++)
            for (size_t v = 0; v < V; v++) assert_true(fabsf(logits[b * V + v] - whole[(b * T + t) * V + v]) < 1e-4f);
    }
    seq2seq_decoder_free(decoder);
    free(whole);
    free(logits);
    limn_arena_destroy(arena);
    free_batch(&data);
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

static void test_frozen(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *model = tuned(&config, "decoder.embed_tokens,final_ln", NULL);
    parameters *set = seq2seq_get_parameters(model);
    tiny_batch data = make_batch(&config, TINY_B, 1);
    limn_arena *arena = arena_for(model);
    const seq2seq_step_options options = {.grad_scale = 1};
    seq2seq_forward_backward(model, &data.batch, &options, arena);
    size_t trained = 0, size = 0;
    for (size_t i = 0; i < set->count; i++) {
        const bool wanted =
            strstr(set->list[i].name, "decoder.embed_tokens") != NULL || strstr(set->list[i].name, "final_ln") != NULL;
        assert_true((set->list[i].grad != NULL) == wanted);
        if (wanted) size += set->list[i].size;
        trained += wanted;
    }
    assert_true(trained >= 2);
    assert_int_equal(set->grad_size, size);
    limn_arena_destroy(arena);
    free_batch(&data);
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

static void test_names(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    limn_error error = {0};
    const seq2seq_tuning unknown = {.train = "decoder.embed_token"};
    assert_null(seq2seq_create_tuned(&config, 1, &unknown, &error));
    assert_contains(error.message, "embed_token");
    const seq2seq_tuning norms = {.lora = {.rank = 2, .alpha = 2, .targets = "layernorm_embedding"}};
    assert_null(seq2seq_create_tuned(&config, 1, &norms, &error));
    assert_contains(error.message, "lora_targets");
    seq2seq_config_free(&config);
}

/* A folder of fewer words: the new ones keep their values. */
static void test_more_words(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *small = tiny_model(&config, 1);
    limn_error error = {0};
    const char *folder = scratch_path("words");
    assert_int_equal(seq2seq_save(small, folder, &error), 0);
    const size_t words = config.encoder_vocab_size, C = config.d_model;
    seq2seq_config larger = combination(0, false);
    larger.encoder_vocab_size = words + 2;
    seq2seq *model = seq2seq_create(&larger, 2, true, &error);
    const parameter *table = parameters_find(seq2seq_get_parameters(model), "model.encoder.embed_tokens.weight");
    float kept[2 * 64];
    memcpy(kept, table->value + words * C, 2 * C * sizeof *kept);
    assert_int_equal(seq2seq_load_into(model, folder, &error), 0);
    assert_memory_equal(table->value, parameters_find(seq2seq_get_parameters(small), table->name)->value,
                        words * C * sizeof(float));
    assert_memory_equal(table->value + words * C, kept, 2 * C * sizeof(float));
    assert_int_not_equal(seq2seq_load_into(small, "/nowhere", &error), 0);
    larger.encoder_vocab_size = words - 1;
    seq2seq *fewer = seq2seq_create(&larger, 2, true, &error);
    assert_int_not_equal(seq2seq_load_into(fewer, folder, &error), 0);
    assert_contains(error.message, "embed_tokens");
    seq2seq_free(fewer);
    seq2seq_free(model);
    seq2seq_free(small);
    seq2seq_config_free(&larger);
    seq2seq_config_free(&config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_folder), cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_frozen),    cmocka_unit_test(test_names),  cmocka_unit_test(test_more_words),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
