#include "make.h"

#include <lcms2.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <webp/encode.h>
#include <webp/mux.h>
#include <zlib.h>

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
    if (kind.arithmetic) info.arith_code = TRUE;
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

/* ---------------------------------------------------------------- EXIF and profiles */

static void append(limn_buffer *out, const void *data, size_t size) {
    need(limn_buffer_append(out, data, size, NULL) == 0, "memory");
}

static void insert(limn_buffer *file, size_t at, const limn_buffer *piece) {
    limn_buffer joined = {0};
    append(&joined, file->data, at);
    append(&joined, piece->data, piece->size);
    append(&joined, file->data + at, file->size - at);
    limn_buffer_free(file);
    *file = joined;
}

limn_buffer make_exif(unsigned orientation, unsigned type, bool big_endian) {
    const unsigned char big[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, (unsigned char)type, 0, 0, 0, 1};
    const unsigned char little[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 0x01, (unsigned char)type, 0, 1, 0, 0, 0};
    const unsigned char high = (unsigned char)(orientation >> 8), low = (unsigned char)orientation;
    limn_buffer out = {0};
    append(&out, big_endian ? big : little, sizeof big);
    if (type == 4)
        append(&out, big_endian ? (unsigned char[]){0, 0, high, low} : (unsigned char[]){low, high, 0, 0}, 4);
    else
        append(&out, big_endian ? (unsigned char[]){high, low, 0, 0} : (unsigned char[]){low, high, 0, 0}, 4);
    append(&out, "\0\0\0\0", 4);
    return out;
}

void put_png_chunk(limn_buffer *png, const char *type, const void *data, size_t size) {
    limn_buffer chunk = {0};
    append(&chunk,
           (unsigned char[]){(unsigned char)(size >> 24), (unsigned char)(size >> 16), (unsigned char)(size >> 8),
                             (unsigned char)size},
           4);
    append(&chunk, type, 4);
    append(&chunk, data, size);
    const uint32_t checksum = (uint32_t)crc32(0, (const unsigned char *)chunk.data + 4, (uInt)size + 4);
    append(&chunk,
           (unsigned char[]){(unsigned char)(checksum >> 24), (unsigned char)(checksum >> 16), (unsigned char)(checksum >> 8),
                             (unsigned char)checksum},
           4);
    insert(png, 33, &chunk);
    limn_buffer_free(&chunk);
}

static void put_jpeg_segment(limn_buffer *jpeg, unsigned char marker, const char *name, size_t name_size, const void *data,
                             size_t size) {
    const size_t length = 2 + name_size + size;
    need(length < 65536, "a segment too long");
    limn_buffer segment = {0};
    append(&segment, (unsigned char[]){0xFF, marker, (unsigned char)(length >> 8), (unsigned char)length}, 4);
    append(&segment, name, name_size);
    append(&segment, data, size);
    insert(jpeg, 2, &segment);
    limn_buffer_free(&segment);
}

static void put_jpeg_profile(limn_buffer *jpeg, const limn_buffer *profile, size_t part_size) {
    const size_t part = part_size ? part_size : 65000, count = (profile->size + part - 1) / part;
    need(count < 256, "too many parts");
    for (size_t i = 0; i < count; i++) { /* each goes before those that are there */
        const size_t size = profile->size - i * part < part ? profile->size - i * part : part;
        char name[14] = "ICC_PROFILE";
        name[12] = (char)(i + 1);
        name[13] = (char)count;
        put_jpeg_segment(jpeg, 0xE2, name, sizeof name, profile->data + i * part, size);
    }
}

static void put_png_profile(limn_buffer *png, const limn_buffer *profile) {
    uLongf packed = compressBound((uLong)profile->size);
    unsigned char *data = malloc(packed + 3);
    need(data != NULL, "memory");
    memcpy(data, "p\0", 3); /* its name, and method 0 */
    need(compress(data + 3, &packed, (const unsigned char *)profile->data, (uLong)profile->size) == Z_OK, "zlib");
    put_png_chunk(png, "iCCP", data, packed + 3);
    free(data);
}

static void put_webp_chunk(limn_buffer *webp, const char *name, const limn_buffer *bytes) {
    const WebPData file = {.bytes = (const uint8_t *)webp->data, .size = webp->size};
    const WebPData chunk = {.bytes = (const uint8_t *)bytes->data, .size = bytes->size};
    WebPData out;
    WebPMux *mux = WebPMuxCreate(&file, 1);
    need(mux && WebPMuxSetChunk(mux, name, &chunk, 1) == WEBP_MUX_OK && WebPMuxAssemble(mux, &out) == WEBP_MUX_OK,
         "libwebpmux");
    limn_buffer_free(webp);
    append(webp, out.bytes, out.size);
    WebPDataClear(&out);
    WebPMuxDelete(mux);
}

void put_metadata(limn_buffer *file, const limn_buffer *exif, const limn_buffer *profile, size_t part_size) {
    switch (picture_sniff((const unsigned char *)file->data, file->size)) {
    case PICTURE_JPEG:
        if (exif) put_jpeg_segment(file, 0xE1, "Exif\0", 6, exif->data, exif->size);
        if (profile) put_jpeg_profile(file, profile, part_size);
        break;
    case PICTURE_PNG:
        if (exif) put_png_chunk(file, "eXIf", exif->data, exif->size);
        if (profile) put_png_profile(file, profile);
        break;
    default:
        if (exif) put_webp_chunk(file, "EXIF", exif);
        if (profile) put_webp_chunk(file, "ICCP", profile);
        break;
    }
}

static limn_buffer save_profile(cmsHPROFILE profile) {
    cmsUInt32Number size = 0;
    need(profile && cmsSaveProfileToMem(profile, NULL, &size), "lcms2");
    void *data = malloc(size);
    need(data && cmsSaveProfileToMem(profile, data, &size), "lcms2");
    limn_buffer out = take(data, size);
    free(data);
    cmsCloseProfile(profile);
    return out;
}

limn_buffer make_rgb_profile(void) {
    const cmsCIExyY white = {0.3127, 0.3290, 1};
    const cmsCIExyYTRIPLE primaries = {{0.64, 0.33, 1}, {0.21, 0.71, 1}, {0.15, 0.06, 1}};
    cmsToneCurve *curve = cmsBuildGamma(NULL, 563.0 / 256);
    cmsToneCurve *curves[3] = {curve, curve, curve};
    limn_buffer out = save_profile(cmsCreateRGBProfile(&white, &primaries, curves));
    cmsFreeToneCurve(curve);
    return out;
}

limn_buffer make_srgb_profile(void) {
    return save_profile(cmsCreate_sRGBProfile());
}

limn_buffer make_grey_profile(double gamma) {
    cmsToneCurve *curve = cmsBuildGamma(NULL, gamma);
    limn_buffer out = save_profile(cmsCreateGrayProfile(cmsD50_xyY(), curve));
    cmsFreeToneCurve(curve);
    return out;
}

/* Cyan alone changes the light, and only from white to a middle grey: nothing that CMYK is without its profile. */
static cmsInt32Number ink_to_lab(const cmsUInt16Number in[], cmsUInt16Number out[], void *nothing) {
    (void)nothing;
    const cmsCIELab lab = {100 - 50 * in[0] / 65535.0 - 45 * in[3] / 65535.0, 0, 0};
    cmsFloat2LabEncoded(out, &lab);
    return TRUE;
}

limn_buffer make_cmyk_profile(void) {
    cmsHPROFILE profile = cmsCreateProfilePlaceholder(NULL);
    cmsPipeline *pipeline = cmsPipelineAlloc(NULL, 4, 3);
    cmsStage *table = cmsStageAllocCLut16bit(NULL, 5, 4, 3, NULL);
    need(profile && pipeline && table && cmsStageSampleCLut16bit(table, ink_to_lab, NULL, 0), "lcms2");
    /* A lutAToBType is curves, a table, curves. */
    need(cmsPipelineInsertStage(pipeline, cmsAT_END, cmsStageAllocToneCurves(NULL, 4, NULL)) &&
             cmsPipelineInsertStage(pipeline, cmsAT_END, table) &&
             cmsPipelineInsertStage(pipeline, cmsAT_END, cmsStageAllocToneCurves(NULL, 3, NULL)),
         "lcms2");
    cmsSetProfileVersion(profile, 4.3);
    cmsSetDeviceClass(profile, cmsSigOutputClass);
    cmsSetColorSpace(profile, cmsSigCmykData);
    cmsSetPCS(profile, cmsSigLabData);
    need(cmsWriteTag(profile, cmsSigAToB0Tag, pipeline), "lcms2");
    cmsPipelineFree(pipeline);
    return save_profile(profile);
}
