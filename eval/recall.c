#include "eval/eval.h"
#include "formats/formats.h"
#include "pictures/pictures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHEET_ROWS_MOST = 40, SHEET_COLUMNS = 4, NEAREST = 5 };

/* Pictures with captions, decoded to one size. */
typedef struct {
    size_t count, side;
    limn_buffer pixels;   /* (count, side, side, 3) 8-bit */
    limn_buffer captions; /* NUL-terminated, one after another */
    limn_buffer starts;   /* size_t each */
} gallery;

static const unsigned char *pixels_of(const gallery *self, size_t n) {
    return (const unsigned char *)self->pixels.data + n * self->side * self->side * 3;
}

static const char *caption_of(const gallery *self, size_t n) {
    size_t start;
    memcpy(&start, self->starts.data + n * sizeof start, sizeof start);
    return self->captions.data + start;
}

static void gallery_free(gallery *self) {
    limn_buffer_free(&self->pixels);
    limn_buffer_free(&self->captions);
    limn_buffer_free(&self->starts);
}

/* A sample without caption or whose picture is broken is left out: it can be neither drawn nor found. */
static int add_sample(gallery *self, const tar_sample *sample, limn_error *error) {
    picture decoded, sized;
    picture_decode_options options = {.min_side = self->side};
    if (!sample->image || !sample->caption || memchr(sample->caption, '\0', sample->caption_size)) return 0;
    if (picture_decode(&decoded, sample->image, sample->image_size, &options, NULL, NULL, NULL)) return 0;
    int status = picture_resize(&decoded, &sized, RESIZE_CENTER_CROP, self->side, error);
    picture_free(&decoded);
    if (status) return -1;
    size_t start = self->captions.size;
    status = limn_buffer_append(&self->pixels, sized.pixels, self->side * self->side * 3, error);
    if (status == 0) status = limn_buffer_append(&self->captions, sample->caption, sample->caption_size, error);
    if (status == 0) status = limn_buffer_append(&self->captions, "", 1, error);
    if (status == 0) status = limn_buffer_append(&self->starts, &start, sizeof start, error);
    picture_free(&sized);
    if (status == 0) self->count++;
    return status;
}

static int add_tars(gallery *self, const limn_strings *given, limn_error *error) {
    limn_strings paths = {0};
    if (limn_expand_folders(given, ".tar", &paths, error)) return -1;
    int status = 0;
    for (size_t i = 0; status == 0 && i < paths.count; i++) {
        tar_reader *reader = tar_reader_open(paths.items[i], error);
        tar_sample sample;
        status = reader ? 1 : -1;
        while (status == 1 && (status = tar_reader_next(reader, &sample, error)) == 1)
            if (add_sample(self, &sample, error)) status = -1;
        tar_reader_close(reader);
    }
    limn_strings_free(&paths);
    return status;
}

static double squared_difference(const unsigned char *a, const unsigned char *b, size_t n) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        int difference = a[i] - b[i];
        sum += (uint64_t)(difference * difference);
    }
    return (double)sum;
}

/* The nearest pictures, nearest first. */
static void find_nearest(const gallery *self, const unsigned char *drawn, size_t nearest[NEAREST]) {
    double distance[NEAREST];
    size_t found = 0;
    for (size_t n = 0; n < self->count; n++) {
        double d = squared_difference(pixels_of(self, n), drawn, self->side * self->side * 3);
        size_t at = found < NEAREST ? found++ : NEAREST;
        while (at > 0 && distance[at - 1] > d) {
            if (at < NEAREST) {
                distance[at] = distance[at - 1];
                nearest[at] = nearest[at - 1];
            }
            at--;
        }
        if (at < NEAREST) {
            distance[at] = d;
            nearest[at] = n;
        }
    }
    for (size_t i = found; i < NEAREST; i++) nearest[i] = nearest[0];
}

static int draw(const drawing_model *model, const char *caption, const sampling_options *sampling, picture *drawn, limn_arena *arena,
                limn_error *error) {
    size_t side = vqgan_get_config(model->vqgan)->resolution, n = side * side * 3;
    sampling_options one = *sampling;
    one.count = 1;
    int32_t *tokens = limn_arena_bytes(arena, vqgan_token_count(model->vqgan) * sizeof *tokens);
    float *pixels = limn_arena_floats(arena, n);
    int status = draw_tokens(model, caption, &one, tokens, NULL, error);
    if (status == 0) {
        vqgan_decode(model->vqgan, pixels, tokens, 1, arena);
        vqgan_pixels_from_model(model->vqgan, pixels, pixels, n);
        status = picture_from_floats(drawn, pixels, side, side, error);
    }
    limn_arena_release(arena, 0);
    return status;
}

static void paste_part(picture *sheet, const unsigned char *pixels, size_t side, size_t slot, size_t part) {
    /* picture_paste only reads the part. */
    picture view = {.width = side, .height = side, .pixels = (unsigned char *)pixels};
    size_t column = slot % SHEET_COLUMNS, row = slot / SHEET_COLUMNS;
    picture_paste(sheet, &view, column * (3 * side + 8) + 4 + part * side, row * (side + 4) + 4);
}

static int measure(const recall_options *options, const drawing_model *model, const gallery *all, const uint64_t *order,
                   recall_result *result, picture *sheet, limn_arena *arena, limn_error *error) {
    size_t n = all->side * all->side * 3;
    limn_progress *progress = limn_progress_start("recall", "captions", 0, result->captions);
    int status = 0;
    for (size_t i = 0; status == 0 && i < result->captions; i++) {
        picture drawn;
        size_t own = (size_t)order[i], nearest[NEAREST] = {0};
        const char *caption = caption_of(all, own);
        status = draw(model, caption, &options->sampling, &drawn, arena, error);
        if (status) break;
        find_nearest(all, drawn.pixels, nearest);
        bool among = false;
        for (size_t k = 0; k < NEAREST; k++) among = among || strcmp(caption_of(all, nearest[k]), caption) == 0;
        bool hit = strcmp(caption_of(all, nearest[0]), caption) == 0;
        result->hits += hit;
        result->hits_of_5 += among;
        double error_sum = squared_difference(pixels_of(all, own), drawn.pixels, n);
        result->psnr += 10.0 * log10(255.0 * 255.0 * (double)n / (error_sum > 0.5 ? error_sum : 0.5)) / (double)result->captions;
        if (i < SHEET_ROWS_MOST * SHEET_COLUMNS && sheet->pixels) {
            const unsigned char *parts[] = {pixels_of(all, own), drawn.pixels, pixels_of(all, nearest[0])};
            for (size_t part = 0; part < 3; part++) paste_part(sheet, parts[part], all->side, i, part);
        }
        picture_free(&drawn);
        limn_log(LIMN_LOG_DEBUG, "%s: nearest is %s", caption, caption_of(all, nearest[0]));
        limn_progress_update(progress, i + 1, "%zu of %zu found", result->hits, i + 1);
        if (limn_stop_requested()) status = limn_fail(error, "stopped after %zu of %zu captions", i + 1, result->captions);
    }
    limn_progress_finish(progress);
    return status;
}

int eval_recall(const recall_options *options, recall_result *result, limn_error *error) {
    drawing_model model = {0};
    gallery all = {0};
    picture sheet = {0};
    *result = (recall_result){0};
    if (drawing_model_load(&model, options->model, PRECISION_FP32, error)) return -1;
    all.side = vqgan_get_config(model.vqgan)->resolution;
    limn_arena *arena = limn_arena_create((size_t)1 << 38, error);
    int status = arena ? add_tars(&all, &options->captions, error) : -1;
    size_t drawable = all.count;
    if (status == 0 && options->gallery.count) status = add_tars(&all, &options->gallery, error);
    if (status == 0 && !drawable) status = limn_fail(error, "--captions: holds no picture with a caption");
    uint64_t *order = status == 0 ? limn_allocate(drawable, sizeof *order, error) : NULL;
    if (order) {
        for (size_t i = 0; i < drawable; i++) order[i] = i;
        limn_random_shuffle(order, drawable, options->sampling.seed, limn_random_stream("recall"));
        result->gallery = all.count;
        result->captions = options->limit && options->limit < drawable ? options->limit : drawable;
        size_t slots = result->captions < SHEET_ROWS_MOST * SHEET_COLUMNS ? result->captions : SHEET_ROWS_MOST * SHEET_COLUMNS;
        if (options->sheet)
            status = picture_create(&sheet, SHEET_COLUMNS * (3 * all.side + 8),
                                    (slots + SHEET_COLUMNS - 1) / SHEET_COLUMNS * (all.side + 4) + 4, error);
        if (status == 0) status = measure(options, &model, &all, order, result, &sheet, arena, error);
        if (status == 0 && options->sheet) status = picture_save_png(&sheet, options->sheet, error);
        picture_free(&sheet);
        free(order);
    } else status = -1;
    gallery_free(&all);
    limn_arena_destroy(arena);
    drawing_model_free(&model);
    return status;
}
