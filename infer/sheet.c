/* Tokens to pictures on disk. */
#include "infer/internal.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

void make_slug(char slug[SLUG_LENGTH + 1], const char *text) {
    size_t length = 0;
    for (const char *c = text; *c && length < SLUG_LENGTH; c++) {
        if (isalnum((unsigned char)*c) && (unsigned char)*c < 0x80)
            slug[length++] = (char)tolower((unsigned char)*c);
        else if (length && slug[length - 1] != '-')
            slug[length++] = '-';
    }
    while (length && slug[length - 1] == '-') length--;
    slug[length] = '\0';
    if (length == 0) strcpy(slug, "prompt");
}

int draw_picture(const vqgan *model, const int32_t *tokens, picture *out, limn_arena *arena, limn_error *error) {
    size_t side = vqgan_get_config(model)->resolution, n = side * side * 3, mark = limn_arena_mark(arena);
    float *pixels = limn_arena_floats(arena, n);
    vqgan_decode(model, pixels, tokens, 1, arena);
    vqgan_pixels_from_model(model, pixels, pixels, n);
    int status = picture_from_floats(out, pixels, side, side, error);
    limn_arena_release(arena, mark);
    return status;
}

int single_path(char path[PATH_MAX], const char *folder, const char *name, size_t drawing, limn_error *error) {
    char file[NAME_LENGTH + 32];
    snprintf(file, sizeof file, "%s-%04zu.png", name, drawing + 1);
    return limn_path_join(path, PATH_MAX, folder, file, error);
}

int draw_sheet(const vqgan *model, const int32_t *tokens, size_t count, const char *path, const char *singles, const char *name,
               FILE *results, limn_arena *arena, limn_error *error) {
    size_t T = vqgan_token_count(model), side = vqgan_get_config(model)->resolution, columns = 1, width;
    while (columns * columns < count) columns++;
    size_t rows = (count + columns - 1) / columns;
    picture sheet;
    if (limn_multiply(columns, side, &width, error) || picture_create(&sheet, width, rows * side, error)) return -1;
    memset(sheet.pixels, 0xFF, sheet.width * sheet.height * 3); /* where the last row is short */
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        picture one = {0};
        char single[PATH_MAX];
        status = limn_stop_requested() ? limn_fail(error, "stopped") : draw_picture(model, tokens + i * T, &one, arena, error);
        if (status) break;
        picture_paste(&sheet, &one, i % columns * side, i / columns * side);
        if (singles) {
            status = single_path(single, singles, name, i, error);
            if (status == 0) status = picture_save_png(&one, single, error);
            if (status == 0) fprintf(results, "%s\n", single);
        }
        picture_free(&one);
    }
    if (status == 0) status = picture_save_png(&sheet, path, error);
    if (status == 0) fprintf(results, "%s\n", path);
    picture_free(&sheet);
    return status;
}
