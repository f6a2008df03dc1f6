/* The model folder, and drawing one prompt. */
#include "infer/internal.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Drawings that are made together: a step's weights are read once for all of them. Beyond this many there is nothing to gain.
 */
enum { DRAWINGS_AT_ONCE = 16 };

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

/* The memory of drawing some rows together. */
typedef struct {
    seq2seq_decoder *decoder;
    limn_arena *arena;
    size_t drawings, rows; /* twice the drawings under guidance */
    float *logits;         /* (rows,V) */
    int32_t *last;         /* (rows) */
    size_t *row_text;      /* (rows) */
} easel;

static void easel_close(easel *self) {
    seq2seq_decoder_free(self->decoder);
    if (self->arena) limn_arena_destroy(self->arena);
    free(self->logits);
    free(self->last);
    free(self->row_text);
    *self = (easel){0};
}

static int easel_open(easel *self, const seq2seq *model, size_t drawings, bool guided, limn_error *error) {
    size_t V = seq2seq_get_config(model)->image_vocab_size + 1;
    *self = (easel){.drawings = drawings, .rows = guided ? 2 * drawings : drawings};
    self->decoder = seq2seq_decoder_create(model, self->rows, error);
    self->arena = limn_arena_create(drawings * (16 * V + 64), error);
    self->logits = limn_allocate(self->rows, V * sizeof(float), error);
    self->last = limn_allocate(self->rows, sizeof *self->last, error);
    self->row_text = limn_allocate(self->rows, sizeof *self->row_text, error);
    if (self->decoder && self->arena && self->logits && self->last && self->row_text) return 0;
    easel_close(self);
    return -1;
}

/* Tokens (drawings,T) of drawings number `first` on; the last ones may be more than are wanted. */
static int draw_some(easel *self, const caption_ids *caption, const sampling_options *options, size_t first, size_t wanted,
                     int32_t *tokens, const drawing_watcher *watcher, limn_error *error) {
    const seq2seq_config *config = seq2seq_get_config(caption->model);
    size_t T = config->image_length, V = config->image_vocab_size + 1;
    bool guided = self->rows > self->drawings;
    for (size_t row = 0; row < self->rows; row++) {
        self->row_text[row] = row >= self->drawings;
        self->last[row] = (int32_t)config->decoder_start_token_id;
    }
    seq2seq_decoder_begin(self->decoder, caption->ids, caption->mask, guided ? 2 : 1, self->row_text);
    for (size_t t = 0; t < T; t++) {
        if (limn_stop_requested()) return limn_fail(error, "stopped");
        seq2seq_decoder_step(self->decoder, self->last, self->logits);
        sample_tokens(self->last, self->logits, guided ? self->logits + self->drawings * V : NULL, self->drawings, V,
                      caption->codes, options, first, t, self->arena);
        if (guided) memcpy(self->last + self->drawings, self->last, self->drawings * sizeof *self->last);
        for (size_t i = 0; i < wanted; i++) tokens[(first + i) * T + t] = self->last[i];
        if (watcher) watcher->step(watcher->context, first, wanted, t + 1);
    }
    return 0;
}

/* As many as half of the memory that is free holds. */
static size_t drawings_at_once(const seq2seq *model, bool guided) {
    size_t most = DRAWINGS_AT_ONCE, memory = limn_memory_available() / 2;
    while (most > 1 && seq2seq_decoder_bytes(model, guided ? 2 * most : most) > memory) most--;
    return most;
}

int draw_caption(const caption_ids *caption, const sampling_options *options, int32_t *tokens, const drawing_watcher *watcher,
                 limn_error *error) {
    bool guided = options->guidance < 1 || options->guidance > 1;
    /* batches as equal as can be: a step costs little more for sixteen than for nine */
    size_t most = drawings_at_once(caption->model, guided), batches = options->count / most + (options->count % most > 0);
    size_t drawings = (options->count + batches - 1) / batches;
    easel self;
    int status = easel_open(&self, caption->model, drawings, guided, error);
    for (size_t first = 0; first < options->count && status == 0; first += drawings) {
        size_t left = options->count - first;
        status = draw_some(&self, caption, options, first, left < drawings ? left : drawings, tokens, watcher, error);
    }
    easel_close(&self);
    return status;
}

int draw_tokens(const drawing_model *model, const char *prompt, const sampling_options *options, int32_t *tokens,
                const drawing_watcher *watcher, limn_error *error) {
    size_t S = seq2seq_get_config(model->seq2seq)->max_text_length;
    if (sampling_options_check(options, error)) return -1;
    int32_t *ids = limn_allocate(4 * S, sizeof *ids, error); /* ids and masks of the prompt and of none */
    if (!ids) return -1;
    int32_t *mask = ids + 2 * S;
    const caption_ids caption = {
        .model = model->seq2seq, .ids = ids, .mask = mask, .codes = vqgan_get_config(model->vqgan)->n_embed};
    int status = caption_encoder_encode(&model->captions, prompt, strlen(prompt), ids, mask, S, error);
    if (status == 0) status = caption_encoder_encode_blank(&model->captions, ids + S, mask + S, S, error);
    if (status == 0) status = draw_caption(&caption, options, tokens, watcher, error);
    free(ids);
    return status;
}
