#include "nn/nn.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

size_t parameters_add(parameters *set, parameter_layout layout, size_t rank, const size_t *shape, limn_error *error,
                      const char *name_format, ...) {
    parameter added = {.layout = layout, .rank = rank, .size = 1};
    va_list arguments;
    va_start(arguments, name_format);
    int length = vsnprintf(added.name, sizeof added.name, name_format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof added.name) {
        limn_fail(error, "parameter name '%.40s…' is longer than %zu bytes", added.name, sizeof added.name - 1);
        return SIZE_MAX;
    }
    if (set->storage != NULL) {
        limn_fail(error, "parameter '%s' added after the set was allocated", added.name);
        return SIZE_MAX;
    }
    if (rank == 0 || rank > 4 || (layout == PARAMETER_CONVOLUTION && rank != 4)) {
        limn_fail(error, "parameter '%s' has rank %zu; 1 to 4 is possible, and 4 for a convolution", added.name, rank);
        return SIZE_MAX;
    }
    if (parameters_find(set, added.name) != NULL) {
        limn_fail(error, "parameter '%s' is there twice", added.name);
        return SIZE_MAX;
    }
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] == 0) {
            limn_fail(error, "parameter '%s' has size 0 in dimension %zu; check the sizes in the configuration", added.name, i);
            return SIZE_MAX;
        }
        added.shape[i] = shape[i];
        if (limn_multiply(added.size, shape[i], &added.size, error) != 0) {
            limn_fail_context(error, "parameter '%s'", added.name);
            return SIZE_MAX;
        }
    }
    /* All together must be countable in bytes too. */
    if (added.size > SIZE_MAX / 2 / sizeof(float) - set->size) {
        limn_fail(error, "parameter '%s' makes the model too large to address; check the sizes in the configuration",
                  added.name);
        return SIZE_MAX;
    }
    if (set->count == set->capacity) {
        size_t capacity = set->capacity ? set->capacity * 2 : 64, bytes;
        if (limn_multiply(capacity, sizeof *set->list, &bytes, error) != 0) return SIZE_MAX;
        parameter *list = realloc(set->list, bytes);
        if (list == NULL) {
            limn_fail(error, "no memory for the list of %zu parameters", capacity);
            return SIZE_MAX;
        }
        set->list = list;
        set->capacity = capacity;
    }
    set->list[set->count] = added;
    set->size += added.size;
    return set->count++;
}

int parameters_allocate(parameters *set, bool with_grads, limn_error *error) {
    set->storage = limn_allocate(set->size, sizeof(float), error);
    if (set->storage == NULL) return limn_fail_context(error, "the model's %zu weights", set->size);
    set->grad_size = 0;
    for (size_t i = 0; i < set->count && with_grads; i++) set->grad_size += set->list[i].frozen ? 0 : set->list[i].size;
    if (with_grads) {
        set->grads = limn_allocate(set->grad_size, sizeof(float), error);
        if (set->grads == NULL) {
            free(set->storage);
            set->storage = NULL;
            return limn_fail_context(error, "the gradients of the model's %zu weights", set->grad_size);
        }
    }
    size_t offset = 0, grad_offset = 0;
    for (size_t i = 0; i < set->count; i++) {
        parameter *p = &set->list[i];
        p->mutable_value = set->storage + offset;
        p->value = p->mutable_value;
        offset += p->size;
        p->grad = NULL;
        if (!with_grads || p->frozen) continue;
        p->grad = set->grads + grad_offset;
        grad_offset += p->size;
    }
    return 0;
}

void parameters_drop(parameters *set, size_t index) {
    parameter *p = &set->list[index];
    if (p->value != NULL) limn_forget(p->value, p->size * sizeof *p->value);
    p->value = p->mutable_value = NULL;
}

parameter *parameters_find(const parameters *set, const char *name) {
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->list[i].name, name) == 0) return &set->list[i];
    return NULL;
}

/* Whole parts of the name, one after another. */
static bool holds(const char *name, const char *part, size_t length) {
    for (const char *at = name; at != NULL; at = strchr(at, '.')) {
        if (at != name) at++;
        if (strncmp(at, part, length) == 0 && (at[length] == '\0' || at[length] == '.')) return true;
    }
    return false;
}

/* The first parts of all names, each once: "encoder, quant_conv, …". */
static void list_parts(const parameters *set, char *out, size_t room) {
    size_t used = 0;
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->list[i].name;
        if (strncmp(name, "model.", 6) == 0) name += 6;
        const size_t length = strcspn(name, ".");
        bool known = false;
        for (size_t j = 0; j < i && !known; j++) known = holds(set->list[j].name, name, length);
        if (!known && used + length + 3 < room)
            used += (size_t)snprintf(out + used, room - used, "%s%.*s", used ? ", " : "", (int)length, name);
    }
}

int parameters_select(const parameters *set, const char *names, bool *selected, const char *option, limn_error *error) {
    memset(selected, 0, set->count * sizeof *selected);
    for (const char *at = names; *at;) {
        const size_t length = strcspn(at, ",");
        bool found = false;
        for (size_t i = 0; i < set->count && length; i++) {
            if (!holds(set->list[i].name, at, length)) continue;
            selected[i] = found = true;
        }
        if (!found) {
            char parts[512] = "";
            list_parts(set, parts, sizeof parts);
            return limn_fail_usage(error, "%s %s: no weight's name holds '%.*s'; there are %s and the parts of these", option,
                                   names, (int)length, at, parts);
        }
        at += length + (at[length] == ',');
    }
    return *names ? 0 : limn_fail_usage(error, "%s names nothing", option);
}

void parameters_zero_grads(parameters *set) {
    if (set->grads == NULL) return;
    /* In pieces, so that every thread touches its share. */
    const size_t piece = 1 << 16;
#pragma omp parallel for schedule(static)
    for (size_t start = 0; start < set->grad_size; start += piece) {
        size_t count = set->grad_size - start < piece ? set->grad_size - start : piece;
        memset(set->grads + start, 0, count * sizeof(float));
    }
}

int parameters_with_values(parameters *out, const parameters *set, const float *values, limn_error *error) {
    *out = (parameters){.count = set->count, .capacity = set->count, .size = set->size};
    out->list = limn_allocate(set->count, sizeof *out->list, error);
    if (out->list == NULL) return -1;
    for (size_t i = 0; i < set->count; i++) {
        parameter *p = &out->list[i];
        *p = set->list[i];
        p->value = values + (set->list[i].value - set->storage);
        p->mutable_value = p->grad = NULL;
    }
    return 0;
}

void parameters_free(parameters *set) {
    free(set->list);
    free(set->storage);
    free(set->grads);
    *set = (parameters){0};
}
