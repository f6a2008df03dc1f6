/* Fetching, from outside: options, rows given to the loops and taken back, and how many transfers there are at once. */
#include "download/fetch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOPS_MOST = 64, LOOPS_UNLESS_TOLD = 4, THREADS_A_LOOP = 4, WAITING_LEAST = 4096 };

struct fetcher {
    const fetch_options *options;
    fetch_loop **loops; /* (loop_count) */
    size_t loop_count;
    size_t most;         /* rows held at once */
    size_t held;         /* rows added and not yet taken: of the one thread that does both */
    atomic_size_t slots; /* taken, of options->concurrency */

    pthread_mutex_t mutex; /* for all below */
    pthread_cond_t news;
    row_queue done;
    bool told, broken; /* told: something happened since the last wait */
    limn_error error;
};

/* ---------------------------------------------------------------- rows */

void row_queue_push(row_queue *queue, download_row *row) {
    row->next = NULL;
    if (queue->last)
        queue->last->next = row;
    else
        queue->first = row;
    queue->last = row;
    queue->count++;
}

download_row *row_queue_pop(row_queue *queue) {
    download_row *row = queue->first;
    if (!row) return NULL;
    queue->first = row->next;
    if (!queue->first) queue->last = NULL;
    queue->count--;
    row->next = NULL;
    return row;
}

void download_row_free(download_row *row) {
    if (!row) return;
    free(row->url);
    free(row->caption);
    free(row->hash);
    free(row->boxes);
    json_decref(row->extras);
    url_parts_free(&row->fetch.at);
    free(row->data);
    free(row);
}

void download_row_fail(download_row *row, const char *reason, const char *format, ...) {
    va_list arguments;
    snprintf(row->reason, sizeof row->reason, "%s", reason);
    va_start(arguments, format);
    vsnprintf(row->detail, sizeof row->detail, format, arguments);
    va_end(arguments);
}

/* ---------------------------------------------------------------- options */

int fetch_check(const fetch_options *options, limn_error *error) {
    if (options->concurrency < 1 || options->concurrency > 65536)
        return limn_fail_usage(error, "--concurrency: from 1 to 65536");
    if (options->per_host < 1) return limn_fail_usage(error, "--per-host: at least 1");
    if (options->threads > LOOPS_MOST) return limn_fail_usage(error, "--fetch-threads: at most %d", LOOPS_MOST);
    if (!(options->timeout >= 0.01 && options->timeout <= 86400))
        return limn_fail_usage(error, "--timeout: from 0.01 to 86400 seconds");
    if (options->retries > 100) return limn_fail_usage(error, "--retries: at most 100");
    if (options->max_bytes < 1 || options->max_bytes > (size_t)1 << 32)
        return limn_fail_usage(error, "--max-bytes: from 1 to 4G");
    for (const char *c = options->user_agent; c && *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F)
            return limn_fail_usage(error, "--user-agent: a line of text, without control characters");
    if (options->proxy && !strstr(options->proxy, "://"))
        return limn_fail_usage(error, "--proxy %s: not an address such as http://proxy.example:3128", options->proxy);
    if (options->ca_file && access(options->ca_file, R_OK))
        return limn_fail_usage(error, "--ca-file %s: cannot be read", options->ca_file);
    return 0;
}

static size_t count_loops(const fetch_options *options) {
    size_t count = options->threads ? options->threads : (limn_get_threads() + THREADS_A_LOOP - 1) / THREADS_A_LOOP;
    if (!options->threads && count > LOOPS_UNLESS_TOLD) count = LOOPS_UNLESS_TOLD;
    return count < options->concurrency ? count : options->concurrency;
}

/* A loop's share of the transfers, and no fewer than one host may have. */
static size_t count_connections(const fetch_options *options) {
    const size_t share = options->concurrency / count_loops(options) + 1;
    if (share >= options->per_host) return share;
    return options->per_host < options->concurrency ? options->per_host : options->concurrency;
}

size_t fetch_files(const fetch_options *options) {
    return options->concurrency + count_loops(options) * count_connections(options);
}

/* ---------------------------------------------------------------- for the loops */

const fetch_options *fetcher_options(const fetcher *self) {
    return self->options;
}

size_t fetcher_loops(const fetcher *self) {
    return self->loop_count;
}

size_t fetcher_connections(const fetcher *self) {
    return count_connections(self->options);
}

uint64_t fetcher_host_hash(const char *name) {
    return limn_random_stream(name);
}

void fetcher_route(fetcher *self, download_row *row, row_queue *done) {
    if (!row->fetch.at.url) { /* a new try */
        const char *problem;
        if (url_take_apart(row->url, strlen(row->url), &row->fetch.at, &problem)) {
            download_row_fail(row, problem ? "bad_address" : "memory", "%s", problem ? problem : "out of memory");
            row_queue_push(done, row);
            return;
        }
        row->fetch.tries++;
        row->fetch.redirects = row->fetch.addresses = 0;
        row->fetch.seconds = self->options->timeout;
        row->reason[0] = row->detail[0] = 0;
    }
    loop_give(self->loops[(fetcher_host_hash(row->fetch.at.host) >> 32) % self->loop_count], row);
}

bool fetcher_take_slot(fetcher *self, atomic_bool *starved) {
    size_t taken = self->slots;
    for (;;) {
        while (taken < self->options->concurrency)
            if (atomic_compare_exchange_weak(&self->slots, &taken, taken + 1)) return true;
        if (atomic_exchange(starved, true)) return false;
        taken = self->slots; /* one may have been freed before the wish was known */
    }
}

void fetcher_free_slot(fetcher *self, fetch_loop *except) {
    atomic_fetch_sub(&self->slots, 1);
    for (size_t i = 0; i < self->loop_count; i++)
        if (self->loops[i] != except) loop_slot_freed(self->loops[i]);
}

void fetcher_give_back(fetcher *self, row_queue *done) {
    pthread_mutex_lock(&self->mutex);
    for (download_row *row; (row = row_queue_pop(done));) row_queue_push(&self->done, row);
    self->told = true;
    pthread_cond_signal(&self->news);
    pthread_mutex_unlock(&self->mutex);
}

void fetcher_broke(fetcher *self, const limn_error *error) {
    pthread_mutex_lock(&self->mutex);
    self->broken = true;
    self->error = *error;
    pthread_cond_signal(&self->news);
    pthread_mutex_unlock(&self->mutex);
}

/* ---------------------------------------------------------------- from outside */

fetcher *fetcher_create(const fetch_options *options, limn_error *error) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) {
        limn_fail(error, "libcurl cannot be initialised");
        return NULL;
    }
    fetcher *self = limn_allocate(1, sizeof *self, error);
    if (!self) {
        curl_global_cleanup();
        return NULL;
    }
    self->options = options;
    self->most = 2 * options->concurrency + WAITING_LEAST;
    pthread_mutex_init(&self->mutex, NULL);
    limn_condition_init(&self->news);
    const size_t loops = count_loops(options);
    self->loops = limn_allocate(loops, sizeof(fetch_loop *), error);
    bool made = self->loops != NULL;
    self->loop_count = made ? loops : 0;
    for (size_t i = 0; made && i < loops; i++) made = (self->loops[i] = loop_create(self, error)) != NULL;
    for (size_t i = 0; made && i < loops; i++) made = !loop_start(self->loops[i], error);
    if (made) return self;
    fetcher_destroy(self);
    return NULL;
}

void fetcher_destroy(fetcher *self) {
    if (!self) return;
    for (size_t i = 0; i < self->loop_count; i++)
        if (self->loops[i]) loop_stop(self->loops[i]);
    for (size_t i = 0; i < self->loop_count; i++) loop_destroy(self->loops[i]);
    for (download_row *row; (row = row_queue_pop(&self->done));) download_row_free(row);
    pthread_cond_destroy(&self->news);
    pthread_mutex_destroy(&self->mutex);
    free(self->loops);
    free(self);
    curl_global_cleanup();
}

void fetcher_add(fetcher *self, download_row *row) {
    row_queue bad = {0};
    self->held++;
    fetcher_route(self, row, &bad);
    if (bad.count) fetcher_give_back(self, &bad);
}

size_t fetcher_active(const fetcher *self) {
    return self->held;
}

size_t fetcher_room(const fetcher *self) {
    return self->held < self->most ? self->most - self->held : 0;
}

int fetcher_wait(fetcher *self, double seconds, limn_error *error) {
    pthread_mutex_lock(&self->mutex);
    if (!self->told && !self->broken) limn_condition_wait(&self->news, &self->mutex, seconds);
    self->told = false;
    const bool broken = self->broken;
    if (broken && error) *error = self->error;
    pthread_mutex_unlock(&self->mutex);
    return broken ? -1 : 0;
}

download_row *fetcher_take(fetcher *self) {
    pthread_mutex_lock(&self->mutex);
    download_row *row = row_queue_pop(&self->done);
    pthread_mutex_unlock(&self->mutex);
    if (!row) return NULL;
    self->held--;
    if (row->fetch.holds_slot) fetcher_free_slot(self, NULL);
    row->fetch.holds_slot = false;
    return row;
}

void fetcher_wake(fetcher *self) {
    pthread_mutex_lock(&self->mutex);
    self->told = true;
    pthread_cond_signal(&self->news);
    pthread_mutex_unlock(&self->mutex);
}
