/* limn-encode's pipeline: the same bytes whatever the threads do, whatever ends a run, and whatever lies in a tar. */
#include "encode_world.h"

#include "dataset/encode.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TARS = 6 };

/* Tars of the world's folder, in the place of its own three. */
typedef struct {
    char paths[TARS][4096];
    const char *inputs[TARS];
} tar_list;

/* Of 0 to 20 pictures each; in the third every other is broken. */
static void write_tars(world *self, tar_list *list) {
    static const size_t counts[TARS] = {20, 1, 12, 0, 7, 9};
    for (size_t i = 0; i < TARS; i++) {
        snprintf(list->paths[i], sizeof list->paths[i], "%.4000s/%05zu.tar", self->folder, i);
        list->inputs[i] = list->paths[i];
        write_painted_tar(list->paths[i], i, counts[i], 24, 20);
    }
    tar_writer *writer = tar_writer_open(list->paths[2], NULL);
    for (size_t i = 0; i < counts[2]; i++) {
        char key[16];
        limn_buffer bytes = {0};
        picture painted = paint(i, 17 + i, 40);
        assert_int_equal(picture_encode_jpeg(&painted, 90, &bytes, NULL), 0);
        snprintf(key, sizeof key, "%09zu", i);
        add_entry(writer, key, "jpg", bytes.data, i % 2 ? bytes.size / 2 : bytes.size);
        limn_buffer_free(&bytes);
        picture_free(&painted);
    }
    assert_int_equal(tar_writer_commit(writer, NULL), 0);
    self->options.inputs = (limn_strings){TARS, list->inputs};
}

static const char *shard_name(size_t number) {
    static char name[32];
    snprintf(name, sizeof name, "%05zu.h5", number);
    return name;
}

static void use_output(world *self, const char *name) {
    snprintf(self->output, sizeof self->output, "%.4000s/%s", self->folder, name);
}

/* The folder for shards holds what `whole` says, and nothing hidden. */
static void assert_output(const world *self, const char *whole) {
    char *found = folder_print(self->output);
    assert_string_equal(found, whole);
    assert_int_equal(count_hidden(self->output), 0);
    free(found);
}

static void the_same_bytes_however_they_are_made(void **state) {
    world *self = *state;
    tar_list list;
    static const struct {
        size_t threads, batch, readers, queue;
    } ways[] = {{1, 1, 1, 1}, {1, 5, 3, 1}, {2, 3, 2, 2}, {3, 64, 7, 100}, {2, 20, 1, 3}, {4, 0, 0, 0}, {2, 2, 16, 5}};
    write_tars(self, &list);
    const size_t count = sizeof ways / sizeof *ways;
    char *whole = NULL;
    for (size_t round = 0; round < 2 * count; round++) {
        const size_t i = round % count;
        self->options.precision = round < count ? PRECISION_FP32 : PRECISION_BF16;
        limn_set_threads(ways[i].threads);
        self->options.batch = ways[i].batch;
        self->options.readers = ways[i].readers;
        self->options.queue = ways[i].queue;
        self->options.restart = true;
        encode(self);
        assert_int_equal(self->summary.shards_made, TARS);
        assert_int_equal(self->summary.pictures, 20 + 1 + 6 + 0 + 7 + 9);
        assert_int_equal(self->summary.skipped, 6);
        assert_true(self->summary.rate > 0 && self->summary.vqgan_wait_seconds >= 0 &&
                    self->summary.vqgan_wait_seconds <= self->summary.seconds);
        if (i == 0) {
            free(whole);
            whole = folder_print(self->output);
        }
        assert_output(self, whole);
    }
    limn_set_threads(0);
    free(whole);
}

static void broken_tars_among_good_ones(void **state) {
    world *self = *state;
    tar_list list;
    struct stat status;
    write_tars(self, &list);
    encode(self);
    char *whole = folder_print(self->output);
    use_output(self, "broken");
    assert_int_equal(stat(list.paths[0], &status), 0);
    char *bytes = limn_file_read(list.paths[0], 1 << 24, NULL, NULL);
    assert_non_null(bytes);
    const size_t middle = (size_t)status.st_size / 2, end = (size_t)status.st_size - 1024;
    memset(bytes + middle, 'x', end - middle); /* only reading on finds it: the end mark is right */
    write_file(self->folder, "00000.tar", bytes, (size_t)status.st_size);
    free(bytes);
    assert_int_equal(unlink(list.paths[4]), 0);
    assert_int_equal(mkfifo(list.paths[4], 0600), 0);
    assert_refused(self, "2 of 6 tars cannot be read");
    assert_refused(self, "00000.tar");
    assert_int_equal(self->summary.shards_kept, 4);
    assert_false(is_there(self, "00000.h5") || is_there(self, "00004.h5"));
    assert_int_equal(unlink(list.paths[4]), 0);
    write_tars(self, &list);
    encode(self);
    assert_int_equal(self->summary.shards_made, 2);
    assert_output(self, whole);
    free(whole);
}

/* Whatever N, the N parts together are the whole, and none does another's work. */
static void parts_are_the_whole(void **state) {
    world *self = *state;
    tar_list list;
    write_tars(self, &list);
    encode(self);
    char *whole = folder_print(self->output);
    for (size_t parts = 2; parts <= TARS + 2; parts += 3) {
        size_t made = 0;
        char name[32];
        snprintf(name, sizeof name, "parts-%zu", parts);
        use_output(self, name);
        for (size_t part = 0; part < parts; part++) {
            self->options.part = parts - 1 - part;
            self->options.parts = parts;
            encode(self);
            made += self->summary.shards_made;
        }
        assert_int_equal(made, TARS);
        char *found = folder_print(self->output);
        assert_string_equal(found, whole);
        free(found);
    }
    free(whole);
}

static void verified_pictures(void **state) {
    world *self = *state;
    self->options.verify = 10;
    encode(self);
    assert_int_equal(self->summary.verified, 10);
    assert_true(self->summary.token_agreement == 1 && self->summary.least_agreement == 1);
    char key[sizeof self->summary.least_key];
    memcpy(key, self->summary.least_key, sizeof key);
    self->options.restart = true;
    self->options.batch = 1;
    encode(self);
    assert_string_equal(self->summary.least_key, key); /* the same pictures again */
    self->options.verify = 1000;
    encode(self);
    assert_int_equal(self->summary.verified, 7 + 8 + 9);
    self->options.restart = false;
    encode(self);
    assert_int_equal(self->summary.verified, 0); /* nothing was encoded */
}

/* Two pictures of which the second is not in the shard as it is said to be written. */
static int verify_row(const world *self, const token_shard *shard, size_t row, const char *key, int32_t change,
                      limn_error *error) {
    const encode_kind kind = {.options = &self->options, .side = SIDE, .length = LENGTH, .codebook_size = CODES};
    encode_summary summary = {0};
    encode_verifier *verifier = encode_verifier_create(&kind, NULL);
    assert_non_null(verifier);
    for (size_t i = 0; i < 2; i++) {
        encode_sample sample = {0};
        int32_t tokens[LENGTH];
        snprintf(sample.key, sizeof sample.key, "%s", i ? key : "000010000");
        for (size_t t = 0; t < LENGTH; t++) tokens[t] = shard->tokens[i * LENGTH + t];
        if (i) tokens[LENGTH - 1] += change;
        encode_verifier_offer(verifier, &sample, 1, i ? row : 0, tokens);
    }
    const int status = encode_verifier_run(verifier, &summary, error);
    encode_verifier_free(verifier);
    return status;
}

static void shards_that_are_not_what_was_written(void **state) {
    world *self = *state;
    limn_error error = {0};
    encode(self);
    token_shard shard = read_shard(self, "00001.h5");
    self->options.verify = 2;
    assert_int_equal(verify_row(self, &shard, 1, "000010001", 0, &error), 0);
    assert_int_equal(verify_row(self, &shard, 1, "000010001", 1, &error), -1);
    if (!strstr(error.message, "00001.h5: row 1 is not what was written for picture 000010001")) fail_msg("%s", error.message);
    assert_int_equal(verify_row(self, &shard, 1, "000010002", 0, &error), -1);
    assert_int_equal(verify_row(self, &shard, 1, "00001000", 0, &error), -1);
    assert_int_equal(verify_row(self, &shard, shard.count, "000010001", 0, &error), -1);
    assert_int_equal(unlink(in(self->output, "00001.h5")), 0);
    assert_int_equal(verify_row(self, &shard, 1, "000010001", 0, &error), -1);
    token_shard_free(&shard);
}

/* What --verify says of bf16 is what a look at all tokens of both precisions says. */
static void bf16_compared_with_fp32(void **state) {
    world *self = *state;
    encode(self);
    token_shard exact[3];
    for (size_t i = 0; i < 3; i++) exact[i] = read_shard(self, shard_name(i));
    use_output(self, "bf16");
    self->options.precision = PRECISION_BF16;
    self->options.verify = 1000;
    encode(self);
    size_t pictures = 0, equal = 0, least = LENGTH;
    for (size_t i = 0; i < 3; i++) {
        token_shard shard = read_shard(self, shard_name(i));
        assert_string_equal(shard.precision, "bf16");
        for (size_t row = 0; row < shard.count; row++, pictures++) {
            size_t here = 0;
            for (size_t t = row * LENGTH; t < (row + 1) * LENGTH; t++) here += shard.tokens[t] == exact[i].tokens[t];
            equal += here;
            if (here < least) least = here;
        }
        token_shard_free(&shard);
        token_shard_free(&exact[i]);
    }
    assert_int_equal(self->summary.verified, pictures);
    assert_true(equal > pictures * LENGTH * 8 / 10);
    assert_int_equal((size_t)(self->summary.token_agreement * (double)(pictures * LENGTH) + 0.5), equal);
    assert_int_equal((size_t)(self->summary.least_agreement * LENGTH + 0.5), least);
}

static void another_precision_is_refused_by_name(void **state) {
    world *self = *state;
    encode(self);
    char *whole = folder_print(self->output);
    self->options.precision = PRECISION_BF16;
    assert_int_equal(unlink(in(self->output, "00000.h5")), 0); /* it could be made, but not beside the others */
    assert_refused(self, "00001.h5: made with --precision fp32, not bf16");
    assert_refused(self, "--restart");
    assert_false(is_there(self, "00000.h5"));
    self->options.restart = true;
    encode(self);
    self->options.restart = false;
    encode(self);
    assert_int_equal(self->summary.shards_kept, 3);
    self->options.precision = PRECISION_FP32;
    assert_refused(self, "00000.h5: made with --precision bf16, not fp32");
    self->options.restart = true;
    encode(self);
    assert_output(self, whole);
    free(whole);
}

/* ---------------------------------------------------------------- the program, killed */

static pid_t start_encode(const world *self, const char *pattern) {
    const char *const arguments[] = {"--input",    pattern,   "--vqgan", self->vqgan, "--output",
                                     self->output, "--batch", "8",       "--quiet",   NULL};
    return start_program(LIMN_ENCODE_PROGRAM, arguments);
}

static int exit_status(pid_t child) {
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void killed_and_gone_on(void **state) {
    world *self = *state;
    char pattern[4096];
    for (size_t i = 0; i < TARS; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%.4000s/%05zu.tar", self->folder, i);
        write_painted_tar(path, i, 100, 24, 20);
    }
    snprintf(pattern, sizeof pattern, "%.4000s/*.tar", self->folder);
    assert_int_equal(exit_status(start_encode(self, pattern)), 0);
    char *whole = folder_print(self->output);
    assert_non_null(strstr(whole, "00005.h5"));
    snprintf(self->output, sizeof self->output, "%.4000s/killed", self->folder);
    size_t killed = 0, shards = 1;
    for (int round = 0; round < 200 && !is_there(self, shard_name(TARS - 1)); round++) {
        pid_t child = start_encode(self, pattern);
        bool ended = false;
        for (int i = 0; i < 30000 && !ended && !is_there(self, shard_name(shards)); i++) {
            usleep(1000);
            ended = waitpid(child, NULL, WNOHANG) == child;
        }
        if (!ended) {
            usleep((useconds_t)limn_random_below(3, 1, (uint64_t)round, 5000));
            kill(child, SIGKILL);
            killed += WIFSIGNALED(exit_status(child)) != 0;
        }
        for (size_t i = 0; i < TARS; i++) { /* what looks whole is whole */
            if (!is_there(self, shard_name(i))) continue;
            token_shard shard = read_shard(self, shard_name(i));
            assert_int_equal(shard.count, 100);
            token_shard_free(&shard);
            if (i >= shards) shards = i + 1;
        }
    }
    assert_true(killed > 0);
    assert_int_equal(exit_status(start_encode(self, pattern)), 0);
    char *after = folder_print(self->output);
    assert_string_equal(whole, after);
    assert_int_equal(count_hidden(self->output), 0);
    free(whole);
    free(after);
}

/* Ctrl-C and kill: exit code 130, whole shards alone are left, and the next run makes the same bytes. */
static void interrupted_and_gone_on(void **state) {
    world *self = *state;
    char pattern[4096];
    write_painted_tar(self->tars[2], 2, 600, SIDE, SIDE);
    snprintf(pattern, sizeof pattern, "%.4000s/*.tar", self->folder);
    assert_int_equal(exit_status(start_encode(self, pattern)), 0);
    char *whole = folder_print(self->output);
    size_t interrupted = 0;
    for (size_t round = 0; round < 20 && interrupted < 2; round++) {
        char name[32];
        snprintf(name, sizeof name, "stopped-%zu", round);
        use_output(self, name);
        pid_t child = start_encode(self, pattern);
        int status = 0;
        bool ended = false;
        for (int i = 0; i < 30000 && !ended && !is_there(self, "00001.h5"); i++) {
            usleep(1000);
            ended = waitpid(child, &status, WNOHANG) == child;
        }
        if (!ended) {
            kill(child, round % 2 ? SIGTERM : SIGINT);
            status = exit_status(child);
        }
        assert_true(WIFEXITED(status));
        assert_int_equal(count_hidden(self->output), 0);
        if (is_there(self, "00002.h5")) continue; /* it was done before */
        assert_int_equal(WEXITSTATUS(status), LIMN_EXIT_INTERRUPTED);
        interrupted++;
        assert_true(is_there(self, "00000.h5") && is_there(self, "00001.h5") && !is_there(self, "00002.h5"));
        assert_int_equal(exit_status(start_encode(self, pattern)), 0);
        assert_output(self, whole);
    }
    assert_int_equal(interrupted, 2);
    free(whole);
}

/* A shard that cannot be written ends the run with its name; those before it are whole. */
static void a_full_disk(void **state) {
    world *self = *state;
    write_painted_tar(self->tars[1], 1, 400, SIDE, SIDE);
    const char *const arguments[] = {"--input",   self->tars[0], self->tars[1], self->tars[2], "--vqgan",
                                     self->vqgan, "--output",    self->output,  NULL};
    program_result result = run_program(LIMN_ENCODE_PROGRAM, arguments, 16384);
    assert_int_equal(result.exit_code, 1);
    if (!strstr(result.err, "00001.h5")) fail_msg("\"%s\" does not name the shard", result.err);
    program_result_free(&result);
    assert_true(is_there(self, "00000.h5") && !is_there(self, "00001.h5"));
    assert_int_equal(count_hidden(self->output), 0);
    encode(self);
    assert_true(self->summary.shards_kept >= 1 && is_there(self, "00001.h5"));
}

int main(void) {
    limn_set_log_level(LIMN_LOG_QUIET);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_same_bytes_however_they_are_made, make_world, remove_world),
        cmocka_unit_test_setup_teardown(broken_tars_among_good_ones, make_world, remove_world),
        cmocka_unit_test_setup_teardown(parts_are_the_whole, make_world, remove_world),
        cmocka_unit_test_setup_teardown(verified_pictures, make_world, remove_world),
        cmocka_unit_test_setup_teardown(shards_that_are_not_what_was_written, make_world, remove_world),
        cmocka_unit_test_setup_teardown(bf16_compared_with_fp32, make_world, remove_world),
        cmocka_unit_test_setup_teardown(another_precision_is_refused_by_name, make_world, remove_world),
        cmocka_unit_test_setup_teardown(killed_and_gone_on, make_world, remove_world),
        cmocka_unit_test_setup_teardown(interrupted_and_gone_on, make_world, remove_world),
        cmocka_unit_test_setup_teardown(a_full_disk, make_world, remove_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
