/* --train: names stand for whole parts of names. */
#include "nn/nn.h"
#include "tests/scratch.h"

static const char *const NAMES[] = {"encoder.conv_in.weight", "quant_conv.weight",    "quantize.embedding.weight",
                                    "decoder.up.0.weight",    "decoder.up.01.weight", "decoder.norm.bias"};
enum { COUNT = sizeof NAMES / sizeof *NAMES };

static parameters named(void) {
    limn_error error = {0};
    parameters set = {0};
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(parameters_add(&set, PARAMETER_PLAIN, 1, &(size_t){1}, &error, "%s", NAMES[i]), i);
    return set;
}

/* expected: a letter for each name, x where it is selected. */
static void check(const char *names, const char *expected) {
    limn_error error = {0};
    parameters set = named();
    bool selected[COUNT];
    if (parameters_select(&set, names, selected, "--train", &error)) fail_msg("%s", error.message);
    for (size_t i = 0; i < COUNT; i++) assert_int_equal(selected[i], expected[i] == 'x');
    parameters_free(&set);
}

static void a_name_stands_for_all_below_it(void **state) {
    (void)state;
    check("decoder", "---xxx");
    check("decoder.up.0", "---x--");
    check("decoder.up.01.weight", "----x-");
    check("quant_conv", "-x----");
    check("encoder,quantize", "x-x---");
    check("decoder.norm,", "-----x");
    check("norm,embedding.weight", "--x--x"); /* wherever they stand */
}

static void refuse(const char *names, const char *words) {
    limn_error error = {0};
    parameters set = named();
    bool selected[COUNT];
    assert_int_equal(parameters_select(&set, names, selected, "--train", &error), -1);
    assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
    assert_contains(error.message, words);
    parameters_free(&set);
}

static void a_name_of_nothing_is_refused(void **state) {
    (void)state;
    refuse("decodr", "'decodr'");
    refuse("quant", "there are encoder, quant_conv, quantize, decoder");
    refuse("decoder,decoder.up.00", "'decoder.up.00'");
    refuse("decoder,,encoder", "''");
    refuse("decoder.", "'decoder.'");
    refuse("", "nothing");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_stands_for_all_below_it),
        cmocka_unit_test(a_name_of_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
