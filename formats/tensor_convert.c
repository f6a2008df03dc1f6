/* The elements of a tensor, of whatever type and layout, as float, as whole numbers and as they are; and float as any type. */
#include "formats/internal.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- layouts */

/* Elements gathered at once from a strided layout. */
enum { PIECE = 1024 };

static const unsigned char *find_chunk(const tensor_layout *layout, size_t start, size_t size, size_t *count) {
    size_t low = 0, high = layout->chunk_count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (start < layout->chunks[middle].end)
            high = middle;
        else
            low = middle + 1;
    }
    size_t begin = low ? layout->chunks[low - 1].end : 0;
    if (*count > layout->chunks[low].end - start) *count = layout->chunks[low].end - start;
    return layout->chunks[low].data + (start - begin) * size;
}

static void gather_row(const unsigned char *from, size_t stride, size_t size, size_t count, unsigned char *to) {
    if (stride == 1) {
        memcpy(to, from, count * size);
        return;
    }
    switch (size) { /* constant sizes, so that each copy is one load and one store */
    case 2:
        for (size_t i = 0; i < count; i++) memcpy(to + 2 * i, from + i * stride * 2, 2);
        break;
    case 4:
        for (size_t i = 0; i < count; i++) memcpy(to + 4 * i, from + i * stride * 4, 4);
        break;
    case 8:
        for (size_t i = 0; i < count; i++) memcpy(to + 8 * i, from + i * stride * 8, 8);
        break;
    default:
        for (size_t i = 0; i < count; i++) memcpy(to + i * size, from + i * stride * size, size);
    }
}

/* Copies elements start … start+count-1 of a strided tensor, row by row of its last dimension. */
static void gather(const tensor *source, size_t start, size_t count, unsigned char *out) {
    const tensor_layout *layout = source->layout;
    size_t size = tensor_type_size(source->type), last = source->rank - 1, index[TENSOR_MAX_RANK], rest = start;
    for (size_t d = source->rank; d-- > 0;) {
        index[d] = rest % source->shape[d];
        rest /= source->shape[d];
    }
    while (count > 0) {
        size_t offset = 0, row = source->shape[last] - index[last];
        if (row > count) row = count;
        for (size_t d = 0; d <= last; d++) offset += index[d] * layout->strides[d];
        gather_row(layout->base + offset * size, layout->strides[last], size, row, out);
        out += row * size;
        count -= row;
        index[last] += row;
        for (size_t d = last; d > 0 && index[d] == source->shape[d]; d--) {
            index[d] = 0;
            index[d - 1]++;
        }
    }
}

/* The bytes of elements from `start` on, as many of *count as lie together (or fit `room`, when they must be gathered). */
static const unsigned char *next_run(const tensor *source, size_t start, size_t *count, unsigned char *room) {
    size_t size = tensor_type_size(source->type);
    if (!source->layout) return (const unsigned char *)source->data + start * size;
    if (!source->layout->base) return find_chunk(source->layout, start, size, count);
    if (*count > PIECE) *count = PIECE;
    gather(source, start, *count, room);
    return room;
}

void tensor_copy(const tensor *source, size_t start, size_t count, void *out) {
    size_t size = tensor_type_size(source->type);
    unsigned char *to = out;
    if (count && source->layout && source->layout->base) {
        gather(source, start, count, to);
        return;
    }
    while (count > 0) {
        size_t run = count;
        const unsigned char *bytes = next_run(source, start, &run, NULL);
        memcpy(to, bytes, run * size);
        to += run * size;
        start += run;
        count -= run;
    }
}

/* ---------------------------------------------------------------- one type to another */

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* IEEE 754 binary16, without a branch so that the loop is vectorised, and without float subnormals, which a program may have
 * turned off. Exponent and fraction move into their places; what is left is the difference of the biases. A binary16
 * subnormal is read with the smallest normal exponent, and that power of two taken away again. */
static inline float from_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = (uint32_t)(half & 0x7fff) << 13;
    uint32_t exponent = magnitude & 0x0f800000;
    uint32_t normal = magnitude + ((127 - 15) << 23);
    uint32_t special = normal + ((128 - 16) << 23); /* infinity and NaN */
    uint32_t subnormal = bits_of_float(float_of_bits(normal + (1 << 23)) - 0x1p-14f);
    uint32_t bits = exponent == 0x0f800000 ? special : exponent == 0 ? subnormal : normal;
    return float_of_bits(bits | sign);
}

/* To nearest even. A value below the smallest normal binary16 is added to a power of two whose last bit is the last bit of
 * such a subnormal: the addition rounds. */
static inline uint16_t to_f16(float value) {
    uint32_t bits = bits_of_float(value), sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    uint32_t normal = (magnitude - ((127 - 15) << 23) + 0x0fff + (magnitude >> 13 & 1)) >> 13;
    uint32_t subnormal = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000;
    uint32_t special = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x01ff) : 0x7c00; /* NaN made quiet */
    uint32_t half = magnitude >= 0x477ff000 ? special : magnitude < 0x38800000 ? subnormal : normal;
    return (uint16_t)(half | sign);
}

/* Rounds toward zero; NaN is 0 and what lies outside is the nearest end, since C leaves those conversions undefined. */
static int64_t real_to_int64(double value) {
    if (isnan(value)) return 0;
    if (value >= 0x1p63) return INT64_MAX;
    if (value <= -0x1p63) return INT64_MIN;
    return (int64_t)value;
}

/* Reads `type` element by element from bytes that may lie unaligned, into a variable `element`. */
#define EACH(type, expression)                                                                                                 \
    for (size_t i = 0; i < count; i++) {                                                                                       \
        type element;                                                                                                          \
        memcpy(&element, bytes + i * sizeof element, sizeof element);                                                          \
        out[i] = expression;                                                                                                   \
    }                                                                                                                          \
    break

static void run_to_float(tensor_type type, const unsigned char *restrict bytes, size_t count, float *restrict out) {
    switch (type) {
    case TENSOR_F32:
        memcpy(out, bytes, count * sizeof *out);
        break;
    case TENSOR_F16:
        EACH(uint16_t, from_f16(element));
    case TENSOR_BF16:
        EACH(uint16_t, limn_bf16_to_float(element));
    case TENSOR_F64:
        EACH(double, (float)element);
    case TENSOR_I64:
        EACH(int64_t, (float)element);
    case TENSOR_I32:
        EACH(int32_t, (float)element);
    case TENSOR_U16:
        EACH(uint16_t, (float)element);
    case TENSOR_U8:
        EACH(uint8_t, (float)element);
    case TENSOR_BOOL:
        EACH(uint8_t, element ? 1.0f : 0.0f);
    }
}

static void run_to_int64(tensor_type type, const unsigned char *restrict bytes, size_t count, int64_t *restrict out) {
    switch (type) {
    case TENSOR_F32:
        EACH(float, real_to_int64((double)element));
    case TENSOR_F16:
        EACH(uint16_t, real_to_int64((double)from_f16(element)));
    case TENSOR_BF16:
        EACH(uint16_t, real_to_int64((double)limn_bf16_to_float(element)));
    case TENSOR_F64:
        EACH(double, real_to_int64(element));
    case TENSOR_I64:
        memcpy(out, bytes, count * sizeof *out);
        break;
    case TENSOR_I32:
        EACH(int32_t, element);
    case TENSOR_U16:
        EACH(uint16_t, element);
    case TENSOR_U8:
        EACH(uint8_t, element);
    case TENSOR_BOOL:
        EACH(uint8_t, element != 0);
    }
}

void tensor_to_float(const tensor *source, size_t start, size_t count, float *out) {
    unsigned char room[PIECE * sizeof(double)];
    while (count > 0) {
        size_t run = count;
        const unsigned char *bytes = next_run(source, start, &run, room);
        run_to_float(source->type, bytes, run, out);
        out += run;
        start += run;
        count -= run;
    }
}

void tensor_to_int64(const tensor *source, size_t start, size_t count, int64_t *out) {
    unsigned char room[PIECE * sizeof(double)];
    while (count > 0) {
        size_t run = count;
        const unsigned char *bytes = next_run(source, start, &run, room);
        run_to_int64(source->type, bytes, run, out);
        out += run;
        start += run;
        count -= run;
    }
}

/* The nearest whole number (ties to even) in [low, high]; NaN is 0. */
static int64_t nearest_int64(float value, double low, double high) {
    double rounded = rint((double)value);
    return real_to_int64(rounded < low ? low : rounded > high ? high : rounded);
}

/* Writes `type` element by element to bytes that may lie unaligned, from a variable `value`. */
#define PUT(type, expression)                                                                                                  \
    for (size_t i = 0; i < count; i++) {                                                                                       \
        float value = in[i];                                                                                                   \
        type element = (type)(expression);                                                                                     \
        memcpy(bytes + i * sizeof element, &element, sizeof element);                                                          \
    }                                                                                                                          \
    break

void tensor_from_float(tensor_type type, const float *restrict in, size_t count, void *restrict out) {
    unsigned char *bytes = out;
    switch (type) {
    case TENSOR_F32:
        if (count) memcpy(bytes, in, count * sizeof *in);
        break;
    case TENSOR_F16:
        PUT(uint16_t, to_f16(value));
    case TENSOR_BF16:
        PUT(uint16_t, limn_bf16_from_float(value));
    case TENSOR_F64:
        PUT(double, value);
    case TENSOR_I64:
        PUT(int64_t, nearest_int64(value, -0x1p63, 0x1p63));
    case TENSOR_I32:
        PUT(int32_t, nearest_int64(value, INT32_MIN, INT32_MAX));
    case TENSOR_U16:
        PUT(uint16_t, nearest_int64(value, 0, UINT16_MAX));
    case TENSOR_U8:
        PUT(uint8_t, nearest_int64(value, 0, UINT8_MAX));
    case TENSOR_BOOL:
        PUT(uint8_t, isnan(value) || value != 0); /* NaN is true, as in C and in PyTorch */
    }
}
