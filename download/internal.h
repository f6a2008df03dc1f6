/* What the files of download/ share; nothing outside includes it. */
#ifndef LIMN_DOWNLOAD_INTERNAL_H
#define LIMN_DOWNLOAD_INTERNAL_H

#include "dataset/dataset.h"
#include "download/dedup.h"
#include "download/download.h"

#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

/* ---------------------------------------------------------------- addresses (address.c) */

/* True for an IPv4 or IPv6 address that is not of the public internet: loopback, private (RFC 1918), shared (RFC 6598),
 * link-local, unique local (RFC 4193), multicast, reserved, and those inside IPv4-mapped, 6to4 and NAT64 addresses; for any
 * other family too. */
bool address_is_private(const struct sockaddr *address);
/* One address of a host, in network byte order. */
typedef struct {
    int family; /* AF_INET, the first 4 bytes; AF_INET6, all 16 */
    unsigned char bytes[16];
} host_address;
bool host_address_is_private(const host_address *address);
/* True when the name of a host is an address itself ("192.0.2.1", "[2001:db8::1]"). */
bool host_is_literal(const char *host, host_address *out);
bool url_has_scheme(const char *url, size_t size, const char *scheme);
/* A NUL-terminated copy with spaces, control characters and non-ASCII bytes after the host percent-encoded, as browsers send
 * them. free(); NULL when out of memory. */
char *url_clean(const char *url, size_t size);
/* Where an address leads. */
typedef struct {
    char *url;  /* as it is requested: cleaned, the host in ASCII */
    char *host; /* in lower case, international names as punycode, numbers as 127.0.0.1, no dot at its end */
    bool https;
} url_parts;
/* Takes an http:// or https:// address apart. -1: *problem says what is wrong with it (NULL:
 * out of memory), and nothing is held. */
int url_take_apart(const char *url, size_t size, url_parts *out, const char **problem);
void url_parts_free(url_parts *self); /* of a zeroed one too */
/* The path in file:///path or file://localhost/path, percent-decoded. free(); NULL when it is not such an address. */
char *url_file_path(const char *url, size_t size);

/* ---------------------------------------------------------------- rows in flight */

struct shard;

/* One row on its way from the list to its shard. Owned by who holds it. */
typedef struct download_row {
    struct download_row *next; /* of the queue it stands in */
    struct shard *shard;
    uint64_t number; /* of the whole list */
    size_t index;    /* row in the shard */
    char *url;       /* NUL-terminated */
    char *caption;
    size_t caption_size;
    char *hash;     /* the file's SHA-256 or MD5 in hexadecimal as the list gives it; NULL or "": not given */
    char *boxes;    /* JSON list of [left, top, right, bottom] to be blurred, in fractions; NULL: the list has no such column */
    json_t *extras; /* object of the list's further columns; NULL when it has none */
    const char *file;
    size_t line;
    unsigned char *data; /* the picture as it came; NULL for file://, which the worker reads */
    size_t data_size;
    char reason[32];  /* why it failed, "" when it has not: a short stable word such as "http_404" */
    char detail[256]; /* a sentence beside it */
    struct {
        size_t tries;                /* begun so far */
        url_parts at;                /* where this try has come to; redirects change it */
        size_t redirects, addresses; /* of this try; addresses of the host that took no connection */
        double seconds;              /* left to this try */
        bool holds_slot;             /* counts as one of the transfers at once */
    } fetch;
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

/* ---------------------------------------------------------------- what servers say of use (robots.c) */

/* True when this line of an answer's head forbids use by machines that learn, to everyone or to us by name: X-Robots-Tag with
 * noai, noimageai, noindex or noimageindex (a directive may follow the name of the robot it is for), or tdm-reservation: 1
 * (W3C's TDM Reservation Protocol). */
bool header_forbids_learning(const char *line, size_t size);

/* ---------------------------------------------------------------- fetching (fetch.c) */

/* Many transfers on event loops of their own threads. One thread adds, waits and takes; fetcher_wake may be called from any. */
typedef struct fetcher fetcher;
/* A usage error unless each option is in its bounds. `options` must outlive the fetcher. */
int fetch_check(const fetch_options *options, limn_error *error);
/* Open files that transfers, and connections kept for the next ones, may need. */
size_t fetch_files(const fetch_options *options);
fetcher *fetcher_create(const fetch_options *options, limn_error *error);
/* Takes the row, whose address is http:// or https://. */
void fetcher_add(fetcher *self, download_row *row);
/* Rows that it takes now: beside those in transfer some wait, so that a slow or full host does not hold up others. */
size_t fetcher_room(const fetcher *self);
size_t fetcher_active(const fetcher *self); /* rows added and not yet taken back */
/* Waits at most this long for further rows that are done, or for fetcher_wake. -1: a loop had to end. */
int fetcher_wait(fetcher *self, double seconds, limn_error *error);
/* The next row that is done: its data, or its reason, is set. NULL when there is none (now). Pictures that nobody takes count
 * as transfers, so that memory stays bounded. */
download_row *fetcher_take(fetcher *self);
void fetcher_wake(fetcher *self);
void fetcher_destroy(fetcher *self); /* with all transfers; NULL allowed */

/* ---------------------------------------------------------------- pictures (pair.c, boxes.c) */

/* What a row became. */
typedef struct {
    limn_buffer image;     /* as it is written */
    const char *extension; /* of its name, without a dot */
    char *json;            /* NUL-terminated */
    uint64_t look;         /* its perceptual hash with options->dedup; 0: none */
} download_pair;
int pair_check(const pair_options *options, limn_error *error); /* a usage error unless each option is in its bounds */
/* What can be said against a row before its picture is there: a hash or boxes that cannot be read. -1: the row's reason says
 * it. */
int pair_check_row(download_row *row);
/* Of the row's data, with this key. -1: the row's reason says what is wrong with the picture. `context` may be NULL. */
int pair_make(const pair_options *options, picture_context *context, const char *key, download_row *row, download_pair *out);
void pair_free(download_pair *self); /* of a zeroed one too */

enum { BOXES_MAX = 256 };
/* Reads a list of boxes into out[BOXES_MAX]; numbers outside [0, 1] are drawn in. Returns how many have an area; -1 with what
 * is wrong: not such a list, numbers below -1 or above 2 (pixels, not fractions), or too many. */
int boxes_parse(const char *text, size_t size, picture_box *out, const char **problem);

/* ---------------------------------------------------------------- the table of failed rows (failures.c) */

/* True for a reason that lies on the way to the picture, and not in the picture or its row: --retry-failed tries those again.
 */
bool failure_may_pass(const char *reason);
int failures_write_header(FILE *stream);
/* Appends the row's line of the table. */
int failure_describe(const download_row *row, const char *key, limn_buffer *line, limn_error *error);
typedef struct {
    size_t index; /* row in the shard */
    char reason[32];
    text_span line; /* with its line break */
} failure;
typedef int (*failure_found)(void *context, const failure *row, limn_error *error);
/* Calls `found` for each line of OUTPUT/NNNNN.failed.tsv, in the order of rows. A table that is not as it was written is an
 * error. */
int failures_read(const download_options *options, uint64_t number, failure_found found, void *context, limn_error *error);

/* ---------------------------------------------------------------- a shard's pairs as files (body.c) */

const char *output_form_name(output_form form);

typedef struct {
    const char *extension; /* of the image's file, without a dot */
    const void *image, *caption, *json;
    size_t image_size, caption_size, json_size;
} pair_parts;
typedef struct shard_body shard_body;
/* FOLDER/NNNNN.tar, FOLDER/NNNNN.h5, or FOLDER/NNNNN for plain files. */
int body_path(const char *folder, output_form form, uint64_t number, char out[4096], limn_error *error);
/* Begins the shard's body in `folder`. `keeps`: with pairs of the finished one in OUTPUT. */
shard_body *body_open(const char *folder, const download_options *options, uint64_t number, bool keeps, limn_error *error);
/* Each pair once, in the order of keys: a new one, or one of the finished body. */
int body_add(shard_body *self, const char *key, const pair_parts *parts, limn_error *error);
int body_keep(shard_body *self, const char *key, limn_error *error);
int body_commit(shard_body *self, limn_error *error); /* fsyncs; frees, also on error */
void body_discard(shard_body *self);                  /* NULL allowed */

/* ---------------------------------------------------------------- changing a shard's files together (commit.c) */

/* Makes the hidden folder in which the shard's new files are to be written, each fsynced, an empty failed.tsv for none. */
int commit_begin(const download_options *options, uint64_t number, char folder[4096], limn_error *error);
/* Puts them in place of the old ones; after a kill in the midst commit_settle goes on. */
int commit_publish(const download_options *options, uint64_t number, limn_error *error);
void commit_discard(const download_options *options, uint64_t number); /* also when nothing was begun */
/* Ends what a killed process had committed, removes what it had not. By the one process that may make this shard. */
int commit_settle(const download_options *options, uint64_t number, limn_error *error);
/* True for a hidden name of these in the output folder, and its shard. */
bool commit_is_ours(const char *name, uint64_t *number);
int shard_spool_path(const download_options *options, uint64_t number, char out[4096], limn_error *error);

/* ---------------------------------------------------------------- claims of several processes (claim.c) */

/* 1: the shard is this process's until the claim is released or the process dies; 0: it is another's; -1: an error. */
int claim_take(const char *directory, uint64_t number, int *out, limn_error *error);
/* Waits for the claim on the configuration. *now: the time of the call, by the clock that notes are made by. */
int claim_configuration(const char *directory, int *out, struct timespec *now, limn_error *error);
void claim_release(int claim); /* -1 allowed */
/* Notes that the claimed shard's failed rows were tried again. Does nothing for -1. */
int claim_note(int claim, limn_error *error);
bool claim_noted_since(int claim, const struct timespec *since);

/* ---------------------------------------------------------------- shards (shard.c) */

/* A shard being filled. Rows come in any order; they wait in a hidden spool file, so that memory does not grow with a shard,
 * and are packed in their order when the last one has come. Any thread may add rows. */
typedef struct shard shard;
/* Takes the claim (-1: none needed), which shard_destroy releases. */
shard *shard_create(const download_options *options, uint64_t number, int claim, limn_error *error);
/* A finished shard of which only those rows are made anew that failed on the way (failure_may_pass). Takes `before`, its
 * stats, too. */
shard *shard_create_again(const download_options *options, uint64_t number, int claim, json_t *before, limn_error *error);
/* Before its first row: pairs that look like one in `with` (of the shards before it) or like an earlier one of the shard are to
 * become failed rows when it is finished, and the others are added to `with`, which nobody else uses meanwhile. */
void shard_compare(shard *self, hash_index *with);
bool shard_wants(const shard *self, size_t index); /* whether the row is to be made */
/* A row that became a pair. */
int shard_add_pair(shard *self, const download_row *row, const download_pair *pair, limn_error *error);
/* A row that failed; with its reason. */
int shard_add_failed(shard *self, const download_row *row, limn_error *error);
/* Says that the list gave this shard `rows` rows and no more. */
void shard_end(shard *self, size_t rows);
bool shard_is_full(const shard *self); /* ended, and all its rows have come */
uint64_t shard_number(const shard *self);
void shard_count(const shard *self, size_t *rows, size_t *pairs); /* of a full one: its rows, and pairs made in this run */
/* Writes NNNNN.tar (or the folder NNNNN, or neither), NNNNN.failed.tsv and NNNNN.stats.json; one that is made again and comes
 * to the same is left alone. */
int shard_finish(shard *self, limn_error *error);
void shard_destroy(shard *self); /* also removes the spool; NULL allowed */
/* The key of a row: shard number and row, of a fixed number of digits for one shard size. */
void shard_key(const download_options *options, uint64_t number, size_t index, char out[64]);
/* FOLDER/NNNNN.SUFFIX; FOLDER/NNNNN for NULL. */
int shard_path(const char *folder, uint64_t number, const char *suffix, char out[4096], limn_error *error);

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
    uint64_t rows;         /* of all lists together */
    struct timespec began; /* of a coordinated run, by the clock of its claims */
    limn_strings inputs;   /* the lists as files: standard input is what was kept of it */
    char kept_input[4096];
} output_folder;
/* Makes the folder, locks it (a part of a divided run locks its part only, coordinated processes share it), compares
 * download.json with the options or writes it, which counts the lists' rows, and settles what killed runs left. On failure
 * nothing is held. */
int output_open(const download_options *options, output_folder *out, limn_error *error);
void output_close(output_folder *self);
uint64_t output_shard_rows(const download_options *options, uint64_t rows, uint64_t number);
/* True when the shard's stats and what they speak of are there; *stats (may be NULL) is its stats object then. */
bool output_shard_finished(const download_options *options, uint64_t number, json_t **stats);

/* ---------------------------------------------------------------- sums (summary.c) */

/* Of an object reason -> rows: the rows that --retry-failed would try. */
uint64_t summary_retryable(const json_t *reasons);
/* Adds up the stats of this part's finished shards. */
int summary_add_up(const download_options *options, uint64_t rows, download_summary *summary, limn_error *error);

#endif
