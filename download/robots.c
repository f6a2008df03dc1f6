/* What a server says of the use of its pictures. */
#include "download/internal.h"

#include <string.h>
#include <strings.h>

static const char ROBOT[] = "limn-download"; /* the first word of the user agent */

static bool is_space(char c) {
    return (unsigned char)c <= ' ';
}

static text_span trim(text_span text) {
    while (text.size && is_space(*text.data)) text.data++, text.size--;
    while (text.size && is_space(text.data[text.size - 1])) text.size--;
    return text;
}

static bool equals(text_span text, const char *word) {
    return text.size == strlen(word) && !strncasecmp(text.data, word, text.size);
}

static bool is_one_of(text_span text, const char *const *words) {
    for (; *words; words++)
        if (equals(text, *words)) return true;
    return false;
}

/* A colon stands behind the name of a robot, whose directives follow, or inside a directive that has a value. */
static bool robots_tag_forbids(text_span value) {
    static const char *const forbidding[] = {"noai", "noimageai", "noindex", "noimageindex", NULL};
    static const char *const with_value[] = {"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after",
                                             NULL};
    bool for_us = true;
    while (value.size) {
        const char *comma = memchr(value.data, ',', value.size);
        const size_t size = comma ? (size_t)(comma - value.data) : value.size;
        text_span word = trim((text_span){value.data, size});
        value.data += size + (comma != NULL), value.size -= size + (comma != NULL);
        const char *colon = word.size ? memchr(word.data, ':', word.size) : NULL;
        if (colon) {
            const size_t before = (size_t)(colon - word.data);
            const text_span name = trim((text_span){word.data, before});
            if (is_one_of(name, with_value)) continue;
            for_us = equals(name, ROBOT) || equals(name, "*");
            word = trim((text_span){colon + 1, word.size - before - 1});
        }
        if (for_us && is_one_of(word, forbidding)) return true;
    }
    return false;
}

bool header_forbids_learning(const char *line, size_t size) {
    const char *colon = memchr(line, ':', size);
    if (!colon) return false;
    const size_t before = (size_t)(colon - line);
    const text_span name = {line, before}, value = trim((text_span){colon + 1, size - before - 1});
    if (equals(name, "x-robots-tag")) return robots_tag_forbids(value);
    return equals(name, "tdm-reservation") && equals(value, "1");
}
