/* Batches of pictures decoded ahead. Two batches have room: while one computes, the next is decoded picture by picture, by as
 * many threads as have nothing to do; each takes the next draw under the lock, which also keeps the epoch's order. */
#include "train/picture_set.h"

#include <stdlib.h>
#include <string.h>

enum { AHEAD = 2, MOST_THREADS = 8, COMPUTING_PER_THREAD = 8, TRIES = 100, WARNINGS = 5 };

typedef struct {
    uint64_t number; /* of the batch */
    size_t taken, done;
    limn_error error; /* of the first that failed; its exit_code tells */
    float *pictures;
} slot;

struct picture_stream {
    const picture_set *set;
    size_t side, batch;
    uint64_t seed;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* work came, or was done */
    limn_threads threads;
    /* under the lock */
    bool stopping;
    size_t busy; /* threads that are decoding */
    slot slots[AHEAD];
    uint64_t next; /* the batch that will be asked for, as things go on */
    uint64_t *order, epoch;
    size_t replaced;
};

/* ---------------------------------------------------------------- order */

size_t data_order_at(uint64_t *order, uint64_t *epoch, size_t count, uint64_t seed, uint64_t draw) {
    uint64_t wanted = draw / count;
    if (*epoch != wanted) {
        for (size_t i = 0; i < count; i++) order[i] = i;
        limn_random_shuffle(order, count, seed, limn_random_stream("data order") + wanted);
        *epoch = wanted;
    }
    return (size_t)order[draw % count];
}

/* ---------------------------------------------------------------- decoding */

/* The picture `further` places after a draw's, within its epoch. With the lock. */
static size_t picture_of(picture_stream *self, uint64_t draw, size_t further) {
    const uint64_t count = self->set->count, epoch = draw / count;
    return data_order_at(self->order, &self->epoch, self->set->count, self->seed,
                         epoch * count + (draw % count + further) % count);
}

/* One draw into its place. `n` is its picture. Without the lock. */
static int decode_draw(picture_stream *self, uint64_t draw, size_t n, float *out, limn_buffer *room, limn_error *error) {
    const size_t tries = self->set->count < TRIES ? self->set->count : TRIES;
    for (size_t further = 0; further < tries; further++) {
        int status = picture_set_decode(self->set, n, self->side, out, room, error);
        if (status <= 0) return status;
        pthread_mutex_lock(&self->lock);
        const bool warns = self->replaced++ < WARNINGS;
        n = picture_of(self, draw, further + 1);
        pthread_mutex_unlock(&self->lock);
        if (warns) limn_log(LIMN_LOG_WARNING, "%s; another is taken in its place", error->message);
    }
    return limn_fail_context(error, "%zu pictures in a row cannot be decoded, the last being", tries);
}

/* The slot with a picture that nobody has taken, the earlier batch's first. With the lock. */
static slot *find_work(picture_stream *self) {
    slot *found = NULL;
    for (size_t i = 0; i < AHEAD; i++) {
        slot *here = &self->slots[i];
        if (here->taken < self->batch && !here->error.exit_code && (!found || here->number < found->number)) found = here;
    }
    return found;
}

static void *work(void *context) {
    picture_stream *self = context;
    const size_t floats = self->side * self->side * 3;
    limn_buffer room = {0};
    pthread_mutex_lock(&self->lock);
    while (!self->stopping) {
        slot *here = find_work(self);
        if (!here) {
            pthread_cond_wait(&self->changed, &self->lock);
            continue;
        }
        const size_t b = here->taken++;
        const uint64_t draw = (here->number - 1) * self->batch + b;
        const size_t n = picture_of(self, draw, 0);
        limn_error error = {0};
        self->busy++;
        pthread_mutex_unlock(&self->lock);
        int failed = decode_draw(self, draw, n, here->pictures + b * floats, &room, &error);
        pthread_mutex_lock(&self->lock);
        self->busy--;
        here->done++;
        if (failed && !here->error.exit_code) here->error = error;
        pthread_cond_broadcast(&self->changed);
    }
    pthread_mutex_unlock(&self->lock);
    limn_buffer_free(&room);
    return NULL;
}

/* ---------------------------------------------------------------- taking */

static void begin(slot *self, uint64_t number) {
    self->number = number;
    self->taken = self->done = 0;
    self->error = (limn_error){0};
}

/* Another batch than was decoded ahead: what is under way is waited for, since it writes into the slots. With the lock. */
static void go_to(picture_stream *self, uint64_t number) {
    for (size_t i = 0; i < AHEAD; i++) self->slots[i].taken = self->batch;
    while (self->busy) pthread_cond_wait(&self->changed, &self->lock);
    for (size_t i = 0; i < AHEAD; i++) begin(&self->slots[(number + i) % AHEAD], number + i);
    pthread_cond_broadcast(&self->changed);
}

int picture_stream_take(picture_stream *stream, uint64_t number, float *out, limn_error *error) {
    slot *here = &stream->slots[number % AHEAD];
    pthread_mutex_lock(&stream->lock);
    if (number != stream->next) go_to(stream, number);
    while (here->done < stream->batch && !here->error.exit_code) pthread_cond_wait(&stream->changed, &stream->lock);
    const bool failed = here->error.exit_code != 0;
    stream->next = failed ? 0 : number + 1; /* after a failure all is begun again */
    if (failed && error) *error = here->error;
    pthread_mutex_unlock(&stream->lock);
    if (failed) return -1;
    memcpy(out, here->pictures, stream->batch * stream->side * stream->side * 3 * sizeof *out);
    pthread_mutex_lock(&stream->lock);
    begin(here, number + AHEAD);
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    return 0;
}

picture_stream *picture_stream_start(const picture_set *set, size_t side, size_t batch, uint64_t seed, limn_error *error) {
    picture_stream *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    *self = (picture_stream){.set = set, .side = side, .batch = batch, .seed = seed, .epoch = UINT64_MAX};
    pthread_mutex_init(&self->lock, NULL);
    limn_condition_init(&self->changed);
    self->order = limn_allocate(set->count, sizeof *self->order, error);
    bool whole = self->order != NULL;
    for (size_t i = 0; i < AHEAD && whole; i++) {
        self->slots[i].taken = batch; /* nothing to do until a batch is asked for */
        self->slots[i].pictures = limn_allocate(batch * side * side, 3 * sizeof(float), error);
        whole = self->slots[i].pictures != NULL;
    }
    size_t threads = 1 + limn_get_threads() / COMPUTING_PER_THREAD;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (whole && limn_threads_start(&self->threads, threads, work, self, error) == 0) return self;
    picture_stream_stop(self);
    return NULL;
}

void picture_stream_stop(picture_stream *stream) {
    if (!stream) return;
    pthread_mutex_lock(&stream->lock);
    stream->stopping = true;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    limn_threads_join(&stream->threads);
    if (stream->replaced > WARNINGS)
        limn_log(LIMN_LOG_WARNING, "%zu times a picture that cannot be decoded was replaced by another", stream->replaced);
    for (size_t i = 0; i < AHEAD; i++) free(stream->slots[i].pictures);
    free(stream->order);
    pthread_mutex_destroy(&stream->lock);
    pthread_cond_destroy(&stream->changed);
    free(stream);
}
