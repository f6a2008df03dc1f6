/* Added tokens: found in the text itself, before it is split into words. */
#include "tokenizer/internal.h"
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- their order */

/* By level, the longer first, then by bytes: the tokens of one length stand together and can be searched. */
static int compare_added(const void *a, const void *b, void *context) {
    const tokenizer *self = context;
    const added_token *left = &self->added[*(const uint32_t *)a], *right = &self->added[*(const uint32_t *)b];
    if (left->normalized != right->normalized) return left->normalized ? 1 : -1;
    size_t left_size = string_list_size_at(&self->texts, (size_t)left->id),
           right_size = string_list_size_at(&self->texts, (size_t)right->id);
    if (left_size != right_size) return left_size > right_size ? -1 : 1;
    return memcmp(string_list_at(&self->texts, (size_t)left->id), string_list_at(&self->texts, (size_t)right->id), left_size);
}

/* Tokens of the model's own vocabulary are found in the text only when they are special ones, as in tokenizers 0.13. */
int added_tokens_sort(tokenizer *self, const char *where, limn_error *error) {
    size_t count = 0;
    self->added_sorted = limn_allocate(self->added_count, sizeof *self->added_sorted, error);
    if (!self->added_sorted) return -1;
    for (size_t i = 0; i < self->added_count; i++)
        if (self->added[i].special || self->added[i].beyond) self->added_sorted[count++] = (uint32_t)i;
    qsort_r(self->added_sorted, count, sizeof *self->added_sorted, compare_added, self);
    for (size_t i = 0; i < count; i++) {
        const added_token *token = &self->added[self->added_sorted[i]];
        const char *text = string_list_at(&self->texts, (size_t)token->id);
        added_level *level = &self->levels[token->normalized];
        if (level->count == 0) level->start = i;
        if (level->count++ && token->id == self->added[self->added_sorted[i - 1]].id)
            return limn_fail(error, "%s: added token \"%.40s\" comes twice; remove one", where, text);
        if (!level->begins[(unsigned char)text[0]]) level->beginnings++;
        level->begins[(unsigned char)text[0]] = true;
        level->beginning = (unsigned char)text[0];
    }
    return 0;
}

/* ---------------------------------------------------------------- finding them */

size_t added_token_byte(const tokenizer *self, int which, const char *text, size_t size, size_t position) {
    const added_level *level = &self->levels[which];
    if (level->beginnings == 0) return size;
    if (level->beginnings == 1) { /* mostly they all begin with < */
        const char *found = memchr(text + position, level->beginning, size - position);
        return found ? (size_t)(found - text) : size;
    }
    while (position < size && !level->begins[(unsigned char)text[position]]) position++;
    return position;
}

static size_t sorted_size(const tokenizer *self, size_t i) {
    return string_list_size_at(&self->texts, (size_t)self->added[self->added_sorted[i]].id);
}

/* The first from `low` on, below `high`, that has another length than the one at `low`. */
static size_t end_of_length(const tokenizer *self, size_t low, size_t high) {
    size_t size = sorted_size(self, low);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (sorted_size(self, middle) == size)
            low = middle;
        else
            high = middle;
    }
    return high;
}

const added_token *added_token_at(const tokenizer *self, int which, const char *text, size_t size) {
    const added_level *level = &self->levels[which];
    for (size_t start = level->start, last = start + level->count, end; start < last; start = end) {
        size_t length = sorted_size(self, start), low = start;
        end = end_of_length(self, start, last);
        if (length > size) continue;
        for (size_t high = end; low < high;) { /* the first token that is not below the text */
            size_t middle = low + (high - low) / 2;
            const added_token *token = &self->added[self->added_sorted[middle]];
            int order = memcmp(string_list_at(&self->texts, (size_t)token->id), text, length);
            if (order == 0) return token;
            if (order < 0)
                low = middle + 1;
            else
                high = middle;
        }
    }
    return NULL;
}
