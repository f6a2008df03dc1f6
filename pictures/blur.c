/* Blurring of faces: three box filters, one after the other, come close to a Gaussian and cost the same at every width. */
#include "pictures/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    size_t left, top, right, bottom;
} rectangle;

static size_t clamped(double value, size_t limit) {
    return value <= 0 ? 0 : value >= (double)limit ? limit : (size_t)value;
}

/* The box in pixels, widened by a tenth of its diagonal on each side; *longest is at least its diagonal then. */
static rectangle widen(const picture *self, const picture_box *box, double *longest) {
    const double width = (double)self->width, height = (double)self->height;
    const double diagonal = hypot((box->right - box->left) * width, (box->bottom - box->top) * height), margin = 0.1 * diagonal;
    if (diagonal > *longest) *longest = diagonal;
    return (rectangle){.left = clamped(floor(box->left * width - margin), self->width),
                       .top = clamped(floor(box->top * height - margin), self->height),
                       .right = clamped(ceil(box->right * width + margin), self->width),
                       .bottom = clamped(ceil(box->bottom * height + margin), self->height)};
}

/* Means of 2·radius + 1 pixels along a line of `count` pixels (3 bytes each), `step` bytes apart; the line's ends go on. */
static void filter_line(const unsigned char *in, unsigned char *out, size_t count, size_t step, size_t radius) {
    const unsigned divisor = (unsigned)(2 * radius + 1);
    for (size_t c = 0; c < 3; c++) {
        uint64_t sum = (uint64_t)in[c] * (radius + 1);
        for (size_t i = 0; i < radius; i++) sum += in[(i + 1 < count ? i + 1 : count - 1) * step + c];
        for (size_t i = 0; i < count; i++) {
            out[i * step + c] = (unsigned char)((sum + divisor / 2) / divisor);
            const size_t enters = i + radius + 1 < count ? i + radius + 1 : count - 1, leaves = i > radius ? i - radius : 0;
            sum += in[enters * step + c];
            sum -= in[leaves * step + c];
        }
    }
}

static void filter(unsigned char *pixels, unsigned char *other, size_t width, size_t height, size_t radius) {
    for (int pass = 0; pass < 3; pass++) {
        for (size_t y = 0; y < height; y++) filter_line(pixels + y * width * 3, other + y * width * 3, width, 3, radius);
        for (size_t x = 0; x < width; x++) filter_line(other + x * 3, pixels + x * 3, height, width * 3, radius);
    }
}

int picture_blur(picture *self, const picture_box *boxes, size_t count, limn_error *error) {
    double longest = 0;
    rectangle all = {.left = SIZE_MAX, .top = SIZE_MAX};
    if (count == 0) return 0;
    for (size_t i = 0; i < count; i++) {
        const rectangle r = widen(self, &boxes[i], &longest);
        if (r.left < all.left) all.left = r.left;
        if (r.top < all.top) all.top = r.top;
        if (r.right > all.right) all.right = r.right;
        if (r.bottom > all.bottom) all.bottom = r.bottom;
    }
    const double deviation = 0.1 * longest; /* three boxes of width w have a variance of (w² − 1) / 4 */
    const size_t radius = (size_t)fmax(1, ceil((sqrt(4 * deviation * deviation + 1) - 1) / 2)), margin = 3 * radius;
    const size_t left = all.left > margin ? all.left - margin : 0, top = all.top > margin ? all.top - margin : 0;
    const size_t right = self->width - all.right > margin ? all.right + margin : self->width;
    const size_t bottom = self->height - all.bottom > margin ? all.bottom + margin : self->height;
    const size_t width = right - left, height = bottom - top;
    unsigned char *blurred = picture_memory(width * height, 3, error);
    unsigned char *other = blurred ? picture_memory(width * height, 3, error) : NULL;
    if (other) {
        for (size_t y = 0; y < height; y++)
            memcpy(blurred + y * width * 3, self->pixels + ((top + y) * self->width + left) * 3, width * 3);
        filter(blurred, other, width, height, radius);
        for (size_t i = 0; i < count; i++) {
            const rectangle r = widen(self, &boxes[i], &longest);
            for (size_t y = r.top; y < r.bottom; y++)
                memcpy(self->pixels + (y * self->width + r.left) * 3, blurred + ((y - top) * width + r.left - left) * 3,
                       (r.right - r.left) * 3);
        }
    }
    const int status = other ? 0 : -1;
    free(blurred);
    free(other);
    return status;
}
