/* Captions over pixels, by Pango: any script that a font of the machine has, lines broken where the script breaks them. */
#include "choose/internal.h"

#include <pango/pangocairo.h>

static void draw_label(cairo_t *cairo, PangoLayout *layout, const choose_label *label) {
    PangoFontDescription *font = pango_font_description_new();
    /* g_utf8_make_valid puts U+FFFD where the bytes are not UTF-8. */
    char *valid = g_utf8_make_valid(label->text, (gssize)label->size);
    pango_font_description_set_family(font, "DejaVu Sans, Noto Sans, sans-serif");
    pango_font_description_set_absolute_size(font, label->font_pixels * PANGO_SCALE);
    pango_font_description_set_weight(font, label->bold ? PANGO_WEIGHT_BOLD : PANGO_WEIGHT_NORMAL);
    pango_layout_set_font_description(layout, font);
    pango_layout_set_width(layout, (int)(label->width * PANGO_SCALE));
    pango_layout_set_wrap(layout, PANGO_WRAP_WORD_CHAR);
    pango_layout_set_height(layout, -label->lines);
    pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_END);
    pango_layout_set_text(layout, valid, -1);
    cairo_set_source_rgb(cairo, label->grey, label->grey, label->grey);
    cairo_move_to(cairo, label->x, label->y);
    pango_cairo_show_layout(cairo, layout);
    pango_font_description_free(font);
    g_free(valid);
}

/* Between our RGB bytes and cairo's 32-bit words of 0x00RRGGBB. */
static void exchange(unsigned char *pixels, cairo_surface_t *surface, size_t width, size_t height, bool to_surface) {
    unsigned char *rows = cairo_image_surface_get_data(surface);
    const size_t stride = (size_t)cairo_image_surface_get_stride(surface);
    for (size_t y = 0; y < height; y++) {
        uint32_t *words = (uint32_t *)(void *)(rows + y * stride);
        unsigned char *bytes = pixels + y * width * 3;
        for (size_t x = 0; x < width; x++, bytes += 3) {
            if (to_surface) {
                words[x] = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
            } else {
                bytes[0] = (unsigned char)(words[x] >> 16);
                bytes[1] = (unsigned char)(words[x] >> 8);
                bytes[2] = (unsigned char)words[x];
            }
        }
    }
}

int choose_draw_labels(unsigned char *pixels, size_t width, size_t height, const choose_label *labels, size_t count,
                       limn_error *error) {
    if (width > 32767 || height > 32767)
        return limn_fail_usage(error, "a sheet of %zux%zu pixels is too large: fewer pictures, or smaller ones", width, height);
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)width, (int)height);
    if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS) {
        cairo_surface_destroy(surface);
        return limn_fail(error, "out of memory for a sheet of %zux%zu pixels", width, height);
    }
    cairo_surface_flush(surface);
    exchange(pixels, surface, width, height, true);
    cairo_surface_mark_dirty(surface);
    cairo_t *cairo = cairo_create(surface);
    PangoLayout *layout = pango_cairo_create_layout(cairo);
    for (size_t i = 0; i < count; i++) draw_label(cairo, layout, &labels[i]);
    g_object_unref(layout);
    cairo_destroy(cairo);
    cairo_surface_flush(surface);
    exchange(pixels, surface, width, height, false);
    cairo_surface_destroy(surface);
    return 0;
}
