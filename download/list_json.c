/* One JSON object on a line (RFC 8259) into names and values. Values that are no strings stay as they stand in the list, so
 * that numbers of any size and precision come out as they went in; a reader that makes numbers of them would round. */
#include "download/list_internal.h"

#include <string.h>

enum { DEEPEST = 64 };

typedef struct {
    const char *at, *end;
    char *scratch;
    const char *problem;
} scanner;

static const char NOT_JSON[] = "is not a JSON object";

static bool fail(scanner *self, const char *problem) {
    if (!self->problem) self->problem = problem;
    return false;
}

static void skip_space(scanner *self) {
    while (self->at < self->end && (*self->at == ' ' || *self->at == '\t' || *self->at == '\r')) self->at++;
}

static bool take(scanner *self, char wanted) {
    if (self->at == self->end || *self->at != wanted) return false;
    self->at++;
    return true;
}

static bool four_digits(scanner *self, uint32_t *out) {
    if (self->end - self->at < 4) return fail(self, NOT_JSON);
    *out = 0;
    for (int i = 0; i < 4; i++) {
        const char c = *self->at++;
        const bool decimal = c >= '0' && c <= '9';
        const char letter = (char)(c | 0x20);
        if (!decimal && (letter < 'a' || letter > 'f')) return fail(self, NOT_JSON);
        *out = *out << 4 | (uint32_t)(decimal ? c - '0' : letter - 'a' + 10);
    }
    return true;
}

/* What follows a backslash, into the scratch. */
static bool scan_escape(scanner *self) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t point, low;
    if (self->at == self->end) return fail(self, NOT_JSON);
    const char c = *self->at++;
    const char *const plain = c ? strchr(from, c) : NULL;
    if (plain) {
        *self->scratch++ = to[plain - from];
        return true;
    }
    if (c != 'u') return fail(self, NOT_JSON);
    if (!four_digits(self, &point)) return false;
    if (point == 0) return fail(self, "has a NUL byte");
    if (point >= 0xD800 && point < 0xDC00) { /* the first half of a pair */
        if (!take(self, '\\') || !take(self, 'u')) return fail(self, "has half a character (\\u of a lone surrogate)");
        if (!four_digits(self, &low)) return false;
        if (low < 0xDC00 || low > 0xDFFF) return fail(self, "has half a character (\\u of a lone surrogate)");
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    }
    const size_t size = limn_utf8_encode(point, self->scratch);
    if (size == 0) return fail(self, "has half a character (\\u of a lone surrogate)");
    self->scratch += size;
    return true;
}

/* What follows an opening quote, through the closing one. It stands in the text when it has no escapes and `copy` is false,
 * else in the scratch, a NUL after it. */
static bool scan_string(scanner *self, bool copy, text_span *out) {
    const char *begin = self->at;
    char *const room = self->scratch;
    for (;; self->at++) {
        if (self->at == self->end || (unsigned char)*self->at < ' ') return fail(self, NOT_JSON);
        if (*self->at == '"') break;
        if (*self->at != '\\') continue;
        const size_t run = (size_t)(self->at - begin);
        memcpy(self->scratch, begin, run);
        self->scratch += run;
        self->at++;
        if (!scan_escape(self)) return false;
        copy = true;
        begin = self->at--;
    }
    const size_t run = (size_t)(self->at++ - begin);
    if (!copy) {
        *out = (text_span){begin, run};
        return true;
    }
    memcpy(self->scratch, begin, run);
    self->scratch += run;
    *out = (text_span){room, (size_t)(self->scratch - room)};
    *self->scratch++ = 0;
    return true;
}

static size_t skip_digits(scanner *self) {
    const char *const begin = self->at;
    while (self->at < self->end && *self->at >= '0' && *self->at <= '9') self->at++;
    return (size_t)(self->at - begin);
}

static bool scan_number(scanner *self) {
    take(self, '-');
    const bool zero = self->at < self->end && *self->at == '0';
    const size_t digits = skip_digits(self);
    if (digits == 0 || (zero && digits > 1)) return fail(self, NOT_JSON);
    if (take(self, '.') && !skip_digits(self)) return fail(self, NOT_JSON);
    if (take(self, 'e') || take(self, 'E')) {
        if (!take(self, '+')) take(self, '-');
        if (!skip_digits(self)) return fail(self, NOT_JSON);
    }
    return true;
}

static bool scan_word(scanner *self) {
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t size = strlen(words[i]);
        if ((size_t)(self->end - self->at) < size || memcmp(self->at, words[i], size)) continue;
        self->at += size;
        return true;
    }
    return fail(self, NOT_JSON);
}

/* Any value, only looked at. */
static bool scan_value(scanner *self, size_t depth) {
    char *const room = self->scratch;
    text_span ignored;
    if (depth == DEEPEST) return fail(self, "is nested more than 64 levels deep");
    const char opening = self->at < self->end ? *self->at : 0;
    if (opening == '"') {
        self->at++;
        const bool good = scan_string(self, false, &ignored);
        self->scratch = room;
        return good;
    }
    if (opening == '-' || (opening >= '0' && opening <= '9')) return scan_number(self);
    if (opening != '[' && opening != '{') return scan_word(self);
    const char closing = opening == '[' ? ']' : '}';
    self->at++;
    skip_space(self);
    if (take(self, closing)) return true;
    do {
        skip_space(self);
        if (opening == '{') {
            if (!take(self, '"')) return fail(self, NOT_JSON);
            if (!scan_string(self, false, &ignored)) return false;
            self->scratch = room;
            skip_space(self);
            if (!take(self, ':')) return fail(self, NOT_JSON);
            skip_space(self);
        }
        if (!scan_value(self, depth + 1)) return false;
        skip_space(self);
    } while (take(self, ','));
    return take(self, closing) || fail(self, NOT_JSON);
}

/* One "name": value of the object on the line. */
static bool scan_member(scanner *self, list_records *out) {
    text_span key, value;
    skip_space(self);
    if (!take(self, '"')) return fail(self, NOT_JSON);
    if (!scan_string(self, true, &key)) return false;
    skip_space(self);
    if (!take(self, ':')) return fail(self, NOT_JSON);
    skip_space(self);
    const char *const begin = self->at;
    const bool is_text = take(self, '"');
    if (is_text ? !scan_string(self, false, &value) : !scan_value(self, 1)) return false;
    if (!is_text) value = (text_span){begin, (size_t)(self->at - begin)};
    if (out->field_count == CAPTION_MAX_COLUMNS) return fail(self, "has more than 256 columns");
    for (size_t i = 0; i < out->field_count; i++)
        if (!strcmp(out->keys[i], key.data)) return fail(self, "has a name twice");
    out->keys[out->field_count] = key.data;
    out->is_text[out->field_count] = is_text;
    out->fields[out->field_count++] = value;
    return true;
}

/* Names and unescaped values together are shorter than the text they come from, also with a NUL after each: the scratch holds
 * them. */
const char *list_json_split(list_records *self, const char *text, size_t size) {
    scanner scan = {.at = text, .end = text + size, .scratch = self->scratch};
    skip_space(&scan);
    if (!take(&scan, '{')) return NOT_JSON;
    skip_space(&scan);
    if (!take(&scan, '}')) {
        do {
            if (!scan_member(&scan, self)) return scan.problem;
            skip_space(&scan);
        } while (take(&scan, ','));
        if (!take(&scan, '}')) return NOT_JSON;
    }
    skip_space(&scan);
    return scan.at == scan.end ? NULL : NOT_JSON;
}
