/* Training state: what a checkpoint needs beside the model. Arrays are datasets in the group "arrays", stored as they are
 * (moments do not compress); counters are attributes of the root. */
#include "formats/h5.h"

#include <string.h>

enum { STATE_NAME_MAX = 900 };

static int dataset_name(char out[STATE_NAME_MAX + 16], const char *path, const char *name, limn_error *error) {
    if (!*name || strlen(name) > STATE_NAME_MAX) return limn_fail(error, "%s: '%s' cannot be the name of an array", path, name);
    snprintf(out, STATE_NAME_MAX + 16, "arrays/%s", name);
    return 0;
}

static int write_state(hid_t file, const char *path, const state_array *arrays, size_t array_count,
                       const state_counter *counters, size_t counter_count, limn_error *error) {
    char name[STATE_NAME_MAX + 16];
    for (size_t i = 0; i < counter_count; i++)
        if (h5_write_u64(file, path, counters[i].name, counters[i].value, error)) return -1;
    for (size_t i = 0; i < array_count; i++)
        if (dataset_name(name, path, arrays[i].name, error) ||
            h5_write(file, path, name, H5_PLAIN, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &arrays[i].count, arrays[i].values,
                     error))
            return -1;
    return 0;
}

int train_state_write(const char *path, const state_array *arrays, size_t array_count, const state_counter *counters,
                      size_t counter_count, limn_error *error) {
    limn_atomic_file atomic;
    if (limn_atomic_name(&atomic, path, error)) return -1;
    h5_begin();
    hid_t file = h5_create(atomic.temporary);
    int failed = file < 0 ? 0 : write_state(file, path, arrays, array_count, counters, counter_count, error);
    return h5_publish(file, &atomic, failed, error);
}

static int read_state(hid_t file, const char *path, state_array *arrays, size_t array_count, state_counter *counters,
                      size_t counter_count, limn_error *error) {
    char name[STATE_NAME_MAX + 16];
    for (size_t i = 0; i < counter_count; i++)
        if (h5_read_u64(file, path, counters[i].name, &counters[i].value, error)) return -1;
    for (size_t i = 0; i < array_count; i++) {
        size_t count;
        if (dataset_name(name, path, arrays[i].name, error)) return -1;
        hid_t dataset = h5_open_dataset(file, path, name, H5T_FLOAT, sizeof(float), 1, &count, error);
        if (dataset < 0) return -1;
        if (count != arrays[i].count) {
            H5Dclose(dataset);
            return limn_fail(
                error, "%s: '%s' holds %zu values but this configuration needs %zu; resume with the configuration of the run",
                path, arrays[i].name, count, arrays[i].count);
        }
        if (h5_read_and_close(dataset, path, name, H5T_NATIVE_FLOAT, arrays[i].values, error)) return -1;
    }
    return 0;
}

int train_state_read(const char *path, state_array *arrays, size_t array_count, state_counter *counters, size_t counter_count,
                     limn_error *error) {
    h5_begin();
    hid_t file = h5_open(path, error);
    int failed = file < 0 ? -1 : read_state(file, path, arrays, array_count, counters, counter_count, error);
    if (file >= 0) H5Fclose(file);
    h5_end();
    return failed;
}
