/* YAML into the JSON values that configurations are read from: the core schema of YAML 1.2 (section 10.3), one document,
 * anchors and aliases with a bound on what they expand to. */
#include "core/internal.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { NODES_MAX = 1000000, ANCHORS_MAX = 256 };

typedef struct {
    yaml_parser_t parser;
    const char *name;
    size_t nodes; /* values made so far, those that aliases repeat among them */
    struct {
        char *name;
        json_t *value; /* owned */
    } anchors[ANCHORS_MAX];
    size_t anchor_count;
    limn_error *error;
} reader;

static json_t *read_value(reader *self, yaml_event_t *event, size_t depth);

/* The caller returns the NULL. */
static json_t *fail_at(reader *self, const yaml_event_t *event, const char *what) {
    limn_fail(self->error, "%s: line %zu: %s", self->name, event->start_mark.line + 1, what);
    return NULL;
}

static int next_event(reader *self, yaml_event_t *event) {
    if (yaml_parser_parse(&self->parser, event)) return 0;
    memset(event, 0, sizeof *event);
    return limn_fail(self->error, "%s: line %zu: %s", self->name, self->parser.problem_mark.line + 1,
                     self->parser.problem ? self->parser.problem : "not valid YAML");
}

static bool one_of(const char *text, const char *a, const char *b, const char *c) {
    return strcmp(text, a) == 0 || strcmp(text, b) == 0 || strcmp(text, c) == 0;
}

/* NULL without an error when the text is not a number. */
static json_t *plain_number(const char *text) {
    char *end;
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    if (*digits && strspn(digits, "0123456789") == strlen(digits)) {
        long long value = strtoll(text, &end, 10);
        if (value != LLONG_MAX && value != LLONG_MIN) return json_integer(value);
    }
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'o') && text[2]) {
        const char *allowed = text[1] == 'x' ? "0123456789abcdefABCDEF" : "01234567";
        if (strspn(text + 2, allowed) == strlen(text + 2) && strlen(text + 2) <= 15)
            return json_integer(strtoll(text + 2, &end, text[1] == 'x' ? 16 : 8));
    }
    if (!*text || strspn(text, "+-.0123456789eE") != strlen(text) || strspn(text, "+-.eE") == strlen(text)) return NULL;
    double value = strtod(text, &end);
    return *end || !isfinite(value) ? NULL : json_real(value);
}

static json_t *read_scalar(reader *self, yaml_event_t *event) {
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    const char *tag = (const char *)event->data.scalar.tag;
    bool is_string = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (strlen(text) != length) return fail_at(self, event, "a text holds a zero byte"); /* JSON's readers refuse it too */
    if (tag && (strcmp(tag, YAML_STR_TAG) == 0 || strcmp(tag, "!") == 0))
        is_string = true;
    else if (tag)
        return fail_at(self, event, "tags other than !!str are not read here");
    json_t *value = NULL;
    if (!is_string) {
        if (!*text || strcmp(text, "~") == 0 || one_of(text, "null", "Null", "NULL")) return json_null();
        if (one_of(text, "true", "True", "TRUE")) return json_true();
        if (one_of(text, "false", "False", "FALSE")) return json_false();
        const char *unsigned_text = text + (text[0] == '-' || text[0] == '+');
        if (one_of(unsigned_text, ".inf", ".Inf", ".INF") || one_of(text, ".nan", ".NaN", ".NAN"))
            return fail_at(self, event, "a number must be finite");
        value = plain_number(text);
    }
    if (!value) value = json_stringn(text, length);
    return value ? value : fail_at(self, event, "text that is not valid UTF-8, or no memory left");
}

static json_t *read_sequence(reader *self, size_t depth) {
    json_t *array = json_array();
    for (;;) {
        yaml_event_t event;
        if (next_event(self, &event)) break;
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return array;
        }
        json_t *item = read_value(self, &event, depth);
        yaml_event_delete(&event);
        if (!item || json_array_append_new(array, item) != 0) break;
    }
    json_decref(array);
    return NULL;
}

/* Reads the value of one key. The event is the key's. */
static int read_pair(reader *self, json_t *object, const yaml_event_t *key_event, size_t depth) {
    if (key_event->type != YAML_SCALAR_EVENT) return fail_at(self, key_event, "a key must be a plain text"), -1;
    const char *key = (const char *)key_event->data.scalar.value;
    if (strlen(key) != key_event->data.scalar.length) return fail_at(self, key_event, "a key holds a zero byte"), -1;
    if (strcmp(key, "<<") == 0) return fail_at(self, key_event, "the merge key << is not read here: write the keys out"), -1;
    if (json_object_get(object, key)) return fail_at(self, key_event, "the same key stands here twice"), -1;
    yaml_event_t event;
    if (next_event(self, &event)) return -1;
    json_t *value = read_value(self, &event, depth);
    yaml_event_delete(&event);
    if (!value) return -1;
    if (json_object_set_new(object, key, value) != 0) return fail_at(self, key_event, "a key that is not valid UTF-8"), -1;
    return 0;
}

static json_t *read_mapping(reader *self, size_t depth) {
    json_t *object = json_object();
    for (;;) {
        yaml_event_t event;
        if (next_event(self, &event)) break;
        bool end = event.type == YAML_MAPPING_END_EVENT;
        int failed = end ? 0 : read_pair(self, object, &event, depth);
        yaml_event_delete(&event);
        if (end) return object;
        if (failed) break;
    }
    json_decref(object);
    return NULL;
}

static size_t count_nodes(const json_t *value) {
    size_t count = 1, index;
    const char *key;
    json_t *child;
    json_object_foreach((json_t *)(uintptr_t)value, key, child) count += count_nodes(child);
    json_array_foreach(value, index, child) count += count_nodes(child);
    return count;
}

static json_t *read_alias(reader *self, const yaml_event_t *event) {
    const char *name = (const char *)event->data.alias.anchor;
    for (size_t i = self->anchor_count; i > 0; i--) {
        if (strcmp(self->anchors[i - 1].name, name) != 0) continue;
        self->nodes += count_nodes(self->anchors[i - 1].value);
        if (self->nodes > NODES_MAX) return fail_at(self, event, "aliases expand to more than a million values");
        return json_deep_copy(self->anchors[i - 1].value); /* a copy: what is set in one place must not show in another */
    }
    return fail_at(self, event, "an alias of an anchor that does not stand before it");
}

static int remember_anchor(reader *self, const yaml_event_t *event, const char *name, json_t *value) {
    if (self->anchor_count == ANCHORS_MAX) return fail_at(self, event, "too many anchors"), -1;
    char *copy = strdup(name);
    if (!copy) return fail_at(self, event, "no memory left"), -1;
    self->anchors[self->anchor_count].name = copy;
    self->anchors[self->anchor_count++].value = json_deep_copy(value);
    return 0;
}

static json_t *read_value(reader *self, yaml_event_t *event, size_t depth) {
    if (++self->nodes > NODES_MAX) return fail_at(self, event, "more than a million values");
    const yaml_char_t *anchor = NULL, *tag = NULL;
    json_t *value = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return read_alias(self, event);
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        value = read_scalar(self, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT: {
        bool sequence = event->type == YAML_SEQUENCE_START_EVENT;
        anchor = sequence ? event->data.sequence_start.anchor : event->data.mapping_start.anchor;
        tag = sequence ? event->data.sequence_start.tag : event->data.mapping_start.tag;
        if (tag) return fail_at(self, event, "tags other than !!str are not read here");
        if (depth >= JSON_MAX_DEPTH) return fail_at(self, event, "nested too deep");
        value = sequence ? read_sequence(self, depth + 1) : read_mapping(self, depth + 1);
        break;
    }
    default:
        return fail_at(self, event, "a value is expected");
    }
    if (value && anchor && remember_anchor(self, event, (const char *)anchor, value)) {
        json_decref(value);
        return NULL;
    }
    return value;
}

/* Skips the events that only frame a document; the value of the only document is returned. */
static json_t *read_document(reader *self) {
    json_t *value = NULL;
    for (;;) {
        yaml_event_t event;
        if (next_event(self, &event)) break;
        yaml_event_type_t type = event.type;
        bool frame = type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT || type == YAML_DOCUMENT_END_EVENT;
        bool failed = false;
        if (type == YAML_STREAM_END_EVENT && !value) fail_at(self, &event, "the file is empty");
        if (type != YAML_STREAM_END_EVENT && !frame) {
            if (value)
                failed = !fail_at(self, &event, "more than one document; keep one");
            else
                failed = !(value = read_value(self, &event, 0));
        }
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT) return value;
        if (failed) break;
    }
    json_decref(value);
    return NULL;
}

json_t *limn_yaml_parse(const char *text, size_t length, const char *name, limn_error *error) {
    reader *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    json_t *value = NULL;
    self->name = name;
    self->error = error;
    if (!yaml_parser_initialize(&self->parser)) {
        limn_fail(error, "%s: out of memory", name);
    } else {
        yaml_parser_set_input_string(&self->parser, (const unsigned char *)text, length);
        value = read_document(self);
        yaml_parser_delete(&self->parser);
    }
    for (size_t i = 0; i < self->anchor_count; i++) {
        free(self->anchors[i].name);
        json_decref(self->anchors[i].value);
    }
    free(self);
    return value;
}
