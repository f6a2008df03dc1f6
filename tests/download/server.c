/* The misbehaving server: one process, one poll loop, a small state per connection. */
#include "tests/download/server.h"

#include "pictures/pictures.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

enum { MAX_CONNECTIONS = 2048, MAX_PATHS = 64, REQUEST_BYTES = 4096 };

typedef struct {
    int fd;
    SSL *ssl; /* NULL: none */
    char request[REQUEST_BYTES];
    size_t request_size;
    limn_buffer answer;
    size_t sent;
    size_t step;    /* bytes at a time; 0: as many as go */
    double next;    /* when the next bytes may go */
    size_t at_once; /* bytes that go before `step` counts */
    bool endless, silent, close_after, reset_after;
} connection;

typedef struct {
    int listener, port;
    SSL_CTX *tls; /* NULL: none */
    volatile server_counts *counts;
    double pause_ends;
    connection connections[MAX_CONNECTIONS];
    size_t count;
    char asked[MAX_PATHS][128]; /* addresses that fail the first time only, once they were asked for */
    size_t asked_count;
} server;

static limn_buffer picture_bytes(unsigned number, bool png) {
    picture made;
    limn_buffer out = {0};
    if (picture_create(&made, 96, 80, NULL)) abort();
    for (size_t y = 0; y < 80; y++)
        for (size_t x = 0; x < 96; x++) {
            unsigned char *pixel = made.pixels + 3 * (y * 96 + x);
            pixel[0] = (unsigned char)(2 * x + number * 37);
            pixel[1] = (unsigned char)(3 * y + number * 91);
            pixel[2] = (unsigned char)(x + y + number * 13);
        }
    if (png ? picture_encode_png(&made, &out, NULL) : picture_encode_jpeg(&made, 90, &out, NULL)) abort();
    picture_free(&made);
    return out;
}

/* 60000x60000 declared, nothing behind it; the checksum of its header is right. */
static limn_buffer bomb_bytes(void) {
    static const unsigned char bytes[] = {0x89, 'P', 'N', 'G',  '\r', '\n', 0x1A, '\n', 0,    0, 0, 13, 'I', 'H', 'D',
                                          'R',  0,   0,   0xEA, 0x60, 0,    0,    0xEA, 0x60, 8, 2, 0,  0,   0};
    limn_buffer out = {0};
    limn_buffer_append(&out, bytes, sizeof bytes, NULL);
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 12; i < sizeof bytes; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    }
    crc = htonl(~crc);
    limn_buffer_append(&out, &crc, 4, NULL);
    limn_buffer_append(&out, "\0\0\0\0IDAT\x35\xAF\x06\x1E\0\0\0\0IEND\xAE\x42\x60\x82", 24, NULL);
    return out;
}

static limn_buffer compress_bytes(const limn_buffer *head, size_t zeros) {
    z_stream stream = {0};
    limn_buffer out = {0};
    unsigned char *plain = calloc(1, head->size + zeros);
    if (!plain || deflateInit2(&stream, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY)) abort(); /* 31: gzip */
    memcpy(plain, head->data, head->size);
    const uLong bound = deflateBound(&stream, head->size + zeros);
    if (limn_buffer_reserve(&out, bound, NULL)) abort();
    stream.next_in = plain;
    stream.avail_in = (uInt)(head->size + zeros);
    stream.next_out = (unsigned char *)out.data;
    stream.avail_out = (uInt)bound;
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END) abort();
    out.size = stream.total_out;
    deflateEnd(&stream);
    free(plain);
    return out;
}

static bool first_time(server *self, const char *path) {
    for (size_t i = 0; i < self->asked_count; i++)
        if (!strcmp(self->asked[i], path)) return false;
    if (self->asked_count < MAX_PATHS) snprintf(self->asked[self->asked_count++], sizeof self->asked[0], "%s", path);
    return true;
}

static void answer(connection *c, const char *status, const char *headers, const limn_buffer *body) {
    limn_buffer_printf(&c->answer, NULL, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n", status, headers,
                       body ? body->size : 0);
    if (body) limn_buffer_append(&c->answer, body->data, body->size, NULL);
}

/* Announces `announced` bytes, sends what is there of the first `sent` of the body, and closes. */
static void answer_lying(connection *c, unsigned long long announced, const limn_buffer *body, size_t sent) {
    limn_buffer_printf(&c->answer, NULL, "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %llu\r\n\r\n",
                       announced);
    limn_buffer_append(&c->answer, body->data, sent, NULL);
    c->close_after = true;
}

static void respond(server *self, connection *c) {
    char path[128] = "", word[64] = "";
    unsigned number = 0;
    const char *type = "Content-Type: image/jpeg\r\n";
    if (sscanf(c->request, "GET http://%*[^/]%127s", path) != 1 && sscanf(c->request, "GET %127s", path) != 1) path[0] = 0;
    sscanf(path, "/%63[^/]/%u", word, &number);
    limn_buffer jpeg = picture_bytes(number, false);
    char location[160];
    if (!strcmp(word, "picture"))
        answer(c, "200 OK", type, &jpeg);
    else if (!strcmp(word, "png")) {
        limn_buffer png = picture_bytes(number, true);
        answer(c, "200 OK", "Content-Type: image/png\r\n", &png);
        limn_buffer_free(&png);
    } else if (!strcmp(word, "late")) {
        answer(c, "200 OK", type, &jpeg);
        c->next = limn_seconds() + 0.02;
    } else if (!strcmp(word, "wrong-type"))
        answer(c, "200 OK", "Content-Type: text/html\r\n", &jpeg);
    else if (!strcmp(word, "redirect")) {
        snprintf(location, sizeof location, "Location: /picture/%u\r\n", number);
        answer(c, "302 Found", location, NULL);
    } else if (!strcmp(word, "loop")) {
        snprintf(location, sizeof location, "Location: %s\r\n", path);
        answer(c, "302 Found", location, NULL);
    } else if (!strcmp(word, "hops")) {
        snprintf(location, sizeof location, "Location: /hops/%u\r\n", number - 1);
        if (number)
            answer(c, "302 Found", location, NULL);
        else
            answer(c, "200 OK", type, &jpeg);
    } else if (!strcmp(word, "slow-hop")) {
        answer(c, "302 Found", "Location: /slow-hop/0\r\n", NULL);
        c->next = limn_seconds() + 1;
    } else if (!strcmp(word, "away")) {
        snprintf(location, sizeof location, "Location: http://elsewhere.test:%d/picture/%u\r\n", self->port, number);
        answer(c, "302 Found", location, NULL);
    } else if (!strcmp(word, "to-private"))
        answer(c, "302 Found", "Location: http://127.0.0.1:1/\r\n", NULL);
    else if (!strcmp(word, "to-file"))
        answer(c, "302 Found", "Location: file:///etc/passwd\r\n", NULL);
    else if (!strcmp(word, "to-nowhere"))
        answer(c, "302 Found", "Location: http://\r\n", NULL);
    else if (!strcmp(word, "gone"))
        answer(c, "410 Gone", type, NULL);
    else if (!strcmp(word, "broken"))
        answer(c, "500 Broken", type, NULL);
    else if (!strcmp(word, "flaky")) {
        if (first_time(self, path))
            answer(c, "500 Broken", type, NULL);
        else
            answer(c, "200 OK", type, &jpeg);
    } else if (!strcmp(word, "busy")) {
        if (first_time(self, path))
            answer(c, "429 Too Many Requests", "Retry-After: 1\r\n", NULL);
        else
            answer(c, "200 OK", type, &jpeg);
    } else if (!strcmp(word, "pause")) {
        if (first_time(self, "pause")) {
            answer(c, "429 Too Many Requests", "Retry-After: 1\r\n", NULL);
            self->pause_ends = limn_seconds() + 0.9;
        } else
            answer(c, "200 OK", type, &jpeg);
    } else if (!strcmp(word, "no-more"))
        answer(c, "429 Too Many Requests", "Retry-After: 1\r\n", NULL);
    else if (!strcmp(word, "odd"))
        limn_buffer_printf(&c->answer, NULL, "HTTP/1.1 304 Not Modified\r\n\r\n");
    else if (!strcmp(word, "never"))
        c->silent = true;
    else if (!strcmp(word, "slow")) {
        answer(c, "200 OK", type, &jpeg);
        c->step = 1;
    } else if (!strcmp(word, "drip")) {
        answer(c, "200 OK", type, &jpeg);
        c->step = 1;
        c->at_once = c->answer.size - jpeg.size + 100;
    } else if (!strcmp(word, "flood")) {
        limn_buffer_printf(&c->answer, NULL, "HTTP/1.1 200 OK\r\n");
        for (int i = 0; i < 20000; i++) limn_buffer_printf(&c->answer, NULL, "X-More: and more and more and more\r\n");
        c->silent = true;
    } else if (!strcmp(word, "endless") || !strcmp(word, "headers")) {
        limn_buffer_printf(&c->answer, NULL, "HTTP/1.1 200 OK\r\n");
        if (word[0] == 'e') {
            limn_buffer_printf(&c->answer, NULL, "Connection: close\r\n\r\n");
            limn_buffer_append(&c->answer, jpeg.data, 200, NULL);
        }
        c->endless = true;
        c->step = word[0] == 'e' ? 0 : SIZE_MAX; /* told apart by feed() */
    } else if (!strcmp(word, "long"))
        answer_lying(c, jpeg.size + 1000, &jpeg, jpeg.size);
    else if (!strcmp(word, "short"))
        answer_lying(c, jpeg.size / 2, &jpeg, jpeg.size);
    else if (!strcmp(word, "vast"))
        answer_lying(c, 1000000000000000ull, &jpeg, jpeg.size);
    else if (!strcmp(word, "reset")) {
        answer_lying(c, jpeg.size, &jpeg, jpeg.size / 2);
        c->reset_after = true;
    } else if (!strcmp(word, "hangup"))
        c->close_after = true;
    else if (!strcmp(word, "empty"))
        answer(c, "200 OK", type, NULL);
    else if (!strcmp(word, "cut"))
        answer_lying(c, jpeg.size / 2, &jpeg, jpeg.size / 2);
    else if (!strcmp(word, "noai"))
        answer(c, "200 OK", "X-Robots-Tag: noai, noimageai\r\n", &jpeg);
    else if (!strcmp(word, "noindex"))
        answer(c, "200 OK", "x-robots-tag: noarchive ,  NoImageIndex\r\n", &jpeg);
    else if (!strcmp(word, "otherbot"))
        answer(c, "200 OK", "X-Robots-Tag: otherbot: noai\r\n", &jpeg);
    else if (!strcmp(word, "ourbot"))
        answer(c, "200 OK", "X-Robots-Tag: Limn-Download: noai\r\n", &jpeg);
    else if (!strcmp(word, "preview"))
        answer(c, "200 OK", "X-Robots-Tag: max-image-preview: large, noai\r\n", &jpeg);
    else if (!strcmp(word, "reserved"))
        answer(c, "200 OK", "TDM-Reservation: 1\r\ntdm-policy: https://example.org/policy\r\n", &jpeg);
    else if (!strcmp(word, "unreserved"))
        answer(c, "200 OK", "tdm-reservation: 0\r\n", &jpeg);
    else if (!strcmp(word, "gzip") || !strcmp(word, "gzip-bomb")) {
        limn_buffer packed = compress_bytes(&jpeg, word[4] ? (size_t)64 << 20 : 0);
        answer(c, "200 OK", "Content-Encoding: gzip\r\n", &packed);
        limn_buffer_free(&packed);
    } else if (!strcmp(word, "not-gzip"))
        answer(c, "200 OK", "Content-Encoding: gzip\r\n", &jpeg);
    else if (!strcmp(word, "html")) {
        limn_buffer page = {0};
        limn_buffer_printf(&page, NULL,
                           "<!DOCTYPE html><title>Not found</title><p>There is no picture here, but here is a page.</p>");
        answer(c, "200 OK", type, &page);
        limn_buffer_free(&page);
    } else if (!strcmp(word, "bomb")) {
        limn_buffer bomb = bomb_bytes();
        answer(c, "200 OK", type, &bomb);
        limn_buffer_free(&bomb);
    } else if (!strcmp(word, "garbage")) {
        limn_buffer_printf(&c->answer, NULL, "SSH-2.0-not-a-web-server\r\nnor will it ever be one\r\n");
        c->close_after = true;
    } else
        answer(c, "404 Not Found", type, NULL);
    limn_buffer_free(&jpeg);
}

/* What an endless answer goes on with. */
static void feed(connection *c) {
    static const char zeros[65536];
    if (!c->endless || c->sent < c->answer.size) return;
    c->answer.size = c->sent = 0;
    if (c->step == 0)
        limn_buffer_append(&c->answer, zeros, sizeof zeros, NULL);
    else
        limn_buffer_printf(&c->answer, NULL, "X-More: and more and more and more and more and more and more and more\r\n");
}

/* As recv and send, through TLS where there is any. */
static ssize_t finish_tls(const connection *c, int result) {
    if (result > 0) return result;
    const int code = SSL_get_error(c->ssl, result);
    errno = code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return code == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static ssize_t take_bytes(const connection *c, char *to, size_t size) {
    return c->ssl ? finish_tls(c, SSL_read(c->ssl, to, (int)size)) : recv(c->fd, to, size, 0);
}

static ssize_t send_bytes(const connection *c, const char *from, size_t size) {
    return c->ssl ? finish_tls(c, SSL_write(c->ssl, from, (int)size)) : send(c->fd, from, size, MSG_NOSIGNAL);
}

/* False when the connection is to be closed. */
static bool serve(server *self, connection *c, short events) {
    const double now = limn_seconds();
    if (events & (POLLIN | POLLHUP | POLLERR)) {
        if (c->request_size == sizeof c->request - 1) return false;
        const ssize_t got = take_bytes(c, c->request + c->request_size, sizeof c->request - 1 - c->request_size);
        if (got == 0 || (got < 0 && errno != EAGAIN)) return false;
        if (got > 0) c->request_size += (size_t)got;
        c->request[c->request_size] = 0;
        if (!c->answer.size && !c->silent && strstr(c->request, "\r\n\r\n")) {
            c->request_size = 0;
            self->counts->requests++;
            self->counts->during_pause += now < self->pause_ends;
            respond(self, c);
        }
    }
    feed(c);
    if (c->sent < c->answer.size && now >= c->next) {
        size_t size = c->answer.size - c->sent;
        if (c->step && size > c->step) size = c->sent < c->at_once ? c->at_once - c->sent : c->step;
        const ssize_t sent = send_bytes(c, c->answer.data + c->sent, size);
        if (sent < 0 && errno != EAGAIN) return false;
        if (sent > 0) c->sent += (size_t)sent;
        if (c->step) c->next = now + 0.1;
    }
    if (c->sent < c->answer.size || c->endless || c->silent) return true;
    if (c->close_after) {
        const struct linger at_once = {.l_onoff = 1};
        if (c->reset_after) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        return false;
    }
    c->answer.size = c->sent = c->step = c->at_once = 0;
    return true;
}

static void welcome(server *self, int fd) {
    connection *c = &self->connections[self->count++];
    *c = (connection){.fd = fd};
    self->counts->connections++;
    if (self->count > self->counts->most_at_once) self->counts->most_at_once = self->count;
    if (!self->tls) return;
    c->ssl = SSL_new(self->tls);
    if (!c->ssl || !SSL_set_fd(c->ssl, fd)) abort();
    SSL_set_accept_state(c->ssl);
}

static void serve_for_ever(server *self) {
    static struct pollfd polls[MAX_CONNECTIONS + 1];
    for (;;) {
        polls[0] = (struct pollfd){.fd = self->listener, .events = self->count < MAX_CONNECTIONS ? POLLIN : 0};
        const double now = limn_seconds();
        for (size_t i = 0; i < self->count; i++) {
            const connection *c = &self->connections[i];
            const bool ready = now >= c->next && (c->sent < c->answer.size || (c->endless && c->step == 0));
            polls[i + 1] = (struct pollfd){.fd = c->fd, .events = (short)(ready ? POLLIN | POLLOUT : POLLIN)};
        }
        if (poll(polls, self->count + 1, 10) < 0) _exit(1);
        for (size_t i = self->count; i-- > 0;) {
            if (serve(self, &self->connections[i], polls[i + 1].revents)) continue;
            SSL_free(self->connections[i].ssl);
            close(self->connections[i].fd);
            limn_buffer_free(&self->connections[i].answer);
            self->connections[i] = self->connections[--self->count];
        }
        if (polls[0].revents & POLLIN) {
            const int fd = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0) welcome(self, fd);
        }
    }
}

/* ---------------------------------------------------------------- certificates */

/* A certificate that vouches for itself, for 127.0.0.1 unless it is for another host. */
static void give_certificate(SSL_CTX *tls, server_certificate kind, const char *trusted) {
    const long day = 24 * 3600;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *made = X509_new();
    if (!key || !made) abort();
    char host[] = "IP:127.0.0.1", other[] = "DNS:other.example";
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), kind + 1);
    X509_gmtime_adj(X509_getm_notBefore(made), -10 * day);
    X509_gmtime_adj(X509_getm_notAfter(made), kind == CERTIFICATE_EXPIRED ? -day : 10 * day);
    X509_set_pubkey(made, key);
    X509_NAME *name = X509_get_subject_name(made);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"Limn's test", -1, -1, 0);
    X509_NAME_add_entry_by_txt(name, "serialNumber", MBSTRING_ASC, (const unsigned char *)(char[]){(char)('0' + kind), 0}, -1,
                               -1, 0);
    X509_set_issuer_name(made, name);
    X509_EXTENSION *names =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, kind == CERTIFICATE_WRONG_HOST ? other : host);
    if (!names || !X509_add_ext(made, names, -1) || !X509_sign(made, key, EVP_sha256())) abort();
    if (SSL_CTX_use_certificate(tls, made) != 1 || SSL_CTX_use_PrivateKey(tls, key) != 1) abort();
    if (kind != CERTIFICATE_UNKNOWN) {
        FILE *file = fopen(trusted, "a");
        if (!file || !PEM_write_X509(file, made) || fclose(file)) abort();
    }
    X509_EXTENSION_free(names);
    X509_free(made);
    EVP_PKEY_free(key);
}

/* ---------------------------------------------------------------- starting and stopping */

static test_server begin(SSL_CTX *tls) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    server *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->tls = tls;
    self->counts = mmap(NULL, sizeof *self->counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (self->counts == MAP_FAILED || self->listener < 0 || bind(self->listener, (struct sockaddr *)&address, sizeof address) ||
        listen(self->listener, 1024) || getsockname(self->listener, (struct sockaddr *)&address, &size))
        abort();
    self->port = ntohs(address.sin_port);
    const pid_t process = fork();
    if (process < 0) abort();
    if (process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve_for_ever(self);
    }
    close(self->listener);
    const test_server made = {process, self->port, self->counts};
    free(self);
    return made;
}

test_server server_start(void) {
    return begin(NULL);
}

test_server server_start_tls(server_certificate kind, const char *trusted) {
    signal(SIGPIPE, SIG_IGN); /* SSL_write knows no MSG_NOSIGNAL */
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (!tls) abort();
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    give_certificate(tls, kind, trusted);
    const test_server made = begin(tls);
    SSL_CTX_free(tls);
    return made;
}

void server_stop(test_server *self) {
    kill(self->process, SIGKILL);
    waitpid(self->process, NULL, 0);
    munmap((void *)(uintptr_t)self->counts, sizeof *self->counts);
}
