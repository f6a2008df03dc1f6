/* WebPs of every kind, decoded, turned, blurred, resized and brought to sRGB. */
#include "tests/fuzz/pictures.h"

static bool make_seed(size_t index, limn_buffer *out) {
    static const unsigned char colours[3][4] = {{10, 200, 30, 255}, {255, 0, 0, 100}, {0, 0, 255, 255}};
    fuzz_photo from = fuzz_photo_make();
    if (index < 4) *out = make_webp(index % 2 ? from.graded : from.opaque, FUZZ_WIDTH, FUZZ_HEIGHT, index >= 2);
    if (index == 4) *out = make_animated_webp(FUZZ_WIDTH, FUZZ_HEIGHT, colours, 3);
    if (index == 5) {
        *out = make_webp(from.graded, FUZZ_WIDTH, FUZZ_HEIGHT, false);
        fuzz_put_metadata(out, 1);
    }
    fuzz_photo_free(&from);
    return out->size > 0;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, fuzz_picture);
}
