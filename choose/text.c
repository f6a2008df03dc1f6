/* Captions as texts: lengths, words, folding, scripts, blocked words; and the host of an address. */
#include "choose/internal.h"

#include <stdlib.h>
#include <strings.h>
#include <utf8proc.h>

enum { WORD_MAX_BYTES = 256 };

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

choose_text choose_trim(const char *data, size_t size) {
    while (size && is_space(data[size - 1])) size--;
    while (size && is_space(*data)) {
        data++;
        size--;
    }
    return (choose_text){data, size};
}

size_t choose_characters(choose_text text) {
    size_t count = 0;
    for (size_t i = 0; i < text.size; count++) {
        uint32_t code_point;
        const size_t used = limn_utf8_decode(text.data + i, text.size - i, &code_point);
        i += used ? used : 1;
    }
    return count;
}

size_t choose_words(choose_text text) {
    size_t count = 0;
    for (size_t i = 0; i < text.size; i++) count += !is_space(text.data[i]) && (i == 0 || is_space(text.data[i - 1]));
    return count;
}

static bool belongs_to_word(uint32_t code_point) {
    if (code_point < 0x80)
        return (code_point >= '0' && code_point <= '9') || (code_point >= 'a' && code_point <= 'z') ||
               (code_point >= 'A' && code_point <= 'Z');
    switch (utf8proc_category((utf8proc_int32_t)code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
        return true;
    default:
        return false;
    }
}

static uint32_t to_lower(uint32_t code_point) {
    if (code_point < 0x80) return code_point >= 'A' && code_point <= 'Z' ? code_point + 32 : code_point;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point);
}

int choose_each_word(choose_text text, int (*found)(void *context, const char *word, size_t size, limn_error *error),
                     void *context, limn_error *error) {
    char word[WORD_MAX_BYTES + 4];
    size_t size = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t code_point = ' ';
        const size_t used = limn_utf8_decode(text.data + i, text.size - i, &code_point);
        i += used ? used : 1;
        if (used && belongs_to_word(code_point)) {
            if (size < WORD_MAX_BYTES) size += limn_utf8_encode(to_lower(code_point), word + size);
        } else if (size) {
            if (found(context, word, size, error)) return -1;
            size = 0;
        }
    }
    return size ? found(context, word, size, error) : 0;
}

/* ---------------------------------------------------------------- folding */

static int append_word(void *context, const char *word, size_t size, limn_error *error) {
    return limn_buffer_append(context, " ", 1, error) || limn_buffer_append(context, word, size, error) ? -1 : 0;
}

int choose_fold(choose_text text, limn_buffer *out, limn_error *error) {
    bool ascii = true;
    for (size_t i = 0; ascii && i < text.size; i++) ascii = (unsigned char)text.data[i] < 0x80;
    utf8proc_uint8_t *folded = NULL;
    if (!ascii) {
        /* Compatibility forms (full-width letters, ligatures) become plain ones; marks over letters go. */
        const utf8proc_option_t how =
            UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_STRIPMARK | UTF8PROC_IGNORE;
        const utf8proc_ssize_t size =
            utf8proc_map((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)text.size, &folded, how);
        if (size == UTF8PROC_ERROR_NOMEM) return limn_fail(error, "out of memory for folding a caption");
        if (size >= 0) text = (choose_text){(const char *)folded, (size_t)size}; /* else not UTF-8: its plain letters alone */
    }
    const int failed = choose_each_word(text, append_word, out, error) || limn_buffer_append(out, " ", 1, error);
    free(folded);
    return failed ? -1 : 0;
}

/* ---------------------------------------------------------------- scripts */

typedef struct {
    const char *name;
    uint32_t ranges[12][2]; /* ends with a zero */
} script;

/* The letters' blocks of Unicode 15. */
static const script SCRIPTS[] = {
    {"latin",
     {{'A', 'Z'},
      {'a', 'z'},
      {0xaa, 0xaa},
      {0xba, 0xba},
      {0xc0, 0x24f},
      {0x250, 0x2af},
      {0x1e00, 0x1eff},
      {0x2c60, 0x2c7f},
      {0xa720, 0xa7ff},
      {0xfb00, 0xfb06},
      {0xff21, 0xff5a}}},
    {"greek", {{0x370, 0x3ff}, {0x1f00, 0x1fff}}},
    {"cyrillic", {{0x400, 0x52f}, {0x1c80, 0x1c8f}, {0x2de0, 0x2dff}, {0xa640, 0xa69f}}},
    {"arabic", {{0x600, 0x6ff}, {0x750, 0x77f}, {0x8a0, 0x8ff}, {0xfb50, 0xfdff}, {0xfe70, 0xfeff}}},
    {"hebrew", {{0x590, 0x5ff}, {0xfb1d, 0xfb4f}}},
    {"devanagari", {{0x900, 0x97f}, {0xa8e0, 0xa8ff}}},
    {"thai", {{0xe00, 0xe7f}}},
    {"hangul", {{0x1100, 0x11ff}, {0x3130, 0x318f}, {0xa960, 0xa97f}, {0xac00, 0xd7ff}}},
    {"kana", {{0x3040, 0x30ff}, {0x31f0, 0x31ff}, {0xff66, 0xff9f}}},
    {"han", {{0x3005, 0x3007}, {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xf900, 0xfaff}, {0x20000, 0x323af}}},
};

static bool is_of(const script *self, uint32_t code_point) {
    for (size_t i = 0; self->ranges[i][1]; i++)
        if (code_point >= self->ranges[i][0] && code_point <= self->ranges[i][1]) return true;
    return false;
}

double choose_script_share(choose_text text, const char *name) {
    const script *wanted = NULL;
    size_t letters = 0, of_script = 0;
    for (size_t i = 0; i < sizeof SCRIPTS / sizeof *SCRIPTS; i++)
        if (strcmp(SCRIPTS[i].name, name) == 0) wanted = &SCRIPTS[i];
    if (!wanted) return -1;
    for (size_t i = 0; i < text.size;) {
        uint32_t code_point = 0;
        const size_t used = limn_utf8_decode(text.data + i, text.size - i, &code_point);
        i += used ? used : 1;
        if (!used || (code_point >= '0' && code_point <= '9') || !belongs_to_word(code_point)) continue;
        letters++;
        of_script += is_of(wanted, code_point);
    }
    return letters ? (double)of_script / (double)letters : 0;
}

/* ---------------------------------------------------------------- hosts */

bool choose_host(const char *url, choose_text *out) {
    const char *begin = strstr(url, "://");
    if (!begin) return false;
    begin += 3;
    size_t size = strcspn(begin, "/?#");
    for (size_t i = size; i > 0; i--)
        if (begin[i - 1] == '@') {
            begin += i;
            size -= i;
            break;
        }
    if (*begin != '[') { /* of [::1]:80 the port stays behind the bracket */
        const char *colon = memchr(begin, ':', size);
        if (colon) size = (size_t)(colon - begin);
    } else {
        const char *end = memchr(begin, ']', size);
        if (end) size = (size_t)(end - begin) + 1;
    }
    *out = (choose_text){begin, size};
    return size > 0;
}

/* ---------------------------------------------------------------- blocked words */

enum { BLOCKLIST_MAX_BYTES = 64 << 20 };

struct choose_blocklist {
    limn_buffer texts; /* each as " word word " */
    choose_text *phrases;
    size_t count;
    size_t longest; /* words */
};

static int compare_text(choose_text a, choose_text b) {
    const int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_phrases(const void *a, const void *b) {
    return compare_text(*(const choose_text *)a, *(const choose_text *)b);
}

void choose_blocklist_free(choose_blocklist *self) {
    if (!self) return;
    limn_buffer_free(&self->texts);
    free(self->phrases);
    free(self);
}

/* Folds a line behind the texts; where it begins is kept in phrases[].size until all are there, since texts move as they grow.
 */
static int add_line(choose_blocklist *self, choose_text line, limn_error *error) {
    const size_t begin = self->texts.size;
    if (choose_fold(line, &self->texts, error)) return -1;
    if (self->texts.size == begin + 1) {
        self->texts.size = begin; /* nothing but signs */
        return 0;
    }
    size_t words = 0;
    for (size_t i = begin; i < self->texts.size; i++) words += self->texts.data[i] == ' ';
    if (words - 1 > self->longest) self->longest = words - 1;
    self->phrases[self->count++].size = begin;
    return 0;
}

choose_blocklist *choose_blocklist_load(const char *path, limn_error *error) {
    size_t size, lines = 1;
    char *text = limn_file_read(path, BLOCKLIST_MAX_BYTES, &size, error);
    choose_blocklist *self = text ? limn_allocate(1, sizeof *self, error) : NULL;
    for (size_t i = 0; self && i < size; i++) lines += text[i] == '\n';
    int failed = self && (self->phrases = limn_allocate(lines, sizeof *self->phrases, error)) ? 0 : -1;
    for (size_t at = 0; !failed && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        const size_t length = end ? (size_t)(end - text) - at : size - at;
        choose_text line = choose_trim(text + at, length);
        if (line.size && line.data[0] != '#') failed = add_line(self, line, error);
        at += length + 1;
    }
    free(text);
    if (!failed && self->count == 0) failed = limn_fail_usage(error, "%s: has no words", path);
    if (failed) {
        choose_blocklist_free(self);
        return NULL;
    }
    for (size_t i = 0; i < self->count; i++) {
        const size_t begin = self->phrases[i].size, after = i + 1 < self->count ? self->phrases[i + 1].size : self->texts.size;
        self->phrases[i] = (choose_text){self->texts.data + begin, after - begin};
    }
    qsort(self->phrases, self->count, sizeof *self->phrases, compare_phrases);
    return self;
}

int choose_blocklist_find(const choose_blocklist *self, choose_text text, limn_buffer *scratch, limn_error *error) {
    scratch->size = 0;
    if (choose_fold(text, scratch, error)) return -1;
    for (size_t begin = 0; begin + 1 < scratch->size; begin++) {
        if (scratch->data[begin] != ' ') continue;
        size_t end = begin;
        for (size_t words = 0; words < self->longest && end + 1 < scratch->size; words++) {
            do end++;
            while (scratch->data[end] != ' ');
            const choose_text phrase = {scratch->data + begin, end - begin + 1};
            if (bsearch(&phrase, self->phrases, self->count, sizeof *self->phrases, compare_phrases)) return 1;
        }
    }
    return 0;
}
