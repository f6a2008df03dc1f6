/* Writing finished shards behind the VQGAN: compression and the wait for the disk cost it nothing. */
#include "dataset/encode.h"

#include <stdlib.h>

struct encode_writer {
    const encode_kind *kind;
    limn_threads threads; /* one */

    pthread_mutex_t mutex; /* for all below */
    pthread_cond_t changed;
    encode_shard next; /* waits to be written */
    bool has_next, ending, failed;
    limn_error error;
    size_t shards;
    uint64_t captions, skipped; /* of those written */
};

static void *write_shards(void *context) {
    encode_writer *self = context;
    pthread_mutex_lock(&self->mutex);
    for (;;) {
        while (!self->has_next && !self->ending) pthread_cond_wait(&self->changed, &self->mutex);
        if (!self->has_next || self->failed) break; /* after a full disk the next one would only fail too */
        encode_shard shard = self->next;
        limn_error error = {0};
        self->next = (encode_shard){0};
        self->has_next = false;
        pthread_cond_signal(&self->changed);
        pthread_mutex_unlock(&self->mutex);
        const int status = encode_shard_write(&shard, self->kind, &error);
        if (status == 0 && shard.skipped)
            limn_log(LIMN_LOG_WARNING, "%s: %zu of %zu samples skipped; the reasons are in the stats beside its shard",
                     self->kind->options->inputs.items[shard.input], shard.skipped, shard.samples);
        pthread_mutex_lock(&self->mutex);
        if (status) {
            self->failed = true;
            self->error = error;
            pthread_cond_signal(&self->changed);
        } else {
            self->shards++;
            self->captions += shard.rows.captions;
            self->skipped += shard.skipped;
        }
        encode_shard_free(&shard);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

encode_writer *encode_writer_start(const encode_kind *kind, limn_error *error) {
    encode_writer *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->kind = kind;
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->changed, NULL);
    if (limn_threads_start(&self->threads, 1, write_shards, self, error) == 0) return self;
    encode_writer_end(self, NULL, NULL);
    return NULL;
}

/* With the mutex. */
static int failure(const encode_writer *self, limn_error *error) {
    if (self->failed && error) *error = self->error;
    return self->failed ? -1 : 0;
}

int encode_writer_add(encode_writer *self, encode_shard *shard, double *waited, limn_error *error) {
    pthread_mutex_lock(&self->mutex);
    if (self->has_next && !self->failed) {
        const double began = limn_seconds();
        while (self->has_next && !self->failed) pthread_cond_wait(&self->changed, &self->mutex);
        *waited += limn_seconds() - began;
    }
    const int status = failure(self, error);
    if (status == 0) {
        self->next = *shard;
        self->has_next = true;
        *shard = (encode_shard){0};
        pthread_cond_signal(&self->changed);
    }
    pthread_mutex_unlock(&self->mutex);
    return status;
}

int encode_writer_check(encode_writer *self, limn_error *error) {
    pthread_mutex_lock(&self->mutex);
    const int status = failure(self, error);
    pthread_mutex_unlock(&self->mutex);
    return status;
}

int encode_writer_end(encode_writer *self, encode_summary *summary, limn_error *error) {
    if (!self) return 0;
    pthread_mutex_lock(&self->mutex);
    self->ending = true;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    limn_threads_join(&self->threads);
    if (summary) {
        summary->shards_made += self->shards;
        summary->captions += self->captions;
        summary->skipped += self->skipped;
    }
    const int status = failure(self, error);
    encode_shard_free(&self->next);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->mutex);
    free(self);
    return status;
}
