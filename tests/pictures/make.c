#include "make.h"

#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <webp/encode.h>
#include <webp/mux.h>

/* Needs FILE, hence after the others. */
#include <jpeglib.h>

static void need(bool ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "cannot make a test picture: %s\n", what);
    abort();
}

static double soft_noise(double x, double y, uint64_t stream) {
    double fx = floor(x), fy = floor(y), tx = x - fx, ty = y - fy;
    double corner[4];
    for (int i = 0; i < 4; i++) {
        uint64_t cell = (uint64_t)(fx + (i & 1)) * 65536 + (uint64_t)(fy + (i >> 1));
        corner[i] = limn_random_uniform(17, stream, cell);
    }
    tx = tx * tx * (3 - 2 * tx);
    ty = ty * ty * (3 - 2 * ty);
    double top = corner[0] + (corner[1] - corner[0]) * tx, bottom = corner[2] + (corner[3] - corner[2]) * tx;
    return top + (bottom - top) * ty;
}

picture make_photo(size_t width, size_t height, uint64_t seed) {
    picture made;
    need(picture_create(&made, width, height, NULL) == 0, "memory");
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++) {
                double value = 0;
                for (int octave = 0; octave < 6; octave++) {
                    double grain = 64.0 / (1 << octave);
                    uint64_t stream = seed * 64 + (uint64_t)octave * 3 + (octave < 3 ? c : 0);
                    value += soft_noise((double)x / grain, (double)y / grain, stream) * 120.0 / (1 << octave);
                }
                double dx = (double)x - (double)width * 0.6, dy = (double)y - (double)height * 0.4;
                if (dx * dx + dy * dy < (double)(width * height) * 0.03) value = 250.0 - value * (double)c * 0.4;
                if (x * 3 + y * 2 > width * 3) value *= 0.5;
                made.pixels[(y * width + x) * 3 + c] = (unsigned char)fmin(fmax(value, 0), 255);
            }
    return made;
}

picture make_plain(size_t width, size_t height, unsigned char red, unsigned char green, unsigned char blue) {
    picture made;
    need(picture_create(&made, width, height, NULL) == 0, "memory");
    for (size_t i = 0; i < width * height; i++) {
        made.pixels[i * 3] = red;
        made.pixels[i * 3 + 1] = green;
        made.pixels[i * 3 + 2] = blue;
    }
    return made;
}

static limn_buffer take(void *data, size_t size) {
    limn_buffer out = {0};
    need(limn_buffer_append(&out, data, size, NULL) == 0, "memory");
    return out;
}

limn_buffer make_jpeg(const picture *source, const unsigned char *inks, size_t width, size_t height, jpeg_kind kind) {
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    info.err = jpeg_std_error(&errors); /* its error_exit ends the program, as it should here */
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &bytes, &size);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = kind.cmyk ? 4 : 3;
    info.in_color_space = kind.cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_set_defaults(&info);
    if (kind.grey) jpeg_set_colorspace(&info, JCS_GRAYSCALE);
    if (kind.cmyk == 2) jpeg_set_colorspace(&info, JCS_YCCK);
    if (kind.no_adobe_marker) info.write_Adobe_marker = FALSE;
    jpeg_set_quality(&info, 95, TRUE);
    if (!kind.subsample)
        for (int c = 0; c < info.num_components; c++) info.comp_info[c].h_samp_factor = info.comp_info[c].v_samp_factor = 1;
    if (kind.progressive) jpeg_simple_progression(&info);
    jpeg_scan_info scans[3] = {{1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
    if (kind.one_scan_each) {
        info.scan_info = scans;
        info.num_scans = 3;
    }
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        const unsigned char *row =
            kind.cmyk ? inks + info.next_scanline * width * 4 : source->pixels + info.next_scanline * width * 3;
        JSAMPROW rows = (JSAMPROW)(uintptr_t)row;
        jpeg_write_scanlines(&info, &rows, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    limn_buffer out = take(bytes, size);
    free(bytes);
    return out;
}

static void append_png(png_structp png, png_bytep data, size_t size) {
    need(limn_buffer_append(png_get_io_ptr(png), data, size, NULL) == 0, "memory");
}

limn_buffer make_png(const unsigned char *rows, size_t row_bytes, size_t width, size_t height, int colour_type, int depth,
                     bool interlaced, bool transparent) {
    limn_buffer out = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    if (setjmp(png_jmpbuf(png))) need(false, "libpng");
    png_set_write_fn(png, &out, append_png, NULL);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, colour_type,
                 interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (colour_type == PNG_COLOR_TYPE_PALETTE) {
        png_color palette[3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}};
        png_byte alpha[3] = {255, 128, 0};
        png_set_PLTE(png, info, palette, 3);
        png_set_tRNS(png, info, alpha, 3, NULL);
    } else if (transparent) {
        png_color_16 grey = {.gray = 1};
        png_set_tRNS(png, info, NULL, 0, &grey);
    }
    png_text text = {.compression = PNG_TEXT_COMPRESSION_zTXt, .key = "Comment", .text = "made for a test", .text_length = 15};
    png_set_text(png, info, &text, 1);
    png_bytep *pointers = calloc(height, sizeof *pointers);
    need(pointers != NULL, "memory");
    for (size_t y = 0; y < height; y++) pointers[y] = (png_bytep)(uintptr_t)(rows + y * row_bytes);
    png_set_rows(png, info, pointers);
    png_write_png(png, info, PNG_TRANSFORM_IDENTITY, NULL);
    png_destroy_write_struct(&png, &info);
    free(pointers);
    return out;
}

limn_buffer make_webp(const unsigned char *rgba, size_t width, size_t height, bool lossless) {
    uint8_t *bytes = NULL;
    size_t size = lossless ? WebPEncodeLosslessRGBA(rgba, (int)width, (int)height, (int)width * 4, &bytes)
                           : WebPEncodeRGBA(rgba, (int)width, (int)height, (int)width * 4, 95, &bytes);
    need(size > 0, "libwebp");
    limn_buffer out = take(bytes, size);
    WebPFree(bytes);
    return out;
}

limn_buffer make_animated_webp(size_t width, size_t height, const unsigned char (*colours)[4], size_t frames) {
    WebPAnimEncoder *encoder = WebPAnimEncoderNew((int)width, (int)height, NULL);
    WebPConfig config;
    need(encoder && WebPConfigInit(&config), "libwebp");
    config.lossless = 1;
    unsigned char *rgba = malloc(width * height * 4);
    need(rgba != NULL, "memory");
    for (size_t frame = 0; frame < frames; frame++) {
        WebPPicture drawn;
        need(WebPPictureInit(&drawn), "libwebp");
        drawn.use_argb = 1;
        drawn.width = (int)width;
        drawn.height = (int)height;
        for (size_t i = 0; i < width * height; i++) memcpy(rgba + i * 4, colours[frame], 4);
        need(WebPPictureImportRGBA(&drawn, rgba, (int)width * 4), "libwebp");
        need(WebPAnimEncoderAdd(encoder, &drawn, (int)frame * 100, &config), "libwebp");
        WebPPictureFree(&drawn);
    }
    WebPData data;
    need(WebPAnimEncoderAdd(encoder, NULL, (int)frames * 100, NULL) && WebPAnimEncoderAssemble(encoder, &data), "libwebp");
    limn_buffer out = take((void *)(uintptr_t)data.bytes, data.size);
    WebPDataClear(&data);
    WebPAnimEncoderDelete(encoder);
    free(rgba);
    return out;
}

unsigned char *make_rgba(const picture *source, bool graded) {
    size_t width = source->width, height = source->height;
    unsigned char *rgba = malloc(width * height * 4);
    need(rgba != NULL, "memory");
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            memcpy(rgba + (y * width + x) * 4, source->pixels + (y * width + x) * 3, 3);
            rgba[(y * width + x) * 4 + 3] = graded ? (unsigned char)(x + y) : 255;
        }
    return rgba;
}
