#include "train/pair_stream.h"

#include <stdlib.h>

/* A group in memory. EARLY: could not be read before its time came, and is tried once more then. */
typedef enum { SLOT_EMPTY, SLOT_LOADING, SLOT_READY, SLOT_EARLY, SLOT_FAILED } slot_state;
typedef struct {
    slot_state state;
    bool busy;               /* the encoder reads in it */
    uint64_t first, count;   /* its draws */
    const pair_block *pairs; /* its own, or the stream's whole set */
    pair_block own;
    uint64_t *places; /* (count): the pair of each draw */
    limn_error error; /* FAILED */
} group_slot;

enum { SLOTS = 2 };

struct pair_stream {
    pair_stream_options options;
    uint64_t blank_stream, choice_stream;
    pthread_mutex_t mutex;
    pthread_cond_t reader_wakes, encoder_wakes, rows_ready;
    limn_threads reader, encoder;
    bool stops;
    /* of the reader alone */
    pair_order order;
    bool whole;
    pair_block all; /* whole: the one group of every epoch, read once */
    /* under the mutex */
    bool placed;          /* a first draw was asked for */
    uint64_t generation;  /* of what is in the queue: another after each jump */
    uint64_t begin;       /* the row of this stream, counted from its first draw on, that is first in the queue's generation */
    uint64_t made, taken; /* rows since `begin`; made - taken are ready, row i at i % ahead */
    bool failed;          /* no row can be made after `made`: why */
    limn_error error;
    group_slot slots[SLOTS];
    double waited;
    uint64_t pairs_peak;
    int32_t *input_ids, *attention_mask; /* (ahead,S): the queue */
    uint16_t *labels;                    /* (ahead,L) */
};

/* ---------------------------------------------------------------- rows */

int pair_rows_create(pair_rows *self, size_t rows, size_t S, size_t T, limn_error *error) {
    *self = (pair_rows){.input_ids = limn_allocate(rows, S * sizeof *self->input_ids, error),
                        .attention_mask = limn_allocate(rows, S * sizeof *self->attention_mask, error),
                        .decoder_input_ids = limn_allocate(rows, T * sizeof *self->decoder_input_ids, error),
                        .labels = limn_allocate(rows, T * sizeof *self->labels, error)};
    return self->input_ids && self->attention_mask && self->decoder_input_ids && self->labels ? 0 : -1;
}

void pair_rows_free(pair_rows *self) {
    void *blocks[] = {self->input_ids, self->attention_mask, self->decoder_input_ids, self->labels};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    *self = (pair_rows){0};
}

/* ---------------------------------------------------------------- which draws */

/* Row i of this stream is this draw of the run. */
static uint64_t draw_of(const pair_stream *self, uint64_t i) {
    const pair_stream_options *options = &self->options;
    return i / options->rows * options->stride + options->offset + i % options->rows;
}

/* The other way, for a draw that is one of ours. */
static bool row_of(const pair_stream *self, uint64_t draw, uint64_t *out) {
    const pair_stream_options *options = &self->options;
    if (draw < options->offset || (draw - options->offset) % options->stride >= options->rows) return false;
    *out = (draw - options->offset) / options->stride * options->rows + (draw - options->offset) % options->stride;
    return true;
}

/* Our first draw that is not before this one. */
static uint64_t next_draw(const pair_stream *self, uint64_t draw) {
    const pair_stream_options *options = &self->options;
    if (draw <= options->offset) return options->offset;
    uint64_t period = (draw - options->offset) / options->stride, inside = (draw - options->offset) % options->stride;
    return options->offset + (inside < options->rows ? period * options->stride + inside : (period + 1) * options->stride);
}

static uint64_t position(const pair_stream *self) {
    return draw_of(self, self->begin + self->made);
}

static group_slot *slot_with(pair_stream *self, uint64_t draw) {
    for (size_t i = 0; i < SLOTS; i++) {
        group_slot *slot = &self->slots[i];
        if (slot->state != SLOT_EMPTY && draw >= slot->first && draw - slot->first < slot->count) return slot;
    }
    return NULL;
}

/* ---------------------------------------------------------------- the reader */

/* A slot for the group, not the one to keep; NULL while the encoder is still in it. */
static group_slot *free_slot(pair_stream *self, const group_slot *keep) {
    for (size_t i = 0; i < SLOTS; i++)
        if (&self->slots[i] != keep && !self->slots[i].busy) return &self->slots[i];
    return NULL;
}

/* What to read now: the group that rows are made of, else the one after it. NULL: nothing. */
static group_slot *choose_slot(pair_stream *self, pair_group *group) {
    if (!self->placed) return NULL;
    uint64_t draw = position(self);
    group_slot *now = slot_with(self, draw);
    if (!now || now->state == SLOT_EARLY) {
        pair_order_find(&self->order, draw, group);
        return now && !now->busy ? now : free_slot(self, NULL);
    }
    if (now->state != SLOT_READY) return NULL;
    draw = next_draw(self, now->first + now->count);
    if (slot_with(self, draw)) return NULL;
    pair_order_find(&self->order, draw, group);
    return free_slot(self, now);
}

static uint64_t pairs_in_memory(const pair_stream *self) {
    uint64_t sum = self->all.count;
    for (size_t i = 0; i < SLOTS; i++) sum += self->slots[i].own.count;
    return sum;
}

static int read_group(pair_stream *self, group_slot *slot, const pair_group *group, limn_error *error) {
    pair_block *block = self->whole ? &self->all : &slot->own;
    free(slot->places);
    slot->places = limn_allocate((size_t)group->count, sizeof *slot->places, error);
    if (!slot->places) return -1;
    pair_order_places(&self->order, group, slot->places);
    if (!self->whole) pair_block_free(&slot->own);
    slot->pairs = block;
    if (block->count) return 0;
    return pair_set_read(self->options.set, group->shards, group->shard_count, group->count, block, error);
}

static void *run_reader(void *context) {
    pair_stream *self = context;
    pair_group group;
    pthread_mutex_lock(&self->mutex);
    while (!self->stops) {
        group_slot *slot = choose_slot(self, &group);
        if (!slot) {
            pthread_cond_wait(&self->reader_wakes, &self->mutex);
            continue;
        }
        slot->state = SLOT_LOADING;
        slot->first = group.first;
        slot->count = group.count;
        slot->error = (limn_error){0};
        pthread_mutex_unlock(&self->mutex);
        int status = read_group(self, slot, &group, &slot->error);
        pthread_mutex_lock(&self->mutex);
        bool in_time = slot_with(self, position(self)) == slot;
        slot->state = status == 0 ? SLOT_READY : in_time ? SLOT_FAILED : SLOT_EARLY;
        uint64_t pairs = pairs_in_memory(self);
        if (pairs > self->pairs_peak) self->pairs_peak = pairs;
        pthread_cond_signal(&self->encoder_wakes);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

/* ---------------------------------------------------------------- the encoder */

static int make_row(const pair_stream *self, const group_slot *slot, uint64_t draw, size_t row, limn_error *error) {
    const pair_stream_options *options = &self->options;
    size_t n = (size_t)slot->places[draw - slot->first], S = options->text_length, L = slot->pairs->length, size = 0;
    uint64_t choice = options->shuffled ? limn_random_u32(options->seed, self->choice_stream, draw) : 0;
    bool blank = limn_random_uniform(options->seed, self->blank_stream, draw) < (float)options->condition_dropout;
    const char *caption = pair_block_caption(slot->pairs, n, choice, &size);
    int32_t *ids = self->input_ids + row * S, *mask = self->attention_mask + row * S;
    memcpy(self->labels + row * L, slot->pairs->tokens + n * L, L * sizeof *self->labels);
    return blank ? caption_encoder_encode_blank(options->captions, ids, mask, S, error)
                 : caption_encoder_encode(options->captions, caption, size, ids, mask, S, error);
}

/* The slot that the next row is made from; NULL while there is nothing to do. */
static group_slot *next_row(pair_stream *self) {
    if (!self->placed || self->failed || self->made - self->taken == self->options.ahead) return NULL;
    group_slot *slot = slot_with(self, position(self));
    if (slot && slot->state == SLOT_FAILED) {
        self->failed = true;
        self->error = slot->error;
        pthread_cond_signal(&self->rows_ready);
    }
    if (slot && slot->state == SLOT_READY) return slot;
    pthread_cond_signal(&self->reader_wakes);
    return NULL;
}

static void *run_encoder(void *context) {
    pair_stream *self = context;
    pthread_mutex_lock(&self->mutex);
    while (!self->stops) {
        group_slot *slot = next_row(self);
        if (!slot) {
            pthread_cond_wait(&self->encoder_wakes, &self->mutex);
            continue;
        }
        uint64_t draw = position(self), generation = self->generation;
        size_t row = (size_t)(self->made % self->options.ahead);
        limn_error error = {0};
        slot->busy = true;
        pthread_mutex_unlock(&self->mutex);
        int status = make_row(self, slot, draw, row, &error);
        pthread_mutex_lock(&self->mutex);
        slot->busy = false;
        if (generation != self->generation) { /* nobody wants the row any more, but perhaps its slot */
            pthread_cond_signal(&self->reader_wakes);
            continue;
        }
        if (status == 0)
            self->made++;
        else {
            self->failed = true;
            self->error = error;
        }
        if (slot_with(self, position(self)) != slot) pthread_cond_signal(&self->reader_wakes);
        pthread_cond_signal(&self->rows_ready);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

/* ---------------------------------------------------------------- the caller's side */

static int check_options(const pair_stream_options *options, limn_error *error) {
    if (options->rows && options->ahead && options->stride >= options->rows &&
        options->offset <= options->stride - options->rows)
        return 0;
    return limn_fail(error, "%llu of every %llu pairs from %llu on cannot be taken, %zu ahead",
                     (unsigned long long)options->rows, (unsigned long long)options->stride,
                     (unsigned long long)options->offset, options->ahead);
}

static int allocate(pair_stream *self, limn_error *error) {
    const pair_stream_options *options = &self->options;
    size_t text, image;
    if (limn_multiply(options->ahead, options->text_length, &text, error) ||
        limn_multiply(options->ahead, options->set->needs.length, &image, error) ||
        pair_order_create(&self->order, options->set->pairs, options->set->count, options->shuffled, options->buffer,
                          options->seed, error))
        return -1;
    self->whole = pair_order_is_whole(&self->order);
    self->input_ids = limn_allocate(text, sizeof *self->input_ids, error);
    self->attention_mask = limn_allocate(text, sizeof *self->attention_mask, error);
    self->labels = limn_allocate(image, sizeof *self->labels, error);
    return self->input_ids && self->attention_mask && self->labels ? 0 : -1;
}

pair_stream *pair_stream_open(const pair_stream_options *options, limn_error *error) {
    if (check_options(options, error)) return NULL;
    pair_stream *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->options = *options;
    self->blank_stream = limn_random_stream("blank captions");
    self->choice_stream = limn_random_stream("caption choice");
    pthread_mutex_init(&self->mutex, NULL);
    limn_condition_init(&self->reader_wakes);
    limn_condition_init(&self->encoder_wakes);
    limn_condition_init(&self->rows_ready);
    if (allocate(self, error) == 0 && limn_threads_start(&self->reader, 1, run_reader, self, error) == 0 &&
        limn_threads_start(&self->encoder, 1, run_encoder, self, error) == 0)
        return self;
    pair_stream_close(self);
    return NULL;
}

void pair_stream_close(pair_stream *self) {
    if (!self) return;
    pthread_mutex_lock(&self->mutex);
    self->stops = true;
    pthread_cond_broadcast(&self->reader_wakes);
    pthread_cond_broadcast(&self->encoder_wakes);
    pthread_mutex_unlock(&self->mutex);
    limn_threads_join(&self->reader);
    limn_threads_join(&self->encoder);
    pthread_cond_destroy(&self->reader_wakes);
    pthread_cond_destroy(&self->encoder_wakes);
    pthread_cond_destroy(&self->rows_ready);
    pthread_mutex_destroy(&self->mutex);
    for (size_t i = 0; i < SLOTS; i++) {
        pair_block_free(&self->slots[i].own);
        free(self->slots[i].places);
    }
    pair_block_free(&self->all);
    pair_order_free(&self->order);
    free(self->input_ids);
    free(self->attention_mask);
    free(self->labels);
    free(self);
}

/* Empties the queue and has it filled from this row on. */
static void jump(pair_stream *self, uint64_t row) {
    self->generation++;
    self->placed = true;
    self->begin = row;
    self->made = self->taken = 0;
    self->failed = false;
    for (size_t i = 0; i < SLOTS; i++)
        if (self->slots[i].state == SLOT_FAILED || self->slots[i].state == SLOT_EARLY) self->slots[i].state = SLOT_EMPTY;
    pthread_cond_signal(&self->reader_wakes);
    pthread_cond_signal(&self->encoder_wakes);
}

static void wait_for_rows(pair_stream *self, size_t rows) {
    if (self->made - self->taken >= rows) return;
    double begin = limn_seconds();
    while (self->made - self->taken < rows && !self->failed) pthread_cond_wait(&self->rows_ready, &self->mutex);
    self->waited += limn_seconds() - begin;
}

static void copy_rows(const pair_stream *self, uint64_t from, size_t rows, int32_t *input_ids, int32_t *attention_mask,
                      int32_t *labels) {
    size_t S = self->options.text_length, L = self->options.set->needs.length;
    for (size_t i = 0; i < rows; i++) {
        size_t row = (size_t)((from + i) % self->options.ahead);
        memcpy(input_ids + i * S, self->input_ids + row * S, S * sizeof *input_ids);
        memcpy(attention_mask + i * S, self->attention_mask + row * S, S * sizeof *attention_mask);
        for (size_t t = 0; t < L; t++) labels[i * L + t] = self->labels[row * L + t];
    }
}

int pair_stream_fill(pair_stream *self, uint64_t draw, size_t rows, int32_t *input_ids, int32_t *attention_mask,
                     int32_t *labels, limn_error *error) {
    uint64_t row;
    if (rows > self->options.ahead || !row_of(self, draw, &row))
        return limn_fail(error, "%zu rows from draw %llu on are not this stream's", rows, (unsigned long long)draw);
    pthread_mutex_lock(&self->mutex);
    if (!self->placed || row != self->begin + self->taken) jump(self, row);
    wait_for_rows(self, rows);
    if (self->made - self->taken < rows) {
        if (error) *error = self->error;
        self->placed = false; /* the next call looks whether the file is back */
        pthread_mutex_unlock(&self->mutex);
        return -1;
    }
    uint64_t from = self->taken;
    pthread_mutex_unlock(&self->mutex);
    copy_rows(self, from, rows, input_ids, attention_mask, labels); /* the encoder writes beyond `made` alone */
    pthread_mutex_lock(&self->mutex);
    self->taken += rows;
    pthread_cond_signal(&self->encoder_wakes);
    pthread_mutex_unlock(&self->mutex);
    return 0;
}

double pair_stream_waited(pair_stream *self) {
    pthread_mutex_lock(&self->mutex);
    double waited = self->waited;
    pthread_mutex_unlock(&self->mutex);
    return waited;
}

uint64_t pair_stream_pairs_peak(pair_stream *self) {
    pthread_mutex_lock(&self->mutex);
    uint64_t pairs = self->pairs_peak;
    pthread_mutex_unlock(&self->mutex);
    return pairs;
}
