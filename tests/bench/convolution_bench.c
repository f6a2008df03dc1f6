/* bench-convolution [SECONDS [KERNELS]]: speed of the convolutions of a VQGAN, as a share of this machine's fp32 matrix product
 * measured in the same run, and of GroupNorm. Not run by ctest. */
#include "core/core.h"
#include "nn/nn.h"

#include <stdlib.h>

typedef struct {
    convolution_shape shape;
    float *out, *in, *weight, *bias, *dout, *din, *dweight, *dbias, *saved;
    limn_arena *arena;
} layer;

static void forward(layer *l) {
    convolution_forward(l->out, l->in, l->weight, l->bias, NULL, &l->shape, l->arena);
}

static void backward_input(layer *l) {
    convolution_backward(l->din, NULL, NULL, l->dout, l->in, l->weight, &l->shape, l->arena);
}

static void backward_weight(layer *l) {
    convolution_backward(NULL, l->dweight, l->dbias, l->dout, l->in, l->weight, &l->shape, l->arena);
}

static void norm_forward(layer *l) {
    groupnorm_forward(l->din, l->saved, l->in, l->bias, l->bias, l->shape.B, l->shape.Y * l->shape.X, l->shape.C, 32, 1e-6f,
                      true);
}

static void norm_backward(layer *l) {
    groupnorm_backward(l->din, l->dbias, l->dbias, l->in, l->in, l->saved, l->bias, l->bias, l->shape.B,
                       l->shape.Y * l->shape.X, l->shape.C, 32, true, false, l->arena);
}

enum { PRODUCT = 1536 };

static void product(layer *l) {
    matmul(l->out, PRODUCT, l->in, PRODUCT, false, l->weight, PRODUCT, true, PRODUCT, PRODUCT, PRODUCT, 1, 0);
}

/* Seconds of the best call: the machine may be busy with others. */
static double best_of(void (*function)(layer *), layer *l, double seconds) {
    double best = 1e30;
    const double end = limn_seconds() + seconds;
    for (size_t i = 0; i < 3 || limn_seconds() < end; i++) {
        const double start = limn_seconds();
        function(l);
        const double took = limn_seconds() - start;
        if (took < best) best = took;
    }
    return best;
}

static int run(int argc, char **argv, limn_error *error) {
    const double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.2;
    if (argc > 2 && !convolution_choose_kernels(argv[2])) return limn_fail_usage(error, "this CPU has no %s", argv[2]);
    const convolution_shape shapes[] = {
        {8, 64, 64, 32, 32, 3, 1, 1, 1, 1, 1},     {8, 32, 32, 64, 64, 3, 1, 1, 1, 1, 1},
        {8, 16, 16, 128, 128, 3, 1, 1, 1, 1, 1},   {8, 8, 8, 128, 128, 3, 1, 1, 1, 1, 1},
        {1, 256, 256, 128, 128, 3, 1, 1, 1, 1, 1}, {1, 64, 64, 256, 256, 3, 1, 1, 1, 1, 1},
        {1, 16, 16, 512, 512, 3, 1, 1, 1, 1, 1},   {8, 64, 64, 32, 32, 3, 2, 0, 0, 1, 1},
        {8, 64, 64, 3, 32, 3, 1, 1, 1, 1, 1},      {8, 64, 64, 32, 3, 3, 1, 1, 1, 1, 1},
        {8, 32, 32, 64, 128, 4, 2, 1, 1, 1, 1},    {8, 32, 32, 64, 64, 1, 1, 0, 0, 0, 0},
    };
    const size_t largest = (size_t)1 << 23;
    layer l = {0};
    float **arrays[] = {&l.out, &l.in, &l.weight, &l.bias, &l.dout, &l.din, &l.dweight, &l.dbias, &l.saved};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i] = limn_allocate(largest + 4096, sizeof(float), error);
        if (*arrays[i] == NULL) return -1;
        limn_random_fill_normal(*arrays[i], largest, 1, 1, i);
    }
    l.arena = limn_arena_create((size_t)1 << 32, error);
    if (l.arena == NULL) return -1;
    double peak = 2.0 * PRODUCT * PRODUCT * PRODUCT / best_of(product, &l, 2 * seconds);
    printf("%s; product %.0f GFLOP/s\n", nn_backend_description(), peak / 1e9);
    printf("%-34s %21s %21s %21s %10s %10s\n", "B Y X C O kernel stride", "forward", "gradient of input", "of weights",
           "norm ns", "back ns");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const convolution_shape *s = &l.shape;
        l.shape = shapes[i];
        const double flops =
            2.0 * (double)(s->B * convolution_out_rows(s) * convolution_out_columns(s) * s->O * s->C * s->kernel * s->kernel);
        void (*const parts[])(layer *) = {forward, backward_input, backward_weight};
        char name[64];
        snprintf(name, sizeof name, "%zu %zu %zu %zu %zu %zu %zu", s->B, s->Y, s->X, s->C, s->O, s->kernel, s->stride);
        printf("%-34s", name);
        for (size_t part = 0; part < 3; part++) {
            const double took = best_of(parts[part], &l, seconds);
            printf("  %7.3f ms %7.1f %%", took * 1e3, 100 * flops / took / peak);
        }
        if (s->C % 32 == 0) {
            const double elements = (double)(s->B * s->Y * s->X * s->C) * 1e-9;
            const double took_forward = best_of(norm_forward, &l, seconds), took_backward = best_of(norm_backward, &l, seconds);
            printf(" %10.3f %10.3f", took_forward / elements, took_backward / elements);
        }
        printf("\n");
        fflush(stdout);
    }
    limn_arena_destroy(l.arena);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(*arrays[i]);
    return 0;
}

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    return limn_main(argc, argv, run);
}
