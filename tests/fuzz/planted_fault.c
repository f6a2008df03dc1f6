/* A reader with a fault that the environment variable PLANTED names: that fuzzing finds it is tested by finds.sh. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static bool make_seed(size_t index, limn_buffer *out) {
    return index == 0 && limn_buffer_append(out, "length 12", 9, NULL) == 0;
}

static const char *target(const char *data, size_t size) {
    const char *planted = getenv("PLANTED");
    if (!planted || !memchr(data, '!', size)) return NULL;
    if (strcmp(planted, "crash") == 0) abort();
    return "an exclamation mark was taken";
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
