/* The little of HDF5 that token shards and training state need. */
#include "formats/h5.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK_BYTES = 256 * 1024, DEFLATE_LEVEL = 1, NAME_BYTES_MAX = 1024, CHUNK_BYTES_MAX = 64 << 20, CHUNK_SLACK = 4096 };
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

/* Files are locked where the file system knows how; where it does not (some clusters), that is no reason to fail. */
static hid_t access_list(void) {
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    if (list >= 0 && H5Pset_file_locking(list, true, true) >= 0) return list;
    if (list >= 0) H5Pclose(list);
    return -1;
}

hid_t h5_create(const char *path) {
    hid_t access = access_list(), creation = H5Pcreate(H5P_FILE_CREATE), file = -1;
    if (access >= 0 && creation >= 0 && H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
        H5Pset_obj_track_times(creation, false) >= 0)
        file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (creation >= 0) H5Pclose(creation);
    if (access >= 0) H5Pclose(access);
    return file;
}

int h5_publish(hid_t file, limn_atomic_file *atomic, int failed, limn_error *error) {
    if (file < 0 && !failed) failed = limn_fail(error, "%s: cannot write here", atomic->path);
    if (file >= 0 && H5Fclose(file) < 0 && !failed)
        failed = limn_fail(error, "%s: cannot write: the disk may be full", atomic->path);
    h5_end();
    if (!failed) return limn_atomic_publish(atomic, error);
    /* HDF5 may keep the file open after a failure: give its room on the disk back all the same. */
    if (file >= 0 && truncate(atomic->temporary, 0) != 0)
        limn_log(LIMN_LOG_DEBUG, "%s: could not be emptied", atomic->temporary);
    limn_atomic_discard(atomic);
    return -1;
}

/* Makes the groups of "a/b/c" that are not there yet: a and a/b. HDF5 would make them itself, but with the time in them. */
static bool make_groups(hid_t file, const char *name) {
    char part[NAME_BYTES_MAX];
    if (strlen(name) >= sizeof part) return false;
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    bool ok = creation >= 0 && H5Pset_obj_track_times(creation, false) >= 0;
    for (const char *slash = name; ok && (slash = strchr(slash, '/')); slash++) {
        memcpy(part, name, (size_t)(slash - name));
        part[slash - name] = '\0';
        if (H5Lexists(file, part, H5P_DEFAULT) > 0) continue;
        hid_t group = H5Gcreate2(file, part, H5P_DEFAULT, creation, H5P_DEFAULT);
        ok = group >= 0 && H5Gclose(group) >= 0;
    }
    if (creation >= 0) H5Pclose(creation);
    return ok;
}

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

static int fail_writing(const char *path, const char *name, limn_error *error) {
    return limn_fail(error, "%s: cannot write '%s': the disk is full, or the name is taken", path, name);
}

hid_t h5_create_dataset(hid_t file, const char *path, const char *name, h5_layout layout, hid_t file_type, size_t rank,
                        const size_t *shape, limn_error *error) {
    hsize_t dimensions[2];
    for (size_t i = 0; i < rank; i++) dimensions[i] = shape[i];
    hid_t creation = creation_list(layout, rank, dimensions, H5Tget_size(file_type));
    hid_t space = H5Screate_simple((int)rank, dimensions, NULL);
    hid_t dataset = -1;
    if (creation >= 0 && space >= 0 && make_groups(file, name))
        dataset = H5Dcreate2(file, name, file_type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (space >= 0) H5Sclose(space);
    if (creation >= 0) H5Pclose(creation);
    if (dataset < 0) fail_writing(path, name, error);
    return dataset;
}

int h5_write(hid_t file, const char *path, const char *name, h5_layout layout, hid_t file_type, hid_t memory_type, size_t rank,
             const size_t *shape, const void *data, limn_error *error) {
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) count *= shape[i];
    hid_t dataset = h5_create_dataset(file, path, name, layout, file_type, rank, shape, error);
    if (dataset < 0) return -1;
    bool ok = count == 0 || H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    if (H5Dclose(dataset) < 0) ok = false;
    return ok ? 0 : fail_writing(path, name, error);
}

/* The elements start … start+count−1 of a dataset of rank 1, there and in memory; false when there are not so many. */
static bool select_part(hid_t dataset, size_t start, size_t count, hid_t *in_file, hid_t *in_memory) {
    hsize_t first = start, size = count;
    *in_file = H5Dget_space(dataset);
    *in_memory = H5Screate_simple(1, &size, NULL);
    return *in_file >= 0 && *in_memory >= 0 &&
           H5Sselect_hyperslab(*in_file, H5S_SELECT_SET, &first, NULL, &size, NULL) >= 0 && H5Sselect_valid(*in_file) > 0;
}

static void close_spaces(hid_t in_file, hid_t in_memory) {
    if (in_file >= 0) H5Sclose(in_file);
    if (in_memory >= 0) H5Sclose(in_memory);
}

int h5_write_part(hid_t dataset, const char *path, const char *name, hid_t memory_type, size_t start, size_t count,
                  const void *data, limn_error *error) {
    hid_t in_file, in_memory;
    bool ok = select_part(dataset, start, count, &in_file, &in_memory) &&
              H5Dwrite(dataset, memory_type, in_memory, in_file, H5P_DEFAULT, data) >= 0;
    close_spaces(in_file, in_memory);
    return ok ? 0 : fail_writing(path, name, error);
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
    hid_t access = access_list(), file = access >= 0 ? H5Fopen(path, H5F_ACC_RDONLY, access) : -1;
    if (access >= 0) H5Pclose(access);
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
    bool here = (layout == H5D_CHUNKED || layout == H5D_CONTIGUOUS) && H5Pget_external_count(list) == 0;
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

/* How a chunked dataset lies in the file. */
typedef struct {
    size_t rank, element_size;
    size_t shape[2], chunk[2]; /* the second is 1 for rank 1 */
    size_t chunk_bytes;
    unsigned shuffle_bit, deflate_bit; /* in a chunk's mask of filters that were left out; 0 when there is no such filter */
} chunk_plan;

/* Filters must be none, or shuffle, deflate, or shuffle before deflate, as h5py and we write. */
static bool plan_filters(hid_t list, chunk_plan *plan) {
    int filters = H5Pget_nfilters(list);
    for (int i = 0; i < filters; i++) {
        unsigned flags, config;
        size_t values = 0;
        H5Z_filter_t filter = H5Pget_filter2(list, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
        if (filter == H5Z_FILTER_SHUFFLE && !plan->shuffle_bit && !plan->deflate_bit)
            plan->shuffle_bit = 1u << i;
        else if (filter == H5Z_FILTER_DEFLATE && !plan->deflate_bit)
            plan->deflate_bit = 1u << i;
        else
            return false;
    }
    return filters >= 0;
}

static bool plan_chunks(hid_t dataset, hid_t list, size_t element_size, chunk_plan *plan) {
    hsize_t shape[2] = {0, 1}, chunk[2] = {0, 1};
    hid_t space = H5Dget_space(dataset);
    *plan = (chunk_plan){.element_size = element_size};
    int rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : 0;
    bool ok = (rank == 1 || rank == 2) && H5Sget_simple_extent_dims(space, shape, NULL) == rank &&
              H5Pget_chunk(list, rank, chunk) == rank;
    if (space >= 0) H5Sclose(space);
    if (!ok || !plan_filters(list, plan)) return false;
    plan->rank = (size_t)rank;
    plan->chunk_bytes = element_size;
    for (size_t i = 0; i < 2; i++) {
        plan->shape[i] = (size_t)shape[i];
        plan->chunk[i] = (size_t)chunk[i];
        if (limn_multiply(plan->chunk_bytes, plan->chunk[i], &plan->chunk_bytes, NULL)) return false;
    }
    return plan->chunk_bytes > 0 && plan->chunk_bytes <= CHUNK_BYTES_MAX;
}

/* Byte i of all elements stands together: puts them back (HDF5's shuffle filter). */
static void unshuffle(const unsigned char *from, unsigned char *to, size_t bytes, size_t element_size) {
    size_t count = bytes / element_size;
    for (size_t part = 0; part < element_size; part++)
        for (size_t i = 0; i < count; i++) to[i * element_size + part] = from[part * count + i];
}

/* Reads the chunk at `offset` into one of the two buffers, each of chunk_bytes + SLACK, which is returned; NULL when damaged.
 */
static unsigned char *read_chunk(hid_t dataset, const chunk_plan *plan, const hsize_t offset[2], unsigned char *buffers[2]) {
    hsize_t stored = 0;
    uint32_t left_out = 0;
    if (H5Dget_chunk_storage_size(dataset, offset, &stored) < 0 || stored == 0 || stored > plan->chunk_bytes + CHUNK_SLACK)
        return NULL;
    if (H5Dread_chunk(dataset, H5P_DEFAULT, offset, &left_out, buffers[0]) < 0) return NULL;
    unsigned char *now = buffers[0], *other = buffers[1];
    size_t size = (size_t)stored;
    if (plan->deflate_bit & ~left_out) {
        uLongf unpacked = plan->chunk_bytes;
        if (uncompress(other, &unpacked, now, (uLong)size) != Z_OK) return NULL;
        size = unpacked;
        now = buffers[1];
        other = buffers[0];
    }
    if (size != plan->chunk_bytes) return NULL;
    if (!(plan->shuffle_bit & ~left_out)) return now;
    unshuffle(now, other, size, plan->element_size);
    return other;
}

/* Copies the part of a chunk that lies inside the dataset to its place. */
static void place_chunk(const chunk_plan *plan, const hsize_t offset[2], const unsigned char *chunk, unsigned char *out) {
    size_t rows = plan->shape[0] - (size_t)offset[0], columns = plan->shape[1] - (size_t)offset[1];
    if (rows > plan->chunk[0]) rows = plan->chunk[0];
    if (columns > plan->chunk[1]) columns = plan->chunk[1];
    for (size_t row = 0; row < rows; row++)
        memcpy(out + (((size_t)offset[0] + row) * plan->shape[1] + (size_t)offset[1]) * plan->element_size,
               chunk + row * plan->chunk[1] * plan->element_size, columns * plan->element_size);
}

/* Reads chunk by chunk and undoes the filters here: HDF5 1.10 reads beyond what a damaged chunk unpacks to. */
static bool read_chunks(hid_t dataset, hid_t list, size_t element_size, unsigned char *out) {
    chunk_plan plan;
    if (!plan_chunks(dataset, list, element_size, &plan)) return false;
    unsigned char *buffers[2] = {limn_allocate(plan.chunk_bytes + CHUNK_SLACK, 1, NULL),
                                 limn_allocate(plan.chunk_bytes + CHUNK_SLACK, 1, NULL)};
    bool ok = buffers[0] && buffers[1];
    hsize_t offset[2];
    for (offset[0] = 0; ok && offset[0] < plan.shape[0]; offset[0] += plan.chunk[0])
        for (offset[1] = 0; ok && offset[1] < plan.shape[1]; offset[1] += plan.chunk[1]) {
            const unsigned char *chunk = read_chunk(dataset, &plan, offset, buffers);
            ok = chunk != NULL;
            if (ok) place_chunk(&plan, offset, chunk, out);
        }
    free(buffers[0]);
    free(buffers[1]);
    return ok;
}

int h5_read_and_close(hid_t dataset, const char *path, const char *name, hid_t memory_type, void *out, limn_error *error) {
    hid_t list = H5Dget_create_plist(dataset), type = H5Dget_type(dataset);
    bool ok = list >= 0 && type >= 0 && H5Tequal(type, memory_type) > 0;
    if (ok && H5Pget_layout(list) == H5D_CHUNKED)
        ok = read_chunks(dataset, list, H5Tget_size(memory_type), out);
    else if (ok)
        ok = H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0;
    if (type >= 0) H5Tclose(type);
    if (list >= 0) H5Pclose(list);
    H5Dclose(dataset);
    return ok ? 0 : limn_fail(error, "%s: '%s' cannot be read: the file is damaged or cut short; make it again", path, name);
}

int h5_read_part(hid_t dataset, const char *path, const char *name, hid_t memory_type, size_t start, size_t count, void *out,
                 limn_error *error) {
    hid_t in_file = -1, in_memory = -1, list = H5Dget_create_plist(dataset), type = H5Dget_type(dataset);
    bool ok = list >= 0 && type >= 0 && H5Pget_layout(list) == H5D_CONTIGUOUS && H5Tequal(type, memory_type) > 0 &&
              select_part(dataset, start, count, &in_file, &in_memory) &&
              H5Dread(dataset, memory_type, in_memory, in_file, H5P_DEFAULT, out) >= 0;
    close_spaces(in_file, in_memory);
    if (type >= 0) H5Tclose(type);
    if (list >= 0) H5Pclose(list);
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
