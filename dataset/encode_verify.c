/* limn-encode --verify K: some pictures of a run, looked at again when their shards are written. */
#include "dataset/encode.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t draw; /* of its key; the pictures with the smallest are kept */
    char key[256];
    size_t input, row;
    int32_t *tokens; /* (length) */
    picture pixels;  /* none in fp32 */
} chosen;

struct encode_verifier {
    const encode_kind *kind;
    chosen *list; /* (verify) */
    size_t count;
};

encode_verifier *encode_verifier_create(const encode_kind *kind, limn_error *error) {
    encode_verifier *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->kind = kind;
    self->list = limn_allocate(kind->options->verify, sizeof *self->list, error);
    for (size_t i = 0; self->list && i < kind->options->verify; i++) {
        self->list[i].tokens = limn_allocate(kind->length, sizeof *self->list[i].tokens, error);
        if (self->list[i].tokens) continue;
        encode_verifier_free(self);
        return NULL;
    }
    if (self->list) return self;
    encode_verifier_free(self);
    return NULL;
}

void encode_verifier_free(encode_verifier *self) {
    if (!self) return;
    for (size_t i = 0; self->list && i < self->kind->options->verify; i++) {
        free(self->list[i].tokens);
        picture_free(&self->list[i].pixels);
    }
    free(self->list);
    free(self);
}

/* ---------------------------------------------------------------- choosing */

/* Keeping those with the smallest of evenly spread numbers chooses evenly from a run of unknown length. */
static uint64_t draw_of(const char *key) {
    uint32_t words[4];
    limn_random_block(0, limn_random_stream(key), 0, words);
    return (uint64_t)words[0] << 32 | words[1];
}

/* Where a picture of this draw goes: a free place, that of the largest draw where it is larger, or none. */
static chosen *find_place(encode_verifier *self, uint64_t draw) {
    if (self->count < self->kind->options->verify) return &self->list[self->count++];
    chosen *largest = self->list;
    for (size_t i = 1; i < self->count; i++)
        if (self->list[i].draw > largest->draw) largest = &self->list[i];
    return draw < largest->draw ? largest : NULL;
}

void encode_verifier_offer(encode_verifier *self, encode_sample *sample, size_t input, size_t row, const int32_t *tokens) {
    const uint64_t draw = draw_of(sample->key);
    chosen *place = find_place(self, draw);
    if (!place) return;
    place->draw = draw;
    place->input = input;
    place->row = row;
    memcpy(place->key, sample->key, sizeof place->key);
    memcpy(place->tokens, tokens, self->kind->length * sizeof *tokens);
    if (self->kind->options->precision == PRECISION_FP32) return;
    picture_free(&place->pixels);
    place->pixels = sample->pixels;
    sample->pixels = (picture){0};
}

/* ---------------------------------------------------------------- reading back */

static int compare_places(const void *a, const void *b) {
    const chosen *x = a, *y = b;
    if (x->input != y->input) return x->input < y->input ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static bool row_is(const token_shard *shard, const chosen *one) {
    if (one->row >= shard->count) return false;
    const uint64_t key = shard->key_offsets[one->row], key_end = shard->key_offsets[one->row + 1];
    if (key_end - key != strlen(one->key) || memcmp(shard->key_bytes + key, one->key, key_end - key) != 0) return false;
    const uint16_t *tokens = shard->tokens + one->row * shard->length;
    for (size_t t = 0; t < shard->length; t++)
        if (tokens[t] != one->tokens[t]) return false;
    return true;
}

/* Compares all chosen pictures of one shard, the first `count` of the list. */
static int read_back(const encode_kind *kind, const chosen *list, size_t count, limn_error *error) {
    const encode_options *options = kind->options;
    char path[4096];
    token_shard shard;
    if (encode_output_path(path, sizeof path, options, options->inputs.items[list->input], ".h5", error) ||
        token_shard_read(path, &shard, error))
        return -1;
    int status = 0;
    for (size_t i = 0; status == 0 && i < count; i++)
        if (shard.length != kind->length || !row_is(&shard, &list[i]))
            status =
                limn_fail(error, "%s: row %zu is not what was written for picture %s; check the disk, and make the shard again",
                          path, list[i].row, list[i].key);
    token_shard_free(&shard);
    return status;
}

static int read_all_back(const encode_verifier *self, limn_error *error) {
    for (size_t i = 0, next; i < self->count; i = next) {
        for (next = i + 1; next < self->count && self->list[next].input == self->list[i].input;) next++;
        if (read_back(self->kind, self->list + i, next - i, error)) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- encoding again */

static void count_equal(const encode_kind *kind, const chosen *one, const int32_t *exact, uint64_t *all,
                        encode_summary *summary) {
    size_t equal = 0;
    for (size_t t = 0; t < kind->length; t++) equal += one->tokens[t] == exact[t];
    *all += equal;
    const double share = (double)equal / (double)kind->length;
    if (share >= summary->least_agreement) return;
    summary->least_agreement = share;
    memcpy(summary->least_key, one->key, sizeof summary->least_key);
}

static int encode_again(const encode_verifier *self, encode_summary *summary, limn_error *error) {
    const encode_options *options = self->kind->options;
    encode_vqgan exact;
    if (encode_vqgan_open(&exact, options, PRECISION_FP32, error)) return -1;
    limn_progress *progress = limn_progress_start("verify", "pictures", 0, self->count);
    uint64_t equal = 0;
    int status = 0;
    for (size_t i = 0, some; status == 0 && i < self->count; i += some) {
        some = self->count - i < options->batch ? self->count - i : options->batch;
        if (limn_stop_requested()) status = limn_fail(error, "stopped while verifying; all shards are whole");
        for (size_t k = 0; status == 0 && k < some; k++) encode_vqgan_put(&exact, k, &self->list[i + k].pixels);
        if (status == 0) encode_vqgan_run(&exact, some);
        for (size_t k = 0; status == 0 && k < some; k++)
            count_equal(self->kind, &self->list[i + k], exact.tokens + k * self->kind->length, &equal, summary);
        limn_progress_update(progress, i + some, NULL);
    }
    limn_progress_finish(progress);
    encode_vqgan_close(&exact);
    summary->token_agreement = (double)equal / (double)(self->count * self->kind->length);
    return status;
}

int encode_verifier_run(encode_verifier *self, encode_summary *summary, limn_error *error) {
    qsort(self->list, self->count, sizeof *self->list, compare_places);
    summary->verified = self->count;
    summary->token_agreement = summary->least_agreement = 1;
    if (self->count == 0) return 0;
    memcpy(summary->least_key, self->list[0].key, sizeof summary->least_key);
    if (read_all_back(self, error)) return -1;
    return self->kind->options->precision == PRECISION_FP32 ? 0 : encode_again(self, summary, error);
}
