/* PyTorch checkpoints: the zip form, the stream, and pickles alone. An input that is neither is taken as the data.pkl of a zip
 * file that is otherwise good, so that mutations reach the machine that reads it. */
#include "tests/formats/make.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/tensors.h"

static const int64_t shape[2] = {2, 2}, turned[2] = {1, 2}, straight[2] = {2, 1};

/* What torch.save makes of a Lightning checkpoint, in short. */
static void make_pickle(limn_buffer *out) {
    PUT(out, "\x80\x02}(");
    pickle_text(out, "epoch");
    PUT(out, "K\3");
    pickle_text(out, "state_dict");
    pickle_class(out, "collections OrderedDict");
    PUT(out, ")R(");
    pickle_text(out, "a.weight");
    pickle_tensor(out, "torch FloatStorage", "0", 4, 0, 2, shape, straight);
    PUT(out, "q\1");
    pickle_text(out, "a.turned");
    pickle_tensor(out, "torch FloatStorage", "0", 4, 0, 2, shape, turned);
    pickle_text(out, "a.again");
    PUT(out, "h\1");
    pickle_text(out, "bytes");
    pickle_class(out, "torch._utils _rebuild_tensor_v3");
    PUT(out, "(");
    pickle_storage(out, "torch.storage UntypedStorage", "bytes", 8);
    pickle_view(out, 0, 1, &(int64_t){4}, &(int64_t){1});
    pickle_class(out, "torch uint16");
    PUT(out, "tRu}");
    pickle_text(out, "_metadata");
    PUT(out, "}sb");
    pickle_text(out, "optimizer_states");
    PUT(out, "]}(K\0");
    pickle_class(out, "torch._utils _rebuild_parameter");
    PUT(out, "(");
    pickle_tensor(out, "torch HalfStorage", "0", 8, 1, 1, &(int64_t){3}, &(int64_t){2});
    PUT(out, "\x88}tRua");
    pickle_text(out, "hyper_parameters");
    pickle_class(out, "pytorch_lightning.utilities.parsing AttributeDict");
    PUT(out, ")\x81}(");
    pickle_text(out, "lr");
    PUT(out, "G\x3f\xe0\0\0\0\0\0\0ubu.");
}

/* Opcodes of every protocol. */
static void make_opcodes(limn_buffer *out) {
    PUT(out, "\x80\x05\x95\0\0\0\0\0\0\0\0](K\1I1\nM\1\0L1L\nJ\1\0\0\0F1.5\nN\x88\x89\x8a\1\1\x8b\1\0\0\0\1S'a\\x41'\nU\1b"
             "\x8c\1cT\1\0\0\0d\x8d\1\0\0\0\0\0\0\0fVg\\u00e9\nC\1hB\1\0\0\0i\x8e\1\0\0\0\0\0\0\0j\x96\1\0\0\0\0\0\0\0k"
             "K\2\x85K\3K\3\x86K\4K\4K\4\x87)](K\1e]K\1a(l}K\1K\2s(d(t\x8f(K\1\x90(K\1\x91p3\nq\x20r\x21\0\0\0\x94g3\nh\x20"
             "j\x21\0\0\0002"
             "0(K\1"
             "1ctorch\nTensor\n\x8c\x05torch\x8c\x04Size\x93"
             "ccollections\nOrderedDict\n](](U\1kK\1ee\x85R)b"
             "(icollections\nOrderedDict\n(ccollections\nOrderedDict\noe.");
}

static void make_stream(limn_buffer *out) {
    stream_head(out, true);
    PUT(out, "\x80\x02}(U\1a");
    pickle_class(out, "torch._utils _rebuild_tensor");
    PUT(out, "((U\7storage");
    pickle_class(out, "torch.cuda FloatStorage");
    PUT(out, "U\003111U\6cuda:0K\5(U\1vK\1K\3ttQK\1K\2\x85K\1\x85tRU\1b");
    pickle_class(out, "torch.nn.parameter Parameter");
    PUT(out, "(");
    pickle_tensor(out, "torch ByteStorage", "22", 2, 0, 1, &(int64_t){2}, &(int64_t){1});
    PUT(out, "tR(\x88\x89}tbu.\x80\x02](U\003111U\00222e.");
    put_number(out, 5, 8);
    for (size_t i = 0; i < 5; i++) put(out, &(float){(float)i}, 4);
    put_number(out, 2, 8);
    PUT(out, "\7\10");
}

static bool make_zip(limn_buffer *out, const limn_buffer *pickle, bool zip64) {
    zip_maker zip = {0};
    make_checkpoint(&zip, pickle, 4);
    if (zip64) {
        zip_add(&zip, (zip_made){.name = "archive/more", .data = "x", .size = 1, .zip64 = true});
        zip_end64(&zip, 0);
    } else {
        zip_end(&zip, 0, 0);
    }
    put(out, zip.file.data, zip.file.size);
    zip_discard(&zip);
    return true;
}

static bool make_seed(size_t index, limn_buffer *out) {
    limn_buffer pickle = {0};
    if (index == 0) make_stream(out);
    if (index == 1) make_pickle(out);
    if (index == 2) make_opcodes(out);
    if (index == 3 || index == 4) {
        make_pickle(&pickle);
        make_zip(out, &pickle, index == 4);
        limn_buffer_free(&pickle);
    }
    return index < 5;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0};
    limn_buffer wrapped = {0};
    if (size >= 2 && memcmp(data, "PK", 2) != 0 && !memmem(data, size < 40 ? size : 40, "\x8a\x0al\xfc\x9c\x46", 6)) {
        make_zip(&wrapped, &(limn_buffer){.data = (char *)(uintptr_t)data, .size = size}, false);
        data = wrapped.data;
        size = wrapped.size;
    }
    tensor_file *file = pytorch_open(fuzz_file("input.pt", data, size), &error);
    limn_buffer_free(&wrapped);
    return file ? fuzz_read_tensors(file) : fuzz_check_error(&error);
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
