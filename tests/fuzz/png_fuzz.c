/* PNGs of every kind, decoded, turned, blurred, resized and brought to sRGB. */
#include "tests/fuzz/pictures.h"

#include <png.h>

static bool make_seed(size_t index, limn_buffer *out) {
    fuzz_photo from = fuzz_photo_make();
    const size_t width = FUZZ_WIDTH, height = FUZZ_HEIGHT;
    switch (index) {
    case 0:
    case 5:
        *out = make_png(from.photo.pixels, width * 3, width, height, PNG_COLOR_TYPE_RGB, 8, false, false);
        break;
    case 1:
        *out = make_png(from.graded, width * 4, width, height, PNG_COLOR_TYPE_RGB_ALPHA, 8, true, false);
        break;
    case 2:
    case 6:
        *out = make_png(from.graded, width, width, height, PNG_COLOR_TYPE_GRAY, 8, false, true);
        break;
    case 3:
        *out = make_png(from.photo.pixels, width * 2, width, height, PNG_COLOR_TYPE_GRAY, 16, true, false);
        break;
    case 4:
        *out = make_png((const unsigned char *)"\0\1\2\2\1\0", 3, 3, 2, PNG_COLOR_TYPE_PALETTE, 8, false, false);
        break;
    default:
        break;
    }
    if (index >= 5 && out->size) fuzz_put_metadata(out, index == 5 ? 1 : 2);
    fuzz_photo_free(&from);
    return out->size > 0;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, fuzz_picture);
}
