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
    /* "auto", "tsv", "csv", "jsonl" or "txt"; NULL is "auto": by the file's name, else by its first line */
    const char *format;
    const char *header;     /* "auto", "yes" or "no": whether there is a header line; NULL is "auto": known by its names */
    const char *columns;    /* names in order for lists without a header line; NULL is "caption,url" ("url" for plain text) */
    const char *url_column; /* name of the addresses' column; NULL: known by its name (url, image_url, image, link, …) */
    /* name of the captions' column; NULL: known by its name (caption, text, title, alt, …); "": the list has no captions */
    const char *caption_column;
    const char *hash_column;  /* name of a column of the pictures' hashes; NULL: none */
    const char *boxes_column; /* name of a column of boxes in the pictures; NULL: none */
} caption_list_options;

/* A row counts (takes a number) whether it is good or bad; a header line and empty lines do not. */
typedef struct {
    uint64_t number;  /* from 0, over all files */
    const char *file; /* the list it is in */
    size_t line;      /* the line its row starts at, from 1 */
    /* NULL for a good row, else what is wrong ("has 3 columns where 2 are expected"), and nothing below is set */
    const char *problem;
    text_span url;      /* spaces around it removed */
    text_span caption;  /* empty where the list has no captions */
    text_span hash;     /* from hash_column, boxes from boxes_column; empty where there is none; they are extras too */
    text_span boxes;    /* as the list has them */
    size_t extra_count; /* the list's further columns; what is no string in JSON stands as it does in the list */
    const char *const *extra_names;
    const text_span *extra_values;
} caption_row;

/* One or many files, read as a stream, each in one of these forms, as it is or packed with gzip or zstd (known by its first
 * bytes):
 * - tsv: tab-separated values, no quoting (IANA's text/tab-separated-values);
 * - csv: RFC 4180: quotes, doubled quotes, line breaks inside quotes; a quote that never closes costs its own line only;
 * - jsonl: a JSON object a line, whose names are the columns, in any order; not every object need have all;
 * - txt: an address a line.
 * Lines may end in CR LF; a byte order mark is skipped. Memory does not grow with the files, their rows or their packing. */
typedef struct caption_list caption_list;
/* Opens the first file. A usage error when a file cannot be read, is not text, or lacks a column: it names those found.
 * `paths` and `options` must outlive the list. */
caption_list *caption_list_open(const limn_strings *paths, const caption_list_options *options, limn_error *error);
/* The same over bytes in memory (they must outlive the list). */
caption_list *caption_list_open_memory(const char *name, const void *data, size_t size, const caption_list_options *options,
                                       limn_error *error);
/* 1: a row, whose texts stay valid until the next call; 0: the end; -1: the list cannot be read further. Of a damaged packed
 * file all rows before the damage are given. */
int caption_list_next(caption_list *list, caption_row *row, limn_error *error);
/* Passes over so many rows without looking into them; fewer only at the end. */
int caption_list_skip(caption_list *list, uint64_t count, uint64_t *skipped, limn_error *error);
void caption_list_close(caption_list *list); /* NULL allowed */

typedef struct {
    uint64_t bytes; /* as they are stored */
    char sha256[65];
} caption_file;
/* Reads all files once, with a progress line where that takes time. files is (paths); *rows becomes the number of rows of all
 * files together, none of which is an error; `rows` may be NULL, then files are not unpacked nor looked into. */
int caption_list_measure(const limn_strings *paths, const caption_list_options *options, caption_file *files, uint64_t *rows,
                         limn_error *error);

/* The files that `given` stands for: patterns are expanded, a folder is all lists in it (by their names), "-" stays. Caller:
 * limn_strings_free. */
int caption_list_expand(const limn_strings *given, limn_strings *out_paths, limn_error *error);
/* Fills in those of the options that are NULL from a file of settings such as configs/datasets/cc12m.json. A usage error for a
 * key that is not known. The texts live in *out_settings (json_decref), NULL on failure. */
int caption_list_load_settings(const char *path, caption_list_options *options, json_t **out_settings, limn_error *error);
/* Keeps what standard input gives as OUTPUT/stdin.list, whole or not at all, and puts that path in *out_path. Where one is kept
 * already, an empty standard input or a terminal stands for it, and another one's bytes are an error unless `replace`. */
int caption_list_keep_stdin(const char *output, bool replace, char out_path[4096], limn_error *error);

/* ---------------------------------------------------------------- downloading */

/* How addresses are fetched. */
typedef struct {
    size_t concurrency;     /* transfers at once */
    size_t per_host;        /* of these, to one host */
    size_t threads;         /* event loops, each a thread; 0: by the number of limn_get_threads() */
    double timeout;         /* seconds for one try, all its redirects included; and for a name server's answer */
    size_t retries;         /* further tries after an error that may pass */
    size_t min_rate;        /* bytes a second; a picture that comes more slowly is given up. 0: none */
    size_t max_bytes;       /* per picture, as decoded where it is sent compressed */
    bool respect_noai;      /* leave out pictures whose server forbids learning from them (X-Robots-Tag, tdm-reservation) */
    bool allow_private;     /* file:// and addresses of private networks */
    const char *user_agent; /* NULL: limn-download/VERSION */
    const char *resolver;   /* "ADDRESS[:PORT],…" of name servers; NULL: the system's */
    const char *proxy;      /* an address; NULL: none, also where the environment names one */
    const char *ca_file;    /* PEM file of certificates to trust; NULL: the system's */
    bool check_certificates;
} fetch_options;

/* What becomes of a picture. */
typedef struct {
    size_t size; /* pixels */
    resize_mode resize;
    const char *resize_name; /* as on the command line */
    bool only_if_bigger;     /* a picture whose side that would become `size` is not larger stays as it is */
    size_t min_size;         /* pictures with a shorter side below this many pixels are left out; 0: none */
    double max_aspect_ratio; /* pictures whose longer side is more than this many times the shorter are left out; 0: none */
    const char *image;       /* "jpg", "png", "webp", or "original" for the bytes as they came; NULL is "jpg" */
    size_t quality;          /* of the JPEGs and WebPs written, 1 to 100; a WebP of 100 is lossless */
    bool dedup;              /* leave out pictures that look like an earlier one of this part's rows */
    size_t dedup_distance;   /* by at most so many of the perceptual hash's 64 bits, 0 to 7 */
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
