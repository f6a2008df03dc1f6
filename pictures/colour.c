/* ICC profiles (ICC.1:2010) to sRGB by lcms2. Profiles are strangers' bytes: what is wrong with one leaves the pixels as they
 * are. */
#include "pictures/internal.h"

#include <lcms2.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRANSFORMS_KEPT = 4, HEADER_BYTES = 128, TAGS_MAX = 100, DARK = 128, CONTRAST = 64 };

struct colour_transform {
    limn_buffer profile;
    colour_kind kind;
    cmsHTRANSFORM transform; /* NULL: the profile is of no use */
    uint64_t used;
};

struct colour_cache {
    cmsContext library;
    colour_transform kept[TRANSFORMS_KEPT];
    uint64_t uses;
};

/* ---------------------------------------------------------------- sRGB itself */

static uint32_t read_u32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static double read_fixed(const unsigned char *p) { /* s15Fixed16Number */
    return (int32_t)read_u32(p) / 65536.0;
}

/* The tag's bytes, or NULL. */
static const unsigned char *find_tag(const limn_buffer *profile, const char *name, size_t *size) {
    const unsigned char *data = (const unsigned char *)profile->data;
    const size_t count = read_u32(data + HEADER_BYTES);
    for (size_t i = 0; i < count && i < TAGS_MAX; i++) {
        const size_t entry = HEADER_BYTES + 4 + 12 * i;
        if (profile->size - entry < 12) return NULL; /* entry ≤ size: the one before fitted */
        const size_t at = read_u32(data + entry + 4), bytes = read_u32(data + entry + 8);
        if (memcmp(data + entry, name, 4) != 0) continue;
        if (at > profile->size || bytes > profile->size - at) return NULL;
        *size = bytes;
        return data + at;
    }
    return NULL;
}

static double srgb_to_linear(double value) {
    return value <= 0.04045 ? value / 12.92 : pow((value + 0.055) / 1.055, 2.4);
}

/* True when the curve is sRGB's within what 8 bits show. */
static bool curve_is_srgb(const unsigned char *tag, size_t size) {
    static const double wanted[] = {2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045};
    if (size >= 32 && !memcmp(tag, "para", 4) && tag[8] == 0 && tag[9] == 3) {
        for (size_t i = 0; i < 5; i++)
            if (fabs(read_fixed(tag + 12 + 4 * i) - wanted[i]) > 0.0005) return false;
        return true;
    }
    if (size < 12 || memcmp(tag, "curv", 4) != 0) return false;
    const size_t count = read_u32(tag + 8);
    if (count < 16 || count > (size - 12) / 2) return false;
    for (size_t i = 0; i < 16; i++) {
        const size_t at = (count - 1) * i / 15;
        const double value = ((unsigned)tag[12 + 2 * at] << 8 | tag[13 + 2 * at]) / 65535.0;
        if (fabs(value - srgb_to_linear((double)at / (double)(count - 1))) > 0.002) return false;
    }
    return true;
}

bool colour_profile_is_srgb(const limn_buffer *profile) {
    static const struct {
        const char *colorant, *curve;
        double xyz[3]; /* adapted to D50 */
    } primaries[] = {{"rXYZ", "rTRC", {0.4361, 0.2225, 0.0139}},
                     {"gXYZ", "gTRC", {0.3851, 0.7169, 0.0971}},
                     {"bXYZ", "bTRC", {0.1431, 0.0606, 0.7141}}};
    size_t size;
    if (profile->size < HEADER_BYTES + 4 || memcmp(profile->data + 16, "RGB XYZ ", 8) != 0) return false;
    if (find_tag(profile, "A2B0", &size)) return false;
    for (size_t i = 0; i < 3; i++) {
        const unsigned char *colorant = find_tag(profile, primaries[i].colorant, &size);
        if (!colorant || size < 20) return false;
        for (size_t c = 0; c < 3; c++)
            if (fabs(read_fixed(colorant + 8 + 4 * c) - primaries[i].xyz[c]) > 0.002) return false;
        const unsigned char *curve = find_tag(profile, primaries[i].curve, &size);
        if (!curve || !curve_is_srgb(curve, size)) return false;
    }
    return true;
}

/* ---------------------------------------------------------------- others */

static cmsUInt32Number pixel_type(colour_kind kind) {
    static const cmsUInt32Number types[] = {TYPE_RGB_8, TYPE_GRAY_8, TYPE_CMYK_8, TYPE_CMYK_8_REV};
    return types[kind];
}

static cmsColorSpaceSignature colour_space(colour_kind kind) {
    return kind == COLOUR_RGB ? cmsSigRgbData : kind == COLOUR_GREY ? cmsSigGrayData : cmsSigCmykData;
}

static int light_of(cmsHTRANSFORM transform, const unsigned char in[4]) {
    unsigned char rgb[3];
    cmsDoTransform(transform, in, rgb, 1);
    return (rgb[0] + 2 * rgb[1] + rgb[2]) / 4;
}

/* White is light, and black is darker. */
static bool makes_sense(cmsHTRANSFORM transform, colour_kind kind) {
    static const unsigned char zeros[4] = {0}, ones[4] = {255, 255, 255, 255};
    const bool inks = kind == COLOUR_CMYK;
    const int white = light_of(transform, inks ? zeros : ones), black = light_of(transform, inks ? ones : zeros);
    return white >= DARK && white - black >= CONTRAST;
}

static cmsHTRANSFORM make_transform(cmsContext library, const limn_buffer *profile, colour_kind kind) {
    cmsHPROFILE from = cmsOpenProfileFromMemTHR(library, profile->data, (cmsUInt32Number)profile->size);
    if (!from) return NULL;
    cmsHTRANSFORM transform = NULL;
    const cmsProfileClassSignature class = cmsGetDeviceClass(from);
    const bool device = class == cmsSigDisplayClass || class == cmsSigInputClass || class == cmsSigOutputClass ||
                        class == cmsSigColorSpaceClass;
    if (device && cmsGetColorSpace(from) == colour_space(kind)) {
        cmsHPROFILE to = cmsCreate_sRGBProfileTHR(library);
        if (to) transform = cmsCreateTransformTHR(library, from, pixel_type(kind), to, TYPE_RGB_8, INTENT_PERCEPTUAL, 0);
        if (to) cmsCloseProfile(to);
    }
    cmsCloseProfile(from);
    if (!transform || makes_sense(transform, kind)) return transform;
    cmsDeleteTransform(transform);
    return NULL;
}

static void forget(colour_transform *self) {
    if (self->transform) cmsDeleteTransform(self->transform);
    limn_buffer_free(&self->profile);
    *self = (colour_transform){0};
}

void colour_cache_free(colour_cache *self) {
    if (!self) return;
    for (size_t i = 0; i < TRANSFORMS_KEPT; i++) forget(&self->kept[i]);
    if (self->library) cmsDeleteContext(self->library);
    free(self);
}

const colour_transform *colour_transform_find(picture_context *context, const limn_buffer *profile, colour_kind kind) {
    if (!context->colours) {
        context->colours = limn_allocate(1, sizeof *context->colours, NULL);
        if (!context->colours) return NULL;
        context->colours->library = cmsCreateContext(NULL, NULL);
    }
    colour_cache *cache = context->colours;
    if (!cache->library) return NULL;
    colour_transform *oldest = &cache->kept[0];
    for (size_t i = 0; i < TRANSFORMS_KEPT; i++) {
        colour_transform *kept = &cache->kept[i];
        if (kept->used < oldest->used) oldest = kept;
        if (!kept->used || kept->kind != kind || kept->profile.size != profile->size) continue;
        if (memcmp(kept->profile.data, profile->data, profile->size) != 0) continue;
        kept->used = ++cache->uses;
        return kept->transform ? kept : NULL;
    }
    forget(oldest);
    if (limn_buffer_append(&oldest->profile, profile->data, profile->size, NULL)) return NULL;
    oldest->kind = kind;
    oldest->used = ++cache->uses;
    oldest->transform = make_transform(cache->library, profile, kind);
    return oldest->transform ? oldest : NULL;
}

void colour_transform_apply(const colour_transform *self, const unsigned char *in, unsigned char *out, size_t count) {
    cmsDoTransform(self->transform, in, out, (cmsUInt32Number)count);
}

static void apply(picture *self, picture_context *context, const picture_facts *facts) {
    const colour_transform *transform = colour_transform_find(context, &facts->profile, facts->grey ? COLOUR_GREY : COLOUR_RGB);
    if (!transform) return;
    unsigned char *row = facts->grey ? picture_memory(self->width, 1, NULL) : NULL;
    if (facts->grey && !row) return;
    for (size_t y = 0; y < self->height; y++) {
        unsigned char *rgb = self->pixels + y * self->width * 3;
        for (size_t x = 0; row && x < self->width; x++) row[x] = rgb[x * 3];
        colour_transform_apply(transform, row ? row : rgb, rgb, self->width);
    }
    free(row);
}

void picture_to_srgb(picture *self, picture_context *context, const picture_facts *facts) {
    if (!facts->profile.size) return;
    picture_context own = {0};
    apply(self, context ? context : &own, facts);
    colour_cache_free(own.colours);
}
