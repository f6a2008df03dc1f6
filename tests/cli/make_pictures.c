/* make-pictures DIR: coloured shapes as PNG files with a caption each, and DIR/train.tsv and DIR/kept.tsv that name them. Real enough
 * for a pipeline of seconds: a model must tell colours and shapes apart. */
#include "core/core.h"
#include "pictures/pictures.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = 48 };

static const char *const COLOURS[] = {"red", "green", "blue", "yellow", "black", "purple"};
static const unsigned char RGB[][3] = {{220, 30, 30}, {30, 160, 40}, {40, 60, 220}, {250, 210, 40}, {20, 20, 20}, {140, 40, 160}};
static const char *const SHAPES[] = {"square", "circle", "triangle"};
static const char *const SIZES[] = {"small", "large"};

static bool inside(size_t shape, int x, int y, int half) {
    if (shape == 0) return abs(x) <= half && abs(y) <= half;
    if (shape == 1) return x * x + y * y <= half * half;
    return y <= half && y >= -half && 2 * abs(x) <= y + half;
}

static int draw(const char *path, size_t colour, size_t shape, size_t size, limn_error *error) {
    picture drawn;
    if (picture_create(&drawn, SIDE, SIDE, error)) return -1;
    memset(drawn.pixels, 255, SIDE * SIDE * 3);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            if (inside(shape, x - SIDE / 2, y - SIDE / 2, size ? 20 : 10)) memcpy(drawn.pixels + (y * SIDE + x) * 3, RGB[colour], 3);
    int status = picture_save_png(&drawn, path, error);
    picture_free(&drawn);
    return status;
}

static int make(const char *directory, limn_error *error) {
    limn_buffer lists[2] = {{0}, {0}};
    static const char *const names[] = {"train.tsv", "kept.tsv"};
    char path[4096];
    for (size_t i = 0; i < 2; i++)
        if (limn_buffer_printf(&lists[i], error, "caption\turl\n")) return -1;
    for (size_t i = 0; i < 36; i++) {
        size_t colour = i % 6, shape = i / 6 % 3, size = i / 18;
        snprintf(path, sizeof path, "%s/%02zu.png", directory, i);
        /* A few combinations are kept; each of their parts occurs elsewhere. */
        limn_buffer *list = &lists[i % 13 == 5];
        if (draw(path, colour, shape, size, error) ||
            limn_buffer_printf(list, error, "%s %s %s\tfile://%s\n", SIZES[size], COLOURS[colour], SHAPES[shape], path))
            return -1;
    }
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        if (limn_atomic_write(path, lists[i].data, lists[i].size, error)) return -1;
        limn_buffer_free(&lists[i]);
    }
    return 0;
}

static int run(int argc, char **argv, limn_error *error) {
    if (argc != 2 || argv[1][0] != '/') return limn_fail_usage(error, "give the absolute path of a folder to write to");
    if (limn_make_directories(argv[1], error)) return -1;
    return make(argv[1], error);
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
