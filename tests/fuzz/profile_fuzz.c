/* ICC profiles, as they lie in a file, for pictures of colour, grey and ink. */
#include "tests/fuzz/pictures.h"

#include "pictures/internal.h"

#include <string.h>

static bool make_seed(size_t index, limn_buffer *out) {
    switch (index) {
    case 0:
        *out = make_rgb_profile();
        break;
    case 1:
        *out = make_srgb_profile();
        break;
    case 2:
        *out = make_grey_profile(1.8);
        break;
    case 3:
        *out = make_cmyk_profile();
        break;
    default:
        return false;
    }
    return true;
}

static const char *target(const char *data, size_t size) {
    static const unsigned char inks[16] = {0, 255, 255, 255, 7, 100, 200, 3};
    picture_context *context = picture_context_create(NULL);
    picture_facts facts = {0};
    const char *complaint = NULL;
    picture shown = make_photo(9, 7, 1);
    if (size) limn_buffer_append(&facts.profile, data, size, NULL);
    colour_profile_is_srgb(&facts.profile);
    for (int grey = 0; grey < 2; grey++) {
        facts.grey = grey;
        picture_to_srgb(&shown, context, &facts);
    }
    for (int complement = 0; size && complement < 2; complement++) {
        unsigned char rgb[12];
        const colour_kind kind = complement ? COLOUR_CMYK_COMPLEMENT : COLOUR_CMYK;
        const colour_transform *transform = colour_transform_find(context, &facts.profile, kind);
        if (transform) colour_transform_apply(transform, inks, rgb, 4);
        if (transform != colour_transform_find(context, &facts.profile, kind)) complaint = "another transform the second time";
    }
    picture_free(&shown);
    picture_facts_free(&facts);
    picture_context_destroy(context);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
