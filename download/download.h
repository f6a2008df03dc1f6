/* download: caption lists, fetching, and packing: from a list of captions and picture addresses to WebDataset tars
 * (limn-download). Lists and what their addresses answer come from strangers: a bad row or a bad answer is counted and named,
 * never fatal. */
#ifndef LIMN_DOWNLOAD_H
#define LIMN_DOWNLOAD_H

#include "core/core.h"
#include "dataset/dataset.h"
#include "pictures/pictures.h"

/* ---------------------------------------------------------------- caption lists */

enum {
    CAPTION_ROW_MAX_BYTES = 1 << 20, /* a longer row is a bad row */
    CAPTION_URL_MAX_BYTES = 8192,
    CAPTION_MAX_COLUMNS = 256
};

typedef struct {
    const char *data; /* UTF-8, not NUL-terminated */
    size_t size;
} text_span;

typedef struct {
    const char *format;         /* "auto", "tsv" or "csv"; NULL is "auto": by the file's name, else by its first line */
    const char *columns;        /* names in order for lists without a header line; NULL is "caption,url" */
    const char *url_column;     /* name of the addresses' column; NULL: known by its name (url, image_url, image, link, …) */
    const char *caption_column; /* name of the captions' column; NULL: known by its name (caption, text, title, alt, …) */
} caption_list_options;

/* A row counts (takes a number) whether it is good or bad; a header line and empty lines do not. */
typedef struct {
    uint64_t number;  /* from 0, over all files */
    const char *file; /* the list it is in */
    size_t line;      /* the line its row starts at, from 1 */
    /* NULL for a good row, else what is wrong ("has 3 columns where 2 are expected"), and nothing below is set */
    const char *problem;
    text_span url;      /* spaces around it removed */
    text_span caption;  /* empty where the list has no captions (it has one column only) */
    size_t extra_count; /* the list's further columns */
    const char *const *extra_names;
    const text_span *extra_values;
} caption_row;

/* Tab-separated values (no quoting, as IANA's text/tab-separated-values) or comma-separated ones (RFC 4180: quotes, doubled
 * quotes, line breaks inside quotes), one or many files, read as a stream. A quote that never closes costs its own line only.
 * Lines may end in CR LF; a byte order mark is skipped. */
typedef struct caption_list caption_list;
/* Opens the first file. A usage error when a file cannot be read, is not text, or lacks a column: it names those found.
 * `paths` and `options` must outlive the list. */
caption_list *caption_list_open(const limn_strings *paths, const caption_list_options *options, limn_error *error);
/* The same over bytes in memory (they must outlive the list). */
caption_list *caption_list_open_memory(const char *name, const void *data, size_t size, const caption_list_options *options,
                                       limn_error *error);
/* 1: a row, whose texts stay valid until the next call; 0: the end; -1: the list cannot be read further. */
int caption_list_next(caption_list *list, caption_row *row, limn_error *error);
void caption_list_close(caption_list *list); /* NULL allowed */

/* ---------------------------------------------------------------- downloading */

/* How addresses are fetched. */
typedef struct {
    size_t concurrency; /* transfers at once */
    double timeout;     /* seconds for one try, all its redirects included */
    size_t retries;     /* further tries after an error that may pass */
    size_t max_bytes;   /* per picture, as it is sent */
    bool respect_noai;  /* leave out pictures whose server says X-Robots-Tag: noai, noimageai, noindex or noimageindex */
    bool allow_private; /* file:// and addresses of private networks */
} fetch_options;

/* What becomes of a picture. */
typedef struct {
    size_t size; /* pixels */
    resize_mode resize;
    const char *resize_name; /* as on the command line */
    size_t min_size;         /* pictures with a shorter side below this many pixels are left out; 0: none */
    size_t quality;          /* of the JPEGs written, 1 to 100 */
    bool raw;                /* not as a file but as pixels, 8-bit RGB, for who goes on with them */
} pair_options;

/* What is written: pairs in tars; as plain files in a folder a shard; nothing but stats and failures, to measure a list; or
 * token shards, with no picture on the disk in between. */
typedef enum { OUTPUT_TARS, OUTPUT_FILES, OUTPUT_NONE, OUTPUT_TOKENS } output_form;
int output_form_from_name(const char *name, output_form *out); /* "tars", "files", "none"; -1 for others */

typedef struct {
    limn_strings inputs; /* list files */
    caption_list_options list;
    fetch_options fetch;
    pair_options pair;
    const char *output; /* folder, made when missing */
    size_t shard_size;  /* rows of the list per shard */
    output_form form;
    token_encoder *encoder; /* for OUTPUT_TOKENS, which needs pair.size of its side and pair.raw; else NULL */
    size_t part, parts;     /* this process makes the shards with number % parts == part */
    const char *coordinate; /* folder for the claims of processes that share one output; NULL: this one is alone */
    bool retry_failed;      /* also try again the rows of finished shards that failed on the way */
    bool restart;           /* remove what an earlier run left in `output` */
} download_options;

/* What is in the output folder after the run (all parts' finished shards), and what this run did. */
typedef struct {
    uint64_t rows, pairs, failed; /* of the finished shards of this part */
    uint64_t shards;
    uint64_t bytes;               /* received for them, in all runs */
    json_t *reasons;              /* object: reason -> how many rows failed for it */
    json_t *examples;             /* object: reason -> the address of one of them */
    uint64_t run_rows, run_pairs; /* of this run alone: rows taken from the list, pairs in shards it finished */
    uint64_t run_bytes;           /* received in this run */
    double run_seconds;
} download_summary;

/* Fetches, decodes, resizes and packs every row of the lists into OUTPUT/NNNNN.tar (or a folder OUTPUT/NNNNN, or neither), with
 * NNNNN.failed.tsv (rows that failed, with the reason; itself a list that can be downloaded) where some did, and
 * NNNNN.stats.json. A shard is finished when its stats are there, which come last; finished shards are left as they are, so
 * that the same call goes on after a kill and the tars are those of a run that was never killed. OUTPUT/download.json holds the
 * configuration; another one is an error.
 * retry_failed: what failed on the way (names, connections, time-outs, HTTP statuses) in finished shards is tried once more; a
 * shard in which this changes something is made anew, its bytes as if those rows had succeeded at first.
 * coordinate: any number of processes, on machines that share both folders, make one output; each ends when all is done.
 * Ctrl-C (limn_stop_requested) ends it early with what is finished so far. Fails when the output cannot be written; never
 * because a row failed. */
int download_run(const download_options *options, download_summary *summary, limn_error *error);
/* What a person wants to know after the run: a table of reasons with an example each, amounts and rates, and what to do next.
 */
void download_summary_print(const download_options *options, const download_summary *summary, FILE *stream);
json_t *download_summary_json(const download_options *options, const download_summary *summary); /* NULL: out of memory */
void download_summary_free(download_summary *summary);                                           /* of a zeroed one too */

#endif
