/* The column of boxes to be blurred. Its texts come from strangers, and a picture is never written unblurred because one of
 * them could not be read. */
#include "download/internal.h"

#include <math.h>

static double drawn_in(double value) {
    return fmin(fmax(value, 0), 1);
}

/* False when it is no box. */
static bool parse_box(const json_t *box, picture_box *out, const char **problem) {
    double side[4];
    *problem = "has a box that is not four numbers";
    if (!json_is_array(box) || json_array_size(box) != 4) return false;
    for (size_t i = 0; i < 4; i++) {
        const json_t *number = json_array_get(box, i);
        if (!json_is_number(number)) return false;
        side[i] = json_number_value(number);
        if (!(side[i] >= -1 && side[i] <= 2)) {
            *problem = "has a box that is not in fractions of the picture's sides";
            return false;
        }
    }
    *problem = "has a box whose right is left of its left, or bottom above its top";
    if (side[2] < side[0] || side[3] < side[1]) return false;
    *out = (picture_box){drawn_in(side[0]), drawn_in(side[1]), drawn_in(side[2]), drawn_in(side[3])};
    return true;
}

int boxes_parse(const char *text, size_t size, picture_box *out, const char **problem) {
    json_t *list = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    int count = -1;
    *problem = "is not a JSON list of [left, top, right, bottom] ([] where there is nothing to blur)";
    if (json_is_array(list)) {
        count = 0;
        for (size_t i = 0; i < json_array_size(list) && count >= 0; i++) {
            if (count == BOXES_MAX) {
                *problem = "has too many boxes";
                count = -1;
            } else if (!parse_box(json_array_get(list, i), &out[count], problem)) {
                count = -1;
            } else {
                count += out[count].left < out[count].right && out[count].top < out[count].bottom;
            }
        }
    }
    json_decref(list);
    return count;
}
