/* tokenizer.json: read in all its forms, and refused when it is wrong or asks for something else. */
#include "small.h"
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- merges */

static void test_merges_as_pairs(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json"), *model = json_object_get(root, "model"), *pairs = json_array(), *merge;
    size_t i;
    json_array_foreach(json_object_get(model, "merges"), i, merge) {
        const char *text = json_string_value(merge), *space = strchr(text, ' ');
        json_array_append_new(pairs, json_pack("[s#, s]", text, (int)(space - text), space + 1));
    }
    json_object_set_new(model, "merges", pairs);
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    assert_same(tokens, loaded);
    tokenizer_free(loaded);
}

/* Of a pair that stands twice, the last place counts. */
static void test_a_merge_that_comes_twice(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json"), *merges = json_object_get(json_object_get(root, "model"), "merges");
    size_t count = json_array_size(merges);
    json_array_append(merges, json_array_get(merges, 0));
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    assert_string_equal(tokenizer_merge(loaded, 0), tokenizer_merge(tokens, 1));
    assert_string_equal(tokenizer_merge(loaded, count - 1), tokenizer_merge(tokens, 0));
    assert_null(tokenizer_merge(loaded, count));
    tokenizer_free(loaded);
}

static json_t *added_token_json(json_t *root, const char *content) {
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(root, "added_tokens"), i, item) {
        if (strcmp(json_string_value(json_object_get(item, "content")), content) == 0) return item;
    }
    return NULL;
}

static void test_added_tokens_swallow_blanks(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json");
    json_object_set_new(added_token_json(root, "<mask>"), "lstrip", json_true());
    json_object_set_new(added_token_json(root, "<unk>"), "rstrip", json_true());
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    int32_t plain[64], stripped[64];
    static const char *const pairs[][2] = {{"red \xC2\xA0 <mask> apple", "red<mask> apple"},
                                           {"red <unk> \t apple", "red <unk>apple"}};
    for (size_t i = 0; i < 2; i++) {
        size_t count = encode_inner(tokens, pairs[i][1], strlen(pairs[i][1]), plain, 64);
        assert_int_equal(encode_inner(loaded, pairs[i][0], strlen(pairs[i][0]), stripped, 64), count);
        assert_memory_equal(plain, stripped, count * sizeof *plain);
    }
    tokenizer_free(loaded);
}

static void test_prefix_space(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json");
    json_object_set_new(json_object_get(root, "pre_tokenizer"), "add_prefix_space", json_true());
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    int32_t led[64], got[64];
    static const char *const pairs[][2] = {{"red<mask>apple", " red<mask> apple"}, {" red", " red"}, {"", ""}};
    for (size_t i = 0; i < 3; i++) {
        size_t count = encode_inner(tokens, pairs[i][1], strlen(pairs[i][1]), led, 64);
        assert_int_equal(encode_inner(loaded, pairs[i][0], strlen(pairs[i][0]), got, 64), count);
        assert_memory_equal(led, got, count * sizeof *led);
    }
    tokenizer_free(loaded);
}

/* An added token beyond the vocabulary, found before shorter ones. */
static void test_added_token_beyond_the_vocabulary(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json");
    int32_t id = (int32_t)tokenizer_vocabulary_size(tokens), got[8];
    json_array_append_new(json_object_get(root, "added_tokens"),
                          json_pack("{s:i, s:s, s:b}", "id", (int)id, "content", "<s>x", "special", 0));
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    assert_int_equal(encode_inner(loaded, "<s>x<s>", 7, got, 8), 2);
    assert_int_equal(got[0], id);
    assert_int_equal(got[1], 0);
    limn_buffer text = {0};
    assert_int_equal(tokenizer_decode(loaded, got, 2, &text, NULL), 0);
    assert_string_equal(text.data, "<s>x");
    limn_buffer_free(&text);
    tokenizer_free(loaded);
}

/* Adds a token with flags, beyond the vocabulary or in it. */
static void add_token(json_t *root, const char *content, int32_t id, bool special, const char *flag) {
    json_t *token = json_pack("{s:i, s:s, s:b}", "id", (int)id, "content", content, "special", (int)special);
    if (flag) json_object_set_new(token, flag, json_true());
    json_array_append_new(json_object_get(root, "added_tokens"), token);
}

static void test_single_words(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json");
    int32_t id = (int32_t)tokenizer_vocabulary_size(tokens), got[32];
    add_token(root, "zq", id, false, "single_word");
    add_token(root, "zqx", id + 1, false, "single_word");
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    /* A letter, a mark, a digit, a joiner and a character of Unicode 15 go on with the word. */
    static const struct {
        const char *text;
        bool found;
    } cases[] = {{"zq", true},
                 {"(zq)", true},
                 {"\xE2\x82\xACzq\xE2\x82\xAC", true},
                 {"\xFFzq\xFF", true},
                 {"zq\xC3\xA9", false},
                 {"zq\xCC\x81", false},
                 {"zq1", false},
                 {"_zq", false},
                 {"zq\xE2\x80\x8D", false},
                 {"\xF0\xB1\x8D\x90zq", false},
                 {"zqx1", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t count = encode_inner(loaded, cases[i].text, strlen(cases[i].text), got, 32), found = 0;
        for (size_t k = 0; k < count; k++) found += got[k] == id;
        if (found != cases[i].found) fail_msg("case %zu: found %zu times", i, found);
    }
    tokenizer_free(loaded);
}

/* What tokenizers 0.13 does: a token of the vocabulary itself is looked for only when it is special, the raw ones come before
 * the normalized ones, and blanks that were swallowed give no token of their own. */
static void test_which_added_tokens_are_found(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json");
    int32_t id = (int32_t)tokenizer_vocabulary_size(tokens);
    add_token(root, "e", 5 + 'e' - '!', false, NULL);
    add_token(root, "\"", 6, true, NULL);
    add_token(root, "^^^^", id, false, "normalized");
    add_token(root, "^^", id + 1, false, NULL);
    add_token(root, "  ", id + 2, false, "lstrip");
    add_token(root, "$$", id + 3, false, "rstrip");
    write_json(folder, "tokenizer.json", root);
    for (int round = 0; round < 2; round++) { /* and after saving */
        int32_t got[8], plain[8];
        tokenizer *loaded = load_folder(folder);
        assert_ids(loaded, "^^^^", (const int32_t[]){0, id + 1, id + 1, 2}, 4);
        assert_int_equal(encode_inner(loaded, " red", 4, got, 8), 1);
        assert_int_equal(encode_inner(tokens, " red", 4, plain, 8), 1);
        assert_int_equal(got[0], plain[0]);
        assert_ids(loaded, "$$  !", (const int32_t[]){0, id + 3, 5, 2}, 4);
        limn_buffer text = {0};
        assert_int_equal(tokenizer_decode(loaded, (const int32_t[]){5, 6, id}, 3, &text, NULL), 0);
        assert_string_equal(text.data, "!^^^^"); /* only the special one is left out */
        limn_buffer_free(&text);
        assert_int_equal(tokenizer_save(loaded, folder, NULL), 0);
        tokenizer_free(loaded);
    }
}

/* With many added tokens of many lengths, the longest is found. */
static void test_many_added_tokens(void **state) {
    (void)state;
    enum { MANY = 300 };
    json_t *root = read_json(folder, "tokenizer.json");
    int32_t id = (int32_t)tokenizer_vocabulary_size(tokens), got[8];
    char name[MANY + 2];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "<x%0*d>", 1 + i % 7, i);
        add_token(root, name, id + i, i % 2, i % 3 ? "normalized" : NULL);
    }
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    for (int i = 0; i < MANY; i++) {
        size_t size = (size_t)snprintf(name, sizeof name, "<x%0*d>", 1 + i % 7, i);
        assert_int_equal(encode_inner(loaded, name, size, got, 8), 1);
        assert_int_equal(got[0], id + i);
        assert_string_equal(tokenizer_token(loaded, id + i), name);
    }
    tokenizer_free(loaded);
}

/* ---------------------------------------------------------------- what is put around a text */

static json_t *special_piece(const char *name) {
    return json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", name, "type_id", 0);
}

/* <s> <mask> A </s></s>, where the template's "end" is two ids. */
static json_t *template_json(void) {
    return json_pack("{s:s, s:[o, o, {s:{s:s, s:i}}, o], s:[], s:{s:{s:s, s:[i]}, s:{s:s, s:[i]}, s:{s:s, s:[i, i]}}}", "type",
                     "TemplateProcessing", "single", special_piece("<s>"), special_piece("<mask>"), "Sequence", "id", "A",
                     "type_id", 0, special_piece("end"), "pair", "special_tokens", "<s>", "id", "<s>", "ids", 0, "<mask>", "id",
                     "<mask>", "ids", 4, "end", "id", "end", "ids", 2, 2);
}

static void test_post_processors(void **state) {
    (void)state;
    const struct {
        json_t *processor;
        size_t count;
        int32_t ids[8];
    } cases[] = {
        {template_json(), 5, {0, 4, 5, 2, 2}},
        {json_pack("{s:s, s:[s, i], s:[s, i]}", "type", "BertProcessing", "cls", "<mask>", 4, "sep", "<unk>", 3), 3, {4, 5, 3}},
        {json_pack("{s:s}", "type", "ByteLevel"), 1, {5}},
        {json_null(), 1, {5}},
        {json_pack("{s:s, s:[{s:s}, {s:s, s:[s, i], s:[s, i]}, o]}", "type", "Sequence", "processors", "type", "ByteLevel",
                   "type", "RobertaProcessing", "cls", "<unk>", 3, "sep", "<pad>", 1, template_json()),
         7,
         {0, 4, 3, 5, 1, 2, 2}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *root = read_json(folder, "tokenizer.json");
        json_object_set_new(root, "post_processor", cases[i].processor);
        write_json(folder, "tokenizer.json", root);
        for (int round = 0; round < 2; round++) { /* and after saving */
            tokenizer *loaded = load_folder(folder);
            assert_ids(loaded, "!", cases[i].ids, cases[i].count);
            assert_int_equal(tokenizer_save(loaded, folder, NULL), 0);
            tokenizer_free(loaded);
        }
    }
}

/* Captions have tokens around them in any case, and truncation keeps those behind. */
static void test_captions_with_other_processors(void **state) {
    (void)state;
    int32_t ids[7], mask[7];
    json_t *root = read_json(folder, "tokenizer.json");
    json_object_set_new(root, "post_processor", template_json());
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    assert_int_equal(tokenizer_encode_caption(loaded, " !!!!!!", 7, ids, mask, 5, NULL), 0);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 4);
    assert_int_equal(ids[3], 2);
    assert_int_equal(ids[4], 2);
    assert_int_equal(tokenizer_encode_caption(loaded, "", 0, ids, mask, 7, NULL), 0);
    assert_memory_equal(ids, ((const int32_t[]){0, 4, 2, 2, 1, 1, 1}), sizeof ids);
    assert_memory_equal(mask, ((const int32_t[]){1, 1, 1, 1, 0, 0, 0}), sizeof mask);
    assert_int_equal(tokenizer_encode_caption(loaded, "", 0, ids, mask, 3, NULL), -1);
    tokenizer_free(loaded);

    root = read_json(folder, "tokenizer.json");
    json_object_set_new(root, "post_processor", json_null());
    write_json(folder, "tokenizer.json", root);
    loaded = load_folder(folder);
    assert_int_equal(tokenizer_encode_caption(loaded, "", 0, ids, mask, 4, NULL), 0);
    assert_memory_equal(ids, ((const int32_t[]){0, 2, 1, 1}), 4 * sizeof *ids);
    tokenizer_free(loaded);
}

/* ---------------------------------------------------------------- keys of other versions */

static void test_ignore_merges(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json"), *model = json_object_get(root, "model");
    int32_t id = (int32_t)tokenizer_vocabulary_size(tokens), got[8];
    json_object_set_new(json_object_get(model, "vocab"), "zqzq", json_integer(id)); /* no merge makes it */
    add_token(root, "\xC4\xA0qz", id + 1, false, "single_word");                    /* no model's token: it stays apart */
    json_object_set_new(model, "ignore_merges", json_true());
    write_json(folder, "tokenizer.json", root);
    for (int round = 0; round < 2; round++) { /* and after saving */
        tokenizer *loaded = load_folder(folder);
        assert_ids(loaded, "zqzq", (const int32_t[]){0, id, 2}, 3);
        assert_true(encode_inner(loaded, " zqzq", 5, got, 8) > 2);
        assert_true(encode_inner(loaded, " qz", 3, got, 8) > 1);
        assert_int_equal(tokenizer_save(loaded, folder, NULL), 0);
        tokenizer_free(loaded);
    }
    root = read_json(folder, "tokenizer.json");
    json_object_del(json_object_get(root, "model"), "ignore_merges");
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    assert_true(encode_inner(loaded, "zqzq", 4, got, 8) > 1);
    tokenizer_free(loaded);
}

/* Keys that change nothing for a vocabulary with all bytes, keys of no known meaning, and parts that are a Sequence of one. */
static void test_keys_of_other_versions(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json"), *model = json_object_get(root, "model");
    json_object_set_new(model, "byte_fallback", json_true());
    json_object_set_new(model, "fuse_unk", json_true());
    json_object_set_new(model, "unk_token", json_string("<unk>"));
    json_object_set_new(model, "continuing_subword_prefix", json_string(""));
    json_object_set_new(model, "dropout", json_real(0.0));
    json_object_set_new(model, "next_invention", json_array());
    json_object_set_new(root, "next_invention", json_true());
    json_object_set_new(root, "truncation", json_pack("{s:i, s:s}", "max_length", 3, "direction", "Right"));
    json_object_set_new(root, "normalizer", json_pack("{s:s, s:[]}", "type", "Sequence", "normalizers"));
    json_object_set_new(added_token_json(root, "<s>"), "next_invention", json_true());
    json_t *before = json_deep_copy(json_object_get(root, "pre_tokenizer"));
    json_object_del(before, "use_regex"); /* as before 0.13 */
    json_object_set_new(root, "pre_tokenizer", json_pack("{s:s, s:[o]}", "type", "Sequence", "pretokenizers", before));
    json_object_del(model, "type");
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    assert_same(tokens, loaded);
    tokenizer_free(loaded);
}

/* Without the splitting rule a text is one word. */
static void test_without_splitting(void **state) {
    (void)state;
    json_t *root = read_json(folder, "tokenizer.json"), *model = json_object_get(root, "model");
    int32_t id = (int32_t)tokenizer_vocabulary_size(tokens);
    json_object_set_new(json_object_get(model, "vocab"), "!\xC4\xA0", json_integer(id));
    json_array_append_new(json_object_get(model, "merges"), json_string("! \xC4\xA0"));
    json_object_set_new(json_object_get(root, "pre_tokenizer"), "use_regex", json_false());
    write_json(folder, "tokenizer.json", root);
    tokenizer *loaded = load_folder(folder);
    assert_ids(loaded, "! !", (const int32_t[]){0, id, 5, 2}, 4);
    tokenizer_free(loaded);
}

/* ---------------------------------------------------------------- wrong files */

static void test_wrong_tokenizer_json(void **state) {
    (void)state;
    static const char *const reasons[] = {"\"normalizer\" is not supported",
                                          "pre_tokenizer is \"Whitespace\"",
                                          "only \"BPE\"",
                                          "\"dropout\"",
                                          "merge 1 is neither",
                                          "\"vocab\" and \"merges\"",
                                          "comes twice",
                                          "\"cls\"",
                                          "which the vocabulary contradicts",
                                          "post_processor is \"Magic\"",
                                          "no \"content\"",
                                          "its model is \"WordPiece\"",
                                          "merge 2 has another form than the first",
                                          "decoder is \"WordPiece\"",
                                          "\"added_tokens\" are not a list",
                                          "\"end_of_word_suffix\"",
                                          "ignore_merges",
                                          "lstrip",
                                          "\"vocab\" and \"merges\"",
                                          "\"sep\"",
                                          "which the vocabulary contradicts",
                                          "merges, but its tokens"};
    for (int i = 0; i < 22; i++) {
        json_t *root = read_json(folder, "tokenizer.json"), *kept = json_deep_copy(root),
               *model = json_object_get(root, "model"), *merges = json_object_get(model, "merges"),
               *processor = json_object_get(root, "post_processor");
        if (i == 0) json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "Lowercase"));
        if (i == 1) json_object_set_new(root, "pre_tokenizer", json_pack("{s:s}", "type", "Whitespace"));
        if (i == 2) { /* a Unigram's vocabulary is a list */
            json_object_set_new(model, "type", json_string("Unigram"));
            json_object_set_new(model, "vocab", json_array());
        }
        if (i == 3) json_object_set_new(model, "dropout", json_real(0.1));
        if (i == 4) json_array_insert_new(merges, 0, json_pack("[s]", "a"));
        if (i == 5) json_object_del(model, "merges");
        if (i == 6) json_array_append(json_object_get(root, "added_tokens"), added_token_json(root, "<s>"));
        if (i == 7) json_object_set_new(processor, "cls", json_pack("[s, i]", "<s>", 77));
        if (i == 8) json_object_set_new(added_token_json(root, "<s>"), "id", json_integer(9));
        if (i == 9) json_object_set_new(root, "post_processor", json_pack("{s:s}", "type", "Magic"));
        if (i == 10) json_object_del(added_token_json(root, "<s>"), "content");
        if (i == 11) json_object_set_new(model, "type", json_string("WordPiece"));
        if (i == 12) json_array_insert_new(merges, 1, json_pack("[s, s]", "a", "b"));
        if (i == 13) json_object_set_new(root, "decoder", json_pack("{s:s}", "type", "WordPiece"));
        if (i == 14) json_object_set_new(root, "added_tokens", json_object());
        if (i == 15) json_object_set_new(model, "end_of_word_suffix", json_string("</w>"));
        if (i == 16) json_object_set_new(model, "ignore_merges", json_string("yes"));
        if (i == 17) json_object_set_new(added_token_json(root, "<s>"), "lstrip", json_integer(1));
        if (i == 18) json_object_set_new(root, "model", json_array());
        if (i == 19) json_object_del(processor, "sep");
        if (i == 20) json_object_set_new(added_token_json(root, "<s>"), "id", json_integer((json_int_t)1 << 32));
        for (int more = 0; i == 21 && more < 5000; more++) json_array_append(merges, json_array_get(merges, 0));
        write_json(folder, "tokenizer.json", root);
        assert_refused(folder, "tokenizer.json", reasons[i]);
        write_json(folder, "tokenizer.json", kept);
    }
}

static void test_wrong_templates(void **state) {
    (void)state;
    static const char *const reasons[] = {"does not have the text once",
                                          "does not have the text once",
                                          "neither a token nor the text",
                                          "no ids for \"none\"",
                                          "an id that the vocabulary does not have",
                                          "an id that the vocabulary does not have",
                                          "does not have the text once"};
    for (int i = 0; i < 7; i++) {
        json_t *root = read_json(folder, "tokenizer.json"), *kept = json_deep_copy(root), *processor = template_json(),
               *single = json_object_get(processor, "single"),
               *ids = json_object_get(json_object_get(json_object_get(processor, "special_tokens"), "end"), "ids");
        if (i == 0) json_array_remove(single, 2);
        if (i == 1) json_array_append(single, json_array_get(single, 2));
        if (i == 2) json_array_append_new(single, json_pack("{s:{s:s}}", "Sequence", "id", "B"));
        if (i == 3) json_array_append_new(single, special_piece("none"));
        if (i == 4) json_array_append_new(ids, json_integer((json_int_t)tokenizer_vocabulary_size(tokens)));
        if (i == 5) json_array_append_new(ids, json_string("2"));
        if (i == 6) json_object_del(processor, "single");
        json_object_set_new(root, "post_processor", processor);
        write_json(folder, "tokenizer.json", root);
        assert_refused(folder, "tokenizer.json", reasons[i]);
        write_json(folder, "tokenizer.json", kept);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_folder, close_folder)
        TEST(test_merges_as_pairs),
        TEST(test_a_merge_that_comes_twice),
        TEST(test_added_tokens_swallow_blanks),
        TEST(test_prefix_space),
        TEST(test_added_token_beyond_the_vocabulary),
        TEST(test_single_words),
        TEST(test_which_added_tokens_are_found),
        TEST(test_many_added_tokens),
        TEST(test_post_processors),
        TEST(test_captions_with_other_processors),
        TEST(test_ignore_merges),
        TEST(test_keys_of_other_versions),
        TEST(test_without_splitting),
        TEST(test_wrong_tokenizer_json),
        TEST(test_wrong_templates),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
