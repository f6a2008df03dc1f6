/* For tests: a folder of their own that goes away, limits that make a disk full, what a function prints, and an arena. */
#ifndef LIMN_TESTS_SCRATCH_H
#define LIMN_TESTS_SCRATCH_H

#include "core/core.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch_folder[256];

static inline int scratch_setup(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(scratch_folder, sizeof scratch_folder, "%s/limn-test-XXXXXX", base ? base : "/tmp");
    signal(SIGXFSZ, SIG_IGN);
    return mkdtemp(scratch_folder) ? 0 : -1;
}

static inline int scratch_teardown(void **state) {
    (void)state;
    return limn_remove_tree(scratch_folder, NULL);
}

/* The path of a file in the folder; the text lives until the eighth next call. */
static inline const char *scratch_path(const char *name) {
    static char paths[8][1024];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

/* Writes a file into the folder, by plain means, and returns its path. */
static inline const char *scratch_write(const char *name, const void *data, size_t size) {
    const char *path = scratch_path(name);
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(data, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
    return path;
}

static inline bool same_bytes(const char *path, const char *other_path) {
    limn_mapping one, other;
    limn_error error = {0};
    if (limn_map(&one, path, &error) || limn_map(&other, other_path, &error)) fail_msg("%s", error.message);
    bool same = one.size == other.size && memcmp(one.data, other.data, one.size) == 0;
    limn_unmap(&one);
    limn_unmap(&other);
    return same;
}

static inline void assert_same_file(const char *path, const char *other_path) {
    if (!same_bytes(path, other_path)) fail_msg("%s and %s are not the same", path, other_path);
}

static inline void assert_file_holds(const char *path, const void *data, size_t size) {
    limn_mapping file;
    limn_error error = {0};
    if (limn_map(&file, path, &error)) fail_msg("%s", error.message);
    assert_int_equal(file.size, size);
    assert_memory_equal(file.data, data, size);
    limn_unmap(&file);
}

/* From here on no file may grow beyond `bytes`: writes fail as on a full disk. RLIM_INFINITY ends it. */
static inline void scratch_limit_files(rlim_t bytes) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Sends what is written to a descriptor (1 or 2) into a file until scratch_captured. */
static int scratch_saved[3];
static inline void scratch_capture(int descriptor) {
    fflush(NULL);
    scratch_saved[descriptor] = dup(descriptor);
    FILE *stream = fopen(scratch_path("captured"), "wb");
    assert_non_null(stream);
    dup2(fileno(stream), descriptor);
    fclose(stream);
}

/* The text captured; free() it. */
static inline char *scratch_captured(int descriptor) {
    fflush(NULL);
    dup2(scratch_saved[descriptor], descriptor);
    close(scratch_saved[descriptor]);
    char *text = limn_file_read(scratch_path("captured"), 1 << 20, NULL, NULL);
    assert_non_null(text);
    return text;
}

/* An arena for a group of tests. */
static limn_arena *scratch_arena;

static inline int scratch_arena_setup(void **state) {
    (void)state;
    scratch_arena = limn_arena_create((size_t)1 << 34, NULL);
    return scratch_arena ? 0 : -1;
}

static inline int scratch_arena_teardown(void **state) {
    (void)state;
    limn_arena_destroy(scratch_arena);
    return 0;
}

/* Fails the test, showing the text, when it does not hold the part. */
static inline void assert_contains(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("\"%s\" does not contain \"%s\"", text, part);
}

#endif
