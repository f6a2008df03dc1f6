/* Repairs of text, as ftfy.fix_text does them (Robyn Speer, Apache License 2.0): line by line, again and again until nothing
 * changes any more. */
#include "tokenizer/normalizer.h"
#include <stdlib.h>
#include <string.h>
#include <uchar.h>
#include <utf8proc.h>

enum {
    SEGMENT_MAX = 1000000, /* characters; the original cuts longer lines there, too */
    WIDE_FIRST = 0xFF01,
    WIDE_END = 0xFFF0,
    WIDE_LENGTH = 4, /* the longest is a blank with a macron over it */
    ESCAPE = 0x1B
};
/* The budget of a text: so much, and so much a character. */
static const size_t WORK = (size_t)64 << 20, WORK_OF_CHARACTER = 16;

struct text_fixer {
    mojibake_clues *clues;
    uint32_t wide[WIDE_END - WIDE_FIRST][WIDE_LENGTH]; /* 0 after the last */
};

text_fixer *text_fixer_create(limn_error *error) {
    text_fixer *self = limn_allocate(1, sizeof *self, error);
    if (!self || !(self->clues = mojibake_clues_create(error))) goto failed;
    for (utf8proc_int32_t code = WIDE_FIRST; code < WIDE_END; code++) {
        utf8proc_int32_t parts[16];
        utf8proc_ssize_t count = utf8proc_decompose_char(code, parts, 16, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, NULL);
        if (count > 0 && count <= 16) count = utf8proc_normalize_utf32(parts, count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (count < 1 || count > WIDE_LENGTH) {
            limn_fail(error, "utf8proc cannot decompose U+%04X", (unsigned)code);
            goto failed;
        }
        for (size_t i = 0; i < (size_t)count; i++) self->wide[code - WIDE_FIRST][i] = (uint32_t)parts[i];
    }
    return self;
failed:
    text_fixer_free(self);
    return NULL;
}

void text_fixer_free(text_fixer *self) {
    if (self) mojibake_clues_free(self->clues);
    free(self);
}

/* ---------------------------------------------------------------- single characters */

/* Ligatures and digraphs that stand for their letters; not those, such as æ, that are letters. */
static const struct {
    char32_t code;
    const char32_t *letters;
} ligatures[] = {{U'Ĳ', U"IJ"},  {U'ĳ', U"ij"},  {U'ŉ', U"'n"}, {U'Ǳ', U"DZ"}, {U'ǲ', U"Dz"}, {U'ǳ', U"dz"},
                 {U'Ǆ', U"DŽ"},  {U'ǅ', U"Dž"},  {U'ǆ', U"dž"}, {U'Ǉ', U"LJ"}, {U'ǈ', U"Lj"}, {U'ǉ', U"lj"},
                 {U'Ǌ', U"NJ"},  {U'ǋ', U"Nj"},  {U'ǌ', U"nj"}, {U'ﬀ', U"ff"}, {U'ﬁ', U"fi"}, {U'ﬂ', U"fl"},
                 {U'ﬃ', U"ffi"}, {U'ﬄ', U"ffl"}, {U'ﬅ', U"ſt"}, {U'ﬆ', U"st"}};

static const char32_t *letters_of(uint32_t code) {
    for (size_t i = 0; i < sizeof ligatures / sizeof ligatures[0]; i++)
        if (ligatures[i].code == code) return ligatures[i].letters;
    return NULL;
}

static int add_string(code_list *out, const uint32_t *codes, size_t limit, limn_error *error) {
    size_t count = 0;
    while (count < limit && codes[count]) count++;
    return codes_append(out, codes, count, error);
}

/* Line breaks are \n, curly quotes straight. */
static uint32_t straight(uint32_t code) {
    if (code == '\r' || code == 0x2028 || code == 0x2029 || code == 0x85) return '\n';
    if (code == 0x2BC || (code >= 0x2018 && code <= 0x201B)) return '\'';
    return code >= 0x201C && code <= 0x201F ? '"' : code;
}

/* Control characters that show nothing; those of C1 are mojibake and dealt with there. */
static bool is_control(uint32_t code) {
    return code <= 0x08 || code == 0x0B || (code >= 0x0E && code <= 0x1F) || code == 0x7F ||
           (code >= 0x206A && code <= 0x206F) || code == 0xFEFF || (code >= 0xFFF9 && code <= 0xFFFC);
}

/* Control characters of Windows-1252, ligatures, characters of other widths, quotes and line breaks. */
static int replace_characters(const text_fixer *self, const code_list *text, code_list *out, limn_error *error) {
    out->count = 0;
    if (codes_reserve(out, text->count, error)) return -1;
    for (size_t i = 0; i < text->count; i++) {
        uint32_t code = text->items[i];
        int status = 0;
        if (!(unicode_flags(code) & UNICODE_REPAIRED)) {
            status = codes_add(out, code, error);
        } else if (code >= WIDE_FIRST && code < WIDE_END) {
            status = add_string(out, self->wide[code - WIDE_FIRST], WIDE_LENGTH, error);
        } else if (letters_of(code)) {
            status = add_string(out, letters_of(code), 3, error);
        } else {
            if (code >= 0x80 && code <= 0x9F) code = charmap_character(CHARMAP_1252, (unsigned char)code);
            if (code == 0x3000) code = ' ';
            if (code != '\r' || i + 1 == text->count || text->items[i + 1] != '\n')
                status = codes_add(out, straight(code), error);
        }
        if (status) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- what is taken out, in place */

/* The length of a terminal's escape sequence, ESC [ 36;44 m, or 0. */
static size_t escape_length(const uint32_t *codes, size_t count) {
    size_t i = 2;
    if (count < 3 || codes[0] != ESCAPE || codes[1] != '[') return 0;
    while (i < count && (codes[i] == ';' || (unicode_flags(codes[i]) & UNICODE_DIGIT))) i++;
    bool letter = i < count && ((codes[i] >= 'a' && codes[i] <= 'z') || (codes[i] >= 'A' && codes[i] <= 'Z'));
    return letter ? i + 1 : 0;
}

static void remove_controls(code_list *text) {
    size_t kept = 0;
    for (size_t i = 0; i < text->count;) {
        size_t escape = text->items[i] == ESCAPE ? escape_length(text->items + i, text->count - i) : 0;
        if (!escape && !is_control(text->items[i])) text->items[kept++] = text->items[i];
        i += escape ? escape : 1;
    }
    text->count = kept;
}

/* ---------------------------------------------------------------- NFC */

static int decompose(const code_list *text, code_list *out, limn_error *error) {
    out->count = 0;
    for (size_t i = 0; i < text->count; i++) {
        utf8proc_int32_t parts[32];
        utf8proc_ssize_t count =
            utf8proc_decompose_char((utf8proc_int32_t)text->items[i], parts, 32, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, NULL);
        if (count < 0 || count > 32) return limn_fail(error, "utf8proc cannot decompose U+%04X", (unsigned)text->items[i]);
        for (size_t k = 0; k < (size_t)count; k++)
            if (codes_add(out, (uint32_t)parts[k], error)) return -1;
    }
    return 0;
}

static unsigned combining_class(uint32_t code) {
    return (unsigned)utf8proc_get_property((utf8proc_int32_t)code)->combining_class;
}

typedef struct {
    uint32_t code, class;
} mark;

static int compare_marks(const void *a, const void *b) {
    const mark *left = a, *right = b;
    return (left->class > right->class) - (left->class < right->class);
}

/* Sorts a run of marks by their class, those of one class as they stood: merge sort, since a run may be as long as the text. */
static void sort_marks(mark *marks, size_t count, mark *scratch) {
    if (count < 2) return;
    size_t half = count / 2, left = 0, right = half;
    sort_marks(marks, half, scratch);
    sort_marks(marks + half, count - half, scratch);
    if (compare_marks(&marks[half - 1], &marks[half]) <= 0) return;
    for (size_t i = 0; i < count; i++)
        scratch[i] =
            right == count || (left < half && compare_marks(&marks[left], &marks[right]) <= 0) ? marks[left++] : marks[right++];
    memcpy(marks, scratch, count * sizeof *marks);
}

/* The canonical order of combining marks (Unicode 15, 3.11). */
static int order_marks(code_list *text, limn_error *error) {
    mark *marks = NULL;
    for (size_t start = 0, end; start < text->count; start = end) {
        bool sorted = true;
        unsigned previous = combining_class(text->items[start]), class = previous;
        for (end = start + 1; class && end < text->count && (class = combining_class(text->items[end])); end++) {
            sorted = sorted && class >= previous;
            previous = class;
        }
        if (sorted) continue;
        size_t count = end - start;
        if (!marks && !(marks = limn_allocate(2 * (text->count - start), sizeof *marks, error))) return -1;
        for (size_t i = 0; i < count; i++) marks[i] = (mark){text->items[start + i], combining_class(text->items[start + i])};
        sort_marks(marks, count, marks + count);
        for (size_t i = 0; i < count; i++) text->items[start + i] = marks[i].code;
    }
    free(marks);
    return 0;
}

static int normalize_nfc(code_list *text, code_list *scratch, limn_error *error) {
    if (decompose(text, scratch, error) || order_marks(scratch, error)) return -1;
    utf8proc_ssize_t count = utf8proc_normalize_utf32((utf8proc_int32_t *)scratch->items, (utf8proc_ssize_t)scratch->count,
                                                      UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (count < 0) return limn_fail(error, "utf8proc cannot compose: %s", utf8proc_errmsg(count));
    scratch->count = (size_t)count;
    code_list swapped = *text;
    *text = *scratch;
    *scratch = swapped;
    return 0;
}

/* ---------------------------------------------------------------- rounds */

static unsigned all_flags(const code_list *text) {
    unsigned flags = 0;
    for (size_t i = 0; i < text->count; i++) flags |= unicode_flags(text->items[i]);
    return flags;
}

/* Everything once. */
static int fix_round(const text_fixer *self, code_list *text, code_list *scratch, bool entities, fix_budget *budget,
                     limn_error *error) {
    if (entities) {
        scratch->count = 0;
        if (entities_unescape_sure(text->items, text->count, scratch, error)) return -1;
        code_list swapped = *text;
        *text = *scratch;
        *scratch = swapped;
    }
    if (mojibake_fix(self->clues, text, budget, error)) return -1;
    if (all_flags(text) & UNICODE_REPAIRED) {
        if (replace_characters(self, text, scratch, error)) return -1;
        remove_controls(scratch);
        code_list swapped = *text;
        *text = *scratch;
        *scratch = swapped;
    }
    return all_flags(text) & UNICODE_NOT_NFC ? normalize_nfc(text, scratch, error) : 0;
}

/* `text` is repaired in place. */
static int fix_segment(const text_fixer *self, code_list *text, bool entities, fix_budget *budget, limn_error *error) {
    code_list before = {0}, scratch = {0};
    int status = 0;
    bool changed = true;
    while (changed && status == 0) {
        before.count = 0;
        status = codes_append(&before, text->items, text->count, error);
        if (status == 0) status = fix_round(self, text, &scratch, entities, budget, error);
        changed = status == 0 && (before.count != text->count ||
                                  (text->count && memcmp(before.items, text->items, text->count * sizeof *text->items) != 0));
        if (!budget_spend(budget, 2 * text->count)) break;
    }
    codes_free(&before);
    codes_free(&scratch);
    return status;
}

static size_t segment_end(const uint32_t *codes, size_t count, size_t start) {
    size_t end = start;
    while (end < count && codes[end] != '\n') end++;
    if (end < count) end++;
    return end - start > SEGMENT_MAX ? start + SEGMENT_MAX : end;
}

int text_fix(const text_fixer *self, const uint32_t *codes, size_t count, code_list *out, limn_error *error) {
    code_list segment = {0};
    fix_budget budget = {WORK + WORK_OF_CHARACTER * count};
    bool entities = true; /* until there is a "<": that is HTML, whose entities are meant */
    int status = 0;
    for (size_t start = 0, end; start < count && status == 0; start = end) {
        end = segment_end(codes, count, start);
        for (size_t i = start; i < end; i++) entities = entities && codes[i] != '<';
        segment.count = 0;
        status = codes_append(&segment, codes + start, end - start, error);
        if (status == 0) status = fix_segment(self, &segment, entities, &budget, error);
        if (status == 0) status = codes_append(out, segment.items, segment.count, error);
    }
    codes_free(&segment);
    return status;
}
