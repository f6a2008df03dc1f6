/* Token shards and training state: round trips, same bytes, and files that were cut or lie. */
#include "formats/formats.h"
#include "tests/scratch.h"

#include <hdf5.h>
#include <math.h>
#include <sys/wait.h>

enum { N = 5, L = 4, M = 3 };

typedef struct {
    uint16_t tokens[N * L];
    uint64_t caption_offsets[M + 1], key_offsets[N + 1];
    uint32_t caption_row[M];
    float scores[N], widths[N];
    char *names[2];
    float *values[2];
    token_shard shard;
} example;

/* Filled in place: the shard points into the rest. */
static void make_example(example *self) {
    memset(self, 0, sizeof *self);
    for (size_t i = 0; i < N * L; i++) self->tokens[i] = (uint16_t)(i * 13 % 100);
    for (size_t i = 0; i <= M; i++) self->caption_offsets[i] = i * 2;
    for (size_t i = 0; i <= N; i++) self->key_offsets[i] = i;
    for (size_t i = 0; i < N; i++) {
        self->scores[i] = (float)i / 3;
        self->widths[i] = NAN;
    }
    self->caption_row[1] = 2;
    self->caption_row[2] = N - 1;
    self->names[0] = "score";
    self->names[1] = "width";
    self->values[0] = self->scores;
    self->values[1] = self->widths;
    self->shard = (token_shard){.count = N,
                                .length = L,
                                .tokens = self->tokens,
                                .captions = M,
                                .caption_bytes = (unsigned char *)"abcdef",
                                .caption_offsets = self->caption_offsets,
                                .caption_row = self->caption_row,
                                .key_bytes = (unsigned char *)"12345",
                                .key_offsets = self->key_offsets,
                                .columns = 2,
                                .column_names = self->names,
                                .column_values = self->values,
                                .image_size = 64,
                                .codebook_size = 100};
    limn_sha256("", 0, self->shard.vqgan_sha256);
}

static const char *write_example(const char *name) {
    example self;
    limn_error error = {0};
    const char *path = scratch_path(name);
    make_example(&self);
    if (token_shard_write(path, &self.shard, &error)) fail_msg("%s", error.message);
    return path;
}

static void test_round_trip(void **state) {
    (void)state;
    limn_error error = {0};
    example expected;
    token_shard got;
    make_example(&expected);
    const char *path = write_example("a.h5");
    if (token_shard_read(path, &got, &error)) fail_msg("%s", error.message);
    assert_int_equal(got.count, N);
    assert_int_equal(got.length, L);
    assert_int_equal(got.captions, M);
    assert_int_equal(got.image_size, 64);
    assert_int_equal(got.codebook_size, 100);
    assert_string_equal(got.vqgan_sha256, expected.shard.vqgan_sha256);
    assert_memory_equal(got.tokens, expected.tokens, sizeof expected.tokens);
    assert_memory_equal(got.caption_bytes, "abcdef", 6);
    assert_memory_equal(got.caption_offsets, expected.caption_offsets, sizeof expected.caption_offsets);
    assert_memory_equal(got.caption_row, expected.caption_row, sizeof expected.caption_row);
    assert_memory_equal(got.key_bytes, "12345", 5);
    assert_memory_equal(got.key_offsets, expected.key_offsets, sizeof expected.key_offsets);
    assert_int_equal(got.columns, 2);
    assert_string_equal(got.column_names[0], "score");
    assert_string_equal(got.column_names[1], "width");
    assert_memory_equal(got.column_values[0], expected.scores, sizeof expected.scores);
    assert_true(isnan(got.column_values[1][0]));
    token_shard_free(&got);
    if (token_shard_read_header(path, &got, &error)) fail_msg("%s", error.message);
    assert_int_equal(got.count, N);
    assert_int_equal(got.captions, M);
    assert_int_equal(got.columns, 2);
    assert_null(got.tokens);
    assert_null(got.column_names);
    token_shard_free(&got);
    token_shard_free(&got);
}

/* What a choice of pictures needs, and no more. */
static void test_columns_alone(void **state) {
    (void)state;
    limn_error error = {0};
    example expected;
    token_shard got;
    make_example(&expected);
    if (token_shard_read_columns(write_example("columns.h5"), &got, &error)) fail_msg("%s", error.message);
    assert_int_equal(got.count, N);
    assert_int_equal(got.captions, M);
    assert_memory_equal(got.caption_row, expected.caption_row, sizeof expected.caption_row);
    assert_int_equal(got.columns, 2);
    assert_string_equal(got.column_names[1], "width");
    assert_memory_equal(got.column_values[0], expected.scores, sizeof expected.scores);
    assert_null(got.tokens);
    assert_null(got.caption_bytes);
    assert_null(got.key_bytes);
    token_shard_free(&got);
}

/* "fp32" is what a shard without the attribute says, and leaves no trace in the file. */
static void test_precision(void **state) {
    (void)state;
    static const char *const given[] = {"", "fp32", "bf16"}, *const read[] = {"fp32", "fp32", "bf16"};
    const char *const paths[] = {scratch_path("p0.h5"), scratch_path("p1.h5"), scratch_path("p2.h5")};
    for (size_t i = 0; i < 3; i++) {
        limn_error error = {0};
        example self;
        token_shard got;
        make_example(&self);
        snprintf(self.shard.precision, sizeof self.shard.precision, "%s", given[i]);
        if (token_shard_write(paths[i], &self.shard, &error)) fail_msg("%s", error.message);
        if (token_shard_read_header(paths[i], &got, &error)) fail_msg("%s", error.message);
        assert_string_equal(got.precision, read[i]);
        token_shard_free(&got);
    }
    assert_same_file(paths[0], paths[1]);
    assert_false(same_bytes(paths[0], paths[2]));
}

static void test_empty_shard(void **state) {
    (void)state;
    limn_error error = {0};
    uint64_t zero = 0;
    token_shard empty = {.length = 16, .caption_offsets = &zero, .key_offsets = &zero, .image_size = 8, .codebook_size = 2},
                got;
    if (token_shard_write(scratch_path("empty.h5"), &empty, &error)) fail_msg("%s", error.message);
    if (token_shard_read(scratch_path("empty.h5"), &got, &error)) fail_msg("%s", error.message);
    assert_int_equal(got.count, 0);
    assert_int_equal(got.length, 16);
    assert_string_equal(got.vqgan_sha256, "");
    token_shard_free(&got);
}

/* More than one chunk, and compressed. */
static void test_large_shard(void **state) {
    (void)state;
    enum { PICTURES = 3000, TOKENS = 256 };
    limn_error error = {0};
    token_shard big = {.count = PICTURES, .length = TOKENS, .image_size = 256, .codebook_size = 16384}, got;
    uint64_t *offsets = calloc(PICTURES + 1, sizeof *offsets), none = 0;
    big.tokens = calloc((size_t)PICTURES * TOKENS, sizeof *big.tokens);
    for (size_t i = 0; i < (size_t)PICTURES * TOKENS; i++) big.tokens[i] = (uint16_t)(i % 400);
    big.key_offsets = offsets;
    big.caption_offsets = &none;
    if (token_shard_write(scratch_path("big.h5"), &big, &error)) fail_msg("%s", error.message);
    if (token_shard_read(scratch_path("big.h5"), &got, &error)) fail_msg("%s", error.message);
    assert_memory_equal(got.tokens, big.tokens, (size_t)PICTURES * TOKENS * 2);
    token_shard_free(&got);
    limn_mapping mapping;
    limn_map(&mapping, scratch_path("big.h5"), &error);
    assert_true(mapping.size < (size_t)PICTURES * TOKENS);
    limn_unmap(&mapping);
    free(big.tokens);
    free(offsets);
}

static void test_same_bytes(void **state) {
    (void)state;
    const char *first = write_example("one.h5");
    sleep(1);
    assert_same_file(first, write_example("two.h5"));
}

/* What token_shard_write refuses to write. */
static void test_bad_shards_are_not_written(void **state) {
    (void)state;
    example self;
    limn_error error = {0};
#define REFUSED(change, part)                                                                                                  \
    do {                                                                                                                       \
        make_example(&self);                                                                                                   \
        change;                                                                                                                \
        assert_int_equal(token_shard_write(scratch_path("bad.h5"), &self.shard, &error), -1);                                  \
        assert_contains(error.message, part);                                                                                  \
        assert_false(limn_file_exists(scratch_path("bad.h5")));                                                                \
    } while (0)
    REFUSED(self.tokens[7] = 100, "picture 1 has token 100, but the codebook has 100");
    REFUSED(self.caption_row[1] = N, "caption 1 belongs to picture 5 of 5");
    REFUSED(self.caption_offsets[0] = 1, "caption_offsets do not begin at 0");
    REFUSED(self.key_offsets[2] = 0, "key_offsets go backwards at row 1");
    REFUSED(self.shard.length = 0, "0 tokens a picture");
    REFUSED(self.shard.codebook_size = 65537, "a codebook of 65537");
    REFUSED(self.shard.image_size = 0, "pictures of 0 pixels");
    REFUSED(self.names[1] = "a/b", "'a/b' cannot be the name of a column");
    REFUSED(self.names[1] = "score", "the name is taken");
#undef REFUSED
}

/* Opens a written example with HDF5 itself, lets `change` spoil it, and expects these words from the reader. */
static void spoil(void (*change)(hid_t file), const char *part) {
    const char *path = write_example("spoilt.h5");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    change(file);
    H5Fclose(file);
    limn_error error = {0};
    token_shard got;
    assert_int_equal(token_shard_read(path, &got, &error), -1);
    assert_contains(error.message, "spoilt.h5: ");
    assert_contains(error.message, part);
    assert_null(got.tokens);
}

static void overwrite(hid_t file, const char *name, hid_t type, const void *data) {
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    assert_true(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(dataset);
}

static void replace(hid_t file, const char *name, hid_t type, int rank, hsize_t a, hsize_t b) {
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t space = H5Screate_simple(rank, (hsize_t[]){a, b}, NULL);
    H5Dclose(H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
}

static void set_attribute(hid_t file, const char *name, uint64_t value) {
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_UINT64, &value);
    H5Aclose(attribute);
}

static void token_too_large(hid_t file) {
    uint16_t tokens[N * L] = {[N * L - 1] = 100};
    overwrite(file, "tokens", H5T_NATIVE_UINT16, tokens);
}
static void offsets_backwards(hid_t file) {
    overwrite(file, "caption_offsets", H5T_NATIVE_UINT64, (uint64_t[]){0, 4, 2, 6});
}
static void offsets_too_far(hid_t file) {
    overwrite(file, "caption_offsets", H5T_NATIVE_UINT64, (uint64_t[]){0, 2, 4, UINT64_MAX});
}
static void key_offsets_start(hid_t file) {
    overwrite(file, "key_offsets", H5T_NATIVE_UINT64, (uint64_t[]){1, 1, 2, 3, 4, 5});
}
static void row_too_large(hid_t file) {
    overwrite(file, "caption_row", H5T_NATIVE_UINT32, (uint32_t[]){0, N, 0});
}
static void other_version(hid_t file) {
    set_attribute(file, "format_version", 99);
}
static void other_count(hid_t file) {
    set_attribute(file, "count", 6);
}
static void huge_codebook(hid_t file) {
    set_attribute(file, "codebook_size", UINT64_MAX);
}
static void no_image_size(hid_t file) {
    H5Adelete(file, "image_size");
}
static void no_sha(hid_t file) {
    H5Adelete(file, "vqgan_sha256");
}
static void precision_of_a_number(hid_t file) {
    hid_t space = H5Screate(H5S_SCALAR);
    H5Aclose(H5Acreate2(file, "precision", H5T_STD_U64LE, space, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
}
static void no_tokens(hid_t file) {
    H5Ldelete(file, "tokens", H5P_DEFAULT);
}
static void tokens_of_floats(hid_t file) {
    replace(file, "tokens", H5T_IEEE_F32LE, 2, N, L);
}
static void tokens_signed(hid_t file) {
    replace(file, "tokens", H5T_STD_I16LE, 2, N, L);
}
static void tokens_wider(hid_t file) {
    replace(file, "tokens", H5T_STD_U32LE, 2, N, L);
}
static void tokens_flat(hid_t file) {
    replace(file, "tokens", H5T_STD_U16LE, 1, N, 0);
}
/* Never written, so it takes no room: a few bytes that ask for 4 TiB. */
static void tokens_enormous(hid_t file) {
    H5Ldelete(file, "tokens", H5P_DEFAULT);
    hid_t space = H5Screate_simple(2, (hsize_t[]){(hsize_t)1 << 31, 1024}, NULL), list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 2, (hsize_t[]){16, 1024});
    H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_U16LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
    H5Pclose(list);
    H5Sclose(space);
    set_attribute(file, "count", (uint64_t)1 << 31);
}
static void tokens_elsewhere(hid_t file) {
    H5Ldelete(file, "tokens", H5P_DEFAULT);
    H5Lcreate_external("other.h5", "tokens", file, "tokens", H5P_DEFAULT, H5P_DEFAULT);
}
static void tokens_external(hid_t file) {
    H5Ldelete(file, "tokens", H5P_DEFAULT);
    hid_t space = H5Screate_simple(2, (hsize_t[]){N, L}, NULL), list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(list, "/etc/hostname", 0, 2 * N * L);
    H5Dclose(H5Dcreate2(file, "tokens", H5T_STD_U16LE, space, H5P_DEFAULT, list, H5P_DEFAULT));
    H5Pclose(list);
    H5Sclose(space);
}
static void short_offsets(hid_t file) {
    replace(file, "caption_offsets", H5T_STD_U64LE, 1, M, 0);
}
static void short_column(hid_t file) {
    replace(file, "columns/score", H5T_IEEE_F32LE, 1, N - 1, 0);
}
static void column_of_integers(hid_t file) {
    replace(file, "columns/score", H5T_STD_U32LE, 1, N, 0);
}
static void columns_elsewhere(hid_t file) {
    H5Ldelete(file, "columns", H5P_DEFAULT);
    H5Lcreate_external("other.h5", "columns", file, "columns", H5P_DEFAULT, H5P_DEFAULT);
}

static void test_shards_that_lie(void **state) {
    (void)state;
    write_example("other.h5");
    spoil(token_too_large, "picture 4 has token 100, but the codebook has 100");
    spoil(offsets_backwards, "caption_offsets go backwards at row 1");
    spoil(offsets_too_far, "caption_offsets end at 18446744073709551615 but there are 6 bytes");
    spoil(key_offsets_start, "key_offsets do not begin at 0");
    spoil(row_too_large, "caption 1 belongs to picture 5 of 5");
    token_shard columns;
    limn_error error = {0};
    assert_int_equal(token_shard_read_columns(scratch_path("spoilt.h5"), &columns, &error), -1);
    assert_contains(error.message, "caption 1 belongs to picture 5 of 5");
    spoil(other_version, "format version 99");
    spoil(other_count, "'count' says 6 pictures, 'tokens' holds 5");
    spoil(huge_codebook, "a codebook of 18446744073709551615");
    spoil(no_image_size, "has no 'image_size'");
    spoil(no_sha, "has no 'vqgan_sha256'");
    spoil(precision_of_a_number, "'precision' is not a text of at most 16 bytes");
    spoil(no_tokens, "has no 'tokens'");
    spoil(tokens_of_floats, "'tokens' is not of the type");
    spoil(tokens_signed, "'tokens' is not of the type");
    spoil(tokens_wider, "'tokens' is not of the type");
    spoil(tokens_flat, "'tokens' does not have 2 dimensions");
    spoil(tokens_enormous, "which 0 stored ones cannot hold");
    spoil(tokens_elsewhere, "has no 'tokens' of its own");
    spoil(tokens_external, "kept in another file");
    spoil(short_offsets, "'caption_offsets' has 3 entries instead of 4");
    spoil(short_column, "'columns/score' has 4 entries for 5 pictures");
    spoil(column_of_integers, "'columns/score' is not of the type");
    spoil(columns_elsewhere, "'columns' is damaged");
}

static void test_cut_short(void **state) {
    (void)state;
    size_t size;
    char *bytes = limn_file_read(write_example("whole.h5"), 1 << 20, &size, NULL);
    for (size_t cut = 0; cut < size; cut += size / 16) {
        limn_error error = {0};
        token_shard got;
        assert_int_equal(token_shard_read(scratch_write("cut.h5", bytes, cut), &got, &error), -1);
        assert_contains(error.message, "cut.h5: not an HDF5 file, or cut short");
    }
    free(bytes);
    limn_error error = {0};
    token_shard got;
    assert_int_equal(token_shard_read(scratch_path("absent.h5"), &got, &error), -1);
    assert_contains(error.message, "absent.h5: no such file");
    assert_int_equal(token_shard_read(scratch_folder, &got, &error), -1);
}

/* HDF5 prints its own stack of errors unless told not to. */
static void test_silence(void **state) {
    (void)state;
    token_shard got;
    scratch_capture(2);
    token_shard_read(scratch_write("noise.h5", "noise", 5), &got, NULL);
    char *text = scratch_captured(2);
    assert_string_equal(text, "");
    free(text);
}

/* ---------------------------------------------------------------- training state */

static void test_train_state(void **state) {
    (void)state;
    limn_error error = {0};
    float first[3] = {1, -0.0f, 1e-42f}, second[2] = {4, 5};
    state_array arrays[] = {{"adamw/m/model.encoder.weight", 3, first}, {"adamw/v/x", 2, second}, {"none", 0, NULL}};
    state_counter counters[] = {{"step", 12345}, {"seed", UINT64_MAX}};
    const char *path = scratch_path("train_state.h5");
    if (train_state_write(path, arrays, 3, counters, 2, &error)) fail_msg("%s", error.message);
    float back[3] = {0}, more[2] = {0};
    state_array into[] = {{"adamw/v/x", 2, more}, {"adamw/m/model.encoder.weight", 3, back}};
    state_counter counts[] = {{"seed", 0}, {"step", 0}};
    if (train_state_read(path, into, 2, counts, 2, &error)) fail_msg("%s", error.message);
    assert_memory_equal(back, first, sizeof first);
    assert_memory_equal(more, second, sizeof second);
    assert_true(counts[0].value == UINT64_MAX && counts[1].value == 12345);

    into[0].count = 1;
    assert_int_equal(train_state_read(path, into, 2, counts, 2, &error), -1);
    assert_contains(error.message, "'adamw/v/x' holds 2 values but this configuration needs 1");
    into[0] = (state_array){"adamw/v/y", 2, more};
    assert_int_equal(train_state_read(path, into, 2, counts, 2, &error), -1);
    assert_contains(error.message, "has no 'arrays/adamw/v/y'");
    counts[0].name = "epoch";
    assert_int_equal(train_state_read(path, into, 0, counts, 2, &error), -1);
    assert_contains(error.message, "has no 'epoch'");

    assert_int_equal(limn_atomic_copy(path, scratch_path("before.h5"), &error), 0);
    sleep(1);
    assert_int_equal(train_state_write(path, arrays, 3, counters, 2, &error), 0);
    assert_same_file(path, scratch_path("before.h5"));

    size_t size;
    char *bytes = limn_file_read(path, 1 << 20, &size, NULL);
    assert_int_equal(train_state_read(scratch_write("cut.h5", bytes, size / 2), into, 0, counts, 1, &error), -1);
    assert_contains(error.message, "cut short");
    free(bytes);
    arrays[1].name = arrays[0].name;
    assert_int_equal(train_state_write(path, arrays, 2, counters, 2, &error), -1);
    assert_contains(error.message, "the name is taken");
    /* What stood there before is still whole. */
    assert_same_file(path, scratch_path("before.h5"));
}

enum { PIECES_COUNT = 2 * STATE_PIECE + 12345 };

/* A store that is asked for its values in order; from `fails_at` on it fails. */
typedef struct {
    float *values;
    size_t next, fails_at;
    bool writes;
} piece_store;

static int move_piece(void *context, const state_array *array, size_t start, size_t count, float *piece, limn_error *error) {
    piece_store *store = context;
    assert_string_equal(array->name, "elsewhere");
    assert_int_equal(start, store->next);
    store->next += count;
    if (start + count > store->fails_at) return limn_fail(error, "the other machine is gone");
    if (store->writes)
        memcpy(piece, store->values + start, count * sizeof *piece);
    else
        memcpy(store->values + start, piece, count * sizeof *piece);
    return 0;
}

static void test_state_in_pieces(void **state) {
    (void)state;
    limn_error error = {0};
    float *values = malloc(PIECES_COUNT * sizeof *values), *back = calloc(PIECES_COUNT, sizeof *back), here[2] = {4, 5}, more[2];
    assert_true(values && back);
    for (size_t i = 0; i < PIECES_COUNT; i++) values[i] = (float)i * 0.5f - 7;
    state_array arrays[] = {{"elsewhere", PIECES_COUNT, values}, {"here", 2, here}, {"none", 0, NULL}};
    state_counter counter = {"step", 3};
    assert_int_equal(train_state_write(scratch_path("whole.h5"), arrays, 3, &counter, 1, &error), 0);
    piece_store store = {values, 0, SIZE_MAX, true};
    const state_mover mover = {move_piece, &store};
    arrays[0].values = NULL;
    assert_int_equal(train_state_write_pieces(scratch_path("pieces.h5"), arrays, 3, &counter, 1, &mover, &error), 0);
    assert_same_file(scratch_path("whole.h5"), scratch_path("pieces.h5"));

    store = (piece_store){back, 0, SIZE_MAX, false};
    state_array into[] = {{"elsewhere", PIECES_COUNT, NULL}, {"here", 2, more}};
    assert_int_equal(train_state_read_pieces(scratch_path("pieces.h5"), into, 2, &counter, 1, &mover, &error), 0);
    assert_memory_equal(back, values, PIECES_COUNT * sizeof *values);
    assert_memory_equal(more, here, sizeof here);

    store = (piece_store){back, 0, STATE_PIECE, false};
    assert_int_equal(train_state_read_pieces(scratch_path("pieces.h5"), into, 2, &counter, 1, &mover, &error), -1);
    assert_string_equal(error.message, "the other machine is gone");
    store = (piece_store){values, 0, STATE_PIECE, true};
    assert_int_equal(train_state_write_pieces(scratch_path("broken.h5"), arrays, 3, &counter, 1, &mover, &error), -1);
    assert_string_equal(error.message, "the other machine is gone");
    assert_false(limn_file_exists(scratch_path("broken.h5")));
    free(values);
    free(back);
}

/* Runs in a child that leaves without the sanitizers' search for leaks: HDF5 itself loses some kilobytes when a close fails.
 * Often enough that a library left in disorder by the first failure would show it. */
static void write_on_full_disks(void) {
    enum { COUNT = 200000 };
    float *values = calloc(COUNT, sizeof *values);
    state_array array = {"m", COUNT, values};
    const rlim_t limits[] = {0, 100, 1000, 5000, COUNT * sizeof(float), COUNT * sizeof(float) + 2000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        limn_error error = {0};
        scratch_limit_files(limits[i]);
        int result = train_state_write(scratch_path("full_state.h5"), &array, 1, NULL, 0, &error);
        scratch_limit_files(RLIM_INFINITY);
        if (result != -1 || !strstr(error.message, "full_state.h5: ")) _exit(1);
        if (limn_file_exists(scratch_path("full_state.h5"))) _exit(2);
    }
    for (rlim_t limit = 0; limit < 3000; limit += 500) {
        example self;
        limn_error error = {0};
        make_example(&self);
        scratch_limit_files(limit);
        int result = token_shard_write(scratch_path("full.h5"), &self.shard, &error);
        scratch_limit_files(RLIM_INFINITY);
        if (result != -1 || !strstr(error.message, "full.h5: ")) _exit(3);
        if (limn_file_exists(scratch_path("full.h5"))) _exit(4);
    }
    _exit(train_state_write(scratch_path("full_state.h5"), &array, 1, NULL, 0, NULL) ? 5 : 0);
}

static void test_full_disk(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) write_on_full_disks();
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(limn_file_exists(scratch_path("full_state.h5")));
    limn_error error = {0};
    assert_int_equal(train_state_write(scratch_path("no/folder.h5"), NULL, 0, NULL, 0, &error), -1);
    assert_contains(error.message, "no/folder.h5: cannot write here");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_columns_alone),
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_empty_shard),
        cmocka_unit_test(test_large_shard),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_bad_shards_are_not_written),
        cmocka_unit_test(test_shards_that_lie),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_train_state),
        cmocka_unit_test(test_state_in_pieces),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
