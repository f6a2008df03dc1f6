/* Mutations by LLVM's libFuzzer (llvm.org/docs/LibFuzzer.html, "Using libFuzzer as a library"), which keeps each input that
 * reaches code no other one has reached. */
#include "tests/fuzz/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one)(const uint8_t *data, size_t size));

static const fuzz_request *running; /* libFuzzer's callback takes no argument of ours */

static int run_one(const uint8_t *data, size_t size) {
    ++*running->progress;
    const char *complaint = running->target((const char *)data, size); /* an exact copy on the heap: libFuzzer makes one */
    if (!complaint) return 0;
    fprintf(stderr, "%s: %s\n", running->name, complaint);
    abort(); /* libFuzzer writes the input down */
}

/* The seeds go into the corpus as files; the largest is returned, 0 when there is none. */
static size_t write_seeds(const fuzz_request *request, const char *corpus) {
    limn_error error = {0};
    size_t largest = 0;
    limn_buffer seed = {0};
    if (limn_make_directories(corpus, &error)) fprintf(stderr, "%s\n", error.message);
    for (size_t i = 0; i < FUZZ_SEEDS_MAX && request->make_seed(i, &seed); i++) {
        char path[4096 + 32];
        snprintf(path, sizeof path, "%s/seed-%02zu", corpus, i);
        if (limn_atomic_write(path, seed.data, seed.size, &error)) fprintf(stderr, "%s\n", error.message);
        if (seed.size > largest) largest = seed.size;
        limn_buffer_free(&seed);
    }
    limn_buffer_free(&seed);
    return error.message[0] ? 0 : largest;
}

int fuzz_run(const fuzz_request *request) {
    char scratch_corpus[4096], runs[64], seconds[64], seed[64], timeout[64], memory[64], length[64], finding[4200];
    const char *corpus = request->corpus ? request->corpus : scratch_corpus;
    snprintf(scratch_corpus, sizeof scratch_corpus, "%s/corpus", request->scratch);
    const size_t largest = write_seeds(request, corpus);
    if (largest == 0) return LIMN_EXIT_FAILED;
    running = request;
    snprintf(runs, sizeof runs, "-runs=%lld", request->count ? (long long)request->count : -1LL);
    snprintf(seconds, sizeof seconds, "-max_total_time=%llu", (unsigned long long)request->seconds);
    snprintf(seed, sizeof seed, "-seed=%u", (unsigned)request->seed);
    snprintf(timeout, sizeof timeout, "-timeout=%d", FUZZ_SECONDS_MAX);
    snprintf(memory, sizeof memory, "-rss_limit_mb=%d", FUZZ_MEMORY_MAX_MIB);
    snprintf(length, sizeof length, "-max_len=%zu", largest < 1024 ? 2048 : 2 * largest);
    snprintf(finding, sizeof finding, "-exact_artifact_path=%s", request->finding);
    /* Slow inputs would be written over a finding: they are none below the timeout. */
    char *arguments[] = {(char *)(uintptr_t)request->program,
                         runs,
                         seconds,
                         seed,
                         timeout,
                         memory,
                         length,
                         finding,
                         "-report_slow_units=1000000",
                         "-print_final_stats=1",
                         (char *)(uintptr_t)corpus,
                         NULL};
    int count = sizeof arguments / sizeof *arguments - 1;
    char **given = arguments;
    return LLVMFuzzerRunDriver(&count, &given, run_one);
}

void fuzz_print_repetition(const fuzz_request *request) {
    fprintf(stderr, "%s\n", request->finding);
}

const char *fuzz_refuse(const fuzz_request *request) {
    return request->from ? "--from counts the mutations of other builds; libFuzzer's findings are files" : NULL;
}
