/* The perceptual hash. */
#include "pictures/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 32, LOW = 8, BITS = LOW * LOW };

/* Means of the grey values in SIDE × SIDE parts of the picture; a small picture's pixels count for several parts. */
static void shrink(const picture *self, double grey[SIDE][SIDE]) {
    for (size_t j = 0; j < SIDE; j++) {
        const size_t top = j * self->height / SIDE, next_top = (j + 1) * self->height / SIDE;
        const size_t bottom = next_top > top ? next_top : top + 1;
        for (size_t i = 0; i < SIDE; i++) {
            const size_t left = i * self->width / SIDE, next_left = (i + 1) * self->width / SIDE;
            const size_t right = next_left > left ? next_left : left + 1;
            uint64_t red = 0, green = 0, blue = 0;
            for (size_t y = top; y < bottom; y++) {
                const unsigned char *rgb = self->pixels + (y * self->width + left) * 3;
                unsigned r = 0, g = 0, b = 0;
                for (size_t x = left; x < right; x++, rgb += 3) r += rgb[0], g += rgb[1], b += rgb[2];
                red += r, green += g, blue += b;
            }
            const double count = (double)((bottom - top) * (right - left));
            grey[j][i] = (0.299 * (double)red + 0.587 * (double)green + 0.114 * (double)blue) / count;
        }
    }
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

uint64_t picture_perceptual_hash(const picture *self) {
    static const double pi = 3.14159265358979323846, faint = 8; /* of coefficients; rounding alone makes ones of about 1 */
    double grey[SIDE][SIDE], cosine[LOW][SIDE], rows[SIDE][LOW], found[BITS], sorted[BITS], largest = 0;
    if (self->width == 0 || self->height == 0) return 0;
    shrink(self, grey);
    for (size_t k = 0; k < LOW; k++)
        for (size_t i = 0; i < SIDE; i++)
            cosine[k][i] = sqrt(2.0 / SIDE) * cos(pi * (2.0 * (double)i + 1) * ((double)k + 1) / (2 * SIDE));
    for (size_t j = 0; j < SIDE; j++)
        for (size_t k = 0; k < LOW; k++) {
            rows[j][k] = 0;
            for (size_t i = 0; i < SIDE; i++) rows[j][k] += grey[j][i] * cosine[k][i];
        }
    for (size_t m = 0; m < LOW; m++)
        for (size_t k = 0; k < LOW; k++) {
            double sum = 0;
            for (size_t j = 0; j < SIDE; j++) sum += rows[j][k] * cosine[m][j];
            found[m * LOW + k] = sum;
            largest = fmax(largest, fabs(sum));
        }
    if (largest < faint) return 0;
    memcpy(sorted, found, sizeof sorted);
    qsort(sorted, BITS, sizeof *sorted, compare);
    const double median = (sorted[BITS / 2 - 1] + sorted[BITS / 2]) / 2;
    uint64_t hash = 0;
    for (size_t i = 0; i < BITS; i++) hash |= (uint64_t)(found[i] > median) << i;
    return hash;
}
