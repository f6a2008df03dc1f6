/* Vector quantisation: the nearest code, and the codebook loss (van den Oord and others, arXiv 1711.00937). */
#include "vqgan/internal.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

static double squared_length(const float *a, size_t D) {
    double sum = 0;
    for (size_t d = 0; d < D; d++) sum += (double)a[d] * (double)a[d];
    return sum;
}

static double squared_distance(const float *a, const float *b, size_t D) {
    double sum = 0;
    for (size_t d = 0; d < D; d++) {
        double difference = (double)a[d] - (double)b[d];
        sum += difference * difference;
    }
    return sum;
}

/* The nearest of V codes to one row z, given products[v] = z·e_v and norms[v] = |e_v|², v counting through `codes` (NULL: 0, 1,
 * …). |z|² is the same for all codes and is left out: |e|² − 2 z·e decides, which loses no digits to it. Codes that lie closer
 * to the best than rounding can tell apart are measured again in double. */
static int32_t nearest_code(const float *z, const uint32_t *codes, const float *products, const float *codebook,
                            const float *norms, double largest_norm, size_t V, size_t D) {
    float best = INFINITY;
#pragma omp simd reduction(min : best)
    for (size_t v = 0; v < V; v++) {
        float distance = norms[v] - 2 * products[v];
        best = distance < best ? distance : best;
    }
    double rounding = 2 * (double)FLT_EPSILON * ((double)D * sqrt(squared_length(z, D) * largest_norm) + largest_norm);
    float limit = best + (float)rounding;
    size_t nearest = 0; /* also where the latent is not a number */
    double nearest_distance = INFINITY;
    for (size_t v = 0; v < V; v++) {
        if (!(norms[v] - 2 * products[v] <= limit)) continue;
        const size_t code = codes ? codes[v] : v;
        double distance = squared_distance(z, codebook + code * D, D);
        if (distance < nearest_distance || (distance == nearest_distance && code < nearest)) {
            nearest_distance = distance;
            nearest = code;
        }
    }
    return (int32_t)nearest;
}

void vqgan_nearest_codes(int32_t *tokens, const float *latent, const float *codebook, size_t N, size_t V, size_t D,
                         limn_arena *arena) {
    const size_t floats = (size_t)1 << 22; /* of products at a time */
    size_t chunk = floats / V < 1 ? 1 : floats / V < N ? floats / V : N, mark = limn_arena_mark(arena);
    float *norms = limn_arena_floats(arena, V), *products = limn_arena_floats(arena, chunk * V);
    double largest_norm = 0;
#pragma omp parallel for reduction(max : largest_norm)
    for (size_t v = 0; v < V; v++) {
        double norm = squared_length(codebook + v * D, D);
        norms[v] = (float)norm;
        if (norm > largest_norm) largest_norm = norm;
    }
    for (size_t start = 0; start < N; start += chunk) {
        size_t count = N - start < chunk ? N - start : chunk;
        matmul(products, V, latent + start * D, D, false, codebook, D, true, count, V, D, 1, 0);
#pragma omp parallel for
        for (size_t n = 0; n < count; n++)
            tokens[start + n] =
                nearest_code(latent + (start + n) * D, NULL, products + n * V, codebook, norms, largest_norm, V, D);
    }
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- with a packed codebook */

/* The products may be in bfloat16 and decide no more than which codes are worth a look: of the codes of a slice, every LANES-th
 * belongs to one group, and only the best score of each group is kept. */
enum {
    LANES = 64,
    SLICE = 2048,
    ROWS = 256,
    MOST_ROUNDING = 120 /* rounding of a bf16 product is below one part in so many */
};

struct packed_codebook {
    const float *codebook; /* (V, D) */
    size_t V, D, slices, groups;
    packed_convolution **scores; /* of each slice: z·e − |e|²/2 */
    float *norms;                /* (V): |e|² */
    float *lengths;              /* (groups): |e| of the longest code */
    double largest_norm;
};

packed_codebook *vqgan_codebook_pack(const float *codebook, size_t V, size_t D, nn_precision precision, limn_error *error) {
    packed_codebook *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    *self = (packed_codebook){.codebook = codebook, .V = V, .D = D, .slices = (V + SLICE - 1) / SLICE};
    self->groups = self->slices * LANES;
    self->scores = limn_allocate(self->slices, sizeof *self->scores, error);
    self->norms = limn_allocate(V, sizeof *self->norms, error);
    self->lengths = limn_allocate(self->groups, sizeof *self->lengths, error);
    float *bias = limn_allocate(V, sizeof *bias, error);
    bool failed = !self->scores || !self->norms || !self->lengths || !bias;
    for (size_t v = 0; v < V && !failed; v++) {
        const double norm = squared_length(codebook + v * D, D);
        float *length = &self->lengths[v / SLICE * LANES + v % SLICE % LANES];
        self->norms[v] = (float)norm;
        bias[v] = -0.5f * (float)norm;
        *length = fmaxf(*length, (float)sqrt(norm));
        if (norm > self->largest_norm) self->largest_norm = norm;
    }
    for (size_t i = 0; i < self->slices && !failed; i++) {
        const size_t first = i * SLICE;
        const convolution_shape shape = {
            .Y = 1, .X = 1, .C = D, .O = V - first < SLICE ? V - first : SLICE, .kernel = 1, .stride = 1};
        self->scores[i] = packed_convolution_create(codebook + first * D, bias + first, &shape, precision, error);
        failed = !self->scores[i];
    }
    free(bias);
    if (!failed) return self;
    vqgan_codebook_free(self);
    return NULL;
}

void vqgan_codebook_free(packed_codebook *self) {
    if (!self) return;
    for (size_t i = 0; self->scores && i < self->slices; i++) packed_convolution_free(self->scores[i]);
    free(self->scores);
    free(self->norms);
    free(self->lengths);
    free(self);
}

size_t vqgan_codebook_bytes(const packed_codebook *self) {
    size_t bytes = (self->V + self->groups) * sizeof *self->norms;
    for (size_t i = 0; i < self->slices; i++) bytes += packed_convolution_bytes(self->scores[i]);
    return bytes;
}

/* best (LANES) of scores (codes). */
static void best_of_lanes(float *restrict best, const float *restrict scores, size_t codes) {
    for (size_t i = 0; i < LANES; i++) best[i] = -INFINITY;
    for (size_t v = 0; v < codes; v += LANES) {
        const size_t lanes = codes - v < LANES ? codes - v : LANES;
#pragma omp simd
        for (size_t i = 0; i < lanes; i++) best[i] = scores[v + i] > best[i] ? scores[v + i] : best[i];
    }
}

static float product_of(const float *a, const float *b, size_t D) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t d = 0; d < D; d++) sum += a[d] * b[d];
    return sum;
}

/* What one thread needs to look at codes again: (V) each. */
typedef struct {
    uint32_t *codes;
    float *products, *norms;
} candidates;

/* The nearest code to z, given the best score of each group. */
static int32_t look_again(const packed_codebook *self, const candidates *room, const float *z, const float *best) {
    const size_t D = self->D;
    /* scores are off by less than this times the longest code's length: two roundings of products, and fp32's of the sum */
    const float rounding = (float)sqrt(squared_length(z, D)) * (1.0f / MOST_ROUNDING + (float)D * FLT_EPSILON);
    float limit = -INFINITY;
    for (size_t g = 0; g < self->groups; g++) {
        const float at_least = best[g] - rounding * self->lengths[g];
        limit = at_least > limit ? at_least : limit;
    }
    limit -= FLT_EPSILON * (float)self->largest_norm;
    size_t count = 0;
    for (size_t g = 0; g < self->groups; g++) {
        if (!(best[g] + rounding * self->lengths[g] >= limit)) continue;
        const size_t begin = g / LANES * SLICE, end = self->V - begin < SLICE ? self->V : begin + SLICE;
        for (size_t v = begin + g % LANES; v < end; v += LANES) {
            room->codes[count] = (uint32_t)v;
            room->products[count] = product_of(z, self->codebook + v * D, D);
            room->norms[count++] = self->norms[v];
        }
    }
    return nearest_code(z, room->codes, room->products, self->codebook, room->norms, self->largest_norm, count, D);
}

void vqgan_codebook_search(const packed_codebook *self, int32_t *tokens, const float *latent, size_t N, limn_arena *arena) {
    const size_t mark = limn_arena_mark(arena), threads = limn_get_threads(), D = self->D;
    float *scores = limn_arena_floats(arena, ROWS * SLICE), *best = limn_arena_floats(arena, ROWS * self->groups);
    candidates *rooms = limn_arena_bytes(arena, threads * sizeof *rooms);
    for (size_t i = 0; i < threads; i++)
        rooms[i] = (candidates){limn_arena_bytes(arena, self->V * sizeof(uint32_t)), limn_arena_floats(arena, self->V),
                                limn_arena_floats(arena, self->V)};
    for (size_t start = 0; start < N; start += ROWS) {
        const size_t rows = N - start < ROWS ? N - start : ROWS;
        for (size_t slice = 0; slice < self->slices; slice++) {
            const size_t first = slice * SLICE, codes = self->V - first < SLICE ? self->V - first : SLICE;
            packed_convolution_forward(self->scores[slice], &(convolution_pass){.out = scores, .in = latent + start * D}, rows,
                                       arena);
#pragma omp parallel for num_threads((int)threads) schedule(static)
            for (size_t n = 0; n < rows; n++) best_of_lanes(best + n * self->groups + slice * LANES, scores + n * codes, codes);
        }
#pragma omp parallel for num_threads((int)threads) schedule(dynamic, 16)
        for (size_t n = 0; n < rows; n++)
            tokens[start + n] =
                look_again(self, &rooms[omp_get_thread_num()], latent + (start + n) * D, best + n * self->groups);
    }
    limn_arena_release(arena, mark);
}

/* ---------------------------------------------------------------- loss */

double vqgan_codebook_loss(const float *z, const float *q, size_t n) {
    return (1 + VQGAN_COMMITMENT) * squared_distance(q, z, n) / (double)n;
}

void vqgan_codebook_loss_backward(float *dz, float *dq, const float *z, const float *q, size_t n, double scale) {
    float factor = (float)(2 * scale / (double)n), commitment = (float)(2 * VQGAN_COMMITMENT * scale / (double)n);
    for (size_t i = 0; i < n; i++) {
        dz[i] += factor * (z[i] - q[i]);
        dq[i] = commitment * (q[i] - z[i]);
    }
}
