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

/* The shard number of "NNNNN.tar", "NNNNN.stats.json" and "NNNNN.failed.tsv", or of a hidden temporary of one of ours when
 * `temporary`; -1 for every other name. */
static long long shard_of_name(const char *name, bool temporary) {
    if (temporary && (name[0] != '.' || !strstr(name, ".tmp-"))) return -1;
    name += temporary;
    const size_t digits = strspn(name, "0123456789");
    const char *suffix = name + digits;
    if (digits < 5 || digits > 15) return -1;
    if (!temporary && strcmp(suffix, ".tar") && strcmp(suffix, ".stats.json") && strcmp(suffix, ".failed.tsv")) return -1;
    return strtoll(name, NULL, 10);
}

/* Removes this part's shards (`temporary` false) or what a killed run left of them (true). */
static int remove_shards(const download_options *options, bool temporary, limn_error *error) {
    char path[4096];
    DIR *folder = opendir(options->output);
    if (!folder) return limn_fail(error, "%s: cannot be read: %s", options->output, strerror(errno));
    int status = 0;
    for (struct dirent *entry; !status && (entry = readdir(folder));) {
        const long long number = shard_of_name(entry->d_name, temporary);
        if (number < 0 || (unsigned long long)number % options->parts != options->part) continue;
        status = limn_path_join(path, sizeof path, options->output, entry->d_name, error);
        if (!status && unlink(path)) status = limn_fail(error, "%s: cannot be removed: %s", path, strerror(errno));
    }
    closedir(folder);
    return status;
}

static bool has_shards(const char *directory) {
    bool found = false;
    DIR *folder = opendir(directory);
    if (!folder) return false;
    for (struct dirent *entry; !found && (entry = readdir(folder));) found = shard_of_name(entry->d_name, false) >= 0;
    closedir(folder);
    return found;
}

/* ---------------------------------------------------------------- locks */

static int hold(output_folder *self, const char *directory, limn_error *error) {
    int lock;
    int *grown = realloc(self->locks, (self->lock_count + 1) * sizeof *grown);
    if (!grown) return limn_fail(error, "out of memory for a lock");
    self->locks = grown;
    if (limn_lock(directory, &lock, error)) return -1;
    self->locks[self->lock_count++] = lock;
    return 0;
}

/* The whole folder: its own lock and that of every part that ever ran. */
static int lock_whole(const download_options *options, output_folder *self, limn_error *error) {
    char path[4096];
    if (hold(self, options->output, error)) return -1;
    DIR *folder = opendir(options->output);
    if (!folder) return limn_fail(error, "%s: cannot be read: %s", options->output, strerror(errno));
    int status = 0;
    for (struct dirent *entry; !status && (entry = readdir(folder));)
        if (!strncmp(entry->d_name, ".part-", 6))
            status = limn_path_join(path, sizeof path, options->output, entry->d_name, error) || hold(self, path, error);
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
    const int status = hold(self, path, error);
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
        const char *const path = inputs->items[i], *const slash = strrchr(path, '/');
        json_array_append_new(all, json_pack("{s:s, s:I, s:s}", "name", slash ? slash + 1 : path, "bytes",
                                             (json_int_t)files[i].bytes, "sha256", files[i].sha256));
    }
    return all;
}

/* What decides the output; how fast and how often to try does not. Takes `inputs`. */
static json_t *describe_options(const download_options *options, json_t *inputs, limn_error *error) {
    const caption_list_options *list = &options->list;
    json_t *all = json_pack("{s:i, s:o, s:s, s:s, s:o, s:o, s:I, s:s, s:I, s:I, s:I, s:I, s:b, s:b}", "format_version", 1,
                            "inputs", inputs, "input_format", list->format ? list->format : "auto", "columns",
                            list->columns ? list->columns : "caption,url", "url_column", string_or_null(list->url_column),
                            "caption_column", string_or_null(list->caption_column), "size", (json_int_t)options->pair.size,
                            "resize", options->pair.resize_name, "shard_size", (json_int_t)options->shard_size, "min_size",
                            (json_int_t)options->pair.min_size, "max_bytes", (json_int_t)options->fetch.max_bytes, "quality",
                            (json_int_t)options->pair.quality, "respect_noai", options->fetch.respect_noai, "allow_private",
                            options->fetch.allow_private);
    if (!all || json_object_set_new(all, "header", json_string(list->header ? list->header : "auto")) ||
        json_object_set_new(all, "hash_column", string_or_null(list->hash_column)) ||
        json_object_set_new(all, "boxes_column", string_or_null(list->boxes_column))) {
        limn_fail_usage(error, "an option's text is not valid UTF-8");
        json_decref(all);
        return NULL;
    }
    return all;
}

static int refuse_other(const char *path, const json_t *was, const json_t *now, limn_error *error) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)now, key, value) {
        json_t *old = json_object_get(was, key);
        if (old && json_equal(old, value)) continue;
        if (!strcmp(key, "inputs"))
            return limn_fail_usage(error,
                                   "%s: made from other lists (or a list has changed since); give those, another --output, or "
                                   "--restart to begin anew",
                                   path);
        char *a = old ? json_dumps(old, JSON_ENCODE_ANY) : NULL, *b = json_dumps(value, JSON_ENCODE_ANY);
        limn_fail_usage(error, "%s: %s was %s and is now %s; use what it was, another --output, or --restart to begin anew",
                        path, key, a ? a : "absent", b ? b : "?");
        free(a);
        free(b);
        return -1;
    }
    return 0;
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
        if (!was || refuse_other(path, was, now, error)) goto done;
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

int output_open(const download_options *options, output_folder *out, limn_error *error) {
    memset(out, 0, sizeof *out);
    int status = limn_make_directories(options->output, error);
    if (!status) status = options->parts == 1 ? lock_whole(options, out, error) : lock_part(options, out, error);
    if (!status && options->restart) status = remove_shards(options, false, error);
    if (!status) status = settle_inputs(options, out, error);
    if (!status) status = settle_configuration(options, out, error);
    if (!status) status = remove_shards(options, true, error);
    if (!status && options->parts == 1) limn_remove_temporaries(options->output);
    if (status) output_close(out);
    return status ? -1 : 0;
}

/* ---------------------------------------------------------------- shards */

bool output_shard_finished(const download_options *options, uint64_t number, json_t **stats) {
    char path[4096];
    struct stat tar;
    size_t bytes = 0;
    if (shard_path(options, number, "tar", path, NULL) || stat(path, &tar)) return false;
    if (shard_path(options, number, "stats.json", path, NULL) || !limn_file_exists(path)) return false;
    json_t *found = limn_json_load(path, NULL);
    const bool fits = json_is_object(found) && !limn_json_get_size(found, path, "tar_bytes", 0, SIZE_MAX / 2, &bytes, NULL) &&
                      bytes == (uint64_t)tar.st_size;
    if (fits && stats)
        *stats = found;
    else
        json_decref(found);
    return fits;
}

static uint64_t count_of(const json_t *stats, const char *key) {
    const json_int_t value = json_integer_value(json_object_get(stats, key));
    return value > 0 ? (uint64_t)value : 0;
}

int output_sum(const download_options *options, uint64_t rows, download_summary *summary, limn_error *error) {
    const uint64_t shards = rows / options->shard_size + (rows % options->shard_size != 0);
    summary->reasons = json_object();
    if (!summary->reasons) return limn_fail(error, "out of memory for the summary");
    for (uint64_t number = options->part; number < shards; number += options->parts) {
        json_t *stats, *count;
        const char *reason;
        if (!output_shard_finished(options, number, &stats)) continue;
        summary->shards++;
        summary->rows += count_of(stats, "rows");
        summary->pairs += count_of(stats, "pairs");
        summary->failed += count_of(stats, "failed");
        json_object_foreach(json_object_get(stats, "reasons"), reason, count) {
            const json_int_t before = json_integer_value(json_object_get(summary->reasons, reason));
            json_object_set_new(summary->reasons, reason, json_integer(before + json_integer_value(count)));
        }
        json_decref(stats);
    }
    return 0;
}
