#include "support.h"
#include <stdlib.h>
#include <string.h>

static const char config_text[] =
    "{\"vqgan\": {\"ch\": 32, \"ch_mult\": [1, 1, 1], \"num_res_blocks\": 1, \"attn_resolutions\": [], \"resolution\": 16,"
    " \"in_channels\": 3, \"out_ch\": 3, \"z_channels\": 32, \"n_embed\": 24, \"embed_dim\": 8},"
    " \"seq2seq\": {\"d_model\": 32, \"encoder_layers\": 1, \"decoder_layers\": 2, \"encoder_attention_heads\": 2,"
    " \"decoder_attention_heads\": 2, \"encoder_ffn_dim\": 48, \"decoder_ffn_dim\": 48, \"max_text_length\": 12,"
    " \"encoder_vocab_size\": 300, \"image_vocab_size\": 30, \"image_length\": 16, \"decoder_start_token_id\": 30,"
    " \"bos_token_id\": 30, \"eos_token_id\": 30, \"pad_token_id\": 30, \"init_std\": 0.3}}";

static int make_tokenizer(const char *folder, limn_error *error) {
    static const char words[] = " a red apple and a blue heart and a red heart";
    tokenizer_trainer *trainer = tokenizer_trainer_create(error);
    tokenizer *tokens = NULL;
    if (trainer && tokenizer_trainer_add(trainer, words, strlen(words), error) == 0)
        tokens = tokenizer_trainer_finish(trainer, 280, 1, error);
    int status = tokens ? tokenizer_save(tokens, folder, error) : -1;
    tokenizer_free(tokens);
    tokenizer_trainer_free(trainer);
    return status;
}

static int make_vqgan(const char *folder, const json_t *json, uint64_t seed, limn_error *error) {
    char path[4096];
    vqgan_config config;
    if (limn_path_join(path, sizeof path, folder, "vqgan", error) || vqgan_config_read(&config, json, "vqgan", false, error))
        return -1;
    vqgan *model = vqgan_create(&config, seed, false, error);
    int status = model ? vqgan_save(model, path, error) : -1;
    if (model) vqgan_free(model);
    vqgan_config_free(&config);
    return status;
}

static int make_seq2seq(const char *folder, const json_t *json, uint64_t seed, limn_error *error) {
    seq2seq_config config;
    if (seq2seq_config_read(&config, json, "seq2seq", false, error)) return -1;
    seq2seq *model = seq2seq_create(&config, seed, false, error);
    int status = model ? seq2seq_save(model, folder, error) : -1;
    if (model) seq2seq_free(model);
    seq2seq_config_free(&config);
    return status;
}

int make_model(const char *folder, uint64_t seed, const char *change, limn_error *error) {
    json_t *config = json_loads(config_text, 0, NULL);
    int status = change ? limn_json_set(config, change, error) : 0;
    if (status == 0) status = limn_make_directories(folder, error);
    if (status == 0) status = make_tokenizer(folder, error);
    if (status == 0) status = make_vqgan(folder, json_object_get(config, "vqgan"), seed, error);
    if (status == 0) status = make_seq2seq(folder, json_object_get(config, "seq2seq"), seed, error);
    json_decref(config);
    return status;
}
