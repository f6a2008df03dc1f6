/* Training: words are counted by all threads, then merges are made one by one, the counts of pairs kept up to date in the words
 * that hold them.
 *
 * Every merge makes a new token: what happens inside a stretch of text that ends up as one token does not depend on what stands
 * around it, so the same bytes are never joined in two ways. Hence a pair is born in one step, with all words it will ever
 * stand in, goes into the queue once, and is merged at most once. */
#include "tokenizer/internal.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES = 8 << 20 };

struct tokenizer_trainer {
    limn_buffer batch; /* texts that are not counted yet */
    size_t *ends;      /* of each text in the batch */
    size_t texts, capacity;
    unsigned char *classes;
    word_counts *counts; /* one for each thread */
    size_t threads;
};

tokenizer_trainer *tokenizer_trainer_create(limn_error *error) {
    tokenizer_trainer *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->threads = limn_get_threads();
    self->classes = unicode_classes_create(error);
    self->counts = limn_allocate(self->threads, sizeof *self->counts, error);
    if (!self->classes || !self->counts) {
        tokenizer_trainer_free(self);
        return NULL;
    }
    return self;
}

void tokenizer_trainer_free(tokenizer_trainer *self) {
    if (!self) return;
    for (size_t i = 0; self->counts && i < self->threads; i++) word_counts_free(&self->counts[i]);
    free(self->counts);
    free(self->classes);
    free(self->ends);
    limn_buffer_free(&self->batch);
    free(self);
}

static int count_batch(tokenizer_trainer *self, limn_error *error) {
    int failed = 0;
    limn_error failure = {0};
#pragma omp parallel for schedule(dynamic, 256) num_threads((int)self->threads)
    for (size_t i = 0; i < self->texts; i++) {
        word_counts *counts = &self->counts[omp_get_thread_num()];
        limn_error mine = {0};
        size_t start = i ? self->ends[i - 1] : 0, size = self->ends[i];
        while (start < size) {
            size_t end = pretoken_end(self->classes, self->batch.data, size, start);
            const char *word = self->batch.data + start;
            if (word_counts_add(counts, word, end - start, hash_bytes(word, end - start), 1, &mine)) {
#pragma omp critical(limn_tokenizer_count)
                {
                    failed = 1;
                    failure = mine;
                }
                break;
            }
            start = end;
        }
    }
    self->batch.size = 0;
    self->texts = 0;
    return failed ? limn_fail(error, "%s", failure.message) : 0;
}

int tokenizer_trainer_add(tokenizer_trainer *self, const char *text, size_t size, limn_error *error) {
    if (size > TOKENIZER_MAX_TEXT)
        return limn_fail(error, "a text of %zu bytes is longer than the %d that a caption may have", size, TOKENIZER_MAX_TEXT);
    if (size == 0) return 0;
    if (self->texts == self->capacity) {
        size_t capacity = self->capacity ? 2 * self->capacity : 1024;
        size_t *ends = realloc(self->ends, capacity * sizeof *ends);
        if (!ends) return limn_fail(error, "not enough memory for %zu texts", capacity);
        self->ends = ends;
        self->capacity = capacity;
    }
    if (limn_buffer_append(&self->batch, text, size, error)) return -1;
    self->ends[self->texts++] = self->batch.size;
    return self->batch.size >= BATCH_BYTES ? count_batch(self, error) : 0;
}

/* ---------------------------------------------------------------- merging */

typedef struct {
    size_t offset, length; /* its symbols */
    int64_t count;
} training_word;

/* A pair of neighbours: how often it stands in all words, and the words it came to when it was born. */
typedef struct {
    uint64_t pair;
    int64_t count;
    uint32_t *words;
    size_t word_count, word_capacity;
} pair_count;

typedef struct {
    uint64_t pair;
    int64_t count;
    size_t index; /* of the pair_count */
} queue_entry;

typedef struct {
    training_word *words;
    int32_t *symbols;
    pair_count *pairs;
    size_t pair_total, pair_capacity, queued; /* pairs before `queued` are in the queue or were */
    size_t *slots;                            /* index + 1 of a pair */
    size_t slot_mask;
    queue_entry *queue;
    size_t queue_count, queue_capacity;
    string_list tokens; /* bytes of each */
    merge_rule *rules;
    size_t rule_count, rule_capacity;
} training;

static void training_free(training *t) {
    for (size_t i = 0; i < t->pair_total; i++) free(t->pairs[i].words);
    free(t->words);
    free(t->symbols);
    free(t->pairs);
    free(t->slots);
    free(t->queue);
    free(t->rules);
    string_list_free(&t->tokens);
}

/* Room for one more item in a growing array. */
static int make_room(void **items, size_t count, size_t *capacity, size_t size, limn_error *error) {
    if (count < *capacity) return 0;
    size_t more = *capacity ? 2 * *capacity : 4;
    void *fresh = realloc(*items, more * size);
    if (!fresh) return limn_fail(error, "not enough memory for the pairs of the training");
    *items = fresh;
    *capacity = more;
    return 0;
}

static int grow_pair_slots(training *t, limn_error *error) {
    size_t slots = t->slots ? 2 * (t->slot_mask + 1) : 1 << 14;
    size_t *fresh = limn_allocate(slots, sizeof *fresh, error);
    if (!fresh) return -1;
    for (size_t i = 0; i < t->pair_total; i++) {
        size_t slot = (size_t)pair_hash(t->pairs[i].pair) & (slots - 1);
        while (fresh[slot]) slot = (slot + 1) & (slots - 1);
        fresh[slot] = i + 1;
    }
    free(t->slots);
    t->slots = fresh;
    t->slot_mask = slots - 1;
    return 0;
}

static pair_count *find_pair(training *t, uint64_t pair, limn_error *error) {
    if ((!t->slots || 2 * t->pair_total > t->slot_mask) && grow_pair_slots(t, error)) return NULL;
    size_t slot = (size_t)pair_hash(pair) & t->slot_mask;
    for (; t->slots[slot]; slot = (slot + 1) & t->slot_mask)
        if (t->pairs[t->slots[slot] - 1].pair == pair) return &t->pairs[t->slots[slot] - 1];
    if (make_room((void **)&t->pairs, t->pair_total, &t->pair_capacity, sizeof *t->pairs, error)) return NULL;
    t->pairs[t->pair_total++] = (pair_count){.pair = pair};
    t->slots[slot] = t->pair_total;
    return &t->pairs[t->pair_total - 1];
}

static int change_pair(training *t, int32_t left, int32_t right, int64_t change, size_t word, limn_error *error) {
    pair_count *pair = find_pair(t, pair_key(left, right), error);
    if (!pair) return -1;
    pair->count += change;
    if (change < 0 || (pair->word_count && pair->words[pair->word_count - 1] == (uint32_t)word)) return 0;
    if (make_room((void **)&pair->words, pair->word_count, &pair->word_capacity, sizeof *pair->words, error)) return -1;
    pair->words[pair->word_count++] = (uint32_t)word;
    return 0;
}

/* Which entry comes first: the larger count, then the smaller pair. */
static bool goes_before(const queue_entry *a, const queue_entry *b) {
    if (a->count != b->count) return a->count > b->count;
    return a->pair < b->pair;
}

static int queue_push(training *t, queue_entry entry, limn_error *error) {
    if (make_room((void **)&t->queue, t->queue_count, &t->queue_capacity, sizeof *t->queue, error)) return -1;
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

/* Puts the pairs that were born since the last time into the queue. */
static int queue_new_pairs(training *t, limn_error *error) {
    for (; t->queued < t->pair_total; t->queued++) {
        const pair_count *pair = &t->pairs[t->queued];
        if (queue_push(t, (queue_entry){pair->pair, pair->count, t->queued}, error)) return -1;
    }
    return 0;
}

/* Replaces left, right by `result` in one word, from left to right. */
static int merge_in_word(training *t, size_t index, int32_t left, int32_t right, int32_t result, limn_error *error) {
    training_word *word = &t->words[index];
    int32_t *symbols = t->symbols + word->offset;
    size_t length = 0;
    for (size_t i = 0; i < word->length; length++) {
        if (symbols[i] != left || i + 1 == word->length || symbols[i + 1] != right) {
            symbols[length] = symbols[i++];
            continue;
        }
        i += 2;
        symbols[length] = result;
        if (length > 0 && (change_pair(t, symbols[length - 1], left, -word->count, index, error) ||
                           change_pair(t, symbols[length - 1], result, word->count, index, error)))
            return -1;
        if (i < word->length && (change_pair(t, right, symbols[i], -word->count, index, error) ||
                                 change_pair(t, result, symbols[i], word->count, index, error)))
            return -1;
    }
    word->length = length;
    return 0;
}

/* The words of all threads in one table, as symbols; and the first count of every pair. */
static int prepare(training *t, tokenizer_trainer *trainer, limn_error *error) {
    word_counts *all = &trainer->counts[0];
    for (size_t i = 1; i < trainer->threads; i++) {
        word_counts *other = &trainer->counts[i];
        for (size_t w = 0; w < other->count; w++)
            if (word_counts_add(all, other->bytes.data + other->words[w].offset, other->words[w].size, other->words[w].hash,
                                other->words[w].count, error))
                return -1;
        word_counts_free(other);
    }
    if (all->count >= UINT32_MAX) return limn_fail(error, "%zu distinct words are too many to train on", all->count);
    int32_t ids[256];
    for (size_t id = 0; id < t->tokens.count; id++)
        if (string_list_size_at(&t->tokens, id) == 1) ids[(unsigned char)string_list_at(&t->tokens, id)[0]] = (int32_t)id;

    t->words = limn_allocate(all->count + 1, sizeof *t->words, error);
    t->symbols = limn_allocate(all->bytes.size + 1, sizeof *t->symbols, error);
    if (!t->words || !t->symbols) return -1;
    for (size_t i = 0; i < all->bytes.size; i++) t->symbols[i] = ids[(unsigned char)all->bytes.data[i]];
    for (size_t w = 0; w < all->count; w++) {
        t->words[w] = (training_word){all->words[w].offset, all->words[w].size, (int64_t)all->words[w].count};
        const int32_t *symbols = t->symbols + t->words[w].offset;
        for (size_t i = 0; i + 1 < t->words[w].length; i++)
            if (change_pair(t, symbols[i], symbols[i + 1], t->words[w].count, w, error)) return -1;
    }
    return queue_new_pairs(t, error);
}

/* The bytes of two tokens as one more token, whose id is the next. */
static int join_tokens(training *t, int32_t left, int32_t right, limn_buffer *scratch, limn_error *error) {
    const size_t parts[2] = {(size_t)left, (size_t)right};
    scratch->size = 0;
    for (size_t i = 0; i < 2; i++)
        if (limn_buffer_append(scratch, string_list_at(&t->tokens, parts[i]), string_list_size_at(&t->tokens, parts[i]), error))
            return -1;
    return string_list_add(&t->tokens, scratch->data, scratch->size, error);
}

static int make_merges(training *t, size_t vocabulary_size, size_t min_frequency, limn_error *error) {
    limn_progress *progress = limn_progress_start("merges", "tokens", t->tokens.count, vocabulary_size);
    limn_buffer scratch = {0};
    int status = 0;
    while (status == 0 && t->tokens.count < vocabulary_size && t->queue_count) {
        queue_entry top = queue_pop(t);
        pair_count *pair = &t->pairs[top.index];
        if (top.count != pair->count) { /* other merges took some of it since it was queued */
            top.count = pair->count;
            status = queue_push(t, top, error);
            continue;
        }
        if (top.count < 1 || (uint64_t)top.count < min_frequency) break;
        if (limn_stop_requested()) {
            status = limn_fail(error, "stopped while training; run the same command to train anew");
            break;
        }
        int32_t left = (int32_t)(top.pair >> 32), right = (int32_t)(top.pair & UINT32_MAX), result = (int32_t)t->tokens.count;
        status = join_tokens(t, left, right, &scratch, error);
        if (status == 0) status = make_room((void **)&t->rules, t->rule_count, &t->rule_capacity, sizeof *t->rules, error);
        if (status == 0) t->rules[t->rule_count++] = (merge_rule){left, right, result};
        uint32_t *words = pair->words; /* `pair` may move when pairs are born */
        pair->words = NULL;
        for (size_t i = 0, count = pair->word_count; i < count && status == 0; i++)
            status = merge_in_word(t, words[i], left, right, result, error);
        free(words);
        if (status == 0) status = queue_new_pairs(t, error);
        limn_progress_update(progress, t->tokens.count, "%s", "");
    }
    limn_progress_finish(progress);
    limn_buffer_free(&scratch);
    return status;
}

/* The tokenizer of the tokens and rules that came out. */
static tokenizer *build(const training *t, size_t specials, limn_error *error) {
    tokenizer *self = tokenizer_create(error);
    limn_buffer text = {0};
    if (!self) return NULL;
    for (size_t id = 0; id < t->tokens.count; id++) {
        const char *bytes = string_list_at(&t->tokens, id);
        text.size = 0;
        for (size_t i = 0; i < string_list_size_at(&t->tokens, id); i++) {
            char character[4];
            size_t length = limn_utf8_encode(byte_character((unsigned char)bytes[i]), character);
            if (limn_buffer_append(&text, character, length, error)) goto failed;
        }
        if (tokenizer_add_token(self, text.data, text.size, error)) goto failed;
    }
    for (size_t id = 0; id < specials; id++)
        if (tokenizer_add_special(self, &(added_token){.id = (int32_t)id, .special = true}, error)) goto failed;
    if (tokenizer_set_merges(self, t->rules, t->rule_count, error) || tokenizer_complete(self, "the trained tokenizer", error))
        goto failed;
    limn_buffer_free(&text);
    return self;
failed:
    limn_buffer_free(&text);
    tokenizer_free(self);
    return NULL;
}

tokenizer *tokenizer_trainer_finish(tokenizer_trainer *trainer, size_t vocabulary_size, size_t min_frequency,
                                    limn_error *error) {
    static const char *const specials[TOKENIZER_SPECIALS] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
    if (vocabulary_size < TOKENIZER_BASE || vocabulary_size > INT32_MAX) {
        limn_fail_usage(error,
                        "a vocabulary of %zu tokens is not possible: it has %d special ones and bytes, and at most %d tokens",
                        vocabulary_size, TOKENIZER_BASE, INT32_MAX);
        return NULL;
    }
    training t = {0};
    tokenizer *self = NULL;
    unsigned char order[256];
    alphabet_order(order);
    int status = count_batch(trainer, error);
    for (size_t i = 0; i < TOKENIZER_SPECIALS && status == 0; i++)
        status = string_list_add(&t.tokens, specials[i], strlen(specials[i]), error);
    for (size_t i = 0; i < 256 && status == 0; i++) status = string_list_add(&t.tokens, (const char *)&order[i], 1, error);
    if (status == 0) status = prepare(&t, trainer, error);
    if (status == 0) status = make_merges(&t, vocabulary_size, min_frequency, error);
    if (status == 0) self = build(&t, TOKENIZER_SPECIALS, error);
    training_free(&t);
    return self;
}
