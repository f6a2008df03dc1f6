/* Sizes and crops: what part of a picture becomes which size. */
#include "pictures/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 1 << 20 };
static const size_t MAX_PIXELS = 178956970;

int resize_mode_from_name(const char *name, resize_mode *out) {
    static const struct {
        const char *name;
        resize_mode mode;
    } modes[] = {{"center-crop", RESIZE_CENTER_CROP},
                 {"border", RESIZE_BORDER},
                 {"keep-ratio", RESIZE_KEEP_RATIO},
                 {"keep-ratio-largest", RESIZE_KEEP_RATIO_LARGEST},
                 {"none", RESIZE_NONE}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(modes[i].name, name) != 0) continue;
        *out = modes[i].mode;
        return 0;
    }
    return -1;
}

static int copy_picture(const picture *in, picture *out, limn_error *error) {
    if (picture_reserve(out, in->width, in->height, error)) return -1;
    memcpy(out->pixels, in->pixels, in->width * in->height * 3);
    out->covered_width = in->covered_width;
    out->covered_height = in->covered_height;
    out->covered_left = in->covered_left;
    out->covered_top = in->covered_top;
    return 0;
}

static size_t scaled(double side, size_t numerator, double denominator) {
    double value = round(side * (double)numerator / denominator);
    return value < 1.0 ? 1 : (size_t)value;
}

int picture_resize(const picture *in, picture *out, resize_mode mode, size_t size, limn_error *error) {
    *out = (picture){0};
    if (mode == RESIZE_NONE) return copy_picture(in, out, error);
    if (in->width == 0 || in->height == 0) return limn_fail(error, "an empty picture cannot be resized");
    if (in->width > MAX_SIDE || in->height > MAX_SIDE)
        return limn_fail(error, "%zux%zu pixels are too long a strip to resize", in->width, in->height);
    if (size == 0 || size > MAX_SIDE) return limn_fail(error, "a size of %zu pixels is not between 1 and %d", size, MAX_SIDE);
    picture_part part = {0, 0, (double)in->width, (double)in->height};
    if (in->covered_width > 0 && in->covered_height > 0) {
        part.left = in->covered_left;
        part.top = in->covered_top;
        part.width = in->covered_width;
        part.height = in->covered_height;
    }
    bool by_longer = mode == RESIZE_BORDER || mode == RESIZE_KEEP_RATIO_LARGEST;
    double side = by_longer ? fmax(part.width, part.height) : fmin(part.width, part.height); /* it becomes `size` */
    size_t width = scaled(part.width, size, side), height = scaled(part.height, size, side);
    if (mode == RESIZE_CENTER_CROP) {
        double across = part.width / (double)width, down = part.height / (double)height;
        part.left += (double)((width - size) / 2) * across;
        part.top += (double)((height - size) / 2) * down;
        part.width = (double)size * across;
        part.height = (double)size * down;
        width = height = size;
    }
    size_t sheet_width = mode == RESIZE_BORDER ? size : width, sheet_height = mode == RESIZE_BORDER ? size : height;
    if (width > MAX_SIDE || height > MAX_SIDE || sheet_width > MAX_PIXELS / sheet_height)
        return limn_fail(error, "%zux%zu pixels would become %zux%zu", in->width, in->height, sheet_width, sheet_height);

    picture drawn = {0};
    if ((double)in->width == part.width && (double)in->height == part.height && width == in->width && height == in->height) {
        if (copy_picture(in, &drawn, error)) return -1;
    } else {
        if (picture_reserve(&drawn, width, height, error)) return -1;
        if (picture_resample(in, &part, &drawn, NULL, error)) {
            picture_free(&drawn);
            return -1;
        }
    }
    if (mode != RESIZE_BORDER || (width == size && height == size)) {
        *out = drawn;
        return 0;
    }
    int status = picture_create(out, size, size, error);
    if (!status) {
        memset(out->pixels, 255, size * size * 3);
        picture_paste(out, &drawn, (size - width) / 2, (size - height) / 2);
    }
    picture_free(&drawn);
    return status;
}
