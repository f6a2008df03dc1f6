/* download: caption lists, fetching, and packing: from a list of captions and picture addresses to WebDataset tars
 * (limn-download). Lists and what their addresses answer come from strangers: a bad row or a bad answer is counted and named,
 * never fatal. */
#ifndef LIMN_DOWNLOAD_H
#define LIMN_DOWNLOAD_H

#include "core/core.h"
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
} pair_options;

typedef struct {
    limn_strings inputs; /* list files */
    caption_list_options list;
    fetch_options fetch;
    pair_options pair;
    const char *output; /* folder, made when missing */
    size_t shard_size;  /* rows of the list per shard */
    size_t part, parts; /* this process makes the shards with number % parts == part */
    bool restart;       /* remove what an earlier run left in `output` */
} download_options;

/* What is in the output folder after the run (all parts' finished shards), and what this run did. */
typedef struct {
    uint64_t rows, pairs, failed; /* of the finished shards of this part */
    uint64_t shards;
    json_t *reasons;              /* object: reason -> how many rows failed for it; caller: json_decref */
    uint64_t run_rows, run_pairs; /* of this run alone */
    uint64_t run_bytes;           /* received in this run */
    double run_seconds;
} download_summary;

/* Fetches, decodes, resizes and packs every row of the lists into OUTPUT/NNNNN.tar, with NNNNN.failed.tsv (rows that failed,
 * with the reason; itself a list that can be downloaded) where some did, and NNNNN.stats.json. A shard is finished when its tar
 * and its stats are there; finished shards are left as they are, so that the same call goes on after a kill and the tars are
 * those of a run that was never killed. OUTPUT/download.json holds the configuration; another one is an error.
 * Ctrl-C (limn_stop_requested) ends it early with what is finished so far. Fails when the output cannot be written; never
 * because a row failed. */
int download_run(const download_options *options, download_summary *summary, limn_error *error);

#endif
