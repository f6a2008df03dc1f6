/* tensor_file_open: forms told apart by content; indices and their shards. */
#include "tests/formats/check.h"

static const char *write_text(const char *name, const char *text) {
    return scratch_write(name, text, strlen(text));
}

static void refuse_file(const char *path, const char *part) {
    limn_error error = {0};
    assert_refused(tensor_file_open(path, &error), &error, path, part);
}

static void write_one(const char *name, const char *tensor_name, float value) {
    const tensor one = {.name = tensor_name, .type = TENSOR_F32, .rank = 1, .shape = {1}, .data = &value};
    assert_int_equal(safetensors_write(scratch_path(name), &one, 1, NULL, NULL), 0);
}

/* ---------------------------------------------------------------- which form */

static void test_told_apart(void **state) {
    (void)state;
    limn_error error = {0};
    /* Names say nothing, or lie. */
    write_one("x.pt", "w", 1);
    tensor_file *file = tensor_file_open(scratch_path("x.pt"), &error);
    assert_int_equal(tensor_file_form(file), TENSOR_FORM_SAFETENSORS);
    tensor_file_close(file);
    scratch_write("x.safetensors", "\x81\xa1w\xc7\x0c\x01\x93\x91\x01\xa5uint8\xc4\x01\x07", 18);
    file = tensor_file_open(scratch_path("x.safetensors"), &error);
    assert_int_equal(tensor_file_form(file), TENSOR_FORM_FLAX);
    assert_floats(file, "w", FLOATS(7));
    tensor_file_close(file);
    file = tensor_file_open(scratch_write("empty.map", "\x80", 1), &error);
    assert_int_equal(tensor_file_form(file), TENSOR_FORM_FLAX);
    tensor_file_close(file);
    /* A safetensors header of 123 bytes: the file begins with '{', as JSON does. */
    char header[200] = "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", bytes[132] = {123};
    memset(bytes + 8, ' ', 123);
    memcpy(bytes + 8, header, strlen(header));
    file = tensor_file_open(scratch_write("brace", bytes, sizeof bytes), &error);
    assert_string_equal(error.message, "");
    assert_floats(file, "w", FLOATS(0));
    tensor_file_close(file);
    refuse_file(write_text("e", ""), "the file is empty");
    refuse_file(write_text("lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n"), "a Git LFS pointer");
    refuse_file(write_text("page", " \n<!DOCTYPE html>"), "a web page, not weights");
    refuse_file(write_text("other", "\x89HDF\r\n"), "not safetensors, nor Flax msgpack, a PyTorch checkpoint or an index");
    refuse_file(write_text("words", "hello"), "not safetensors, nor Flax msgpack");
    char tar[512] = "pickle";
    memcpy(tar + 257, "ustar", 5);
    refuse_file(scratch_write("old.tar", tar, sizeof tar), "the tar form of PyTorch before 2017");
    refuse_file(write_text("p0", "L119547037146038801333356L\n."), "cut short");
    refuse_file(write_text("p2", "\x80\x02K\1."), "not a PyTorch checkpoint");
    assert_null(tensor_file_open(scratch_path("absent"), &error));
    assert_contains(error.message, "absent: No such file");
    assert_null(tensor_file_open(scratch_folder, &error));
    assert_contains(error.message, "not a file");
    /* pytorch_open by itself. */
    const char *path = write_text("e", "");
    assert_refused(pytorch_open(path, &error), &error, path, "the file is empty");
    path = scratch_path("x.pt");
    assert_refused(pytorch_open(path, &error), &error, path, "in a pickle");
}

/* ---------------------------------------------------------------- indices */

static const char *write_index(const char *text) {
    return write_text("model.index.json", text);
}

static void refuse_index(const char *text, const char *part) {
    refuse_file(write_index(text), part);
}

static void test_index(void **state) {
    (void)state;
    limn_error error = {0};
    write_one("a.safetensors", "x", 1);
    write_one("b.safetensors", "a", 2);
    write_one("c.safetensors", "y", 3);
    const char *path =
        write_index("{\"metadata\":{\"total_size\":12},\"weight_map\":{\"y\":\"c.safetensors\",\"x\":\"a.safetensors\","
                    "\"a\":\"b.safetensors\"}}");
    tensor_file *file = tensor_file_open(path, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(tensor_file_count(file), 3);
    assert_int_equal(tensor_file_form(file), TENSOR_FORM_SAFETENSORS);
    assert_string_equal(tensor_file_path(file), path);
    assert_string_equal(tensor_file_at(file, 0)->name, "a");
    assert_floats(file, "x", FLOATS(1));
    assert_floats(file, "a", FLOATS(2));
    assert_floats(file, "y", FLOATS(3));
    assert_int_equal(json_integer_value(json_object_get(tensor_file_metadata(file), "total_size")), 12);
    tensor_file_close(file);
    /* PyTorch's shards, one with a view, whose layout must outlive them all. */
    for (int i = 0; i < 2; i++) {
        limn_buffer pickle = {0};
        PUT(&pickle, "}");
        pickle_text(&pickle, i ? "p.q" : "p.t");
        pickle_tensor(&pickle, "torch FloatStorage", "0", 4, 0, 2, (int64_t[]){2, 2},
                      i ? (int64_t[]){2, 1} : (int64_t[]){1, 2});
        PUT(&pickle, "s.");
        write_checkpoint(i ? "2.bin" : "1.bin", &pickle, 4);
    }
    file = tensor_file_open(write_index("{\"weight_map\":{\"p.t\":\"1.bin\",\"p.q\":\"2.bin\"}}"), &error);
    assert_string_equal(error.message, "");
    assert_int_equal(tensor_file_form(file), TENSOR_FORM_PYTORCH);
    assert_floats(file, "p.t", FLOATS(0, 2, 1, 3));
    assert_floats(file, "p.q", FLOATS(0, 1, 2, 3));
    assert_null(tensor_file_metadata(file));
    tensor_file_close(file);
    /* Flax's, whose names are joined with '/'. */
    scratch_write("1.msgpack", "\x81\xa1p\x81\xa1w\xc7\x0c\x01\x93\x91\x01\xa5uint8\xc4\x01\x07", 21);
    file = tensor_file_open(write_index("{\"weight_map\":{\"p/w\":\"1.msgpack\"}}"), &error);
    assert_string_equal(error.message, "");
    assert_floats(file, "p/w", FLOATS(7));
    tensor_file_close(file);
}

static void test_indices_that_lie(void **state) {
    (void)state;
    write_one("a.safetensors", "x", 1);
    write_one("b.safetensors", "y", 2);
    scratch_write("1.msgpack", "\x81\xa1w\xc7\x0c\x01\x93\x91\x01\xa5uint8\xc4\x01\x07", 18);
    write_text("cut.safetensors", "\x40");
    write_text("loop.index.json", "{\"weight_map\":{\"x\":\"loop.index.json\"}}");
    refuse_index("{}", "without a weight_map");
    refuse_index("{\"weight_map\":[]}", "without a weight_map");
    refuse_index("{\"weight_map\":{}}", "without a weight_map");
    refuse_index("{\"weight_map\":{\"x\":\"a.safetensors\"", "model.index.json: line 1");
    refuse_index("{\"weight_map\":{\"x\":\"a.safetensors\",\"x\":\"a.safetensors\"}}", "duplicate");
    refuse_index("{\"weight_map\":{\"\xff\":\"a.safetensors\"}}", "model.index.json");
    refuse_index("{\"weight_map\":{\"x\":\"absent.safetensors\"}}", "absent.safetensors: No such file");
    refuse_index("{\"weight_map\":{\"x\":\"cut.safetensors\"}}", "cut.safetensors");
    refuse_index("{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"a.safetensors\"}}",
                 "tensor 'y' is not in a.safetensors, where the index says");
    refuse_index("{\"weight_map\":{\"x\":\"b.safetensors\"}}", "tensor 'x' is not in b.safetensors");
    refuse_index("{\"weight_map\":{\"x\":\"a.safetensors\",\"w\":\"1.msgpack\"}}", "shards are of different forms");
    refuse_index("{\"weight_map\":{\"x\":7}}", "tensor 'x' is in '(no text)', which is not the name of a file");
    static const char *const names[] = {
        "", ".", "..", "../a.safetensors", "/etc/passwd", "./a.safetensors", "sub/a.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"weight_map\":{\"x\":\"%s\"}}", names[i]);
        refuse_index(text, "which is not the name of a file beside the index");
    }
    char far[6000] = "{\"weight_map\":{\"x\":\"";
    memset(far + strlen(far), 'f', 5000);
    strcat(far, "\"}}");
    refuse_index(far, "a path is too long");
    refuse_index("{\"weight_map\":{\"x\":\"loop.index.json\"}}", "a JSON file, where an index expects weights");
    refuse_index("{\"weight_map\":{\"x\":\"model.index.json\"}}", "a JSON file, where an index expects weights");
    /* A shard that holds more than the index has, before, between and after what it has. */
    float values[1] = {1};
    static const char *const held[] = {"k", "m", "o"};
    tensor three[3];
    for (size_t i = 0; i < 3; i++)
        three[i] = (tensor){.name = held[i], .type = TENSOR_F32, .rank = 1, .shape = {1}, .data = values};
    assert_int_equal(safetensors_write(scratch_path("three"), three, 3, NULL, NULL), 0);
    refuse_index("{\"weight_map\":{\"m\":\"three\",\"o\":\"three\"}}",
                 "three holds the tensor 'k', which the index has not in it");
    refuse_index("{\"weight_map\":{\"k\":\"three\",\"o\":\"three\"}}", "three holds the tensor 'm'");
    refuse_index("{\"weight_map\":{\"k\":\"three\",\"m\":\"three\"}}", "three holds the tensor 'o'");
    char deep[30000] = "{\"weight_map\":{\"x\":";
    size_t length = strlen(deep);
    memset(deep + length, '[', 10000);
    deep[length + 10000] = '\0';
    refuse_index(deep, "model.index.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_told_apart),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_indices_that_lie),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
