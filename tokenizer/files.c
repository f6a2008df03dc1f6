/* vocab.json, merges.txt and tokenizer.json, as Hugging Face tokenizers 0.13 writes them. */
#include "tokenizer/internal.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 64 << 20 };

/* ---------------------------------------------------------------- reading */

static const char *const special_names[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};

/* Adds the tokens of a vocabulary (text to id) and of added tokens beyond it, in the order of their ids. Every id from 0 on
 * must be there once. */
static int read_tokens(tokenizer *self, const json_t *vocabulary, const json_t *added, const char *where, limn_error *error) {
    size_t count = json_object_size(vocabulary), i;
    const char *text;
    const json_t *id, *item;
    json_array_foreach(added, i, item) {
        text = json_string_value(json_object_get(item, "content"));
        if (!text || !json_is_integer(json_object_get(item, "id")))
            return limn_fail(error, "%s: added token %zu has no \"content\" or no \"id\"", where, i);
        if (!json_object_get(vocabulary, text)) count++;
    }
    if (count > INT32_MAX) return limn_fail(error, "%s: %zu tokens are too many", where, count);
    const char **texts = limn_allocate(count + 1, sizeof *texts, error);
    if (!texts) return -1;
    int status = -1;
    json_object_foreach((json_t *)(uintptr_t)vocabulary, text, id) {
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= (json_int_t)count) {
            limn_fail(error,
                      "%s: token \"%.40s\" has an id that is not one of 0 to %zu; %zu tokens need these ids without gaps",
                      where, text, count - 1, count);
            goto done;
        }
        if (texts[value]) {
            limn_fail(error, "%s: id %lld is both \"%.40s\" and \"%.40s\"", where, (long long)value, texts[value], text);
            goto done;
        }
        texts[value] = text;
    }
    json_array_foreach(added, i, item) {
        json_int_t value = json_integer_value(json_object_get(item, "id"));
        text = json_string_value(json_object_get(item, "content"));
        if (value < 0 || value >= (json_int_t)count || (texts[value] && strcmp(texts[value], text) != 0) ||
            (json_object_get(vocabulary, text) && json_integer_value(json_object_get(vocabulary, text)) != value)) {
            limn_fail(error, "%s: added token \"%.40s\" has id %lld, which the vocabulary contradicts", where, text,
                      (long long)value);
            goto done;
        }
        texts[value] = text;
    }
    for (i = 0; i < count; i++) {
        if (!texts[i]) {
            limn_fail(error, "%s: no token has id %zu", where, i);
            goto done;
        }
        if (tokenizer_add_token(self, texts[i], strlen(texts[i]), error)) {
            limn_fail_context(error, "%s", where);
            goto done;
        }
    }
    status = 0;
done:
    free(texts);
    return status;
}

/* Looks up "left" and "right" (not NUL-terminated) and what they make. */
static int read_merge(merge_rule *rule, const json_t *vocabulary, const char *left, size_t left_size, const char *right,
                      size_t right_size, limn_buffer *scratch, const char *where, size_t number, limn_error *error) {
    const struct {
        const char *text;
        size_t size;
    } parts[2] = {{left, left_size}, {right, right_size}};
    int32_t ids[3];
    for (size_t i = 0; i < 3; i++) {
        scratch->size = 0;
        for (size_t part = 0; part < 2; part++)
            if ((i == 2 || i == part) && limn_buffer_append(scratch, parts[part].text, parts[part].size, error)) return -1;
        const json_t *id = json_object_get(vocabulary, scratch->data);
        if (!id)
            return limn_fail(error,
                             "%s: merge %zu (\"%.*s\" and \"%.*s\") needs a token \"%.80s\" that the vocabulary does not have",
                             where, number, left_size < 40 ? (int)left_size : 40, left, right_size < 40 ? (int)right_size : 40,
                             right, scratch->data);
        ids[i] = (int32_t)json_integer_value(id);
    }
    *rule = (merge_rule){ids[0], ids[1], ids[2]};
    return 0;
}

static int read_merge_text(merge_rule *rule, const json_t *vocabulary, const char *text, size_t size, limn_buffer *scratch,
                           const char *where, size_t number, limn_error *error) {
    const char *space = memchr(text, ' ', size);
    size_t left = space ? (size_t)(space - text) : 0, right = space ? size - left - 1 : 0;
    if (left == 0 || right == 0 || memchr(space + 1, ' ', right) || memchr(text, '\0', size))
        return limn_fail(error, "%s: merge %zu is not two tokens with a space between: \"%.*s\"", where, number,
                         size < 80 ? (int)size : 80, text);
    return read_merge(rule, vocabulary, text, left, space + 1, right, scratch, where, number, error);
}

/* The merges of tokenizer.json: "a b" as until 0.19, or ["a", "b"] as since. */
static int read_json_merges(tokenizer *self, const json_t *vocabulary, const json_t *merges, const char *where,
                            limn_error *error) {
    merge_rule *rules = limn_allocate(json_array_size(merges) + 1, sizeof *rules, error);
    limn_buffer scratch = {0};
    int status = rules ? 0 : -1;
    size_t i;
    const json_t *item;
    if (status == 0) {
        json_array_foreach(merges, i, item) {
            const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
            if (json_is_string(item))
                status = read_merge_text(&rules[i], vocabulary, json_string_value(item), json_string_length(item), &scratch,
                                         where, i + 1, error);
            else if (json_array_size(item) == 2 && json_string_length(left) && json_string_length(right))
                status = read_merge(&rules[i], vocabulary, json_string_value(left), json_string_length(left),
                                    json_string_value(right), json_string_length(right), &scratch, where, i + 1, error);
            else
                status = limn_fail(error, "%s: merge %zu is neither \"a b\" nor [\"a\", \"b\"]", where, i + 1);
            if (status) break;
        }
    }
    if (status == 0) status = tokenizer_set_merges(self, rules, json_array_size(merges), error);
    limn_buffer_free(&scratch);
    free(rules);
    return status;
}

/* The lines of merges.txt: "a b", and comments that begin with #version. */
static int read_text_merges(tokenizer *self, const json_t *vocabulary, const char *path, limn_error *error) {
    size_t size, count = 0, capacity = 0;
    char *text = limn_file_read(path, FILE_LIMIT, &size, error);
    if (!text) return -1;
    merge_rule *rules = NULL;
    limn_buffer scratch = {0};
    int status = 0;
    for (size_t start = 0, end; start < size && status == 0; start = end + 1) {
        const char *newline = memchr(text + start, '\n', size - start);
        end = newline ? (size_t)(newline - text) : size;
        size_t length = end - start;
        if (length > 0 && text[end - 1] == '\r') length--;
        if (length >= 8 && memcmp(text + start, "#version", 8) == 0) continue;
        if (count == capacity) {
            capacity = 2 * capacity + 1024;
            merge_rule *more = realloc(rules, capacity * sizeof *rules);
            if (!more) {
                status = limn_fail(error, "not enough memory for %zu merges", capacity);
                break;
            }
            rules = more;
        }
        status = read_merge_text(&rules[count], vocabulary, text + start, length, &scratch, path, count + 1, error);
        count++;
    }
    if (status == 0) status = tokenizer_set_merges(self, rules, count, error);
    limn_buffer_free(&scratch);
    free(rules);
    free(text);
    return status;
}

static tokenizer *load_plain(const char *vocabulary_path, const char *merges_path, limn_error *error) {
    json_t *vocabulary = limn_json_load(vocabulary_path, error);
    tokenizer *self = NULL;
    if (!vocabulary) return NULL;
    if (!json_is_object(vocabulary)) {
        limn_fail(error, "%s: not an object of tokens and their ids", vocabulary_path);
        goto failed;
    }
    self = tokenizer_create(error);
    if (!self || read_tokens(self, vocabulary, NULL, vocabulary_path, error) ||
        read_text_merges(self, vocabulary, merges_path, error))
        goto failed;
    for (size_t i = 0; i < sizeof special_names / sizeof special_names[0]; i++) {
        added_token token = {.id = tokenizer_find(self, special_names[i]), .special = true};
        if (token.id >= 0 && tokenizer_add_special(self, &token, error)) goto failed;
    }
    if (tokenizer_complete(self, vocabulary_path, error)) goto failed;
    json_decref(vocabulary);
    return self;
failed:
    json_decref(vocabulary);
    tokenizer_free(self);
    return NULL;
}

/* What a tokenizer.json may ask for beyond byte-level BPE is refused by name rather than left undone. */
static int check_supported(const json_t *root, const json_t *model, const char *path, limn_error *error) {
    static const char *const parts[][3] = {
        {"pre_tokenizer", "ByteLevel", ""}, {"post_processor", "RobertaProcessing", "ByteLevel"}, {"decoder", "ByteLevel", ""}};
    const json_t *normalizer = json_object_get(root, "normalizer");
    if (normalizer && !json_is_null(normalizer))
        return limn_fail(error, "%s: its \"normalizer\" is not supported; captions are normalised before", path);
    for (size_t i = 0; i < 3; i++) {
        const json_t *part = json_object_get(root, parts[i][0]);
        const char *type = json_string_value(json_object_get(part, "type"));
        if (i > 0 && (!part || json_is_null(part))) continue;
        if (!type || (strcmp(type, parts[i][1]) != 0 && strcmp(type, parts[i][2]) != 0))
            return limn_fail(error, "%s: %s is \"%.40s\"; only \"%s\" is supported", path, parts[i][0], type ? type : "null",
                             parts[i][1]);
    }
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type && strcmp(type, "BPE") != 0)
        return limn_fail(error, "%s: its model is \"%.40s\"; only \"BPE\" is supported", path, type);
    static const char *const unsupported[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 3; i++) {
        const json_t *value = json_object_get(model, unsupported[i]);
        bool off = !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
                   (json_is_number(value) && json_number_value(value) <= 0);
        if (!off) return limn_fail(error, "%s: the model's \"%s\" is not supported", path, unsupported[i]);
    }
    return 0;
}

static int read_added(tokenizer *self, const json_t *added, const char *path, limn_error *error) {
    size_t i;
    const json_t *item;
    json_array_foreach(added, i, item) {
        bool single_word = false;
        added_token token = {.id = (int32_t)json_integer_value(json_object_get(item, "id"))};
        if (limn_json_get_bool(item, path, "single_word", &single_word, error) ||
            limn_json_get_bool(item, path, "special", &token.special, error) ||
            limn_json_get_bool(item, path, "normalized", &token.normalized, error) ||
            limn_json_get_bool(item, path, "lstrip", &token.lstrip, error) ||
            limn_json_get_bool(item, path, "rstrip", &token.rstrip, error))
            return -1;
        if (single_word)
            return limn_fail(error, "%s: added token %zu has \"single_word\": true, which is not supported", path, i);
        if (tokenizer_add_special(self, &token, error)) return -1;
    }
    return 0;
}

/* "cls" or "sep" of RobertaProcessing: ["<s>", 0]. */
static int read_boundary(const tokenizer *self, const json_t *processor, const char *key, int32_t *id, const char *path,
                         limn_error *error) {
    const json_t *pair = json_object_get(processor, key);
    const char *text = json_string_value(json_array_get(pair, 0));
    json_int_t value = json_integer_value(json_array_get(pair, 1));
    if (!pair) return 0;
    if (!text || value < 0 || (size_t)value >= self->texts.count ||
        strcmp(string_list_at(&self->texts, (size_t)value), text) != 0)
        return limn_fail(error, "%s: post_processor's \"%s\" is not a token of the vocabulary with its id", path, key);
    *id = (int32_t)value;
    return 0;
}

static tokenizer *load_json(const char *path, limn_error *error) {
    json_t *root = limn_json_load(path, error);
    tokenizer *self = NULL;
    if (!root) return NULL;
    const json_t *model = json_object_get(root, "model"), *vocabulary = json_object_get(model, "vocab"),
                 *merges = json_object_get(model, "merges"), *added = json_object_get(root, "added_tokens"),
                 *before = json_object_get(root, "pre_tokenizer"), *after = json_object_get(root, "post_processor");
    if (!json_is_object(vocabulary) || !json_is_array(merges) || (added && !json_is_array(added))) {
        limn_fail(error, "%s: no \"model\" with \"vocab\" and \"merges\"; not a byte-level BPE tokenizer", path);
        goto failed;
    }
    if (check_supported(root, model, path, error)) goto failed;
    self = tokenizer_create(error);
    if (!self || read_tokens(self, vocabulary, added, path, error) || read_json_merges(self, vocabulary, merges, path, error) ||
        read_added(self, added, path, error) ||
        limn_json_get_bool(before, path, "add_prefix_space", &self->add_prefix_space, error) ||
        limn_json_get_bool(before, path, "use_regex", &self->use_regex, error) ||
        read_boundary(self, after, "cls", &self->bos, path, error) ||
        read_boundary(self, after, "sep", &self->eos, path, error) || tokenizer_complete(self, path, error))
        goto failed;
    json_decref(root);
    return self;
failed:
    json_decref(root);
    tokenizer_free(self);
    return NULL;
}

tokenizer *tokenizer_load(const char *directory, limn_error *error) {
    char whole[PATH_MAX], vocabulary[PATH_MAX], merges[PATH_MAX];
    if (limn_path_join(whole, sizeof whole, directory, "tokenizer.json", error) ||
        limn_path_join(vocabulary, sizeof vocabulary, directory, "vocab.json", error) ||
        limn_path_join(merges, sizeof merges, directory, "merges.txt", error))
        return NULL;
    if (limn_file_exists(whole)) return load_json(whole, error);
    if (limn_file_exists(vocabulary) && limn_file_exists(merges)) return load_plain(vocabulary, merges, error);
    limn_fail(error, "%s has neither tokenizer.json nor vocab.json and merges.txt; make them with limn-tokenizer train",
              directory);
    return NULL;
}

/* ---------------------------------------------------------------- writing */

/* A JSON string as serde writes it: characters outside ASCII as they are. */
static int write_string(limn_buffer *out, const char *text, size_t size, limn_error *error) {
    static const char plain[] = "\b\f\n\r\t\"\\", escaped[] = "bfnrt\"\\";
    if (limn_buffer_append(out, "\"", 1, error)) return -1;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *found = c ? strchr(plain, c) : NULL;
        int status = found     ? limn_buffer_printf(out, error, "\\%c", escaped[found - plain])
                     : c < ' ' ? limn_buffer_printf(out, error, "\\u%04x", c)
                               : limn_buffer_append(out, text + i, 1, error);
        if (status) return -1;
    }
    return limn_buffer_append(out, "\"", 1, error);
}

static int write_token(limn_buffer *out, const tokenizer *self, size_t id, limn_error *error) {
    return write_string(out, string_list_at(&self->texts, id), string_list_size_at(&self->texts, id), error);
}

/* Every token and its id, in the order of ids: `before` before each, `colon` between, commas after all but the last. */
static int write_vocabulary(limn_buffer *out, const tokenizer *self, const char *before, const char *colon, limn_error *error) {
    for (size_t id = 0; id < self->texts.count; id++)
        if (limn_buffer_printf(out, error, "%s", before) || write_token(out, self, id, error) ||
            limn_buffer_printf(out, error, "%s%zu%s", colon, id, id + 1 < self->texts.count ? "," : ""))
            return -1;
    return 0;
}

static const char *json_bool(bool value) {
    return value ? "true" : "false";
}

static int write_added(limn_buffer *out, const tokenizer *self, limn_error *error) {
    for (size_t i = 0; i < self->added_count; i++) {
        const added_token *token = self->added;
        while ((size_t)token->id != self->added_order[i]) token++;
        if (limn_buffer_printf(out, error, "%s\n    {\n      \"id\": %d,\n      \"content\": ", i ? "," : "", (int)token->id) ||
            write_token(out, self, (size_t)token->id, error) ||
            limn_buffer_printf(out, error,
                               ",\n      \"single_word\": false,\n      \"lstrip\": %s,\n      \"rstrip\": %s,\n"
                               "      \"normalized\": %s,\n      \"special\": %s\n    }",
                               json_bool(token->lstrip), json_bool(token->rstrip), json_bool(token->normalized),
                               json_bool(token->special)))
            return -1;
    }
    return limn_buffer_printf(out, error, "%s],\n", self->added_count ? "\n  " : "");
}

static int write_boundary(limn_buffer *out, const tokenizer *self, const char *key, int32_t id, limn_error *error) {
    if (limn_buffer_printf(out, error, "    \"%s\": [\n      ", key) || write_token(out, self, (size_t)id, error)) return -1;
    return limn_buffer_printf(out, error, ",\n      %d\n    ],\n", (int)id);
}

static int write_json(limn_buffer *out, const tokenizer *self, limn_error *error) {
    const char *prefix = json_bool(self->add_prefix_space);
    if (limn_buffer_printf(
            out, error, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [") ||
        write_added(out, self, error) ||
        limn_buffer_printf(out, error,
                           "  \"normalizer\": null,\n"
                           "  \"pre_tokenizer\": {\n    \"type\": \"ByteLevel\",\n    \"add_prefix_space\": %s,\n"
                           "    \"trim_offsets\": true,\n    \"use_regex\": %s\n  },\n"
                           "  \"post_processor\": {\n    \"type\": \"RobertaProcessing\",\n",
                           prefix, json_bool(self->use_regex)) ||
        write_boundary(out, self, "sep", self->eos, error) || write_boundary(out, self, "cls", self->bos, error) ||
        limn_buffer_printf(out, error,
                           "    \"trim_offsets\": true,\n    \"add_prefix_space\": %s\n  },\n"
                           "  \"decoder\": {\n    \"type\": \"ByteLevel\",\n    \"add_prefix_space\": true,\n"
                           "    \"trim_offsets\": true,\n    \"use_regex\": true\n  },\n"
                           "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
                           "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
                           "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"vocab\": {",
                           prefix) ||
        write_vocabulary(out, self, "\n      ", ": ", error) || limn_buffer_printf(out, error, "\n    },\n    \"merges\": ["))
        return -1;
    for (size_t i = 0; i < self->merges.count; i++)
        if (limn_buffer_printf(out, error, "%s\n      ", i ? "," : "") ||
            write_string(out, string_list_at(&self->merges, i), string_list_size_at(&self->merges, i), error))
            return -1;
    return limn_buffer_printf(out, error, "%s]\n  }\n}", self->merges.count ? "\n    " : "");
}

/* tokenizer.json comes last: where it is, the other two are. */
int tokenizer_save(const tokenizer *self, const char *directory, limn_error *error) {
    static const char *const names[3] = {"vocab.json", "merges.txt", "tokenizer.json"};
    limn_buffer out[3] = {{0}};
    char path[PATH_MAX];
    int status = limn_make_directories(directory, error);
    if (status == 0)
        status = limn_buffer_printf(&out[0], error, "{") || write_vocabulary(&out[0], self, "", ":", error) ||
                 limn_buffer_printf(&out[0], error, "}") || limn_buffer_printf(&out[1], error, "#version: 0.2\n");
    for (size_t i = 0; i < self->merges.count && status == 0; i++)
        status = limn_buffer_printf(&out[1], error, "%s\n", string_list_at(&self->merges, i));
    if (status == 0) status = write_json(&out[2], self, error);
    for (size_t i = 0; i < 3; i++) {
        if (status == 0) status = limn_path_join(path, sizeof path, directory, names[i], error);
        if (status == 0) status = limn_atomic_write(path, out[i].data, out[i].size, error);
        limn_buffer_free(&out[i]);
    }
    return status ? -1 : 0;
}
