/* WebDataset tars: bytes, samples, and tars that are cut, damaged or strange. */
#include "formats/formats.h"
#include "tests/scratch.h"

/* Writes three samples; the middle one has no picture. */
static const char *write_samples(const char *name) {
    limn_error error = {0};
    const char *path = scratch_path(name);
    unlink(path);
    tar_writer *writer = tar_writer_open(path, &error);
    assert_non_null(writer);
    char picture[3000];
    memset(picture, 7, sizeof picture);
    assert_int_equal(tar_writer_add(writer, "000000001.jpg", picture, sizeof picture, &error), 0);
    assert_int_equal(tar_writer_add(writer, "000000001.txt", "a cat", 5, &error), 0);
    assert_int_equal(tar_writer_add(writer, "000000001.json", "{}", 2, &error), 0);
    assert_int_equal(tar_writer_add(writer, "000000003.txt", "", 0, &error), 0);
    assert_int_equal(tar_writer_add(writer, "sub.dir/000000004.PNG", picture, 10, &error), 0);
    assert_int_equal(tar_writer_add(writer, "sub.dir/000000004.cls", "12", 2, &error), 0);
    assert_int_equal(tar_writer_add(writer, "sub.dir/000000004.txt", "a dog", 5, &error), 0);
    assert_false(limn_file_exists(path));
    assert_int_equal(tar_writer_commit(writer, &error), 0);
    assert_string_equal(error.message, "");
    return path;
}

static void test_round_trip(void **state) {
    (void)state;
    limn_error error = {0};
    tar_reader *reader = tar_reader_open(write_samples("a.tar"), &error);
    assert_non_null(reader);
    tar_sample sample;
    assert_int_equal(tar_reader_next(reader, &sample, &error), 1);
    assert_string_equal(sample.key, "000000001");
    assert_int_equal(sample.image_size, 3000);
    assert_int_equal(sample.image[2999], 7);
    assert_string_equal(sample.image_ending, "jpg");
    assert_int_equal(sample.others, 0);
    assert_string_equal(sample.caption, "a cat");
    assert_int_equal(sample.caption_size, 5);
    assert_string_equal(sample.json, "{}");
    assert_int_equal(tar_reader_next(reader, &sample, &error), 1);
    assert_string_equal(sample.key, "000000003");
    assert_null(sample.image);
    assert_null(sample.image_ending);
    assert_null(sample.json);
    assert_string_equal(sample.caption, "");
    assert_int_equal(tar_reader_next(reader, &sample, &error), 1);
    assert_string_equal(sample.key, "sub.dir/000000004");
    assert_int_equal(sample.image_size, 10);
    assert_string_equal(sample.image_ending, "png"); /* of .PNG */
    assert_int_equal(sample.others, 1);              /* .cls */
    assert_string_equal(sample.caption, "a dog");
    assert_int_equal(tar_reader_next(reader, &sample, &error), 0);
    assert_int_equal(tar_reader_next(reader, &sample, &error), 0);
    tar_reader_close(reader);
    tar_reader_close(NULL);
}

/* POSIX ustar's fields: mode at 100, owner at 108, mtime at 136, type at 156, magic at 257. */
static void test_bytes(void **state) {
    (void)state;
    limn_error error = {0};
    size_t size, again;
    char *bytes = limn_file_read(write_samples("b.tar"), 1 << 20, &size, &error);
    assert_string_equal(bytes, "000000001.jpg");
    assert_memory_equal(bytes + 100, "000644 ", 7);
    assert_memory_equal(bytes + 108, "000000 ", 7);
    assert_memory_equal(bytes + 136, "00000000000", 11);
    assert_int_equal(bytes[156], '0');
    assert_memory_equal(bytes + 257, "ustar", 6);
    sleep(1);
    char *second = limn_file_read(write_samples("b.tar"), 1 << 20, &again, &error);
    assert_int_equal(size, again);
    assert_memory_equal(bytes, second, size);
    free(bytes);
    free(second);
}

static void test_discard_and_bad_names(void **state) {
    (void)state;
    limn_error error = {0};
    tar_writer *writer = tar_writer_open(scratch_path("gone.tar"), &error);
    static const char *const bad[] = {"", "/etc/passwd", "../x.jpg", "caf\xc3\xa9.jpg", "a\nb.jpg"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(tar_writer_add(writer, bad[i], "x", 1, &error), -1);
        assert_contains(error.message, "cannot be the name of an entry");
    }
    tar_writer_discard(writer);
    tar_writer_discard(NULL);
    assert_false(limn_file_exists(scratch_path("gone.tar")));
    assert_null(tar_writer_open(scratch_path("no/folder.tar"), &error));
}

static void test_full_disk(void **state) {
    (void)state;
    limn_error error = {0};
    char *picture = calloc(1 << 20, 1);
    scratch_limit_files(200000);
    tar_writer *writer = tar_writer_open(scratch_path("full.tar"), &error);
    int added = tar_writer_add(writer, "1.jpg", picture, 1 << 20, &error);
    if (added) tar_writer_discard(writer);
    int committed = added ? -1 : tar_writer_commit(writer, &error);
    /* Small enough that only the end of the file meets the limit. */
    limn_error late = {0};
    writer = tar_writer_open(scratch_path("late.tar"), &late);
    int late_added = tar_writer_add(writer, "1.jpg", picture, 198000, &late);
    int late_committed = tar_writer_commit(writer, &late);
    scratch_limit_files(RLIM_INFINITY);
    free(picture);
    assert_int_equal(committed, -1);
    assert_contains(error.message, "full.tar: ");
    assert_int_equal(late_added, 0);
    assert_int_equal(late_committed, -1);
    assert_contains(late.message, "late.tar: ");
    assert_false(limn_file_exists(scratch_path("full.tar")));
    assert_false(limn_file_exists(scratch_path("late.tar")));
}

/* Reads to the end or the first error; what the last call returned. */
static int read_all(const char *path, size_t *out_samples, limn_error *error) {
    tar_reader *reader = tar_reader_open(path, error);
    tar_sample sample;
    int result = -1;
    *out_samples = 0;
    while (reader && (result = tar_reader_next(reader, &sample, error)) == 1) ++*out_samples;
    tar_reader_close(reader);
    return result;
}

static void test_cut_short_at_every_block(void **state) {
    (void)state;
    size_t size, samples;
    char *bytes = limn_file_read(write_samples("c.tar"), 1 << 20, &size, NULL);
    size_t entries_end = size;
    while (bytes[entries_end - 1] == 0) entries_end--;
    for (size_t cut = 0; cut < entries_end + 512; cut += 256) {
        limn_error error = {0};
        assert_int_equal(read_all(scratch_write("cut.tar", bytes, cut), &samples, &error), -1);
        assert_contains(error.message, "cut.tar: ");
    }
    free(bytes);
}

/* A picture whose own bytes end in zeros looks like an end mark: then the missing data is what tells. */
static void test_cut_short_within_zeros(void **state) {
    (void)state;
    limn_error error = {0};
    char *zeros = calloc(5000, 1);
    tar_writer *writer = tar_writer_open(scratch_path("z.tar"), &error);
    tar_writer_add(writer, "1.jpg", zeros, 5000, &error);
    tar_writer_commit(writer, &error);
    free(zeros);
    size_t size, samples;
    char *bytes = limn_file_read(scratch_path("z.tar"), 1 << 20, &size, NULL);
    assert_int_equal(read_all(scratch_write("cut.tar", bytes, 4096), &samples, &error), -1);
    assert_contains(error.message, "cut.tar: ");
    free(bytes);
}

static void test_damaged_header(void **state) {
    (void)state;
    size_t size, samples;
    char *bytes = limn_file_read(write_samples("d.tar"), 1 << 20, &size, NULL);
    bytes[3] = 'X'; /* the checksum no longer fits */
    limn_error error = {0};
    assert_int_equal(read_all(scratch_write("damaged.tar", bytes, size), &samples, &error), -1);
    assert_contains(error.message, "damaged.tar: damaged");
    free(bytes);
    char noise[4096] = {1, 2, 3};
    assert_int_equal(read_all(scratch_write("noise.tar", noise, sizeof noise), &samples, &error), -1);
    assert_int_equal(read_all(scratch_path("absent.tar"), &samples, &error), -1);
    assert_contains(error.message, "absent.tar: No such file");
    assert_int_equal(read_all(scratch_folder, &samples, &error), -1);
}

/* Rewrites the first header's size (octal, 11 digits at 124) and its checksum (at 148, itself counted as spaces). */
static void set_size(char *header, unsigned long long size) {
    snprintf(header + 124, 12, "%011llo", size % (1ull << 33)); /* what eleven digits hold */
    memset(header + 148, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < 512; i++) sum += (unsigned char)header[i];
    snprintf(header + 148, 7, "%06o", sum);
    header[155] = ' ';
}

static void test_sizes_that_lie(void **state) {
    (void)state;
    size_t size, samples;
    char *bytes = limn_file_read(write_samples("e.tar"), 1 << 20, &size, NULL);
    set_size(bytes, 3000);
    limn_error error = {0};
    assert_int_equal(read_all(scratch_write("same.tar", bytes, size), &samples, &error), 0);
    assert_int_equal(samples, 3);
    set_size(bytes, 200 << 20);
    assert_int_equal(read_all(scratch_write("lies.tar", bytes, size), &samples, &error), -1);
    assert_contains(error.message, "lies.tar: ");
    set_size(bytes, 300 << 20);
    assert_int_equal(read_all(scratch_write("lies.tar", bytes, size), &samples, &error), -1);
    assert_contains(error.message, "more than the 256 MiB allowed");
    free(bytes);
}

static void test_long_names(void **state) {
    (void)state;
    limn_error error = {0};
    char name[400];
    memset(name, 'n', sizeof name);
    strcpy(name + 200, ".txt");
    tar_writer *writer = tar_writer_open(scratch_path("long.tar"), &error);
    assert_int_equal(tar_writer_add(writer, name, "x", 1, &error), 0);
    memset(name, 'n', sizeof name);
    strcpy(name + 300, ".txt");
    assert_int_equal(tar_writer_add(writer, name, "x", 1, &error), 0);
    assert_int_equal(tar_writer_commit(writer, &error), 0);
    tar_reader *reader = tar_reader_open(scratch_path("long.tar"), &error);
    tar_sample sample;
    assert_int_equal(tar_reader_next(reader, &sample, &error), -1); /* looks ahead to the second, whose key is too long */
    assert_contains(error.message, "longer than 255 bytes");
    tar_reader_close(reader);
}

/* Folders, hidden files and a second picture of the same sample do no harm. */
static void test_tar_of_another_program(void **state) {
    (void)state;
    limn_error error = {0};
    limn_make_directories(scratch_path("made/d"), NULL);
    scratch_write("made/d/1.jpg", "first", 5);
    scratch_write("made/d/1.png", "other", 5);
    scratch_write("made/d/1.seg.png", "mask", 4);
    scratch_write("made/d/._1.jpg", "mac", 3);
    char command[1024];
    snprintf(command, sizeof command,
             "cd %s/made && ln -sf 1.jpg d/2.jpg && tar cf ../other.tar d/._1.jpg d/1.jpg d/1.png d/1.seg.png d/2.jpg d",
             scratch_folder);
    if (system(command) != 0) skip();
    tar_reader *reader = tar_reader_open(scratch_path("other.tar"), &error);
    assert_non_null(reader);
    tar_sample sample;
    assert_int_equal(tar_reader_next(reader, &sample, &error), 1);
    assert_string_equal(sample.key, "d/1");
    assert_string_equal((const char *)sample.image, "first");
    tar_reader_close(reader);
}

/* ---------------------------------------------------------------- places of pictures */

typedef struct {
    char *bytes; /* of the whole tar */
    size_t size, count;
    tar_reader *reader; /* the same tar, read in full */
    int stop_after;
} listing;

/* What lies at the place is what the reader reads as the next sample with a picture. */
static int compare_place(void *context, const char *key, uint64_t offset, uint64_t size, limn_error *error) {
    listing *self = context;
    tar_sample sample;
    do assert_int_equal(tar_reader_next(self->reader, &sample, error), 1);
    while (!sample.image);
    assert_string_equal(sample.key, key);
    assert_int_equal(sample.image_size, size);
    assert_true(offset + size <= self->size);
    assert_memory_equal(self->bytes + offset, sample.image, size);
    self->count++;
    return self->stop_after && --self->stop_after == 0 ? limn_fail(error, "enough") : 0;
}

static size_t check_places(const char *path) {
    limn_error error = {0};
    listing self = {.reader = tar_reader_open(path, &error)};
    self.bytes = limn_file_read(path, 1 << 26, &self.size, &error);
    assert_non_null(self.reader);
    if (tar_list_pictures(path, compare_place, &self, &error)) fail_msg("%s", error.message);
    tar_sample sample;
    int more;
    while ((more = tar_reader_next(self.reader, &sample, &error)) == 1) assert_null(sample.image);
    assert_int_equal(more, 0);
    tar_reader_close(self.reader);
    free(self.bytes);
    return self.count;
}

static void test_places_of_pictures(void **state) {
    (void)state;
    limn_error error = {0};
    assert_int_equal(check_places(write_samples("places.tar")), 2);
    /* the last entry is a picture, sizes around the blocks' and the reader's, and names that need extended headers */
    tar_writer *writer = tar_writer_open(scratch_path("sizes.tar"), &error);
    char name[256], *picture = malloc(101000);
    for (size_t i = 0; i < 101000; i++) picture[i] = (char)(i * 31 + i / 251);
    static const size_t sizes[] = {0, 1, 511, 512, 513, 1024, 4095, 4096, 4097, 32768, 99999};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(name, sizeof name, "%.*s%zu.jpg", i % 2 ? 180 : 0,
                 "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"
                 "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
                 i);
        assert_int_equal(tar_writer_add(writer, name, picture + i, sizes[i], &error), 0);
    }
    free(picture);
    assert_int_equal(tar_writer_commit(writer, &error), 0);
    assert_int_equal(check_places(scratch_path("sizes.tar")), sizeof sizes / sizeof *sizes);
}

static void test_places_in_tars_of_other_programs(void **state) {
    (void)state;
    char command[1024], name[128], bytes[2000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 7);
    limn_make_directories(scratch_path("many/deep"), NULL);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "many/deep/%.*s%02d.jpg", i % 3 ? 90 : 1,
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", i);
        scratch_write(name, bytes, (size_t)i * 97);
    }
    const char *const forms[] = {"gnu", "pax", "ustar"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(command, sizeof command, "cd %s/many && tar --format=%s -cf ../%s.tar deep", scratch_folder, forms[i],
                 forms[i]);
        if (system(command) != 0) skip();
        snprintf(name, sizeof name, "%s.tar", forms[i]);
        assert_int_equal(check_places(scratch_path(name)), 20);
    }
}

static int pass_over(void *context, const char *key, uint64_t offset, uint64_t size, limn_error *error) {
    (void)context, (void)key, (void)offset, (void)size, (void)error;
    return 0;
}

static void test_places_in_damaged_tars(void **state) {
    (void)state;
    limn_error error = {0};
    size_t size;
    listing self = {.stop_after = 1, .reader = tar_reader_open(write_samples("s.tar"), &error)};
    self.bytes = limn_file_read(scratch_path("s.tar"), 1 << 20, &self.size, &error);
    assert_int_equal(tar_list_pictures(scratch_path("s.tar"), compare_place, &self, &error), -1);
    assert_string_equal(error.message, "enough");
    tar_reader_close(self.reader);
    free(self.bytes);
    char *bytes = limn_file_read(scratch_path("s.tar"), 1 << 20, &size, NULL);
    size_t entries_end = size;
    while (bytes[entries_end - 1] == 0) entries_end--;
    for (size_t cut = 0; cut < entries_end + 512; cut += 256) {
        assert_int_equal(tar_list_pictures(scratch_write("cut.tar", bytes, cut), pass_over, NULL, &error), -1);
        assert_contains(error.message, "cut.tar: ");
    }
    for (int lie = 1; lie <= 300; lie += 299) { /* beyond the file's end; more than is allowed */
        set_size(bytes, (unsigned long long)lie << 20);
        assert_int_equal(tar_list_pictures(scratch_write("lies.tar", bytes, size), pass_over, NULL, &error), -1);
        assert_contains(error.message, "lies.tar: ");
    }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_discard_and_bad_names),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_cut_short_at_every_block),
        cmocka_unit_test(test_cut_short_within_zeros),
        cmocka_unit_test(test_damaged_header),
        cmocka_unit_test(test_sizes_that_lie),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_tar_of_another_program),
        cmocka_unit_test(test_places_of_pictures),
        cmocka_unit_test(test_places_in_tars_of_other_programs),
        cmocka_unit_test(test_places_in_damaged_tars),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
