/* limn-download --dedup: the first of the list stays, whatever order pictures come in and however often the run is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/download/world.h"
#include "tests/pictures/make.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 40, PICTURES = 14 };

typedef struct {
    char folder[4096], list[4096], whole[4096];
    char *whole_print;
} fixture;

/* Row i shows picture i % PICTURES, each time of another size and quality. */
static int set_up(void **state) {
    limn_buffer list = {0};
    fixture *self = calloc(1, sizeof *self);
    if (!self) return -1;
    *state = self;
    make_folder(self->folder);
    snprintf(self->list, sizeof self->list, "%s", in(self->folder, "list.csv"));
    snprintf(self->whole, sizeof self->whole, "%s", in(self->folder, "whole"));
    limn_buffer_printf(&list, NULL, "caption,url\n");
    for (size_t i = 0; i < ROWS; i++) {
        char name[32];
        limn_buffer bytes = {0};
        picture photo = make_photo(200, 150, 3 + 7 * (i % PICTURES)), sized;
        if (picture_resize(&photo, &sized, RESIZE_KEEP_RATIO, 80 + 5 * (i / PICTURES), NULL)) return -1;
        if (picture_encode_jpeg(&sized, (int)(70 + i / PICTURES * 10), &bytes, NULL)) return -1;
        snprintf(name, sizeof name, "%zu.jpg", i);
        write_file(self->folder, name, bytes.data, bytes.size);
        limn_buffer_printf(&list, NULL, "row %zu,file://%s/%s\n", i, self->folder, name);
        picture_free(&photo);
        picture_free(&sized);
        limn_buffer_free(&bytes);
    }
    write_file(self->folder, "list.csv", list.data, list.size);
    limn_buffer_free(&list);
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    limn_remove_tree(self->folder, NULL);
    free(self->whole_print);
    free(self);
    return 0;
}

static void run(const fixture *self, const char *output, const char *threads) {
    program_result result = run_download("--input", self->list, "--output", output, "--size", "48", "--shard-size", "6",
                                         "--allow-private", "--dedup", "--threads", threads, NULL);
    if (result.exit_code) fail_msg("%s", result.err);
    program_result_free(&result);
}

static void the_first_stays(void **state) {
    fixture *self = *state;
    run(self, self->whole, "1");
    size_t pairs = 0, duplicates = 0;
    for (size_t shard = 0; shard < 7; shard++) {
        char name[16];
        snprintf(name, sizeof name, "%05zu", shard);
        pairs += (size_t)stats_number(self->whole, name, "pairs");
        duplicates += (size_t)stats_reason(self->whole, name, "duplicate");
    }
    assert_int_equal(pairs, PICTURES);
    assert_int_equal(duplicates, ROWS - PICTURES);
    char *keys = tar_keys(in(self->whole, "00002.tar"));
    assert_string_equal(keys, "000020000 000020001"); /* rows 12 and 13, the last that are new */
    free(keys);
    self->whole_print = folder_print(self->whole);
}

static void assert_same(const fixture *self, const char *output) {
    char *print = folder_print(output);
    assert_string_equal(print, self->whole_print);
    free(print);
}

static void whatever_order_they_come_in(void **state) {
    const fixture *self = *state;
    char output[4096];
    for (int round = 0; round < 5; round++) {
        char name[16];
        snprintf(name, sizeof name, "threads%d", round);
        snprintf(output, sizeof output, "%s", in(self->folder, name));
        run(self, output, "8");
        assert_same(self, output);
    }
}

/* Each set of shards that may be there when a run begins, as after kills, or where someone removed some. */
static void whatever_is_there_already(void **state) {
    const fixture *self = *state;
    char output[4096];
    snprintf(output, sizeof output, "%s", in(self->folder, "cut"));
    run(self, output, "2");
    for (unsigned missing = 1; missing < 128; missing += 9) {
        for (unsigned shard = 0; shard < 7; shard++) {
            char name[32];
            if (!(missing >> shard & 1)) continue;
            snprintf(name, sizeof name, "%05u.stats.json", shard);
            assert_int_equal(unlink(in(output, name)), 0);
        }
        run(self, output, "2");
        assert_same(self, output);
    }
}

static void what_does_not_go_together(void **state) {
    const fixture *self = *state;
    const char *const others[] = {"--retry-failed", "--coordinate"};
    for (int i = 0; i < 2; i++) {
        program_result result = run_download("--input", self->list, "--output", in(self->folder, "refused"), "--allow-private",
                                             "--dedup", others[i], i ? self->folder : NULL, NULL);
        assert_int_equal(result.exit_code, 2);
        assert_non_null(strstr(result.err, "--dedup"));
        program_result_free(&result);
    }
    program_result result = run_download("--input", self->list, "--output", self->whole, "--size", "48", "--shard-size", "6",
                                         "--allow-private", NULL);
    assert_int_equal(result.exit_code, 2); /* made with it, and now without */
    assert_non_null(strstr(result.err, "dedup"));
    program_result_free(&result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_stays),
        cmocka_unit_test(whatever_order_they_come_in),
        cmocka_unit_test(whatever_is_there_already),
        cmocka_unit_test(what_does_not_go_together),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
