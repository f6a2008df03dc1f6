/* The picture itself: its memory, choosing a decoder, and conversion to and from floats. */
#include "pictures/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, DEFAULT_MAX_PIXELS = 178956970 };         /* what Pillow refuses as a decompression bomb */
static const size_t FILE_SIZE_LIMIT = (size_t)256 * 1024 * 1024; /* as for an entry of a tar */

void picture_free(picture *self) {
    free(self->pixels);
    *self = (picture){0};
}

void *picture_memory(size_t count, size_t size, limn_error *error) {
    size_t bytes;
    if (limn_multiply(count, size, &bytes, error)) return NULL;
    void *memory = bytes <= PTRDIFF_MAX - ALIGNMENT ? aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 1) * ALIGNMENT) : NULL;
    if (!memory) limn_fail(error, "out of memory: %zu bytes asked for", bytes);
    return memory;
}

int picture_reserve(picture *self, size_t width, size_t height, limn_error *error) {
    size_t pixels;
    *self = (picture){0};
    if (width == 0 || height == 0) return limn_fail(error, "a picture of %zux%zu pixels is empty", width, height);
    if (limn_multiply(width, height, &pixels, error)) return -1;
    self->pixels = picture_memory(pixels, 3, error);
    if (!self->pixels) return -1;
    self->width = width;
    self->height = height;
    return 0;
}

int picture_create(picture *self, size_t width, size_t height, limn_error *error) {
    if (picture_reserve(self, width, height, error)) return -1;
    memset(self->pixels, 0, width * height * 3);
    return 0;
}

picture_format picture_sniff(const unsigned char *data, size_t size) {
    if (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) return PICTURE_JPEG;
    if (size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) return PICTURE_PNG;
    if (size >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0) return PICTURE_WEBP;
    return PICTURE_UNKNOWN;
}

int picture_note_size(picture_source *source, size_t width, size_t height, limn_error *error) {
    source->original_width = width;
    source->original_height = height;
    if (width == 0 || height == 0) return limn_fail(error, "empty picture of %zux%zu pixels", width, height);
    if (width > source->max_pixels / height)
        return limn_fail(error, "%zux%zu pixels are more than the limit of %zu", width, height, source->max_pixels);
    return 0;
}

void picture_take_rgba(picture *self, unsigned char *rgba, size_t width, size_t height) {
    size_t pixels = width * height;
    for (size_t i = 0; i < pixels; i++) {
        unsigned alpha = rgba[i * 4 + 3];
        for (size_t c = 0; c < 3; c++) {
            unsigned mixed = rgba[i * 4 + c] * alpha + 255 * (255 - alpha);
            rgba[i * 3 + c] = (unsigned char)((mixed + 127) / 255);
        }
    }
    unsigned char *smaller = realloc(rgba, pixels * 3);
    *self = (picture){.width = width, .height = height, .pixels = smaller ? smaller : rgba};
}

static int decode_source(picture *self, picture_source *source, limn_error *error) {
    *self = (picture){0};
    if (source->size == 0) return limn_fail(error, "empty file");
    switch (picture_sniff(source->data, source->size)) {
    case PICTURE_JPEG:
        return picture_decode_jpeg(self, source, error);
    case PICTURE_PNG:
        return picture_decode_png(self, source, error);
    case PICTURE_WEBP:
        return picture_decode_webp(self, source, error);
    default:
        return limn_fail(error, "not a JPEG, PNG or WebP");
    }
}

static picture_source describe_source(const unsigned char *data, size_t size, const picture_decode_options *options) {
    picture_source source = {.data = data, .size = size, .max_pixels = DEFAULT_MAX_PIXELS};
    if (options && options->max_pixels) source.max_pixels = options->max_pixels;
    if (options) source.min_side = options->min_side;
    return source;
}

int picture_decode(picture *self, const unsigned char *data, size_t size, const picture_decode_options *options,
                   size_t *original_width, size_t *original_height, limn_error *error) {
    picture_source source = describe_source(data, size, options);
    const int status = decode_source(self, &source, error);
    if (original_width) *original_width = source.original_width;
    if (original_height) *original_height = source.original_height;
    return status;
}

void picture_facts_free(picture_facts *self) {
    limn_buffer_free(&self->profile);
}

int picture_decode_upright(picture *self, const unsigned char *data, size_t size, const picture_decode_options *options,
                           picture_context *context, picture_facts *facts, limn_error *error) {
    picture_source source = describe_source(data, size, options);
    picture_metadata metadata;
    metadata_read(&metadata, data, size, true);
    if (colour_profile_is_srgb(&metadata.profile)) limn_buffer_free(&metadata.profile);
    picture_context own = {0};
    source.context = context ? context : &own;
    if (metadata.profile.size) source.profile = &metadata.profile;
    int status = decode_source(self, &source, error);
    const unsigned orientation = exif_orientation(data, size);
    if (!status && picture_orient(self, orientation, error)) {
        picture_free(self);
        status = -1;
    }
    const bool turned = orientation >= 5;
    facts->width = turned ? source.original_height : source.original_width;
    facts->height = turned ? source.original_width : source.original_height;
    facts->grey = source.grey;
    colour_cache_free(own.colours);
    if (source.converted) limn_buffer_free(&metadata.profile);
    facts->profile = metadata.profile;
    return status;
}

picture_context *picture_context_create(limn_error *error) {
    return limn_allocate(1, sizeof(picture_context), error);
}

void picture_context_destroy(picture_context *self) {
    if (!self) return;
    colour_cache_free(self->colours);
    free(self);
}

int picture_load(picture *self, const char *path, limn_error *error) {
    size_t size;
    *self = (picture){0};
    char *data = limn_file_read(path, FILE_SIZE_LIMIT, &size, error);
    if (!data) return -1;
    int status = picture_decode(self, (const unsigned char *)data, size, NULL, NULL, NULL, error);
    free(data);
    return status ? limn_fail_context(error, "%s", path) : 0;
}

int picture_load_square(picture *self, const char *path, size_t side, limn_error *error) {
    picture loaded;
    if (picture_load(&loaded, path, error)) return -1;
    int status = picture_resize(&loaded, self, RESIZE_CENTER_CROP, side, error);
    picture_free(&loaded);
    return status ? limn_fail_context(error, "%s", path) : 0;
}

void picture_to_floats(const picture *self, float *out) {
    size_t count = self->width * self->height * 3;
    for (size_t i = 0; i < count; i++) out[i] = (float)self->pixels[i] / 255.0f;
}

int picture_from_floats(picture *self, const float *in, size_t width, size_t height, limn_error *error) {
    if (picture_create(self, width, height, error)) return -1;
    size_t count = width * height * 3;
    for (size_t i = 0; i < count; i++) {
        float value = in[i];
        if (!(value > 0.0f)) value = 0.0f; /* also NaN */
        if (value > 1.0f) value = 1.0f;
        self->pixels[i] = (unsigned char)(value * 255.0f + 0.5f);
    }
    return 0;
}

double picture_psnr(const picture *a, const picture *b) {
    if (a->width != b->width || a->height != b->height) return NAN;
    size_t count = a->width * a->height * 3;
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        double difference = (double)a->pixels[i] - (double)b->pixels[i];
        sum += difference * difference;
    }
    if (sum == 0.0) return INFINITY;
    return 10.0 * log10(255.0 * 255.0 * (double)count / sum);
}
