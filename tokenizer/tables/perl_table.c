/* Text::Unidecode's files: each is a Perl list of 256 strings,
 *
 *     $Text::Unidecode::Char[0x4e] = [
 *     'Yi ', qq{\x00}, "", q{EUR}, …
 *     ];
 *
 * with comments between, or a call that makes a list of unknown characters. */
#include "tokenizer/tables/tables.h"
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 1 << 20 };

static const char *skip_blanks(const char *at) {
    for (;; at++) {
        if (*at == '#')
            while (*at && *at != '\n') at++;
        if (!*at || !strchr(" \t\r\n,", *at)) return at;
    }
}

/* After a backslash in a string that knows escapes: \n, \x2f, or the character itself. */
static const char *read_escape(const char *at, char *out) {
    if (*at == 'x') {
        char *end;
        *out = (char)strtoul(at + 1, &end, 16);
        return end;
    }
    *out = *at == 'n' ? '\n' : *at;
    return at + 1;
}

/* One string, appended in lower case. The place after it, or NULL when none begins here. */
static const char *read_string(const char *at, limn_buffer *out, limn_error *error) {
    bool escapes = *at == '"' || strncmp(at, "qq{", 3) == 0;
    char close = *at == '"' || *at == '\'' ? *at : '}';
    if (close != '}')
        at++;
    else if (strncmp(at, "q{", 2) == 0 || escapes)
        at = strchr(at, '{') + 1;
    else
        return NULL;
    while (*at && *at != close) {
        char c = *at++;
        if (c == '\\' && (escapes || *at == '\\' || *at == close)) at = read_escape(at, &c);
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (limn_buffer_append(out, &c, 1, error)) return NULL;
    }
    return *at ? at + 1 : NULL;
}

static int read_list(const char *at, string_pool *pool, uint16_t entries[256], limn_error *error) {
    limn_buffer text = {0};
    size_t count = 0, number = 0;
    for (at = skip_blanks(at); at && *at && *at != ']' && number != SIZE_MAX; at = skip_blanks(at), count++) {
        text.size = 0;
        at = read_string(at, &text, error);
        if (!at || count == 256) break;
        bool unknown = text.size >= 3 && strncmp(text.data, "[?]", 3) == 0;
        number = string_pool_add(pool, text.data, unknown ? 0 : text.size, error);
        entries[count] = (uint16_t)number;
    }
    limn_buffer_free(&text);
    if (number == SIZE_MAX) return -1;
    if (pool->count > UINT16_MAX) return limn_fail(error, "there are too many different strings");
    return at && *at == ']' && count == 256 ? 0 : limn_fail(error, "is not a list of 256 Perl strings (%zu were read)", count);
}

int perl_table_read(const char *path, string_pool *pool, uint16_t entries[256], limn_error *error) {
    size_t size, nothing = string_pool_add(pool, "", 0, error);
    if (nothing == SIZE_MAX) return -1;
    char *text = limn_file_read(path, FILE_LIMIT, &size, error);
    if (!text) return -1;
    for (size_t i = 0; i < 256; i++) entries[i] = (uint16_t)nothing;
    const char *at = strstr(text, "$Text::Unidecode::Char[");
    at = at ? strchr(at, '=') : NULL;
    at = at ? skip_blanks(at + 1) : NULL;
    int status = 0;
    if (!at)
        status = limn_fail(error, "has no $Text::Unidecode::Char");
    else if (*at == '[')
        status = read_list(at + 1, pool, entries, error);
    else if (strncmp(at, "Text::Unidecode::make_placeholder_map()", 39) != 0)
        status = limn_fail(error, "begins its list in an unknown way");
    free(text);
    return status ? limn_fail_context(error, "%s", path) : 0;
}
