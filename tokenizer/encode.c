/* Text to ids and back. */
#include "tokenizer/internal.h"
#include <stdlib.h>
#include <string.h>

/* Ids beyond `enough` are not wanted: the rest of the text need not be looked at. */
typedef struct {
    const tokenizer *self;
    const char *readable; /* where the memory ends that may be looked at, behind the text */
    id_list *out;
    size_t enough;
    limn_error *error;
} encoding;

/* A copy of the text, led by a space and followed by a short word's room of zeros. */
static char *lead_by_space(const char *text, size_t size, limn_error *error) {
    char *led = limn_allocate(size + 1 + sizeof(short_word), 1, error);
    if (!led) return NULL;
    led[0] = ' ';
    memcpy(led + 1, text, size);
    return led;
}

/* One stretch of text without added tokens. */
static int encode_plain(const encoding *e, const char *text, size_t size) {
    if (size == 0) return 0;
    if (!e->self->add_prefix_space || text[0] == ' ')
        return encode_words(e->self, text, size, (size_t)(e->readable - text), e->enough, e->out, e->error);
    char *led = lead_by_space(text, size, e->error);
    if (!led) return -1;
    int status = encode_words(e->self, led, size + 1, size + 1 + sizeof(short_word), e->enough, e->out, e->error);
    free(led);
    return status;
}

/* The class of the first character, and its length; of a byte that is not UTF-8: CLASS_OTHER and 0. */
static unsigned char class_after(const tokenizer *self, const char *text, size_t size, size_t *length) {
    uint32_t character;
    *length = limn_utf8_decode(text, size, &character);
    return *length ? unicode_class(self->classes, character) : CLASS_OTHER;
}

/* The same of the last character. */
static unsigned char class_before(const tokenizer *self, const char *text, size_t size, size_t *length) {
    size_t place = size, used;
    while (place > 0 && size - place < 4 && ((unsigned char)text[--place] & 0xC0) == 0x80) continue;
    unsigned char class = class_after(self, text + place, size - place, &used);
    *length = used == size - place ? used : 0;
    return *length ? class : CLASS_OTHER;
}

/* Where the white space before `end` begins, not before `start`. */
static size_t leftmost_space(const tokenizer *self, const char *text, size_t start, size_t end) {
    size_t length;
    while ((class_before(self, text + start, end - start, &length) & CLASS_KIND) == CLASS_SPACE) end -= length;
    return end;
}

static size_t rightmost_space(const tokenizer *self, const char *text, size_t size, size_t position) {
    size_t length;
    while ((class_after(self, text + position, size - position, &length) & CLASS_KIND) == CLASS_SPACE) position += length;
    return position;
}

/* Whether a word goes on before `start` or after `end`. */
static bool inside_a_word(const tokenizer *self, const char *text, size_t size, size_t start, size_t end) {
    size_t length;
    return class_before(self, text, start, &length) & CLASS_WORD ||
           class_after(self, text + end, size - end, &length) & CLASS_WORD;
}

/* Splits out the added tokens of one level, leftmost and longest first: first those that are looked for in the raw text, then,
 * in what they leave, the "normalized" ones. */
static int encode_level(const encoding *e, int level, const char *text, size_t size) {
    if (level == 2) return encode_plain(e, text, size);
    const tokenizer *self = e->self;
    size_t done = 0, position = 0;
    while ((position = added_token_byte(self, level, text, size, position)) < size && e->out->count < e->enough) {
        const added_token *token = added_token_at(self, level, text + position, size - position);
        if (!token) {
            position++;
            continue;
        }
        size_t start = position, end = position + string_list_size_at(&self->texts, (size_t)token->id);
        position = end;
        if (token->single_word && inside_a_word(self, text, size, start, end)) continue;
        if (token->lstrip) start = start > done ? leftmost_space(self, text, done, start) : done;
        if (token->rstrip) end = rightmost_space(self, text, size, end);
        if (start > done && encode_level(e, level + 1, text + done, start - done)) return -1;
        /* A token of blanks alone may have been swallowed by the one before. */
        if (start < end && id_list_append(e->out, &token->id, 1, e->error)) return -1;
        done = end;
    }
    return done < size ? encode_level(e, level + 1, text + done, size - done) : 0;
}

static int check_size(size_t size, limn_error *error) {
    if (size <= TOKENIZER_MAX_TEXT) return 0;
    return limn_fail(error, "a text of %zu bytes is longer than the %d that a caption may have", size, TOKENIZER_MAX_TEXT);
}

int encode_text(const tokenizer *self, const char *text, size_t size, size_t readable, id_list *out, limn_error *error) {
    out->count = 0;
    if (check_size(size, error) || id_list_append(out, self->before.items, self->before.count, error) ||
        encode_level(&(encoding){self, text + readable, out, SIZE_MAX, error}, 0, text, size))
        return -1;
    return id_list_append(out, self->after.items, self->after.count, error);
}

int tokenizer_encode(const tokenizer *self, const char *text, size_t size, int32_t **ids, size_t *capacity, size_t *out_count,
                     limn_error *error) {
    id_list out = {*ids, 0, *capacity};
    int status = encode_text(self, text, size, size, &out, error);
    *ids = out.items;
    *capacity = out.capacity;
    *out_count = status == 0 ? out.count : 0;
    return status;
}

/* The ids of a text led by a space, as many as fit before the `after` ones. */
static int encode_led(const tokenizer *self, const char *text, size_t size, size_t fit, id_list *out, limn_error *error) {
    encoding e = {self, text + size, out, fit, error};
    if (size == 0 || text[0] == ' ') return encode_level(&e, 0, text, size);
    char *led = lead_by_space(text, size, error);
    if (!led) return -1;
    e.readable = led + 1 + size + sizeof(short_word);
    int status = encode_level(&e, 0, led, size + 1);
    free(led);
    return status;
}

/* The model's captions stand between two tokens even where the tokenizer's file puts none around a text. */
int tokenizer_encode_caption(const tokenizer *self, const char *text, size_t size, int32_t *ids, int32_t *mask, size_t length,
                             limn_error *error) {
    int32_t bos = self->bos, eos = self->eos;
    const id_list *before = self->before.count ? &self->before : &(id_list){&bos, 1, 1},
                  *after = self->after.count ? &self->after : &(id_list){&eos, 1, 1};
    if (length < before->count + after->count)
        return limn_fail(error, "%zu text tokens leave no room for <s> and </s>", length);
    size_t fit = length - after->count;
    id_list out = {0};
    int status = check_size(size, error);
    if (status == 0) status = id_list_append(&out, before->items, before->count, error);
    if (status == 0) status = encode_led(self, text, size, fit, &out, error);
    if (out.count > fit) out.count = fit;
    if (status == 0) status = id_list_append(&out, after->items, after->count, error);
    for (size_t i = 0; i < length && status == 0; i++) {
        ids[i] = i < out.count ? out.items[i] : self->pad;
        mask[i] = i < out.count;
    }
    free(out.items);
    return status;
}

int tokenizer_decode(const tokenizer *self, const int32_t *ids, size_t count, limn_buffer *out, limn_error *error) {
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= self->texts.count)
            return limn_fail(error, "token id %d is not in the vocabulary, whose ids are 0 to %zu", (int)ids[i],
                             self->texts.count - 1);
        size_t id = (size_t)ids[i];
        if (self->kinds[id] & TOKEN_SPECIAL) continue;
        if (limn_buffer_append(out, string_list_at(&self->bytes, id), string_list_size_at(&self->bytes, id), error)) return -1;
    }
    return 0;
}
