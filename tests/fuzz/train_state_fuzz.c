/* Training states: named arrays and counters in HDF5. */
#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

enum { COUNT = 3, MANY = 60 };

/* Few arrays stand in their group's header, many in a heap below a B-tree of two levels. */
static bool make_seed(size_t index, limn_buffer *out) {
    static float values[COUNT] = {1, 2, 3};
    static char names[MANY][16];
    const size_t counts[] = {2, 12, MANY};
    state_array arrays[MANY];
    state_counter counters[] = {{"step", 12}, {"seed", UINT64_MAX}};
    for (size_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "m/%zu", i);
        arrays[i] = (state_array){names[i], COUNT, values};
    }
    if (index >= 3) return false;
    const char *path = fuzz_file("seed.h5", "", 0);
    size_t size;
    char *bytes =
        train_state_write(path, arrays, counts[index], counters, 2, NULL) ? NULL : limn_file_read(path, 1 << 20, &size, NULL);
    bool made = bytes && limn_buffer_append(out, bytes, size, NULL) == 0;
    free(bytes);
    return made;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0};
    float first[COUNT], second[COUNT];
    state_array arrays[] = {{"m/1", COUNT, first}, {"m/0", COUNT, second}};
    state_counter counters[] = {{"seed", 0}, {"step", 0}};
    return train_state_read(fuzz_file("input.h5", data, size), arrays, 2, counters, 2, &error) ? fuzz_check_error(&error)
                                                                                               : NULL;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
