/* Where a VQGAN's configuration is found: config.json beside its weights, the YAML that taming-transformers trains from, or the
 * shapes of min-dalle's weights. */
#include "vqgan/internal.h"

#include <string.h>

/* The name's last part decides: "taming.models.vqgan.VQModel". Relatives of it have other layers or another codebook. */
static bool is_vq_model(const char *target) {
    static const char *const known[] = {"VQModel", "VQNoDiscModel", "VQModelInterface", "EMAVQ"};
    const char *last = strrchr(target, '.');
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(last ? last + 1 : target, known[i]) == 0) return true;
    return false;
}

json_t *vqgan_config_from_taming(const json_t *yaml, const char *where, limn_error *error) {
    const json_t *model = json_object_get(yaml, "model"), *params = json_object_get(model, "params");
    const json_t *sizes = json_object_get(params, "ddconfig");
    const char *target = json_string_value(json_object_get(model, "target"));
    static const char *const beside[] = {"n_embed", "embed_dim"};
    if (!json_is_object(sizes)) {
        limn_fail_usage(error, "%s: has no model: params: ddconfig; name the YAML that the VQGAN was trained from", where);
        return NULL;
    }
    if (target && !is_vq_model(target)) {
        limn_fail_usage(error, "%s: is of a %s; only taming's VQModel is read here", where, target);
        return NULL;
    }
    json_t *config = json_deep_copy(sizes);
    int failed = config == NULL;
    for (size_t i = 0; i < 2 && !failed; i++) {
        json_t *value = json_object_get(params, beside[i]);
        if (value) failed = json_object_set(config, beside[i], value);
    }
    if (!failed) return config;
    json_decref(config);
    limn_fail(error, "%s: out of memory", where);
    return NULL;
}

/* taming's training writes RUN/checkpoints/last.ckpt and RUN/configs/DATE-project.yaml. */
static int find_yaml(char path[4096], const char *directory, limn_error *error) {
    static const char *const patterns[] = {
        "config.yaml", "model.yaml", "*.yaml", "*.yml", "configs/*project.yaml", "../configs/*project.yaml"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        int found = limn_find_one(directory, patterns[i], path, error);
        if (found != 0) return found < 0 ? -1 : 0;
    }
    return limn_fail(error, "%s: neither config.json nor taming's YAML is there; put it beside the weights", directory);
}

/* ---------------------------------------------------------------- from min-dalle's shapes */

/* Outputs of a part of the decoder's block, 0 when there is none: "decoder.up.1.block.0.conv1.weight". */
static size_t width_of(const tensor_file *file, const char *prefix, size_t level, const char *kind, size_t block,
                       const char *part) {
    char name[128];
    snprintf(name, sizeof name, "decoder.up.%zu.%s.%zu.%s.weight", level, kind, block, part);
    return tensor_file_size(file, prefix, name, 0);
}

/* The decoder's levels; the resolution is taken for that of 16×16 tokens, min-dalle's only size. */
static json_t *infer_min_dalle(const tensor_file *file, const char *prefix, limn_error *error) {
    enum { TOKENS_A_SIDE = 16 };
    size_t ch = width_of(file, prefix, 0, "block", 0, "conv1"), levels = 0, blocks = 0;
    while (levels < VQGAN_MAX_LEVELS && width_of(file, prefix, levels, "block", 0, "conv1")) levels++;
    while (width_of(file, prefix, 0, "block", blocks, "conv1")) blocks++;
    json_t *multipliers = json_array(), *attention = json_array();
    size_t resolution = levels ? (size_t)TOKENS_A_SIDE << (levels - 1) : 0;
    for (size_t level = 0; level < levels; level++) {
        json_array_append_new(multipliers,
                              json_integer((json_int_t)(width_of(file, prefix, level, "block", 0, "conv1") / (ch ? ch : 1))));
        if (width_of(file, prefix, level, "attn", 0, "q"))
            json_array_append_new(attention, json_integer((json_int_t)(resolution >> level)));
    }
    json_t *config = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "ch", (json_int_t)ch, "num_res_blocks",
                               (json_int_t)(blocks ? blocks - 1 : 0), "resolution", (json_int_t)resolution, "z_channels",
                               (json_int_t)tensor_file_size(file, prefix, "decoder.conv_in.weight", 1), "n_embed",
                               (json_int_t)tensor_file_size(file, prefix, "embedding.weight", 0), "embed_dim",
                               (json_int_t)tensor_file_size(file, prefix, "embedding.weight", 1), "ch_mult", multipliers,
                               "attn_resolutions", attention);
    if (!config) limn_fail(error, "%s: out of memory", tensor_file_path(file));
    return config;
}

/* ---------------------------------------------------------------- a folder's */

/* min-dalle's detokenizer may lie beside the config.json of the model that draws. */
static json_t *load_folder_json(const char *directory, char path[4096], const tensor_file *file, vqgan_naming naming,
                                const char *prefix, limn_error *error) {
    if (limn_path_join(path, 4096, directory, "config.json", error) != 0) return NULL;
    json_t *config = NULL;
    if (limn_file_exists(path)) {
        config = limn_json_load(path, error);
        if (!config || naming != VQGAN_MIN_DALLE || json_object_get(config, "ch_mult")) return config;
        json_decref(config);
    }
    if (naming == VQGAN_MIN_DALLE) {
        snprintf(path, 4096, "%s", tensor_file_path(file));
        return infer_min_dalle(file, prefix, error);
    }
    if (find_yaml(path, directory, error) != 0) return NULL;
    json_t *yaml = limn_json_load(path, error);
    config = yaml ? vqgan_config_from_taming(yaml, path, error) : NULL;
    json_decref(yaml);
    return config;
}

int vqgan_config_read_folder(vqgan_config *config, const char *directory, const tensor_file *file, vqgan_naming naming,
                             const char *prefix, limn_error *error) {
    char path[4096];
    json_t *json = load_folder_json(directory, path, file, naming, prefix, error);
    if (!json) return -1;
    int status = vqgan_config_read(config, json, path, false, error);
    bool unsaid = !json_object_get(json, "pixel_range");
    if (status == 0 && (naming == VQGAN_MIN_DALLE || (naming == VQGAN_FLAX && unsaid))) config->pixel_min = 0;
    json_decref(json);
    return status;
}
