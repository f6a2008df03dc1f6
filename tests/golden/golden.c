/* What the golden-* programs share: command line, comparison, summary. */
#include "tests/golden/golden.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void usage(const char *program) {
    fprintf(stderr, "usage: %s PATH [--only NAMES] [--seed N]\n", program);
    exit(LIMN_EXIT_USAGE);
}

void golden_begin(golden *self, const char *program, int argc, char **argv) {
    *self = (golden){.program = program, .seed = 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            self->only = argv[++i];
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            char *end;
            self->seed = strtoull(argv[++i], &end, 10);
            if (end == argv[i] || *end) usage(program);
        } else if (argv[i][0] != '-' && !self->path) {
            self->path = argv[i];
        } else {
            usage(program);
        }
    }
    if (!self->path) usage(program);
    limn_set_threads(limn_get_threads());
}

bool golden_wants(const golden *self, const char *name) {
    if (!self->only) return true;
    size_t length = strlen(name);
    for (const char *at = self->only; *at;) {
        size_t word = strcspn(at, ",");
        if (word == length && strncmp(at, name, word) == 0) return true;
        at += word + (at[word] == ',');
    }
    return false;
}

void golden_exchange(float *out, const float *in, size_t B, size_t P, size_t C) {
    for (size_t b = 0; b < B; b++)
        for (size_t p = 0; p < P; p++)
            for (size_t c = 0; c < C; c++) out[(b * C + c) * P + p] = in[(b * P + p) * C + c];
}

/* Counts one comparison and prints its line. `share` is the error as a share of its tolerance. */
static void note(golden *self, const char *name, const char *what, double share) {
    bool failed = !(share <= 1);
    self->compared++;
    self->failed += failed;
    if (!isfinite(share)) share = INFINITY;
    if (share > self->worst || !self->worst_name[0]) {
        self->worst = share;
        snprintf(self->worst_name, sizeof self->worst_name, "%s", name);
    }
    printf("%-4s %s: %s\n", failed ? "FAIL" : "ok", name, what);
}

void golden_compare(golden *self, const char *name, const float *got, size_t count, const tensor *expected, double reference,
                    double tolerance) {
    char what[256];
    if (!expected || expected->count != count) {
        snprintf(what, sizeof what, "%zu values, expected %zu", count, expected ? expected->count : 0);
        note(self, name, expected ? what : "the golden file has no such tensor", INFINITY);
        return;
    }
    double largest = 0, worst = 0;
    size_t worst_at = 0;
    float worst_expected = 0;
    for (size_t i = 0; i < count; i++) {
        float want;
        tensor_to_float(expected, i, 1, &want);
        double error = fabs((double)got[i] - (double)want);
        if (fabs((double)want) > largest) largest = fabs((double)want);
        if (!isfinite(error)) error = INFINITY;
        if (error > worst || i == 0) {
            worst = error;
            worst_at = i;
            worst_expected = want;
        }
    }
    if (reference <= 0) reference = largest;
    /* Where everything is expected to be zero, only zero will do. */
    double relative = worst == 0 ? 0 : reference > 0 ? worst / reference : INFINITY;
    snprintf(what, sizeof what, "largest error %.3g of %.4g, tolerance %.3g (element %zu: got %.7g, expected %.7g)", relative,
             reference, tolerance, worst_at, count ? (double)got[worst_at] : 0.0, (double)worst_expected);
    note(self, name, what, relative / tolerance);
}

void golden_compare_value(golden *self, const char *name, double got, double expected, double tolerance) {
    char what[256];
    double error = fabs(got - expected);
    snprintf(what, sizeof what, "error %.3g, tolerance %.3g (got %.8g, expected %.8g)", error, tolerance, got, expected);
    note(self, name, what, error / tolerance);
}

void golden_compare_ids(golden *self, const char *name, const int32_t *got, size_t count, const tensor *expected) {
    char what[256];
    size_t different = 0, first = 0;
    int64_t first_expected = 0;
    if (!expected || expected->count != count) {
        snprintf(what, sizeof what, "%zu values, expected %zu", count, expected ? expected->count : 0);
        note(self, name, expected ? what : "the golden file has no such tensor", INFINITY);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t want;
        tensor_to_int64(expected, i, 1, &want);
        if (want == got[i]) continue;
        if (different++ == 0) {
            first = i;
            first_expected = want;
        }
    }
    if (different)
        snprintf(what, sizeof what, "%zu of %zu differ (first at %zu: got %" PRId32 ", expected %" PRId64 ")", different, count,
                 first, got[first], first_expected);
    else
        snprintf(what, sizeof what, "all %zu equal", count);
    note(self, name, what, different ? INFINITY : 0);
}

void golden_check(golden *self, const char *name, bool ok, const char *detail) {
    note(self, name, detail && *detail ? detail : ok ? "as expected" : "not as expected", ok ? 0 : INFINITY);
}

void golden_error(golden *self, const limn_error *error) {
    note(self, "run", error->message, INFINITY);
}

int golden_finish(const golden *self) {
    fflush(stdout);
    if (self->compared == 0)
        printf("%s %s: FAIL: nothing was compared\n", self->program, self->path);
    else if (self->failed)
        printf("%s %s: FAIL: %zu of %zu over tolerance, worst %s at %.3g times\n", self->program, self->path, self->failed,
               self->compared, self->worst_name, self->worst);
    else
        printf("%s %s: ok: %zu compared, worst %s at %.3g of its tolerance\n", self->program, self->path, self->compared,
               self->worst_name, self->worst);
    return self->compared > 0 && self->failed == 0 ? LIMN_EXIT_DONE : LIMN_EXIT_FAILED;
}
