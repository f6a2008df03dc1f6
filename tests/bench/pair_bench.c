/* CPU time of what becomes of one fetched picture (pair_make): decoded, judged, resized to 256x256, encoded, described.
 *
 *     bench-pair ROUNDS FILES      the files are read before the clock starts */
#include "download/internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv) {
    const size_t rounds = argc > 2 ? strtoul(argv[1], NULL, 10) : 0, files = argc > 2 ? (size_t)argc - 2 : 0;
    const pair_options options = {.size = 256, .resize = RESIZE_CENTER_CROP, .resize_name = "center-crop", .quality = 95};
    limn_error error = {0};
    if (!rounds) {
        fprintf(stderr, "usage: bench-pair ROUNDS FILES\n");
        return LIMN_EXIT_USAGE;
    }
    download_row *rows = limn_allocate(files, sizeof *rows, &error);
    for (size_t i = 0; rows && i < files; i++) {
        rows[i].url = rows[i].caption = argv[i + 2];
        rows[i].caption_size = strlen(argv[i + 2]);
        rows[i].data = (unsigned char *)limn_file_read(argv[i + 2], (size_t)1 << 30, &rows[i].data_size, &error);
        if (!rows[i].data) break;
    }
    if (error.message[0]) {
        fprintf(stderr, "bench-pair: %s\n", error.message);
        return LIMN_EXIT_FAILED;
    }
    picture_context *context = picture_context_create(&error);
    size_t bytes = 0, failed = 0;
    double least = 1e9;
    for (size_t round = 0; round < rounds; round++) {
        const double began = cpu_seconds();
        for (size_t i = 0; i < files; i++) {
            download_pair pair = {0};
            failed += pair_make(&options, context, "000000000", &rows[i], &pair) != 0;
            bytes += pair.image.size;
            pair_free(&pair);
        }
        const double seconds = cpu_seconds() - began;
        if (seconds < least) least = seconds;
    }
    printf("%.3f ms of CPU a picture (least of %zu rounds over %zu pictures), %zu bytes each, %zu failed\n",
           1000 * least / (double)files, rounds, files, bytes / (rounds * files), failed);
    for (size_t i = 0; i < files; i++) free(rows[i].data);
    free(rows);
    picture_context_destroy(context);
    return LIMN_EXIT_DONE;
}
