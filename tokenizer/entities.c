/* HTML's character references to characters. */
#include "tokenizer/normalizer.h"
#include <string.h>

enum {
    REPLACEMENT = 0xFFFD,
    NAME_MAX_HTML = 32, /* characters that html.unescape looks at after "&" */
    NAME_MAX_SURE = 24  /* that ftfy does */
};

/* ---------------------------------------------------------------- names */

/* strcmp of `size` bytes of a name with a whole one. */
static int compare_names(const char *name, size_t size, const char *whole) {
    int order = strncmp(name, whole, size);
    return order ? order : whole[size] ? -1 : 0;
}

static const html_entity *find_name(const char *name, size_t size) {
    size_t low = 0, high = html_entity_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_names(name, size, html_entities[middle].name);
        if (order == 0) return &html_entities[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static int add_entity(code_list *out, const html_entity *entity, limn_error *error) {
    size_t count = 0;
    while (count < HTML_ENTITY_CODES && entity->codes[count]) count++;
    return codes_append(out, entity->codes, count, error);
}

/* The ASCII letters and digits from the place on, at most `limit`; more can be no name. */
static size_t read_name(const uint32_t *codes, size_t count, size_t limit, char *name) {
    size_t size = 0;
    while (size < limit && size < count &&
           ((codes[size] >= '0' && codes[size] <= '9') || (codes[size] >= 'A' && codes[size] <= 'Z') ||
            (codes[size] >= 'a' && codes[size] <= 'z'))) {
        name[size] = (char)codes[size];
        size++;
    }
    return size;
}

/* ---------------------------------------------------------------- numbers */

/* What HTML makes of a number: Windows-1252 for control characters, nothing for what is no character. `number` is at most
 * UNICODE_LIMIT. */
enum { UNICODE_LIMIT = 0x110000 };

static int add_number(code_list *out, uint32_t number, limn_error *error) {
    if (number == 0) number = REPLACEMENT;
    if (number >= 0x80 && number <= 0x9F) return codes_add(out, charmap_character(CHARMAP_1252, (unsigned char)number), error);
    if ((number >= 0xD800 && number <= 0xDFFF) || number >= UNICODE_LIMIT) return codes_add(out, REPLACEMENT, error);
    bool control = number < 0x09 || number == 0x0B || (number >= 0x0E && number <= 0x1F) || number == 0x7F;
    bool noncharacter = (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE;
    return control || noncharacter ? 0 : codes_add(out, number, error);
}

static unsigned digit_value(uint32_t code) {
    if (code >= '0' && code <= '9') return code - '0';
    if (code >= 'a' && code <= 'f') return code - 'a' + 10;
    if (code >= 'A' && code <= 'F') return code - 'A' + 10;
    return 16;
}

/* "#65" or "#x41" at the place: the characters that it takes, without a semicolon; 0 when there is no number. */
static size_t read_number(const uint32_t *codes, size_t count, uint32_t *number) {
    unsigned base = count > 1 && (codes[1] == 'x' || codes[1] == 'X') ? 16 : 10;
    size_t start = base == 16 ? 2 : 1, i = start;
    for (*number = 0; i < count && digit_value(codes[i]) < base; i++) {
        *number = *number * base + digit_value(codes[i]);
        if (*number > UNICODE_LIMIT) *number = UNICODE_LIMIT;
    }
    return i > start ? i : 0;
}

/* ---------------------------------------------------------------- html.unescape */

/* A name at the place, after "&": adds what it gives and returns the characters used; 0 when there is none; SIZE_MAX with an
 * error. */
static size_t unescape_name(const uint32_t *codes, size_t count, code_list *out, limn_error *error) {
    char name[NAME_MAX_HTML + 1];
    size_t size = read_name(codes, count, NAME_MAX_HTML, name);
    if (size < count && codes[size] == ';') name[size++] = ';';
    for (; size >= 2; size--) {
        const html_entity *entity = find_name(name, size);
        if (entity && !entity->capitals) return add_entity(out, entity, error) ? SIZE_MAX : size;
    }
    return 0;
}

int entities_unescape(const uint32_t *codes, size_t count, code_list *out, limn_error *error) {
    if (codes_reserve(out, count, error)) return -1;
    for (size_t i = 0; i < count;) {
        uint32_t number;
        size_t used = 0;
        if (codes[i] == '&' && i + 1 < count && codes[i + 1] == '#') {
            used = read_number(codes + i + 1, count - i - 1, &number);
            if (used && add_number(out, number, error)) return -1;
            if (used && i + 1 + used < count && codes[i + 1 + used] == ';') used++;
        } else if (codes[i] == '&') {
            used = unescape_name(codes + i + 1, count - i - 1, out, error);
            if (used == SIZE_MAX) return -1;
        }
        if (!used && codes_add(out, codes[i], error)) return -1;
        i += 1 + used;
    }
    return 0;
}

/* ---------------------------------------------------------------- what is sure to be meant */

/* The reference that "&" at the place begins: adds what it gives and returns its length; 0 when it is left alone. */
static size_t unescape_sure(const uint32_t *codes, size_t count, code_list *out, limn_error *error) {
    char name[NAME_MAX_SURE + 1];
    uint32_t number;
    size_t before = out->count;
    if (count > 1 && codes[1] == '#') {
        size_t used = read_number(codes + 1, count - 1, &number);
        /* with "#" or "#x" at most 24 more */
        if (!used || used - 1 > NAME_MAX_SURE || 1 + used >= count || codes[1 + used] != ';') return 0;
        if (add_number(out, number, error)) return SIZE_MAX;
        if (out->count == before + 1 && out->items[before] == ';') { /* "&#59;": it would be taken for what ends a name */
            out->count = before;
            return 0;
        }
        return used + 2;
    }
    size_t size = read_name(codes + 1, count - 1, NAME_MAX_SURE, name);
    if (size == 0 || 1 + size >= count || codes[1 + size] != ';') return 0;
    name[size++] = ';';
    const html_entity *entity = find_name(name, size);
    if (!entity) return 0;
    return add_entity(out, entity, error) ? SIZE_MAX : 1 + size;
}

int entities_unescape_sure(const uint32_t *codes, size_t count, code_list *out, limn_error *error) {
    if (codes_reserve(out, count, error)) return -1;
    for (size_t i = 0; i < count;) {
        size_t used = codes[i] == '&' ? unescape_sure(codes + i, count - i, out, error) : 0;
        if (used == SIZE_MAX || (!used && codes_add(out, codes[i], error))) return -1;
        i += used ? used : 1;
    }
    return 0;
}
