/* The generator's losses: L1, LPIPS, codebook, and the discriminator's opinion times the adaptive weight (arXiv 2012.09841). */
#include "vqgan/internal.h"

#include <math.h>
#include <string.h>

/* Mean |out − target|, and its gradient with respect to out. */
static double l1_loss(float *dout, const float *out, const float *target, size_t n) {
    double sum = 0;
    float slope = 1.0f / (float)n;
    for (size_t i = 0; i < n; i++) {
        float difference = out[i] - target[i];
        sum += fabs((double)difference);
        dout[i] = difference > 0 ? slope : difference < 0 ? -slope : 0;
    }
    return sum / (double)n;
}

/* The mean LPIPS of both, and `weight` times its gradient added to dout. LPIPS wants [-1,1]. */
static double perceptual_loss(const vqgan *model, const vqgan_lpips *lpips, double weight, float *dout, const float *out,
                              const float *target, size_t B, size_t n, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena);
    const float least = (float)model->config.pixel_min, factor = 2 / ((float)model->config.pixel_max - least);
    double *distances = limn_arena_bytes(arena, B * sizeof *distances), sum = 0;
    float *a = limn_arena_floats(arena, n), *b = limn_arena_floats(arena, n), *db = limn_arena_floats(arena, n);
    for (size_t i = 0; i < n; i++) {
        a[i] = (target[i] - least) * factor - 1;
        b[i] = (out[i] - least) * factor - 1;
    }
    vqgan_lpips_compare(lpips, distances, db, a, b, B, arena);
    add_scaled(dout, db, (float)weight * factor, n);
    for (size_t i = 0; i < B; i++) sum += distances[i];
    limn_arena_release(arena, mark);
    return sum / (double)B;
}

/* −mean(logits of the reconstruction), and its gradient with respect to the reconstruction. */
static double generator_loss(vqgan_discriminator *discriminator, float *dreconstruction, const float *reconstruction, size_t B,
                             size_t side, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena), count;
    const float *logits;
    discriminator_saved *saved = vqgan_discriminator_run(discriminator, &logits, &count, reconstruction, B, side, side, arena);
    float *dlogits = limn_arena_floats(arena, count);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)logits[i];
        dlogits[i] = -1.0f / (float)count;
    }
    vqgan_discriminator_run_backward(discriminator, saved, dreconstruction, dlogits, false, arena);
    limn_arena_release(arena, mark);
    return -sum / (double)count;
}

/* The gradient of the last layer's weight alone, for one loss. */
static float *last_layer_gradient(const vqgan *model, const layer_saved *saved, const float *dreconstruction, size_t B,
                                  limn_arena *arena) {
    const convolution_layer *last = &model->decoder.list[model->decoder.count - 1].convolution;
    const parameter *weight = &model->set.list[last->weight];
    convolution_shape shape = last->shape;
    shape.B = B;
    float *gradient = limn_arena_floats(arena, weight->size);
    memset(gradient, 0, weight->size * sizeof *gradient);
    convolution_backward(NULL, gradient, NULL, dreconstruction, saved[model->decoder.count - 1].in, weight->value, &shape,
                         arena);
    return gradient;
}

/* The ratio of the gradients of L1 with LPIPS and of the discriminator's opinion at the last layer, eq. 7. */
static double adaptive_weight(const vqgan *model, const layer_saved *saved, const float *dreconstruction_pixels,
                              const float *dreconstruction_generator, size_t B, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena),
           size = model->set.list[model->decoder.list[model->decoder.count - 1].convolution.weight].size;
    const float *of_pixels = last_layer_gradient(model, saved, dreconstruction_pixels, B, arena);
    const float *of_generator = last_layer_gradient(model, saved, dreconstruction_generator, B, arena);
    double weight = sqrt(sum_of_squares(of_pixels, size)) / (sqrt(sum_of_squares(of_generator, size)) + 1e-4);
    limn_arena_release(arena, mark);
    return weight < 1e4 ? weight : 1e4;
}

/* Through the decoder and, straight through the codebook, the encoder (NULL: it is frozen). dreconstruction is overwritten. */
static void backward(vqgan *model, const layer_saved *encoder_saved, const layer_saved *decoder_saved, float *dreconstruction,
                     const float *latent, const float *codes, const int32_t *tokens, size_t B,
                     const vqgan_loss_options *options, limn_arena *arena) {
    size_t D = model->config.embed_dim, N = B * vqgan_token_count(model), mark = limn_arena_mark(arena);
    float *dlatent = limn_arena_floats(arena, N * D), *dcodes = limn_arena_floats(arena, N * D);
    memset(dlatent, 0, N * D * sizeof *dlatent);
    vqgan_chain_backward(&model->set, &model->decoder, decoder_saved, model->decoder.count, encoder_saved ? dlatent : NULL,
                         dreconstruction, B, arena);
    if (!options->without_codebook) {
        vqgan_codebook_loss_backward(dlatent, dcodes, latent, codes, N * D, options->codebook_weight);
        embedding_backward(model->set.list[model->codebook].grad, tokens, dcodes, N, model->config.n_embed, D);
    }
    if (encoder_saved)
        vqgan_chain_backward(&model->set, &model->encoder, encoder_saved, model->encoder.count, NULL, dlatent, B, arena);
    limn_arena_release(arena, mark);
}

void vqgan_generator_step(vqgan *model, vqgan_discriminator *discriminator, vqgan_losses *losses, float *reconstruction,
                          float *latent, int32_t *tokens, const float *pictures, size_t B, const vqgan_loss_options *options,
                          limn_arena *arena) {
    const vqgan_config *config = &model->config;
    size_t mark = limn_arena_mark(arena), side = config->resolution, D = config->embed_dim;
    size_t N = B * vqgan_token_count(model), n = B * side * side * VQGAN_PICTURE_CHANNELS;

    const float *z, *decoded;
    layer_saved *encoder_saved = NULL;
    if (options->encoder_frozen) {
        float *only_latent = limn_arena_floats(arena, N * D);
        vqgan_chain_infer(&model->set, &model->encoder, only_latent, pictures, B, arena);
        z = only_latent;
    } else {
        encoder_saved = vqgan_chain_forward(&model->set, &model->encoder, &z, pictures, B, arena);
    }
    if (!tokens) tokens = limn_arena_bytes(arena, N * sizeof *tokens);
    const float *codes = z;
    if (!options->without_codebook) {
        const float *codebook = model->set.list[model->codebook].value;
        float *quantised = limn_arena_floats(arena, N * D);
        vqgan_nearest_codes(tokens, z, codebook, N, config->n_embed, D, arena);
        embedding_forward(quantised, tokens, codebook, N, D);
        codes = quantised;
    }
    layer_saved *decoder_saved = vqgan_chain_forward(&model->set, &model->decoder, &decoded, codes, B, arena);

    float *dreconstruction = limn_arena_floats(arena, n);
    losses->l1 = l1_loss(dreconstruction, decoded, pictures, n);
    losses->perceptual = 0;
    if (options->lpips)
        losses->perceptual =
            perceptual_loss(model, options->lpips, options->perceptual_weight, dreconstruction, decoded, pictures, B, n, arena);
    losses->codebook = options->without_codebook ? 0 : vqgan_codebook_loss(z, codes, N * D);
    losses->generator = losses->adaptive_weight = 0;
    if (options->use_discriminator) {
        float *dgenerator = limn_arena_floats(arena, n);
        losses->generator = generator_loss(discriminator, dgenerator, decoded, B, side, arena);
        losses->adaptive_weight =
            options->discriminator_weight * adaptive_weight(model, decoder_saved, dreconstruction, dgenerator, B, arena);
        add_scaled(dreconstruction, dgenerator, (float)losses->adaptive_weight, n);
    }
    losses->total = losses->l1 + options->codebook_weight * losses->codebook + losses->adaptive_weight * losses->generator;
    if (options->lpips) losses->total += options->perceptual_weight * losses->perceptual;
    backward(model, encoder_saved, decoder_saved, dreconstruction, z, codes, tokens, B, options, arena);

    if (reconstruction) memcpy(reconstruction, decoded, n * sizeof *reconstruction);
    if (latent) memcpy(latent, z, N * D * sizeof *latent);
    limn_arena_release(arena, mark);
}
