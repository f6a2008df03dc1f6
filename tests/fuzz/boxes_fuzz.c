/* The column of boxes to be blurred. */
#include "tests/fuzz/fuzz.h"

#include "download/internal.h"

static bool make_seed(size_t index, limn_buffer *out) {
    static const char *const seeds[] = {"[[0.1, 0.25, 0.5, 0.75]]", "[]", "[[0,0,1,1],[-0.1,0.5,1.5e0,0.75]]",
                                        "[[0.1,0.2,0.3,0.4],[0.5,0.6,0.7,0.8],[0,0,0,0]]"};
    if (index >= sizeof seeds / sizeof *seeds) return false;
    return limn_buffer_append(out, seeds[index], strlen(seeds[index]), NULL) == 0;
}

static const char *target(const char *data, size_t size) {
    picture_box boxes[BOXES_MAX];
    const char *problem = NULL;
    const int count = boxes_parse(data, size, boxes, &problem);
    if (count > BOXES_MAX) return "too many boxes";
    if (count < 0) return problem ? NULL : "refused without a reason";
    for (int i = 0; i < count; i++) {
        const picture_box *b = &boxes[i];
        if (!(b->left >= 0 && b->left < b->right && b->right <= 1)) return "a box that is none";
        if (!(b->top >= 0 && b->top < b->bottom && b->bottom <= 1)) return "a box that is none";
    }
    return NULL;
}

int main(int argc, char **argv) {
    return fuzz_main(argc, argv, make_seed, target);
}
