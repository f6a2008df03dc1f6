/* The little of HDF5 that token shards and training state need. */
#include "formats/h5.h"

#include <pthread.h>
#include <string.h>

enum { CHUNK_BYTES = 256 * 1024, DEFLATE_LEVEL = 1, NAME_BYTES_MAX = 1024 };
/* Deflate makes 1032 bytes of one at best (zlib's technical details); a little more for its framing. */
static const size_t DEFLATE_MAX_RATIO = 1040, DEFLATE_SLACK = 4096;

static pthread_mutex_t h5_lock = PTHREAD_MUTEX_INITIALIZER;

void h5_begin(void) {
    pthread_mutex_lock(&h5_lock);
    /* After a close that failed (a full disk) HDF5's own clean-up at exit goes over freed memory. It has nothing to do for us:
     * each function closes what it opens. */
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0); /* a file must not be able to name a plug-in to load */
}

void h5_end(void) {
    pthread_mutex_unlock(&h5_lock);
}

/* ---------------------------------------------------------------- writing */

static hid_t creation_list(h5_layout layout, size_t rank, const hsize_t *shape, size_t element_size) {
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    bool failed = list < 0 || H5Pset_obj_track_times(list, false) < 0;
    size_t row = element_size, count = 1;
    for (size_t i = 0; i < rank; i++) count *= shape[i];
    for (size_t i = 1; i < rank; i++) row *= shape[i];
    if (!failed && layout == H5_COMPRESSED && count > 0) {
        hsize_t chunk[2];
        for (size_t i = 0; i < rank; i++) chunk[i] = shape[i];
        chunk[0] = row < CHUNK_BYTES ? CHUNK_BYTES / row : 1;
        if (chunk[0] > shape[0]) chunk[0] = shape[0];
        failed =
            H5Pset_chunk(list, (int)rank, chunk) < 0 || H5Pset_shuffle(list) < 0 || H5Pset_deflate(list, DEFLATE_LEVEL) < 0;
    }
    if (!failed) return list;
    if (list >= 0) H5Pclose(list);
    return -1;
}

int h5_write(hid_t file, const char *path, const char *name, h5_layout layout, hid_t file_type, hid_t memory_type, size_t rank,
             const size_t *shape, const void *data, limn_error *error) {
    hsize_t dimensions[2];
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) {
        dimensions[i] = shape[i];
        count *= shape[i];
    }
    hid_t creation = creation_list(layout, rank, dimensions, H5Tget_size(file_type));
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    hid_t space = H5Screate_simple((int)rank, dimensions, NULL);
    hid_t dataset = -1;
    bool ok = creation >= 0 && links >= 0 && space >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0;
    if (ok) dataset = H5Dcreate2(file, name, file_type, space, links, creation, H5P_DEFAULT);
    ok = dataset >= 0;
    if (ok && count > 0) ok = H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    if (dataset >= 0 && H5Dclose(dataset) < 0) ok = false;
    if (space >= 0) H5Sclose(space);
    if (links >= 0) H5Pclose(links);
    if (creation >= 0) H5Pclose(creation);
    return ok ? 0 : limn_fail(error, "%s: cannot write '%s': the disk is full, or the name is taken", path, name);
}

int h5_write_u64(hid_t object, const char *path, const char *name, uint64_t value, limn_error *error) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, H5T_STD_U64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_UINT64, &value) >= 0;
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    return ok ? 0 : limn_fail(error, "%s: cannot write '%s'", path, name);
}

/* ---------------------------------------------------------------- reading */

hid_t h5_open(const char *path, limn_error *error) {
    if (!limn_file_exists(path)) return limn_fail(error, "%s: no such file", path);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) return limn_fail(error, "%s: not an HDF5 file, or cut short; make it again", path);
    return file;
}

bool h5_is_inside(hid_t file, const char *name) {
    char part[NAME_BYTES_MAX];
    size_t length = strlen(name);
    if (length == 0 || length >= sizeof part) return false;
    for (size_t i = 1; i <= length; i++) {
        if (name[i] != '/' && name[i] != '\0') continue;
        memcpy(part, name, i);
        part[i] = '\0';
        H5L_info_t link;
        if (H5Lget_info(file, part, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD) return false;
    }
    return true;
}

static bool is_stored_here(hid_t dataset) {
    hid_t list = H5Dget_create_plist(dataset);
    if (list < 0) return false;
    H5D_layout_t layout = H5Pget_layout(list);
    bool here =
        (layout == H5D_CHUNKED || layout == H5D_CONTIGUOUS || layout == H5D_COMPACT) && H5Pget_external_count(list) == 0;
    H5Pclose(list);
    return here;
}

static int check_type(hid_t dataset, const char *path, const char *name, H5T_class_t type_class, size_t element_size,
                      size_t *out_size, limn_error *error) {
    hid_t type = H5Dget_type(dataset);
    bool ok = type >= 0 && H5Tget_class(type) == type_class;
    *out_size = ok ? H5Tget_size(type) : 0;
    if (ok && element_size) ok = *out_size == element_size;
    if (ok && type_class == H5T_INTEGER) ok = H5Tget_sign(type) == H5T_SGN_NONE;
    if (type >= 0) H5Tclose(type);
    return ok ? 0 : limn_fail(error, "%s: '%s' is not of the type it should be", path, name);
}

static int check_shape(hid_t dataset, const char *path, const char *name, size_t element_size, size_t rank, size_t *out_shape,
                       limn_error *error) {
    hid_t space = H5Dget_space(dataset);
    hsize_t dimensions[2] = {0};
    bool ok = space >= 0 && H5Sget_simple_extent_type(space) == H5S_SIMPLE && H5Sget_simple_extent_ndims(space) == (int)rank &&
              H5Sget_simple_extent_dims(space, dimensions, NULL) == (int)rank;
    if (space >= 0) H5Sclose(space);
    if (!ok) return limn_fail(error, "%s: '%s' does not have %zu dimension%s", path, name, rank, rank == 1 ? "" : "s");
    size_t bytes = element_size;
    for (size_t i = 0; i < rank; i++) {
        out_shape[i] = (size_t)dimensions[i];
        if (limn_multiply(bytes, out_shape[i], &bytes, error)) return limn_fail_context(error, "%s: '%s'", path, name);
    }
    hsize_t stored = H5Dget_storage_size(dataset);
    if (bytes > 0 && (bytes - 1) / DEFLATE_MAX_RATIO > stored + DEFLATE_SLACK)
        return limn_fail(error, "%s: '%s' claims %zu bytes, which %llu stored ones cannot hold", path, name, bytes,
                         (unsigned long long)stored);
    return 0;
}

hid_t h5_open_dataset(hid_t file, const char *path, const char *name, H5T_class_t type_class, size_t element_size, size_t rank,
                      size_t *out_shape, limn_error *error) {
    size_t size;
    if (!h5_is_inside(file, name))
        return limn_fail(error, "%s: has no '%s' of its own; is it a file of this kind?", path, name);
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0) return limn_fail(error, "%s: '%s' is not a dataset, or damaged", path, name);
    int failed =
        is_stored_here(dataset) ? 0 : limn_fail(error, "%s: '%s' is kept in another file, which is not allowed", path, name);
    if (!failed) failed = check_type(dataset, path, name, type_class, element_size, &size, error);
    if (!failed) failed = check_shape(dataset, path, name, size, rank, out_shape, error);
    if (!failed) return dataset;
    H5Dclose(dataset);
    return -1;
}

int h5_read_and_close(hid_t dataset, const char *path, const char *name, hid_t memory_type, void *out, limn_error *error) {
    bool ok = H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0;
    H5Dclose(dataset);
    return ok ? 0 : limn_fail(error, "%s: '%s' cannot be read: the file is damaged or cut short; make it again", path, name);
}

int h5_read_u64(hid_t object, const char *path, const char *name, uint64_t *out, limn_error *error) {
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return limn_fail(error, "%s: has no '%s'; is it a file of this kind?", path, name);
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == H5T_INTEGER && H5Sget_simple_extent_npoints(space) == 1 &&
              H5Aread(attribute, H5T_NATIVE_UINT64, out) >= 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return ok ? 0 : limn_fail(error, "%s: '%s' is not a whole number", path, name);
}
