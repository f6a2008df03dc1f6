/* The little of HDF5 that token shards and training state need. Internal to formats/. */
#ifndef LIMN_FORMATS_H5_H
#define LIMN_FORMATS_H5_H

#include "formats/formats.h"

#include <hdf5.h>

/* Every use of HDF5 lies between these two: they hold a lock (the library may be built without its own) and keep HDF5 from
 * printing its error stack, since we say what is wrong in our own words. */
void h5_begin(void);
void h5_end(void);

/* Creates a file. Its metadata is of HDF5 1.10's form, which carries checksums: the older form lets a damaged file lead the
 * library astray. No time is stored, so that the same data gives the same bytes. */
hid_t h5_create(const char *path);
/* Ends a file that was written under the temporary name: closes it (a negative id: it could not be created) and puts it in its
 * place or, when `failed` or the closing fails, removes it. Calls h5_end. */
int h5_publish(hid_t file, limn_atomic_file *atomic, int failed, limn_error *error);

/* How a new dataset is laid out: compressed ones are cut into chunks of about 256 KiB, shuffled and deflated at level 1.
 * Groups in the name are made. */
typedef enum { H5_PLAIN, H5_COMPRESSED } h5_layout;
int h5_write(hid_t file, const char *path, const char *name, h5_layout layout, hid_t file_type, hid_t memory_type, size_t rank,
             const size_t *shape, const void *data, limn_error *error);
/* The same in two steps, for data that is never in memory at once: makes the dataset (a negative id with an error), which the caller
 * closes; and moves elements start … start+count−1 of a plain dataset of rank 1 in or out. */
hid_t h5_create_dataset(hid_t file, const char *path, const char *name, h5_layout layout, hid_t file_type, size_t rank,
                        const size_t *shape, limn_error *error);
int h5_write_part(hid_t dataset, const char *path, const char *name, hid_t memory_type, size_t start, size_t count,
                  const void *data, limn_error *error);
int h5_read_part(hid_t dataset, const char *path, const char *name, hid_t memory_type, size_t start, size_t count, void *out,
                 limn_error *error);
int h5_write_u64(hid_t object, const char *path, const char *name, uint64_t value, limn_error *error);

/* Opens a file for reading; a negative id with an error when it is no HDF5 file or was cut short. */
hid_t h5_open(const char *path, limn_error *error);
/* True when every part of "a/b/c" exists and is a plain link: nothing leads into another file. */
bool h5_is_inside(hid_t file, const char *name);
/* Opens a dataset that must lie in this file itself (no links out of it, no external storage, no virtual datasets), be of this
 * class and element size (0: any) and rank. Its shape is checked against what its stored bytes can unpack to at most, so that
 * it may be allocated. */
hid_t h5_open_dataset(hid_t file, const char *path, const char *name, H5T_class_t type_class, size_t element_size, size_t rank,
                      size_t *out_shape, limn_error *error);
/* Reads all of an open dataset, whose type in the file must be the memory type, and closes it. */
int h5_read_and_close(hid_t dataset, const char *path, const char *name, hid_t memory_type, void *out, limn_error *error);
int h5_read_u64(hid_t object, const char *path, const char *name, uint64_t *out, limn_error *error);

#endif
