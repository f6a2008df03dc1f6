/* One event loop: libcurl's multi socket interface and the resolver on one epoll, and which row may start when. */
#include "download/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { EVENTS = 256, LOOKUPS_LEAST = 64, LOOKUPS_MOST = 1024, TICK_SECONDS = 1 };

/* A row that tries again, or a host whose pause ends. */
typedef struct {
    double due;
    download_row *row;
    host *host;
} alarm_entry;

/* What a descriptor is watched for by epoll, and what curl wishes; 0: nothing. */
typedef struct {
    uint8_t watched, wanted;
} interest;

struct fetch_loop {
    fetcher *owner;
    const fetch_options *options;
    limn_threads thread;
    atomic_bool stop, starved; /* starved: rows wait for a free transfer */

    pthread_mutex_t mutex; /* for these two */
    row_queue inbox;
    bool asleep; /* in epoll, or on its way there */

    CURLM *multi;
    struct curl_slist *headers;
    int epoll, wake;
    double timer_due; /* of curl's, by limn_seconds(); negative: none */
    double next_tick;
    interest *sockets; /* (socket_count), by number */
    size_t socket_count;

    host_table hosts;
    host_list ready;   /* may start a row, in turn */
    host_list unasked; /* wait for a look-up */
    resolver *resolver;
    size_t lookups_most;
    alarm_entry *alarms; /* (alarm_room): a heap, the earliest first */
    size_t alarm_count, alarm_room;
    transfer **transfers; /* (transfer_room): all there are */
    size_t transfer_count, transfer_room;
    transfer *free_transfers;
    row_queue done;
};

const fetch_options *loop_options(const fetch_loop *self) {
    return self->options;
}

struct curl_slist *loop_headers(const fetch_loop *self) {
    return self->headers;
}

/* ---------------------------------------------------------------- alarms */

static void swap_alarms(alarm_entry *a, alarm_entry *b) {
    const alarm_entry kept = *a;
    *a = *b;
    *b = kept;
}

static bool alarm_set(fetch_loop *self, double due, download_row *row, host *of) {
    if (self->alarm_count == self->alarm_room) {
        const size_t room = self->alarm_room ? 2 * self->alarm_room : 64;
        alarm_entry *grown = realloc(self->alarms, room * sizeof *grown);
        if (!grown) return false;
        self->alarms = grown;
        self->alarm_room = room;
    }
    size_t at = self->alarm_count++;
    self->alarms[at] = (alarm_entry){due, row, of};
    for (; at && self->alarms[at].due < self->alarms[(at - 1) / 2].due; at = (at - 1) / 2)
        swap_alarms(&self->alarms[at], &self->alarms[(at - 1) / 2]);
    return true;
}

static alarm_entry alarm_pop(fetch_loop *self) {
    const alarm_entry first = self->alarms[0];
    self->alarms[0] = self->alarms[--self->alarm_count];
    for (size_t at = 0, child; (child = 2 * at + 1) < self->alarm_count; at = child) {
        if (child + 1 < self->alarm_count && self->alarms[child + 1].due < self->alarms[child].due) child++;
        if (self->alarms[at].due <= self->alarms[child].due) break;
        swap_alarms(&self->alarms[at], &self->alarms[child]);
    }
    return first;
}

/* ---------------------------------------------------------------- what curl calls */

/* Descriptors stay with epoll while their connection is kept: the next picture over it costs no calls. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context) {
    (void)easy, (void)socket_context;
    fetch_loop *self = context;
    struct epoll_event event = {.data.u64 = LOOP_TRANSFER | (uint32_t)fd};
    const size_t number = (size_t)fd;
    if (number >= self->socket_count) {
        const size_t count = 2 * number + 64;
        interest *grown = realloc(self->sockets, count * sizeof *grown);
        if (!grown) return -1;
        memset(grown + self->socket_count, 0, (count - self->socket_count) * sizeof *grown);
        self->sockets = grown;
        self->socket_count = count;
    }
    interest *entry = &self->sockets[number];
    entry->wanted = 0;
    if (what == CURL_POLL_REMOVE) return 0;
    if (what & CURL_POLL_IN) event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
    entry->wanted = (uint8_t)event.events;
    if (entry->watched == entry->wanted) return 0;
    if (epoll_ctl(self->epoll, entry->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event)) return -1;
    entry->watched = entry->wanted;
    return 0;
}

void loop_forget_socket(fetch_loop *self, int fd) {
    if ((size_t)fd >= self->socket_count || !self->sockets[fd].watched) return;
    struct epoll_event event = {0};
    epoll_ctl(self->epoll, EPOLL_CTL_DEL, fd, &event);
    self->sockets[fd].watched = 0;
}

static int on_timer(CURLM *multi, long milliseconds, void *context) {
    (void)multi;
    fetch_loop *self = context;
    self->timer_due = milliseconds < 0 ? -1 : limn_seconds() + (double)milliseconds * 1e-3;
    return 0;
}

/* ---------------------------------------------------------------- which row may start */

static void give_up(fetch_loop *self, download_row *row, const char *reason, const char *detail) {
    download_row_fail(row, reason, "%s", detail);
    row_queue_push(&self->done, row);
}

static void give_up_all(fetch_loop *self, host *of) {
    for (download_row *row; (row = row_queue_pop(&of->rows));) give_up(self, row, of->reason, of->detail);
}

/* Addresses need no look-up, and a proxy makes its own. */
static void know_without_asking(fetch_loop *self, host *of) {
    host_address literal;
    const size_t size = strlen(of->name);
    const bool is_literal = host_is_literal(of->name, &literal);
    const bool local = !strcmp(of->name, "localhost") || (size > 10 && !strcmp(of->name + size - 10, ".localhost"));
    if (!is_literal && !self->options->proxy) return;
    of->expires = 1e300;
    of->state = HOST_KNOWN;
    if (!self->options->allow_private && (is_literal ? host_address_is_private(&literal) : local)) {
        of->state = HOST_FAILED;
        host_fail(of, "private_address", "an address of a private network (--allow-private takes it)");
    } else if (is_literal && !self->options->proxy) {
        of->addresses[0] = literal;
        of->address_count = 1;
    }
}

/* The first transfer over TLS goes alone: it tells whether the others share its connection. */
static bool has_room(const fetch_loop *self, const host *at) {
    if (at->running && !at->scouted && at->rows.first->fetch.at.https) return false;
    return at->running < self->options->per_host;
}

/* Finds the place of a host with rows that wait: among those that are ready, those to be looked up, or those that pause. */
static void review(fetch_loop *self, host *of, double now) {
    if (!of->rows.count || of->listed) return;
    if ((of->state == HOST_KNOWN || of->state == HOST_FAILED) && now >= of->expires) of->state = HOST_UNKNOWN;
    if (of->state == HOST_UNKNOWN) know_without_asking(self, of);
    switch (of->state) {
    case HOST_UNKNOWN:
        of->listed = true;
        host_list_push(&self->unasked, of);
        break;
    case HOST_LOOKED_UP:
        break;
    case HOST_FAILED:
        give_up_all(self, of);
        break;
    case HOST_KNOWN:
        if (now < of->refused_until) {
            give_up_all(self, of);
        } else if (now < of->paused_until) {
            of->listed = alarm_set(self, of->paused_until, NULL, of);
            if (!of->listed) {
                host_fail(of, "memory", "out of memory");
                give_up_all(self, of);
            }
        } else if (has_room(self, of)) {
            of->listed = true;
            host_list_push(&self->ready, of);
        }
        break;
    }
}

static void on_answer(void *owner, host *about) {
    review(owner, about, limn_seconds());
}

static void ask_names(fetch_loop *self) {
    while (self->unasked.first && resolver_running(self->resolver) < self->lookups_most) {
        host *of = host_list_pop(&self->unasked);
        of->listed = false;
        of->state = HOST_LOOKED_UP;
        resolver_ask(self->resolver, of);
    }
}

/* ---------------------------------------------------------------- transfers */

static transfer *take_transfer(fetch_loop *self) {
    transfer *t = self->free_transfers;
    if (t) {
        self->free_transfers = t->next_free;
        return t;
    }
    if (self->transfer_count == self->transfer_room) {
        const size_t room = self->transfer_room ? 2 * self->transfer_room : 64;
        transfer **grown = realloc(self->transfers, room * sizeof *grown);
        if (!grown) return NULL;
        self->transfers = grown;
        self->transfer_room = room;
    }
    t = transfer_create(self);
    if (t) self->transfers[self->transfer_count++] = t;
    return t;
}

static void release(fetch_loop *self, transfer *t) {
    free(t->data);
    t->data = NULL;
    t->row = NULL;
    t->host = NULL;
    t->next_free = self->free_transfers;
    self->free_transfers = t;
}

static void start(fetch_loop *self, host *at, download_row *row) {
    transfer *t = take_transfer(self);
    if (t && !transfer_prepare(t, row, at) && !curl_multi_add_handle(self->multi, t->easy)) {
        at->running++;
        row->fetch.holds_slot = true;
        return;
    }
    if (t) release(self, t);
    fetcher_free_slot(self->owner, self);
    give_up(self, row, "memory", "out of memory for a transfer; use a smaller --concurrency");
}

static void start_ready(fetch_loop *self, double now) {
    while (self->ready.first && fetcher_take_slot(self->owner, &self->starved)) {
        host *at = host_list_pop(&self->ready);
        at->listed = false;
        const bool may_start = at->state == HOST_KNOWN && now < at->expires && now >= at->paused_until &&
                               now >= at->refused_until && at->rows.count && has_room(self, at);
        download_row *row = may_start ? row_queue_pop(&at->rows) : NULL;
        if (row)
            start(self, at, row);
        else
            fetcher_free_slot(self->owner, self);
        review(self, at, now);
    }
}

static void accept_row(fetch_loop *self, download_row *row, double now) {
    host *at = host_table_get(&self->hosts, row->fetch.at.host, fetcher_host_hash(row->fetch.at.host));
    if (!at) {
        give_up(self, row, "memory", "out of memory");
        return;
    }
    row_queue_push(&at->rows, row);
    review(self, at, now);
}

/* Back to the address in the list. */
static void begin_again(fetch_loop *self, download_row *row) {
    url_parts_free(&row->fetch.at);
    fetcher_route(self->owner, row, &self->done);
}

static void finish(fetch_loop *self, transfer *t, CURLcode code) {
    download_row *row = t->row;
    host *at = t->host;
    double wait = 0;
    const transfer_after after = transfer_judge(t, code, &wait);
    curl_multi_remove_handle(self->multi, t->easy);
    release(self, t);
    at->running--;
    const double now = limn_seconds();
    if (!row->data) { /* a picture counts until it is taken */
        row->fetch.holds_slot = false;
        fetcher_free_slot(self->owner, self);
    }
    switch (after) {
    case AFTER_DONE:
        row_queue_push(&self->done, row);
        break;
    case AFTER_REDIRECT:
        fetcher_route(self->owner, row, &self->done);
        break;
    case AFTER_OTHER_ADDRESS:
        row_queue_push(&at->rows, row);
        break;
    case AFTER_RETRY:
        if (!alarm_set(self, now + wait, row, NULL)) row_queue_push(&self->done, row); /* with the reason it has */
        break;
    }
    review(self, at, now);
}

/* ---------------------------------------------------------------- the loop */

static void take_inbox(fetch_loop *self, double now) {
    pthread_mutex_lock(&self->mutex);
    row_queue rows = self->inbox;
    self->inbox = (row_queue){0};
    self->asleep = false;
    pthread_mutex_unlock(&self->mutex);
    for (download_row *row; (row = row_queue_pop(&rows));) accept_row(self, row, now);
}

static void ring(fetch_loop *self, double now) {
    while (self->alarm_count && self->alarms[0].due <= now) {
        const alarm_entry entry = alarm_pop(self);
        if (entry.row) {
            begin_again(self, entry.row);
        } else {
            entry.host->listed = false;
            review(self, entry.host, now);
        }
    }
}

static void end_slow_ones(fetch_loop *self, double now) {
    if (now < self->next_tick) return;
    self->next_tick = now + TICK_SECONDS;
    for (size_t i = 0; i < self->transfer_count; i++)
        if (self->transfers[i]->row && transfer_is_too_slow(self->transfers[i], now))
            finish(self, self->transfers[i], CURLE_OPERATION_TIMEDOUT);
}

static void end_finished(fetch_loop *self) {
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(self->multi, &left));) {
        if (message->msg != CURLMSG_DONE) continue;
        const CURLcode code = message->data.result; /* the message is gone after remove_handle */
        char *private;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        finish(self, (transfer *)(void *)private, code);
    }
}

/* Whether it may sleep: nothing has come meanwhile. */
static bool fall_asleep(fetch_loop *self) {
    pthread_mutex_lock(&self->mutex);
    self->asleep = !self->inbox.count && !self->stop;
    const bool asleep = self->asleep;
    pthread_mutex_unlock(&self->mutex);
    return asleep;
}

static int wait_for_events(fetch_loop *self, limn_error *error) {
    struct epoll_event events[EVENTS];
    int running;
    const double now = limn_seconds();
    double seconds = self->next_tick - now;
    if (self->timer_due >= 0 && self->timer_due - now < seconds) seconds = self->timer_due - now;
    if (self->alarm_count && self->alarms[0].due - now < seconds) seconds = self->alarms[0].due - now;
    if (seconds > 0) seconds = resolver_wait(self->resolver, seconds);
    if (seconds < 0 || !fall_asleep(self)) seconds = 0;
    const int count = epoll_wait(self->epoll, events, EVENTS, seconds <= 0 ? 0 : (int)(seconds * 1000) + 1);
    if (count < 0 && errno != EINTR) return limn_fail(error, "waiting for transfers failed: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        const int fd = (int)(uint32_t)events[i].data.u64;
        const uint64_t kind = events[i].data.u64 & ~(uint64_t)UINT32_MAX;
        if (kind == LOOP_WAKE) {
            uint64_t ignored;
            if (read(self->wake, &ignored, sizeof ignored) < 0) continue;
        } else if (kind == LOOP_RESOLVER) {
            resolver_event(self->resolver, fd, events[i].events);
        } else if (!self->sockets[fd].wanted) { /* a kept connection that its server closed: curl finds out when it is used */
            loop_forget_socket(self, fd);
        } else {
            int what = 0;
            if (events[i].events & (EPOLLIN | EPOLLHUP)) what |= CURL_CSELECT_IN;
            if (events[i].events & EPOLLOUT) what |= CURL_CSELECT_OUT;
            if (events[i].events & EPOLLERR) what |= CURL_CSELECT_ERR;
            curl_multi_socket_action(self->multi, fd, what, &running);
        }
    }
    if (self->timer_due >= 0 && limn_seconds() >= self->timer_due) {
        self->timer_due = -1;
        curl_multi_socket_action(self->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    resolver_timers(self->resolver);
    return 0;
}

static void *work(void *context) {
    fetch_loop *self = context;
    limn_error error = {0};
    while (!self->stop) {
        const double now = limn_seconds();
        take_inbox(self, now);
        ring(self, now);
        end_finished(self);
        end_slow_ones(self, now);
        ask_names(self);
        start_ready(self, limn_seconds());
        if (self->done.count) fetcher_give_back(self->owner, &self->done);
        if (wait_for_events(self, &error)) {
            fetcher_broke(self->owner, &error);
            break;
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- from outside */

void loop_wake(fetch_loop *self) {
    const uint64_t one = 1;
    if (write(self->wake, &one, sizeof one) < 0) return; /* only when it is full of wakes already */
}

void loop_give(fetch_loop *self, download_row *row) {
    pthread_mutex_lock(&self->mutex);
    row_queue_push(&self->inbox, row);
    const bool asleep = self->asleep;
    self->asleep = false;
    pthread_mutex_unlock(&self->mutex);
    if (asleep) loop_wake(self);
}

void loop_slot_freed(fetch_loop *self) {
    if (atomic_exchange(&self->starved, false)) loop_wake(self);
}

fetch_loop *loop_create(fetcher *owner, limn_error *error) {
    const fetch_options *options = fetcher_options(owner);
    const size_t loops = fetcher_loops(owner);
    fetch_loop *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->owner = owner;
    self->options = options;
    self->timer_due = -1;
    pthread_mutex_init(&self->mutex, NULL);
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->multi = curl_multi_init();
    self->headers = curl_slist_append(NULL, "Accept: image/jpeg,image/png,image/webp,*/*;q=0.5");
    self->lookups_most = options->concurrency / loops;
    if (self->lookups_most < LOOKUPS_LEAST) self->lookups_most = LOOKUPS_LEAST;
    if (self->lookups_most > LOOKUPS_MOST / loops) self->lookups_most = LOOKUPS_MOST / loops;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = LOOP_WAKE};
    if (self->epoll < 0 || self->wake < 0 || !self->multi || !self->headers ||
        epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->wake, &event)) {
        limn_fail(error, "cannot set up transfers: %s", strerror(errno));
        loop_destroy(self);
        return NULL;
    }
    self->resolver = resolver_create(options, self->epoll, on_answer, self, error);
    if (!self->resolver || host_table_create(&self->hosts, HOSTS_MOST / loops, error)) {
        loop_destroy(self);
        return NULL;
    }
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETDATA, self);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERDATA, self);
    curl_multi_setopt(self->multi, CURLMOPT_MAXCONNECTS, (long)fetcher_connections(owner));
    return self;
}

int loop_start(fetch_loop *self, limn_error *error) {
    return limn_threads_start(&self->thread, 1, work, self, error);
}

void loop_stop(fetch_loop *self) {
    self->stop = true;
    loop_wake(self);
    limn_threads_join(&self->thread);
}

void loop_destroy(fetch_loop *self) {
    if (!self) return;
    for (size_t i = 0; i < self->transfer_count; i++) {
        if (self->transfers[i]->row) curl_multi_remove_handle(self->multi, self->transfers[i]->easy);
        transfer_destroy(self->transfers[i]);
    }
    if (self->multi) curl_multi_cleanup(self->multi);
    resolver_destroy(self->resolver);
    for (download_row *row; (row = row_queue_pop(&self->inbox));) download_row_free(row);
    for (download_row *row; (row = row_queue_pop(&self->done));) download_row_free(row);
    for (size_t i = 0; i < self->alarm_count; i++) download_row_free(self->alarms[i].row);
    host_table_free(&self->hosts);
    curl_slist_free_all(self->headers);
    if (self->epoll >= 0) close(self->epoll);
    if (self->wake >= 0) close(self->wake);
    pthread_mutex_destroy(&self->mutex);
    free(self->transfers);
    free(self->alarms);
    free(self->sockets);
    free(self);
}
