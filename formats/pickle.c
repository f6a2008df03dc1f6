/* The stack machine that reads a pickle. No opcode calls anything, nothing here recurses, and every opcode costs bounded
 * time and memory: containers hold numbers of values, and filling one moves them from the stack once. */
#include "formats/pickle.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 8 << 20, PROTOCOL_MAX = 5, TENSOR_ARGUMENTS = 4 };

/* Returns -1 in plain sight of the compiler, which else warns of what a caller would find unset after a 0. */
static int fail(const pickle *self, const char *what) {
    limn_fail(self->error, "%s: byte %zu, in a pickle: %s", self->path, (size_t)(self->opcode - self->begin), what);
    return -1;
}

static int fail_short(const pickle *self) {
    fail(self, "the file is cut short; fetch it again");
    return -1;
}

/* ---------------------------------------------------------------- memory */

/* Makes room for `needed` elements of `size` bytes in *array. */
static int reserve(const pickle *self, void *array, size_t *room, size_t needed, size_t size) {
    if (needed <= *room) return 0;
    size_t larger = *room ? *room * 2 : 64;
    while (larger < needed) larger *= 2;
    void *old, *grown;
    memcpy(&old, array, sizeof old);
    grown = realloc(old, larger * size);
    if (!grown) return fail(self, "out of memory");
    memcpy(array, &grown, sizeof grown);
    *room = larger;
    return 0;
}

static int add_value(pickle *self, const pickle_value *value, uint32_t *out) {
    if (reserve(self, &self->values, &self->value_room, self->value_count + 1, sizeof *self->values)) return -1;
    self->values[self->value_count] = *value;
    *out = (uint32_t)self->value_count++;
    return 0;
}

static int push(pickle *self, uint32_t number) {
    if (reserve(self, &self->stack, &self->stack_room, self->height + 1, sizeof *self->stack)) return -1;
    self->stack[self->height++] = number;
    return 0;
}

static int push_value(pickle *self, pickle_value value) {
    uint32_t number;
    return add_value(self, &value, &number) || push(self, number) ? -1 : 0;
}

static int push_kind(pickle *self, pickle_kind kind) {
    return push_value(self,
                      (pickle_value){.kind = kind, .first = PICKLE_EMPTY, .last = PICKLE_EMPTY, .as.pairs = PICKLE_EMPTY});
}

static int push_integer(pickle *self, int64_t integer) {
    return push_value(self, (pickle_value){.kind = PICKLE_INTEGER, .as.integer = integer});
}

static int push_truth(pickle *self, bool truth) {
    return push_value(self, (pickle_value){.kind = PICKLE_BOOL, .as.truth = truth});
}

static int push_bytes(pickle *self, pickle_kind kind, const void *bytes, size_t length) {
    pickle_value value = {.kind = kind};
    value.as.text.bytes = bytes;
    value.as.text.length = length;
    return push_value(self, value);
}

/* Copies numbers that lie outside of `items` into a new segment. */
static int add_segment(pickle *self, const uint32_t *numbers, size_t count, uint32_t *out) {
    if (reserve(self, &self->items, &self->item_room, self->item_count + count, sizeof *self->items) ||
        reserve(self, &self->segments, &self->segment_room, self->segment_count + 1, sizeof *self->segments))
        return -1;
    if (count) memcpy(self->items + self->item_count, numbers, count * sizeof *numbers);
    self->segments[self->segment_count] = (pickle_segment){(uint32_t)self->item_count, (uint32_t)count, PICKLE_EMPTY};
    self->item_count += count;
    *out = (uint32_t)self->segment_count++;
    return 0;
}

static int add_items(pickle *self, uint32_t container, const uint32_t *numbers, size_t count) {
    uint32_t segment;
    if (count == 0) return 0;
    if (add_segment(self, numbers, count, &segment)) return -1;
    pickle_value *value = &self->values[container];
    if (value->first == PICKLE_EMPTY)
        value->first = segment;
    else
        self->segments[value->last].next = segment;
    value->last = segment;
    return 0;
}

void pickle_free(pickle *self) {
    for (size_t i = 0; i < self->decoded_count; i++) free(self->decoded[i]);
    free(self->decoded);
    free(self->values);
    free(self->segments);
    free(self->items);
    free(self->stack);
    free(self->marks);
    free(self->memo);
}

const uint32_t *pickle_tuple(const pickle *self, const pickle_value *tuple, size_t *out_count) {
    bool held = tuple->kind == PICKLE_TUPLE || tuple->kind == PICKLE_STORAGE || tuple->kind == PICKLE_TENSOR;
    if (!held || tuple->first == PICKLE_EMPTY) {
        *out_count = 0;
        return NULL;
    }
    *out_count = self->segments[tuple->first].count;
    return self->items + self->segments[tuple->first].start;
}

bool pickle_text_is(const pickle_value *value, const char *text) {
    return (value->kind == PICKLE_TEXT || value->kind == PICKLE_BYTES) && value->as.text.length == strlen(text) &&
           memcmp(value->as.text.bytes, text, value->as.text.length) == 0;
}

const pickle_value *pickle_find(const pickle *self, const pickle_value *dict, const char *key) {
    if (dict->kind != PICKLE_DICT) return NULL;
    for (uint32_t at = dict->first; at != PICKLE_EMPTY; at = self->segments[at].next)
        for (uint32_t i = 0; i + 1 < self->segments[at].count; i += 2) {
            const uint32_t *pair = self->items + self->segments[at].start + i;
            if (pickle_text_is(&self->values[pair[0]], key)) return &self->values[pair[1]];
        }
    return NULL;
}

/* ---------------------------------------------------------------- the stack */

/* Takes `count` numbers off the stack, but none from below the last mark; they stay readable until the next push. */
static int pop(pickle *self, size_t count, const uint32_t **out) {
    size_t base = self->mark_count ? self->marks[self->mark_count - 1] : 0;
    if (self->height - base < count) return fail(self, "takes more from the stack than there is");
    self->height -= count;
    *out = self->stack + self->height;
    return 0;
}

/* Takes all that lies above the last mark, and the mark. */
static int pop_mark(pickle *self, const uint32_t **out, size_t *out_count) {
    if (self->mark_count == 0) return fail(self, "a mark that was never set");
    size_t base = self->marks[--self->mark_count];
    *out_count = self->height - base;
    *out = self->stack + base;
    self->height = base;
    return 0;
}

static int set_mark(pickle *self) {
    if (reserve(self, &self->marks, &self->mark_room, self->mark_count + 1, sizeof *self->marks)) return -1;
    self->marks[self->mark_count++] = (uint32_t)self->height;
    return 0;
}

/* Numbers of the memo are given out in order, so none is above the opcodes so far. */
static int memo_put(pickle *self, uint64_t number) {
    const uint32_t *top;
    if (pop(self, 1, &top)) return -1;
    self->height++;
    if (number > self->steps) return fail(self, "a memo number out of order");
    size_t before = self->memo_room;
    if (reserve(self, &self->memo, &self->memo_room, (size_t)number + 1, sizeof *self->memo)) return -1;
    if (self->memo_room > before) memset(self->memo + before, 0, (self->memo_room - before) * sizeof *self->memo);
    self->memo[number] = *top + 1;
    return 0;
}

static int memo_get(pickle *self, uint64_t number) {
    if (number >= self->memo_room || self->memo[number] == 0) return fail(self, "a memo number that was never given");
    return push(self, self->memo[number] - 1);
}

/* ---------------------------------------------------------------- reading from the file */

static int take_bytes(pickle *self, uint64_t count, const unsigned char **out) {
    if (count > (size_t)(self->end - self->at)) return fail_short(self);
    *out = self->at;
    self->at += count;
    return 0;
}

static int take_number(pickle *self, size_t size, uint64_t *out) {
    const unsigned char *bytes = NULL;
    if (take_bytes(self, size, &bytes)) return -1;
    *out = 0;
    while (size-- > 0) *out = *out << 8 | bytes[size];
    return 0;
}

/* Up to the line feed, without it. */
static int take_line(pickle *self, const char **out, size_t *out_length) {
    const unsigned char *feed = self->at < self->end ? memchr(self->at, '\n', (size_t)(self->end - self->at)) : NULL;
    if (!feed) return fail_short(self);
    *out = (const char *)self->at;
    *out_length = (size_t)(feed - self->at);
    self->at = feed + 1;
    return 0;
}

/* Pushes the bytes that follow a length of `size` bytes. */
static int take_sized(pickle *self, size_t size, pickle_kind kind) {
    uint64_t length;
    const unsigned char *bytes = NULL;
    return take_number(self, size, &length) || take_bytes(self, length, &bytes) || push_bytes(self, kind, bytes, (size_t)length)
               ? -1
               : 0;
}

/* A little-endian number of two's complement and any length. */
static int take_long(pickle *self, size_t length_size) {
    uint64_t length, integer = 0;
    const unsigned char *bytes = NULL;
    if (take_number(self, length_size, &length)) return -1;
    if (length > INT32_MAX) return fail(self, "a negative length");
    if (take_bytes(self, length, &bytes)) return -1;
    if (length > 8) return push_bytes(self, PICKLE_LARGE, bytes, (size_t)length);
    for (size_t i = 0; i < 8; i++) {
        bool sign = length && bytes[length - 1] & 0x80;
        integer |= (uint64_t)(i < length ? bytes[i] : sign ? 0xff : 0) << (8 * i);
    }
    return push_integer(self, (int64_t)integer);
}

static int take_float(pickle *self) {
    const unsigned char *bytes = NULL;
    uint64_t bits = 0;
    if (take_bytes(self, 8, &bytes)) return -1;
    for (size_t i = 0; i < 8; i++) bits = bits << 8 | bytes[i];
    pickle_value value = {.kind = PICKLE_REAL};
    memcpy(&value.as.real, &bits, sizeof bits);
    return push_value(self, value);
}

/* ---------------------------------------------------------------- protocol 0: lines of text */

static int take_integer_line(pickle *self, bool is_long) {
    const char *line;
    size_t length;
    if (take_line(self, &line, &length)) return -1;
    if (!is_long && length == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1'))
        return push_truth(self, line[1] == '1');
    if (is_long && length && line[length - 1] == 'L') length--;
    size_t first = length && (line[0] == '-' || line[0] == '+');
    int64_t integer = 0;
    if (first == length) return fail(self, "a number without digits");
    for (size_t i = first; i < length; i++) {
        if (line[i] < '0' || line[i] > '9') return fail(self, "a number with something else than digits");
        if (length - first <= 18) integer = integer * 10 + (line[i] - '0');
    }
    if (length - first > 18) return push_bytes(self, PICKLE_LARGE, line, length);
    return push_integer(self, line[0] == '-' ? -integer : integer);
}

static int take_float_line(pickle *self) {
    const char *line;
    size_t length;
    char text[64], *end;
    if (take_line(self, &line, &length)) return -1;
    if (length == 0 || length >= sizeof text) return fail(self, "a number that is not one");
    memcpy(text, line, length);
    text[length] = '\0';
    pickle_value value = {.kind = PICKLE_REAL, .as.real = strtod(text, &end)};
    if (end != text + length) return fail(self, "a number that is not one");
    return push_value(self, value);
}

/* Memory for a text that differs from its form in the file; freed with the pickle. */
static char *decoded_room(pickle *self, size_t size) {
    if (reserve(self, &self->decoded, &self->decoded_room, self->decoded_count + 1, sizeof *self->decoded)) return NULL;
    char *room = malloc(size + 1);
    if (!room) {
        fail(self, "out of memory");
        return NULL;
    }
    return self->decoded[self->decoded_count++] = room;
}

static bool take_hex(const char **at, const char *end, size_t digits, uint32_t *out) {
    if ((size_t)(end - *at) < digits) return false;
    for (*out = 0; digits > 0; digits--, (*at)++) {
        char c = **at;
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)(c - '0') : (uint32_t)((c | 32) - 'a' + 10);
        if (digit > 15) return false;
        *out = *out << 4 | digit;
    }
    return true;
}

/* One escape of a Python string literal, after its backslash. */
static bool unescape(const char **at, const char *end, char *out) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    uint32_t number;
    if (*at == end) return false;
    char c = *(*at)++;
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        *out = to[simple - from];
    } else if (c == 'x') {
        if (!take_hex(at, end, 2, &number)) return false;
        *out = (char)number;
    } else if (c >= '0' && c <= '7') {
        number = (uint32_t)(c - '0');
        for (size_t i = 0; i < 2 && *at < end && **at >= '0' && **at <= '7'; i++)
            number = number << 3 | (uint32_t)(*(*at)++ - '0');
        *out = (char)number;
    } else {
        return false;
    }
    return true;
}

/* 'text' as Python writes it in a program. */
static int take_quoted_line(pickle *self) {
    const char *line;
    size_t length, used = 0;
    if (take_line(self, &line, &length)) return -1;
    if (length < 2 || (line[0] != '\'' && line[0] != '"') || line[length - 1] != line[0])
        return fail(self, "a text without its quotes");
    const char *at = line + 1, *end = line + length - 1;
    if (!memchr(at, '\\', (size_t)(end - at))) return push_bytes(self, PICKLE_TEXT, at, (size_t)(end - at));
    char *room = decoded_room(self, length);
    if (!room) return -1;
    while (at < end) {
        if (*at != '\\')
            room[used++] = *at++;
        else if (at++, !unescape(&at, end, &room[used++]))
            return fail(self, "a text with an escape that is not one");
    }
    return push_bytes(self, PICKLE_TEXT, room, used);
}

/* Latin-1 with \uXXXX and \UXXXXXXXX; becomes UTF-8, of at most two bytes for each byte. */
static int take_unicode_line(pickle *self) {
    const char *line;
    size_t length, used = 0;
    if (take_line(self, &line, &length)) return -1;
    char *room = decoded_room(self, 2 * length + 4);
    if (!room) return -1;
    for (const char *at = line, *end = line + length; at < end;) {
        uint32_t code = (unsigned char)*at++;
        if (code == '\\' && at < end && (*at == 'u' || *at == 'U')) {
            size_t digits = *at++ == 'u' ? 4 : 8;
            if (!take_hex(&at, end, digits, &code)) return fail(self, "a text with an escape that is not one");
        }
        size_t bytes = limn_utf8_encode(code, room + used);
        if (bytes == 0) return fail(self, "a text with a character that is none");
        used += bytes;
    }
    return push_bytes(self, PICKLE_TEXT, room, used);
}

/* ---------------------------------------------------------------- classes and what they make */

static int refuse_class(const pickle *self, const char *module, size_t module_length, const char *name, size_t name_length) {
    limn_fail(self->error,
              "%s: byte %zu: the pickle names the class %.*s.%.*s, which weights do not need; nothing of it was executed. "
              "If you trust its source, load it with PyTorch and save its state_dict() alone",
              self->path, (size_t)(self->opcode - self->begin), (int)(module_length < 200 ? module_length : 200), module,
              (int)(name_length < 200 ? name_length : 200), name);
    return -1;
}

static int find_class(pickle *self, const char *module, size_t module_length, const char *name, size_t name_length,
                      const pickle_global **out) {
    *out = pickle_global_find(module, module_length, name, name_length);
    return *out ? 0 : refuse_class(self, module, module_length, name, name_length);
}

static int take_class_lines(pickle *self, const pickle_global **out) {
    const char *module, *name;
    size_t module_length, name_length;
    return take_line(self, &module, &module_length) || take_line(self, &name, &name_length) ||
                   find_class(self, module, module_length, name, name_length, out)
               ? -1
               : 0;
}

static int push_class(pickle *self, const pickle_global *global) {
    return push_value(self, (pickle_value){.kind = PICKLE_CLASS, .global = global});
}

static int stack_global(pickle *self) {
    const uint32_t *top;
    const pickle_global *global;
    if (pop(self, 2, &top)) return -1;
    const pickle_value *module = &self->values[top[0]], *name = &self->values[top[1]];
    if (module->kind != PICKLE_TEXT || name->kind != PICKLE_TEXT) return fail(self, "a class without a name");
    return find_class(self, module->as.text.bytes, module->as.text.length, name->as.text.bytes, name->as.text.length,
                      &global) ||
                   push_class(self, global)
               ? -1
               : 0;
}

static bool is_shape(const pickle *self, const pickle_value *value, size_t *out_count) {
    if (value->kind != PICKLE_TUPLE) return false;
    const uint32_t *sizes = pickle_tuple(self, value, out_count);
    if (*out_count > TENSOR_MAX_RANK) return false;
    for (size_t i = 0; i < *out_count; i++)
        if (self->values[sizes[i]].kind != PICKLE_INTEGER || self->values[sizes[i]].as.integer < 0) return false;
    return true;
}

/* torch's metadata of a tensor says that it is a conjugate or a negative which was never worked out; else it is empty. */
static bool has_metadata(const pickle_value *value) {
    return value->kind != PICKLE_NONE && !(value->kind == PICKLE_DICT && value->first == PICKLE_EMPTY);
}

/* Pushes a tensor from (storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata]). */
static int make_tensor(pickle *self, bool with_dtype, const uint32_t *arguments, size_t count) {
    uint32_t kept[TENSOR_ARGUMENTS];
    size_t rank, strides;
    if (count < TENSOR_ARGUMENTS || (with_dtype && count < 7)) return fail(self, "a tensor with too few arguments");
    memcpy(kept, arguments, sizeof kept);
    const pickle_value *storage = &self->values[kept[0]], *offset = &self->values[kept[1]];
    if (storage->kind != PICKLE_STORAGE) return fail(self, "a tensor without a storage");
    if (offset->kind != PICKLE_INTEGER || offset->as.integer < 0) return fail(self, "a tensor with an offset that is none");
    if (!is_shape(self, &self->values[kept[2]], &rank) || !is_shape(self, &self->values[kept[3]], &strides) || rank != strides)
        return fail(self, "a tensor whose shape and strides are not equally many whole numbers, at most 8");
    size_t metadata = with_dtype ? 7 : 6;
    if (count > metadata && has_metadata(&self->values[arguments[metadata]]))
        return fail(self,
                    "a tensor that is marked as conjugate or negative, which is not read here; save it with resolve_neg()");
    pickle_value value = {.kind = PICKLE_TENSOR, .global = storage->global};
    if (with_dtype) {
        value.global = self->values[arguments[6]].global;
        if (self->values[arguments[6]].kind != PICKLE_CLASS || value.global->role != GLOBAL_DTYPE)
            return fail(self, "a tensor without a dtype");
    }
    if (add_segment(self, kept, TENSOR_ARGUMENTS, &value.first)) return -1;
    value.last = value.first;
    return push_value(self, value);
}

/* A copy, so that attributes set later change the parameter alone; without arguments, one that is filled by build(). */
static int make_parameter(pickle *self, const pickle_global *global, const uint32_t *arguments, size_t count) {
    if (count == 0 && global->role == GLOBAL_PARAMETER)
        return push_value(self, (pickle_value){.kind = PICKLE_OBJECT, .global = global});
    if (count == 0 || self->values[arguments[0]].kind != PICKLE_TENSOR) return fail(self, "a parameter without a tensor");
    pickle_value copy = self->values[arguments[0]];
    return push_value(self, copy);
}

static int make_dict(pickle *self, const uint32_t *arguments, size_t count) {
    pickle_kind kind = count ? self->values[arguments[0]].kind : PICKLE_NONE;
    if (count > 1) return fail(self, "a dict made of several things");
    if (kind == PICKLE_DICT) return push(self, arguments[0]);
    pickle_value value = {.kind = PICKLE_DICT, .first = PICKLE_EMPTY, .last = PICKLE_EMPTY, .as.pairs = PICKLE_EMPTY};
    if (kind == PICKLE_LIST || kind == PICKLE_TUPLE)
        value.as.pairs = arguments[0];
    else if (kind != PICKLE_NONE && kind != PICKLE_CLASS) /* a class: what a defaultdict starts with */
        return fail(self, "a dict made of something else");
    return push_value(self, value);
}

static int make_same(pickle *self, const uint32_t *arguments, size_t count) {
    if (count == 0) return push_kind(self, PICKLE_LIST);
    pickle_kind kind = self->values[arguments[0]].kind;
    if (count > 1 || (kind != PICKLE_LIST && kind != PICKLE_TUPLE)) return fail(self, "a list made of something else");
    return push(self, arguments[0]);
}

/* What a call of the class makes; those that call another are in call(). `arguments` may lie in `items`. */
static int make(pickle *self, const pickle_global *global, const uint32_t *arguments, size_t count) {
    switch (global->role) {
    case GLOBAL_INERT:
        return push_kind(self, PICKLE_OBJECT);
    case GLOBAL_TENSOR:
    case GLOBAL_TENSOR_V3:
        return make_tensor(self, global->role == GLOBAL_TENSOR_V3, arguments, count);
    case GLOBAL_PARAMETER:
    case GLOBAL_REBUILD_PARAMETER:
        return make_parameter(self, global, arguments, count);
    case GLOBAL_DICT:
        return make_dict(self, arguments, count);
    case GLOBAL_SAME:
        return make_same(self, arguments, count);
    default:
        return limn_fail(self->error,
                         "%s: byte %zu: the pickle calls %s.%s, which is not a way to make weights; nothing was executed",
                         self->path, (size_t)(self->opcode - self->begin), global->module, global->name);
    }
}

/* make(), and the functions that pass a class and its arguments on, once. */
static int call(pickle *self, const pickle_global *global, const uint32_t *arguments, size_t count) {
    const pickle_value *inner = count ? &self->values[arguments[0]] : NULL;
    bool passes =
        global->role == GLOBAL_NEW_OBJECT || global->role == GLOBAL_RECONSTRUCTOR || global->role == GLOBAL_REBUILD_FROM_TYPE;
    if (!passes) return make(self, global, arguments, count);
    if (!inner || inner->kind != PICKLE_CLASS) return fail(self, "makes an object without a class");
    const pickle_global *class = inner->global;
    if (global->role == GLOBAL_NEW_OBJECT) return make(self, class, arguments + 1, count - 1);
    if (global->role == GLOBAL_RECONSTRUCTOR) return make(self, class, NULL, 0);
    if (count < 3 || self->values[arguments[2]].kind != PICKLE_TUPLE) return fail(self, "a tensor with too few arguments");
    const uint32_t *inside = pickle_tuple(self, &self->values[arguments[2]], &count);
    return make(self, class, inside, count);
}

/* A class and a tuple of arguments lie on the stack; `extra` more (keywords) above them are dropped. */
static int call_top(pickle *self, size_t extra) {
    const uint32_t *top;
    size_t count;
    if (pop(self, 2 + extra, &top)) return -1;
    const pickle_value *class = &self->values[top[0]], *tuple = &self->values[top[1]];
    if (class->kind != PICKLE_CLASS) return fail(self, "calls what is not a class; nothing was executed");
    if (tuple->kind != PICKLE_TUPLE) return fail(self, "calls a class without a tuple of arguments; nothing was executed");
    const uint32_t *arguments = pickle_tuple(self, tuple, &count);
    return call(self, class->global, arguments, count);
}

/* The arguments lie above a mark, after the class when `global` is NULL. They are copied, since call() pushes. */
static int call_marked(pickle *self, const pickle_global *global) {
    const uint32_t *marked;
    size_t count;
    uint32_t segment;
    if (pop_mark(self, &marked, &count)) return -1;
    if (!global) {
        if (count == 0 || self->values[marked[0]].kind != PICKLE_CLASS)
            return fail(self, "calls what is not a class; nothing was executed");
        global = self->values[marked[0]].global;
        marked++;
        count--;
    }
    if (add_segment(self, marked, count, &segment)) return -1;
    return call(self, global, count ? self->items + self->segments[segment].start : NULL, count);
}

/* Sets the attributes of the object below the top. They are dropped, but for the data of an old parameter: a state of
 * (data, …, hooks, requires_grad, volatile), torch 0.1. */
static int build(pickle *self) {
    const uint32_t *top;
    size_t count;
    if (pop(self, 2, &top)) return -1;
    uint32_t number = top[0];
    const pickle_value *state = &self->values[top[1]];
    pickle_value *object = &self->values[number];
    bool parameter = object->kind == PICKLE_TENSOR ||
                     (object->kind == PICKLE_OBJECT && object->global && object->global->role == GLOBAL_PARAMETER);
    if (object->kind != PICKLE_OBJECT && object->kind != PICKLE_DICT && object->kind != PICKLE_LIST && !parameter)
        return fail(self, "sets attributes of what has none; nothing was executed");
    if (parameter && state->kind == PICKLE_TUPLE) {
        const uint32_t *parts = pickle_tuple(self, state, &count);
        if (count == 5 && self->values[parts[0]].kind == PICKLE_TENSOR) *object = self->values[parts[0]];
    }
    return push(self, number);
}

/* The pid of a tensor's storage: ("storage", class, key, location, number of elements[, view]). */
static int persistent(pickle *self) {
    const uint32_t *top;
    size_t count;
    if (pop(self, 1, &top)) return -1;
    const pickle_value *pid = &self->values[*top];
    if (pid->kind != PICKLE_TUPLE) return fail(self, "a persistent name that is not a storage's");
    const uint32_t *parts = pickle_tuple(self, pid, &count);
    if (count < 5 || !pickle_text_is(&self->values[parts[0]], "storage"))
        return fail(self, "a persistent name that is not a storage's");
    const pickle_value *class = &self->values[parts[1]], *key = &self->values[parts[2]], *elements = &self->values[parts[4]];
    if (class->kind != PICKLE_CLASS || (class->global->role != GLOBAL_STORAGE && class->global->role != GLOBAL_BYTES))
        return fail(self, "a storage without its class");
    if ((key->kind != PICKLE_TEXT && key->kind != PICKLE_BYTES) || elements->kind != PICKLE_INTEGER || elements->as.integer < 0)
        return fail(self, "a storage without its key or size");
    return push_value(self,
                      (pickle_value){.kind = PICKLE_STORAGE, .first = pid->first, .last = pid->first, .global = class->global});
}

/* ---------------------------------------------------------------- containers */

static int make_tuple(pickle *self, const uint32_t *numbers, size_t count) {
    uint32_t tuple;
    pickle_value value = {.kind = PICKLE_TUPLE, .first = PICKLE_EMPTY, .last = PICKLE_EMPTY};
    return add_value(self, &value, &tuple) || add_items(self, tuple, numbers, count) || push(self, tuple) ? -1 : 0;
}

static int make_tuple_of(pickle *self, size_t count) {
    const uint32_t *numbers;
    return pop(self, count, &numbers) || make_tuple(self, numbers, count) ? -1 : 0;
}

static int make_from_mark(pickle *self, pickle_kind kind) {
    const uint32_t *numbers;
    size_t count;
    uint32_t container;
    if (pop_mark(self, &numbers, &count)) return -1;
    if (kind == PICKLE_TUPLE) return make_tuple(self, numbers, count);
    if (kind == PICKLE_DICT && count % 2 != 0) return fail(self, "a key without a value");
    pickle_value value = {.kind = kind, .first = PICKLE_EMPTY, .last = PICKLE_EMPTY, .as.pairs = PICKLE_EMPTY};
    if (add_value(self, &value, &container)) return -1;
    if (kind != PICKLE_OBJECT && add_items(self, container, numbers, count)) return -1;
    return push(self, container);
}

/* Adds items to the container below them on the stack. */
static int extend(pickle *self, pickle_kind kind, const uint32_t *numbers, size_t count) {
    const uint32_t *top;
    if (pop(self, 1, &top)) return -1;
    self->height++;
    pickle_kind found = self->values[*top].kind;
    if (found == PICKLE_OBJECT) return 0;
    if (found != kind) return fail(self, "adds items to what cannot hold them");
    if (kind == PICKLE_DICT && count % 2 != 0) return fail(self, "a key without a value");
    return add_items(self, *top, numbers, count);
}

static int extend_by(pickle *self, pickle_kind kind, size_t count) {
    const uint32_t *numbers;
    return pop(self, count, &numbers) || extend(self, kind, numbers, count) ? -1 : 0;
}

static int extend_from_mark(pickle *self, pickle_kind kind) {
    const uint32_t *numbers;
    size_t count;
    return pop_mark(self, &numbers, &count) || extend(self, kind, numbers, count) ? -1 : 0;
}

/* ---------------------------------------------------------------- opcodes */

enum { NOT_HERE = 1 }; /* the opcode belongs to another group */

static int run_number(pickle *self, unsigned char opcode) {
    uint64_t number;
    switch (opcode) {
    case 'N':
        return push_kind(self, PICKLE_NONE);
    case 0x88:
    case 0x89:
        return push_truth(self, opcode == 0x88);
    case 'I':
    case 'L':
        return take_integer_line(self, opcode == 'L');
    case 'F':
        return take_float_line(self);
    case 'G':
        return take_float(self);
    case 'J':
        return take_number(self, 4, &number) || push_integer(self, (int32_t)(uint32_t)number) ? -1 : 0;
    case 'K':
        return take_number(self, 1, &number) || push_integer(self, (int64_t)number) ? -1 : 0;
    case 'M':
        return take_number(self, 2, &number) || push_integer(self, (int64_t)number) ? -1 : 0;
    case 0x8a:
        return take_long(self, 1);
    case 0x8b:
        return take_long(self, 4);
    default:
        return NOT_HERE;
    }
}

static int run_text(pickle *self, unsigned char opcode) {
    switch (opcode) {
    case 'S':
        return take_quoted_line(self);
    case 'V':
        return take_unicode_line(self);
    case 'U':
    case 0x8c:
        return take_sized(self, 1, PICKLE_TEXT);
    case 'T':
    case 'X':
        return take_sized(self, 4, PICKLE_TEXT);
    case 0x8d:
        return take_sized(self, 8, PICKLE_TEXT);
    case 'C':
        return take_sized(self, 1, PICKLE_BYTES);
    case 'B':
        return take_sized(self, 4, PICKLE_BYTES);
    case 0x8e:
    case 0x96:
        return take_sized(self, 8, PICKLE_BYTES);
    default:
        return NOT_HERE;
    }
}

static int run_container(pickle *self, unsigned char opcode) {
    switch (opcode) {
    case ')':
        return make_tuple(self, NULL, 0);
    case 't':
        return make_from_mark(self, PICKLE_TUPLE);
    case 0x85:
    case 0x86:
    case 0x87:
        return make_tuple_of(self, opcode - 0x84u);
    case ']':
        return push_kind(self, PICKLE_LIST);
    case 'l':
        return make_from_mark(self, PICKLE_LIST);
    case '}':
        return push_kind(self, PICKLE_DICT);
    case 'd':
        return make_from_mark(self, PICKLE_DICT);
    case 0x8f:
        return push_kind(self, PICKLE_OBJECT); /* an empty set */
    case 0x91:
        return make_from_mark(self, PICKLE_OBJECT); /* a frozenset */
    case 'a':
        return extend_by(self, PICKLE_LIST, 1);
    case 'e':
        return extend_from_mark(self, PICKLE_LIST);
    case 0x90:
        return extend_from_mark(self, PICKLE_OBJECT);
    case 's':
        return extend_by(self, PICKLE_DICT, 2);
    case 'u':
        return extend_from_mark(self, PICKLE_DICT);
    default:
        return NOT_HERE;
    }
}

static int run_memo(pickle *self, unsigned char opcode) {
    uint64_t number;
    const uint32_t *last;
    switch (opcode) {
    case 'p':
    case 'g':
        if (take_integer_line(self, true) || pop(self, 1, &last)) return -1;
        if (self->values[*last].kind != PICKLE_INTEGER || self->values[*last].as.integer < 0)
            return fail(self, "a memo number that is none");
        number = (uint64_t)self->values[*last].as.integer;
        return opcode == 'p' ? memo_put(self, number) : memo_get(self, number);
    case 'q':
        return take_number(self, 1, &number) || memo_put(self, number) ? -1 : 0;
    case 'r':
        return take_number(self, 4, &number) || memo_put(self, number) ? -1 : 0;
    case 'h':
        return take_number(self, 1, &number) || memo_get(self, number) ? -1 : 0;
    case 'j':
        return take_number(self, 4, &number) || memo_get(self, number) ? -1 : 0;
    case 0x94:
        return memo_put(self, self->memoized++);
    default:
        return NOT_HERE;
    }
}

static int run_class(pickle *self, unsigned char opcode) {
    const pickle_global *global;
    switch (opcode) {
    case 'c':
        return take_class_lines(self, &global) || push_class(self, global) ? -1 : 0;
    case 0x93:
        return stack_global(self);
    case 'R':
    case 0x81:
        return call_top(self, 0);
    case 0x92:
        return call_top(self, 1);
    case 'i':
        return take_class_lines(self, &global) || call_marked(self, global) ? -1 : 0;
    case 'o':
        return call_marked(self, NULL);
    case 'b':
        return build(self);
    case 'Q':
        return persistent(self);
    case 'P':
        return fail(self, "a persistent name in text, which torch.save does not write");
    case 0x82:
    case 0x83:
    case 0x84:
        return fail(self, "a class from the registry of extensions, which weights do not need; nothing was executed");
    default:
        return NOT_HERE;
    }
}

static int run_machine(pickle *self, unsigned char opcode) {
    uint64_t number;
    const uint32_t *numbers;
    size_t count;
    switch (opcode) {
    case 0x80:
        if (take_number(self, 1, &number)) return -1;
        return number > PROTOCOL_MAX ? fail(self, "a protocol above 5, which is not read here") : 0;
    case 0x95: /* how many bytes Python should read at once */
        if (take_number(self, 8, &number)) return -1;
        return number > (size_t)(self->end - self->at) ? fail_short(self) : 0;
    case '(':
        return set_mark(self);
    case '0':
        if (self->mark_count && self->marks[self->mark_count - 1] == self->height) return pop_mark(self, &numbers, &count);
        return pop(self, 1, &numbers);
    case '1':
        return pop_mark(self, &numbers, &count);
    case '2':
        if (pop(self, 1, &numbers)) return -1;
        self->height++;
        return push(self, *numbers);
    case 0x97:
    case 0x98:
        return fail(self, "data outside of the pickle (protocol 5), which torch.save does not write");
    default:
        return fail(self, "not an instruction of a pickle: the file is damaged, or not a PyTorch checkpoint");
    }
}

static int run_opcode(pickle *self, unsigned char opcode) {
    int (*const groups[])(pickle *, unsigned char) = {run_memo, run_text, run_number, run_container, run_class, run_machine};
    int result = NOT_HERE;
    for (size_t i = 0; result == NOT_HERE && i < sizeof groups / sizeof *groups; i++) result = groups[i](self, opcode);
    return result;
}

int pickle_run(pickle *self, uint32_t *out_root) {
    self->height = self->mark_count = self->memoized = 0;
    if (reserve(self, &self->stack, &self->stack_room, 1, sizeof *self->stack)) return -1; /* so that it is never NULL */
    if (self->memo_room) memset(self->memo, 0, self->memo_room * sizeof *self->memo);
    for (;;) {
        self->opcode = self->at;
        if (self->at == self->end) return fail_short(self);
        if (++self->steps > STEPS_MAX) return fail(self, "more than 8 million instructions: not a checkpoint of weights");
        unsigned char opcode = *self->at++;
        if (opcode == '.') break;
        if (run_opcode(self, opcode)) return -1;
    }
    const uint32_t *top;
    if (self->mark_count) return fail(self, "ends within a mark");
    if (pop(self, 1, &top)) return -1;
    if (self->height) return fail(self, "ends with values left over");
    *out_root = *top;
    return 0;
}
