/* Pairs as JSON lines, plain and gzipped: read as a whole and in parts. */
#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { LENGTH = 4, CODES = 50 };
static const char *const COLUMNS[] = {"clip_score"};
static const char TEXT[] =
    "{\"caption\": \"a cat\", \"encoding\": [0, 1, 2, 49], \"clip_score\": 0.3}\n"
    "{\"captions\": [\"a dog \\u00e9\", \"\xc3\xa9\"], \"tokens\": [3, 4, 5, 6], \"clip_score\": null}\r\n"
    "\n"
    "{\"clip_score\": 1e3, \"captions\": \"one\", \"encoding\": [7, 8, 9, 10], \"url\": {\"a\": [true, 1]}}";

static bool make_seed(size_t index, limn_buffer *out) {
    if (index == 0) return limn_buffer_append(out, TEXT, strlen(TEXT), NULL) == 0;
    if (index > 1) return false;
    unsigned char packed[1024];
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)TEXT,
                       .avail_in = sizeof TEXT - 1,
                       .next_out = packed,
                       .avail_out = sizeof packed};
    bool made = deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK &&
                deflate(&stream, Z_FINISH) == Z_STREAM_END && limn_buffer_append(out, packed, stream.total_out, NULL) == 0;
    deflateEnd(&stream);
    return made;
}

static const char *check(const token_shard *shard) {
    for (size_t i = 0; i < shard->count * LENGTH; i++)
        if (shard->tokens[i] >= CODES) return "a token outside the codebook";
    size_t with_caption = 0;
    for (size_t m = 0; m < shard->captions; m++) {
        if (shard->caption_row[m] >= shard->count) return "a caption of no picture";
        with_caption += m == 0 || shard->caption_row[m] != shard->caption_row[m - 1];
        uint64_t from = shard->caption_offsets[m], end = shard->caption_offsets[m + 1];
        if (end < from) return "caption offsets go backwards";
        if (!limn_utf8_valid((const char *)shard->caption_bytes + from, end - from)) return "a caption that is not UTF-8";
    }
    if (with_caption != shard->count) return "a picture without caption";
    volatile float score = shard->count ? shard->column_values[0][shard->count - 1] : 0;
    (void)score;
    return NULL;
}

/* Pairs of all parts together; SIZE_MAX when one cannot be read. */
static size_t count_in_parts(const char *path, size_t lines, limn_error *error) {
    token_lines_part *parts;
    size_t count, sum = 0;
    if (token_lines_cut(path, lines, &parts, &count, error)) return SIZE_MAX;
    for (size_t i = 0; i < count && sum != SIZE_MAX; i++) {
        token_shard shard;
        if (token_lines_read(path, &parts[i], LENGTH, CODES, COLUMNS, 1, &shard, error))
            sum = SIZE_MAX;
        else
            sum += shard.count;
        token_shard_free(&shard);
    }
    free(parts);
    return sum;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0}, in_parts = {0};
    const char *path = fuzz_file("input.jsonl", data, size);
    token_lines_part all = {0, 1, SIZE_MAX};
    token_shard shard;
    size_t pairs = count_in_parts(path, 2, &in_parts);
    if (token_lines_read(path, &all, LENGTH, CODES, COLUMNS, 1, &shard, &error)) {
        if (pairs != SIZE_MAX) return "refused as a whole, taken in parts";
        const char *complaint = fuzz_check_error(&error);
        return complaint ? complaint : fuzz_check_error(&in_parts);
    }
    const char *complaint = pairs == shard.count ? check(&shard) : "another number of pairs in parts";
    token_shard_free(&shard);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
