/* How fast a configuration draws on this machine, with random weights. */
#include "infer/internal.h"

#include <stdlib.h>

enum { WORDS = 14 };

static void make_caption(int32_t *ids, int32_t *mask, const seq2seq_config *config) {
    size_t S = config->max_text_length;
    for (size_t i = 0; i < 2 * S; i++) {
        size_t words = i < S ? WORDS : 2; /* no caption is <s></s> */
        mask[i] = i % S < words;
        ids[i] = mask[i] ? (int32_t)limn_random_below(1, 2, i, config->encoder_vocab_size) : 0;
    }
}

static double count_weights(const seq2seq_config *config) {
    double C = (double)config->d_model, F = (double)config->decoder_ffn_dim;
    double layer = 6 * C * C + (config->use_glu ? 3 : 2) * C * F;
    return (double)config->decoder_layers * layer + C * (double)(config->image_vocab_size + 1);
}

int draw_measure(const seq2seq_config *config, nn_precision precision, const sampling_options *options, size_t rounds,
                 draw_measurement *out, limn_error *error) {
    size_t S = config->max_text_length, T = config->image_length, total;
    *out = (draw_measurement){0};
    if (sampling_options_check(options, error) || limn_multiply(options->count, T, &total, error)) return -1;
    seq2seq *model = seq2seq_create(config, 1, false, error);
    int32_t *ids = limn_allocate(4 * S, sizeof *ids, error), *tokens = limn_allocate(total, sizeof *tokens, error);
    int status = model && ids && tokens && seq2seq_prepare(model, precision, error) == 0 ? 0 : -1;
    if (status == 0) make_caption(ids, ids + 2 * S, config);
    const drawing_captions caption = {.ids = ids, .mask = ids + 2 * S, .captions = 1, .codes = config->image_vocab_size};
    for (size_t round = 0; round < rounds && status == 0; round++) {
        double begin = limn_seconds();
        status = seq2seq_draw(model, &caption, options, tokens, NULL, error);
        double seconds = limn_seconds() - begin;
        limn_log(LIMN_LOG_INFO, "round %zu: %.3f s, %.2f ms a step", round + 1, seconds, 1e3 * seconds / (double)T);
        if (round == 0 || seconds < out->seconds) out->seconds = seconds;
    }
    double rows = (double)options->count * (options->guidance < 1 || options->guidance > 1 ? 2 : 1);
    out->flops = 2 * rows * (double)T * count_weights(config);
    seq2seq_free(model);
    free(ids);
    free(tokens);
    return status;
}
