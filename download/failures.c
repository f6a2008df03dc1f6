/* The table of a shard's failed rows, NNNNN.failed.tsv: one line a row, in the list's order. It is a list itself, and what
 * --retry-failed goes by. */
#include "download/internal.h"

#include <stdlib.h>
#include <string.h>

static const char HEADER[] = "url\tcaption\treason\tdetail\tkey\tlist\tline\n";
enum { FIELDS = 7, REASON_FIELD = 2, KEY_FIELD = 4, LARGEST_TABLE = 1 << 30 };

/* Appends a field: valid UTF-8 without tabs and line breaks. */
static int append_field(limn_buffer *line, const char *text, size_t size, char after, limn_error *error) {
    const size_t begin = line->size;
    if (limn_buffer_append(line, text, size, error)) return -1;
    for (size_t i = begin; i < line->size;) {
        uint32_t code_point;
        const size_t used = limn_utf8_decode(line->data + i, line->size - i, &code_point);
        if (used == 0 || code_point < ' ' || code_point == 0x7F) line->data[i] = used == 0 ? '?' : ' ';
        i += used ? used : 1;
    }
    return limn_buffer_append(line, &after, 1, error);
}

int failure_describe(const download_row *row, const char *key, limn_buffer *line, limn_error *error) {
    const int status = append_field(line, row->url ? row->url : "", row->url ? strlen(row->url) : 0, '\t', error) ||
                       append_field(line, row->caption ? row->caption : "", row->caption_size, '\t', error) ||
                       append_field(line, row->reason, strlen(row->reason), '\t', error) ||
                       append_field(line, row->detail, strlen(row->detail), '\t', error) ||
                       append_field(line, key, strlen(key), '\t', error) ||
                       append_field(line, row->file, strlen(row->file), '\t', error) ||
                       limn_buffer_printf(line, error, "%zu\n", row->line);
    return status ? -1 : 0;
}

int failures_write_header(FILE *stream) {
    return fputs(HEADER, stream) < 0 ? -1 : 0;
}

bool failure_may_pass(const char *reason) {
    /* "http" is any other error of the protocol, "memory" one of this machine. */
    static const char *const reasons[] = {"dns",      "connect", "timeout", "tls",    "connection_lost", "http",
                                          "redirect", "empty",   "file",    "memory", "too_slow"};
    if (!strncmp(reason, "http_", 5)) return true;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (!strcmp(reason, reasons[i])) return true;
    return false;
}

/* The row that a key of this shard names; SIZE_MAX for any other text. */
static size_t row_of_key(const download_options *options, uint64_t number, text_span key) {
    char text[64], again[64];
    shard_key(options, number, 0, text);
    const size_t digits = strlen(text), prefix = (size_t)snprintf(again, sizeof again, "%05llu", (unsigned long long)number);
    if (key.size != digits || key.size >= sizeof text) return SIZE_MAX;
    memcpy(text, key.data, key.size);
    const size_t index = strtoull(text + prefix, NULL, 10);
    if (index >= options->shard_size) return SIZE_MAX;
    shard_key(options, number, index, again);
    return strcmp(text, again) ? SIZE_MAX : index;
}

int failures_read(const download_options *options, uint64_t number, failure_found found, void *context, limn_error *error) {
    char path[4096];
    size_t size, lines, next_row = 0;
    if (shard_path(options->output, number, "failed.tsv", path, error)) return -1;
    char *text = limn_file_read(path, LARGEST_TABLE, &size, error);
    if (!text) return -1;
    int status = 0;
    const size_t header = sizeof HEADER - 1;
    bool whole = size >= header && !memcmp(text, HEADER, header);
    lines = whole ? 2 : 1;
    for (size_t at = header; whole && !status && at < size; lines++) {
        const char *const line = text + at, *const end = memchr(line, '\n', size - at);
        text_span fields[FIELDS];
        size_t count = 0;
        for (const char *field = line; end && field <= end; count++) {
            const char *tab = memchr(field, '\t', (size_t)(end - field));
            const char *const stop = tab ? tab : end;
            if (count < FIELDS) fields[count] = (text_span){field, (size_t)(stop - field)};
            field = stop + 1;
        }
        failure row = {.line = {line, end ? (size_t)(end + 1 - line) : 0}};
        whole = count == FIELDS && fields[REASON_FIELD].size < sizeof row.reason && fields[REASON_FIELD].size > 0;
        if (!whole) break;
        row.index = row_of_key(options, number, fields[KEY_FIELD]);
        memcpy(row.reason, fields[REASON_FIELD].data, fields[REASON_FIELD].size);
        whole = row.index != SIZE_MAX && row.index >= next_row; /* in the list's order, each once */
        if (!whole) break;
        status = found(context, &row, error);
        next_row = row.index + 1;
        at += row.line.size;
    }
    free(text);
    if (!whole)
        return limn_fail(error,
                         "%s: line %zu is not as limn-download wrote it; remove this shard's .stats.json to make it anew", path,
                         lines);
    return status ? -1 : 0;
}
