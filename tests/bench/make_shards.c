/* bench-make-shards DIR SHARDS PAIRS: token shards of random tokens (256 of 16,384, which do not compress) and captions of
 * common words, for limn-bench data. */
#include "formats/formats.h"

#include <stdlib.h>

enum { LENGTH = 256, CODES = 16384, CAPTION_ROOM = 256 };
static const char *const WORDS[] = {
    "a",      "the", "person", "in",      "of",        "Young",        "woman",   "standing",     "at",       "beach",  "with",
    "sunset", "on",  "cat",    "dog",     "mountains", "snow-covered", "Vintage", "car",          "painting", "street", "city",
    "London", "and", "red",    "flowers", "#art",      "photo",        "night",   "illustration", "café",     "2019"};

static size_t make_caption(char *out, uint64_t id) {
    size_t words = 5 + limn_random_below(1, 1, id, 15), size = 0;
    for (size_t i = 0; i < words; i++)
        size +=
            (size_t)sprintf(out + size, "%s%s", i ? " " : "", WORDS[limn_random_below(2, id, i, sizeof WORDS / sizeof *WORDS)]);
    return size;
}

static int write_shard(const char *directory, size_t number, size_t count, limn_error *error) {
    char path[4096], name[32];
    snprintf(name, sizeof name, "%05zu.h5", number);
    token_shard shard = {.count = count,
                         .length = LENGTH,
                         .tokens = limn_allocate(count * LENGTH, sizeof(uint16_t), error),
                         .captions = count,
                         .caption_bytes = limn_allocate(count, CAPTION_ROOM, error),
                         .caption_offsets = limn_allocate(count + 1, sizeof(uint64_t), error),
                         .caption_row = limn_allocate(count, sizeof(uint32_t), error),
                         .key_bytes = limn_allocate(count, 9, error),
                         .key_offsets = limn_allocate(count + 1, sizeof(uint64_t), error),
                         .image_size = 256,
                         .codebook_size = CODES};
    int status = shard.tokens && shard.caption_bytes && shard.caption_offsets && shard.caption_row && shard.key_bytes &&
                         shard.key_offsets
                     ? limn_path_join(path, sizeof path, directory, name, error)
                     : -1;
    for (size_t n = 0; status == 0 && n < count; n++) {
        char key[32];
        for (size_t t = 0; t < LENGTH; t++)
            shard.tokens[n * LENGTH + t] = (uint16_t)(limn_random_u32(3, number, n * LENGTH + t) % CODES);
        size_t size = make_caption((char *)shard.caption_bytes + shard.caption_offsets[n], number * count + n);
        shard.caption_offsets[n + 1] = shard.caption_offsets[n] + size;
        shard.caption_row[n] = (uint32_t)n;
        snprintf(key, sizeof key, "%05zu%04zu", number % 100000, n % 10000);
        memcpy(shard.key_bytes + 9 * n, key, 9);
        shard.key_offsets[n + 1] = 9 * (n + 1);
    }
    if (status == 0) status = token_shard_write(path, &shard, error);
    token_shard_free(&shard);
    return status;
}

static int run(int argc, char **argv, limn_error *error) {
    if (argc != 4) return limn_fail_usage(error, "usage: bench-make-shards DIR SHARDS PAIRS");
    if (limn_make_directories(argv[1], error)) return -1;
    for (size_t i = 0; i < strtoull(argv[2], NULL, 10); i++)
        if (write_shard(argv[1], i, strtoull(argv[3], NULL, 10), error)) return -1;
    return 0;
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
