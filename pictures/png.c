/* PNG by libpng. As with JPEG, what must survive its longjmp lives in a struct of the caller's frame. */
#include "pictures/internal.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_BYTES_MAX = 8 * 1024 * 1024, /* memory one ancillary chunk may take */
    CHUNK_COUNT_MAX = 1000
};

typedef struct {
    png_structp png;
    png_infop info;
    limn_error *error;
    picture_source *source; /* reading */
    size_t position;
    unsigned char *pixels;
    png_bytep *rows;
    size_t width, height;
    bool alpha;
    limn_buffer *out; /* writing */
    bool out_failed;  /* the error is already filled in */
} png_work;

static void give_up(png_structp png, png_const_charp reason) {
    png_work *work = png_get_error_ptr(png);
    if (!work->out_failed) limn_fail(work->error, work->source ? "damaged PNG: %s" : "cannot write PNG: %s", reason);
    png_longjmp(png, 1);
}

static void ignore_warning(png_structp png, png_const_charp reason) {
    (void)png, (void)reason; /* what a warning is about leaves the pixels right: checksums are errors, see below */
}

/* ---------------------------------------------------------------- decoding */

static void read_bytes(png_structp png, png_bytep out, size_t count) {
    png_work *work = png_get_io_ptr(png);
    if (count > work->source->size - work->position) {
        limn_fail(work->error, "truncated PNG");
        png_longjmp(png, 1);
    }
    memcpy(out, work->source->data + work->position, count);
    work->position += count;
}

static int decode_all(png_work *work) {
    png_structp png = work->png;
    png_infop info = work->info;
    if (setjmp(png_jmpbuf(png))) return -1;
    png_set_read_fn(png, work, read_bytes);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* the size is checked below */
    png_set_chunk_malloc_max(png, CHUNK_BYTES_MAX);
    png_set_chunk_cache_max(png, CHUNK_COUNT_MAX);
    /* A negative count: unpack no ancillary chunk but tRNS, so profiles and texts cost nothing and can do nothing. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(png, info);
    work->width = png_get_image_width(png, info);
    work->height = png_get_image_height(png, info);
    if (picture_note_size(work->source, work->width, work->height, work->error)) return -1;

    work->source->grey = !(png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR);
    png_set_expand(png); /* palette to RGB, few bits to 8, tRNS to alpha */
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    size_t channels = png_get_channels(png, info);
    if ((channels != 3 && channels != 4) || png_get_bit_depth(png, info) != 8) png_error(png, "unknown kind of pixels");
    work->alpha = channels == 4;

    size_t pixels = work->width * work->height; /* under the limit */
    work->pixels = picture_memory(pixels, channels, work->error);
    work->rows = limn_allocate(work->height, sizeof *work->rows, work->error);
    if (!work->pixels || !work->rows) return -1;
    for (size_t y = 0; y < work->height; y++) work->rows[y] = work->pixels + y * work->width * channels;
    png_read_image(png, work->rows);
    png_read_end(png, NULL);
    return 0;
}

int picture_decode_png(picture *self, picture_source *source, limn_error *error) {
    png_work work = {.source = source, .error = error};
    work.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &work, give_up, ignore_warning);
    if (work.png) work.info = png_create_info_struct(work.png);
    int status = work.info ? decode_all(&work) : limn_fail(error, "no memory for a PNG decoder");
    png_destroy_read_struct(&work.png, &work.info, NULL);
    free(work.rows);
    if (status)
        free(work.pixels);
    else if (work.alpha)
        picture_take_rgba(self, work.pixels, work.width, work.height);
    else
        *self = (picture){.width = work.width, .height = work.height, .pixels = work.pixels};
    return status;
}

/* ---------------------------------------------------------------- encoding */

static void write_bytes(png_structp png, png_bytep data, size_t count) {
    png_work *work = png_get_io_ptr(png);
    if (limn_buffer_append(work->out, data, count, work->error)) {
        work->out_failed = true;
        png_error(png, "no memory");
    }
}

static void flush_nothing(png_structp png) {
    (void)png;
}

static int encode_all(png_work *work, const picture *self) {
    png_structp png = work->png;
    if (setjmp(png_jmpbuf(png))) return -1;
    png_set_write_fn(png, work, write_bytes, flush_nothing);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_IHDR(png, work->info, (png_uint_32)self->width, (png_uint_32)self->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, work->info);
    for (size_t y = 0; y < self->height; y++) png_write_row(png, self->pixels + y * self->width * 3);
    png_write_end(png, NULL);
    return 0;
}

int picture_encode_png(const picture *self, limn_buffer *out, limn_error *error) {
    if (self->width == 0 || self->width > PNG_UINT_31_MAX || self->height == 0 || self->height > PNG_UINT_31_MAX)
        return limn_fail(error, "a PNG cannot be %zux%zu pixels", self->width, self->height);
    png_work work = {.out = out, .error = error};
    work.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &work, give_up, ignore_warning);
    if (work.png) work.info = png_create_info_struct(work.png);
    int status = work.info ? encode_all(&work, self) : limn_fail(error, "no memory for a PNG encoder");
    png_destroy_write_struct(&work.png, &work.info);
    return status;
}

int picture_save_png(const picture *self, const char *path, limn_error *error) {
    limn_buffer bytes = {0};
    int status = picture_encode_png(self, &bytes, error);
    if (!status) status = limn_atomic_write(path, bytes.data, bytes.size, error);
    limn_buffer_free(&bytes);
    return status;
}
