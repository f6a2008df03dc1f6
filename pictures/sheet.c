/* Grids of pictures: the nine drawings of a prompt, reconstructions beside originals, contact sheets. */
#include "pictures/pictures.h"

#include <string.h>

void picture_paste(picture *sheet, const picture *part, size_t x, size_t y) {
    if (x >= sheet->width || y >= sheet->height) return;
    size_t width = part->width < sheet->width - x ? part->width : sheet->width - x;
    size_t height = part->height < sheet->height - y ? part->height : sheet->height - y;
    for (size_t row = 0; row < height; row++)
        memcpy(sheet->pixels + ((y + row) * sheet->width + x) * 3, part->pixels + row * part->width * 3, width * 3);
}

/* parts·side + gaps, or -1 when that is more than a size holds. */
static int total_side(size_t parts, size_t side, size_t gap, size_t *out, limn_error *error) {
    size_t pictures, gaps;
    if (limn_multiply(parts, side, &pictures, error) || limn_multiply(parts + 1, gap, &gaps, error)) return -1;
    if (gaps > SIZE_MAX - pictures) return limn_fail(error, "a sheet of %zu pictures does not fit in memory", parts);
    *out = pictures + gaps;
    return 0;
}

int picture_grid(picture *out, const picture *parts, size_t count, size_t columns, size_t gap, limn_error *error) {
    *out = (picture){0};
    if (count == 0 || columns == 0) return limn_fail(error, "a sheet of no pictures cannot be drawn");
    if (columns > count) columns = count;
    for (size_t i = 1; i < count; i++)
        if (parts[i].width != parts[0].width || parts[i].height != parts[0].height)
            return limn_fail(error, "pictures of one sheet must have one size: %zux%zu beside %zux%zu", parts[0].width,
                             parts[0].height, parts[i].width, parts[i].height);
    size_t rows = (count - 1) / columns + 1, width = 0, height = 0;
    if (total_side(columns, parts[0].width, gap, &width, error) || total_side(rows, parts[0].height, gap, &height, error))
        return -1;
    if (picture_create(out, width, height, error)) return -1;
    memset(out->pixels, 255, width * height * 3);
    for (size_t i = 0; i < count; i++)
        picture_paste(out, &parts[i], gap + i % columns * (parts[0].width + gap), gap + i / columns * (parts[0].height + gap));
    return 0;
}
