/* GPT-2's splitting of a text into pretokens, by hand: runs of ASCII letters eight at a time, all else by a table look-up a
 * character, and no regular expression engine. */
#include "tokenizer/internal.h"
#include <endian.h>
#include <string.h>

static unsigned char class_at(const unsigned char *classes, const char *text, size_t size, size_t position, size_t *length) {
    unsigned char byte = (unsigned char)text[position];
    *length = 1;
    if (byte < 0x80) return classes[byte] & CLASS_KIND;
    uint32_t code_point;
    size_t used = limn_utf8_decode(text + position, size - position, &code_point);
    if (used == 0) return CLASS_OTHER;
    *length = used;
    return unicode_class(classes, code_point) & CLASS_KIND;
}

/* The highest bit of each byte that is an ASCII letter. */
static uint64_t letters_of_eight(uint64_t bytes) {
    const uint64_t each = 0x0101010101010101u, high = 0x80 * each;
    uint64_t lower = (bytes | 0x20 * each) & ~high;
    return (lower + (0x80 - 'a') * each) & ~(lower + (0x7F - 'z') * each) & ~bytes & high;
}

/* How many ASCII letters the text begins with. */
static size_t count_letters(const char *text, size_t size) {
    size_t count = 0;
    for (uint64_t bytes; size - count >= 8; count += 8) {
        memcpy(&bytes, text + count, 8);
        uint64_t others = letters_of_eight(le64toh(bytes)) ^ 0x8080808080808080u;
        if (others) return count + (size_t)__builtin_ctzll(others) / 8;
    }
    while (count < size && (unsigned char)((text[count] | 0x20) - 'a') < 26) count++;
    return count;
}

/* The length of 's 't 'm 'd 're 've 'll at `text`, 0 when there is none. */
static size_t contraction(const char *text, size_t size) {
    if (size < 2 || text[0] != '\'') return 0;
    char a = text[1], b = size > 2 ? text[2] : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return 0;
}

size_t pretoken_end(const unsigned char *classes, const char *text, size_t size, size_t start) {
    size_t first = start + (text[start] == ' '), letters = count_letters(text + first, size - first);
    if (letters) { /* most are this: a word of ASCII letters, and what follows is ASCII too */
        size_t end = first + letters;
        if (end == size || (unsigned char)text[end] < 0x80) return end;
    }
    size_t length = contraction(text + start, size - start);
    if (length) return start + length;

    size_t position = start;
    unsigned char class = class_at(classes, text, size, position, &length);
    if (text[start] == ' ' && start + 1 < size) { /* one blank belongs to what follows */
        size_t next_length;
        unsigned char next = class_at(classes, text, size, start + 1, &next_length);
        if (next != CLASS_SPACE) {
            class = next;
            position = start + 1;
            length = next_length;
        }
    }
    size_t last = position; /* where the last character of the run begins */
    for (;;) {
        last = position;
        position += length;
        if (position == size || class_at(classes, text, size, position, &length) != class) break;
    }
    /* \s+(?!\S): white space before a word leaves its last character to the word, unless it is all there is. */
    if (class == CLASS_SPACE && position < size && last > start) return last;
    return position;
}
