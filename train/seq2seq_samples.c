/* Drawings by the model in training. */
#include "train/seq2seq_samples.h"

#include <stdlib.h>
#include <string.h>

int seq2seq_samples_create(seq2seq_samples *self, size_t length, limn_error *error) {
    self->length = length;
    self->options.count = 0;
    self->ids = limn_allocate(SAMPLE_CAPTIONS + 1, length * sizeof *self->ids, error);
    self->mask = limn_allocate(SAMPLE_CAPTIONS + 1, length * sizeof *self->mask, error);
    return self->ids && self->mask ? 0 : -1;
}

void seq2seq_samples_free(seq2seq_samples *self) {
    free(self->ids);
    free(self->mask);
    limn_buffer_free(&self->text);
    self->ids = self->mask = NULL;
}

int seq2seq_samples_add(seq2seq_samples *self, const caption_encoder *encoder, const char *caption, size_t size,
                        limn_error *error) {
    size_t S = self->length, at = self->options.count * S;
    if (caption_encoder_encode(encoder, caption, size, self->ids + at, self->mask + at, S, error) ||
        caption_encoder_encode_blank(encoder, self->ids + at + S, self->mask + at + S, S, error) ||
        limn_buffer_printf(&self->text, error, "%zu. %.*s\n", self->options.count + 1, (int)size, caption))
        return -1;
    self->options.count++;
    return 0;
}

int seq2seq_samples_add_prompts(seq2seq_samples *self, const caption_encoder *encoder, const json_t *section, const char *where,
                                limn_error *error) {
    const json_t *prompts = json_object_get(section, "sample_prompts");
    if (!prompts) return 0;
    size_t count = json_array_size(prompts);
    bool good = count > 0 && count <= SAMPLE_CAPTIONS;
    for (size_t i = 0; good && i < count; i++) good = json_is_string(json_array_get(prompts, i));
    if (!good) return limn_fail_usage(error, "%s: sample_prompts must be a list of 1 to %d sentences", where, SAMPLE_CAPTIONS);
    for (size_t i = 0; i < count; i++) {
        const json_t *prompt = json_array_get(prompts, i);
        if (seq2seq_samples_add(self, encoder, json_string_value(prompt), json_string_length(prompt), error)) return -1;
    }
    return 0;
}

/* The pictures of tokens (count,T) in one. */
static int draw_sheet(const vqgan *pictures, const int32_t *tokens, size_t count, picture *out, limn_error *error) {
    size_t side = vqgan_get_config(pictures)->resolution, T = vqgan_token_count(pictures), columns = 1, made = 0;
    limn_arena *arena = limn_arena_create((size_t)1 << 38, error); /* of address space */
    picture parts[SAMPLE_CAPTIONS] = {{0}};
    int status = arena ? 0 : -1;
    for (; status == 0 && made < count; made++) {
        float *pixels = limn_arena_floats(arena, side * side * 3);
        vqgan_decode(pictures, pixels, tokens + made * T, 1, arena);
        vqgan_pixels_from_model(pictures, pixels, pixels, side * side * 3);
        status = picture_from_floats(&parts[made], pixels, side, side, error);
        limn_arena_release(arena, 0);
    }
    while (columns * columns < count) columns++;
    if (status == 0) status = picture_grid(out, parts, count, columns, 2, error);
    for (size_t i = 0; i < SAMPLE_CAPTIONS; i++) picture_free(&parts[i]);
    limn_arena_destroy(arena);
    return status;
}

int seq2seq_samples_draw(const seq2seq_samples *self, const seq2seq *model, const vqgan *pictures, picture *out,
                         limn_error *error) {
    const drawing_captions captions = {
        .ids = self->ids, .mask = self->mask, .captions = self->options.count, .codes = vqgan_get_config(pictures)->n_embed};
    int32_t *tokens = limn_allocate(self->options.count, seq2seq_get_config(model)->image_length * sizeof *tokens, error);
    int status = tokens ? seq2seq_draw(model, &captions, &self->options, tokens, NULL, error) : -1;
    if (status == 0) status = draw_sheet(pictures, tokens, self->options.count, out, error);
    free(tokens);
    return status;
}
