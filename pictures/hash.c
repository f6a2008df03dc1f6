/* The perceptual hash. */
#include "pictures/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 32, LOW = 8, BITS = LOW * LOW };

/* sums[x]: of the row's grey values (in 256ths) left of x; between two pixels it is interpolated. */
static double sum_until(const uint64_t *sums, double x) {
    const size_t whole = (size_t)x;
    const double rest = x - (double)whole, base = (double)sums[whole];
    return rest > 0 ? base + rest * (double)(sums[whole + 1] - sums[whole]) : base;
}

/* Means of the grey values in SIDE × SIDE equal parts of the picture, parts of pixels counted as such: the same places whatever
 * the picture's size. */
static int shrink(const picture *self, double grey[SIDE][SIDE]) {
    const double part_width = (double)self->width / SIDE, part_height = (double)self->height / SIDE;
    uint64_t *sums = picture_memory(self->width + 1, sizeof *sums, NULL);
    if (!sums) return -1;
    memset(grey, 0, sizeof(double) * SIDE * SIDE);
    for (size_t y = 0; y < self->height; y++) {
        const unsigned char *rgb = self->pixels + y * self->width * 3;
        double row[SIDE];
        sums[0] = 0;
        for (size_t x = 0; x < self->width; x++, rgb += 3) sums[x + 1] = sums[x] + 77u * rgb[0] + 150u * rgb[1] + 29u * rgb[2];
        for (size_t i = 0; i < SIDE; i++) {
            const double right = i + 1 < SIDE ? (double)(i + 1) * part_width : (double)self->width;
            row[i] = (sum_until(sums, right) - sum_until(sums, (double)i * part_width)) / (256 * part_width * part_height);
        }
        for (size_t j = (size_t)((double)y / part_height); j < SIDE && (double)j * part_height < (double)(y + 1); j++) {
            const double top = fmax((double)j * part_height, (double)y),
                         bottom = fmin((double)(j + 1) * part_height, (double)(y + 1));
            for (size_t i = 0; i < SIDE && bottom > top; i++) grey[j][i] += (bottom - top) * row[i];
        }
    }
    free(sums);
    return 0;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

uint64_t picture_perceptual_hash(const picture *self) {
    static const double pi = 3.14159265358979323846, faint = 8; /* of coefficients; rounding alone makes ones of about 1 */
    double grey[SIDE][SIDE], cosine[LOW][SIDE], rows[SIDE][LOW], found[BITS], sorted[BITS], largest = 0;
    if (self->width == 0 || self->height == 0 || shrink(self, grey)) return 0;
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
