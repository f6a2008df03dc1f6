/* EXIF's eight orientations. */
#include "pictures/internal.h"

#include <stdlib.h>

/* Where [from, from + covered) of `whole` lies after a reversal. */
static double reversed(double from, double covered, size_t whole) {
    return (double)whole - from - covered;
}

int picture_orient(picture *self, unsigned orientation, limn_error *error) {
    if (orientation < 2 || orientation > 8) return 0;
    const bool turned = orientation >= 5; /* rows become columns */
    const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const size_t width = self->width, height = self->height;
    picture out;
    if (picture_reserve(&out, turned ? height : width, turned ? width : height, error)) return -1;
    const unsigned char *start = self->pixels + (from_right ? width - 1 : 0) * 3 + (from_bottom ? height - 1 : 0) * width * 3;
    const ptrdiff_t column = from_right ? -3 : 3, row = (from_bottom ? -3 : 3) * (ptrdiff_t)width;
    const ptrdiff_t across = turned ? row : column, down = turned ? column : row;
    for (size_t y = 0; y < out.height; y++) {
        const unsigned char *from = start + (ptrdiff_t)y * down;
        unsigned char *to = out.pixels + y * out.width * 3;
        for (size_t x = 0; x < out.width; x++, from += across, to += 3) {
            to[0] = from[0];
            to[1] = from[1];
            to[2] = from[2];
        }
    }
    if (self->covered_width > 0 && self->covered_height > 0) {
        const double left = from_right ? reversed(self->covered_left, self->covered_width, width) : self->covered_left;
        const double top = from_bottom ? reversed(self->covered_top, self->covered_height, height) : self->covered_top;
        out.covered_left = turned ? top : left;
        out.covered_top = turned ? left : top;
        out.covered_width = turned ? self->covered_height : self->covered_width;
        out.covered_height = turned ? self->covered_width : self->covered_height;
    }
    picture_free(self);
    *self = out;
    return 0;
}
