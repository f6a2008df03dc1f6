/* tokenizer.json, in the forms that are read. */
#include "tests/fuzz/tokenizers.h"

/* The small tokenizer's, whose vocabulary is written without its blanks, with other parts. */
static json_t *read_saved(void) {
    limn_buffer text = {0};
    json_t *root = fuzz_saved("tokenizer.json", &text) ? json_loadb(text.data, text.size, 0, NULL) : NULL;
    limn_buffer_free(&text);
    return root;
}

static void add_tokens(json_t *root) {
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    json_t *added = json_object_get(root, "added_tokens");
    for (int i = 0; i < 8; i++) {
        char name[] = "<x0>";
        name[2] = (char)('0' + i);
        json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b}", "id", 285 + i, "content", name, "special", i % 2,
                                               flags[i % 4], 1, flags[i / 2], 1));
    }
}

static void set_template(json_t *root) {
    json_object_set_new(root, "post_processor",
                        json_pack("{s:s, s:[{s:{s:s}}, {s:{s:s}}], s:{s:{s:[i, i]}}}", "type", "TemplateProcessing", "single",
                                  "SpecialToken", "id", "x", "Sequence", "id", "A", "special_tokens", "x", "ids", 0, 4));
}

static void pair_merges(json_t *root) {
    json_t *model = json_object_get(root, "model"), *pairs = json_array(), *merge;
    size_t i;
    json_array_foreach(json_object_get(model, "merges"), i, merge) {
        const char *text = json_string_value(merge), *space = strchr(text, ' ');
        json_array_append_new(pairs, json_pack("[s#, s]", text, (int)(space - text), space + 1));
    }
    json_object_set_new(model, "merges", pairs);
    json_object_set_new(model, "ignore_merges", json_true());
}

static bool make_seed(size_t index, limn_buffer *out) {
    json_t *root = index < 4 ? read_saved() : NULL;
    if (!root) return false;
    if (index > 0) add_tokens(root);
    if (index == 2) set_template(root);
    if (index == 3) pair_merges(root);
    char *text = json_dumps(root, JSON_COMPACT);
    bool made = text && limn_buffer_append(out, text, strlen(text), NULL) == 0;
    free(text);
    json_decref(root);
    return made;
}

static const char *target(const char *data, size_t size) {
    fuzz_file("tokenizer.json", data, size);
    return fuzz_load(fuzz_save_this(data, size));
}

int main(int argc, char **argv) {
    limn_set_threads(1);
    return fuzz_main(argc, argv, make_seed, target);
}
