/* Drawing: guided rows decoded together, token by token. */
#include "seq2seq/seq2seq.h"

#include <stdlib.h>
#include <string.h>

/* Drawings that are made together: a step's weights are read once for all of them. Beyond this many there is nothing to gain.
 */
enum { DRAWINGS_AT_ONCE = 16 };

/* The memory of drawing some rows together. */
typedef struct {
    seq2seq_decoder *decoder;
    limn_arena *arena;
    size_t drawings, rows; /* twice the drawings under guidance */
    size_t texts;          /* captions read together: one, or one for each drawing */
    float *logits;         /* (rows,V) */
    int32_t *last;         /* (rows) */
    size_t *row_text;      /* (rows) */
    int32_t *ids, *mask;   /* (texts + 1, S) */
} easel;

static void easel_close(easel *self) {
    seq2seq_decoder_free(self->decoder);
    if (self->arena) limn_arena_destroy(self->arena);
    void *blocks[] = {self->logits, self->last, self->row_text, self->ids, self->mask};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    *self = (easel){0};
}

static int easel_open(easel *self, const seq2seq *model, size_t drawings, size_t captions, bool guided, limn_error *error) {
    const seq2seq_config *config = seq2seq_get_config(model);
    size_t V = config->image_vocab_size + 1, S = config->max_text_length;
    *self = (easel){.drawings = drawings, .rows = guided ? 2 * drawings : drawings, .texts = captions == 1 ? 1 : drawings};
    self->decoder = seq2seq_decoder_create(model, self->rows, error);
    self->arena = limn_arena_create(drawings * (16 * V + 64), error);
    self->logits = limn_allocate(self->rows, V * sizeof(float), error);
    self->last = limn_allocate(self->rows, sizeof *self->last, error);
    self->row_text = limn_allocate(self->rows, sizeof *self->row_text, error);
    self->ids = limn_allocate(self->texts + 1, S * sizeof *self->ids, error);
    self->mask = limn_allocate(self->texts + 1, S * sizeof *self->mask, error);
    if (self->decoder && self->arena && self->logits && self->last && self->row_text && self->ids && self->mask) return 0;
    easel_close(self);
    return -1;
}

/* Reads the captions of drawings `first` on. */
static void begin(easel *self, const seq2seq_config *config, const drawing_captions *captions, size_t first) {
    size_t S = config->max_text_length;
    for (size_t i = 0; i <= self->texts; i++) {
        size_t from = i < self->texts ? (first + i) % captions->captions : captions->captions;
        memcpy(self->ids + i * S, captions->ids + from * S, S * sizeof *self->ids);
        memcpy(self->mask + i * S, captions->mask + from * S, S * sizeof *self->mask);
    }
    for (size_t row = 0; row < self->rows; row++) {
        self->row_text[row] = row >= self->drawings ? self->texts : row % self->texts;
        self->last[row] = (int32_t)config->decoder_start_token_id;
    }
    bool guided = self->rows > self->drawings;
    seq2seq_decoder_begin(self->decoder, self->ids, self->mask, guided ? self->texts + 1 : self->texts, self->row_text);
}

/* Tokens (drawings,T) of drawings number `first` on; the last ones may be more than are wanted. */
static int draw_some(easel *self, const seq2seq_config *config, const drawing_captions *captions,
                     const sampling_options *options, size_t first, size_t wanted, int32_t *tokens,
                     const drawing_watcher *watcher, limn_error *error) {
    size_t T = config->image_length, V = config->image_vocab_size + 1;
    bool guided = self->rows > self->drawings;
    begin(self, config, captions, first);
    for (size_t t = 0; t < T; t++) {
        if (limn_stop_requested()) return limn_fail(error, "stopped");
        seq2seq_decoder_step(self->decoder, self->last, self->logits);
        sample_tokens(self->last, self->logits, guided ? self->logits + self->drawings * V : NULL, self->drawings, V,
                      captions->codes, options, first, t, self->arena);
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

int seq2seq_draw(const seq2seq *model, const drawing_captions *captions, const sampling_options *options, int32_t *tokens,
                 const drawing_watcher *watcher, limn_error *error) {
    bool guided = options->guidance < 1 || options->guidance > 1;
    /* batches as equal as can be: a step costs little more for sixteen than for nine */
    size_t most = drawings_at_once(model, guided), batches = options->count / most + (options->count % most > 0);
    size_t drawings = (options->count + batches - 1) / batches;
    easel self;
    int status = easel_open(&self, model, drawings, captions->captions, guided, error);
    for (size_t first = 0; first < options->count && status == 0; first += drawings) {
        size_t left = options->count - first;
        status = draw_some(&self, seq2seq_get_config(model), captions, options, first, left < drawings ? left : drawings,
                           tokens, watcher, error);
    }
    easel_close(&self);
    return status;
}
