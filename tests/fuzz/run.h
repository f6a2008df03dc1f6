/* What fuzz.c and the two makers of mutations share. */
#ifndef LIMN_TESTS_FUZZ_RUN_H
#define LIMN_TESTS_FUZZ_RUN_H

#include "tests/fuzz/fuzz.h"

enum { FUZZ_SEEDS_MAX = 32, FUZZ_SECONDS_MAX = 20, FUZZ_MEMORY_MAX_MIB = 2048 };

typedef struct {
    const char *program, *name; /* as it was called, and the last part of that */
    uint64_t seed, from, count; /* count 0: until the seconds are over */
    uint64_t seconds;           /* 0: until the count is reached */
    const char *corpus;         /* NULL: none is kept */
    char finding[4096];         /* the file a finding is written to */
    const char *scratch;        /* the run's own folder, gone after it */
    fuzz_seed_maker make_seed;
    fuzz_target target;
    volatile uint64_t *progress; /* executions begun, shared between the child and its parent */
    int files;                   /* index of the first file in argv; argc when there is none */
} fuzz_request;

/* In the child: all mutations. Returns the exit code, or exits. */
int fuzz_run(const fuzz_request *request);
/* In the parent, after a child that failed: the arguments that give the same input again. */
void fuzz_print_repetition(const fuzz_request *request);
/* NULL, or why this maker of mutations cannot do what is asked for. */
const char *fuzz_refuse(const fuzz_request *request);

#endif
