/* What the files of download/list*.c share: bytes, records, columns. */
#ifndef LIMN_DOWNLOAD_LIST_INTERNAL_H
#define LIMN_DOWNLOAD_LIST_INTERNAL_H

#include "download/download.h"

/* ---------------------------------------------------------------- bytes (list_bytes.c) */

/* The bytes of one list, unpacked where they are gzip or zstd, which their first bytes tell. */
typedef struct list_bytes list_bytes;
/* A regular file. With `sum` the SHA-256 of the bytes as they are stored is taken on the way. */
list_bytes *list_bytes_open(const char *path, bool sum, limn_error *error);
/* Bytes in memory; they must outlive it. */
list_bytes *list_bytes_open_memory(const char *name, const void *data, size_t size, limn_error *error);
/* Up to `size` bytes into `out`: *got is 0 at the end only. Of damaged data all that comes before the damage is given; the call
 * after that fails. Errors do not name the file. */
int list_bytes_read(list_bytes *self, char *out, size_t size, size_t *got, limn_error *error);
/* Passes over stored bytes, for their sum: 1, or 0 at the end; -1. */
int list_bytes_pass(list_bytes *self, limn_error *error);
uint64_t list_bytes_taken(const list_bytes *self);          /* stored bytes read so far */
void list_bytes_sha256(list_bytes *self, char out_hex[65]); /* once, after the end */
void list_bytes_close(list_bytes *self);                    /* NULL allowed */

/* ---------------------------------------------------------------- records (list_records.c, list_json.c) */

typedef enum { LIST_TSV, LIST_CSV, LIST_JSONL, LIST_TEXT } list_form;

/* The records of one file, one after the other. Zero-initialise before the first file; the buffers serve the next one too. */
typedef struct {
    const char *name;
    list_bytes *bytes; /* NULL between files */
    list_form form;
    size_t line; /* of the record at `start`, from 1 */

    char *buffer; /* grows when a record needs it, up to somewhat more than the largest record */
    size_t capacity, start, end;
    bool ended;    /* no bytes follow those in the buffer */
    char *scratch; /* unquoted fields and names of one record; as large as the buffer, so as any record in it */

    /* of the record that was split last */
    size_t field_count;
    text_span fields[CAPTION_MAX_COLUMNS];
    const char *keys[CAPTION_MAX_COLUMNS]; /* of a JSON object, each value's name */
    bool is_text[CAPTION_MAX_COLUMNS];     /* the value was a JSON string; other values stand as they are in the list */
} list_records;

typedef enum {
    RECORD_WHOLE,
    RECORD_MORE,        /* it goes on beyond the bytes that are held */
    RECORD_STRAY_QUOTE, /* text after a closing quote: where it ends is not known */
    RECORD_BAD          /* it ends where it should, but is nothing of its form */
} record_state;

/* Takes over `bytes`, reads the first ones and steps over a byte order mark. */
int list_records_begin(list_records *self, const char *name, list_bytes *bytes, limn_error *error);
/* Splits the record at start + offset. *used is its size with its line break; *problem is set for RECORD_BAD. */
record_state list_records_split(list_records *self, size_t offset, size_t *used, const char **problem);
/* Reads on until the record at `start` is held whole, or is longer than a record may be, or the file ends. */
int list_records_hold_first(list_records *self, limn_error *error);
/* Takes the next record that is not an empty line. 1: its fields are set, or *problem says why not; 0: the file's end; -1. */
int list_records_take(list_records *self, size_t *line, const char **problem, limn_error *error);
/* Passes over the next record without looking into it: 1, or 0 at the file's end; -1. */
int list_records_pass(list_records *self, limn_error *error);
void list_records_end(list_records *self); /* of a file */
void list_records_free(list_records *self);

/* Splits one JSON object (RFC 8259) into names and values. NULL, or what is wrong with it. */
const char *list_json_split(list_records *self, const char *text, size_t size);

/* ---------------------------------------------------------------- columns (list_columns.c) */

typedef enum { COLUMN_URL, COLUMN_CAPTION, COLUMN_HASH, COLUMN_BOXES, COLUMN_ROLES } column_role;

typedef struct {
    size_t count;
    char *names[CAPTION_MAX_COLUMNS];
    size_t of[COLUMN_ROLES]; /* which column has this role; `count` when none has */
} list_columns;

/* Finds out the columns of the file that begins with the record at records->start, and steps over its header line. */
int list_columns_settle(list_columns *self, const caption_list_options *options, list_records *records, limn_error *error);
void list_columns_forget(list_columns *self);

text_span list_trim(text_span span);
bool list_looks_like_address(text_span field);

#endif
