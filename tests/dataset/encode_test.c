/* Tars to token shards: the right tokens, nothing half-written, and a second run that goes on. */
#include "encode_world.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    const char *key;
    const void *image;
    size_t image_size;
    const char *caption;
    size_t caption_size;
} entry;

static void tokens_are_the_vqgans(void **state) {
    world *self = *state;
    encode(self);
    assert_int_equal(self->summary.shards_made, 3);
    assert_int_equal(self->summary.pictures, 7 + 8 + 9);
    assert_int_equal(self->summary.captions, 7 + 8 + 9);
    assert_int_equal(self->summary.skipped, 0);
    vqgan *model = vqgan_load(self->vqgan, false, NULL);
    limn_arena *arena = limn_arena_create((size_t)1 << 34, NULL);
    bool seen[CODES] = {false};
    size_t different = 0;
    for (size_t number = 0; number < 3; number++) {
        char name[32];
        snprintf(name, sizeof name, "%05zu.h5", number);
        token_shard shard = read_shard(self, name);
        assert_int_equal(shard.count, 7 + number);
        assert_int_equal(shard.length, LENGTH);
        assert_int_equal(shard.image_size, SIDE);
        assert_int_equal(shard.codebook_size, CODES);
        assert_string_equal(shard.vqgan_sha256, vqgan_get_sha256(model));
        for (size_t i = 0; i < shard.count; i++) {
            picture painted = paint(number * 1000 + i, number == 1 ? 40 : SIDE, SIDE), sized;
            float pixels[SIDE * SIDE * 3];
            int32_t tokens[LENGTH];
            assert_int_equal(picture_resize(&painted, &sized, RESIZE_CENTER_CROP, SIDE, NULL), 0);
            picture_to_floats(&sized, pixels);
            vqgan_pixels_to_model(model, pixels, pixels, SIDE * SIDE * 3);
            vqgan_encode(model, tokens, NULL, pixels, 1, arena);
            limn_arena_release(arena, 0);
            for (size_t t = 0; t < LENGTH; t++) {
                assert_int_equal(shard.tokens[i * LENGTH + t], tokens[t]);
                seen[tokens[t]] = true;
            }
            char key[48], caption[64];
            snprintf(key, sizeof key, "%05zu%04zu", number, i);
            snprintf(caption, sizeof caption, "caption %zu of %zu", i, number);
            assert_int_equal(shard.key_offsets[i + 1] - shard.key_offsets[i], strlen(key));
            assert_memory_equal(shard.key_bytes + shard.key_offsets[i], key, strlen(key));
            assert_int_equal(shard.caption_row[i], i);
            assert_int_equal(shard.caption_offsets[i + 1] - shard.caption_offsets[i], strlen(caption));
            assert_memory_equal(shard.caption_bytes + shard.caption_offsets[i], caption, strlen(caption));
            picture_free(&painted);
            picture_free(&sized);
        }
        token_shard_free(&shard);
    }
    for (size_t i = 0; i < CODES; i++) different += seen[i];
    assert_true(different > 4); /* else the comparison above says nothing */
    limn_arena_destroy(arena);
    vqgan_free(model);
}

static void a_second_run_makes_only_what_is_missing(void **state) {
    world *self = *state;
    encode(self);
    char *before = folder_print(self->output);
    assert_int_equal(unlink(in(self->output, "00001.h5")), 0);
    encode(self);
    assert_int_equal(self->summary.shards_made, 1);
    assert_int_equal(self->summary.shards_kept, 2);
    char *after = folder_print(self->output);
    assert_string_equal(before, after);
    free(before);
    free(after);
    assert_int_equal(count_hidden(self->output), 0);
}

static void another_vqgan_is_refused_by_name(void **state) {
    world *self = *state;
    encode(self);
    char *before = folder_print(self->output);
    save_random_vqgan(self->vqgan, 2);
    assert_int_equal(unlink(in(self->output, "00000.h5")), 0); /* it could be made, but not beside the others */
    assert_refused(self, "00001.h5");
    assert_refused(self, "another VQGAN");
    assert_refused(self, "--restart");
    assert_false(is_there(self, "00000.h5"));
    self->options.restart = true;
    encode(self);
    assert_int_equal(self->summary.shards_made, 3);
    char *after = folder_print(self->output);
    assert_string_not_equal(before, after);
    free(before);
    free(after);
}

static void broken_pictures_are_counted(void **state) {
    world *self = *state;
    picture painted = paint(5, 30, 20);
    limn_buffer jpeg = {0};
    assert_int_equal(picture_encode_jpeg(&painted, 90, &jpeg, NULL), 0);
    char *long_caption = malloc(70000);
    memset(long_caption, 'x', 70000);
    const entry entries[] = {
        {"a", jpeg.data, jpeg.size, "good", 4},
        {"b", jpeg.data, jpeg.size / 2, "cut", 3},
        {"c", "", 0, "nothing", 7},
        {"d", NULL, 0, "no picture", 10},
        {"e", jpeg.data, jpeg.size, NULL, 0},
        {"f", jpeg.data, jpeg.size, "not UTF-8 \xff", 11},
        {"g", "<html></html>", 13, "a page", 6},
        {"h", jpeg.data, jpeg.size, long_caption, 70000},
        {"i", jpeg.data, jpeg.size, "last \n", 6},
    };
    tar_writer *writer = tar_writer_open(self->tars[0], NULL);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        if (entries[i].image) add_entry(writer, entries[i].key, "jpg", entries[i].image, entries[i].image_size);
        if (entries[i].caption) add_entry(writer, entries[i].key, "txt", entries[i].caption, entries[i].caption_size);
    }
    assert_int_equal(tar_writer_commit(writer, NULL), 0);
    self->options.inputs.count = 1;
    encode(self);
    assert_int_equal(self->summary.pictures, 5);
    assert_int_equal(self->summary.captions, 2);
    assert_int_equal(self->summary.skipped, 4);
    token_shard shard = read_shard(self, "00000.h5");
    assert_int_equal(shard.count, 5);
    assert_memory_equal(shard.key_bytes, "aefhi", 5);
    assert_int_equal(shard.captions, 2);
    assert_int_equal(shard.caption_row[1], 4);
    assert_memory_equal(shard.caption_bytes, "goodlast", 8);
    for (size_t i = 1; i < 5; i++) assert_memory_equal(shard.tokens, shard.tokens + i * LENGTH, LENGTH * sizeof *shard.tokens);
    token_shard_free(&shard);
    assert_int_equal(stats_number(self->output, "00000", "samples"), 9);
    assert_int_equal(stats_number(self->output, "00000", "captions_left_out"), 2);
    assert_int_equal(stats_reason(self->output, "00000", "truncated JPEG"), 1);
    assert_int_equal(stats_reason(self->output, "00000", "not a JPEG, PNG or WebP"), 1);
    assert_int_equal(stats_reason(self->output, "00000", "no picture"), 2);
    free(long_caption);
    limn_buffer_free(&jpeg);
    picture_free(&painted);
}

/* Pictures that are all broken make a shard of none, which a second run leaves alone. */
static void a_shard_of_nothing(void **state) {
    world *self = *state;
    tar_writer *writer = tar_writer_open(self->tars[0], NULL);
    add_entry(writer, "a", "jpg", "nonsense", 8);
    assert_int_equal(tar_writer_commit(writer, NULL), 0);
    self->options.inputs.count = 1;
    encode(self);
    assert_int_equal(self->summary.skipped, 1);
    token_shard shard = read_shard(self, "00000.h5");
    assert_int_equal(shard.count, 0);
    token_shard_free(&shard);
    encode(self);
    assert_int_equal(self->summary.shards_kept, 1);
}

static void a_damaged_tar_makes_no_shard(void **state) {
    world *self = *state;
    struct stat status;
    assert_int_equal(stat(self->tars[1], &status), 0);
    assert_int_equal(truncate(self->tars[1], status.st_size / 2), 0);
    assert_refused(self, "00001.tar");
    assert_refused(self, "1 of 3 tars");
    assert_true(is_there(self, "00000.h5") && !is_there(self, "00001.h5") && is_there(self, "00002.h5"));
    write_painted_tar(self->tars[1], 1, 8, 40, SIDE);
    encode(self);
    assert_int_equal(self->summary.shards_made, 1);
    assert_int_equal(self->summary.shards_kept, 2);
}

static void a_damaged_shard_is_made_again(void **state) {
    world *self = *state;
    encode(self);
    char *before = folder_print(self->output);
    write_text(self->output, "00002.h5", "not HDF5");
    encode(self);
    assert_int_equal(self->summary.shards_made, 1);
    char *after = folder_print(self->output);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void parts_share_the_work(void **state) {
    world *self = *state;
    encode(self);
    char *whole = folder_print(self->output);
    snprintf(self->output, sizeof self->output, "%.4000s/parts", self->folder);
    self->options.parts = 2;
    self->options.part = 1;
    encode(self);
    assert_int_equal(self->summary.shards_made, 1);
    assert_true(is_there(self, "00001.h5") && !is_there(self, "00000.h5"));
    write_text(self->output, ".00002.h5.tmp-1", "of the other part");
    write_text(self->output, ".00001.h5.tmp-999999999", "of a dead run");
    encode(self);
    assert_int_equal(self->summary.shards_kept, 1);
    assert_true(is_there(self, ".00002.h5.tmp-1") && !is_there(self, ".00001.h5.tmp-999999999"));
    self->options.part = 0;
    encode(self);
    assert_int_equal(self->summary.shards_made, 2);
    assert_false(is_there(self, ".00002.h5.tmp-1"));
    const char *names[] = {"00000.h5", "00001.h5", "00002.h5"};
    for (size_t i = 0; i < 3; i++) {
        char sha256[65];
        assert_int_equal(limn_sha256_file(in(self->output, names[i]), sha256, NULL), 0);
        assert_non_null(strstr(whole, sha256));
    }
    free(whole);
}

static void what_cannot_be_asked(void **state) {
    world *self = *state;
    self->options.parts = 2;
    self->options.part = 2;
    assert_refused(self, "--part 2/2");
    self->options.parts = 1;
    self->options.part = 0;
    self->options.parts = 0;
    assert_refused(self, "--part 0/0");
    self->options.parts = 1;
    self->options.batch = 4097;
    assert_refused(self, "--batch 4097");
    self->options.batch = 4;
    self->options.verify = 1001;
    assert_refused(self, "--verify 1001");
    self->options.verify = 0;
    self->options.precision = PRECISION_INT8;
    assert_refused(self, "--precision int8");
    self->options.precision = PRECISION_FP32;
    self->options.output = self->folder;
    assert_refused(self, "holds the tars themselves");
    self->options.output = self->output;
    self->inputs[2] = self->inputs[0];
    assert_refused(self, "two tars named 00000.tar");
    self->inputs[2] = "pictures.zip";
    assert_refused(self, "pictures.zip");
    self->inputs[2] = "no-such.tar";
    assert_refused(self, "no-such.tar");
    self->inputs[2] = self->tars[2];
    self->options.vqgan = "no-such-folder";
    assert_refused(self, "no-such-folder");
}

int main(void) {
    limn_set_log_level(LIMN_LOG_QUIET);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tokens_are_the_vqgans, make_world, remove_world),
        cmocka_unit_test_setup_teardown(a_second_run_makes_only_what_is_missing, make_world, remove_world),
        cmocka_unit_test_setup_teardown(another_vqgan_is_refused_by_name, make_world, remove_world),
        cmocka_unit_test_setup_teardown(broken_pictures_are_counted, make_world, remove_world),
        cmocka_unit_test_setup_teardown(a_shard_of_nothing, make_world, remove_world),
        cmocka_unit_test_setup_teardown(a_damaged_tar_makes_no_shard, make_world, remove_world),
        cmocka_unit_test_setup_teardown(a_damaged_shard_is_made_again, make_world, remove_world),
        cmocka_unit_test_setup_teardown(parts_share_the_work, make_world, remove_world),
        cmocka_unit_test_setup_teardown(what_cannot_be_asked, make_world, remove_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
