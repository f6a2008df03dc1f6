/* Log lines on stderr. */
#include "core/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

pthread_mutex_t limn_terminal_lock = PTHREAD_MUTEX_INITIALIZER;
static limn_log_level log_level = LIMN_LOG_INFO;
static char program_name[128];

void limn_set_log_level(limn_log_level level) {
    log_level = level;
}

limn_log_level limn_get_log_level(void) {
    return log_level;
}

void limn_set_program_name(const char *name) {
    snprintf(program_name, sizeof program_name, "%s", name);
    limn_make_printable(program_name);
}

const char *limn_program_name(void) {
    return program_name[0] ? program_name : program_invocation_short_name;
}

void limn_log(limn_log_level level, const char *format, ...) {
    if (level < log_level || log_level == LIMN_LOG_QUIET) return;
    static const char *const prefixes[] = {"debug: ", "", "warning: ", "error: ", ""};
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    limn_make_printable(text);
    pthread_mutex_lock(&limn_terminal_lock);
    limn_progress_hide();
    fprintf(stderr, "%s: %s%s\n", limn_program_name(), prefixes[level], text);
    limn_progress_show();
    pthread_mutex_unlock(&limn_terminal_lock);
}
