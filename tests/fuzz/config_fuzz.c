/* JSON and YAML configurations: the same bytes are read as both. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static const char *const seeds[] = {
    "{\"vqgan\": {\"ch\": 128, \"ch_mult\": [1, 1, 2, 2, 4], \"pixel_range\": [-1, 1.0]}, \"train\": {\"lr\": 1e-3, \"on\": "
    "true, "
    "\"name\": \"caf\\u00e9\", \"none\": null}}",
    "model:\n  base_learning_rate: 4.5e-06\n  params: &p\n    embed_dim: 256\n    attn: [ 16, -3, 0x10 ]\n    double_z: False\n"
    "  again: *p\n  text: |\n    lines\n    more\n  quoted: \"\\x41\\u263A\"\n",
    "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, {k: *a}]\n",
};

static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= sizeof seeds / sizeof *seeds) return false;
    return limn_buffer_append(out, seeds[index], strlen(seeds[index]), NULL) == 0;
}

/* Every look-up on every key, then a change and a copy on disk. */
static const char *use(json_t *value) {
    const char *key;
    json_t *child;
    size_t size = 0, sizes[4], count;
    double real = 0;
    bool truth = false;
    const char *text = NULL, *known[] = {"model", "vqgan", NULL};
    limn_error error = {0};
    json_object_foreach(value, key, child) {
        limn_json_get_size(value, "input", key, 0, SIZE_MAX, &size, &error);
        limn_json_get_float(value, "input", key, -1e9, 1e9, &real, &error);
        limn_json_get_bool(value, "input", key, &truth, &error);
        limn_json_get_string(value, "input", key, "a|b", &text, &error);
        limn_json_get_sizes(value, "input", key, 0, 100, sizes, 4, &count, &error);
    }
    limn_json_check_keys(value, "input", known, &error);
    if (json_is_object(value)) limn_json_set(value, "model.width=3", &error);
    if (json_is_object(value) || json_is_array(value))
        if (limn_json_save(value, fuzz_file("saved.json", "", 0), &error)) return "what was read cannot be saved";
    return NULL;
}

static const char *target(const char *data, size_t size) {
    static const char *const names[] = {"input.json", "input.yaml"};
    const char *complaint = NULL;
    for (size_t i = 0; i < 2 && !complaint; i++) {
        limn_error error = {0};
        json_t *value = limn_json_load(fuzz_file(names[i], data, size), &error);
        complaint = value ? use(value) : fuzz_check_error(&error);
        json_decref(value);
    }
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
