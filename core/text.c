/* UTF-8, choices, and the nearest of a list of names. */
#include "core/internal.h"

#include <stdlib.h>
#include <string.h>

bool limn_ends_with(const char *text, const char *ending) {
    const size_t size = strlen(text), end = strlen(ending);
    return size >= end && strcmp(text + size - end, ending) == 0;
}

/* Table 3-7 of the Unicode Standard ("Well-Formed UTF-8 Byte Sequences"): only the second byte has a range of its own. */
size_t limn_utf8_decode(const char *data, size_t size, uint32_t *out_code_point) {
    if (size == 0) return 0;
    const unsigned char *bytes = (const unsigned char *)data;
    unsigned char first = bytes[0];
    if (first < 0x80) {
        *out_code_point = first;
        return 1;
    }
    size_t length;
    uint32_t code_point;
    unsigned char low = 0x80, high = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
        code_point = first & 0x1fu;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        code_point = first & 0x0fu;
        if (first == 0xe0) low = 0xa0;
        if (first == 0xed) high = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        code_point = first & 0x07u;
        if (first == 0xf0) low = 0x90;
        if (first == 0xf4) high = 0x8f;
    } else {
        return 0;
    }
    if (size < length) return 0;
    for (size_t i = 1; i < length; i++) {
        if (bytes[i] < low || bytes[i] > high) return 0;
        code_point = code_point << 6 | (bytes[i] & 0x3fu);
        low = 0x80;
        high = 0xbf;
    }
    *out_code_point = code_point;
    return length;
}

bool limn_utf8_valid(const char *data, size_t size) {
    size_t at = 0;
    while (at < size) {
        uint64_t eight; /* most text is ASCII */
        if (size - at >= sizeof eight) {
            memcpy(&eight, data + at, sizeof eight);
            if (!(eight & 0x8080808080808080)) {
                at += sizeof eight;
                continue;
            }
        }
        uint32_t code_point;
        size_t used = limn_utf8_decode(data + at, size - at, &code_point);
        if (used == 0) return false;
        at += used;
    }
    return true;
}

size_t limn_utf8_encode(uint32_t code_point, char out[4]) {
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xc0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point >= 0xd800 && code_point <= 0xdfff) return 0;
    if (code_point < 0x10000) {
        out[0] = (char)(0xe0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code_point & 0x3f));
        return 3;
    }
    if (code_point > 0x10ffff) return 0;
    out[0] = (char)(0xf0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code_point & 0x3f));
    return 4;
}

bool limn_is_choice(const char *choices, const char *text) {
    size_t length = strlen(text);
    while (*choices) {
        size_t word = strcspn(choices, "|");
        if (word == length && strncmp(choices, text, word) == 0) return true;
        choices += word + (choices[word] == '|');
    }
    return false;
}

enum { NAME_MAX_COMPARED = 64 };

/* Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours. */
static size_t distance(const char *a, const char *b) {
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length >= NAME_MAX_COMPARED || b_length >= NAME_MAX_COMPARED) return SIZE_MAX;
    size_t rows[3][NAME_MAX_COMPARED + 1];
    size_t *before = rows[0], *previous = rows[1], *current = rows[2];
    for (size_t j = 0; j <= b_length; j++) previous[j] = before[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        current[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = previous[j - 1] + (a[i - 1] != b[j - 1]);
            if (previous[j] + 1 < best) best = previous[j] + 1;
            if (current[j - 1] + 1 < best) best = current[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            current[j] = best;
        }
        size_t *spare = before;
        before = previous;
        previous = current;
        current = spare;
    }
    return previous[b_length];
}

const char *limn_nearest(const char *name, const char *const *known) {
    const char *nearest = NULL;
    size_t least = strlen(name) / 2 + 1; /* further off than this it would be a guess, not a correction */
    for (; *known; known++) {
        size_t steps = distance(name, *known);
        if (steps < least || (steps == least && !nearest)) {
            least = steps;
            nearest = *known;
        }
    }
    return nearest;
}
