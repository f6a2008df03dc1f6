/* Pictures of every kind, decoded whole and scaled, and then resized. */
#include "tests/fuzz/fuzz.h"
#include "tests/pictures/make.h"

#include <png.h>
#include <stdlib.h>

enum { WIDTH = 37, HEIGHT = 29, MAX_PIXELS = 1 << 22 };

static limn_buffer encode(size_t index, const picture *photo, const unsigned char *opaque, const unsigned char *graded) {
    static const unsigned char colours[3][4] = {{10, 200, 30, 255}, {255, 0, 0, 100}, {0, 0, 255, 255}};
    switch (index) {
    case 0:
        return make_jpeg(photo, NULL, WIDTH, HEIGHT, (jpeg_kind){.subsample = true});
    case 1:
        return make_jpeg(photo, NULL, WIDTH, HEIGHT, (jpeg_kind){.progressive = true});
    case 2:
        return make_jpeg(NULL, graded, WIDTH, HEIGHT, (jpeg_kind){.cmyk = 2});
    case 3:
        return make_jpeg(photo, NULL, WIDTH, HEIGHT, (jpeg_kind){.grey = true});
    case 4:
        return make_png(photo->pixels, WIDTH * 3, WIDTH, HEIGHT, PNG_COLOR_TYPE_RGB, 8, false, false);
    case 5:
        return make_png(graded, WIDTH * 4, WIDTH, HEIGHT, PNG_COLOR_TYPE_RGB_ALPHA, 8, true, false);
    case 6:
        return make_png(graded, WIDTH, WIDTH, HEIGHT, PNG_COLOR_TYPE_GRAY, 8, false, true);
    case 7:
        return make_png(photo->pixels, WIDTH * 2, WIDTH, HEIGHT, PNG_COLOR_TYPE_GRAY, 16, true, false);
    case 8:
        return make_webp(opaque, WIDTH, HEIGHT, false);
    case 9:
        return make_webp(graded, WIDTH, HEIGHT, false);
    case 10:
        return make_webp(graded, WIDTH, HEIGHT, true);
    case 11:
        return make_animated_webp(WIDTH, HEIGHT, colours, 3);
    default:
        return (limn_buffer){0};
    }
}

static bool make_seed(size_t index, limn_buffer *out) {
    picture photo = make_photo(WIDTH, HEIGHT, 1);
    unsigned char *opaque = make_rgba(&photo, false), *graded = make_rgba(&photo, true);
    *out = encode(index, &photo, opaque, graded);
    free(opaque);
    free(graded);
    picture_free(&photo);
    return out->size > 0;
}

static const char *resize(const picture *decoded, resize_mode mode, size_t size) {
    limn_error error = {0};
    picture sized;
    if (picture_resize(decoded, &sized, mode, size, &error)) return fuzz_check_error(&error);
    bool right = mode != RESIZE_CENTER_CROP || (sized.width == size && sized.height == size);
    picture_free(&sized);
    return right ? NULL : "resized to another size";
}

static const char *target(const char *data, size_t size) {
    static const size_t sides[] = {0, 8};
    const char *complaint = NULL;
    for (size_t i = 0; i < 2 && !complaint; i++) {
        const picture_decode_options options = {.max_pixels = MAX_PIXELS, .min_side = sides[i]};
        limn_error error = {0};
        picture decoded;
        size_t width = 0, height = 0;
        if (picture_decode(&decoded, (const unsigned char *)data, size, &options, &width, &height, &error)) {
            complaint = decoded.pixels ? "a refused picture has pixels" : fuzz_check_error(&error);
            continue;
        }
        if (width * height > MAX_PIXELS || decoded.width > width || decoded.height > height) complaint = "a wrong size";
        if (!complaint) complaint = resize(&decoded, RESIZE_CENTER_CROP, 16);
        if (!complaint) complaint = resize(&decoded, RESIZE_BORDER, 50);
        picture_free(&decoded);
    }
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
