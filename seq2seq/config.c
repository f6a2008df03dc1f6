/* config.json: DALL·E Mini's keys, their defaults and their limits. */
#include "seq2seq/internal.h"

#include <stddef.h>
#include <string.h>

/* Sizes far above any model's; what they bound is the arithmetic on sizes, not the memory. */
enum { MAX_WIDTH = 1 << 16, MAX_LAYERS = 1 << 8, MAX_VOCABULARY = 1 << 24, MAX_LENGTH = 1 << 14 };

typedef struct {
    const char *key;
    size_t offset, min, max, default_value;
} size_key;
#define SIZE_KEY(name, min, max, value)                                                                                        \
    { #name, offsetof(seq2seq_config, name), min, max, value }
static const size_key size_keys[] = {
    SIZE_KEY(d_model, 1, MAX_WIDTH, 1024),
    SIZE_KEY(encoder_layers, 1, MAX_LAYERS, 12),
    SIZE_KEY(decoder_layers, 1, MAX_LAYERS, 12),
    SIZE_KEY(encoder_attention_heads, 1, MAX_WIDTH, 16),
    SIZE_KEY(decoder_attention_heads, 1, MAX_WIDTH, 16),
    SIZE_KEY(encoder_ffn_dim, 1, MAX_WIDTH * 16, 4096),
    SIZE_KEY(decoder_ffn_dim, 1, MAX_WIDTH * 16, 4096),
    SIZE_KEY(encoder_vocab_size, 1, MAX_VOCABULARY, 50264),
    SIZE_KEY(image_vocab_size, 1, MAX_VOCABULARY, 16384),
    SIZE_KEY(image_length, 1, MAX_LENGTH, 256),
    SIZE_KEY(max_text_length, 1, MAX_LENGTH, 64),
    SIZE_KEY(sinkhorn_iters, 1, 1000, 1),
};
/* Their default is image_vocab_size: the one id after the codes. */
static const size_key id_keys[] = {
    SIZE_KEY(bos_token_id, 0, MAX_VOCABULARY, 0),
    SIZE_KEY(eos_token_id, 0, MAX_VOCABULARY, 0),
    SIZE_KEY(pad_token_id, 0, MAX_VOCABULARY, 0),
    SIZE_KEY(decoder_start_token_id, 0, MAX_VOCABULARY, 0),
};

typedef struct {
    const char *key;
    size_t offset;
    double min, max, default_value;
} float_key;
#define FLOAT_KEY(name, min, max, value)                                                                                       \
    { #name, offsetof(seq2seq_config, name), min, max, value }
static const float_key float_keys[] = {
    FLOAT_KEY(dropout, 0, 0.99, 0.1),  FLOAT_KEY(activation_dropout, 0, 0.99, 0), FLOAT_KEY(attention_dropout, 0, 0.99, 0),
    FLOAT_KEY(init_std, 0, 100, 0.02), FLOAT_KEY(tau_init, 1e-6, 1e6, 0.05),
};

typedef struct {
    const char *key;
    size_t offset;
    bool default_value;
} bool_key;
#define BOOL_KEY(name, value)                                                                                                  \
    { #name, offsetof(seq2seq_config, name), value }
static const bool_key bool_keys[] = {
    BOOL_KEY(use_bias, false),
    BOOL_KEY(use_glu, true),
    BOOL_KEY(use_head_scale, false),
    BOOL_KEY(use_cosine_attention, false),
    BOOL_KEY(use_deepnet_scaling, false),
    BOOL_KEY(use_subln_init, false),
    BOOL_KEY(scale_embedding, false),
    BOOL_KEY(use_absolute_position_embeddings, true),
    BOOL_KEY(use_swin_position_embeddings, false),
    BOOL_KEY(force_ln_scale, false),
    BOOL_KEY(use_final_ln_encoder, true),
    BOOL_KEY(use_final_ln_decoder, true),
    BOOL_KEY(normalize_text, false),
    BOOL_KEY(gradient_checkpointing, true),
};

/* Keys that only one value suits, since the original raises with any other. */
static const struct {
    const char *key;
    bool value;
    const char *reason;
} fixed_keys[] = {
    {"use_alibi", false, "DALL·E Mini never had it"},
    {"tie_word_embeddings", false, "text and pictures have vocabularies of their own"},
    {"is_encoder_decoder", true, "the model is an encoder and a decoder"},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const ln_position_names[] = {
    [LN_NORMFORMER] = "normformer", [LN_PRELN] = "preln",   [LN_SUBLN] = "subln",
    [LN_COGVIEW] = "cogview",       [LN_SWINV2] = "swinv2", [LN_POSTLN] = "postln",
};

/* Everything a config.json of DALL·E Mini's own says; strict reading allows these and no more. */
static const char *const known_keys[] = {"activation_dropout",
                                         "activation_function",
                                         "attention_dropout",
                                         "bos_token_id",
                                         "d_model",
                                         "decoder_attention_heads",
                                         "decoder_ffn_dim",
                                         "decoder_layers",
                                         "decoder_start_token_id",
                                         "do_sample",
                                         "dropout",
                                         "encoder_attention_heads",
                                         "encoder_ffn_dim",
                                         "encoder_layers",
                                         "encoder_vocab_size",
                                         "eos_token_id",
                                         "force_ln_scale",
                                         "gradient_checkpointing",
                                         "image_length",
                                         "image_vocab_size",
                                         "init_std",
                                         "is_encoder_decoder",
                                         "ln_positions",
                                         "ln_type",
                                         "max_length",
                                         "max_text_length",
                                         "min_length",
                                         "model_type",
                                         "normalize_text",
                                         "pad_token_id",
                                         "scale_embedding",
                                         "sinkhorn_iters",
                                         "tau_init",
                                         "tie_word_embeddings",
                                         "use_absolute_position_embeddings",
                                         "use_alibi",
                                         "use_bias",
                                         "use_cache",
                                         "use_cosine_attention",
                                         "use_deepnet_scaling",
                                         "use_final_ln_decoder",
                                         "use_final_ln_encoder",
                                         "use_glu",
                                         "use_head_scale",
                                         "use_scan",
                                         "use_subln_init",
                                         "use_swin_position_embeddings",
                                         NULL};

static void *field(seq2seq_config *config, size_t offset) {
    return (char *)config + offset;
}

/* ---------------------------------------------------------------- reading */

static int read_numbers(seq2seq_config *config, const json_t *json, const char *where, limn_error *error) {
    for (size_t i = 0; i < COUNT(size_keys); i++) {
        const size_key *k = &size_keys[i];
        size_t *out = field(config, k->offset);
        *out = k->default_value;
        if (limn_json_get_size(json, where, k->key, k->min, k->max, out, error) != 0) return -1;
    }
    for (size_t i = 0; i < COUNT(id_keys); i++) {
        const size_key *k = &id_keys[i];
        size_t *out = field(config, k->offset);
        *out = config->image_vocab_size;
        if (limn_json_get_size(json, where, k->key, k->min, k->max, out, error) != 0) return -1;
    }
    for (size_t i = 0; i < COUNT(float_keys); i++) {
        const float_key *k = &float_keys[i];
        double *out = field(config, k->offset);
        *out = k->default_value;
        if (limn_json_get_float(json, where, k->key, k->min, k->max, out, error) != 0) return -1;
    }
    for (size_t i = 0; i < COUNT(bool_keys); i++) {
        const bool_key *k = &bool_keys[i];
        bool *out = field(config, k->offset);
        *out = k->default_value;
        if (limn_json_get_bool(json, where, k->key, out, error) != 0) return -1;
    }
    return 0;
}

static int read_choices(seq2seq_config *config, const json_t *json, const char *where, limn_error *error) {
    const char *name = "gelu";
    if (limn_json_get_string(json, where, "activation_function", "gelu|relu|silu|swish|smelu", &name, error) != 0) return -1;
    if (activation_from_name(name, &config->activation_function) != 0)
        return limn_fail_usage(error, "%s: activation_function: '%s' is unknown", where, name);
    name = "layernorm";
    if (limn_json_get_string(json, where, "ln_type", "layernorm|rmsnorm", &name, error) != 0) return -1;
    config->rms_norm = strcmp(name, "rmsnorm") == 0;
    name = "normformer";
    if (limn_json_get_string(json, where, "ln_positions", "normformer|preln|subln|cogview|swinv2|postln|deepnet", &name,
                             error) != 0)
        return -1;
    if (strcmp(name, "deepnet") == 0) name = ln_position_names[LN_POSTLN]; /* the original's other name for it */
    for (size_t i = 0; i < COUNT(ln_position_names); i++)
        if (strcmp(name, ln_position_names[i]) == 0) config->ln_positions = (ln_positions)i;
    config->use_scan = config->ln_positions != LN_SWINV2;
    if (json_is_null(json_object_get(json, "use_scan"))) return 0; /* the original writes "not decided" so */
    return limn_json_get_bool(json, where, "use_scan", &config->use_scan, error);
}

static int check_heads(const seq2seq_config *config, const char *where, const char *key, size_t heads, limn_error *error) {
    if (config->d_model % heads == 0) return 0;
    return limn_fail_usage(error, "%s: %s: d_model %zu is not a multiple of %zu heads", where, key, config->d_model, heads);
}

static int check(const seq2seq_config *config, const json_t *json, const char *where, limn_error *error) {
    for (size_t i = 0; i < COUNT(fixed_keys); i++) {
        bool value = fixed_keys[i].value;
        if (limn_json_get_bool(json, where, fixed_keys[i].key, &value, error) != 0) return -1;
        if (value != fixed_keys[i].value)
            return limn_fail_usage(error, "%s: %s: only %s is possible, since %s", where, fixed_keys[i].key,
                                   fixed_keys[i].value ? "true" : "false", fixed_keys[i].reason);
    }
    if (check_heads(config, where, "encoder_attention_heads", config->encoder_attention_heads, error) != 0) return -1;
    if (check_heads(config, where, "decoder_attention_heads", config->decoder_attention_heads, error) != 0) return -1;
    if (config->decoder_start_token_id > config->image_vocab_size)
        return limn_fail_usage(error,
                               "%s: decoder_start_token_id: %zu is not among the %zu image tokens (image_vocab_size + 1)",
                               where, config->decoder_start_token_id, config->image_vocab_size + 1);
    if (config->use_scan && config->ln_positions == LN_SWINV2)
        return limn_fail_usage(error, "%s: use_scan: not with ln_positions 'swinv2', whose layers differ; set it to false",
                               where);
    if (config->ln_positions == LN_POSTLN && !(config->use_final_ln_encoder && config->use_final_ln_decoder))
        return limn_fail_usage(error, "%s: %s: must be true with ln_positions 'postln', whose layers end with a norm", where,
                               config->use_final_ln_encoder ? "use_final_ln_decoder" : "use_final_ln_encoder");
    /* Attention's square, the largest single array of one pair, in floats. */
    size_t longest = config->image_length > config->max_text_length ? config->image_length : config->max_text_length, square;
    if (limn_multiply(longest * longest, config->decoder_attention_heads * sizeof(float), &square, error) != 0)
        return limn_fail_context(error, "%s: image_length", where);
    return 0;
}

/* ---------------------------------------------------------------- the whole object */

/* Writes the values in use into the object, so that a saved config.json needs no defaults. */
static int complete(seq2seq_config *config) {
    json_t *json = config->json;
    int failed = 0;
    for (size_t i = 0; i < COUNT(size_keys); i++) {
        size_t value = *(size_t *)field(config, size_keys[i].offset);
        failed |= json_object_set_new(json, size_keys[i].key, json_integer((json_int_t)value));
    }
    for (size_t i = 0; i < COUNT(id_keys); i++) {
        size_t value = *(size_t *)field(config, id_keys[i].offset);
        failed |= json_object_set_new(json, id_keys[i].key, json_integer((json_int_t)value));
    }
    for (size_t i = 0; i < COUNT(float_keys); i++)
        failed |= json_object_set_new(json, float_keys[i].key, json_real(*(double *)field(config, float_keys[i].offset)));
    for (size_t i = 0; i < COUNT(bool_keys); i++)
        failed |= json_object_set_new(json, bool_keys[i].key, json_boolean(*(bool *)field(config, bool_keys[i].offset)));
    for (size_t i = 0; i < COUNT(fixed_keys); i++)
        failed |= json_object_set_new(json, fixed_keys[i].key, json_boolean(fixed_keys[i].value));
    failed |= json_object_set_new(json, "use_scan", json_boolean(config->use_scan));
    failed |= json_object_set_new(json, "ln_type", json_string(config->rms_norm ? "rmsnorm" : "layernorm"));
    failed |= json_object_set_new(json, "ln_positions", json_string(ln_position_names[config->ln_positions]));
    if (json_object_get(json, "activation_function") == NULL)
        failed |= json_object_set_new(json, "activation_function", json_string("gelu"));
    if (json_object_get(json, "model_type") == NULL)
        failed |= json_object_set_new(json, "model_type", json_string("dallebart"));
    return failed;
}

int seq2seq_config_read(seq2seq_config *config, const json_t *json, const char *where, bool strict, limn_error *error) {
    *config = (seq2seq_config){0};
    if (!json_is_object(json)) return limn_fail_usage(error, "%s: expected an object of DALL·E Mini's keys", where);
    if (strict && limn_json_check_keys(json, where, known_keys, error) != 0) return -1;
    if (read_numbers(config, json, where, error) != 0) return -1;
    if (read_choices(config, json, where, error) != 0) return -1;
    if (check(config, json, where, error) != 0) return -1;
    config->json = json_deep_copy(json);
    if (config->json == NULL || complete(config) != 0) {
        seq2seq_config_free(config);
        return limn_fail(error, "%s: no memory for the configuration", where);
    }
    return 0;
}

int seq2seq_config_copy(seq2seq_config *out, const seq2seq_config *config, limn_error *error) {
    *out = *config;
    out->json = json_deep_copy(config->json);
    return out->json != NULL ? 0 : limn_fail(error, "no memory for the model's configuration");
}

void seq2seq_config_free(seq2seq_config *config) {
    json_decref(config->json);
    *config = (seq2seq_config){0};
}
