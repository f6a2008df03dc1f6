/* Where a model's configuration is found: config.json beside its weights or, for min-dalle's files, in the weights' shapes. */
#include "seq2seq/internal.h"

#include <limits.h>
#include <string.h>

enum { MIN_DALLE_HEAD_WIDTH = 64, PUBLISHED_START = 16384 };

static size_t count_layers(const tensor_file *file, const char *prefix, const char *side) {
    size_t count = 0;
    char name[64];
    do snprintf(name, sizeof name, "%s.layers.%zu.self_attn.q_proj.weight", side, count++);
    while (tensor_file_size(file, prefix, name, 0) > 0 && count < SIZE_MAX);
    return count - 1;
}

/* Everything but the number of heads stands in the shapes; both published models have heads of 64. */
static json_t *infer_min_dalle(const tensor_file *file, const char *prefix, limn_error *error) {
    size_t C = tensor_file_size(file, prefix, "encoder.embed_tokens.weight", 1),
           V = tensor_file_size(file, prefix, "decoder.embed_tokens.weight", 0);
    if (C == 0 || C % MIN_DALLE_HEAD_WIDTH != 0 || V < 2) {
        limn_fail(error,
                  "%s: the number of attention heads cannot be told from a width of %zu; put the model's config.json beside it",
                  tensor_file_path(file), C);
        return NULL;
    }
    const struct {
        const char *key;
        size_t value;
    } sizes[] = {{"d_model", C},
                 {"encoder_vocab_size", tensor_file_size(file, prefix, "encoder.embed_tokens.weight", 0)},
                 {"max_text_length", tensor_file_size(file, prefix, "encoder.embed_positions.weight", 0)},
                 {"encoder_layers", count_layers(file, prefix, "encoder")},
                 {"encoder_ffn_dim", tensor_file_size(file, prefix, "encoder.layers.0.glu.fc0.weight", 0)},
                 {"encoder_attention_heads", C / MIN_DALLE_HEAD_WIDTH},
                 {"image_vocab_size", V - 1},
                 {"image_length", tensor_file_size(file, prefix, "decoder.embed_positions.weight", 0)},
                 {"decoder_layers", count_layers(file, prefix, "decoder")},
                 {"decoder_ffn_dim", tensor_file_size(file, prefix, "decoder.layers.0.glu.fc0.weight", 0)},
                 {"decoder_attention_heads", C / MIN_DALLE_HEAD_WIDTH},
                 {"decoder_start_token_id", V > PUBLISHED_START ? PUBLISHED_START : V - 1}};
    json_t *config = json_object();
    int failed = config == NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !failed; i++)
        failed = json_object_set_new(config, sizes[i].key, json_integer((json_int_t)sizes[i].value));
    if (!failed) failed = json_object_set_new(config, "normalize_text", json_true());
    if (!failed) /* modules that were saved whole have the scales that the original leaves out */
        failed = json_object_set_new(config, "force_ln_scale",
                                     json_boolean(tensor_file_size(file, prefix, "encoder.final_ln.weight", 0) > 0));
    if (!failed) return config;
    json_decref(config);
    limn_fail(error, "%s: out of memory", tensor_file_path(file));
    return NULL;
}

int seq2seq_config_read_folder(seq2seq_config *config, const char *directory, const tensor_file *file, seq2seq_naming naming,
                               const char *prefix, limn_error *error) {
    char path[PATH_MAX];
    *config = (seq2seq_config){0};
    if (limn_path_join(path, sizeof path, directory, "config.json", error) != 0) return -1;
    bool infer = naming == SEQ2SEQ_MIN_DALLE && !limn_file_exists(path);
    json_t *json = infer ? infer_min_dalle(file, prefix, error) : limn_json_load(path, error);
    if (json == NULL) return -1;
    int status = seq2seq_config_read(config, json, infer ? tensor_file_path(file) : path, false, error);
    json_decref(json);
    return status;
}
