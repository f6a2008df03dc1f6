/* golden-text DIR: encoding and training against what Hugging Face tokenizers computed, normalising against DALL·E Mini's. */
#include "tests/golden/golden.h"
#include "tokenizer/tokenizer.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 1 << 30 };

static const char *const known_names[] = {"encode", "training", "normalize"};

/* --only takes names that are known here: a misspelt one would compare nothing and look fine. */
static void check_names(const char *only) {
    size_t length;
    for (const char *name = only; name && *name; name += length + (name[length] == ',')) {
        bool known = false;
        length = strcspn(name, ",");
        for (size_t i = 0; i < sizeof known_names / sizeof known_names[0]; i++)
            known = known || (strlen(known_names[i]) == length && strncmp(known_names[i], name, length) == 0);
        if (known) continue;
        fprintf(stderr, "golden-text: --only %.*s is not known; it takes encode, training, normalize\n", (int)length, name);
        exit(LIMN_EXIT_USAGE);
    }
}

static bool ids_equal(const json_t *expected, const int32_t *ids, size_t count) {
    if (json_array_size(expected) != count) return false;
    for (size_t i = 0; i < count; i++)
        if (json_integer_value(json_array_get(expected, i)) != ids[i]) return false;
    return true;
}

/* Every row {"text", "ids"} of encode.jsonl. */
static void compare_encoding(golden *test, const tokenizer *tokens) {
    char path[PATH_MAX], detail[256];
    limn_error error = {0};
    size_t size, rows = 0, wrong = 0, capacity = 0, count, first_wrong = 0;
    int32_t *ids = NULL;
    char *text = NULL;
    if (limn_path_join(path, sizeof path, test->path, "encode.jsonl", &error) ||
        !(text = limn_file_read(path, LIMIT, &size, &error))) {
        golden_error(test, &error);
        return;
    }
    for (char *line = text, *end; line < text + size; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + size - line));
        if (!end) end = text + size;
        if (end == line) continue;
        rows++;
        json_t *row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        const json_t *field = json_object_get(row, "text");
        bool equal = json_is_string(field) &&
                     tokenizer_encode(tokens, json_string_value(field), json_string_length(field), &ids, &capacity, &count,
                                      &error) == 0 &&
                     ids_equal(json_object_get(row, "ids"), ids, count);
        if (!equal && wrong++ == 0) first_wrong = rows;
        json_decref(row);
    }
    snprintf(detail, sizeof detail, wrong ? "%zu of %zu rows differ, the first is row %zu" : "%zu of %zu rows differ", wrong,
             rows, first_wrong);
    golden_check(test, "encode", rows > 0 && wrong == 0, detail);
    free(ids);
    free(text);
}

static tokenizer *train(const char *path, size_t vocabulary_size, limn_error *error) {
    tokenizer_trainer *trainer = tokenizer_trainer_create(error);
    tokenizer *trained = NULL;
    tokenizer_corpus corpus = {0};
    if (trainer && tokenizer_trainer_add_file(trainer, path, &corpus, NULL, error) == 0)
        trained = tokenizer_trainer_finish(trainer, vocabulary_size, 2, error);
    tokenizer_trainer_free(trainer);
    return trained;
}

/* The merges of merges.txt one by one, and the ids of vocab.json, both read here and not by the tokenizer. */
static void compare_training(golden *test) {
    char path[PATH_MAX], detail[256];
    limn_error error = {0};
    json_t *vocabulary = NULL;
    tokenizer *trained = NULL;
    char *merges = NULL;
    size_t size;
    if (limn_path_join(path, sizeof path, test->path, "vocab.json", &error) || !(vocabulary = limn_json_load(path, &error)) ||
        limn_path_join(path, sizeof path, test->path, "merges.txt", &error) ||
        !(merges = limn_file_read(path, LIMIT, &size, &error)) ||
        limn_path_join(path, sizeof path, test->path, "corpus.txt", &error) ||
        !(trained = train(path, json_object_size(vocabulary), &error))) {
        golden_error(test, &error);
        goto done;
    }
    size_t count = 0, wrong = 0, first_wrong = 0;
    for (char *line = strtok(merges, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "#version", 8) == 0) continue;
        const char *ours = tokenizer_merge(trained, count++);
        if ((!ours || strcmp(ours, line) != 0) && wrong++ == 0) first_wrong = count;
    }
    bool same_count = tokenizer_merge(trained, count) == NULL;
    snprintf(detail, sizeof detail, "%zu of %zu merges differ, the first is %zu%s", wrong, count, first_wrong,
             same_count ? "" : "; ours has more");
    golden_check(test, "training merges", count > 0 && wrong == 0 && same_count, detail);

    const char *text;
    json_t *id;
    wrong = 0;
    json_object_foreach(vocabulary, text, id) {
        const char *ours = tokenizer_token(trained, (int32_t)json_integer_value(id));
        wrong += !ours || strcmp(ours, text) != 0;
    }
    snprintf(detail, sizeof detail, "%zu of %zu tokens differ", wrong, json_object_size(vocabulary));
    golden_check(test, "training vocabulary", wrong == 0 && tokenizer_vocabulary_size(trained) == json_object_size(vocabulary),
                 detail);
done:
    tokenizer_free(trained);
    free(merges);
    json_decref(vocabulary);
}

/* One row {"text", "normalized"}; a row that differs is printed with both. */
static bool row_is_normalized(const text_normalizer *normalizer, const json_t *row, size_t number) {
    const json_t *text = json_object_get(row, "text"), *expected = json_object_get(row, "normalized");
    limn_buffer ours = {0};
    limn_error error = {0};
    if (!json_is_string(text) || !json_is_string(expected)) {
        printf("row %zu: is not {\"text\", \"normalized\"}\n", number);
        return false;
    }
    int status = text_normalize(normalizer, json_string_value(text), json_string_length(text), &ours, &error);
    bool equal = status == 0 && ours.size == json_string_length(expected) &&
                 memcmp(ours.data, json_string_value(expected), ours.size) == 0;
    if (!equal)
        printf("row %zu: \"%s\"\n    gives    \"%s\"\n    expected \"%s\"\n", number, json_string_value(text),
               status ? error.message : ours.data, json_string_value(expected));
    limn_buffer_free(&ours);
    return equal;
}

/* Every row of normalize.jsonl, with words_frequency.txt beside it for the hashtags. */
static void compare_normalizing(golden *test) {
    char path[PATH_MAX], words[PATH_MAX], detail[256];
    limn_error error = {0};
    size_t size, rows = 0, wrong = 0;
    text_normalizer *normalizer = NULL;
    char *text = NULL;
    if (limn_path_join(path, sizeof path, test->path, "normalize.jsonl", &error) ||
        limn_path_join(words, sizeof words, test->path, "words_frequency.txt", &error) ||
        !(normalizer = text_normalizer_create(words, &error)) || !(text = limn_file_read(path, LIMIT, &size, &error))) {
        golden_error(test, &error);
        text_normalizer_free(normalizer);
        return;
    }
    for (char *line = text, *end; line < text + size; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + size - line));
        if (!end) end = text + size;
        if (end == line) continue;
        json_t *row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        wrong += !row_is_normalized(normalizer, row, ++rows);
        json_decref(row);
    }
    snprintf(detail, sizeof detail, "%zu of %zu rows differ", wrong, rows);
    golden_check(test, "normalize", rows > 0 && wrong == 0, detail);
    text_normalizer_free(normalizer);
    free(text);
}

int main(int argc, char **argv) {
    golden test;
    limn_set_log_level(LIMN_LOG_WARNING);
    golden_begin(&test, "golden-text", argc, argv);
    check_names(test.only);
    if (golden_wants(&test, "encode")) {
        limn_error error = {0};
        tokenizer *tokens = tokenizer_load(test.path, &error);
        if (tokens)
            compare_encoding(&test, tokens);
        else
            golden_error(&test, &error);
        tokenizer_free(tokens);
    }
    if (golden_wants(&test, "training")) compare_training(&test);
    if (golden_wants(&test, "normalize")) compare_normalizing(&test);
    return golden_finish(&test);
}
