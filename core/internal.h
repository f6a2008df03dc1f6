/* What core's own files share; nothing outside core/ includes this. */
#ifndef LIMN_CORE_INTERNAL_H
#define LIMN_CORE_INTERNAL_H

#include "core/core.h"

#include <pthread.h>

/* The name that log lines and errors begin with. */
void limn_set_program_name(const char *name);
const char *limn_program_name(void);

/* Replaces control characters and invalid UTF-8 in place, so that the text is one printable line. */
void limn_make_printable(char *text);

/* True when the text is one of "a|b|c". */
bool limn_is_choice(const char *choices, const char *text);

/* One lock for everything that writes to stderr, so that a log line never lands inside a progress line. */
extern pthread_mutex_t limn_terminal_lock;
/* With the lock held: wipe the live progress line, and draw it again. Do nothing when there is none. */
void limn_progress_hide(void);
void limn_progress_show(void);

/* The deepest that a JSON or YAML file may nest, and its largest size in bytes. */
enum { JSON_MAX_DEPTH = 64, JSON_MAX_BYTES = 64 << 20 };

#endif
