/* The model folder, and drawing one prompt. */
#include "infer/internal.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int check_parts(const drawing_model *model, const char *directory, limn_error *error) {
    const seq2seq_config *config = seq2seq_get_config(model->seq2seq);
    size_t tokens = vqgan_token_count(model->vqgan), codes = vqgan_get_config(model->vqgan)->n_embed,
           words = tokenizer_vocabulary_size(model->captions.tokenizer);
    if (config->image_length != tokens)
        return limn_fail(error, "%s: the model draws %zu tokens, but vqgan/ has %zu a picture; it is another VQGAN's",
                         directory, config->image_length, tokens);
    if (config->image_vocab_size < codes)
        return limn_fail(error, "%s: the model knows %zu image tokens, but vqgan/ has %zu codes; it is another VQGAN's",
                         directory, config->image_vocab_size, codes);
    if (config->encoder_vocab_size < words)
        return limn_fail(error, "%s: the model knows %zu words, but its tokenizer has %zu; it is another model's", directory,
                         config->encoder_vocab_size, words);
    return 0;
}

/* What is published of DALL·E Mini has its VQGAN elsewhere. */
static int find_vqgan(char path[PATH_MAX], const char *directory, limn_error *error) {
    char config[PATH_MAX];
    if (limn_path_join(path, PATH_MAX, directory, "vqgan", error) ||
        limn_path_join(config, sizeof config, directory, "config.json", error))
        return -1;
    if (!limn_file_exists(config) || limn_file_exists(path)) return 0;
    return limn_fail_usage(error, "%s has no vqgan/ to draw with; limn-convert --vqgan puts one beside the model", directory);
}

int drawing_model_load(drawing_model *model, const char *directory, nn_precision precision, limn_error *error) {
    char path[PATH_MAX];
    *model = (drawing_model){0};
    if (find_vqgan(path, directory, error) == 0 && (model->vqgan = vqgan_load_decoder(path, precision, error)) &&
        (model->seq2seq = seq2seq_load(directory, false, error)) &&
        caption_encoder_load(&model->captions, directory, seq2seq_get_config(model->seq2seq)->normalize_text, error) == 0 &&
        check_parts(model, directory, error) == 0 && seq2seq_prepare(model->seq2seq, precision, error) == 0)
        return 0;
    drawing_model_free(model);
    return -1;
}

void drawing_model_free(drawing_model *model) {
    if (model->seq2seq) seq2seq_free(model->seq2seq);
    if (model->vqgan) vqgan_free(model->vqgan);
    caption_encoder_free(&model->captions);
    *model = (drawing_model){0};
}

int sampling_options_check(const sampling_options *options, limn_error *error) {
    if (options->count == 0) return limn_fail_usage(error, "--count must be at least 1");
    if (options->seed > INT64_MAX) return limn_fail_usage(error, "--seed must be at most %lld", (long long)INT64_MAX);
    if (!isfinite(options->guidance) || fabs(options->guidance) > 1e6)
        return limn_fail_usage(error, "--guidance %g is impossible; 1 is none, 3 to 10 is usual", options->guidance);
    if (!isfinite(options->temperature) || options->temperature < 0)
        return limn_fail_usage(error, "--temperature %g is impossible; 0 takes the most likely token, 1 is usual",
                               options->temperature);
    if (!(options->top_p > 0 && options->top_p <= 1))
        return limn_fail_usage(error, "--top-p %g is impossible; it is a share above 0 and up to 1", options->top_p);
    return 0;
}

int draw_tokens(const drawing_model *model, const char *prompt, const sampling_options *options, int32_t *tokens,
                const drawing_watcher *watcher, limn_error *error) {
    size_t S = seq2seq_get_config(model->seq2seq)->max_text_length;
    if (sampling_options_check(options, error)) return -1;
    int32_t *ids = limn_allocate(4 * S, sizeof *ids, error); /* ids and masks of the prompt and of none */
    if (!ids) return -1;
    int32_t *mask = ids + 2 * S;
    const drawing_captions one = {.ids = ids, .mask = mask, .captions = 1, .codes = vqgan_get_config(model->vqgan)->n_embed};
    int status = caption_encoder_encode(&model->captions, prompt, strlen(prompt), ids, mask, S, error);
    if (status == 0) status = caption_encoder_encode_blank(&model->captions, ids + S, mask + S, S, error);
    if (status == 0) status = seq2seq_draw(model->seq2seq, &one, options, tokens, watcher, error);
    free(ids);
    return status;
}
