/* The folder of a writing command: its lock, and what decided its files. */
#include "choose/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char CONFIGURATION[] = "dataset.json";

/* Names and sizes: to hash a terabyte before anything is done would be too slow. */
static json_t *describe(const choose_plan *plan, limn_error *error) {
    json_t *inputs = json_array();
    for (size_t i = 0; i < plan->write->inputs.count; i++) {
        const char *path = plan->write->inputs.items[i];
        struct stat status;
        if (stat(path, &status)) {
            limn_fail_usage(error, "%s: cannot be read: %s", path, strerror(errno));
            json_decref(inputs);
            return NULL;
        }
        json_array_append_new(inputs,
                              json_pack("{s:s, s:I}", "name", limn_base_name(path), "bytes", (json_int_t)status.st_size));
    }
    json_t *all = json_copy(plan->settings);
    json_object_set_new(all, "inputs", inputs);
    json_object_set_new(all, "command", json_string(plan->command));
    json_object_set_new(all, "pack", json_integer((json_int_t)plan->write->pack));
    json_object_set_new(all, "format_version", json_integer(1));
    if (json_object_size(all) >= 4) return all;
    json_decref(all);
    limn_fail(error, "out of memory for the configuration");
    return NULL;
}

/* What the writing commands make: NAME.tar, NAME.h5 and NAME.stats.json. */
static bool is_ours(const char *name) {
    static const char *const endings[] = {".tar", ".h5", ".stats.json"};
    const size_t size = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (size > strlen(endings[i]) && strcmp(name + size - strlen(endings[i]), endings[i]) == 0) return name[0] != '.';
    return false;
}

/* Calls for each file of ours in a folder; a folder that is not there has none. */
static int each_of_ours(const char *folder, bool remove_it, size_t *count, limn_error *error) {
    char path[4096];
    DIR *open_folder = opendir(folder);
    if (!open_folder) return errno == ENOENT ? 0 : limn_fail(error, "%s: cannot be read: %s", folder, strerror(errno));
    int failed = 0;
    for (struct dirent *entry; !failed && (entry = readdir(open_folder));) {
        if (!is_ours(entry->d_name)) continue;
        ++*count;
        if (!remove_it) continue;
        failed = limn_path_join(path, sizeof path, folder, entry->d_name, error);
        if (!failed && unlink(path)) failed = limn_fail(error, "%s: cannot be removed: %s", path, strerror(errno));
    }
    closedir(open_folder);
    return failed;
}

static int each_side(const choose_plan *plan, bool remove_it, size_t *count, limn_error *error) {
    static const char *const names[] = {"train", "valid"};
    char side[4096];
    *count = 0;
    if (plan->sides == 1) return each_of_ours(plan->write->output, remove_it, count, error);
    for (size_t i = 0; i < 2; i++)
        if (limn_path_join(side, sizeof side, plan->write->output, names[i], error) ||
            each_of_ours(side, remove_it, count, error))
            return -1;
    return 0;
}

static int make_sides(const choose_plan *plan, limn_error *error) {
    static const char *const names[] = {"train", "valid"};
    char side[4096];
    for (size_t i = 0; plan->sides == 2 && i < 2; i++) {
        if (limn_path_join(side, sizeof side, plan->write->output, names[i], error) || limn_make_directories(side, error))
            return -1;
        limn_remove_temporaries(side);
    }
    limn_remove_temporaries(plan->write->output);
    return 0;
}

/* An input in the output would be overwritten by what is made of it. */
static int check_inputs(const choose_plan *plan, limn_error *error) {
    const char *output = plan->write->output;
    return limn_any_in_folder(&plan->write->inputs, output)
               ? limn_fail_usage(error, "--output %s: holds the inputs themselves; give another folder", output)
               : 0;
}

static int settle(const choose_plan *plan, limn_error *error) {
    char path[4096];
    size_t there;
    json_t *now = NULL, *was = NULL;
    if (limn_path_join(path, sizeof path, plan->write->output, CONFIGURATION, error)) return -1;
    const bool known = limn_file_exists(path);
    if (each_side(plan, false, &there, error)) return -1;
    if (!known && there)
        return limn_fail_usage(error, "%s: has tars or shards but no %s that says how they were made; give another --output",
                               plan->write->output, CONFIGURATION);
    if (plan->write->restart && known && (each_side(plan, true, &there, error) || unlink(path)))
        return limn_fail(error, "%s: cannot be removed for --restart", path);
    int failed = (now = describe(plan, error)) ? 0 : -1;
    if (!failed && known && !plan->write->restart)
        failed = (was = limn_json_load(path, error))
                     ? limn_json_refuse_other(path, was, now, "files (or one has changed since)", error)
                     : -1;
    else if (!failed)
        failed = limn_json_save(now, path, error);
    json_decref(was);
    json_decref(now);
    return failed;
}

int choose_output_open(const choose_plan *plan, int *lock, limn_error *error) {
    if (limn_make_directories(plan->write->output, error) || check_inputs(plan, error) ||
        limn_lock(plan->write->output, lock, error))
        return -1;
    if (settle(plan, error) == 0 && make_sides(plan, error) == 0) return 0;
    limn_unlock(*lock);
    return -1;
}
