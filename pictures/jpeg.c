/* JPEG by libjpeg-turbo. Its errors come back by longjmp, so everything that must survive one lives in a struct of the caller's
 * frame: locals of the function that calls setjmp would be undefined after the jump. */
#include "pictures/internal.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

/* After the headers it leans on. */
#include <jerror.h>
#include <jpeglib.h>

enum { MAX_SCANS = 200 }; /* a progressive file has about ten; each costs a pass over all coefficients, whatever its size */

typedef struct {
    struct jpeg_error_mgr manager; /* first, so that a pointer to it is a pointer to this */
    jmp_buf escape;
    limn_error *error;
} jpeg_errors;

static void give_up(j_common_ptr info) {
    jpeg_errors *errors = (jpeg_errors *)info->err;
    char reason[JMSG_LENGTH_MAX];
    errors->manager.format_message(info, reason);
    limn_fail(errors->error, "damaged JPEG: %s", reason);
    longjmp(errors->escape, 1);
}

/* libjpeg goes on after a warning, with grey where data are missing. Only warnings that leave the pixels right are let pass. */
static void judge_warning(j_common_ptr info, int level) {
    jpeg_errors *errors = (jpeg_errors *)info->err;
    if (level >= 0) return; /* a trace message */
    switch (errors->manager.msg_code) {
    case JWRN_EXTRANEOUS_DATA: /* bytes between the data and the next marker: some cameras pad */
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_BOGUS_ICC:
        return;
    case JWRN_JPEG_EOF:
        limn_fail(errors->error, "truncated JPEG");
        longjmp(errors->escape, 1);
    default:
        give_up(info);
    }
}

static void print_nothing(j_common_ptr info) {
    (void)info;
}

static void set_errors(jpeg_errors *errors, limn_error *error) {
    jpeg_std_error(&errors->manager);
    errors->manager.error_exit = give_up;
    errors->manager.emit_message = judge_warning;
    errors->manager.output_message = print_nothing;
    errors->error = error;
}

/* ---------------------------------------------------------------- decoding */

typedef struct {
    struct jpeg_decompress_struct info;
    struct jpeg_progress_mgr progress;
    jpeg_errors errors;
    picture_source *source;
    picture *out;
    unsigned char *cmyk_row;
    const colour_transform *inks; /* of CMYK by its profile; NULL without one */
} jpeg_decoder;

static void count_scans(j_common_ptr info) {
    jpeg_errors *errors = (jpeg_errors *)info->err;
    if (((j_decompress_ptr)info)->input_scan_number <= MAX_SCANS) return;
    limn_fail(errors->error, "JPEG with more than %d scans", MAX_SCANS);
    longjmp(errors->escape, 1);
}

/* The smallest of 1/8, 1/4, 1/2 and 1 (those with SIMD code) that keeps the shorter side at min_side or more. */
static unsigned choose_eighths(const picture_source *source) {
    size_t shorter = source->original_width < source->original_height ? source->original_width : source->original_height;
    if (source->min_side == 0) return 8;
    for (unsigned eighths = 1; eighths < 8; eighths *= 2)
        if ((shorter * eighths + 7) / 8 >= source->min_side) return eighths;
    return 8;
}

/* CMYK without a colour profile, as everyone shows it: each ink and black absorb in proportion. Adobe's files (all there are,
 * but for a few) store the complement of each ink. */
static void cmyk_to_rgb(unsigned char *rgb, const unsigned char *cmyk, size_t width, bool complement) {
    for (size_t x = 0; x < width; x++) {
        unsigned white = complement ? cmyk[x * 4 + 3] : 255u - cmyk[x * 4 + 3];
        for (size_t c = 0; c < 3; c++) {
            unsigned light = complement ? cmyk[x * 4 + c] : 255u - cmyk[x * 4 + c];
            rgb[x * 3 + c] = (unsigned char)((light * white + 127) / 255);
        }
    }
}

static int decode_all(jpeg_decoder *decoder, limn_error *error) {
    struct jpeg_decompress_struct *info = &decoder->info;
    picture *out = decoder->out;
    if (setjmp(decoder->errors.escape)) return -1;
    jpeg_create_decompress(info);
    decoder->progress.progress_monitor = count_scans;
    info->progress = &decoder->progress;
    jpeg_mem_src(info, decoder->source->data, decoder->source->size);
    jpeg_read_header(info, TRUE);
    if (picture_note_size(decoder->source, info->image_width, info->image_height, error)) return -1;
    bool cmyk = info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK;
    decoder->source->grey = info->jpeg_color_space == JCS_GRAYSCALE;
    info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    info->scale_num = choose_eighths(decoder->source);
    info->scale_denom = 8;
    jpeg_calc_output_dimensions(info);
    if (picture_reserve(out, info->output_width, info->output_height, error)) return -1;
    if (info->scale_num < 8) {
        out->covered_width = (double)info->image_width * info->scale_num / 8;
        out->covered_height = (double)info->image_height * info->scale_num / 8;
    }
    if (cmyk) {
        decoder->cmyk_row = limn_allocate(out->width, 4, error);
        if (!decoder->cmyk_row) return -1;
        if (decoder->source->profile)
            decoder->inks = colour_transform_find(decoder->source->context, decoder->source->profile,
                                                  info->saw_Adobe_marker ? COLOUR_CMYK_COMPLEMENT : COLOUR_CMYK);
        decoder->source->converted = true;
    }
    jpeg_start_decompress(info);
    while (info->output_scanline < info->output_height) {
        unsigned char *rgb = out->pixels + (size_t)info->output_scanline * out->width * 3;
        JSAMPROW row = cmyk ? decoder->cmyk_row : rgb;
        if (jpeg_read_scanlines(info, &row, 1) != 1) return limn_fail(error, "truncated JPEG");
        if (decoder->inks)
            colour_transform_apply(decoder->inks, decoder->cmyk_row, rgb, out->width);
        else if (cmyk)
            cmyk_to_rgb(rgb, decoder->cmyk_row, out->width, info->saw_Adobe_marker);
    }
    jpeg_finish_decompress(info); /* reads to the end marker: a file cut in its last bytes is found here */
    return 0;
}

int picture_decode_jpeg(picture *self, picture_source *source, limn_error *error) {
    jpeg_decoder decoder = {.source = source, .out = self};
    set_errors(&decoder.errors, error);
    decoder.info.err = &decoder.errors.manager;
    int status = decode_all(&decoder, error);
    jpeg_destroy_decompress(&decoder.info);
    free(decoder.cmyk_row);
    if (status) picture_free(self);
    return status;
}

/* ---------------------------------------------------------------- encoding */

typedef struct {
    struct jpeg_compress_struct info;
    jpeg_errors errors;
    unsigned char *bytes; /* libjpeg's, from malloc */
    unsigned long size;
} jpeg_encoder;

static int encode_all(jpeg_encoder *encoder, const picture *self, int quality) {
    struct jpeg_compress_struct *info = &encoder->info;
    if (setjmp(encoder->errors.escape)) return -1;
    jpeg_create_compress(info);
    jpeg_mem_dest(info, &encoder->bytes, &encoder->size);
    info->image_width = (JDIMENSION)self->width;
    info->image_height = (JDIMENSION)self->height;
    info->input_components = 3;
    info->in_color_space = JCS_RGB;
    jpeg_set_defaults(info);
    jpeg_set_quality(info, quality, TRUE);
    if (quality >= 90) /* whoever asks for this much wants sharp colour too */
        info->comp_info[0].h_samp_factor = info->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(info, TRUE);
    while (info->next_scanline < info->image_height) {
        JSAMPROW row = self->pixels + (size_t)info->next_scanline * self->width * 3;
        jpeg_write_scanlines(info, &row, 1);
    }
    jpeg_finish_compress(info);
    return 0;
}

int picture_encode_jpeg(const picture *self, int quality, limn_buffer *out, limn_error *error) {
    if (self->width == 0 || self->width > JPEG_MAX_DIMENSION || self->height == 0 || self->height > JPEG_MAX_DIMENSION)
        return limn_fail(error, "a JPEG cannot be %zux%zu pixels: each side is 1 to %ld", self->width, self->height,
                         JPEG_MAX_DIMENSION);
    if (quality < 1 || quality > 100) return limn_fail(error, "JPEG quality %d is not between 1 and 100", quality);
    jpeg_encoder encoder = {0};
    set_errors(&encoder.errors, error);
    encoder.info.err = &encoder.errors.manager;
    int status = encode_all(&encoder, self, quality);
    if (!status) status = limn_buffer_append(out, encoder.bytes, encoder.size, error);
    jpeg_destroy_compress(&encoder.info);
    free(encoder.bytes);
    return status;
}
