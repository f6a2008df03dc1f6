/* What the files of fetching share: hosts, the resolver, transfers and the loop that they run on.
 *
 *   fetch.c          options; the fetcher, which gives rows to its loops and takes them back
 *   fetch_loop.c     one event loop: which row of which host may start, what waits until when
 *   fetch_transfer.c one transfer: what libcurl is told, what an answer may do, why it failed
 *   fetch_hosts.c    the hosts a loop knows
 *   resolver.c       names to addresses
 *
 * A row goes to the loop that its host's hash picks, so that connections, limits and addresses of a host are in one thread. */
#ifndef LIMN_DOWNLOAD_FETCH_H
#define LIMN_DOWNLOAD_FETCH_H

#include "download/internal.h"

#include <curl/curl.h>
#include <stdatomic.h>

enum {
    HOST_ADDRESSES = 4,
    HOSTS_MOST = 32768, /* of all loops together; hosts with nothing to do are forgotten beyond it, the longest unused first */
    REDIRECTS_MOST = 8
};

typedef struct fetch_loop fetch_loop;

/* ---------------------------------------------------------------- hosts (fetch_hosts.c) */

typedef enum { HOST_UNKNOWN, HOST_LOOKED_UP, HOST_KNOWN, HOST_FAILED } host_state;

typedef struct host {
    struct host *next;          /* of its bucket */
    struct host *older, *newer; /* by last use */
    struct host *behind;        /* of the list it stands in */
    uint64_t hash;
    host_state state; /* LOOKED_UP: an answer is awaited */
    double expires;   /* of KNOWN and FAILED */
    host_address addresses[HOST_ADDRESSES];
    size_t address_count, address; /* the one in use; count 0 with KNOWN: the proxy knows */
    row_queue rows;                /* that may not start yet */
    size_t running;                /* transfers */
    bool scouted, multiplexes;     /* over TLS: one transfer went ahead; it found HTTP/2 */
    bool listed;                   /* stands in a list or waits for its time: will be looked at again */
    double paused_until;           /* by its own Retry-After */
    size_t pauses;                 /* since it last gave a picture */
    double refused_until;          /* after too many pauses its rows fail at once */
    char reason[32], detail[128];  /* of FAILED, and while refused */
    char name[];
} host;

void host_fail(host *self, const char *reason, const char *detail); /* sets both */

typedef struct {
    host **buckets; /* (bucket_count) */
    size_t bucket_count, count, most;
    host *oldest, *newest;
} host_table;
int host_table_create(host_table *self, size_t most, limn_error *error);
/* The host of this name, made when it is not there; NULL when out of memory. */
host *host_table_get(host_table *self, const char *name, uint64_t hash);
void host_table_free(host_table *self); /* with all rows that wait; of a zeroed one too */

typedef struct {
    host *first, *last;
} host_list;
void host_list_push(host_list *list, host *item);
host *host_list_pop(host_list *list); /* NULL when empty */

/* ---------------------------------------------------------------- names (resolver.c) */

typedef struct resolver resolver;
/* The host's state is KNOWN or FAILED now. Also called from within resolver_ask. */
typedef void resolver_answer(void *owner, host *about);
resolver *resolver_create(const fetch_options *options, int epoll, resolver_answer *answer, void *owner, limn_error *error);
/* Looks the host's name up. The host must stay until the answer. */
void resolver_ask(resolver *self, host *about);
size_t resolver_running(const resolver *self);
void resolver_event(resolver *self, int fd, uint32_t events);
double resolver_wait(resolver *self, double seconds); /* until resolver_timers is due, at most `seconds` */
void resolver_timers(resolver *self);
void resolver_destroy(resolver *self); /* NULL allowed */

/* ---------------------------------------------------------------- transfers (fetch_transfer.c) */

typedef enum {
    VERDICT_NONE,
    VERDICT_PRIVATE, /* refused to open a connection */
    VERDICT_NOAI,
    VERDICT_TOO_LARGE,
    VERDICT_TOO_SLOW,
    VERDICT_NOT_A_PICTURE,
    VERDICT_HEADERS,
    VERDICT_MEMORY
} transfer_verdict;

typedef struct transfer {
    struct transfer *next_free;
    fetch_loop *loop;
    CURL *easy;
    download_row *row; /* NULL: free */
    host *host;
    size_t address; /* of the host */
    unsigned char *data;
    size_t size, capacity;
    long status;                /* of the last answer whose head has begun */
    size_t head_bytes, ignored; /* received of heads, and of bodies that are not kept */
    double marked;              /* when the rate was looked at last; 0 before the first byte */
    size_t marked_bytes;
    transfer_verdict verdict;
    struct curl_slist connect_to; /* its one item, in `connect_text` */
    char connect_text[64];
    char message[CURL_ERROR_SIZE];
} transfer;

transfer *transfer_create(fetch_loop *loop); /* NULL when out of memory */
void transfer_destroy(transfer *self);
/* Sets libcurl's options for the row and its host. -1 when out of memory. */
int transfer_prepare(transfer *self, download_row *row, host *at);
/* True when it came more slowly than options->min_rate over the last seconds. */
bool transfer_is_too_slow(transfer *self, double now);

typedef enum { AFTER_DONE, AFTER_REDIRECT, AFTER_OTHER_ADDRESS, AFTER_RETRY } transfer_after;
/* Judges an ended transfer: the row gets its data or its reason, or what it is to do next (a redirect changes row->fetch.at);
 * what the host said of itself goes into the host. *wait is set for AFTER_RETRY. */
transfer_after transfer_judge(transfer *self, CURLcode code, double *wait);

/* ---------------------------------------------------------------- loops (fetch_loop.c) */

/* epoll's data: what it is, and the file descriptor. */
#define LOOP_WAKE ((uint64_t)1 << 32)
#define LOOP_RESOLVER ((uint64_t)2 << 32)
#define LOOP_TRANSFER ((uint64_t)3 << 32)

fetch_loop *loop_create(fetcher *owner, limn_error *error);
int loop_start(fetch_loop *self, limn_error *error); /* its thread */
void loop_give(fetch_loop *self, download_row *row); /* whose fetch.at is known; from any thread */
void loop_wake(fetch_loop *self);
/* Wakes the loop if it waits for a free transfer. */
void loop_slot_freed(fetch_loop *self);
void loop_stop(fetch_loop *self);    /* ends and joins its thread */
void loop_destroy(fetch_loop *self); /* of a loop that is stopped; NULL allowed */
const fetch_options *loop_options(const fetch_loop *self);
struct curl_slist *loop_headers(const fetch_loop *self);
void loop_forget_socket(fetch_loop *self, int fd); /* it is about to be closed */

/* ---------------------------------------------------------------- the fetcher (fetch.c) */

const fetch_options *fetcher_options(const fetcher *self);
size_t fetcher_loops(const fetcher *self);
size_t fetcher_connections(const fetcher *self); /* that a loop keeps open */
/* Gives a row to the loop of its host (fetch.at), or it is done when its address is no good. */
void fetcher_route(fetcher *self, download_row *row, row_queue *done);
uint64_t fetcher_host_hash(const char *name);
/* One of the transfers at once: false when all are taken; the loop is then woken when one is free again. */
bool fetcher_take_slot(fetcher *self, atomic_bool *starved);
void fetcher_free_slot(fetcher *self, fetch_loop *except);
/* Rows that are done; empties the queue. */
void fetcher_give_back(fetcher *self, row_queue *done);
/* A loop cannot go on. */
void fetcher_broke(fetcher *self, const limn_error *error);

#endif
