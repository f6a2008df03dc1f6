/* What the files of choose/ share; nothing outside but their tests includes it.
 *
 *   sample    a stream of samples out of a tar or a token shard
 *   walk      files on threads, their results taken together in the files' order
 *   sink      a tar or token shard that grows
 *   rewrite   samples judged and written: filter, merge and split are descriptions of it */
#ifndef LIMN_CHOOSE_INTERNAL_H
#define LIMN_CHOOSE_INTERNAL_H

#include "choose/choose.h"
#include "formats/formats.h"
#include "pictures/pictures.h"

#include <stdatomic.h>

/* ---------------------------------------------------------------- samples (sample.c) */

typedef enum { CHOOSE_TARS, CHOOSE_SHARDS } choose_form;
choose_form choose_form_of(const char *path);

typedef struct {
    const char *data;
    size_t size;
} choose_text;

/* Valid until the next one is read. */
typedef struct {
    char key[256];
    size_t row; /* in its file, from 0 */
    size_t captions;
    const choose_text *caption; /* (captions), as they are */
    /* of a tar, else NULL: */
    const tar_sample *entry;
    const json_t *fields; /* KEY.json, an object; NULL when it is missing, damaged or above a mebibyte */
    bool fields_damaged;
    /* of a shard, else NULL: */
    const token_shard *shard;
    const uint16_t *tokens; /* (shard->length) */
} choose_sample;

typedef struct choose_reader choose_reader;
/* `seen` (NULL allowed) counts what is read. */
typedef struct {
    _Atomic uint64_t bytes, samples;
} choose_counts;
choose_reader *choose_reader_open(const char *path, choose_counts *seen, limn_error *error);
/* 1: a sample; 0: the end; -1: damaged, or limn_stop_requested. */
int choose_reader_next(choose_reader *self, choose_sample *out, limn_error *error);
void choose_reader_close(choose_reader *self);                 /* NULL allowed */
choose_text choose_first_caption(const choose_sample *sample); /* without the spaces around it; empty when there is none */

/* KEY.json as an object, of any bytes; NULL when it is none. Caller: json_decref. */
json_t *choose_fields_parse(const char *data, size_t size);
/* The number of a column: of a number, or of a text that is one from its first to its last byte, in KEY.json; of a float of the
 * shard. False when there is none, or it is no number. */
bool choose_number(const choose_sample *sample, const char *column, double *out);
const char *choose_string(const choose_sample *sample, const char *column); /* of KEY.json; NULL when it is no text */

/* ---------------------------------------------------------------- identities (identity.c) */

uint64_t choose_hash(const void *data, size_t size);                            /* the first 64 bits of its SHA-256 */
bool choose_identity(const choose_sample *sample, choose_by by, uint64_t *out); /* false: it has none */

/* Sorts, and counts by how many the values are more than the different ones, and the most that are equal. */
void choose_count_equal(uint64_t *values, size_t count, uint64_t *out_surplus, uint64_t *out_most);

/* Identities seen so far. Near ones are those in which at most `distance` bits differ (from 0 to HASH_DISTANCE_MAX). */
typedef struct choose_seen choose_seen;
choose_seen *choose_seen_create(size_t distance, limn_error *error);
/* 1: one like it is there; 0: it is new and is there now; -1: out of memory. */
int choose_seen_add(choose_seen *self, uint64_t identity, limn_error *error);
void choose_seen_free(choose_seen *self); /* NULL allowed */

/* ---------------------------------------------------------------- counting texts (counter.c) */

/* How often each text occurs. At most twice `room` different ones are held: then those that occur least are dropped until at
 * most `room` are left, and every later count may be too low by the sum of what was dropped at most. */
typedef struct choose_counter choose_counter;
choose_counter *choose_counter_create(size_t room, limn_error *error);
int choose_counter_add(choose_counter *self, const char *text, size_t size, uint64_t times, limn_error *error);
/* Adds another's counts in the order in which its texts came first. */
int choose_counter_merge(choose_counter *self, const choose_counter *other, limn_error *error);
/* {"total", "different", "exact", "low_by", "top": [{"text", "count", "share"}, …]}, ties by the text. */
json_t *choose_counter_json(const choose_counter *self, size_t top, limn_error *error);
void choose_counter_free(choose_counter *self); /* NULL allowed */

/* ---------------------------------------------------------------- texts (text.c) */

size_t choose_characters(choose_text text); /* code points; an invalid byte is one */
size_t choose_words(choose_text text);      /* runs of what is not space */
choose_text choose_trim(const char *data, size_t size);
/* Calls `found` with each run of letters, marks and digits in lower case. */
int choose_each_word(choose_text text, int (*found)(void *context, const char *word, size_t size, limn_error *error),
                     void *context, limn_error *error);
/* Appends the text's words, case and accents folded, with a space before each and one at the end: " cafe au lait ". */
int choose_fold(choose_text text, limn_buffer *out, limn_error *error);
/* The share of the letters that are of the script; 0 when there are none. -1: no such script. */
double choose_script_share(choose_text text, const char *script);
bool choose_host(const char *url, choose_text *out); /* the host of an address, without user and port */

/* Words and phrases that a caption may not have. */
typedef struct choose_blocklist choose_blocklist;
choose_blocklist *choose_blocklist_load(const char *path, limn_error *error);
/* 1: it has one; 0: none; -1: out of memory. `scratch` is the caller's, used again. */
int choose_blocklist_find(const choose_blocklist *self, choose_text text, limn_buffer *scratch, limn_error *error);
void choose_blocklist_free(choose_blocklist *self); /* NULL allowed */

/* ---------------------------------------------------------------- files on threads (walk.c) */

/* Jobs 0 … count-1, each on a thread, in order of their start. */
typedef struct {
    const char *what; /* for the progress line */
    size_t jobs;
    uint64_t total_bytes, total_samples; /* for the progress line: of the one that is not 0 */
    choose_counts seen;                  /* what readers count into */
    void *context;
    /* Does a job; *part is its result (NULL allowed). 0 done; 1: its file is damaged, with the error (merge gets the part); -1:
     * all ends. */
    int (*work)(void *context, size_t job, void **part, limn_error *error);
    /* Takes the result in, one at a time, in the jobs' order. */
    int (*merge)(void *context, size_t job, void *part, limn_error *error);
    void (*free_part)(void *part);
} choose_walk;
/* -1 when a job failed, when limn_stop_requested, or after all jobs when files were damaged: each was logged, and the error
 * counts them. *out_damaged (NULL allowed) then counts them instead, and 0 is returned. */
int choose_walk_run(choose_walk *self, size_t *out_damaged, limn_error *error);
uint64_t choose_bytes_of(const limn_strings *paths);

/* ---------------------------------------------------------------- writing (sink.c) */

typedef struct choose_sink choose_sink;
/* FOLDER/NAME.tar or .h5, with FOLDER/NAME.stats.json. */
choose_sink *choose_sink_open(const char *folder, const char *name, choose_form form, limn_error *error);
/* key: NULL leaves it as it is. */
int choose_sink_add(choose_sink *self, const choose_sample *sample, const char *key, limn_error *error);
/* The file (none when nothing was added), then its stats, to which "pairs", "tar_bytes" or "h5_bytes" are added. Frees, also on
 * failure. */
int choose_sink_commit(choose_sink *self, json_t *stats, limn_error *error);
void choose_sink_discard(choose_sink *self); /* NULL allowed */
/* The stats of a file that is finished, else NULL. Caller: json_decref. */
json_t *choose_sink_finished(const char *folder, const char *name, choose_form form);

/* ---------------------------------------------------------------- rewriting (rewrite.c) */

/* The side that a sample goes to, 0 or 1; or CHOOSE_LEFT_OUT + the number of the rule that struck it. -1: failed. Called from
 * several threads; `room` is the thread's own, of make_room. */
enum { CHOOSE_LEFT_OUT = 2, CHOOSE_RULES_MAX = 200 };
typedef struct {
    const choose_write_options *write;
    const char *command; /* "filter" */
    const char *what;    /* "filtering" */
    json_t *settings;    /* what decides the output beside the inputs; borrowed */
    size_t sides;        /* 1: OUTPUT; 2: OUTPUT/train and OUTPUT/valid */
    bool renumber;       /* files are numbered in order, keys follow */
    size_t rules;
    const char *const *rule_names;
    int (*judge)(void *context, void *room, const choose_sample *sample, limn_error *error);
    void *context;
    void *(*make_room)(void *context, limn_error *error); /* NULL: none is needed */
    void (*free_room)(void *room);
    bool dedup; /* leave out those whose identity was there before, by the last rule */
    choose_by by;
    size_t distance;
} choose_plan;
int choose_rewrite(const choose_plan *plan, choose_summary *out, limn_error *error);

/* The folder of a writing command (output.c). Makes it, locks it, compares dataset.json or writes it, removes leftovers; with
 * restart all that an earlier run made. */
int choose_output_open(const choose_plan *plan, int *lock, limn_error *error);

/* ---------------------------------------------------------------- captions on a sheet (sheet_text.c) */

typedef struct {
    const char *text; /* UTF-8 or anything */
    size_t size;
    double x, y, width; /* pixels; lines are broken at this width */
    int lines;          /* at most; what is more ends with an ellipsis */
    double font_pixels;
    bool bold;
    double grey; /* 0 black to 1 white */
} choose_label;
/* Draws the labels over RGB pixels (height, width, 3). */
int choose_draw_labels(unsigned char *pixels, size_t width, size_t height, const choose_label *labels, size_t count,
                       limn_error *error);

#endif
