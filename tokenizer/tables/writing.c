/* Tables as C. */
#include "tokenizer/tables/tables.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash_text(const char *text, size_t size) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

static size_t size_at(const string_pool *self, size_t number) {
    return self->starts[number + 1] - self->starts[number];
}

static bool equal_at(const string_pool *self, size_t number, const char *text, size_t size) {
    return size_at(self, number) == size && (size == 0 || memcmp(self->text.data + self->starts[number], text, size) == 0);
}

/* The slot that holds the string, or the empty one where it would go. */
static size_t *find_slot(const string_pool *self, const char *text, size_t size) {
    size_t slot = (size_t)hash_text(text, size) & (self->slot_count - 1);
    while (self->slots[slot] && !equal_at(self, self->slots[slot] - 1, text, size)) slot = (slot + 1) & (self->slot_count - 1);
    return &self->slots[slot];
}

static int grow(string_pool *self, limn_error *error) {
    size_t capacity = self->capacity ? 2 * self->capacity : 1024;
    size_t *starts = limn_allocate(capacity + 1, sizeof *starts, error);
    size_t *slots = limn_allocate(2 * capacity, sizeof *slots, error);
    if (!starts || !slots) {
        free(starts);
        free(slots);
        return -1;
    }
    if (self->starts) memcpy(starts, self->starts, (self->count + 1) * sizeof *starts);
    free(self->starts);
    free(self->slots);
    self->starts = starts;
    self->slots = slots;
    self->capacity = capacity;
    self->slot_count = 2 * capacity;
    for (size_t i = 0; i < self->count; i++) *find_slot(self, self->text.data + starts[i], starts[i + 1] - starts[i]) = i + 1;
    return 0;
}

size_t string_pool_add(string_pool *self, const char *text, size_t size, limn_error *error) {
    if (self->count == self->capacity && grow(self, error)) return SIZE_MAX;
    size_t *slot = find_slot(self, text, size);
    if (*slot) return *slot - 1;
    if (limn_buffer_append(&self->text, text, size, error)) return SIZE_MAX;
    self->starts[self->count + 1] = self->text.size;
    *slot = ++self->count;
    return self->count - 1;
}

void string_pool_free(string_pool *self) {
    limn_buffer_free(&self->text);
    free(self->starts);
    free(self->slots);
    *self = (string_pool){0};
}

static void write_text(const char *text, size_t size, FILE *out) {
    for (size_t i = 0; i < size; i += 100) {
        fputs("\n    \"", out);
        for (size_t k = i; k < size && k < i + 100; k++) {
            if (text[k] == '"' || text[k] == '\\' || text[k] == '?')
                fprintf(out, "\\%c", text[k]);
            else if (text[k] >= ' ' && text[k] <= '~')
                putc(text[k], out);
            else
                fprintf(out, "\\%03o", (unsigned char)text[k]);
        }
        putc('"', out);
    }
}

void string_pool_write(const string_pool *self, const char *name, FILE *out) {
    fprintf(out, "const uint32_t %s_start[] = {", name);
    for (size_t i = 0; i <= self->count; i++) fprintf(out, "%s%zu,", i % 20 ? "" : "\n    ", self->starts[i]);
    fprintf(out, "\n};\n\nconst char %s_text[] =", name);
    write_text(self->text.data, self->text.size, out);
    fputs(";\n\n", out);
}

int write_rows(const uint16_t *values, const char *type, const char *name, FILE *out, limn_error *error) {
    size_t *places = limn_allocate(TABLES_ROWS, sizeof *places, error),
           *firsts = limn_allocate(TABLES_ROWS, sizeof *firsts, error);
    size_t count = 0;
    if (!places || !firsts) {
        free(places);
        free(firsts);
        return -1;
    }
    for (size_t row = 0; row < TABLES_ROWS; row++) {
        size_t place = 0;
        while (place < count && memcmp(values + 256 * firsts[place], values + 256 * row, 256 * sizeof *values) != 0) place++;
        if (place == count) firsts[count++] = row;
        places[row] = place;
    }
    fprintf(out, "const %s %s_rows[][256] = {", type, name);
    for (size_t i = 0; i < count; i++) {
        fputs("\n    {", out);
        for (size_t k = 0; k < 256; k++) fprintf(out, "%u,%s", values[256 * firsts[i] + k], k % 32 == 31 ? "\n     " : "");
        fputs("},", out);
    }
    fprintf(out, "\n};\n\nconst uint16_t %s_row[] = {", name);
    for (size_t row = 0; row < TABLES_ROWS; row++) fprintf(out, "%s%zu,", row % 32 ? "" : "\n    ", places[row]);
    fputs("\n};\n\n", out);
    free(places);
    free(firsts);
    return 0;
}
