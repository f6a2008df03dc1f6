/* bench-onednn-convolution [SECONDS]: the 3×3 convolutions of a VQGAN for one picture of 256×256, by ours in fp32 and by
 * oneDNN. Rates count the operations of the direct sum, also for Winograd. Not run by ctest. */
#include "core/core.h"
#include "nn/nn.h"
#include "nn/onednn.h"

#include <stdlib.h>

typedef struct {
    convolution_shape shape;
    float *out, *in, *weight, *bias;
    limn_arena *arena;
    onednn_convolution *library; /* NULL: ours */
} layer;

static void forward(layer *l) {
    if (l->library != NULL)
        onednn_convolution_forward(l->library, l->out, l->in, NULL);
    else
        convolution_forward(l->out, l->in, l->weight, l->bias, NULL, &l->shape, l->arena);
}

/* Seconds of the best call: the machine may be busy with others. */
static double best_of(layer *l, double seconds) {
    double best = 1e30;
    const double end = limn_seconds() + seconds;
    for (size_t i = 0; i < 3 || limn_seconds() < end; i++) {
        const double start = limn_seconds();
        forward(l);
        const double took = limn_seconds() - start;
        if (took < best) best = took;
    }
    return best;
}

static int run(int argc, char **argv, limn_error *error) {
    const double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.3;
    const convolution_shape shapes[] = {
        {1, 256, 256, 128, 128, 3, 1, 1, 1, 1, 1}, {1, 128, 128, 256, 256, 3, 1, 1, 1, 1, 1},
        {1, 128, 128, 128, 128, 3, 1, 1, 1, 1, 1}, {1, 64, 64, 256, 256, 3, 1, 1, 1, 1, 1},
        {1, 32, 32, 512, 512, 3, 1, 1, 1, 1, 1},   {1, 16, 16, 512, 512, 3, 1, 1, 1, 1, 1},
        {9, 32, 32, 512, 512, 3, 1, 1, 1, 1, 1},   {9, 16, 16, 512, 512, 3, 1, 1, 1, 1, 1},
        {1, 256, 256, 128, 128, 3, 2, 0, 0, 1, 1}, {1, 256, 256, 3, 128, 3, 1, 1, 1, 1, 1},
        {1, 256, 256, 128, 3, 3, 1, 1, 1, 1, 1},   {1, 128, 128, 256, 128, 1, 1, 0, 0, 0, 0},
    };
    const size_t largest = 256 * 256 * 128, heaviest = 512 * 512 * 9;
    layer l = {.arena = limn_arena_create((size_t)1 << 32, error)};
    if (l.arena == NULL) return -1;
    float **arrays[] = {&l.out, &l.in, &l.weight, &l.bias};
    const size_t sizes[] = {largest, largest, heaviest, 512};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i] = limn_allocate(sizes[i], sizeof(float), error);
        if (*arrays[i] == NULL) return -1;
        limn_random_fill_normal(*arrays[i], sizes[i], 1, 1, i);
    }
    printf("%s; %s\n%-30s %21s", nn_backend_description(), onednn_description(), "B Y X C O kernel stride", "ours fp32");
    for (nn_precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) printf("          oneDNN %s", nn_precision_name(p));
    printf("\n%-30s %21s\n", "", "ms  GFLOP/s");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const convolution_shape *s = &shapes[i];
        const double operations =
            2.0 * (double)(s->B * convolution_out_rows(s) * convolution_out_columns(s) * s->O * s->C * s->kernel * s->kernel);
        l.shape = *s;
        printf("%zu %3zu %3zu %3zu %3zu %zu %-10zu", s->B, s->Y, s->X, s->C, s->O, s->kernel, s->stride);
        double took = best_of(&l, seconds);
        printf("  %10.3f %8.1f", took * 1e3, operations / took * 1e-9);
        for (nn_precision p = PRECISION_FP32; p <= PRECISION_BF16; p++) {
            if (!onednn_available(p)) continue;
            l.library = onednn_convolution_create(l.weight, l.bias, s, p, error);
            if (l.library == NULL) return -1;
            took = best_of(&l, seconds);
            printf("  %10.3f %8.1f", took * 1e3, operations / took * 1e-9);
            onednn_convolution_free(l.library);
            l.library = NULL;
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
