/* Merging the symbols of one pretoken (Sennrich and others, arXiv 1508.07909), and a cache of words that were merged before. */
#include "tokenizer/internal.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- cache */

/* Captions repeat their words, so most are looked up. Entries are never changed or removed once they are there, which makes
 * reading them safe without a lock; a word whose places are all taken is simply merged each time. */
enum { CACHE_SLOTS = 1 << 16, CACHE_PROBES = 4, CACHE_LONGEST = 64 };

typedef struct {
    uint64_t hash;
    size_t size, count;
    int32_t ids[CACHE_LONGEST]; /* only `count` are allocated, and the word's bytes follow */
} cached_word;

struct word_cache {
    _Atomic(cached_word *) slots[CACHE_SLOTS];
};

word_cache *word_cache_create(limn_error *error) {
    return limn_allocate(1, sizeof(word_cache), error);
}

void word_cache_free(word_cache *cache) {
    if (!cache) return;
    for (size_t i = 0; i < CACHE_SLOTS; i++) free(atomic_load_explicit(&cache->slots[i], memory_order_relaxed));
    free(cache);
}

static size_t cached_header(size_t count) {
    return offsetof(cached_word, ids) + count * sizeof(int32_t);
}

static const cached_word *cache_find(word_cache *cache, uint64_t hash, const char *word, size_t size) {
    for (size_t probe = 0; probe < CACHE_PROBES; probe++) {
        const cached_word *entry =
            atomic_load_explicit(&cache->slots[(hash + probe) & (CACHE_SLOTS - 1)], memory_order_acquire);
        if (!entry) return NULL;
        if (entry->hash == hash && entry->size == size &&
            memcmp((const char *)entry + cached_header(entry->count), word, size) == 0)
            return entry;
    }
    return NULL;
}

static void cache_add(word_cache *cache, uint64_t hash, const char *word, size_t size, const int32_t *ids, size_t count) {
    cached_word *entry = NULL;
    for (size_t probe = 0; probe < CACHE_PROBES; probe++) {
        _Atomic(cached_word *) *slot = &cache->slots[(hash + probe) & (CACHE_SLOTS - 1)];
        if (atomic_load_explicit(slot, memory_order_relaxed)) continue;
        if (!entry) {
            entry = malloc(cached_header(count) + size);
            if (!entry) return; /* the cache only saves time */
            entry->hash = hash;
            entry->size = size;
            entry->count = count;
            memcpy(entry->ids, ids, count * sizeof *ids);
            memcpy((char *)entry + cached_header(count), word, size);
        }
        cached_word *empty = NULL;
        if (atomic_compare_exchange_strong_explicit(slot, &empty, entry, memory_order_release, memory_order_relaxed)) return;
    }
    free(entry);
}

uint64_t hash_bytes(const char *data, size_t size) {
    uint64_t hash = 0x9E3779B97F4A7C15u ^ size, part;
    for (; size >= 8; data += 8, size -= 8) {
        memcpy(&part, data, 8);
        hash = (hash ^ part) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    part = 0;
    memcpy(&part, data, size);
    hash = (hash ^ part) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
    hash *= 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 29;
}

/* ---------------------------------------------------------------- merging */

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
static void merge_word(const tokenizer *self, const char *word, size_t size, symbol *symbols, uint64_t *room, id_list *out) {
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

int encode_word(const tokenizer *self, const char *word, size_t size, id_list *out, limn_error *error) {
    if (id_list_reserve(out, size, error)) return -1;
    if (size <= CACHE_LONGEST) {
        uint64_t hash = hash_bytes(word, size);
        const cached_word *known = cache_find(self->cache, hash, word, size);
        if (known) {
            memcpy(out->items + out->count, known->ids, known->count * sizeof(int32_t));
            out->count += known->count;
            return 0;
        }
        symbol symbols[CACHE_LONGEST];
        uint64_t room[2 * CACHE_LONGEST];
        size_t start = out->count;
        merge_word(self, word, size, symbols, room, out);
        cache_add(self->cache, hash, word, size, out->items + start, out->count - start);
        return 0;
    }
    symbol *symbols = limn_allocate(size, sizeof *symbols, error);
    uint64_t *room = symbols ? limn_allocate(size, 2 * sizeof *room, error) : NULL;
    if (room) merge_word(self, word, size, symbols, room, out);
    free(symbols);
    free(room);
    return room ? 0 : -1;
}
