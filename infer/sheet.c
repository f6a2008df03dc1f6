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

int single_path(char path[PATH_MAX], const char *folder, const char *name, size_t drawing, limn_error *error) {
    char file[NAME_LENGTH + 32];
    snprintf(file, sizeof file, "%s-%04zu.png", name, drawing + 1);
    return limn_path_join(path, PATH_MAX, folder, file, error);
}

enum { PICTURES_AT_ONCE = 16 };

/* A white sheet for so many pictures, in rows as long as the square root of their number, rounded up. */
static int create_sheet(picture *sheet, size_t *columns, size_t count, size_t side, limn_error *error) {
    size_t width;
    *columns = 1;
    while (*columns * *columns < count) (*columns)++;
    size_t rows = (count + *columns - 1) / *columns;
    if (limn_multiply(*columns, side, &width, error) || picture_create(sheet, width, rows * side, error)) return -1;
    memset(sheet->pixels, 0xFF, sheet->width * sheet->height * 3);
    return 0;
}

/* pixels (count,side,side,3) in [0,1] of tokens (count,T). */
static float *decode_pixels(const vqgan *model, const int32_t *tokens, size_t count, limn_arena *arena) {
    size_t side = vqgan_get_config(model)->resolution, n = count * side * side * 3;
    float *pixels = limn_arena_floats(arena, n);
    vqgan_decode(model, pixels, tokens, count, arena);
    vqgan_pixels_from_model(model, pixels, pixels, n);
    return pixels;
}

int draw_picture(const vqgan *model, const int32_t *tokens, picture *out, limn_arena *arena, limn_error *error) {
    size_t side = vqgan_get_config(model)->resolution, mark = limn_arena_mark(arena);
    int status = picture_from_floats(out, decode_pixels(model, tokens, 1, arena), side, side, error);
    limn_arena_release(arena, mark);
    return status;
}

int draw_sheet(const vqgan *model, const int32_t *tokens, size_t count, const char *path, const char *singles, const char *name,
               FILE *results, limn_arena *arena, limn_error *error) {
    size_t T = vqgan_token_count(model), side = vqgan_get_config(model)->resolution, columns;
    picture sheet;
    if (create_sheet(&sheet, &columns, count, side, error)) return -1;
    int status = 0;
    const float *pixels = NULL;
    size_t mark = limn_arena_mark(arena);
    for (size_t i = 0; i < count && status == 0; i++) {
        picture one = {0};
        char single[PATH_MAX];
        if (limn_stop_requested()) status = limn_fail(error, "stopped");
        if (status == 0 && i % PICTURES_AT_ONCE == 0) {
            limn_arena_release(arena, mark);
            size_t some = count - i < PICTURES_AT_ONCE ? count - i : PICTURES_AT_ONCE;
            pixels = decode_pixels(model, tokens + i * T, some, arena);
        }
        if (status == 0) status = picture_from_floats(&one, pixels + i % PICTURES_AT_ONCE * side * side * 3, side, side, error);
        if (status) break;
        picture_paste(&sheet, &one, i % columns * side, i / columns * side);
        if (singles) {
            status = single_path(single, singles, name, i, error);
            if (status == 0) status = picture_save_png(&one, single, error);
            if (status == 0) fprintf(results, "%s\n", single);
        }
        picture_free(&one);
    }
    limn_arena_release(arena, mark);
    if (status == 0) status = picture_save_png(&sheet, path, error);
    if (status == 0) fprintf(results, "%s\n", path);
    picture_free(&sheet);
    return status;
}

/* Greys out what the tokens from `position` on stand for. */
static void grey_out(picture *self, size_t position, size_t tokens_a_side) {
    const size_t patch = self->width / tokens_a_side;
    for (size_t y = 0; y < self->height; y++) {
        size_t before = y / patch * tokens_a_side; /* tokens of the rows above */
        size_t drawn = position <= before ? 0 : position - before < tokens_a_side ? position - before : tokens_a_side;
        memset(self->pixels + (y * self->width + drawn * patch) * 3, 0xDD, (tokens_a_side - drawn) * patch * 3);
    }
}

int draw_preview(const vqgan *model, const int32_t *tokens, size_t count, size_t whole, size_t begun, size_t position,
                 const char *path, limn_arena *arena, limn_error *error) {
    size_t T = vqgan_token_count(model), side = vqgan_get_config(model)->resolution, columns, tokens_a_side = 1;
    picture sheet;
    while (tokens_a_side * tokens_a_side < T) tokens_a_side++;
    if (create_sheet(&sheet, &columns, count, side, error)) return -1;
    int status = 0;
    size_t mark = limn_arena_mark(arena);
    for (size_t i = 0; i < whole + begun && status == 0; i++) {
        picture one = {0};
        size_t drawn = i < whole ? T : position;
        /* What is missing goes on as it ended: nothing strange shines into what is there. */
        int32_t *filled = limn_arena_bytes(arena, T * sizeof *filled);
        for (size_t t = 0; t < T; t++) filled[t] = tokens[i * T + (t < drawn ? t : drawn - 1)];
        status = picture_from_floats(&one, decode_pixels(model, filled, 1, arena), side, side, error);
        if (status == 0) {
            grey_out(&one, drawn, tokens_a_side);
            picture_paste(&sheet, &one, i % columns * side, i / columns * side);
        }
        picture_free(&one);
        limn_arena_release(arena, mark);
    }
    if (status == 0) status = picture_save_png(&sheet, path, error);
    picture_free(&sheet);
    return status;
}
