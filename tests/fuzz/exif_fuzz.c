/* EXIF segments, in both byte orders, and the chunks of PNG and WebP. */
#include "tests/fuzz/pictures.h"

#include <png.h>
#include <string.h>

/* A JPEG's beginning with an EXIF segment: a text out of line, a number in place, a fraction, and the second directory with a
 * number. */
static const unsigned char big[] = {
    0xFF, 0xD8, 0xFF, 0xE1, 0,   0x6A, 'E', 'x', 'i', 'f', 0,    0,    'M',  'M',  0,    42,   0, 0,  0, 8,   0,    4,
    0x01, 0x0F, 0,    2,    0,   0,    0,   6,   0,   0,   0,    0x50, 0x01, 0x12, 0,    3,    0, 0,  0, 1,   0,    6,
    0,    0,    0x01, 0x1A, 0,   5,    0,   0,   0,   1,   0,    0,    0,    0x56, 0x87, 0x69, 0, 4,  0, 0,   0,    1,
    0,    0,    0,    0x3E, 0,   0,    0,   0,   0,   1,   0x88, 0x27, 0,    3,    0,    0,    0, 1,  0, 100, 0,    0,
    0,    0,    0,    0,    'L', 'i',  'm', 'n', '!', 0,   0,    0,    0,    1,    0,    0,    0, 60, 0, 0,   0xFF, 0xDA};
static const unsigned char little[] = {0xFF, 0xD8, 0xFF, 0xE0, 0,  4, 1, 2, 0xFF, 0xE1, 0, 34, 'E',  'x',  'i', 'f',
                                       0,    0,    'I',  'I',  42, 0, 8, 0, 0,    0,    1, 0,  0x12, 0x01, 3,   0,
                                       1,    0,    0,    0,    6,  0, 0, 0, 0,    0,    0, 0,  0xFF, 0xD9};

static bool make_seed(size_t index, limn_buffer *out) {
    if (index == 2 || index == 3) {
        fuzz_photo from = fuzz_photo_make();
        *out = index == 2 ? make_png(from.photo.pixels, 6, 2, 2, PNG_COLOR_TYPE_RGB, 8, false, false)
                          : make_webp(from.opaque, 2, 2, true);
        fuzz_put_metadata(out, 0);
        fuzz_photo_free(&from);
        return true;
    }
    if (index > 1) return false;
    return limn_buffer_append(out, index ? little : big, index ? sizeof little : sizeof big, NULL) == 0;
}

static const char *target(const char *data, size_t size) {
    const unsigned orientation = exif_orientation((const unsigned char *)data, size);
    if (orientation < 1 || orientation > 8) return "an orientation that is none";
    json_t *tags = exif_read((const unsigned char *)data, size);
    if (!tags) return NULL;
    char *text = json_dumps(tags, 0);
    const char *complaint = text ? NULL : "the tags cannot be written as JSON";
    free(text);
    json_decref(tags);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
