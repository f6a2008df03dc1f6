/* Merging the symbols of one pretoken (Sennrich and others, arXiv 1508.07909), and a cache of words that were merged before. */
#include "tokenizer/internal.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- cache */

/* Captions repeat their words, so most are looked up. An entry is one line of the processor's cache, written once: `last` is
 * claimed first and gets its value when the rest is there, which makes reading safe without a lock. A word whose places are all
 * taken, or that has more ids than fit, is simply merged each time. */
enum { CACHE_SLOTS = 1 << 20, CACHE_PROBES = 4, CACHE_IDS = 9 };

typedef struct {
    uint64_t first, second;
    _Atomic uint64_t last; /* of the word's three numbers; 0: empty, CLAIMED: being written */
    int32_t count, ids[CACHE_IDS];
} cached_word;
static const uint64_t CLAIMED = UINT64_MAX;

struct word_cache {
    cached_word *slots;
    void *memory;
};

word_cache *word_cache_create(limn_error *error) {
    word_cache *cache = limn_allocate(1, sizeof *cache, error);
    if (!cache) return NULL;
    cache->memory = calloc(CACHE_SLOTS + 1, sizeof *cache->slots); /* untouched pages cost nothing, so no limn_allocate */
    if (!cache->memory) {
        limn_fail(error, "not enough memory for a cache of %d words", CACHE_SLOTS);
        free(cache);
        return NULL;
    }
    uintptr_t address = (uintptr_t)cache->memory;
    cache->slots = (cached_word *)((address + sizeof *cache->slots - 1) / sizeof *cache->slots * sizeof *cache->slots);
    return cache;
}

void word_cache_free(word_cache *cache) {
    if (cache) free(cache->memory);
    free(cache);
}

static cached_word *cache_slot(word_cache *cache, uint64_t hash, size_t probe) {
    return &cache->slots[(hash + probe) & (CACHE_SLOTS - 1)];
}

static const cached_word *cache_find(word_cache *cache, uint64_t hash, const short_word *word) {
    for (size_t probe = 0; probe < CACHE_PROBES; probe++) {
        cached_word *entry = cache_slot(cache, hash, probe);
        uint64_t last = atomic_load_explicit(&entry->last, memory_order_acquire);
        if (last == word->part[2] && entry->first == word->part[0] && entry->second == word->part[1]) return entry;
        if (!last) return NULL;
    }
    return NULL;
}

static void cache_add(word_cache *cache, uint64_t hash, const short_word *word, const int32_t *ids, size_t count) {
    for (size_t probe = 0; count <= CACHE_IDS && probe < CACHE_PROBES; probe++) {
        cached_word *entry = cache_slot(cache, hash, probe);
        uint64_t last = 0;
        if (!atomic_compare_exchange_strong_explicit(&entry->last, &last, CLAIMED, memory_order_relaxed, memory_order_relaxed))
            continue;
        entry->first = word->part[0];
        entry->second = word->part[1];
        entry->count = (int32_t)count;
        memcpy(entry->ids, ids, count * sizeof *ids);
        atomic_store_explicit(&entry->last, word->part[2], memory_order_release);
        return;
    }
}

/* ---------------------------------------------------------------- merging a long word, by a heap */

typedef struct {
    int32_t id; /* -1: merged into the one before */
    uint32_t previous, next;
} symbol;

static const uint32_t NONE = UINT32_MAX;

/* A binary heap of rank << 32 | place, smallest first: the best rank, and the leftmost of equal ones. */
typedef struct {
    uint64_t *items;
    size_t count;
} merge_heap;

static void heap_push(merge_heap *heap, uint64_t item) {
    size_t place = heap->count++;
    for (; place > 0 && heap->items[(place - 1) / 2] > item; place = (place - 1) / 2)
        heap->items[place] = heap->items[(place - 1) / 2];
    heap->items[place] = item;
}

static uint64_t heap_pop(merge_heap *heap) {
    uint64_t top = heap->items[0], last = heap->items[--heap->count];
    size_t place = 0, child;
    for (; (child = 2 * place + 1) < heap->count; place = child) {
        if (child + 1 < heap->count && heap->items[child + 1] < heap->items[child]) child++;
        if (heap->items[child] >= last) break;
        heap->items[place] = heap->items[child];
    }
    heap->items[place] = last;
    return top;
}

static void push_pair(const tokenizer *self, const symbol *symbols, merge_heap *heap, uint32_t left) {
    if (left == NONE || symbols[left].next == NONE) return;
    const merge_entry *merge = tokenizer_find_merge(self, pair_key(symbols[left].id, symbols[symbols[left].next].id));
    if (merge) heap_push(heap, (uint64_t)merge->rank << 32 | left);
}

/* symbols (size) and the heap's room (2·size: a pair at each place, and each merge takes one out and puts at most two in) are
 * scratch. */
static void merge_long_word(const tokenizer *self, const char *word, size_t size, symbol *symbols, uint64_t *room,
                            id_list *out) {
    merge_heap heap = {room, 0};
    for (size_t i = 0; i < size; i++)
        symbols[i] =
            (symbol){self->byte_ids[(unsigned char)word[i]], i ? (uint32_t)i - 1 : NONE, i + 1 < size ? (uint32_t)i + 1 : NONE};
    for (size_t i = 0; i + 1 < size; i++) push_pair(self, symbols, &heap, (uint32_t)i);

    while (heap.count) {
        uint64_t top = heap_pop(&heap);
        uint32_t place = (uint32_t)top, right;
        if (symbols[place].id < 0 || (right = symbols[place].next) == NONE) continue;
        const merge_entry *merge = tokenizer_find_merge(self, pair_key(symbols[place].id, symbols[right].id));
        if (!merge || merge->rank != top >> 32) continue; /* the pair that was pushed here has changed since */
        symbols[place].id = merge->id;
        symbols[place].next = symbols[right].next;
        symbols[right].id = -1;
        if (symbols[place].next != NONE) symbols[symbols[place].next].previous = place;
        push_pair(self, symbols, &heap, symbols[place].previous);
        push_pair(self, symbols, &heap, place);
    }
    for (uint32_t place = 0; place != NONE; place = symbols[place].next) out->items[out->count++] = symbols[place].id;
}

static int encode_long_word(const tokenizer *self, const char *word, size_t size, id_list *out, limn_error *error) {
    symbol *symbols = limn_allocate(size, sizeof *symbols, error);
    uint64_t *room = symbols ? limn_allocate(size, 2 * sizeof *room, error) : NULL;
    if (room) merge_long_word(self, word, size, symbols, room, out);
    free(symbols);
    free(room);
    return room ? 0 : -1;
}

/* ---------------------------------------------------------------- merging a word of some letters, by looking */

enum { FEW = 64 };

typedef struct {
    size_t count;
    int32_t ids[FEW];
    uint32_t ranks[FEW];  /* of the pair of ids i and i + 1; NONE when it is never merged */
    int32_t results[FEW]; /* what that pair makes */
} few_symbols;

static void look_at_pair(const tokenizer *self, few_symbols *symbols, size_t i) {
    const merge_entry *merge = tokenizer_find_merge(self, pair_key(symbols->ids[i], symbols->ids[i + 1]));
    symbols->ranks[i] = merge ? merge->rank : NONE;
    symbols->results[i] = merge ? merge->id : 0;
}

/* The best pair is found by going over all ranks, which for at most FEW bytes is quicker than keeping an order. */
static void merge_word(const tokenizer *self, const char *word, size_t size, few_symbols *symbols) {
    symbols->count = size;
    for (size_t i = 0; i < size; i++) symbols->ids[i] = self->byte_ids[(unsigned char)word[i]];
    for (size_t i = 0; i + 1 < size; i++) look_at_pair(self, symbols, i);
    for (; symbols->count > 1; symbols->count--) {
        size_t best = 0, after;
        for (size_t i = 1; i + 1 < symbols->count; i++)
            if (symbols->ranks[i] < symbols->ranks[best]) best = i;
        if (symbols->ranks[best] == NONE) return;
        symbols->ids[best] = symbols->results[best];
        after = symbols->count - best - 2; /* symbols after the pair */
        memmove(symbols->ids + best + 1, symbols->ids + best + 2, after * sizeof *symbols->ids);
        memmove(symbols->ranks + best, symbols->ranks + best + 1, after * sizeof *symbols->ranks);
        memmove(symbols->results + best, symbols->results + best + 1, after * sizeof *symbols->results);
        if (after) look_at_pair(self, symbols, best);
        if (best) look_at_pair(self, symbols, best - 1);
    }
}

/* ---------------------------------------------------------------- the words of a text */

/* The caller has made room for `size` ids. */
static int encode_word(const tokenizer *self, const split_word *word, id_list *out, limn_error *error) {
    few_symbols symbols;
    int32_t whole = tokenizer_whole_word(self, word->text, word->size);
    if (whole >= 0) {
        out->items[out->count++] = whole;
        return 0;
    }
    if (word->size > FEW) return encode_long_word(self, word->text, word->size, out, error);
    merge_word(self, word->text, word->size, &symbols);
    memcpy(out->items + out->count, symbols.ids, symbols.count * sizeof *symbols.ids);
    out->count += symbols.count;
    if (word->size <= SHORT_WORD) cache_add(self->cache, word->hash, &word->word, symbols.ids, symbols.count);
    return 0;
}

int encode_words(const tokenizer *self, const char *text, size_t size, size_t readable, size_t enough, id_list *out,
                 limn_error *error) {
    split_word words[WORD_BATCH];
    for (size_t start = 0, before; (before = start) < size && out->count < enough;) {
        size_t count = split_words(self->use_regex ? self->classes : NULL, text, size, readable, &start, words);
        if (id_list_reserve(out, start - before + CACHE_IDS, error)) return -1;
        for (size_t i = 0; i < count; i++)
            if (words[i].size <= SHORT_WORD) __builtin_prefetch(cache_slot(self->cache, words[i].hash, 0));
        for (size_t i = 0; i < count; i++) {
            const cached_word *known =
                words[i].size <= SHORT_WORD ? cache_find(self->cache, words[i].hash, &words[i].word) : NULL;
            if (known) {
                memcpy(out->items + out->count, known->ids, sizeof known->ids); /* a fixed size; what is too much is room */
                out->count += (size_t)known->count;
            } else if (encode_word(self, &words[i], out, error)) {
                return -1;
            }
        }
    }
    return 0;
}
