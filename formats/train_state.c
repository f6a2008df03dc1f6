/* Training state: what a checkpoint needs beside the model. Arrays are datasets in the group "arrays", stored as they are
 * (moments do not compress); counters are attributes of the root. */
#include "formats/h5.h"

#include <stdlib.h>
#include <string.h>

enum { STATE_NAME_MAX = 900 };

static int dataset_name(char out[STATE_NAME_MAX + 16], const char *path, const char *name, limn_error *error) {
    if (!*name || strlen(name) > STATE_NAME_MAX) return limn_fail(error, "%s: '%s' cannot be the name of an array", path, name);
    snprintf(out, STATE_NAME_MAX + 16, "arrays/%s", name);
    return 0;
}

/* What is done with all of an array by pieces: in or out of an open dataset. */
static int move_pieces(hid_t dataset, const char *path, const char *name, const state_array *array, const state_mover *mover,
                       bool writes, limn_error *error) {
    float *piece = limn_allocate(STATE_PIECE, sizeof *piece, error);
    int status = piece ? 0 : -1;
    for (size_t start = 0; status == 0 && start < array->count; start += STATE_PIECE) {
        size_t count = array->count - start < STATE_PIECE ? array->count - start : STATE_PIECE;
        if (!writes) status = h5_read_part(dataset, path, name, H5T_NATIVE_FLOAT, start, count, piece, error);
        if (status == 0) status = mover->move(mover->context, array, start, count, piece, error);
        if (status == 0 && writes) status = h5_write_part(dataset, path, name, H5T_NATIVE_FLOAT, start, count, piece, error);
    }
    free(piece);
    return status;
}

static int write_array(hid_t file, const char *path, const state_array *array, const state_mover *mover, limn_error *error) {
    char name[STATE_NAME_MAX + 16];
    if (dataset_name(name, path, array->name, error)) return -1;
    if (array->values || !mover)
        return h5_write(file, path, name, H5_PLAIN, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &array->count, array->values, error);
    hid_t dataset = h5_create_dataset(file, path, name, H5_PLAIN, H5T_IEEE_F32LE, 1, &array->count, error);
    if (dataset < 0) return -1;
    int status = move_pieces(dataset, path, name, array, mover, true, error);
    if (H5Dclose(dataset) < 0 && status == 0) status = limn_fail(error, "%s: cannot write '%s': the disk is full", path, name);
    return status;
}

static int write_state(hid_t file, const char *path, const state_array *arrays, size_t array_count,
                       const state_counter *counters, size_t counter_count, const state_mover *mover, limn_error *error) {
    for (size_t i = 0; i < counter_count; i++)
        if (h5_write_u64(file, path, counters[i].name, counters[i].value, error)) return -1;
    for (size_t i = 0; i < array_count; i++)
        if (write_array(file, path, &arrays[i], mover, error)) return -1;
    return 0;
}

int train_state_write_pieces(const char *path, const state_array *arrays, size_t array_count, const state_counter *counters,
                             size_t counter_count, const state_mover *mover, limn_error *error) {
    limn_atomic_file atomic;
    if (limn_atomic_name(&atomic, path, error)) return -1;
    h5_begin();
    hid_t file = h5_create(atomic.temporary);
    int failed = file < 0 ? 0 : write_state(file, path, arrays, array_count, counters, counter_count, mover, error);
    return h5_publish(file, &atomic, failed, error);
}

int train_state_write(const char *path, const state_array *arrays, size_t array_count, const state_counter *counters,
                      size_t counter_count, limn_error *error) {
    return train_state_write_pieces(path, arrays, array_count, counters, counter_count, NULL, error);
}

static int read_array(hid_t file, const char *path, const state_array *array, const state_mover *mover, limn_error *error) {
    char name[STATE_NAME_MAX + 16];
    size_t count;
    if (dataset_name(name, path, array->name, error)) return -1;
    hid_t dataset = h5_open_dataset(file, path, name, H5T_FLOAT, sizeof(float), 1, &count, error);
    if (dataset < 0) return -1;
    if (count != array->count) {
        H5Dclose(dataset);
        return limn_fail(error,
                         "%s: '%s' holds %zu values but this configuration needs %zu; resume with the configuration of the run",
                         path, array->name, count, array->count);
    }
    if (array->values || !mover) return h5_read_and_close(dataset, path, name, H5T_NATIVE_FLOAT, array->values, error);
    int status = move_pieces(dataset, path, name, array, mover, false, error);
    H5Dclose(dataset);
    return status;
}

static int read_state(hid_t file, const char *path, state_array *arrays, size_t array_count, state_counter *counters,
                      size_t counter_count, const state_mover *mover, limn_error *error) {
    for (size_t i = 0; i < counter_count; i++)
        if (h5_read_u64(file, path, counters[i].name, &counters[i].value, error)) return -1;
    for (size_t i = 0; i < array_count; i++)
        if (read_array(file, path, &arrays[i], mover, error)) return -1;
    return 0;
}

int train_state_read_pieces(const char *path, state_array *arrays, size_t array_count, state_counter *counters,
                            size_t counter_count, const state_mover *mover, limn_error *error) {
    h5_begin();
    hid_t file = h5_open(path, error);
    int failed = file < 0 ? -1 : read_state(file, path, arrays, array_count, counters, counter_count, mover, error);
    if (file >= 0) H5Fclose(file);
    h5_end();
    return failed;
}

int train_state_read(const char *path, state_array *arrays, size_t array_count, state_counter *counters, size_t counter_count,
                     limn_error *error) {
    return train_state_read_pieces(path, arrays, array_count, counters, counter_count, NULL, error);
}
