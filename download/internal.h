/* What the files of download/ share; nothing outside includes it. */
#ifndef LIMN_DOWNLOAD_INTERNAL_H
#define LIMN_DOWNLOAD_INTERNAL_H

#include "dataset/dataset.h"
#include "download/download.h"

#include <pthread.h>
#include <sys/socket.h>

/* ---------------------------------------------------------------- addresses (address.c) */

/* True for an IPv4 or IPv6 address that is not of the public internet: loopback, private (RFC 1918), shared (RFC 6598),
 * link-local, unique local (RFC 4193), multicast, reserved, and those inside IPv4-mapped, 6to4 and NAT64 addresses; for any
 * other family too. */
bool address_is_private(const struct sockaddr *address);
bool url_has_scheme(const char *url, size_t size, const char *scheme);
/* A NUL-terminated copy with spaces, control characters and non-ASCII bytes after the host percent-encoded, as browsers send
 * them. free(); NULL when out of memory. */
char *url_clean(const char *url, size_t size);
/* The path in file:///path or file://localhost/path, percent-decoded. free(); NULL when it is not such an address. */
char *url_file_path(const char *url, size_t size);

/* ---------------------------------------------------------------- rows in flight */

struct shard;

/* One row on its way from the list to its shard. Owned by who holds it. */
typedef struct download_row {
    struct download_row *next; /* of the queue it stands in */
    struct shard *shard;
    size_t index; /* row in the shard */
    size_t tries; /* begun so far */
    char *url;    /* NUL-terminated */
    char *caption;
    size_t caption_size;
    json_t *extras; /* object of the list's further columns; NULL when it has none */
    const char *file;
    size_t line;
    unsigned char *data; /* the picture as it came; NULL for file://, which the worker reads */
    size_t data_size;
    char reason[32];  /* why it failed, "" when it has not: a short stable word such as "http_404" */
    char detail[256]; /* a sentence beside it */
    double due;       /* when the next try begins, by limn_seconds() */
} download_row;

/* First in, first out; zero-initialise. */
typedef struct {
    download_row *first, *last;
    size_t count;
} row_queue;
void row_queue_push(row_queue *queue, download_row *row);
download_row *row_queue_pop(row_queue *queue); /* NULL when empty */

void download_row_free(download_row *row);
/* Sets reason and detail. */
void download_row_fail(download_row *row, const char *reason, const char *format, ...) LIMN_PRINTF(3, 4);

/* ---------------------------------------------------------------- fetching (fetch.c) */

/* Many transfers on one event loop (libcurl's multi socket interface over epoll). One thread uses a fetcher; fetcher_wake may
 * be called from any. */
typedef struct fetcher fetcher;
/* A usage error unless each option is in its bounds. `options` must outlive the fetcher. */
int fetch_check(const fetch_options *options, limn_error *error);
fetcher *fetcher_create(const fetch_options *options, limn_error *error);
/* Takes the row and starts its transfer; there is room when fetcher_active is below the concurrency. */
int fetcher_add(fetcher *self, download_row *row, limn_error *error);
size_t fetcher_active(const fetcher *self); /* transfers and rows that wait for another try */
/* Waits for news at most this long and moves transfers on. */
int fetcher_wait(fetcher *self, double seconds, limn_error *error);
/* The next row that is done: its data, or its reason, is set. NULL when there is none (now). */
download_row *fetcher_take(fetcher *self);
void fetcher_wake(fetcher *self);
void fetcher_destroy(fetcher *self); /* with all transfers; NULL allowed */

/* ---------------------------------------------------------------- pictures (pair.c) */

/* What a row became. */
typedef struct {
    limn_buffer image; /* as it is written */
    char *json;        /* NUL-terminated */
} download_pair;
int pair_check(const pair_options *options, limn_error *error); /* a usage error unless each option is in its bounds */
/* Of the row's data, with this key. -1: the row's reason says what is wrong with the picture. */
int pair_make(const pair_options *options, const char *key, download_row *row, download_pair *out);
void pair_free(download_pair *self); /* of a zeroed one too */

/* ---------------------------------------------------------------- shards (shard.c) */

/* A shard being filled. Rows come in any order; they wait in a hidden spool file, so that memory does not grow with a shard,
 * and are packed in their order when the last one has come. Any thread may add rows. */
typedef struct shard shard;
shard *shard_create(const download_options *options, uint64_t number, limn_error *error);
/* A row that became a pair. */
int shard_add_pair(shard *self, const download_row *row, const download_pair *pair, limn_error *error);
/* A row that failed; with its reason. */
int shard_add_failed(shard *self, const download_row *row, limn_error *error);
/* Says that the list gave this shard `rows` rows and no more. */
void shard_end(shard *self, size_t rows);
bool shard_is_full(const shard *self); /* ended, and all its rows have come */
uint64_t shard_number(const shard *self);
/* Writes NNNNN.failed.tsv, NNNNN.tar and then NNNNN.stats.json. */
int shard_finish(shard *self, limn_error *error);
void shard_destroy(shard *self); /* also removes the spool; NULL allowed */
/* The key of a row: shard number and row, of a fixed number of digits for one shard size. */
void shard_key(const download_options *options, uint64_t number, size_t index, char out[64]);
/* OUTPUT/NNNNN.SUFFIX */
int shard_path(const download_options *options, uint64_t number, const char *suffix, char out[4096], limn_error *error);

/* ---------------------------------------------------------------- worker threads (workers.c) */

/* Threads that decode, resize, encode, and finish shards. */
typedef struct workers workers;
workers *workers_create(const download_options *options, fetcher *wake, size_t threads, limn_error *error);
void workers_add_row(workers *self, download_row *row); /* takes the row */
int workers_add_finish(workers *self, shard *full, limn_error *error);
size_t workers_rows(workers *self, uint64_t *pairs); /* rows taken that are not yet in their shards; pairs made so far */
/* Next shard that got finished, to be destroyed by the caller; NULL when there is none (now). */
shard *workers_take_finished(workers *self);
/* -1 with the error when a thread could not write: the run ends. */
int workers_check(workers *self, limn_error *error);
/* Waits for running jobs, drops waiting ones; NULL allowed. */
void workers_destroy(workers *self);

/* ---------------------------------------------------------------- output folder (output.c) */

typedef struct {
    int *locks;
    size_t lock_count;
    uint64_t rows;       /* of all lists together */
    limn_strings inputs; /* the lists as files: standard input is what was kept of it */
    char kept_input[4096];
} output_folder;
/* Makes the folder, locks it (a part of a divided run locks its part only), compares download.json with the options or writes
 * it, which counts the lists' rows, and removes what killed runs left. On failure nothing is held. */
int output_open(const download_options *options, output_folder *out, limn_error *error);
void output_close(output_folder *self);
/* True when the shard's tar and stats are there and fit; *stats (may be NULL) is its stats object then. */
bool output_shard_finished(const download_options *options, uint64_t number, json_t **stats);
/* Adds up the stats of this part's finished shards. */
int output_sum(const download_options *options, uint64_t rows, download_summary *summary, limn_error *error);

#endif
