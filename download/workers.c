/* Worker threads: a fetched picture becomes a pair in its shard; a full shard becomes a tar. With a VQGAN, one more thread
 * turns pictures into tokens on their way to the shard. */
#include "download/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A picture before the VQGAN. */
typedef struct encoding {
    struct encoding *next;
    download_row *row;
    download_pair pair;
} encoding;

typedef struct shard_link {
    struct shard_link *next;
    shard *item;
} shard_link;

struct workers {
    const download_options *options;
    fetcher *wake;
    limn_threads threads, encoder_thread;
    limn_buffer tokens; /* of one picture; the encoder's thread's */

    pthread_mutex_t mutex; /* for all below */
    pthread_cond_t work, to_encode;
    encoding *first_encoding, **last_encoding;
    row_queue rows;
    shard_link *full, *finished;
    size_t rows_held;
    uint64_t pairs; /* made so far */
    bool stop, failed;
    limn_error error;
};

/* ---------------------------------------------------------------- one row */

/* Reads a file:// address. O_NONBLOCK so that a named pipe does not hold the thread. */
static int read_local_file(const fetch_options *options, download_row *row) {
    char *path = url_file_path(row->url, strlen(row->url));
    struct stat status;
    if (!path) {
        download_row_fail(row, "bad_address", "not of the form file:///path");
        return -1;
    }
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    free(path);
    if (fd < 0 || fstat(fd, &status)) {
        download_row_fail(row, "file", "cannot be opened: %s", strerror(errno));
        if (fd >= 0) close(fd);
        return -1;
    }
    if (!S_ISREG(status.st_mode))
        download_row_fail(row, "file", "not a regular file");
    else if ((uint64_t)status.st_size > options->max_bytes)
        download_row_fail(row, "too_large", "more than %zu bytes (--max-bytes)", options->max_bytes);
    else if (status.st_size == 0)
        download_row_fail(row, "empty", "the file has no bytes");
    else if (!(row->data = malloc((size_t)status.st_size)))
        download_row_fail(row, "memory", "out of memory");
    while (!row->reason[0] && row->data_size < (size_t)status.st_size) {
        const ssize_t part = read(fd, row->data + row->data_size, (size_t)status.st_size - row->data_size);
        if (part > 0)
            row->data_size += (size_t)part;
        else if (part == 0 || errno != EINTR)
            download_row_fail(row, "file", "cannot be read: %s", part ? strerror(errno) : "it shrank");
    }
    close(fd);
    return row->reason[0] ? -1 : 0;
}

static int queue_encoding(workers *self, download_row *row, download_pair *pair, limn_error *error) {
    encoding *waiting = limn_allocate(1, sizeof *waiting, error);
    if (!waiting) return -1;
    free(row->data); /* data_size still says how much came */
    row->data = NULL;
    waiting->row = row;
    waiting->pair = *pair;
    *pair = (download_pair){0};
    pthread_mutex_lock(&self->mutex);
    *self->last_encoding = waiting;
    self->last_encoding = &waiting->next;
    pthread_cond_signal(&self->to_encode);
    pthread_mutex_unlock(&self->mutex);
    return 0;
}

/* -1 only when the shard cannot be written; what is wrong with the picture goes into the row. *passed_on: the row is the
 * encoder's now. */
static int finish_row(workers *self, picture_context *context, download_row *row, bool *made_pair, bool *passed_on,
                      limn_error *error) {
    download_pair pair = {0};
    char key[64];
    shard_key(self->options, shard_number(row->shard), row->index, key);
    *made_pair = (row->data || !read_local_file(&self->options->fetch, row)) &&
                 !pair_make(&self->options->pair, context, key, row, &pair);
    int status;
    if (*made_pair && self->options->encoder) {
        status = queue_encoding(self, row, &pair, error);
        *passed_on = status == 0;
    } else {
        status = *made_pair ? shard_add_pair(row->shard, row, &pair, error) : shard_add_failed(row->shard, row, error);
    }
    pair_free(&pair);
    return status;
}

/* ---------------------------------------------------------------- threads */

static void *work(void *context) {
    workers *self = context;
    picture_context *pictures = picture_context_create(NULL); /* without one it is only slower */
    pthread_mutex_lock(&self->mutex);
    for (;;) {
        while (!self->stop && !self->rows.count && !self->full) pthread_cond_wait(&self->work, &self->mutex);
        if (self->stop) break;
        limn_error error = {0};
        shard_link *full = self->full;
        int status;
        if (full) {
            self->full = full->next;
            pthread_mutex_unlock(&self->mutex);
            status = shard_finish(full->item, &error);
            pthread_mutex_lock(&self->mutex);
            full->next = self->finished;
            self->finished = full;
        } else {
            download_row *row = row_queue_pop(&self->rows);
            pthread_mutex_unlock(&self->mutex);
            bool made_pair = false, passed_on = false;
            status = finish_row(self, pictures, row, &made_pair, &passed_on, &error);
            if (!passed_on) download_row_free(row);
            pthread_mutex_lock(&self->mutex);
            self->pairs += made_pair && !passed_on;
            self->rows_held -= !passed_on;
        }
        if (status && !self->failed) {
            self->failed = true;
            self->error = error;
        }
        fetcher_wake(self->wake);
    }
    pthread_mutex_unlock(&self->mutex);
    picture_context_destroy(pictures);
    return NULL;
}

static void free_encoding(encoding *self) {
    download_row_free(self->row);
    pair_free(&self->pair);
    free(self);
}

/* The encoded picture goes into its shard: in place of the image its tokens (length) of int32_t. */
static int add_tokens(workers *self, encoding *item, const int32_t *tokens, limn_error *error) {
    self->tokens.size = 0;
    if (limn_buffer_append(&self->tokens, tokens, token_encoder_length(self->options->encoder) * sizeof *tokens, error))
        return -1;
    const limn_buffer pixels = item->pair.image;
    item->pair.image = self->tokens;
    const int status = shard_add_pair(item->row->shard, item->row, &item->pair, error);
    item->pair.image = pixels;
    return status;
}

/* Takes what has come, at most a batch, of whatever shards: while one batch is encoded the next comes. */
static void *encode(void *context) {
    workers *self = context;
    token_encoder *encoder = self->options->encoder;
    const size_t batch = token_encoder_batch(encoder);
    pthread_mutex_lock(&self->mutex);
    for (;;) {
        while (!self->stop && !self->first_encoding) pthread_cond_wait(&self->to_encode, &self->mutex);
        if (self->stop) break;
        encoding *const first = self->first_encoding, *after = first;
        size_t count = 0;
        for (; after && count < batch; after = after->next) count++;
        self->first_encoding = after;
        if (!after) self->last_encoding = &self->first_encoding;
        pthread_mutex_unlock(&self->mutex);
        limn_error error = {0};
        int status = 0;
        encoding *item = first;
        for (size_t i = 0; i < count; i++, item = item->next)
            token_encoder_put(encoder, i, (const unsigned char *)item->pair.image.data);
        const int32_t *tokens = token_encoder_run(encoder, count);
        item = first;
        for (size_t i = 0; i < count; i++) {
            encoding *const next = item->next;
            if (!status) status = add_tokens(self, item, tokens + i * token_encoder_length(encoder), &error);
            free_encoding(item);
            item = next;
        }
        pthread_mutex_lock(&self->mutex);
        self->pairs += count;
        self->rows_held -= count;
        if (status && !self->failed) {
            self->failed = true;
            self->error = error;
        }
        fetcher_wake(self->wake);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

workers *workers_create(const download_options *options, fetcher *wake, size_t threads, limn_error *error) {
    workers *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->options = options;
    self->wake = wake;
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->work, NULL);
    pthread_cond_init(&self->to_encode, NULL);
    self->last_encoding = &self->first_encoding;
    if (limn_threads_start(&self->threads, threads, work, self, error) == 0 &&
        (!options->encoder || limn_threads_start(&self->encoder_thread, 1, encode, self, error) == 0))
        return self;
    workers_destroy(self);
    return NULL;
}

static void free_links(shard_link *link) {
    while (link) {
        shard_link *next = link->next;
        free(link);
        link = next;
    }
}

void workers_destroy(workers *self) {
    if (!self) return;
    pthread_mutex_lock(&self->mutex);
    self->stop = true;
    pthread_cond_broadcast(&self->work);
    pthread_cond_broadcast(&self->to_encode);
    pthread_mutex_unlock(&self->mutex);
    limn_threads_join(&self->threads);
    limn_threads_join(&self->encoder_thread);
    while (self->first_encoding) {
        encoding *const item = self->first_encoding;
        self->first_encoding = item->next;
        free_encoding(item);
    }
    limn_buffer_free(&self->tokens);
    for (download_row *row; (row = row_queue_pop(&self->rows));) download_row_free(row);
    free_links(self->full);
    free_links(self->finished);
    pthread_cond_destroy(&self->work);
    pthread_cond_destroy(&self->to_encode);
    pthread_mutex_destroy(&self->mutex);
    free(self);
}

void workers_add_row(workers *self, download_row *row) {
    pthread_mutex_lock(&self->mutex);
    row_queue_push(&self->rows, row);
    self->rows_held++;
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->mutex);
}

int workers_add_finish(workers *self, shard *full, limn_error *error) {
    shard_link *link = limn_allocate(1, sizeof *link, error);
    if (!link) return -1;
    link->item = full;
    pthread_mutex_lock(&self->mutex);
    shard_link **end = &self->full;
    while (*end) end = &(*end)->next;
    *end = link;
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->mutex);
    return 0;
}

size_t workers_rows(workers *self, uint64_t *pairs) {
    pthread_mutex_lock(&self->mutex);
    const size_t rows = self->rows_held;
    *pairs = self->pairs;
    pthread_mutex_unlock(&self->mutex);
    return rows;
}

shard *workers_take_finished(workers *self) {
    pthread_mutex_lock(&self->mutex);
    shard_link *link = self->finished;
    if (link) self->finished = link->next;
    pthread_mutex_unlock(&self->mutex);
    shard *item = link ? link->item : NULL;
    free(link);
    return item;
}

int workers_check(workers *self, limn_error *error) {
    pthread_mutex_lock(&self->mutex);
    const bool failed = self->failed;
    if (failed && error) *error = self->error;
    pthread_mutex_unlock(&self->mutex);
    return failed ? -1 : 0;
}
