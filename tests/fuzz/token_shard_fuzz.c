/* Token shards. */
#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

static bool make_seed(size_t index, limn_buffer *out) {
    uint16_t tokens[12] = {1, 2, 3, 4, 5};
    uint64_t caption_offsets[] = {0, 3, 6}, key_offsets[] = {0, 2, 4, 6};
    uint32_t rows[] = {0, 2};
    float scores[] = {1, 2, 3};
    char *names[] = {"score"};
    float *values[] = {scores};
    token_shard shard = {.count = 3,
                         .length = 4,
                         .tokens = tokens,
                         .captions = 2,
                         .caption_bytes = (unsigned char *)"catdog",
                         .caption_offsets = caption_offsets,
                         .caption_row = rows,
                         .key_bytes = (unsigned char *)"k1k2k3",
                         .key_offsets = key_offsets,
                         .columns = index,
                         .column_names = names,
                         .column_values = values,
                         .image_size = 32,
                         .codebook_size = 6};
    if (index >= 2) return false;
    const char *path = fuzz_file("seed.h5", "", 0);
    size_t size;
    char *bytes = token_shard_write(path, &shard, NULL) ? NULL : limn_file_read(path, 1 << 20, &size, NULL);
    bool made = bytes && limn_buffer_append(out, bytes, size, NULL) == 0;
    free(bytes);
    return made;
}

/* What the reader promises of a shard that it took. */
static const char *check(const token_shard *shard) {
    for (size_t i = 0; i < shard->count * shard->length; i++)
        if (shard->tokens[i] >= shard->codebook_size) return "a token outside the codebook";
    for (size_t i = 0; i < shard->captions; i++) {
        if (shard->caption_row[i] >= shard->count) return "a caption of no picture";
        if (shard->caption_offsets[i] > shard->caption_offsets[i + 1]) return "caption offsets go backwards";
    }
    volatile unsigned char last = 0;
    if (shard->caption_offsets[shard->captions]) last = shard->caption_bytes[shard->caption_offsets[shard->captions] - 1];
    if (shard->key_offsets[shard->count]) last = shard->key_bytes[shard->key_offsets[shard->count] - 1];
    (void)last;
    return NULL;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0};
    token_shard shard;
    const char *path = fuzz_file("input.h5", data, size);
    if (token_shard_read_header(path, &shard, &error)) return fuzz_check_error(&error);
    token_shard_free(&shard);
    if (token_shard_read(path, &shard, &error)) return fuzz_check_error(&error);
    const char *complaint = check(&shard);
    token_shard_free(&shard);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
