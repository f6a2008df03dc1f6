/* Text to ids and back. */
#include "tokenizer/internal.h"
#include <stdlib.h>
#include <string.h>

/* Ids beyond `enough` are not wanted: the rest of the text need not be looked at. */
typedef struct {
    const tokenizer *self;
    id_list *out;
    size_t enough;
    limn_error *error;
} encoding;

/* One stretch of text without added tokens. */
static int encode_plain(const encoding *e, const char *text, size_t size) {
    const tokenizer *self = e->self;
    size_t start = 0;
    char *led = NULL;
    if (size == 0) return 0;
    if (self->add_prefix_space && text[0] != ' ') {
        led = limn_allocate(size + 1, 1, e->error);
        if (!led) return -1;
        led[0] = ' ';
        memcpy(led + 1, text, size++);
        text = led;
    }
    int status = 0;
    while (start < size && status == 0 && e->out->count < e->enough) {
        size_t end = self->use_regex ? pretoken_end(self->classes, text, size, start) : size;
        status = encode_word(self, text + start, end - start, e->out, e->error);
        start = end;
    }
    free(led);
    return status;
}

static bool is_space(const tokenizer *self, const char *text, size_t size, size_t *length) {
    uint32_t character;
    *length = limn_utf8_decode(text, size, &character);
    return *length > 0 && self->classes[character] == CLASS_SPACE;
}

/* Where the white space before `end` begins, not before `start`. */
static size_t leftmost_space(const tokenizer *self, const char *text, size_t start, size_t end) {
    while (end > start) {
        size_t place = end - 1, length;
        while (place > start && ((unsigned char)text[place] & 0xC0) == 0x80) place--;
        if (!is_space(self, text + place, end - place, &length) || length != end - place) break;
        end = place;
    }
    return end;
}

static size_t rightmost_space(const tokenizer *self, const char *text, size_t size, size_t position) {
    size_t length;
    while (position < size && is_space(self, text + position, size - position, &length)) position += length;
    return position;
}

/* The longest added token of this level at the beginning of text, or NULL. */
static const added_token *added_at(const tokenizer *self, bool normalized, const char *text, size_t size) {
    if (!self->added_first[normalized][(unsigned char)text[0]]) return NULL;
    for (size_t i = 0; i < self->added_count; i++) {
        size_t length = string_list_size_at(&self->texts, (size_t)self->added[i].id);
        if (self->added[i].normalized == normalized && length <= size &&
            memcmp(text, string_list_at(&self->texts, (size_t)self->added[i].id), length) == 0)
            return &self->added[i];
    }
    return NULL;
}

/* Splits out the added tokens of one level, leftmost and longest first: first those that are looked for in the raw text, then,
 * in what they leave, the "normalized" ones. */
static int encode_level(const encoding *e, int level, const char *text, size_t size) {
    if (level == 2) return encode_plain(e, text, size);
    const tokenizer *self = e->self;
    size_t done = 0;
    for (size_t position = 0; position < size && e->out->count < e->enough;) {
        const added_token *token = added_at(self, level == 1, text + position, size - position);
        if (!token) {
            position++;
            continue;
        }
        size_t start = position, end = position + string_list_size_at(&self->texts, (size_t)token->id);
        position = end;
        if (token->lstrip) start = leftmost_space(self, text, done, start);
        if (token->rstrip) end = rightmost_space(self, text, size, end);
        if (start > done && encode_level(e, level + 1, text + done, start - done)) return -1;
        if (id_list_reserve(e->out, 1, e->error)) return -1;
        e->out->items[e->out->count++] = token->id;
        done = end;
    }
    return done < size ? encode_level(e, level + 1, text + done, size - done) : 0;
}

static int check_size(size_t size, limn_error *error) {
    if (size <= TOKENIZER_MAX_TEXT) return 0;
    return limn_fail(error, "a text of %zu bytes is longer than the %d that a caption may have", size, TOKENIZER_MAX_TEXT);
}

int tokenizer_encode(const tokenizer *self, const char *text, size_t size, int32_t **ids, size_t *capacity, size_t *out_count,
                     limn_error *error) {
    id_list out = {*ids, 0, *capacity};
    if (check_size(size, error)) return -1;
    int status = id_list_reserve(&out, 1, error);
    if (status == 0) {
        out.items[out.count++] = self->bos;
        status = encode_level(&(encoding){self, &out, SIZE_MAX, error}, 0, text, size);
    }
    if (status == 0) status = id_list_reserve(&out, 1, error);
    if (status == 0) out.items[out.count++] = self->eos;
    *ids = out.items;
    *capacity = out.capacity;
    *out_count = status == 0 ? out.count : 0;
    return status;
}

int tokenizer_encode_caption(const tokenizer *self, const char *text, size_t size, int32_t *ids, int32_t *mask, size_t length,
                             limn_error *error) {
    if (length < 2) return limn_fail(error, "%zu text tokens leave no room for <s> and </s>", length);
    if (check_size(size, error)) return -1;
    char *led = NULL;
    if (size > 0 && text[0] != ' ') {
        led = limn_allocate(size + 1, 1, error);
        if (!led) return -1;
        led[0] = ' ';
        memcpy(led + 1, text, size++);
        text = led;
    }
    id_list words = {0};
    int status = encode_level(&(encoding){self, &words, length - 2, error}, 0, text, size);
    if (status == 0) {
        size_t count = words.count < length - 2 ? words.count : length - 2;
        ids[0] = self->bos;
        if (count) memcpy(ids + 1, words.items, count * sizeof *ids);
        ids[count + 1] = self->eos;
        for (size_t i = 0; i < length; i++) {
            if (i >= count + 2) ids[i] = self->pad;
            mask[i] = i < count + 2;
        }
    }
    free(words.items);
    free(led);
    return status;
}

int tokenizer_decode(const tokenizer *self, const int32_t *ids, size_t count, limn_buffer *out, limn_error *error) {
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= self->texts.count)
            return limn_fail(error, "token id %d is not in the vocabulary, whose ids are 0 to %zu", (int)ids[i],
                             self->texts.count - 1);
        size_t id = (size_t)ids[i];
        if (self->is_special[id]) continue;
        if (limn_buffer_append(out, string_list_at(&self->bytes, id), string_list_size_at(&self->bytes, id), error)) return -1;
    }
    return 0;
}
