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
    free(self->added_order);
    free(self->is_special);
    free(self->before.items);
    free(self->after.items);
    free(self->classes);
    word_cache_free(self->cache);
    free(self);
}

/* What a token decodes to: its characters' bytes, or its own UTF-8 where one of them stands for no byte. */
static int add_decoded(tokenizer *self, const char *text, size_t size, limn_error *error) {
    char *bytes = limn_allocate(size + 1, 1, error);
    if (!bytes) return -1;
    size_t count = 0;
    for (size_t position = 0; position < size;) {
        uint32_t character = 0;
        size_t length = limn_utf8_decode(text + position, size - position, &character);
        int byte = length ? character_byte(character) : -1;
        if (byte < 0) {
            count = size;
            memcpy(bytes, text, size);
            break;
        }
        bytes[count++] = (char)byte;
        position += length;
    }
    int status = string_list_add(&self->bytes, bytes, count, error);
    free(bytes);
    return status;
}

int tokenizer_add_token(tokenizer *self, const char *text, size_t size, limn_error *error) {
    if (size == 0) return limn_fail(error, "token %zu is empty: no text gives it", self->texts.count);
    if (self->texts.count >= INT32_MAX) return limn_fail(error, "more than %d tokens", INT32_MAX);
    if (string_list_add(&self->texts, text, size, error)) return -1;
    return add_decoded(self, text, size, error);
}

int32_t tokenizer_find(const tokenizer *self, const char *text) {
    size_t size = strlen(text);
    for (size_t i = 0; i < self->texts.count; i++)
        if (string_list_size_at(&self->texts, i) == size && memcmp(string_list_at(&self->texts, i), text, size) == 0)
            return (int32_t)i;
    return -1;
}

int tokenizer_add_special(tokenizer *self, const added_token *token, limn_error *error) {
    size_t count = self->added_count;
    added_token *added = realloc(self->added, (count + 1) * sizeof *added);
    if (added) self->added = added;
    size_t *order = realloc(self->added_order, (count + 1) * sizeof *order);
    if (order) self->added_order = order;
    if (!added || !order) return limn_fail(error, "not enough memory for %zu added tokens", count + 1);
    order[count] = (size_t)token->id;
    size_t size = string_list_size_at(&self->texts, (size_t)token->id), place = count;
    for (; place > 0 && string_list_size_at(&self->texts, (size_t)added[place - 1].id) < size; place--)
        added[place] = added[place - 1];
    added[place] = *token;
    self->added_count++;
    unsigned char first = (unsigned char)string_list_at(&self->texts, (size_t)token->id)[0];
    if (!self->added_first[token->normalized][first]) self->added_firsts[token->normalized]++;
    self->added_first[token->normalized][first] = true;
    self->added_last_first[token->normalized] = first;
    return 0;
}

int tokenizer_set_merges(tokenizer *self, const merge_rule *rules, size_t count, limn_error *error) {
    if (count >= UINT32_MAX) return limn_fail(error, "%zu merges are too many", count);
    size_t entries = 16;
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
    for (size_t i = 0; i < count && status == 0; i++) {
        if (tokenizer_find_merge(self, pair_key(rules[i].left, rules[i].right))->rank != i) continue;
        text.size = 0;
        status = limn_buffer_printf(&text, error, "%s %s", string_list_at(&self->texts, (size_t)rules[i].left),
                                    string_list_at(&self->texts, (size_t)rules[i].right));
        if (status == 0) status = string_list_add(&self->merges, text.data, text.size, error);
    }
    limn_buffer_free(&text);
    return status;
}

int tokenizer_complete(tokenizer *self, const char *where, limn_error *error) {
    for (int byte = 0; byte < 256; byte++) self->byte_ids[byte] = -1;
    for (size_t i = 0; i < self->texts.count; i++) {
        uint32_t character;
        size_t size = string_list_size_at(&self->texts, i);
        if (limn_utf8_decode(string_list_at(&self->texts, i), size, &character) != size) continue;
        int byte = character_byte(character);
        if (byte >= 0) self->byte_ids[byte] = (int32_t)i;
    }
    for (int byte = 0; byte < 256; byte++)
        if (self->byte_ids[byte] < 0) {
            char name[5] = "";
            limn_utf8_encode(byte_character((unsigned char)byte), name);
            return limn_fail(error, "%s: the vocabulary has no token \"%s\" for byte %d; it is not byte-level", where, name,
                             byte);
        }
    if (self->bos < 0) self->bos = tokenizer_find(self, "<s>");
    if (self->eos < 0) self->eos = tokenizer_find(self, "</s>");
    self->pad = tokenizer_find(self, "<pad>");
    if (self->bos < 0 || self->eos < 0 || self->pad < 0)
        return limn_fail(error, "%s: the vocabulary has no token %s; train it with limn-tokenizer, or add it to the file",
                         where,
                         self->bos < 0   ? "<s>"
                         : self->eos < 0 ? "</s>"
                                         : "<pad>");
    if (!self->framed) { /* nothing says otherwise: as RobertaProcessing does */
        if (id_list_reserve(&self->before, 1, error) || id_list_reserve(&self->after, 1, error)) return -1;
        self->before.items[self->before.count++] = self->bos;
        self->after.items[self->after.count++] = self->eos;
    }
    self->is_special = limn_allocate(self->texts.count, 1, error);
    self->cache = word_cache_create(error);
    self->classes = unicode_classes_create(error);
    if (!self->is_special || !self->cache || !self->classes) return -1;
    for (size_t i = 0; i < self->added_count; i++)
        if (self->added[i].special) self->is_special[self->added[i].id] = 1;
    return 0;
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
