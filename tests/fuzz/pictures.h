/* What the fuzz programs of the picture decoders share: everything a program does with a picture from a stranger. */
#ifndef LIMN_TESTS_FUZZ_PICTURES_H
#define LIMN_TESTS_FUZZ_PICTURES_H

#include "tests/fuzz/fuzz.h"
#include "tests/pictures/make.h"

#include <stdlib.h>

enum { FUZZ_WIDTH = 37, FUZZ_HEIGHT = 29, FUZZ_MAX_PIXELS = 1 << 20 };

/* What a seed is encoded from. */
typedef struct {
    picture photo;
    unsigned char *opaque, *graded; /* as RGBA */
} fuzz_photo;

static inline fuzz_photo fuzz_photo_make(void) {
    fuzz_photo out = {.photo = make_photo(FUZZ_WIDTH, FUZZ_HEIGHT, 1)};
    out.opaque = make_rgba(&out.photo, false);
    out.graded = make_rgba(&out.photo, true);
    return out;
}

static inline void fuzz_photo_free(fuzz_photo *self) {
    free(self->opaque);
    free(self->graded);
    picture_free(&self->photo);
}

/* Puts EXIF and a profile of this kind (0: none, 1: colour, 2: grey, 3: CMYK) into a seed. */
static inline void fuzz_put_metadata(limn_buffer *file, int profile_kind) {
    limn_buffer exif = make_exif(6, 3, true), profile = {0};
    if (profile_kind == 1) profile = make_rgb_profile();
    if (profile_kind == 2) profile = make_grey_profile(1.8);
    if (profile_kind == 3) profile = make_cmyk_profile();
    put_metadata(file, &exif, profile_kind ? &profile : NULL, 400);
    limn_buffer_free(&exif);
    limn_buffer_free(&profile);
}

static inline const char *fuzz_resize(const picture *decoded, resize_mode mode, size_t size) {
    limn_error error = {0};
    picture sized;
    if (picture_resize(decoded, &sized, mode, size, &error)) return fuzz_check_error(&error);
    const bool right = mode != RESIZE_CENTER_CROP || (sized.width == size && sized.height == size);
    picture_free(&sized);
    return right ? NULL : "resized to another size";
}

static inline const char *fuzz_picture(const char *data, size_t size) {
    static const size_t sides[] = {0, 8};
    const char *complaint = NULL;
    for (size_t i = 0; i < 2 && !complaint; i++) {
        const picture_decode_options options = {.max_pixels = FUZZ_MAX_PIXELS, .min_side = sides[i]};
        const unsigned char *bytes = (const unsigned char *)data;
        limn_error error = {0};
        picture decoded;
        picture_facts facts = {0};
        if (picture_decode_upright(&decoded, bytes, size, &options, NULL, &facts, &error)) {
            complaint = decoded.pixels ? "a refused picture has pixels" : fuzz_check_error(&error);
        } else {
            const bool fits =
                facts.width * facts.height <= FUZZ_MAX_PIXELS && decoded.width <= facts.width && decoded.height <= facts.height;
            if (!fits) complaint = "a wrong size";
            const picture_box box = {0.2, 0.1, 0.7, 0.6};
            if (picture_blur(&decoded, &box, 1, &error)) complaint = "not blurred";
            picture_perceptual_hash(&decoded);
            if (!complaint) complaint = fuzz_resize(&decoded, RESIZE_CENTER_CROP, 16);
            if (!complaint) complaint = fuzz_resize(&decoded, RESIZE_BORDER, 50);
            picture_to_srgb(&decoded, NULL, &facts);
        }
        picture_free(&decoded);
        picture_facts_free(&facts);
    }
    return complaint;
}

#endif
