/* nn_prepare_blas, in a program that pretends that OpenBLAS chose a narrow kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nn/nn.h"

/* In the place of OpenBLAS' own. */
char *openblas_get_corename(void);
char *openblas_get_corename(void) {
    static char narrow[] = "Haswell", wide[] = "SkylakeX";
    const char *asked = getenv("OPENBLAS_CORETYPE");
    return asked != NULL && strcmp(asked, "SkylakeX") == 0 ? wide : narrow;
}

char *openblas_get_config(void);
char *openblas_get_config(void) {
    static char config[] = "OpenBLAS 0.0.0 DYNAMIC_ARCH Haswell";
    return config;
}

/* The first letter of the kernel that a program started with this choice (NULL: none) ends up with: S, H, or - for no choice.
 */
static int kernel_after(const char *choice) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char name[] = "test", argument[] = "child", *argv[] = {name, argument, NULL};
        if (choice != NULL)
            setenv("OPENBLAS_CORETYPE", choice, 1);
        else
            unsetenv("OPENBLAS_CORETYPE");
        execv("/proc/self/exe", argv);
        _exit(1);
    }
    int status = 0;
    assert_true(waitpid(child, &status, 0) == child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_narrow_choice_of_openblas_is_mended_once(void **state) {
    (void)state;
    bool wide = false;
#if defined(__x86_64__) && defined(__GNUC__)
    wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#endif
    assert_int_equal(kernel_after(NULL), wide ? 'S' : '-');
}

static void the_choice_of_the_user_stays(void **state) {
    (void)state;
    assert_int_equal(kernel_after("Haswell"), 'H');
}

int main(int argc, char **argv) {
    if (argc > 1) {
        nn_prepare_blas(argv);
        const char *chosen = getenv("OPENBLAS_CORETYPE");
        return chosen != NULL ? chosen[0] : '-';
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_narrow_choice_of_openblas_is_mended_once),
                                       cmocka_unit_test(the_choice_of_the_user_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
