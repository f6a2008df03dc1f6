/* Token shards. The metadata of a shard has checksums, so that mutated bytes say little about what lies behind them: input that
 * does not begin as an HDF5 file is a recipe, from which the library makes a file that is sound as HDF5 and wrong as a shard.
 */
#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- recipes */

typedef struct {
    const unsigned char *at, *end;
} recipe;

/* The next byte; 0, which stands for what is right, after the last. */
static unsigned take(recipe *self) {
    return self->at < self->end ? *self->at++ : 0;
}

enum { RIGHT_TYPE, TYPES = 12 };

/* A type of one's own (to be closed), or one of the library's. */
static hid_t other_type(unsigned choice, hid_t right, bool *owned) {
    *owned = choice == 1 || choice == 2 || choice == 11;
    hid_t type;
    switch (choice % TYPES) {
    case 1: /* text of any length */
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        return type;
    case 2: /* long text */
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, 200);
        return type;
    case 3:
        return H5T_STD_I8LE;
    case 4:
        return H5T_STD_U16BE;
    case 5:
        return H5T_IEEE_F64LE;
    case 6:
        return H5T_IEEE_F32BE;
    case 7:
        return H5T_STD_REF_OBJ;
    case 8:
        return H5T_STD_U8LE;
    case 9:
        return H5T_STD_B32LE;
    case 10:
        return H5T_STD_I64BE;
    case 11:
        type = H5Tcreate(H5T_COMPOUND, 12);
        H5Tinsert(type, "a", 0, H5T_STD_U64LE);
        H5Tinsert(type, "b", 8, H5T_STD_U32LE);
        return type;
    default:
        *owned = false;
        return right;
    }
}

/* A space of `rank` sizes, or as the next byte has it another one. */
static hid_t make_space(recipe *self, int rank, const hsize_t *sizes) {
    hsize_t other[4] = {take(self) % 5, 1 + take(self) % 3, 2, 1};
    switch (take(self) % 8) {
    case 1:
        return H5Screate(H5S_NULL);
    case 2:
        return H5Screate(H5S_SCALAR);
    case 3:
        return H5Screate_simple(1, other, NULL);
    case 4:
        return H5Screate_simple(2, other, NULL);
    case 5:
        return H5Screate_simple(4, other, NULL);
    default:
        return H5Screate_simple(rank, sizes, NULL);
    }
}

/* Enough for any type and space above, filled from the recipe where it says so. */
static void *make_data(recipe *self, const void *right, size_t size) {
    static unsigned char data[1 << 14];
    memset(data, 0, sizeof data);
    memcpy(data, right, size);
    for (unsigned changes = take(self) % 5; changes > 0; changes--) data[take(self) % (size + 1)] = (unsigned char)take(self);
    return data;
}

static void put_attribute(recipe *self, hid_t file, const char *name, hid_t right_type, const void *right, size_t size) {
    unsigned choice = take(self);
    bool owned;
    if (choice == 255) return; /* is missing */
    hid_t type = other_type(choice, right_type, &owned);
    hsize_t one = 1;
    hid_t space = choice < TYPES ? make_space(self, 1, &one) : H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0 && H5Tis_variable_str(type) <= 0) H5Awrite(attribute, type, make_data(self, right, size));
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    if (owned) H5Tclose(type);
}

static hid_t make_storage(recipe *self, int rank, const hsize_t *sizes) {
    hid_t storage = H5Pcreate(H5P_DATASET_CREATE);
    unsigned choice = take(self) % 8;
    hsize_t chunk[2] = {1 + take(self) % 4, 1 + take(self) % 4};
    for (int i = 0; i < rank; i++)
        if (chunk[i] > sizes[i] && sizes[i]) chunk[i] = sizes[i];
    if (choice == 1) {
        H5Pset_layout(storage, H5D_COMPACT);
    } else if (choice > 2) {
        H5Pset_chunk(storage, rank, chunk);
        if (choice > 3) H5Pset_deflate(storage, 1);
        if (choice == 5) H5Pset_shuffle(storage);
        if (choice == 6) H5Pset_fletcher32(storage);
    }
    return storage;
}

static void put_dataset(recipe *self, hid_t file, const char *name, hid_t right_type, int rank, const hsize_t *sizes,
                        const void *right, size_t size) {
    unsigned choice = take(self);
    bool owned;
    if (choice == 255) return;
    if (choice == 254) { /* a group in its place */
        H5Gclose(H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        return;
    }
    if (choice == 253) { /* a link to nowhere */
        H5Lcreate_soft("/nowhere", file, name, H5P_DEFAULT, H5P_DEFAULT);
        return;
    }
    hid_t type = other_type(choice, right_type, &owned), space = make_space(self, rank, sizes);
    int found = H5Sget_simple_extent_ndims(space);
    hid_t storage = found == rank ? make_storage(self, rank, sizes) : H5Pcreate(H5P_DATASET_CREATE);
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, storage, H5P_DEFAULT);
    if (dataset < 0) dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (dataset >= 0 && H5Tis_variable_str(type) <= 0 && H5Tequal(type, H5T_STD_REF_OBJ) <= 0)
        H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, make_data(self, right, size));
    if (dataset >= 0) H5Dclose(dataset);
    H5Pclose(storage);
    H5Sclose(space);
    if (owned) H5Tclose(type);
}

/* The file's bytes; free() them. */
static char *make_file(recipe *self, size_t *size) {
    static const uint64_t version = 1, image_size = 32, codebook = 6, count = 2;
    static const uint16_t tokens[] = {1, 2, 3, 4, 5, 0, 1, 2};
    static const uint64_t caption_offsets[] = {0, 3, 6}, key_offsets[] = {0, 2, 4};
    static const uint32_t rows[] = {0, 1};
    static const float scores[] = {1, 2};
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), hash = H5Tcopy(H5T_C_S1);
    H5Tset_size(hash, 64);
    H5Pset_fapl_core(access, 1 << 14, false);
    if (take(self) % 4) H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    hid_t file = H5Fcreate("recipe", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    put_attribute(self, file, "format_version", H5T_STD_U64LE, &version, 8);
    put_attribute(self, file, "image_size", H5T_STD_U64LE, &image_size, 8);
    put_attribute(self, file, "codebook_size", H5T_STD_U64LE, &codebook, 8);
    put_attribute(self, file, "count", H5T_STD_U64LE, &count, 8);
    put_attribute(self, file, "vqgan_sha256", hash, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 64);
    put_dataset(self, file, "tokens", H5T_STD_U16LE, 2, (hsize_t[]){2, 4}, tokens, sizeof tokens);
    put_dataset(self, file, "caption_bytes", H5T_STD_U8LE, 1, (hsize_t[]){6}, "catdog", 6);
    put_dataset(self, file, "caption_offsets", H5T_STD_U64LE, 1, (hsize_t[]){3}, caption_offsets, sizeof caption_offsets);
    put_dataset(self, file, "caption_row", H5T_STD_U32LE, 1, (hsize_t[]){2}, rows, sizeof rows);
    put_dataset(self, file, "key_bytes", H5T_STD_U8LE, 1, (hsize_t[]){4}, "k1k2", 4);
    put_dataset(self, file, "key_offsets", H5T_STD_U64LE, 1, (hsize_t[]){3}, key_offsets, sizeof key_offsets);
    if (take(self) % 2) {
        H5Gclose(H5Gcreate2(file, "columns", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        put_dataset(self, file, "columns/score", H5T_IEEE_F32LE, 1, (hsize_t[]){2}, scores, sizeof scores);
        if (take(self) % 2) put_dataset(self, file, "columns/other", H5T_IEEE_F32LE, 1, (hsize_t[]){2}, scores, sizeof scores);
    }
    if (take(self) % 2) {
        hid_t text = H5Tcopy(H5T_C_S1);
        H5Tset_size(text, 16);
        put_attribute(self, file, "precision", text, "bf16\0\0\0\0\0\0\0\0\0\0\0", 16);
        H5Tclose(text);
    }
    H5Fflush(file, H5F_SCOPE_GLOBAL);
    ssize_t bytes = H5Fget_file_image(file, NULL, 0);
    char *image = bytes > 0 ? malloc((size_t)bytes) : NULL;
    *size = image && H5Fget_file_image(file, image, (size_t)bytes) == bytes ? (size_t)bytes : 0;
    H5Fclose(file);
    H5Tclose(hash);
    H5Pclose(access);
    return image;
}

/* ---------------------------------------------------------------- */

/* The right shard as a recipe that changes nothing, one that makes columns, one of the old form, and as bytes. */
static bool make_seed(size_t index, limn_buffer *out) {
    static const unsigned char recipes[][64] = {{1}, {1, [20] = 3, [40] = 1, [60] = 1}, {0}};
    if (index < 3) return limn_buffer_append(out, recipes[index], sizeof recipes[index], NULL) == 0;
    if (index > 3) return false;
    size_t size;
    recipe right = {recipes[0], recipes[0] + 1};
    char *bytes = make_file(&right, &size);
    bool made = bytes && size && limn_buffer_append(out, bytes, size, NULL) == 0;
    free(bytes);
    return made;
}

/* What the reader promises of the columns that it took. */
static const char *check_columns(const token_shard *shard) {
    for (size_t i = 0; i < shard->captions; i++)
        if (shard->caption_row[i] >= shard->count) return "a caption of no picture among the columns";
    volatile float score = 0;
    for (size_t i = 0; i < shard->columns; i++)
        if (shard->count) score = shard->column_values[i][shard->count - 1];
    (void)score;
    return NULL;
}

/* What the reader promises of a shard that it took. */
static const char *check(const token_shard *shard) {
    for (size_t i = 0; i < shard->count * shard->length; i++)
        if (shard->tokens[i] >= shard->codebook_size) return "a token outside the codebook";
    for (size_t i = 0; i < shard->captions; i++)
        if (shard->caption_offsets[i] > shard->caption_offsets[i + 1]) return "caption offsets go backwards";
    volatile unsigned char last = 0;
    if (shard->caption_offsets[shard->captions]) last = shard->caption_bytes[shard->caption_offsets[shard->captions] - 1];
    if (shard->key_offsets[shard->count]) last = shard->key_bytes[shard->key_offsets[shard->count] - 1];
    (void)last;
    return check_columns(shard);
}

static const char *read_shard(const char *data, size_t size) {
    limn_error error = {0};
    token_shard shard;
    const char *path = fuzz_file("input.h5", data, size);
    if (token_shard_read_header(path, &shard, &error)) return fuzz_check_error(&error);
    token_shard_free(&shard);
    token_shard few;
    limn_error why = {0};
    int refused = token_shard_read_columns(path, &few, &why);
    const char *complaint = refused ? fuzz_check_error(&why) : check_columns(&few);
    if (complaint || token_shard_read(path, &shard, &error)) {
        token_shard_free(&few);
        return complaint ? complaint : fuzz_check_error(&error);
    }
    complaint = refused ? "the columns are refused, the whole is taken" : check(&shard);
    if (!complaint && (few.captions != shard.captions || few.columns != shard.columns)) complaint = "other columns in the whole";
    token_shard_free(&few);
    token_shard_free(&shard);
    return complaint;
}

static const char *target(const char *data, size_t size) {
    if (size >= 4 && memcmp(data, "\x89HDF", 4) == 0) return read_shard(data, size);
    recipe self = {(const unsigned char *)data, (const unsigned char *)data + size};
    char *bytes = make_file(&self, &size);
    const char *complaint = bytes ? read_shard(bytes, size) : NULL;
    free(bytes);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
