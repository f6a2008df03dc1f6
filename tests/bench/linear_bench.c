/* bench-linear [SECONDS [ROWS]]: the products of one token of mini's decoder, every weight once, by all kernels that this
 * machine has; and 4096³ products. 12 layers of six 1024×1024 (self-attention's four, cross-attention's queries and outputs)
 * and the three of the feed-forward, and the head: 193M weights, which no cache holds. Not run by ctest. */
#include "core/core.h"
#include "nn/nn.h"
#include "nn/onednn.h"

#include <stdlib.h>
#include <string.h>

/* A way to multiply by weights that it may hold in a form of its own. */
typedef struct {
    const char *name;
    nn_precision precision;
    bool (*available)(nn_precision precision);
    void *(*create)(const float *weight, size_t OC, size_t C, nn_precision precision, size_t N, limn_error *error);
    void (*forward)(void *self, float *out, const float *in, size_t N);
    void (*free)(void *self);
} kernel;

/* ---------------------------------------------------------------- linear_forward of nn.h */

typedef struct {
    size_t OC, C;
    float *weight;
} plain;

static bool plain_available(nn_precision precision) {
    return precision == PRECISION_FP32;
}

static void *plain_create(const float *weight, size_t OC, size_t C, nn_precision precision, size_t N, limn_error *error) {
    (void)precision, (void)N;
    plain *self = limn_allocate(1, sizeof *self, error);
    if (self == NULL) return NULL;
    *self = (plain){OC, C, limn_allocate(OC * C, sizeof(float), error)};
    if (self->weight == NULL) {
        free(self);
        return NULL;
    }
    memcpy(self->weight, weight, OC * C * sizeof *weight);
    return self;
}

static void plain_forward(void *self, float *out, const float *in, size_t N) {
    const plain *p = self;
    linear_forward(out, in, p->weight, NULL, N, p->C, p->OC);
}

static void plain_free(void *self) {
    plain *p = self;
    free(p->weight);
    free(p);
}

/* ---------------------------------------------------------------- packed_linear of nn.h */

typedef struct {
    limn_arena *weights, *scratch;
    const packed_linear *linear;
} packed;

static bool packed_available(nn_precision precision) {
    (void)precision;
    return true;
}

static void packed_free(void *self) {
    packed *p = self;
    packed_linear_free(p->linear);
    limn_arena_destroy(p->weights);
    limn_arena_destroy(p->scratch);
    free(p);
}

static void *packed_create(const float *weight, size_t OC, size_t C, nn_precision precision, size_t N, limn_error *error) {
    packed *self = limn_allocate(1, sizeof *self, error);
    if (self == NULL) return NULL;
    self->weights = limn_arena_create(packed_linear_bytes(OC, C, precision), error);
    self->scratch = limn_arena_create(N * C * 8 + ((size_t)1 << 26), error);
    if (self->weights != NULL && self->scratch != NULL)
        self->linear = packed_linear_create(weight, OC, C, precision, OC != C, self->weights, error);
    if (self->linear != NULL) return self;
    packed_free(self);
    return NULL;
}

static void packed_forward(void *self, float *out, const float *in, size_t N) {
    const packed *p = self;
    packed_linear_forward(&(packed_product){out, p->linear, NULL}, 1, in, N, p->scratch);
}

/* ---------------------------------------------------------------- oneDNN */

typedef struct {
    size_t OC, C;
    onednn_linear *linear;
} library;

static void library_free(void *self) {
    library *l = self;
    onednn_linear_free(l->linear);
    free(l);
}

static void *library_create(const float *weight, size_t OC, size_t C, nn_precision precision, size_t N, limn_error *error) {
    library *self = limn_allocate(1, sizeof *self, error);
    if (self == NULL) return NULL;
    *self = (library){OC, C, onednn_linear_create(weight, OC, C, precision, error)};
    if (self->linear != NULL && onednn_linear_prepare(self->linear, N, error) == 0) return self;
    library_free(self);
    return NULL;
}

static void library_forward(void *self, float *out, const float *in, size_t N) {
    const library *l = self;
    onednn_linear_forward(l->linear, out, l->OC, in, l->C, NULL, N);
}

static const kernel kernels[] = {
    {"OpenBLAS", PRECISION_FP32, plain_available, plain_create, plain_forward, plain_free},
    {"ours", PRECISION_FP32, packed_available, packed_create, packed_forward, packed_free},
    {"ours", PRECISION_BF16, packed_available, packed_create, packed_forward, packed_free},
    {"ours", PRECISION_INT8, packed_available, packed_create, packed_forward, packed_free},
    {"oneDNN", PRECISION_FP32, onednn_available, library_create, library_forward, library_free},
    {"oneDNN", PRECISION_BF16, onednn_available, library_create, library_forward, library_free},
    {"oneDNN", PRECISION_INT8, onednn_available, library_create, library_forward, library_free},
};

/* ---------------------------------------------------------------- measuring */

typedef struct {
    size_t OC, C;
} matrix_shape;

typedef struct {
    const char *what;
    size_t N, layers, count;
    matrix_shape shapes[9]; /* of a layer; the head follows all layers when its OC is not 0 */
    matrix_shape head;
} work;

enum { MOST_MATRICES = 128 };

static int measure(const work *w, const kernel *k, float *out, const float *in, const float *weights, double seconds,
                   limn_error *error) {
    void *made[MOST_MATRICES] = {0};
    static const double weight_bytes[] = {[PRECISION_FP32] = 4, [PRECISION_BF16] = 2, [PRECISION_INT8] = 1};
    size_t count = 0;
    double terms = 0, best = 1e30, sum = 0;
    int status = 0;
    for (size_t i = 0; i <= w->layers * w->count && status == 0; i++) {
        const matrix_shape s = i < w->layers * w->count ? w->shapes[i % w->count] : w->head;
        if (s.OC == 0) break;
        made[count] = k->create(weights, s.OC, s.C, k->precision, w->N, error);
        if (made[count] == NULL)
            status = -1;
        else
            count++;
        terms += (double)(s.OC * s.C);
    }
    size_t rounds = 0;
    const double begin = limn_seconds();
    for (; status == 0 && (rounds < 3 || limn_seconds() - begin < seconds) && !limn_stop_requested(); rounds++) {
        const double start = limn_seconds();
        for (size_t i = 0; i < count; i++) k->forward(made[i], out, in, w->N);
        const double took = limn_seconds() - start;
        sum += took;
        if (took < best) best = took;
    }
    for (size_t i = 0; i < count; i++) k->free(made[i]);
    if (status != 0) return -1;
    printf("  %-10s %-5s best %9.3f ms, mean %9.3f  %8.1f GFLOP/s %6.1f GB/s\n", k->name, nn_precision_name(k->precision),
           best * 1e3, sum / (double)rounds * 1e3, 2e-9 * (double)w->N * terms / best,
           1e-9 * weight_bytes[k->precision] * terms / best);
    fflush(stdout);
    return 0;
}

static int run(int argc, char **argv, limn_error *error) {
    const double seconds = argc > 1 ? strtod(argv[1], NULL) : 2;
    const size_t rows = argc > 2 ? strtoul(argv[2], NULL, 10) : 18, most_rows = 4096;
    if (rows < 1 || rows > 1024) return limn_fail_usage(error, "ROWS is %zu but must be from 1 to 1024", rows);
    const work works[] = {{.what = "one token of mini",
                           .N = rows,
                           .layers = 12,
                           .count = 9,
                           .shapes = {{1024, 1024},
                                      {1024, 1024},
                                      {1024, 1024},
                                      {1024, 1024},
                                      {1024, 1024},
                                      {1024, 1024},
                                      {2730, 1024},
                                      {2730, 1024},
                                      {1024, 2730}},
                           .head = {16385, 1024}},
                          {.what = "4096 × 4096 × 4096", .N = 4096, .layers = 1, .count = 1, .shapes = {{4096, 4096}}}};
    const size_t largest = most_rows * 4096;
    float *arrays[3]; /* out, in, weights */
    for (size_t i = 0; i < 3; i++) {
        arrays[i] = limn_allocate(largest + 16385 * 1024, sizeof(float), error);
        if (arrays[i] == NULL) return -1;
        limn_random_fill_normal(arrays[i], largest + 16385 * 1024, 1, 1, i);
    }
    printf("%s; %s%s\n", nn_backend_description(), onednn_description(), onednn_has_amx() ? ", AMX" : "");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        printf("%s, %zu rows\n", works[i].what, works[i].N);
        for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++)
            if (kernels[k].available(kernels[k].precision) &&
                measure(&works[i], &kernels[k], arrays[0], arrays[1], arrays[2], seconds, error) != 0)
                return -1;
    }
    for (size_t i = 0; i < 3; i++) free(arrays[i]);
    return 0;
}

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    return limn_main(argc, argv, run);
}
