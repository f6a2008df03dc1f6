/* Lists of code points. */
#include "tokenizer/normalizer.h"
#include <stdlib.h>
#include <string.h>

int codes_reserve(code_list *list, size_t more, limn_error *error) {
    if (list->capacity - list->count >= more) return 0;
    size_t capacity = list->count + more + list->capacity / 2 + 64;
    uint32_t *items = capacity > SIZE_MAX / sizeof *items ? NULL : realloc(list->items, capacity * sizeof *items);
    if (!items) return limn_fail(error, "not enough memory for a text of %zu characters", list->count + more);
    list->items = items;
    list->capacity = capacity;
    return 0;
}

int codes_append(code_list *list, const uint32_t *codes, size_t count, limn_error *error) {
    if (codes_reserve(list, count, error)) return -1;
    if (count) memcpy(list->items + list->count, codes, count * sizeof *codes);
    list->count += count;
    return 0;
}

void codes_free(code_list *list) {
    free(list->items);
    *list = (code_list){0};
}

/* What bytes may follow a first byte, and how many (Unicode 15, table 3-7). */
typedef struct {
    unsigned char length, second_low, second_high;
} sequence_form;

static sequence_form form_of(unsigned char first) {
    if (first >= 0xC2 && first <= 0xDF) return (sequence_form){2, 0x80, 0xBF};
    if (first == 0xE0) return (sequence_form){3, 0xA0, 0xBF};
    if (first == 0xED) return (sequence_form){3, 0x80, 0x9F};
    if (first >= 0xE1 && first <= 0xEF) return (sequence_form){3, 0x80, 0xBF};
    if (first == 0xF0) return (sequence_form){4, 0x90, 0xBF};
    if (first >= 0xF1 && first <= 0xF3) return (sequence_form){4, 0x80, 0xBF};
    if (first == 0xF4) return (sequence_form){4, 0x80, 0x8F};
    return (sequence_form){1, 0, 0};
}

size_t utf8_take(const unsigned char *text, size_t size, uint32_t *code, bool *valid) {
    if (text[0] < 0x80) {
        *code = text[0];
        *valid = true;
        return 1;
    }
    sequence_form form = form_of(text[0]);
    size_t used = 1;
    *code = form.length == 2 ? text[0] & 0x1Fu : form.length == 3 ? text[0] & 0x0Fu : text[0] & 0x07u;
    for (unsigned char low = form.second_low, high = form.second_high; used < form.length; low = 0x80, high = 0xBF, used++) {
        if (used == size || text[used] < low || text[used] > high) break;
        *code = *code << 6 | (text[used] & 0x3Fu);
    }
    *valid = form.length > 1 && used == form.length;
    return used;
}

int codes_decode(code_list *list, const char *text, size_t size, limn_error *error) {
    if (codes_reserve(list, size, error)) return -1;
    const unsigned char *at = (const unsigned char *)text, *end = at + size;
    uint32_t *out = list->items + list->count;
    while (at < end) {
        uint32_t code;
        bool valid;
        at += utf8_take(at, (size_t)(end - at), &code, &valid);
        *out++ = valid ? code : 0xFFFD;
    }
    list->count = (size_t)(out - list->items);
    return 0;
}

int codes_transliterate(const uint32_t *codes, size_t count, limn_buffer *out, limn_error *error) {
    for (size_t i = 0; i < count; i++) {
        size_t number = transliteration_rows[transliteration_row[codes[i] >> 8]][codes[i] & 255];
        size_t start = transliteration_start[number], size = transliteration_start[number + 1] - start;
        if (out->capacity - out->size <= size && limn_buffer_reserve(out, size + count - i, error)) return -1;
        memcpy(out->data + out->size, transliteration_text + start, size);
        out->size += size;
    }
    return 0;
}
