/* A tokenizer put together from tokens, added tokens and merges, whichever file or training they come from. */
#include "tokenizer/internal.h"
#include <stdlib.h>
#include <string.h>

tokenizer *tokenizer_create(limn_error *error) {
    tokenizer *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->use_regex = true;
    self->bos = self->eos = self->pad = -1;
    return self;
}

void tokenizer_free(tokenizer *self) {
    if (!self) return;
    string_list_free(&self->texts);
    string_list_free(&self->bytes);
    string_list_free(&self->merges);
    free(self->table);
    free(self->added);
    free(self->added_sorted);
    free(self->whole_words);
    free(self->kinds);
    free(self->before.items);
    free(self->after.items);
    free(self->processor);
    free(self->classes);
    word_cache_free(self->cache);
    free(self);
}

/* Whether the token's characters all stand for bytes. */
static bool is_of_bytes(const tokenizer *self, size_t id) {
    const char *text = string_list_at(&self->texts, id);
    size_t size = string_list_size_at(&self->texts, id);
    for (size_t position = 0, length; position < size; position += length) {
        uint32_t character = 0;
        length = limn_utf8_decode(text + position, size - position, &character);
        if (length == 0 || character_byte(character) < 0) return false;
    }
    return true;
}

/* What the token decodes to: the bytes that its characters stand for, or its own UTF-8 where one of them stands for none. */
static int add_decoded(tokenizer *self, size_t id, limn_error *error) {
    const char *text = string_list_at(&self->texts, id);
    size_t size = string_list_size_at(&self->texts, id), count = 0;
    if (string_list_add(&self->bytes, text, size, error)) return -1;
    if (!is_of_bytes(self, id)) return 0;
    char *bytes = self->bytes.data + self->bytes.offsets[id];
    for (size_t position = 0; position < size;) {
        uint32_t character = 0;
        position += limn_utf8_decode(text + position, size - position, &character);
        bytes[count++] = (char)character_byte(character);
    }
    string_list_shorten(&self->bytes, count);
    return 0;
}

int tokenizer_add_token(tokenizer *self, const char *text, size_t size, limn_error *error) {
    if (size == 0) return limn_fail(error, "token %zu is empty: no text gives it", self->texts.count);
    if (self->texts.count >= INT32_MAX) return limn_fail(error, "more than %d tokens", INT32_MAX);
    if (string_list_add(&self->texts, text, size, error)) return -1;
    return add_decoded(self, self->texts.count - 1, error);
}

int32_t tokenizer_find(const tokenizer *self, const char *text) {
    size_t size = strlen(text);
    for (size_t i = 0; i < self->texts.count; i++)
        if (string_list_size_at(&self->texts, i) == size && memcmp(string_list_at(&self->texts, i), text, size) == 0)
            return (int32_t)i;
    return -1;
}

int tokenizer_add_added(tokenizer *self, const added_token *token, limn_error *error) {
    if (self->added_count == self->added_capacity) {
        size_t capacity = 2 * self->added_capacity + 8;
        added_token *added = realloc(self->added, capacity * sizeof *added);
        if (!added) return limn_fail(error, "not enough memory for %zu added tokens", capacity);
        self->added = added;
        self->added_capacity = capacity;
    }
    self->added[self->added_count++] = *token;
    return 0;
}

/* ---------------------------------------------------------------- merges */

/* How many ways there are to make the tokens of two: a token of n characters has n - 1. */
static size_t count_splits(const tokenizer *self) {
    size_t splits = 0;
    for (size_t i = 0; i < self->texts.count; i++) {
        const char *text = string_list_at(&self->texts, i);
        for (size_t byte = 1; byte < string_list_size_at(&self->texts, i); byte++) splits += (text[byte] & 0xC0) != 0x80;
    }
    return splits;
}

static int add_merge_text(tokenizer *self, const merge_rule *rule, limn_buffer *text, limn_error *error) {
    const size_t ids[2] = {(size_t)rule->left, (size_t)rule->right};
    text->size = 0;
    for (size_t i = 0; i < 2; i++)
        if ((i && limn_buffer_append(text, " ", 1, error)) ||
            limn_buffer_append(text, string_list_at(&self->texts, ids[i]), string_list_size_at(&self->texts, ids[i]), error))
            return -1;
    return string_list_add(&self->merges, text->data, text->size, error);
}

int tokenizer_set_merges(tokenizer *self, const merge_rule *rules, size_t count, limn_error *error) {
    size_t possible = count_splits(self), entries = 16;
    if (count >= UINT32_MAX || count > possible)
        return limn_fail(error, "%zu merges, but its tokens can be made of two in %zu ways only: some come twice", count,
                         possible);
    while (entries < 2 * count) entries *= 2;
    self->table = limn_allocate(entries, sizeof *self->table, error);
    if (!self->table) return -1;
    self->table_mask = entries - 1;
    for (size_t i = 0; i < entries; i++) self->table[i].pair = UINT64_MAX;

    for (size_t i = 0; i < count; i++) {
        uint64_t pair = pair_key(rules[i].left, rules[i].right);
        size_t slot = (size_t)pair_hash(pair) & self->table_mask;
        while (self->table[slot].pair != UINT64_MAX && self->table[slot].pair != pair) slot = (slot + 1) & self->table_mask;
        self->table[slot] = (merge_entry){pair, (uint32_t)i, rules[i].result};
    }
    limn_buffer text = {0};
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++)
        if (tokenizer_find_merge(self, pair_key(rules[i].left, rules[i].right))->rank == i)
            status = add_merge_text(self, &rules[i], &text, error);
    limn_buffer_free(&text);
    return status;
}

/* ---------------------------------------------------------------- whole words */

/* The slot of the token that is these bytes, or the empty one where it would be. */
static size_t whole_word_slot(const tokenizer *self, const char *word, size_t size) {
    size_t slot = (size_t)hash_bytes(word, size) & self->whole_mask;
    for (; self->whole_words[slot]; slot = (slot + 1) & self->whole_mask) {
        size_t id = (size_t)self->whole_words[slot] - 1;
        if (string_list_size_at(&self->bytes, id) == size && memcmp(string_list_at(&self->bytes, id), word, size) == 0) break;
    }
    return slot;
}

int32_t tokenizer_whole_word(const tokenizer *self, const char *word, size_t size) {
    return self->ignore_merges ? self->whole_words[whole_word_slot(self, word, size)] - 1 : -1;
}

/* All tokens of the model's vocabulary that are made of bytes. */
static int index_whole_words(tokenizer *self, limn_error *error) {
    size_t slots = 16;
    while (slots < 2 * self->texts.count) slots *= 2;
    self->whole_words = limn_allocate(slots, sizeof *self->whole_words, error);
    if (!self->whole_words) return -1;
    self->whole_mask = slots - 1;
    for (size_t id = 0; id < self->texts.count; id++) {
        if (self->kinds[id] & TOKEN_BEYOND || !is_of_bytes(self, id)) continue;
        size_t slot = whole_word_slot(self, string_list_at(&self->bytes, id), string_list_size_at(&self->bytes, id));
        self->whole_words[slot] = (int32_t)id + 1;
    }
    return 0;
}

/* ---------------------------------------------------------------- completing */

/* Every byte needs a token, or some text had no ids. */
static int find_bytes(tokenizer *self, const char *where, limn_error *error) {
    for (int byte = 0; byte < 256; byte++) self->byte_ids[byte] = -1;
    for (size_t id = 0; id < self->texts.count; id++)
        if (string_list_size_at(&self->bytes, id) == 1 && is_of_bytes(self, id))
            self->byte_ids[(unsigned char)string_list_at(&self->bytes, id)[0]] = (int32_t)id;
    for (int byte = 0; byte < 256; byte++) {
        if (self->byte_ids[byte] >= 0) continue;
        char name[5] = "";
        limn_utf8_encode(byte_character((unsigned char)byte), name);
        return limn_fail(error, "%s: the vocabulary has no token \"%s\" for byte %d; it is not byte-level", where, name, byte);
    }
    return 0;
}

/* <s>, </s> and <pad>, where no file has named others. */
static int find_specials(tokenizer *self, const char *where, limn_error *error) {
    const struct {
        int32_t *id;
        const char *name;
    } specials[] = {{&self->bos, "<s>"}, {&self->eos, "</s>"}, {&self->pad, "<pad>"}};
    for (size_t i = 0; i < 3; i++) {
        if (*specials[i].id < 0) *specials[i].id = tokenizer_find(self, specials[i].name);
        if (*specials[i].id < 0)
            return limn_fail(error,
                             "%s: the vocabulary has no token %s; name another in special_tokens_map.json, or train one with "
                             "limn-tokenizer",
                             where, specials[i].name);
    }
    return 0;
}

int tokenizer_mark_kinds(tokenizer *self, limn_error *error) {
    free(self->kinds);
    self->kinds = limn_allocate(self->texts.count, 1, error);
    if (!self->kinds) return -1;
    for (size_t i = 0; i < self->added_count; i++) {
        const added_token *token = &self->added[i];
        self->kinds[token->id] |= (unsigned char)((token->special ? TOKEN_SPECIAL : 0) | (token->beyond ? TOKEN_BEYOND : 0));
    }
    return 0;
}

int tokenizer_complete(tokenizer *self, const char *where, limn_error *error) {
    if (find_bytes(self, where, error) || find_specials(self, where, error) || added_tokens_sort(self, where, error)) return -1;
    if (!self->before.count && !self->after.count && !self->processor && /* as RobertaProcessing does */
        (id_list_append(&self->before, &self->bos, 1, error) || id_list_append(&self->after, &self->eos, 1, error)))
        return -1;
    self->cache = word_cache_create(error);
    self->classes = unicode_classes_create(error);
    if (tokenizer_mark_kinds(self, error) || !self->cache || !self->classes) return -1;
    return self->ignore_merges ? index_whole_words(self, error) : 0;
}

size_t tokenizer_vocabulary_size(const tokenizer *self) {
    return self->texts.count;
}

int32_t tokenizer_bos(const tokenizer *self) {
    return self->bos;
}

int32_t tokenizer_eos(const tokenizer *self) {
    return self->eos;
}

int32_t tokenizer_pad(const tokenizer *self) {
    return self->pad;
}

const char *tokenizer_token(const tokenizer *self, int32_t id) {
    return id >= 0 && (size_t)id < self->texts.count ? string_list_at(&self->texts, (size_t)id) : NULL;
}

const char *tokenizer_merge(const tokenizer *self, size_t i) {
    return i < self->merges.count ? string_list_at(&self->merges, i) : NULL;
}
