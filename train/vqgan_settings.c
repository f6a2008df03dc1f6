#include "train/vqgan_settings.h"

#include <stdlib.h>
#include <string.h>

static const char *const OWN_KEYS[] = {"codebook_weight",
                                       "discriminator_weight",
                                       "discriminator_start",
                                       "discriminator_layers",
                                       "discriminator_width",
                                       "discriminator_learning_rate",
                                       "codebook_start",
                                       "revive_every",
                                       "revive_threshold",
                                       "perceptual_weight",
                                       NULL};

/* True when --set changes this key: then the user means it. */
static bool is_set(const train_options *options, const char *key) {
    for (size_t i = 0; i < options->set.count; i++)
        if (strncmp(options->set.items[i], key, strlen(key)) == 0 && options->set.items[i][strlen(key)] == '=') return true;
    return false;
}

/* A trained codebook is neither placed anew nor has codes thrown away because a new set of pictures does not use them. */
static void spare_codebook(vqgan_settings *settings, const train_options *options) {
    if (!options->init) return;
    if (!is_set(options, "train.vqgan.codebook_start")) settings->codebook_start_share = 0;
    if (!is_set(options, "train.vqgan.revive_every")) settings->revive_every = 0;
}

/* LPIPS' two files, and the weight that stands for nothing without them. */
static int check_perceptual(const json_t *section, const char *file, const train_options *options, double weight,
                            limn_error *error) {
    if (!options->lpips_vgg != !options->lpips_heads)
        return limn_fail_usage(
            error, "--lpips-vgg and --lpips-heads belong together: give torchvision's vgg16-397923af.pth and LPIPS' "
                   "vgg.pth");
    if (!options->lpips_vgg && json_object_get(section, "perceptual_weight") && weight > 0)
        return limn_fail_usage(error, "%s: train.vqgan.perceptual_weight needs --lpips-vgg and --lpips-heads", file);
    return 0;
}

int vqgan_settings_read(vqgan_settings *settings, const json_t *config, const train_options *options, limn_error *error) {
    const char *file = options->config;
    json_t *section = train_section(config, file, "train", "vqgan", error);
    *settings = (vqgan_settings){.generator = train_settings_defaults(),
                                 .losses = {.codebook_weight = 1, .discriminator_weight = 0.8, .perceptual_weight = 1},
                                 .discriminator_layers = 3,
                                 .discriminator_width = 64,
                                 .revive_every = 50,
                                 .revive_threshold = 0.03};
    train_settings *generator = &settings->generator;
    generator->schedule.learning_rate = 1e-4;
    generator->valid_every = generator->sample_every = 500;
    generator->max_loss_rise = 10; /* it rises where the codebook starts */
    generator->optimizer.options.beta1 = 0.5;
    generator->optimizer.options.beta2 = 0.9;
    if (!section || train_settings_read(generator, section, file, OWN_KEYS, error)) return -1;
    settings->discriminator_learning_rate = generator->schedule.learning_rate;
    const size_t many = 1000000000;
    if (limn_json_get_float(section, file, "codebook_weight", 0, 1e6, &settings->losses.codebook_weight, error) ||
        limn_json_get_float(section, file, "discriminator_weight", 0, 1e6, &settings->losses.discriminator_weight, error) ||
        limn_json_get_size(section, file, "discriminator_start", 0, many, &settings->discriminator_start, error) ||
        limn_json_get_size(section, file, "discriminator_layers", 1, 6, &settings->discriminator_layers, error) ||
        limn_json_get_size(section, file, "discriminator_width", 1, 512, &settings->discriminator_width, error) ||
        limn_json_get_float(section, file, "discriminator_learning_rate", 0, 10, &settings->discriminator_learning_rate,
                            error) ||
        limn_json_get_float(section, file, "codebook_start", 0, 0.9, &settings->codebook_start_share, error) ||
        limn_json_get_size(section, file, "revive_every", 0, many, &settings->revive_every, error) ||
        limn_json_get_float(section, file, "revive_threshold", 0, 1, &settings->revive_threshold, error) ||
        limn_json_get_float(section, file, "perceptual_weight", 0, 1e6, &settings->losses.perceptual_weight, error) ||
        check_perceptual(section, file, options, settings->losses.perceptual_weight, error))
        return -1;
    if (generator->batch_size > 4096 || generator->accumulation != 1)
        return limn_fail_usage(error,
                               "%s: train.vqgan: batch_size is at most 4096 and accumulation 1, since the discriminator's "
                               "BatchNorm sees one batch",
                               file);
    settings->losses.use_discriminator = settings->losses.discriminator_weight > 0;
    spare_codebook(settings, options);
    return 0;
}

/* ---------------------------------------------------------------- the model */

/* Every key that the section has must be what the model has; what it leaves out is the model's. */
static int check_agrees(const json_t *section, const char *file, const json_t *model, const char *folder, limn_error *error) {
    vqgan_config config = {0};
    json_t *filled = json_deep_copy(model), *whole = NULL, *value;
    if (!filled || json_object_update(filled, (json_t *)(uintptr_t)section)) {
        limn_fail(error, "%s: no memory for the configuration", file);
    } else if (vqgan_config_read(&config, filled, file, false, error) == 0) {
        whole = vqgan_config_to_json(&config, error); /* numbers in one form */
        vqgan_config_free(&config);
    }
    json_decref(filled);
    if (!whole) return -1;
    int status = 0;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)section, key, value) {
        const json_t *ours = json_object_get(whole, key), *theirs = json_object_get(model, key);
        if (status || json_equal(ours, theirs)) continue;
        char *expected = json_dumps(theirs, JSON_ENCODE_ANY | JSON_COMPACT),
             *given = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        status =
            limn_fail_usage(error, "%s: vqgan.%s is %s, but --init %s has %s; leave the section vqgan out to take that model's",
                            file, key, given ? given : "another", folder, expected ? expected : "no such key");
        free(expected);
        free(given);
    }
    json_decref(whole);
    return status;
}

static vqgan *begin_from(const json_t *section, const train_options *options, json_t **out_section, limn_error *error) {
    vqgan *model = vqgan_load(options->init, true, error);
    if (model && (*out_section = vqgan_config_to_json(vqgan_get_config(model), error)) &&
        (!section || check_agrees(section, options->config, *out_section, options->init, error) == 0))
        return model;
    vqgan_free(model);
    return NULL;
}

vqgan *vqgan_begin(const json_t *config, const train_options *options, uint64_t seed, json_t **out_section, limn_error *error) {
    *out_section = NULL;
    const bool has_section = json_object_get(config, "vqgan") != NULL;
    json_t *section = has_section || !options->init ? train_section(config, options->config, "vqgan", NULL, error) : NULL;
    if (!section && (has_section || !options->init)) return NULL;
    if (options->init) return begin_from(section, options, out_section, error);
    vqgan_config model_config;
    if (vqgan_config_read(&model_config, section, options->config, true, error)) return NULL;
    vqgan *model = vqgan_create(&model_config, seed, true, error);
    vqgan_config_free(&model_config);
    *out_section = json_incref(section);
    return model;
}
