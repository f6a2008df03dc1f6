/* The Unicode character database, as far as the normaliser needs it. */
#include "tokenizer/normalizer.h"
#include "tokenizer/tables/tables.h"
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 64 << 20 };

char *next_line(char **rest) {
    char *line = *rest;
    if (!line || !*line) return NULL;
    char *end = strchr(line, '\n');
    *rest = end ? end + 1 : NULL;
    if (end) *end = '\0';
    return line;
}

char *next_field(char **rest, char separator) {
    char *field = *rest;
    if (!field) return NULL;
    char *end = strchr(field, separator);
    *rest = end ? end + 1 : NULL;
    if (end) *end = '\0';
    while (*field == ' ' || *field == '\t') field++;
    for (size_t size = strlen(field); size && (field[size - 1] == ' ' || field[size - 1] == '\t'); size--)
        field[size - 1] = '\0';
    return field;
}

int read_codes(const char *text, hex_codes *out) {
    out->count = 0;
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        char *end;
        unsigned long code = strtoul(text, &end, 16);
        if (end == text || code >= TABLES_CODE_POINTS || out->count == sizeof out->codes / sizeof out->codes[0]) return -1;
        out->codes[out->count++] = (uint32_t)code;
        text = end;
    }
    return 0;
}

/* "0041" or "0041..005A". */
static bool read_range(const char *text, uint32_t *first, uint32_t *last) {
    char *end;
    unsigned long from = strtoul(text, &end, 16), to = from;
    if (end == text) return false;
    if (strncmp(end, "..", 2) == 0) to = strtoul(end + 2, &end, 16);
    *first = (uint32_t)from;
    *last = (uint32_t)to;
    return *end == '\0' && from <= to && to < TABLES_CODE_POINTS;
}

/* Letters, and whatever has a decimal, digit or numeric value, are word characters; Python's \w says it so. */
static unsigned char flags_of(const char *category, const char *combining, const char *number) {
    unsigned flags = 0;
    if (category[0] == 'L' || *number) flags |= UNICODE_WORD;
    if (strcmp(category, "Nd") == 0) flags |= UNICODE_DIGIT;
    if (strcmp(combining, "0") != 0) flags |= UNICODE_NOT_NFC;
    return (unsigned char)flags;
}

static bool ends_with(const char *text, const char *ending) {
    size_t size = strlen(text), length = strlen(ending);
    return size >= length && strcmp(text + size - length, ending) == 0;
}

static int read_characters(unicode_data *self, char *text, limn_error *error) {
    uint32_t first = 0; /* of a range, which stands on two lines: "<Hangul Syllable, First>" and "<…, Last>" */
    for (char *line; (line = next_line(&text));) {
        char *fields[15];
        size_t count = 0;
        for (char *field; count < 15 && (field = next_field(&line, ';'));) fields[count++] = field;
        hex_codes code, upper;
        if (count < 15 || read_codes(fields[0], &code) || code.count != 1 || read_codes(fields[12], &upper))
            return limn_fail(error, "UnicodeData.txt has a line of another form: %s", count ? fields[0] : "an empty one");
        if (!ends_with(fields[1], ", Last>")) first = code.codes[0];
        if (ends_with(fields[1], ", First>")) continue;
        for (uint32_t c = first; c <= code.codes[0]; c++) {
            self->names[c] = fields[1];
            self->numbers[c] = *fields[8] ? fields[8] : NULL;
            self->flags[c] |= flags_of(fields[2], fields[3], fields[8]);
            self->upper[c] = upper;
        }
    }
    return 0;
}

/* Upper case of several characters (German sharp s), where no language or context is asked for. */
static int read_special_casing(unicode_data *self, char *text, limn_error *error) {
    for (char *line; (line = next_line(&text));) {
        char *fields[5] = {0};
        line = next_field(&line, '#');
        for (size_t i = 0; i < 5; i++) fields[i] = next_field(&line, ';');
        hex_codes code, upper;
        if (!fields[3] || (fields[4] && *fields[4])) continue;
        if (read_codes(fields[0], &code) || code.count != 1 || read_codes(fields[3], &upper))
            return limn_fail(error, "SpecialCasing.txt has a line of another form at %s", fields[0]);
        self->upper[code.codes[0]] = upper;
    }
    return 0;
}

/* What may not stand in NFC, or not everywhere (NFC_QC is No or Maybe). */
static int read_quick_check(unicode_data *self, char *text, limn_error *error) {
    size_t found = 0;
    for (char *line; (line = next_line(&text));) {
        line = next_field(&line, '#');
        char *range = next_field(&line, ';'), *property = next_field(&line, ';');
        uint32_t first, last;
        if (!property || strcmp(property, "NFC_QC") != 0) continue;
        if (!read_range(range, &first, &last))
            return limn_fail(error, "DerivedNormalizationProps.txt has a line of another form at %s", range);
        for (uint32_t c = first; c <= last; c++) self->flags[c] |= UNICODE_NOT_NFC;
        found++;
    }
    return found ? 0 : limn_fail(error, "DerivedNormalizationProps.txt has no NFC_QC");
}

/* What Python's str.isspace takes for white space. */
static void mark_spaces(unicode_data *self) {
    static const uint32_t ranges[][2] = {{0x9, 0xD},       {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                         {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                         {0x205F, 0x205F}, {0x3000, 0x3000}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        for (uint32_t c = ranges[i][0]; c <= ranges[i][1]; c++) self->flags[c] |= UNICODE_SPACE;
}

/* What one of the repairs of fix_text.c turns into something else, apart from mojibake. */
static void mark_repaired(unicode_data *self) {
    static const uint32_t ranges[][2] = {
        {0x00, 0x08},     {0x0B, 0x0B},     {0x0D, 0x1F},     {0x7F, 0x9F},     {0x132, 0x133},   {0x149, 0x149},
        {0x1C4, 0x1CC},   {0x1F1, 0x1F3},   {0x2BC, 0x2BC},   {0x2018, 0x201F}, {0x2028, 0x2029}, {0x206A, 0x206F},
        {0x3000, 0x3000}, {0xFB00, 0xFB06}, {0xFEFF, 0xFEFF}, {0xFF01, 0xFFEF}, {0xFFF9, 0xFFFC}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        for (uint32_t c = ranges[i][0]; c <= ranges[i][1]; c++) self->flags[c] |= UNICODE_REPAIRED;
}

int unicode_data_read(unicode_data *self, const char *folder, limn_error *error) {
    static const char *const names[] = {"UnicodeData.txt", "SpecialCasing.txt", "DerivedNormalizationProps.txt"};
    static int (*const readers[])(unicode_data *, char *, limn_error *) = {read_characters, read_special_casing,
                                                                           read_quick_check};
    self->names = limn_allocate(TABLES_CODE_POINTS, sizeof *self->names, error);
    self->numbers = limn_allocate(TABLES_CODE_POINTS, sizeof *self->numbers, error);
    self->upper = limn_allocate(TABLES_CODE_POINTS, sizeof *self->upper, error);
    self->flags = limn_allocate(TABLES_CODE_POINTS, 1, error);
    if (!self->names || !self->numbers || !self->upper || !self->flags) return -1;
    for (size_t i = 0; i < 3; i++) {
        char path[4096];
        size_t size;
        if (limn_path_join(path, sizeof path, folder, names[i], error)) return -1;
        self->files[i] = limn_file_read(path, FILE_LIMIT, &size, error);
        if (!self->files[i] || readers[i](self, self->files[i], error)) return -1;
    }
    mark_spaces(self);
    mark_repaired(self);
    return 0;
}

void unicode_data_free(unicode_data *self) {
    for (size_t i = 0; i < 3; i++) free(self->files[i]);
    free(self->names);
    free(self->numbers);
    free(self->upper);
    free(self->flags);
}
