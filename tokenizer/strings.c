/* Growing lists of strings and ids. */
#include "tokenizer/internal.h"
#include <stdlib.h>
#include <string.h>

int string_list_add(string_list *list, const char *text, size_t size, limn_error *error) {
    if (list->count + 2 > list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        size_t *offsets = realloc(list->offsets, capacity * sizeof *offsets);
        if (!offsets) return limn_fail(error, "not enough memory for %zu strings", capacity);
        list->offsets = offsets;
        list->capacity = capacity;
    }
    if (size >= list->room - list->size) {
        size_t room = 2 * list->room + size + 64;
        char *data = realloc(list->data, room);
        if (!data) return limn_fail(error, "not enough memory for %zu bytes of strings", room);
        list->data = data;
        list->room = room;
    }
    if (size) memcpy(list->data + list->size, text, size);
    list->data[list->size + size] = '\0';
    list->offsets[list->count++] = list->size;
    list->size += size + 1;
    list->offsets[list->count] = list->size;
    return 0;
}

void string_list_shorten(string_list *list, size_t size) {
    list->size = list->offsets[list->count - 1] + size + 1;
    list->offsets[list->count] = list->size;
    list->data[list->size - 1] = '\0';
}

const char *string_list_at(const string_list *list, size_t index) {
    return list->data + list->offsets[index];
}

size_t string_list_size_at(const string_list *list, size_t index) {
    return list->offsets[index + 1] - list->offsets[index] - 1;
}

void string_list_free(string_list *list) {
    free(list->data);
    free(list->offsets);
    *list = (string_list){0};
}

int id_list_reserve(id_list *list, size_t more, limn_error *error) {
    if (more <= list->capacity - list->count) return 0;
    size_t capacity = list->capacity + list->capacity / 2 + more + 16;
    int32_t *items = realloc(list->items, capacity * sizeof *items);
    if (!items) return limn_fail(error, "not enough memory for %zu token ids", capacity);
    list->items = items;
    list->capacity = capacity;
    return 0;
}

int id_list_append(id_list *list, const int32_t *ids, size_t count, limn_error *error) {
    if (id_list_reserve(list, count, error)) return -1;
    if (count) memcpy(list->items + list->count, ids, count * sizeof *ids);
    list->count += count;
    return 0;
}
