/* Weights written piece by piece in each form, and what can go wrong in between. */
#include "formats/internal.h"
#include "tests/formats/check.h"

#include <dirent.h>
#include <zlib.h>

/* ---------------------------------------------------------------- a producer */

typedef struct {
    const tensor *tensors; /* with data */
    size_t piece;          /* bytes at once */
    size_t asked[16], asked_count;
    int lie;            /* bytes that each tensor of several gets too many (or too few) */
    size_t fails_at;    /* the call that fails; 0: none */
    bool without_words; /* fails without an error */
    size_t limits_at;   /* from this byte of a tensor on no file may grow beyond what it has; 0: never */
} source;

static int produce(void *context, size_t index, tensor_sink *sink, limn_error *error) {
    source *self = context;
    const tensor *one = &self->tensors[index];
    size_t count = 1;
    for (size_t i = 0; i < one->rank; i++) count *= one->shape[i];
    size_t bytes = count * tensor_type_size(one->type);
    if (bytes > 4) bytes += (size_t)self->lie;
    self->asked[self->asked_count++ % 16] = index;
    if (self->fails_at == self->asked_count) return self->without_words ? 7 : limn_fail(error, "the source is dry");
    for (size_t at = 0, part; at < bytes; at += part) {
        part = bytes - at < self->piece ? bytes - at : self->piece;
        if (self->limits_at && at >= self->limits_at) scratch_limit_files(self->limits_at);
        if (tensor_sink_write(sink, (const char *)one->data + at, part, error)) return -1;
    }
    return 0;
}

static float numbers[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
static uint8_t flags[4] = {1, 0, 1, 1};
static uint16_t halves[2] = {0x3c00, 0xc000};
static const tensor model[] = {
    {.name = "b/kernel", .type = TENSOR_F32, .rank = 2, .shape = {2, 3}, .data = numbers},
    {.name = "b/bias", .type = TENSOR_F16, .rank = 1, .shape = {2}, .data = halves},
    {.name = "a", .type = TENSOR_BOOL, .rank = 2, .shape = {4, 1}, .data = flags},
    {.name = "b-c/none", .type = TENSOR_F64, .rank = 2, .shape = {0, 4}},
    {.name = "scalar", .type = TENSOR_F32, .rank = 0, .data = numbers},
};
enum { MODEL = sizeof model / sizeof *model };

typedef enum { SAFETENSORS, FLAX, PYTORCH, FORMS } form;

static int write_form(form which, const char *path, const tensor *tensors, size_t count, source *from, limn_error *error) {
    memset(error, 0, sizeof *error);
    from->tensors = tensors;
    from->asked_count = 0;
    if (!from->piece) from->piece = 3;
    switch (which) {
    case SAFETENSORS:
        return safetensors_write_from(path, tensors, count, NULL, produce, from, error);
    case FLAX:
        return flax_msgpack_write(path, tensors, count, produce, from, error);
    default:
        return pytorch_write(path, tensors, count, NULL, produce, from, error);
    }
}

/* Files in the scratch folder, hidden ones too. */
static size_t count_files(void) {
    size_t count = 0;
    DIR *folder = opendir(scratch_folder);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(folder);
    return count;
}

/* ---------------------------------------------------------------- round trips */

static void check_model(const tensor_file *file) {
    assert_int_equal(tensor_file_count(file), MODEL);
    assert_floats(file, "b/kernel", 6, numbers);
    assert_floats(file, "b/bias", FLOATS(1, -2));
    assert_floats(file, "a", FLOATS(1, 0, 1, 1));
    assert_floats(file, "scalar", FLOATS(1));
    for (size_t i = 0; i < MODEL; i++) {
        const tensor *found = tensor_file_find(file, model[i].name);
        assert_int_equal(found->type, model[i].type);
        assert_int_equal(found->rank, model[i].rank);
        assert_memory_equal(found->shape, model[i].shape, model[i].rank * sizeof(size_t));
    }
}

static void test_round_trips(void **state) {
    (void)state;
    static const size_t orders[FORMS][MODEL] = {{2, 3, 1, 0, 4}, {2, 1, 0, 3, 4}, {0, 1, 2, 3, 4}};
    static const tensor_form forms[FORMS] = {TENSOR_FORM_SAFETENSORS, TENSOR_FORM_FLAX, TENSOR_FORM_PYTORCH};
    limn_error error;
    for (form which = SAFETENSORS; which < FORMS; which++) {
        char hashes[3][65];
        for (size_t i = 0; i < 3; i++) { /* the bytes do not depend on the pieces */
            source from = {.piece = (size_t[]){1, 5, 1 << 20}[i]};
            const char *path = scratch_path("model");
            assert_int_equal(write_form(which, path, model, MODEL, &from, &error), 0);
            assert_string_equal(error.message, "");
            assert_int_equal(from.asked_count, MODEL);
            assert_memory_equal(from.asked, orders[which], sizeof orders[which]);
            limn_sha256_file(path, hashes[i], NULL);
            tensor_file *file = tensor_file_open(path, &error);
            assert_string_equal(error.message, "");
            assert_int_equal(tensor_file_form(file), forms[which]);
            check_model(file);
            tensor_file_close(file);
        }
        assert_string_equal(hashes[0], hashes[1]);
        assert_string_equal(hashes[0], hashes[2]);
        source from = {0};
        assert_int_equal(write_form(which, scratch_path("model"), NULL, 0, &from, &error), 0);
        tensor_file *file = tensor_file_open(scratch_path("model"), &error);
        assert_int_equal(tensor_file_count(file), 0);
        tensor_file_close(file);
    }
    assert_int_equal(count_files(), 1);
    unlink(scratch_path("model"));
}

/* `bytes` (count) twice, with a small tensor in between, in pieces of this size. */
static void check_large(const uint8_t *bytes, size_t count, size_t piece) {
    const tensor tensors[] = {{.name = "a", .type = TENSOR_U8, .rank = 1, .shape = {count}, .data = bytes},
                              {.name = "b", .type = TENSOR_U8, .rank = 1, .shape = {7}, .data = bytes},
                              {.name = "c", .type = TENSOR_U8, .rank = 2, .shape = {2, count / 2}, .data = bytes}};
    limn_error error;
    for (form which = SAFETENSORS; which < FORMS; which++) {
        source from = {.piece = piece};
        assert_int_equal(write_form(which, scratch_path("large"), tensors, 3, &from, &error), 0);
        tensor_file *file = tensor_file_open(scratch_path("large"), &error);
        assert_string_equal(error.message, "");
        for (size_t i = 0; i < 3; i += 2) assert_memory_equal(tensor_file_at(file, i)->data, bytes, count);
        assert_memory_equal(tensor_file_at(file, 1)->data, bytes, 7);
        tensor_file_close(file);
    }
    unlink(scratch_path("large"));
}

/* Files of one room and of several; the largest is written by the thread, past the page cache. */
static void test_large_pieces(void **state) {
    (void)state;
    enum { COUNT = 37 << 20 };
    uint8_t *bytes = malloc(COUNT);
    for (size_t i = 0; i < COUNT; i++) bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    for (size_t piece = 300000; piece <= 9 << 20; piece *= 3) check_large(bytes, 9 << 20, piece);
    check_large(bytes, COUNT, 5000003);
    free(bytes);
}

/* A disk that is full although there seemed to be room: found by the thread, and said by the writer. */
static void test_a_write_that_fails_late(void **state) {
    (void)state;
    enum { COUNT = 90 << 20 };
    uint8_t *bytes = calloc(COUNT, 1);
    const tensor one = {.name = "w", .type = TENSOR_U8, .rank = 1, .shape = {COUNT}, .data = bytes};
    limn_error error;
    size_t before = count_files();
    source from = {.piece = 1 << 20, .limits_at = 20 << 20};
    assert_int_equal(write_form(SAFETENSORS, scratch_path("late"), &one, 1, &from, &error), -1);
    scratch_limit_files(RLIM_INFINITY);
    assert_contains(error.message, "late: ");
    assert_int_equal(count_files(), before);
    free(bytes);
}

/* ---------------------------------------------------------------- Flax */

static void check_bytes(const char *path, const char *expected, size_t size) {
    size_t found;
    char *bytes = limn_file_read(path, 1 << 20, &found, NULL);
    assert_non_null(bytes);
    assert_int_equal(found, size);
    assert_memory_equal(bytes, expected, size);
    free(bytes);
}
#define CHECK_BYTES(path, literal) check_bytes(path, literal, sizeof(literal) - 1)

/* What flax 0.7.2's msgpack_serialize makes of {'a': {'bias': uint8 [1, 2], 'kernel': float32 [[1.5]]}, 'b': int32 3}, and of
 * {'w': int32 [[0], …, [4]]} with MAX_CHUNK_SIZE = 8. */
static void test_flax_bytes(void **state) {
    (void)state;
    const tensor small[] = {
        {.name = "b", .type = TENSOR_I32, .rank = 0, .data = (int32_t[]){3}},
        {.name = "a/kernel", .type = TENSOR_F32, .rank = 2, .shape = {1, 1}, .data = (float[]){1.5f}},
        {.name = "a/bias", .type = TENSOR_U8, .rank = 1, .shape = {2}, .data = (uint8_t[]){1, 2}},
    };
    const tensor cut = {.name = "w", .type = TENSOR_I32, .rank = 2, .shape = {5, 1}, .data = (int32_t[]){0, 1, 2, 3, 4}};
    limn_error error;
    source from = {0};
    assert_int_equal(write_form(FLAX, scratch_path("small"), small, 3, &from, &error), 0);
    CHECK_BYTES(scratch_path("small"),
                "\x82\xa1"
                "a\x82\xa4"
                "bias\xc7\x0d\x01\x93\x91\x02\xa5uint8\xc4\x02\x01\x02\xa6kernel\xc7\x12\x01\x93\x92\x01\x01"
                "\xa7"
                "float32\xc4\x04\x00\x00\xc0\x3f\xa1"
                "b\xc7\x0e\x01\x93\x90\xa5int32\xc4\x04\x03\x00\x00\x00");
    from = (source){.tensors = &cut, .piece = 3};
    assert_int_equal(flax_msgpack_write_chunked(scratch_path("cut"), &cut, 1, 8, produce, &from, &error), 0);
    CHECK_BYTES(scratch_path("cut"), "\x81\xa1w\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x82\xa1"
                                     "0\x05\xa1"
                                     "1\x01\xa6"
                                     "chunks\x83\xa1"
                                     "0\xc7\x13\x01\x93\x91\x02\xa5int32\xc4\x08\x00\x00\x00\x00\x01\x00\x00\x00\xa1"
                                     "1\xc7\x13\x01\x93\x91\x02\xa5int32\xc4\x08\x02\x00\x00\x00\x03\x00\x00\x00\xa1"
                                     "2\xc7\x0f\x01\x93\x91\x01\xa5int32\xc4\x04\x04\x00\x00\x00");
}

/* Lengths at which the heads of maps, texts, binaries and extensions change their form. */
static void test_flax_lengths(void **state) {
    (void)state;
    enum { COUNT = 40, LONGEST = 70000 };
    static uint8_t bytes[LONGEST];
    tensor tensors[COUNT];
    char names[COUNT][400];
    for (size_t i = 0; i < LONGEST; i++) bytes[i] = (uint8_t)(i % 251);
    for (size_t i = 0; i < COUNT; i++) {
        static const size_t lengths[] = {0, 1, 5, 21, 200, 239, 240, 241, 255, 256, 65500, 65519, 65535, 65536, LONGEST};
        size_t length = lengths[i % 15];
        snprintf(names[i], sizeof names[i], "%0*zu/x", (int)(i < 20 ? 30 + i % 4 : 250 + i % 10), i);
        tensors[i] = (tensor){.name = names[i], .type = TENSOR_U8, .rank = 1, .shape = {length}, .data = bytes};
    }
    limn_error error;
    source from = {.piece = 1000};
    assert_int_equal(write_form(FLAX, scratch_path("lengths"), tensors, COUNT, &from, &error), 0);
    tensor_file *file = tensor_file_open(scratch_path("lengths"), &error);
    assert_string_equal(error.message, "");
    assert_int_equal(tensor_file_count(file), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const tensor *found = tensor_file_find(file, names[i]);
        assert_int_equal(found->count, tensors[i].shape[0]);
        assert_memory_equal(found->data, bytes, found->count);
    }
    tensor_file_close(file);
}

static void refuse_names(form which, const char *first, const char *second, const char *part) {
    const tensor two[] = {{.name = first, .type = TENSOR_U8, .rank = 1, .shape = {4}, .data = flags},
                          {.name = second, .type = TENSOR_U8, .rank = 1, .shape = {4}, .data = flags}};
    limn_error error;
    source from = {0};
    assert_int_equal(write_form(which, scratch_path("refused"), two, 2, &from, &error), -1);
    assert_contains(error.message, "refused");
    assert_contains(error.message, part);
    assert_int_equal(from.asked_count, 0);
    assert_false(limn_file_exists(scratch_path("refused")));
}

static void test_names_that_cannot_be(void **state) {
    (void)state;
    char deep[200] = "x";
    for (size_t i = 0; i < 64; i++) strcat(deep, "/x");
    refuse_names(FLAX, "a/b", "a", "'a' is a tensor, and 'a/b' would lie in it");
    refuse_names(FLAX, "a", "a/b/c", "'a' is a tensor, and 'a/b/c' would lie in it");
    refuse_names(FLAX, "a//b", "c", "has an empty part");
    refuse_names(FLAX, "", "c", "has an empty part");
    refuse_names(FLAX, "/a", "c", "has an empty part");
    refuse_names(FLAX, "a/", "c", "has an empty part");
    refuse_names(FLAX, deep, "c", "more than 64 parts");
    for (form which = SAFETENSORS; which < FORMS; which++) {
        refuse_names(which, "a", "a", "two tensors are named 'a'");
        refuse_names(which, "a", "b\xff", "not valid UTF-8");
    }
    tensor wrong[] = {{.name = "a", .type = TENSOR_U16, .rank = 1, .shape = {2}, .data = halves}};
    limn_error error;
    source from = {0};
    assert_int_equal(write_form(PYTORCH, scratch_path("refused"), wrong, 1, &from, &error), -1);
    assert_contains(error.message, "tensor 'a' is of a type that PyTorch cannot store");
    for (form which = SAFETENSORS; which < FORMS; which++) {
        wrong[0] = (tensor){.name = "a", .type = TENSOR_F32, .rank = 9};
        assert_int_equal(write_form(which, scratch_path("refused"), wrong, 1, &from, &error), -1);
        assert_contains(error.message, "dimensions");
        wrong[0] = (tensor){.name = "a", .type = TENSOR_F32, .rank = 2, .shape = {(size_t)1 << 40, (size_t)1 << 40}};
        assert_int_equal(write_form(which, scratch_path("refused"), wrong, 1, &from, &error), -1);
        assert_contains(error.message, "does not fit");
        const tensor large[] = {{.name = "a", .type = TENSOR_U8, .rank = 1, .shape = {(size_t)1 << 63}},
                                {.name = "b", .type = TENSOR_U8, .rank = 1, .shape = {(size_t)1 << 63}}};
        assert_int_equal(write_form(which, scratch_path("refused"), large, 2, &from, &error), -1);
        assert_contains(error.message, "too large");
        wrong[0] = (tensor){.name = "a", .type = TENSOR_U8, .rank = 1, .shape = {(size_t)1 << 51}};
        assert_int_equal(write_form(which, scratch_path("refused"), wrong, 1, &from, &error), -1);
        assert_contains(error.message, which == SAFETENSORS ? "refused: " : "too large");
    }
}

/* ---------------------------------------------------------------- PyTorch */

static uint64_t number_at(const unsigned char *bytes, size_t size) {
    uint64_t value = 0;
    while (size-- > 0) value = value << 8 | bytes[size];
    return value;
}

/* Storages begin at multiples of 64, and both headers have the CRC-32 of what they stand for. */
static void test_pytorch_zip(void **state) {
    (void)state;
    limn_error error;
    source from = {.tensors = model, .piece = 3};
    const char *path = scratch_path("model.pt");
    assert_int_equal(pytorch_write(path, model, MODEL, "state_dict", produce, &from, &error), 0);
    tensor_file *file = pytorch_open(path, &error);
    assert_floats(file, "state_dict.b/kernel", 6, numbers);
    assert_floats(file, "state_dict.scalar", FLOATS(1));
    tensor_file_close(file);
    limn_mapping mapping;
    assert_int_equal(limn_map(&mapping, path, &error), 0);
    const unsigned char *end = mapping.data + mapping.size - 22;
    size_t entries = number_at(end + 10, 2);
    const unsigned char *central = mapping.data + number_at(end + 16, 4);
    assert_int_equal(entries, MODEL + 3);
    for (size_t i = 0; i < entries; i++) {
        const unsigned char *local = mapping.data + number_at(central + 42, 4);
        size_t size = number_at(central + 24, 4);
        const unsigned char *data = local + 30 + number_at(local + 26, 2) + number_at(local + 28, 2);
        assert_int_equal((uintptr_t)data % 64, 0); /* the mapping begins at a page */
        uint32_t checksum = (uint32_t)crc32(0, data, (uInt)size);
        assert_int_equal(number_at(central + 16, 4), checksum);
        assert_memory_equal(central + 4 + 2, local + 4, 24); /* the version, … , the length of the name */
        central += 46 + number_at(central + 28, 2) + number_at(central + 30, 2);
    }
    assert_ptr_equal(central, end);
    limn_unmap(&mapping);
}

/* ---------------------------------------------------------------- what goes wrong */

static void test_producers_that_lie(void **state) {
    (void)state;
    limn_error error;
    size_t before = count_files();
    for (form which = SAFETENSORS; which < FORMS; which++) {
        const char *path = scratch_path("wrong");
        source few = {.lie = -1}, many = {.lie = 1}, dry = {.fails_at = 2}, mute = {.fails_at = MODEL, .without_words = true};
        assert_int_equal(write_form(which, path, model, MODEL, &few, &error), -1);
        assert_contains(error.message, "was given 1 bytes too few");
        assert_int_equal(write_form(which, path, model, MODEL, &many, &error), -1);
        assert_contains(error.message, "was given more bytes than its shape needs");
        assert_int_equal(write_form(which, path, model, MODEL, &dry, &error), -1);
        assert_string_equal(error.message, "the source is dry");
        assert_int_equal(dry.asked_count, 2);
        assert_int_equal(write_form(which, path, model, MODEL, &mute, &error), -1);
        assert_contains(error.message, "tensor 'scalar' was not made");
        assert_int_equal(count_files(), before);
        /* What was there before stays. */
        scratch_write("wrong", "old", 3);
        assert_int_equal(write_form(which, path, model, MODEL, &dry, &error), -1);
        CHECK_BYTES(path, "old");
        unlink(path);
        assert_int_equal(write_form(which, scratch_path("absent/wrong"), model, MODEL, &few, &error), -1);
        assert_contains(error.message, "absent/wrong: cannot write: No such file");
        assert_int_equal(write_form(which, scratch_path("folder/"), model, MODEL, &few, &error), -1);
        assert_contains(error.message, "a file's name is expected");
    }
}

/* The space is asked for before the first tensor is. */
static void test_full_disk(void **state) {
    (void)state;
    enum { COUNT = 100000 };
    float *weights = calloc(COUNT, sizeof *weights);
    const tensor one = {.name = "w", .type = TENSOR_F32, .rank = 1, .shape = {COUNT}, .data = weights};
    limn_error error;
    size_t before = count_files();
    for (form which = SAFETENSORS; which < FORMS; which++) {
        source from = {.piece = 1000};
        scratch_limit_files(COUNT);
        int result = write_form(which, scratch_path("full"), &one, 1, &from, &error);
        scratch_limit_files(RLIM_INFINITY);
        assert_int_equal(result, -1);
        assert_contains(error.message, "full: ");
        assert_int_equal(from.asked_count, 0);
        assert_int_equal(count_files(), before);
    }
    /* More than any disk has. */
    const tensor huge = {.name = "w", .type = TENSOR_F32, .rank = 1, .shape = {(size_t)1 << 44}};
    for (form which = SAFETENSORS; which < FORMS; which++) {
        source from = {0};
        assert_int_equal(write_form(which, scratch_path("full"), &huge, 1, &from, &error), -1);
        assert_contains(error.message, "full: ");
        assert_int_equal(from.asked_count, 0);
        assert_int_equal(count_files(), before);
    }
    free(weights);
}

/* safetensors_write with the tensors of other files: in chunks and strided. */
static void test_any_layout(void **state) {
    (void)state;
    limn_error error = {0};
    tensor_file *strided = pytorch_open("data/zip.pt", &error);
    assert_string_equal(error.message, "");
    const tensor *turned = tensor_file_find(strided, "views.1");
    source from = {.tensors = turned, .piece = 3};
    float values[12];
    tensor_to_float(turned, 0, 12, values);
    tensor flat = *turned;
    flat.data = values;
    flat.layout = NULL;
    from.tensors = &flat;
    assert_int_equal(flax_msgpack_write_chunked(scratch_path("chunks"), &flat, 1, 20, produce, &from, &error), 0);
    tensor_file *chunked = tensor_file_open(scratch_path("chunks"), &error);
    assert_string_equal(error.message, "");
    tensor both[] = {*turned, *tensor_file_at(chunked, 0)};
    assert_true(both[0].layout && both[1].layout);
    both[1].name = "chunks";
    assert_int_equal(safetensors_write(scratch_path("both"), both, 2, NULL, &error), 0);
    tensor_file *file = safetensors_open(scratch_path("both"), &error);
    assert_floats(file, "views.1", 12, values);
    assert_floats(file, "chunks", 12, values);
    tensor_file_close(file);
    tensor_file_close(chunked);
    tensor_file_close(strided);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_large_pieces),
        cmocka_unit_test(test_a_write_that_fails_late),
        cmocka_unit_test(test_flax_bytes),
        cmocka_unit_test(test_flax_lengths),
        cmocka_unit_test(test_names_that_cannot_be),
        cmocka_unit_test(test_pytorch_zip),
        cmocka_unit_test(test_producers_that_lie),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_any_layout),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
