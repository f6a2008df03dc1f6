/* What the golden-* programs share: command line, comparison, summary. */
#ifndef LIMN_TESTS_GOLDEN_H
#define LIMN_TESTS_GOLDEN_H

#include "core/core.h"
#include "formats/formats.h"

typedef struct {
    const char *program;
    const char *path;  /* the folder or file given */
    const char *only;  /* comma-separated names, or NULL: everything */
    uint64_t seed;     /* --seed, 1 unless given */
    size_t compared, failed;
    double worst;      /* largest error as a share of its tolerance */
    char worst_name[256];
} golden;

/* Reads `PROGRAM PATH [--only NAMES] [--seed N]`; prints usage and exits 2 when wrong. */
void golden_begin(golden *self, const char *program, int argc, char **argv);
/* True when `name` is wanted: --only absent, or one of its names. */
bool golden_wants(const golden *self, const char *name);
/* (B,C,P) from (B,P,C), or the other way with P and C exchanged. */
void golden_exchange(float *out, const float *in, size_t B, size_t P, size_t C);
/* Compares count floats; the error is max|got − expected| / reference, the line is printed, and it counts as failed above
 * tolerance or where a value is not finite. reference 0 means the largest |expected|. Counts of got and expected must match. */
void golden_compare(golden *self, const char *name, const float *got, size_t count, const tensor *expected, double reference,
                    double tolerance);
void golden_compare_value(golden *self, const char *name, double got, double expected, double tolerance); /* absolute */
/* Exact equality of integers. */
void golden_compare_ids(golden *self, const char *name, const int32_t *got, size_t count, const tensor *expected);
/* A check that is not a number. */
void golden_check(golden *self, const char *name, bool ok, const char *detail);
/* Something could not be run at all: counts as failed. */
void golden_error(golden *self, const limn_error *error);
/* Prints the one line that sums up and returns the exit code. No comparison at all is a failure. */
int golden_finish(const golden *self);

#endif
