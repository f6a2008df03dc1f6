/* Loading a tokenizer: vocab.json and merges.txt, and what stands beside them and beside tokenizer.json. */
#include "tokenizer/internal.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 64 << 20 };

/* ---------------------------------------------------------------- tokens and merges */

const char *const special_names[TOKENIZER_SPECIALS] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};

int read_tokens(tokenizer *self, const json_t *vocabulary, const json_t *added, const char *where, limn_error *error) {
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

/* The id of left and right, or of both joined, whichever sizes are given. */
static int find_part(merge_reader *reader, const char *left, size_t left_size, const char *right, size_t right_size,
                     int32_t *id, limn_error *error) {
    reader->scratch.size = 0;
    if (limn_buffer_append(&reader->scratch, left, left_size, error) ||
        limn_buffer_append(&reader->scratch, right, right_size, error))
        return -1;
    const json_t *found = json_object_get(reader->vocabulary, reader->scratch.data);
    *id = found ? (int32_t)json_integer_value(found) : -1;
    return 0;
}

int read_merge(merge_reader *reader, const char *left, size_t left_size, const char *right, size_t right_size, size_t number,
               merge_rule *rule, limn_error *error) {
    int32_t *ids[3] = {&rule->left, &rule->right, &rule->result};
    for (size_t i = 0; i < 3; i++) {
        if (find_part(reader, left, i == 1 ? 0 : left_size, right, i == 0 ? 0 : right_size, ids[i], error)) return -1;
        if (*ids[i] < 0)
            return limn_fail(error,
                             "%s: merge %zu (\"%.*s\" and \"%.*s\") needs a token \"%.80s\" that the vocabulary does not have; "
                             "both must come from one training",
                             reader->where, number, left_size < 40 ? (int)left_size : 40, left,
                             right_size < 40 ? (int)right_size : 40, right, reader->scratch.data);
    }
    return 0;
}

int read_merge_text(merge_reader *reader, const char *text, size_t size, size_t number, merge_rule *rule, limn_error *error) {
    const char *space = memchr(text, ' ', size);
    size_t left = space ? (size_t)(space - text) : 0, right = space ? size - left - 1 : 0;
    if (left == 0 || right == 0 || memchr(space + 1, ' ', right) || memchr(text, '\0', size))
        return limn_fail(error, "%s: merge %zu is not two tokens with a space between: \"%.*s\"", reader->where, number,
                         size < 80 ? (int)size : 80, text);
    return read_merge(reader, text, left, space + 1, right, number, rule, error);
}

/* ---------------------------------------------------------------- merges.txt */

/* The lines: "a b", and comments that begin with #version. The rules are the caller's. */
static int read_merge_lines(merge_reader *reader, const char *text, size_t size, merge_list *merges, limn_error *error) {
    size_t mark = size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0; /* a byte order mark */
    for (size_t start = mark, end; start < size; start = end + 1) {
        const char *newline = memchr(text + start, '\n', size - start);
        end = newline ? (size_t)(newline - text) : size;
        size_t length = end - start;
        if (length > 0 && text[end - 1] == '\r') length--;
        if (length >= 8 && memcmp(text + start, "#version", 8) == 0) continue;
        if (merges->count == merges->room) {
            size_t room = 2 * merges->room + 1024;
            merge_rule *rules = realloc(merges->rules, room * sizeof *rules);
            if (!rules) return limn_fail(error, "not enough memory for %zu merges", room);
            merges->rules = rules;
            merges->room = room;
        }
        if (read_merge_text(reader, text + start, length, merges->count + 1, &merges->rules[merges->count], error)) return -1;
        merges->count++;
    }
    return 0;
}

static int read_merges_file(tokenizer *self, const json_t *vocabulary, const char *path, limn_error *error) {
    size_t size;
    char *text = limn_file_read(path, FILE_LIMIT, &size, error);
    if (!text) return -1;
    merge_reader reader = {.vocabulary = vocabulary, .where = path};
    merge_list merges = {0};
    int status = size ? 0 : limn_fail(error, "%s: is empty; a file without merges has the line #version: 0.2", path);
    if (status == 0) status = read_merge_lines(&reader, text, size, &merges, error);
    if (status == 0 && tokenizer_set_merges(self, merges.rules, merges.count, error))
        status = limn_fail_context(error, "%s", path);
    limn_buffer_free(&reader.scratch);
    free(merges.rules);
    free(text);
    return status;
}

static int read_plain(tokenizer *self, const char *vocabulary_path, const char *merges_path, limn_error *error) {
    json_t *vocabulary = limn_json_load(vocabulary_path, error);
    if (!vocabulary) return -1;
    int status =
        json_is_object(vocabulary) ? 0 : limn_fail(error, "%s: not an object of tokens and their ids", vocabulary_path);
    if (status == 0) status = read_tokens(self, vocabulary, NULL, vocabulary_path, error);
    if (status == 0) status = read_merges_file(self, vocabulary, merges_path, error);
    for (size_t i = 0; i < TOKENIZER_SPECIALS && status == 0; i++) {
        added_token token = {.id = tokenizer_find(self, special_names[i]), .special = true};
        if (token.id >= 0) status = tokenizer_add_added(self, &token, error);
    }
    json_decref(vocabulary);
    return status;
}

/* ---------------------------------------------------------------- what stands beside */

/* bos_token and the like: a text, or an object whose "content" is the text. */
static int read_special(const tokenizer *self, const json_t *settings, const char *key, const char *path, int32_t *id,
                        limn_error *error) {
    const json_t *value = json_object_get(settings, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    if (*id >= 0 || !value || json_is_null(value)) return 0;
    if (!json_is_string(value)) return limn_fail(error, "%s: its \"%s\" is neither a text nor has a \"content\"", path, key);
    *id = tokenizer_find(self, json_string_value(value));
    if (*id < 0)
        return limn_fail(error, "%s: its \"%s\" is \"%.40s\", which the vocabulary does not have", path, key,
                         json_string_value(value));
    return 0;
}

/* What transformers' tokenizer classes keep beside the tokenizer: the names of special tokens, and whether a text is led by a
 * space, which goes before what tokenizer.json says. Of the names, the first that is found counts. */
static int read_settings(tokenizer *self, const char *path, limn_error *error) {
    if (!limn_file_exists(path)) return 0;
    json_t *settings = limn_json_load(path, error);
    if (!settings) return -1;
    int status = json_is_object(settings) ? 0 : limn_fail(error, "%s: not an object of settings", path);
    if (status == 0) status = read_special(self, settings, "bos_token", path, &self->bos, error);
    if (status == 0) status = read_special(self, settings, "eos_token", path, &self->eos, error);
    if (status == 0) status = read_special(self, settings, "pad_token", path, &self->pad, error);
    if (status == 0) status = limn_json_get_bool(settings, path, "add_prefix_space", &self->add_prefix_space, error);
    json_decref(settings);
    return status;
}

tokenizer *tokenizer_load(const char *directory, limn_error *error) {
    static const char *const names[] = {"tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json",
                                        "tokenizer_config.json"};
    enum { WHOLE, VOCABULARY, MERGES, SPECIALS, SETTINGS, FILES };
    char paths[FILES][PATH_MAX];
    for (size_t i = 0; i < FILES; i++)
        if (limn_path_join(paths[i], sizeof paths[i], directory, names[i], error)) return NULL;
    bool whole = limn_file_exists(paths[WHOLE]);
    if (!whole && !(limn_file_exists(paths[VOCABULARY]) && limn_file_exists(paths[MERGES]))) {
        limn_fail(error, "%s has neither tokenizer.json nor vocab.json and merges.txt; make them with limn-tokenizer train",
                  directory);
        return NULL;
    }
    tokenizer *self = tokenizer_create(error);
    int status = self ? 0 : -1;
    if (status == 0)
        status =
            whole ? read_tokenizer_json(self, paths[WHOLE], error) : read_plain(self, paths[VOCABULARY], paths[MERGES], error);
    if (status == 0) status = read_settings(self, paths[SPECIALS], error);
    if (status == 0) status = read_settings(self, paths[SETTINGS], error);
    if (status == 0) status = tokenizer_complete(self, paths[whole ? WHOLE : VOCABULARY], error);
    if (status == 0) return self;
    tokenizer_free(self);
    return NULL;
}
