/* Caption lists packed with gzip and zstd: whole, in pieces, cut, damaged, and a row of gigabytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/dataset/tools.h"
#include "tests/download/rows.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static const caption_list_options BY_ITSELF;

typedef void (*packer)(limn_buffer *out, const char *data, size_t size);

static void pack_gzip(limn_buffer *out, const char *data, size_t size) {
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    const size_t room = deflateBound(&stream, size);
    assert_int_equal(limn_buffer_reserve(out, room, NULL), 0);
    stream.next_in = (unsigned char *)(uintptr_t)data;
    stream.avail_in = (uInt)size;
    stream.next_out = (unsigned char *)out->data + out->size;
    stream.avail_out = (uInt)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    out->size += room - stream.avail_out;
    deflateEnd(&stream);
}

static void pack_zstd(limn_buffer *out, const char *data, size_t size) {
    assert_int_equal(limn_buffer_reserve(out, ZSTD_compressBound(size), NULL), 0);
    const size_t packed = ZSTD_compress(out->data + out->size, ZSTD_compressBound(size), data, size, 3);
    assert_false(ZSTD_isError(packed));
    out->size += packed;
}

static const packer packers[] = {pack_gzip, pack_zstd};
static const char *const names[] = {"gzip", "zstd"};

/* A list that does not fit the reader's first buffer, in each form. */
static void make_list(limn_buffer *out, int form) {
    if (form < 2) limn_buffer_printf(out, NULL, form ? "url,caption\n" : "url\tcaption\n");
    for (int i = 0; i < 20000; i++)
        limn_buffer_printf(out, NULL,
                           form == 0   ? "http://h/%d\ta %d\n"
                           : form == 1 ? "http://h/%d,\"a\n%d\"\n"
                                       : "{\"url\":\"http://h/%d\",\"caption\":\"a\\n%d\"}\n",
                           i, i * 7919);
}

static void whole(void **state) {
    (void)state;
    static const char *const endings[] = {"l.tsv", "l.csv", "l.jsonl"};
    for (int form = 0; form < 3; form++) {
        limn_buffer text = {0};
        make_list(&text, form);
        char *expected = list_rows(text.data, text.size, endings[form], &BY_ITSELF);
        for (size_t p = 0; p < 2; p++) {
            limn_buffer packed = {0};
            for (int members = 1; members <= 3; members++) { /* one, and several after each other */
                packed.size = 0;
                for (int i = 0; i < members; i++) {
                    const size_t from = text.size * (size_t)i / (size_t)members,
                                 to = text.size * (size_t)(i + 1) / (size_t)members;
                    packers[p](&packed, text.data + from, to - from);
                }
                char *rows = list_rows(packed.data, packed.size, endings[form], &BY_ITSELF);
                assert_string_equal(rows, expected);
                free(rows);
            }
            limn_buffer_free(&packed);
        }
        free(expected);
        limn_buffer_free(&text);
    }
    for (size_t p = 0; p < 2; p++) { /* nothing, packed */
        limn_buffer packed = {0};
        packers[p](&packed, "", 0);
        char *rows = list_rows(packed.data, packed.size, "l.tsv", &BY_ITSELF);
        assert_string_equal(rows, "");
        free(rows);
        limn_buffer_free(&packed);
    }
    limn_buffer packed = {0}; /* zeros after a gzip file, as tapes leave them; then something else */
    pack_gzip(&packed, "a\thttp://h/1\n", 13);
    limn_buffer_append(&packed, "\0\0\0\0", 4, NULL);
    char *rows = list_rows(packed.data, packed.size, "l.tsv", &BY_ITSELF);
    assert_string_equal(rows, "1:a|http://h/1\n");
    free(rows);
    limn_buffer_append(&packed, "more", 4, NULL);
    rows = list_rows(packed.data, packed.size, "l.tsv", &BY_ITSELF);
    assert_non_null(strstr(rows, "its gzip data is followed by other bytes at byte"));
    free(rows);
    limn_buffer_free(&packed);
}

/* Cut anywhere, the rows before the cut come, then an error that says where; never a row that the list does not have. */
static void cut(void **state) {
    (void)state;
    for (size_t p = 0; p < 2; p++) {
        limn_buffer text = {0}, packed = {0};
        for (int i = 0; i < 300; i++)
            limn_buffer_printf(&text, NULL, "a %llu\thttp://h/%d\n",
                               (unsigned long long)limn_random_below(3, 3, (uint64_t)i, 99999), i);
        for (size_t i = 0; i < 3; i++)
            packers[p](&packed, text.data + text.size / 3 * i, i < 2 ? text.size / 3 : text.size - text.size / 3 * 2);
        char *expected = list_rows(text.data, text.size, "l.tsv", &BY_ITSELF);
        size_t most = 0, clean = 0;
        for (size_t size = 8; size < packed.size; size++) {
            char *rows = list_rows(packed.data, size, "l.tsv", &BY_ITSELF);
            char *error = strstr(rows, "error: ");
            if (!error) { /* between two members: as if the list ended there */
                clean++;
                free(rows);
                continue;
            }
            if (error == rows + strlen(rows)) fail();
            char expect[96];
            snprintf(expect, sizeof expect, "its %s data ends too early at byte %zu of the file", names[p], size);
            if (!strstr(error, expect)) print_error("%s\n", error);
            assert_non_null(strstr(error, expect));
            assert_non_null(strstr(error, "l.tsv, after line "));
            assert_memory_equal(rows, expected, (size_t)(error - rows));
            if ((size_t)(error - rows) > most) most = (size_t)(error - rows);
            free(rows);
        }
        assert_int_equal(clean, 2);
        assert_true(most > strlen(expected) * 6 / 10); /* zstd unpacks whole blocks only: two thirds */
        free(expected);
        limn_buffer_free(&text);
        limn_buffer_free(&packed);
    }
}

static void damaged(void **state) {
    (void)state;
    for (size_t p = 0; p < 2; p++) {
        limn_buffer text = {0}, packed = {0};
        make_list(&text, 0);
        pack_gzip(&packed, "", 0);
        packed.size = 0;
        packers[p](&packed, text.data, text.size / 2);
        const size_t second = packed.size;
        packers[p](&packed, text.data + text.size / 2, text.size - text.size / 2);
        memset(packed.data + second + 10, 0xFF, 6);
        char *rows = list_rows(packed.data, packed.size, "l.tsv", &BY_ITSELF);
        char *error = strstr(rows, "error: l.tsv, after line ");
        assert_non_null(error);
        assert_true(strtoul(error + 25, NULL, 10) > 9000); /* all of the first half */
        if (!strstr(error, p ? "its zstd data is damaged: " : "its gzip data is damaged: ")) print_error("%s\n", error);
        assert_non_null(strstr(error, p ? "its zstd data is damaged: " : "its gzip data is damaged: "));
        free(rows);
        limn_buffer_free(&text);
        limn_buffer_free(&packed);
    }
}

/* Two rows around one of two gigabytes, some kilobytes when packed. */
static void vast_row(void **state) {
    (void)state;
    limn_buffer packed = {0};
    static const size_t piece = 1 << 26;
    char *spaces = malloc(piece);
    assert_non_null(spaces);
    memset(spaces, ' ', piece);
    pack_zstd(&packed, "a\thttp://h/1\n", 13);
    for (int i = 0; i < 32; i++) pack_zstd(&packed, spaces, piece);
    pack_zstd(&packed, "\thttp://h/2\nb\thttp://h/3\n", 25);
    free(spaces);
    assert_true(packed.size < 1000000);
    const size_t before = limn_resident_bytes_peak();
    limn_error error = {0};
    caption_row row;
    caption_list *list = caption_list_open_memory("l.tsv", packed.data, packed.size, &BY_ITSELF, &error);
    assert_non_null(list);
    assert_int_equal(caption_list_next(list, &row, &error), 1);
    assert_null(row.problem);
    assert_int_equal(caption_list_next(list, &row, &error), 1);
    assert_string_equal(row.problem, "is longer than 1 MiB, the most a row may have");
    assert_int_equal(caption_list_next(list, &row, &error), 1);
    assert_null(row.problem);
    assert_int_equal(row.line, 3);
    assert_int_equal(caption_list_next(list, &row, &error), 0);
    caption_list_close(list);
    limn_buffer_free(&packed);
    assert_true(limn_resident_bytes_peak() < before + (32 << 20));
}

/* Files: sums are of the stored bytes, rows of all files; nothing but regular files. */
static void measure(void **state) {
    (void)state;
    char folder[4096], sha256[65];
    limn_error error = {0};
    limn_buffer packed = {0};
    uint64_t rows = 0;
    caption_file files[2], again[2];
    make_folder(folder);
    pack_gzip(&packed, "a\thttp://h/1\nb\thttp://h/2\n", 26);
    write_file(folder, "1.tsv.gz", packed.data, packed.size);
    write_text(folder, "2.csv", "url,caption\nhttp://h/3,\"a\nb\"\nno\n\n");
    const char *paths[] = {in(folder, "1.tsv.gz"), in(folder, "2.csv")};
    const limn_strings both = {2, paths};
    assert_int_equal(caption_list_measure(&both, &BY_ITSELF, files, &rows, &error), 0);
    assert_int_equal(rows, 4);
    assert_int_equal(caption_list_measure(&both, &BY_ITSELF, again, NULL, &error), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(limn_sha256_file(paths[i], sha256, &error), 0);
        assert_string_equal(files[i].sha256, sha256);
        assert_string_equal(again[i].sha256, sha256);
        assert_int_equal(files[i].bytes, again[i].bytes);
    }
    assert_int_equal(files[0].bytes, packed.size);

    write_file(folder, "1.tsv.gz", packed.data, packed.size - 4); /* all rows unpack, but its end is missing */
    assert_int_equal(caption_list_measure(&both, &BY_ITSELF, files, &rows, &error), -1);
    if (!strstr(error.message, "after line 2")) print_error("%s\n", error.message);
    assert_non_null(strstr(error.message, "1.tsv.gz, after line 2: its gzip data ends too early"));
    write_file(folder, "2.csv", "url,caption\n", 12);
    const limn_strings second = {1, paths + 1};
    assert_int_equal(caption_list_measure(&second, &BY_ITSELF, files, &rows, &error), -1);
    assert_non_null(strstr(error.message, "no rows in the list"));
    const char *wrong[] = {folder};
    const limn_strings not_a_file = {1, wrong};
    assert_int_equal(caption_list_measure(&not_a_file, &BY_ITSELF, files, NULL, &error), -1);
    assert_non_null(strstr(error.message, "is a folder"));
    wrong[0] = "/dev/null";
    assert_null(caption_list_open(&not_a_file, &BY_ITSELF, &error));
    assert_non_null(strstr(error.message, "/dev/null: is no regular file"));
    limn_buffer_free(&packed);
    assert_int_equal(limn_remove_tree(folder, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole), cmocka_unit_test(cut), cmocka_unit_test(damaged),
                                       cmocka_unit_test(measure), cmocka_unit_test(vast_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
