/* What the tests of limn-download share: running it, and the server it meets. */
#ifndef LIMN_TESTS_DOWNLOAD_WORLD_H
#define LIMN_TESTS_DOWNLOAD_WORLD_H

#include "tests/dataset/tools.h"
#include "tests/download/server.h"

/* A server and a folder of a test's own: what most tests need. */
typedef struct {
    test_server server;
    char folder[4096];
} server_world;
int server_world_set_up(void **state); /* of cmocka's group; *state is the server_world */
int server_world_tear_down(void **state);

/* Runs limn-download with these arguments (NULL ends them) in a process of its own. */
program_result run_download(const char *first, ...);
/* The same with files limited to so many bytes. */
program_result run_download_limited(size_t file_bytes, const char *const *arguments);
/* Starts it and does not wait. Its output goes nowhere. */
pid_t start_download(const char *const *arguments);

#endif
