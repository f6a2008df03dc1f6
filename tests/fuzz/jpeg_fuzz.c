/* JPEGs of every kind, decoded whole and scaled down, turned, blurred, resized and brought to sRGB. */
#include "tests/fuzz/pictures.h"

static bool make_seed(size_t index, limn_buffer *out) {
    static const jpeg_kind kinds[] = {{.subsample = true}, {.progressive = true}, {.cmyk = 2},
                                      {.grey = true},      {.arithmetic = true},  {.one_scan_each = true},
                                      {.subsample = true}, {.grey = true},        {.cmyk = 1}};
    static const int profiles[] = {0, 0, 0, 0, 0, 0, 1, 2, 3};
    if (index >= sizeof kinds / sizeof *kinds) return false;
    fuzz_photo from = fuzz_photo_make();
    *out = make_jpeg(&from.photo, from.graded, FUZZ_WIDTH, FUZZ_HEIGHT, kinds[index]);
    if (profiles[index]) fuzz_put_metadata(out, profiles[index]);
    fuzz_photo_free(&from);
    return true;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, fuzz_picture);
}
