/* What becomes of one fetched picture: checked against the list's hash, decoded, judged, blurred, resized, encoded, described.
 */
#include "download/dedup.h"
#include "download/internal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { MD5_HEX = 32, SHA256_HEX = 64 };

int pair_check(const pair_options *options, limn_error *error) {
    static const char *const images[] = {"jpg", "png", "webp", "original"};
    const char *image = options->image ? options->image : images[0];
    bool known = false;
    for (size_t i = 0; i < sizeof images / sizeof *images; i++) known = known || !strcmp(image, images[i]);
    if (!known) return limn_fail_usage(error, "--output-image: one of jpg, png, webp and original");
    if (!strcmp(image, "original") && options->resize != RESIZE_NONE)
        return limn_fail_usage(error, "--output-image original keeps the bytes as they came: give --resize none with it");
    if (options->size < 1 || options->size > 16384) return limn_fail_usage(error, "--size: from 1 to 16384 pixels");
    if (options->quality < 1 || options->quality > 100) return limn_fail_usage(error, "--quality: from 1 to 100");
    if (options->max_aspect_ratio != 0 && !(options->max_aspect_ratio >= 1 && options->max_aspect_ratio <= 1e6))
        return limn_fail_usage(error, "--max-aspect-ratio: from 1 (squares only) to 1000000");
    if (options->dedup_distance > HASH_DISTANCE_MAX)
        return limn_fail_usage(error, "--dedup-distance: from 0 to %d bits", HASH_DISTANCE_MAX);
    return 0;
}

/* ---------------------------------------------------------------- the list's word */

static bool is_hash(const char *text) {
    const size_t size = strlen(text);
    return (size == MD5_HEX || size == SHA256_HEX) && strspn(text, "0123456789abcdefABCDEF") == size;
}

int pair_check_row(download_row *row) {
    picture_box boxes[BOXES_MAX];
    const char *problem;
    if (row->hash && row->hash[0] && !is_hash(row->hash))
        download_row_fail(row, "bad_row", "its hash is neither an MD5 nor a SHA-256 in hexadecimal: %s", row->hash);
    else if (row->boxes && boxes_parse(row->boxes, strlen(row->boxes), boxes, &problem) < 0)
        download_row_fail(row, "bad_boxes", "its text of boxes %s", problem);
    return row->reason[0] ? -1 : 0;
}

/* `sha256` is that of the row's data. */
static bool hash_fits(const download_row *row, const char *sha256) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    char md5[2 * EVP_MAX_MD_SIZE + 1];
    unsigned size = 0;
    if (strlen(row->hash) == SHA256_HEX) return !strcasecmp(row->hash, sha256);
    if (!EVP_Digest(row->data, row->data_size, bytes, &size, EVP_md5(), NULL)) return false;
    limn_hexadecimal(bytes, size, md5);
    return !strcasecmp(row->hash, md5);
}

/* ---------------------------------------------------------------- the picture */

/* A picture on its way. */
typedef struct {
    const pair_options *options;
    picture_context *context;
    const char *key;
    download_row *row;
    char sha256[SHA256_HEX + 1];
    picture_box boxes[BOXES_MAX];
    int box_count;
    picture_facts facts;
    picture decoded, made;
} work;

static int decode(work *self) {
    const pair_options *options = self->options;
    download_row *row = self->row;
    limn_error wrong = {0};
    const picture_decode_options limits = {.min_side = options->resize == RESIZE_NONE ? 0 : options->size};
    if (picture_sniff(row->data, row->data_size) == PICTURE_UNKNOWN) {
        download_row_fail(row, "not_a_picture", "neither JPEG nor PNG nor WebP");
        return -1;
    }
    if (picture_decode_upright(&self->decoded, row->data, row->data_size, &limits, self->context, &self->facts, &wrong)) {
        download_row_fail(row, "broken_picture", "%s", wrong.message);
        return -1;
    }
    const size_t width = self->facts.width, height = self->facts.height;
    const size_t shorter = width < height ? width : height, longer = width < height ? height : width;
    if (shorter < options->min_size)
        download_row_fail(row, "too_small", "%zux%zu pixels (--min-size %zu)", width, height, options->min_size);
    else if (options->max_aspect_ratio > 0 && (double)longer > options->max_aspect_ratio * (double)shorter)
        download_row_fail(row, "aspect_ratio", "%zux%zu pixels (--max-aspect-ratio %g)", width, height,
                          options->max_aspect_ratio);
    return row->reason[0] ? -1 : 0;
}

/* What only_if_bigger makes of the mode: the side that would become `size` decides, as in img2dataset. */
static resize_mode choose_mode(const work *self) {
    const resize_mode mode = self->options->resize;
    const bool by_longer = mode == RESIZE_BORDER || mode == RESIZE_KEEP_RATIO_LARGEST;
    const size_t width = self->facts.width, height = self->facts.height;
    const size_t side = (width > height) == by_longer ? width : height;
    return self->options->only_if_bigger && side <= self->options->size ? RESIZE_NONE : mode;
}

static int resize(work *self, uint64_t *look) {
    limn_error wrong = {0};
    if (self->box_count && picture_blur(&self->decoded, self->boxes, (size_t)self->box_count, &wrong)) {
        download_row_fail(self->row, "memory", "%s", wrong.message);
        return -1;
    }
    if (self->options->dedup) *look = picture_perceptual_hash(&self->decoded);
    if (picture_resize(&self->decoded, &self->made, choose_mode(self), self->options->size, &wrong)) {
        download_row_fail(self->row, "resize", "%s", wrong.message);
        return -1;
    }
    picture_to_srgb(&self->made, self->context, &self->facts);
    return 0;
}

static const char *extension_of(const download_row *row) {
    const picture_format format = picture_sniff(row->data, row->data_size);
    return format == PICTURE_PNG ? "png" : format == PICTURE_WEBP ? "webp" : "jpg";
}

static int encode(work *self, download_pair *out) {
    limn_error wrong = {0};
    download_row *row = self->row;
    const pair_options *options = self->options;
    const int quality = (int)options->quality;
    const char *image = options->image ? options->image : "jpg";
    int status;
    out->extension = image;
    if (options->raw) {
        status = limn_buffer_append(&out->image, self->made.pixels, 3 * self->made.width * self->made.height, &wrong);
    } else if (!strcmp(image, "original")) {
        if (self->box_count) {
            download_row_fail(row, "bad_boxes", "the original bytes cannot be blurred (--output-image jpg, png or webp can)");
            return -1;
        }
        out->extension = extension_of(row);
        status = limn_buffer_append(&out->image, row->data, row->data_size, &wrong);
    } else if (!strcmp(image, "png")) {
        status = picture_encode_png(&self->made, &out->image, &wrong);
    } else if (!strcmp(image, "webp")) {
        status = picture_encode_webp(&self->made, quality, &out->image, &wrong);
    } else {
        status = picture_encode_jpeg(&self->made, quality, &out->image, &wrong);
    }
    if (status) download_row_fail(row, "encode", "%s", wrong.message);
    return status;
}

/* The pair's JSON: what DESIGN lists, and every further column of the list. Nothing in it may change between two runs over
 * the same pictures, so that a resumed run's tars are the same bytes. */
static char *describe(const work *self, uint64_t look) {
    const download_row *row = self->row;
    json_t *object = row->extras ? json_incref(row->extras) : json_object();
    json_t *exif = exif_read(row->data, row->data_size);
    json_object_set_new(object, "key", json_string(self->key));
    json_object_set_new(object, "url", json_string(row->url));
    json_object_set_new(object, "caption", json_stringn(row->caption, row->caption_size));
    json_object_set_new(object, "status", json_string("success"));
    json_object_set_new(object, "width", json_integer((json_int_t)self->made.width));
    json_object_set_new(object, "height", json_integer((json_int_t)self->made.height));
    json_object_set_new(object, "original_width", json_integer((json_int_t)self->facts.width));
    json_object_set_new(object, "original_height", json_integer((json_int_t)self->facts.height));
    json_object_set_new(object, "sha256", json_string(self->sha256));
    json_object_set_new(object, "exif", exif ? exif : json_null());
    if (self->options->dedup) json_object_set_new(object, "phash", json_sprintf("%016llx", (unsigned long long)look));
    char *text = json_dumps(object, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    return text;
}

static int make(work *self, download_pair *out) {
    download_row *row = self->row;
    const char *problem;
    limn_sha256(row->data, row->data_size, self->sha256);
    if (pair_check_row(row)) return -1;
    if (row->hash && row->hash[0] && !hash_fits(row, self->sha256)) {
        download_row_fail(row, "wrong_hash", "the list says %s; SHA-256 is %s", row->hash, self->sha256);
        return -1;
    }
    if (row->boxes) self->box_count = boxes_parse(row->boxes, strlen(row->boxes), self->boxes, &problem);
    if (decode(self) || resize(self, &out->look) || encode(self, out)) return -1;
    out->json = describe(self, out->look);
    if (out->json) return 0;
    download_row_fail(row, "memory", "out of memory");
    return -1;
}

int pair_make(const pair_options *options, picture_context *context, const char *key, download_row *row, download_pair *out) {
    work self = {.options = options, .context = context, .key = key, .row = row};
    const int status = make(&self, out);
    picture_facts_free(&self.facts);
    picture_free(&self.decoded);
    picture_free(&self.made);
    return status;
}

void pair_free(download_pair *self) {
    limn_buffer_free(&self->image);
    free(self->json);
    self->json = NULL;
}
