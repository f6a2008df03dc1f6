/* What the decoders of pictures/ share. Nothing outside the folder includes this. */
#ifndef LIMN_PICTURES_INTERNAL_H
#define LIMN_PICTURES_INTERNAL_H

#include "pictures/pictures.h"

/* Where a file keeps what is not pixels (metadata.c). */
typedef struct {
    const unsigned char *exif; /* TIFF bytes within the file; NULL when there are none */
    size_t exif_size;
    limn_buffer profile; /* ICC; empty when there is none, it is in pieces of which one is missing, or it is too large */
} picture_metadata;
/* Any bytes may be given; what is wrong is as if it were not there. Without `profile` it costs a walk over the segments only.
 */
void metadata_read(picture_metadata *out, const unsigned char *data, size_t size, bool profile);

/* ---------------------------------------------------------------- colour (colour.c) */

typedef enum { COLOUR_RGB, COLOUR_GREY, COLOUR_CMYK, COLOUR_CMYK_COMPLEMENT } colour_kind; /* the last as Adobe stores it */
typedef struct colour_transform colour_transform;
/* The transform of this profile to sRGB; NULL when the profile is of no use. It is the context's, until the next call. */
const colour_transform *colour_transform_find(picture_context *context, const limn_buffer *profile, colour_kind kind);
/* in is (count, 3), (count, 1) or (count, 4) by kind; out is (count, 3). */
void colour_transform_apply(const colour_transform *self, const unsigned char *in, unsigned char *out, size_t count);
bool colour_profile_is_srgb(const limn_buffer *profile);

typedef struct colour_cache colour_cache;
void colour_cache_free(colour_cache *self);
/* Made when first needed. */
struct picture_context {
    colour_cache *colours;
};

/* ---------------------------------------------------------------- decoders */

/* One decoding: the bytes, the limits, and what was learned from the header. */
typedef struct {
    const unsigned char *data;
    size_t size;
    size_t max_pixels, min_side;
    picture_context *context;
    const limn_buffer *profile;             /* NULL: CMYK becomes RGB without one */
    size_t original_width, original_height; /* set as soon as the header is read, and kept when decoding fails later */
    bool grey, converted;                   /* one channel is stored; the profile has been applied */
} picture_source;

/* Each fills in a picture of its format, or leaves it empty and returns -1 with a short reason. */
int picture_decode_jpeg(picture *self, picture_source *source, limn_error *error);
int picture_decode_png(picture *self, picture_source *source, limn_error *error);
int picture_decode_webp(picture *self, picture_source *source, limn_error *error);

/* Notes the size that a header declares and refuses it when it is over the limit: call before any allocation. */
int picture_note_size(picture_source *source, size_t width, size_t height, limn_error *error);
/* As picture_create, but of undefined contents: for who writes every pixel. */
int picture_reserve(picture *self, size_t width, size_t height, limn_error *error);
/* Memory of undefined contents, 64-byte aligned. */
void *picture_memory(size_t count, size_t size, limn_error *error);
/* Takes over `rgba` (width × height × 4, straight alpha, from malloc): lays it on white in place, packs it to RGB and gives it
 * to the picture. */
void picture_take_rgba(picture *self, unsigned char *rgba, size_t width, size_t height);

#endif
