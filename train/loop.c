#include "train/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int train_copy_parameters(parameters *to, const parameters *from, const char *where, limn_error *error) {
    for (size_t i = 0; i < to->count; i++) {
        const parameter *target = &to->list[i], *source = parameters_find(from, target->name);
        if (!source || source->rank != target->rank || memcmp(source->shape, target->shape, target->rank * sizeof *target->shape) != 0)
            return limn_fail(error, "%s: %s is missing or has another shape; the configuration must be that model's", where, target->name);
        memcpy(target->mutable_value, source->value, target->size * sizeof *target->mutable_value);
    }
    return 0;
}

/* ---------------------------------------------------------------- checkpoints */

static int checkpoint_path(const train_run *run, uint64_t step, const char *prefix, char *path, size_t room, limn_error *error) {
    char name[64];
    snprintf(name, sizeof name, "checkpoints/%s%08llu", prefix, (unsigned long long)step);
    return limn_path_join(path, room, run->directory, name, error);
}

static int compare_steps(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The steps of all whole checkpoints, ascending; what a kill left half-written is removed. */
static int list_checkpoints(const train_run *run, uint64_t **out_steps, size_t *out_count, limn_error *error) {
    char path[4096];
    if (limn_path_join(path, sizeof path, run->directory, "checkpoints", error)) return -1;
    DIR *folder = opendir(path);
    if (!folder) return limn_fail(error, "%s: cannot be listed: %s", path, strerror(errno));
    uint64_t *steps = NULL;
    size_t count = 0;
    int status = 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(folder));) {
        char *end;
        uint64_t step = strtoull(entry->d_name, &end, 10);
        if (end != entry->d_name && *end == '\0') {
            uint64_t *grown = realloc(steps, (count + 1) * sizeof *steps);
            if (!grown) status = limn_fail(error, "%s: no memory to list it", path);
            else {
                steps = grown;
                steps[count++] = step;
            }
        } else if (strncmp(entry->d_name, ".partial-", 9) == 0 || strncmp(entry->d_name, ".old-", 5) == 0) {
            char left[4096];
            if (limn_path_join(left, sizeof left, path, entry->d_name, error) == 0) (void)limn_remove_tree(left, NULL);
        }
    }
    closedir(folder);
    if (count) qsort(steps, count, sizeof *steps, compare_steps);
    *out_steps = steps;
    *out_count = count;
    return status;
}

static int sync_directory(const char *path, limn_error *error) {
    int directory = open(path, O_RDONLY | O_DIRECTORY);
    int failed = directory < 0 || fsync(directory);
    if (directory >= 0) close(directory);
    return failed ? limn_fail(error, "%s: cannot be flushed to disk: %s", path, strerror(errno)) : 0;
}

/* Points RUN/model at the checkpoint; a reader sees the old or the new one. */
static int link_newest(const train_run *run, uint64_t step, limn_error *error) {
    char target[64], link_path[4096], temporary[4096];
    snprintf(target, sizeof target, "checkpoints/%08llu", (unsigned long long)step);
    if (limn_path_join(link_path, sizeof link_path, run->directory, "model", error) ||
        limn_path_join(temporary, sizeof temporary, run->directory, ".model.new", error))
        return -1;
    unlink(temporary);
    if (symlink(target, temporary) || rename(temporary, link_path))
        return limn_fail(error, "%s: cannot be made a link to %s: %s", link_path, target, strerror(errno));
    return 0;
}

static int drop_old_checkpoints(const train_run *run, size_t keep, limn_error *error) {
    uint64_t *steps;
    size_t count;
    if (list_checkpoints(run, &steps, &count, error)) return -1;
    int status = 0;
    for (size_t i = 0; status == 0 && keep && i + keep < count; i++) {
        char path[4096], hidden[4096];
        /* Renamed first, so that a kill in the middle of the removal leaves no checkpoint that looks whole. */
        if (checkpoint_path(run, steps[i], "", path, sizeof path, error) ||
            checkpoint_path(run, steps[i], ".old-", hidden, sizeof hidden, error))
            status = -1;
        else if (rename(path, hidden)) status = limn_fail(error, "%s: cannot be removed: %s", path, strerror(errno));
        else status = limn_remove_tree(hidden, error);
    }
    free(steps);
    return status;
}

static int save_checkpoint(train_run *run, train_task *task, const train_settings *settings, uint64_t step, limn_error *error) {
    char partial[4096], path[4096], file[4096];
    if (checkpoint_path(run, step, ".partial-", partial, sizeof partial, error) ||
        checkpoint_path(run, step, "", path, sizeof path, error))
        return -1;
    if (limn_file_exists(path)) return 0;
    (void)limn_remove_tree(partial, NULL);
    float sums[TRAIN_MAX_METRICS];
    for (size_t i = 0; i < task->metric_count; i++) sums[i] = task->metrics[i].sum;
    state_array arrays[TRAIN_MAX_STATE + 1];
    memcpy(arrays, task->state, task->state_count * sizeof *arrays);
    arrays[task->state_count] = (state_array){"metric_sums", task->metric_count, sums};
    state_counter counter = {"step", step};
    int status = limn_make_directories(partial, error);
    if (status == 0) status = task->save(task->self, partial, error);
    if (status == 0) status = limn_path_join(file, sizeof file, partial, "train_state.h5", error);
    if (status == 0) status = train_state_write(file, arrays, task->state_count + 1, &counter, 1, error);
    if (status == 0) status = sync_directory(partial, error);
    if (status == 0 && rename(partial, path)) status = limn_fail(error, "%s: cannot be renamed: %s", partial, strerror(errno));
    if (status) {
        (void)limn_remove_tree(partial, NULL);
        return -1;
    }
    if (limn_path_join(file, sizeof file, run->directory, "checkpoints", error) || sync_directory(file, error)) return -1;
    if (link_newest(run, step, error)) return -1;
    return drop_old_checkpoints(run, settings->keep_checkpoints, error);
}

static int load_checkpoint(const train_run *run, train_task *task, uint64_t step, limn_error *error) {
    char path[4096], file[4096];
    if (checkpoint_path(run, step, "", path, sizeof path, error) ||
        limn_path_join(file, sizeof file, path, "train_state.h5", error) || task->load(task->self, path, error))
        return -1;
    float sums[TRAIN_MAX_METRICS];
    state_array arrays[TRAIN_MAX_STATE + 1];
    memcpy(arrays, task->state, task->state_count * sizeof *arrays);
    arrays[task->state_count] = (state_array){"metric_sums", task->metric_count, sums};
    state_counter counter = {"step", 0};
    if (train_state_read(file, arrays, task->state_count + 1, &counter, 1, error)) return -1;
    if (counter.value != step) return limn_fail(error, "%s: holds step %llu; remove this checkpoint", file, (unsigned long long)counter.value);
    for (size_t i = 0; i < task->metric_count; i++) task->metrics[i].sum = sums[i];
    return 0;
}

/* Loads the newest checkpoint that can be read; *step stays 0 when there is none. */
static int load_newest(const train_run *run, train_task *task, uint64_t *step, limn_error *error) {
    uint64_t *steps;
    size_t count;
    if (list_checkpoints(run, &steps, &count, error)) return -1;
    int status = 0;
    for (size_t i = count; i-- > 0;) {
        status = load_checkpoint(run, task, steps[i], error);
        if (status == 0) {
            *step = steps[i];
            break;
        }
        if (i > 0) limn_log(LIMN_LOG_WARNING, "%s; going back to step %llu", error->message, (unsigned long long)steps[i - 1]);
    }
    if (status) limn_fail_context(error, "no checkpoint can be read (--restart begins anew)");
    free(steps);
    return status;
}

/* ---------------------------------------------------------------- metrics */

/* Keeps the lines up to `step`: what a killed run wrote after its last checkpoint is written again. */
static int trim_metrics(const char *path, uint64_t step, limn_error *error) {
    if (!limn_file_exists(path)) return 0;
    size_t size, kept = 0;
    char *text = limn_file_read(path, (size_t)1 << 32, &size, error);
    if (!text) return -1;
    for (size_t start = 0; start < size;) {
        char *newline = memchr(text + start, '\n', size - start);
        if (!newline) break;
        size_t end = (size_t)(newline - text) + 1;
        json_t *line = json_loadb(text + start, end - start, 0, NULL);
        json_t *number = json_object_get(line, "step");
        bool keep = json_is_integer(number) && (uint64_t)json_integer_value(number) <= step;
        json_decref(line);
        if (!keep) break;
        kept = start = end;
    }
    int status = limn_atomic_write(path, text, kept, error);
    free(text);
    return status;
}

static int write_metrics(FILE *stream, const char *path, const json_t *line, limn_error *error) {
    if (json_dumpf(line, stream, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7)) || fputc('\n', stream) == EOF || fflush(stream))
        return limn_fail(error, "%s: cannot be written: %s", path, strerror(errno));
    return 0;
}

/* JSON has no infinities: a loss that is none is written as null, and seen. */
static void set_number(json_t *line, const char *key, double value) {
    json_object_set_new(line, key, isfinite(value) ? json_real(value) : json_null());
}

/* ---------------------------------------------------------------- the loop */

/* What steps that change nothing leave out: the optimizer, validation, samples, checkpoints, and a machine that slows down later. */
static const double SHARE_OF_TIME_MEASURED = 0.9;

/* As many steps as fit in the given minutes. Measured by steps that change nothing, before the first. */
static int measure_steps(train_task *task, train_settings *settings, double minutes, limn_error *error) {
    if (task->rehearse(task->self, error)) return -1; /* touches all memory */
    double begin = limn_seconds(), elapsed;
    size_t done = 0;
    do {
        if (task->rehearse(task->self, error)) return -1;
        done++;
        elapsed = limn_seconds() - begin;
    } while (elapsed < 4.0 && !limn_stop_requested());
    double fit = SHARE_OF_TIME_MEASURED * minutes * 60.0 / (elapsed / (double)done);
    if (fit < (double)settings->schedule.steps) settings->schedule.steps = fit < 1.0 ? 1 : (size_t)fit;
    limn_log(LIMN_LOG_INFO, "%.3g s a step: %zu steps in %.3g minutes", elapsed / (double)done, settings->schedule.steps, minutes);
    return 0;
}

static bool due(uint64_t step, size_t every, size_t last) {
    return step == last || (every && step % every == 0);
}

static int after_step(train_run *run, train_task *task, const train_settings *settings, uint64_t step, FILE *stream,
                      const char *metrics_path, double *last_time, limn_error *error) {
    size_t last = settings->schedule.steps;
    bool log_due = due(step, settings->log_every, last), valid_due = task->validate && due(step, settings->valid_every, last);
    if (log_due || valid_due) {
        json_t *line = json_object();
        json_object_set_new(line, "step", json_integer((json_int_t)step));
        int status = 0;
        if (log_due) {
            size_t window = (step - 1) % settings->log_every + 1;
            double now = limn_seconds();
            for (size_t i = 0; i < task->metric_count; i++) {
                train_metric *metric = &task->metrics[i];
                set_number(line, metric->name, metric->last ? (double)metric->value : (double)metric->sum / (double)window);
                metric->sum = 0;
            }
            set_number(line, "learning_rate", learning_rate_at(&settings->schedule, step));
            char rate[64];
            snprintf(rate, sizeof rate, "%s_per_second", task->unit);
            set_number(line, rate, (double)(window * task->samples_per_step) / (now - *last_time));
        }
        if (valid_due) status = task->validate(task->self, line, error);
        if (status == 0) status = write_metrics(stream, metrics_path, line, error);
        json_decref(line);
        if (status) return -1;
        *last_time = limn_seconds();
    }
    if (task->sample && due(step, settings->sample_every, last)) {
        char name[64], path[4096];
        snprintf(name, sizeof name, "samples/%08llu", (unsigned long long)step);
        if (limn_path_join(path, sizeof path, run->directory, name, error) || task->sample(task->self, path, error)) return -1;
    }
    if (due(step, settings->checkpoint_every, last) || limn_stop_requested()) return save_checkpoint(run, task, settings, step, error);
    return 0;
}

/* Step `failed` could not be begun, and the state is still that of the step before: saved, so that nothing is lost. */
static void save_step_before(train_run *run, train_task *task, const train_settings *settings, uint64_t failed, limn_error *error) {
    limn_error why = {0};
    limn_fail_context(error, "step %llu", (unsigned long long)failed);
    if (failed == 1) return;
    if (save_checkpoint(run, task, settings, failed - 1, &why)) limn_log(LIMN_LOG_WARNING, "%s", why.message);
    else
        limn_log(LIMN_LOG_INFO, "%s: step %llu is saved; the same command goes on from there", run->directory,
                 (unsigned long long)failed - 1);
}

static int run_steps(train_run *run, train_task *task, const train_settings *settings, uint64_t from, FILE *stream,
                     const char *metrics_path, limn_error *error) {
    size_t last = settings->schedule.steps;
    limn_progress *progress = limn_progress_start("train", "steps", from, last);
    double last_time = limn_seconds();
    int status = 0;
    for (uint64_t step = from + 1; status == 0 && step <= last; step++) {
        status = task->step(task->self, step, error);
        if (status && task->fails_before_change) save_step_before(run, task, settings, step, error);
        for (size_t i = 0; status == 0 && i < task->metric_count; i++) {
            task->metrics[i].sum += task->metrics[i].value;
            if (!isfinite(task->metrics[i].value))
                status = limn_fail(error, "step %llu: %s is not a number; go on from the last checkpoint with a lower "
                                   "train learning_rate or a smaller max_grad_norm in another --output",
                                   (unsigned long long)step, task->metrics[i].name);
        }
        if (status == 0) status = after_step(run, task, settings, step, stream, metrics_path, &last_time, error);
        if (status == 0)
            limn_progress_update(progress, step, "%s %.4g  %s %.4g", task->metrics[0].name, (double)task->metrics[0].value,
                                 task->metrics[1].name, (double)task->metrics[1].value);
        if (status == 0 && limn_stop_requested() && step < last)
            status = limn_fail(error, "%s: stopped after step %llu of %zu, all saved; the same command goes on from there",
                               run->directory, (unsigned long long)step, last);
    }
    limn_progress_finish(progress);
    return status;
}

int train_loop(train_run *run, train_task *task, train_settings *settings, const train_options *options, limn_error *error) {
    char path[4096];
    uint64_t step = 0;
    if (run->resumes) {
        if (load_newest(run, task, &step, error)) return -1;
    } else {
        if (options->minutes > 0 && measure_steps(task, settings, options->minutes, error)) return -1;
        if (limn_stop_requested()) return limn_fail(error, "%s: stopped before the first step", run->directory);
        json_object_set_new(run->config, "steps", json_integer((json_int_t)settings->schedule.steps));
        if (limn_path_join(path, sizeof path, run->directory, "config.json", error) || limn_json_save(run->config, path, error))
            return -1;
    }
    if (step >= settings->schedule.steps) {
        limn_log(LIMN_LOG_INFO, "%s: all %llu steps are done", run->directory, (unsigned long long)step);
        return 0;
    }
    if (step) limn_log(LIMN_LOG_INFO, "%s: going on from step %llu", run->directory, (unsigned long long)step);
    if (limn_path_join(path, sizeof path, run->directory, "metrics.jsonl", error) || trim_metrics(path, step, error)) return -1;
    FILE *stream = fopen(path, "a");
    if (!stream) return limn_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
    int status = run_steps(run, task, settings, step, stream, path, error);
    if (fclose(stream) && status == 0) status = limn_fail(error, "%s: cannot be written: %s", path, strerror(errno));
    return status;
}
