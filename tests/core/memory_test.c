/* Allocation, buffers, the arena, thread counts. */
#include "tests/scratch.h"

#include <sched.h>
#include <sys/wait.h>

static void test_multiply(void **state) {
    (void)state;
    limn_error error = {0};
    size_t out = 0;
    assert_int_equal(limn_multiply(SIZE_MAX / 2, 2, &out, &error), 0);
    assert_int_equal(out, SIZE_MAX - 1);
    assert_int_equal(limn_multiply(SIZE_MAX / 2 + 1, 2, &out, &error), -1);
    assert_contains(error.message, "does not fit");
}

static void test_allocate(void **state) {
    (void)state;
    limn_error error = {0};
    for (size_t size = 0; size < 200; size += 33) {
        unsigned char *memory = limn_allocate(size, 3, &error);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < size * 3; i++) assert_int_equal(memory[i], 0);
        free(memory);
    }
    assert_null(limn_allocate(SIZE_MAX, 2, &error));
    assert_contains(error.message, "does not fit");
    assert_null(limn_allocate(SIZE_MAX, 1, &error));
    assert_contains(error.message, "out of memory: 18446744073709551615 bytes");
}

static void test_buffer(void **state) {
    (void)state;
    limn_buffer buffer = {0};
    assert_int_equal(limn_buffer_append(&buffer, NULL, 0, NULL), 0);
    assert_string_equal(buffer.data, "");
    for (int i = 0; i < 1000; i++) assert_int_equal(limn_buffer_printf(&buffer, NULL, "%d,", i), 0);
    assert_int_equal(buffer.size, 3890);
    assert_memory_equal(buffer.data + buffer.size - 4, "999,", 5);
    limn_error error = {0};
    assert_int_equal(limn_buffer_append(&buffer, "x", SIZE_MAX - 10, &error), -1);
    assert_contains(error.message, "out of memory");
    assert_int_equal(buffer.size, 3890);
    limn_buffer_free(&buffer);
    assert_null(buffer.data);
}

static void test_arena(void **state) {
    (void)state;
    limn_arena *arena = limn_arena_create(1 << 20, NULL);
    assert_non_null(arena);
    float *a = limn_arena_floats(arena, 3);
    size_t mark = limn_arena_mark(arena);
    float *b = limn_arena_floats(arena, 5);
    assert_int_equal((uintptr_t)b % 64, 0);
    assert_true(b >= a + 3);
    a[2] = 1;
    b[4] = 2;
    limn_arena_release(arena, mark);
    assert_ptr_equal(limn_arena_floats(arena, 1), b);
    assert_int_equal(limn_arena_peak(arena), 128);
    assert_int_equal(limn_arena_left(arena), (1 << 20) - 128);
    limn_arena_release(arena, 0);
    memset(limn_arena_bytes(arena, limn_arena_left(arena)), 1, 1 << 20);
    assert_int_equal(limn_arena_left(arena), 0);
    limn_arena_destroy(arena);
    limn_arena_destroy(NULL);
    limn_error error = {0};
    assert_null(limn_arena_create(SIZE_MAX / 2, &error));
    assert_contains(error.message, "address space");
}

/* Asks for more than there is, in a child that must die of it with these words. */
static void run_out(size_t count) {
    scratch_capture(2);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        limn_arena *arena = limn_arena_create(1000, NULL);
        signal(SIGABRT, SIG_DFL);
        limn_arena_floats(arena, count);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    char *text = scratch_captured(2);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_contains(text, "needs more than");
    free(text);
}

static void test_arena_runs_out_loudly(void **state) {
    (void)state;
    run_out(1000);
    run_out(SIZE_MAX / 2);
    run_out(SIZE_MAX / 4);
}

static void test_resident(void **state) {
    (void)state;
    size_t before = limn_resident_bytes_peak();
    assert_true(before > 0);
    volatile char *memory = malloc(64 << 20); /* volatile: else the compiler drops what nobody reads */
    for (size_t i = 0; i < 64 << 20; i += 4096) memory[i] = 1;
    assert_true(limn_resident_bytes_peak() >= before + (32 << 20));
    free((void *)(uintptr_t)memory);
}

static void test_threads(void **state) {
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    unsetenv("LIMN_THREADS");
    limn_set_threads(0);
    assert_in_range(limn_get_threads(), 1, (size_t)CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    limn_set_threads(0);
    assert_int_equal(limn_get_threads(), 1);
    sched_setaffinity(0, sizeof all, &all);
    setenv("LIMN_THREADS", "5", 1);
    limn_set_threads(0);
    assert_int_equal(limn_get_threads(), 5);
    scratch_capture(2);
    setenv("LIMN_THREADS", "many", 1);
    limn_set_threads(0);
    char *text = scratch_captured(2);
    assert_contains(text, "LIMN_THREADS is 'many'");
    free(text);
    assert_in_range(limn_get_threads(), 1, (size_t)CPU_COUNT(&all));
    limn_set_threads(7);
    assert_int_equal(limn_get_threads(), 7);
    limn_share_threads(2); /* what the user has said stays */
    assert_int_equal(limn_get_threads(), 7);
    setenv("LIMN_THREADS", "5", 1);
    limn_set_threads(0);
    limn_share_threads(2);
    assert_int_equal(limn_get_threads(), 5);
    unsetenv("LIMN_THREADS");
    limn_set_threads(0);
    size_t own = limn_get_threads();
    limn_share_threads(2);
    assert_int_equal(limn_get_threads(), own > 1 ? own / 2 : 1);
    limn_share_threads(1000000);
    assert_int_equal(limn_get_threads(), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multiply),
        cmocka_unit_test(test_allocate),
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_runs_out_loudly),
        cmocka_unit_test(test_resident),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
