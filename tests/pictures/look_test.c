/* What a picture looks like: blurring, and the hash by which duplicates are found. */
#include "make.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static double variance(const picture *p, size_t left, size_t top, size_t right, size_t bottom) {
    double sum = 0, squares = 0, count = 0;
    for (size_t y = top; y < bottom; y++)
        for (size_t x = left; x < right; x++) {
            const double value = p->pixels[(y * p->width + x) * 3 + 1];
            sum += value;
            squares += value * value;
            count++;
        }
    return squares / count - sum * sum / count / count;
}

/* Stripes of two pixels: nothing of them may be left in the box, all of them must be left outside its margin. */
static picture make_stripes(size_t width, size_t height) {
    picture out = make_plain(width, height, 0, 0, 0);
    for (size_t i = 0; i < width * height; i++) memset(out.pixels + i * 3, i % width / 2 % 2 ? 255 : 0, 3);
    return out;
}

static void a_box_is_blurred(void **state) {
    (void)state;
    picture was = make_stripes(200, 100), is = make_stripes(200, 100);
    const picture_box box = {0.25, 0.3, 0.5, 0.7}; /* 50..100 × 30..70, diagonal 64, margin 6.4 */
    assert_int_equal(picture_blur(&is, &box, 1, NULL), 0);
    assert_true(variance(&was, 50, 30, 100, 70) > 10000);
    assert_true(variance(&is, 44, 24, 106, 76) < 30);
    for (size_t y = 0; y < 100; y++)
        for (size_t x = 0; x < 200; x++)
            if (x < 43 || x >= 107 || y < 23 || y >= 77)
                assert_memory_equal(was.pixels + (y * 200 + x) * 3, is.pixels + (y * 200 + x) * 3, 3);
    picture_free(&was);
    picture_free(&is);
}

/* At the picture's edges and corners, over all of it, several at once, and of hardly a pixel. */
static void boxes_anywhere(void **state) {
    (void)state;
    const picture_box boxes[] = {{0, 0, 0.3, 0.3}, {0.8, 0.8, 1, 1}, {0, 0, 1, 1}, {0.5, 0.5, 0.5001, 0.5001}, {0, 0.99, 1, 1}};
    const size_t sizes[][2] = {{200, 100}, {1, 1}, {3, 50}, {50, 3}};
    for (size_t s = 0; s < 4; s++) {
        picture p = make_stripes(sizes[s][0], sizes[s][1]);
        for (size_t i = 0; i < 5; i++) assert_int_equal(picture_blur(&p, &boxes[i], 5 - i, NULL), 0);
        picture_free(&p);
    }
    picture p = make_stripes(200, 100);
    assert_int_equal(picture_blur(&p, &boxes[2], 1, NULL), 0);
    for (size_t i = 1; i < 200; i++) assert_true(abs(p.pixels[50 * 600 + i * 3] - p.pixels[50 * 600 + i * 3 - 3]) < 12);
    picture_free(&p);
    p = make_plain(90, 80, 10, 250, 77); /* a plain picture stays what it is */
    picture same = make_plain(90, 80, 10, 250, 77);
    assert_int_equal(picture_blur(&p, boxes, 3, NULL), 0);
    assert_true(isinf(picture_psnr(&p, &same)));
    picture_free(&p);
    picture_free(&same);
}

static int distance(uint64_t a, uint64_t b) {
    return __builtin_popcountll(a ^ b);
}

static void a_hash_outlives_scaling_and_coding(void **state) {
    (void)state;
    uint64_t hashes[40];
    for (uint64_t seed = 0; seed < 40; seed++) {
        picture photo = make_photo(300, 200, seed), small, again;
        hashes[seed] = picture_perceptual_hash(&photo);
        assert_int_equal(picture_resize(&photo, &small, RESIZE_KEEP_RATIO, 90, NULL), 0);
        assert_true(distance(hashes[seed], picture_perceptual_hash(&small)) <= 3);
        limn_buffer bytes = {0};
        assert_int_equal(picture_encode_jpeg(&small, 60, &bytes, NULL), 0);
        assert_int_equal(picture_decode(&again, (const unsigned char *)bytes.data, bytes.size, NULL, NULL, NULL, NULL), 0);
        assert_true(distance(hashes[seed], picture_perceptual_hash(&again)) <= 3);
        assert_int_equal(__builtin_popcountll(hashes[seed]), 32); /* half of them lie above the median */
        for (uint64_t other = 0; other < seed; other++) assert_true(distance(hashes[seed], hashes[other]) > 3);
        limn_buffer_free(&bytes);
        picture_free(&photo);
        picture_free(&small);
        picture_free(&again);
    }
}

static void pictures_without_structure_have_none(void **state) {
    (void)state;
    picture plain = make_plain(70, 50, 200, 10, 40), dot = make_plain(1, 1, 3, 4, 5), line = make_photo(500, 1, 2);
    assert_true(picture_perceptual_hash(&plain) == 0);
    assert_true(picture_perceptual_hash(&dot) == 0);
    picture_perceptual_hash(&line); /* whatever it is */
    picture_free(&plain);
    picture_free(&dot);
    picture_free(&line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_box_is_blurred),
        cmocka_unit_test(boxes_anywhere),
        cmocka_unit_test(a_hash_outlives_scaling_and_coding),
        cmocka_unit_test(pictures_without_structure_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
