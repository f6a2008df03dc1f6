/* Emoji to their names, as the Python package "emoji" finds them (emoji.demojize): the longest sequence of the tree counts; one
 * that zero-width joiners make of emoji, and that is not in the tree, is taken apart. */
#include "tokenizer/normalizer.h"
#include <stdlib.h>

enum { ZERO_WIDTH_JOINER = 0x200D, TEXT_SELECTOR = 0xFE0E, EMOJI_SELECTOR = 0xFE0F };

/* A stretch of the text that was read: an emoji or one character. */
typedef struct {
    size_t start, count;
    const emoji_node *emoji; /* NULL: a character */
} piece;

typedef struct {
    const uint32_t *codes;
    size_t count, at;
    unsigned char *parted; /* (count): this joiner is not part of a sequence */
    piece *pieces;         /* (count) read so far and not given out: they may still be taken back */
    size_t piece_count;
} reader;

static const emoji_node *child_of(const emoji_node *parent, uint32_t code) {
    size_t low = parent->children, high = low + parent->child_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (emoji_nodes[middle].code == code) return &emoji_nodes[middle];
        if (emoji_nodes[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool begins_emoji(uint32_t code) {
    return unicode_flags(code) & UNICODE_EMOJI;
}

/* As far into the tree as the text goes; only an emoji that ends just there counts. */
static const emoji_node *match(const reader *self, size_t *end) {
    const emoji_node *place = child_of(&emoji_nodes[0], self->codes[self->at]), *next;
    for (*end = self->at + 1; place && *end < self->count && !self->parted[*end]; ++*end, place = next)
        if (!(next = child_of(place, self->codes[*end]))) break;
    return place && place->name ? place : NULL;
}

/* The emoji that ends in a piece of the text, read anew: a character that is an emoji by itself may have been read as a
 * character. */
static const emoji_node *emoji_of(const reader *self, const piece *last) {
    if (last->emoji) return last->emoji;
    const emoji_node *node = child_of(&emoji_nodes[0], self->codes[last->start]);
    return node && node->name ? node : NULL;
}

/* After an emoji that a joiner follows: the joiner parts, and the emoji is read again without it. */
static bool take_back(reader *self) {
    const piece *last = self->piece_count ? &self->pieces[self->piece_count - 1] : NULL;
    const emoji_node *emoji = last ? emoji_of(self, last) : NULL;
    if (!emoji || self->at == 0 || !begins_emoji(self->codes[self->at - 1])) return false;
    self->parted[self->at] = 1;
    if (!emoji->component) {
        self->at -= last->count;
        self->piece_count--;
        return true;
    }
    /* a skin tone may belong to an emoji before it, or stand alone after another joiner */
    self->at -= last->count;
    if (self->piece_count > 1) self->at -= self->pieces[self->piece_count - 2].count;
    if (self->codes[self->at] == ZERO_WIDTH_JOINER) {
        self->at++;
        self->piece_count--;
    } else
        self->piece_count -= self->piece_count > 1 ? 2 : 1;
    return true;
}

static int give_out(reader *self, code_list *out, limn_error *error) {
    for (size_t i = 0; i < self->piece_count; i++) {
        const piece *given = &self->pieces[i];
        if (!given->emoji) {
            if (codes_append(out, self->codes + given->start, given->count, error)) return -1;
            continue;
        }
        size_t start = emoji_name_start[given->emoji->name - 1], end = emoji_name_start[given->emoji->name];
        for (size_t k = start; k < end; k++)
            if (codes_add(out, (unsigned char)emoji_name_text[k], error)) return -1;
    }
    self->piece_count = 0;
    return 0;
}

static void add_piece(reader *self, size_t start, size_t count, const emoji_node *emoji) {
    self->pieces[self->piece_count++] = (piece){start, count, emoji};
}

/* One character or emoji. */
static int read_one(reader *self, code_list *out, limn_error *error) {
    uint32_t code = self->codes[self->at];
    if (self->parted[self->at]) {
        add_piece(self, self->at++, 1, NULL);
        return 0;
    }
    if (begins_emoji(code)) {
        size_t end;
        const emoji_node *emoji = match(self, &end);
        if (emoji) {
            add_piece(self, self->at, end - self->at, emoji);
            self->at = end;
            return 0;
        }
    } else if (code == ZERO_WIDTH_JOINER && take_back(self)) {
        return 0;
    } else if (give_out(self, out, error)) {
        return -1;
    }
    if (code != TEXT_SELECTOR && code != EMOJI_SELECTOR) add_piece(self, self->at, 1, NULL);
    self->at++;
    return 0;
}

int emoji_name(const uint32_t *codes, size_t count, code_list *out, limn_error *error) {
    if (count == 0) return 0;
    reader self = {.codes = codes, .count = count};
    int status = 0;
    self.parted = limn_allocate(count, 1, error);
    self.pieces = self.parted ? limn_allocate(count, sizeof *self.pieces, error) : NULL;
    if (!self.pieces) status = -1;
    while (self.at < count && status == 0) status = read_one(&self, out, error);
    if (status == 0) status = give_out(&self, out, error);
    free(self.parted);
    free(self.pieces);
    return status;
}
