/* A run folder: what decides the run is written once and compared ever after. */
#include "train/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a run leaves, as shell patterns. Checkpoints go first: without them a run begins anew. */
static const char *const RUN_FILES[] = {"checkpoints",
                                        "samples",
                                        "metrics.jsonl",
                                        "summary.json",
                                        "config.[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]*.json",
                                        "config.json",
                                        "model",
                                        "best",
                                        "events.out.tfevents.*"};

/* Writes the dotted path of the first place where two values differ; false when they are equal. */
static bool first_difference(const json_t *a, const json_t *b, char *path, size_t room) {
    if (json_is_object(a) && json_is_object(b)) {
        size_t used = strlen(path);
        const char *key;
        json_t *value;
        const json_t *sides[2][2] = {{a, b}, {b, a}};
        for (int side = 0; side < 2; side++) {
            json_object_foreach((json_t *)sides[side][0], key, value) {
                snprintf(path + used, room - used, "%s%s", used ? "." : "", key);
                const json_t *other = json_object_get(sides[side][1], key);
                if (!other || first_difference(value, other, path, room)) return true;
            }
        }
        path[used] = '\0';
        return false;
    }
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) < json_number_value(b) || json_number_value(a) > json_number_value(b);
    return !json_equal(a, b);
}

/* Removes what a folder has of this pattern: links, files, whole folders. */
static int remove_matching(const char *directory, const char *pattern, limn_error *error) {
    DIR *folder = opendir(directory);
    if (!folder) return limn_fail(error, "%s: cannot be listed: %s", directory, strerror(errno));
    int status = 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(folder));) {
        char path[4096];
        if (fnmatch(pattern, entry->d_name, 0) != 0) continue;
        status = limn_path_join(path, sizeof path, directory, entry->d_name, error);
        if (status == 0) status = limn_remove_tree(path, error);
    }
    closedir(folder);
    return status;
}

static int forget_run(const char *directory, limn_error *error) {
    for (size_t i = 0; i < sizeof RUN_FILES / sizeof *RUN_FILES; i++)
        if (remove_matching(directory, RUN_FILES[i], error)) return -1;
    return 0;
}

/* Compares with what the folder was begun with; `steps` is compared too unless it was measured. --force lets it differ: what
 * cannot be gone on with (another model's shapes) shows when the checkpoint is loaded. */
static int compare_saved(train_run *run, const char *path, const train_options *options, train_settings *settings,
                         limn_error *error) {
    json_t *saved = limn_json_load(path, error);
    if (!saved) return -1;
    size_t steps = 0;
    int status = limn_json_get_size(saved, path, "steps", 1, SIZE_MAX / 2, &steps, error);
    if (status == 0 && options->minutes > 0) settings->schedule.steps = steps;
    json_object_set_new(run->config, "steps", json_integer((json_int_t)settings->schedule.steps));
    char where[512] = "";
    run->changed = status == 0 && first_difference(saved, run->config, where, sizeof where);
    if (run->changed && options->force)
        limn_log(LIMN_LOG_WARNING, "%s: goes on with another configuration: \"%s\" differs", run->directory, where);
    else if (run->changed)
        status = limn_fail_usage(
            error,
            "%s: was begun with another configuration: \"%s\" differs; give the same options to go on, --force to "
            "go on with these, another --output for another run, or --restart to throw this one away",
            run->directory, where);
    json_decref(saved);
    return status;
}

/* Every rank must do the same: says in what the first that does not differs from rank 0. */
static int compare_ranks(world *all, const json_t *config, limn_error *error) {
    if (world_size(all) == 1) return 0;
    if (world_same(all, "version of Limn", LIMN_VERSION, sizeof LIMN_VERSION, error)) return -1;
    char *own = json_dumps(config, JSON_SORT_KEYS | JSON_COMPACT);
    size_t size = own ? strlen(own) + 1 : 0;
    if (!own) return limn_fail(error, "no memory for the configuration as text");
    if (world_broadcast(all, 0, &size, sizeof size, error)) {
        free(own);
        return -1;
    }
    char *first = limn_allocate(size, 1, error), where[512] = "";
    int status = first ? 0 : -1;
    if (first && world_rank(all) == 0) memcpy(first, own, size);
    if (status == 0) status = world_broadcast(all, 0, first, size, error);
    json_t *parsed = status == 0 ? json_loads(first, 0, NULL) : NULL;
    double differs = parsed && first_difference(parsed, config, where, sizeof where);
    if (status == 0 && differs > 0)
        status = limn_fail_usage(error, "another configuration than rank 0's: \"%s\" differs; give all ranks the same", where);
    json_decref(parsed);
    free(first);
    free(own);
    /* Those that are right wait here while the other ends the job. */
    return status == 0 ? world_sum(all, &differs, 1, error) : -1;
}

static int open_folder(train_run *run, const train_options *options, train_settings *settings, limn_error *error) {
    char path[4096];
    if (limn_make_directories(run->directory, error) || limn_lock(run->directory, &run->lock, error)) return -1;
    if (options->restart && forget_run(run->directory, error)) return -1;
    if (limn_path_join(path, sizeof path, run->directory, "config.json", error)) return -1;
    run->resumes = limn_file_exists(path);
    if (run->resumes && compare_saved(run, path, options, settings, error)) return -1;
    if (limn_path_join(path, sizeof path, run->directory, "checkpoints", error) || limn_make_directories(path, error)) return -1;
    if (limn_path_join(path, sizeof path, run->directory, "samples", error) || limn_make_directories(path, error)) return -1;
    return 0;
}

int train_run_open(train_run *run, const train_options *options, json_t *config, train_settings *settings, world *all,
                   limn_error *error) {
    *run = (train_run){.config = json_incref(config), .all = all, .lock = -1};
    snprintf(run->directory, sizeof run->directory, "%s", options->output);
    if (options->steps) settings->schedule.steps = options->steps;
    if (options->minutes > 0) json_object_set_new(config, "minutes", json_real(options->minutes));
    if (compare_ranks(all, config, error)) return -1;
    if (world_rank(all) == 0 && open_folder(run, options, settings, error)) return -1;
    struct {
        bool resumes;
        size_t steps;
    } place = {run->resumes, settings->schedule.steps};
    if (world_broadcast(all, 0, &place, sizeof place, error)) return -1;
    run->resumes = place.resumes;
    settings->schedule.steps = place.steps;
    return 0;
}

int train_run_write_config(train_run *run, uint64_t step, limn_error *error) {
    char path[4096], old[4096], name[64];
    if ((run->resumes && !run->changed) || world_rank(run->all)) return 0;
    snprintf(name, sizeof name, "config.%08llu.json", (unsigned long long)step);
    if (limn_path_join(path, sizeof path, run->directory, "config.json", error) ||
        limn_path_join(old, sizeof old, run->directory, name, error))
        return -1;
    if (run->changed && limn_atomic_copy(path, old, error)) return -1;
    return limn_json_save(run->config, path, error);
}

void train_run_close(train_run *run) {
    if (run->lock >= 0) limn_unlock(run->lock);
    json_decref(run->config);
    *run = (train_run){.lock = -1};
}
