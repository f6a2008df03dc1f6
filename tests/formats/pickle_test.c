/* Pickles that want something executed, and pickles that lie. Each is in a checkpoint that is otherwise good. */
#include "tests/formats/check.h"

static void refuse(limn_buffer *pickle, const char *part) {
    limn_error error = {0};
    const char *path = write_checkpoint("bad.pt", pickle, 4);
    assert_refused(pytorch_open(path, &error), &error, path, part);
}

/* A pickle from a literal. */
#define REFUSE(literal, part)                                                                                                  \
    do {                                                                                                                       \
        limn_buffer pickle = {0};                                                                                              \
        PUT(&pickle, literal);                                                                                                 \
        refuse(&pickle, part);                                                                                                 \
    } while (0)

/* ---------------------------------------------------------------- execution */

/* A command that would leave a file, were it run. */
static const char *command(void) {
    static char text[1100];
    snprintf(text, sizeof text, "touch %s", scratch_path("executed"));
    return text;
}

static void put_command_line(limn_buffer *out) {
    PUT(out, "S'");
    put(out, command(), strlen(command()));
    PUT(out, "'\n");
}

/* Every way that a pickle can name os.system and have it called. */
static void make_attack(size_t index, limn_buffer *p) {
    switch (index) {
    case 0: /* protocol 0: GLOBAL, REDUCE */
        PUT(p, "cos\nsystem\n(");
        put_command_line(p);
        PUT(p, "tR.");
        return;
    case 1: /* protocol 0: INST */
        PUT(p, "(");
        put_command_line(p);
        PUT(p, "ios\nsystem\n.");
        return;
    case 2: /* protocol 1: OBJ */
        PUT(p, "(cos\nsystem\n");
        pickle_text(p, command());
        PUT(p, "o.");
        return;
    case 3: /* protocol 2: in a dict of tensors, as torch.save puts an object with __reduce__ */
        PUT(p, "\x80\x02}(");
        pickle_text(p, "w");
        pickle_vector(p, "0", 4);
        pickle_text(p, "x");
        PUT(p, "cposix\nsystem\nq\1");
        pickle_text(p, command());
        PUT(p, "\x85Ru.");
        return;
    case 4: /* protocol 4: STACK_GLOBAL, REDUCE */
        PUT(p, "\x80\x04\x8c\x05posix\x8c\x06system\x93");
        pickle_text(p, command());
        PUT(p, "\x85R.");
        return;
    case 5: /* NEWOBJ */
        PUT(p, "\x80\x02"
               "cos\nsystem\n");
        pickle_text(p, command());
        PUT(p, "\x85\x81.");
        return;
    case 6: /* NEWOBJ_EX */
        PUT(p, "\x80\x04"
               "cos\nsystem\n");
        pickle_text(p, command());
        PUT(p, "\x85}\x92.");
        return;
    case 7: /* BUILD: sets an attribute to it */
        PUT(p, "\x80\x02"
               "ccollections\nOrderedDict\n)R}");
        pickle_text(p, "__setstate__");
        PUT(p, "cos\nsystem\nsb");
        pickle_text(p, command());
        PUT(p, "b.");
        return;
    case 8: /* through a function of copyreg */
        PUT(p, "ccopy_reg\n__newobj__\n(cos\nsystem\n");
        pickle_text(p, command());
        PUT(p, "tR.");
        return;
    default: /* through a function of torch */
        PUT(p, "ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nN");
        pickle_text(p, command());
        PUT(p, "\x85}tR.");
    }
}

static void test_nothing_is_executed(void **state) {
    (void)state;
    for (size_t i = 0; i < 10; i++) {
        limn_buffer pickle = {0};
        limn_error error = {0};
        make_attack(i, &pickle);
        const char *path = write_checkpoint("attack.pt", &pickle, 4);
        assert_refused(pytorch_open(path, &error), &error, path,
                       "system, which weights do not need; nothing of it was executed");
        assert_contains(error.message, "attack.pt: byte ");
        /* The same in the stream form. */
        limn_buffer stream = {0};
        stream_head(&stream, true);
        make_attack(i, &stream);
        PUT(&stream, "\x80\x02].");
        memset(&error, 0, sizeof error);
        path = scratch_write("attack.pth", stream.data, stream.size);
        assert_refused(pytorch_open(path, &error), &error, path, "system, which weights do not need");
        limn_buffer_free(&stream);
        assert_false(limn_file_exists(scratch_path("executed")));
    }
}

static void test_other_classes(void **state) {
    (void)state;
    REFUSE("cbuiltins\neval\n(S'1'\ntR.", "the class builtins.eval,");
    REFUSE("c__builtin__\neval\n(S'1'\ntR.", "the class __builtin__.eval,");
    REFUSE("cbuiltins\ngetattr\n.", "builtins.getattr");
    REFUSE("cnumpy\nload\n.", "numpy.load");
    REFUSE("ctorch\nload\n.", "torch.load");
    REFUSE("ctorch.nn.modules.linear\nLinear\n)\x81.", "save its state_dict() alone");
    REFUSE("ctorch._utils\n_rebuild_sparse_tensor\n.", "_rebuild_sparse_tensor");
    REFUSE("\x80\x04\x8c\x08"
           "builtins\x8c\x04"
           "exec\x93.",
           "builtins.exec");
    REFUSE("\x80\x04\x8c\x05posixK\1\x93.", "a class without a name");
    REFUSE("ctorch\n\xff\n.", "nothing of it was executed"); /* the message stays one line of UTF-8 */
    /* The byte is that of the instruction in the file: 30 + 16 + 3 of the local header, and 2. */
    REFUSE("\x80\x02"
           "cos\nsystem\n.",
           "byte 51: ");
    REFUSE("\x82\1.", "registry of extensions");
    REFUSE("\x83\1\0.", "registry of extensions");
    REFUSE("\x84\1\0\0\0.", "registry of extensions");
    REFUSE("S'os.system'\n(tR.", "calls what is not a class; nothing was executed");
    REFUSE("(S'os.system'\no.", "calls what is not a class; nothing was executed");
    REFUSE("(o.", "calls what is not a class; nothing was executed");
    REFUSE("ccollections\nOrderedDict\nNR.", "without a tuple of arguments; nothing was executed");
    REFUSE("ctorch\nFloatStorage\n)R.", "the pickle calls torch.FloatStorage, which is not a way to make weights");
    REFUSE("ctorch\nfloat32\n)R.", "the pickle calls torch.float32");
    REFUSE("ccopyreg\n__newobj__\n)R.", "makes an object without a class");
    REFUSE("ccopyreg\n__newobj__\nccopyreg\n__newobj__\n\x85R.", "the pickle calls copyreg.__newobj__");
    REFUSE("NN)b.", "sets attributes of what has none; nothing was executed");
    REFUSE("K\1)b.", "sets attributes of what has none");
    REFUSE("ctorch\nTensor\n)b.", "sets attributes of what has none");
    REFUSE("Psomething\n.", "a persistent name in text");
    REFUSE("\x80\x05\x97.", "data outside of the pickle");
    REFUSE("\x80\x05N\x98.", "data outside of the pickle");
}

/* ---------------------------------------------------------------- damage */

/* Every opcode once; the whole is good. */
static void make_every_opcode(limn_buffer *p) {
    PUT(p, "\x80\x05\x95\0\0\0\0\0\0\0\0](");
    PUT(p, "K\1I1\nM\1\0L1L\nJ\1\0\0\0F1.5\nG\x3f\xf8\0\0\0\0\0\0N\x88\x89\x8a\1\1\x8b\1\0\0\0\1");
    PUT(p,
        "S'a'"
        "\nU\1b\x8c\1cT\1\0\0\0dX\1\0\0\0e\x8d\1\0\0\0\0\0\0\0fVg\nC\1hB\1\0\0\0i\x8e\1\0\0\0\0\0\0\0j\x96\1\0\0\0\0\0\0\0k");
    PUT(p, "K\2K\2\x85K\3K\3K\3\x86K\4K\4K\4K\4\x87K\5)K\6](K\1eK\7]K\1aK\x08(lK\x09}K\1K\2sK\x0a(dK\x0b(K\1tK\x0c\x8f("
           "K\1\x90K\x0d(K\1\x91");
    PUT(p, "p30\nq\x20r\x21\0\0\0\x94g30\nh\x20j\x21\0\0\0002"
           "0(K\1"
           "100");
    PUT(p, "ctorch\nTensor\n0\x8c\x05torch\x8c\x06Tensor\x93");
    PUT(p, "ccollections\nOrderedDict\n)R)b(icollections\nOrderedDict\n(ccollections\nOrderedDict\no");
    PUT(p, "ccollections\nOrderedDict\n)\x81"
           "ccollections\nOrderedDict\n)}\x92");
    pickle_vector(p, "0", 4);
    PUT(p, "e.");
}

static void test_every_opcode_cut(void **state) {
    (void)state;
    limn_buffer whole = {0}, copy = {0};
    limn_error error = {0};
    make_every_opcode(&whole);
    put(&copy, whole.data, whole.size);
    tensor_file *file = pytorch_open(write_checkpoint("all.pt", &copy, 4), &error);
    assert_string_equal(error.message, "");
    assert_int_equal(tensor_file_count(file), 1);
    tensor_file_close(file);
    for (size_t cut = 0; cut < whole.size; cut++) {
        put(&copy, whole.data, cut);
        refuse(&copy, "cut short");
    }
    limn_buffer_free(&whole);
    REFUSE("N.N", "bytes left over after the pickle");
}

static void test_numbers_and_texts_that_lie(void **state) {
    (void)state;
    REFUSE("\x80\x06N.", "a protocol above 5");
    REFUSE("\xffN.", "not an instruction of a pickle");
    REFUSE("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", "cut short");
    REFUSE("X\xff\xff\xff\xffN.", "cut short");
    REFUSE("\x8d\xff\xff\xff\xff\xff\xff\xff\xffN.", "cut short");
    REFUSE("\x8e\xff\xff\xff\xff\xff\xff\xff\x7fN.", "cut short");
    REFUSE("\x8b\xff\xff\xff\xffN.", "a negative length");
    REFUSE("\x8b\xff\xff\xff\x7fN.", "cut short");
    REFUSE("I\n.", "a number without digits");
    REFUSE("I-\n.", "a number without digits");
    REFUSE("L12x\n.", "something else than digits");
    REFUSE("I1 2\n.", "something else than digits");
    REFUSE("Sxabcx\n.", "a text without its quotes");
    REFUSE("F\n.", "a number that is not one");
    REFUSE("F1.5x\n.", "a number that is not one");
    REFUSE("F00000000000000000000000000000000000000000000000000000000000000000001\n.", "a number that is not one");
    REFUSE("Sabc\n.", "a text without its quotes");
    REFUSE("S'abc\"\n.", "a text without its quotes");
    REFUSE("S'\n.", "a text without its quotes");
    REFUSE("S'a\\'\n.", "a text with an escape that is not one");
    REFUSE("S'\\x4'\n.", "a text with an escape that is not one");
    REFUSE("S'\\q'\n.", "a text with an escape that is not one");
    REFUSE("V\\u12\n.", "a text with an escape that is not one");
    REFUSE("V\\u12g4\n.", "a text with an escape that is not one");
    REFUSE("V\\ud800\n.", "a text with a character that is none");
    REFUSE("V\\U00110000\n.", "a text with a character that is none");
}

static void test_stack_and_memo_that_lie(void **state) {
    (void)state;
    static const char *const takers[] = {"\x85", "\x86", "\x87", "a", "s", "R",    "\x81", "\x92",
                                         "b",    "Q",    "q\0",  "2", "0", "\x93", "."};
    for (size_t i = 0; i < sizeof takers / sizeof *takers; i++)
        for (size_t under = 0; under < 2; under++) { /* also with a value that a mark hides */
            limn_buffer p = {0};
            if (under && strcmp(takers[i], "0") == 0) continue; /* takes the mark */
            if (under) PUT(&p, "N(");
            put(&p, takers[i], strcmp(takers[i], "q") == 0 ? 2 : strlen(takers[i]));
            PUT(&p, ".");
            bool ends = under && strcmp(takers[i], ".") == 0;
            refuse(&p, ends ? "ends within a mark" : "takes more from the stack than there is");
        }
    static const char markers[] = {'t', 'l', 'd', 'e', 'u', 'o', '1', (char)0x90, (char)0x91};
    for (size_t i = 0; i < sizeof markers; i++) {
        limn_buffer p = {0};
        PUT(&p, "N");
        put(&p, &markers[i], 1);
        PUT(&p, ".");
        refuse(&p, "a mark that was never set");
    }
    REFUSE("(ios\nsystem\n.", "which weights do not need");
    REFUSE("icollections\nOrderedDict\n.", "a mark that was never set");
    REFUSE("NN.", "ends with values left over");
    REFUSE("h\0.", "a memo number that was never given");
    REFUSE("Nq\1j\2\0\0\0.", "a memo number that was never given");
    REFUSE("j\xff\xff\xff\xff.", "a memo number that was never given");
    REFUSE("Nr\xff\xff\xff\x7f.", "a memo number out of order");
    REFUSE("Np-1\n.", "a memo number that is none");
    REFUSE("Npx\n.", "something else than digits");
    REFUSE("Np99999999999999999999\n.", "a memo number that is none");
    REFUSE("(K\1d.", "a key without a value");
    REFUSE("}(K\1u.", "a key without a value");
    REFUSE("]K\1K\2s.", "adds items to what cannot hold them");
    REFUSE("}K\1a.", "adds items to what cannot hold them");
    REFUSE("K\1K\1a.", "adds items to what cannot hold them");
    REFUSE(")K\1a.", "adds items to what cannot hold them");
    REFUSE("](K\1\x90.", "adds items to what cannot hold them");
}

/* ---------------------------------------------------------------- storages and tensors that lie */

static void refuse_storage(const char *class, const char *key, int64_t elements, const char *part) {
    limn_buffer p = {0};
    pickle_tensor(&p, class, key, elements, 0, 1, (int64_t[]){1}, (int64_t[]){1});
    PUT(&p, ".");
    refuse(&p, part);
}

static void test_storages_that_lie(void **state) {
    (void)state;
    refuse_storage("torch FloatStorage", "1", 4, "needs the storage 1, which the file does not hold");
    refuse_storage("torch FloatStorage", "../../archive/data/0", 4, "which the file does not hold");
    refuse_storage("torch FloatStorage", "0", 5, "needs a storage of 5 elements of 4 bytes, but storage 0 has 16 bytes");
    refuse_storage("torch FloatStorage", "0", 3, "needs a storage of 3 elements");
    refuse_storage("torch FloatStorage", "0", INT64_MAX, "");
    refuse_storage("torch FloatStorage", "0", ((int64_t)1 << 62) + 4, ""); /* × 4 is 16 */
    refuse_storage("torch FloatStorage", "0", -1, "a storage without its key or size");
    refuse_storage("torch DoubleStorage", "0", 4, "of 4 elements of 8 bytes, but storage 0 has 16 bytes");
    refuse_storage("torch ComplexFloatStorage", "0", 2, "tensor 'tensor' has the type complex64, which is not read here");
    refuse_storage("torch CharStorage", "0", 16, "int8, which is not read here");
    refuse_storage("torch float32", "0", 4, "a storage without its class");
    refuse_storage("torch Tensor", "0", 4, "a storage without its class");
    REFUSE("NQ.", "not a storage's");
    REFUSE("(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuNtQ.", "a storage without its key or size");
    REFUSE("K\1Q.", "not a storage's");
    REFUSE("(X\x07\0\0\0storageNX\1\0\0\0000X\3\0\0\0cpuK\4tQ.", "a storage without its class");
    REFUSE(")Q.", "not a storage's");
    REFUSE("(X\x06\0\0\0modulectorch\nTensor\nNNNtQ.", "not a storage's");
    REFUSE("(X\x07\0\0\0storagectorch\nFloatStorage\nK\1NK\1tQ.", "a storage without its key or size");
}

static void refuse_view(int64_t offset, size_t rank, const int64_t *shape, const int64_t *strides, const char *part) {
    limn_buffer p = {0};
    PUT(&p, "}");
    pickle_text(&p, "w");
    pickle_tensor(&p, "torch FloatStorage", "0", 4, offset, rank, shape, strides);
    PUT(&p, "s.");
    refuse(&p, part);
}

static void refuse_arguments(const char *function, const char *more, size_t more_size, const char *part) {
    limn_buffer p = {0};
    pickle_class(&p, function);
    PUT(&p, "(");
    pickle_storage(&p, "torch FloatStorage", "0", 4);
    put(&p, more, more_size);
    PUT(&p, "tR.");
    refuse(&p, part);
}
#define REFUSE_ARGUMENTS(function, more, part) refuse_arguments(function, more, sizeof(more) - 1, part)

static void test_tensors_that_lie(void **state) {
    (void)state;
    int64_t large = (int64_t)1 << 62;
    refuse_view(0, 1, (int64_t[]){5}, (int64_t[]){1}, "tensor 'w' goes past the end of its storage of 16 bytes");
    refuse_view(4, 1, (int64_t[]){1}, (int64_t[]){1}, "goes past the end");
    refuse_view(1, 1, (int64_t[]){4}, (int64_t[]){1}, "goes past the end");
    refuse_view(INT64_MAX, 1, (int64_t[]){1}, (int64_t[]){1}, "goes past the end");
    refuse_view(0, 1, (int64_t[]){2}, (int64_t[]){4}, "goes past the end");
    refuse_view(0, 2, (int64_t[]){2, 2}, (int64_t[]){2, 2}, "goes past the end");
    refuse_view(0, 2, (int64_t[]){3, 3}, (int64_t[]){large, large}, "goes past the end"); /* reaches 2^64, which is 0 */
    refuse_view(0, 1, (int64_t[]){5}, (int64_t[]){large}, "goes past the end");
    refuse_view(0, 2, (int64_t[]){large, 4}, (int64_t[]){0, 1}, "does not fit");
    refuse_view(0, 1, (int64_t[]){large}, (int64_t[]){0}, "does not fit");
    refuse_view(0, 1, (int64_t[]){1 << 30}, (int64_t[]){0}, "take more than 16 times the bytes of the file");
    refuse_view(-1, 1, (int64_t[]){1}, (int64_t[]){1}, "an offset that is none");
    refuse_view(0, 1, (int64_t[]){-1}, (int64_t[]){1}, "shape and strides");
    refuse_view(0, 1, (int64_t[]){1}, (int64_t[]){-1}, "shape and strides");
    refuse_view(0, 9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, "at most 8");
    const char *v2 = "torch._utils _rebuild_tensor_v2", *v3 = "torch._utils _rebuild_tensor_v3";
    REFUSE_ARGUMENTS(v2, "", "a tensor with too few arguments");
    REFUSE_ARGUMENTS(v2, "K\0)", "a tensor with too few arguments");
    REFUSE_ARGUMENTS(v2, "K\0K\1\x85)\x89}", "shape and strides");
    REFUSE_ARGUMENTS(v2, "K\0N)\x89}", "shape and strides");
    REFUSE_ARGUMENTS(v2, "K\0N\x85N\x85\x89}", "shape and strides");
    REFUSE_ARGUMENTS(v2, "N))\x89}", "an offset that is none");
    REFUSE_ARGUMENTS(v2, "K\0))\x89}}(U\3negI01\nu", "marked as conjugate or negative");
    REFUSE_ARGUMENTS(v3, "K\0))\x89}", "a tensor with too few arguments");
    REFUSE_ARGUMENTS(v3, "K\0))\x89}N", "a tensor without a dtype");
    REFUSE_ARGUMENTS(v3, "K\0))\x89}ctorch\nTensor\n", "a tensor without a dtype");
    REFUSE_ARGUMENTS(v3, "K\0))\x89}ctorch\nfloat8_e4m3fn\n", "has the type float8_e4m3fn, which is not read here");
    REFUSE_ARGUMENTS(v3, "K\0))\x89}ctorch\ncomplex64\n", "has the type complex64, which is not read here");
    limn_buffer p = {0}; /* a dtype that is read, over a storage that is not */
    pickle_class(&p, v3);
    PUT(&p, "(");
    pickle_storage(&p, "torch ComplexFloatStorage", "0", 4);
    PUT(&p, "K\0K\2\x85K\1\x85\x89}ctorch\nfloat32\ntR.");
    refuse(&p, "has the type complex64, which is not read here");
    REFUSE_ARGUMENTS("torch._utils _rebuild_parameter", "\x88}", "a parameter without a tensor");
    REFUSE("ctorch._utils\n_rebuild_parameter\n)R.", "a parameter without a tensor");
    REFUSE("ctorch._utils\n_rebuild_tensor\n(NK\0))tR.", "a tensor without a storage");
    REFUSE("ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nN)}tR.", "too few arguments");
    REFUSE("ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nNN}tR.", "too few arguments");
    REFUSE("ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nNK\1}tR.", "too few arguments");
    REFUSE("ccollections\nOrderedDict\n(NNtR.", "a dict made of several things");
    REFUSE("ccollections\nOrderedDict\n(K\1tR.", "a dict made of something else");
    REFUSE("ccollections\nOrderedDict\n((K\1ltR.", "a dict whose items are not pairs");
    REFUSE("K\1K\2\x86"
           "0ccollections\nOrderedDict\n((K\5ltR.",
           "a dict whose items are not pairs");
    REFUSE("ccollections\nOrderedDict\n((K\1\x85ltR.", "a dict whose items are not pairs");
    REFUSE("ccollections\nOrderedDict\n((K\1K\1K\1\x87ltR.", "a dict whose items are not pairs");
    REFUSE("ctorch\nSize\n(K\1tR.", "a list made of something else");
}

static void test_names_that_lie(void **state) {
    (void)state;
    limn_buffer p = {0};
    for (size_t i = 0; i < 2; i++) { /* the same key twice, and two ways to one name */
        PUT(&p, "}(");
        pickle_text(&p, i ? "a.b" : "a");
        pickle_vector(&p, "0", 4);
        pickle_text(&p, "a");
        if (i) PUT(&p, "}");
        if (i) pickle_text(&p, "b");
        pickle_vector(&p, "0", 4);
        if (i) PUT(&p, "s");
        PUT(&p, "u.");
        refuse(&p, i ? "holds two tensors named 'a.b'" : "holds two tensors named 'a'");
    }
    REFUSE("}U\1\xffNs.", "is not UTF-8 text");
    REFUSE("}U\3a\0bNs.", "is not UTF-8 text");
    PUT(&p, "}");
    PUT(&p, "X\0\4\0\0");
    for (size_t i = 0; i < 1024; i++) PUT(&p, "n");
    PUT(&p, "Ns.");
    refuse(&p, "names nested longer than 1023 bytes");
}

/* ---------------------------------------------------------------- depth and growth */

static void repeat(limn_buffer *out, const char *bytes, size_t size, size_t times) {
    for (size_t i = 0; i < times; i++) put(out, bytes, size);
}
#define REPEAT(out, literal, times) repeat(out, literal, sizeof(literal) - 1, times)

static void test_depth(void **state) {
    (void)state;
    static const char deep[] = "nested more than 64 levels deep, or within themselves";
    limn_buffer p = {0};
    REPEAT(&p, "]", 10000);
    REPEAT(&p, "a", 9999);
    PUT(&p, ".");
    refuse(&p, deep);
    PUT(&p, "N");
    REPEAT(&p, "\x85", 1000000);
    PUT(&p, ".");
    refuse(&p, deep);
    REPEAT(&p, "}K\1", 10000);
    PUT(&p, "N");
    REPEAT(&p, "s", 10000);
    PUT(&p, ".");
    refuse(&p, deep);
    REPEAT(&p, "(", 1000000);
    PUT(&p, ".");
    refuse(&p, "ends within a mark");
    PUT(&p, ")");
    for (size_t i = 0; i < 10000; i++)
        PUT(&p, "\x85"
                "0ccollections\nOrderedDict\n)R\x85"); /* calls within calls */
    PUT(&p, "ccollections\nOrderedDict\n");
    PUT(&p, ".");
    refuse(&p, "ends with values left over");
    REFUSE("]q\0h\0a.", deep);
    REFUSE("}q\0K\1h\0s.", deep);
    REFUSE("](q\0h\0e.", "takes more from the stack");
    /* 64 are allowed. */
    REPEAT(&p, "]", 63);
    pickle_vector(&p, "0", 4);
    REPEAT(&p, "a", 63);
    PUT(&p, ".");
    limn_error error = {0};
    tensor_file *file = pytorch_open(write_checkpoint("deep.pt", &p, 4), &error);
    assert_string_equal(error.message, "");
    assert_int_equal(tensor_file_count(file), 1);
    tensor_file_close(file);
}

/* Each list holds the one before twice: 2^60 values at the end. */
static void put_laughs(limn_buffer *out, const char *first, size_t size) {
    put(out, first, size);
    PUT(out, "q\0");
    for (size_t i = 0; i < 60; i++) PUT(out, "0](h\0h\0eq\0");
    PUT(out, ".");
}

static void test_growth(void **state) {
    (void)state;
    limn_buffer p = {0}, tensor_pickle = {0};
    put_laughs(&p, "N", 1);
    refuse(&p, "values that repeat without end");
    pickle_vector(&tensor_pickle, "0", 4);
    put_laughs(&p, tensor_pickle.data, tensor_pickle.size);
    refuse(&p, "repeat without end");
    /* A long text, and a long name before a short one, again and again. */
    PUT(&p, "}(U\1aB");
    put_number(&p, 100000, 4);
    REPEAT(&p, "x", 100000);
    PUT(&p, "U\1bX");
    put_number(&p, 100000, 4);
    REPEAT(&p, "x", 100000);
    PUT(&p, "q\1");
    for (int i = 0; i < 1000; i++) {
        PUT(&p, "M");
        put_number(&p, (uint64_t)i, 2);
        PUT(&p, "h\1");
    }
    PUT(&p, "u.");
    refuse(&p, "names that repeat without end");
    /* Views that overlap: each is small enough, all together are not. */
    PUT(&p, "](");
    put(&p, tensor_pickle.data, tensor_pickle.size);
    PUT(&p, "q\1");
    limn_buffer_free(&tensor_pickle);
    pickle_tensor(&tensor_pickle, "torch FloatStorage", "0", 4, 0, 1, (int64_t[]){100000}, (int64_t[]){0});
    put(&p, tensor_pickle.data, tensor_pickle.size);
    PUT(&p, "q\2");
    REPEAT(&p, "h\2", 100);
    PUT(&p, "e.");
    refuse(&p, "the tensors take more than 16 times the bytes of the file");
    limn_buffer_free(&tensor_pickle);
    /* Instructions without end, in constant memory. */
    REPEAT(&p, "N0", 4200000);
    PUT(&p, "N.");
    refuse(&p, "more than 8 million instructions");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_executed),
        cmocka_unit_test(test_other_classes),
        cmocka_unit_test(test_every_opcode_cut),
        cmocka_unit_test(test_numbers_and_texts_that_lie),
        cmocka_unit_test(test_stack_and_memo_that_lie),
        cmocka_unit_test(test_storages_that_lie),
        cmocka_unit_test(test_tensors_that_lie),
        cmocka_unit_test(test_names_that_lie),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_growth),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
