/* Caption lists: one or many files of any form as one stream of rows, bad ones named. */
#include "download/list_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { ROWS_PER_STEP = 1 << 16, QUICK_BYTES = 64000000 };

struct caption_list {
    const limn_strings *paths; /* NULL: bytes in memory */
    const caption_list_options *options;
    size_t next_path;
    caption_file *sums; /* (paths), where they are asked for */
    uint64_t bytes_before;

    list_records records;
    list_columns columns;
    uint64_t next_number;
    size_t places[COLUMN_ROLES]; /* of a JSON object's members: where each role's was in the last row */

    const char *extra_names[CAPTION_MAX_COLUMNS];
    text_span extra_values[CAPTION_MAX_COLUMNS];
    char problem[160];
};

void caption_list_close(caption_list *list) {
    if (!list) return;
    list_columns_forget(&list->columns);
    list_records_free(&list->records);
    free(list);
}

/* ---------------------------------------------------------------- the form of a file */

/* True when the name ends so, a .gz or .zst after it aside. */
static bool has_ending(const char *name, const char *ending) {
    static const char *const packed[] = {"", ".gz", ".zst"};
    const size_t size = strlen(name), length = strlen(ending);
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++) {
        const size_t after = strlen(packed[i]);
        if (size >= length + after && !strcasecmp(name + size - after, packed[i]) &&
            !strncasecmp(name + size - after - length, ending, length))
            return true;
    }
    return false;
}

/* False when the name says nothing. */
static bool form_of_name(const char *name, list_form *out) {
    static const struct {
        const char *ending;
        list_form form;
    } known[] = {{".tsv", LIST_TSV}, {".tab", LIST_TSV}, {".csv", LIST_CSV}, {".jsonl", LIST_JSONL}, {".ndjson", LIST_JSONL}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!has_ending(name, known[i].ending)) continue;
        *out = known[i].form;
        return true;
    }
    return false;
}

/* By its first line: tabs make it TSV, a brace JSONL, an address that has the line to itself plain text; else it is CSV. A
 * comma may be part of an address, which a name that ends in .txt decides. */
static list_form form_of_line(const char *name, const char *line, size_t size, const caption_list_options *options) {
    const text_span text = list_trim((text_span){line, size});
    if (memchr(text.data, '\t', text.size)) return LIST_TSV;
    if (text.size && text.data[0] == '{') return LIST_JSONL;
    const bool alone = !memchr(text.data, ',', text.size) || (!options->columns && has_ending(name, ".txt"));
    return list_looks_like_address(text) && alone ? LIST_TEXT : LIST_CSV;
}

static bool form_by_option(const caption_list_options *options, list_form *out) {
    static const char *const names[] = {[LIST_TSV] = "tsv", [LIST_CSV] = "csv", [LIST_JSONL] = "jsonl", [LIST_TEXT] = "txt"};
    for (size_t i = 0; options->format && i < sizeof names / sizeof *names; i++) {
        if (strcmp(options->format, names[i])) continue;
        *out = (list_form)i;
        return true;
    }
    return false;
}

/* Reads the beginning of a file, and finds out its form and columns. */
static int begin_file(caption_list *list, const char *name, list_bytes *bytes, limn_error *error) {
    list_records *const records = &list->records;
    if (list_records_begin(records, name, bytes, error)) return -1;
    const char *const text = records->buffer + records->start;
    const size_t held = records->end - records->start;
    if (held >= 2 && (!memcmp(text, "\xFF\xFE", 2) || !memcmp(text, "\xFE\xFF", 2)))
        return limn_fail_usage(error, "%s: is UTF-16; convert it to UTF-8 (iconv -f utf-16 -t utf-8)", name);
    size_t blank = 0;
    while (blank < held && (text[blank] == '\n' || text[blank] == '\r')) blank++;
    const char *const line_break = memchr(text + blank, '\n', held - blank);
    const size_t line = line_break ? (size_t)(line_break - text) - blank : held - blank;
    if (memchr(text + blank, 0, line)) return limn_fail_usage(error, "%s: is not text (its first line has a NUL byte)", name);
    if (!form_by_option(list->options, &records->form) && !form_of_name(name, &records->form))
        records->form = form_of_line(name, text + blank, line, list->options);
    if (list_records_hold_first(records, error)) return -1;
    return list_columns_settle(&list->columns, list->options, records, error);
}

/* ---------------------------------------------------------------- files */

/* Opens the next file, if there is one: 1, 0 or -1. */
static int next_file(caption_list *list, limn_error *error) {
    if (!list->paths || list->next_path == list->paths->count) return 0;
    const char *const path = list->paths->items[list->next_path++];
    list_bytes *bytes = list_bytes_open(path, list->sums != NULL, error);
    return !bytes || begin_file(list, path, bytes, error) ? -1 : 1;
}

static void end_file(caption_list *list) {
    const uint64_t bytes = list_bytes_taken(list->records.bytes);
    list->bytes_before += bytes;
    if (list->sums) {
        caption_file *const sum = &list->sums[list->next_path - 1];
        sum->bytes = bytes;
        list_bytes_sha256(list->records.bytes, sum->sha256);
    }
    list_records_end(&list->records);
}

static caption_list *open_files(const limn_strings *paths, const caption_list_options *options, caption_file *sums,
                                limn_error *error) {
    caption_list *list = limn_allocate(1, sizeof *list, error);
    if (!list) return NULL;
    list->options = options;
    list->paths = paths;
    list->sums = sums;
    if (paths->count == 0)
        limn_fail_usage(error, "no list was given");
    else if (next_file(list, error) == 1)
        return list;
    caption_list_close(list);
    return NULL;
}

caption_list *caption_list_open(const limn_strings *paths, const caption_list_options *options, limn_error *error) {
    return open_files(paths, options, NULL, error);
}

caption_list *caption_list_open_memory(const char *name, const void *data, size_t size, const caption_list_options *options,
                                       limn_error *error) {
    caption_list *list = limn_allocate(1, sizeof *list, error);
    if (!list) return NULL;
    list->options = options;
    list_bytes *bytes = list_bytes_open_memory(name, data, size, error);
    if (bytes && !begin_file(list, name, bytes, error)) return list;
    caption_list_close(list);
    return NULL;
}

/* ---------------------------------------------------------------- rows */

/* Where this row has each role, `field_count` where it has none. Objects name their members, in any order. */
static void find_roles(caption_list *list, size_t out[COLUMN_ROLES]) {
    const list_records *const records = &list->records;
    const list_columns *const columns = &list->columns;
    for (size_t role = 0; role < COLUMN_ROLES; role++) {
        out[role] = columns->of[role] < columns->count ? columns->of[role] : records->field_count;
        if (records->form != LIST_JSONL || columns->of[role] >= columns->count) continue;
        const char *const name = columns->names[columns->of[role]];
        size_t at = list->places[role];
        if (at >= records->field_count || strcmp(records->keys[at], name))
            for (at = 0; at < records->field_count && strcmp(records->keys[at], name);) at++;
        out[role] = list->places[role] = at;
    }
}

/* What a JSON value is as a text: null is nothing, numbers stand for themselves, other values do not do. */
static bool as_text(const list_records *records, size_t field, text_span *out) {
    *out = records->fields[field];
    if (records->form != LIST_JSONL || records->is_text[field]) return true;
    if (out->data[0] == 'n') *out = (text_span){out->data, 0};
    return !out->size || out->data[0] == '-' || (out->data[0] >= '0' && out->data[0] <= '9');
}

/* The row's texts from the record's fields; NULL, or what is wrong with them. */
static const char *fill_row(caption_list *list, caption_row *row) {
    const list_records *const records = &list->records;
    const size_t count = records->field_count;
    size_t of[COLUMN_ROLES];
    text_span url = {0}, caption = {0};
    if (records->form != LIST_JSONL && count != list->columns.count) {
        snprintf(list->problem, sizeof list->problem, "has %zu column%s where %zu are expected", count, count == 1 ? "" : "s",
                 list->columns.count);
        return list->problem;
    }
    find_roles(list, of);
    const bool text = of[COLUMN_URL] == count || as_text(records, of[COLUMN_URL], &url);
    url = list_trim(url);
    if (text && url.size == 0) return "has no address";
    if (url.size > CAPTION_URL_MAX_BYTES) return "has an address longer than 8192 bytes";
    if (!text || !list_looks_like_address(url))
        return "has no address in its column of addresses (http://, https:// or file://)";
    if (of[COLUMN_CAPTION] < count && !as_text(records, of[COLUMN_CAPTION], &caption)) return "has a caption that is no text";
    row->url = url;
    row->caption = caption;
    if (of[COLUMN_HASH] < count) as_text(records, of[COLUMN_HASH], &row->hash);
    if (of[COLUMN_BOXES] < count) as_text(records, of[COLUMN_BOXES], &row->boxes);
    for (size_t i = 0; i < count; i++) {
        if (i == of[COLUMN_URL] || i == of[COLUMN_CAPTION]) continue;
        list->extra_names[row->extra_count] = records->form == LIST_JSONL ? records->keys[i] : list->columns.names[i];
        list->extra_values[row->extra_count++] = records->fields[i];
    }
    row->extra_names = list->extra_names;
    row->extra_values = list->extra_values;
    return NULL;
}

int caption_list_next(caption_list *list, caption_row *row, limn_error *error) {
    int taken = 0;
    size_t line = 0;
    const char *problem = NULL;
    memset(row, 0, sizeof *row);
    while (list->records.bytes) {
        taken = list_records_take(&list->records, &line, &problem, error);
        if (taken) break;
        end_file(list);
        if (next_file(list, error) < 0) return -1;
    }
    if (taken <= 0) return taken;
    row->number = list->next_number++;
    row->file = list->records.name;
    row->line = line;
    row->problem = problem ? problem : fill_row(list, row);
    return 1;
}

int caption_list_skip(caption_list *list, uint64_t count, uint64_t *skipped, limn_error *error) {
    *skipped = 0;
    while (*skipped < count && list->records.bytes) {
        const int passed = list_records_pass(&list->records, error);
        if (passed < 0) return -1;
        if (passed) {
            ++*skipped;
            list->next_number++;
            continue;
        }
        end_file(list);
        if (next_file(list, error) < 0) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- measuring */

static int stopped(limn_error *error) {
    return limn_fail(error, "stopped while reading the lists; nothing was written");
}

/* The files' bytes only. */
static int sum_files(const limn_strings *paths, caption_file *files, limn_progress *progress, limn_error *error) {
    uint64_t before = 0;
    for (size_t i = 0; i < paths->count; i++) {
        list_bytes *bytes = list_bytes_open(paths->items[i], true, error);
        int more = bytes ? 1 : -1;
        while (more > 0) {
            more = list_bytes_pass(bytes, error);
            if (more < 0) limn_fail_context(error, "%s", paths->items[i]);
            limn_progress_update(progress, (before + list_bytes_taken(bytes)) / 1000000, "%s", paths->items[i]);
            if (more > 0 && limn_stop_requested()) more = stopped(error);
        }
        if (!more) {
            files[i].bytes = list_bytes_taken(bytes);
            list_bytes_sha256(bytes, files[i].sha256);
            before += files[i].bytes;
        }
        list_bytes_close(bytes);
        if (more) return -1;
    }
    return 0;
}

static int count_rows(const limn_strings *paths, const caption_list_options *options, caption_file *files, uint64_t *rows,
                      limn_progress *progress, limn_error *error) {
    uint64_t skipped = ROWS_PER_STEP;
    caption_list *list = open_files(paths, options, files, error);
    int status = list ? 0 : -1;
    for (*rows = 0; !status && skipped == ROWS_PER_STEP;) {
        status = caption_list_skip(list, ROWS_PER_STEP, &skipped, error);
        *rows += skipped;
        const uint64_t inside = list->records.bytes ? list_bytes_taken(list->records.bytes) : 0;
        limn_progress_update(progress, (list->bytes_before + inside) / 1000000, "%llu rows", (unsigned long long)*rows);
        if (!status && limn_stop_requested()) status = stopped(error);
    }
    caption_list_close(list);
    if (!status && *rows == 0) return limn_fail_usage(error, "%s: no rows in the list", paths->items[0]);
    return status;
}

int caption_list_measure(const limn_strings *paths, const caption_list_options *options, caption_file *files, uint64_t *rows,
                         limn_error *error) {
    uint64_t total = 0;
    struct stat status;
    for (size_t i = 0; i < paths->count; i++)
        if (!stat(paths->items[i], &status) && S_ISREG(status.st_mode)) total += (uint64_t)status.st_size;
    if (total < QUICK_BYTES) /* no line for what takes no time */
        return rows ? count_rows(paths, options, files, rows, NULL, error) : sum_files(paths, files, NULL, error);
    limn_progress *progress = limn_progress_start("reading the lists", "MB", 0, total / 1000000);
    const int result =
        rows ? count_rows(paths, options, files, rows, progress, error) : sum_files(paths, files, progress, error);
    limn_progress_finish(progress);
    return result;
}
