/* The VQGAN's config.json: reading, checking, writing. */
#include "vqgan/internal.h"

#include <string.h>

static const char *const known_keys[] = {
    "ch",      "in_channels",      "out_ch",  "num_res_blocks", "resolution",       "z_channels",   "n_embed",     "embed_dim",
    "ch_mult", "attn_resolutions", "dropout", "double_z",       "resamp_with_conv", "give_pre_end", "pixel_range", NULL};

/* What DALL·E Mini's own config class has where a file is silent. */
static void set_defaults(vqgan_config *config) {
    static const size_t multipliers[] = {1, 1, 2, 2, 4};
    *config = (vqgan_config){.ch = 128,
                             .in_channels = VQGAN_PICTURE_CHANNELS,
                             .out_ch = VQGAN_PICTURE_CHANNELS,
                             .num_res_blocks = 2,
                             .resolution = 256,
                             .z_channels = 256,
                             .n_embed = 1024,
                             .embed_dim = 256,
                             .levels = 5,
                             .attn_count = 1,
                             .attn_resolutions = {16},
                             .resamp_with_conv = true,
                             .pixel_min = -1,
                             .pixel_max = 1};
    memcpy(config->ch_mult, multipliers, sizeof multipliers);
}

static int read_pixel_range(vqgan_config *config, const json_t *json, const char *where, limn_error *error) {
    const json_t *range = json_object_get(json, "pixel_range");
    if (!range) return 0;
    double low = json_number_value(json_array_get(range, 0)), high = json_number_value(json_array_get(range, 1));
    if (json_array_size(range) != 2 || high != 1 || (low != 0 && low != -1))
        return limn_fail_usage(error, "%s: pixel_range must be [0, 1] or [-1, 1]", where);
    config->pixel_min = low;
    config->pixel_max = high;
    return 0;
}

/* Switches of the original that name models which are not VQGANs, or that never worked there. */
static int refuse_other_models(const json_t *json, const char *where, limn_error *error) {
    static const char *const must_be_false[] = {"double_z", "give_pre_end", "tanh_out", "use_linear_attn"};
    for (size_t i = 0; i < sizeof must_be_false / sizeof *must_be_false; i++) {
        bool value = false;
        if (limn_json_get_bool(json, where, must_be_false[i], &value, error) != 0) return -1;
        if (value) return limn_fail_usage(error, "%s: %s must be false for a VQGAN", where, must_be_false[i]);
    }
    return 0;
}

static int check_sizes(const vqgan_config *config, const char *where, limn_error *error) {
    if (config->levels == 0) return limn_fail_usage(error, "%s: ch_mult is empty; give one multiplier per level", where);
    if (config->in_channels != VQGAN_PICTURE_CHANNELS || config->out_ch != VQGAN_PICTURE_CHANNELS)
        return limn_fail_usage(error, "%s: in_channels and out_ch must be 3 (red, green, blue), not %zu and %zu", where,
                               config->in_channels, config->out_ch);
    if (config->ch % VQGAN_GROUPS != 0)
        return limn_fail_usage(error, "%s: ch must be a multiple of %d (the groups of GroupNorm), not %zu", where, VQGAN_GROUPS,
                               config->ch);
    size_t factor = (size_t)1 << (config->levels - 1);
    if (config->resolution % factor != 0)
        return limn_fail_usage(error,
                               "%s: resolution %zu cannot be halved %zu times, once per level of ch_mult after the first; "
                               "it must be a multiple of %zu",
                               where, config->resolution, config->levels - 1, factor);
    return 0;
}

int vqgan_config_read(vqgan_config *config, const json_t *json, const char *where, bool strict, limn_error *error) {
    set_defaults(config);
    if (!json_is_object(json)) return limn_fail_usage(error, "%s: the VQGAN's configuration must be an object", where);
    if (strict && limn_json_check_keys(json, where, known_keys, error) != 0) return -1;
    /* Generous bounds: a size past them is a mistake, and products of sizes below them cannot overflow. Tokens are stored as
     * 16-bit numbers, hence the codebook's. */
    if (limn_json_get_size(json, where, "ch", 1, 2048, &config->ch, error) != 0 ||
        limn_json_get_size(json, where, "in_channels", 1, 1024, &config->in_channels, error) != 0 ||
        limn_json_get_size(json, where, "out_ch", 1, 1024, &config->out_ch, error) != 0 ||
        limn_json_get_size(json, where, "num_res_blocks", 1, 16, &config->num_res_blocks, error) != 0 ||
        limn_json_get_size(json, where, "resolution", 1, 4096, &config->resolution, error) != 0 ||
        limn_json_get_size(json, where, "z_channels", 1, 8192, &config->z_channels, error) != 0 ||
        limn_json_get_size(json, where, "n_embed", 1, 65536, &config->n_embed, error) != 0 ||
        limn_json_get_size(json, where, "embed_dim", 1, 8192, &config->embed_dim, error) != 0 ||
        limn_json_get_sizes(json, where, "ch_mult", 1, 64, config->ch_mult, VQGAN_MAX_LEVELS, &config->levels, error) != 0 ||
        limn_json_get_sizes(json, where, "attn_resolutions", 0, 1 << 20, config->attn_resolutions, VQGAN_MAX_LEVELS,
                            &config->attn_count, error) != 0 ||
        limn_json_get_bool(json, where, "resamp_with_conv", &config->resamp_with_conv, error) != 0 ||
        limn_json_get_float(json, where, "dropout", 0, 1, &config->dropout, error) != 0 ||
        read_pixel_range(config, json, where, error) != 0 || refuse_other_models(json, where, error) != 0 ||
        check_sizes(config, where, error) != 0)
        return -1;
    config->json = json_deep_copy(json);
    if (!config->json) return limn_fail(error, "%s: out of memory", where);
    return 0;
}

void vqgan_config_free(vqgan_config *config) {
    json_decref(config->json);
    config->json = NULL;
}

int vqgan_config_copy(vqgan_config *out, const vqgan_config *config, limn_error *error) {
    *out = *config;
    out->json = config->json ? json_deep_copy(config->json) : json_object();
    return out->json ? 0 : limn_fail(error, "out of memory for the VQGAN's configuration");
}

static json_t *sizes_to_json(const size_t *sizes, size_t count) {
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(array, json_integer((json_int_t)sizes[i]));
    return array;
}

json_t *vqgan_config_to_json(const vqgan_config *config, limn_error *error) {
    const struct {
        const char *key;
        size_t value;
    } sizes[] = {{"ch", config->ch},
                 {"in_channels", config->in_channels},
                 {"out_ch", config->out_ch},
                 {"num_res_blocks", config->num_res_blocks},
                 {"resolution", config->resolution},
                 {"z_channels", config->z_channels},
                 {"n_embed", config->n_embed},
                 {"embed_dim", config->embed_dim}};
    json_t *json = json_deep_copy(config->json);
    int failed = json == NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        failed |= json_object_set_new(json, sizes[i].key, json_integer((json_int_t)sizes[i].value));
    failed |= json_object_set_new(json, "ch_mult", sizes_to_json(config->ch_mult, config->levels));
    failed |= json_object_set_new(json, "attn_resolutions", sizes_to_json(config->attn_resolutions, config->attn_count));
    failed |= json_object_set_new(json, "dropout", json_real(config->dropout));
    failed |= json_object_set_new(json, "resamp_with_conv", json_boolean(config->resamp_with_conv));
    failed |= json_object_set_new(json, "double_z", json_false());
    failed |= json_object_set_new(json, "give_pre_end", json_false());
    failed |= json_object_set_new(json, "pixel_range", json_pack("[i, i]", (int)config->pixel_min, (int)config->pixel_max));
    if (!failed) return json;
    json_decref(json);
    limn_fail(error, "out of memory for the VQGAN's configuration");
    return NULL;
}
