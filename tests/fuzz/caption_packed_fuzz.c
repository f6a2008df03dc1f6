/* Caption lists packed with gzip and zstd: rows up to the damage, then a sentence. */
#include "tests/fuzz/fuzz.h"

#include "download/download.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

static const char list[] = "url\tcaption\nhttp://h/1\ta cat\nhttp://h/2\ta dog, a dog, a dog, a dog, a dog\n";

/* Twice the list without its last line, in two members, frames; level 0 leaves the bytes as they are. */
static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= 4 || limn_buffer_reserve(out, 4096, NULL)) return false;
    for (int part = 0; part < 2; part++) {
        char *const room = out->data + out->size;
        if (index < 2) {
            z_stream stream = {.next_in = (unsigned char *)(uintptr_t)list, .avail_in = sizeof list - 1};
            if (deflateInit2(&stream, index ? 9 : 0, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return false;
            stream.next_out = (unsigned char *)room;
            stream.avail_out = 2000;
            if (deflate(&stream, Z_FINISH) != Z_STREAM_END) return false;
            out->size += 2000 - stream.avail_out;
            deflateEnd(&stream);
        } else {
            ZSTD_CCtx *context = ZSTD_createCCtx();
            ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, index == 2);
            const size_t packed = ZSTD_compress2(context, room, 2000, list, sizeof list - 1);
            ZSTD_freeCCtx(context);
            if (ZSTD_isError(packed)) return false;
            out->size += packed;
        }
    }
    return true;
}

static const char *target(const char *data, size_t size) {
    static const caption_list_options options = {.format = "tsv"};
    limn_error error = {0};
    caption_row row;
    uint64_t number = 0;
    size_t line = 0;
    int got = -1;
    const char *complaint = NULL;
    caption_list *rows = caption_list_open_memory("input", data, size, &options, &error);
    while (rows && !complaint && (got = caption_list_next(rows, &row, &error)) == 1) {
        if (row.number != number++ || row.line <= line) complaint = "rows or lines are out of order";
        if (!row.problem && (!row.url.size || !limn_utf8_valid(row.caption.data, row.caption.size)))
            complaint = "a good row has bad texts";
        line = row.line;
    }
    if (!complaint && got < 0) complaint = fuzz_check_error(&error);
    /* The same place again: an error does not pass. */
    if (!complaint && rows && got < 0 && caption_list_next(rows, &row, &error) == 1) complaint = "goes on after an error";
    caption_list_close(rows);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
