/* tokenizer.json, as Hugging Face tokenizers from 0.9 on write it. What it asks for beyond byte-level BPE is refused by name
 * rather than left undone; keys that are not known are of no consequence for ids. */
#include "tokenizer/internal.h"
#include <stdlib.h>
#include <string.h>

static const char *type_of(const json_t *part) {
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : "null";
}

static bool is_type(const json_t *part, const char *type) {
    return strcmp(type_of(part), type) == 0;
}

/* ---------------------------------------------------------------- model */

static int check_model(const json_t *model, const char *path, limn_error *error) {
    static const char *const unsupported[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    if (json_object_get(model, "type") && !is_type(model, "BPE"))
        return limn_fail(error, "%s: its model is \"%.40s\"; only \"BPE\" is supported", path, type_of(model));
    if (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(json_object_get(model, "merges")))
        return limn_fail(error, "%s: no \"model\" with \"vocab\" and \"merges\"; not a byte-level BPE tokenizer", path);
    for (size_t i = 0; i < 3; i++) {
        const json_t *value = json_object_get(model, unsupported[i]);
        bool off = !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
                   (json_is_number(value) && json_number_value(value) == 0);
        if (!off) return limn_fail(error, "%s: the model's \"%s\" is not supported", path, unsupported[i]);
    }
    return 0;
}

/* "a b" as until 0.19, or ["a", "b"] as since, all in one form. */
static int read_json_merge(merge_reader *reader, const json_t *item, bool pairs, size_t number, merge_rule *rule,
                           limn_error *error) {
    const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
    bool is_pair = json_array_size(item) == 2 && json_string_length(left) && json_string_length(right);
    if (!is_pair && !json_is_string(item))
        return limn_fail(error, "%s: merge %zu is neither \"a b\" nor [\"a\", \"b\"]", reader->where, number);
    if (is_pair != pairs)
        return limn_fail(error, "%s: merge %zu has another form than the first; write all as \"a b\" or all as [\"a\", \"b\"]",
                         reader->where, number);
    if (!is_pair) return read_merge_text(reader, json_string_value(item), json_string_length(item), number, rule, error);
    return read_merge(reader, json_string_value(left), json_string_length(left), json_string_value(right),
                      json_string_length(right), number, rule, error);
}

static int read_json_merges(tokenizer *self, const json_t *vocabulary, const json_t *merges, const char *path,
                            limn_error *error) {
    size_t count = json_array_size(merges), i;
    const json_t *item;
    merge_reader reader = {.vocabulary = vocabulary, .where = path};
    merge_rule *rules = limn_allocate(count, sizeof *rules, error);
    int status = rules ? 0 : -1;
    bool pairs = json_is_array(json_array_get(merges, 0));
    if (status == 0) {
        json_array_foreach(merges, i, item) {
            status = read_json_merge(&reader, item, pairs, i + 1, &rules[i], error);
            if (status) break;
        }
    }
    if (status == 0 && tokenizer_set_merges(self, rules, count, error)) status = limn_fail_context(error, "%s", path);
    limn_buffer_free(&reader.scratch);
    free(rules);
    return status;
}

/* ---------------------------------------------------------------- added tokens */

static int read_added(tokenizer *self, const json_t *added, const json_t *vocabulary, const char *path, limn_error *error) {
    size_t i;
    const json_t *item;
    json_array_foreach(added, i, item) {
        added_token token = {.id = (int32_t)json_integer_value(json_object_get(item, "id")),
                             .beyond = !json_object_get(vocabulary, json_string_value(json_object_get(item, "content")))};
        if (limn_json_get_bool(item, path, "single_word", &token.single_word, error) ||
            limn_json_get_bool(item, path, "special", &token.special, error) ||
            limn_json_get_bool(item, path, "normalized", &token.normalized, error) ||
            limn_json_get_bool(item, path, "lstrip", &token.lstrip, error) ||
            limn_json_get_bool(item, path, "rstrip", &token.rstrip, error) || tokenizer_add_added(self, &token, error))
            return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- what is put around a text */

/* "cls" or "sep" of RobertaProcessing and BertProcessing: ["<s>", 0]. */
static int read_boundary(const tokenizer *self, const json_t *processor, const char *key, int32_t *id, const char *path,
                         limn_error *error) {
    const json_t *pair = json_object_get(processor, key), *number = json_array_get(pair, 1);
    const char *text = json_string_value(json_array_get(pair, 0));
    json_int_t value = json_integer_value(number);
    if (!text || !json_is_integer(number) || value < 0 || (size_t)value >= self->texts.count ||
        strcmp(string_list_at(&self->texts, (size_t)value), text) != 0)
        return limn_fail(error, "%s: post_processor's \"%s\" is not a token of the vocabulary with its id", path, key);
    *id = (int32_t)value;
    return 0;
}

/* The ids of a template's special token. */
static int read_template_ids(const tokenizer *self, const json_t *processor, const char *name, id_list *to, const char *path,
                             limn_error *error) {
    const json_t *ids = json_object_get(json_object_get(json_object_get(processor, "special_tokens"), name), "ids"), *id;
    size_t i;
    if (!json_is_array(ids)) return limn_fail(error, "%s: post_processor has no ids for \"%.40s\"", path, name);
    json_array_foreach(ids, i, id) {
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || (size_t)value >= self->texts.count)
            return limn_fail(error, "%s: post_processor's \"%.40s\" has an id that the vocabulary does not have", path, name);
        int32_t kept = (int32_t)value;
        if (id_list_append(to, &kept, 1, error)) return -1;
    }
    return 0;
}

/* TemplateProcessing: in "single", special tokens stand before and after the one "Sequence". */
static int read_template(const tokenizer *self, const json_t *processor, id_list *before, id_list *after, const char *path,
                         limn_error *error) {
    size_t i, sequences = 0;
    const json_t *piece;
    json_array_foreach(json_object_get(processor, "single"), i, piece) {
        const char *name = json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
        const char *sequence = json_string_value(json_object_get(json_object_get(piece, "Sequence"), "id"));
        if (sequence && strcmp(sequence, "A") == 0)
            sequences++;
        else if (!name)
            return limn_fail(error, "%s: post_processor's \"single\" has a piece that is neither a token nor the text", path);
        else if (read_template_ids(self, processor, name, sequences ? after : before, path, error))
            return -1;
    }
    return sequences == 1 ? 0 : limn_fail(error, "%s: post_processor's \"single\" does not have the text once", path);
}

/* What this processor puts before and after what stands there already. */
static int read_processor(tokenizer *self, const json_t *processor, const char *path, limn_error *error) {
    if (!processor || json_is_null(processor) || is_type(processor, "ByteLevel")) return 0;
    if (is_type(processor, "Sequence")) { /* one after the other */
        size_t i;
        const json_t *next;
        json_array_foreach(json_object_get(processor, "processors"), i,
                           next) if (read_processor(self, next, path, error)) return -1;
        return 0;
    }
    id_list before = {0}, after = {0};
    int status = 0;
    if (is_type(processor, "TemplateProcessing")) {
        status = read_template(self, processor, &before, &after, path, error);
    } else if (is_type(processor, "RobertaProcessing") || is_type(processor, "BertProcessing")) {
        status = read_boundary(self, processor, "cls", &self->bos, path, error);
        if (status == 0) status = read_boundary(self, processor, "sep", &self->eos, path, error);
        if (status == 0) status = id_list_append(&before, &self->bos, 1, error);
        if (status == 0) status = id_list_append(&after, &self->eos, 1, error);
    } else {
        status = limn_fail(
            error,
            "%s: post_processor is \"%.40s\"; only \"RobertaProcessing\", \"TemplateProcessing\" and the like are supported",
            path, type_of(processor));
    }
    if (status == 0) status = id_list_append(&before, self->before.items, self->before.count, error);
    if (status == 0) status = id_list_append(&self->after, after.items, after.count, error);
    free(after.items);
    free(self->before.items);
    self->before = before;
    return status;
}

/* Kept for saving, where it is more than the two tokens. */
static int keep_processor(tokenizer *self, const json_t *processor, limn_error *error) {
    if (is_type(processor, "RobertaProcessing")) return 0;
    self->processor = json_dumps(processor ? processor : json_null(), JSON_ENCODE_ANY | JSON_INDENT(2));
    return self->processor ? 0 : limn_fail(error, "not enough memory for a post_processor");
}

/* ---------------------------------------------------------------- the file */

/* A part that is a Sequence of one is that one. */
static const json_t *only_part(const json_t *part, const char *list) {
    const json_t *parts = json_object_get(part, list);
    while (is_type(part, "Sequence") && json_array_size(parts) == 1) {
        part = json_array_get(parts, 0);
        parts = json_object_get(part, list);
    }
    return part;
}

static int read_splitting(tokenizer *self, const json_t *root, const char *path, limn_error *error) {
    const json_t *normalizer = json_object_get(root, "normalizer"), *decoder = json_object_get(root, "decoder"),
                 *splitter = only_part(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    bool no_normalizer = !normalizer || json_is_null(normalizer) ||
                         (is_type(normalizer, "Sequence") && !json_array_size(json_object_get(normalizer, "normalizers")));
    if (!no_normalizer)
        return limn_fail(error, "%s: its \"normalizer\" is not supported; captions are normalised before", path);
    if (!is_type(splitter, "ByteLevel"))
        return limn_fail(error, "%s: pre_tokenizer is \"%.40s\"; only \"ByteLevel\" is supported", path, type_of(splitter));
    decoder = only_part(decoder, "decoders");
    if (decoder && !json_is_null(decoder) && !is_type(decoder, "ByteLevel"))
        return limn_fail(error, "%s: decoder is \"%.40s\"; only \"ByteLevel\" is supported", path, type_of(decoder));
    if (limn_json_get_bool(splitter, path, "add_prefix_space", &self->add_prefix_space, error)) return -1;
    return limn_json_get_bool(splitter, path, "use_regex", &self->use_regex, error);
}

static int read_parts(tokenizer *self, const json_t *root, const char *path, limn_error *error) {
    const json_t *model = json_object_get(root, "model"), *vocabulary = json_object_get(model, "vocab"),
                 *added = json_object_get(root, "added_tokens"), *processor = json_object_get(root, "post_processor");
    if (added && !json_is_array(added)) return limn_fail(error, "%s: its \"added_tokens\" are not a list", path);
    if (check_model(model, path, error) || read_splitting(self, root, path, error) ||
        read_tokens(self, vocabulary, added, path, error) ||
        read_json_merges(self, vocabulary, json_object_get(model, "merges"), path, error) ||
        limn_json_get_bool(model, path, "ignore_merges", &self->ignore_merges, error) ||
        read_added(self, added, vocabulary, path, error))
        return -1;
    if (read_processor(self, processor, path, error)) return -1;
    return keep_processor(self, processor, error);
}

int read_tokenizer_json(tokenizer *self, const char *path, limn_error *error) {
    json_t *root = limn_json_load(path, error);
    if (!root) return -1;
    int status = read_parts(self, root, path, error);
    json_decref(root);
    return status;
}
