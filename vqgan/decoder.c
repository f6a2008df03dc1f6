/* From codes to a picture: post_quant_conv followed by taming's Decoder. */
#include "vqgan/internal.h"

int vqgan_build_decoder(vqgan *model, limn_error *error) {
    const vqgan_config *config = &model->config;
    size_t side = config->resolution >> (config->levels - 1);
    chain_builder builder = {
        .set = &model->set, .chain = &model->decoder, .Y = side, .X = side, .C = config->embed_dim, .error = error};
    vqgan_add_convolution(&builder, config->z_channels, 1, "post_quant_conv");
    vqgan_add_convolution(&builder, config->ch * config->ch_mult[config->levels - 1], 3, "decoder.conv_in");
    vqgan_add_resnet(&builder, builder.C, "decoder.mid.block_1");
    vqgan_add_attention(&builder, "decoder.mid.attn_1");
    vqgan_add_resnet(&builder, builder.C, "decoder.mid.block_2");
    for (size_t level = config->levels; level-- > 0;) {
        for (size_t block = 0; block < config->num_res_blocks + 1; block++) {
            vqgan_add_resnet(&builder, config->ch * config->ch_mult[level], "decoder.up.%zu.block.%zu", level, block);
            if (vqgan_attends_at(config, builder.Y)) vqgan_add_attention(&builder, "decoder.up.%zu.attn.%zu", level, block);
        }
        if (level > 0) vqgan_add_upsample(&builder, config->resamp_with_conv, "decoder.up.%zu.upsample", level);
    }
    vqgan_add_norm_swish(&builder, "decoder.norm_out");
    vqgan_add_convolution(&builder, config->out_ch, 3, "decoder.conv_out");
    return builder.failed ? -1 : 0;
}

void vqgan_decode(const vqgan *model, float *pictures, const int32_t *tokens, size_t B, limn_arena *arena) {
    const vqgan_config *config = &model->config;
    size_t L = vqgan_token_count(model), D = config->embed_dim;
    size_t picture_size = config->resolution * config->resolution * VQGAN_PICTURE_CHANNELS;
    size_t chunk = model->packed_decoder ? VQGAN_PREPARED_BATCH : vqgan_chain_chunk(&model->decoder, B);
    for (size_t start = 0; start < B; start += chunk) {
        size_t count = B - start < chunk ? B - start : chunk, mark = limn_arena_mark(arena);
        float *codes = limn_arena_floats(arena, count * L * D);
        embedding_forward(codes, tokens + start * L, model->set.list[model->codebook].value, count * L, D);
        if (model->packed_decoder)
            vqgan_prepared_infer(&model->set, &model->decoder, model->packed_decoder, pictures + start * picture_size, codes,
                                 count, arena);
        else
            vqgan_chain_infer(&model->set, &model->decoder, pictures + start * picture_size, codes, count, arena);
        limn_arena_release(arena, mark);
    }
}
