/* Errors: one printable line and an exit code. */
#include "core/internal.h"

#include <string.h>

void limn_make_printable(char *text) {
    size_t length = strlen(text), at = 0;
    while (at < length) {
        uint32_t code_point = 0;
        size_t used = limn_utf8_decode(text + at, length - at, &code_point);
        if (used == 0) {
            text[at++] = '?';
        } else if (code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0) || code_point == 0x2028 ||
                   code_point == 0x2029) {
            memset(text + at, code_point == '\n' || code_point == '\t' ? ' ' : '?', used);
            at += used;
        } else {
            at += used;
        }
    }
}

/* Formats into a local array first, since the arguments may well be the message that is about to be replaced. */
static int fill(limn_error *error, int exit_code, const char *format, va_list arguments) {
    char message[sizeof error->message];
    vsnprintf(message, sizeof message, format, arguments);
    limn_make_printable(message);
    error->exit_code = exit_code;
    memcpy(error->message, message, sizeof message);
    return -1;
}

int limn_fail(limn_error *error, const char *format, ...) {
    if (!error) return -1;
    va_list arguments;
    va_start(arguments, format);
    fill(error, LIMN_EXIT_FAILED, format, arguments);
    va_end(arguments);
    return -1;
}

int limn_fail_usage(limn_error *error, const char *format, ...) {
    if (!error) return -1;
    va_list arguments;
    va_start(arguments, format);
    fill(error, LIMN_EXIT_USAGE, format, arguments);
    va_end(arguments);
    return -1;
}

int limn_fail_context(limn_error *error, const char *format, ...) {
    if (!error) return -1;
    limn_error context = {0};
    va_list arguments;
    va_start(arguments, format);
    fill(&context, error->exit_code ? error->exit_code : LIMN_EXIT_FAILED, format, arguments);
    va_end(arguments);
    char both[2 * sizeof error->message + 2];
    snprintf(both, sizeof both, "%s: %s", context.message, error->message);
    both[sizeof context.message - 1] = '\0'; /* the end of the oldest part is lost first */
    memcpy(context.message, both, sizeof context.message);
    limn_make_printable(context.message);
    *error = context;
    return -1;
}
