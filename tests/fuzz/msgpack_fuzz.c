/* Flax msgpack checkpoints. */
#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tensors.h"

/* {"a": {"b": array uint8 (2,), "c": scalar float32}, "step": 300, "name": "x"}, and the same with longer forms of the heads.
 */
static const char short_forms[] = "\x83\xa1"
                                  "a\x82\xa1"
                                  "b\xc7\x0d\x01\x93\x91\x02\xa5uint8\xc4\x02\x01\x02\xa1"
                                  "c\xc7\x10\x03\x93\x90\xa7"
                                  "float32\xc4\x04\x00\x00\x80\x3f\xa4step\xcd\x01\x2c\xa4name\xa1x";
static const char long_forms[] = "\xde\x00\x03\xd9\x06params\xdf\x00\x00\x00\x01\xda\x00\x01w"
                                 "\xc8\x00\x1e\x01\xdc\x00\x03\xdd\x00\x00\x00\x02\xcc\x01\xcd\x00\x02\xa5int32\xc5\x00\x08"
                                 "\x01\x02\x03\x04\x05\x06\x07\x08"
                                 "\xa1n\xd3\xff\xff\xff\xff\xff\xff\xff\xff\xa1r\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00";

/* An array in two chunks, in a map beside another. */
static const char chunked[] = "\x82\xa1p\x82\xa1w\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x82\xa1"
                              "0\x03\xa1"
                              "1\x01\xa6"
                              "chunks\x82\xa1"
                              "0\xc7\x0d\x01\x93\x91\x02\xa5uint8\xc4\x02\x01\x02\xa1"
                              "1\xc7\x0c\x01\x93\x91\x01\xa5uint8\xc4\x01\x03\xa1"
                              "b\xc7\x0d\x01\x93\x91\x02\xa5uint8\xc4\x02\x01\x02\xa1q\xc0";

static bool make_seed(size_t index, limn_buffer *out) {
    if (index == 0) return limn_buffer_append(out, short_forms, sizeof short_forms - 1, NULL) == 0;
    if (index == 1) return limn_buffer_append(out, long_forms, sizeof long_forms - 1, NULL) == 0;
    if (index == 2) return limn_buffer_append(out, chunked, sizeof chunked - 1, NULL) == 0;
    return false;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0};
    tensor_file *file = flax_msgpack_open(fuzz_file("input.msgpack", data, size), &error);
    return file ? fuzz_read_tensors(file) : fuzz_check_error(&error);
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
