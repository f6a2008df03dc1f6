/* Files: whole or not there, on full disks too; locks, mappings, hashes, patterns. */
#include "tests/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* How many names the folder holds, hidden ones among them. */
static size_t count_entries(const char *folder) {
    size_t count = 0;
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(entries);
    return count;
}

static void test_atomic(void **state) {
    (void)state;
    limn_error error = {0};
    assert_int_equal(limn_make_directories(scratch_path("atomic/deep//er/"), &error), 0);
    assert_int_equal(limn_make_directories(scratch_path("atomic/deep/er"), &error), 0);
    const char *path = scratch_path("atomic/deep/er/file");
    limn_atomic_file file;
    assert_int_equal(limn_atomic_open(&file, path, &error), 0);
    fputs("first", file.stream);
    fflush(file.stream);
    assert_false(limn_file_exists(path)); /* not there until it is whole */
    assert_int_equal(limn_atomic_commit(&file, &error), 0);
    limn_atomic_discard(&file);
    assert_true(limn_file_exists(path));
    assert_int_equal(limn_atomic_open(&file, path, &error), 0);
    fputs("second", file.stream);
    limn_atomic_discard(&file);
    char *text = limn_file_read(path, 100, NULL, &error);
    assert_string_equal(text, "first");
    free(text);
    assert_int_equal(limn_atomic_write(path, "third", 5, &error), 0);
    text = limn_file_read(path, 100, NULL, &error);
    assert_string_equal(text, "third");
    free(text);
    assert_int_equal(limn_atomic_name(&file, path, &error), 0);
    FILE *stream = fopen(file.temporary, "w");
    fputs("fourth", stream);
    fclose(stream);
    assert_int_equal(limn_atomic_publish(&file, &error), 0);
    text = limn_file_read(path, 100, NULL, &error);
    assert_string_equal(text, "fourth");
    free(text);
    assert_int_equal(count_entries(scratch_path("atomic/deep/er")), 1);
    assert_int_equal(limn_atomic_publish(&file, &error), -1);
    assert_int_equal(limn_atomic_open(&file, scratch_path("atomic/none/file"), &error), -1);
    assert_contains(error.message, "No such file");
    assert_int_equal(limn_atomic_open(&file, scratch_path("atomic/"), &error), -1);
    assert_contains(error.message, "name is expected");
}

static void test_sync_folder(void **state) {
    (void)state;
    limn_error error = {0};
    assert_int_equal(limn_make_directories(scratch_path("synced"), &error), 0);
    assert_int_equal(limn_sync_folder(scratch_path("synced"), &error), 0);
    int nothing = open("/proc", O_RDONLY | O_DIRECTORY); /* says EINVAL where it is mounted */
    if (nothing >= 0) {
        assert_int_equal(limn_sync_folder("/proc", &error), 0);
        close(nothing);
    }
    assert_int_equal(limn_sync_folder(scratch_path("never"), &error), -1);
    assert_contains(error.message, "cannot be flushed to disk");
    assert_int_equal(limn_sync_folder(scratch_write("plain", "x", 1), NULL), -1);
    assert_int_equal(errno, ENOTDIR);
}

static void test_make_directories_over_a_file(void **state) {
    (void)state;
    limn_error error = {0};
    scratch_write("plain", "x", 1);
    assert_int_equal(limn_make_directories(scratch_path("plain/sub"), &error), -1);
    assert_contains(error.message, "cannot make this folder");
    assert_int_equal(limn_make_directories("", &error), -1);
}

/* Small enough to stay in stdio's buffer until the commit, and large enough to fail before it. */
static void test_full_disk(void **state) {
    (void)state;
    limn_make_directories(scratch_path("full"), NULL);
    static const size_t sizes[] = {100, 1 << 20};
    for (size_t i = 0; i < 2; i++) {
        limn_error error = {0};
        char *data = calloc(sizes[i], 1);
        scratch_limit_files(50);
        int result = limn_atomic_write(scratch_path("full/file"), data, sizes[i], &error);
        limn_atomic_file file;
        limn_error late = {0};
        int opened = limn_atomic_open(&file, scratch_path("full/late"), &late);
        for (size_t k = 0; k < sizes[i]; k++) putc('x', file.stream);
        int committed = limn_atomic_commit(&file, &late);
        scratch_limit_files(RLIM_INFINITY);
        free(data);
        assert_int_equal(result, -1);
        assert_contains(error.message, "full/file: ");
        assert_int_equal(opened, 0);
        assert_int_equal(committed, -1);
        assert_contains(late.message, "full/late: ");
        assert_int_equal(count_entries(scratch_path("full")), 0);
    }
}

static void test_remove_temporaries(void **state) {
    (void)state;
    char alive[64], own[64];
    limn_make_directories(scratch_path("left"), NULL);
    /* The parent (ctest, a shell) lives as long as this test does. */
    snprintf(alive, sizeof alive, "left/.b.tar.tmp-%ld", (long)getppid());
    snprintf(own, sizeof own, "left/.d.tar.tmp-%ld", (long)getpid());
    pid_t dead = fork();
    if (dead == 0) _exit(0);
    waitpid(dead, NULL, 0);
    char killed[64];
    snprintf(killed, sizeof killed, "left/.a.tar.tmp-%ld", (long)dead);
    scratch_write(killed, "", 0);
    scratch_write(own, "", 0);
    scratch_write(alive, "", 0);
    scratch_write("left/.c.tar.tmp-12x", "", 0);
    scratch_write("left/visible.tmp-1", "", 0);
    limn_remove_temporaries(scratch_path("left"));
    assert_false(limn_file_exists(scratch_path(killed)));
    assert_false(limn_file_exists(scratch_path(own)));
    assert_true(limn_file_exists(scratch_path(alive)));
    assert_int_equal(count_entries(scratch_path("left")), 3);
    limn_remove_temporaries(scratch_path("not there"));
}

static void test_read_and_map(void **state) {
    (void)state;
    limn_error error = {0};
    const char *path = scratch_write("ten", "0123456789", 10);
    size_t size = 0;
    char *text = limn_file_read(path, 10, &size, &error);
    assert_string_equal(text, "0123456789");
    assert_int_equal(size, 10);
    free(text);
    assert_null(limn_file_read(path, 9, &size, &error));
    assert_contains(error.message, "larger than the 9 bytes");
    assert_null(limn_file_read(scratch_folder, 9, &size, &error));
    assert_contains(error.message, "directory");
    text = limn_file_read(scratch_write("empty", "", 0), 9, &size, &error);
    assert_string_equal(text, "");
    free(text);
    limn_mapping mapping;
    assert_int_equal(limn_map(&mapping, path, &error), 0);
    assert_int_equal(mapping.size, 10);
    assert_memory_equal(mapping.data, "0123456789", 10);
    limn_unmap(&mapping);
    limn_unmap(&mapping);
    assert_int_equal(limn_map(&mapping, scratch_path("empty"), &error), 0);
    assert_non_null(mapping.data);
    assert_int_equal(mapping.size, 0);
    limn_unmap(&mapping);
    assert_int_equal(limn_map(&mapping, scratch_path("absent"), &error), -1);
    assert_contains(error.message, "absent");
    assert_int_equal(limn_map(&mapping, scratch_folder, &error), -1);
    assert_contains(error.message, "not a file");
}

static void test_paths(void **state) {
    (void)state;
    char out[16];
    assert_int_equal(limn_path_join(out, sizeof out, "a", "b", NULL), 0);
    assert_string_equal(out, "a/b");
    assert_int_equal(limn_path_join(out, sizeof out, "a/", "b", NULL), 0);
    assert_string_equal(out, "a/b");
    assert_int_equal(limn_path_join(out, sizeof out, "", "b", NULL), 0);
    assert_string_equal(out, "b");
    limn_error error = {0};
    assert_int_equal(limn_path_join(out, sizeof out, "0123456789", "abcde", &error), -1);
    assert_contains(error.message, "too long");
}

static void test_patterns(void **state) {
    (void)state;
    limn_error error = {0};
    limn_strings found;
    limn_make_directories(scratch_path("tars"), NULL);
    scratch_write("tars/00001.tar", "", 0);
    scratch_write("tars/00000.tar", "", 0);
    scratch_write("tars/notes.txt", "", 0);
    const char *items[] = {scratch_path("tars/*.tar"), scratch_path("tars/absent.tar")};
    assert_int_equal(limn_expand_paths(&(limn_strings){2, items}, &found, &error), 0);
    assert_int_equal(found.count, 3);
    assert_contains(found.items[0], "00000.tar");
    assert_contains(found.items[1], "00001.tar");
    assert_contains(found.items[2], "absent.tar");
    limn_strings_free(&found);
    const char *none[] = {scratch_path("tars/*.h5")};
    assert_int_equal(limn_expand_paths(&(limn_strings){1, none}, &found, &error), -1);
    assert_contains(error.message, "*.h5: no file matches");
    const char *folder[] = {scratch_path("tars")};
    assert_int_equal(limn_expand_folders(&(limn_strings){1, folder}, ".tar", &found, &error), 0);
    assert_int_equal(found.count, 2);
    limn_strings_free(&found);
    assert_int_equal(limn_expand_paths(&(limn_strings){0, NULL}, &found, &error), 0);
    assert_int_equal(found.count, 0);
    limn_strings_free(&found);
}

static void test_lock(void **state) {
    (void)state;
    limn_error error = {0};
    int lock = -1, second = -1;
    assert_int_equal(limn_lock(scratch_folder, &lock, &error), 0);
    assert_int_equal(limn_lock(scratch_folder, &second, &error), -1);
    char holder[64];
    snprintf(holder, sizeof holder, "in use by process %ld;", (long)getpid());
    assert_contains(error.message, holder);
    limn_unlock(lock);
    assert_int_equal(limn_lock(scratch_folder, &second, &error), 0);
    limn_unlock(second);
    /* A process that is killed leaves no lock behind. */
    pid_t child = fork();
    if (child == 0) {
        if (limn_lock(scratch_folder, &lock, NULL) == 0) raise(SIGKILL);
        _exit(1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(limn_lock(scratch_folder, &lock, &error), 0);
    limn_unlock(lock);
    assert_int_equal(limn_lock(scratch_path("no folder"), &lock, &error), -1);
}

/* FIPS 180-4's example "abc", and the empty text. */
static void test_sha256(void **state) {
    (void)state;
    limn_error error = {0};
    char hex[65];
    limn_sha256("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    limn_sha256("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(limn_sha256_file(scratch_write("abc", "abc", 3), hex, &error), 0);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    limn_sha256_sum *sum = limn_sha256_begin(&error); /* in pieces */
    assert_non_null(sum);
    limn_sha256_add(sum, "a", 1);
    limn_sha256_add(sum, "", 0);
    limn_sha256_add(sum, "bc", 2);
    hex[0] = 0;
    limn_sha256_end(sum, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    limn_sha256_drop(limn_sha256_begin(&error));
    limn_sha256_drop(NULL);
    assert_int_equal(limn_sha256_file(scratch_path("not there"), hex, &error), -1);
    assert_int_equal(limn_sha256_file(scratch_folder, hex, &error), -1);
}

static void test_remove_tree(void **state) {
    (void)state;
    limn_error error = {0};
    limn_make_directories(scratch_path("tree/a/b"), NULL);
    scratch_write("tree/a/b/file", "x", 1);
    scratch_write("kept", "x", 1);
    assert_int_equal(symlink(scratch_path("kept"), scratch_path("tree/link")), 0);
    assert_int_equal(limn_remove_tree(scratch_path("tree"), &error), 0);
    assert_false(limn_file_exists(scratch_path("tree")));
    assert_true(limn_file_exists(scratch_path("kept")));
    assert_int_equal(limn_remove_tree(scratch_path("tree"), &error), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_atomic),
        cmocka_unit_test(test_make_directories_over_a_file),
        cmocka_unit_test(test_sync_folder),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_remove_temporaries),
        cmocka_unit_test(test_read_and_map),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_remove_tree),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
