/* Reads a configuration's `train` sections, and the files a run is made from. */
#include "train/loop.h"

#include <string.h>
#include <unistd.h>

json_t *train_configuration(const train_options *options, limn_error *error) {
    json_t *config = limn_json_load(options->config, error);
    if (!config) return NULL;
    static const char *const sections[] = {"vqgan", "tokenizer", "seq2seq", "train", NULL};
    bool ok = limn_json_check_keys(config, options->config, sections, error) == 0;
    for (size_t i = 0; ok && i < options->set.count; i++) ok = limn_json_set(config, options->set.items[i], error) == 0;
    if (ok) return config;
    json_decref(config);
    return NULL;
}

json_t *train_section(const json_t *config, const char *file, const char *section, const char *subsection, limn_error *error) {
    json_t *found = json_object_get(config, section);
    if (found && subsection) found = json_object_get(found, subsection);
    if (json_is_object(found)) return found;
    limn_fail_usage(error, "%s: has no section \"%s%s%s\"", file, section, subsection ? "." : "", subsection ? subsection : "");
    return NULL;
}

train_settings train_settings_defaults(void) {
    return (train_settings){.schedule.steps = 1000,
                            .optimizer.options = optimizer_defaults(OPTIMIZER_ADAMW),
                            .batch_size = 8,
                            .accumulation = 1,
                            .log_every = 20,
                            .checkpoint_every = 500,
                            .keep_checkpoints = 2,
                            .keep_best = true,
                            .seed = 1};
}

int train_settings_read(train_settings *settings, const json_t *section, const char *where, const char *const *extra,
                        limn_error *error) {
    static const char *const own[] = {"steps", "batch_size", "accumulation", "learning_rate", "offset", "warmup_steps", "decay",
                                      "final_learning_rate_share", "transition_steps", "decay_rate", "staircase", "max_grad_norm",
                                      "log_every", "valid_every", "sample_every", "checkpoint_every", "keep_checkpoints", "keep_best",
                                      "max_loss_rise", "seed"};
    const char *known[OPTIMIZER_KEYS_MAX + 64];
    if (optimizer_settings_read(&settings->optimizer, section, where, known, error)) return -1;
    size_t count = 0;
    while (known[count]) count++;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) known[count++] = own[i];
    for (size_t i = 0; extra[i]; i++) known[count++] = extra[i];
    known[count] = NULL;

    size_t seed = (size_t)settings->seed;
    const size_t many = 1000000000;
    if (limn_json_check_keys(section, where, known, error) ||
        limn_json_get_size(section, where, "steps", 1, many, &settings->schedule.steps, error) ||
        limn_json_get_size(section, where, "batch_size", 1, 1u << 20, &settings->batch_size, error) ||
        limn_json_get_size(section, where, "accumulation", 1, 1u << 20, &settings->accumulation, error) ||
        learning_rate_read(&settings->schedule, section, where, error) ||
        limn_json_get_float(section, where, "max_grad_norm", 0, 1e9, &settings->max_grad_norm, error) ||
        limn_json_get_size(section, where, "log_every", 1, many, &settings->log_every, error) ||
        limn_json_get_size(section, where, "valid_every", 0, many, &settings->valid_every, error) ||
        limn_json_get_size(section, where, "sample_every", 0, many, &settings->sample_every, error) ||
        limn_json_get_size(section, where, "checkpoint_every", 0, many, &settings->checkpoint_every, error) ||
        limn_json_get_size(section, where, "keep_checkpoints", 0, many, &settings->keep_checkpoints, error) ||
        limn_json_get_bool(section, where, "keep_best", &settings->keep_best, error) ||
        limn_json_get_float(section, where, "max_loss_rise", 0, 1e9, &settings->max_loss_rise, error) ||
        limn_json_get_size(section, where, "seed", 0, SIZE_MAX >> 12, &seed, error))
        return -1;
    if (settings->max_loss_rise > 0 && settings->max_loss_rise <= 1)
        return limn_fail_usage(error, "%s: max_loss_rise %g would end any run; it is a factor above 1, or 0 for none", where,
                               settings->max_loss_rise);
    settings->seed = seed;
    return 0;
}

int train_hash_files(const char *directory, const char *const *names, char out_hex[65], limn_error *error) {
    limn_buffer list = {0};
    int status = limn_buffer_append(&list, "", 0, error);
    for (size_t i = 0; status == 0 && names[i]; i++) {
        char path[4096], hash[65];
        status = limn_path_join(path, sizeof path, directory, names[i], error);
        if (status || !limn_file_exists(path)) continue;
        status = limn_sha256_file(path, hash, error);
        if (status == 0) status = limn_buffer_printf(&list, error, "%s %s\n", hash, names[i]);
    }
    if (status == 0) limn_sha256(list.data, list.size, out_hex);
    limn_buffer_free(&list);
    return status;
}

int train_link_or_copy(const char *from, const char *to, limn_error *error) {
    return link(from, to) == 0 ? 0 : limn_atomic_copy(from, to, error);
}
