/* The output folder: its lock, its configuration, and which shards are finished. */
#include "download/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- names in the folder */

/* The shard number of "NNNNN.tar", "NNNNN.h5", "NNNNN.stats.json", "NNNNN.failed.tsv" and "NNNNN.phash", and what follows the
 * number; -1 for every other name. */
static long long shard_of_name(const char *name, const char **suffix) {
    const size_t digits = strspn(name, "0123456789");
    *suffix = name + digits;
    if (digits < 5 || digits > 15) return -1;
    static const char *const ours[] = {".tar", ".h5", ".stats.json", ".failed.tsv", ".phash"};
    bool known = false;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) known = known || !strcmp(*suffix, ours[i]);
    if (!known) return -1;
    return strtoll(name, NULL, 10);
}

/* A folder of plain files is known as ours by the stats beside it. */
static int remove_folder(const download_options *options, uint64_t number, limn_error *error) {
    char path[4096];
    struct stat status;
    if (shard_path(options->output, number, NULL, path, error)) return -1;
    return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) ? limn_remove_tree(path, error) : 0;
}

static int remove_shard_file(const download_options *options, const char *name, limn_error *error) {
    char path[4096];
    const char *suffix;
    const long long number = shard_of_name(name, &suffix);
    if (number < 0 || (unsigned long long)number % options->parts != options->part) return 0;
    if (!strcmp(suffix, ".stats.json") && remove_folder(options, (uint64_t)number, error)) return -1;
    if (limn_path_join(path, sizeof path, options->output, name, error)) return -1;
    return unlink(path) ? limn_fail(error, "%s: cannot be removed: %s", path, strerror(errno)) : 0;
}

static int settle_hidden(const download_options *options, const char *name, limn_error *error) {
    uint64_t number;
    if (!commit_is_ours(name, &number) || number % options->parts != options->part) return 0;
    return commit_settle(options, number, error);
}

static int for_each_name(const download_options *options, int (*work)(const download_options *, const char *, limn_error *),
                         limn_error *error) {
    DIR *folder = opendir(options->output);
    if (!folder) return limn_fail(error, "%s: cannot be read: %s", options->output, strerror(errno));
    int status = 0;
    for (struct dirent *entry; !status && (entry = readdir(folder));) status = work(options, entry->d_name, error);
    closedir(folder);
    return status;
}

static bool has_shards(const char *directory) {
    bool found = false;
    const char *suffix;
    DIR *folder = opendir(directory);
    if (!folder) return false;
    for (struct dirent *entry; !found && (entry = readdir(folder));) found = shard_of_name(entry->d_name, &suffix) >= 0;
    closedir(folder);
    return found;
}

/* ---------------------------------------------------------------- locks */

static int hold(output_folder *self, const char *directory, bool shared, limn_error *error) {
    int lock;
    int *grown = realloc(self->locks, (self->lock_count + 1) * sizeof *grown);
    if (!grown) return limn_fail(error, "out of memory for a lock");
    self->locks = grown;
    if (shared ? limn_lock_shared(directory, "--coordinate", &lock, error) : limn_lock(directory, &lock, error)) return -1;
    self->locks[self->lock_count++] = lock;
    return 0;
}

/* The whole folder: its own lock and that of every part that ever ran. Coordinated processes share them. */
static int lock_whole(const download_options *options, output_folder *self, limn_error *error) {
    char path[4096];
    const bool shared = options->coordinate != NULL;
    if (hold(self, options->output, shared, error)) return -1;
    DIR *folder = opendir(options->output);
    if (!folder) return limn_fail(error, "%s: cannot be read: %s", options->output, strerror(errno));
    int status = 0;
    for (struct dirent *entry; !status && (entry = readdir(folder));)
        if (!strncmp(entry->d_name, ".part-", 6))
            status =
                limn_path_join(path, sizeof path, options->output, entry->d_name, error) || hold(self, path, shared, error);
    closedir(folder);
    return status ? -1 : 0;
}

/* One part: the folder's lock only for a moment, to find out that no undivided run holds it, then the part's. */
static int lock_part(const download_options *options, output_folder *self, limn_error *error) {
    char name[64], path[4096];
    int whole, tries = 0;
    snprintf(name, sizeof name, ".part-%zu-of-%zu", options->part, options->parts);
    if (limn_path_join(path, sizeof path, options->output, name, error) || limn_make_directories(path, error)) return -1;
    while (limn_lock(options->output, &whole, error)) { /* another part may hold it for its moment */
        const struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};
        if (++tries == 40) return -1;
        nanosleep(&moment, NULL);
    }
    const int status = hold(self, path, false, error);
    limn_unlock(whole);
    return status;
}

void output_close(output_folder *self) {
    while (self->lock_count) limn_unlock(self->locks[--self->lock_count]);
    free(self->locks);
    self->locks = NULL;
    limn_strings_free(&self->inputs);
}

/* ---------------------------------------------------------------- configuration */

static json_t *string_or_null(const char *text) {
    return text ? json_string(text) : json_null();
}

/* The lists as they are recorded: names and contents. */
static json_t *describe_inputs(const limn_strings *inputs, const caption_file *files) {
    json_t *all = json_array();
    for (size_t i = 0; i < inputs->count; i++) {
        json_array_append_new(all, json_pack("{s:s, s:I, s:s}", "name", limn_base_name(inputs->items[i]), "bytes",
                                             (json_int_t)files[i].bytes, "sha256", files[i].sha256));
    }
    return all;
}

/* Adds `more`, which is taken, to `all`. Either may be NULL, and then the result is. */
static json_t *with(json_t *all, json_t *more) {
    const bool made = all && more && !json_object_update(all, more);
    json_decref(more);
    if (made) return all;
    json_decref(all);
    return NULL;
}

/* What decides the output; how fast and how often to try does not. Takes `inputs`. */
static json_t *describe_options(const download_options *options, json_t *inputs, limn_error *error) {
    const caption_list_options *list = &options->list;
    const pair_options *pair = &options->pair;
    const token_encoder *encoder = options->encoder;
    json_t *all = json_pack("{s:i, s:o, s:s, s:I, s:I, s:b, s:b}", "format_version", 1, "inputs", inputs, "output_form",
                            output_form_name(options->form), "shard_size", (json_int_t)options->shard_size, "max_bytes",
                            (json_int_t)options->fetch.max_bytes, "respect_noai", options->fetch.respect_noai, "allow_private",
                            options->fetch.allow_private);
    all = with(all,
               json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:o}", "input_format", list->format ? list->format : "auto", "columns",
                         list->columns ? list->columns : "caption,url", "url_column", string_or_null(list->url_column),
                         "caption_column", string_or_null(list->caption_column), "header", list->header ? list->header : "auto",
                         "hash_column", string_or_null(list->hash_column), "boxes_column", string_or_null(list->boxes_column)));
    all = with(all, json_pack("{s:I, s:s, s:b, s:I, s:f, s:s, s:I, s:b, s:I}", "size", (json_int_t)pair->size, "resize",
                              pair->resize_name, "only_if_bigger", pair->only_if_bigger, "min_size", (json_int_t)pair->min_size,
                              "max_aspect_ratio", pair->max_aspect_ratio, "output_image", pair->image ? pair->image : "jpg",
                              "quality", (json_int_t)pair->quality, "dedup", pair->dedup, "dedup_distance",
                              (json_int_t)pair->dedup_distance));
    all = with(all, json_pack("{s:o, s:o}", "vqgan_sha256", string_or_null(encoder ? token_encoder_sha256(encoder) : NULL),
                              "precision", string_or_null(encoder ? token_encoder_precision(encoder) : NULL)));
    if (!all) limn_fail_usage(error, "an option's text is not valid UTF-8");
    return all;
}

static int settle_configuration(const download_options *options, output_folder *self, limn_error *error) {
    char path[4096];
    size_t rows = 0;
    json_t *was = NULL, *now = NULL;
    int status = -1;
    if (limn_path_join(path, sizeof path, options->output, "download.json", error)) return -1;
    if (options->restart && options->parts == 1 && unlink(path) && errno != ENOENT)
        return limn_fail(error, "%s: cannot be removed: %s", path, strerror(errno));
    const bool there = limn_file_exists(path);
    caption_file *files = limn_allocate(self->inputs.count, sizeof *files, error);
    if (files && !caption_list_measure(&self->inputs, &options->list, files, there ? NULL : &self->rows, error))
        now = describe_options(options, describe_inputs(&self->inputs, files), error);
    free(files);
    if (!now) return -1;
    if (there) {
        was = limn_json_load(path, error);
        if (!was || limn_json_refuse_other(path, was, now, "lists (or a list has changed since)", error)) goto done;
        status = limn_json_get_size(was, path, "rows", 1, SIZE_MAX / 2, &rows, error);
        self->rows = rows;
        if (!status && !rows) status = limn_fail(error, "%s: has no \"rows\"; begin anew with --restart", path);
        goto done;
    }
    if (has_shards(options->output)) {
        limn_fail_usage(error,
                        "%s: has shards but no download.json that says how they were made; choose another --output, or "
                        "--restart to remove them",
                        options->output);
        goto done;
    }
    json_object_set_new(now, "rows", json_integer((json_int_t)self->rows));
    status = limn_json_save(now, path, error);
done:
    json_decref(was);
    json_decref(now);
    return status;
}

/* The lists as files. Standard input is kept before anything is fetched, so that the same command can go on after a kill. */
static int settle_inputs(const download_options *options, output_folder *self, limn_error *error) {
    char path[4096];
    self->inputs.items = limn_allocate(options->inputs.count, sizeof *self->inputs.items, error);
    if (!self->inputs.items || limn_path_join(path, sizeof path, options->output, "download.json", error)) return -1;
    const bool replace = options->restart || !limn_file_exists(path);
    for (size_t i = 0; i < options->inputs.count; i++) {
        const bool kept = !strcmp(options->inputs.items[i], "-");
        if (kept && caption_list_keep_stdin(options->output, replace, self->kept_input, error)) return -1;
        self->inputs.items[self->inputs.count++] = kept ? self->kept_input : options->inputs.items[i];
    }
    return 0;
}

/* One of the coordinated processes settles the configuration while the others wait; shards are settled when they are claimed.
 */
static int open_coordinated(const download_options *options, output_folder *out, limn_error *error) {
    int claim;
    if (limn_make_directories(options->coordinate, error) ||
        claim_configuration(options->coordinate, &claim, &out->began, error))
        return -1;
    const int status = settle_inputs(options, out, error) || settle_configuration(options, out, error);
    if (!status) limn_remove_temporaries(options->output);
    claim_release(claim);
    return status ? -1 : 0;
}

int output_open(const download_options *options, output_folder *out, limn_error *error) {
    memset(out, 0, sizeof *out);
    int status = limn_make_directories(options->output, error);
    if (!status) status = options->parts == 1 ? lock_whole(options, out, error) : lock_part(options, out, error);
    if (options->coordinate) {
        status = status || open_coordinated(options, out, error);
    } else {
        status = status || for_each_name(options, settle_hidden, error);
        if (!status && options->restart) status = for_each_name(options, remove_shard_file, error);
        if (!status) status = settle_inputs(options, out, error);
        if (!status) status = settle_configuration(options, out, error);
        if (!status && options->parts == 1) limn_remove_temporaries(options->output);
    }
    if (status) output_close(out);
    return status ? -1 : 0;
}

/* ---------------------------------------------------------------- shards */

uint64_t output_shard_rows(const download_options *options, uint64_t rows, uint64_t number) {
    const uint64_t first = number * options->shard_size;
    return first >= rows ? 0 : rows - first < options->shard_size ? rows - first : options->shard_size;
}

/* Whether the pairs that the stats speak of are there. */
static bool has_body(const download_options *options, uint64_t number, const json_t *stats) {
    char path[4096];
    struct stat found;
    size_t bytes = 0;
    if (options->form == OUTPUT_NONE) return true;
    if (body_path(options->output, options->form, number, path, NULL) || stat(path, &found)) return false;
    if (options->form == OUTPUT_FILES) return S_ISDIR(found.st_mode);
    const char *const key = options->form == OUTPUT_TOKENS ? "h5_bytes" : "tar_bytes";
    return json_object_get(stats, key) && !limn_json_get_size(stats, path, key, 0, SIZE_MAX / 2, &bytes, NULL) &&
           bytes == (uint64_t)found.st_size;
}

bool output_shard_finished(const download_options *options, uint64_t number, json_t **stats) {
    char path[4096];
    if (shard_path(options->output, number, "stats.json", path, NULL) || !limn_file_exists(path)) return false;
    json_t *found = limn_json_load(path, NULL);
    const bool fits = json_is_object(found) && has_body(options, number, found);
    if (fits && stats)
        *stats = found;
    else
        json_decref(found);
    return fits;
}
