/* config.json of the VQGAN, read strictly and not: what is accepted must be a model. */
#include "tests/fuzz/fuzz.h"
#include "vqgan/internal.h"

#include <string.h>

static const char *const seeds[] = {
    "{\"ch\": 32, \"out_ch\": 3, \"ch_mult\": [1, 2], \"num_res_blocks\": 1, \"attn_resolutions\": [8], \"in_channels\": 3, "
    "\"resolution\": 16, \"z_channels\": 16, \"double_z\": false, \"resamp_with_conv\": true, \"n_embed\": 40, "
    "\"embed_dim\": 12, \"dropout\": 0.0, \"give_pre_end\": false, \"pixel_range\": [0, 1]}",
    "{}",
    "{\"pixel_range\": [-1, 1.0], \"resamp_with_conv\": false, \"dropout\": 0.5, \"ch_mult\": [1], \"attn_resolutions\": [], "
    "\"ch\": 64, \"resolution\": 1, \"n_embed\": 65536, \"something\": {\"unknown\": [1, null]}}",
    "{\"model\": {\"target\": \"taming.models.vqgan.VQModel\", \"params\": {\"embed_dim\": 32, \"n_embed\": 256, \"ddconfig\": "
    "{\"ch\": 32, \"ch_mult\": [1, 1], \"num_res_blocks\": 1, \"attn_resolutions\": [4], \"resolution\": 16, \"z_channels\": "
    "32, "
    "\"in_channels\": 3, \"out_ch\": 3, \"double_z\": false, \"dropout\": 0.0}}}}",
};

static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= sizeof seeds / sizeof *seeds) return false;
    return limn_buffer_append(out, seeds[index], strlen(seeds[index]), NULL) == 0;
}

/* What is written is read as the same again. */
static const char *write_and_read(const vqgan_config *config, bool strict) {
    limn_error error = {0};
    vqgan_config again;
    json_t *json = vqgan_config_to_json(config, &error), *json_again = NULL;
    if (!json) return "cannot be written";
    if (vqgan_config_read(&again, json, "input", strict, &error) == 0) {
        json_again = vqgan_config_to_json(&again, &error);
        vqgan_config_free(&again);
    }
    const char *complaint = !json_again                    ? "what was written is refused"
                            : json_equal(json, json_again) ? NULL
                                                           : "what was written is read as something else";
    json_decref(json);
    json_decref(json_again);
    return complaint;
}

/* The layers and the list of weights, without memory for these. */
static const char *build(const vqgan_config *config) {
    enum { BLOCKS_MAX = 12 };
    if (config->levels * config->num_res_blocks > BLOCKS_MAX) return NULL; /* takes long, and shows the same */
    limn_error error = {0};
    vqgan *model = vqgan_describe(config, true, &error);
    if (!model) return fuzz_check_error(&error); /* too large to be addressed */
    const char *complaint = NULL;
    const size_t side = config->resolution >> (config->levels - 1);
    if (side == 0 || vqgan_token_count(model) != side * side) complaint = "pictures of another number of tokens";
    const size_t pixels = config->resolution * config->resolution;
    if (model->encoder.largest < pixels * config->ch || model->decoder.largest < pixels * config->out_ch)
        complaint = "layers smaller than the picture";
    if (model->set.size < config->n_embed * config->embed_dim) complaint = "fewer weights than the codebook has";
    vqgan_free(model);
    return complaint;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0};
    json_t *json = limn_json_load(fuzz_file("config.json", data, size), &error);
    if (!json) return fuzz_check_error(&error);
    json_t *taming = vqgan_config_from_taming(json, "input", &error);
    const char *complaint = taming ? NULL : fuzz_check_error(&error);
    if (taming) { /* its sizes, as if they had been given */
        json_decref(json);
        json = taming;
    }
    bool accepted[2];
    for (size_t strict = 0; strict < 2 && !complaint; strict++) {
        vqgan_config config;
        accepted[strict] = vqgan_config_read(&config, json, "input", strict, &error) == 0;
        if (!accepted[strict]) {
            complaint = fuzz_check_error(&error);
            continue;
        }
        complaint = write_and_read(&config, strict);
        if (!complaint && !strict) complaint = build(&config);
        vqgan_config_free(&config);
    }
    if (!complaint && accepted[1] && !accepted[0]) complaint = "strict reading takes what lax reading refuses";
    json_decref(json);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
