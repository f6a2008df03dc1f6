/* Mojibake undone, as ftfy.fix_encoding does (Robyn Speer, Apache License 2.0): text that looks bad is put back into the bytes
 * of an encoding that has all its characters, and read as UTF-8. */
#include "tokenizer/mojibake.h"
#include <stdlib.h>
#include <string.h>

enum {
    BLANK = 0x20,
    BLANK_BYTE = 0xA0,
    LOST = 0x1A, /* the byte that stands for U+FFFD in Windows' encodings here */
    REPLACEMENT = 0xFFFD,
    DEPTH_MAX = 32 /* of mojibake within mojibake; each halves the text, so nothing gets there */
};

static bool is_windows(size_t charmap) {
    return charmap >= CHARMAP_1252 && charmap <= CHARMAP_1257;
}

/* ---------------------------------------------------------------- tables */

static void add_character(mojibake_clues *self, size_t charmap, uint32_t code, unsigned char byte) {
    self->roles[clue_place(code)] |= 1u << (ROLE_BITS + charmap);
    self->bytes[charmap][clue_place(code)] = byte;
}

mojibake_clues *mojibake_clues_create(limn_error *error) {
    mojibake_clues *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    badness_roles(self);
    for (size_t charmap = 0; charmap < CHARMAP_COUNT; charmap++) {
        for (unsigned byte = 0; byte < 0x80; byte++)
            if (byte != LOST || !is_windows(charmap)) add_character(self, charmap, byte, (unsigned char)byte);
        for (unsigned byte = 0x80; byte < 0x100; byte++)
            add_character(self, charmap, charmap_character(charmap, (unsigned char)byte), (unsigned char)byte);
        if (is_windows(charmap)) add_character(self, charmap, REPLACEMENT, LOST);
    }
    return self;
}

void mojibake_clues_free(mojibake_clues *self) {
    free(self);
}

/* ---------------------------------------------------------------- bytes that were changed on the way */

/* Byte classes, as characters of a small pattern language: one character stands for a set of bytes. */
static bool byte_is(unsigned char byte, char set) {
    switch (set) {
    case ' ':
        return byte == BLANK;
    case 'l': /* lost */
        return byte == LOST;
    case '?': /* lost, or written as a question mark */
        return byte == LOST || byte == '?';
    case 'c': /* continuation */
        return byte >= 0x80 && byte <= 0xBF;
    case 'x': /* continuation or lost */
        return (byte >= 0x80 && byte <= 0xBF) || byte == LOST;
    case 'y': /* continuation, lost, or written as a question mark */
        return (byte >= 0x80 && byte <= 0xBF) || byte == LOST || byte == '?';
    case 'k': /* continuation, but for those that make unlikely characters: ellipsis and U+00A0 */
        return byte >= 0x80 && byte <= 0xBF && byte != 0x85 && byte != 0xA0;
    case 'a': /* first of two bytes, where U+00A0 after it makes a likely character */
        return byte == 0xC2 || byte == 0xC3 || byte == 0xC5 || byte == 0xCE || byte == 0xD0 || byte == 0xD9;
    case 'b':
        return byte == 0xE2 || byte == 0xE3;
    case 'd':
        return byte >= 0xE0 && byte <= 0xE3;
    case 'f':
        return byte == 0xF0;
    case '2': /* first of two bytes, three, four */
        return byte >= 0xC2 && byte <= 0xDF;
    case '3':
        return byte >= 0xE0 && byte <= 0xEF;
    case '4':
        return byte >= 0xF0 && byte <= 0xF4;
    case 's': /* first of two bytes of Latin-1 */
        return byte == 0xC2 || byte == 0xC3;
    case 'u': /* surrogates in UTF-8 (CESU-8) */
        return byte == 0xED;
    case 'h':
        return byte >= 0xA0 && byte <= 0xAF;
    case 'w':
        return byte >= 0xB0 && byte <= 0xBF;
    default:
        return false;
    }
}

/* The length of the first pattern that stands at the place, 0 when none does. */
static size_t match_first(const char *const *patterns, const unsigned char *at, size_t size) {
    for (; *patterns; patterns++) {
        size_t length = strlen(*patterns), i = 0;
        if (length > size) continue;
        while (i < length && byte_is(at[i], (*patterns)[i])) i++;
        if (i == length) return length;
    }
    return 0;
}

/* UTF-8 where U+00A0 became a blank. */
static const char *const blanked[] = {"a ", "b k", "dk ", "f cc", "fc c", "fcc ", NULL};
/* UTF-8 of which bytes were lost. */
static const char *const lossy[] = {"2l", "s?", "uh?uwy", "uhyuw?", "3?x", "3x?", "4?xx", "4x?x", "4xx?", "l", NULL};

static bool has_blanked(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i] >= 0xC2 && match_first(blanked, bytes + i, size - i)) return true;
    return false;
}

/* "Ã la" was "à la": the blank is both part of the letter and a blank, but for Portuguese words that begin with à. */
static bool is_a_grave_word(const unsigned char *at, size_t size) {
    static const char *const exceptions[] = {" ", "quele", "quela", "quilo", "s "};
    if (size < 2 || at[0] != 0xC3 || at[1] != BLANK) return false;
    for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++) {
        size_t length = strlen(exceptions[i]);
        if (size - 2 >= length && memcmp(at + 2, exceptions[i], length) == 0) return false;
    }
    return true;
}

/* Puts U+00A0 back. `out` has room for half as much again. */
static size_t restore_blanks(const unsigned char *bytes, size_t size, unsigned char *out) {
    size_t written = 0;
    for (size_t i = 0; i < size; i++) {
        out[written++] = bytes[i];
        if (is_a_grave_word(bytes + i, size - i)) out[written++] = BLANK_BYTE;
    }
    for (size_t i = 0; i < written;) {
        size_t length = out[i] >= 0xC2 ? match_first(blanked, out + i, written - i) : 0;
        for (size_t k = 0; k < length; k++)
            if (out[i + k] == BLANK) out[i + k] = BLANK_BYTE;
        i += length ? length : 1;
    }
    return written;
}

/* U+FFFD for what has lost bytes. `out` has room for three times as much. */
static size_t replace_lossy(const unsigned char *bytes, size_t size, unsigned char *out) {
    size_t written = 0;
    for (size_t i = 0; i < size;) {
        size_t length = bytes[i] >= 0xC2 || bytes[i] == LOST ? match_first(lossy, bytes + i, size - i) : 0;
        if (length) {
            memcpy(out + written, "\xEF\xBF\xBD", 3);
            written += 3;
            i += length;
        } else
            out[written++] = bytes[i++];
    }
    return written;
}

/* ---------------------------------------------------------------- reading bytes as UTF-8 */

static bool is_pair_of_surrogates(const unsigned char *at, size_t size) {
    bool most = size >= 6 && byte_is(at[1], 'h') && byte_is(at[2], 'c') && at[3] == 0xED && byte_is(at[4], 'w');
    /* a line break that ends the text is taken for the last byte, too: the original's pattern has $ there */
    return most && (byte_is(at[5], 'c') || (at[5] == '\n' && size == 6));
}

/* Java's zero and CESU-8's pairs: the bytes used, 0 when neither begins here. As ftfy's codec "utf-8-variants". */
static size_t take_variant(const unsigned char *at, size_t size, uint32_t *code) {
    if (at[0] == 0xC0 && size >= 2 && (at[1] == 0x80 || (at[1] == '\n' && size == 2))) {
        *code = 0;
        return 2;
    }
    if (at[0] == 0xED && is_pair_of_surrogates(at, size)) {
        *code = 0x10000 + ((at[1] & 0x0Fu) << 16) + ((at[2] & 0x3Fu) << 10) + ((at[4] & 0x0Fu) << 6) + (at[5] & 0x3Fu);
        return 6;
    }
    return 0;
}

/* 1: the bytes are UTF-8 or a variant, and `out` has them; 0: they are not. */
static int decode(const unsigned char *bytes, size_t size, code_list *out, limn_error *error) {
    bool variants = memchr(bytes, 0xED, size) || memchr(bytes, 0xC0, size);
    out->count = 0;
    if (codes_reserve(out, size, error)) return -1;
    for (size_t i = 0, used; i < size; i += used) {
        uint32_t code;
        bool valid = true;
        used = variants ? take_variant(bytes + i, size - i, &code) : 0;
        if (!used) used = utf8_take(bytes + i, size - i, &code, &valid);
        if (!valid) return 0;
        out->items[out->count++] = code;
    }
    return 1;
}

/* ---------------------------------------------------------------- one step */

/* Tries one encoding. 1: `out` has the text as it was meant; 0: it is not this encoding. */
static int try_charmap(const mojibake_clues *self, size_t charmap, const code_list *text, unsigned char *bytes, code_list *out,
                       limn_error *error) {
    /* three areas for the steps, each of which makes the bytes more */
    unsigned char *restored = bytes + text->count, *replaced = restored + 2 * text->count, *current = bytes;
    size_t size = text->count;
    for (size_t i = 0; i < size; i++) bytes[i] = self->bytes[charmap][clue_place(text->items[i])];
    if (charmap != CHARMAP_MACROMAN && has_blanked(bytes, size)) { /* in MacRoman an en dash before a blank looks so */
        size = restore_blanks(bytes, size, restored);
        current = restored;
    }
    if (is_windows(charmap)) {
        size = replace_lossy(current, size, replaced);
        current = replaced;
    }
    return decode(current, size, out, error);
}

/* The charmaps that have all characters. */
static uint32_t common_charmaps(const mojibake_clues *self, const code_list *text) {
    uint32_t common = UINT32_MAX;
    for (size_t i = 0; i < text->count; i++) common &= clue_roles(self, text->items[i]);
    return common >> ROLE_BITS;
}

static int try_charmaps(const mojibake_clues *self, const code_list *text, uint32_t possible, code_list *out,
                        limn_error *error) {
    if (!(possible & ((1u << CHARMAP_COUNT) - 1))) return 0;
    unsigned char *bytes = limn_allocate(text->count, 9, error);
    int status = bytes ? 0 : -1;
    for (size_t charmap = 0; charmap < CHARMAP_COUNT && status == 0; charmap++)
        if (possible & 1u << charmap) status = try_charmap(self, charmap, text, bytes, out, error);
    free(bytes);
    return status;
}

/* The end of the run of characters from `start` on that look like UTF-8 in some encoding; `start` when there is none. */
static size_t end_of_utf8(const mojibake_clues *self, const code_list *text, size_t start) {
    static const uint32_t firsts[] = {ROLE_FIRST_OF_2, ROLE_FIRST_OF_3, ROLE_FIRST_OF_4};
    if (start && (clue_roles(self, text->items[start - 1]) & ROLE_CONTINUATION_STRICT)) return start;
    for (;;) {
        size_t taken = 0;
        for (size_t i = 0; i < 3 && !taken && start < text->count; i++) {
            if (!(clue_roles(self, text->items[start]) & firsts[i]) || text->count - start < i + 2) continue;
            for (taken = 1; taken < i + 2 && (clue_roles(self, text->items[start + taken]) & ROLE_CONTINUATION);) taken++;
            if (taken < i + 2) taken = 0;
        }
        if (!taken) return start;
        start += taken;
    }
}

static int fix(const mojibake_clues *self, code_list *text, fix_budget *budget, size_t depth, limn_error *error);

/* Runs that look like UTF-8, each fixed for itself, where text of several encodings was put together. */
static int fix_runs(const mojibake_clues *self, const code_list *text, code_list *out, fix_budget *budget, size_t depth,
                    limn_error *error) {
    code_list part = {0};
    int status = 0;
    out->count = 0;
    for (size_t i = 0, end; i < text->count && status == 0; i = end) {
        end = end_of_utf8(self, text, i);
        bool whole = end - i == text->count; /* the text itself: that was tried */
        if (end == i)
            status = codes_add(out, text->items[end++], error);
        else if (whole || depth >= DEPTH_MAX || !badness_found(self, text->items + i, end - i))
            status = codes_append(out, text->items + i, end - i, error);
        else {
            part.count = 0;
            status = codes_append(&part, text->items + i, end - i, error);
            if (status == 0) status = fix(self, &part, budget, depth + 1, error);
            if (status == 0) status = codes_append(out, part.items, part.count, error);
        }
    }
    codes_free(&part);
    return status;
}

static bool is_same(const code_list *a, const code_list *b) {
    return a->count == b->count && (a->count == 0 || memcmp(a->items, b->items, a->count * sizeof *a->items) == 0);
}

/* Control characters to what Windows-1252 has in their place. 1: there were some. `strictly`: all or nothing. */
static int fix_controls(const code_list *text, bool strictly, code_list *out, limn_error *error) {
    int found = 0;
    out->count = 0;
    if (codes_append(out, text->items, text->count, error)) return -1;
    for (size_t i = 0; i < out->count; i++) {
        uint32_t code = out->items[i];
        if (code < 0x80 || code > 0x9F) continue;
        out->items[i] = charmap_character(CHARMAP_1252, (unsigned char)code);
        if (out->items[i] != code)
            found = 1;
        else if (strictly)
            return 0;
    }
    return found;
}

/* 1: `out` is the text after one step; 0: there is nothing to do. */
static int fix_step(const mojibake_clues *self, const code_list *text, code_list *out, fix_budget *budget, size_t depth,
                    limn_error *error) {
    if (!badness_found(self, text->items, text->count)) return 0; /* plain ASCII is never bad */
    uint32_t possible = common_charmaps(self, text);
    if (!budget_spend(budget, text->count * (size_t)(2 + __builtin_popcount(possible)))) return 0;
    int status = try_charmaps(self, text, possible, out, error);
    if (status) return status < 0 ? -1 : !is_same(text, out);
    if (fix_runs(self, text, out, budget, depth, error)) return -1;
    if (!is_same(text, out)) return 1;
    if (possible & 1u << CHARMAP_LATIN_1) status = fix_controls(text, true, out, error);
    return status ? status : fix_controls(text, false, out, error);
}

static int fix(const mojibake_clues *self, code_list *text, fix_budget *budget, size_t depth, limn_error *error) {
    code_list next = {0};
    int changed;
    while ((changed = fix_step(self, text, &next, budget, depth, error)) == 1) {
        code_list previous = *text;
        *text = next;
        next = previous;
    }
    codes_free(&next);
    return changed;
}

int mojibake_fix(const mojibake_clues *self, code_list *text, fix_budget *budget, limn_error *error) {
    return fix(self, text, budget, 0, error);
}
