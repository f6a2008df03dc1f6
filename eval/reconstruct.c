#include "eval/eval.h"
#include "pictures/pictures.h"

#include <stdlib.h>

/* One picture through the model: original and reconstruction, both of the model's size. */
static int reconstruct_one(const vqgan *model, const char *path, picture *original, picture *drawn, limn_arena *arena,
                           limn_error *error) {
    if (picture_load_square(original, path, vqgan_get_config(model)->resolution, error)) return -1;
    int32_t *tokens = limn_arena_bytes(arena, vqgan_token_count(model) * sizeof *tokens);
    read_picture(model, original, tokens, arena);
    int status = draw_picture(model, tokens, drawn, arena, error);
    limn_arena_release(arena, 0);
    if (status) picture_free(original);
    return status;
}

static int write_sheet(const picture *parts, size_t count, const char *output, limn_error *error) {
    picture sheet;
    if (picture_grid(&sheet, parts, count, count < 8 ? count : 8, 2, error)) return -1;
    int status = picture_save_png(&sheet, output, error);
    picture_free(&sheet);
    return status;
}

int eval_reconstruct(const char *directory, const limn_strings *paths, const char *sheet, FILE *out, limn_error *error) {
    vqgan *model = vqgan_load(directory, false, error);
    limn_arena *arena = model ? limn_arena_create((size_t)1 << 38, error) : NULL;
    picture *parts = arena ? limn_allocate(paths->count * 2, sizeof *parts, error) : NULL;
    double sum = 0;
    size_t done = 0;
    int status = parts ? vqgan_need_encoder(model, directory, error) : -1;
    if (status == 0) status = vqgan_prepare(model, PRECISION_FP32, VQGAN_BOTH, error);
    for (; status == 0 && done < paths->count; done++) {
        status = reconstruct_one(model, paths->items[done], &parts[2 * done], &parts[2 * done + 1], arena, error);
        if (status) break;
        double psnr = picture_psnr(&parts[2 * done], &parts[2 * done + 1]);
        sum += psnr;
        fprintf(out, "%s\t%.2f dB\n", paths->items[done], psnr);
    }
    if (status == 0) fprintf(out, "mean of %zu\t%.2f dB\n", done, sum / (double)done);
    if (status == 0) status = write_sheet(parts, 2 * done, sheet, error);
    for (size_t i = 0; i < 2 * done; i++) picture_free(&parts[i]);
    free(parts);
    limn_arena_destroy(arena);
    vqgan_free(model);
    return status;
}
