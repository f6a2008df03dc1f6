/* Caption lists: TSV and CSV as a stream of rows, bad ones named. */
#include "download/download.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FIRST_CAPACITY = 1 << 16, FULL_CAPACITY = CAPTION_ROW_MAX_BYTES + (1 << 18), PEEK_ROWS = 20 };

/* Names that a header line is known by, most telling first. */
static const char *const URL_NAMES[] = {"url",  "image_url", "imageurl", "img_url", "image_link", "link", "uri",
                                        "href", "address",   "src",      "image",   "img",        NULL};
static const char *const CAPTION_NAMES[] = {"caption",     "text",     "alt_text", "alt",   "title",
                                            "description", "sentence", "prompt",   "label", NULL};

struct caption_list {
    const limn_strings *paths;
    const caption_list_options *options;
    size_t next_path;
    FILE *stream; /* NULL between files */
    const char *name;
    bool in_memory;

    char *buffer; /* grows from FIRST_CAPACITY to FULL_CAPACITY when a row needs it */
    size_t capacity, start, end;
    bool stream_ended;

    bool csv;
    size_t line; /* of the record at `start`, from 1 */
    uint64_t next_number;
    char *scratch; /* unquoted fields of a CSV record; as large as the buffer, so as any record in it */

    size_t field_count;
    text_span fields[CAPTION_MAX_COLUMNS];
    size_t column_count;
    char *column_names[CAPTION_MAX_COLUMNS];
    size_t url_index, caption_index; /* caption_index is column_count when the list has no captions */
    const char *extra_names[CAPTION_MAX_COLUMNS];
    text_span extra_values[CAPTION_MAX_COLUMNS];
    char problem[160];
};

static void forget_columns(caption_list *list) {
    for (size_t i = 0; i < list->column_count; i++) free(list->column_names[i]);
    list->column_count = 0;
}

void caption_list_close(caption_list *list) {
    if (!list) return;
    forget_columns(list);
    if (list->stream) fclose(list->stream);
    free(list->buffer);
    free(list->scratch);
    free(list);
}

/* ---------------------------------------------------------------- bytes */

static int grow(caption_list *list, size_t capacity, limn_error *error) {
    char *buffer = realloc(list->buffer, capacity);
    if (buffer) list->buffer = buffer;
    char *scratch = buffer ? realloc(list->scratch, capacity) : NULL;
    if (!scratch) return limn_fail(error, "out of memory for %zu bytes of a list", capacity);
    list->scratch = scratch;
    list->capacity = capacity;
    return 0;
}

/* Moves the unread part to the front and reads on. *added is 0 at the end of the file or when the buffer is full. */
static int fill(caption_list *list, size_t *added, limn_error *error) {
    *added = 0;
    if (list->start > 0) {
        memmove(list->buffer, list->buffer + list->start, list->end - list->start);
        list->end -= list->start;
        list->start = 0;
    }
    if (list->stream_ended || list->end == FULL_CAPACITY) return 0;
    if (list->end == list->capacity &&
        grow(list, 2 * list->capacity < FULL_CAPACITY ? 2 * list->capacity : FULL_CAPACITY, error))
        return -1;
    *added = fread(list->buffer + list->end, 1, list->capacity - list->end, list->stream);
    list->end += *added;
    if (*added == 0) {
        if (ferror(list->stream))
            return limn_fail(error, "%s: cannot be read after line %zu: %s", list->name, list->line - 1, strerror(errno));
        list->stream_ended = true;
    }
    return 0;
}

/* Skips through the next line break; a record has been found too long to hold. */
static int skip_line(caption_list *list, limn_error *error) {
    for (;;) {
        char *line_break = memchr(list->buffer + list->start, '\n', list->end - list->start);
        if (line_break) {
            list->start = (size_t)(line_break - list->buffer) + 1;
            list->line++;
            return 0;
        }
        list->start = list->end;
        size_t added;
        if (fill(list, &added, error)) return -1;
        if (added == 0) return 0;
    }
}

/* ---------------------------------------------------------------- records */

typedef enum {
    RECORD_WHOLE,
    RECORD_MORE,        /* it goes on beyond the bytes given */
    RECORD_STRAY_QUOTE, /* text after a closing quote */
    RECORD_MANY_COLUMNS
} record_state;

static record_state add_field(caption_list *list, const char *data, size_t size) {
    if (list->field_count == CAPTION_MAX_COLUMNS) return RECORD_MANY_COLUMNS;
    list->fields[list->field_count++] = (text_span){data, size};
    return RECORD_WHOLE;
}

static record_state split_tsv(caption_list *list, const char *text, size_t size, size_t *used) {
    const char *line_break = memchr(text, '\n', size);
    if (!line_break && !list->stream_ended) return RECORD_MORE;
    size_t length = line_break ? (size_t)(line_break - text) : size;
    *used = line_break ? length + 1 : length;
    if (length && text[length - 1] == '\r') length--;
    const char *end = text + length;
    for (;;) {
        const char *tab = memchr(text, '\t', (size_t)(end - text));
        if (add_field(list, text, (size_t)((tab ? tab : end) - text))) return RECORD_MANY_COLUMNS;
        if (!tab) return RECORD_WHOLE;
        text = tab + 1;
    }
}

/* RFC 4180. Unquoted fields point into the text, quoted ones into the scratch buffer. */
static record_state split_csv(caption_list *list, const char *text, size_t size, size_t *used) {
    size_t i = 0, scratch = 0;
    record_state state = RECORD_WHOLE;
    for (;;) {
        if (i < size && text[i] == '"') {
            size_t begin = scratch;
            for (i++;;) {
                const char *quote = memchr(text + i, '"', size - i);
                if (!quote) return RECORD_MORE;
                size_t run = (size_t)(quote - text) - i;
                memcpy(list->scratch + scratch, text + i, run);
                scratch += run;
                i += run + 1;
                if (i == size && !list->stream_ended) return RECORD_MORE;
                if (i == size || text[i] != '"') break;
                list->scratch[scratch++] = '"';
                i++;
            }
            if (i + 1 == size && text[i] == '\r' && !list->stream_ended) return RECORD_MORE;
            bool line_end = i == size || text[i] == '\n' || (text[i] == '\r' && (i + 1 == size || text[i + 1] == '\n'));
            if (!line_end && text[i] != ',') return RECORD_STRAY_QUOTE;
            if (add_field(list, list->scratch + begin, scratch - begin)) state = RECORD_MANY_COLUMNS;
            if (i < size && text[i] == '\r') i++;
        } else {
            size_t begin = i;
            while (i < size && text[i] != ',' && text[i] != '\n') i++;
            if (i == size && !list->stream_ended) return RECORD_MORE;
            size_t length = i - begin;
            if (length && text[i - 1] == '\r' && (i == size || text[i] == '\n')) length--;
            if (add_field(list, text + begin, length)) state = RECORD_MANY_COLUMNS;
        }
        if (i == size || text[i] == '\n') break;
        i++; /* the comma */
    }
    *used = i < size ? i + 1 : i;
    return state;
}

/* Splits the record at `start` (or later: `offset`) into list->fields. *used is its size with its line break. */
static record_state split_record(caption_list *list, size_t offset, size_t *used) {
    const char *text = list->buffer + list->start + offset;
    const size_t size = list->end - list->start - offset;
    list->field_count = 0;
    *used = 0;
    return list->csv ? split_csv(list, text, size, used) : split_tsv(list, text, size, used);
}

static size_t count_lines(const char *text, size_t size) {
    size_t lines = 0;
    for (const char *at = text, *end = text + size; (at = memchr(at, '\n', (size_t)(end - at))); at++) lines++;
    return lines;
}

/* Takes the next record that is not an empty line. 1: fields are set, or `problem` says why not; 0: the file's end; -1. */
static int take_record(caption_list *list, size_t *line, const char **problem, limn_error *error) {
    *problem = NULL;
    for (;;) {
        size_t used = 0, added = 0;
        record_state state = RECORD_MORE;
        if (list->start < list->end) state = split_record(list, 0, &used);
        *line = list->line;
        if (state == RECORD_MORE && list->end - list->start < CAPTION_ROW_MAX_BYTES && !list->stream_ended) {
            if (fill(list, &added, error)) return -1;
            continue;
        }
        if (list->start == list->end) return 0;
        if (state == RECORD_MORE || state == RECORD_STRAY_QUOTE) {
            const char *text = list->buffer + list->start;
            const size_t held = list->end - list->start;
            const char *line_break = memchr(text, '\n', held);
            if (state == RECORD_STRAY_QUOTE)
                *problem = "has text after a closing quote";
            else if (line_break || list->stream_ended)
                *problem = "has a quote that never closes";
            else
                *problem = "is longer than 1 MiB, the most a row may have";
            return skip_line(list, error) ? -1 : 1;
        }
        const char *text = list->buffer + list->start;
        list->line += list->csv ? count_lines(text, used) : 1;
        list->start += used;
        if (list->field_count == 1 && list->fields[0].size == 0) continue;
        if (used > CAPTION_ROW_MAX_BYTES)
            *problem = "is longer than 1 MiB, the most a row may have";
        else if (state == RECORD_MANY_COLUMNS)
            *problem = "has more than 256 columns";
        else if (memchr(text, 0, used))
            *problem = "has a NUL byte";
        else if (!limn_utf8_valid(text, used))
            *problem = "is not valid UTF-8";
        return 1;
    }
}

/* ---------------------------------------------------------------- columns */

static text_span trim(text_span span) {
    while (span.size && (unsigned char)span.data[0] <= ' ') span.data++, span.size--;
    while (span.size && (unsigned char)span.data[span.size - 1] <= ' ') span.size--;
    return span;
}

static bool same_name(text_span field, const char *name) {
    field = trim(field);
    return field.size == strlen(name) && strncasecmp(field.data, name, field.size) == 0;
}

static bool looks_like_address(text_span field) {
    return field.size > 3 && memmem(field.data, field.size, "://", 3) != NULL;
}

/* Index of the column called `wanted`, or of the first alias that there is; `count` when there is none. */
static size_t find_column(const text_span *names, size_t count, const char *wanted, const char *const *aliases) {
    if (wanted) {
        for (size_t i = 0; i < count; i++)
            if (same_name(names[i], wanted)) return i;
        return count;
    }
    for (; *aliases; aliases++)
        for (size_t i = 0; i < count; i++)
            if (same_name(names[i], *aliases)) return i;
    return count;
}

static bool is_alias(text_span name, const char *const *aliases) {
    return find_column(&name, 1, NULL, aliases) == 0;
}

/* "a, b, c" for an error, at most `room` bytes. */
static void join_names(const text_span *names, size_t count, char *out, size_t room) {
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < count && at + 8 < room; i++) {
        const text_span name = trim(names[i]);
        const int part = (int)(name.size < 60 ? name.size : 60);
        const int written = snprintf(out + at, room - at, "%s%.*s", i ? ", " : "", part, name.data);
        at += written < 0 ? 0 : (size_t)written;
    }
}

static int split_columns_option(const char *text, text_span *names, size_t *count, limn_error *error) {
    *count = 0;
    for (;;) {
        const char *comma = strchr(text, ',');
        if (*count == CAPTION_MAX_COLUMNS) return limn_fail_usage(error, "--columns: more than 256 names");
        names[*count] = trim((text_span){text, comma ? (size_t)(comma - text) : strlen(text)});
        if (names[*count].size == 0)
            return limn_fail_usage(error, "--columns: an empty name; give names separated by commas, such as caption,url");
        ++*count;
        if (!comma) return 0;
        text = comma + 1;
    }
}

/* Decides which column is which from the list's names, given by its header line or by --columns. */
static int choose_columns(caption_list *list, const text_span *names, size_t count, bool header, limn_error *error) {
    const char *const url = list->options->url_column, *const caption = list->options->caption_column;
    char found[512];
    join_names(names, count, found, sizeof found);
    const char *const where = header ? "its header line has" : "--columns names";
    list->url_index = find_column(names, count, url, URL_NAMES);
    if (list->url_index == count)
        return url ? limn_fail_usage(error, "%s: no column \"%s\" for --url-column; %s: %s", list->name, url, where, found)
                   : limn_fail_usage(error, "%s: no column of addresses; %s: %s; say which with --url-column", list->name,
                                     where, found);
    list->caption_index = find_column(names, count, caption, CAPTION_NAMES);
    if (list->caption_index == count && caption)
        return limn_fail_usage(error, "%s: no column \"%s\" for --caption-column; %s: %s", list->name, caption, where, found);
    if (list->caption_index == count && count > 1)
        return limn_fail_usage(error, "%s: no column of captions; %s: %s; say which with --caption-column", list->name, where,
                               found);
    if (list->caption_index == list->url_index)
        return limn_fail_usage(error, "%s: column \"%s\" is both address and caption; give --url-column and --caption-column",
                               list->name, found);
    /* Names become keys of the pairs' JSON, so empty and repeated ones get their column's number. */
    forget_columns(list);
    for (size_t i = 0; i < count; i++) {
        const text_span name = trim(names[i]);
        bool repeated = false;
        for (size_t j = 0; j < i; j++)
            repeated = repeated ||
                       (strlen(list->column_names[j]) == name.size && !memcmp(list->column_names[j], name.data, name.size));
        char *copy;
        const int written = name.size && !repeated
                                ? asprintf(&copy, "%.*s", (int)name.size, name.data)
                                : asprintf(&copy, "%.*s%scolumn_%zu", (int)name.size, name.data, name.size ? "_" : "", i + 1);
        if (written < 0) return limn_fail(error, "%s: out of memory for its column names", list->name);
        list->column_names[list->column_count++] = copy;
    }
    return 0;
}

/* --columns beside a header line: each name asked for must be there (or stand for a column known by another name). */
static int check_asked_columns(caption_list *list, const text_span *names, size_t count, limn_error *error) {
    text_span asked[CAPTION_MAX_COLUMNS];
    size_t asked_count;
    if (!list->options->columns) return 0;
    if (split_columns_option(list->options->columns, asked, &asked_count, error)) return -1;
    for (size_t i = 0; i < asked_count; i++) {
        bool found = (is_alias(asked[i], URL_NAMES) && list->url_index < count) ||
                     (is_alias(asked[i], CAPTION_NAMES) && list->caption_index < count);
        for (size_t j = 0; j < count && !found; j++) {
            const text_span name = trim(names[j]);
            found = name.size == asked[i].size && !strncasecmp(name.data, asked[i].data, name.size);
        }
        if (!found) {
            char text[512];
            join_names(names, count, text, sizeof text);
            return limn_fail_usage(error, "%s: no column \"%.*s\" for --columns; its header line has: %s", list->name,
                                   (int)asked[i].size, asked[i].data, text);
        }
    }
    return 0;
}

/* The columns of a list without a header line. Where none of its first rows fits them but would in another order, that is a
 * wrong command line and not thousands of bad rows. */
static int columns_without_header(caption_list *list, limn_error *error) {
    text_span names[CAPTION_MAX_COLUMNS];
    size_t count;
    if (split_columns_option(list->options->columns ? list->options->columns : "caption,url", names, &count, error)) return -1;
    if (choose_columns(list, names, count, false, error)) return -1;
    size_t offset = 0, used, fitting = 0, other = 0, other_fields = 0, other_column = 0;
    for (size_t row = 0; row < PEEK_ROWS && list->start + offset < list->end; row++, offset += used) {
        if (split_record(list, offset, &used) != RECORD_WHOLE) break;
        if (list->field_count == count && looks_like_address(list->fields[list->url_index])) fitting++;
        for (size_t i = 0; i < list->field_count; i++)
            if (looks_like_address(list->fields[i])) other++, other_fields = list->field_count, other_column = i + 1;
    }
    if (fitting || !other) return 0;
    if (other_fields != count)
        return limn_fail_usage(
            error,
            "%s: rows have %zu columns and no header line is known by its names, but --columns names %zu (%s); "
            "give --columns or --url-column and --caption-column",
            list->name, other_fields, count, list->options->columns ? list->options->columns : "caption,url");
    return limn_fail_usage(
        error,
        "%s: the addresses are in column %zu, but --columns (%s) has them in column %zu and no header line is "
        "known by its names; give --columns in the list's order",
        list->name, other_column, list->options->columns ? list->options->columns : "caption,url", list->url_index + 1);
}

/* ---------------------------------------------------------------- files */

static bool ends_with(const char *text, const char *end) {
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && strcasecmp(text + a - b, end) == 0;
}

/* Reads the beginning of the file that list->stream is, and finds out its form and columns. */
static int begin_file(caption_list *list, limn_error *error) {
    size_t added, used;
    list->start = list->end = 0;
    list->stream_ended = false;
    list->line = 1;
    if (fill(list, &added, error)) return -1;
    if (list->end >= 3 && !memcmp(list->buffer, "\xEF\xBB\xBF", 3)) list->start = 3;
    const char *const text = list->buffer + list->start;
    const size_t head = list->end - list->start < 4096 ? list->end - list->start : 4096;
    if (head >= 2 && !memcmp(text, "\x1F\x8B", 2))
        return limn_fail_usage(error, "%s: is compressed (gzip); give it unpacked", list->name);
    if (head >= 4 && (!memcmp(text, "PAR1", 4) || !memcmp(text, "\x28\xB5\x2F\xFD", 4)))
        return limn_fail_usage(error, "%s: is not text but %s; give it as TSV or CSV", list->name,
                               text[0] == 'P' ? "Parquet" : "zstd");
    if (head >= 2 && (!memcmp(text, "\xFF\xFE", 2) || !memcmp(text, "\xFE\xFF", 2)))
        return limn_fail_usage(error, "%s: is UTF-16; convert it to UTF-8 (iconv -f utf-16 -t utf-8)", list->name);

    const char *const first_break = memchr(text, '\n', list->end - list->start);
    const size_t first_line = first_break ? (size_t)(first_break - text) : list->end - list->start;
    if (memchr(text, 0, first_line))
        return limn_fail_usage(error, "%s: is not text (its first line has a NUL byte)", list->name);

    const char *const format = list->options->format ? list->options->format : "auto";
    if (!strcmp(format, "tsv") || !strcmp(format, "csv")) {
        list->csv = format[0] == 'c';
    } else if (ends_with(list->name, ".csv") || ends_with(list->name, ".tsv") || ends_with(list->name, ".tab")) {
        list->csv = ends_with(list->name, ".csv");
    } else {
        list->csv = !memchr(text, '\t', first_line);
    }

    /* A header line: a field is called as a column we look for, and none is an address. */
    size_t blank = 0; /* empty lines before it */
    while (list->start + blank < list->end && (text[blank] == '\n' || text[blank] == '\r')) blank++;
    const record_state state = list->start + blank < list->end ? split_record(list, blank, &used) : RECORD_MORE;
    bool known = false, address = false;
    for (size_t i = 0; state == RECORD_WHOLE && i < list->field_count; i++) {
        const text_span *const field = &list->fields[i];
        known = known ||
                (list->options->url_column ? same_name(*field, list->options->url_column) : is_alias(*field, URL_NAMES)) ||
                (list->options->caption_column ? same_name(*field, list->options->caption_column)
                                               : is_alias(*field, CAPTION_NAMES));
        address = address || looks_like_address(*field);
    }
    if (!known || address || !limn_utf8_valid(text + blank, used)) return columns_without_header(list, error);
    if (choose_columns(list, list->fields, list->field_count, true, error) ||
        check_asked_columns(list, list->fields, list->field_count, error))
        return -1;
    list->line += count_lines(text, blank + used);
    list->start += blank + used;
    return 0;
}

/* Opens the next file, if there is one: 1, 0 or -1. */
static int next_file(caption_list *list, limn_error *error) {
    if (list->in_memory || list->next_path == list->paths->count) return 0;
    list->name = list->paths->items[list->next_path++];
    list->stream = fopen(list->name, "rbe");
    if (!list->stream) return limn_fail_usage(error, "%s: cannot be opened: %s", list->name, strerror(errno));
    setvbuf(list->stream, NULL, _IONBF, 0); /* it is read by chunks anyway */
    return begin_file(list, error) ? -1 : 1;
}

static caption_list *create(const caption_list_options *options, limn_error *error) {
    caption_list *list = limn_allocate(1, sizeof *list, error);
    if (!list) return NULL;
    list->options = options;
    if (!grow(list, FIRST_CAPACITY, error)) return list;
    caption_list_close(list);
    return NULL;
}

caption_list *caption_list_open(const limn_strings *paths, const caption_list_options *options, limn_error *error) {
    caption_list *list = create(options, error);
    if (!list) return NULL;
    list->paths = paths;
    if (paths->count == 0)
        limn_fail_usage(error, "no list was given");
    else if (next_file(list, error) == 1)
        return list;
    caption_list_close(list);
    return NULL;
}

caption_list *caption_list_open_memory(const char *name, const void *data, size_t size, const caption_list_options *options,
                                       limn_error *error) {
    caption_list *list = create(options, error);
    if (!list) return NULL;
    list->in_memory = true;
    list->name = name;
    list->stream = size ? fmemopen((void *)(uintptr_t)data, size, "rb") : fopen("/dev/null", "rb");
    if (!list->stream)
        limn_fail(error, "%s: cannot be opened: %s", name, strerror(errno));
    else if (!begin_file(list, error))
        return list;
    caption_list_close(list);
    return NULL;
}

int caption_list_next(caption_list *list, caption_row *row, limn_error *error) {
    int taken = 0;
    size_t line = 0;
    const char *problem = NULL;
    memset(row, 0, sizeof *row);
    while (list->stream) {
        taken = take_record(list, &line, &problem, error);
        if (taken) break;
        fclose(list->stream);
        list->stream = NULL;
        if (next_file(list, error) < 0) return -1;
    }
    if (taken <= 0) return taken;
    row->number = list->next_number++;
    row->file = list->name;
    row->line = line;
    row->problem = problem;
    if (problem) return 1;
    if (list->field_count != list->column_count) {
        snprintf(list->problem, sizeof list->problem, "has %zu column%s where %zu are expected", list->field_count,
                 list->field_count == 1 ? "" : "s", list->column_count);
        row->problem = list->problem;
        return 1;
    }
    const text_span url = trim(list->fields[list->url_index]);
    if (url.size == 0)
        row->problem = "has no address";
    else if (url.size > CAPTION_URL_MAX_BYTES)
        row->problem = "has an address longer than 8192 bytes";
    else if (!looks_like_address(url))
        row->problem = "has no address in its column of addresses (http://, https:// or file://)";
    if (row->problem) return 1;
    row->url = url;
    for (size_t i = 0; i < list->column_count; i++) {
        if (i == list->url_index) continue;
        if (i == list->caption_index) {
            row->caption = list->fields[i];
            continue;
        }
        list->extra_names[row->extra_count] = list->column_names[i];
        list->extra_values[row->extra_count++] = list->fields[i];
    }
    row->extra_names = list->extra_names;
    row->extra_values = list->extra_values;
    return 1;
}
