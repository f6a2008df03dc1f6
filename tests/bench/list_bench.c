/* bench-list LIST…: how fast caption lists are read. For each file a line: rows a second taken with all their texts, passed
 * over, and counted with their file's SHA-256 (what a run does before it begins); the most memory so far. Not run by ctest.
 *
 * bench-list --make ROWS tsv|csv|jsonl|txt: writes a made-up list of that form to standard output, rows of some 140 bytes. */
#include "download/download.h"

#include <stdlib.h>
#include <string.h>

static const char *const words[] = {"a",    "red",     "cat",         "on",       "the", "table", "with", "small",
                                    "blue", "picture", "caf\xC3\xA9", "mountain", "of",  "house", "and",  "street"};

static int make(uint64_t rows, const char *form) {
    char caption[512];
    if (!strcmp(form, "csv")) printf("url,caption,width,height,similarity\n");
    for (uint64_t row = 0; row < rows; row++) {
        size_t at = 0;
        const uint64_t count = 6 + limn_random_below(1, 1, row, 10);
        for (uint64_t i = 0; i < count; i++)
            at += (size_t)snprintf(caption + at, sizeof caption - at, "%s%s", i ? " " : "",
                                   words[limn_random_below(1, 2, row * 16 + i, sizeof words / sizeof *words)]);
        const unsigned number = limn_random_u32(1, 3, row), width = 100 + number % 2000, height = 100 + number / 7 % 2000;
        const char *const layout =
            !strcmp(form, "csv")     ? "https://pictures%u.example.org/%u/large/%08x.jpg,\"%s, %u\",%u,%u,0.%u\n"
            : !strcmp(form, "jsonl") ? "{\"url\":\"https://pictures%u.example.org/%u/large/%08x.jpg\",\"caption\":\"%s, %u\","
                                       "\"width\":%u,\"height\":%u,\"similarity\":0.%u}\n"
                                     : "https://pictures%u.example.org/%u/large/%08x.jpg\t%s, %u\t%u\t%u\t0.%u\n";
        if (!strcmp(form, "txt"))
            printf("https://pictures%u.example.org/%u/large/%08x.jpg?w=%u&h=%u\n", number % 1000, number % 77, number, width,
                   height);
        else
            printf(layout, number % 1000, number % 77, number, caption, number % 9, width, height, number % 100);
    }
    return 0;
}

static int measure(const char *path, limn_error *error) {
    const char *names[] = {path};
    const limn_strings one = {1, names};
    const caption_list_options options = {.columns = strstr(path, ".tsv") ? "url,caption,width,height,similarity" : NULL};
    caption_file file;
    caption_row row;
    uint64_t taken = 0, bytes = 0, counted;
    int got;
    double start = limn_seconds();
    caption_list *list = caption_list_open(&one, &options, error);
    if (!list) return -1;
    while ((got = caption_list_next(list, &row, error)) == 1) taken++, bytes += row.url.size + row.caption.size;
    caption_list_close(list);
    if (got) return -1;
    const double take = limn_seconds() - start;
    start = limn_seconds();
    list = caption_list_open(&one, &options, error);
    if (!list || caption_list_skip(list, UINT64_MAX, &counted, error)) return -1;
    caption_list_close(list);
    const double pass = limn_seconds() - start;
    start = limn_seconds();
    if (caption_list_measure(&one, &options, &file, &counted, error)) return -1;
    const double count = limn_seconds() - start;
    printf(
        "%s: %llu rows, %llu MB; taken %.2f s (%.0f rows/s), passed over %.2f s (%.0f rows/s), counted and hashed %.2f s (%.0f "
        "rows/s); %zu MB of memory\n",
        path, (unsigned long long)taken, (unsigned long long)(file.bytes / 1000000), take, (double)taken / take, pass,
        (double)taken / pass, count, (double)taken / count, limn_resident_bytes_peak() / 1000000);
    return counted == taken ? 0 : limn_fail(error, "%s: counts differ", path);
}

static int run(int argc, char **argv, limn_error *error) {
    limn_set_log_level(LIMN_LOG_QUIET);
    if (argc == 4 && !strcmp(argv[1], "--make")) return make(strtoull(argv[2], NULL, 10), argv[3]);
    for (int i = 1; i < argc; i++)
        if (measure(argv[i], error)) return -1;
    return argc > 1 ? 0 : limn_fail_usage(error, "bench-list LIST… | --make ROWS FORM");
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
