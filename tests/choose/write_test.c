/* filter, merge and split: what is written, what is refused, and going on. */
#include "world.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int set_up(void **state) {
    choose_set_up(state);
    limn_make_directories(in(choose_folder, "tars"), NULL);
    limn_make_directories(in(choose_folder, "shards"), NULL);
    for (size_t i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "tars/%05zu.tar", i);
        make_tar(name, i, 20 + i, usual_caption, usual_fields);
        snprintf(name, sizeof name, "shards/%05zu.h5", i);
        make_shard(name, i, 10 + i, "sha");
    }
    return 0;
}

static choose_filter_options filter_of(const char *from, const char *to) {
    return (choose_filter_options){
        .write = {.inputs = inputs(from), .output = in(choose_folder, to)}, .max_unsafe = NAN, .script_share = 0.9};
}

static choose_summary filter(const choose_filter_options *options) {
    limn_error error = {0};
    choose_summary summary;
    if (choose_filter(options, &summary, &error)) fail_msg("%s", error.message);
    return summary;
}

static void assert_filter_refused(const choose_filter_options *options, const char *reason) {
    limn_error error = {0};
    choose_summary summary;
    assert_int_equal(choose_filter(options, &summary, &error), -1);
    json_decref(summary.reasons);
    if (!strstr(error.message, reason)) fail_msg("\"%s\" does not say \"%s\"", error.message, reason);
}

static token_shard shard_of(const char *name) {
    limn_error error = {0};
    token_shard shard;
    if (token_shard_read(in(choose_folder, name), &shard, &error)) fail_msg("%s", error.message);
    return shard;
}

static void test_filter_tars(void **state) {
    (void)state;
    const char *where[] = {"score >= 0.12", "url!=http://a.example/18.jpg"};
    choose_filter_options options = filter_of("tars", "good");
    options.where = (limn_strings){2, where};
    options.min_chars = strlen("picture 9 of 0 sun");
    /* as numbers: 0.2 … 0.9 and 0.12 … 0.19 stay of 0.0 … 0.19, and 0.20 and 0.21 */
    choose_summary summary = filter(&options);
    assert_int_equal(summary.samples, 63);
    assert_int_equal(number_of(summary.reasons, "score >= 0.12"), 3 * 4);
    assert_int_equal(number_of(summary.reasons, "url!=http://a.example/18.jpg"), 3);
    assert_int_equal(number_of(summary.reasons, "min_chars"), 0);
    assert_int_equal(summary.written[0], 63 - 15);
    assert_int_equal(summary.files, 3);
    json_decref(summary.reasons);
    json_t *stats = load("good/00001.stats.json");
    assert_int_equal(number_of(stats, "rows"), 21);
    assert_int_equal(number_of(stats, "pairs"), 16);
    assert_int_equal(number_of(stats, "failed"), 5);
    json_decref(stats);
    json_t *fields = tar_json(in(choose_folder, "good/00002.tar"), "000020020");
    assert_string_equal(json_string_value(json_object_get(fields, "key")), "000020020");
    json_decref(fields);
    choose_reader *reader = choose_reader_open(in(choose_folder, "good/00000.tar"), NULL, NULL);
    choose_sample sample;
    assert_int_equal(choose_reader_next(reader, &sample, NULL), 1);
    assert_string_equal(sample.key, "000000002"); /* keys stay */
    assert_string_equal(sample.entry->image_ending, "png");
    choose_reader_close(reader);
    assert_int_equal(count_hidden(in(choose_folder, "good")), 0);
}

static void test_filter_shards(void **state) {
    (void)state;
    const char *where = "score>0.45";
    choose_filter_options options = filter_of("shards", "good-shards");
    options.where = (limn_strings){1, &where};
    choose_summary summary = filter(&options);
    assert_int_equal(summary.written[0], 5 + 6 + 7);
    json_decref(summary.reasons);
    token_shard was = shard_of("shards/00001.h5"), now = shard_of("good-shards/00001.h5");
    assert_int_equal(now.count, 6);
    assert_int_equal(now.captions, 6 + 2); /* rows 6 and 9 have two */
    assert_memory_equal(now.tokens, was.tokens + 5 * was.length, 6 * was.length * 2);
    assert_memory_equal(now.key_bytes, "000010005", 9);
    assert_int_equal(now.caption_row[1], 1);
    assert_int_equal(now.caption_row[2], 1);
    assert_memory_equal(now.caption_bytes, "caption 0 of 5 in 1 ", 20); /* as it was, its last space too */
    assert_string_equal(now.column_names[1], "score");
    assert_true(now.column_values[1][0] == was.column_values[1][5]);
    assert_string_equal(now.vqgan_sha256, "sha");
    assert_string_equal(now.precision, "fp32");
    token_shard_free(&was);
    token_shard_free(&now);
}

static void test_filter_captions(void **state) {
    (void)state;
    choose_filter_options options = filter_of("tars", "captions");
    write_text(choose_folder, "blocked.txt", "CAFE\n");
    options.blocked = in(choose_folder, "blocked.txt");
    options.max_chars = strlen("picture 9 of 0 house");
    options.min_words = options.max_words = 5;
    options.script = "latin";
    choose_summary summary = filter(&options);
    assert_int_equal(number_of(summary.reasons, "blocked_word"), 4 + 5 + 5); /* rows 0, 5, 10, 15 and 20, but for … */
    assert_int_equal(number_of(summary.reasons, "max_chars"), 3 * 2);        /* "picture 12 of 0 house" and 17 */
    json_decref(summary.reasons);
    options = filter_of("tars", "unsafe");
    options.max_unsafe = 0.5;
    summary = filter(&options);
    assert_int_equal(number_of(summary.reasons, "no_safety_score"), 63);
    assert_int_equal(summary.files, 0);
    assert_false(limn_file_exists(in(choose_folder, "unsafe/00000.tar"))); /* nothing is no tar, */
    json_decref(summary.reasons);
    summary = filter(&options); /* and known as such */
    assert_int_equal(summary.samples, 63);
    json_decref(summary.reasons);
}

static char *scored_fields(size_t number, size_t row) {
    char *text = NULL;
    assert_true(asprintf(&text, "{\"%s\": 0.%zu}", number ? "nsfw" : "punsafe", row) > 0);
    return text;
}

static void test_filter_safety(void **state) {
    (void)state;
    limn_make_directories(in(choose_folder, "scored"), NULL);
    make_tar("scored/a.tar", 0, 8, usual_caption, scored_fields);
    make_tar("scored/b.tar", 1, 8, usual_caption, scored_fields);
    choose_filter_options options = filter_of("scored", "safe");
    options.max_unsafe = 0.3;
    choose_summary summary = filter(&options);
    assert_int_equal(number_of(summary.reasons, "unsafe"), 8);
    assert_int_equal(summary.written[0], 8);
    assert_true(limn_file_exists(in(choose_folder, "safe/a.tar")));
    json_decref(summary.reasons);
}

static char *language_caption(size_t number, size_t row) {
    static const char *const texts[] = {"The quick brown fox jumps over the lazy dog and then runs away into the forest",
                                        "Der schnelle braune Fuchs springt \xc3\xbc"
                                        "ber den faulen Hund und l\xc3\xa4uft in den Wald",
                                        "Le renard brun saute par-dessus le chien paresseux et court dans la for\xc3\xaat",
                                        "no"};
    (void)number;
    return strdup(texts[row]);
}

static void test_filter_language(void **state) {
    (void)state;
    limn_make_directories(in(choose_folder, "languages"), NULL);
    make_tar("languages/0.tar", 0, 4, language_caption, NULL);
    choose_filter_options options = filter_of("languages", "german");
    options.language = "de";
    choose_summary summary = filter(&options);
    char *keys = tar_keys(in(choose_folder, "german/0.tar"));
    assert_string_equal(keys, "000000001 000000003"); /* what is too short to guess stays */
    free(keys);
    json_decref(summary.reasons);
}

/* The first in order stays, whatever the number of threads. */
static void test_dedup(void **state) {
    (void)state;
    static const struct {
        const char *by;
        size_t distance, left;
    } cases[] = {{"picture", 0, 4}, {"address", 0, 22}, {"caption", 0, 63}, {"near", 0, 43}, {"near", 1, 11}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *before = NULL;
        for (size_t threads = 1; threads <= 4; threads += 3) {
            char name[64];
            snprintf(name, sizeof name, "dedup-%zu-%zu", i, threads);
            limn_set_threads(threads);
            choose_filter_options options = filter_of("tars", name);
            options.dedup = cases[i].by;
            options.distance = cases[i].distance;
            choose_summary summary = filter(&options);
            if (i != 4) assert_int_equal(summary.written[0], cases[i].left);
            if (i == 4) assert_true(summary.written[0] < 22); /* addresses differ in one bit between neighbours */
            assert_int_equal(summary.samples - summary.written[0], number_of(summary.reasons, "duplicate"));
            json_decref(summary.reasons);
            char *print = folder_print(options.write.output);
            if (before) assert_string_equal(print, before);
            free(before);
            before = print;
        }
        free(before);
    }
    limn_set_threads(2);
    char *keys = tar_keys(in(choose_folder, "dedup-0-1/00000.tar"));
    assert_string_equal(keys, "000000000 000000001 000000002 000000003");
    free(keys);
}

static void test_pack(void **state) {
    (void)state;
    choose_filter_options options = filter_of("tars", "packed");
    const char *where = "score>=0.12";
    options.where = (limn_strings){1, &where};
    options.write.pack = 10;
    choose_summary summary = filter(&options);
    assert_int_equal(summary.written[0], 51);
    assert_int_equal(summary.files, 6);
    assert_int_equal(summary.samples, 63);
    json_decref(summary.reasons);
    limn_buffer all = {0};
    for (size_t i = 0; i < 6; i++) {
        char name[64];
        snprintf(name, sizeof name, "packed/%05zu.tar", i);
        char *keys = tar_keys(in(choose_folder, name));
        assert_int_equal(strlen(keys), i < 5 ? 10 * 10 - 1 : 9);
        limn_buffer_printf(&all, NULL, "%s%s", i ? " " : "", keys);
        free(keys);
    }
    limn_buffer expected = {0};
    for (size_t n = 0; n < 3; n++)
        for (size_t r = 2; r < 20 + n; r++)
            if (r != 10 && r != 11) limn_buffer_printf(&expected, NULL, "%s%05zu%04zu", expected.size ? " " : "", n, r);
    assert_string_equal(all.data, expected.data); /* every one once, in order, over the files' borders */
    limn_buffer_free(&all);
    limn_buffer_free(&expected);
    /* One that is gone is made again as it was, the others are left as they are. */
    char *before = folder_print(options.write.output);
    unlink(in(choose_folder, "packed/00002.tar"));
    unlink(in(choose_folder, "packed/00004.stats.json"));
    summary = filter(&options);
    assert_int_equal(summary.files_kept, 4);
    json_decref(summary.reasons);
    char *after = folder_print(options.write.output);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void test_goes_on(void **state) {
    (void)state;
    choose_filter_options options = filter_of("shards", "going");
    options.max_words = 10;
    choose_summary summary = filter(&options);
    json_decref(summary.reasons);
    char *before = folder_print(options.write.output);
    write_text(in(choose_folder, "going"), "00001.h5", "cut short"); /* another size than its stats say */
    write_text(in(choose_folder, "going"), ".00002.h5.tmp-999999999", "left by a kill");
    summary = filter(&options);
    assert_int_equal(summary.files, 3);
    assert_int_equal(summary.files_kept, 2);
    assert_int_equal(summary.samples, 33);
    json_decref(summary.reasons);
    char *after = folder_print(options.write.output);
    assert_string_equal(before, after);
    assert_int_equal(count_hidden(options.write.output), 0);
    free(before);
    free(after);
}

static void test_refusals(void **state) {
    (void)state;
    choose_filter_options options = filter_of("tars", "refused"), other;
    const char *bad[] = {"score", ">=3", "score>=", "score>=high", "a~3"};
    options.min_words = 1;
    choose_summary summary = filter(&options);
    json_decref(summary.reasons);
    options.min_words = 2;
    assert_filter_refused(&options, "min_words was 1 and is now 2");
    options.min_words = 1;
    options.write.pack = 5;
    assert_filter_refused(&options, "pack was 0 and is now 5");
    options.write.pack = 0;
    options.write.inputs = inputs("tars/00000.tar");
    assert_filter_refused(&options, "made from other files");
    options.min_words = 3;
    options.write.restart = true;
    summary = filter(&options);
    assert_int_equal(summary.files_kept, 0);
    assert_false(limn_file_exists(in(choose_folder, "refused/00001.tar"))); /* of the earlier run */
    json_decref(summary.reasons);
    other = filter_of("tars", "tars");
    assert_filter_refused(&other, "holds the inputs themselves");
    other = filter_of("tars/00000.tar", "shards");
    assert_filter_refused(&other, "has tars or shards but no dataset.json");
    assert_true(limn_file_exists(in(choose_folder, "shards/00000.h5")));
    other.write.restart = true; /* not even then: they are not its own */
    assert_filter_refused(&other, "has tars or shards but no dataset.json");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        other = filter_of("tars", "never");
        other.where = (limn_strings){1, &bad[i]};
        assert_filter_refused(&other, "--where");
    }
    other = filter_of("tars", "never");
    other.script = "elvish";
    assert_filter_refused(&other, "--script elvish");
    other = filter_of("tars", "never");
    other.dedup = "near";
    other.distance = 8;
    assert_filter_refused(&other, "--distance");
    other = filter_of("shards", "never");
    other.dedup = "address";
    assert_filter_refused(&other, "token shards have none");
    const char *where = "width>3";
    other = filter_of("shards", "never");
    other.where = (limn_strings){1, &where};
    assert_filter_refused(&other, "they have clip, score");
}

/* A damaged tar makes nothing, the others are made; what depends on all of them is not made at all. */
static void test_damaged(void **state) {
    (void)state;
    limn_make_directories(in(choose_folder, "some"), NULL);
    make_tar("some/0.tar", 0, 5, usual_caption, usual_fields);
    make_tar("some/2.tar", 2, 5, usual_caption, usual_fields);
    size_t size;
    char *bytes = limn_file_read(in(choose_folder, "some/0.tar"), 1 << 20, &size, NULL);
    memset(bytes + 3 * 1024, 0x55, 512); /* a header */
    write_file(in(choose_folder, "some"), "1.tar", bytes, size);
    free(bytes);
    choose_filter_options options = filter_of("some", "whole");
    assert_filter_refused(&options, "1 of 3 files could not be read");
    assert_true(limn_file_exists(in(choose_folder, "whole/0.tar")) && limn_file_exists(in(choose_folder, "whole/2.tar")));
    assert_false(limn_file_exists(in(choose_folder, "whole/1.tar")));
    assert_int_equal(count_hidden(options.write.output), 0);
    options = filter_of("some", "whole-packed");
    options.write.pack = 3;
    assert_filter_refused(&options, "1 of 3 files could not be read");
    assert_false(limn_file_exists(in(choose_folder, "whole-packed/00000.tar")));
}

/* Entries that a sample has beside the three are counted, and left. */
static void test_other_entries(void **state) {
    (void)state;
    limn_make_directories(in(choose_folder, "others"), NULL);
    tar_writer *writer = tar_writer_open(in(choose_folder, "others/0.tar"), NULL);
    add_entry(writer, "a", "JPEG", "first", 5);
    add_entry(writer, "a", "cls", "7", 1);
    add_entry(writer, "a", "png", "second", 6);
    add_entry(writer, "a", "txt", "text", 4);
    assert_int_equal(tar_writer_commit(writer, NULL), 0);
    const choose_filter_options options = filter_of("others", "others-left");
    choose_summary summary = filter(&options);
    assert_int_equal(summary.others_left, 2);
    json_decref(summary.reasons);
    choose_sample sample;
    choose_reader *reader = choose_reader_open(in(choose_folder, "others-left/0.tar"), NULL, NULL);
    assert_int_equal(choose_reader_next(reader, &sample, NULL), 1);
    assert_memory_equal(sample.entry->image, "first", 5);
    assert_string_equal(sample.entry->image_ending, "jpeg");
    choose_reader_close(reader);
}

static void test_merge(void **state) {
    (void)state;
    limn_error error = {0};
    choose_summary summary;
    char left[4096], right[4096];
    snprintf(left, sizeof left, "%s", in(choose_folder, "tars/00001.tar"));
    snprintf(right, sizeof right, "%s", in(choose_folder, "tars/00000.tar"));
    const char *both[] = {left, right, left};
    choose_write_options options = {.inputs = {3, both}, .output = in(choose_folder, "merged")};
    assert_int_equal(choose_merge(&options, &summary, &error), 0);
    assert_int_equal(summary.written[0], 21 + 20 + 21);
    json_decref(summary.reasons);
    json_t *fields = tar_json(in(choose_folder, "merged/00002.tar"), "000020007");
    assert_string_equal(json_string_value(json_object_get(fields, "key")), "000020007");
    assert_string_equal(json_string_value(json_object_get(fields, "source_key")), "000010007");
    assert_string_equal(json_string_value(json_object_get(fields, "score")), "0.7");
    json_decref(fields);
    options = (choose_write_options){.inputs = inputs("shards"), .output = in(choose_folder, "merged-shards"), .pack = 25};
    assert_int_equal(choose_merge(&options, &summary, &error), 0);
    assert_int_equal(summary.files, 2);
    json_decref(summary.reasons);
    token_shard second = shard_of("merged-shards/00001.h5"), last = shard_of("shards/00002.h5");
    assert_int_equal(second.count, 8);
    assert_memory_equal(second.key_bytes, "000010000", 9);
    assert_memory_equal(second.tokens, last.tokens + 4 * last.length, 8 * last.length * 2);
    token_shard_free(&second);
    token_shard_free(&last);
}

static void test_merge_refuses_mixed(void **state) {
    (void)state;
    limn_error error = {0};
    choose_summary summary;
    limn_make_directories(in(choose_folder, "mixed"), NULL);
    make_shard("mixed/0.h5", 0, 3, "sha");
    make_shard("mixed/1.h5", 1, 3, "other");
    choose_write_options options = {.inputs = inputs("mixed"), .output = in(choose_folder, "merged-mixed")};
    assert_int_equal(choose_merge(&options, &summary, &error), -1);
    assert_non_null(strstr(error.message, "another VQGAN"));
    assert_false(limn_file_exists(options.output));
    /* Packing by filter looks at them too. */
    choose_filter_options filtering = filter_of("mixed", "filtered-mixed");
    filtering.write.pack = 10;
    assert_filter_refused(&filtering, "different VQGANs");
    /* Two of one name would write one file. */
    char one[4096];
    snprintf(one, sizeof one, "%s", in(choose_folder, "mixed/0.h5"));
    const char *twice[] = {one, one};
    filtering.write = (choose_write_options){.inputs = {2, twice}, .output = in(choose_folder, "twice")};
    assert_filter_refused(&filtering, "two files named 0.h5");
}

static void test_split(void **state) {
    (void)state;
    limn_error error = {0};
    choose_summary summary;
    choose_split_options options = {
        .write = {.inputs = inputs("tars"), .output = in(choose_folder, "split")}, .valid = 0.25, .by = CHOOSE_BY_KEY};
    assert_int_equal(choose_split(&options, &summary, &error), 0);
    assert_int_equal(summary.written[0] + summary.written[1], 63);
    size_t expected = 0;
    for (size_t n = 0; n < 3; n++)
        for (size_t r = 0; r < 20 + n; r++) {
            char key[64];
            snprintf(key, sizeof key, "%05zu%04zu", n, r);
            expected += (double)choose_hash(key, 9) < 0.25 * 0x1p64; /* as the manual says it */
        }
    assert_true(expected > 5 && expected < 30);
    assert_int_equal(summary.written[1], expected);
    json_decref(summary.reasons);
    /* The same sample on the same side, whatever files it is packed in. */
    choose_split_options packed = options;
    packed.write.output = in(choose_folder, "split-packed");
    packed.write.pack = 1000;
    assert_int_equal(choose_split(&packed, &summary, &error), 0);
    assert_int_equal(summary.written[1], expected);
    json_decref(summary.reasons);
    limn_buffer all = {0};
    for (size_t n = 0; n < 3; n++) {
        char name[64];
        snprintf(name, sizeof name, "split/valid/%05zu.tar", n);
        char *keys = limn_file_exists(in(choose_folder, name)) ? tar_keys(in(choose_folder, name)) : NULL;
        if (keys) limn_buffer_printf(&all, NULL, "%s%s", all.size ? " " : "", keys);
        free(keys);
    }
    char *packed_keys = tar_keys(in(choose_folder, "split-packed/valid/00000.tar"));
    assert_string_equal(packed_keys, all.data);
    free(packed_keys);
    limn_buffer_free(&all);
    /* Another seed, another split. */
    options.seed = 5;
    options.write.output = in(choose_folder, "split-seed");
    assert_int_equal(choose_split(&options, &summary, &error), 0);
    json_decref(summary.reasons);
    char *a = folder_print(in(choose_folder, "split/valid")), *b = folder_print(in(choose_folder, "split-seed/valid"));
    assert_string_not_equal(a, b);
    free(a);
    free(b);
}

/* Pictures that are alike fall on one side: here there are four different ones. */
static void test_split_by_picture(void **state) {
    (void)state;
    limn_error error = {0};
    choose_summary summary;
    choose_split_options options = {.write = {.inputs = inputs("tars"), .output = in(choose_folder, "split-picture")},
                                    .valid = 0.5,
                                    .by = CHOOSE_BY_PICTURE,
                                    .seed = 1};
    assert_int_equal(choose_split(&options, &summary, &error), 0);
    json_decref(summary.reasons);
    bool side_of[4][2] = {{false}};
    for (size_t side = 0; side < 2; side++)
        for (size_t n = 0; n < 3; n++) {
            char name[64];
            choose_sample sample;
            snprintf(name, sizeof name, "split-picture/%s/%05zu.tar", side ? "valid" : "train", n);
            if (!limn_file_exists(in(choose_folder, name))) continue;
            choose_reader *reader = choose_reader_open(in(choose_folder, name), NULL, NULL);
            while (choose_reader_next(reader, &sample, NULL) == 1) {
                const char *sha256 = choose_string(&sample, "sha256");
                side_of[sha256[0] - '0'][side] = true;
            }
            choose_reader_close(reader);
        }
    for (size_t i = 0; i < 4; i++) assert_true(side_of[i][0] != side_of[i][1]);
    options.by = CHOOSE_BY_ADDRESS;
    options.write = (choose_write_options){.inputs = inputs("shards"), .output = in(choose_folder, "never")};
    assert_int_equal(choose_split(&options, &summary, &error), -1);
    assert_non_null(strstr(error.message, "no addresses"));
    options.valid = 1;
    assert_int_equal(choose_split(&options, &summary, &error), -1);
    assert_non_null(strstr(error.message, "--valid"));
}

/* Killed at any moment, the same command makes what an unkilled one makes. */
static void test_kills(void **state) {
    (void)state;
    char set[4096], output[4096], whole[4096];
    snprintf(set, sizeof set, "%s", in(choose_folder, "many"));
    snprintf(output, sizeof output, "%s", in(choose_folder, "killed"));
    snprintf(whole, sizeof whole, "%s", in(choose_folder, "unkilled"));
    limn_make_directories(set, NULL);
    for (size_t i = 0; i < 12; i++) {
        char name[64];
        snprintf(name, sizeof name, "many/%05zu.tar", i);
        make_tar(name, i, 60, usual_caption, usual_fields);
    }
    const char *arguments[] = {"filter",  "--input", set,  "--output", output, "--dedup",
                               "caption", "--pack",  "50", "--quiet",  NULL};
    for (useconds_t wait = 2000; wait < 60000; wait += 6000) {
        const pid_t process = start_program(LIMN_DATASET_PROGRAM, arguments);
        usleep(wait);
        kill(process, SIGKILL);
        waitpid(process, NULL, 0);
    }
    program_result result = run_program(LIMN_DATASET_PROGRAM, arguments, 0);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    arguments[4] = whole;
    result = run_program(LIMN_DATASET_PROGRAM, arguments, 0);
    assert_int_equal(result.exit_code, 0);
    program_result_free(&result);
    char *a = folder_print(output), *b = folder_print(whole);
    assert_non_null(strstr(a, "dataset.json"));
    assert_string_equal(a, b);
    assert_int_equal(count_hidden(output), 0);
    free(a);
    free(b);
    /* A full disk is an error, and nothing half is left. */
    arguments[4] = in(choose_folder, "full");
    result = run_program(LIMN_DATASET_PROGRAM, arguments, 4096);
    assert_int_equal(result.exit_code, 1);
    assert_int_equal(count_hidden(arguments[4]), 0);
    program_result_free(&result);
}

/* Ctrl-C: says so by its exit code, leaves nothing half, and the same command ends it. */
static void test_interrupt(void **state) {
    (void)state;
    char set[4096], output[4096];
    snprintf(set, sizeof set, "%s", in(choose_folder, "many/*.tar"));
    snprintf(output, sizeof output, "%s", in(choose_folder, "interrupted"));
    const char *const arguments[] = {"merge", "--input", set,        set,    set,       set,         set, set,
                                     set,     set,       "--output", output, "--quiet", "--threads", "1", NULL};
    const pid_t process = start_program(LIMN_DATASET_PROGRAM, arguments);
    int status;
    for (size_t i = 0; i < 2000 && !limn_file_exists(in(choose_folder, "interrupted/00001.stats.json")); i++) usleep(1000);
    kill(process, SIGINT);
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == LIMN_EXIT_INTERRUPTED);
    assert_int_equal(count_hidden(output), 0);
    assert_true(limn_file_exists(in(choose_folder, "interrupted/00000.tar")));
    assert_false(limn_file_exists(in(choose_folder, "interrupted/00095.tar")));
    program_result result = run_program(LIMN_DATASET_PROGRAM, arguments, 0);
    assert_int_equal(result.exit_code, 0);
    assert_non_null(strstr(result.out, "5760 of 5760 samples in 96 files"));
    program_result_free(&result);
    assert_true(limn_file_exists(in(choose_folder, "interrupted/00095.tar")));
}

/* What ends a program: results as JSON, usage, faults. */
static void test_program(void **state) {
    (void)state;
    char set[4096], output[4096];
    snprintf(set, sizeof set, "%s", in(choose_folder, "tars"));
    snprintf(output, sizeof output, "%s", in(choose_folder, "by-program"));
    const char *const filtering[] = {"filter",     "--input",  set,      "--output", output, "--where",
                                     "score>=0.5", "width=16", "--json", "--quiet",  NULL};
    program_result result = run_program(LIMN_DATASET_PROGRAM, filtering, 0);
    assert_int_equal(result.exit_code, 0);
    json_t *all = json_loads(result.out, 0, NULL);
    assert_int_equal(number_of(all, "samples"), 63);
    assert_int_equal(number_of(all, "written"), 15);
    assert_int_equal(number_of(json_object_get(all, "left_out"), "score>=0.5"), 48);
    json_decref(all);
    program_result_free(&result);
    const char *const commands[] = {"stats", "verify"};
    for (size_t i = 0; i < 2; i++) {
        const char *const arguments[] = {commands[i], "--input", set, "--json", "--quiet", NULL};
        result = run_program(LIMN_DATASET_PROGRAM, arguments, 0);
        all = json_loads(result.out, 0, NULL);
        assert_int_equal(number_of(all, "samples"), 63);
        assert_int_equal(result.exit_code, 0);
        json_decref(all);
        program_result_free(&result);
    }
    write_text(choose_folder, "none.tar", "no tar");
    const char *none = in(choose_folder, "none.tar");
    for (size_t i = 0; i < 2; i++) {
        const char *const arguments[] = {commands[i], "--input", none, "--quiet", NULL};
        result = run_program(LIMN_DATASET_PROGRAM, arguments, 0);
        assert_int_equal(result.exit_code, 1);
        assert_non_null(strstr(result.err, i ? "1 faults in 1 of 1 files" : "1 files could not be read"));
        program_result_free(&result);
    }
    const char *const wrong[] = {"split", "--input", set, "--output", output, "--by", "colour", NULL};
    result = run_program(LIMN_DATASET_PROGRAM, wrong, 0);
    assert_int_equal(result.exit_code, 2);
    program_result_free(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filter_tars),
        cmocka_unit_test(test_filter_shards),
        cmocka_unit_test(test_filter_captions),
        cmocka_unit_test(test_filter_safety),
        cmocka_unit_test(test_filter_language),
        cmocka_unit_test(test_dedup),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_other_entries),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_merge_refuses_mixed),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_by_picture),
        cmocka_unit_test(test_kills),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_program),
    };
    return cmocka_run_group_tests(tests, set_up, choose_tear_down);
}
