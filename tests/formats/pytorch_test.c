/* PyTorch's checkpoints that are as they should be: both forms, views, names, and what else stands in them. */
#include "tests/formats/check.h"

static tensor_file *open_checkpoint(limn_buffer *pickle, size_t count) {
    limn_error error = {0};
    tensor_file *file = pytorch_open(write_checkpoint("c.pt", pickle, count), &error);
    if (!file) fail_msg("%s", error.message);
    return file;
}

/* ---------------------------------------------------------------- files that torch.save made */

/* data/zip.pt and data/stream.pt are PyTorch 2.15's torch.save(o) and
 * torch.save(o, _use_new_zipfile_serialization=False) of one dict: the state_dict of Sequential(Linear(4, 3), BatchNorm1d(3))
 * with weight w = arange(12).reshape(3, 4) / 8; views w, w.t() and w[1:, 1::2]; half, brain (bfloat16), mask, ids, a
 * parameter, and two leaves that are no tensors. */
static void check_fixture(const char *path) {
    limn_error error = {0};
    tensor_file *file = tensor_file_open(path, &error);
    if (!file) fail_msg("%s", error.message);
    assert_int_equal(tensor_file_form(file), TENSOR_FORM_PYTORCH);
    assert_int_equal(tensor_file_count(file), 15);
    assert_floats(file, "state_dict.0.weight",
                  FLOATS(0, .125f, .25f, .375f, .5f, .625f, .75f, .875f, 1, 1.125f, 1.25f, 1.375f));
    assert_floats(file, "state_dict.0.bias", FLOATS(1, -2, .5f));
    assert_floats(file, "state_dict.1.num_batches_tracked", FLOATS(0));
    assert_floats(file, "views.0", FLOATS(0, .125f, .25f, .375f, .5f, .625f, .75f, .875f, 1, 1.125f, 1.25f, 1.375f));
    assert_floats(file, "views.1", FLOATS(0, .5f, 1, .125f, .625f, 1.125f, .25f, .75f, 1.25f, .375f, .875f, 1.375f));
    assert_floats(file, "views.2", FLOATS(.625f, .875f, 1.125f, 1.375f));
    assert_floats(file, "half", FLOATS(1.5f, -2));
    assert_floats(file, "brain", FLOATS(3, -.25f));
    assert_floats(file, "mask", FLOATS(1, 0));
    assert_floats(file, "parameter", FLOATS(2.5f));
    int64_t ids[2];
    tensor_to_int64(tensor_file_find(file, "ids"), 0, 2, ids);
    assert_true(ids[0] == 5 && ids[1] == 6);
    assert_non_null(tensor_file_find(file, "views.0")->data);
    assert_null(tensor_file_find(file, "views.1")->data);
    assert_int_equal(json_integer_value(json_object_get(tensor_file_metadata(file), "epoch")), 7);
    assert_string_equal(json_string_value(json_object_get(tensor_file_metadata(file), "name")), "tiny");
    tensor_file_close(file);
}

/* Cut anywhere, it is an error and nothing worse. */
static void check_prefixes(const char *path) {
    size_t size;
    char *bytes = limn_file_read(path, 1 << 20, &size, NULL);
    assert_non_null(bytes);
    for (size_t cut = 0; cut < size; cut++) {
        limn_error error = {0};
        const char *prefix = scratch_write("prefix.pt", bytes, cut);
        assert_refused(pytorch_open(prefix, &error), &error, prefix, "");
        if (cut != 1) assert_null(tensor_file_open(prefix, NULL)); /* 0x80 alone is an empty map of msgpack */
    }
    free(bytes);
}

static void test_torch_save(void **state) {
    (void)state;
    check_fixture("data/zip.pt");
    check_fixture("data/stream.pt");
}

static void test_every_prefix(void **state) {
    (void)state;
    check_prefixes("data/zip.pt");
    check_prefixes("data/stream.pt");
}

/* ---------------------------------------------------------------- views */

static void put_view(limn_buffer *out, const char *name, int64_t offset, size_t rank, const int64_t *shape,
                     const int64_t *strides) {
    pickle_text(out, name);
    pickle_tensor(out, "torch FloatStorage", "0", 24, offset, rank, shape, strides);
}

static void test_views(void **state) {
    (void)state;
    limn_buffer pickle = {0};
    PUT(&pickle, "\x80\x02}(");
    put_view(&pickle, "whole", 0, 2, (int64_t[]){4, 6}, (int64_t[]){6, 1});
    put_view(&pickle, "turned", 0, 2, (int64_t[]){6, 4}, (int64_t[]){1, 6});
    put_view(&pickle, "permuted", 0, 3, (int64_t[]){3, 2, 4}, (int64_t[]){1, 12, 3});
    put_view(&pickle, "sliced", 7, 2, (int64_t[]){2, 2}, (int64_t[]){6, 2});
    put_view(&pickle, "rows", 6, 2, (int64_t[]){2, 6}, (int64_t[]){6, 1});
    put_view(&pickle, "column", 1, 2, (int64_t[]){4, 1}, (int64_t[]){6, 1});
    put_view(&pickle, "repeated", 5, 2, (int64_t[]){2, 3}, (int64_t[]){0, 1});
    put_view(&pickle, "one", 23, 0, NULL, NULL);
    put_view(&pickle, "odd strides of a size of 1", 2, 3, (int64_t[]){1, 3, 1}, (int64_t[]){99, 1, 77});
    put_view(&pickle, "none", 24, 2, (int64_t[]){0, 4}, (int64_t[]){4, 1});
    PUT(&pickle, "u.");
    tensor_file *file = open_checkpoint(&pickle, 24);
    assert_int_equal(tensor_file_count(file), 10);
    assert_floats(file, "whole", FLOATS(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23));
    assert_floats(file, "turned", FLOATS(0, 6, 12, 18, 1, 7, 13, 19, 2, 8, 14, 20, 3, 9, 15, 21, 4, 10, 16, 22, 5, 11, 17, 23));
    assert_floats(file, "permuted",
                  FLOATS(0, 3, 6, 9, 12, 15, 18, 21, 1, 4, 7, 10, 13, 16, 19, 22, 2, 5, 8, 11, 14, 17, 20, 23));
    assert_floats(file, "sliced", FLOATS(7, 9, 13, 15));
    assert_floats(file, "rows", FLOATS(6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17));
    assert_floats(file, "column", FLOATS(1, 7, 13, 19));
    assert_floats(file, "repeated", FLOATS(5, 6, 7, 5, 6, 7));
    assert_floats(file, "one", FLOATS(23));
    assert_floats(file, "odd strides of a size of 1", FLOATS(2, 3, 4));
    assert_int_equal(tensor_file_find(file, "none")->count, 0);
    assert_non_null(tensor_file_find(file, "rows")->data);
    assert_non_null(tensor_file_find(file, "odd strides of a size of 1")->data);
    /* As whole numbers, and a run that begins in the middle of a row. */
    int64_t whole[5];
    tensor_to_int64(tensor_file_find(file, "turned"), 6, 5, whole);
    assert_memory_equal(whole, ((int64_t[]){13, 19, 2, 8, 14}), sizeof whole);
    float middle[5];
    tensor_to_float(tensor_file_find(file, "permuted"), 7, 5, middle);
    assert_memory_equal(middle, ((float[]){21, 1, 4, 7, 10}), sizeof middle);
    tensor_file_close(file);
}

/* A strided tensor of more elements than are gathered at once. */
static void test_large_view(void **state) {
    (void)state;
    enum { SIDE = 300 };
    limn_buffer pickle = {0};
    uint16_t *values = calloc((size_t)SIDE * SIDE, sizeof *values);
    for (size_t i = 0; i < (size_t)SIDE * SIDE; i++) values[i] = (uint16_t)(i % 2048 < 1024 ? 0x3c00 + i % 1024 : i % 1024);
    PUT(&pickle, "\x80\x02");
    pickle_tensor(&pickle, "torch HalfStorage", "h", SIDE * SIDE, 0, 2, (int64_t[]){SIDE, SIDE}, (int64_t[]){1, SIDE});
    PUT(&pickle, ".");
    zip_maker zip = {0};
    zip_add(&zip, (zip_made){.name = "x/data.pkl", .data = pickle.data, .size = pickle.size});
    zip_add(&zip, (zip_made){.name = "x/data/h", .data = values, .size = (size_t)SIDE * SIDE * 2});
    zip_end(&zip, 0, 0);
    limn_error error = {0};
    tensor_file *file = pytorch_open(scratch_write("h.pt", zip.file.data, zip.file.size), &error);
    assert_string_equal(error.message, "");
    const tensor *one = tensor_file_find(file, "tensor"); /* the root has no key */
    float *out = calloc((size_t)SIDE * SIDE, sizeof *out);
    tensor_to_float(one, 0, (size_t)SIDE * SIDE, out);
    for (size_t r = 0; r < SIDE; r++)
        for (size_t c = 0; c < SIDE; c++) {
            uint16_t bits = values[c * SIDE + r];
            float expected = bits >= 0x3c00 ? 1 + (float)(bits - 0x3c00) / 1024 : (float)bits * 0x1p-24f;
            if (out[r * SIDE + c] != expected) fail_msg("row %zu, column %zu", r, c);
        }
    tensor_file_close(file);
    free(out);
    free(values);
    limn_buffer_free(&pickle);
    zip_discard(&zip);
}

/* ---------------------------------------------------------------- ways to write a tensor */

static void put_arguments(limn_buffer *out, const char *storage_class, const char *key, int64_t elements) {
    pickle_storage(out, storage_class, key, elements);
    pickle_view(out, 1, 1, &(int64_t){3}, &(int64_t){1});
}

static void test_kinds_of_tensors(void **state) {
    (void)state;
    limn_buffer p = {0};
    PUT(&p, "\x80\x02}(");
    pickle_text(&p, "parameter"); /* _rebuild_parameter(tensor, True, OrderedDict()) */
    pickle_class(&p, "torch._utils _rebuild_parameter");
    PUT(&p, "(");
    pickle_vector(&p, "0", 4);
    PUT(&p, "\x88}tR");
    pickle_text(&p, "with_state");
    pickle_class(&p, "torch._utils _rebuild_parameter_with_state");
    PUT(&p, "(");
    pickle_vector(&p, "0", 4);
    PUT(&p, "\x88}}tR");
    pickle_text(&p, "new"); /* NEWOBJ */
    pickle_class(&p, "torch.nn.parameter Parameter");
    PUT(&p, "(");
    pickle_vector(&p, "0", 4);
    PUT(&p, "t\x81");
    pickle_text(&p, "called"); /* torch 0.2: Parameter(data) and a state of three */
    pickle_class(&p, "torch.nn.parameter Parameter");
    PUT(&p, "(");
    pickle_vector(&p, "0", 4);
    PUT(&p, "tR(\x88\x89}tb");
    pickle_text(&p, "filled"); /* torch 0.1: an empty Variable, whose state of five holds the data */
    pickle_class(&p, "copy_reg __newobj__");
    PUT(&p, "(");
    pickle_class(&p, "torch.autograd.variable Variable");
    PUT(&p, "tR(");
    pickle_vector(&p, "0", 4);
    PUT(&p, "N}\x88\x89tb");
    pickle_text(&p, "old"); /* _rebuild_tensor(storage, offset, size, stride) */
    pickle_class(&p, "torch._utils _rebuild_tensor");
    PUT(&p, "(");
    pickle_storage(&p, "torch.cuda FloatStorage", "0", 4);
    PUT(&p, "K\2K\2\x85K\1\x85tR");
    pickle_text(&p, "v3"); /* uint16, whose storage is untyped */
    pickle_class(&p, "torch._utils _rebuild_tensor_v3");
    PUT(&p, "(");
    put_arguments(&p, "torch.storage UntypedStorage", "bytes", 8);
    pickle_class(&p, "torch uint16");
    PUT(&p, "}tR");
    pickle_text(&p, "untyped");
    pickle_class(&p, "torch._utils _rebuild_tensor_v2");
    PUT(&p, "(");
    put_arguments(&p, "torch.storage UntypedStorage", "bytes", 8);
    PUT(&p, "}tR"); /* with empty metadata */
    pickle_text(&p, "from_type");
    pickle_class(&p, "torch._tensor _rebuild_from_type_v2");
    PUT(&p, "(");
    pickle_class(&p, "torch._utils _rebuild_tensor_v2");
    pickle_class(&p, "torch Tensor");
    PUT(&p, "(");
    put_arguments(&p, "torch LongStorage", "bytes", 1);
    PUT(&p, "t}tR");
    pickle_text(&p, "size"); /* a shape as torch.Size */
    pickle_class(&p, "torch._utils _rebuild_tensor_v2");
    PUT(&p, "(");
    pickle_storage(&p, "torch FloatStorage", "0", 4);
    PUT(&p, "K\1");
    pickle_class(&p, "torch Size");
    PUT(&p, "K\2\x85\x85RK\1\x85\x89}tR");
    PUT(&p, "u.");
    limn_error error = {0};
    /* The one from a type goes past its storage of one int64: the file is refused for it, then mended. */
    size_t at = 0;
    while (memcmp(p.data + at, "LongStorage", 11) != 0) at++;
    limn_buffer whole = {0};
    put(&whole, p.data, p.size);
    const char *path = write_checkpoint("c.pt", &whole, 4);
    assert_refused(pytorch_open(path, &error), &error, path, "tensor 'from_type' goes past the end of its storage of 8 bytes");
    memcpy(p.data + at, "ByteStorage", 11);
    while (memcmp(p.data + at, "\x8a\x08\1", 3) != 0) at++;
    p.data[at + 2] = 8;
    tensor_file *file = open_checkpoint(&p, 4);
    assert_int_equal(tensor_file_count(file), 10);
    static const char *const vectors[] = {"parameter", "with_state", "new", "called", "filled"};
    for (size_t i = 0; i < 5; i++) assert_floats(file, vectors[i], FLOATS(0, 1, 2, 3));
    assert_floats(file, "old", FLOATS(2, 3));
    assert_floats(file, "size", FLOATS(1, 2));
    assert_floats(file, "v3", FLOATS(0x0403, 0x0605, 0x0807));
    assert_int_equal(tensor_file_find(file, "v3")->type, TENSOR_U16);
    assert_floats(file, "untyped", FLOATS(2, 3, 4));
    assert_floats(file, "from_type", FLOATS(2, 3, 4));
    tensor_file_close(file);
}

/* ---------------------------------------------------------------- names */

static void test_names_and_metadata(void **state) {
    (void)state;
    limn_buffer p = {0};
    PUT(&p, "\x80\x04\x95\1\0\0\0\0\0\0\0}\x94(");
    pickle_text(&p, "list");
    PUT(&p, "](");
    pickle_vector(&p, "0", 2);
    PUT(&p, "(");
    pickle_vector(&p, "0", 2);
    PUT(&p, "N\x88K\5te"); /* a tuple in the list: tensor, None, True, 5 */
    pickle_text(&p, "deep");
    PUT(&p, "}");
    pickle_text(&p, "er");
    PUT(&p, "}(K\x07");
    pickle_vector(&p, "0", 2);
    PUT(&p, "J\xff\xff\xff\xff");
    pickle_vector(&p, "0", 2);
    PUT(&p, "C\5bytes");
    pickle_vector(&p, "0", 2);
    pickle_text(&p, "caf\xc3\xa9.x");
    pickle_vector(&p, "0", 2);
    pickle_class(&p, "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint");
    PUT(&p, "}");
    pickle_text(&p, "best");
    pickle_vector(&p, "0", 2);
    PUT(&p, "su\x73");
    pickle_text(&p, "real");
    PUT(&p, "G\x3f\xf8\0\0\0\0\0\0");
    pickle_text(&p, "not a number");
    PUT(&p, "G\x7f\xf8\0\0\0\0\0\0");
    pickle_text(&p, "large");
    PUT(&p, "\x8a\x09\1\2\3\4\5\6\7\x08\x09");
    pickle_text(&p, "negative");
    PUT(&p, "\x8a\1\xfe");
    pickle_text(&p, "truth");
    PUT(&p, "\x89");
    pickle_text(&p, "set");
    PUT(&p, "\x8f(K\1\x90(K\2\x91");
    PUT(&p, "0"); /* the frozenset goes again */
    pickle_text(&p, "hyper_parameters");
    pickle_class(&p, "pytorch_lightning.utilities.parsing AttributeDict");
    PUT(&p, ")\x81}(");
    pickle_text(&p, "lr");
    PUT(&p, "G\x3f\xe0\0\0\0\0\0\0u2"); /* the attributes are no items */
    PUT(&p, "0b(");
    pickle_text(&p, "name");
    pickle_text(&p, "x");
    PUT(&p, "u");
    pickle_text(&p, "array"); /* NumPy's scalar and array, as Lightning leaves them */
    PUT(&p, "](");
    pickle_class(&p, "numpy.core.multiarray scalar");
    pickle_class(&p, "numpy dtype");
    PUT(&p, "(");
    pickle_text(&p, "f8");
    PUT(&p, "\x89\x88tR(K\3");
    pickle_text(&p, "<");
    PUT(&p, "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
    PUT(&p, "C\x08\0\0\0\0\0\0\xf0\x3f\x86R");
    pickle_class(&p, "numpy._core.multiarray _reconstruct");
    pickle_class(&p, "numpy ndarray");
    PUT(&p, "K\0\x85");
    pickle_class(&p, "_codecs encode");
    pickle_text(&p, "b");
    pickle_text(&p, "latin1");
    PUT(&p, "\x86R\x87R(K\1K\1\x85N\x89"
            "C\0tbeu.");
    tensor_file *file = open_checkpoint(&p, 2);
    static const char *const names[] = {"deep.er.-1",
                                        "deep.er.7",
                                        "deep.er.bytes",
                                        "deep.er.caf\xc3\xa9.x",
                                        "deep.er.pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint.best",
                                        "list.0",
                                        "list.1.0"};
    assert_int_equal(tensor_file_count(file), sizeof names / sizeof *names);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_string_equal(tensor_file_at(file, i)->name, names[i]);
        assert_floats(file, names[i], FLOATS(0, 1));
    }
    char *metadata = json_dumps(tensor_file_metadata(file), JSON_SORT_KEYS | JSON_COMPACT);
    assert_string_equal(metadata, "{\"hyper_parameters.name\":\"x\",\"negative\":-2,\"real\":1.5,\"truth\":false}");
    free(metadata);
    tensor_file_close(file);
}

/* ---------------------------------------------------------------- old pickles */

/* Protocol 0, as Python 2 wrote it, with every form of a number and a text; the tensor itself needs protocol 1. */
static void test_protocol_0(void **state) {
    (void)state;
    limn_buffer p = {0};
    PUT(&p, "(dp0\nS'quo\\'te "
            "\\x41\\n\\101'\np1\nI5\nsg1\n0S\"b\"\nL123456789012L\nsVu\\u00e9\\U0001F600\xe9\nF1.5\nsS't'\nI01\nsS'f'\nI00\ns"
            "S'n'\nI-7\nsS'big'\nL12345678901234567890L\nsS'l'\n(lp2\nI1\naI2\nas"
            "S'e'\n(tsS'w'\n");
    pickle_vector(&p, "0", 2);
    PUT(&p, "s.");
    tensor_file *file = open_checkpoint(&p, 2);
    assert_floats(file, "w", FLOATS(0, 1));
    char *metadata = json_dumps(tensor_file_metadata(file), JSON_SORT_KEYS | JSON_COMPACT);
    assert_string_equal(metadata, "{\"b\":123456789012,\"f\":false,\"n\":-7,\"quo'te A\\nA\":5,\"t\":true,"
                                  "\"u\xc3\xa9\xf0\x9f\x98\x80\xc3\xa9\":1.5}");
    free(metadata);
    tensor_file_close(file);
}

/* An OrderedDict made of a list of pairs, with texts of one byte a character: torchvision's first models. */
static void test_python_2(void **state) {
    (void)state;
    limn_buffer p = {0};
    PUT(&p, "\x80\x02"
            "ccollections\nOrderedDict\nq\0]q\1(]q\2(U\x11"
            "features.0.weightq\3");
    pickle_vector(&p, "0", 2);
    PUT(&p, "e]q\4(T\x0f\0\0\0features.0.bias");
    pickle_vector(&p, "0", 2);
    PUT(&p, "e(U\x05tuple");
    pickle_vector(&p, "0", 2);
    PUT(&p, "te\x85Rq\5.");
    tensor_file *file = open_checkpoint(&p, 2);
    assert_int_equal(tensor_file_count(file), 3);
    assert_floats(file, "features.0.weight", FLOATS(0, 1));
    assert_floats(file, "features.0.bias", FLOATS(0, 1));
    assert_floats(file, "tuple", FLOATS(0, 1));
    tensor_file_close(file);
}

/* ---------------------------------------------------------------- the stream */

/* Two storages, one of them seen through a view that torch 0.1 could save. */
static void make_stream(limn_buffer *out, const char *view) {
    stream_head(out, true);
    PUT(out, "\x80\x02}(");
    pickle_text(out, "a");
    pickle_class(out, "torch._utils _rebuild_tensor");
    PUT(out, "((");
    pickle_text(out, "storage");
    pickle_class(out, "torch FloatStorage");
    pickle_text(out, "111");
    pickle_text(out, "cuda:0");
    PUT(out, "K\5");
    put(out, view, strlen(view));
    PUT(out, "tQK\1K\2\x85K\1\x85tR");
    pickle_text(out, "b");
    pickle_class(out, "torch._utils _rebuild_tensor");
    PUT(out, "((");
    pickle_text(out, "storage");
    pickle_class(out, "torch ByteStorage");
    pickle_text(out, "22");
    pickle_text(out, "cpu");
    PUT(out, "K\2NtQI0\nK\2\x85K\1\x85tRu.");
    PUT(out, "\x80\x02](");
    pickle_text(out, "111");
    pickle_text(out, "22");
    PUT(out, "e.");
    put_number(out, 5, 8);
    for (size_t i = 0; i < 5; i++) put(out, &(float){(float)i + 10}, 4);
    put_number(out, 2, 8);
    PUT(out, "\x07\x08");
}

/* Asserts that changing the first occurrence of some bytes makes the stream refused. */
static void refuse_changed(const limn_buffer *good, const char *from, const char *to, size_t length, const char *part) {
    limn_buffer changed = {0};
    limn_error error = {0};
    put(&changed, good->data, good->size);
    char *at = memmem(changed.data, changed.size, from, length);
    assert_non_null(at);
    memcpy(at, to, length);
    const char *path = scratch_write("s.pt", changed.data, changed.size);
    assert_refused(pytorch_open(path, &error), &error, path, part);
    limn_buffer_free(&changed);
}

static void test_stream(void **state) {
    (void)state;
    limn_buffer stream = {0};
    limn_error error = {0};
    make_stream(&stream, "(U\1vK\1K\3t");
    tensor_file *file = pytorch_open(scratch_write("s.pt", stream.data, stream.size), &error);
    assert_string_equal(error.message, "");
    assert_floats(file, "a", FLOATS(12, 13)); /* the view begins at 1, the tensor at 1 of it */
    assert_floats(file, "b", FLOATS(7, 8));
    tensor_file_close(file);
    refuse_changed(&stream, "\x8a\x0al", "\x8a\x0am", 3, "not a PyTorch checkpoint");
    refuse_changed(&stream, ".\x80\x02M\xe9\x03", ".\x80\x02M\xea\x03", 6, "another version than 1001");
    refuse_changed(&stream, "little_endian\x88", "little_endian\x89", 14, "little-endian");
    refuse_changed(&stream, "little_endian", "lattle_endian", 13, "little-endian");
    refuse_changed(&stream, "(U\1vK\1K\3t", "(U\1vK\3K\3t", 9, "a needs a view that goes past the end of its storage");
    refuse_changed(&stream, "(U\1vK\1K\3t", "(U\1vK\1K\2t", 9, "tensor 'a' goes past the end of its storage of 8 bytes");
    refuse_changed(&stream, "(U\1vK\1K\3t", "(U\1v2N0Nt", 9, "a view of a storage that is not (key, offset, size)");
    refuse_changed(&stream, "\x80\x02](X\3\0\0\000111", "\x80\x02](X\3\0\0\000112", 12, "a storage that no tensor uses");
    refuse_changed(&stream, "\5\0\0\0\0\0\0\0", "\4\0\0\0\0\0\0\0", 8, "a storage goes past the end");
    refuse_changed(&stream, "\5\0\0\0\0\0\0\0", "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "a storage goes past the end");
    refuse_changed(&stream, "\5\0\0\0\0\0\0\0", "\1\0\0\0\0\0\0\x40", 8, "a storage goes past the end"); /* × 4 is 4 */
    refuse_changed(&stream, "torch\nByte", "torch\nChar", 10, "type int8");
    refuse_changed(&stream, "\x80\x02](X", "\x80\x02\x8f(X", 5, "no list of storages");
    stream.size -= 6; /* within the number of the last storage's elements */
    refuse_changed(&stream, "", "", 0, "the storages are cut short");
    stream.size += 6;
    put(&stream, "x", 1);
    const char *path = scratch_write("s.pt", stream.data, stream.size);
    assert_refused(pytorch_open(path, &error), &error, path, "bytes left over after the storages");
    limn_buffer_free(&stream);
    static const char *const views[] = {"K\1",
                                        "\x88",
                                        ")",
                                        "(U\1vK\1t",
                                        "(U\1vK\1K\1K\1t",
                                        "(U\1vNK\3t",
                                        "(U\1vK\1Nt",
                                        "(U\1vJ\xff\xff\xff\xffK\1t",
                                        "(U\1vK\1J\xff\xff\xff\xfft"};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        make_stream(&stream, views[i]);
        refuse_changed(&stream, "", "", 0, "a view of a storage that is not (key, offset, size)");
        limn_buffer_free(&stream);
    }
    make_stream(&stream, "(U\1vK\6I0\nt");
    refuse_changed(&stream, "", "", 0, "needs a view that goes past the end of its storage");
    limn_buffer_free(&stream);
    /* A storage in the list twice, and one that is not in it. */
    make_stream(&stream, "N");
    refuse_changed(&stream, "X\2\0\0\00022e.", "2N0N0N0e.", 9, "a storage that no tensor uses, or twice");
    stream.size -= 10;
    refuse_changed(&stream, "X\2\0\0\00022e.",
                   "K\000"
                   "0N0N0e.",
                   9, "b needs the storage 22, which the file does not hold");
    limn_buffer_free(&stream);
}

/* Numbers of another kind, whose bytes are those of the right ones. */
static void test_stream_heads(void **state) {
    (void)state;
    limn_buffer stream = {0};
    PUT(&stream, "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02G\0\0\0\0\0\0\x03\xe9.");
    refuse_changed(&stream, "", "", 0, "another version than 1001");
    stream.size -= 10;
    PUT(&stream, "M\xe9\x03.\x80\x02}U\x0dlittle_endianK\1s.");
    refuse_changed(&stream, "", "", 0, "little-endian");
    limn_buffer_free(&stream);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch_save),   cmocka_unit_test(test_every_prefix),     cmocka_unit_test(test_views),
        cmocka_unit_test(test_large_view),   cmocka_unit_test(test_kinds_of_tensors), cmocka_unit_test(test_names_and_metadata),
        cmocka_unit_test(test_protocol_0),   cmocka_unit_test(test_python_2),         cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_heads),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
