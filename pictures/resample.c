/* Resampling of 8-bit values as they are (not of linear light), as Pillow, OpenCV and zimg do: Lanczos-3, stretched by the
 * ratio, when shrinking; Keys' cubic with a = -1/2 when growing (Keys, "Cubic Convolution Interpolation for Digital Image
 * Processing", 1981). Beyond its edges a picture is mirrored, as in zimg.
 *
 * Each output row is first made of the source's rows, then its columns of that row: with one ratio for both directions this is
 * as much work as the other order, and no picture stands in between, only RESAMPLE_ROWS rows. Columns that are not drawn are
 * not computed.
 *
 * Weights are whole numbers of 1/2^14, sums are of 32 bits, so that every processor gives the same bytes. For the same reason
 * sines are computed here and not by the library, whose last bit may depend on the processor. A sum of weights' magnitudes
 * stays below 2 (Lanczos has 1.53 at most), so that the values between the passes fit 16 bits.
 *
 * Memory is that of four rows and of the weights: of these a pass has no more than 6 for each pixel it reads and 16 for each it
 * makes. */
#include "pictures/resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

void resample_axis_free(resample_axis *self) {
    free(self->first);
    free(self->taps);
    free(self->weights);
    *self = (resample_axis){0};
}

typedef struct {
    double sine, cosine;
} turn;

/* Of x, |x| ≤ π: Taylor's series of the half, x · (1 - x²/(2·3) · (1 - x²/(4·5) · …)) for the sine. */
static turn turn_by(double x) {
    static const double sines[] = {1.0 / (22 * 23), 1.0 / (20 * 21), 1.0 / (18 * 19), 1.0 / (16 * 17),
                                   1.0 / (14 * 15), 1.0 / (12 * 13), 1.0 / (10 * 11), 1.0 / (8 * 9),
                                   1.0 / (6 * 7),   1.0 / (4 * 5),   1.0 / (2 * 3)};
    static const double cosines[] = {1.0 / (21 * 22), 1.0 / (19 * 20), 1.0 / (17 * 18), 1.0 / (15 * 16),
                                     1.0 / (13 * 14), 1.0 / (11 * 12), 1.0 / (9 * 10),  1.0 / (7 * 8),
                                     1.0 / (5 * 6),   1.0 / (3 * 4),   1.0 / (1 * 2)};
    const double half = x / 2, square = half * half;
    double s = 1, c = 1;
    for (size_t i = 0; i < sizeof sines / sizeof *sines; i++) {
        s = 1 - square * sines[i] * s;
        c = 1 - square * cosines[i] * c;
    }
    s *= half;
    return (turn){2 * s * c, 1 - 2 * s * s};
}

/* What one axis' filter is made of. */
typedef struct {
    double *all, *inside;               /* weights of every position the filter reaches; of those in the picture */
    double from, ratio, stretch, reach; /* reach: of the filter, in pixels */
    double step;                        /* between two pixels, of the filter's own unit */
    turn third;                         /* π · step / 3 */
    ptrdiff_t size;
    bool lanczos, even;
} axis_work;

/* Lanczos-3 at x, x + step, … up to 3. One angle goes from value to value by the theorem of addition: sin(πx) is that of πx/3
 * tripled. */
static void lanczos_weights(const axis_work *work, double *out, size_t count, double x) {
    turn at = turn_by(pi * x / 3);
    for (size_t i = 0; i < count; i++) {
        out[i] = at.sine * at.sine;
        at = (turn){at.sine * work->third.cosine + at.cosine * work->third.sine,
                    at.cosine * work->third.cosine - at.sine * work->third.sine};
    }
    for (size_t i = 0; i < count; i++) {
        const double place = x + (double)i * work->step, square = place * place;
        out[i] = square < 1e-8 ? 1 : 3 / (pi * pi) * out[i] * (3 - 4 * out[i]) / square;
    }
}

static void cubic_weights(const axis_work *work, double *out, size_t count, double x) {
    for (size_t i = 0; i < count; i++) {
        const double at = fabs(x + (double)i * work->step);
        out[i] = at < 1 ? (1.5 * at - 2.5) * at * at + 1 : at < 2 ? ((-0.5 * at + 2.5) * at - 4) * at + 2 : 0;
    }
}

/* Whole numbers whose sum is exactly 2^RESAMPLE_WEIGHT: sums are rounded, not weights, so that thousands of small ones keep
 * their mean. */
static void round_weights(int16_t *out, const double *weights, size_t count) {
    const double one = 1 << RESAMPLE_WEIGHT;
    double total = 0, sum = 0;
    int32_t before = 0;
    for (size_t k = 0; k < count; k++) total += weights[k];
    for (size_t k = 0; k < count; k++) {
        sum += weights[k];
        const int32_t rounded = k + 1 < count ? (int32_t)floor(sum * (one / total) + 0.5) : 1 << RESAMPLE_WEIGHT;
        out[k] = (int16_t)(rounded - before);
        before = rounded;
    }
}

static ptrdiff_t within(ptrdiff_t value, ptrdiff_t low, ptrdiff_t high) {
    return value < low ? low : value > high ? high : value;
}

static void make_output(resample_axis *self, const axis_work *work, size_t i) {
    const double centre = work->from + ((double)i + 0.5) * work->ratio - 0.5; /* a pixel's own is its number */
    const ptrdiff_t lowest = (ptrdiff_t)ceil(centre - work->reach), last = work->size - 1;
    const ptrdiff_t highest = (ptrdiff_t)floor(centre + work->reach);
    const size_t reached = (size_t)(highest - lowest + 1);
    const ptrdiff_t low = within(lowest, 0, last), high = within(highest, low, last);
    (work->lanczos ? lanczos_weights : cubic_weights)(work, work->all, reached, ((double)lowest - centre) / work->stretch);
    const size_t taps = (size_t)(high - low + 1);
    memset(work->inside, 0, taps * sizeof *work->inside);
    for (size_t k = 0; k < reached; k++) {
        ptrdiff_t at = lowest + (ptrdiff_t)k;
        if (at < 0) at = -1 - at;
        if (at > last) at = 2 * last + 1 - at;
        work->inside[within(at, low, high) - low] += work->all[k];
    }
    if (i == 0) self->start = (size_t)low;
    const size_t first = (size_t)low - self->start, odd = work->even ? first & 1 : 0;
    round_weights(self->weights + i * self->stride + odd, work->inside, taps);
    self->first[i] = (uint32_t)(first - odd);
    self->taps[i] = (uint32_t)(taps + odd);
    if (taps + odd > self->most_taps) self->most_taps = taps + odd;
    if (first + taps > self->inputs) self->inputs = first + taps;
}

int resample_axis_make(resample_axis *self, size_t size, double from, double length, size_t outputs, bool lanczos, bool even,
                       limn_error *error) {
    axis_work work = {
        .from = from, .ratio = length / (double)outputs, .size = (ptrdiff_t)size, .lanczos = lanczos, .even = even};
    work.stretch = fmax(work.ratio, 1);
    work.reach = (lanczos ? 3 : 2) * work.stretch;
    work.step = 1 / work.stretch;
    work.third = turn_by(pi * work.step / 3);
    const size_t reached = (size_t)(2 * work.reach) + 2, most = reached < size ? reached : size; /* of one output */
    size_t count;
    *self = (resample_axis){.outputs = outputs, .stride = (most + 1 + 7) / 8 * 8};
    if (limn_multiply(outputs, self->stride, &count, error)) return -1;
    self->first = limn_allocate(outputs, sizeof *self->first, error);
    self->taps = limn_allocate(outputs, sizeof *self->taps, error);
    self->weights = limn_allocate(count, sizeof *self->weights, error);
    work.all = limn_allocate(reached, sizeof *work.all, error);
    work.inside = limn_allocate(most, sizeof *work.inside, error);
    const int status = self->first && self->taps && self->weights && work.all && work.inside ? 0 : -1;
    for (size_t i = 0; !status && i < outputs; i++) make_output(self, &work, i);
    free(work.all);
    free(work.inside);
    if (status) resample_axis_free(self);
    return status;
}

/* ---------------------------------------------------------------- drawing */

typedef struct {
    const resample_kernels *kernels;
    resample_axis rows, columns;
    const unsigned char *from, *end; /* the first byte that takes part; after the picture's last */
    size_t row_bytes, blocks, pitch; /* of the source; of what takes part of a row; between rows of `pairs` */
    unsigned char *tail;             /* the rows' last blocks, where reading whole blocks would read beyond the picture */
    int16_t *row, *pairs;
    unsigned char *made; /* RESAMPLE_ROWS rows of the result, with the byte after each */
} drawing;

static int reserve(drawing *self, limn_error *error) {
    const size_t bytes = 3 * self->columns.inputs;
    self->blocks = (bytes + RESAMPLE_BLOCK - 1) / RESAMPLE_BLOCK;
    self->pitch = (self->columns.inputs + self->columns.stride + 9) / 2 * 8;
    self->row = picture_memory(self->blocks * RESAMPLE_BLOCK + 8, sizeof *self->row, error);
    self->pairs = limn_allocate(RESAMPLE_ROWS * self->pitch, sizeof *self->pairs, error);
    self->tail = picture_memory(self->rows.most_taps, RESAMPLE_BLOCK, error);
    self->made = picture_memory(3 * self->columns.outputs + 1, RESAMPLE_ROWS, error);
    if (self->row) memset(self->row, 0, (self->blocks * RESAMPLE_BLOCK + 8) * sizeof *self->row);
    return self->row && self->pairs && self->tail && self->made ? 0 : -1;
}

/* Row y of the result, before its columns are made. */
static void draw_down(drawing *self, size_t y, int16_t *pairs) {
    const unsigned char *rows = self->from + self->rows.first[y] * self->row_bytes;
    const int16_t *weights = self->rows.weights + y * self->rows.stride;
    const size_t taps = self->rows.taps[y], left = (size_t)(self->end - rows) - (taps - 1) * self->row_bytes;
    size_t blocks = self->blocks, whole = left / RESAMPLE_BLOCK;
    if (blocks > whole) {
        const size_t rest = 3 * self->columns.inputs - whole * RESAMPLE_BLOCK;
        for (size_t k = 0; k < taps; k++)
            memcpy(self->tail + k * RESAMPLE_BLOCK, rows + k * self->row_bytes + whole * RESAMPLE_BLOCK, rest);
        self->kernels->down(self->row + whole * RESAMPLE_BLOCK, self->tail, RESAMPLE_BLOCK, weights, taps, 1);
        blocks = whole;
    }
    self->kernels->down(self->row, rows, self->row_bytes, weights, taps, blocks);
    self->kernels->pair(pairs, self->row, (self->columns.inputs + 1) / 2);
}

static void draw(drawing *self, picture *out) {
    const size_t bytes = 3 * out->width;
    unsigned char *made[RESAMPLE_ROWS];
    for (size_t r = 0; r < RESAMPLE_ROWS; r++) made[r] = self->made + r * (bytes + 1);
    for (size_t y = 0; y < out->height; y += RESAMPLE_ROWS) {
        const size_t count = out->height - y < RESAMPLE_ROWS ? out->height - y : RESAMPLE_ROWS;
        for (size_t r = 0; r < count; r++) draw_down(self, y + r, self->pairs + r * self->pitch);
        self->kernels->across(made, self->pairs, self->pitch, &self->columns);
        for (size_t r = 0; r < count; r++) memcpy(out->pixels + (y + r) * bytes, made[r], bytes);
    }
}

int picture_resample(const picture *in, const picture_part *part, picture *out, const resample_kernels *kernels,
                     limn_error *error) {
    drawing self = {.kernels = kernels ? kernels : resample_kernels_at(0), .row_bytes = 3 * in->width};
    const bool shrinks = (double)out->width < part->width || (double)out->height < part->height;
    int status =
        resample_axis_make(&self.rows, in->height, part->top, part->height, out->height, shrinks, false, error) ||
                resample_axis_make(&self.columns, in->width, part->left, part->width, out->width, shrinks, true, error) ||
                reserve(&self, error)
            ? -1
            : 0;
    if (!status) {
        self.from = in->pixels + self.rows.start * self.row_bytes + 3 * self.columns.start;
        self.end = in->pixels + in->height * self.row_bytes;
        draw(&self, out);
    }
    resample_axis_free(&self.rows);
    resample_axis_free(&self.columns);
    free(self.row);
    free(self.pairs);
    free(self.tail);
    free(self.made);
    return status;
}
