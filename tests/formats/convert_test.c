/* float to the narrow types and back: every binary16, and the corners of rounding. */
#include "formats/formats.h"
#include "tests/scratch.h"

#include <math.h>

/* IEEE 754 binary16 by its definition. */
static double f16_value(unsigned half) {
    unsigned exponent = half >> 10 & 31, fraction = half & 1023;
    double magnitude = exponent ? ldexp(1024 + fraction, (int)exponent - 25) : ldexp(fraction, -24);
    return half & 0x8000 ? -magnitude : magnitude;
}

static uint16_t to_16(tensor_type type, float value) {
    uint16_t out;
    tensor_from_float(type, &value, 1, &out);
    return out;
}

static float from_16(tensor_type type, uint16_t bits) {
    float out;
    tensor_to_float(&(tensor){.type = type, .rank = 1, .shape = {1}, .count = 1, .data = &bits}, 0, 1, &out);
    return out;
}

static void test_every_f16(void **state) {
    (void)state;
    static uint16_t all[65536], back[65536];
    static float values[65536];
    for (unsigned i = 0; i < 65536; i++) all[i] = (uint16_t)i;
    tensor_to_float(&(tensor){.type = TENSOR_F16, .rank = 1, .shape = {65536}, .count = 65536, .data = all}, 0, 65536, values);
    tensor_from_float(TENSOR_F16, values, 65536, back);
    for (unsigned i = 0; i < 65536; i++) {
        bool special = (i & 0x7c00) == 0x7c00, nan = special && i & 0x3ff;
        if (nan) {
            assert_true(isnan(values[i]));
            assert_int_equal(back[i], i | 0x0200); /* quiet, and otherwise the same */
            continue;
        }
        assert_int_equal(back[i], i);
        assert_true(special ? isinf(values[i]) && (values[i] < 0) == (i >> 15) : (double)values[i] == f16_value(i));
        assert_int_equal(signbit(values[i]) != 0, i >> 15);
    }
    /* Between two neighbours: the nearer, and the even one in the middle. */
    for (unsigned i = 0; i < 0x7bff; i++) {
        float middle = (float)((f16_value(i) + f16_value(i + 1)) / 2); /* exact */
        unsigned even = i & 1 ? i + 1 : i;
        assert_int_equal(to_16(TENSOR_F16, middle), even);
        assert_int_equal(to_16(TENSOR_F16, -middle), even | 0x8000);
        assert_int_equal(to_16(TENSOR_F16, nextafterf(middle, 0)), i);
        assert_int_equal(to_16(TENSOR_F16, nextafterf(middle, INFINITY)), i + 1);
    }
}

static void test_f16_ends(void **state) {
    (void)state;
    assert_int_equal(to_16(TENSOR_F16, 65504), 0x7bff);
    assert_int_equal(to_16(TENSOR_F16, nextafterf(65520, 0)), 0x7bff);
    assert_int_equal(to_16(TENSOR_F16, 65520), 0x7c00);
    assert_int_equal(to_16(TENSOR_F16, -1e30f), 0xfc00);
    assert_int_equal(to_16(TENSOR_F16, INFINITY), 0x7c00);
    assert_int_equal(to_16(TENSOR_F16, 1e-30f), 0);
    assert_int_equal(to_16(TENSOR_F16, -1e-44f), 0x8000);
    assert_int_equal(to_16(TENSOR_F16, 0x1p-25f), 0); /* half of the smallest: to even */
    assert_int_equal(to_16(TENSOR_F16, nextafterf(0x1p-25f, 1)), 1);
}

static void test_bf16(void **state) {
    (void)state;
    for (unsigned i = 0; i < 65536; i++) {
        float value = from_16(TENSOR_BF16, (uint16_t)i);
        bool nan = (i & 0x7fff) > 0x7f80;
        assert_int_equal(to_16(TENSOR_BF16, value), nan ? i | 0x0040 : i);
        assert_int_equal(isnan(value) != 0, nan);
    }
    static const struct {
        uint32_t bits;
        uint16_t expected;
    } cases[] = {{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x3f807fff, 0x3f80},
                 {0x7f7fffff, 0x7f80}, {0xff7fffff, 0xff80}, {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff},
                 {0x00008000, 0x0000}, {0x00018000, 0x0002}, {0x80008001, 0x8001}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float value;
        memcpy(&value, &cases[i].bits, sizeof value);
        assert_int_equal(to_16(TENSOR_BF16, value), cases[i].expected);
    }
}

static void test_other_types(void **state) {
    (void)state;
    const float in[] = {0.5f, 1.5f, -2.5f, 300, -1e30f, 1e30f, NAN, -0.0f};
    unsigned char unaligned[8 * 8 + 1];
    double reals[8];
    int64_t longs[8];
    int32_t ints[8];
    uint16_t shorts[8];
    tensor_from_float(TENSOR_F32, in, 8, unaligned + 1);
    assert_memory_equal(unaligned + 1, in, sizeof in);
    tensor_from_float(TENSOR_F64, in, 8, unaligned + 1);
    memcpy(reals, unaligned + 1, sizeof reals);
    assert_true(reals[1] == 1.5 && isnan(reals[6]));
    tensor_from_float(TENSOR_I64, in, 8, longs);
    assert_memory_equal(longs, ((int64_t[]){0, 2, -2, 300, INT64_MIN, INT64_MAX, 0, 0}), sizeof longs);
    tensor_from_float(TENSOR_I32, in, 8, ints);
    assert_memory_equal(ints, ((int32_t[]){0, 2, -2, 300, INT32_MIN, INT32_MAX, 0, 0}), sizeof ints);
    tensor_from_float(TENSOR_U16, in, 8, shorts);
    assert_memory_equal(shorts, ((uint16_t[]){0, 2, 0, 300, 0, 65535, 0, 0}), sizeof shorts);
    tensor_from_float(TENSOR_U8, in, 8, unaligned);
    assert_memory_equal(unaligned, ((uint8_t[]){0, 2, 0, 255, 0, 255, 0, 0}), 8);
    tensor_from_float(TENSOR_BOOL, in, 8, unaligned);
    assert_memory_equal(unaligned, ((uint8_t[]){1, 1, 1, 1, 1, 1, 1, 0}), 8);
    tensor_from_float(TENSOR_F32, NULL, 0, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_f16),
        cmocka_unit_test(test_f16_ends),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_other_types),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
