#include "train/seq2seq_settings.h"
#include "vqgan/vqgan.h"

static const char *const OWN_KEYS[] = {"precision",      "wire_precision",  "lora_rank",    "lora_alpha", "lora_targets",
                                       "sample_prompts", "sample_guidance", "sample_top_k", NULL};

int seq2seq_settings_read(seq2seq_settings *settings, const json_t *config, const char *file, limn_error *error) {
    const json_t *section = train_section(config, file, "train", "seq2seq", error);
    *settings = (seq2seq_settings){.train = train_settings_defaults(),
                                   .lora = {.alpha = 16, .targets = "q_proj,v_proj"},
                                   .drawing = {.guidance = 3, .temperature = 1, .top_k = 256, .top_p = 1}};
    train_settings *train = &settings->train;
    train->schedule.learning_rate = 5e-4;
    train->schedule.warmup_steps = 100;
    train->optimizer.options.beta2 = 0.99;
    train->optimizer.options.weight_decay = 0.01;
    train->max_grad_norm = 1;
    train->valid_every = 200;
    train->sample_every = 1000;
    train->max_loss_rise = 3;
    seq2seq_lora *lora = &settings->lora;
    sampling_options *drawing = &settings->drawing;
    const char *precision = "fp32", *wire = NULL, *keys[32];
    size_t count = 0;
    for (size_t i = 0; PAIR_KEYS[i]; i++) keys[count++] = PAIR_KEYS[i];
    for (size_t i = 0; OWN_KEYS[i]; i++) keys[count++] = OWN_KEYS[i];
    keys[count] = NULL;
    if (!section || train_settings_read(train, section, file, keys, error) ||
        pair_settings_read(&settings->data, section, file, error) ||
        limn_json_get_string(section, file, "precision", "fp32|bf16", &precision, error) ||
        limn_json_get_size(section, file, "lora_rank", 0, 4096, &lora->rank, error) ||
        limn_json_get_float(section, file, "lora_alpha", 0, 1e6, &lora->alpha, error) ||
        limn_json_get_string(section, file, "lora_targets", NULL, &lora->targets, error) ||
        limn_json_get_string(section, file, "wire_precision", "fp32|bf16", &wire, error) ||
        limn_json_get_float(section, file, "sample_guidance", -1e3, 1e3, &drawing->guidance, error) ||
        limn_json_get_size(section, file, "sample_top_k", 0, SIZE_MAX / 2, &drawing->top_k, error) ||
        nn_precision_parse(&settings->precision, precision, error) ||
        nn_precision_parse(&settings->wire, wire ? wire : precision, error))
        return -1;
    drawing->seed = train->seed; /* the same at every step: one sees what has changed */
    return 0;
}

/* ---------------------------------------------------------------- the model */

int train_complete_seq2seq(json_t *section, const char *file, size_t words, size_t codes, size_t tokens, limn_error *error) {
    const struct {
        const char *key;
        size_t value;
    } derived[] = {
        {"encoder_vocab_size", words}, {"image_vocab_size", codes}, {"image_length", tokens}, {"decoder_start_token_id", codes},
        {"bos_token_id", codes},       {"eos_token_id", codes},     {"pad_token_id", codes}};
    for (size_t i = 0; i < sizeof derived / sizeof *derived; i++)
        if (!json_object_get(section, derived[i].key) &&
            json_object_set_new(section, derived[i].key, json_integer((json_int_t)derived[i].value)))
            return limn_fail(error, "%s: no memory for the configuration", file);
    size_t vocabulary = 0, length = 0, image_vocabulary = 0;
    if (limn_json_get_size(section, file, "encoder_vocab_size", 1, SIZE_MAX / 2, &vocabulary, error) ||
        limn_json_get_size(section, file, "image_length", 1, SIZE_MAX / 2, &length, error) ||
        limn_json_get_size(section, file, "image_vocab_size", 1, SIZE_MAX / 2, &image_vocabulary, error))
        return -1;
    if (vocabulary < words)
        return limn_fail_usage(error, "%s: seq2seq.encoder_vocab_size %zu is less than the tokenizer's %zu entries", file,
                               vocabulary, words);
    if (length != tokens || image_vocabulary < codes)
        return limn_fail_usage(
            error, "%s: seq2seq has image_length %zu and image_vocab_size %zu, but the VQGAN makes %zu tokens of %zu", file,
            length, image_vocabulary, tokens, codes);
    return 0;
}

int train_seq2seq_config(seq2seq_config *out, json_t *config, const char *file, limn_error *error) {
    json_t *section = train_section(config, file, "seq2seq", NULL, error);
    const json_t *pictures = json_object_get(config, "vqgan"), *words = json_object_get(config, "tokenizer");
    if (!section) return -1;
    if (json_is_object(pictures) && json_is_object(words)) {
        vqgan_config of_pictures;
        size_t vocabulary = 0;
        if (limn_json_get_size(words, file, "vocab_size", 1, SIZE_MAX / 2, &vocabulary, error) ||
            vqgan_config_read(&of_pictures, pictures, file, true, error))
            return -1;
        size_t side = of_pictures.resolution >> (of_pictures.levels - 1), codes = of_pictures.n_embed;
        vqgan_config_free(&of_pictures);
        if (train_complete_seq2seq(section, file, vocabulary, codes, side * side, error)) return -1;
    }
    return seq2seq_config_read(out, section, file, true, error);
}

int train_read_seq2seq(const char *path, seq2seq_config *out, limn_error *error) {
    const train_options options = {.config = path};
    json_t *config = train_configuration(&options, error);
    int status = config ? train_seq2seq_config(out, config, path, error) : -1;
    json_decref(config);
    return status;
}
