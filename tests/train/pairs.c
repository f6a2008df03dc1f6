#include "pairs.h"

#include "tests/scratch.h"

#include <math.h>

void pairs_caption(char out[64], size_t id, size_t caption) {
    snprintf(out, 64, "picture %zu caption %zu", id, caption);
}

static float score(size_t id) {
    return id % 10 == 9 ? NAN : (float)(id % 10) / 10.0f;
}

static void append_caption(token_shard *shard, size_t first, size_t n, size_t caption) {
    char text[64];
    pairs_caption(text, first + n, caption);
    uint64_t at = shard->caption_offsets[shard->captions];
    memcpy(shard->caption_bytes + at, text, strlen(text));
    shard->caption_row[shard->captions++] = (uint32_t)n;
    shard->caption_offsets[shard->captions] = at + strlen(text);
}

void pairs_write_shard(const char *path, size_t first, size_t count) {
    limn_error error = {0};
    char *names[] = {(char *)"clip_score", (char *)"width"};
    float *values[] = {limn_allocate(count, sizeof(float), NULL), limn_allocate(count, sizeof(float), NULL)};
    token_shard shard = {.count = count,
                         .length = PAIR_LENGTH,
                         .tokens = limn_allocate(count * PAIR_LENGTH, sizeof(uint16_t), NULL),
                         .caption_bytes = limn_allocate(count * 3, 64, NULL),
                         .caption_offsets = limn_allocate(count * 3 + 1, sizeof(uint64_t), NULL),
                         .caption_row = limn_allocate(count * 3, sizeof(uint32_t), NULL),
                         .key_bytes = (unsigned char *)"",
                         .key_offsets = limn_allocate(count + 1, sizeof(uint64_t), NULL),
                         .columns = 2,
                         .column_names = names,
                         .column_values = values,
                         .vqgan_sha256 = PAIR_SHA256,
                         .image_size = 32,
                         .codebook_size = PAIR_CODES};
    for (size_t i = 0; i < count * PAIR_LENGTH; i++)
        shard.tokens[i] = (uint16_t)((first + i / PAIR_LENGTH + i % PAIR_LENGTH) % PAIR_CODES);
    for (size_t n = 0; n < count; n++) {
        values[0][n] = score(first + n);
        values[1][n] = (float)(first + n);
    }
    /* All first captions before all second ones: they must be put together again by picture. */
    for (size_t caption = 0; caption < 3; caption++)
        for (size_t n = 0; n < count; n++)
            if (caption <= (first + n) % 3) append_caption(&shard, first, n, caption);
    if (token_shard_write(path, &shard, &error)) fail_msg("%s", error.message);
    void *blocks[] = {shard.tokens, shard.caption_bytes, shard.caption_offsets, shard.caption_row, shard.key_offsets, values[0],
                      values[1]};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

void pairs_write_lines(const char *path, size_t first, size_t count) {
    FILE *stream = fopen(path, "w");
    assert_non_null(stream);
    for (size_t id = first; id < first + count; id++) {
        fprintf(stream, "{\"captions\": [");
        for (size_t caption = 0; caption <= id % 3; caption++) {
            char text[64];
            pairs_caption(text, id, caption);
            fprintf(stream, "%s\"%s\"", caption ? ", " : "", text);
        }
        fprintf(stream, "], \"encoding\": [");
        for (size_t t = 0; t < PAIR_LENGTH; t++) fprintf(stream, "%s%zu", t ? ", " : "", (id + t) % PAIR_CODES);
        if (isnan(score(id)))
            fprintf(stream, "], \"clip_score\": null}\n");
        else
            fprintf(stream, "], \"clip_score\": %g}\n", (double)score(id));
    }
    assert_int_equal(fclose(stream), 0);
}
