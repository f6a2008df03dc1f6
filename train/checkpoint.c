/* Checkpoints: written beside the training, found again after any kill. */
#include "train/checkpoint.h"
#include "train/layers.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int checkpoint_path(const char *directory, uint64_t step, const char *prefix, char *path, size_t room,
                           limn_error *error) {
    char name[64];
    snprintf(name, sizeof name, "checkpoints/%s%08llu", prefix, (unsigned long long)step);
    return limn_path_join(path, room, directory, name, error);
}

static int compare_steps(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The steps of all whole checkpoints, ascending; what a kill left half-written is removed. */
static int list_checkpoints(const char *directory, uint64_t **out_steps, size_t *out_count, limn_error *error) {
    char path[4096];
    if (limn_path_join(path, sizeof path, directory, "checkpoints", error)) return -1;
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
            if (!grown) {
                status = limn_fail(error, "%s: no memory to list it", path);
            } else {
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

/* Points RUN/NAME at the checkpoint; a reader sees the old or the new one. */
static int point_link(const char *directory, const char *name, uint64_t step, limn_error *error) {
    char target[64], hidden[64], link_path[4096], temporary[4096];
    snprintf(target, sizeof target, "checkpoints/%08llu", (unsigned long long)step);
    snprintf(hidden, sizeof hidden, ".%s.new", name);
    if (limn_path_join(link_path, sizeof link_path, directory, name, error) ||
        limn_path_join(temporary, sizeof temporary, directory, hidden, error))
        return -1;
    unlink(temporary);
    if (symlink(target, temporary) || rename(temporary, link_path))
        return limn_fail(error, "%s: cannot be made a link to %s: %s", link_path, target, strerror(errno));
    return 0;
}

static bool is_there(const train_checkpoints *self, uint64_t step) {
    char path[4096];
    return step && checkpoint_path(self->directory, step, "", path, sizeof path, NULL) == 0 && limn_file_exists(path);
}

/* RUN/model and RUN/best; a checkpoint that is the best of all has just been written, or is there still. */
static int point_links(const train_checkpoints *self, uint64_t newest, limn_error *error) {
    if (point_link(self->directory, "model", newest, error)) return -1;
    return self->keep_best && is_there(self, self->best) ? point_link(self->directory, "best", self->best, error) : 0;
}

static int drop_old(const train_checkpoints *self, limn_error *error) {
    uint64_t *steps;
    size_t count;
    if (list_checkpoints(self->directory, &steps, &count, error)) return -1;
    int status = 0;
    for (size_t i = 0; status == 0 && self->keep && i + self->keep < count; i++) {
        char path[4096], hidden[4096];
        if (self->keep_best && steps[i] == self->best) continue;
        /* Renamed first, so that a kill in the middle of the removal leaves no checkpoint that looks whole. */
        if (checkpoint_path(self->directory, steps[i], "", path, sizeof path, error) ||
            checkpoint_path(self->directory, steps[i], ".old-", hidden, sizeof hidden, error))
            status = -1;
        else if (rename(path, hidden))
            status = limn_fail(error, "%s: cannot be removed: %s", path, strerror(errno));
        else
            status = limn_remove_tree(hidden, error);
    }
    free(steps);
    return status;
}

/* ---------------------------------------------------------------- what is saved */

enum { LOOP_FIRST_LOSS, LOOP_SMOOTHED_LOSS, LOOP_BEST_VALUE };
enum { COUNTER_STEP, COUNTER_BEST };

/* The task's arrays and the loop's own: sums of the metrics since their last line, the guard, the best validation. */
static void gather(train_checkpoints *self) {
    const train_task *task = self->task;
    memcpy(self->arrays, task->state, task->state_count * sizeof *self->arrays);
    self->array_count = task->state_count;
    self->arrays[self->array_count++] = (state_array){"metric_sums", task->metric_count, self->sums};
    self->arrays[self->array_count++] = (state_array){"loop", sizeof self->loop / sizeof *self->loop, self->loop};
    self->counters[COUNTER_STEP] = (state_counter){"step", 0};
    self->counters[COUNTER_BEST] = (state_counter){"best_step", 0};
}

static state_mover mover_of(const train_task *task) {
    return task->shared ? shared_state_mover(task->shared) : (state_mover){NULL, NULL};
}

/* Rank 0 reads the file, and the others get their part of it. */
static int read_checkpoint(train_checkpoints *self, uint64_t step, limn_error *error) {
    train_task *task = self->task;
    char path[4096], file[4096];
    if (checkpoint_path(self->directory, step, "", path, sizeof path, error) ||
        limn_path_join(file, sizeof file, path, "train_state.h5", error) || task->load(task->self, path, error))
        return -1;
    state_mover mover = mover_of(task);
    if (train_state_read_pieces(file, self->arrays, self->array_count, self->counters, 2, mover.move ? &mover : NULL, error)) return -1;
    if (self->counters[COUNTER_STEP].value != step)
        return limn_fail(error, "%s: holds step %llu; remove this checkpoint", file,
                         (unsigned long long)self->counters[COUNTER_STEP].value);
    return 0;
}

static int load_checkpoint(train_checkpoints *self, train_guard *guard, uint64_t step, limn_error *error) {
    train_task *task = self->task;
    gather(self);
    if (task->shared) shared_state_begin(task->shared, false);
    int status = read_checkpoint(self, step, error);
    if (task->shared && shared_state_end(task->shared, status ? NULL : error)) status = -1;
    if (status) return -1;
    for (size_t i = 0; i < task->metric_count; i++) task->metrics[i].sum = self->sums[i];
    *guard = (train_guard){.first = self->loop[LOOP_FIRST_LOSS], .smoothed = self->loop[LOOP_SMOOTHED_LOSS]};
    self->best_value = self->loop[LOOP_BEST_VALUE];
    self->best = self->counters[COUNTER_BEST].value;
    return 0;
}

/* What every rank knows of a checkpoint besides weights and arrays. */
typedef struct {
    bool tries, loaded; /* rank 0 tries one (the next); it was read */
    uint64_t step, best;
    float best_value, sums[TRAIN_MAX_METRICS];
    train_guard guard;
} checkpoint_news;

static int tell(train_checkpoints *self, const train_guard *guard, uint64_t step, bool tries, bool loaded, limn_error *error) {
    checkpoint_news news = {.tries = tries, .loaded = loaded, .step = step, .best = self->best, .best_value = self->best_value, .guard = *guard};
    for (size_t i = 0; i < self->task->metric_count; i++) news.sums[i] = self->task->metrics[i].sum;
    return world_broadcast(self->task->all, 0, &news, sizeof news, error);
}

/* The other ranks: as rank 0 tries one checkpoint after another. Where none can be read it ends the job. */
static int follow_load(train_checkpoints *self, train_guard *guard, uint64_t *step, limn_error *error) {
    train_task *task = self->task;
    checkpoint_news news = {.tries = true};
    while (news.tries) {
        if (world_broadcast(task->all, 0, &news, sizeof news, error)) return -1;
        if (news.tries && task->shared && shared_state_follow(task->shared, false, error)) return -1;
    }
    if (!news.loaded) return 0;
    for (size_t i = 0; i < task->metric_count; i++) task->metrics[i].sum = news.sums[i];
    *step = self->newest = news.step;
    self->best = news.best;
    self->best_value = news.best_value;
    *guard = news.guard;
    return task->spread ? task->spread(task->self, error) : 0;
}

int train_checkpoints_load(train_checkpoints *self, train_guard *guard, uint64_t *step, limn_error *error) {
    if (world_rank(self->task->all)) return follow_load(self, guard, step, error);
    uint64_t *steps;
    size_t count;
    if (list_checkpoints(self->directory, &steps, &count, error)) return -1;
    int status = 0;
    for (size_t i = count; i-- > 0;) {
        status = tell(self, guard, 0, true, false, error);
        if (status) break;
        status = load_checkpoint(self, guard, steps[i], error);
        if (status == 0) {
            *step = self->newest = steps[i];
            status = point_links(self, steps[i], error); /* a kill may have come between checkpoint and links */
            break;
        }
        if (i > 0)
            limn_log(LIMN_LOG_WARNING, "%s; going back to step %llu", error->message, (unsigned long long)steps[i - 1]);
        else
            limn_fail_context(error, "no checkpoint can be read (--restart begins anew)");
    }
    free(steps);
    if (status || tell(self, guard, *step, false, count > 0, error)) return -1;
    return count && self->task->spread ? self->task->spread(self->task->self, error) : 0;
}

bool train_checkpoints_note(train_checkpoints *self, uint64_t step, double value) {
    float found = (float)value;
    bool better = self->best == 0 || (self->task->more_is_better ? found > self->best_value : found < self->best_value);
    if (!better || found - found != 0) return false; /* what is no number is never the best */
    self->best_before = self->best;
    self->best_value_before = self->best_value;
    self->best = step;
    self->best_value = found;
    return true;
}

/* ---------------------------------------------------------------- writing */

static int write_folder(train_checkpoints *self, const char *partial, limn_error *error) {
    const train_task *task = self->task;
    const state_mover mover = mover_of(task);
    char file[4096];
    const parameter *bad = layer_first_without_number(task->weights);
    if (bad) return limn_fail(error, "%s holds what is no number: such a model is not saved", bad->name);
    return limn_make_directories(partial, error) || task->save(task->self, partial, error) ||
                   limn_path_join(file, sizeof file, partial, "train_state.h5", error) ||
                   train_state_write_pieces(file, self->arrays, self->array_count, self->counters, 2, mover.move ? &mover : NULL, error) ||
                   limn_sync_folder(partial, error)
               ? -1
               : 0;
}

static int write_checkpoint(train_checkpoints *self, limn_error *error) {
    char partial[4096], path[4096], folder[4096];
    if (checkpoint_path(self->directory, self->step, ".partial-", partial, sizeof partial, error) ||
        checkpoint_path(self->directory, self->step, "", path, sizeof path, error) ||
        limn_path_join(folder, sizeof folder, self->directory, "checkpoints", error))
        return -1;
    if (!self->is_there) {
        (void)limn_remove_tree(partial, NULL);
        int status = write_folder(self, partial, error);
        if (status == 0 && rename(partial, path))
            status = limn_fail(error, "%s: cannot be renamed: %s", partial, strerror(errno));
        if (status) {
            (void)limn_remove_tree(partial, NULL);
            return -1;
        }
    }
    if (limn_sync_folder(folder, error) || point_links(self, self->step, error)) return -1;
    return drop_old(self, error);
}

/* Rank 0 writes; the others give it what they keep, to the end, also where the disk is full. */
static int work_together(train_checkpoints *self, limn_error *error) {
    train_task *task = self->task;
    bool gives = task->shared && !self->is_there;
    if (gives && task->collect && task->collect(task->self, error)) return -1;
    if (world_rank(task->all)) return gives ? shared_state_follow(task->shared, true, error) : 0;
    if (gives) shared_state_begin(task->shared, true);
    int status = write_checkpoint(self, error);
    return gives && shared_state_end(task->shared, status ? NULL : error) ? -1 : status;
}

static void *work(void *context) {
    train_checkpoints *self = context;
    self->status = work_together(self, &self->error);
    return NULL;
}

int train_checkpoints_begin(train_checkpoints *self, const train_guard *guard, uint64_t step, limn_error *error) {
    assert(!self->begun);
    self->is_there = world_rank(self->task->all) == 0 && is_there(self, step);
    if (world_broadcast(self->task->all, 0, &self->is_there, sizeof self->is_there, error)) return -1;
    gather(self);
    for (size_t i = 0; i < self->task->metric_count; i++) self->sums[i] = self->task->metrics[i].sum;
    self->loop[LOOP_FIRST_LOSS] = guard->first;
    self->loop[LOOP_SMOOTHED_LOSS] = guard->smoothed;
    self->loop[LOOP_BEST_VALUE] = self->best_value;
    self->counters[COUNTER_STEP].value = self->step = step;
    self->counters[COUNTER_BEST].value = self->best;
    self->error = (limn_error){0};
    self->begun = true;
    if (limn_threads_start(&self->thread, 1, work, self, NULL)) work(self); /* no thread to be had: right here */
    return 0;
}

int train_checkpoints_wait(train_checkpoints *self, limn_error *error) {
    if (!self->begun) return 0;
    double begin = limn_seconds();
    limn_threads_join(&self->thread);
    self->waited += limn_seconds() - begin;
    self->begun = false;
    if (self->status == 0) {
        self->newest = self->step;
        return 0;
    }
    if (self->best == self->step) { /* nothing of it is kept: a later one may be the best */
        self->best = self->best_before;
        self->best_value = self->best_value_before;
    }
    if (error) *error = self->error;
    return -1;
}
