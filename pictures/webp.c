/* WebP by libwebp: still pictures whole, and the first frame of animated ones on its canvas; encoding. */
#include "pictures/internal.h"

#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>

static int fail_status(VP8StatusCode status, limn_error *error) {
    switch (status) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
        return limn_fail(error, "truncated WebP");
    case VP8_STATUS_OUT_OF_MEMORY:
        return limn_fail(error, "no memory for a WebP picture");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return limn_fail(error, "WebP with a feature that libwebp does not know");
    default:
        return limn_fail(error, "damaged WebP");
    }
}

static int decode_still(picture *self, const picture_source *source, bool alpha, limn_error *error) {
    size_t width = source->original_width, height = source->original_height, channels = alpha ? 4 : 3;
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config)) return limn_fail(error, "libwebp is older than the one Limn was built with");
    unsigned char *pixels = picture_memory(width * height, channels, error);
    if (!pixels) return -1;
    config.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = pixels;
    config.output.u.RGBA.stride = (int)(width * channels);
    config.output.u.RGBA.size = width * height * channels;
    VP8StatusCode status = WebPDecode(source->data, source->size, &config);
    WebPFreeDecBuffer(&config.output);
    if (status != VP8_STATUS_OK) {
        free(pixels);
        return fail_status(status, error);
    }
    if (alpha)
        picture_take_rgba(self, pixels, width, height);
    else
        *self = (picture){.width = width, .height = height, .pixels = pixels};
    return 0;
}

static int decode_first_frame(picture *self, const picture_source *source, limn_error *error) {
    size_t width = source->original_width, height = source->original_height;
    WebPAnimDecoderOptions options;
    if (!WebPAnimDecoderOptionsInit(&options)) return limn_fail(error, "libwebp is older than the one Limn was built with");
    options.color_mode = MODE_RGBA;
    WebPData data = {.bytes = source->data, .size = source->size};
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(&data, &options);
    if (!decoder) return limn_fail(error, "damaged animated WebP");
    uint8_t *canvas; /* the decoder's own */
    int timestamp, status = -1;
    unsigned char *pixels = NULL;
    if (!WebPAnimDecoderGetNext(decoder, &canvas, &timestamp))
        limn_fail(error, "damaged animated WebP");
    else if ((pixels = picture_memory(width * height, 4, error)))
        status = 0;
    if (pixels) {
        memcpy(pixels, canvas, width * height * 4);
        picture_take_rgba(self, pixels, width, height);
    }
    WebPAnimDecoderDelete(decoder);
    return status;
}

int picture_decode_webp(picture *self, picture_source *source, limn_error *error) {
    /* The length in the RIFF header, little-endian, counts what follows it. libwebp decodes a file whose tail is missing as
     * long as the pixels are there; a download that stopped short is told apart here. */
    const unsigned char *length = source->data + 4;
    size_t declared = (size_t)length[0] | (size_t)length[1] << 8 | (size_t)length[2] << 16 | (size_t)length[3] << 24;
    if (declared > source->size - 8) return limn_fail(error, "truncated WebP");
    WebPBitstreamFeatures features;
    VP8StatusCode status = WebPGetFeatures(source->data, source->size, &features);
    if (status != VP8_STATUS_OK) return fail_status(status, error);
    if (features.width <= 0 || features.height <= 0) return limn_fail(error, "damaged WebP");
    if (picture_note_size(source, (size_t)features.width, (size_t)features.height, error)) return -1;
    if (features.has_animation) return decode_first_frame(self, source, error);
    return decode_still(self, source, features.has_alpha, error);
}

int picture_encode_webp(const picture *self, int quality, limn_buffer *out, limn_error *error) {
    const size_t limit = WEBP_MAX_DIMENSION;
    if (self->width == 0 || self->width > limit || self->height == 0 || self->height > limit)
        return limn_fail(error, "a WebP cannot be %zux%zu pixels: each side is 1 to %zu", self->width, self->height, limit);
    if (quality < 1 || quality > 100) return limn_fail(error, "WebP quality %d is not between 1 and 100", quality);
    const int width = (int)self->width, height = (int)self->height;
    uint8_t *bytes = NULL;
    const size_t size = quality == 100 ? WebPEncodeLosslessRGB(self->pixels, width, height, width * 3, &bytes)
                                       : WebPEncodeRGB(self->pixels, width, height, width * 3, (float)quality, &bytes);
    const int status =
        size ? limn_buffer_append(out, bytes, size, error) : limn_fail(error, "libwebp cannot encode the picture");
    WebPFree(bytes);
    return status;
}
