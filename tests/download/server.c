/* The misbehaving server: one process, one poll loop, a small state per connection. */
#include "tests/download/server.h"

#include "pictures/pictures.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 256, MAX_PATHS = 64, REQUEST_BYTES = 4096 };

typedef struct {
    int fd;
    char request[REQUEST_BYTES];
    size_t request_size;
    limn_buffer answer;
    size_t sent;
    size_t step; /* bytes at a time; 0: as many as go */
    double next; /* when the next bytes may go */
    bool endless, silent, close_after, reset_after;
} connection;

typedef struct {
    int listener;
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
    if (sscanf(c->request, "GET %127s", path) != 1) path[0] = 0;
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
    } else if (!strcmp(word, "to-file"))
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
    } else if (!strcmp(word, "odd"))
        limn_buffer_printf(&c->answer, NULL, "HTTP/1.1 304 Not Modified\r\n\r\n");
    else if (!strcmp(word, "never"))
        c->silent = true;
    else if (!strcmp(word, "slow")) {
        answer(c, "200 OK", type, &jpeg);
        c->step = 1;
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

/* False when the connection is to be closed. */
static bool serve(server *self, connection *c, short events) {
    const double now = limn_seconds();
    if (events & (POLLIN | POLLHUP | POLLERR)) {
        if (c->request_size == sizeof c->request - 1) return false;
        const ssize_t got = recv(c->fd, c->request + c->request_size, sizeof c->request - 1 - c->request_size, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) return false;
        if (got > 0) c->request_size += (size_t)got;
        c->request[c->request_size] = 0;
        if (!c->answer.size && !c->silent && strstr(c->request, "\r\n\r\n")) {
            c->request_size = 0;
            respond(self, c);
        }
    }
    feed(c);
    if (c->sent < c->answer.size && now >= c->next) {
        size_t size = c->answer.size - c->sent;
        if (c->step && size > c->step) size = c->step;
        const ssize_t sent = send(c->fd, c->answer.data + c->sent, size, MSG_NOSIGNAL);
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
    c->answer.size = c->sent = 0;
    c->step = 0;
    return true;
}

static void serve_for_ever(server *self) {
    struct pollfd polls[MAX_CONNECTIONS + 1];
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
            close(self->connections[i].fd);
            limn_buffer_free(&self->connections[i].answer);
            self->connections[i] = self->connections[--self->count];
        }
        if (polls[0].revents & POLLIN) {
            const int fd = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0) self->connections[self->count++] = (connection){.fd = fd};
        }
    }
}

test_server server_start(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    server *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (self->listener < 0 || bind(self->listener, (struct sockaddr *)&address, sizeof address) ||
        listen(self->listener, 256) || getsockname(self->listener, (struct sockaddr *)&address, &size))
        abort();
    const pid_t process = fork();
    if (process < 0) abort();
    if (process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve_for_ever(self);
    }
    close(self->listener);
    free(self);
    return (test_server){process, ntohs(address.sin_port)};
}

void server_stop(test_server *self) {
    kill(self->process, SIGKILL);
    waitpid(self->process, NULL, 0);
}
