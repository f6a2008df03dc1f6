/* HTML's named character references, sorted by name, with the variants in capitals that the mojibake repair knows. */
#include "tokenizer/normalizer.h"
#include "tokenizer/tables/tables.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 1 << 20, ENTITIES_MAX = 8192 };

typedef struct {
    html_entity *items;
    size_t count;
} entity_list;

static int compare_entities(const void *a, const void *b) {
    return strcmp(((const html_entity *)a)->name, ((const html_entity *)b)->name);
}

static const html_entity *find(const entity_list *sorted, const char *name) {
    html_entity wanted = {0};
    snprintf(wanted.name, sizeof wanted.name, "%s", name);
    return bsearch(&wanted, sorted->items, sorted->count, sizeof wanted, compare_entities);
}

static int add(entity_list *list, const char *name, const hex_codes *codes, bool capitals, limn_error *error) {
    html_entity *added = &list->items[list->count];
    if (list->count == ENTITIES_MAX || strlen(name) >= sizeof added->name || codes->count > HTML_ENTITY_CODES)
        return limn_fail(error, "the entity %s is too long, or there are too many", name);
    *added = (html_entity){.capitals = capitals};
    strcpy(added->name, name);
    memcpy(added->codes, codes->codes, codes->count * sizeof codes->codes[0]);
    list->count++;
    return 0;
}

/* "Aacute; C1" */
static int read_entities(entity_list *list, char *text, limn_error *error) {
    for (char *line; (line = next_line(&text));) {
        hex_codes codes;
        if (*line == '#' || !*line) continue;
        char *name = next_field(&line, ' ');
        if (!line || read_codes(line, &codes) || codes.count == 0)
            return limn_fail(error, "has a line of another form at %s", name);
        if (add(list, name, &codes, false, error)) return -1;
    }
    return list->count ? 0 : limn_fail(error, "has no entities");
}

/* Whether the longest-prefix rule of HTML finds something in the name, which has no entry of its own. */
static bool has_known_beginning(const entity_list *sorted, const char *name) {
    char prefix[sizeof sorted->items->name];
    for (size_t size = strlen(name) - 1; size >= 2; size--) {
        snprintf(prefix, sizeof prefix, "%.*s", (int)size, name);
        if (find(sorted, prefix)) return true;
    }
    return false;
}

/* "&EACUTE;" is no entity, but databases in capitals are full of them: for each name in small letters that ends with a
 * semicolon, the name in capitals gives the capitals, if HTML itself would leave it alone. */
static int add_capitals(entity_list *list, const unicode_data *data, limn_error *error) {
    const entity_list sorted = *list;
    for (size_t i = 0; i < sorted.count; i++) {
        const html_entity *small = &sorted.items[i];
        char name[sizeof small->name];
        size_t length = strlen(small->name);
        hex_codes upper = {.count = 0};
        bool all_small = small->name[length - 1] == ';';
        for (size_t k = 0; k <= length; k++) {
            all_small = all_small && !isupper((unsigned char)small->name[k]);
            name[k] = (char)toupper((unsigned char)small->name[k]);
        }
        if (!all_small || find(&sorted, name) || has_known_beginning(&sorted, name)) continue;
        for (size_t k = 0; k < HTML_ENTITY_CODES && small->codes[k]; k++) {
            const hex_codes *mapped = &data->upper[small->codes[k]];
            if (mapped->count == 0) upper.codes[upper.count++] = small->codes[k];
            for (size_t m = 0; m < mapped->count; m++) upper.codes[upper.count++] = mapped->codes[m];
        }
        if (add(list, name, &upper, true, error)) return -1;
    }
    return 0;
}

int entities_write(const char *path, const unicode_data *data, FILE *out, limn_error *error) {
    entity_list list = {.items = limn_allocate(ENTITIES_MAX, sizeof *list.items, error)};
    size_t size;
    char *text = list.items ? limn_file_read(path, FILE_LIMIT, &size, error) : NULL;
    int status = text ? read_entities(&list, text, error) : -1;
    if (status == 0) {
        qsort(list.items, list.count, sizeof *list.items, compare_entities);
        status = add_capitals(&list, data, error);
        qsort(list.items, list.count, sizeof *list.items, compare_entities);
    }
    if (status && text) limn_fail_context(error, "%s", path);
    if (status == 0) {
        fputs("const html_entity html_entities[] = {\n", out);
        for (size_t i = 0; i < list.count; i++)
            fprintf(out, "    {\"%s\", {0x%X, 0x%X, 0x%X}, %d},\n", list.items[i].name, list.items[i].codes[0],
                    list.items[i].codes[1], list.items[i].codes[2], list.items[i].capitals);
        fprintf(out, "};\nconst size_t html_entity_count = %zu;\n\n", list.count);
    }
    free(text);
    free(list.items);
    return status;
}
