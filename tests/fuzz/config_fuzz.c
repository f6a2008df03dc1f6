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
    /* the forms of taming-transformers' configurations: dotted class names, lists of one, comments, tabs in none */
    "model:\n  base_learning_rate: 4.5e-6\n  target: taming.models.vqgan.VQModel\n  params:\n    embed_dim: 256\n    n_embed: "
    "1024\n    ddconfig:\n      double_z: False\n      ch_mult: [ 1,1,2,2,4]  # num_down = len(ch_mult)-1\n      "
    "attn_resolutions: [16]\n      dropout: 0.0\n    lossconfig: {target: a.b.C, params: {disc_weight: 0.8}}\n\ndata:\n- &x "
    "'it''s'\n- ? key\n  : !!str 12\n- >-\n  folded\n  text\n",
    "\xEF\xBB\xBF[{\"a\": -0, \"b\": 1E400}, [[]], \"\\ud83d\\ude00\", 9223372036854775807, -9223372036854775808]",
    "%YAML 1.1\n---\n~: null\n\"\\u263a\\x41\": 0o17\n'a': .inf\n...\n",
};

static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= sizeof seeds / sizeof *seeds) return false;
    return limn_buffer_append(out, seeds[index], strlen(seeds[index]), NULL) == 0;
}

/* Every look-up on every key, then a change; what was read can be written as JSON, and that is read as the same. */
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
    char *written = json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    if (!written) return "what was read cannot be written";
    json_t *again = json_loads(written, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    const bool same = again && json_equal(again, value);
    json_decref(again);
    free(written);
    return same ? NULL : "what was written is read as something else";
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
