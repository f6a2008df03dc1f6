/* --part I/N: which of several machines this one is. */
#include "dataset/dataset.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

int part_check(size_t part, size_t parts, limn_error *error) {
    if (parts >= 1 && parts <= PARTS_MAX && part < parts) return 0;
    return limn_fail_usage(error, "--part %zu/%zu: I/N with I from 0 to N - 1 and N from 1 to %d", part, parts, PARTS_MAX);
}

/* Digits alone: strtoull takes signs and spaces too. */
static bool read_number(const char **text, size_t *out) {
    char *end;
    if (!isdigit((unsigned char)**text)) return false;
    errno = 0;
    *out = strtoull(*text, &end, 10);
    *text = end;
    return errno == 0;
}

int part_parse(const char *text, size_t *part, size_t *parts, limn_error *error) {
    const char *at = text;
    if (!read_number(&at, part) || *at++ != '/' || !read_number(&at, parts) || *at)
        return limn_fail_usage(error, "--part %s: expected I/N, such as 0/4 for the first of four", text);
    return part_check(*part, *parts, error);
}
