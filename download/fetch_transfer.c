/* One transfer: what libcurl is told, what a stranger's server may and may not do, and the name of what went wrong. */
#include "download/fetch.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SNIFF_BYTES = 32,
    HEAD_BYTES_MOST = 256 << 10,   /* of all heads of one transfer */
    IGNORED_BYTES_MOST = 64 << 10, /* so much of an error's page is read to keep the connection */
    RATE_SECONDS = 10,             /* over which min_rate counts, or half the timeout where that is less */
    PAUSE_TIMEOUTS = 3,            /* a host's Retry-After is heeded up to so many times the timeout */
    PAUSES_MOST = 5,               /* without a picture in between */
    REFUSED_SECONDS = 600          /* a host that goes on so is left alone for so long */
};

/* Buffers of all transfers together, and the bounds of one. */
enum { BUFFERS_BYTES = 16 << 20, BUFFER_LEAST = 16 << 10, BUFFER_MOST = 64 << 10 };

/* ---------------------------------------------------------------- what curl calls */

/* Every connection passes here with the address it is made to. Names are judged when they are looked up; this is the second
 * lock on the same door. */
static curl_socket_t on_open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)purpose;
    transfer *t = context;
    const fetch_options *options = loop_options(t->loop);
    if (!options->allow_private && !options->proxy && address_is_private(&address->addr)) {
        t->verdict = VERDICT_PRIVATE;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int on_close_socket(void *context, curl_socket_t fd) {
    loop_forget_socket(context, fd);
    return close(fd);
}

static size_t refuse(transfer *t, transfer_verdict verdict) {
    t->verdict = verdict;
    return 0; /* ends the transfer */
}

static bool is_picture_status(long status) {
    return status >= 200 && status < 300;
}

static bool make_room(transfer *t, size_t size) {
    if (t->size + size <= t->capacity) return true;
    size_t capacity = t->capacity ? 2 * t->capacity : BUFFER_LEAST;
    curl_off_t announced = -1;
    if (!t->capacity) curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
    /* A server's word is taken up to a megabyte; beyond that the buffer grows with what really comes. */
    if (announced > 0 && announced <= 1 << 20) capacity = (size_t)announced;
    if (capacity < t->size + size) capacity = t->size + size;
    unsigned char *grown = realloc(t->data, capacity);
    if (!grown) return false;
    t->data = grown;
    t->capacity = capacity;
    return true;
}

static size_t on_data(char *data, size_t one, size_t size, void *context) {
    (void)one;
    transfer *t = context;
    const size_t limit = loop_options(t->loop)->max_bytes;
    if (t->marked == 0) t->marked = limn_seconds();
    if (!is_picture_status(t->status)) {
        t->ignored += size;
        return t->ignored <= IGNORED_BYTES_MOST ? size : 0;
    }
    if (size > limit || t->size > limit - size) return refuse(t, VERDICT_TOO_LARGE);
    if (!make_room(t, size)) return refuse(t, VERDICT_MEMORY);
    const size_t before = t->size;
    memcpy(t->data + t->size, data, size);
    t->size += size;
    /* A page in place of a picture is not fetched to its end. */
    if (before < SNIFF_BYTES && t->size >= SNIFF_BYTES && picture_sniff(t->data, t->size) == PICTURE_UNKNOWN)
        return refuse(t, VERDICT_NOT_A_PICTURE);
    return size;
}

static size_t on_header(char *line, size_t one, size_t size, void *context) {
    (void)one;
    transfer *t = context;
    t->head_bytes += size;
    if (t->head_bytes > HEAD_BYTES_MOST) return refuse(t, VERDICT_HEADERS);
    if (size >= 5 && !memcmp(line, "HTTP/", 5)) { /* a new answer, perhaps after one of 100 to 199 */
        char copy[32] = "";
        memcpy(copy, line, size < sizeof copy - 1 ? size : sizeof copy - 1);
        const char *space = strchr(copy, ' ');
        t->status = space ? strtol(space, NULL, 10) : 0;
        t->verdict = VERDICT_NONE;
    }
    if (loop_options(t->loop)->respect_noai && t->verdict == VERDICT_NONE && header_forbids_learning(line, size))
        t->verdict = VERDICT_NOAI;
    /* The head's end: of a picture that is not for us nothing is fetched. */
    if (size <= 2 && t->verdict == VERDICT_NOAI && is_picture_status(t->status)) return 0;
    return size;
}

/* ---------------------------------------------------------------- options */

transfer *transfer_create(fetch_loop *loop) {
    const fetch_options *options = loop_options(loop);
    transfer *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    CURL *easy = t->easy = curl_easy_init();
    if (!easy) {
        free(t);
        return NULL;
    }
    t->loop = loop;
    t->connect_to.data = t->connect_text;
    size_t buffer = BUFFERS_BYTES / options->concurrency;
    if (buffer < BUFFER_LEAST) buffer = BUFFER_LEAST;
    if (buffer > BUFFER_MOST) buffer = BUFFER_MOST;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->message);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, options->user_agent ? options->user_agent : "limn-download/" LIMN_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, loop_headers(loop));
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "identity"); /* what comes compressed all the same is decoded */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, options->proxy ? options->proxy : "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)options->max_bytes);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)buffer);
    if (!options->proxy) curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L); /* hosts are looked up and remembered by us */
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, loop);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, options->check_certificates ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, options->check_certificates ? 2L : 0L);
    if (options->ca_file) curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
    /* Beside a file of certificates, a folder of the same ones would only keep libcurl from remembering what it has read: some
     * milliseconds at each connection. */
    char *ca_file = NULL;
    curl_easy_getinfo(easy, CURLINFO_CAINFO, &ca_file);
    if (options->ca_file || ca_file) curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    return t;
}

void transfer_destroy(transfer *self) {
    if (!self) return;
    curl_easy_cleanup(self->easy);
    download_row_free(self->row);
    free(self->data);
    free(self);
}

int transfer_prepare(transfer *self, download_row *row, host *at) {
    CURL *easy = self->easy;
    const long milliseconds = (long)(row->fetch.seconds * 1000) + 1;
    const size_t left = at->address_count > row->fetch.addresses ? at->address_count - row->fetch.addresses : 1;
    self->message[0] = 0;
    self->verdict = VERDICT_NONE;
    self->status = 0;
    self->head_bytes = self->ignored = self->size = self->capacity = self->marked_bytes = 0;
    self->marked = 0;
    self->address = at->address;
    if (curl_easy_setopt(easy, CURLOPT_URL, row->fetch.at.url)) return -1;
    if (at->address_count) { /* "::ADDRESS:": whatever the host and port, to this address and the same port */
        const host_address *address = &at->addresses[at->address];
        char text[INET6_ADDRSTRLEN];
        inet_ntop(address->family, address->bytes, text, sizeof text);
        snprintf(self->connect_text, sizeof self->connect_text, address->family == AF_INET6 ? "::[%s]:" : "::%s:", text);
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, &self->connect_to);
    } else {
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, NULL);
    }
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, row->fetch.at.https ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, row->fetch.at.https && at->multiplexes ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, milliseconds);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, milliseconds / (long)left);
    self->row = row;
    self->host = at;
    return 0;
}

bool transfer_is_too_slow(transfer *self, double now) {
    const fetch_options *options = loop_options(self->loop);
    const double window = options->timeout / 2 < RATE_SECONDS ? options->timeout / 2 : RATE_SECONDS;
    if (!options->min_rate || self->marked == 0 || now - self->marked < window) return false;
    const size_t received = self->size + self->ignored;
    if ((double)(received - self->marked_bytes) < (double)options->min_rate * (now - self->marked)) {
        self->verdict = VERDICT_TOO_SLOW;
        return true;
    }
    self->marked = now;
    self->marked_bytes = received;
    return false;
}

/* ---------------------------------------------------------------- the judgement */

static void fail_with_status(download_row *row, long status) {
    char reason[32];
    snprintf(reason, sizeof reason, "http_%ld", status);
    download_row_fail(row, reason, "the server answered %ld", status);
}

static void name_verdict(const transfer *t) {
    const fetch_options *options = loop_options(t->loop);
    download_row *row = t->row;
    switch (t->verdict) {
    case VERDICT_NONE:
        break;
    case VERDICT_PRIVATE:
        download_row_fail(row, "private_address", "an address of a private network (--allow-private takes it)");
        break;
    case VERDICT_NOAI:
        download_row_fail(row, "noai", "the server's X-Robots-Tag or tdm-reservation says no (--respect-noai no takes it)");
        break;
    case VERDICT_TOO_LARGE:
        download_row_fail(row, "too_large", "more than %zu bytes (--max-bytes)", options->max_bytes);
        break;
    case VERDICT_TOO_SLOW:
        download_row_fail(row, "too_slow", "less than %zu bytes a second (--min-rate)", options->min_rate);
        break;
    case VERDICT_NOT_A_PICTURE:
        download_row_fail(row, "not_a_picture", "neither JPEG nor PNG nor WebP");
        break;
    case VERDICT_HEADERS:
        download_row_fail(row, "http", "headers of more than %d bytes", HEAD_BYTES_MOST);
        break;
    case VERDICT_MEMORY:
        download_row_fail(row, "memory", "out of memory");
        break;
    }
}

static void name_code(const transfer *t, CURLcode code) {
    static const struct {
        CURLcode code;
        const char *reason;
    } names[] = {
        {CURLE_OUT_OF_MEMORY, "memory"},         {CURLE_FILESIZE_EXCEEDED, "too_large"},
        {CURLE_URL_MALFORMAT, "bad_address"},    {CURLE_COULDNT_RESOLVE_HOST, "dns"},
        {CURLE_COULDNT_RESOLVE_PROXY, "proxy"},  {CURLE_PROXY, "proxy"},
        {CURLE_COULDNT_CONNECT, "connect"},      {CURLE_OPERATION_TIMEDOUT, "timeout"},
        {CURLE_SSL_CONNECT_ERROR, "tls"},        {CURLE_PEER_FAILED_VERIFICATION, "tls"},
        {CURLE_SSL_CACERT_BADFILE, "tls"},       {CURLE_PARTIAL_FILE, "connection_lost"},
        {CURLE_RECV_ERROR, "connection_lost"},   {CURLE_SEND_ERROR, "connection_lost"},
        {CURLE_GOT_NOTHING, "connection_lost"},  {CURLE_HTTP2, "connection_lost"},
        {CURLE_HTTP2_STREAM, "connection_lost"}, {CURLE_BAD_CONTENT_ENCODING, "bad_encoding"},
    };
    const char *message = t->message[0] ? t->message : curl_easy_strerror(code), *reason = "http";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code) reason = names[i].reason;
    download_row_fail(t->row, reason, "%s", message);
}

static bool may_pass(CURLcode code, long status) {
    switch (code) {
    case CURLE_OK:
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

static bool is_redirect(long status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Sets the row's next address. -1: it has its reason. */
static int follow(transfer *t) {
    download_row *row = t->row;
    char *url = NULL;
    const char *problem;
    url_parts to;
    curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &url);
    if (!url)
        fail_with_status(row, t->status);
    else if (row->fetch.redirects == REDIRECTS_MOST)
        download_row_fail(row, "redirect", "more than %d redirects", REDIRECTS_MOST);
    else if (!url_has_scheme(url, strlen(url), "http") && !url_has_scheme(url, strlen(url), "https"))
        download_row_fail(row, "redirect", "redirected to what is neither http:// nor https://");
    else if (url_take_apart(url, strlen(url), &to, &problem))
        download_row_fail(row, problem ? "redirect" : "memory", "redirected to a bad address: %s",
                          problem ? problem : "out of memory");
    else {
        url_parts_free(&row->fetch.at);
        row->fetch.at = to;
        row->fetch.redirects++;
        row->fetch.addresses = 0;
        return 0;
    }
    return -1;
}

/* A host that asks for a pause gets it; one that goes on asking is left alone. */
static void heed_pause(host *at, long status, double seconds, double most) {
    const double now = limn_seconds();
    if (seconds > most) seconds = most;
    if (now >= at->paused_until && ++at->pauses > PAUSES_MOST) {
        char reason[32];
        snprintf(reason, sizeof reason, "http_%ld", status);
        host_fail(at, reason, "the host goes on asking for pauses");
        at->refused_until = now + REFUSED_SECONDS;
        at->pauses = 0;
    }
    if (now + seconds > at->paused_until) at->paused_until = now + seconds;
}

/* 0.25 s, doubled at each further try, and up to half as much again: rows that failed together do not come back together. */
static double back_off(const download_row *row) {
    const unsigned doublings = row->fetch.tries < 8 ? (unsigned)row->fetch.tries : 8;
    const float jitter = limn_random_uniform(row->number, limn_random_stream("back-off"), row->fetch.tries);
    return 0.25 * (double)(1u << doublings) * (1 + 0.5 * (double)jitter);
}

transfer_after transfer_judge(transfer *self, CURLcode code, double *wait) {
    const fetch_options *options = loop_options(self->loop);
    download_row *row = self->row;
    host *at = self->host;
    curl_off_t retry_after = 0, elapsed = 0, connected = 0;
    long version = 0;
    curl_easy_getinfo(self->easy, CURLINFO_TOTAL_TIME_T, &elapsed);
    curl_easy_getinfo(self->easy, CURLINFO_CONNECT_TIME_T, &connected);
    curl_easy_getinfo(self->easy, CURLINFO_HTTP_VERSION, &version);
    row->fetch.seconds -= (double)elapsed * 1e-6;
    if (row->fetch.at.https) at->scouted = true;
    if (row->fetch.at.https && self->status) at->multiplexes = version >= CURL_HTTP_VERSION_2_0;
    row->reason[0] = row->detail[0] = 0;
    /* An error's page that was cut off by us is no error of its own. */
    if (code == CURLE_WRITE_ERROR && self->status && !is_picture_status(self->status) && self->verdict != VERDICT_HEADERS)
        code = CURLE_OK;
    if (code == CURLE_FILESIZE_EXCEEDED && self->status && !is_picture_status(self->status)) code = CURLE_OK;
    if (code == CURLE_OK && !is_picture_status(self->status)) self->verdict = VERDICT_NONE;

    if (code != CURLE_OK && !connected && self->verdict == VERDICT_NONE && !options->proxy &&
        (code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT)) {
        if (at->address_count > 1 && at->address == self->address) at->address = (at->address + 1) % at->address_count;
        if (++row->fetch.addresses < at->address_count && row->fetch.seconds > 0) return AFTER_OTHER_ADDRESS;
    }
    if (code == CURLE_OK && is_redirect(self->status)) {
        if (follow(self)) return AFTER_DONE;
        if (row->fetch.seconds > 0) return AFTER_REDIRECT;
        download_row_fail(row, "timeout", "no time is left after %zu redirects", row->fetch.redirects);
        return AFTER_DONE;
    }
    if (self->verdict != VERDICT_NONE)
        name_verdict(self);
    else if (code != CURLE_OK)
        name_code(self, code);
    else if (!is_picture_status(self->status))
        fail_with_status(row, self->status);
    else if (self->size == 0)
        download_row_fail(row, "empty", "the server answered %ld with no bytes", self->status);
    else {
        row->data = self->data;
        row->data_size = self->size;
        self->data = NULL;
        at->pauses = 0;
        return AFTER_DONE;
    }
    if (self->verdict != VERDICT_NONE || !may_pass(code, self->status)) return AFTER_DONE;
    curl_easy_getinfo(self->easy, CURLINFO_RETRY_AFTER, &retry_after);
    if (code == CURLE_OK && retry_after > 0 && (self->status == 429 || self->status == 503))
        heed_pause(at, self->status, (double)retry_after, PAUSE_TIMEOUTS * options->timeout);
    if (row->fetch.tries > options->retries) return AFTER_DONE;
    *wait = back_off(row);
    return AFTER_RETRY;
}
