/* A sheet of random pairs. */
#include "choose/internal.h"
#include "vqgan/vqgan.h"

#include <stdlib.h>
#include <string.h>

/* Of a large set only so many files are read, so that a look at it takes seconds. */
enum { FILES_MAX = 8, COUNT_MAX = 1000, SIDE_MAX = 4096 };
static const size_t ARENA_LIMIT = (size_t)1 << 38; /* address space, not memory */

typedef struct {
    uint64_t order; /* the least are drawn */
    char key[256];
    limn_buffer caption, image;
    int32_t *tokens;
    size_t length, codebook_size;
    picture drawn; /* fitted into the square */
    limn_error problem;
} pick;

typedef struct {
    pick *picks; /* (count) by their order, those of a file or of all */
    size_t count;
} choice;

typedef struct {
    const choose_view_options *options;
    choose_walk *walk;
    limn_strings files; /* chosen */
    choice whole;
} viewer;

static void free_pick(pick *self) {
    limn_buffer_free(&self->caption);
    limn_buffer_free(&self->image);
    free(self->tokens);
    picture_free(&self->drawn);
}

static void free_choice(void *part) {
    choice *self = part;
    for (size_t i = 0; i < self->count; i++) free_pick(&self->picks[i]);
    free(self->picks);
    free(self);
}

/* ---------------------------------------------------------------- choosing */

static int fill_pick(pick *out, const choose_sample *sample, limn_error *error) {
    const choose_text caption = choose_first_caption(sample);
    memcpy(out->key, sample->key, sizeof out->key);
    if (limn_buffer_append(&out->caption, caption.data, caption.size, error)) return -1;
    if (sample->entry)
        return sample->entry->image ? limn_buffer_append(&out->image, sample->entry->image, sample->entry->image_size, error)
                                    : 0;
    out->length = sample->shard->length;
    out->codebook_size = sample->shard->codebook_size;
    out->tokens = limn_allocate(out->length, sizeof *out->tokens, error);
    for (size_t t = 0; out->tokens && t < out->length; t++) out->tokens[t] = sample->tokens[t];
    return out->tokens ? 0 : -1;
}

/* The place that a sample of this order would take among at most `most`; `most` when it takes none. */
static size_t place_for(const choice *self, size_t most, uint64_t order) {
    size_t at = self->count;
    while (at > 0 && self->picks[at - 1].order > order) at--;
    return at < most ? at : most;
}

/* Takes the pick over. */
static void insert(choice *self, size_t most, size_t at, const pick *taken) {
    if (self->count == most)
        free_pick(&self->picks[most - 1]);
    else
        self->count++;
    memmove(self->picks + at + 1, self->picks + at, (self->count - 1 - at) * sizeof *self->picks);
    self->picks[at] = *taken;
}

static int choose_of_file(void *context, size_t job, void **part, limn_error *error) {
    viewer *self = context;
    const size_t most = self->options->count;
    choose_sample sample;
    choice *out = limn_allocate(1, sizeof *out, error);
    *part = out;
    if (!out || !(out->picks = limn_allocate(most, sizeof *out->picks, error))) return -1;
    choose_reader *reader = choose_reader_open(self->files.items[job], &self->walk->seen, error);
    int got = reader ? 1 : -1, failed = 0;
    while (!failed && got == 1 && (got = choose_reader_next(reader, &sample, error)) == 1) {
        uint32_t block[4];
        limn_random_block(self->options->seed, limn_random_stream(limn_base_name(self->files.items[job])), sample.row, block);
        pick taken = {.order = (uint64_t)block[0] << 32 | block[1]};
        const size_t at = place_for(out, most, taken.order);
        if (at == most) continue;
        failed = fill_pick(&taken, &sample, error);
        if (failed)
            free_pick(&taken);
        else
            insert(out, most, at, &taken);
    }
    choose_reader_close(reader);
    return failed || (got < 0 && error->exit_code == LIMN_EXIT_INTERRUPTED) ? -1 : got < 0 ? 1 : 0;
}

static int take_choice(void *context, size_t job, void *part, limn_error *error) {
    (void)job;
    (void)error;
    viewer *self = context;
    choice *from = part;
    for (size_t i = 0; i < from->count; i++) {
        const size_t at = place_for(&self->whole, self->options->count, from->picks[i].order);
        if (at == self->options->count) continue;
        insert(&self->whole, self->options->count, at, &from->picks[i]);
        from->picks[i] = (pick){0};
    }
    return 0;
}

/* Some files in their order, of which a shuffle by the seed chooses. */
static int choose_files(viewer *self, limn_error *error) {
    const limn_strings *all = &self->options->inputs;
    uint64_t *order = limn_allocate(all->count, sizeof *order, error);
    bool *chosen = limn_allocate(all->count, sizeof *chosen, error);
    self->files.items = limn_allocate(all->count, sizeof *self->files.items, error);
    const bool ok = order && chosen && self->files.items;
    for (size_t i = 0; ok && i < all->count; i++) order[i] = i;
    if (ok) limn_random_shuffle(order, all->count, self->options->seed, limn_random_stream("limn-dataset view"));
    for (size_t i = 0; ok && i < all->count && i < FILES_MAX; i++) chosen[order[i]] = true;
    for (size_t i = 0; ok && i < all->count; i++)
        if (chosen[i]) self->files.items[self->files.count++] = all->items[i];
    free(order);
    free(chosen);
    return ok ? 0 : -1;
}

/* ---------------------------------------------------------------- pictures */

/* Fits a picture into the square, on its light ground. */
static int fit(pick *self, const picture *from, size_t side, limn_error *error) {
    picture smaller;
    if (from->width == side && from->height == side) {
        if (picture_create(&self->drawn, side, side, error)) return -1;
        memcpy(self->drawn.pixels, from->pixels, side * side * 3);
        return 0;
    }
    if (picture_resize(from, &smaller, RESIZE_KEEP_RATIO_LARGEST, side, error)) return -1;
    int failed = picture_create(&self->drawn, side, side, error);
    if (!failed) {
        memset(self->drawn.pixels, 236, side * side * 3);
        picture_paste(&self->drawn, &smaller, (side - smaller.width) / 2, (side - smaller.height) / 2);
    }
    picture_free(&smaller);
    return failed;
}

static void decode_pick(pick *self, size_t side) {
    picture decoded;
    const picture_decode_options how = {.min_side = side};
    if (self->image.size == 0) {
        limn_fail(&self->problem, "no picture");
        return;
    }
    if (picture_decode(&decoded, (const unsigned char *)self->image.data, self->image.size, &how, NULL, NULL, &self->problem))
        return;
    fit(self, &decoded, side, &self->problem);
    picture_free(&decoded);
}

static int check_vqgan(const vqgan *model, const choice *all, const char *directory, limn_error *error) {
    for (size_t i = 0; i < all->count; i++)
        if (all->picks[i].length != vqgan_token_count(model) || all->picks[i].codebook_size > vqgan_get_config(model)->n_embed)
            return limn_fail_usage(error, "--vqgan %s: has %zu tokens of %zu codes a picture, the shards have %zu of %zu",
                                   directory, vqgan_token_count(model), vqgan_get_config(model)->n_embed, all->picks[i].length,
                                   all->picks[i].codebook_size);
    return 0;
}

/* One after the other: each runs on all threads. */
static int draw_tokens(const viewer *self, choice *all, limn_error *error) {
    const char *directory = self->options->vqgan;
    vqgan *model = vqgan_load_decoder(directory, PRECISION_FP32, error);
    if (!model) return -1;
    const size_t resolution = vqgan_get_config(model)->resolution, values = resolution * resolution * 3;
    limn_arena *arena = limn_arena_create(ARENA_LIMIT, error);
    float *pixels = limn_allocate(values, sizeof *pixels, error);
    int failed = !arena || !pixels || check_vqgan(model, all, directory, error) ? -1 : 0;
    for (size_t i = 0; !failed && i < all->count; i++) {
        picture drawn;
        if (limn_stop_requested()) {
            failed = limn_fail(error, "stopped");
            break;
        }
        vqgan_decode(model, pixels, all->picks[i].tokens, 1, arena);
        limn_arena_release(arena, 0);
        vqgan_pixels_from_model(model, pixels, pixels, values);
        failed = picture_from_floats(&drawn, pixels, resolution, resolution, error);
        if (failed) break;
        failed = fit(&all->picks[i], &drawn, self->options->size, error);
        picture_free(&drawn);
    }
    free(pixels);
    if (arena) limn_arena_destroy(arena);
    vqgan_free(model);
    return failed;
}

/* ---------------------------------------------------------------- the sheet */

typedef struct {
    size_t gap, margin, title, text, columns, rows, width, height, line;
} geometry;

static geometry lay_out(size_t count, size_t columns, size_t side) {
    geometry g = {.columns = count < columns ? count : columns};
    g.line = side < 160 ? 11 : 14; /* of the captions' font; lines are a third higher */
    g.gap = side / 12 + 4;
    g.margin = g.gap + 8;
    g.title = 2 * g.line + 14;
    g.text = 5 * g.line + 6; /* three lines, and the key */
    g.rows = (count + g.columns - 1) / g.columns;
    g.width = 2 * g.margin + g.columns * side + (g.columns - 1) * g.gap;
    g.height = 2 * g.margin + g.title + g.rows * (side + g.text) + (g.rows - 1) * g.gap;
    return g;
}

static int compose(const viewer *self, const choice *all, picture *sheet, limn_error *error) {
    const size_t side = self->options->size;
    const geometry g = lay_out(all->count, self->options->columns, side);
    choose_label *labels = limn_allocate(2 * all->count + 1, sizeof *labels, error);
    char title[512];
    size_t count = 0;
    if (!labels) return -1;
    if (picture_create(sheet, g.width, g.height, error)) {
        free(labels);
        return -1;
    }
    memset(sheet->pixels, 250, g.width * g.height * 3);
    snprintf(title, sizeof title, "%zu of %.200s%s, seed %llu", all->count, self->options->inputs.items[0],
             self->options->inputs.count > 1 ? " …" : "", (unsigned long long)self->options->seed);
    labels[count++] = (choose_label){.text = title,
                                     .size = strlen(title),
                                     .x = (double)g.margin,
                                     .y = (double)g.margin - 4,
                                     .width = (double)(g.width - 2 * g.margin),
                                     .lines = 1,
                                     .font_pixels = (double)g.line * 1.15,
                                     .bold = true,
                                     .grey = 0.25};
    for (size_t i = 0; i < all->count; i++) {
        const pick *each = &all->picks[i];
        const size_t x = g.margin + i % g.columns * (side + g.gap),
                     y = g.margin + g.title + i / g.columns * (side + g.text + g.gap);
        const char *text = each->drawn.pixels ? each->caption.data : each->problem.message;
        if (each->drawn.pixels) picture_paste(sheet, &each->drawn, x, y);
        labels[count++] = (choose_label){.text = each->caption.size ? text : "(no caption)",
                                         .size = each->caption.size ? strlen(text) : 12,
                                         .x = (double)x,
                                         .y = (double)(y + side + 6),
                                         .width = (double)side,
                                         .lines = 3,
                                         .font_pixels = (double)g.line,
                                         .grey = each->caption.size && each->drawn.pixels ? 0.08 : 0.5};
        labels[count++] = (choose_label){.text = each->key,
                                         .size = strlen(each->key),
                                         .x = (double)x,
                                         .y = (double)(y + side + g.text - g.line),
                                         .width = (double)side,
                                         .lines = 1,
                                         .font_pixels = (double)g.line * 0.75,
                                         .grey = 0.6};
    }
    const int failed = choose_draw_labels(sheet->pixels, g.width, g.height, labels, count, error);
    free(labels);
    if (failed) picture_free(sheet);
    return failed;
}

static int check(const choose_view_options *options, limn_error *error) {
    if (options->inputs.count == 0) return limn_fail_usage(error, "--input: no files");
    if (options->count < 1 || options->count > COUNT_MAX) return limn_fail_usage(error, "--count: from 1 to %d", COUNT_MAX);
    if (options->columns < 1 || options->columns > COUNT_MAX)
        return limn_fail_usage(error, "--columns: from 1 to %d", COUNT_MAX);
    if (options->size < 32 || options->size > SIDE_MAX) return limn_fail_usage(error, "--size: from 32 to %d pixels", SIDE_MAX);
    const bool shards = choose_form_of(options->inputs.items[0]) == CHOOSE_SHARDS;
    if (shards && !options->vqgan) return limn_fail_usage(error, "--vqgan DIR is needed to draw the tokens of shards");
    if (!shards && options->vqgan) return limn_fail_usage(error, "--vqgan is for token shards; these are tars");
    const geometry g = lay_out(options->count, options->columns, options->size);
    if (g.width > 32767 || g.height > 32767)
        return limn_fail_usage(error, "a sheet of %zux%zu pixels is too large: give a smaller --size or --count", g.width,
                               g.height);
    return 0;
}

int choose_view(const choose_view_options *options, size_t *out_drawn, limn_error *error) {
    picture sheet = {0};
    *out_drawn = 0;
    if (check(options, error)) return -1;
    choose_walk walk = {.what = "choosing", .work = choose_of_file, .merge = take_choice, .free_part = free_choice};
    viewer self = {.options = options, .walk = &walk};
    walk.context = &self;
    self.whole.picks = limn_allocate(options->count, sizeof *self.whole.picks, error);
    int failed = !self.whole.picks || choose_files(&self, error) ? -1 : 0;
    walk.jobs = self.files.count;
    walk.total_bytes = choose_bytes_of(&self.files);
    if (!failed) failed = choose_walk_run(&walk, NULL, error);
    if (!failed && self.whole.count == 0) failed = limn_fail(error, "%s: no pairs to draw", options->inputs.items[0]);
    if (!failed && options->vqgan) failed = draw_tokens(&self, &self.whole, error);
    for (size_t i = 0; !failed && !options->vqgan && i < self.whole.count; i++)
        decode_pick(&self.whole.picks[i], options->size);
    if (!failed) failed = compose(&self, &self.whole, &sheet, error);
    if (!failed) failed = picture_save_png(&sheet, options->output, error);
    *out_drawn = self.whole.count;
    picture_free(&sheet);
    for (size_t i = 0; self.whole.picks && i < self.whole.count; i++) free_pick(&self.whole.picks[i]);
    free(self.whole.picks);
    limn_strings_free(&self.files);
    return failed;
}
