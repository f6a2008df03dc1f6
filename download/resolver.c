/* Names to addresses, by c-ares on the loop's own epoll: no thread a look-up, and nothing waits. */
#include "download/fetch.h"

#include <ares.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* c-ares asks each server a second time, and waits twice as long then: 3 times the first wait for each server. */
enum { TRIES = 2, ROUNDS = 3, SHORTEST_MILLISECONDS = 50, LONGEST_MILLISECONDS = 3000, RECEIVE_BYTES = 1 << 20 };
enum { TTL_LEAST = 60, TTL_MOST = 3600, TTL_NO_NAME = 600, TTL_NO_ANSWER = 60 };

struct resolver {
    const fetch_options *options;
    ares_channel channel;
    int epoll;
    resolver_answer *answer;
    void *owner;
    size_t running;
};

typedef struct {
    resolver *self;
    host *host;
} question;

static void on_socket_state(void *context, ares_socket_t fd, int readable, int writable) {
    resolver *self = context;
    struct epoll_event event = {.data.u64 = LOOP_RESOLVER | (uint32_t)fd};
    if (readable) event.events |= EPOLLIN;
    if (writable) event.events |= EPOLLOUT;
    if (!event.events)
        epoll_ctl(self->epoll, EPOLL_CTL_DEL, fd, &event);
    else if (epoll_ctl(self->epoll, EPOLL_CTL_MOD, fd, &event))
        epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event); /* where this fails too, the look-up ends by its time */
}

resolver *resolver_create(const fetch_options *options, int epoll, resolver_answer *answer, void *owner, limn_error *error) {
    resolver *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    *self = (resolver){.options = options, .epoll = epoll, .answer = answer, .owner = owner};
    double each = options->timeout * 1000 / ROUNDS;
    if (each > LONGEST_MILLISECONDS) each = LONGEST_MILLISECONDS;
    if (each < SHORTEST_MILLISECONDS) each = SHORTEST_MILLISECONDS;
    struct ares_options wish = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
                                .tries = TRIES,
                                .timeout = (int)each,
                                .socket_receive_buffer_size = RECEIVE_BYTES,
                                .lookups = (char[]){"fb"}, /* /etc/hosts first */
                                .sock_state_cb = on_socket_state,
                                .sock_state_cb_data = self};
    const int mask =
        ARES_OPT_FLAGS | ARES_OPT_TRIES | ARES_OPT_TIMEOUTMS | ARES_OPT_SOCK_RCVBUF | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
    int code = ares_init_options(&self->channel, &wish, mask);
    if (!code && options->resolver) code = ares_set_servers_ports_csv(self->channel, options->resolver);
    if (!code) return self;
    if (options->resolver)
        limn_fail_usage(error, "--resolver %s: not of the form ADDRESS[:PORT],… (%s)", options->resolver, ares_strerror(code));
    else
        limn_fail(error, "names cannot be looked up: %s", ares_strerror(code));
    resolver_destroy(self);
    return NULL;
}

void resolver_destroy(resolver *self) {
    if (!self) return;
    self->answer = NULL;
    if (self->channel) ares_destroy(self->channel);
    free(self);
}

/* At most HOST_ADDRESSES, in c-ares' order (RFC 6724), private ones left out unless they are allowed. */
static void keep_addresses(host *to, const struct ares_addrinfo *found, bool *some_private, bool allow_private) {
    int ttl = TTL_MOST;
    to->address_count = 0;
    for (const struct ares_addrinfo_node *node = found->nodes; node; node = node->ai_next) {
        host_address address = {.family = node->ai_family};
        if (node->ai_ttl < ttl) ttl = node->ai_ttl;
        if (node->ai_family == AF_INET)
            memcpy(address.bytes, (const char *)node->ai_addr + offsetof(struct sockaddr_in, sin_addr), 4);
        else if (node->ai_family == AF_INET6)
            memcpy(address.bytes, (const char *)node->ai_addr + offsetof(struct sockaddr_in6, sin6_addr), 16);
        else
            continue;
        if (!allow_private && host_address_is_private(&address))
            *some_private = true;
        else if (to->address_count < HOST_ADDRESSES)
            to->addresses[to->address_count++] = address;
    }
    to->expires = limn_seconds() + (ttl < TTL_LEAST ? TTL_LEAST : ttl);
}

/* Goes on with the address that connections are open to, if the name still leads there. */
static void keep_choice(host *to, const host_address *before) {
    to->address = 0;
    for (size_t i = 0; i < to->address_count; i++)
        if (!memcmp(&to->addresses[i], before, sizeof *before)) to->address = i;
}

static void on_answer(void *context, int code, int timeouts, struct ares_addrinfo *found) {
    (void)timeouts;
    question *asked = context;
    resolver *self = asked->self;
    host *to = asked->host;
    free(asked);
    self->running--;
    if (!self->answer) { /* all is being destroyed */
        ares_freeaddrinfo(found);
        return;
    }
    const host_address before = to->addresses[to->address];
    const bool no_name = code == ARES_ENOTFOUND || code == ARES_ENODATA || code == ARES_EBADNAME;
    bool some_private = false;
    if (code != ARES_SUCCESS && !no_name && to->address_count) { /* where it was a while ago is the best guess */
        to->state = HOST_KNOWN;
        to->expires = limn_seconds() + TTL_NO_ANSWER;
        self->answer(self->owner, to);
        return;
    }
    to->address_count = 0;
    if (code == ARES_SUCCESS) keep_addresses(to, found, &some_private, self->options->allow_private);
    ares_freeaddrinfo(found);
    keep_choice(to, &before);
    to->state = to->address_count ? HOST_KNOWN : HOST_FAILED;
    if (!to->address_count) {
        to->expires = limn_seconds() + (no_name || some_private ? TTL_NO_NAME : TTL_NO_ANSWER);
        if (some_private)
            host_fail(to, "private_address", "the name leads to a private network (--allow-private takes it)");
        else if (code == ARES_ENOMEM)
            host_fail(to, "memory", "out of memory");
        else
            host_fail(to, "dns", code == ARES_SUCCESS ? "the name has no address" : ares_strerror(code));
    }
    self->answer(self->owner, to);
}

void resolver_ask(resolver *self, host *about) {
    const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    question *asked = malloc(sizeof *asked);
    if (!asked) {
        about->state = HOST_FAILED;
        about->expires = limn_seconds() + 1;
        host_fail(about, "memory", "out of memory");
        self->answer(self->owner, about);
        return;
    }
    *asked = (question){self, about};
    self->running++;
    ares_getaddrinfo(self->channel, about->name, NULL, &hints, on_answer, asked);
}

size_t resolver_running(const resolver *self) {
    return self->running;
}

void resolver_event(resolver *self, int fd, uint32_t events) {
    ares_process_fd(self->channel, events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? fd : ARES_SOCKET_BAD,
                    events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
}

double resolver_wait(resolver *self, double seconds) {
    struct timeval most = {.tv_sec = (time_t)seconds, .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    struct timeval room;
    if (!self->running) return seconds;
    const struct timeval *wait = ares_timeout(self->channel, &most, &room);
    return (double)wait->tv_sec + (double)wait->tv_usec * 1e-6;
}

void resolver_timers(resolver *self) {
    if (self->running) ares_process_fd(self->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}
