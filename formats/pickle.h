/* Reads a pickle into inert values, without calling or importing anything; formats/ only.
 *
 * A pickle is a program for a stack machine (Python's Lib/pickletools.py describes each opcode). Here its instructions only
 * ever build values out of the kinds below. What would be a call there is looked up in the list of pickle_globals.c: tensors,
 * parameters and dicts are understood, everything else that is allowed becomes an object without behaviour. */
#ifndef LIMN_FORMATS_PICKLE_H
#define LIMN_FORMATS_PICKLE_H

#include "formats/formats.h"

typedef enum {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INTEGER,
    PICKLE_LARGE, /* an integer of more than 64 bits: its little-endian bytes, or its digits in protocol 0 */
    PICKLE_REAL,
    PICKLE_TEXT,
    PICKLE_BYTES,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,   /* items are key, value, key, value, … */
    PICKLE_OBJECT, /* inert: what it holds is dropped */
    PICKLE_CLASS,  /* one of pickle_globals.c */
    PICKLE_STORAGE,
    PICKLE_TENSOR
} pickle_kind;

/* What a class or function of the list is to us. */
typedef enum {
    GLOBAL_INERT,
    GLOBAL_STORAGE,           /* torch.FloatStorage …: `type` tells the dtype */
    GLOBAL_DTYPE,             /* torch.float32 …: `type` */
    GLOBAL_BYTES,             /* torch.UntypedStorage: bytes, whose dtype _rebuild_tensor_v3 gives */
    GLOBAL_TENSOR,            /* torch._utils._rebuild_tensor, _v2 (storage, offset, size, stride, …) */
    GLOBAL_TENSOR_V3,         /* the same, with the dtype as the seventh */
    GLOBAL_PARAMETER,         /* torch.nn.Parameter and Variable: (data, …) or attributes set later */
    GLOBAL_REBUILD_PARAMETER, /* torch._utils._rebuild_parameter, _with_state (data, …) */
    GLOBAL_REBUILD_FROM_TYPE, /* torch._tensor._rebuild_from_type, _v2 (function, type, arguments, state) */
    GLOBAL_DICT,              /* OrderedDict and its like: (), (dict) or (list of pairs) */
    GLOBAL_SAME,              /* list, tuple, torch.Size: its only argument */
    GLOBAL_NEW_OBJECT,        /* copyreg.__newobj__ (class, …) */
    GLOBAL_RECONSTRUCTOR      /* copyreg._reconstructor (class, base, state) */
} global_role;

typedef struct {
    const char *module, *name;
    global_role role;
    const char *dtype; /* of GLOBAL_STORAGE and GLOBAL_DTYPE: for messages; NULL for others */
    bool known;        /* `type` is one that formats/ has */
    tensor_type type;
} pickle_global;

/* NULL when the list has no such class. */
const pickle_global *pickle_global_find(const char *module, size_t module_length, const char *name, size_t name_length);

typedef struct {
    pickle_kind kind;
    uint32_t first, last;        /* containers: first and last segment, PICKLE_EMPTY without items */
    const pickle_global *global; /* of a class; the dtype of a storage and of a tensor */
    union {
        bool truth;
        int64_t integer;
        double real;
        struct {
            const char *bytes; /* in the mapping, or in `decoded` */
            size_t length;
        } text;
        uint32_t pairs; /* of a dict: a list of pairs that stands for its first items, or PICKLE_EMPTY */
    } as;
} pickle_value;

#define PICKLE_EMPTY UINT32_MAX

/* Items that were added to a container at once: places in `items`. */
typedef struct {
    uint32_t start, count, next;
} pickle_segment;

/* Values, items and segments are numbered; they stay until pickle_free. */
typedef struct {
    const char *path;
    const unsigned char *begin, *at, *end; /* of the whole file, of what is left, and of what may be read */
    const unsigned char *opcode;           /* the one at work, for messages */
    pickle_value *values;
    pickle_segment *segments;
    uint32_t *items; /* numbers of values */
    size_t value_count, value_room, segment_count, segment_room, item_count, item_room;
    uint32_t *stack, *marks, *memo; /* the machine's, of one pickle: numbers of values; heights of the stack; number + 1 */
    size_t height, stack_room, mark_count, mark_room, memo_room;
    char **decoded; /* texts that had escapes */
    size_t decoded_count, decoded_room;
    size_t memoized; /* values that MEMOIZE has numbered in this pickle */
    size_t steps;    /* opcodes so far; each makes at most one value and one item, so this bounds memory too */
    limn_error *error;
} pickle;

/* Runs from `at` to the pickle's end, leaves `at` behind it, and gives the number of the value that it made. May be called
 * again for a pickle that follows. */
int pickle_run(pickle *self, uint32_t *out_root);
void pickle_free(pickle *self);

/* The items of a tuple, or of what a storage or tensor was made of (one run); *out_count 0 when there are none. */
const uint32_t *pickle_tuple(const pickle *self, const pickle_value *tuple, size_t *out_count);
/* The value of a text key in a dict; NULL when absent. */
const pickle_value *pickle_find(const pickle *self, const pickle_value *dict, const char *key);
bool pickle_text_is(const pickle_value *value, const char *text);

#endif
