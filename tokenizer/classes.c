/* The class of every code point, found once by PCRE2 so that splitting a caption is a table look-up a character. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/internal.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* \s means the White_Space property, whose members are fixed since Unicode 6.3. PCRE2's own \s has U+180E as well. */
static void mark_spaces(unsigned char *classes) {
    static const uint32_t ranges[][2] = {{0x9, 0xD},       {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                         {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                         {0x205F, 0x205F}, {0x3000, 0x3000}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        memset(classes + ranges[i][0], CLASS_SPACE, ranges[i][1] - ranges[i][0] + 1);
}

/* Marks every code point of `all` (UTF-8) that matches the pattern. */
static int mark_matches(unsigned char *classes, unsigned char class, const char *pattern, const limn_buffer *all,
                        limn_error *error) {
    int code, status = -1;
    size_t where;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &where, NULL);
    if (!compiled) return limn_fail(error, "PCRE2 cannot compile %s: it needs Unicode support", pattern);
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); /* only faster: a PCRE2 without JIT interprets */
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match) {
        limn_fail(error, "not enough memory for PCRE2");
        goto done;
    }
    size_t position = 0;
    while ((code = pcre2_match(compiled, (PCRE2_SPTR)all->data, all->size, position, PCRE2_NO_UTF_CHECK, match, NULL)) >= 0) {
        const size_t *range = pcre2_get_ovector_pointer(match);
        for (position = range[0]; position < range[1];) {
            uint32_t code_point = 0;
            position += limn_utf8_decode(all->data + position, all->size - position, &code_point);
            classes[code_point] = class;
        }
    }
    if (code != PCRE2_ERROR_NOMATCH) {
        limn_fail(error, "PCRE2 fails on %s with code %d", pattern, code);
        goto done;
    }
    status = 0;
done:
    pcre2_match_data_free(match);
    pcre2_code_free(compiled);
    return status;
}

unsigned char *unicode_classes_create(limn_error *error) {
    unsigned char *classes = limn_allocate(UNICODE_END, 1, error);
    limn_buffer all = {0};
    if (!classes) return NULL;
    char *text = limn_allocate(UNICODE_END, 4, error);
    if (!text) goto failed;
    size_t size = 0;
    for (uint32_t code_point = 1; code_point < UNICODE_END; code_point++) size += limn_utf8_encode(code_point, text + size);
    all = (limn_buffer){text, size, size};
    if (mark_matches(classes, CLASS_LETTER, "\\p{L}+", &all, error) ||
        mark_matches(classes, CLASS_NUMBER, "\\p{N}+", &all, error))
        goto failed;
    mark_spaces(classes);
    free(text);
    return classes;
failed:
    free(text);
    free(classes);
    return NULL;
}
