/* The small tokenizer that a test program works with, and a folder with its files for each test. */
#ifndef LIMN_TESTS_TOKENIZER_SMALL_H
#define LIMN_TESTS_TOKENIZER_SMALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "support.h"
#include <cmocka.h>

static tokenizer *tokens;
static char folder[64];

static inline int setup(void **state) {
    (void)state;
    limn_set_log_level(LIMN_LOG_WARNING);
    tokens = train_small();
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    tokenizer_free(tokens);
    return 0;
}

static inline int open_folder(void **state) {
    (void)state;
    make_folder(folder);
    assert_int_equal(tokenizer_save(tokens, folder, NULL), 0);
    return 0;
}

static inline int close_folder(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

#endif
