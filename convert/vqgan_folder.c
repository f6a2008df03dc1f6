/* A VQGAN's folder in each form. */
#include "convert/internal.h"

#include <string.h>

/* min-dalle's detokenizer draws in [0,1]: for another range its last convolution is scaled, which is the same picture. */
static void scale_last_layer(weight_move *move, const vqgan_config *config) {
    float scale = (float)(1 / (config->pixel_max - config->pixel_min));
    if (strcmp(move->to.name, "decoder.conv_out.weight") == 0) move->scale = scale;
    if (strcmp(move->to.name, "decoder.conv_out.bias") == 0) {
        move->scale = scale;
        move->shift = -(float)config->pixel_min * scale;
    }
}

static bool is_of_detokenizer(const char *name) {
    return strncmp(name, "encoder.", 8) != 0 && strncmp(name, "quant_conv.", 11) != 0;
}

/* One file of weights under the naming `to`; directory NULL only counts. */
static int write_weights(conversion *run, const model_source *source, const char *directory, const char *name, vqgan_naming to,
                         write_form form, limn_error *error) {
    const parameters *set = vqgan_get_parameters(source->vqgan);
    weight_moves moves;
    if (weight_moves_begin(&moves, run, source, set->count, error)) return -1;
    for (size_t i = 0; i < set->count; i++) {
        weight_move *move = &moves.moves[moves.count];
        if (to == VQGAN_MIN_DALLE && !is_of_detokenizer(set->list[i].name)) continue;
        vqgan_place_of(source->vqgan, i, source->vqgan_naming, &move->from);
        vqgan_place_of(source->vqgan, i, to, &move->to);
        move->scale = 1;
        move->shift = 0;
        if (to == VQGAN_MIN_DALLE) scale_last_layer(move, vqgan_get_config(source->vqgan));
        moves.count++;
    }
    return weight_moves_finish(&moves, run, directory, name, form, error);
}

static int append_sizes(limn_buffer *out, const char *key, const size_t *sizes, size_t count, limn_error *error) {
    int status = limn_buffer_printf(out, error, "      %s: [", key);
    for (size_t i = 0; i < count && status == 0; i++) status = limn_buffer_printf(out, error, "%s%zu", i ? ", " : "", sizes[i]);
    return status ? -1 : limn_buffer_printf(out, error, "]\n");
}

/* The YAML from which taming's VQModel is built; its loss is left out, as for a model that is used and not trained. */
static int write_taming_yaml(const vqgan_config *config, const char *directory, limn_error *error) {
    limn_buffer out = {0};
    char path[4096];
    int status = limn_path_join(path, sizeof path, directory, "config.yaml", error);
    if (status == 0)
        status =
            limn_buffer_printf(&out, error,
                               "model:\n"
                               "  target: taming.models.vqgan.VQModel\n"
                               "  params:\n"
                               "    embed_dim: %zu\n"
                               "    n_embed: %zu\n"
                               "    ddconfig:\n"
                               "      double_z: false\n"
                               "      z_channels: %zu\n"
                               "      resolution: %zu\n"
                               "      in_channels: %zu\n"
                               "      out_ch: %zu\n"
                               "      ch: %zu\n"
                               "      num_res_blocks: %zu\n"
                               "      dropout: %g\n"
                               "      resamp_with_conv: %s\n"
                               "      pixel_range: [%d, %d]\n",
                               config->embed_dim, config->n_embed, config->z_channels, config->resolution, config->in_channels,
                               config->out_ch, config->ch, config->num_res_blocks, config->dropout,
                               config->resamp_with_conv ? "true" : "false", (int)config->pixel_min, (int)config->pixel_max);
    if (status == 0) status = append_sizes(&out, "ch_mult", config->ch_mult, config->levels, error);
    if (status == 0) status = append_sizes(&out, "attn_resolutions", config->attn_resolutions, config->attn_count, error);
    if (status == 0)
        status = limn_buffer_printf(&out, error,
                                    "    lossconfig:\n"
                                    "      target: taming.modules.losses.vqperceptual.DummyLoss\n");
    if (status == 0) status = limn_atomic_write(path, out.data, out.size, error);
    limn_buffer_free(&out);
    return status;
}

static int write_config(const vqgan_config *config, const char *directory, limn_error *error) {
    char path[4096];
    json_t *json = vqgan_config_to_json(config, error);
    if (!json) return -1;
    int status = limn_path_join(path, sizeof path, directory, "config.json", error);
    if (status == 0) status = limn_json_save(json, path, error);
    json_decref(json);
    return status;
}

static int write_pytorch(conversion *run, const model_source *source, const char *directory, limn_error *error) {
    if (write_weights(run, source, directory, "detoker.pt", VQGAN_MIN_DALLE, WRITE_PYTORCH, error)) return -1;
    if (!vqgan_can_encode(source->vqgan)) return 0; /* taming's model is an encoder as well */
    if (write_weights(run, source, directory, "model.ckpt", VQGAN_TAMING, WRITE_PYTORCH_STATE_DICT, error)) return -1;
    return directory ? write_taming_yaml(vqgan_get_config(source->vqgan), directory, error) : 0;
}

int vqgan_folder_write(conversion *run, const model_source *source, const char *directory, limn_error *error) {
    if (run->options->to == CONVERT_FLAX && !vqgan_can_encode(source->vqgan))
        return limn_fail(error, "%s: holds a decoder without an encoder, which is no Flax VQGAN; give a whole one",
                         tensor_file_path(source->file));
    if (directory &&
        (limn_make_directories(directory, error) || write_config(vqgan_get_config(source->vqgan), directory, error)))
        return -1;
    switch (run->options->to) {
    case CONVERT_FLAX:
        return write_weights(run, source, directory, "flax_model.msgpack", VQGAN_FLAX, WRITE_FLAX, error);
    case CONVERT_PYTORCH:
        return write_pytorch(run, source, directory, error);
    case CONVERT_SAFETENSORS:
        break;
    }
    return write_weights(run, source, directory, "model.safetensors", VQGAN_TAMING, WRITE_SAFETENSORS, error);
}
