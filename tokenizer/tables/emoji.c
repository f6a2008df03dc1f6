/* Emoji to the names that the Python package "emoji" gives them: CLDR's English short names, as Unicode's emoji-test.txt has
 * them, with underscores. Written as a tree of code points, walked by tokenizer/emoji.c. */
#include "tokenizer/normalizer.h"
#include "tokenizer/tables/tables.h"
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 16 << 20, LENGTH_MAX = 10, FIRST_TONE = 0x1F3FB, TONES = 5, SELECTOR = 0xFE0F };

typedef struct {
    uint32_t codes[LENGTH_MAX]; /* 0 after the last */
    size_t name;                /* number in the pool */
    bool component;             /* a skin tone or hair, which stands for itself only when alone */
} sequence;

typedef struct {
    sequence *items;
    size_t count, capacity;
    string_pool names;
    const transliteration *ascii;
} sequence_list;

/* ---------------------------------------------------------------- names */

/* The package spells these in its own way: a newer name of a country, or without the blanks around a hyphen. */
static const char *own_name(const char *name) {
    static const char *const names[][2] = {{"Congo - Kinshasa", "Congo-Kinshasa"},
                                           {"Congo - Brazzaville", "Congo-Brazzaville"},
                                           {"Heard & McDonald Islands", "Heard Island & McDonald Islands"},
                                           {"St. Helena", "St. Helena Ascension & Tristan da Cunha"},
                                           {"French Southern Territories", "French Southern and Antarctic Lands"},
                                           {"Turkey", "Türkiye"}};
    if (strncmp(name, "flag: ", 6) != 0) return name;
    name += 6;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i][0]) == 0) return names[i][1];
    return name;
}

/* "woman: light skin tone, red hair" is :woman_light_skin_tone_red_hair: — in ASCII and lower case, as it will end anyway. */
static size_t add_name(sequence_list *list, const char *name, limn_error *error) {
    static const char *const left_out[] = {",", "\xE2\x80\x9C", "\xE2\x80\x9D"}; /* and typographic double quotes */
    limn_buffer text = {0}, ascii = {0};
    size_t number = SIZE_MAX;
    int status = limn_buffer_append(&text, ":", 1, error);
    for (name = own_name(name); *name && status == 0;) {
        size_t skip = 0;
        for (size_t i = 0; i < 3; i++)
            if (strncmp(name, left_out[i], strlen(left_out[i])) == 0) skip = strlen(left_out[i]);
        if (strncmp(name, ": ", 2) == 0) skip = 1;
        if (!skip) status = limn_buffer_append(&text, *name == ' ' ? "_" : name, 1, error);
        name += skip ? skip : 1;
    }
    if (status == 0) status = limn_buffer_append(&text, ":", 1, error);
    if (status == 0) status = transliterate_text(list->ascii, text.data, &ascii, error);
    if (status == 0) number = string_pool_add(&list->names, ascii.data, ascii.size, error);
    limn_buffer_free(&text);
    limn_buffer_free(&ascii);
    return number;
}

static int add_sequence(sequence_list *list, const hex_codes *codes, const char *name, bool component, limn_error *error) {
    if (codes->count == 0 || codes->count > LENGTH_MAX) return limn_fail(error, "the emoji %s is too long", name);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 8192;
        sequence *items = realloc(list->items, capacity * sizeof *items);
        if (!items) return limn_fail(error, "not enough memory for %zu emoji", capacity);
        list->items = items;
        list->capacity = capacity;
    }
    sequence *added = &list->items[list->count];
    *added = (sequence){.component = component, .name = add_name(list, name, error)};
    memcpy(added->codes, codes->codes, codes->count * sizeof codes->codes[0]);
    list->count++;
    return added->name == SIZE_MAX ? -1 : 0;
}

/* ---------------------------------------------------------------- emoji-test.txt */

/* "1F44B 1F3FB ; fully-qualified # 👋🏻 E1.0 waving hand: light skin tone" */
static int read_test(sequence_list *list, char *text, limn_error *error) {
    for (char *line; (line = next_line(&text));) {
        hex_codes codes;
        char *code_field = next_field(&line, ';'), *status = next_field(&line, '#');
        if (*code_field == '#' || !status) continue;
        char *version = line ? strstr(line, " E") : NULL, *name = version ? strchr(version + 2, ' ') : NULL;
        if (!name || read_codes(code_field, &codes)) return limn_fail(error, "has a line of another form at %s", code_field);
        if (add_sequence(list, &codes, name + 1, strcmp(status, "component") == 0, error)) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- newer_emoji.txt */

static const char *const tone_names[] = {"light skin tone", "medium-light skin tone", "medium skin tone",
                                         "medium-dark skin tone", "dark skin tone"};

/* The pattern with tones `first` and `second` (TONES: none) and the selectors that the bits of `selectors` say. 1: there is no
 * such sequence. */
static int expand(const char *pattern, size_t first, size_t second, unsigned selectors, hex_codes *out) {
    bool used_first = first == TONES, used_second = second == TONES;
    out->count = 0;
    for (pattern += strspn(pattern, " "); *pattern; pattern += strspn(pattern, " ")) {
        size_t length = strcspn(pattern, " ");
        uint32_t code = 0;
        if (*pattern == 'T') {
            if (first == TONES && length == 1) return 1;
            if (first < TONES) code = (uint32_t)(FIRST_TONE + first);
            used_first = true;
        } else if (*pattern == 'U') {
            if (second == TONES || second == first) return 1;
            code = (uint32_t)(FIRST_TONE + second);
            used_second = true;
        } else if (*pattern == 'V') {
            code = selectors & 1 ? SELECTOR : 0;
            selectors >>= 1;
        } else
            code = (uint32_t)strtoul(pattern, NULL, 16);
        pattern += length;
        if (out->count == LENGTH_MAX) return -1;
        if (code) out->codes[out->count++] = code;
    }
    return used_first && used_second && selectors == 0 ? 0 : 1;
}

static int add_pattern(sequence_list *list, const char *pattern, const char *name, limn_error *error) {
    for (size_t first = 0; first <= TONES; first++)
        for (size_t second = 0; second <= TONES; second++)
            for (unsigned selectors = 0; selectors < 4; selectors++) {
                hex_codes codes;
                char full[256];
                int none = expand(pattern, first, second, selectors, &codes);
                if (none < 0) return limn_fail(error, "has a sequence that is too long at %s", pattern);
                if (none) continue;
                snprintf(full, sizeof full, "%s%s%s%s%s", name, first < TONES ? ": " : "",
                         first < TONES ? tone_names[first] : "", second < TONES ? ", " : "",
                         second < TONES ? tone_names[second] : "");
                if (add_sequence(list, &codes, full, false, error)) return -1;
            }
    return 0;
}

static int read_newer(sequence_list *list, char *text, limn_error *error) {
    for (char *line; (line = next_line(&text));) {
        line = next_field(&line, '#');
        char *pattern = next_field(&line, ';'), *name = next_field(&line, ';');
        if (name && add_pattern(list, pattern, name, error)) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- the tree */

static int compare_codes(const sequence *a, const sequence *b) {
    for (size_t i = 0; i < LENGTH_MAX; i++)
        if (a->codes[i] != b->codes[i]) return a->codes[i] < b->codes[i] ? -1 : 1;
    return 0;
}

/* By code points; of equal sequences the one that was read first, which has the lower number of its name or the same. */
static int compare_sequences(const void *a, const void *b) {
    const sequence *left = a, *right = b;
    int order = compare_codes(left, right);
    return order ? order : (left->name > right->name) - (left->name < right->name);
}

/* A node is the run of sequences that share their first `depth` codes. Written level by level, so that the children of a node
 * stand together. */
typedef struct {
    size_t first, last, depth;
} node;

static void write_node(const sequence_list *list, const node *at, size_t children, size_t child_count, FILE *out) {
    const sequence *own = &list->items[at->first]; /* sorted: a sequence stands before what begins with it */
    bool ends = at->depth == LENGTH_MAX || own->codes[at->depth] == 0;
    fprintf(out, "    {0x%X, %zu, %zu, %zu, %d},\n", at->depth ? own->codes[at->depth - 1] : 0, children, child_count,
            ends && at->depth ? own->name + 1 : 0, ends && own->component);
}

static int write_tree(const sequence_list *list, FILE *out, limn_error *error) {
    size_t capacity = list->count * LENGTH_MAX + 1, count = 1;
    node *nodes = limn_allocate(capacity, sizeof *nodes, error);
    if (!nodes) return -1;
    nodes[0] = (node){0, list->count, 0};
    fputs("const emoji_node emoji_nodes[] = {\n", out);
    for (size_t i = 0; i < count; i++) {
        node at = nodes[i];
        size_t children = count;
        for (size_t first = at.first, last; first < at.last && at.depth < LENGTH_MAX; first = last) {
            uint32_t code = list->items[first].codes[at.depth];
            for (last = first; last < at.last && list->items[last].codes[at.depth] == code;) last++;
            if (code) nodes[count++] = (node){first, last, at.depth + 1};
        }
        write_node(list, &at, children, count - children, out);
    }
    fputs("};\n\n", out);
    free(nodes);
    return count <= UINT16_MAX ? 0 : limn_fail(error, "there are too many emoji");
}

/* ---------------------------------------------------------------- all of it */

static int read_file(sequence_list *list, const char *path, int (*read)(sequence_list *, char *, limn_error *),
                     limn_error *error) {
    size_t size;
    char *text = limn_file_read(path, FILE_LIMIT, &size, error);
    if (!text) return -1;
    int status = read(list, text, error);
    free(text);
    return status ? limn_fail_context(error, "%s", path) : 0;
}

int emoji_write(const char *folder, const char *newer, const transliteration *ascii, unicode_data *data, FILE *out,
                limn_error *error) {
    sequence_list list = {.ascii = ascii};
    char path[4096];
    int status = limn_path_join(path, sizeof path, folder, "emoji/emoji-test.txt", error);
    if (status == 0) status = read_file(&list, path, read_test, error);
    if (status == 0 && list.count < 1000) status = limn_fail(error, "%s: has %zu emoji only", path, list.count);
    if (status == 0) status = read_file(&list, newer, read_newer, error);
    if (status == 0) {
        qsort(list.items, list.count, sizeof *list.items, compare_sequences);
        size_t kept = 0;
        for (size_t i = 0; i < list.count; i++)
            if (kept == 0 || compare_codes(&list.items[kept - 1], &list.items[i]) != 0) list.items[kept++] = list.items[i];
        list.count = kept;
        for (size_t i = 0; i < kept; i++) data->flags[list.items[i].codes[0]] |= UNICODE_EMOJI;
        string_pool_write(&list.names, "emoji_name", out);
        status = write_tree(&list, out, error);
    }
    string_pool_free(&list.names);
    free(list.items);
    return status;
}
