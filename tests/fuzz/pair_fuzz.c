/* What a fetched file becomes, whole: the first byte chooses the options, the rest is the file. What is made must be a picture.
 */
#include "tests/fuzz/pictures.h"

#include "download/internal.h"

#include <png.h>

static bool make_seed(size_t index, limn_buffer *out) {
    fuzz_photo from = fuzz_photo_make();
    limn_buffer file = {0};
    const char choice = (char)(index * 37);
    if (index < 3) file = make_jpeg(&from.photo, from.graded, FUZZ_WIDTH, FUZZ_HEIGHT, (jpeg_kind){.cmyk = index == 2 ? 2 : 0});
    if (index == 3)
        file = make_png(from.graded, FUZZ_WIDTH * 4, FUZZ_WIDTH, FUZZ_HEIGHT, PNG_COLOR_TYPE_RGB_ALPHA, 8, false, false);
    if (index == 4) file = make_webp(from.graded, FUZZ_WIDTH, FUZZ_HEIGHT, false);
    if (index >= 1 && index < 5) fuzz_put_metadata(&file, index == 2 ? 3 : 1);
    fuzz_photo_free(&from);
    const bool made =
        file.size && !limn_buffer_append(out, &choice, 1, NULL) && !limn_buffer_append(out, file.data, file.size, NULL);
    limn_buffer_free(&file);
    return made;
}

static const char *check(const pair_options *options, const download_pair *pair, bool original) {
    picture again;
    picture_facts facts = {0};
    limn_error error = {0};
    json_t *json = json_loads(pair->json, 0, NULL);
    const char *complaint = NULL;
    if (picture_decode_upright(&again, (const unsigned char *)pair->image.data, pair->image.size, NULL, NULL, &facts, &error))
        complaint = "what was written is no picture";
    else if ((size_t)json_integer_value(json_object_get(json, "width")) != again.width)
        complaint = "the JSON gives another width";
    else if (!original && options->resize == RESIZE_BORDER && !options->only_if_bigger && again.height != options->size)
        complaint = "not of the size asked for";
    json_decref(json);
    picture_free(&again);
    picture_facts_free(&facts);
    return complaint;
}

static const char *target(const char *data, size_t size) {
    static const char *const images[] = {"jpg", "png", "webp", "original"};
    static const resize_mode modes[] = {RESIZE_CENTER_CROP, RESIZE_BORDER, RESIZE_KEEP_RATIO, RESIZE_KEEP_RATIO_LARGEST};
    if (!size) return NULL;
    const unsigned choice = (unsigned char)data[0];
    const bool original = choice % 4 == 3;
    const pair_options options = {.size = 16,
                                  .quality = 80,
                                  .image = images[choice % 4],
                                  .resize = original ? RESIZE_NONE : modes[choice / 4 % 4],
                                  .only_if_bigger = choice & 16,
                                  .max_aspect_ratio = 20,
                                  .dedup = choice & 32};
    download_row row = {.url = (char *)(uintptr_t) "u", .caption = (char *)(uintptr_t) "c", .caption_size = 1};
    row.data = (unsigned char *)(uintptr_t)(data + 1);
    row.data_size = size - 1;
    if (choice & 64) row.boxes = (char *)(uintptr_t) "[[0.1, 0.1, 0.6, 0.5]]";
    download_pair pair = {0};
    const char *complaint = NULL;
    picture_context *context = choice & 128 ? picture_context_create(NULL) : NULL;
    if (!pair_make(&options, context, "000000000", &row, &pair))
        complaint = check(&options, &pair, original);
    else if (!row.reason[0] || !row.detail[0])
        complaint = "failed without a reason";
    pair_free(&pair);
    picture_context_destroy(context);
    return complaint;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
