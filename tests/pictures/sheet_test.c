/* Grids, floats and PSNR. */
#include "make.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void nine_in_a_grid(void **state) {
    (void)state;
    picture parts[9], out;
    for (size_t i = 0; i < 9; i++) parts[i] = make_plain(4, 5, (unsigned char)(i * 20), 0, 0);
    assert_int_equal(picture_grid(&out, parts, 9, 3, 2, NULL), 0);
    assert_int_equal(out.width, 3 * 4 + 4 * 2);
    assert_int_equal(out.height, 3 * 5 + 4 * 2);
    for (size_t y = 0; y < out.height; y++)
        for (size_t x = 0; x < out.width; x++) {
            bool gap = x % 6 < 2 || y % 7 < 2;
            const unsigned char *p = out.pixels + (y * out.width + x) * 3;
            assert_int_equal(p[0], gap ? 255 : (y / 7 * 3 + x / 6) * 20);
            assert_int_equal(p[1], gap ? 255 : 0);
        }
    picture_free(&out);
    assert_int_equal(picture_grid(&out, parts, 5, 4, 0, NULL), 0); /* the last row is not full: the rest is white */
    assert_int_equal(out.width, 16);
    assert_int_equal(out.height, 10);
    assert_int_equal(out.pixels[(9 * 16 + 15) * 3], 255);
    picture_free(&out);
    assert_int_equal(picture_grid(&out, parts, 2, 9, 0, NULL), 0); /* no wider than there are pictures */
    assert_int_equal(out.width, 8);
    picture_free(&out);
    limn_error error = {0};
    parts[3].width = 3;
    assert_int_equal(picture_grid(&out, parts, 9, 3, 2, &error), -1);
    assert_int_equal(picture_grid(&out, parts, 0, 3, 2, &error), -1);
    assert_int_equal(picture_grid(&out, parts, 2, 2, SIZE_MAX / 2, &error), -1);
    assert_null(out.pixels);
    for (size_t i = 0; i < 9; i++) picture_free(&parts[i]);
}

static void pasting_cuts_at_the_edge(void **state) {
    (void)state;
    picture sheet = make_plain(4, 4, 0, 0, 0), part = make_plain(3, 3, 9, 9, 9);
    picture_paste(&sheet, &part, 2, 3);
    picture_paste(&sheet, &part, 4, 0);
    picture_paste(&sheet, &part, 0, 99);
    for (size_t y = 0; y < 4; y++)
        for (size_t x = 0; x < 4; x++) assert_int_equal(sheet.pixels[(y * 4 + x) * 3], x >= 2 && y >= 3 ? 9 : 0);
    picture_free(&sheet);
    picture_free(&part);
}

static void floats_and_back(void **state) {
    (void)state;
    picture all, back;
    float values[256 * 3];
    assert_int_equal(picture_create(&all, 16, 16, NULL), 0);
    for (size_t i = 0; i < 256 * 3; i++) all.pixels[i] = (unsigned char)(i / 3);
    picture_to_floats(&all, values);
    assert_true(values[0] == 0.0f && values[256 * 3 - 1] == 1.0f);
    assert_int_equal(picture_from_floats(&back, values, 16, 16, NULL), 0);
    assert_memory_equal(all.pixels, back.pixels, 256 * 3);
    assert_true(isinf(picture_psnr(&all, &back)));
    picture_free(&back);
    const float odd[6] = {-3.0f, 7.0f, NAN, INFINITY, -INFINITY, 0.5f};
    const unsigned char expected[6] = {0, 255, 0, 255, 0, 128};
    assert_int_equal(picture_from_floats(&back, odd, 2, 1, NULL), 0);
    assert_memory_equal(back.pixels, expected, 6);
    picture_free(&back);
    picture_free(&all);
}

static void psnr_by_hand(void **state) {
    (void)state;
    picture a = make_plain(5, 5, 100, 100, 100), b = make_plain(5, 5, 110, 110, 110), c = make_plain(5, 4, 0, 0, 0);
    assert_true(fabs(picture_psnr(&a, &b) - 28.1308) < 1e-3); /* 20·log10(25.5) */
    assert_true(isnan(picture_psnr(&a, &c)));
    picture_free(&a);
    picture_free(&b);
    picture_free(&c);
}

static void sizes_that_cannot_be(void **state) {
    (void)state;
    picture out;
    limn_error error = {0};
    assert_int_equal(picture_create(&out, 0, 5, &error), -1);
    assert_int_equal(picture_create(&out, SIZE_MAX / 2, 5, &error), -1);
    assert_int_equal(picture_create(&out, (size_t)1 << 40, (size_t)1 << 40, &error), -1);
    assert_null(out.pixels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nine_in_a_grid), cmocka_unit_test(pasting_cuts_at_the_edge), cmocka_unit_test(floats_and_back),
        cmocka_unit_test(psnr_by_hand),   cmocka_unit_test(sizes_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
