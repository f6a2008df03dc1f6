/* The front program: `limn X` becomes limn-X found beside it, else in PATH. */
#include "tests/scratch.h"

#include <sys/stat.h>
#include <sys/wait.h>

/* Puts a copy of limn and some programs into the folder; runs it with the words; its exit code, and what it printed. */
static int run_limn(const char *words, char **out) {
    char command[2048];
    snprintf(command, sizeof command, "PATH=%s/elsewhere:$PATH %s/bin/limn %s > %s/printed 2>&1", scratch_folder,
             scratch_folder, words, scratch_folder);
    int status = system(command);
    *out = limn_file_read(scratch_path("printed"), 65536, NULL, NULL);
    assert_non_null(*out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void write_program(const char *name, const char *text) {
    assert_int_equal(chmod(scratch_write(name, text, strlen(text)), 0755), 0);
}

static int setup(void **state) {
    if (scratch_setup(state)) return -1;
    limn_make_directories(scratch_path("bin"), NULL);
    limn_make_directories(scratch_path("elsewhere"), NULL);
    char command[2048];
    snprintf(command, sizeof command, "cp %s %s/bin/limn", LIMN_PROGRAM, scratch_folder);
    if (system(command) != 0) return -1;
    write_program("bin/limn-sample", "#!/bin/sh\necho \"beside: $*\"; exit 3\n");
    write_program("elsewhere/limn-sample", "#!/bin/sh\necho wrong\n");
    write_program("elsewhere/limn-extra", "#!/bin/sh\necho \"path: $1\"\n");
    write_program("elsewhere/limn-notes.txt", "#!/bin/sh\n");
    write_program("bin/limn-broken", "\177ELF");
    scratch_write("bin/limn-plain", "", 0);
    return 0;
}

static void expect(const char *words, int exit_code, const char *part) {
    char *printed;
    assert_int_equal(run_limn(words, &printed), exit_code);
    assert_contains(printed, part);
    free(printed);
}

static void test_runs_programs(void **state) {
    (void)state;
    expect("sample 'a b' --seed 3", 3, "beside: a b --seed 3\n");
    expect("extra x", 0, "path: x\n");
    expect("broken", LIMN_EXIT_FAILED, "limn: cannot start limn-broken: ");
}

static void test_refuses(void **state) {
    (void)state;
    expect("smaple", LIMN_EXIT_USAGE, "limn: there is no program 'smaple'; did you mean 'sample'?\n");
    expect("wavelength", LIMN_EXIT_USAGE, "there is no program 'wavelength'; 'limn --help' lists");
    expect("../bin/limn-sample", LIMN_EXIT_USAGE, "there is no program");
    expect("--colour", LIMN_EXIT_USAGE, "unknown option --colour");
}

static void test_lists(void **state) {
    (void)state;
    expect("--version", 0, "limn " LIMN_VERSION "\n");
    static const char *const ways[] = {"", "--help", "-h"};
    for (size_t i = 0; i < 3; i++) {
        char *printed;
        assert_int_equal(run_limn(ways[i], &printed), 0);
        assert_contains(printed, "usage: limn PROGRAM");
        assert_contains(printed, "\n  extra\n");
        const char *sample = strstr(printed, "\n  sample\n");
        assert_non_null(sample);
        assert_null(strstr(sample + 1, "\n  sample\n")); /* once, though it is found twice */
        assert_null(strstr(printed, "plain"));           /* not executable */
        assert_null(strstr(printed, "notes"));
        free(printed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_programs),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
