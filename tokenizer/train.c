/* Training: words are counted by all threads, then merges are made (merges.c), and a tokenizer is put together. */
#include "formats/formats.h"
#include "tokenizer/internal.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES = 8 << 20 };

struct tokenizer_trainer {
    limn_buffer batch; /* texts that are not counted yet */
    size_t *ends;      /* of each text in the batch */
    size_t texts, capacity;
    unsigned char *classes;
    word_counts *counts; /* one for each thread */
    size_t threads;
    const text_normalizer *normalizer; /* NULL: texts are learnt as they are */
    limn_buffer *normal;               /* of each thread */
};

tokenizer_trainer *tokenizer_trainer_create(limn_error *error) {
    tokenizer_trainer *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->threads = limn_get_threads();
    self->classes = unicode_classes_create(error);
    self->counts = limn_allocate(self->threads, sizeof *self->counts, error);
    self->normal = limn_allocate(self->threads, sizeof *self->normal, error);
    if (!self->classes || !self->counts || !self->normal) {
        tokenizer_trainer_free(self);
        return NULL;
    }
    return self;
}

void tokenizer_trainer_free(tokenizer_trainer *self) {
    if (!self) return;
    for (size_t i = 0; self->counts && i < self->threads; i++) word_counts_free(&self->counts[i]);
    for (size_t i = 0; self->normal && i < self->threads; i++) limn_buffer_free(&self->normal[i]);
    free(self->counts);
    free(self->normal);
    free(self->classes);
    free(self->ends);
    limn_buffer_free(&self->batch);
    free(self);
}

void tokenizer_trainer_normalize(tokenizer_trainer *self, const text_normalizer *normalizer) {
    self->normalizer = normalizer;
}

/* A text's words, by thread number `thread`; bytes up to text[readable) may be looked at. */
static int count_text(tokenizer_trainer *self, size_t thread, const char *text, size_t size, size_t readable,
                      limn_error *error) {
    limn_buffer *normal = &self->normal[thread];
    if (!self->normalizer) return word_counts_add_text(&self->counts[thread], self->classes, text, size, readable, error);
    normal->size = 0;
    if (text_normalize(self->normalizer, text, size, normal, error)) return -1;
    return word_counts_add_text(&self->counts[thread], self->classes, normal->data, normal->size, normal->size, error);
}

/* ---------------------------------------------------------------- one text at a time */

static int count_batch(tokenizer_trainer *self, limn_error *error) {
    int failed = 0;
    limn_error failure = {0};
#pragma omp parallel for schedule(dynamic, 256) num_threads((int)self->threads)
    for (size_t i = 0; i < self->texts; i++) {
        limn_error mine = {0};
        size_t start = i ? self->ends[i - 1] : 0;
        if (count_text(self, (size_t)omp_get_thread_num(), self->batch.data + start, self->ends[i] - start,
                       self->batch.size - start, &mine)) {
#pragma omp critical(limn_tokenizer_count)
            {
                failed = 1;
                failure = mine;
            }
        }
    }
    self->batch.size = 0;
    self->texts = 0;
    return failed ? limn_fail(error, "%s", failure.message) : 0;
}

int tokenizer_trainer_add(tokenizer_trainer *self, const char *text, size_t size, limn_error *error) {
    if (size > TOKENIZER_MAX_TEXT)
        return limn_fail(error, "a text of %zu bytes is longer than the %d that a caption may have", size, TOKENIZER_MAX_TEXT);
    if (size == 0) return 0;
    if (self->texts == self->capacity) {
        size_t capacity = self->capacity ? 2 * self->capacity : 1024;
        size_t *ends = realloc(self->ends, capacity * sizeof *ends);
        if (!ends) return limn_fail(error, "not enough memory for %zu texts", capacity);
        self->ends = ends;
        self->capacity = capacity;
    }
    if (limn_buffer_append(&self->batch, text, size, error)) return -1;
    self->ends[self->texts++] = self->batch.size;
    return self->batch.size >= BATCH_BYTES ? count_batch(self, error) : 0;
}

/* ---------------------------------------------------------------- files */

/* limn_utf8_valid, where most is ASCII. */
static bool valid_utf8(const char *text, size_t size) {
    size_t ascii = 0;
    for (uint64_t bytes; size - ascii >= 8; ascii += 8) {
        memcpy(&bytes, text + ascii, 8);
        if (bytes & 0x8080808080808080u) break;
    }
    return limn_utf8_valid(text + ascii, size - ascii);
}

/* Counts one caption; false: it is too long and left out. */
static bool note_caption(tokenizer_corpus *corpus, const char *text, size_t size) {
    if (size > TOKENIZER_MAX_TEXT) {
        corpus->too_long++;
        return false;
    }
    corpus->captions++;
    corpus->bytes += size;
    if (!valid_utf8(text, size)) corpus->not_utf8++;
    return true;
}

static int add_tar(tokenizer_trainer *trainer, const char *path, tokenizer_corpus *corpus, limn_progress *progress,
                   limn_error *error) {
    tar_reader *reader = tar_reader_open(path, error);
    tar_sample sample;
    limn_buffer led = {0};
    int got = -1, status = reader ? 0 : -1;
    while (status == 0 && (got = tar_reader_next(reader, &sample, error)) == 1) {
        if (limn_stop_requested()) status = limn_fail(error, "stopped at %s; run the same command to train anew", path);
        if (!sample.caption || sample.caption_size == 0 || status) continue;
        led.size = 0;
        if (sample.caption[0] != ' ') status = limn_buffer_append(&led, " ", 1, error);
        if (status == 0) status = limn_buffer_append(&led, sample.caption, sample.caption_size, error);
        if (status == 0 && note_caption(corpus, led.data, led.size))
            status = tokenizer_trainer_add(trainer, led.data, led.size, error);
        limn_progress_update(progress, corpus->captions, "%s", path);
    }
    limn_buffer_free(&led);
    if (reader) tar_reader_close(reader);
    return got < 0 ? -1 : status;
}

/* What a thread found in its block. */
typedef struct {
    tokenizer_corpus corpus;
    uint64_t lines;
    int status;
    limn_error error;
} counted_block;
typedef struct {
    tokenizer_trainer *trainer;
    tokenizer_corpus *corpus;
    limn_progress *progress;
    counted_block *found; /* of each thread */
} line_counting;

static void count_block(void *context, size_t thread, const line_block *block) {
    line_counting *counting = context;
    tokenizer_trainer *trainer = counting->trainer;
    counted_block *found = &counting->found[thread];
    *found = (counted_block){0};
    for (size_t start = 0, next; start < block->size && found->status == 0; start = next) {
        const char *line = block->data + start;
        size_t length = line_length(block, start, &next);
        if (note_caption(&found->corpus, line, length))
            found->status = count_text(trainer, thread, line, length, block->readable - start, &found->error);
        found->lines++;
    }
}

static int add_counts(void *context, size_t thread, const char *name, uint64_t *line, limn_error *error) {
    const line_counting *counting = context;
    const counted_block *found = &counting->found[thread];
    if (found->status) return limn_fail(error, "%s: %s", name, found->error.message);
    counting->corpus->captions += found->corpus.captions;
    counting->corpus->bytes += found->corpus.bytes;
    counting->corpus->not_utf8 += found->corpus.not_utf8;
    counting->corpus->too_long += found->corpus.too_long;
    *line += found->lines;
    limn_progress_update(counting->progress, counting->corpus->captions, "%s", name);
    return 0;
}

int tokenizer_trainer_add_file(tokenizer_trainer *trainer, const char *path, tokenizer_corpus *corpus, limn_progress *progress,
                               limn_error *error) {
    size_t length = strlen(path);
    if (length > 4 && strcmp(path + length - 4, ".tar") == 0) return add_tar(trainer, path, corpus, progress, error);
    line_counting counting = {trainer, corpus, progress, limn_allocate(trainer->threads, sizeof *counting.found, error)};
    if (!counting.found) return -1;
    int status = for_each_block(path, trainer->threads, &(line_work){&counting, count_block, add_counts}, error);
    free(counting.found);
    return status;
}

/* ---------------------------------------------------------------- the result */

/* The tokenizer of the tokens and rules that came out. */
static tokenizer *build(const string_list *tokens, const merge_list *merges, limn_error *error) {
    tokenizer *self = tokenizer_create(error);
    limn_buffer text = {0};
    if (!self) return NULL;
    for (size_t id = 0; id < tokens->count; id++) {
        const char *bytes = string_list_at(tokens, id);
        text.size = 0;
        for (size_t i = 0; i < string_list_size_at(tokens, id); i++) {
            char character[4];
            size_t length = limn_utf8_encode(byte_character((unsigned char)bytes[i]), character);
            if (limn_buffer_append(&text, character, length, error)) goto failed;
        }
        if (tokenizer_add_token(self, text.data, text.size, error)) goto failed;
    }
    for (size_t id = 0; id < TOKENIZER_SPECIALS; id++)
        if (tokenizer_add_added(self, &(added_token){.id = (int32_t)id, .special = true}, error)) goto failed;
    if (tokenizer_set_merges(self, merges->rules, merges->count, error) ||
        tokenizer_complete(self, "the trained tokenizer", error))
        goto failed;
    limn_buffer_free(&text);
    return self;
failed:
    limn_buffer_free(&text);
    tokenizer_free(self);
    return NULL;
}

tokenizer *tokenizer_trainer_finish(tokenizer_trainer *trainer, size_t vocabulary_size, size_t min_frequency,
                                    limn_error *error) {
    if (vocabulary_size < TOKENIZER_BASE || vocabulary_size > INT32_MAX) {
        limn_fail_usage(error,
                        "a vocabulary of %zu tokens is not possible: it has %d special ones and bytes, and at most %d tokens",
                        vocabulary_size, TOKENIZER_BASE, INT32_MAX);
        return NULL;
    }
    string_list tokens = {0};
    merge_list merges = {0};
    tokenizer *self = NULL;
    unsigned char order[256];
    alphabet_order(order);
    int status = count_batch(trainer, error);
    for (size_t i = 1; i < trainer->threads && status == 0; i++) {
        status = word_counts_merge(&trainer->counts[0], &trainer->counts[i], error);
        word_counts_free(&trainer->counts[i]);
    }
    for (size_t i = 0; i < TOKENIZER_SPECIALS && status == 0; i++)
        status = string_list_add(&tokens, special_names[i], strlen(special_names[i]), error);
    for (size_t i = 0; i < 256 && status == 0; i++) status = string_list_add(&tokens, (const char *)&order[i], 1, error);
    if (status == 0) status = make_merges(&trainer->counts[0], vocabulary_size, min_frequency, &tokens, &merges, error);
    if (status == 0) self = build(&tokens, &merges, error);
    string_list_free(&tokens);
    free(merges.rules);
    return self;
}
