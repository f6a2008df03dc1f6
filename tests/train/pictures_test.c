/* Pictures that stay in their tars, and batches of them decoded ahead: order, broken pictures, tars that go away. */
#include "formats/formats.h"
#include "pictures/pictures.h"
#include "tests/scratch.h"
#include "train/picture_set.h"
#include "train/train.h"

#include <math.h>

enum { SIDE = 8, FLOATS = SIDE * SIDE * 3, BATCH = 4, SEED = 5 };

/* A tar of pictures first … first+count−1, each of one colour that tells its number; `broken` is no picture (SIZE_MAX: none).
 */
static const char *write_tar(const char *name, size_t first, size_t count, size_t broken) {
    limn_error error = {0};
    const char *path = scratch_path(name);
    unlink(path);
    tar_writer *writer = tar_writer_open(path, &error);
    assert_non_null(writer);
    for (size_t n = first; n < first + count; n++) {
        picture made;
        limn_buffer bytes = {0};
        char entry[64];
        snprintf(entry, sizeof entry, "%05zu.png", n);
        assert_int_equal(picture_create(&made, SIDE, SIDE, &error), 0);
        for (size_t i = 0; i < FLOATS; i++) made.pixels[i] = (unsigned char)n;
        assert_int_equal(picture_encode_png(&made, &bytes, &error), 0);
        if (n == broken) memset(bytes.data + 20, 7, bytes.size - 20);
        assert_int_equal(tar_writer_add(writer, entry, bytes.data, bytes.size, &error), 0);
        snprintf(entry, sizeof entry, "%05zu.txt", n);
        assert_int_equal(tar_writer_add(writer, entry, "a colour", 8, &error), 0);
        picture_free(&made);
        limn_buffer_free(&bytes);
    }
    assert_int_equal(tar_writer_commit(writer, &error), 0);
    return path;
}

static picture_set open_set(const char *const *paths, size_t count, bool decode) {
    limn_error error = {0};
    picture_set set;
    limn_strings list = {.count = count, .items = (const char **)(uintptr_t)paths};
    if (picture_set_open(&set, &list, decode, &error)) fail_msg("%s", error.message);
    return set;
}

static size_t number_of(const float *pixels) {
    for (size_t i = 1; i < FLOATS; i++) assert_true(fabsf(pixels[i] - pixels[0]) == 0);
    return (size_t)lroundf(pixels[0] * 255);
}

static picture_set two_tars(size_t broken) {
    const char *const paths[] = {write_tar("0.tar", 10, 7, broken), write_tar("1.tar", 40, 6, broken)};
    return open_set(paths, 2, false);
}

/* The number that picture n of the two has. */
static size_t number_in_two(size_t n) {
    return n < 7 ? 10 + n : 33 + n;
}

static size_t number_at(const picture_set *set, size_t n) {
    limn_error error = {0};
    limn_buffer room = {0};
    float pixels[FLOATS];
    int status = picture_set_decode(set, n, SIDE, pixels, &room, &error);
    limn_buffer_free(&room);
    return status == 0 ? number_of(pixels) : SIZE_MAX;
}

static void pictures_stay_in_the_order_of_their_tars(void **state) {
    (void)state;
    picture_set set = two_tars(SIZE_MAX);
    assert_int_equal(set.count, 13);
    for (size_t n = 0; n < 13; n++) assert_int_equal(number_at(&set, n), number_in_two(n));
    picture_set_close(&set);
}

/* Three epochs, one after another, and again from a step in the middle as by a run that is gone on with. */
static void batches_follow_the_run_s_order(void **state) {
    (void)state;
    limn_error error = {0};
    picture_set set = two_tars(SIZE_MAX);
    picture_stream *stream = picture_stream_start(&set, SIDE, BATCH, SEED, &error);
    assert_non_null(stream);
    uint64_t order[13], epoch = UINT64_MAX;
    float pixels[BATCH * FLOATS];
    static const uint64_t batches[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 5, 6, 6, 7, 1, 1, 2, 9};
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        assert_int_equal(picture_stream_take(stream, batches[i], pixels, &error), 0);
        for (size_t b = 0; b < BATCH; b++) {
            size_t n = data_order_at(order, &epoch, 13, SEED, (batches[i] - 1) * BATCH + b);
            assert_int_equal(number_of(pixels + b * FLOATS), number_in_two(n));
        }
    }
    picture_stream_stop(stream);
    picture_set_close(&set);
}

/* The next in its epoch's order stands in, whether the batch is reached step by step or gone on with. */
static void a_broken_picture_is_replaced(void **state) {
    (void)state;
    limn_error error = {0};
    picture_set set = two_tars(12);
    assert_int_equal(set.count, 13);
    assert_int_equal(number_at(&set, 2), SIZE_MAX);
    picture_stream *stream = picture_stream_start(&set, SIDE, BATCH, SEED, &error);
    uint64_t order[13], epoch = UINT64_MAX;
    float pixels[BATCH * FLOATS], again[BATCH * FLOATS];
    size_t replaced = 0;
    for (uint64_t number = 1; number <= 13; number++) { /* four epochs of 13 */
        assert_int_equal(picture_stream_take(stream, number, pixels, &error), 0);
        for (size_t b = 0; b < BATCH; b++) {
            uint64_t draw = (number - 1) * BATCH + b;
            size_t n = data_order_at(order, &epoch, 13, SEED, draw);
            if (n == 2) {
                n = data_order_at(order, &epoch, 13, SEED, draw / 13 * 13 + (draw + 1) % 13);
                replaced++;
            }
            assert_int_equal(number_of(pixels + b * FLOATS), number_in_two(n));
        }
        picture_stream *other = picture_stream_start(&set, SIDE, BATCH, SEED, &error);
        assert_int_equal(picture_stream_take(other, number, again, &error), 0);
        assert_memory_equal(again, pixels, sizeof pixels);
        picture_stream_stop(other);
    }
    assert_int_equal(replaced, 4);
    picture_stream_stop(stream);
    picture_set_close(&set);
    const char *const paths[] = {scratch_path("0.tar"), scratch_path("1.tar")};
    picture_set valid = open_set(paths, 2, true); /* left out at the start */
    assert_int_equal(valid.count, 12);
    assert_int_equal(number_at(&valid, 2), 13);
    picture_set_close(&valid);
}

static void where_none_can_be_decoded(void **state) {
    (void)state;
    limn_error error = {0};
    const char *const paths[] = {write_tar("only.tar", 3, 1, 3)};
    picture_set set = open_set(paths, 1, false);
    picture_stream *stream = picture_stream_start(&set, SIDE, BATCH, SEED, &error);
    float pixels[BATCH * FLOATS];
    assert_int_equal(picture_stream_take(stream, 1, pixels, &error), -1);
    assert_contains(error.message, "only.tar");
    assert_contains(error.message, "cannot be decoded");
    picture_stream_stop(stream);
    picture_set_close(&set);
    limn_strings list = {.count = 1, .items = (const char **)(uintptr_t)paths};
    assert_int_equal(picture_set_open(&set, &list, true, &error), -1);
    assert_contains(error.message, "no picture that can be decoded");
    write_tar("none.tar", 3, 0, 0);
    const char *none = scratch_path("none.tar");
    list.items = &none;
    assert_int_equal(picture_set_open(&set, &list, false, &error), -1);
    assert_contains(error.message, "none.tar");
}

/* The error names the tar; once it is back, the same step goes on. */
static void a_tar_that_goes_away(void **state) {
    (void)state;
    limn_error error = {0};
    picture_set set = two_tars(SIZE_MAX);
    picture_stream *stream = picture_stream_start(&set, SIDE, BATCH, SEED, &error);
    float pixels[BATCH * FLOATS], before[BATCH * FLOATS];
    size_t size;
    char *bytes = limn_file_read(scratch_path("1.tar"), 1 << 20, &size, &error);
    assert_int_equal(picture_stream_take(stream, 7, before, &error), 0); /* has pictures of both tars */
    for (int cut = 0; cut < 2; cut++) {
        if (cut)
            scratch_write("1.tar", bytes, 1000);
        else
            unlink(scratch_path("1.tar"));
        assert_int_equal(picture_stream_take(stream, 7, pixels, &error), -1);
        assert_contains(error.message, "1.tar");
        assert_int_equal(picture_stream_take(stream, 7, pixels, &error), -1);
        scratch_write("1.tar", bytes, size);
        assert_int_equal(picture_stream_take(stream, 7, pixels, &error), 0);
        assert_memory_equal(pixels, before, sizeof pixels);
    }
    free(bytes);
    picture_stream_stop(stream);
    picture_set_close(&set);
}

static void wrong_tars_are_told(void **state) {
    (void)state;
    limn_error error = {0};
    picture_set set;
    const char *paths[] = {write_tar("a.tar", 1, 2, SIZE_MAX), scratch_write("b.tar", "no tar", 6), scratch_path("c.tar")};
    limn_strings list = {.count = 2, .items = paths};
    assert_int_equal(picture_set_open(&set, &list, false, &error), -1);
    assert_contains(error.message, "b.tar");
    list.count = 3;
    assert_int_equal(picture_set_open(&set, &list, false, &error), -1);
    assert_contains(error.message, "c.tar");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_stay_in_the_order_of_their_tars),
        cmocka_unit_test(batches_follow_the_run_s_order),
        cmocka_unit_test(a_broken_picture_is_replaced),
        cmocka_unit_test(where_none_can_be_decoded),
        cmocka_unit_test(a_tar_that_goes_away),
        cmocka_unit_test(wrong_tars_are_told),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
