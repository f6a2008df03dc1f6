#include "tests/download/world.h"

#include <stdarg.h>
#include <stdlib.h>

enum { MAX_ARGUMENTS = 64 };

program_result run_download(const char *first, ...) {
    const char *arguments[MAX_ARGUMENTS + 1] = {first};
    va_list rest;
    va_start(rest, first);
    for (size_t i = 1; i < MAX_ARGUMENTS; i++)
        if (!(arguments[i] = va_arg(rest, const char *))) break;
    va_end(rest);
    return run_program(LIMN_DOWNLOAD_PROGRAM, arguments, 0);
}

program_result run_download_limited(size_t file_bytes, const char *const *arguments) {
    return run_program(LIMN_DOWNLOAD_PROGRAM, arguments, file_bytes);
}

pid_t start_download(const char *const *arguments) {
    return start_program(LIMN_DOWNLOAD_PROGRAM, arguments);
}

int server_world_set_up(void **state) {
    server_world *self = calloc(1, sizeof *self);
    if (!self) return -1;
    self->server = server_start();
    make_folder(self->folder);
    *state = self;
    return 0;
}

int server_world_tear_down(void **state) {
    server_world *self = *state;
    server_stop(&self->server);
    limn_remove_tree(self->folder, NULL);
    free(self);
    return 0;
}
