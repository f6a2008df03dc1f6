/* The only classes and functions that a checkpoint may name. None is ever imported or called: the list says what each one
 * means to a reader of weights, and anything else is refused by name, since it shows a file that is not what it claims. */
#include "formats/pickle.h"

#include <string.h>

#define KNOWN(module, name, role, dtype, type)                                                                                 \
    { module, name, role, dtype, true, type }
#define UNKNOWN(module, name, role, dtype)                                                                                     \
    { module, name, role, dtype, false, TENSOR_F32 }
#define OTHER(module, name, role)                                                                                              \
    { module, name, role, NULL, false, TENSOR_F32 }

static const pickle_global globals[] = {
    OTHER("torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR),
    OTHER("torch._utils", "_rebuild_tensor", GLOBAL_TENSOR),
    OTHER("torch._utils", "_rebuild_tensor_v3", GLOBAL_TENSOR_V3),
    OTHER("torch._utils", "_rebuild_parameter", GLOBAL_REBUILD_PARAMETER),
    OTHER("torch._utils", "_rebuild_parameter_with_state", GLOBAL_REBUILD_PARAMETER),
    OTHER("torch._tensor", "_rebuild_from_type_v2", GLOBAL_REBUILD_FROM_TYPE),
    OTHER("torch._tensor", "_rebuild_from_type", GLOBAL_REBUILD_FROM_TYPE),
    OTHER("torch.tensor", "_rebuild_from_type", GLOBAL_REBUILD_FROM_TYPE),
    OTHER("torch.nn.parameter", "Parameter", GLOBAL_PARAMETER),
    OTHER("torch.nn.parameter", "Buffer", GLOBAL_PARAMETER),
    OTHER("torch.autograd.variable", "Variable", GLOBAL_PARAMETER),
    OTHER("torch", "Size", GLOBAL_SAME),
    OTHER("torch", "Tensor", GLOBAL_INERT),
    OTHER("torch", "device", GLOBAL_INERT),
    OTHER("torch", "Generator", GLOBAL_INERT),
    OTHER("torch.serialization", "_get_layout", GLOBAL_INERT),
    OTHER("torch", "strided", GLOBAL_INERT),

    KNOWN("torch", "FloatStorage", GLOBAL_STORAGE, "float32", TENSOR_F32),
    KNOWN("torch", "HalfStorage", GLOBAL_STORAGE, "float16", TENSOR_F16),
    KNOWN("torch", "BFloat16Storage", GLOBAL_STORAGE, "bfloat16", TENSOR_BF16),
    KNOWN("torch", "DoubleStorage", GLOBAL_STORAGE, "float64", TENSOR_F64),
    KNOWN("torch", "LongStorage", GLOBAL_STORAGE, "int64", TENSOR_I64),
    KNOWN("torch", "IntStorage", GLOBAL_STORAGE, "int32", TENSOR_I32),
    KNOWN("torch", "ByteStorage", GLOBAL_STORAGE, "uint8", TENSOR_U8),
    KNOWN("torch", "BoolStorage", GLOBAL_STORAGE, "bool", TENSOR_BOOL),
    UNKNOWN("torch", "ShortStorage", GLOBAL_STORAGE, "int16"),
    UNKNOWN("torch", "CharStorage", GLOBAL_STORAGE, "int8"),
    UNKNOWN("torch", "ComplexFloatStorage", GLOBAL_STORAGE, "complex64"),
    UNKNOWN("torch", "ComplexDoubleStorage", GLOBAL_STORAGE, "complex128"),
    UNKNOWN("torch", "QInt8Storage", GLOBAL_STORAGE, "qint8"),
    UNKNOWN("torch", "QUInt8Storage", GLOBAL_STORAGE, "quint8"),
    UNKNOWN("torch", "QInt32Storage", GLOBAL_STORAGE, "qint32"),
    KNOWN("torch.storage", "UntypedStorage", GLOBAL_BYTES, "uint8", TENSOR_U8),
    KNOWN("torch.storage", "_UntypedStorage", GLOBAL_BYTES, "uint8", TENSOR_U8),
    KNOWN("torch", "UntypedStorage", GLOBAL_BYTES, "uint8", TENSOR_U8),
    KNOWN("torch.cuda", "FloatStorage", GLOBAL_STORAGE, "float32", TENSOR_F32),
    KNOWN("torch.cuda", "HalfStorage", GLOBAL_STORAGE, "float16", TENSOR_F16),
    KNOWN("torch.cuda", "BFloat16Storage", GLOBAL_STORAGE, "bfloat16", TENSOR_BF16),
    KNOWN("torch.cuda", "DoubleStorage", GLOBAL_STORAGE, "float64", TENSOR_F64),
    KNOWN("torch.cuda", "LongStorage", GLOBAL_STORAGE, "int64", TENSOR_I64),
    KNOWN("torch.cuda", "IntStorage", GLOBAL_STORAGE, "int32", TENSOR_I32),
    KNOWN("torch.cuda", "ByteStorage", GLOBAL_STORAGE, "uint8", TENSOR_U8),
    KNOWN("torch.cuda", "BoolStorage", GLOBAL_STORAGE, "bool", TENSOR_BOOL),

    KNOWN("torch", "float32", GLOBAL_DTYPE, "float32", TENSOR_F32),
    KNOWN("torch", "float16", GLOBAL_DTYPE, "float16", TENSOR_F16),
    KNOWN("torch", "bfloat16", GLOBAL_DTYPE, "bfloat16", TENSOR_BF16),
    KNOWN("torch", "float64", GLOBAL_DTYPE, "float64", TENSOR_F64),
    KNOWN("torch", "int64", GLOBAL_DTYPE, "int64", TENSOR_I64),
    KNOWN("torch", "int32", GLOBAL_DTYPE, "int32", TENSOR_I32),
    KNOWN("torch", "uint16", GLOBAL_DTYPE, "uint16", TENSOR_U16),
    KNOWN("torch", "uint8", GLOBAL_DTYPE, "uint8", TENSOR_U8),
    KNOWN("torch", "bool", GLOBAL_DTYPE, "bool", TENSOR_BOOL),
    UNKNOWN("torch", "int16", GLOBAL_DTYPE, "int16"),
    UNKNOWN("torch", "int8", GLOBAL_DTYPE, "int8"),
    UNKNOWN("torch", "uint32", GLOBAL_DTYPE, "uint32"),
    UNKNOWN("torch", "uint64", GLOBAL_DTYPE, "uint64"),
    UNKNOWN("torch", "complex32", GLOBAL_DTYPE, "complex32"),
    UNKNOWN("torch", "complex64", GLOBAL_DTYPE, "complex64"),
    UNKNOWN("torch", "complex128", GLOBAL_DTYPE, "complex128"),
    UNKNOWN("torch", "float8_e4m3fn", GLOBAL_DTYPE, "float8_e4m3fn"),
    UNKNOWN("torch", "float8_e5m2", GLOBAL_DTYPE, "float8_e5m2"),
    UNKNOWN("torch", "float8_e4m3fnuz", GLOBAL_DTYPE, "float8_e4m3fnuz"),
    UNKNOWN("torch", "float8_e5m2fnuz", GLOBAL_DTYPE, "float8_e5m2fnuz"),
    UNKNOWN("torch", "float8_e8m0fnu", GLOBAL_DTYPE, "float8_e8m0fnu"),

    OTHER("collections", "OrderedDict", GLOBAL_DICT),
    OTHER("collections", "defaultdict", GLOBAL_DICT),
    OTHER("collections", "Counter", GLOBAL_DICT),
    OTHER("collections", "deque", GLOBAL_INERT),
    OTHER("builtins", "dict", GLOBAL_DICT),
    OTHER("builtins", "list", GLOBAL_SAME),
    OTHER("builtins", "tuple", GLOBAL_SAME),
    OTHER("builtins", "set", GLOBAL_INERT),
    OTHER("builtins", "frozenset", GLOBAL_INERT),
    OTHER("builtins", "object", GLOBAL_INERT),
    OTHER("builtins", "int", GLOBAL_INERT),
    OTHER("builtins", "float", GLOBAL_INERT),
    OTHER("builtins", "bool", GLOBAL_INERT),
    OTHER("builtins", "str", GLOBAL_INERT),
    OTHER("builtins", "long", GLOBAL_INERT),
    OTHER("builtins", "unicode", GLOBAL_INERT),
    OTHER("builtins", "xrange", GLOBAL_INERT),
    OTHER("builtins", "bytes", GLOBAL_INERT),
    OTHER("builtins", "bytearray", GLOBAL_INERT),
    OTHER("builtins", "complex", GLOBAL_INERT),
    OTHER("builtins", "slice", GLOBAL_INERT),
    OTHER("builtins", "range", GLOBAL_INERT),
    OTHER("copyreg", "__newobj__", GLOBAL_NEW_OBJECT),
    OTHER("copyreg", "_reconstructor", GLOBAL_RECONSTRUCTOR),
    OTHER("_codecs", "encode", GLOBAL_INERT),
    OTHER("argparse", "Namespace", GLOBAL_INERT),
    OTHER("typing", "Any", GLOBAL_INERT),
    OTHER("pathlib", "PosixPath", GLOBAL_INERT),
    OTHER("pathlib", "PurePosixPath", GLOBAL_INERT),
    OTHER("pathlib", "WindowsPath", GLOBAL_INERT),

    OTHER("numpy.core.multiarray", "scalar", GLOBAL_INERT),
    OTHER("numpy.core.multiarray", "_reconstruct", GLOBAL_INERT),
    OTHER("numpy._core.multiarray", "scalar", GLOBAL_INERT),
    OTHER("numpy._core.multiarray", "_reconstruct", GLOBAL_INERT),
    OTHER("numpy.core.numeric", "_frombuffer", GLOBAL_INERT),
    OTHER("numpy._core.numeric", "_frombuffer", GLOBAL_INERT),
    OTHER("numpy", "dtype", GLOBAL_INERT),
    OTHER("numpy", "ndarray", GLOBAL_INERT),

    OTHER("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", GLOBAL_INERT),
    OTHER("pytorch_lightning.callbacks.early_stopping", "EarlyStopping", GLOBAL_INERT),
    OTHER("pytorch_lightning.callbacks.lr_monitor", "LearningRateMonitor", GLOBAL_INERT),
    OTHER("pytorch_lightning.callbacks.timer", "Timer", GLOBAL_INERT),
    OTHER("pytorch_lightning.utilities.parsing", "AttributeDict", GLOBAL_DICT),
    OTHER("lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint", GLOBAL_INERT),
    OTHER("lightning.pytorch.callbacks.early_stopping", "EarlyStopping", GLOBAL_INERT),
    OTHER("lightning.pytorch.callbacks.lr_monitor", "LearningRateMonitor", GLOBAL_INERT),
    OTHER("lightning.pytorch.callbacks.timer", "Timer", GLOBAL_INERT),
    OTHER("lightning.pytorch.utilities.parsing", "AttributeDict", GLOBAL_DICT),
    OTHER("lightning.fabric.utilities.data", "AttributeDict", GLOBAL_DICT),
    OTHER("lightning_fabric.utilities.data", "AttributeDict", GLOBAL_DICT),
    OTHER("omegaconf.dictconfig", "DictConfig", GLOBAL_INERT),
    OTHER("omegaconf.listconfig", "ListConfig", GLOBAL_INERT),
    OTHER("omegaconf.base", "ContainerMetadata", GLOBAL_INERT),
    OTHER("omegaconf.base", "Metadata", GLOBAL_INERT),
    OTHER("omegaconf.nodes", "AnyNode", GLOBAL_INERT),
    OTHER("omegaconf.nodes", "StringNode", GLOBAL_INERT),
    OTHER("omegaconf.nodes", "IntegerNode", GLOBAL_INERT),
    OTHER("omegaconf.nodes", "FloatNode", GLOBAL_INERT),
    OTHER("omegaconf.nodes", "BooleanNode", GLOBAL_INERT),
};

static bool is(const char *text, const char *bytes, size_t length) {
    return strlen(text) == length && memcmp(text, bytes, length) == 0;
}

const pickle_global *pickle_global_find(const char *module, size_t module_length, const char *name, size_t name_length) {
    /* Pickles of protocol 2 and below use Python 2's names of the modules. */
    if (is("__builtin__", module, module_length)) {
        module = "builtins";
        module_length = strlen(module);
    } else if (is("copy_reg", module, module_length)) {
        module = "copyreg";
        module_length = strlen(module);
    }
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (is(globals[i].name, name, name_length) && is(globals[i].module, module, module_length)) return &globals[i];
    return NULL;
}
