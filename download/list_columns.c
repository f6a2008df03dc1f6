/* The columns of a list: from its header line, from --columns, or from the names in its first JSON objects. */
#include "download/list_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PEEK_ROWS = 20 };

/* Names that a column is known by, most telling first. */
static const char *const URL_NAMES[] = {"url",  "image_url", "imageurl", "img_url", "image_link", "link", "uri",
                                        "href", "address",   "src",      "image",   "img",        NULL};
static const char *const CAPTION_NAMES[] = {"caption",     "text",     "alt_text", "alt",   "title",
                                            "description", "sentence", "prompt",   "label", NULL};
static const char *const NO_NAMES[] = {NULL}; /* hashes and boxes are only where they are said to be */

/* Where the names in an error come from. */
static const char HEADER_HAS[] = "its header line has", COLUMNS_NAME[] = "--columns names", OBJECTS_HAVE[] = "its objects have";

void list_columns_forget(list_columns *self) {
    for (size_t i = 0; i < self->count; i++) free(self->names[i]);
    self->count = 0;
}

/* ---------------------------------------------------------------- names */

text_span list_trim(text_span span) {
    while (span.size && (unsigned char)span.data[0] <= ' ') span.data++, span.size--;
    while (span.size && (unsigned char)span.data[span.size - 1] <= ' ') span.size--;
    return span;
}

bool list_looks_like_address(text_span field) {
    return field.size > 3 && memmem(field.data, field.size, "://", 3) != NULL;
}

static bool same_name(text_span field, const char *name) {
    field = list_trim(field);
    return field.size == strlen(name) && strncasecmp(field.data, name, field.size) == 0;
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
        const text_span name = list_trim(names[i]);
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
        names[*count] = list_trim((text_span){text, comma ? (size_t)(comma - text) : strlen(text)});
        if (names[*count].size == 0)
            return limn_fail_usage(error, "--columns: an empty name; give names separated by commas, such as caption,url");
        ++*count;
        if (!comma) return 0;
        text = comma + 1;
    }
}

/* ---------------------------------------------------------------- roles */

/* Names become keys of the pairs' JSON, so empty and repeated ones get their column's number. */
static int copy_names(list_columns *self, const text_span *names, size_t count, const char *list, limn_error *error) {
    list_columns_forget(self);
    for (size_t i = 0; i < count; i++) {
        const text_span name = list_trim(names[i]);
        bool repeated = false;
        for (size_t j = 0; j < i; j++)
            repeated = repeated || (strlen(self->names[j]) == name.size && !memcmp(self->names[j], name.data, name.size));
        char *copy;
        const int written = name.size && !repeated
                                ? asprintf(&copy, "%.*s", (int)name.size, name.data)
                                : asprintf(&copy, "%.*s%scolumn_%zu", (int)name.size, name.data, name.size ? "_" : "", i + 1);
        if (written < 0) return limn_fail(error, "%s: out of memory for its column names", list);
        self->names[self->count++] = copy;
    }
    return 0;
}

/* Decides which column is which. `where` says where the names come from. */
static int choose(list_columns *self, const caption_list_options *options, const char *list, const text_span *names,
                  size_t count, const char *where, limn_error *error) {
    const struct {
        const char *name, *option, *what;
        const char *const *aliases;
    } roles[COLUMN_ROLES] = {
        [COLUMN_URL] = {options->url_column, "--url-column", "addresses", URL_NAMES},
        [COLUMN_CAPTION] = {options->caption_column, "--caption-column", "captions", CAPTION_NAMES},
        [COLUMN_HASH] = {options->hash_column, "--hash-column", NULL, NO_NAMES},
        [COLUMN_BOXES] = {options->boxes_column, "--boxes-column", NULL, NO_NAMES},
    };
    char found[512];
    join_names(names, count, found, sizeof found);
    for (size_t role = 0; role < COLUMN_ROLES; role++) {
        const char *const wanted = roles[role].name;
        const bool none = role == COLUMN_CAPTION && wanted && !*wanted;
        self->of[role] = none ? count : find_column(names, count, wanted, roles[role].aliases);
        if (self->of[role] < count || none || (!wanted && !roles[role].what)) continue;
        if (wanted)
            return limn_fail_usage(error, "%s: no column \"%s\" for %s; %s: %s", list, wanted, roles[role].option, where,
                                   found);
        if (role == COLUMN_CAPTION && count == 1) continue; /* a list of addresses alone */
        return limn_fail_usage(error, "%s: no column of %s; %s: %s; say which with %s%s", list, roles[role].what, where, found,
                               roles[role].option, role == COLUMN_CAPTION ? " (\"\" if there is none)" : "");
    }
    if (self->of[COLUMN_CAPTION] == self->of[COLUMN_URL])
        return limn_fail_usage(error, "%s: column \"%s\" is both address and caption; give --url-column and --caption-column",
                               list, found);
    return copy_names(self, names, count, list, error);
}

/* --columns beside a header line: each name asked for must be there (or stand for a column known by another name). */
static int check_asked(const list_columns *self, const caption_list_options *options, const char *list, const text_span *names,
                       size_t count, limn_error *error) {
    text_span asked[CAPTION_MAX_COLUMNS];
    size_t asked_count;
    if (!options->columns) return 0;
    if (split_columns_option(options->columns, asked, &asked_count, error)) return -1;
    for (size_t i = 0; i < asked_count; i++) {
        bool found = (is_alias(asked[i], URL_NAMES) && self->of[COLUMN_URL] < count) ||
                     (is_alias(asked[i], CAPTION_NAMES) && self->of[COLUMN_CAPTION] < count);
        for (size_t j = 0; j < count && !found; j++) {
            const text_span name = list_trim(names[j]);
            found = name.size == asked[i].size && !strncasecmp(name.data, asked[i].data, name.size);
        }
        if (!found) {
            char text[512];
            join_names(names, count, text, sizeof text);
            return limn_fail_usage(error, "%s: no column \"%.*s\" for --columns; its header line has: %s", list,
                                   (int)asked[i].size, asked[i].data, text);
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- by form */

/* The columns of a list without a header line. Where none of its first rows fits them but would in another order, that is a
 * wrong command line and not thousands of bad rows. */
static int settle_by_option(list_columns *self, const caption_list_options *options, list_records *records, limn_error *error) {
    text_span names[CAPTION_MAX_COLUMNS];
    size_t count;
    const char *problem, *const asked = options->columns             ? options->columns
                                        : records->form == LIST_TEXT ? "url"
                                                                     : "caption,url";
    if (split_columns_option(asked, names, &count, error)) return -1;
    if (records->form == LIST_TEXT && count != 1)
        return limn_fail_usage(error, "%s: plain text has one column, --columns names %zu (%s)", records->name, count, asked);
    if (choose(self, options, records->name, names, count, COLUMNS_NAME, error)) return -1;
    if (records->form == LIST_TEXT) return 0;
    size_t offset = 0, used, fitting = 0, other = 0, other_fields = 0, other_column = 0;
    for (size_t row = 0; row < PEEK_ROWS && records->start + offset < records->end; row++, offset += used) {
        if (list_records_split(records, offset, &used, &problem) != RECORD_WHOLE) break;
        if (records->field_count == count && list_looks_like_address(records->fields[self->of[COLUMN_URL]])) fitting++;
        for (size_t i = 0; i < records->field_count; i++)
            if (list_looks_like_address(records->fields[i])) other++, other_fields = records->field_count, other_column = i + 1;
    }
    if (fitting || !other) return 0;
    if (other_fields != count)
        return limn_fail_usage(
            error,
            "%s: rows have %zu columns and no header line is known by its names, but --columns names %zu (%s); "
            "give --columns or --url-column and --caption-column",
            records->name, other_fields, count, asked);
    return limn_fail_usage(
        error,
        "%s: the addresses are in column %zu, but --columns (%s) has them in column %zu and no header line is "
        "known by its names; give --columns in the list's order",
        records->name, other_column, asked, self->of[COLUMN_URL] + 1);
}

/* A header line is one in which a field is called as a column we look for, and none is an address. */
static bool is_header(const caption_list_options *options, const list_records *records) {
    const char *const caption = options->caption_column;
    bool known = false, address = false;
    for (size_t i = 0; i < records->field_count; i++) {
        const text_span field = records->fields[i];
        known = known || (options->url_column ? same_name(field, options->url_column) : is_alias(field, URL_NAMES)) ||
                (caption ? *caption && same_name(field, caption) : is_alias(field, CAPTION_NAMES));
        address = address || list_looks_like_address(field);
    }
    return known && !address;
}

static int settle_by_lines(list_columns *self, const caption_list_options *options, list_records *records, limn_error *error) {
    const char *const text = records->buffer + records->start, *problem;
    const char *const said = options->header ? options->header : "auto";
    size_t blank = 0, used = 0; /* empty lines before it */
    while (records->start + blank < records->end && (text[blank] == '\n' || text[blank] == '\r')) blank++;
    const bool any = records->start + blank < records->end &&
                     list_records_split(records, blank, &used, &problem) == RECORD_WHOLE && limn_utf8_valid(text + blank, used);
    if (!strcmp(said, "yes") && records->start + blank < records->end && !any)
        return limn_fail_usage(error, "%s: its header line cannot be read", records->name);
    if (!any || !strcmp(said, "no") || (strcmp(said, "yes") && !is_header(options, records)))
        return settle_by_option(self, options, records, error);
    if (choose(self, options, records->name, records->fields, records->field_count, HEADER_HAS, error) ||
        check_asked(self, options, records->name, records->fields, records->field_count, error))
        return -1;
    for (size_t i = 0; i < blank + used; i++) records->line += text[i] == '\n';
    records->start += blank + used;
    return 0;
}

/* The names of the first objects taken together, since not every object need have all. */
static int settle_by_objects(list_columns *self, const caption_list_options *options, list_records *records,
                             limn_error *error) {
    char *owned[CAPTION_MAX_COLUMNS];
    text_span names[CAPTION_MAX_COLUMNS];
    size_t count = 0, objects = 0, offset = 0, used;
    const char *problem, *first_problem = NULL;
    bool full = false;
    for (size_t row = 0; row < PEEK_ROWS && records->start + offset < records->end; row++, offset += used) {
        const record_state state = list_records_split(records, offset, &used, &problem);
        if (state == RECORD_MORE) break;
        if (state == RECORD_BAD && !first_problem) first_problem = problem;
        if (state != RECORD_WHOLE || !records->field_count || !limn_utf8_valid(records->buffer + records->start + offset, used))
            continue;
        objects++;
        for (size_t i = 0; i < records->field_count && !full; i++) {
            const text_span key = {records->keys[i], strlen(records->keys[i])};
            bool known = false;
            for (size_t j = 0; j < count; j++) known = known || !strcmp(owned[j], key.data);
            if (known) continue;
            full = count == CAPTION_MAX_COLUMNS || !(owned[count] = strdup(key.data));
            if (!full) names[count] = (text_span){owned[count], key.size}, count++;
        }
    }
    int status = 0;
    if (objects)
        status = choose(self, options, records->name, names, count, OBJECTS_HAVE, error);
    else if (first_problem)
        status =
            limn_fail_usage(error, "%s: is not JSONL: its first line %s; each line must be a JSON object (jq -c makes such)",
                            records->name, first_problem);
    for (size_t i = 0; i < count; i++) free(owned[i]);
    return status;
}

int list_columns_settle(list_columns *self, const caption_list_options *options, list_records *records, limn_error *error) {
    list_columns_forget(self);
    memset(self->of, 0, sizeof self->of);
    return records->form == LIST_JSONL ? settle_by_objects(self, options, records, error)
                                       : settle_by_lines(self, options, records, error);
}
