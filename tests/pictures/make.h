/* Pictures for the tests, encoded in every kind the world sends. */
#ifndef LIMN_TESTS_PICTURES_MAKE_H
#define LIMN_TESTS_PICTURES_MAKE_H

#include "pictures/pictures.h"

/* Soft noise of several sizes with some hard edges: what a photo is to a filter. */
picture make_photo(size_t width, size_t height, uint64_t seed);
picture make_plain(size_t width, size_t height, unsigned char red, unsigned char green, unsigned char blue);

typedef struct {
    bool grey, progressive, no_adobe_marker, one_scan_each; /* one_scan_each: a scan for each component */
    int cmyk;                                               /* 0, or 1 CMYK, or 2 YCCK: `inks` are encoded as they are */
    bool subsample, arithmetic;                             /* 4:2:0; coded arithmetically */
} jpeg_kind;
/* `inks` (height, width, 4) is used when kind.cmyk, else the picture. Caller: limn_buffer_free, here as below. */
limn_buffer make_jpeg(const picture *source, const unsigned char *inks, size_t width, size_t height, jpeg_kind kind);

/* rows: samples as PNG stores them (16-bit big-endian), row_bytes a row; colour_type and depth as libpng's. A palette of three
 * colours, red, green and blue, of which the second is half transparent and the third is not there, comes with palette
 * pictures; grey value 1 is transparent in grey ones when `transparent`. */
limn_buffer make_png(const unsigned char *rows, size_t row_bytes, size_t width, size_t height, int colour_type, int depth,
                     bool interlaced, bool transparent);

/* rgba (height, width, 4), straight alpha. */
limn_buffer make_webp(const unsigned char *rgba, size_t width, size_t height, bool lossless);
/* Frames of plain colours (red, green, blue, alpha). */
limn_buffer make_animated_webp(size_t width, size_t height, const unsigned char (*colours)[4], size_t frames);

/* The picture as RGBA; alpha(x, y) = x + y modulo 256 when `graded`, else 255. Caller: free. */
unsigned char *make_rgba(const picture *source, bool graded);

/* TIFF bytes of one directory with this entry of tag 0x0112, type as given (3: SHORT). */
limn_buffer make_exif(unsigned orientation, unsigned type, bool big_endian);
/* Puts EXIF or a profile, whichever is not NULL, into a JPEG, PNG or still WebP. A JPEG's profile is cut into parts of
 * part_size bytes, written last part first (0: as large as fit). */
void put_metadata(limn_buffer *file, const limn_buffer *exif, const limn_buffer *profile, size_t part_size);
/* A chunk with its checksum after a PNG's header. */
void put_png_chunk(limn_buffer *png, const char *type, const void *data, size_t size);
/* Gamma and primaries of Adobe RGB (1998); grey of this gamma; CMYK whose cyan takes L* from 100 to 50
 * and whose black another 45, the other inks nothing. */
limn_buffer make_rgb_profile(void);
limn_buffer make_grey_profile(double gamma);
limn_buffer make_cmyk_profile(void);
limn_buffer make_srgb_profile(void);

#endif
