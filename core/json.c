/* Configurations: loading, saving, typed look-ups. */
#include "core/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool too_deep(const json_t *value, size_t depth) {
    if (!json_is_object(value) && !json_is_array(value)) return false;
    if (depth >= JSON_MAX_DEPTH) return true;
    const char *key;
    size_t index;
    json_t *child;
    json_object_foreach((json_t *)(uintptr_t)value, key, child) if (too_deep(child, depth + 1)) return true;
    json_array_foreach(value, index, child) if (too_deep(child, depth + 1)) return true;
    return false;
}

static json_t *parse_json(const char *text, size_t size, const char *path, limn_error *error) {
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        size -= 3;
    }
    json_error_t trouble;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &trouble);
    if (!value) {
        limn_fail(error, "%s: line %d, column %d: %s", path, trouble.line, trouble.column, trouble.text);
        return NULL;
    }
    if (too_deep(value, 0)) {
        limn_fail(error, "%s: nested more than %d levels deep", path, JSON_MAX_DEPTH);
        json_decref(value);
        return NULL;
    }
    return value;
}

json_t *limn_json_load(const char *path, limn_error *error) {
    size_t size;
    char *text = limn_file_read(path, JSON_MAX_BYTES, &size, error);
    if (!text) return NULL;
    bool yaml = limn_ends_with(path, ".yaml") || limn_ends_with(path, ".yml");
    json_t *value = yaml ? limn_yaml_parse(text, size, path, error) : parse_json(text, size, path, error);
    free(text);
    return value;
}

int limn_json_save(const json_t *value, const char *path, limn_error *error) {
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (!text) return limn_fail(error, "%s: cannot put this value into JSON", path);
    limn_atomic_file file;
    int failed = limn_atomic_open(&file, path, error);
    if (!failed) {
        fputs(text, file.stream);
        fputc('\n', file.stream);
        failed = limn_atomic_commit(&file, error);
    }
    free(text);
    return failed;
}

/* ---------------------------------------------------------------- look-ups */

/* Writes the value as JSON, shortened, for an error message. */
static const char *shown(const json_t *value, char out[80]) {
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(out, 80, "%.60s%s", text ? text : "?", text && strlen(text) > 60 ? "…" : "");
    free(text);
    return out;
}

/* NULL when the key is absent or null: then the default stays. */
static const json_t *present(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* A whole number; 1e6 in a configuration is one too. */
static bool as_size(const json_t *value, size_t *out) {
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (size_t)json_integer_value(value);
        return true;
    }
    double real = json_is_real(value) ? json_real_value(value) : -1;
    if (real < 0 || real > 0x1p53 || real != floor(real)) return false;
    *out = (size_t)real;
    return true;
}

int limn_json_get_size(const json_t *object, const char *where, const char *key, size_t min, size_t max, size_t *out,
                       limn_error *error) {
    const json_t *value = present(object, key);
    if (!value) return 0;
    size_t number;
    char text[80];
    if (!as_size(value, &number) || number < min || number > max)
        return limn_fail_usage(error, "%s: %s is %s but must be a whole number from %zu to %zu", where, key, shown(value, text),
                               min, max);
    *out = number;
    return 0;
}

int limn_json_get_float(const json_t *object, const char *where, const char *key, double min, double max, double *out,
                        limn_error *error) {
    const json_t *value = present(object, key);
    if (!value) return 0;
    double number = json_number_value(value);
    char text[80];
    if (!json_is_number(value) || !(number >= min && number <= max))
        return limn_fail_usage(error, "%s: %s is %s but must be a number from %g to %g", where, key, shown(value, text), min,
                               max);
    *out = number;
    return 0;
}

int limn_json_get_bool(const json_t *object, const char *where, const char *key, bool *out, limn_error *error) {
    const json_t *value = present(object, key);
    if (!value) return 0;
    char text[80];
    if (!json_is_boolean(value))
        return limn_fail_usage(error, "%s: %s is %s but must be true or false", where, key, shown(value, text));
    *out = json_is_true(value);
    return 0;
}

int limn_json_get_string(const json_t *object, const char *where, const char *key, const char *choices, const char **out,
                         limn_error *error) {
    const json_t *value = present(object, key);
    if (!value) return 0;
    char text[80];
    if (!json_is_string(value))
        return limn_fail_usage(error, "%s: %s is %s but must be a text", where, key, shown(value, text));
    const char *string = json_string_value(value);
    if (choices && !limn_is_choice(choices, string))
        return limn_fail_usage(error, "%s: %s is %s but must be one of %s", where, key, shown(value, text), choices);
    *out = string;
    return 0;
}

int limn_json_get_sizes(const json_t *object, const char *where, const char *key, size_t min, size_t max, size_t *out,
                        size_t capacity, size_t *count, limn_error *error) {
    const json_t *value = present(object, key);
    if (!value) return 0;
    char text[80];
    if (!json_is_array(value))
        return limn_fail_usage(error, "%s: %s is %s but must be a list of whole numbers", where, key, shown(value, text));
    if (json_array_size(value) > capacity)
        return limn_fail_usage(error, "%s: %s has %zu numbers but may have at most %zu", where, key, json_array_size(value),
                               capacity);
    for (size_t i = 0; i < json_array_size(value); i++) {
        size_t number;
        const json_t *item = json_array_get(value, i);
        if (!as_size(item, &number) || number < min || number > max)
            return limn_fail_usage(error, "%s: %s holds %s but its numbers must be whole, from %zu to %zu", where, key,
                                   shown(item, text), min, max);
        out[i] = number;
    }
    *count = json_array_size(value);
    return 0;
}

int limn_json_check_keys(const json_t *object, const char *where, const char *const *known, limn_error *error) {
    if (!json_is_object(object)) return limn_fail_usage(error, "%s: must be an object of keys and values", where);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        const char *const *each = known;
        while (*each && strcmp(*each, key) != 0) each++;
        if (*each) continue;
        const char *nearest = limn_nearest(key, known);
        if (nearest) return limn_fail_usage(error, "%s: unknown key '%s'; did you mean '%s'?", where, key, nearest);
        return limn_fail_usage(error, "%s: unknown key '%s'; remove it", where, key);
    }
    return 0;
}

int limn_json_refuse_other(const char *path, const json_t *was, const json_t *now, const char *inputs, limn_error *error) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)now, key, value) {
        const json_t *old = json_object_get(was, key);
        if (old && json_equal(old, value)) continue;
        if (!strcmp(key, "inputs"))
            return limn_fail_usage(error, "%s: made from other %s; give those, another --output, or --restart to begin anew",
                                   path, inputs);
        char *a = old ? json_dumps(old, JSON_ENCODE_ANY) : NULL, *b = json_dumps(value, JSON_ENCODE_ANY);
        limn_fail_usage(error, "%s: %s was %s and is now %s; use what it was, another --output, or --restart to begin anew",
                        path, key, a ? a : "absent", b ? b : "?");
        free(a);
        free(b);
        return -1;
    }
    return 0;
}

int limn_json_set(json_t *object, const char *assignment, limn_error *error) {
    const char *equals = strchr(assignment, '=');
    char path[512];
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof path)
        return limn_fail_usage(error, "'%s' must have the form key=value or section.key=value", assignment);
    memcpy(path, assignment, (size_t)(equals - assignment));
    path[equals - assignment] = '\0';
    char *key = path;
    for (char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        *dot = '\0';
        json_t *section = json_object_get(object, key);
        if (!section && json_object_set_new(object, key, json_object()) == 0) section = json_object_get(object, key);
        if (!json_is_object(section)) return limn_fail_usage(error, "'%s': %s is not a section", assignment, key);
        object = section;
    }
    if (!*key) return limn_fail_usage(error, "'%s' must have the form key=value or section.key=value", assignment);
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (!value) value = json_string(equals + 1);
    if (!value || json_object_set_new(object, key, value) != 0)
        return limn_fail_usage(error, "'%s' is not valid UTF-8", assignment);
    return 0;
}
