/* Products of few rows with large weights. Their time is that of streaming the weights from memory once, if the arithmetic
 * keeps up: so weights are packed in the order in which they are read, blocks of a panel serve all rows while they are in the
 * first cache, and the next block is fetched meanwhile. */
#include "nn/internal.h"
#include "nn/linear_kernels.h"
#include "nn/nn.h"
#include "nn/onednn.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

enum { ROWS_AT_ONCE = 48 };

struct packed_linear {
    size_t OC, C;
    onednn_linear *library; /* oneDNN's; the rest is not used then */
    const float *plain;     /* OpenBLAS': (OC,C); the rest is not used then */
    nn_precision precision;
    const linear_kernels *kernels;
    size_t halves;          /* INT8: of the rows' numbers, see linear_kernels.h */
    size_t panels, depth;   /* depth: C, filled up to whole pairs or fours */
    size_t block, blocks;   /* inputs of a block, and blocks of a panel */
    size_t panel_bytes;     /* of weights */
    unsigned char *weights; /* (panels, depth, PANEL), see linear_kernels.h */
    float *scales;          /* INT8: (panels, blocks, PANEL) */
    int32_t *offsets;       /* INT8: (panels, blocks, PANEL), see linear_kernels.h */
};

static size_t element_bytes(nn_precision precision) {
    return precision == PRECISION_FP32 ? 4 : precision == PRECISION_BF16 ? 2 : 1;
}

/* ---------------------------------------------------------------- packing */

/* NaN when one of them is none. */
LIMN_CLONES static float largest_magnitude(const float *in, size_t n) {
    float largest = 0, sound = 0;
#pragma omp simd reduction(max : largest) reduction(+ : sound)
    for (size_t i = 0; i < n; i++) {
        largest = fabsf(in[i]) > largest ? fabsf(in[i]) : largest;
        sound += in[i] * 0;
    }
    return largest + sound;
}

/* out = in·factor as whole numbers; returns their sum. */
LIMN_CLONES static int32_t quantize_row(int8_t *out, const float *in, float factor, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float scaled = in[i] * factor;
        const int32_t whole = (int32_t)(scaled + (scaled < 0 ? -0.5f : 0.5f));
        out[i] = (int8_t)whole;
        sum += whole;
    }
    return sum;
}

/* One output's weights of a block; the largest of 8 bits becomes ±127. What is no number makes the output none. */
static void convert_row(const packed_linear *self, void *to, float *scale, int32_t *offset, const float *from, size_t n) {
    if (self->precision == PRECISION_FP32) {
        memcpy(to, from, n * sizeof *from);
    } else if (self->precision == PRECISION_BF16) {
        round_to_bf16(to, from, n);
    } else {
        const float largest = largest_magnitude(from, n);
        const bool usable = largest > 0 && isfinite(largest);
        *scale = largest / 127;
        *offset =
            (int32_t)((uint32_t)quantize_row(to, from, usable ? 127 / largest : 0, usable ? n : 0) << (8 * self->halves - 1));
    }
}

/* A float, a pair or a four is a word of 32 bits; the words of a panel lie as (words, PANEL). */
static void pack_panel(const packed_linear *self, size_t panel, const float *weight) {
    uint32_t *to = (uint32_t *)(self->weights + panel * self->panel_bytes);
    const size_t outputs = smaller(PANEL, self->OC - panel * PANEL), group = 4 / element_bytes(self->precision);
    const size_t scales = self->precision == PRECISION_INT8 ? self->blocks * PANEL : 0;
    /* zeros: outputs and inputs that fill up */
    memset(to, 0, self->panel_bytes);
    memset(self->scales + panel * scales, 0, scales * sizeof *self->scales);
    memset(self->offsets + panel * scales, 0, scales * sizeof *self->offsets);
    for (size_t b = 0; b < self->blocks; b++)
        for (size_t o = 0; o < outputs; o++) {
            const size_t start = b * self->block, n = smaller(self->block, self->C - start);
            const size_t place = (panel * self->blocks + b) * PANEL + o;
            uint32_t words[BLOCK_BYTES / PANEL / sizeof(uint32_t)] = {0};
            convert_row(self, words, self->scales + place, self->offsets + place,
                        weight + (panel * PANEL + o) * self->C + start, n);
            for (size_t k = 0; k < divide_up(n, group); k++) to[(start / group + k) * PANEL + o] = words[k];
        }
}

static packed_linear describe(size_t OC, size_t C, nn_precision precision, bool normed) {
    static const multiply_kind kinds[] = {
        [PRECISION_FP32] = MULTIPLY_FP32, [PRECISION_BF16] = MULTIPLY_BF16, [PRECISION_INT8] = MULTIPLY_INT8};
    packed_linear self = {
        .OC = OC, .C = C, .precision = precision, .kernels = linear_kernels_find(kinds[precision]), .halves = normed ? 1 : 2};
    if (self.kernels == NULL) self.kernels = linear_kernels_find(MULTIPLY_FP32);
    const size_t group = 4 / element_bytes(precision), widest = self.kernels->kind == MULTIPLY_BF16 ? 2 : 4;
    self.panels = divide_up(OC, PANEL);
    self.depth = round_up(C, group);
    /* 512·127·(2^15 − 1) is a sum that 32 bits hold */
    self.block = self.kernels->kind == MULTIPLY_INT8 ? 512 : BLOCK_BYTES / PANEL / widest;
    self.blocks = divide_up(self.depth, self.block);
    self.panel_bytes = self.depth * PANEL * element_bytes(precision);
    return self;
}

/* INT8's scales, and as many offsets. */
static size_t scales_count(const packed_linear *self) {
    return self->precision == PRECISION_INT8 ? self->panels * self->blocks * PANEL : 0;
}

enum { ARENA_ROUNDING = 64 };

size_t packed_linear_bytes(size_t OC, size_t C, nn_precision precision) {
    const packed_linear self = describe(OC, C, precision, true);
    return sizeof self + self.panels * self.panel_bytes + scales_count(&self) * 2 * sizeof(float) + 4 * ARENA_ROUNDING;
}

const packed_linear *packed_linear_create(const float *weight, size_t OC, size_t C, nn_precision precision, bool normed,
                                          limn_arena *storage, limn_error *error) {
    packed_linear *self = limn_arena_bytes(storage, sizeof *self);
    *self = describe(OC, C, precision, normed);
    const nn_backend backend = backend_for(precision);
    if (backend == BACKEND_ONEDNN) {
        self->library = onednn_linear_create(weight, OC, C, precision, error);
        return self->library != NULL ? self : NULL;
    }
    if (backend == BACKEND_OPENBLAS) {
        self->plain = weight;
        return self;
    }
    self->weights = limn_arena_bytes(storage, self->panels * self->panel_bytes);
    self->scales = limn_arena_floats(storage, scales_count(self));
    self->offsets = limn_arena_bytes(storage, scales_count(self) * sizeof *self->offsets);
#pragma omp parallel for schedule(static) num_threads((int)limn_get_threads())
    for (size_t p = 0; p < self->panels; p++) pack_panel(self, p, weight);
    return self;
}

void packed_linear_free(const packed_linear *self) {
    if (self != NULL) onednn_linear_free(self->library);
}

/* ---------------------------------------------------------------- rows */

/* What all threads read: the rows as the kernels take them. */
typedef struct {
    multiply_kind kind;
    size_t halves;
    size_t N, C, stride; /* stride: bytes from one row to the next */
    size_t lower;        /* 8 bits: bytes from a row's upper halves to its lower ones */
    char *rows;
    float *scales; /* 8 bits: (N) */
} input_rows;

/* in·factor as whole numbers of 8 bits, plus 2^7; or of 16, plus 2^15, as their upper and lower bytes. What is no number
 * becomes any. */
LIMN_CLONES static void quarter_row(uint8_t *out, const float *in, float factor, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float scaled = factor > 0 ? in[i] * factor : 0;
        out[i] = (uint8_t)((int32_t)(scaled + (scaled < 0 ? -0.5f : 0.5f)) + 128);
    }
}

LIMN_CLONES static void halve_row(uint8_t *upper, uint8_t *lower, const float *in, float factor, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float scaled = factor > 0 ? in[i] * factor : 0;
        const int32_t whole = (int32_t)(scaled + (scaled < 0 ? -0.5f : 0.5f)) + 32768;
        upper[i] = (uint8_t)(whole >> 8);
        lower[i] = (uint8_t)whole;
    }
}

static const size_t row_element[] = {[MULTIPLY_FP32] = 4, [MULTIPLY_BF16] = 2, [MULTIPLY_INT8] = 1};

/* Room for rows, in the arena. They are a cache line longer than a power of two may be, or all rows would compete for the same
 * places in the first cache. */
static input_rows take_rows(const packed_linear *weight, size_t N, limn_arena *arena) {
    const multiply_kind kind = weight->kernels->kind;
    const size_t C = weight->C;
    const size_t width = (C * row_element[kind] / 64 + 1) * 64 + 64;
    input_rows self = {.kind = kind,
                       .halves = weight->halves,
                       .N = N,
                       .C = C,
                       .lower = width,
                       .stride = kind == MULTIPLY_INT8 ? weight->halves * width : width};
    self.rows = limn_arena_bytes(arena, N * self.stride);
    self.scales = limn_arena_floats(arena, N);
    return self;
}

/* Row n of `in` as the kernels take it; what fills the last pair or four up is zero. */
static void fill_row(const input_rows *self, size_t n, const float *in) {
    const size_t C = self->C;
    char *row = self->rows + n * self->stride;
    memset(row + C * row_element[self->kind], 0, 4);
    if (self->kind == MULTIPLY_INT8) {
        const float largest = largest_magnitude(in + n * C, C);
        const float most = self->halves == 1 ? 127 : 32767, factor = largest > 0 && isfinite(largest) ? most / largest : 0;
        self->scales[n] = largest / most; /* no number where one of the row is none: so are its outputs */
        if (self->halves == 1)
            quarter_row((uint8_t *)row, in + n * C, factor, C);
        else
            halve_row((uint8_t *)row, (uint8_t *)row + self->lower, in + n * C, factor, C);
        memset(row + (self->halves - 1) * self->lower + C, 0, 4);
    } else if (self->kind == MULTIPLY_BF16) {
        round_to_bf16((uint16_t *)row, in + n * C, C);
    } else {
        memcpy(row, in + n * C, C * sizeof *in);
    }
}

/* ---------------------------------------------------------------- multiplying */

/* One block of one panel for rows [first, first + rows), to sums (rows, sums_stride) or added to them. */
static void multiply_block(const packed_linear *self, const input_rows *input, size_t panel, size_t b, size_t first,
                           size_t rows, float *sums, size_t sums_stride, float *expanded) {
    const linear_kernels *kernels = self->kernels;
    const size_t start = b * self->block, depth = smaller(self->block, self->depth - start);
    const size_t bytes = depth * PANEL * element_bytes(self->precision), scales = (panel * self->blocks + b) * PANEL;
    const unsigned char *weights = self->weights + panel * self->panel_bytes + start * PANEL * element_bytes(self->precision);
    block_product product = {.sums_stride = sums_stride,
                             .first = b == 0,
                             .in_stride = input->stride,
                             .weights = weights,
                             .depth = depth,
                             .halves = self->halves,
                             .lower = input->lower};
    if (self->precision == PRECISION_INT8) {
        product.scale = self->scales + scales;
        product.offset = self->offsets + scales;
    }
    if (kernels->kind == MULTIPLY_FP32) {
        if (self->precision != PRECISION_FP32) product.weights = expanded;
        if (self->precision == PRECISION_BF16) kernels->expand_bf16(expanded, (const uint16_t *)weights, depth);
        if (self->precision == PRECISION_INT8) kernels->expand_int8(expanded, (const int8_t *)weights, depth);
        product.depth = smaller(depth, self->C - start);
    }
    /* passes as equal as can be: 18 rows are 9 + 9, not 12 + 6; each fetches its share of the next block */
    const size_t passes = divide_up(rows, kernels->rows_at_once);
    size_t r = 0;
    for (size_t pass = 0; pass < passes; pass++, r += product.rows) {
        product.rows = (rows - r + passes - pass - 1) / (passes - pass);
        product.sums = sums + r * sums_stride;
        product.in = input->rows + (first + r) * input->stride + start * row_element[input->kind];
        product.in_scale = input->scales + first + r;
        product.next = (const char *)weights + bytes + bytes * pass / passes;
        kernels->multiply(&product);
    }
}

/* One panel of outputs for all rows. Where the panel is whole the kernels write to `out` itself. */
static void multiply_panel(const packed_product *product, const input_rows *input, size_t panel, float *spare,
                           float *expanded) {
    const packed_linear *self = product->weight;
    const size_t OC = self->OC, outputs = smaller(PANEL, OC - panel * PANEL);
    const float *bias = product->bias != NULL ? product->bias + panel * PANEL : NULL;
    for (size_t first = 0; first < input->N; first += ROWS_AT_ONCE) {
        const size_t rows = smaller(ROWS_AT_ONCE, input->N - first);
        float *out = product->out + first * OC + panel * PANEL, *sums = outputs == PANEL ? out : spare;
        const size_t stride = outputs == PANEL ? OC : PANEL;
        for (size_t b = 0; b < self->blocks; b++) multiply_block(self, input, panel, b, first, rows, sums, stride, expanded);
        for (size_t r = 0; r < rows && (sums == spare || bias != NULL); r++)
            for (size_t o = 0; o < outputs; o++) out[r * OC + o] = sums[r * stride + o] + (bias != NULL ? bias[o] : 0);
    }
}

/* Each thread has a run of panels of its own, which it takes from the front since they lie one behind the other; one that is
 * done takes from the back of the others'. So a thread that was held up delays the rest by a panel at most. */
typedef struct {
    _Alignas(64) _Atomic uint64_t range; /* the next one, and in the upper half where they end */
} panel_queue;

static bool take_panel(panel_queue *queue, bool front, size_t *panel) {
    uint64_t range = atomic_load_explicit(&queue->range, memory_order_relaxed), rest;
    do {
        const uint64_t next = range & UINT32_MAX, end = range >> 32;
        if (next >= end) return false;
        *panel = (size_t)(front ? next : end - 1);
        rest = front ? range + 1 : range - ((uint64_t)1 << 32);
    } while (!atomic_compare_exchange_weak_explicit(&queue->range, &range, rest, memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void multiply_elsewhere(const packed_product *product, const float *in, size_t N) {
    const packed_linear *self = product->weight;
    if (self->library != NULL)
        onednn_linear_forward(self->library, product->out, self->OC, in, self->C, product->bias, N);
    else
        linear_forward(product->out, in, self->plain, product->bias, N, self->C, self->OC);
}

void packed_linear_forward(const packed_product *products, size_t count, const float *in, size_t N, limn_arena *arena) {
    if (products[0].weight->library != NULL || products[0].weight->plain != NULL) {
        for (size_t i = 0; i < count; i++) multiply_elsewhere(&products[i], in, N);
        return;
    }
    const size_t mark = limn_arena_mark(arena), threads = limn_get_threads();
    const input_rows input = take_rows(products[0].weight, N, arena);
    size_t panels = 0;
    for (size_t i = 0; i < count; i++) panels += products[i].weight->panels;
    const size_t spare = ROWS_AT_ONCE * PANEL, own_floats = spare + BLOCK_BYTES / sizeof(float);
    float *scratch = limn_arena_floats(arena, threads * own_floats);
    panel_queue *queues = limn_arena_bytes(arena, threads * sizeof *queues);
    for (size_t t = 0; t < threads; t++)
        atomic_init(&queues[t].range, (uint64_t)((t + 1) * panels / threads) << 32 | t * panels / threads);
#pragma omp parallel num_threads((int)threads)
    {
        const size_t thread = (size_t)omp_get_thread_num();
        float *own = scratch + thread * own_floats;
#pragma omp for schedule(static)
        for (size_t n = 0; n < N; n++) fill_row(&input, n, in);
        for (size_t turn = 0; turn < threads; turn++)
            for (size_t panel; take_panel(&queues[(thread + turn) % threads], turn == 0, &panel);) {
                size_t product = 0;
                while (panel >= products[product].weight->panels) panel -= products[product++].weight->panels;
                multiply_panel(&products[product], &input, panel, own, own + spare);
            }
    }
    limn_arena_release(arena, mark);
}
