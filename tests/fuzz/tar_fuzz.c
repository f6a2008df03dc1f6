/* WebDataset tars. */
#include "formats/formats.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static bool make_seed(size_t index, limn_buffer *out) {
    if (index >= 2) return false;
    const char *path = fuzz_file("seed.tar", "", 0);
    tar_writer *writer = tar_writer_open(path, NULL);
    if (!writer) return false;
    char picture[600] = "picture", name[160];
    memset(name, 'n', sizeof name);
    strcpy(name + 140, ".txt"); /* longer than ustar's field: a pax header goes before it */
    tar_writer_add(writer, "000000001.jpg", picture, sizeof picture, NULL);
    tar_writer_add(writer, "000000001.txt", "a cat", 5, NULL);
    tar_writer_add(writer, "000000001.json", "{\"status\": \"success\"}", 21, NULL);
    tar_writer_add(writer, "000000002.png", picture, 100, NULL);
    if (index == 1) tar_writer_add(writer, name, "long", 4, NULL);
    size_t size;
    char *bytes = tar_writer_commit(writer, NULL) ? NULL : limn_file_read(path, 1 << 20, &size, NULL);
    bool made = bytes && limn_buffer_append(out, bytes, size, NULL) == 0;
    free(bytes);
    return made;
}

static const char *target(const char *data, size_t size) {
    limn_error error = {0};
    tar_reader *reader = tar_reader_open(fuzz_file("input.tar", data, size), &error);
    if (!reader) return fuzz_check_error(&error);
    const char *complaint = NULL;
    tar_sample sample;
    int result = 1;
    while (!complaint && (result = tar_reader_next(reader, &sample, &error)) == 1) {
        if (sample.caption && strlen(sample.caption) > sample.caption_size) complaint = "a caption without its end";
        if (sample.json && strlen(sample.json) > sample.json_size) complaint = "a JSON text without its end";
        char hash[65];
        if (sample.image) limn_sha256(sample.image, sample.image_size, hash);
    }
    tar_reader_close(reader);
    return result < 0 ? fuzz_check_error(&error) : complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
