/* pictures: decode, resize, crop, encode; grids and contact sheets. Pictures come from strangers: every size is checked before
 * it is used, and a hostile file costs at most the limits below. */
#ifndef LIMN_PICTURES_H
#define LIMN_PICTURES_H

#include "core/core.h"

/* 8-bit RGB, (height, width, 3) row-major, no padding. */
typedef struct {
    size_t width, height;
    unsigned char *pixels;
    /* Of a JPEG decoded scaled down: how many columns and rows its own size comes to, such as 93.875 in 94. 0: all. With it
     * picture_resize keeps the proportions and the place of every pixel. */
    double covered_width, covered_height;
    double covered_left, covered_top; /* where they begin: not at 0 once such a picture was turned */
} picture;
void picture_free(picture *self);
/* Black picture of this size. */
int picture_create(picture *self, size_t width, size_t height, limn_error *error);

typedef enum { PICTURE_UNKNOWN, PICTURE_JPEG, PICTURE_PNG, PICTURE_WEBP } picture_format;
picture_format picture_sniff(const unsigned char *data, size_t size); /* by magic bytes, never by name */

typedef struct {
    size_t max_pixels; /* declared width × height above this is refused before decoding; 0: 178,956,970 as Pillow's limit */
    size_t min_side;   /* a JPEG may be decoded scaled down as long as its shorter side stays at least this; 0: full size. The
                        * size wanted in the end keeps 40 dB against resizing the full decode, twice that size 48 dB */
} picture_decode_options;
/* Decodes a JPEG (also CMYK and grey), PNG (also 16-bit, grey, palette, interlaced) or WebP (of an animated one the first
 * frame). Transparent pixels are laid on white. original_width and original_height (may be NULL) are the file's own. The error
 * is a short reason, such as "truncated JPEG" or "61000x61000 pixels are more than the limit". A picture cut short is an error.
 */
int picture_decode(picture *self, const unsigned char *data, size_t size, const picture_decode_options *options,
                   size_t *original_width, size_t *original_height, limn_error *error);
int picture_load(picture *self, const char *path, limn_error *error);

/* What a thread keeps from one picture to the next: colour transforms. Everything that takes one gives the same pixels without
 * (NULL), only slower. */
typedef struct picture_context picture_context;
picture_context *picture_context_create(limn_error *error);
void picture_context_destroy(picture_context *self); /* NULL allowed */

/* What a file says of its picture. */
typedef struct {
    size_t width, height; /* of the whole picture, upright; set as soon as the header is read */
    limn_buffer profile;  /* the ICC profile that picture_to_srgb still has to apply; empty: the pixels are sRGB's */
    bool grey;            /* one channel is stored */
} picture_facts;
void picture_facts_free(picture_facts *self);
/* As picture_decode, and turned as its EXIF orientation (1 to 8) says. CMYK becomes RGB by the file's own profile. A profile of
 * RGB or grey is left in the facts, for the picture that was made smaller in between. `context` may be NULL. */
int picture_decode_upright(picture *self, const unsigned char *data, size_t size, const picture_decode_options *options,
                           picture_context *context, picture_facts *facts, limn_error *error);
/* Applies the facts' profile (perceptual intent, lcms2). One that is damaged, or of another kind than the picture, or that
 * makes white dark, is ignored, as browsers do. `context` may be NULL. */
void picture_to_srgb(picture *self, picture_context *context, const picture_facts *facts);
/* Turns the stored picture as EXIF's orientation says (CIPA DC-008, tag 274); any number but 2 to 8 leaves it. */
int picture_orient(picture *self, unsigned orientation, limn_error *error);

/* The tags of a file's EXIF (CIPA DC-008, TIFF 6.0; a JPEG's APP1 segment, a PNG's eXIf or a WebP's EXIF chunk) as an object of
 * names and values: texts, whole numbers, fractions as "1/60". Where it was taken (the GPS tags) and the maker's own notes are
 * left out. NULL when there are none. Any bytes may be given. Caller: json_decref. */
json_t *exif_read(const unsigned char *data, size_t size);
/* The orientation there, 1 to 8; 1 when there is none. */
unsigned exif_orientation(const unsigned char *data, size_t size);

typedef enum {
    RESIZE_CENTER_CROP,        /* shorter side to size, then the middle square */
    RESIZE_BORDER,             /* longer side to size, white borders */
    RESIZE_KEEP_RATIO,         /* shorter side to size */
    RESIZE_KEEP_RATIO_LARGEST, /* longer side to size */
    RESIZE_NONE
} resize_mode;
int resize_mode_from_name(const char *name, resize_mode *out); /* "center-crop", …; -1 when unknown */
/* Antialiased Lanczos when shrinking, bicubic when growing; the same bytes on every processor. */
int picture_resize(const picture *in, picture *out, resize_mode mode, size_t size, limn_error *error);
/* Loads a picture and crops it to a square of this side. */
int picture_load_square(picture *self, const char *path, size_t side, limn_error *error);

int picture_encode_jpeg(const picture *self, int quality, limn_buffer *out, limn_error *error);
int picture_encode_png(const picture *self, limn_buffer *out, limn_error *error);
/* Lossless at quality 100. */
int picture_encode_webp(const picture *self, int quality, limn_buffer *out, limn_error *error);
int picture_save_png(const picture *self, const char *path, limn_error *error); /* atomic */

/* pixels to (height, width, 3) floats in [0,1] and back (rounded, clamped). */
void picture_to_floats(const picture *self, float *out);
int picture_from_floats(picture *self, const float *in, size_t width, size_t height, limn_error *error);

/* A part of a picture in fractions of its width and height: 0 ≤ left < right ≤ 1, 0 ≤ top < bottom ≤ 1. */
typedef struct {
    double left, top, right, bottom;
} picture_box;
/* Blurs what is in the boxes beyond recognition, as Yang et al., "A Study of Face Obfuscation in ImageNet" (ICML 2022): each
 * box is widened by a tenth of its diagonal, the Gaussian's deviation is a tenth of the longest diagonal (here three box
 * filters). */
int picture_blur(picture *self, const picture_box *boxes, size_t count, limn_error *error);
/* 64 bits that hardly change when a picture is scaled or encoded again (pHash; Zauner, "Implementation and Benchmarking of
 * Perceptual Image Hash Functions", 2010): signs, against their median, of the 8×8 lowest frequencies but the constant ones of
 * the 32×32 grey picture's DCT. 0 for a picture without any structure. */
uint64_t picture_perceptual_hash(const picture *self);

/* Which of many such hashes is near one. 24 bytes a hash: itself, and a chain for each quarter of it. Two hashes within 3 bits
 * of each other have a quarter in common, two within 7 have one within 1 bit (the pigeonhole principle; Norouzi et al., "Fast
 * Search in Hamming Space with Multi-Index Hashing", CVPR 2012). */
enum { HASH_DISTANCE_MAX = 7 };
typedef struct hash_index hash_index;
hash_index *hash_index_create(size_t distance, limn_error *error); /* 0 to HASH_DISTANCE_MAX */
void hash_index_destroy(hash_index *self);                         /* NULL allowed */
bool hash_index_has_near(const hash_index *self, uint64_t hash);   /* one within the distance was added */
int hash_index_add(hash_index *self, uint64_t hash, limn_error *error);
size_t hash_index_count(const hash_index *self);

/* Copies `part` into `sheet` with its top left corner at (x, y); what lies outside is cut. */
void picture_paste(picture *sheet, const picture *part, size_t x, size_t y);
/* A grid of equal pictures, `columns` wide, `gap` white pixels between and around. */
int picture_grid(picture *out, const picture *parts, size_t count, size_t columns, size_t gap, limn_error *error);
/* 10·log10(255²/mean squared error) of two pictures of one size; INFINITY when equal. */
double picture_psnr(const picture *a, const picture *b);

#endif
