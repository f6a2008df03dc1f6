/* safetensors and Flax msgpack: round trips, every type, and files that lie. */
#include "formats/formats.h"
#include "tests/scratch.h"

#include <math.h>

/* ---------------------------------------------------------------- safetensors */

/* A file with this header text and `data_size` bytes 0, 1, 2, … after it. */
static const char *write_safetensors(const char *header, size_t data_size) {
    limn_buffer file = {0};
    size_t size = strlen(header);
    for (size_t i = 0; i < 8; i++) limn_buffer_append(&file, &(unsigned char){(unsigned char)(size >> (8 * i))}, 1, NULL);
    limn_buffer_append(&file, header, size, NULL);
    for (size_t i = 0; i < data_size; i++) limn_buffer_append(&file, &(unsigned char){(unsigned char)i}, 1, NULL);
    const char *path = scratch_write("t.safetensors", file.data, file.size);
    limn_buffer_free(&file);
    return path;
}

static void refuse_header(const char *header, size_t data_size, const char *part) {
    limn_error error = {0};
    tensor_file *file = safetensors_open(write_safetensors(header, data_size), &error);
    if (file) fail_msg("taken: %s", header);
    assert_contains(error.message, "t.safetensors");
    assert_contains(error.message, part);
}

static void test_safetensors_headers_that_lie(void **state) {
    (void)state;
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "cut short");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9223372036854775807]}}", 8, "cut short");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 8,
                  "has 4 bytes but its shape and type need 8");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "data_offsets");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "data_offsets");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "data_offsets");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8, "no data_offsets [begin, end]");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[null,8]}}", 8, "no data_offsets [begin, end]");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0.5,8]}}", 8, "no data_offsets [begin, end]");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,\"8\"]}}", 8, "data_offsets");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets");
    refuse_header("{\"a\":{\"dtype\":\"F99\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "type F99");
    refuse_header("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "type (none)");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "shape");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "shape");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "no shape of at most 8 sizes");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}", 4, "no shape of at most 8 sizes");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[null],\"data_offsets\":[0,0]}}", 0, "no shape of at most 8 sizes");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, "shape");
    /* 2^62 × 4 elements: the product is 0 modulo 2^64. */
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 8, "does not fit");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 8, "does not fit");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                  "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
                  8, "'a' and 'b' overlap");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                  "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
                  8, "duplicate");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8, "4 of its bytes belong to no tensor");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 8, "4 of its bytes belong to no tensor");
    refuse_header("{}", 8, "8 of its bytes belong to no tensor");
    refuse_header("{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "type C64, which is not read here");
    refuse_header("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "type F8_E4M3");
    refuse_header("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "bad header");
    refuse_header("{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "bad header");
    refuse_header("{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "bad header");
    refuse_header("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate");
    refuse_header("{\"a\":7}", 8, "type");
    refuse_header("[1]", 8, "not an object");
    refuse_header("{\"a\"", 8, "bad header");
    refuse_header("{\"__metadata__\":3}", 8, "__metadata__");
    char deep[10000];
    memset(deep, '[', sizeof deep);
    deep[sizeof deep - 1] = '\0';
    refuse_header(deep, 8, "bad header");
}

static void test_safetensors_lengths_that_lie(void **state) {
    (void)state;
    static const struct {
        unsigned char bytes[10];
        size_t size;
    } files[] = {{{0}, 0},
                 {{1, 2, 3}, 3},
                 {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10},
                 {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'}, 10},
                 {{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'}, 10}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        limn_error error = {0};
        assert_null(safetensors_open(scratch_write("l.safetensors", files[i].bytes, files[i].size), &error));
        assert_contains(error.message, "not a safetensors file, or cut short");
    }
    /* A header length that the (sparse) file could hold, but nobody would write. */
    limn_error error = {0};
    const char *path = scratch_write("huge.safetensors", "\0\0\0\7\0\0\0\0", 8); /* 112 MiB */
    assert_int_equal(truncate(path, (off_t)200 << 20), 0);
    assert_null(safetensors_open(path, &error));
    assert_contains(error.message, "not believable");
    assert_null(safetensors_open(scratch_path("absent.safetensors"), &error));
    assert_contains(error.message, "absent.safetensors: No such file");
}

static void test_safetensors_round_trip(void **state) {
    (void)state;
    limn_error error = {0};
    float weights[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
    uint16_t ids[3] = {0, 65535, 7};
    int64_t step = -5;
    tensor tensors[] = {
        {.name = "z.weight", .type = TENSOR_F32, .rank = 2, .shape = {2, 3}, .data = weights},
        {.name = "a \"quoted\" \xc3\xa9", .type = TENSOR_U16, .rank = 1, .shape = {3}, .data = ids},
        {.name = "scalar", .type = TENSOR_I64, .rank = 0, .data = &step},
        {.name = "empty", .type = TENSOR_F32, .rank = 2, .shape = {0, 4}, .data = NULL},
    };
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    const char *path = scratch_path("round.safetensors");
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, &error), 0);
    tensor_file *file = safetensors_open(path, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(tensor_file_count(file), 4);
    assert_string_equal(tensor_file_path(file), path);
    assert_string_equal(json_string_value(json_object_get(tensor_file_metadata(file), "format")), "pt");
    const tensor *found = tensor_file_find(file, "z.weight");
    float back[6];
    tensor_to_float(found, 0, 6, back);
    assert_memory_equal(back, weights, sizeof weights);
    assert_int_equal((uintptr_t)tensor_file_at(file, 0)->data % 8, 0); /* the header is padded so that data lies aligned */
    int64_t number;
    tensor_to_int64(tensor_file_find(file, "scalar"), 0, 1, &number);
    assert_int_equal(number, -5);
    assert_int_equal(tensor_file_find(file, "scalar")->count, 1);
    assert_int_equal(tensor_file_find(file, "empty")->count, 0);
    assert_null(tensor_file_find(file, "absent"));
    assert_null(tensor_file_at(file, 4));
    size_t shape[2] = {2, 3}, other[2] = {3, 2};
    assert_ptr_equal(tensor_file_need(file, "z.weight", 2, shape, &error), found);
    assert_null(tensor_file_need(file, "z.weight", 2, other, &error));
    assert_contains(error.message, "tensor 'z.weight' is [2, 3] but the configuration makes it [3, 2]");
    assert_null(tensor_file_need(file, "z.weight", 1, shape, &error));
    assert_null(tensor_file_need(file, "absent", 2, shape, &error));
    assert_contains(error.message, "no tensor 'absent'");
    tensor_file_close(file);
    tensor_file_close(NULL);

    /* The order of the arguments does not show in the bytes. */
    char first[65], second[65];
    limn_sha256_file(path, first, NULL);
    size_t size;
    char *bytes = limn_file_read(path, 1 << 20, &size, NULL);
    for (size_t cut = 0; cut < size; cut++) { /* cut anywhere, it is an error and nothing worse */
        assert_null(safetensors_open(scratch_write("cut.safetensors", bytes, cut), &error));
        assert_contains(error.message, "cut.safetensors");
    }
    free(bytes);
    tensor swap = tensors[0];
    tensors[0] = tensors[2];
    tensors[2] = swap;
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, &error), 0);
    limn_sha256_file(path, second, NULL);
    assert_string_equal(first, second);

    tensors[1].name = "scalar";
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, &error), -1);
    assert_contains(error.message, "two tensors are named 'scalar'");
    tensors[1].name = "__metadata__";
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, &error), -1);
    assert_contains(error.message, "cannot be named '__metadata__'");
    tensors[1].name = "\xff";
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, &error), -1);
    assert_contains(error.message, "UTF-8");
    json_object_set_new(metadata, "step", json_integer(3));
    tensors[1].name = "y";
    assert_int_equal(safetensors_write(path, tensors, 4, metadata, &error), -1);
    assert_contains(error.message, "metadata 'step' is not a text");
    json_decref(metadata);
}

static void test_safetensors_without_tensors(void **state) {
    (void)state;
    limn_error error = {0};
    assert_int_equal(safetensors_write(scratch_path("none.safetensors"), NULL, 0, NULL, &error), 0);
    tensor_file *file = safetensors_open(scratch_path("none.safetensors"), &error);
    assert_non_null(file);
    assert_null(tensor_file_find(file, "x"));
    assert_null(tensor_file_metadata(file));
    tensor_file_close(file);
}

static void test_safetensors_full_disk(void **state) {
    (void)state;
    limn_error error = {0};
    float *weights = calloc(100000, sizeof *weights);
    tensor one = {.name = "w", .type = TENSOR_F32, .rank = 1, .shape = {100000}, .data = weights};
    scratch_limit_files(100000);
    int result = safetensors_write(scratch_path("full.safetensors"), &one, 1, NULL, &error);
    scratch_limit_files(RLIM_INFINITY);
    free(weights);
    assert_int_equal(result, -1);
    assert_contains(error.message, "full.safetensors");
    assert_false(limn_file_exists(scratch_path("full.safetensors")));
}

/* ---------------------------------------------------------------- conversion */

static void check_float(tensor_type type, const void *data, size_t count, const float *expected) {
    /* One byte off, since tensors in a msgpack file lie anywhere. */
    unsigned char unaligned[128];
    memcpy(unaligned + 1, data, count * tensor_type_size(type));
    tensor one = {.type = type, .rank = 1, .shape = {count}, .count = count, .data = unaligned + 1};
    float out[16];
    tensor_to_float(&one, 0, count, out);
    for (size_t i = 0; i < count; i++)
        if (isnan(expected[i]))
            assert_true(isnan(out[i]));
        else
            assert_memory_equal(&out[i], &expected[i], sizeof(float));
    tensor_to_float(&one, 1, count - 1, out);
    if (!isnan(expected[1])) assert_memory_equal(&out[0], &expected[1], sizeof(float));
}

static void test_every_type_as_float(void **state) {
    (void)state;
    check_float(TENSOR_F32, (float[]){1.5f, -0.0f, INFINITY}, 3, (float[]){1.5f, -0.0f, INFINITY});
    check_float(TENSOR_F64, (double[]){0.1, -1e300}, 2, (float[]){0.1f, -INFINITY});
    /* binary16: 1, -2, largest, smallest normal, smallest subnormal, -0, infinity, NaN */
    check_float(TENSOR_F16, (uint16_t[]){0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x8000, 0x7c00, 0x7e00}, 8,
                (float[]){1, -2, 65504, 0x1p-14f, 0x1p-24f, -0.0f, INFINITY, NAN});
    check_float(TENSOR_BF16, (uint16_t[]){0x3f80, 0xc040, 0x7f80}, 3, (float[]){1, -3, INFINITY});
    check_float(TENSOR_I64, (int64_t[]){-3, 1 << 20}, 2, (float[]){-3, 1048576});
    check_float(TENSOR_I32, (int32_t[]){-3, 7}, 2, (float[]){-3, 7});
    check_float(TENSOR_U16, (uint16_t[]){65535, 7}, 2, (float[]){65535, 7});
    check_float(TENSOR_U8, (uint8_t[]){255, 7}, 2, (float[]){255, 7});
    check_float(TENSOR_BOOL, (uint8_t[]){0, 9}, 2, (float[]){0, 1});
}

static void test_every_type_as_integer(void **state) {
    (void)state;
    const struct {
        tensor_type type;
        const void *data;
        int64_t expected[2];
    } cases[] = {
        {TENSOR_F32, (float[]){-2.9f, NAN}, {-2, 0}},
        {TENSOR_F64, (double[]){1e300, -1e300}, {INT64_MAX, INT64_MIN}},
        {TENSOR_F16, (uint16_t[]){0x3c00, 0xc000}, {1, -2}},
        {TENSOR_BF16, (uint16_t[]){0x3f80, 0xc040}, {1, -3}},
        {TENSOR_I64, (int64_t[]){INT64_MIN, 5}, {INT64_MIN, 5}},
        {TENSOR_I32, (int32_t[]){-3, 7}, {-3, 7}},
        {TENSOR_U16, (uint16_t[]){65535, 7}, {65535, 7}},
        {TENSOR_U8, (uint8_t[]){255, 7}, {255, 7}},
        {TENSOR_BOOL, (uint8_t[]){0, 9}, {0, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tensor one = {.type = cases[i].type, .rank = 1, .shape = {2}, .count = 2, .data = cases[i].data};
        int64_t out[2];
        tensor_to_int64(&one, 0, 2, out);
        assert_memory_equal(out, cases[i].expected, sizeof out);
    }
}

/* ---------------------------------------------------------------- msgpack */

#define BYTES(text) text, sizeof(text) - 1

static tensor_file *open_msgpack(const char *bytes, size_t size, limn_error *error) {
    memset(error, 0, sizeof *error);
    return flax_msgpack_open(scratch_write("m.msgpack", bytes, size), error);
}

static void refuse_msgpack(const char *bytes, size_t size, const char *part) {
    limn_error error;
    tensor_file *file = open_msgpack(bytes, size, &error);
    if (file) fail_msg("taken, but should fail with: %s", part);
    assert_contains(error.message, "m.msgpack");
    assert_contains(error.message, part);
}

/* {"a": {"b": array([1, 2], uint8 as shape (2,)), "c": NumPy scalar float32 1.0}, "step": 300, "name": "x", "none": nil} */
static const char good_msgpack[] = "\x84\xa1"
                                   "a\x82\xa1"
                                   "b\xc7\x0d\x01\x93\x91\x02\xa5"
                                   "uint8\xc4\x02\x01\x02\xa1"
                                   "c\xc7\x11\x03\x93\x90\xa7"
                                   "float32\xc4\x04\x00\x00\x80\x3f\xff"
                                   "\xa4step\xcd\x01\x2c\xa4name\xa1x\xa4none\xc0";

static void test_msgpack(void **state) {
    (void)state;
    limn_error error;
    /* A stray byte after the float32's would be part of the extension: the length counts 17, of which one is too many. */
    refuse_msgpack(good_msgpack, sizeof good_msgpack - 1, "left over");
    char bytes[sizeof good_msgpack];
    memcpy(bytes, good_msgpack, sizeof bytes);
    char *stray = memchr(bytes, 0xff, sizeof bytes);
    memmove(stray, stray + 1, (size_t)(bytes + sizeof bytes - stray - 1));
    char *length = memchr(bytes, 0x11, sizeof bytes);
    *length = 0x10;
    size_t size = sizeof bytes - 2;
    tensor_file *file = open_msgpack(bytes, size, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(tensor_file_count(file), 2);
    float values[2];
    tensor_to_float(tensor_file_find(file, "a/b"), 0, 2, values);
    assert_true(values[0] == 1 && values[1] == 2);
    tensor_to_float(tensor_file_find(file, "a/c"), 0, 1, values);
    assert_true(values[0] == 1 && tensor_file_find(file, "a/c")->rank == 0);
    tensor_file_close(file);
    /* Cut anywhere, it is an error and nothing worse. */
    for (size_t cut = 0; cut < size; cut++) {
        file = open_msgpack(bytes, cut, &error);
        assert_null(file);
        assert_contains(error.message, "m.msgpack");
    }
    bytes[size] = 0;
    refuse_msgpack(bytes, size + 1, "left over");
}

static void test_msgpack_that_lies(void **state) {
    (void)state;
    refuse_msgpack(BYTES(""), "empty");
    refuse_msgpack(BYTES("\x91\x01"), "does not begin with a map");
    refuse_msgpack(BYTES("\x81\xc1"), "not msgpack");
    refuse_msgpack(BYTES("\x81\xdb\xff\xff\xff\xff"), "goes past the end");
    refuse_msgpack(BYTES("\xdf\xff\xff\xff\xff\xa1"
                         "a\xc0"),
                   "cut short");
    refuse_msgpack(BYTES("\x81\x01\x02"), "a key that is not text");
    refuse_msgpack(BYTES("\x81\xa1\xff\x02"), "a key that is not text");
    refuse_msgpack(BYTES("\x81\xa1\x00\x02"), "a key that is not text");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xdd\xff\xff\xff\xff"),
                   "a list");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc9\xff\xff\xff\xff\x01"),
                   "goes past the end");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xd4\x02\x00"),
                   "complex");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xd4\x2a\x00"),
                   "an extension that Flax does not write");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x02\x01\x92\x90"),
                   "not (shape, type, bytes)");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x0d\x01\x93\x91\x03\xa5uint8\xc4\x02\x01\x02"),
                   "has 2 bytes but its shape and type need 3");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x0d\x01\x93\x91\xff\xa5uint8\xc4\x02\x01\x02"),
                   "a shape that is not of whole numbers");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x0c\x01\x93\x91\xc0\xa5uint8\xc4\x00\x00"),
                   "a shape that is not of whole numbers");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x0b\x01\x93\x80\xa5uint8\xc4\x01\x01"),
                   "an array without a shape of at most 8 sizes");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x07\x01\x93\x91\x01\x05\xc4\x01\x01"),
                   "an array without the name of its type");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x0c\x01\x83\x91\x01\xa5uint8\xc4\x01\x01"),
                   "not (shape, type, bytes)");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x0d\x01\x93\x91\x02\xa5uint9\xc4\x02\x01\x02"),
                   "type that is not read here");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x0d\x01\x93\x91\x02\xa5uint8\xa2\x01\x02\x00"),
                   "without its bytes");
    refuse_msgpack(
        BYTES("\x81\xa1"
              "a\xc7\x14\x01\x93\x92\xcf\x40\x00\x00\x00\x00\x00\x00\x00\x04\xa5uint8\xc4\x00\x00\x00\x00\x00\x00\x00"),
        "does not fit");
    refuse_msgpack(BYTES("\x81\xa1"
                         "a\xc7\x0c\x01\x93\x99\x01\x01\x01\x01\x01\x01\x01\x01\x02\xa5"),
                   "at most 8 sizes");
    refuse_msgpack(BYTES("\x82\xa1"
                         "a\xc7\x0d\x01\x93\x91\x02\xa5uint8\xc4\x02\x01\x02\xa1"
                         "a\xc7\x0d\x01\x93\x91\x02\xa5uint8\xc4\x02\x01\x02"),
                   "two tensors named 'a'");
    limn_buffer deep = {0};
    for (size_t i = 0; i < 10000; i++) limn_buffer_append(&deep, "\x81\xa1x", 3, NULL);
    limn_buffer_append(&deep, "\xc0", 1, NULL);
    refuse_msgpack(deep.data, deep.size, "64 levels");
    limn_buffer_free(&deep);
    for (size_t i = 0; i < 6; i++) {
        limn_buffer_append(&deep, "\x81\xd9\xc8", 3, NULL);
        for (size_t k = 0; k < 200; k++) limn_buffer_append(&deep, "n", 1, NULL);
    }
    limn_buffer_append(&deep, "\xc0", 1, NULL);
    refuse_msgpack(deep.data, deep.size, "longer than 1023");
    limn_buffer_free(&deep);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_headers_that_lie),
        cmocka_unit_test(test_safetensors_lengths_that_lie),
        cmocka_unit_test(test_safetensors_round_trip),
        cmocka_unit_test(test_safetensors_without_tensors),
        cmocka_unit_test(test_safetensors_full_disk),
        cmocka_unit_test(test_every_type_as_float),
        cmocka_unit_test(test_every_type_as_integer),
        cmocka_unit_test(test_msgpack),
        cmocka_unit_test(test_msgpack_that_lies),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
