#include "pictures/pictures.h"
#include "train/data.h"

#include <stdlib.h>
#include <string.h>

enum { WARNINGS = 5 };

/* Every picture is decoded once before it is taken, so that no step meets a broken one. */
static bool decodes(const tar_sample *sample, limn_error *error) {
    picture decoded;
    picture_decode_options options = {.min_side = 1};
    if (!sample->image) return limn_fail(error, "has no picture") == 0;
    if (picture_decode(&decoded, sample->image, sample->image_size, &options, NULL, NULL, error)) return false;
    picture_free(&decoded);
    return true;
}

static int read_tar(picture_set *set, limn_buffer *bytes, limn_buffer *offsets, const char *path, limn_error *error) {
    tar_reader *reader = tar_reader_open(path, error);
    if (!reader) return -1;
    tar_sample sample;
    int status;
    while ((status = tar_reader_next(reader, &sample, error)) == 1) {
        limn_error why = {0};
        if (!decodes(&sample, &why)) {
            if (set->broken++ < WARNINGS) limn_log(LIMN_LOG_WARNING, "%s: %s: %s; left out", path, sample.key, why.message);
            continue;
        }
        uint64_t end = bytes->size + sample.image_size;
        if (limn_buffer_append(bytes, sample.image, sample.image_size, error) ||
            limn_buffer_append(offsets, &end, sizeof end, error)) {
            status = -1;
            break;
        }
        set->count++;
    }
    tar_reader_close(reader);
    return status;
}

int picture_set_read(picture_set *set, const limn_strings *paths, limn_error *error) {
    *set = (picture_set){0};
    limn_buffer bytes = {0}, offsets = {0};
    uint64_t zero = 0;
    int status = limn_buffer_append(&offsets, &zero, sizeof zero, error);
    for (size_t i = 0; status == 0 && i < paths->count; i++) status = read_tar(set, &bytes, &offsets, paths->items[i], error);
    set->bytes = (unsigned char *)bytes.data;
    set->offset = (uint64_t *)(void *)offsets.data;
    if (status == 0 && !set->count)
        status = limn_fail(error, "%s: holds no picture that can be decoded", paths->count ? paths->items[0] : "--data");
    if (status == 0 && set->broken > WARNINGS) limn_log(LIMN_LOG_WARNING, "%zu pictures are broken and were left out", set->broken);
    if (status) picture_set_free(set);
    return status;
}

void picture_set_free(picture_set *set) {
    free(set->bytes);
    free(set->offset);
    *set = (picture_set){0};
}

int picture_set_decode(const picture_set *set, size_t n, size_t side, float *out, limn_error *error) {
    picture decoded, sized;
    picture_decode_options options = {.min_side = side};
    size_t size = set->offset[n + 1] - set->offset[n];
    if (picture_decode(&decoded, set->bytes + set->offset[n], size, &options, NULL, NULL, error)) return -1;
    int status = 0;
    if (decoded.width != side || decoded.height != side) {
        status = picture_resize(&decoded, &sized, RESIZE_CENTER_CROP, side, error);
        picture_free(&decoded);
        if (status) return -1;
        decoded = sized;
    }
    picture_to_floats(&decoded, out);
    picture_free(&decoded);
    return status;
}
