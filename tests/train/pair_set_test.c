/* Which pairs a training has: counting, filters, and files that are not what they should be. */
#include "pairs.h"
#include "tests/scratch.h"
#include "train/pair_set.h"

#include <math.h>
#include <sys/stat.h>
#include <zlib.h>

static const pair_needs NEEDS = {.length = PAIR_LENGTH, .codebook_size = PAIR_CODES, .vqgan_sha256 = PAIR_SHA256};

/* A folder of its own with three shards, of which the second is empty: pictures 0-19, none, 20-24. */
static const char *make_folder(const char *name) {
    char path[1100];
    const char *folder = scratch_path(name);
    assert_int_equal(mkdir(folder, 0777), 0);
    static const size_t counts[] = {20, 0, 5};
    for (size_t i = 0, first = 0; i < 3; first += counts[i++]) {
        snprintf(path, sizeof path, "%s/%zu.h5", folder, i);
        pairs_write_shard(path, first, counts[i]);
    }
    return folder;
}

static int open_one(pair_set *set, const char *given, const pair_needs *needs, limn_error *error) {
    limn_strings patterns = {1, &given};
    *error = (limn_error){0};
    return pair_set_open(set, &patterns, needs, error);
}

static pair_set must_open(const char *given, const pair_needs *needs) {
    pair_set set;
    limn_error error;
    if (open_one(&set, given, needs, &error)) fail_msg("%s", error.message);
    return set;
}

static void refuse(const char *given, const pair_needs *needs, int exit_code, const char *words) {
    pair_set set;
    limn_error error;
    assert_int_equal(open_one(&set, given, needs, &error), -1);
    assert_contains(error.message, words);
    assert_int_equal(error.exit_code, exit_code);
}

static pair_block must_read(const pair_set *set, const uint64_t *numbers, size_t count, uint64_t pairs) {
    pair_block block;
    limn_error error = {0};
    if (pair_set_read(set, numbers, count, pairs, &block, &error)) fail_msg("%s", error.message);
    assert_int_equal(block.count, pairs);
    return block;
}

static void assert_pair(const pair_block *block, size_t n, size_t id) {
    assert_int_equal(block->tokens[n * PAIR_LENGTH], id % PAIR_CODES);
    assert_int_equal(block->tokens[n * PAIR_LENGTH + 3], (id + 3) % PAIR_CODES);
    for (size_t choice = 0; choice < 7; choice++) {
        char expected[64];
        size_t size;
        pairs_caption(expected, id, choice % (1 + id % 3));
        const char *got = pair_block_caption(block, n, choice, &size);
        assert_int_equal(size, strlen(expected));
        assert_memory_equal(got, expected, size);
    }
}

static void shards_are_counted_and_read(void **state) {
    (void)state;
    pair_set set = must_open(make_folder("counted"), &NEEDS);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.total, 25);
    assert_int_equal(set.left_out, 0);
    assert_int_equal(set.pairs[1], 0);
    pair_block block = must_read(&set, (uint64_t[]){0, 1, 2}, 3, 25);
    for (size_t id = 0; id < 25; id++) assert_pair(&block, id, id);
    pair_block_free(&block);
    block = must_read(&set, (uint64_t[]){2}, 1, 5);
    for (size_t n = 0; n < 5; n++) assert_pair(&block, n, 20 + n);
    pair_block_free(&block);
    pair_set_close(&set);
}

static void lines_are_the_same_as_shards(void **state) {
    (void)state;
    enum { COUNT = 8192 * 2 + 100 }; /* more than is read at once */
    const char *lines = scratch_path("same.jsonl"), *shard = scratch_path("same.h5");
    pairs_write_lines(lines, 0, COUNT);
    pairs_write_shard(shard, 0, COUNT);
    pair_needs needs = NEEDS;
    for (size_t filtered = 0; filtered < 2; filtered++) {
        pair_set sets[2] = {must_open(lines, &needs), must_open(shard, &needs)};
        assert_int_equal(sets[0].count, 3);
        assert_int_equal(sets[0].total, sets[1].total);
        assert_int_equal(sets[0].left_out, sets[1].left_out);
        uint64_t zero = 0;
        pair_block blocks[2] = {must_read(&sets[0], (uint64_t[]){0, 1, 2}, 3, sets[0].total),
                                must_read(&sets[1], &zero, 1, sets[1].total)};
        assert_memory_equal(blocks[0].tokens, blocks[1].tokens, sets[0].total * PAIR_LENGTH * sizeof(uint16_t));
        assert_int_equal(blocks[0].bytes.size, blocks[1].bytes.size);
        assert_memory_equal(blocks[0].bytes.data, blocks[1].bytes.data, blocks[0].bytes.size);
        for (size_t i = 0; i < 2; i++) {
            pair_block_free(&blocks[i]);
            pair_set_close(&sets[i]);
        }
        needs.filters.list[needs.filters.count++] = (pair_filter){"clip_score", "here", 0.45, INFINITY};
    }
}

static void packed_lines_are_read(void **state) {
    (void)state;
    const char *plain = scratch_path("unpacked.jsonl"), *packed = scratch_path("packed.jsonl.gz");
    pairs_write_lines(plain, 7, 50);
    size_t size;
    char *text = limn_file_read(plain, 1 << 20, &size, NULL);
    gzFile file = gzopen(packed, "wb");
    assert_int_equal(gzwrite(file, text, (unsigned)size), size);
    assert_int_equal(gzclose(file), Z_OK);
    free(text);
    pair_set set = must_open(packed, &NEEDS);
    assert_int_equal(set.count, 1);
    pair_block block = must_read(&set, (uint64_t[]){0}, 1, 50);
    for (size_t n = 0; n < 50; n++) assert_pair(&block, n, 7 + n);
    pair_block_free(&block);
    pair_set_close(&set);

    struct stat status;
    assert_int_equal(stat(packed, &status), 0);
    assert_int_equal(truncate(packed, status.st_size - 20), 0);
    refuse(packed, &NEEDS, LIMN_EXIT_FAILED, "cut short");
}

static void filters_choose_pictures(void **state) {
    (void)state;
    const char *folder = make_folder("filtered");
    pair_needs needs = NEEDS;
    needs.filters.count = 1;
    needs.filters.list[0] = (pair_filter){"clip_score", "min_clip_score", 0.45, INFINITY};
    pair_set set = must_open(folder, &needs);
    assert_int_equal(set.pairs[0], 8); /* 5, 6, 7, 8 of each ten; 9 has no score */
    assert_int_equal(set.pairs[2], 0);
    assert_int_equal(set.total, 8);
    assert_int_equal(set.left_out, 17);
    pair_block block = must_read(&set, (uint64_t[]){0, 2}, 2, 8);
    for (size_t n = 0; n < 8; n++) assert_pair(&block, n, n / 4 * 10 + 5 + n % 4);
    pair_block_free(&block);
    pair_set_close(&set);

    needs.filters.count = 2;
    needs.filters.list[1] = (pair_filter){"width", "filter_column", 6, 16};
    set = must_open(folder, &needs);
    assert_int_equal(set.total, 5); /* 6, 7, 8, 15, 16 */
    pair_set_close(&set);

    needs.filters.list[1] = (pair_filter){"width", "filter_column", 100, 200};
    refuse(folder, &needs, LIMN_EXIT_FAILED, "none of 25 pictures passes the filter (clip_score");
    needs.filters.list[1] = (pair_filter){"beauty", "train.seq2seq.filter_column", 0, 1};
    refuse(folder, &needs, LIMN_EXIT_USAGE,
           "0.h5: has no column 'beauty' for train.seq2seq.filter_column; its columns are: clip_score, width");
    const char *lines = scratch_path("filtered.jsonl");
    pairs_write_lines(lines, 0, 3);
    refuse(lines, &needs, LIMN_EXIT_USAGE, "line 1: has no number 'beauty'; its numbers are: clip_score");
}

static void wrong_sets_are_refused(void **state) {
    (void)state;
    const char *folder = make_folder("wrong");
    pair_needs needs = NEEDS;
    needs.vqgan_sha256 = "ffff";
    refuse(folder, &needs, LIMN_EXIT_FAILED, "another VQGAN");
    needs.vqgan_sha256 = NULL;
    needs.length = PAIR_LENGTH + 1;
    refuse(folder, &needs, LIMN_EXIT_FAILED, "4 tokens a picture");
    needs.length = PAIR_LENGTH;
    needs.codebook_size = PAIR_CODES - 1;
    refuse(folder, &needs, LIMN_EXIT_FAILED, "codebook of 5000");
    pairs_write_shard(scratch_path("empty.h5"), 0, 0);
    refuse(scratch_path("empty.h5"), &NEEDS, LIMN_EXIT_FAILED, "holds no pairs");
    scratch_write("empty.jsonl", "", 0);
    refuse(scratch_path("empty.jsonl"), &NEEDS, LIMN_EXIT_FAILED, "holds no pairs");
    refuse(scratch_path("nothing.jsonl"), &NEEDS, LIMN_EXIT_FAILED, "no such file");
}

static void a_picture_needs_a_caption(void **state) {
    (void)state;
    limn_error error = {0};
    uint16_t tokens[2 * PAIR_LENGTH] = {0};
    float width[] = {1, 2};
    char *name = (char *)"width";
    float *values = width;
    token_shard shard = {.count = 2,
                         .length = PAIR_LENGTH,
                         .tokens = tokens,
                         .captions = 1,
                         .caption_bytes = (unsigned char *)"a",
                         .caption_offsets = (uint64_t[]){0, 1},
                         .caption_row = (uint32_t[]){0},
                         .key_bytes = (unsigned char *)"",
                         .key_offsets = (uint64_t[]){0, 0, 0},
                         .columns = 1,
                         .column_names = &name,
                         .column_values = &values,
                         .vqgan_sha256 = PAIR_SHA256,
                         .image_size = 8,
                         .codebook_size = 8};
    const char *path = scratch_path("uncaptioned.h5");
    if (token_shard_write(path, &shard, &error)) fail_msg("%s", error.message);
    refuse(path, &NEEDS, LIMN_EXIT_FAILED, "picture 1 has no caption");
    pair_needs needs = NEEDS;
    needs.filters.count = 1;
    needs.filters.list[0] = (pair_filter){"width", "filter_column", 0, 1};
    pair_set set = must_open(path, &needs); /* left out anyway */
    assert_int_equal(set.total, 1);
    pair_set_close(&set);
}

static void refuse_read(const pair_set *set, uint64_t number, const char *words) {
    limn_error error = {0};
    pair_block block;
    assert_int_equal(pair_set_read(set, &number, 1, set->pairs[number], &block, &error), -1);
    assert_contains(error.message, words);
}

static void files_that_change_are_named(void **state) {
    (void)state;
    const char *folder = make_folder("changing");
    char path[1100], lines[1100];
    snprintf(path, sizeof path, "%s/0.h5", folder);
    snprintf(lines, sizeof lines, "%s/3.jsonl", folder);
    pairs_write_lines(lines, 25, 10);
    pair_set set = must_open(folder, &NEEDS);
    assert_int_equal(set.total, 35);
    assert_int_equal(unlink(path), 0);
    refuse_read(&set, 0, "0.h5: no such file");
    pairs_write_shard(path, 0, 19);
    refuse_read(&set, 0, "0.h5: has another number of pairs");
    pairs_write_shard(path, 0, 20);
    pair_block block = must_read(&set, (uint64_t[]){0}, 1, 20);
    pair_block_free(&block);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(truncate(path, status.st_size / 2), 0);
    refuse_read(&set, 0, "0.h5: ");
    pairs_write_lines(lines, 25, 9);
    refuse_read(&set, 3, "3.jsonl: has another number of pairs");
    assert_int_equal(stat(lines, &status), 0);
    assert_int_equal(truncate(lines, status.st_size - 30), 0);
    refuse_read(&set, 3, "3.jsonl: line 9: is not JSON");
    assert_int_equal(unlink(lines), 0);
    refuse_read(&set, 3, "3.jsonl: no such file");
    pair_set_close(&set);
}

static void captions_by_their_numbers(void **state) {
    (void)state;
    pair_set set = must_open(make_folder("caption"), &NEEDS);
    static const uint64_t ids[] = {0, 1, 19, 20, 24};
    limn_error error = {0};
    limn_buffer captions[5] = {{0}};
    assert_int_equal(pair_set_captions(&set, ids, 5, captions, &error), 0);
    for (size_t i = 0; i < 5; i++) {
        char expected[64];
        pairs_caption(expected, ids[i], 0);
        assert_string_equal(captions[i].data, expected);
        limn_buffer_free(&captions[i]);
    }
    assert_int_equal(pair_set_captions(&set, (uint64_t[]){3, 25}, 2, captions, &error), -1);
    assert_null(captions[0].data);
    assert_contains(error.message, "no pair 25");
    pair_set_close(&set);
}

static void digest_knows_the_counts(void **state) {
    (void)state;
    char digests[3][65];
    const char *folder = make_folder("digest");
    char path[1100];
    snprintf(path, sizeof path, "%s/1.h5", folder);
    for (size_t i = 0; i < 3; i++) {
        pair_set set = must_open(folder, &NEEDS);
        pair_set_digest(&set, digests[i]);
        pair_set_close(&set);
        if (i == 1) pairs_write_shard(path, 0, 1);
    }
    assert_string_equal(digests[0], digests[1]);
    assert_string_not_equal(digests[0], digests[2]);
}

int main(void) {
    limn_set_log_level(LIMN_LOG_QUIET);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_counted_and_read), cmocka_unit_test(lines_are_the_same_as_shards),
        cmocka_unit_test(packed_lines_are_read),       cmocka_unit_test(filters_choose_pictures),
        cmocka_unit_test(wrong_sets_are_refused),      cmocka_unit_test(a_picture_needs_a_caption),
        cmocka_unit_test(files_that_change_are_named), cmocka_unit_test(digest_knows_the_counts),
        cmocka_unit_test(captions_by_their_numbers),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
