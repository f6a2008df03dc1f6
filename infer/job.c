/* What limn-sample does: prompts to files, going on where an earlier run stopped. */
#include "infer/internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROMPTS_LIMIT = 256 << 20 };

typedef struct {
    const drawing_job *job;
    drawing_model model;
    limn_arena *arena;
    int32_t *tokens; /* (count,T) of one prompt */
    FILE *results;
    FILE *tokens_file;
    json_t *written; /* prompt to how many lines of the tokens file have it, less those met in this run */
    limn_progress *progress;
    size_t prompt_count, index; /* of the prompt being drawn */
    const char *prompt;
} drawing_run;

/* ---------------------------------------------------------------- prompts and names */

/* The lines of a file, without empty ones; each points into *text. */
static int read_prompts(const char *path, char **text, limn_strings *prompts, limn_error *error) {
    size_t size, capacity = 0, line = 0;
    *text = limn_file_read(path, PROMPTS_LIMIT, &size, error);
    if (!*text) return -1;
    for (char *start = *text, *end; start < *text + size; start = end + 1) {
        line++;
        end = memchr(start, '\n', (size_t)(*text + size - start));
        if (!end) end = *text + size;
        size_t length = (size_t)(end - start);
        *end = '\0'; /* the byte behind the file's last is there */
        while (length && (start[length - 1] == '\r' || start[length - 1] == ' ')) start[--length] = '\0';
        if (strlen(start) != length || !limn_utf8_valid(start, length))
            return limn_fail(error, "%s: line %zu is not UTF-8 text", path, line);
        if (length == 0) continue;
        if (prompts->count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            const char **items = realloc((void *)prompts->items, capacity * sizeof *items);
            if (!items) return limn_fail(error, "%s: not enough memory for %zu prompts", path, capacity);
            prompts->items = items;
        }
        prompts->items[prompts->count++] = start;
    }
    return prompts->count ? 0 : limn_fail(error, "--prompts %s holds no prompt", path);
}

/* The name of the prompt being drawn, without ending: "red-apple", or "0001-red-apple" where there are several. */
static void make_name(const drawing_run *run, char name[NAME_LENGTH]) {
    char slug[SLUG_LENGTH + 1];
    make_slug(slug, run->prompt);
    if (run->job->prompts)
        snprintf(name, NAME_LENGTH, "%04zu-%s", run->index + 1, slug);
    else
        snprintf(name, NAME_LENGTH, "%s", slug);
}

static int picture_path(const drawing_run *run, char path[PATH_MAX], limn_error *error) {
    char name[NAME_LENGTH], file[NAME_LENGTH + 4];
    if (run->job->prompt) {
        if (strlen(run->job->output) >= PATH_MAX) return limn_fail_usage(error, "--output: the name is too long");
        strcpy(path, run->job->output);
        return 0;
    }
    make_name(run, name);
    snprintf(file, sizeof file, "%s.png", name);
    return limn_path_join(path, PATH_MAX, run->job->output, file, error);
}

/* ---------------------------------------------------------------- an earlier run's output */

/* What decides the drawings, as drawings.json keeps it. */
static json_t *describe(const drawing_run *run, limn_error *error) {
    const sampling_options *sampling = &run->job->sampling;
    char path[4096], folder[4096], sha256[65], vqgan_sha256[65];
    if (tensor_folder_find(run->job->model, path, error) || limn_sha256_file(path, sha256, error)) return NULL;
    if (limn_path_join(folder, sizeof folder, run->job->model, "vqgan", error) || tensor_folder_find(folder, path, error) ||
        limn_sha256_file(path, vqgan_sha256, error))
        return NULL;
    json_t *description =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:I, s:f}", "model", sha256, "vqgan", vqgan_get_sha256(run->model.vqgan),
                  "precision", nn_precision_name(run->job->precision), "count", (json_int_t)sampling->count, "seed",
                  (json_int_t)sampling->seed, "guidance", sampling->guidance, "temperature", sampling->temperature, "top_k",
                  (json_int_t)sampling->top_k, "top_p", sampling->top_p);
    if (!description) limn_fail(error, "not enough memory to describe the drawings");
    return description;
}

/* Makes the output folder, or finds that it was begun with these very options. */
static int claim_folder(const drawing_run *run, limn_error *error) {
    static const char *const options[][2] = {
        {"count", "--count"},         {"seed", "--seed"},   {"guidance", "--guidance"},   {"temperature", "--temperature"},
        {"top_k", "--top-k"},         {"top_p", "--top-p"}, {"precision", "--precision"}, {"model", "weights in --model"},
        {"vqgan", "VQGAN in --model"}};
    const char *folder = run->job->output;
    char path[PATH_MAX];
    if (limn_make_directories(folder, error) || limn_path_join(path, sizeof path, folder, "drawings.json", error)) return -1;
    json_t *description = describe(run, error), *record = NULL;
    int status = description ? 0 : -1;
    bool exists = limn_file_exists(path) && !run->job->restart;
    if (status == 0 && exists) status = (record = limn_json_load(path, error)) ? 0 : -1;
    if (record && !json_object_get(record, "precision")) /* of before there was a choice */
        json_object_set_new(record, "precision", json_string(nn_precision_name(PRECISION_FP32)));
    for (size_t i = 0; i < sizeof options / sizeof options[0] && record && status == 0; i++)
        if (!json_equal(json_object_get(description, options[i][0]), json_object_get(record, options[i][0])))
            status = limn_fail_usage(error, "--output %s was drawn with another %s; --restart draws all again", folder,
                                     options[i][1]);
    if (status == 0 && !exists) status = limn_json_save(description, path, error);
    json_decref(description);
    json_decref(record);
    return status;
}

/* Opens the tokens file; for prompts it is gone on with: lines of an earlier run are counted, and one that was cut off is
 * dropped. */
static int open_tokens(drawing_run *run, limn_error *error) {
    const char *path = run->job->tokens_out;
    size_t whole = 0, size = 0;
    struct stat status;
    run->written = json_object();
    if (!path) return 0;
    bool go_on = run->job->prompts && !run->job->restart && stat(path, &status) == 0 && S_ISREG(status.st_mode);
    char *text = go_on ? limn_file_read(path, SIZE_MAX / 2, &size, error) : NULL;
    if (go_on && !text) return -1;
    for (char *line = text, *end; line && (end = memchr(line, '\n', (size_t)(text + size - line))); line = end + 1) {
        json_t *row = json_loadb(line, (size_t)(end - line), 0, NULL);
        const char *prompt = json_string_value(json_object_get(row, "prompt"));
        bool mine = prompt && json_integer_value(json_object_get(row, "seed")) == (json_int_t)run->job->sampling.seed;
        if (mine)
            json_object_set_new(run->written, prompt,
                                json_integer(json_integer_value(json_object_get(run->written, prompt)) + 1));
        json_decref(row);
        if (!mine) {
            free(text);
            return limn_fail_usage(
                error, "--tokens-out %s holds something else than tokens of this --seed; --restart replaces it", path);
        }
        whole = (size_t)(end + 1 - text);
    }
    free(text);
    run->tokens_file = fopen(path, go_on ? "r+" : "w");
    if (!run->tokens_file) return limn_fail(error, "--tokens-out %s cannot be written: %s", path, strerror(errno));
    if (go_on && (ftruncate(fileno(run->tokens_file), (off_t)whole) || fseek(run->tokens_file, 0, SEEK_END)))
        return limn_fail(error, "--tokens-out %s cannot be gone on with: %s", path, strerror(errno));
    return 0;
}

/* True when the tokens file has a line of this prompt that no earlier prompt of this run stands for. */
static bool take_written(drawing_run *run) {
    json_int_t lines = json_integer_value(json_object_get(run->written, run->prompt));
    if (lines > 0) json_object_set_new(run->written, run->prompt, json_integer(lines - 1));
    return lines > 0;
}

/* ---------------------------------------------------------------- drawing */

static void show_progress(const drawing_run *run, size_t done) {
    size_t total = run->job->sampling.count * vqgan_token_count(run->model.vqgan);
    limn_progress_update(run->progress, run->index * total + done, "%.60s", run->prompt);
}

/* Previews of prompts stand beside the drawings, where a name means that all is drawn. */
static int preview_path(const drawing_run *run, char path[PATH_MAX], limn_error *error) {
    if (run->job->prompt) return picture_path(run, path, error);
    return limn_path_join(path, PATH_MAX, run->job->output, "preview.png", error);
}

static void watch(void *context, size_t first, size_t drawings, size_t position) {
    const drawing_run *run = context;
    size_t T = vqgan_token_count(run->model.vqgan), every = run->job->preview_every;
    show_progress(run, first * T + drawings * position);
    if (every == 0 || position % every != 0 || position == T) return;
    char path[PATH_MAX];
    limn_error error = {0};
    if (preview_path(run, path, &error) || draw_preview(run->model.vqgan, run->tokens, run->job->sampling.count, first,
                                                        drawings, position, path, run->arena, &error))
        limn_log(LIMN_LOG_WARNING, "no preview: %s", error.message); /* the drawing goes on */
}

/* One line of the tokens file. */
static int write_tokens(const drawing_run *run, limn_error *error) {
    json_t *prompt = json_string(run->prompt);
    char *quoted = prompt ? json_dumps(prompt, JSON_ENCODE_ANY) : NULL;
    FILE *out = run->tokens_file;
    if (quoted)
        fprintf(out, "{\"prompt\": %s, \"seed\": %llu, \"tokens\": ", quoted, (unsigned long long)run->job->sampling.seed);
    if (quoted) print_tokens(out, run->tokens, run->job->sampling.count, vqgan_token_count(run->model.vqgan));
    if (quoted) fputs("}\n", out);
    int status = quoted && fflush(out) == 0 && !ferror(out)
                     ? 0
                     : limn_fail(error, "--tokens-out %s cannot be written: %s", run->job->tokens_out, strerror(errno));
    free(quoted);
    json_decref(prompt);
    return status;
}

/* The grid is written after the single drawings and the tokens' line after the grid: where a line is, all is. */
static int draw_prompt(drawing_run *run, limn_error *error) {
    char path[PATH_MAX];
    if (picture_path(run, path, error)) return -1;
    bool has_picture = run->job->prompts && !run->job->restart && limn_file_exists(path);
    char name[NAME_LENGTH], last_single[PATH_MAX];
    make_name(run, name);
    if (has_picture && run->job->singles) {
        if (single_path(last_single, run->job->singles, name, run->job->sampling.count - 1, error)) return -1;
        has_picture = limn_file_exists(last_single);
    }
    bool has_tokens = !run->tokens_file || take_written(run);
    if (has_picture && has_tokens) {
        show_progress(run, run->job->sampling.count * vqgan_token_count(run->model.vqgan));
        return 0;
    }
    const drawing_watcher watcher = {watch, run};
    if (draw_tokens(&run->model, run->prompt, &run->job->sampling, run->tokens, &watcher, error)) return -1;
    if (!has_picture && draw_sheet(run->model.vqgan, run->tokens, run->job->sampling.count, path, run->job->singles, name,
                                   run->results, run->arena, error))
        return -1;
    if (!has_tokens && write_tokens(run, error)) return -1;
    if (fflush(run->results)) return limn_fail(error, "standard output cannot be written: %s", strerror(errno));
    return 0;
}

/* A picture that could not be written would be drawn in vain. */
static int check_output(const char *path, limn_error *error) {
    struct stat status;
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX] = ".";
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return limn_fail_usage(error, "--output %s is a folder; for one --prompt it is a PNG file", path);
    if (slash && (size_t)(slash - path) + 1 < sizeof folder)
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    if (access(folder, W_OK))
        return limn_fail(error, "--output %s: %s cannot be written to: %s", path, folder, strerror(errno));
    return 0;
}

static int prepare(drawing_run *run, limn_error *error) {
    const drawing_job *job = run->job;
    size_t T, total;
    if (sampling_options_check(&job->sampling, error) || (job->prompt && check_output(job->output, error)) ||
        drawing_model_load(&run->model, job->model, job->precision, error))
        return -1;
    T = vqgan_token_count(run->model.vqgan);
    if (limn_multiply(job->sampling.count, T, &total, error)) return -1;
    run->arena = limn_arena_create((size_t)1 << 38, error);
    run->tokens = limn_allocate(total, sizeof *run->tokens, error);
    if (!run->arena || !run->tokens) return -1;
    if (job->prompts && claim_folder(run, error)) return -1;
    if (job->singles && limn_make_directories(job->singles, error)) return -1;
    return open_tokens(run, error);
}

int draw_job(const drawing_job *job, FILE *results, limn_error *error) {
    drawing_run run = {.job = job, .results = results};
    limn_strings prompts = {0};
    char *text = NULL;
    int lock = -1, status = 0;
    if (job->prompt && !limn_utf8_valid(job->prompt, strlen(job->prompt)))
        status = limn_fail_usage(error, "--prompt is not UTF-8 text");
    if (status == 0 && job->prompts) status = read_prompts(job->prompts, &text, &prompts, error);
    if (status == 0 && job->prompts) {
        status = limn_make_directories(job->output, error);
        if (status == 0) status = limn_lock(job->output, &lock, error);
        if (status == 0) limn_remove_temporaries(job->output);
    }
    if (status == 0) status = prepare(&run, error);
    run.prompt_count = job->prompts ? prompts.count : 1;
    if (status == 0)
        run.progress = limn_progress_start("drawing", "tokens", 0,
                                           run.prompt_count * job->sampling.count * vqgan_token_count(run.model.vqgan));
    for (; run.index < run.prompt_count && status == 0; run.index++) {
        run.prompt = job->prompts ? prompts.items[run.index] : job->prompt;
        status = draw_prompt(&run, error);
        if (status && job->prompts) limn_fail_context(error, "prompt %zu", run.index + 1);
    }
    limn_progress_finish(run.progress);
    char preview[PATH_MAX];
    if (job->preview_every && job->prompts && preview_path(&run, preview, NULL) == 0) unlink(preview);
    if (run.tokens_file && fclose(run.tokens_file) && status == 0)
        status = limn_fail(error, "--tokens-out %s cannot be written: %s", job->tokens_out, strerror(errno));
    json_decref(run.written);
    free(run.tokens);
    if (run.arena) limn_arena_destroy(run.arena);
    drawing_model_free(&run.model);
    if (lock >= 0) limn_unlock(lock);
    free((void *)prompts.items);
    free(text);
    return status;
}
