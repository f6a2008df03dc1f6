/* Where JPEG, PNG and WebP files keep EXIF and the ICC profile: a walk over segments or chunks, each length checked. */
#include "pictures/internal.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PROFILE_MAX_BYTES = 4 << 20, JPEG_PROFILE_PARTS = 255 };

typedef struct {
    const unsigned char *data;
    size_t size;
} span;

static uint32_t read_u32_big(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t read_u32_little(const unsigned char *p) {
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void take_exif(picture_metadata *out, const unsigned char *data, size_t size) {
    if (out->exif) return;
    out->exif = data;
    out->exif_size = size;
}

/* ---------------------------------------------------------------- JPEG */

/* The parts of ICC.1 annex B.4: numbered from 1, in any order, each saying how many there are. */
static void join_parts(picture_metadata *out, const span parts[JPEG_PROFILE_PARTS + 1], size_t count) {
    size_t size = 0;
    for (size_t i = 1; i <= count; i++) {
        if (!parts[i].data) return;
        size += parts[i].size;
    }
    if (size > PROFILE_MAX_BYTES) return;
    for (size_t i = 1; i <= count; i++)
        if (limn_buffer_append(&out->profile, parts[i].data, parts[i].size, NULL)) return limn_buffer_free(&out->profile);
}

static void read_jpeg(picture_metadata *out, const unsigned char *data, size_t size, bool profile) {
    span parts[JPEG_PROFILE_PARTS + 1];
    size_t count = 0;
    for (size_t at = 2; size - at >= 4 && data[at] == 0xFF;) {
        const unsigned char marker = data[at + 1], *segment = data + at + 4;
        if (marker == 0xFF) { /* a fill byte */
            at++;
            continue;
        }
        const size_t length = (size_t)data[at + 2] << 8 | data[at + 3];
        if (marker == 0xDA || length < 2 || length > size - at - 2) break;
        if (marker == 0xE1 && length >= 8 && !memcmp(segment, "Exif\0", 6)) take_exif(out, segment + 6, length - 8);
        if (profile && marker == 0xE2 && length > 16 && !memcmp(segment, "ICC_PROFILE", 12)) {
            if (!count) memset(parts, 0, sizeof parts);
            if (!count) count = segment[13];
            if (segment[13] != count || segment[12] == 0 || segment[12] > count || parts[segment[12]].data)
                profile = false;
            else
                parts[segment[12]] = (span){segment + 14, length - 16};
        }
        at += 2 + length;
    }
    if (profile && count) join_parts(out, parts, count);
}

/* ---------------------------------------------------------------- PNG */

/* iCCP: a name of 1 to 79 bytes and a NUL, method 0, a zlib stream. */
static void inflate_profile(picture_metadata *out, const unsigned char *data, size_t size) {
    const size_t name = strnlen((const char *)data, size < 80 ? size : 80);
    if (name >= size || name > 79 || size - name < 3 || data[name + 1] != 0 || out->profile.size) return;
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)(data + name + 2), .avail_in = (uInt)(size - name - 2)};
    unsigned char piece[16384];
    int status = inflateInit(&stream);
    if (status != Z_OK) return;
    while (status == Z_OK && out->profile.size <= PROFILE_MAX_BYTES) {
        stream.next_out = piece;
        stream.avail_out = sizeof piece;
        status = inflate(&stream, Z_NO_FLUSH);
        const size_t made = sizeof piece - stream.avail_out;
        if (made && limn_buffer_append(&out->profile, piece, made, NULL)) status = Z_MEM_ERROR;
        if (!made && status == Z_OK) break;
    }
    inflateEnd(&stream);
    if (status != Z_STREAM_END || out->profile.size > PROFILE_MAX_BYTES) limn_buffer_free(&out->profile);
}

static void read_png(picture_metadata *out, const unsigned char *data, size_t size, bool profile) {
    span compressed = {0};
    bool srgb = false;
    for (size_t at = 8; size - at >= 12;) {
        const size_t length = read_u32_big(data + at);
        const unsigned char *type = data + at + 4;
        if (length > size - at - 12) break;
        if (!memcmp(type, "eXIf", 4)) take_exif(out, type + 4, length);
        if (!memcmp(type, "sRGB", 4)) srgb = true; /* stands over iCCP (PNG 3, 4.3) */
        if (!memcmp(type, "iCCP", 4) && !compressed.data) compressed = (span){type + 4, length};
        at += 12 + length;
    }
    if (profile && compressed.data && !srgb) inflate_profile(out, compressed.data, compressed.size);
}

/* ---------------------------------------------------------------- WebP */

static void read_webp(picture_metadata *out, const unsigned char *data, size_t size, bool profile) {
    for (size_t at = 12; size - at >= 8;) {
        const size_t length = read_u32_little(data + at + 4);
        const unsigned char *body = data + at + 8;
        if (length > size - at - 8) return;
        if (!memcmp(data + at, "EXIF", 4)) {
            const bool headed = length >= 6 && !memcmp(body, "Exif\0", 6); /* JPEG's header, which some writers keep */
            take_exif(out, body + (headed ? 6 : 0), length - (headed ? 6 : 0));
        }
        if (profile && !out->profile.size && !memcmp(data + at, "ICCP", 4) && length <= PROFILE_MAX_BYTES)
            limn_buffer_append(&out->profile, body, length, NULL); /* out of memory: as if there were none */
        const size_t padded = length + (length & 1);
        if (padded > size - at - 8) return;
        at += 8 + padded;
    }
}

void metadata_read(picture_metadata *out, const unsigned char *data, size_t size, bool profile) {
    *out = (picture_metadata){0};
    switch (picture_sniff(data, size)) {
    case PICTURE_JPEG:
        read_jpeg(out, data, size, profile);
        break;
    case PICTURE_PNG:
        read_png(out, data, size, profile);
        break;
    case PICTURE_WEBP:
        read_webp(out, data, size, profile);
        break;
    default:
        break;
    }
}
