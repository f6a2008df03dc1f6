/* Where a weight lies in someone's file: under which name, in which order of axes, and in which entry of a stack of layers. */
#include "formats/internal.h"

#include <string.h>

enum { TILE = 32 };

/* out (columns,rows) = in (rows,columns) transposed, in tiles that fit the cache. */
static void transpose(float *out, const float *in, size_t rows, size_t columns) {
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t r = 0; r < rows; r += TILE)
        for (size_t c = 0; c < columns; c += TILE)
            for (size_t j = c; j < c + TILE && j < columns; j++)
                for (size_t i = r; i < r + TILE && i < rows; i++) out[j * rows + i] = in[i * columns + j];
}

/* out (O,I,P) from in (P,I,O), P = H·W. */
static void oihw_from_hwio(float *out, const float *in, size_t O, size_t I, size_t P) {
#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < O; o++)
        for (size_t i = 0; i < I; i++)
            for (size_t p = 0; p < P; p++) out[(o * I + i) * P + p] = in[(p * I + i) * O + o];
}

static void hwio_from_oihw(float *out, const float *in, size_t O, size_t I, size_t P) {
#pragma omp parallel for collapse(2) schedule(static)
    for (size_t p = 0; p < P; p++)
        for (size_t i = 0; i < I; i++)
            for (size_t o = 0; o < O; o++) out[(p * I + i) * O + o] = in[(o * I + i) * P + p];
}

static size_t place_count(const tensor_place *place) {
    size_t count = 1;
    for (size_t d = 0; d < place->rank; d++) count *= place->shape[d];
    return count;
}

void tensor_place_to_pytorch(const tensor_place *place, float *out, const float *in) {
    const size_t *shape = place->shape;
    if (place->order == TENSOR_IN_OUT)
        transpose(out, in, shape[1], shape[0]);
    else if (place->order == TENSOR_HWIO)
        oihw_from_hwio(out, in, shape[0], shape[1], shape[2] * shape[3]);
    else
        memcpy(out, in, place_count(place) * sizeof *out);
}

void tensor_place_from_pytorch(const tensor_place *place, float *out, const float *in) {
    const size_t *shape = place->shape;
    if (place->order == TENSOR_IN_OUT)
        transpose(out, in, shape[0], shape[1]);
    else if (place->order == TENSOR_HWIO)
        hwio_from_oihw(out, in, shape[0], shape[1], shape[2] * shape[3]);
    else
        memcpy(out, in, place_count(place) * sizeof *out);
}

void tensor_place_shape(const tensor_place *place, size_t *out_rank, size_t out_shape[TENSOR_MAX_RANK]) {
    static const size_t orders[][4] = {
        [TENSOR_PYTORCH] = {0, 1, 2, 3}, [TENSOR_IN_OUT] = {1, 0, 2, 3}, [TENSOR_HWIO] = {2, 3, 1, 0}};
    size_t rank = 0;
    if (place->stacked) out_shape[rank++] = place->layers;
    for (size_t d = 0; d < place->rank; d++) out_shape[rank++] = place->shape[orders[place->order][d]];
    *out_rank = rank;
}

const tensor *tensor_place_need(const tensor_file *file, const char *prefix, const tensor_place *place, limn_error *error) {
    char name[512];
    size_t rank, shape[TENSOR_MAX_RANK];
    snprintf(name, sizeof name, "%s%s", prefix, place->name);
    tensor_place_shape(place, &rank, shape);
    return tensor_file_need(file, name, rank, shape, error);
}

void tensor_place_read(const tensor *source, const tensor_place *place, float *out, float *scratch) {
    size_t count = place_count(place), start = place->layer * count;
    if (place->order == TENSOR_PYTORCH) {
        tensor_to_float(source, start, count, out);
        return;
    }
    tensor_to_float(source, start, count, scratch);
    tensor_place_to_pytorch(place, out, scratch);
}

size_t tensor_file_size(const tensor_file *file, const char *prefix, const char *name, size_t dimension) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    const tensor *t = tensor_file_find(file, whole);
    return t && dimension < t->rank ? t->shape[dimension] : 0;
}

bool tensor_file_find_prefix(const tensor_file *file, const char *name, char out_prefix[256]) {
    size_t length = strlen(name);
    for (size_t i = 0; i < tensor_file_count(file); i++) {
        const char *candidate = tensor_file_at(file, i)->name;
        size_t whole = strlen(candidate), before = whole - length;
        if (whole < length || before >= 256 || strcmp(candidate + before, name) != 0) continue;
        if (before && candidate[before - 1] != '.' && candidate[before - 1] != '/') continue;
        memcpy(out_prefix, candidate, before);
        out_prefix[before] = '\0';
        return true;
    }
    return false;
}
