/* What the decoders of pictures/ share. Nothing outside the folder includes this. */
#ifndef LIMN_PICTURES_INTERNAL_H
#define LIMN_PICTURES_INTERNAL_H

#include "pictures/pictures.h"

/* One decoding: the bytes, the limits, and what was learned from the header. */
typedef struct {
    const unsigned char *data;
    size_t size;
    size_t max_pixels, min_side;
    size_t original_width, original_height; /* set as soon as the header is read, and kept when decoding fails later */
} picture_source;

/* Each fills in a picture of its format, or leaves it empty and returns -1 with a short reason. */
int picture_decode_jpeg(picture *self, picture_source *source, limn_error *error);
int picture_decode_png(picture *self, picture_source *source, limn_error *error);
int picture_decode_webp(picture *self, picture_source *source, limn_error *error);

/* Notes the size that a header declares and refuses it when it is over the limit: call before any allocation. */
int picture_note_size(picture_source *source, size_t width, size_t height, limn_error *error);
/* Takes over `rgba` (width × height × 4, straight alpha, from malloc): lays it on white in place, packs it to RGB and gives it
 * to the picture. */
void picture_take_rgba(picture *self, unsigned char *rgba, size_t width, size_t height);

#endif
