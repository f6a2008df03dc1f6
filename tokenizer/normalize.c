/* Captions as DALL·E Mini's encoder was trained on them (see normalizer.h for the steps). */
#include "tokenizer/internal.h"
#include "tokenizer/normalizer.h"
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEPT_MAX = 1 << 20, /* memory of a workspace in bytes that is worth keeping for the next text */
    POOLS = 32          /* so that the threads of a loop do not wait for each other at every caption */
};

/* What one text needs. */
typedef struct workspace {
    struct workspace *next;
    code_list codes, fixed;
    rule_buffers bytes;
} workspace;

/* Workspaces that no thread uses now. */
typedef struct {
    pthread_mutex_t mutex;
    workspace *first;
} workspace_pool;

struct text_normalizer {
    text_fixer *fixer;
    hashtag_words *words;  /* NULL: none */
    workspace_pool *pools; /* (POOLS) */
};

/* ---------------------------------------------------------------- workspaces */

static void workspace_free(workspace *self) {
    codes_free(&self->codes);
    codes_free(&self->fixed);
    limn_buffer_free(&self->bytes.a);
    limn_buffer_free(&self->bytes.b);
    free(self);
}

static workspace_pool *own_pool(const text_normalizer *self) {
    return &self->pools[omp_get_thread_num() % POOLS];
}

static workspace *workspace_take(const text_normalizer *self, limn_error *error) {
    workspace_pool *pool = own_pool(self);
    pthread_mutex_lock(&pool->mutex);
    workspace *taken = pool->first;
    if (taken) pool->first = taken->next;
    pthread_mutex_unlock(&pool->mutex);
    return taken ? taken : limn_allocate(1, sizeof *taken, error);
}

static void workspace_give_back(const text_normalizer *self, workspace *given) {
    workspace_pool *pool = own_pool(self);
    size_t kept =
        (given->codes.capacity + given->fixed.capacity) * sizeof(uint32_t) + given->bytes.a.capacity + given->bytes.b.capacity;
    if (kept > KEPT_MAX) {
        workspace_free(given);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    given->next = pool->first;
    pool->first = given;
    pthread_mutex_unlock(&pool->mutex);
}

/* ---------------------------------------------------------------- making and freeing */

text_normalizer *text_normalizer_create(const char *words_path, limn_error *error) {
    text_normalizer *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->pools = limn_allocate(POOLS, sizeof *self->pools, error);
    for (size_t i = 0; self->pools && i < POOLS; i++) pthread_mutex_init(&self->pools[i].mutex, NULL);
    bool ready = self->pools && (!words_path || (self->words = hashtag_words_read(words_path, error)));
    if (ready && (self->fixer = text_fixer_create(error))) return self;
    text_normalizer_free(self);
    return NULL;
}

void text_normalizer_free(text_normalizer *self) {
    if (!self) return;
    text_fixer_free(self->fixer);
    hashtag_words_free(self->words);
    for (size_t i = 0; self->pools && i < POOLS; i++) {
        for (workspace *space = self->pools[i].first, *next; space; space = next) {
            next = space->next;
            workspace_free(space);
        }
        pthread_mutex_destroy(&self->pools[i].mutex);
    }
    free(self->pools);
    free(self);
}

/* ---------------------------------------------------------------- one text */

/* Lower-cases text that the steps before the rules would leave alone: ASCII without control characters, and no "&" that may
 * begin an entity. False, and nothing done, if it is not such. */
static bool take_short_way(const char *text, size_t size, char *out) {
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x7F || (c < ' ' && c != '\t' && c != '\n' && c != '\f' && c != '\r')) return false;
        if (c == '&' && i + 1 < size && !strchr("\t\n\f <&;", text[i + 1])) return false;
        out[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    return true;
}

static bool has_code(const code_list *text, uint32_t code) {
    for (size_t i = 0; i < text->count; i++)
        if (text->items[i] == code) return true;
    return false;
}

/* ASCII is emoji only with a keycap around it. */
static bool has_emoji(const code_list *text) {
    for (size_t i = 0; i < text->count; i++)
        if (text->items[i] >= 0x80 && (unicode_flags(text->items[i]) & UNICODE_EMOJI)) return true;
    return has_code(text, 0x20E3);
}

/* Runs a step from space->codes to space->fixed, and swaps them. */
static int run_step(workspace *space, int (*step)(const uint32_t *, size_t, code_list *, limn_error *), limn_error *error) {
    space->fixed.count = 0;
    if (step(space->codes.items, space->codes.count, &space->fixed, error)) return -1;
    code_list codes = space->codes;
    space->codes = space->fixed;
    space->fixed = codes;
    return 0;
}

static int take_long_way(const text_normalizer *self, const char *text, size_t size, workspace *space, limn_error *error) {
    code_list *codes = &space->codes;
    space->fixed.count = codes->count = 0;
    if (codes_decode(&space->fixed, text, size, error)) return -1;
    if (text_fix(self->fixer, space->fixed.items, space->fixed.count, codes, error)) return -1;
    for (int i = 0; i < 2; i++)
        if (has_code(codes, '&') && run_step(space, entities_unescape, error)) return -1;
    if (has_emoji(codes) && run_step(space, emoji_name, error)) return -1;
    return codes_transliterate(codes->items, codes->count, &space->bytes.a, error);
}

static uint64_t hash_text(const char *text, size_t size) {
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    return hash;
}

static int normalize(const text_normalizer *self, const char *text, size_t size, workspace *space, limn_buffer *out,
                     limn_error *error) {
    limn_buffer *bytes = &space->bytes.a;
    bytes->size = 0;
    if (limn_buffer_reserve(bytes, size, error)) return -1;
    if (take_short_way(text, size, bytes->data))
        bytes->size = size;
    else if (take_long_way(self, text, size, space, error))
        return -1;
    bool has_tags = memchr(bytes->data, '<', bytes->size) != NULL;
    return rules_apply(self->words, has_tags ? hash_text(text, size) : 0, &space->bytes, out, error);
}

int text_normalize(const text_normalizer *self, const char *text, size_t size, limn_buffer *out, limn_error *error) {
    if (size > TOKENIZER_MAX_TEXT)
        return limn_fail(error, "a text of %zu bytes is no caption; %d is the limit", size, TOKENIZER_MAX_TEXT);
    workspace *space = workspace_take(self, error);
    if (!space) return -1;
    size_t before = out->size;
    int status = normalize(self, text, size, space, out, error);
    if (status) out->size = before;
    workspace_give_back(self, space);
    return status;
}

/* ---------------------------------------------------------------- lines */

static int normalize_line(const line_turning *turning, const char *line, size_t size, size_t readable, line_answer *to) {
    (void)readable;
    if (text_normalize(turning->self, line, size, &to->out, &to->error)) return -1;
    return limn_buffer_append(&to->out, "\n", 1, &to->error);
}

int text_normalize_lines(const text_normalizer *self, const char *path, FILE *out, limn_error *error) {
    return turn_lines(&(line_turning){.self = self, .turn = normalize_line, .out = out}, path, error);
}
