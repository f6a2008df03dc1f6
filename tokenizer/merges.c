/* The merges of a training, one by one, the counts of pairs kept up to date in the words that hold them.
 *
 * Every merge makes a new token: what happens inside a stretch of text that ends up as one token does not depend on what stands
 * around it, so the same bytes are never joined in two ways. Hence a pair is born in one step, with all words it will ever
 * stand in; from then on its count only falls. So it goes into the queue once, its list of words has a fixed size, and a pair
 * that is born too rare is forgotten at once. */
#include "tokenizer/internal.h"
#include <stdlib.h>
#include <string.h>

/* A pair of neighbours: how often it stands in all words, and the words it was born in (places in `stream`). */
typedef struct {
    uint64_t pair;
    int64_t count;
    uint32_t *words;
    size_t word_count;
} pair_entry;

typedef struct {
    int64_t count;
    uint64_t pair;
} queue_entry;

/* A symbol beside the pair that is being merged: how often, and in how many words. */
typedef struct {
    int64_t weight;
    uint32_t last;  /* the last of these words */
    uint32_t words; /* how many; later how many are in the list */
    uint32_t *list; /* of the pair that is born of it */
} neighbour;
typedef struct {
    uint32_t symbol, word;
} sighting;
typedef struct {
    neighbour *of; /* each symbol */
    size_t room;
    int32_t *touched; /* symbols with a weight */
    size_t touched_count, touched_room;
    sighting *sightings;
    size_t sighting_count, sighting_room;
} side;
enum { BEFORE, AFTER };

/* A word in the stream: its length, its count in two halves, its symbols. */
enum { WORD_HEADER = 3 };

typedef struct {
    int32_t *stream;   /* begins at 1, so that 0 is no word */
    pair_entry *pairs; /* open addressing; pair 0: empty */
    size_t pair_count, pair_mask;
    queue_entry *queue;
    size_t queue_count, queue_room;
    side sides[2];
    int64_t least; /* rarer pairs are never merged */
    merge_list *merges;
    string_list *tokens;
    limn_error *error;
} training;

static void training_free(training *t) {
    for (size_t i = 0; t->pairs && i <= t->pair_mask; i++) free(t->pairs[i].words);
    free(t->pairs);
    free(t->stream);
    free(t->queue);
    for (size_t s = 0; s < 2; s++) {
        free(t->sides[s].of);
        free(t->sides[s].touched);
        free(t->sides[s].sightings);
    }
}

/* Room for one more item in a growing array. */
static int make_room(void **items, size_t count, size_t *room, size_t size, limn_error *error) {
    if (count < *room) return 0;
    size_t more = *room ? 2 * *room : 64;
    void *fresh = realloc(*items, more * size);
    if (!fresh) return limn_fail(error, "not enough memory for the pairs of the training");
    *items = fresh;
    *room = more;
    return 0;
}

/* ---------------------------------------------------------------- the table of pairs */

/* The entry of the pair, or the empty one where it would be. No pair is 0: symbols of pairs are bytes or merges. */
static pair_entry *find_pair(const training *t, uint64_t pair) {
    size_t slot = (size_t)pair_hash(pair) & t->pair_mask;
    while (t->pairs[slot].pair && t->pairs[slot].pair != pair) slot = (slot + 1) & t->pair_mask;
    return &t->pairs[slot];
}

static int grow_pairs(training *t) {
    training grown = {.pair_mask = t->pairs ? 2 * t->pair_mask + 1 : (1 << 14) - 1};
    grown.pairs = limn_allocate(grown.pair_mask + 1, sizeof *grown.pairs, t->error);
    if (!grown.pairs) return -1;
    for (size_t i = 0; t->pairs && i <= t->pair_mask; i++)
        if (t->pairs[i].pair) *find_pair(&grown, t->pairs[i].pair) = t->pairs[i];
    free(t->pairs);
    t->pairs = grown.pairs;
    t->pair_mask = grown.pair_mask;
    return 0;
}

/* ---------------------------------------------------------------- the queue */

/* Which entry comes first: the larger count, then the smaller pair. */
static bool goes_before(const queue_entry *a, const queue_entry *b) {
    if (a->count != b->count) return a->count > b->count;
    return a->pair < b->pair;
}

static int queue_push(training *t, queue_entry entry) {
    if (make_room((void **)&t->queue, t->queue_count, &t->queue_room, sizeof *t->queue, t->error)) return -1;
    size_t place = t->queue_count++;
    for (; place > 0 && goes_before(&entry, &t->queue[(place - 1) / 2]); place = (place - 1) / 2)
        t->queue[place] = t->queue[(place - 1) / 2];
    t->queue[place] = entry;
    return 0;
}

static queue_entry queue_pop(training *t) {
    queue_entry top = t->queue[0], last = t->queue[--t->queue_count];
    size_t place = 0, child;
    for (; (child = 2 * place + 1) < t->queue_count; place = child) {
        if (child + 1 < t->queue_count && goes_before(&t->queue[child + 1], &t->queue[child])) child++;
        if (!goes_before(&t->queue[child], &last)) break;
        t->queue[place] = t->queue[child];
    }
    t->queue[place] = last;
    return top;
}

/* A pair that occurs often enough: into the table and the queue, with an empty list for its words. */
static uint32_t *add_pair(training *t, int32_t left, int32_t right, int64_t count, size_t words) {
    if ((!t->pairs || 2 * t->pair_count > t->pair_mask) && grow_pairs(t)) return NULL;
    uint64_t key = pair_key(left, right);
    uint32_t *list = malloc(words * sizeof *list);
    if (!list) {
        limn_fail(t->error, "not enough memory for the words of a pair");
        return NULL;
    }
    *find_pair(t, key) = (pair_entry){key, count, list, words};
    t->pair_count++;
    return queue_push(t, (queue_entry){count, key}) ? NULL : list;
}

/* ---------------------------------------------------------------- one merge */

/* The symbol stands on this side of a merged pair in the word. */
static int see_neighbour(training *t, side *s, int32_t symbol, int64_t weight, uint32_t word) {
    neighbour *seen = &s->of[symbol];
    if (!seen->weight) {
        if (make_room((void **)&s->touched, s->touched_count, &s->touched_room, sizeof *s->touched, t->error)) return -1;
        s->touched[s->touched_count++] = symbol;
    }
    seen->weight += weight;
    if (seen->last == word) return 0;
    seen->last = word;
    seen->words++;
    if (make_room((void **)&s->sightings, s->sighting_count, &s->sighting_room, sizeof *s->sightings, t->error)) return -1;
    s->sightings[s->sighting_count++] = (sighting){(uint32_t)symbol, word};
    return 0;
}

/* Replaces left, right by `result` in one word, from left to right. */
static int merge_in_word(training *t, uint32_t place, const merge_rule *rule) {
    int32_t *word = t->stream + place, *symbols = word + WORD_HEADER;
    int64_t weight;
    size_t length = (size_t)word[0], kept = 0;
    memcpy(&weight, word + 1, sizeof weight);
    for (size_t i = 0; i < length; kept++) {
        if (symbols[i] != rule->left || i + 1 == length || symbols[i + 1] != rule->right) {
            symbols[kept] = symbols[i++];
            continue;
        }
        i += 2;
        symbols[kept] = rule->result;
        if ((kept > 0 && see_neighbour(t, &t->sides[BEFORE], symbols[kept - 1], weight, place)) ||
            (i < length && see_neighbour(t, &t->sides[AFTER], symbols[i], weight, place)))
            return -1;
    }
    word[0] = (int32_t)kept;
    return 0;
}

static void count_down(training *t, int32_t left, int32_t right, int64_t weight) {
    pair_entry *entry = find_pair(t, pair_key(left, right));
    if (entry->pair) entry->count -= weight;
}

/* The neighbours' old pairs become rarer, and their new ones are born. */
static int settle(training *t, const merge_rule *rule) {
    side *before = &t->sides[BEFORE], *after = &t->sides[AFTER];
    for (size_t i = 0; i < before->touched_count; i++)
        count_down(t, before->touched[i], rule->left, before->of[before->touched[i]].weight);
    for (size_t i = 0; i < after->touched_count; i++)
        count_down(t, rule->right, after->touched[i], after->of[after->touched[i]].weight);
    /* In left right left right, the second merge takes back a pair result left that the first has made. */
    after->of[rule->left].weight -= before->of[rule->result].weight;

    for (size_t which = 0; which < 2; which++) {
        side *s = &t->sides[which];
        for (size_t i = 0; i < s->touched_count; i++) {
            int32_t symbol = s->touched[i];
            neighbour *seen = &s->of[symbol];
            if (seen->weight < t->least) continue;
            seen->list = add_pair(t, which == BEFORE ? symbol : rule->result, which == BEFORE ? rule->result : symbol,
                                  seen->weight, seen->words);
            if (!seen->list) return -1;
            seen->words = 0;
        }
        for (size_t i = 0; i < s->sighting_count; i++) {
            neighbour *seen = &s->of[s->sightings[i].symbol];
            if (seen->list) seen->list[seen->words++] = s->sightings[i].word;
        }
        for (size_t i = 0; i < s->touched_count; i++) s->of[s->touched[i]] = (neighbour){0};
        s->touched_count = s->sighting_count = 0;
    }
    return 0;
}

/* The bytes of two tokens as one more token, whose id is the next. */
static int join_tokens(training *t, int32_t left, int32_t right, limn_buffer *scratch) {
    const size_t parts[2] = {(size_t)left, (size_t)right};
    scratch->size = 0;
    for (size_t i = 0; i < 2; i++)
        if (limn_buffer_append(scratch, string_list_at(t->tokens, parts[i]), string_list_size_at(t->tokens, parts[i]),
                               t->error))
            return -1;
    return string_list_add(t->tokens, scratch->data, scratch->size, t->error);
}

/* A neighbour for each symbol that there is. */
static int grow_sides(training *t) {
    for (size_t which = 0; which < 2; which++) {
        side *s = &t->sides[which];
        if (t->tokens->count < s->room) continue;
        size_t room = 2 * t->tokens->count;
        neighbour *of = realloc(s->of, room * sizeof *of);
        if (!of) return limn_fail(t->error, "not enough memory for %zu symbols", room);
        memset(of + s->room, 0, (room - s->room) * sizeof *of);
        s->of = of;
        s->room = room;
    }
    return 0;
}

static int merge_pair(training *t, pair_entry *entry, limn_buffer *scratch) {
    enum { AHEAD = 8 };
    merge_rule rule = {(int32_t)(entry->pair >> 32), (int32_t)(entry->pair & UINT32_MAX), (int32_t)t->tokens->count};
    uint32_t *words = entry->words;
    size_t count = entry->word_count;
    entry->words = NULL; /* the entry may move when pairs are born */
    int status = join_tokens(t, rule.left, rule.right, scratch);
    if (status == 0) status = grow_sides(t);
    if (status == 0) status = make_room((void **)&t->merges->rules, t->merges->count, &t->merges->room, sizeof rule, t->error);
    if (status == 0) t->merges->rules[t->merges->count++] = rule;
    for (size_t i = 0; i < count && status == 0; i++) {
        if (i + AHEAD < count) __builtin_prefetch(t->stream + words[i + AHEAD], 1);
        status = merge_in_word(t, words[i], &rule);
    }
    free(words);
    return status ? -1 : settle(t, &rule);
}

/* ---------------------------------------------------------------- from words to pairs */

static void put_word(int32_t **end, const char *bytes, size_t size, uint64_t count, const int32_t ids[256]) {
    if (size < 2) return;
    (*end)[0] = (int32_t)size;
    memcpy(*end + 1, &count, sizeof count);
    for (size_t i = 0; i < size; i++) (*end)[WORD_HEADER + i] = ids[(unsigned char)bytes[i]];
    *end += WORD_HEADER + size;
}

/* All words that have pairs, as symbols. */
static int make_stream(training *t, const word_counts *words, int32_t **end) {
    int32_t ids[256];
    for (size_t id = 0; id < t->tokens->count; id++)
        if (string_list_size_at(t->tokens, id) == 1) ids[(unsigned char)string_list_at(t->tokens, id)[0]] = (int32_t)id;
    size_t size = 1 + words->long_bytes.size + WORD_HEADER * words->long_total;
    for (size_t i = 0; words->shorts && i <= words->short_mask; i++)
        if (words->shorts[i].count) size += WORD_HEADER + short_word_size(&words->shorts[i].word);
    if (size > UINT32_MAX) return limn_fail(t->error, "the distinct words have %zu bytes, too many to train on", size);
    t->stream = limn_allocate(size, sizeof *t->stream, t->error);
    if (!t->stream) return -1;
    *end = t->stream + 1;
    for (size_t i = 0; words->shorts && i <= words->short_mask; i++)
        if (words->shorts[i].count)
            put_word(end, (const char *)&words->shorts[i].word, short_word_size(&words->shorts[i].word), words->shorts[i].count,
                     ids);
    for (size_t i = 0; i < words->long_total; i++)
        put_word(end, words->long_bytes.data + words->longs[i].offset, words->longs[i].size, words->longs[i].count, ids);
    return 0;
}

/* Every pair of bytes: first counted, then its words are listed. All symbols are bytes' yet. */
static int count_pairs(training *t, const int32_t *end) {
    const size_t bases = t->tokens->count;
    neighbour *pairs = limn_allocate(bases * bases, sizeof *pairs, t->error);
    if (!pairs) return -1;
    int status = 0;
    for (int pass = 0; pass < 2 && status == 0; pass++) {
        for (const int32_t *word = t->stream + 1; word < end; word += WORD_HEADER + word[0]) {
            uint32_t place = (uint32_t)(word - t->stream);
            int64_t weight;
            memcpy(&weight, word + 1, sizeof weight);
            for (const int32_t *symbol = word + WORD_HEADER; symbol + 1 < word + WORD_HEADER + word[0]; symbol++) {
                neighbour *pair = &pairs[(size_t)symbol[0] * bases + (size_t)symbol[1]];
                if (pass == 0) pair->weight += weight;
                if (pair->last == place) continue;
                pair->last = place;
                if (pair->list) pair->list[pair->words] = place;
                pair->words++;
            }
        }
        for (size_t i = 0; i < bases * bases && status == 0 && pass == 0; i++) {
            if (pairs[i].weight >= t->least) {
                pairs[i].list = add_pair(t, (int32_t)(i / bases), (int32_t)(i % bases), pairs[i].weight, pairs[i].words);
                if (!pairs[i].list) status = -1;
            }
            pairs[i].last = pairs[i].words = 0;
        }
    }
    free(pairs);
    return status;
}

/* ---------------------------------------------------------------- all merges */

int make_merges(const word_counts *words, size_t vocabulary_size, size_t min_frequency, string_list *tokens, merge_list *merges,
                limn_error *error) {
    training t = {.least = min_frequency < 1           ? 1
                           : min_frequency > INT64_MAX ? INT64_MAX
                                                       : (int64_t)min_frequency,
                  .merges = merges,
                  .tokens = tokens,
                  .error = error};
    limn_buffer scratch = {0};
    int32_t *end = NULL;
    int status = make_stream(&t, words, &end) || count_pairs(&t, end) ? -1 : 0;
    limn_progress *progress = limn_progress_start("merges", "tokens", tokens->count, vocabulary_size);
    while (status == 0 && tokens->count < vocabulary_size && t.queue_count) {
        queue_entry top = queue_pop(&t);
        pair_entry *entry = find_pair(&t, top.pair);
        if (entry->count < top.count) { /* other merges took some of it since it was queued */
            top.count = entry->count;
            if (top.count >= t.least) status = queue_push(&t, top);
        } else if (limn_stop_requested()) {
            status = limn_fail(error, "stopped while training; run the same command to train anew");
        } else {
            status = merge_pair(&t, entry, &scratch);
            limn_progress_update(progress, tokens->count, "%s", "");
        }
    }
    limn_progress_finish(progress);
    limn_buffer_free(&scratch);
    training_free(&t);
    return status;
}
