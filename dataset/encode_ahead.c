/* Reading tars and decoding their pictures ahead of the VQGAN. The threads are all alike: one at a time goes on in the tar,
 * takes the next place in a ring, and decodes what it has read while the next one reads. Places are taken in order and given
 * out in order, so that the number of threads and the size of the ring show in nothing but speed. */
#include "dataset/encode.h"

#include <stdlib.h>
#include <string.h>

/* Compressed pictures being decoded, together, before another is read: a tar's entry may have 256 MiB. */
static const size_t DECODING_MAX_BYTES = (size_t)64 << 20;
static const size_t KEPT_BUFFER_BYTES = (size_t)1 << 20; /* a reader's buffer that has grown larger is given back */
static const double STOP_SECONDS = 0.05;                 /* how often a wait looks at limn_stop_requested */

typedef struct {
    encode_event event;
    encode_sample sample;
    size_t input;
    bool ready;
} place;

struct encode_ahead {
    const encode_options *options;
    const bool *todo;
    size_t side, capacity;
    place *ring; /* (capacity); event n stands at n % capacity */
    limn_threads threads;

    /* of the one thread that has set `reading` */
    tar_reader *tar;
    size_t input;

    pthread_mutex_t mutex; /* for all below, and for each place's `ready` */
    pthread_cond_t room, filled;
    bool reading, ended, stop;
    size_t placed, taken; /* events so far */
    size_t decoding_bytes;
    uint64_t samples, bytes_before, bytes_here; /* read: samples; of the tars done with, and of this one */
};

void encode_sample_free(encode_sample *self) {
    limn_buffer_free(&self->caption);
    picture_free(&self->pixels);
}

/* ---------------------------------------------------------------- one thread's work */

static int copy_sample(encode_sample *out, limn_buffer *image, const tar_sample *from) {
    memcpy(out->key, from->key, sizeof out->key);
    out->caption.size = image->size = 0;
    if (from->image && limn_buffer_append(image, from->image, from->image_size, &out->problem)) return -1;
    size_t caption_size = from->caption_size > ENCODE_CAPTION_MAX_BYTES ? ENCODE_CAPTION_MAX_BYTES + 1 : from->caption_size;
    return from->caption && limn_buffer_append(&out->caption, from->caption, caption_size, &out->problem) ? -1 : 0;
}

/* What comes next in the tars; the picture, as it is in the tar, goes to `image`. */
static void read_event(encode_ahead *self, place *out, limn_buffer *image) {
    const limn_strings *inputs = &self->options->inputs;
    tar_sample sample;
    out->sample.problem = (limn_error){0};
    if (!self->tar)
        while (self->input < inputs->count && !self->todo[self->input]) self->input++;
    out->input = self->input;
    if (self->input == inputs->count) {
        out->event = ENCODE_ALL_READ;
        return;
    }
    if (!self->tar) self->tar = tar_reader_open(inputs->items[self->input], &out->sample.problem);
    int got = self->tar ? tar_reader_next(self->tar, &sample, &out->sample.problem) : -1;
    if (got == 1) {
        out->event = copy_sample(&out->sample, image, &sample) ? ENCODE_FAILED : ENCODE_SAMPLE;
        return;
    }
    out->event = got == 0 ? ENCODE_TAR_ENDS : ENCODE_TAR_DAMAGED;
}

/* Keeps count of what read_event has read, and goes to the next tar after the last event of one. With the mutex. */
static void count_event(encode_ahead *self, const place *read) {
    self->samples += read->event == ENCODE_SAMPLE;
    self->bytes_here = self->tar ? tar_reader_position(self->tar) : 0;
    if (read->event == ENCODE_TAR_ENDS || read->event == ENCODE_TAR_DAMAGED) {
        tar_reader_close(self->tar);
        self->tar = NULL;
        self->input++;
        self->bytes_before += self->bytes_here;
        self->bytes_here = 0;
    }
    self->ended = read->event == ENCODE_ALL_READ || read->event == ENCODE_FAILED;
}

/* The middle square of the picture; none, with the problem, when it cannot be used. */
static void decode_sample(encode_sample *sample, const limn_buffer *image, size_t side) {
    picture decoded;
    const picture_decode_options options = {.min_side = side};
    sample->pixels = (picture){0};
    if (image->size == 0) {
        limn_fail(&sample->problem, "no picture");
        return;
    }
    if (picture_decode(&decoded, (const unsigned char *)image->data, image->size, &options, NULL, NULL, &sample->problem))
        return;
    if (picture_resize(&decoded, &sample->pixels, RESIZE_CENTER_CROP, side, &sample->problem)) sample->pixels = (picture){0};
    picture_free(&decoded);
}

static bool can_read(const encode_ahead *self) {
    return !self->reading && self->placed - self->taken < self->capacity && self->decoding_bytes <= DECODING_MAX_BYTES;
}

static void *read_and_decode(void *context) {
    encode_ahead *self = context;
    limn_buffer image = {0};
    pthread_mutex_lock(&self->mutex);
    for (;;) {
        while (!self->stop && !self->ended && !can_read(self)) pthread_cond_wait(&self->room, &self->mutex);
        if (self->stop || self->ended) break;
        self->reading = true;
        place *mine = &self->ring[self->placed % self->capacity];
        pthread_mutex_unlock(&self->mutex);
        image.size = 0;
        read_event(self, mine, &image);
        const size_t bytes = image.size;
        pthread_mutex_lock(&self->mutex);
        count_event(self, mine);
        self->reading = false;
        self->placed++;
        self->decoding_bytes += bytes;
        pthread_cond_broadcast(&self->room);
        pthread_mutex_unlock(&self->mutex);
        if (mine->event == ENCODE_SAMPLE) decode_sample(&mine->sample, &image, self->side);
        if (image.capacity > KEPT_BUFFER_BYTES) limn_buffer_free(&image);
        pthread_mutex_lock(&self->mutex);
        if (self->decoding_bytes > DECODING_MAX_BYTES) pthread_cond_broadcast(&self->room);
        self->decoding_bytes -= bytes;
        mine->ready = true;
        pthread_cond_signal(&self->filled);
    }
    pthread_mutex_unlock(&self->mutex);
    limn_buffer_free(&image);
    return NULL;
}

/* ---------------------------------------------------------------- from outside */

encode_ahead *encode_ahead_start(const encode_options *options, const bool *todo, size_t side, size_t readers, size_t queue,
                                 limn_error *error) {
    encode_ahead *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    *self = (encode_ahead){.options = options, .todo = todo, .side = side, .capacity = queue};
    pthread_mutex_init(&self->mutex, NULL);
    limn_condition_init(&self->room);
    limn_condition_init(&self->filled);
    self->ring = limn_allocate(queue, sizeof *self->ring, error);
    if (self->ring && limn_threads_start(&self->threads, readers, read_and_decode, self, error) == 0) return self;
    encode_ahead_stop(self);
    return NULL;
}

int encode_ahead_take(encode_ahead *self, encode_event *event, encode_sample *sample, size_t *input, double *waited,
                      limn_error *error) {
    pthread_mutex_lock(&self->mutex);
    place *next = &self->ring[self->taken % self->capacity];
    if (!next->ready) {
        const double began = limn_seconds();
        while (!next->ready && !limn_stop_requested()) limn_condition_wait(&self->filled, &self->mutex, STOP_SECONDS);
        *waited += limn_seconds() - began;
    }
    if (limn_stop_requested()) {
        pthread_mutex_unlock(&self->mutex);
        return limn_fail(error, "stopped; whole shards are kept, the same command goes on after them");
    }
    const encode_sample used = *sample;
    *sample = next->sample;
    next->sample = (encode_sample){.caption = used.caption};
    *event = next->event;
    *input = next->input;
    next->ready = false;
    self->taken++;
    pthread_cond_broadcast(&self->room);
    pthread_mutex_unlock(&self->mutex);
    return 0;
}

bool encode_ahead_position(encode_ahead *self, uint64_t *samples, uint64_t *bytes) {
    pthread_mutex_lock(&self->mutex);
    *samples = self->samples;
    *bytes = self->bytes_before + self->bytes_here;
    const bool ended = self->ended;
    pthread_mutex_unlock(&self->mutex);
    return ended;
}

void encode_ahead_stop(encode_ahead *self) {
    if (!self) return;
    pthread_mutex_lock(&self->mutex);
    self->stop = true;
    pthread_cond_broadcast(&self->room);
    pthread_mutex_unlock(&self->mutex);
    limn_threads_join(&self->threads);
    tar_reader_close(self->tar);
    for (size_t i = 0; self->ring && i < self->capacity; i++) encode_sample_free(&self->ring[i].sample);
    free(self->ring);
    pthread_cond_destroy(&self->room);
    pthread_cond_destroy(&self->filled);
    pthread_mutex_destroy(&self->mutex);
    free(self);
}
