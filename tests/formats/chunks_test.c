/* Flax's arrays above 1 GiB, which are maps of chunks: here of a few bytes. */
#include "tests/formats/check.h"

#define MARK "\xb9__msgpack_chunked_array__\xc3"
/* uint8 arrays of rank 1: two numbers, and one. */
#define TWO "\xc7\x0d\x01\x93\x91\x02\xa5uint8\xc4\x02\x01\x02"
#define ONE "\xc7\x0c\x01\x93\x91\x01\xa5uint8\xc4\x01\x03"
#define SHAPE                                                                                                                  \
    "\xa5shape\x82\xa1"                                                                                                        \
    "0\x03\xa1"                                                                                                                \
    "1\x01"
#define CHUNKS                                                                                                                 \
    "\xa6"                                                                                                                     \
    "chunks\x82\xa1"                                                                                                           \
    "0" TWO "\xa1"                                                                                                             \
    "1" ONE

static tensor_file *open_bytes(const char *bytes, size_t size, limn_error *error) {
    memset(error, 0, sizeof *error);
    return flax_msgpack_open(scratch_write("c.msgpack", bytes, size), error);
}

static void refuse(const char *bytes, size_t size, const char *part) {
    limn_error error;
    tensor_file *file = open_bytes(bytes, size, &error);
    assert_refused(file, &error, "/c.msgpack", part);
}
#define REFUSE(literal, part) refuse(literal, sizeof(literal) - 1, part)

static void test_chunks(void **state) {
    (void)state;
    static const char bytes[] = "\x82\xa1p\x82\xa1w\x83" MARK SHAPE CHUNKS "\xa1x" TWO "\xa1q" ONE;
    limn_error error;
    tensor_file *file = open_bytes(bytes, sizeof bytes - 1, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(tensor_file_count(file), 3);
    assert_floats(file, "p/w", FLOATS(1, 2, 3));
    assert_floats(file, "p/x", FLOATS(1, 2));
    assert_floats(file, "q", FLOATS(3));
    const tensor *one = tensor_file_find(file, "p/w");
    assert_true(!one->data && one->rank == 2 && one->shape[0] == 3 && one->shape[1] == 1);
    int64_t last[2];
    tensor_to_int64(one, 1, 2, last);
    assert_true(last[0] == 2 && last[1] == 3);
    tensor_file_close(file);
    for (size_t cut = 0; cut < sizeof bytes - 1; cut++) refuse(bytes, cut, "");
    /* The root itself may be such an array, as a map may be any value. */
    file = open_bytes("\x83" MARK SHAPE CHUNKS, sizeof("\x83" MARK SHAPE CHUNKS) - 1, &error);
    assert_int_equal(tensor_file_count(file), 1);
    tensor_file_close(file);
}

static void test_chunks_that_lie(void **state) {
    (void)state;
    REFUSE("\x81" MARK, "without its shape and chunks");
    REFUSE("\x82" MARK SHAPE, "without its shape and chunks");
    REFUSE("\x84" MARK SHAPE CHUNKS "\xa1x\xc0", "without its shape and chunks");
    REFUSE("\x83\xb9__msgpack_chunked_array__\xc2" SHAPE CHUNKS, "without its shape and chunks");
    REFUSE("\x83\xb9__msgpack_chunked_array__\x01" SHAPE CHUNKS, "without its shape and chunks");
    REFUSE("\x83" MARK CHUNKS SHAPE, "without its shape and chunks");
    REFUSE("\x83" SHAPE MARK CHUNKS, "whose mark does not come first");
    REFUSE("\x83" MARK "\xa5shape\x01" CHUNKS, "without its shape and chunks");
    REFUSE("\x83" MARK "\xa5shape\x82\xa1"
           "1\x03\xa1"
           "0\x01" CHUNKS,
           "not numbered in order");
    REFUSE("\x83" MARK "\xa5shape\x82\xa1"
           "0\x03\xa1"
           "0\x01" CHUNKS,
           "not numbered in order");
    REFUSE("\x83" MARK "\xa5shape\x81\xa1"
           "0\xff" CHUNKS,
           "a shape that is not of whole numbers");
    REFUSE("\x83" MARK "\xa5shape\x81\xa1"
           "0\xa1x" CHUNKS,
           "a shape that is not of whole numbers");
    REFUSE("\x83" MARK "\xa5shape\x89\xa1"
           "0\x03",
           "a shape of at most 8 sizes");
    REFUSE("\x83" MARK "\xa5shape\x81\xa1"
           "0\x04" CHUNKS,
           "chunks do not add up to its shape");
    REFUSE("\x83" MARK "\xa5shape\x81\xa1"
           "0\x02" CHUNKS,
           "chunks do not add up to its shape");
    REFUSE("\x83" MARK "\xa5shape\x82\xa1"
           "0\xcf\x40\0\0\0\0\0\0\0\xa1"
           "1\x04" CHUNKS,
           "chunks do not add up to its shape");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x80",
           "in chunks without them");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\xdf\xff\xff\xff\xff",
           "in chunks without them");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "1" TWO "\xa1"
           "0" ONE,
           "not numbered in order");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa1"
           "0" ONE,
           "not numbered in order");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa2"
           "01" ONE,
           "not numbered in order");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa1"
           "1\x07",
           "of which one is none");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa1"
           "1\x80",
           "of which one is none");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa1"
           "1\xc7\x0b\x01\x93\x90\xa5uint8\xc4\x01\x03",
           "not flat or not of one type");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa1"
           "1\xc7\x0b\x01\x93\x91\x01\xa4"
           "bool\xc4\x01\x03",
           "not flat or not of one type");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa1"
           "1\xc7\x0c\x01\x93\x91\x02\xa5uint8\xc4\x01\x03",
           "has 1 bytes but its shape and type need 2");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x81\xa1"
           "0\xc7\x0f\x01\x93\x91\x01\xa9"
           "complex64\xc4\x00",
           "type that is not read here");
    /* A text, and an extension of another type, with an array in them. */
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa1"
           "1\xac\x93\x91\x01\xa5uint8\xc4\x01\x03",
           "of which one is none");
    REFUSE("\x83" MARK SHAPE "\xa6"
           "chunks\x82\xa1"
           "0" TWO "\xa1"
           "1\xc7\x0c\x02\x93\x91\x01\xa5uint8\xc4\x01\x03",
           "of which one is none");
    REFUSE("\x82\xa1w\x83" MARK SHAPE CHUNKS "\xa1w" ONE, "two tensors named 'w'");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_chunks_that_lie),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
