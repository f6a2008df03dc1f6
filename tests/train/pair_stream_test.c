/* Pairs in batches: the same rows whatever the batch, the machine's rank or the draw that is begun with; files that go away. */
#include "pairs.h"
#include "tests/scratch.h"
#include "train/pair_stream.h"

#include <math.h>
#include <sys/stat.h>

enum { S = 40, SHARDS = 6, EACH = 20, TOTAL = SHARDS * EACH, BUFFER = 45, DRAWS = 3 * TOTAL };

typedef struct {
    char folder[1024];
    pair_set set;
    caption_encoder captions;
} world;

static const char *shard_path(const world *self, size_t i) {
    static char path[1100];
    snprintf(path, sizeof path, "%s/%zu.h5", self->folder, i);
    return path;
}

static int make_world(void **state) {
    world *self = calloc(1, sizeof *self);
    limn_error error = {0};
    const char *folder = self->folder;
    limn_strings given = {1, &folder};
    pair_needs needs = {.length = PAIR_LENGTH, .codebook_size = PAIR_CODES, .vqgan_sha256 = PAIR_SHA256};
    tokenizer_trainer *trainer = tokenizer_trainer_create(&error);
    *state = self;
    snprintf(self->folder, sizeof self->folder, "%s/world-XXXXXX", scratch_folder);
    assert_non_null(mkdtemp(self->folder));
    for (size_t i = 0; i < SHARDS; i++) pairs_write_shard(shard_path(self, i), i * EACH, EACH);
    if (pair_set_open(&self->set, &given, &needs, &error)) fail_msg("%s", error.message);
    self->captions.tokenizer = tokenizer_trainer_finish(trainer, TOKENIZER_BASE, 2, &error);
    tokenizer_trainer_free(trainer);
    assert_non_null(self->captions.tokenizer);
    return 0;
}

static int remove_world(void **state) {
    world *self = *state;
    pair_set_close(&self->set);
    caption_encoder_free(&self->captions);
    free(self);
    return 0;
}

static pair_stream_options options_of(const world *self) {
    return (pair_stream_options){.set = &self->set,
                                 .captions = &self->captions,
                                 .text_length = S,
                                 .shuffled = true,
                                 .buffer = BUFFER,
                                 .seed = 5,
                                 .condition_dropout = 0.25,
                                 .stride = 8,
                                 .rows = 8,
                                 .ahead = 32};
}

static pair_stream *must_open(const pair_stream_options *options) {
    limn_error error = {0};
    pair_stream *stream = pair_stream_open(options, &error);
    if (!stream) fail_msg("%s", error.message);
    return stream;
}

typedef struct {
    int32_t ids[S], mask[S], labels[PAIR_LENGTH];
} row;

static int fill(pair_stream *stream, uint64_t draw, size_t rows, row *out, limn_error *error) {
    int32_t ids[32 * S], mask[32 * S], labels[32 * PAIR_LENGTH];
    *error = (limn_error){0};
    if (pair_stream_fill(stream, draw, rows, ids, mask, labels, error)) return -1;
    for (size_t i = 0; i < rows; i++) {
        memcpy(out[i].ids, ids + i * S, sizeof out[i].ids);
        memcpy(out[i].mask, mask + i * S, sizeof out[i].mask);
        memcpy(out[i].labels, labels + i * PAIR_LENGTH, sizeof out[i].labels);
    }
    return 0;
}

static void must_fill(pair_stream *stream, uint64_t draw, size_t rows, row *out) {
    limn_error error;
    if (fill(stream, draw, rows, out, &error)) fail_msg("%s", error.message);
}

/* What the order, the seed and the files say, by the shortest way. */
static void expected_row(const world *self, const pair_stream_options *options, pair_order *order, uint64_t draw, row *out) {
    pair_group group;
    uint64_t places[TOTAL];
    pair_order_find(order, draw, &group);
    pair_order_places(order, &group, places);
    uint64_t place = places[draw - group.first];
    size_t id = (size_t)(group.shards[place / EACH] * EACH + place % EACH);
    for (size_t t = 0; t < PAIR_LENGTH; t++) out->labels[t] = (int32_t)((id + t) % PAIR_CODES);
    uint32_t choice = limn_random_u32(options->seed, limn_random_stream("caption choice"), draw);
    float blank = limn_random_uniform(options->seed, limn_random_stream("blank captions"), draw);
    char text[64] = "";
    if (blank >= (float)options->condition_dropout) pairs_caption(text, id, options->shuffled ? choice % (1 + id % 3) : 0);
    assert_int_equal(tokenizer_encode_caption(self->captions.tokenizer, text, strlen(text), out->ids, out->mask, S, NULL), 0);
}

static row *expected_rows(const world *self, const pair_stream_options *options) {
    pair_order order;
    row *out = calloc(DRAWS, sizeof *out);
    assert_int_equal(
        pair_order_create(&order, self->set.pairs, self->set.count, options->shuffled, options->buffer, options->seed, NULL),
        0);
    for (uint64_t draw = 0; draw < DRAWS; draw++) expected_row(self, options, &order, draw, &out[draw]);
    pair_order_free(&order);
    return out;
}

static void rows_do_not_depend_on_the_batch(void **state) {
    const world *self = *state;
    pair_stream_options options = options_of(self);
    row *expected = expected_rows(self, &options), got[32];
    for (size_t rows = 1; rows <= 32; rows += 5) {
        options.stride = options.rows = rows;
        pair_stream *stream = must_open(&options);
        for (uint64_t draw = 0; draw + rows <= DRAWS; draw += rows) {
            must_fill(stream, draw, rows, got);
            assert_memory_equal(got, expected + draw, rows * sizeof *got);
        }
        pair_stream_close(stream);
    }
    size_t blank = 0;
    for (size_t i = 0; i < DRAWS; i++) blank += !expected[i].mask[2];
    assert_in_range(blank, DRAWS / 8, DRAWS / 2);
    free(expected);
}

/* Of a set that fits in the buffer every epoch is shuffled anew, though it is read once. */
static void a_small_set_is_read_once(void **state) {
    const world *self = *state;
    pair_stream_options options = options_of(self);
    options.buffer = TOTAL;
    row *expected = expected_rows(self, &options), got[8];
    pair_stream *stream = must_open(&options);
    for (uint64_t draw = 0; draw + 8 <= DRAWS; draw += 8) {
        must_fill(stream, draw, 8, got);
        assert_memory_equal(got, expected + draw, sizeof got);
        if (draw == 0)
            for (size_t i = 0; i < SHARDS; i++) assert_int_equal(unlink(shard_path(self, i)), 0);
    }
    assert_int_equal(pair_stream_pairs_peak(stream), TOTAL);
    pair_stream_close(stream);
    free(expected);
}

static void any_draw_can_be_begun_with(void **state) {
    const world *self = *state;
    pair_stream_options options = options_of(self);
    row *expected = expected_rows(self, &options), got[8];
    pair_stream *stream = must_open(&options);
    for (size_t i = 0; i < 60; i++) {
        uint64_t draw = limn_random_below(1, 2, i, DRAWS - 16);
        for (size_t again = 0; again < 1 + i % 2; again++) {
            must_fill(stream, draw + again * 8, 8, got);
            assert_memory_equal(got, expected + draw + again * 8, sizeof got);
        }
    }
    pair_stream_close(stream);
    free(expected);
}

/* More machines than shards, and a batch that does not divide an epoch. */
static void ranks_share_a_batch(void **state) {
    const world *self = *state;
    for (size_t ranks = 1; ranks <= SHARDS + 3; ranks += 4) {
        enum { B = 3 };
        pair_stream_options options = options_of(self);
        row *expected = expected_rows(self, &options), got[B];
        for (size_t rank = 0; rank < ranks; rank++) {
            options.stride = ranks * B;
            options.offset = rank * B;
            options.rows = B;
            pair_stream *stream = must_open(&options);
            for (uint64_t first = 0; first + ranks * B <= DRAWS; first += ranks * B) {
                must_fill(stream, first + rank * B, B, got);
                assert_memory_equal(got, expected + first + rank * B, sizeof got);
            }
            if (ranks > 1) {
                limn_error error;
                assert_int_equal(fill(stream, (rank + 1) % ranks * B, B, got, &error), -1);
                assert_contains(error.message, "not this stream's");
            }
            pair_stream_close(stream);
        }
        free(expected);
    }
}

static void memory_is_two_groups(void **state) {
    const world *self = *state;
    pair_stream_options options = options_of(self);
    row got[8];
    pair_stream *stream = must_open(&options);
    for (uint64_t draw = 0; draw + 8 <= DRAWS; draw += 8) must_fill(stream, draw, 8, got);
    assert_true(pair_stream_pairs_peak(stream) <= 2 * BUFFER);
    assert_true(pair_stream_pairs_peak(stream) >= 2 * EACH); /* the next is there before the last is used up */
    assert_true(pair_stream_waited(stream) > 0);             /* for the first rows at least */
    pair_stream_close(stream);
}

static void kept_sets_come_as_they_lie(void **state) {
    const world *self = *state;
    pair_stream_options options = options_of(self);
    options.shuffled = false;
    options.buffer = 0;
    options.condition_dropout = 0;
    options.stride = options.rows = 1;
    row *expected = expected_rows(self, &options), got[32];
    assert_int_equal(expected[TOTAL + 7].labels[0], 7);
    pair_stream *stream = must_open(&options);
    for (uint64_t draw = 0; draw < DRAWS;) {
        size_t left = (size_t)(TOTAL - draw % TOTAL), rows = left < 32 ? left : 32;
        must_fill(stream, draw, rows, got);
        assert_memory_equal(got, expected + draw, rows * sizeof *got);
        draw += rows;
    }
    assert_true(pair_stream_pairs_peak(stream) <= 2 * EACH);
    pair_stream_close(stream);
    free(expected);
}

typedef void (*accident)(const char *path);
static void delete_it(const char *path) {
    assert_int_equal(unlink(path), 0);
}
static void cut_it(const char *path) {
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(truncate(path, status.st_size * 2 / 3), 0);
}
static void replace_it(const char *path) {
    pairs_write_shard(path, 0, EACH + 1);
}

/* One shard of an epoch after the first goes wrong. Rows before it come, then one error, and when it is back all goes on. */
static void survive(const world *self, accident happen) {
    pair_stream_options options = options_of(self);
    options.buffer = EACH; /* a group is a shard */
    row *expected = expected_rows(self, &options), got[8];
    pair_order order;
    pair_group group;
    limn_error error;
    assert_int_equal(pair_order_create(&order, self->set.pairs, self->set.count, true, options.buffer, options.seed, NULL), 0);
    pair_order_find(&order, 4 * EACH, &group);
    size_t bad = (size_t)group.shards[0];
    pair_stream *stream = must_open(&options);
    must_fill(stream, 0, 8, got);
    happen(shard_path(self, bad));
    uint64_t draw = 8, fails = 0;
    for (; draw + 8 <= DRAWS; draw += 8) {
        if (fill(stream, draw, 8, got, &error)) {
            fails++;
            assert_in_range(group.first, draw - 8, draw + 7); /* not before its rows are asked for */
            assert_contains(error.message, shard_path(self, bad));
            assert_int_equal(fill(stream, draw, 8, got, &error), -1); /* and again, while it is away */
            assert_contains(error.message, shard_path(self, bad));
            pairs_write_shard(shard_path(self, bad), bad * EACH, EACH);
            must_fill(stream, draw, 8, got);
        }
        assert_memory_equal(got, expected + draw, sizeof got);
    }
    assert_int_equal(fails, 1);
    pair_stream_close(stream);
    pair_order_free(&order);
    free(expected);
}

static void a_shard_deleted(void **state) {
    survive(*state, delete_it);
}
static void a_shard_cut_short(void **state) {
    survive(*state, cut_it);
}
static void a_shard_replaced(void **state) {
    survive(*state, replace_it);
}

static void wrong_patterns_are_refused(void **state) {
    const world *self = *state;
    limn_error error = {0};
    pair_stream_options options = options_of(self);
    options.offset = 1; /* rows 1 … 8 of 8 */
    assert_null(pair_stream_open(&options, &error));
    assert_contains(error.message, "cannot be taken");
    options = options_of(self);
    options.ahead = 4;
    pair_stream *stream = must_open(&options);
    row got[8];
    assert_int_equal(fill(stream, 0, 8, got, &error), -1);
    pair_stream_close(stream);
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, make_world, remove_world)

int main(void) {
    limn_set_log_level(LIMN_LOG_QUIET);
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(rows_do_not_depend_on_the_batch),
        IN_A_WORLD(a_small_set_is_read_once),
        IN_A_WORLD(any_draw_can_be_begun_with),
        IN_A_WORLD(ranks_share_a_batch),
        IN_A_WORLD(memory_is_two_groups),
        IN_A_WORLD(kept_sets_come_as_they_lie),
        IN_A_WORLD(a_shard_deleted),
        IN_A_WORLD(a_shard_cut_short),
        IN_A_WORLD(a_shard_replaced),
        IN_A_WORLD(wrong_patterns_are_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
