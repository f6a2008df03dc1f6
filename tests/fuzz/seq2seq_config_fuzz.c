/* config.json of the seq2seq model, read strictly and not: what is accepted must be a model. */
#include "seq2seq/internal.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const seeds[] = {
    /* every key, with values of their own */
    "{\"activation_dropout\": 0.1, \"activation_function\": \"gelu\", \"attention_dropout\": 0.2, \"bos_token_id\": 9, "
    "\"d_model\": 8, \"decoder_attention_heads\": 2, \"decoder_ffn_dim\": 7, \"decoder_layers\": 2, "
    "\"decoder_start_token_id\": 10, \"do_sample\": true, \"dropout\": 0.15, \"encoder_attention_heads\": 4, "
    "\"encoder_ffn_dim\": 10, \"encoder_layers\": 1, \"encoder_vocab_size\": 13, \"eos_token_id\": 10, "
    "\"force_ln_scale\": false, \"gradient_checkpointing\": true, \"image_length\": 6, \"image_vocab_size\": 10, "
    "\"init_std\": 0.3, \"is_encoder_decoder\": true, \"ln_positions\": \"normformer\", \"ln_type\": \"layernorm\", "
    "\"max_length\": 7, \"max_text_length\": 5, \"min_length\": 7, \"model_type\": \"dallebart\", \"normalize_text\": true, "
    "\"pad_token_id\": 10, \"scale_embedding\": false, \"sinkhorn_iters\": 2, \"tau_init\": 0.05, "
    "\"tie_word_embeddings\": false, \"use_absolute_position_embeddings\": true, \"use_alibi\": false, \"use_bias\": false, "
    "\"use_cache\": true, \"use_cosine_attention\": false, \"use_deepnet_scaling\": false, \"use_final_ln_decoder\": true, "
    "\"use_final_ln_encoder\": true, \"use_glu\": true, \"use_head_scale\": true, \"use_scan\": true, "
    "\"use_subln_init\": false, \"use_swin_position_embeddings\": false}",
    /* the defaults, which are too large to be run */
    "{}",
    "{\"ln_positions\": \"swinv2\", \"ln_type\": \"rmsnorm\", \"activation_function\": \"smelu\", \"use_scan\": null, "
    "\"d_model\": 4, \"encoder_layers\": 7, \"decoder_layers\": 1, \"encoder_attention_heads\": 1, "
    "\"decoder_attention_heads\": 1, \"encoder_ffn_dim\": 3, \"decoder_ffn_dim\": 3, \"encoder_vocab_size\": 2, "
    "\"image_vocab_size\": 2, \"image_length\": 4, \"max_text_length\": 3, \"use_cosine_attention\": true, "
    "\"use_swin_position_embeddings\": true, \"use_bias\": true, \"use_glu\": false, \"gradient_checkpointing\": false}",
    "{\"ln_positions\": \"deepnet\", \"use_deepnet_scaling\": true, \"activation_function\": \"relu\", \"d_model\": 4, "
    "\"encoder_layers\": 1, \"decoder_layers\": 1, \"encoder_attention_heads\": 2, \"decoder_attention_heads\": 2, "
    "\"encoder_ffn_dim\": 3, \"decoder_ffn_dim\": 3, \"encoder_vocab_size\": 2, \"image_vocab_size\": 2, \"image_length\": 4, "
    "\"max_text_length\": 3, \"something\": {\"unknown\": [1, 2]}}",
    "{\"ln_positions\": \"subln\", \"use_subln_init\": true, \"scale_embedding\": true, \"activation_function\": \"swish\", "
    "\"use_absolute_position_embeddings\": false, \"d_model\": 4, \"encoder_layers\": 2, \"decoder_layers\": 1, "
    "\"encoder_attention_heads\": 2, \"decoder_attention_heads\": 2, \"encoder_ffn_dim\": 3, \"decoder_ffn_dim\": 3, "
    "\"encoder_vocab_size\": 2, \"image_vocab_size\": 2, \"image_length\": 4, \"max_text_length\": 3}",
};

static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= sizeof seeds / sizeof *seeds) return false;
    return limn_buffer_append(out, seeds[index], strlen(seeds[index]), NULL) == 0;
}

/* A config.json that was completed says the same again, under strict reading too when it had no key of its own. */
static const char *read_again(const seq2seq_config *config, bool strict) {
    limn_error error = {0};
    seq2seq_config again;
    if (seq2seq_config_read(&again, config->json, "input", strict, &error)) return "what was completed is refused";
    bool same = json_equal(again.json, config->json);
    seq2seq_config_free(&again);
    return same ? NULL : "what was completed is read as something else";
}

/* One training step and one evaluation in an arena of the planned size, which aborts when that is too small. */
static const char *run(const seq2seq_config *config, size_t floats) {
    const size_t S = config->max_text_length, T = config->image_length;
    limn_error error = {0};
    seq2seq *model = seq2seq_create(config, 1, true, &error);
    limn_arena *arena = limn_arena_create(floats * sizeof(float), &error);
    int32_t *ids = limn_allocate(2 * S + 2 * T, sizeof *ids, &error);
    const char *complaint = model && arena && ids ? NULL : "a small model cannot be made";
    if (!complaint) {
        int32_t *mask = ids + S, *labels = mask + S, *shifted = labels + T;
        for (size_t i = 0; i < S; i++) mask[i] = 1;
        seq2seq_shift_right(config, shifted, labels, 1);
        const seq2seq_batch batch = {
            .B = 1, .input_ids = ids, .attention_mask = mask, .decoder_input_ids = shifted, .labels = labels};
        const seq2seq_step_options options = {.grad_scale = 1};
        if (seq2seq_check_batch(config, &batch, &error)) complaint = "its own start token is refused";
        if (!complaint) seq2seq_forward_backward(model, &batch, &options, arena);
        if (!complaint) seq2seq_evaluate(model, &batch, PRECISION_FP32, NULL, NULL, NULL, arena);
    }
    free(ids);
    limn_arena_destroy(arena);
    seq2seq_free(model);
    return complaint;
}

static const char *use(const seq2seq_config *config) {
    enum { LAYERS_MAX = 8 };
    if (config->d_model % config->encoder_attention_heads || config->d_model % config->decoder_attention_heads)
        return "heads that do not divide the width";
    if (config->encoder_layers + config->decoder_layers > LAYERS_MAX) return NULL; /* takes long, and shows the same */
    limn_error error = {0};
    seq2seq *model = seq2seq_describe(config, &error);
    if (!model) return fuzz_check_error(&error); /* too large to be addressed */
    const size_t weights = model->parameters.size;
    seq2seq_free(model);
    double attention, flops = seq2seq_training_flops(config, 1, &attention);
    const size_t one = seq2seq_activation_floats(config, 1, PRECISION_FP32), three = seq2seq_activation_floats(config, 3, PRECISION_FP32);
    if (!(flops > 0) || !(attention > 0) || !isfinite(flops + attention)) return "a step without work";
    if (one < config->image_length * config->d_model || three < one) return "activations of fewer floats than there are";
    return weights < 4000 && flops + attention < 2e6 && one < 100000 ? run(config, one) : NULL;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0};
    json_t *json = limn_json_load(fuzz_file("config.json", data, size), &error);
    if (!json) return fuzz_check_error(&error);
    const char *complaint = NULL;
    bool accepted[2];
    for (size_t strict = 0; strict < 2 && !complaint; strict++) {
        seq2seq_config config;
        accepted[strict] = seq2seq_config_read(&config, json, "input", strict, &error) == 0;
        if (!accepted[strict]) {
            complaint = fuzz_check_error(&error);
            continue;
        }
        complaint = read_again(&config, strict);
        if (!complaint && !strict) complaint = use(&config);
        seq2seq_config_free(&config);
    }
    if (!complaint && accepted[1] && !accepted[0]) complaint = "strict reading takes what lax reading refuses";
    json_decref(json);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
