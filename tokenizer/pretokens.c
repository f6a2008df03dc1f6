/* GPT-2's splitting of a text into pretokens, by hand: one table look-up a character and no regular expression engine. */
#include "tokenizer/internal.h"

static unsigned char class_at(const unsigned char *classes, const char *text, size_t size, size_t position, size_t *length) {
    unsigned char byte = (unsigned char)text[position];
    *length = 1;
    if (byte < 0x80) return classes[byte];
    uint32_t code_point;
    size_t used = limn_utf8_decode(text + position, size - position, &code_point);
    if (used == 0) return CLASS_OTHER;
    *length = used;
    return classes[code_point];
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
