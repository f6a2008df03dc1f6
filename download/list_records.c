/* The records of a list: where one ends, and its fields. */
#include "download/list_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 1 << 16, FULL_CAPACITY = CAPTION_ROW_MAX_BYTES + (1 << 18), FIRST_BYTES = 4096 };

static const char TOO_LONG[] = "is longer than 1 MiB, the most a row may have";

/* ---------------------------------------------------------------- the buffer */

static int grow(list_records *self, size_t capacity, limn_error *error) {
    char *buffer = realloc(self->buffer, capacity);
    if (buffer) self->buffer = buffer;
    char *scratch = buffer ? realloc(self->scratch, capacity) : NULL;
    if (!scratch) return limn_fail(error, "out of memory for %zu bytes of a list", capacity);
    self->scratch = scratch;
    self->capacity = capacity;
    return 0;
}

/* Moves the unread part to the front and reads on. *added is 0 at the end of the file or when the buffer is full. */
static int fill(list_records *self, size_t *added, limn_error *error) {
    *added = 0;
    if (self->start > 0) {
        memmove(self->buffer, self->buffer + self->start, self->end - self->start);
        self->end -= self->start;
        self->start = 0;
    }
    if (self->ended || self->end == FULL_CAPACITY) return 0;
    if (self->end == self->capacity &&
        grow(self, 2 * self->capacity < FULL_CAPACITY ? 2 * self->capacity : FULL_CAPACITY, error))
        return -1;
    if (list_bytes_read(self->bytes, self->buffer + self->end, self->capacity - self->end, added, error))
        return limn_fail_context(error, "%s, after line %zu", self->name, self->line - 1);
    self->end += *added;
    self->ended = *added == 0;
    return 0;
}

int list_records_begin(list_records *self, const char *name, list_bytes *bytes, limn_error *error) {
    self->name = name;
    self->bytes = bytes;
    self->start = self->end = 0;
    self->ended = false;
    self->line = 1;
    self->form = LIST_TEXT;
    if (!self->capacity && grow(self, FIRST_CAPACITY, error)) return -1;
    for (size_t added = 1; added && self->end < FIRST_BYTES;) /* unpackers may give them one by one */
        if (fill(self, &added, error)) {
            if (self->end == 0) return -1;
            break; /* what came before the damage has rows; the next call tells of it again */
        }
    if (self->end >= 3 && !memcmp(self->buffer, "\xEF\xBB\xBF", 3)) self->start = 3; /* a byte order mark */
    return 0;
}

void list_records_end(list_records *self) {
    list_bytes_close(self->bytes);
    self->bytes = NULL;
}

void list_records_free(list_records *self) {
    list_records_end(self);
    free(self->buffer);
    free(self->scratch);
}

/* Skips through the next line break; a record has been found too long to hold. */
static int skip_line(list_records *self, limn_error *error) {
    for (;;) {
        char *line_break = memchr(self->buffer + self->start, '\n', self->end - self->start);
        if (line_break) {
            self->start = (size_t)(line_break - self->buffer) + 1;
            self->line++;
            return 0;
        }
        self->start = self->end;
        size_t added;
        if (fill(self, &added, error)) return -1;
        if (added == 0) return 0;
    }
}

/* ---------------------------------------------------------------- splitting */

static record_state add_field(list_records *self, const char *data, size_t size) {
    if (self->field_count == CAPTION_MAX_COLUMNS) return RECORD_BAD;
    self->fields[self->field_count++] = (text_span){data, size};
    return RECORD_WHOLE;
}

/* RFC 4180. Unquoted fields point into the text, quoted ones into the scratch buffer. */
static record_state split_csv(list_records *self, const char *text, size_t size, size_t *used) {
    size_t i = 0, scratch = 0;
    record_state state = RECORD_WHOLE;
    for (;;) {
        if (i < size && text[i] == '"') {
            size_t begin = scratch;
            for (i++;;) {
                const char *quote = memchr(text + i, '"', size - i);
                if (!quote) return RECORD_MORE;
                size_t run = (size_t)(quote - text) - i;
                memcpy(self->scratch + scratch, text + i, run);
                scratch += run;
                i += run + 1;
                if (i == size && !self->ended) return RECORD_MORE;
                if (i == size || text[i] != '"') break;
                self->scratch[scratch++] = '"';
                i++;
            }
            if (i + 1 == size && text[i] == '\r' && !self->ended) return RECORD_MORE;
            bool line_end = i == size || text[i] == '\n' || (text[i] == '\r' && (i + 1 == size || text[i + 1] == '\n'));
            if (!line_end && text[i] != ',') return RECORD_STRAY_QUOTE;
            if (add_field(self, self->scratch + begin, scratch - begin)) state = RECORD_BAD;
            if (i < size && text[i] == '\r') i++;
        } else {
            size_t begin = i;
            while (i < size && text[i] != ',' && text[i] != '\n') i++;
            if (i == size && !self->ended) return RECORD_MORE;
            size_t length = i - begin;
            if (length && text[i - 1] == '\r' && (i == size || text[i] == '\n')) length--;
            if (add_field(self, text + begin, length)) state = RECORD_BAD;
        }
        if (i == size || text[i] == '\n') break;
        i++; /* the comma */
    }
    *used = i < size ? i + 1 : i;
    return state;
}

static record_state split_tabs(list_records *self, const char *text, const char *end) {
    for (;;) {
        const char *tab = memchr(text, '\t', (size_t)(end - text));
        if (add_field(self, text, (size_t)((tab ? tab : end) - text))) return RECORD_BAD;
        if (!tab) return RECORD_WHOLE;
        text = tab + 1;
    }
}

record_state list_records_split(list_records *self, size_t offset, size_t *used, const char **problem) {
    const char *text = self->buffer + self->start + offset;
    const size_t size = self->end - self->start - offset;
    self->field_count = 0;
    *used = 0;
    *problem = "has more than 256 columns";
    if (self->form == LIST_CSV) return split_csv(self, text, size, used);
    const char *line_break = memchr(text, '\n', size);
    if (!line_break && !self->ended) return RECORD_MORE;
    size_t length = line_break ? (size_t)(line_break - text) : size;
    *used = line_break ? length + 1 : length;
    if (length && text[length - 1] == '\r') length--;
    if (self->form == LIST_TSV) return split_tabs(self, text, text + length);
    if (self->form == LIST_TEXT) return add_field(self, text, length);
    if (length == 0) return RECORD_WHOLE; /* an empty line, no object */
    *problem = list_json_split(self, text, length);
    return *problem ? RECORD_BAD : RECORD_WHOLE;
}

int list_records_hold_first(list_records *self, limn_error *error) {
    for (size_t used, added = 1; added;) {
        const char *problem, *const text = self->buffer + self->start;
        size_t blank = 0;
        while (self->start + blank < self->end && (text[blank] == '\n' || text[blank] == '\r')) blank++;
        if (list_records_split(self, blank, &used, &problem) != RECORD_MORE) return 0;
        if (self->end - self->start >= CAPTION_ROW_MAX_BYTES) return 0;
        if (fill(self, &added, error)) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- one after the other */

static size_t count_lines(const char *text, size_t size) {
    size_t lines = 0;
    for (const char *at = text, *end = text + size; (at = memchr(at, '\n', (size_t)(end - at))); at++) lines++;
    return lines;
}

/* An empty line, of the size with its line break. */
static bool is_blank(const char *text, size_t size) {
    return text[0] == '\n' || (text[0] == '\r' && (size == 1 || text[1] == '\n'));
}

int list_records_take(list_records *self, size_t *line, const char **problem, limn_error *error) {
    for (;;) {
        size_t used = 0, added = 0;
        const char *bad = NULL;
        record_state state = RECORD_MORE;
        *problem = NULL;
        if (self->start < self->end) state = list_records_split(self, 0, &used, &bad);
        *line = self->line;
        if (state == RECORD_MORE && self->end - self->start < CAPTION_ROW_MAX_BYTES && !self->ended) {
            if (fill(self, &added, error)) return -1;
            continue;
        }
        if (self->start == self->end) return 0;
        const char *text = self->buffer + self->start;
        if (state == RECORD_MORE || state == RECORD_STRAY_QUOTE) {
            const bool line_ends = memchr(text, '\n', self->end - self->start) || self->ended;
            *problem = state == RECORD_STRAY_QUOTE ? "has text after a closing quote"
                       : line_ends                 ? "has a quote that never closes"
                                                   : TOO_LONG;
            return skip_line(self, error) ? -1 : 1;
        }
        self->line += self->form == LIST_CSV ? count_lines(text, used) : 1;
        self->start += used;
        if (is_blank(text, used)) continue;
        if (used > CAPTION_ROW_MAX_BYTES)
            *problem = TOO_LONG;
        else if (memchr(text, 0, used))
            *problem = "has a NUL byte";
        else if (!limn_utf8_valid(text, used))
            *problem = "is not valid UTF-8";
        else if (state == RECORD_BAD)
            *problem = bad;
        return 1;
    }
}

int list_records_pass(list_records *self, limn_error *error) {
    if (self->form == LIST_CSV) { /* only its quotes tell where a record ends */
        size_t line;
        const char *problem;
        return list_records_take(self, &line, &problem, error);
    }
    for (size_t length = 0, added;;) {
        char *const text = self->buffer + self->start;
        const size_t held = self->end - self->start;
        const char *const line_break = memchr(text, '\n', held);
        const size_t part = line_break ? (size_t)(line_break - text) : held;
        const bool blank = length + part == 0 || (length + part == 1 && length == 0 && text[0] == '\r');
        if (line_break || self->ended) {
            self->start += part + (line_break != NULL);
            self->line += line_break != NULL;
            if (!blank) return 1;
            if (!line_break) return 0;
            length = 0;
        } else if (part < 2) {
            if (fill(self, &added, error)) return -1; /* "\r" alone must be told from a line that begins so */
        } else {
            length += part;
            self->start = self->end;
            if (fill(self, &added, error)) return -1;
        }
    }
}
