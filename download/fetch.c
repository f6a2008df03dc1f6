/* Fetching: libcurl's multi socket interface on one epoll loop, and what a stranger's server may and may not do. */
#include "download/internal.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MAX_REDIRECTS = 8, EVENTS = 256, SNIFF_BYTES = 32, SLOW_BYTES_PER_SECOND = 128, SLOW_SECONDS = 10 };

typedef struct transfer {
    struct transfer *next_free;
    fetcher *owner;
    CURL *easy;
    download_row *row;
    unsigned char *data;
    size_t size, capacity;
    bool refused_private, noai, too_large, not_a_picture, out_of_memory;
    char message[CURL_ERROR_SIZE];
} transfer;

struct fetcher {
    const fetch_options *options;
    CURLM *multi;
    struct curl_slist *headers;
    int epoll, wake;
    double timer_due;    /* by limn_seconds(); negative: none */
    transfer *transfers; /* (concurrency) */
    transfer *free_transfers;
    size_t running;
    row_queue waiting; /* for another try */
    row_queue done;
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

/* ---------------------------------------------------------------- what curl calls */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context) {
    (void)easy, (void)socket_context;
    fetcher *self = context;
    struct epoll_event event = {.data.fd = fd};
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(self->epoll, EPOLL_CTL_DEL, fd, &event);
        return 0;
    }
    if (what & CURL_POLL_IN) event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
    if (epoll_ctl(self->epoll, EPOLL_CTL_MOD, fd, &event) && epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event)) return -1;
    return 0;
}

static int on_timer(CURLM *multi, long milliseconds, void *context) {
    (void)multi;
    fetcher *self = context;
    self->timer_due = milliseconds < 0 ? -1 : limn_seconds() + (double)milliseconds * 1e-3;
    return 0;
}

/* Every connection passes here with the address that the name resolved to, those of redirects too: a name that points into
 * a private network is no way around the check. */
static curl_socket_t on_open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)purpose;
    transfer *t = context;
    if (!t->owner->options->allow_private && address_is_private(&address->addr)) {
        t->refused_private = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_data(char *data, size_t one, size_t size, void *context) {
    (void)one;
    transfer *t = context;
    const size_t limit = t->owner->options->max_bytes;
    if (size > limit || t->size > limit - size) {
        t->too_large = true;
        return 0;
    }
    if (t->size + size > t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : (size_t)1 << 15;
        curl_off_t announced = -1;
        if (!t->capacity) curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
        if (announced > 0 && (uint64_t)announced <= limit) capacity = (size_t)announced;
        if (capacity < t->size + size) capacity = t->size + size;
        unsigned char *grown = realloc(t->data, capacity);
        if (!grown) {
            t->out_of_memory = true;
            return 0;
        }
        t->data = grown;
        t->capacity = capacity;
    }
    const size_t before = t->size;
    memcpy(t->data + t->size, data, size);
    t->size += size;
    /* A page in place of a picture is not fetched to its end. */
    if (before < SNIFF_BYTES && t->size >= SNIFF_BYTES && picture_sniff(t->data, t->size) == PICTURE_UNKNOWN) {
        t->not_a_picture = true;
        return 0;
    }
    return size;
}

/* True when the value of an X-Robots-Tag header forbids use by machines that learn, to everyone or to us by name. A value may
 * begin with the name of the one robot it is for ("otherbot: noindex"). */
static bool forbids_learning(const char *value, size_t size) {
    static const char *const words[] = {"noai", "noimageai", "noindex", "noimageindex", NULL};
    const char *colon = memchr(value, ':', size), *comma = memchr(value, ',', size);
    if (colon && (!comma || colon < comma)) {
        size_t name = (size_t)(colon - value);
        while (name && (unsigned char)value[name - 1] <= ' ') name--;
        if (!(name == 1 && value[0] == '*') && !(name == 13 && !strncasecmp(value, "limn-download", 13))) return false;
        size -= (size_t)(colon + 1 - value);
        value = colon + 1;
    }
    while (size) {
        while (size && ((unsigned char)*value <= ' ' || *value == ',')) value++, size--;
        size_t length = 0;
        while (length < size && value[length] != ',') length++;
        size_t word = length;
        while (word && (unsigned char)value[word - 1] <= ' ') word--;
        for (size_t i = 0; words[i]; i++)
            if (word == strlen(words[i]) && !strncasecmp(value, words[i], word)) return true;
        value += length, size -= length;
    }
    return false;
}

static size_t on_header(char *line, size_t one, size_t size, void *context) {
    (void)one;
    static const char name[] = "x-robots-tag:";
    transfer *t = context;
    if (!t->owner->options->respect_noai) return size;
    if (size >= 5 && !memcmp(line, "HTTP/", 5)) t->noai = false; /* a new answer, after a redirect */
    if (size > sizeof name && !strncasecmp(line, name, sizeof name - 1)) {
        const char *value = line + sizeof name - 1, *end = line + size;
        while (value < end && (unsigned char)*value <= ' ') value++;
        t->noai = t->noai || forbids_learning(value, (size_t)(end - value));
    }
    if (t->noai && size <= 2) { /* the headers' end: of a picture that is not for us nothing is fetched */
        long status = 0;
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status >= 200 && status < 300) return 0;
    }
    return size;
}

/* ---------------------------------------------------------------- one transfer */

static int prepare(fetcher *self, transfer *t, limn_error *error) {
    t->easy = curl_easy_init();
    if (!t->easy) return limn_fail(error, "out of memory for a transfer; use a smaller --concurrency");
    const fetch_options *options = self->options;
    const long milliseconds = (long)(options->timeout * 1000);
    CURL *easy = t->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->message);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "limn-download/" LIMN_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, self->headers);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* a proxy would resolve names out of reach of on_open_socket */
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, milliseconds);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, milliseconds);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES_PER_SECOND);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)SLOW_SECONDS);
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)options->max_bytes);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 65536L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* do not wait for names that are still being resolved */
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    return 0;
}

static int start(fetcher *self, download_row *row, limn_error *error) {
    transfer *t = self->free_transfers;
    if (!t->easy && prepare(self, t, error)) return -1;
    t->message[0] = 0;
    t->refused_private = t->noai = t->too_large = t->not_a_picture = t->out_of_memory = false;
    char *url = url_clean(row->url, strlen(row->url));
    const bool failed = !url || curl_easy_setopt(t->easy, CURLOPT_URL, url) || curl_multi_add_handle(self->multi, t->easy);
    free(url); /* curl has its own copy */
    if (failed) return limn_fail(error, "out of memory for a transfer; use a smaller --concurrency");
    self->free_transfers = t->next_free;
    t->row = row;
    row->tries++;
    row->reason[0] = row->detail[0] = 0;
    self->running++;
    return 0;
}

static bool may_pass(CURLcode code, long status) {
    switch (code) {
    case CURLE_HTTP_RETURNED_ERROR:
        return status == 408 || status == 425 || status == 429 || status == 500 || (status >= 502 && status <= 504);
    case CURLE_COULDNT_CONNECT:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false; /* not a timeout either: it has had its time */
    }
}

/* Names why a transfer failed. */
static void name_failure(const transfer *t, CURLcode code, long status) {
    download_row *row = t->row;
    const char *message = t->message[0] ? t->message : curl_easy_strerror(code);
    long redirects = 0;
    char reason[32];
    curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_COUNT, &redirects);
    if (t->noai)
        download_row_fail(row, "noai", "the server's X-Robots-Tag says no (--respect-noai no takes it all the same)");
    else if (t->too_large || code == CURLE_FILESIZE_EXCEEDED)
        download_row_fail(row, "too_large", "more than %zu bytes (--max-bytes)", t->owner->options->max_bytes);
    else if (t->not_a_picture)
        download_row_fail(row, "not_a_picture", "neither JPEG nor PNG nor WebP");
    else if (t->out_of_memory || code == CURLE_OUT_OF_MEMORY)
        download_row_fail(row, "memory", "out of memory");
    else if (code == CURLE_HTTP_RETURNED_ERROR) {
        snprintf(reason, sizeof reason, "http_%ld", status);
        download_row_fail(row, reason, "the server answered %ld", status);
    } else if (t->refused_private && code == CURLE_COULDNT_CONNECT)
        download_row_fail(row, "private_address", "an address of a private network (--allow-private takes it)");
    else if (code == CURLE_TOO_MANY_REDIRECTS)
        download_row_fail(row, "redirect", "more than %d redirects", MAX_REDIRECTS);
    else if ((code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT) && redirects > 0)
        download_row_fail(row, "redirect", "redirected to a bad address: %s", message);
    else if (code == CURLE_URL_MALFORMAT)
        download_row_fail(row, "bad_address", "%s", message);
    else if (code == CURLE_COULDNT_RESOLVE_HOST)
        download_row_fail(row, "dns", "%s", message);
    else if (code == CURLE_COULDNT_CONNECT)
        download_row_fail(row, "connect", "%s", message);
    else if (code == CURLE_OPERATION_TIMEDOUT)
        download_row_fail(row, "timeout", "%s", message);
    else if (code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        download_row_fail(row, "tls", "%s", message);
    else if (code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING ||
             code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM)
        download_row_fail(row, "connection_lost", "%s", message);
    else
        download_row_fail(row, "http", "%s", message);
}

static void finish(fetcher *self, transfer *t, CURLcode code) {
    download_row *row = t->row;
    long status = 0;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
    curl_multi_remove_handle(self->multi, t->easy);
    const bool aborted = t->noai || t->too_large || t->not_a_picture || t->out_of_memory;
    if (code != CURLE_OK)
        name_failure(t, code, status);
    else if (status < 200 || status >= 300) {
        char reason[32];
        snprintf(reason, sizeof reason, "http_%ld", status);
        download_row_fail(row, reason, "the server answered %ld", status);
    } else if (t->size == 0) {
        download_row_fail(row, "empty", "the server answered %ld with no bytes", status);
    } else {
        row->data = t->data;
        row->data_size = t->size;
        t->data = NULL;
    }
    const bool retry =
        code != CURLE_OK && !aborted && !t->refused_private && may_pass(code, status) && row->tries <= self->options->retries;
    free(t->data);
    t->data = NULL;
    t->size = t->capacity = 0;
    t->row = NULL;
    t->next_free = self->free_transfers;
    self->free_transfers = t;
    self->running--;
    if (!retry) {
        row_queue_push(&self->done, row);
        return;
    }
    double wait = 0.25 * (double)(1u << (row->tries < 6 ? row->tries : 6));
    if ((double)retry_after > wait) wait = (double)retry_after;
    row->due = limn_seconds() + (wait < self->options->timeout ? wait : self->options->timeout);
    row_queue_push(&self->waiting, row);
}

/* ---------------------------------------------------------------- the loop */

int fetch_check(const fetch_options *options, limn_error *error) {
    if (options->concurrency < 1 || options->concurrency > 65536)
        return limn_fail_usage(error, "--concurrency: from 1 to 65536");
    if (!(options->timeout >= 0.01 && options->timeout <= 86400))
        return limn_fail_usage(error, "--timeout: from 0.01 to 86400 seconds");
    if (options->retries > 100) return limn_fail_usage(error, "--retries: at most 100");
    if (options->max_bytes < 1 || options->max_bytes > (size_t)1 << 32)
        return limn_fail_usage(error, "--max-bytes: from 1 to 4G");
    return 0;
}

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
    self->timer_due = -1;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->multi = curl_multi_init();
    self->headers = curl_slist_append(NULL, "Accept: image/jpeg,image/png,image/webp,*/*;q=0.5");
    self->transfers = limn_allocate(options->concurrency, sizeof *self->transfers, error);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = self->wake};
    if (self->epoll < 0 || self->wake < 0 || !self->multi || !self->headers || !self->transfers ||
        epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->wake, &event)) {
        limn_fail(error, "cannot set up transfers: %s", strerror(errno));
        fetcher_destroy(self);
        return NULL;
    }
    for (size_t i = options->concurrency; i-- > 0;) {
        self->transfers[i].owner = self;
        self->transfers[i].next_free = self->free_transfers;
        self->free_transfers = &self->transfers[i];
    }
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETDATA, self);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERDATA, self);
    curl_multi_setopt(self->multi, CURLMOPT_MAXCONNECTS, (long)options->concurrency);
    return self;
}

void fetcher_destroy(fetcher *self) {
    if (!self) return;
    for (size_t i = 0; self->transfers && i < self->options->concurrency; i++) {
        transfer *t = &self->transfers[i];
        if (!t->easy) continue;
        if (t->row) curl_multi_remove_handle(self->multi, t->easy);
        curl_easy_cleanup(t->easy);
        download_row_free(t->row);
        free(t->data);
    }
    for (download_row *row; (row = row_queue_pop(&self->waiting));) download_row_free(row);
    for (download_row *row; (row = row_queue_pop(&self->done));) download_row_free(row);
    if (self->multi) curl_multi_cleanup(self->multi);
    curl_slist_free_all(self->headers);
    if (self->epoll >= 0) close(self->epoll);
    if (self->wake >= 0) close(self->wake);
    free(self->transfers);
    free(self);
    curl_global_cleanup();
}

size_t fetcher_active(const fetcher *self) {
    return self->running + self->waiting.count;
}

int fetcher_add(fetcher *self, download_row *row, limn_error *error) {
    if (start(self, row, error)) {
        download_row_free(row);
        return -1;
    }
    return 0;
}

/* Starts again what has waited long enough. Returns the seconds until the next one's time. */
static int start_waiting(fetcher *self, double *seconds, limn_error *error) {
    const double now = limn_seconds();
    for (size_t n = self->waiting.count; n > 0; n--) {
        download_row *row = row_queue_pop(&self->waiting);
        if (row->due > now) {
            if (row->due - now < *seconds) *seconds = row->due - now;
            row_queue_push(&self->waiting, row);
        } else if (fetcher_add(self, row, error)) {
            return -1;
        }
    }
    return 0;
}

int fetcher_wait(fetcher *self, double seconds, limn_error *error) {
    struct epoll_event events[EVENTS];
    int running, left;
    if (start_waiting(self, &seconds, error)) return -1;
    double now = limn_seconds();
    if (self->timer_due >= 0 && self->timer_due - now < seconds) seconds = self->timer_due - now;
    if (self->done.count) seconds = 0;
    const int milliseconds = seconds <= 0 ? 0 : (int)(seconds * 1000) + 1;
    const int count = epoll_wait(self->epoll, events, EVENTS, milliseconds);
    if (count < 0 && errno != EINTR) return limn_fail(error, "waiting for transfers failed: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        if (events[i].data.fd == self->wake) {
            uint64_t ignored;
            if (read(self->wake, &ignored, sizeof ignored) < 0) continue; /* someone else's wake was read already */
            continue;
        }
        int what = 0;
        if (events[i].events & (EPOLLIN | EPOLLHUP)) what |= CURL_CSELECT_IN;
        if (events[i].events & EPOLLOUT) what |= CURL_CSELECT_OUT;
        if (events[i].events & EPOLLERR) what |= CURL_CSELECT_ERR;
        curl_multi_socket_action(self->multi, events[i].data.fd, what, &running);
    }
    if (self->timer_due >= 0 && limn_seconds() >= self->timer_due) {
        self->timer_due = -1;
        curl_multi_socket_action(self->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    for (CURLMsg *message; (message = curl_multi_info_read(self->multi, &left));) {
        if (message->msg != CURLMSG_DONE) continue;
        const CURLcode code = message->data.result; /* the message is gone after remove_handle */
        char *private;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        finish(self, (transfer *)(void *)private, code);
    }
    return 0;
}

download_row *fetcher_take(fetcher *self) {
    return row_queue_pop(&self->done);
}

void fetcher_wake(fetcher *self) {
    const uint64_t one = 1;
    if (write(self->wake, &one, sizeof one) < 0) return; /* only when it is full of wakes already */
}
