/* Characters to ASCII: Sean M. Burke's Text::Unidecode, brought to what DALL·E Mini's normaliser gave, which used that module's
 * port to Python. The port branched off long ago. Most of what it does differently follows a rule: it spells characters that
 * are made of others by their compatibility decomposition (NFKC) or by the letter in their Unicode name, and it never got what
 * the module learnt later. What is left are corrections, found by comparing what the two print and given here one by one, with
 * the reason. */
#include "tokenizer/normalizer.h"
#include "tokenizer/tables/tables.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef struct {
    uint32_t first, last;
} code_range;

typedef struct {
    uint32_t code;
    const char *ascii;
} correction;

/* Spelt by their compatibility decomposition: 𝐀 ① ⓐ ⁇ ⅰ ℃ ㉑. */
static const code_range decomposed[] = {
    {0x1D2C, 0x1D49},   {0x1D4B, 0x1D50},   {0x1D52, 0x1D52},   {0x1D56, 0x1D60},   {0x1D62, 0x1D69},  {0x2047, 0x2047},
    {0x2057, 0x2057},   {0x205F, 0x205F},   {0x2071, 0x2071},   {0x2090, 0x2093},   {0x2095, 0x209C},  {0x2102, 0x2103},
    {0x2109, 0x210E},   {0x2110, 0x2115},   {0x2119, 0x2134},   {0x2139, 0x213B},   {0x2145, 0x2149},  {0x2329, 0x232A},
    {0x2460, 0x24EA},   {0x2A74, 0x2A76},   {0x3251, 0x325F},   {0x32B1, 0x32BF},   {0x32CC, 0x32CF},  {0x3377, 0x337A},
    {0x1D400, 0x1D6A5}, {0x1D7CE, 0x1D7FF}, {0x1F100, 0x1F12C}, {0x1F16A, 0x1F16C}, {0x1F190, 0x1F190}};

/* Latin letters with a hook, turned, reversed, small capital: the letter in the name, where it has one or two letters. */
static const code_range latin_letters[] = {{0x1D00, 0x1D0F}, {0x1D11, 0x1D11}, {0x1D13, 0x1D15}, {0x1D18, 0x1D22},
                                           {0x1D2F, 0x1D2F}, {0x1D3B, 0x1D3B}, {0x1D46, 0x1D46}, {0x1D4E, 0x1D4E},
                                           {0x1D59, 0x1D59}, {0x1D6C, 0x1D77}, {0x1D7D, 0x1D7D}, {0x1D80, 0x1D8E},
                                           {0x2C60, 0x2C6F}};

/* Greek letters of bold mathematics: the letter's name, the last word (of "… CAPITAL THETA SYMBOL" the last but one). */
static const code_range greek_names[] = {{0x1D6A8, 0x1D6DA}};

/* ⓫ ⓵ ⓿: the number. */
static const code_range numbers[] = {{0x24EB, 0x24FF}};

/* Letters in squares and circles, 26 from here on, within brackets. */
static const struct {
    uint32_t first;
    char open, close;
} enclosed_letters[] = {{0x1F130, '[', ']'}, {0x1F150, '(', ')'}, {0x1F170, '[', ']'}};

/* What Text::Unidecode learnt after the port had branched off, and guesses at bytes of Windows-1252 that the port does not
 * share. */
static const code_range dropped[] = {{0x80, 0x9F},     {0x2E5, 0x2EB},   {0x2EF, 0x2FF},   {0x3F4, 0x3F9},   {0x3FC, 0x3FF},
                                     {0x5B0, 0x5B0},   {0x5BC, 0x5BC},   {0x6FF, 0x6FF},   {0xAF0, 0xAF1},   {0xAF9, 0xAF9},
                                     {0x13F5, 0x13FD}, {0x1E9C, 0x1E9D}, {0x1E9F, 0x1E9F}, {0x1EFA, 0x1EFF}, {0x25F8, 0x25FF},
                                     {0x30FF, 0x30FF}, {0xFDF0, 0xFDFD}};

/* clang-format off */
static const correction corrections[] = {
    /* fractions stand apart from the number before them */
    {0xBC, " 1/4"}, {0xBD, " 1/2"}, {0xBE, " 3/4"},
    {0x2150, " 1/7 "}, {0x2151, " 1/9 "}, {0x2152, " 1/10 "}, {0x2189, " 0/3 "},
    /* Ukrainian ye; the Russian hard sign is heard; the Armenian full stop looks like a colon */
    {0x404, "ie"}, {0x42A, "'"}, {0x44A, "'"}, {0x589, ":"},
    /* Hebrew: alef and the vowels that it needs, kaf as in Bach, het as in Hanukkah, Yiddish digraphs */
    {0x5BA, "o"}, {0x5BE, "-"}, {0x5C3, "."}, {0x5C6, "n"}, {0x5C7, "o"}, {0x5D0, "a"}, {0x5D7, "h"}, {0x5DA, "kh"},
    {0x5DB, "kh"}, {0x5E7, "k"}, {0x5EF, "yyy"}, {0x5F2, "ey"},
    {0xFB1D, "i"}, {0xFB21, "a"}, {0xFB24, "kh"}, {0xFB27, "r"}, {0xFB30, "a"}, {0xFB3A, "kh"}, {0xFB3B, "kh"},
    {0xFB3E, "m"}, {0xFB41, "s"}, {0xFB47, "k"}, {0xFB4B, "o"}, {0xFB4C, "v"}, {0xFB4D, "kh"}, {0xFB4E, "f"}, {0xFB4F, "el"},
    /* phonetic letters whose name is not the letter that they resemble */
    {0x1D06, "d"}, {0x1D32, "e"}, {0x1D5A, "m"}, {0x1D60, "f"}, {0x1D69, "f"},
    /* punctuation by its looks or its meaning */
    {0x204A, "&"}, {0x204E, "*"}, {0x2052, "%"}, {0x2053, "~"},
    /* Kana in the way of Hepburn */
    {0x3057, "shi"}, {0x3061, "chi"}, {0x3063, "tsu"}, {0x3064, "tsu"},
    {0x30B7, "shi"}, {0x30C1, "chi"}, {0x30C3, "tsu"}, {0x30C4, "tsu"},
    {0x30A0, "="}, {0x30FB, "*"}, {0x30FC, "-"},
    /* money: the letters of the sign or the code of the currency */
    {0x20B0, "pf"}, {0x20B1, "p"}, {0x20B2, "g"}, {0x20B3, "a"}, {0x20B4, "uah"}, {0x20B5, "c|"}, {0x20B6, "l"}, {0x20B7, "sm"},
    {0x20B8, "t"}, {0x20B9, "rs"}, {0x20BA, "l"}, {0x20BB, "m"}, {0x20BC, "m"}, {0x20BD, "r"}, {0x20BE, "l"}, {0x20BF, "btc"},
    /* abbreviations as one writes them */
    {0x2100, " a/c "}, {0x2101, " a/s "}, {0x2105, " c/o "}, {0x2106, " c/u "}, {0x2116, "no. "}, {0x2117, "(p)"},
    {0x211F, "r/"}, {0x2120, "(sm)"}, {0x2122, "(tm)"}, {0x2123, "v/"}, {0x2126, "ohm"}, {0x212E, "e"}, {0x2132, "f"},
    {0x214D, "a/s"}, {0x214E, "f"}, {0x210F, ""}, {0x1F12A, "<s>"}, {0x1F12B, "(c)"}, {0x1F12C, "(r)"}, {0x1F16A, "(mc)"},
    {0x1F16B, "(md)"}, {0x1F16C, "(mr)"}, {0x1F1AD, "(m)"},
    /* operators that have a twin in ASCII */
    {0x2212, "-"}, {0x2215, "/"}, {0x2216, "\\"}, {0x2217, "*"}, {0x2223, "|"}, {0x2236, ":"}, {0x223C, "~"}, {0x2264, "<="},
    {0x2265, ">="}, {0x2266, "<="}, {0x2267, ">="}, {0x2303, "^"}, {0x25F4, "#"}, {0x25F5, "#"}, {0x25F6, "#"}, {0x25F7, "#"},
    {0x266F, "#"}, {0x27E6, "["}, {0x27E8, "<"}, {0x27E9, "> "}, {0x2983, "{"}, {0x2984, "} "}, {0x232A, "> "},
    /* chess and cards */
    {0x2654, "white king"}, {0x2655, "white queen"}, {0x2656, "white rook"}, {0x2657, "white bishop"}, {0x2658, "white knight"},
    {0x2659, "white pawn"}, {0x265A, "black king"}, {0x265B, "black queen"}, {0x265C, "black rook"}, {0x265D, "black bishop"},
    {0x265E, "black knight"}, {0x265F, "black pawn"}, {0x2660, "spades"}, {0x2661, "hearts"}, {0x2662, "diamonds"},
    {0x2663, "clubs"}, {0x2664, "spades"}, {0x2665, "hearts"}, {0x2666, "diamonds"}, {0x2667, "clubs"},
    /* ornaments as the mark that they adorn */
    {0x2731, "*"}, {0x2758, "|"}, {0x275C, "'"}, {0x275D, "\""}, {0x275E, "\""}, {0x275F, ","}, {0x2760, ",,"}, {0x2762, "!"},
    {0x1F670, "et"}, {0x1F671, "et"}, {0x1F672, "et"}, {0x1F673, "et"}, {0x1F674, "&"}, {0x1F675, "&"}, {0x1F676, "\""},
    {0x1F677, "\""}, {0x1F678, ",,"}, {0x1F679, "!?"}, {0x1F67A, "!?"}, {0x1F67B, "!?"},
    /* editors' and scribes' punctuation by its looks */
    {0x2E00, "r"}, {0x2E01, "r."}, {0x2E06, "t"}, {0x2E07, "t."}, {0x2E09, "s"}, {0x2E0B, "[]"}, {0x2E0C, "\\"}, {0x2E0D, "/"},
    {0x2E0F, "__"}, {0x2E12, ">"}, {0x2E13, "%"}, {0x2E16, ">"}, {0x2E17, "="}, {0x2E19, "/"}, {0x2E1A, "-"}, {0x2E1B, "~"},
    {0x2E1C, "\\"}, {0x2E1D, "/"}, {0x2E1E, "~"}, {0x2E1F, "~"}, {0x2E20, "|-"}, {0x2E21, "-|"}, {0x2E26, "<="}, {0x2E27, "=>"},
    {0x2E28, "(("}, {0x2E29, "))"}, {0x2E2C, "::"}, {0x2E2E, "?"}, {0x2E2F, "'"}, {0x2E30, "o"}, {0x2E31, "."}, {0x2E32, ","},
    {0x2E33, "."}, {0x2E34, ","}, {0x2E35, ";"}, {0x2E3A, "----"}, {0x2E3B, "------"}, {0x2E3C, "x"}, {0x2E3D, "|"},
    {0x2E40, "="}, {0x2E41, ","}, {0x2E42, "\""}, {0x2E43, "`--"},
    /* units: micro is u, a power has ^, a volt over a metre its slash */
    {0x3378, "dm^2"}, {0x3379, "dm^3"}, {0x3382, "ua"}, {0x338C, "uf"}, {0x338D, "ug"}, {0x3395, "ul"}, {0x339B, "um"},
    {0x33A3, "mm^3"}, {0x33B2, "us"}, {0x33B6, "uv"}, {0x33BC, "uw"}, {0x33DE, "v/m"}, {0x33DF, "a/m"},
    /* words in squares */
    {0x1F191, "[cl]"}, {0x1F192, "[cool]"}, {0x1F193, "[free]"}, {0x1F194, "[id]"}, {0x1F195, "[new]"}, {0x1F196, "[ng]"},
    {0x1F197, "[ok]"}, {0x1F198, "[sos]"}, {0x1F199, "[up!]"}, {0x1F19A, "[vs]"}, {0x1F19B, "[3d]"}, {0x1F19C, "[2nd-scr]"},
    {0x1F19D, "[2k]"}, {0x1F19E, "[4k]"}, {0x1F19F, "[8k]"}, {0x1F1A0, "[5.1]"}, {0x1F1A1, "[7.1]"}, {0x1F1A2, "[22.2]"},
    {0x1F1A3, "[60p]"}, {0x1F1A4, "[120p]"}, {0x1F1A5, "[d]"}, {0x1F1A6, "[hc]"}, {0x1F1A7, "[hdr]"}, {0x1F1A8, "[hi-res]"},
    {0x1F1A9, "[lossless]"}, {0x1F1AA, "[shv]"}, {0x1F1AB, "[uhd]"}, {0x1F1AC, "[vod]"}};
/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---------------------------------------------------------------- setting and reading entries */

static int set_ascii(transliteration *self, uint32_t code, const char *ascii, size_t size, limn_error *error) {
    size_t number = string_pool_add(&self->pool, ascii, size, error);
    if (number > UINT16_MAX) return number == SIZE_MAX ? -1 : limn_fail(error, "there are too many different transliterations");
    self->numbers[code] = (uint16_t)number;
    return 0;
}

static bool is_nothing(const transliteration *self, uint32_t code) {
    size_t number = self->numbers[code];
    return self->pool.starts[number] == self->pool.starts[number + 1];
}

int transliterate_text(const transliteration *self, const char *text, limn_buffer *out, limn_error *error) {
    for (size_t size = strlen(text); size;) {
        uint32_t code;
        size_t used = limn_utf8_decode(text, size, &code);
        if (!used) return limn_fail(error, "a text is not UTF-8");
        size_t number = self->numbers[code], start = self->pool.starts[number];
        if (limn_buffer_append(out, self->pool.text.data + start, self->pool.starts[number + 1] - start, error)) return -1;
        text += used;
        size -= used;
    }
    return 0;
}

/* ---------------------------------------------------------------- the rules */

typedef int (*spelling)(transliteration *self, uint32_t code, const unicode_data *data, limn_error *error);

/* The characters of a range that nothing is known of yet. */
static int spell_range(transliteration *self, const code_range *range, spelling spell, const unicode_data *data,
                       limn_error *error) {
    for (uint32_t code = range->first; code <= range->last; code++)
        if (is_nothing(self, code) && spell(self, code, data, error)) return -1;
    return 0;
}

static int spell_decomposed(transliteration *self, uint32_t code, const unicode_data *data, limn_error *error) {
    char text[8] = {0};
    limn_buffer ascii = {0};
    (void)data;
    limn_utf8_encode(code, text);
    utf8proc_uint8_t *decomposed_text = utf8proc_NFKC((const utf8proc_uint8_t *)text);
    if (!decomposed_text) return limn_fail(error, "utf8proc cannot decompose U+%04X", code);
    int status = transliterate_text(self, (const char *)decomposed_text, &ascii, error);
    if (status == 0 && ascii.size) status = set_ascii(self, code, ascii.data, ascii.size, error);
    free(decomposed_text);
    limn_buffer_free(&ascii);
    return status;
}

/* A word of a name, in lower case. */
static int set_word(transliteration *self, uint32_t code, const char *word, size_t size, limn_error *error) {
    char lower[32];
    if (size > sizeof lower) return 0;
    for (size_t i = 0; i < size; i++) lower[i] = (char)tolower((unsigned char)word[i]);
    return set_ascii(self, code, lower, size, error);
}

/* The last word of the first `size` bytes. */
static const char *last_word(const char *text, size_t size) {
    while (size && text[size - 1] != ' ') size--;
    return text + size;
}

static int spell_letter(transliteration *self, uint32_t code, const unicode_data *data, limn_error *error) {
    const char *name = data->names[code] ? data->names[code] : "", *with = strstr(name, " WITH ");
    size_t size = with ? (size_t)(with - name) : strlen(name);
    const char *word = last_word(name, size);
    size_t length = size - (size_t)(word - name);
    return length == 1 || length == 2 ? set_word(self, code, word, length, error) : 0;
}

static int spell_name(transliteration *self, uint32_t code, const unicode_data *data, limn_error *error) {
    const char *name = data->names[code] ? data->names[code] : "", *symbol = strstr(name, " SYMBOL");
    size_t size = symbol ? (size_t)(symbol - name) : strlen(name);
    const char *word = last_word(name, size);
    return set_word(self, code, word, size - (size_t)(word - name), error);
}

static int spell_number(transliteration *self, uint32_t code, const unicode_data *data, limn_error *error) {
    const char *number = data->numbers[code];
    return number ? set_ascii(self, code, number, strlen(number), error) : 0;
}

static int spell_enclosed(transliteration *self, limn_error *error) {
    for (size_t i = 0; i < COUNT(enclosed_letters); i++)
        for (uint32_t k = 0; k < 26; k++) {
            char ascii[] = {enclosed_letters[i].open, (char)('a' + k), enclosed_letters[i].close};
            if (set_ascii(self, enclosed_letters[i].first + k, ascii, sizeof ascii, error)) return -1;
        }
    return 0;
}

/* Later ones look at what earlier ones set: the decompositions come last. */
static int apply_rules(transliteration *self, const unicode_data *data, limn_error *error) {
    int status = spell_enclosed(self, error);
    for (size_t i = 0; i < COUNT(dropped) && status == 0; i++)
        for (uint32_t code = dropped[i].first; code <= dropped[i].last && status == 0; code++)
            status = set_ascii(self, code, "", 0, error);
    for (size_t i = 0; i < COUNT(corrections) && status == 0; i++)
        status = set_ascii(self, corrections[i].code, corrections[i].ascii, strlen(corrections[i].ascii), error);
    for (size_t i = 0; i < COUNT(latin_letters) && status == 0; i++)
        status = spell_range(self, &latin_letters[i], spell_letter, data, error);
    for (size_t i = 0; i < COUNT(greek_names) && status == 0; i++)
        status = spell_range(self, &greek_names[i], spell_name, data, error);
    for (size_t i = 0; i < COUNT(numbers) && status == 0; i++)
        status = spell_range(self, &numbers[i], spell_number, data, error);
    for (size_t i = 0; i < COUNT(decomposed) && status == 0; i++)
        status = spell_range(self, &decomposed[i], spell_decomposed, data, error);
    return status;
}

/* ---------------------------------------------------------------- making the table */

int transliteration_make(transliteration *self, const char *folder, const unicode_data *data, limn_error *error) {
    *self = (transliteration){.numbers = limn_allocate(TABLES_CODE_POINTS, sizeof *self->numbers, error)};
    if (!self->numbers || set_ascii(self, 0, "", 0, error)) return -1; /* "" is number 0: what no file speaks of */
    for (size_t row = 0; row < 256; row++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/x%02zx.pm", folder, row);
        if (perl_table_read(path, &self->pool, self->numbers + 256 * row, error)) return -1;
    }
    for (uint32_t code = 0; code < 0x80; code++) {
        char lower = (char)tolower((int)code);
        if (set_ascii(self, code, &lower, 1, error)) return -1;
    }
    return apply_rules(self, data, error);
}

int transliteration_write(const transliteration *self, FILE *out, limn_error *error) {
    string_pool_write(&self->pool, "transliteration", out);
    return write_rows(self->numbers, "uint16_t", "transliteration", out, error);
}

void transliteration_free(transliteration *self) {
    string_pool_free(&self->pool);
    free(self->numbers);
}
