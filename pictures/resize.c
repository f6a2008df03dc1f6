/* Resampling by zimg, on 8-bit values as they are (not on linear light), as Pillow and OpenCV do.
 *
 * zimg works on planes in aligned memory. Rows are split into planes and joined again by callbacks, a few at a time, so that
 * nothing of the picture's size is allocated but the result. A filter's making costs as much as a small picture's resampling,
 * so a context keeps those of the sizes it met last. A crop is zimg's active region: what falls outside is not computed, and
 * the sampling positions are those of resizing the whole picture and cutting afterwards. */
#include "pictures/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zimg.h>

enum { ALIGNMENT = 64, MAX_SIDE = 1 << 20 };
static const size_t MAX_PIXELS = 178956970;

int resize_mode_from_name(const char *name, resize_mode *out) {
    static const struct {
        const char *name;
        resize_mode mode;
    } modes[] = {{"center-crop", RESIZE_CENTER_CROP},
                 {"border", RESIZE_BORDER},
                 {"keep-ratio", RESIZE_KEEP_RATIO},
                 {"keep-ratio-largest", RESIZE_KEEP_RATIO_LARGEST},
                 {"none", RESIZE_NONE}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(modes[i].name, name) != 0) continue;
        *out = modes[i].mode;
        return 0;
    }
    return -1;
}

/* The part of the source that is drawn, in its pixels. */
typedef struct {
    double left, top, width, height;
} region;

typedef struct {
    size_t in_width, in_height, out_width, out_height;
    region part;
    zimg_filter_graph *graph;
    unsigned lines_in, lines_out;
    size_t scratch_size;
    uint64_t used;
} sized_filter;

enum { FILTERS_KEPT = 32 };
struct resize_cache {
    sized_filter kept[FILTERS_KEPT];
    uint64_t uses;
    unsigned char *memory; /* rings of rows, and zimg's own */
    size_t memory_size;
};

void resize_cache_free(resize_cache *self) {
    if (!self) return;
    for (size_t i = 0; i < FILTERS_KEPT; i++) zimg_filter_graph_free(self->kept[i].graph);
    free(self->memory);
    free(self);
}

/* A ring of rows in three planes, and the picture it is filled from or emptied into. */
typedef struct {
    unsigned char *planes;
    size_t stride, plane_size;
    unsigned mask;
    const picture *from;
    picture *to;
} row_ring;

/* Sets all but the memory, of which it needs 3 · plane_size. */
static int ring_plan(row_ring *ring, size_t width, size_t height, unsigned lines, limn_error *error) {
    size_t rows = height, bytes;
    ring->mask = zimg_select_buffer_mask(lines);
    if (ring->mask != ZIMG_BUFFER_MAX) rows = (size_t)ring->mask + 1;
    ring->stride = (width + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return limn_multiply(ring->stride, rows, &ring->plane_size, error) || limn_multiply(ring->plane_size, 4, &bytes, error);
}

static unsigned char *ring_row(const row_ring *ring, size_t plane, unsigned row) {
    return ring->planes + plane * ring->plane_size + (row & ring->mask) * ring->stride;
}

static int split_row(void *user, unsigned row, unsigned left, unsigned right) {
    row_ring *ring = user;
    const unsigned char *rgb = ring->from->pixels + (size_t)row * ring->from->width * 3;
    unsigned char *red = ring_row(ring, 0, row), *green = ring_row(ring, 1, row), *blue = ring_row(ring, 2, row);
    for (size_t x = left; x < right; x++) {
        red[x] = rgb[x * 3];
        green[x] = rgb[x * 3 + 1];
        blue[x] = rgb[x * 3 + 2];
    }
    return 0;
}

static int join_row(void *user, unsigned row, unsigned left, unsigned right) {
    row_ring *ring = user;
    unsigned char *rgb = ring->to->pixels + (size_t)row * ring->to->width * 3;
    const unsigned char *red = ring_row(ring, 0, row), *green = ring_row(ring, 1, row), *blue = ring_row(ring, 2, row);
    for (size_t x = left; x < right; x++) {
        rgb[x * 3] = red[x];
        rgb[x * 3 + 1] = green[x];
        rgb[x * 3 + 2] = blue[x];
    }
    return 0;
}

static int fail_zimg(const picture *in, const picture *out, limn_error *error) {
    char reason[256] = "";
    zimg_get_last_error(reason, sizeof reason);
    zimg_clear_last_error();
    return limn_fail(error, "cannot resize %zux%zu to %zux%zu pixels: %s", in->width, in->height, out->width, out->height,
                     reason);
}

static zimg_filter_graph *build_graph(const picture *in, const region *part, const picture *out) {
    zimg_image_format from, to;
    zimg_graph_builder_params params;
    zimg_image_format_default(&from, ZIMG_API_VERSION);
    from.pixel_type = ZIMG_PIXEL_BYTE;
    from.pixel_range = ZIMG_RANGE_FULL;
    from.color_family = ZIMG_COLOR_RGB;
    from.matrix_coefficients = ZIMG_MATRIX_RGB;
    to = from;
    from.width = (unsigned)in->width;
    from.height = (unsigned)in->height;
    from.active_region.left = part->left;
    from.active_region.top = part->top;
    from.active_region.width = part->width;
    from.active_region.height = part->height;
    to.width = (unsigned)out->width;
    to.height = (unsigned)out->height;
    zimg_graph_builder_params_default(&params, ZIMG_API_VERSION);
    bool shrinks = (double)out->width < part->width || (double)out->height < part->height;
    if (shrinks) {
        params.resample_filter = ZIMG_RESIZE_LANCZOS;
        params.filter_param_a = 3;
    } else {
        params.resample_filter = ZIMG_RESIZE_BICUBIC;
        params.filter_param_a = 0; /* b and c of Keys' cubic, a = -1/2 */
        params.filter_param_b = 0.5;
    }
    return zimg_filter_graph_build(&from, &to, &params);
}

static sized_filter *find_filter(resize_cache *cache, const picture *in, const region *part, const picture *out,
                                 limn_error *error) {
    sized_filter *oldest = &cache->kept[0];
    for (size_t i = 0; i < FILTERS_KEPT; i++) {
        sized_filter *f = &cache->kept[i];
        if (f->used < oldest->used) oldest = f;
        if (!f->graph || f->in_width != in->width || f->in_height != in->height || f->out_width != out->width ||
            f->out_height != out->height || memcmp(&f->part, part, sizeof *part) != 0)
            continue;
        f->used = ++cache->uses;
        return f;
    }
    zimg_filter_graph_free(oldest->graph);
    *oldest =
        (sized_filter){.in_width = in->width, .in_height = in->height, .out_width = out->width, .out_height = out->height};
    oldest->part = *part;
    oldest->graph = build_graph(in, part, out);
    if (oldest->graph && !zimg_filter_graph_get_input_buffering(oldest->graph, &oldest->lines_in) &&
        !zimg_filter_graph_get_output_buffering(oldest->graph, &oldest->lines_out) &&
        !zimg_filter_graph_get_tmp_size(oldest->graph, &oldest->scratch_size)) {
        oldest->used = ++cache->uses;
        return oldest;
    }
    zimg_filter_graph_free(oldest->graph);
    *oldest = (sized_filter){0};
    fail_zimg(in, out, error);
    return NULL;
}

static int reserve_memory(resize_cache *cache, size_t size, limn_error *error) {
    if (size <= cache->memory_size) return 0;
    free(cache->memory);
    cache->memory_size = 0;
    cache->memory = picture_memory(size, 1, error);
    if (!cache->memory) return -1;
    cache->memory_size = size;
    return 0;
}

/* Draws `part` of `in` over all of `out`, which has its size and memory. */
static int resample(resize_cache *cache, const picture *in, const region *part, picture *out, limn_error *error) {
    const sized_filter *f = find_filter(cache, in, part, out, error);
    row_ring source = {.from = in}, target = {.to = out};
    if (!f || ring_plan(&source, in->width, in->height, f->lines_in, error) ||
        ring_plan(&target, out->width, out->height, f->lines_out, error) ||
        reserve_memory(cache, 3 * source.plane_size + 3 * target.plane_size + f->scratch_size, error))
        return -1;
    source.planes = cache->memory;
    target.planes = source.planes + 3 * source.plane_size;
    zimg_image_buffer_const from = {.version = ZIMG_API_VERSION};
    zimg_image_buffer to = {.version = ZIMG_API_VERSION};
    for (size_t p = 0; p < 3; p++) {
        from.plane[p].data = source.planes + p * source.plane_size;
        from.plane[p].stride = (ptrdiff_t)source.stride;
        from.plane[p].mask = source.mask;
        to.plane[p].data = target.planes + p * target.plane_size;
        to.plane[p].stride = (ptrdiff_t)target.stride;
        to.plane[p].mask = target.mask;
    }
    if (zimg_filter_graph_process(f->graph, &from, &to, target.planes + 3 * target.plane_size, split_row, &source, join_row,
                                  &target))
        return fail_zimg(in, out, error);
    return 0;
}

static int copy_picture(const picture *in, picture *out, limn_error *error) {
    if (picture_reserve(out, in->width, in->height, error)) return -1;
    memcpy(out->pixels, in->pixels, in->width * in->height * 3);
    out->covered_width = in->covered_width;
    out->covered_height = in->covered_height;
    out->covered_left = in->covered_left;
    out->covered_top = in->covered_top;
    return 0;
}

static size_t scaled(double side, size_t numerator, double denominator) {
    double value = round(side * (double)numerator / denominator);
    return value < 1.0 ? 1 : (size_t)value;
}

int picture_resize(const picture *in, picture *out, resize_mode mode, size_t size, limn_error *error) {
    return picture_fit(in, out, mode, size, NULL, error);
}

/* Resamples with the context's cache, or with one of this call. */
static int resample_with(picture_context *context, const picture *in, const region *part, picture *out, limn_error *error) {
    resize_cache *cache = context ? context->sizes : NULL;
    if (!cache) cache = limn_allocate(1, sizeof *cache, error);
    if (!cache) return -1;
    if (context) context->sizes = cache;
    const int status = resample(cache, in, part, out, error);
    if (!context) resize_cache_free(cache);
    return status;
}

int picture_fit(const picture *in, picture *out, resize_mode mode, size_t size, picture_context *context, limn_error *error) {
    *out = (picture){0};
    if (mode == RESIZE_NONE) return copy_picture(in, out, error);
    if (in->width == 0 || in->height == 0) return limn_fail(error, "an empty picture cannot be resized");
    if (in->width > MAX_SIDE || in->height > MAX_SIDE)
        return limn_fail(error, "%zux%zu pixels are too long a strip to resize", in->width, in->height);
    if (size == 0 || size > MAX_SIDE) return limn_fail(error, "a size of %zu pixels is not between 1 and %d", size, MAX_SIDE);
    region part = {0, 0, (double)in->width, (double)in->height};
    if (in->covered_width > 0 && in->covered_height > 0) {
        part.left = in->covered_left;
        part.top = in->covered_top;
        part.width = in->covered_width;
        part.height = in->covered_height;
    }
    bool by_longer = mode == RESIZE_BORDER || mode == RESIZE_KEEP_RATIO_LARGEST;
    double side = by_longer ? fmax(part.width, part.height) : fmin(part.width, part.height); /* it becomes `size` */
    size_t width = scaled(part.width, size, side), height = scaled(part.height, size, side);
    if (mode == RESIZE_CENTER_CROP) {
        double across = part.width / (double)width, down = part.height / (double)height;
        part.left += (double)((width - size) / 2) * across;
        part.top += (double)((height - size) / 2) * down;
        part.width = (double)size * across;
        part.height = (double)size * down;
        width = height = size;
    }
    size_t sheet_width = mode == RESIZE_BORDER ? size : width, sheet_height = mode == RESIZE_BORDER ? size : height;
    if (width > MAX_SIDE || height > MAX_SIDE || sheet_width > MAX_PIXELS / sheet_height)
        return limn_fail(error, "%zux%zu pixels would become %zux%zu", in->width, in->height, sheet_width, sheet_height);

    picture drawn = {0};
    if ((double)in->width == part.width && (double)in->height == part.height && width == in->width && height == in->height) {
        if (copy_picture(in, &drawn, error)) return -1;
    } else {
        if (picture_reserve(&drawn, width, height, error)) return -1;
        if (resample_with(context, in, &part, &drawn, error)) {
            picture_free(&drawn);
            return -1;
        }
    }
    if (mode != RESIZE_BORDER || (width == size && height == size)) {
        *out = drawn;
        return 0;
    }
    int status = picture_create(out, size, size, error);
    if (!status) {
        memset(out->pixels, 255, size * size * 3);
        picture_paste(out, &drawn, (size - width) / 2, (size - height) / 2);
    }
    picture_free(&drawn);
    return status;
}
