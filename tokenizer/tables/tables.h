/* What the files of make-normalize-tables share. That program runs when Limn is built and writes normalize_tables.c, the tables
 * of the text normaliser (tokenizer/normalizer.h), from what Debian packages hold: the Unicode character database and emoji
 * names (unicode-data), Text::Unidecode's transliteration (libtext-unidecode-perl), and NFKC (utf8proc). */
#ifndef LIMN_TOKENIZER_TABLES_H
#define LIMN_TOKENIZER_TABLES_H

#include "core/core.h"

enum { TABLES_CODE_POINTS = 0x110000, TABLES_ROWS = TABLES_CODE_POINTS / 256 };

/* ---------------------------------------------------------------- reading */

typedef struct {
    uint32_t codes[16];
    size_t count;
} hex_codes;

/* The next line of a text that is cut up as it is read (line ends become NUL); NULL at the end. */
char *next_line(char **rest);
/* The next field of a line up to `separator`, without the blanks around it; NULL when there is none. */
char *next_field(char **rest, char separator);
/* Hexadecimal numbers with blanks between; -1 when there is anything else, or too many. */
int read_codes(const char *text, hex_codes *out);

/* UnicodeData.txt, SpecialCasing.txt and DerivedNormalizationProps.txt. */
typedef struct {
    char *files[3];
    const char **names;   /* (TABLES_CODE_POINTS): NULL where there is none */
    const char **numbers; /* (TABLES_CODE_POINTS): "10" or "1/2"; NULL where there is none */
    hex_codes *upper;     /* (TABLES_CODE_POINTS): upper case where it differs from the character, else empty */
    unsigned char *flags; /* (TABLES_CODE_POINTS): UNICODE_… of tokenizer/normalizer.h */
} unicode_data;
int unicode_data_read(unicode_data *self, const char *folder, limn_error *error);
void unicode_data_free(unicode_data *self);

/* ---------------------------------------------------------------- writing */

/* Strings that are written one after another, each once. */
typedef struct {
    limn_buffer text;
    size_t *starts; /* (count + 1) */
    size_t count, capacity;
    size_t *slots; /* index + 1 of a string; 0: empty */
    size_t slot_count;
} string_pool;
/* The number of the string; equal strings have one number. SIZE_MAX with an error when memory ends. */
size_t string_pool_add(string_pool *self, const char *text, size_t size, limn_error *error);
void string_pool_free(string_pool *self);
/* `const uint32_t NAME_start[]` and `const char NAME_text[]`. */
void string_pool_write(const string_pool *self, const char *name, FILE *out);
/* A table with a value for every code point as `const TYPE NAME_rows[][256]` and `const uint16_t NAME_row[TABLES_ROWS]`, equal
 * rows once. */
int write_rows(const uint16_t *values, const char *type, const char *name, FILE *out, limn_error *error);

/* ---------------------------------------------------------------- the tables */

/* What each code point becomes in ASCII, in lower case; "" for nothing. */
typedef struct {
    string_pool pool;
    uint16_t *numbers; /* (TABLES_CODE_POINTS): into the pool */
} transliteration;
/* Text::Unidecode's files x00.pm … xff.pm in `folder`, then the rules and corrections of transliteration.c. */
int transliteration_make(transliteration *self, const char *folder, const unicode_data *data, limn_error *error);
int transliteration_write(const transliteration *self, FILE *out, limn_error *error);
void transliteration_free(transliteration *self);
/* UTF-8 to ASCII. */
int transliterate_text(const transliteration *self, const char *text, limn_buffer *out, limn_error *error);

/* One of Text::Unidecode's files: `entries` gets 256 strings in `pool`, in lower case; what is unknown there is "". */
int perl_table_read(const char *path, string_pool *pool, uint16_t entries[256], limn_error *error);

/* emoji-test.txt in `folder`, then newer_emoji.txt; marks the first characters of sequences in data->flags. */
int emoji_write(const char *folder, const char *newer, const transliteration *ascii, unicode_data *data, FILE *out,
                limn_error *error);

/* html_entities.txt. */
int entities_write(const char *path, const unicode_data *data, FILE *out, limn_error *error);

#endif
