/* The command line: every kind of option, every complaint, --help, main() and its exit codes. */
#include "tests/scratch.h"

#include <sys/wait.h>

static bool flag, yes_no;
static const char *text, *choice;
static limn_strings list;
static size_t size;
static uint64_t seed;
static double number;

static const limn_option options[] = {
    {"restart", LIMN_OPTION_FLAG, &flag, NULL, "Begin anew.", false},
    {"prompt", LIMN_OPTION_STRING, &text, "TEXT", "What to draw.", false},
    {"precision", LIMN_OPTION_STRING, &choice, "fp32|bf16|int8", "Number format.", false},
    {"input", LIMN_OPTION_STRINGS, &list, "LIST…", "Lists to read.", true},
    {"shard-size", LIMN_OPTION_SIZE, &size, "N", "Rows in a shard.", false},
    {"seed", LIMN_OPTION_SEED, &seed, "N", "Seed.", false},
    {"guidance", LIMN_OPTION_FLOAT, &number, "S", "Guidance scale.", false},
    {"respect-noai", LIMN_OPTION_YES_NO, &yes_no, "yes|no", "Heed noai.", false},
    {0},
};
static const limn_program with_words = {"limn-test", "Tests.", "  $ limn-test --input a\n", "IN…"};
static const limn_program without_words = {"limn-test", "Tests.", NULL, NULL};

/* Parses the words (the last is NULL) and returns what limn_options_parse does. */
static int parse(const limn_program *program, limn_strings *words, limn_error *error, char **argv) {
    int argc = 0;
    while (argv[argc]) argc++;
    flag = yes_no = false;
    text = NULL;
    choice = "fp32";
    limn_strings_free(&list);
    size = 10000;
    seed = 0;
    number = 10;
    memset(error, 0, sizeof *error);
    return limn_options_parse(program, options, argc, argv, words, error);
}
#define ARGUMENTS(...) ((char *[]){"limn-test", __VA_ARGS__, NULL})

static void test_every_kind(void **state) {
    (void)state;
    limn_error error;
    limn_strings words;
    int result = parse(&with_words, &words, &error,
                       ARGUMENTS("one", "--input", "a", "b", "--restart", "two", "--prompt=a=b c", "--precision", "bf16",
                                 "--input=c", "--shard-size", "20k", "--seed", "18446744073709551615", "--guidance", "-2.5",
                                 "--respect-noai", "yes", "--", "--three"));
    assert_string_equal(error.message, "");
    assert_int_equal(result, 0);
    assert_true(flag && yes_no);
    assert_string_equal(text, "a=b c");
    assert_string_equal(choice, "bf16");
    assert_int_equal(list.count, 3);
    assert_string_equal(list.items[2], "c");
    assert_int_equal(size, 20000);
    assert_true(seed == UINT64_MAX);
    assert_true(number == -2.5);
    assert_int_equal(words.count, 3);
    assert_string_equal(words.items[0], "one");
    assert_string_equal(words.items[2], "--three");
    limn_strings_free(&words);
}

static void test_defaults_stay(void **state) {
    (void)state;
    limn_error error;
    assert_int_equal(parse(&without_words, NULL, &error, ARGUMENTS("--input", "a")), 0);
    assert_int_equal(size, 10000);
    assert_string_equal(choice, "fp32");
    assert_true(number == 10 && !flag && !yes_no);
}

/* Each is a usage error whose sentence holds this part. */
static void test_complaints(void **state) {
    (void)state;
    static const struct {
        char *words[4];
        const char *part;
    } cases[] = {
        {{"--shard-sise", "3"}, "unknown option --shard-sise; did you mean --shard-size?"},
        {{"--thread", "3"}, "did you mean --threads?"},
        {{"--zzzzzzzzzz"}, "unknown option --zzzzzzzzzz; --help"},
        {{"-x"}, "unknown option -x"},
        {{"stray"}, "'stray' is not understood"},
        {{"--prompt"}, "--prompt needs a value: --prompt TEXT"},
        {{"--prompt", "--restart"}, "--prompt needs a value"},
        {{"--input", "--restart"}, "--input needs a value"},
        {{"--restart=yes"}, "--restart takes no value"},
        {{"--precision", "fp64"}, "must be one of fp32|bf16|int8"},
        {{"--precision", "fp"}, "must be one of fp32|bf16|int8"},
        {{"--shard-size", "-3"}, "--shard-size is '-3'"},
        {{"--shard-size", "3x"}, "whole number"},
        {{"--shard-size", "3kk"}, "whole number"},
        {{"--shard-size", ""}, "whole number"},
        {{"--shard-size", "99999999999999999999"}, "whole number"},
        {{"--shard-size", "99999999999999999G"}, "whole number"},
        {{"--seed", "1.5"}, "below 2^64"},
        {{"--seed", "18446744073709551616"}, "below 2^64"},
        {{"--guidance", "much"}, "must be a number"},
        {{"--guidance", "nan"}, "must be a number"},
        {{"--guidance", "1e999"}, "must be a number"},
        {{"--respect-noai", "maybe"}, "must be yes or no"},
        {{"--log-level", "loud"}, "must be one of debug|info|warning|error"},
        {{"--threads", "100000"}, "--threads is 100000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        limn_error error;
        char *const *given = cases[i].words;
        /* A NULL among the words ends them: the table's rows have different lengths. */
        int result = parse(&without_words, NULL, &error, ARGUMENTS("--input=a", given[0], given[1]));
        assert_int_equal(result, -1);
        assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);
        assert_contains(error.message, cases[i].part);
    }
    limn_error error;
    assert_int_equal(parse(&without_words, NULL, &error, ARGUMENTS("--restart")), -1);
    assert_contains(error.message, "--input LIST… is missing");
}

static void test_common_options(void **state) {
    (void)state;
    limn_error error;
    assert_int_equal(parse(&without_words, NULL, &error, ARGUMENTS("--input=a", "--threads", "3", "--log-level", "debug")), 0);
    assert_int_equal(limn_get_threads(), 3);
    assert_int_equal(limn_get_log_level(), LIMN_LOG_DEBUG);
    assert_int_equal(parse(&without_words, NULL, &error, ARGUMENTS("--input=a", "--quiet")), 0);
    assert_int_equal(limn_get_log_level(), LIMN_LOG_QUIET);
    limn_set_log_level(LIMN_LOG_INFO);
}

static void test_help(void **state) {
    (void)state;
    limn_error error;
    scratch_capture(1);
    int result = parse(&with_words, NULL, &error, ARGUMENTS("--nonsense", "--help"));
    char *printed = scratch_captured(1);
    assert_int_equal(result, 1);
    assert_contains(printed, "usage: limn-test --input LIST… [options] IN…\n");
    assert_contains(printed, "  --shard-size N");
    assert_contains(printed, "Rows in a shard. (default: 10000)\n");
    assert_contains(printed, "Number format. (default: fp32)\n");
    assert_contains(printed, "Lists to read. (required)\n");
    assert_contains(printed, "  --threads N");
    assert_contains(printed, "$ limn-test --input a\n");
    free(printed);
}

static int succeed(int argc, char **argv, limn_error *error) {
    (void)argc, (void)argv, (void)error;
    return 0;
}
static int fail_plainly(int argc, char **argv, limn_error *error) {
    (void)argc;
    return limn_fail(error, "%s cannot", argv[0]);
}
static int misuse(int argc, char **argv, limn_error *error) {
    (void)argc, (void)argv;
    return limn_fail_usage(error, "wrong");
}
static int interrupted(int argc, char **argv, limn_error *error) {
    (void)argc, (void)argv, (void)error;
    raise(SIGINT);
    return limn_stop_requested() ? 0 : limn_fail(error, "the signal was not noticed");
}
static int interrupted_twice(int argc, char **argv, limn_error *error) {
    (void)argc, (void)argv;
    raise(SIGTERM);
    raise(SIGINT);
    return limn_fail(error, "still here");
}
static int print_much(int argc, char **argv, limn_error *error) {
    (void)argc, (void)argv, (void)error;
    printf("a result\n");
    return 0;
}

/* Runs main in a child whose stdout goes to `output`; its exit code, and what it wrote to stderr in *out_errors. */
static int run_main(limn_main_function function, const char *output, char **out_errors) {
    scratch_capture(2);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen(output, "w", stdout)) _exit(77);
        _exit(limn_main(1, (char *[]){"/some/where/limn-test", NULL}, function));
    }
    int status = 0;
    waitpid(child, &status, 0);
    *out_errors = scratch_captured(2);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_main(void **state) {
    (void)state;
    static const struct {
        limn_main_function function;
        const char *output;
        int exit_code;
        const char *errors;
    } cases[] = {
        {succeed, "/dev/null", LIMN_EXIT_DONE, ""},
        {fail_plainly, "/dev/null", LIMN_EXIT_FAILED, "limn-test: /some/where/limn-test cannot\n"},
        {misuse, "/dev/null", LIMN_EXIT_USAGE, "limn-test: wrong\n"},
        {interrupted, "/dev/null", LIMN_EXIT_INTERRUPTED, ""},
        {interrupted_twice, "/dev/null", LIMN_EXIT_INTERRUPTED, ""},
        {print_much, "/dev/null", LIMN_EXIT_DONE, ""},
        {print_much, "/dev/full", LIMN_EXIT_FAILED, "limn-test: cannot write to standard output: No space left on device\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *errors;
        assert_int_equal(run_main(cases[i].function, cases[i].output, &errors), cases[i].exit_code);
        assert_string_equal(errors, cases[i].errors);
        free(errors);
    }
}

static void test_subcommands(void **state) {
    (void)state;
    static const limn_subcommand commands[] = {{"train", "Trains.", fail_plainly}, {"encode", "Encodes.", succeed}, {0}};
    scratch_capture(2);
    assert_int_equal(limn_main_subcommands(2, (char *[]){"bin/limn-vqgan", "encode", NULL}, "s", commands), LIMN_EXIT_DONE);
    assert_int_equal(limn_main_subcommands(2, (char *[]){"bin/limn-vqgan", "train", NULL}, "s", commands), LIMN_EXIT_FAILED);
    assert_int_equal(limn_main_subcommands(2, (char *[]){"bin/limn-vqgan", "tarin", NULL}, "s", commands), LIMN_EXIT_USAGE);
    assert_int_equal(limn_main_subcommands(1, (char *[]){"bin/limn-vqgan", NULL}, "s", commands), LIMN_EXIT_USAGE);
    char *errors = scratch_captured(2);
    assert_contains(errors, "limn-vqgan train: train cannot\n");
    assert_contains(errors, "limn-vqgan: unknown command 'tarin'; did you mean 'train'?\n");
    assert_contains(errors, "limn-vqgan: say what to do: train, encode\n");
    free(errors);
    scratch_capture(1);
    assert_int_equal(limn_main_subcommands(2, (char *[]){"bin/limn-vqgan", "--help", NULL}, "What it is.", commands),
                     LIMN_EXIT_DONE);
    char *printed = scratch_captured(1);
    assert_contains(printed, "What it is.");
    assert_contains(printed, "  encode  Encodes.\n");
    free(printed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),     cmocka_unit_test(test_defaults_stay), cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_common_options), cmocka_unit_test(test_help),          cmocka_unit_test(test_main),
        cmocka_unit_test(test_subcommands),
    };
    int failed = cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
    limn_strings_free(&list);
    return failed;
}
