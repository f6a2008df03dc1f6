/* What becomes of one fetched picture: decoded, judged, resized, encoded, described. */
#include "download/internal.h"

#include <stdlib.h>
#include <string.h>

int pair_check(const pair_options *options, limn_error *error) {
    if (options->size < 1 || options->size > 16384) return limn_fail_usage(error, "--size: from 1 to 16384 pixels");
    if (options->quality < 1 || options->quality > 100) return limn_fail_usage(error, "--quality: from 1 to 100");
    return 0;
}

/* The pair's JSON: what DESIGN lists, and every further column of the list. Nothing in it may change between two runs over
 * the same pictures, so that a resumed run's tars are the same bytes. */
static char *describe(const char *key, const download_row *row, const picture *made, size_t original_width,
                      size_t original_height) {
    char sha256[65];
    json_t *object = row->extras ? json_incref(row->extras) : json_object();
    json_t *exif = exif_read(row->data, row->data_size);
    limn_sha256(row->data, row->data_size, sha256);
    json_object_set_new(object, "key", json_string(key));
    json_object_set_new(object, "url", json_string(row->url));
    json_object_set_new(object, "caption", json_stringn(row->caption, row->caption_size));
    json_object_set_new(object, "status", json_string("success"));
    json_object_set_new(object, "width", json_integer((json_int_t)made->width));
    json_object_set_new(object, "height", json_integer((json_int_t)made->height));
    json_object_set_new(object, "original_width", json_integer((json_int_t)original_width));
    json_object_set_new(object, "original_height", json_integer((json_int_t)original_height));
    json_object_set_new(object, "sha256", json_string(sha256));
    json_object_set_new(object, "exif", exif ? exif : json_null());
    char *text = json_dumps(object, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    return text;
}

int pair_make(const pair_options *options, const char *key, download_row *row, download_pair *out) {
    limn_error wrong = {0};
    picture decoded = {0}, made = {0};
    size_t width = 0, height = 0;
    const picture_decode_options decode = {.min_side = options->resize == RESIZE_NONE ? 0 : options->size};
    if (picture_sniff(row->data, row->data_size) == PICTURE_UNKNOWN)
        download_row_fail(row, "not_a_picture", "neither JPEG nor PNG nor WebP");
    else if (picture_decode(&decoded, row->data, row->data_size, &decode, &width, &height, &wrong))
        download_row_fail(row, "broken_picture", "%s", wrong.message);
    else if ((width < height ? width : height) < options->min_size)
        download_row_fail(row, "too_small", "%zux%zu pixels (--min-size %zu)", width, height, options->min_size);
    else if (picture_resize(&decoded, &made, options->resize, options->size, &wrong))
        download_row_fail(row, "resize", "%s", wrong.message);
    else if (options->raw ? limn_buffer_append(&out->image, made.pixels, 3 * made.width * made.height, &wrong)
                          : picture_encode_jpeg(&made, (int)options->quality, &out->image, &wrong))
        download_row_fail(row, "encode", "%s", wrong.message);
    else if (!(out->json = describe(key, row, &made, width, height)))
        download_row_fail(row, "memory", "out of memory");
    picture_free(&decoded);
    picture_free(&made);
    return row->reason[0] ? -1 : 0;
}

void pair_free(download_pair *self) {
    limn_buffer_free(&self->image);
    free(self->json);
    self->json = NULL;
}
