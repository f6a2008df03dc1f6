/* Tokens as text: pictures to JSON lines, and JSON lines of anybody's to pictures. */
#include "infer/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_LIMIT = 1 << 30, DRAWINGS_LIMIT = 1 << 20 };

void print_tokens(FILE *out, const int32_t *tokens, size_t count, size_t T) {
    fputc('[', out);
    for (size_t i = 0; i < count; i++)
        for (size_t t = 0; t < T; t++)
            fprintf(out, "%s%d%s", t ? ", " : i ? ", [" : "[", (int)tokens[i * T + t], t + 1 == T ? "]" : "");
    fputc(']', out);
}

/* ---------------------------------------------------------------- pictures to tokens */

void read_picture(const vqgan *model, const picture *in, int32_t *tokens, limn_arena *arena) {
    size_t n = in->width * in->height * 3, mark = limn_arena_mark(arena);
    float *pixels = limn_arena_floats(arena, n);
    picture_to_floats(in, pixels);
    vqgan_pixels_to_model(model, pixels, pixels, n);
    vqgan_encode(model, tokens, NULL, pixels, 1, arena);
    limn_arena_release(arena, mark);
}

static int encode_picture(const vqgan *model, const char *path, int32_t *tokens, limn_arena *arena, limn_error *error) {
    picture square;
    if (picture_load_square(&square, path, vqgan_get_config(model)->resolution, error)) return -1;
    read_picture(model, &square, tokens, arena);
    picture_free(&square);
    return 0;
}

static int encode_all(const vqgan *model, const limn_strings *pictures, const char *output, limn_arena *arena,
                      limn_error *error) {
    size_t T = vqgan_token_count(model);
    int32_t *tokens = limn_allocate(T, sizeof *tokens, error);
    limn_atomic_file file;
    if (!tokens || limn_atomic_open(&file, output, error)) {
        free(tokens);
        return -1;
    }
    limn_progress *progress = limn_progress_start("encoding", "pictures", 0, pictures->count);
    int status = 0;
    for (size_t i = 0; i < pictures->count && status == 0; i++) {
        status = limn_stop_requested() ? limn_fail(error, "stopped")
                                       : encode_picture(model, pictures->items[i], tokens, arena, error);
        json_t *name = status == 0 ? json_string(pictures->items[i]) : NULL;
        char *quoted = name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
        if (status == 0 && !quoted) status = limn_fail(error, "%s: the name is not UTF-8", pictures->items[i]);
        if (status == 0) {
            fprintf(file.stream, "{\"picture\": %s, \"tokens\": ", quoted);
            print_tokens(file.stream, tokens, 1, T);
            fputs("}\n", file.stream);
            limn_progress_update(progress, i + 1, "%.60s", pictures->items[i]);
        }
        free(quoted);
        json_decref(name);
    }
    limn_progress_finish(progress);
    if (status == 0)
        status = limn_atomic_commit(&file, error);
    else
        limn_atomic_discard(&file);
    free(tokens);
    return status;
}

int tokens_encode(const char *directory, const limn_strings *pictures, const char *output, limn_error *error) {
    vqgan *model = vqgan_load(directory, false, error);
    limn_arena *arena = model ? limn_arena_create((size_t)1 << 38, error) : NULL;
    int status = arena ? vqgan_need_encoder(model, directory, error) : -1;
    if (status == 0) status = vqgan_prepare(model, PRECISION_FP32, VQGAN_ENCODER, error);
    if (status == 0) status = encode_all(model, pictures, output, arena, error);
    limn_arena_destroy(arena);
    vqgan_free(model);
    return status;
}

/* ---------------------------------------------------------------- tokens to pictures */

/* One line of a file of tokens, for messages. */
typedef struct {
    const char *path;
    size_t number;
} line_place;

/* The tokens of one drawing. */
static int read_drawing(const json_t *list, const vqgan *model, const line_place *at, int32_t *out, limn_error *error) {
    size_t T = vqgan_token_count(model), codes = vqgan_get_config(model)->n_embed;
    if (!json_is_array(list) || json_array_size(list) != T)
        return limn_fail(error, "%s: line %zu: a drawing has %zu tokens, but the VQGAN's pictures have %zu", at->path,
                         at->number, json_array_size(list), T);
    for (size_t t = 0; t < T; t++) {
        const json_t *token = json_array_get(list, t);
        json_int_t id = json_integer_value(token);
        if (!json_is_integer(token) || id < 0 || (uint64_t)id >= codes)
            return limn_fail(error, "%s: line %zu: token %zu of a drawing is not a number below the VQGAN's %zu codes",
                             at->path, at->number, t + 1, codes);
        out[t] = (int32_t)id;
    }
    return 0;
}

/* {"tokens": [[…], …]}, {"tokens": […]}, [[…], …] or […]. Returns the tokens (count,T); NULL with an error. */
static int32_t *read_line(const json_t *row, const vqgan *model, const line_place *at, size_t *out_count, limn_error *error) {
    const json_t *lists = json_is_object(row) ? json_object_get(row, "tokens") : row;
    bool one = json_is_integer(json_array_get(lists, 0));
    size_t count = one ? 1 : json_array_size(lists), T = vqgan_token_count(model);
    if (count == 0 || count > DRAWINGS_LIMIT) {
        limn_fail(error, "%s: line %zu: has no \"tokens\", a list of drawings of %zu numbers each", at->path, at->number, T);
        return NULL;
    }
    int32_t *tokens = limn_allocate(count, T * sizeof *tokens, error);
    for (size_t i = 0; i < count && tokens; i++) {
        if (read_drawing(one ? lists : json_array_get(lists, i), model, at, tokens + i * T, error) == 0) continue;
        free(tokens);
        tokens = NULL;
    }
    *out_count = count;
    return tokens;
}

typedef struct {
    const vqgan *model;
    const char *output, *singles;
    bool to_file; /* output is a PNG, for the only line there may be */
    FILE *results;
    limn_arena *arena;
    size_t drawn; /* lines */
} decoding;

static int decode_line(decoding *run, const json_t *row, const line_place *at, limn_error *error) {
    const char *prompt = json_string_value(json_object_get(row, "prompt"));
    if (!prompt) prompt = json_string_value(json_object_get(row, "picture"));
    char path[PATH_MAX], slug[SLUG_LENGTH + 1], name[NAME_LENGTH], file[NAME_LENGTH + 4];
    if (run->to_file && run->drawn)
        return limn_fail_usage(error, "%s: line %zu is not the first; for several lines --output is a folder", at->path,
                               at->number);
    make_slug(slug, prompt ? prompt : "drawing");
    snprintf(name, sizeof name, "%04zu-%s", run->drawn + 1, slug);
    snprintf(file, sizeof file, "%s.png", name);
    snprintf(path, sizeof path, "%s", run->output);
    if (!run->to_file && limn_path_join(path, sizeof path, run->output, file, error)) return -1;
    size_t count;
    int32_t *tokens = read_line(row, run->model, at, &count, error);
    if (!tokens) return -1;
    int status = draw_sheet(run->model, tokens, count, path, run->singles, name, run->results, run->arena, error);
    free(tokens);
    run->drawn++;
    return status;
}

static int decode_file(decoding *run, const char *path, limn_error *error) {
    size_t size;
    char *text = limn_file_read(path, LINES_LIMIT, &size, error);
    line_place at = {.path = path};
    int status = text ? 0 : -1;
    for (char *line = text, *end; status == 0 && line < text + size; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + size - line));
        if (!end) end = text + size;
        at.number++;
        if (line + strspn(line, " \t\r") >= end) continue;
        json_error_t trouble;
        json_t *row = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, &trouble);
        status = row ? decode_line(run, row, &at, error)
                     : limn_fail(error, "%s: line %zu is not JSON: %s", path, at.number, trouble.text);
        json_decref(row);
    }
    free(text);
    return status;
}

int tokens_decode(const char *directory, const limn_strings *files, const char *output, const char *singles, FILE *results,
                  limn_error *error) {
    size_t length = strlen(output);
    decoding run = {.output = output, .singles = singles, .results = results};
    run.to_file = length > 4 && strcmp(output + length - 4, ".png") == 0;
    vqgan *model = vqgan_load_decoder(directory, PRECISION_FP32, error);
    int status = model ? 0 : -1;
    if (status == 0 && !run.to_file) status = limn_make_directories(output, error);
    if (status == 0 && singles) status = limn_make_directories(singles, error);
    run.model = model;
    run.arena = status == 0 ? limn_arena_create((size_t)1 << 38, error) : NULL;
    if (!run.arena) status = -1;
    for (size_t i = 0; i < files->count && status == 0; i++) status = decode_file(&run, files->items[i], error);
    if (status == 0 && run.drawn == 0) status = limn_fail(error, "%s: holds no tokens", files->items[0]);
    if (status == 0 && fflush(results)) status = limn_fail(error, "standard output cannot be written: %s", strerror(errno));
    limn_arena_destroy(run.arena);
    vqgan_free(model);
    return status;
}
