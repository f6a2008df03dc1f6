/* From a picture to its latent: taming's Encoder followed by quant_conv. */
#include "vqgan/internal.h"

bool vqgan_attends_at(const vqgan_config *config, size_t resolution) {
    for (size_t i = 0; i < config->attn_count; i++)
        if (config->attn_resolutions[i] == resolution) return true;
    return false;
}

int vqgan_build_encoder(vqgan *model, limn_error *error) {
    const vqgan_config *config = &model->config;
    chain_builder builder = {.set = &model->set,
                             .chain = &model->encoder,
                             .Y = config->resolution,
                             .X = config->resolution,
                             .C = config->in_channels,
                             .error = error};
    vqgan_add_convolution(&builder, config->ch, 3, "encoder.conv_in");
    for (size_t level = 0; level < config->levels; level++) {
        for (size_t block = 0; block < config->num_res_blocks; block++) {
            vqgan_add_resnet(&builder, config->ch * config->ch_mult[level], "encoder.down.%zu.block.%zu", level, block);
            if (vqgan_attends_at(config, builder.Y)) vqgan_add_attention(&builder, "encoder.down.%zu.attn.%zu", level, block);
        }
        if (level + 1 < config->levels)
            vqgan_add_downsample(&builder, config->resamp_with_conv, "encoder.down.%zu.downsample", level);
    }
    vqgan_add_resnet(&builder, builder.C, "encoder.mid.block_1");
    vqgan_add_attention(&builder, "encoder.mid.attn_1");
    vqgan_add_resnet(&builder, builder.C, "encoder.mid.block_2");
    vqgan_add_norm_swish(&builder, "encoder.norm_out");
    vqgan_add_convolution(&builder, config->z_channels, 3, "encoder.conv_out");
    vqgan_add_convolution(&builder, config->embed_dim, 1, "quant_conv");
    return builder.failed ? -1 : 0;
}

void vqgan_encode(const vqgan *model, int32_t *tokens, float *latent, const float *pictures, size_t B, limn_arena *arena) {
    const vqgan_config *config = &model->config;
    size_t L = vqgan_token_count(model), D = config->embed_dim;
    size_t picture_size = config->resolution * config->resolution * VQGAN_PICTURE_CHANNELS;
    size_t chunk = model->packed_encoder ? VQGAN_PREPARED_BATCH : vqgan_chain_chunk(&model->encoder, B);
    for (size_t start = 0; start < B; start += chunk) {
        size_t count = B - start < chunk ? B - start : chunk, mark = limn_arena_mark(arena);
        float *z = latent ? latent + start * L * D : limn_arena_floats(arena, count * L * D);
        if (model->packed_encoder)
            vqgan_prepared_infer(&model->set, &model->encoder, model->packed_encoder, z, pictures + start * picture_size, count,
                                 arena);
        else
            vqgan_chain_infer(&model->set, &model->encoder, z, pictures + start * picture_size, count, arena);
        if (model->packed_codes)
            vqgan_codebook_search(model->packed_codes, tokens + start * L, z, count * L, arena);
        else
            vqgan_nearest_codes(tokens + start * L, z, model->set.list[model->codebook].value, count * L, config->n_embed, D,
                                arena);
        limn_arena_release(arena, mark);
    }
}
