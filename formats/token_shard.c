/* Token shards: what DESIGN's "Token shards" fixes, in HDF5. */
#include "formats/h5.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENGTH_MAX = 1 << 16,
    CODEBOOK_MAX = 1 << 16,
    IMAGE_SIZE_MAX = 1 << 16,
    COLUMNS_MAX = 1024,
    COLUMN_NAME_MAX = 200,
    SHA_BYTES = 64,
    PRECISION_BYTES = 16
};
static const char USUAL_PRECISION[] = "fp32"; /* not written, so that such shards are what they were before others existed */

/* ---------------------------------------------------------------- checks, for both directions */

static int check_offsets(const char *path, const char *name, const uint64_t *offsets, size_t count, size_t bytes,
                         limn_error *error) {
    if (offsets[0] != 0) return limn_fail(error, "%s: %s do not begin at 0", path, name);
    for (size_t i = 0; i < count; i++)
        if (offsets[i + 1] < offsets[i]) return limn_fail(error, "%s: %s go backwards at row %zu", path, name, i);
    if (offsets[count] != bytes)
        return limn_fail(error, "%s: %s end at %llu but there are %zu bytes", path, name, (unsigned long long)offsets[count],
                         bytes);
    return 0;
}

static int check_sizes(const char *path, const token_shard *shard, limn_error *error) {
    if (shard->length < 1 || shard->length > LENGTH_MAX)
        return limn_fail(error, "%s: %zu tokens a picture; from 1 to %d are possible", path, shard->length, LENGTH_MAX);
    if (shard->codebook_size < 1 || shard->codebook_size > CODEBOOK_MAX)
        return limn_fail(error, "%s: a codebook of %zu; from 1 to %d is possible", path, shard->codebook_size, CODEBOOK_MAX);
    if (shard->image_size < 1 || shard->image_size > IMAGE_SIZE_MAX)
        return limn_fail(error, "%s: pictures of %zu pixels; from 1 to %d are possible", path, shard->image_size,
                         IMAGE_SIZE_MAX);
    if (shard->count > UINT32_MAX) return limn_fail(error, "%s: %zu pictures are too many for one shard", path, shard->count);
    if (shard->columns > COLUMNS_MAX) return limn_fail(error, "%s: more than %d columns", path, COLUMNS_MAX);
    return 0;
}

static int check_rows(const char *path, const token_shard *shard, limn_error *error) {
    for (size_t i = 0; i < shard->captions; i++)
        if (shard->caption_row[i] >= shard->count)
            return limn_fail(error, "%s: caption %zu belongs to picture %u of %zu", path, i, shard->caption_row[i],
                             shard->count);
    return 0;
}

static int check_values(const char *path, const token_shard *shard, limn_error *error) {
    for (size_t i = 0; i < shard->count * shard->length; i++)
        if (shard->tokens[i] >= shard->codebook_size)
            return limn_fail(error,
                             "%s: picture %zu has token %u, but the codebook has %zu; the shard is damaged or of another VQGAN",
                             path, i / shard->length, shard->tokens[i], shard->codebook_size);
    return check_rows(path, shard, error);
}

/* ---------------------------------------------------------------- writing */

/* An attribute of `size` bytes of text, padded with zeros. */
static int write_text(hid_t file, const char *path, const char *name, const char *text, size_t size, limn_error *error) {
    char padded[SHA_BYTES] = {0};
    memcpy(padded, text, strnlen(text, size));
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR), attribute = -1;
    bool ok = type >= 0 && space >= 0 && H5Tset_size(type, size) >= 0 && H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0;
    if (ok) attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    ok = attribute >= 0 && H5Awrite(attribute, type, padded) >= 0;
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return ok ? 0 : limn_fail(error, "%s: cannot write '%s'", path, name);
}

static int write_precision(hid_t file, const char *path, const char *precision, limn_error *error) {
    if (!*precision || strcmp(precision, USUAL_PRECISION) == 0) return 0;
    return write_text(file, path, "precision", precision, PRECISION_BYTES, error);
}

static int write_columns(hid_t file, const char *path, const token_shard *shard, limn_error *error) {
    for (size_t i = 0; i < shard->columns; i++) {
        const char *column = shard->column_names[i];
        char name[COLUMN_NAME_MAX + 16];
        if (!*column || strlen(column) > COLUMN_NAME_MAX || strchr(column, '/') || column[0] == '.')
            return limn_fail(error, "%s: '%s' cannot be the name of a column", path, column);
        snprintf(name, sizeof name, "columns/%s", column);
        if (h5_write(file, path, name, H5_COMPRESSED, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &shard->count,
                     shard->column_values[i], error))
            return -1;
    }
    return 0;
}

static int write_all(hid_t file, const char *path, const token_shard *shard, limn_error *error) {
    const size_t tokens_shape[2] = {shard->count, shard->length};
    const size_t caption_bytes = (size_t)shard->caption_offsets[shard->captions],
                 key_bytes = (size_t)shard->key_offsets[shard->count];
    const size_t caption_ends = shard->captions + 1, key_ends = shard->count + 1;
    return h5_write_u64(file, path, "format_version", TOKEN_SHARD_VERSION, error) ||
                   h5_write_u64(file, path, "image_size", shard->image_size, error) ||
                   h5_write_u64(file, path, "codebook_size", shard->codebook_size, error) ||
                   h5_write_u64(file, path, "count", shard->count, error) ||
                   write_text(file, path, "vqgan_sha256", shard->vqgan_sha256, SHA_BYTES, error) ||
                   write_precision(file, path, shard->precision, error) ||
                   h5_write(file, path, "tokens", H5_COMPRESSED, H5T_STD_U16LE, H5T_NATIVE_UINT16, 2, tokens_shape,
                            shard->tokens, error) ||
                   h5_write(file, path, "caption_bytes", H5_COMPRESSED, H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &caption_bytes,
                            shard->caption_bytes, error) ||
                   h5_write(file, path, "caption_offsets", H5_COMPRESSED, H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &caption_ends,
                            shard->caption_offsets, error) ||
                   h5_write(file, path, "caption_row", H5_COMPRESSED, H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &shard->captions,
                            shard->caption_row, error) ||
                   h5_write(file, path, "key_bytes", H5_COMPRESSED, H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, &key_bytes,
                            shard->key_bytes, error) ||
                   h5_write(file, path, "key_offsets", H5_COMPRESSED, H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &key_ends,
                            shard->key_offsets, error) ||
                   write_columns(file, path, shard, error)
               ? -1
               : 0;
}

int token_shard_write(const char *path, const token_shard *shard, limn_error *error) {
    if (check_sizes(path, shard, error) || check_values(path, shard, error) ||
        check_offsets(path, "caption_offsets", shard->caption_offsets, shard->captions,
                      (size_t)shard->caption_offsets[shard->captions], error) ||
        check_offsets(path, "key_offsets", shard->key_offsets, shard->count, (size_t)shard->key_offsets[shard->count], error))
        return -1;
    limn_atomic_file atomic;
    if (limn_atomic_name(&atomic, path, error)) return -1;
    h5_begin();
    hid_t file = h5_create(atomic.temporary);
    int failed = file < 0 ? 0 : write_all(file, path, shard, error);
    return h5_publish(file, &atomic, failed, error);
}

/* ---------------------------------------------------------------- reading */

/* A text of at most `size` bytes and its NUL. */
static int read_text(hid_t file, const char *path, const char *name, char *out, size_t size, limn_error *error) {
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    if (attribute < 0) return limn_fail(error, "%s: has no '%s'; is it a token shard?", path, name);
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
              H5Tget_size(type) <= size && H5Sget_simple_extent_npoints(space) == 1;
    memset(out, 0, size + 1);
    if (ok) ok = H5Aread(attribute, type, out) >= 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return ok ? 0 : limn_fail(error, "%s: '%s' is not a text of at most %zu bytes", path, name, size);
}

static int read_precision(hid_t file, const char *path, char out[PRECISION_BYTES + 1], limn_error *error) {
    if (H5Aexists(file, "precision") > 0) return read_text(file, path, "precision", out, PRECISION_BYTES, error);
    memcpy(out, USUAL_PRECISION, sizeof USUAL_PRECISION);
    return 0;
}

static int read_size(hid_t file, const char *path, const char *name, size_t *out, limn_error *error) {
    uint64_t value;
    if (h5_read_u64(file, path, name, &value, error)) return -1;
    *out = (size_t)value;
    return 0;
}

/* The shape of a dataset, without reading it. */
static int measure(hid_t file, const char *path, const char *name, H5T_class_t type_class, size_t element_size, size_t rank,
                   size_t *out_shape, limn_error *error) {
    hid_t dataset = h5_open_dataset(file, path, name, type_class, element_size, rank, out_shape, error);
    if (dataset < 0) return -1;
    H5Dclose(dataset);
    return 0;
}

static int count_columns(hid_t file, const char *path, size_t *out, limn_error *error) {
    *out = 0;
    if (H5Lexists(file, "columns", H5P_DEFAULT) <= 0) return 0;
    hid_t group = h5_is_inside(file, "columns") ? H5Gopen2(file, "columns", H5P_DEFAULT) : -1;
    H5G_info_t info;
    bool ok = group >= 0 && H5Gget_info(group, &info) >= 0;
    if (group >= 0) H5Gclose(group);
    if (!ok || info.nlinks > COLUMNS_MAX)
        return limn_fail(error, "%s: 'columns' is damaged or holds more than %d", path, COLUMNS_MAX);
    *out = (size_t)info.nlinks;
    return 0;
}

static int read_header(hid_t file, const char *path, token_shard *shard, limn_error *error) {
    uint64_t version;
    size_t count, shape[2];
    if (h5_read_u64(file, path, "format_version", &version, error)) return -1;
    if (version != TOKEN_SHARD_VERSION)
        return limn_fail(error, "%s: format version %llu, but this program reads %d; make the shard again", path,
                         (unsigned long long)version, TOKEN_SHARD_VERSION);
    if (read_size(file, path, "image_size", &shard->image_size, error) ||
        read_size(file, path, "codebook_size", &shard->codebook_size, error) || read_size(file, path, "count", &count, error) ||
        read_text(file, path, "vqgan_sha256", shard->vqgan_sha256, SHA_BYTES, error) ||
        read_precision(file, path, shard->precision, error) || measure(file, path, "tokens", H5T_INTEGER, 2, 2, shape, error))
        return -1;
    shard->count = shape[0];
    shard->length = shape[1];
    if (count != shard->count)
        return limn_fail(error, "%s: 'count' says %zu pictures, 'tokens' holds %zu; make the shard again", path, count,
                         shard->count);
    if (measure(file, path, "caption_row", H5T_INTEGER, 4, 1, &shard->captions, error) ||
        count_columns(file, path, &shard->columns, error))
        return -1;
    return check_sizes(path, shard, error);
}

/* Reads a dataset of one dimension into newly allocated memory. When `expected` is not SIZE_MAX its size must be that. */
static void *read_array(hid_t file, const char *path, const char *name, size_t element_size, hid_t memory_type, size_t expected,
                        size_t *out_count, limn_error *error) {
    size_t count;
    hid_t dataset = h5_open_dataset(file, path, name, H5T_INTEGER, element_size, 1, &count, error);
    if (dataset < 0) return NULL;
    void *out = NULL;
    if (expected != SIZE_MAX && count != expected)
        limn_fail(error, "%s: '%s' has %zu entries instead of %zu; make the shard again", path, name, count, expected);
    else
        out = limn_allocate(count, element_size, error);
    if (!out) {
        H5Dclose(dataset);
        return NULL;
    }
    if (out_count) *out_count = count;
    if (h5_read_and_close(dataset, path, name, memory_type, out, error) == 0) return out;
    free(out);
    return NULL;
}

static int read_tokens(hid_t file, const char *path, token_shard *shard, limn_error *error) {
    size_t shape[2], count;
    hid_t dataset = h5_open_dataset(file, path, "tokens", H5T_INTEGER, 2, 2, shape, error);
    if (dataset < 0) return -1;
    shard->tokens =
        limn_multiply(shape[0], shape[1], &count, error) ? NULL : limn_allocate(count, sizeof *shard->tokens, error);
    if (!shard->tokens) {
        H5Dclose(dataset);
        return -1;
    }
    return h5_read_and_close(dataset, path, "tokens", H5T_NATIVE_UINT16, shard->tokens, error);
}

static int read_column(hid_t file, const char *path, token_shard *shard, size_t index, limn_error *error) {
    char column[COLUMN_NAME_MAX + 1], name[COLUMN_NAME_MAX + 16];
    ssize_t length = H5Lget_name_by_idx(file, "columns", H5_INDEX_NAME, H5_ITER_INC, index, column, sizeof column, H5P_DEFAULT);
    if (length <= 0 || length > COLUMN_NAME_MAX) return limn_fail(error, "%s: a column's name is damaged or too long", path);
    snprintf(name, sizeof name, "columns/%s", column);
    size_t count;
    hid_t dataset = h5_open_dataset(file, path, name, H5T_FLOAT, sizeof(float), 1, &count, error);
    if (dataset < 0) return -1;
    shard->column_names[index] = strdup(column);
    shard->column_values[index] = count == shard->count ? limn_allocate(count, sizeof(float), error) : NULL;
    if (count != shard->count) limn_fail(error, "%s: '%s' has %zu entries for %zu pictures", path, name, count, shard->count);
    if (!shard->column_names[index] || !shard->column_values[index]) {
        H5Dclose(dataset);
        return -1;
    }
    return h5_read_and_close(dataset, path, name, H5T_NATIVE_FLOAT, shard->column_values[index], error);
}

static int read_columns(hid_t file, const char *path, token_shard *shard, limn_error *error) {
    if (shard->columns == 0) return 0;
    shard->column_names = limn_allocate(shard->columns, sizeof *shard->column_names, error);
    shard->column_values = limn_allocate(shard->columns, sizeof *shard->column_values, error);
    if (!shard->column_names || !shard->column_values) return -1;
    for (size_t i = 0; i < shard->columns; i++)
        if (read_column(file, path, shard, i, error)) return -1;
    return 0;
}

static int read_rows(hid_t file, const char *path, token_shard *shard, limn_error *error) {
    shard->caption_row = read_array(file, path, "caption_row", 4, H5T_NATIVE_UINT32, shard->captions, NULL, error);
    return shard->caption_row ? 0 : -1;
}

static int read_few_arrays(hid_t file, const char *path, token_shard *shard, limn_error *error) {
    return read_rows(file, path, shard, error) || read_columns(file, path, shard, error) || check_rows(path, shard, error) ? -1
                                                                                                                          : 0;
}

static int read_arrays(hid_t file, const char *path, token_shard *shard, limn_error *error) {
    size_t caption_bytes, key_bytes;
    if (read_tokens(file, path, shard, error)) return -1;
    shard->caption_bytes = read_array(file, path, "caption_bytes", 1, H5T_NATIVE_UINT8, SIZE_MAX, &caption_bytes, error);
    if (!shard->caption_bytes) return -1;
    shard->caption_offsets = read_array(file, path, "caption_offsets", 8, H5T_NATIVE_UINT64, shard->captions + 1, NULL, error);
    if (!shard->caption_offsets) return -1;
    if (read_rows(file, path, shard, error)) return -1;
    shard->key_bytes = read_array(file, path, "key_bytes", 1, H5T_NATIVE_UINT8, SIZE_MAX, &key_bytes, error);
    if (!shard->key_bytes) return -1;
    shard->key_offsets = read_array(file, path, "key_offsets", 8, H5T_NATIVE_UINT64, shard->count + 1, NULL, error);
    if (!shard->key_offsets || read_columns(file, path, shard, error)) return -1;
    return check_values(path, shard, error) ||
                   check_offsets(path, "caption_offsets", shard->caption_offsets, shard->captions, caption_bytes, error) ||
                   check_offsets(path, "key_offsets", shard->key_offsets, shard->count, key_bytes, error)
               ? -1
               : 0;
}

static int read_shard(const char *path, token_shard *shard,
                      int (*arrays)(hid_t file, const char *path, token_shard *shard, limn_error *error), limn_error *error) {
    memset(shard, 0, sizeof *shard);
    h5_begin();
    hid_t file = h5_open(path, error);
    int failed = file < 0 ? -1 : read_header(file, path, shard, error);
    if (!failed && arrays) failed = arrays(file, path, shard, error);
    if (file >= 0) H5Fclose(file);
    h5_end();
    if (failed) token_shard_free(shard);
    return failed;
}

int token_shard_read(const char *path, token_shard *shard, limn_error *error) {
    return read_shard(path, shard, read_arrays, error);
}

int token_shard_read_header(const char *path, token_shard *shard, limn_error *error) {
    return read_shard(path, shard, NULL, error);
}

int token_shard_read_columns(const char *path, token_shard *shard, limn_error *error) {
    return read_shard(path, shard, read_few_arrays, error);
}

void token_shard_free(token_shard *shard) {
    for (size_t i = 0; i < shard->columns; i++) {
        if (shard->column_names) free(shard->column_names[i]);
        if (shard->column_values) free(shard->column_values[i]);
    }
    free(shard->column_names);
    free(shard->column_values);
    free(shard->tokens);
    free(shard->caption_bytes);
    free(shard->caption_offsets);
    free(shard->caption_row);
    free(shard->key_bytes);
    free(shard->key_offsets);
    memset(shard, 0, sizeof *shard);
}
