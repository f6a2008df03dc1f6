/* The loop of a training: what happens after which step. */
#include "train/loop.h"
#include "train/checkpoint.h"
#include "train/guard.h"
#include "train/watch.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- how long */

/* Steps of fewer products are over before two seconds of measuring the machine's peak are worth while. */
static const double WORTH_A_PEAK = 1e12;

/* What steps that change nothing leave out: the optimizer, validation, samples, checkpoints, and a machine that slows down
 * later. */
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
    limn_log(LIMN_LOG_INFO, "%.3g s a step: %zu steps in %.3g minutes", elapsed / (double)done, settings->schedule.steps,
             minutes);
    return 0;
}

/* ---------------------------------------------------------------- the loop */

typedef struct {
    train_run *run;
    train_task *task;
    const train_settings *settings;
    train_checkpoints checkpoints;
    train_watch watch;
    train_guard guard;
    bool stops;        /* a rank was asked to stop */
    char suspect[512]; /* where the loss began to rise: the layer that went first */
} training;

/* One rank of all writes files and speaks. */
static bool leads(const training *self) {
    return world_rank(self->task->all) == 0;
}

/* All ranks stop after the same step: when any of them has been asked to. */
static int hear_stop(training *self, limn_error *error) {
    double asked = limn_stop_requested() ? 1 : 0;
    if (world_sum(self->task->all, &asked, 1, error)) return -1;
    self->stops = asked > 0;
    return 0;
}

static bool due(uint64_t step, size_t every, size_t last) {
    return step == last || (every && step % every == 0);
}

/* A checkpoint that could not be written does not end a run of weeks. */
static void settle(train_checkpoints *checkpoints) {
    limn_error trouble = {0};
    if (train_checkpoints_wait(checkpoints, &trouble))
        limn_log(LIMN_LOG_WARNING, "NO CHECKPOINT of step %llu: %s; the run goes on and tries again at its next one",
                 (unsigned long long)checkpoints->step, trouble.message);
}

void train_before_update(train_run *run) {
    if (run->checkpoints) settle(run->checkpoints);
    if (run->norms) layer_norms_before_update(run->norms);
}

/* Ends the run: says what is wrong, where, and from where to go on. */
static int give_up(training *self, uint64_t step, const char *reason, limn_error *error) {
    char from[256] = "nothing was saved before: begin anew";
    (void)train_checkpoints_wait(&self->checkpoints, NULL);
    if (self->checkpoints.newest)
        snprintf(from, sizeof from, "go on from the last good checkpoint, checkpoints/%08llu,",
                 (unsigned long long)self->checkpoints.newest);
    return limn_fail(error, "%s: step %llu: %s; %s; %s with a lower learning rate: --force --set %s.learning_rate=%.2g",
                     self->run->directory, (unsigned long long)step, reason, self->suspect, from, self->task->section,
                     self->settings->schedule.learning_rate / 3);
}

/* What ends a run at once: a metric that is no number, or a loss that has exploded. The layer that went first is looked for
 * where the loss begins to rise. */
static int check_metrics(training *self, uint64_t step, limn_error *error) {
    const train_metric *metrics = self->task->metrics, *bad = metrics;
    size_t above = self->guard.above;
    double loss = (double)metrics[0].value, most = self->settings->max_loss_rise;
    loss_verdict verdict = train_guard_look(&self->guard, loss, most);
    for (size_t i = 1; verdict != LOSS_NO_NUMBER && i < self->task->metric_count; i++)
        if (!isfinite(metrics[i].value)) {
            verdict = LOSS_NO_NUMBER;
            bad = &metrics[i];
        }
    if (verdict == LOSS_NO_NUMBER || (verdict == LOSS_RISEN && above == 0))
        layer_culprit(self->suspect, sizeof self->suspect, &self->watch.norms);
    char reason[256];
    if (verdict == LOSS_NO_NUMBER)
        snprintf(reason, sizeof reason, "%s is not a number", bad->name);
    else if (verdict == LOSS_EXPLODED)
        snprintf(reason, sizeof reason, "%s is %.4g, for %d steps more than %g times the %.4g that it was (max_loss_rise)",
                 bad->name, loss, GUARD_PATIENCE, most, train_guard_usual(&self->guard));
    else
        return 0;
    return give_up(self, step, reason, error);
}

static int log_and_validate(training *self, uint64_t step, bool *best, limn_error *error) {
    const train_settings *settings = self->settings;
    const train_task *task = self->task;
    size_t last = settings->schedule.steps;
    bool log_due = due(step, settings->log_every, last), valid_due = task->validate && due(step, settings->valid_every, last);
    if (!log_due && !valid_due) return 0;
    json_t *line = train_watch_line(step);
    if (log_due) train_watch_add_means(&self->watch, line, step);
    if (valid_due && task->validate(task->self, line, error)) {
        json_decref(line);
        return -1;
    }
    const json_t *value = valid_due ? json_object_get(line, task->valid_key) : NULL;
    /* Where the loss has just risen nothing is saved, the best neither. */
    if (leads(self))
        *best = json_is_number(value) && self->guard.above == 0 &&
                train_checkpoints_note(&self->checkpoints, step, json_number_value(value));
    if (valid_due && world_broadcast(task->all, 0, best, sizeof *best, error)) {
        json_decref(line);
        return -1;
    }
    return train_watch_write(&self->watch, line, log_due, step, error);
}

static int draw_samples(training *self, uint64_t step, limn_error *error) {
    picture drawn = {0};
    if (self->task->sample(self->task->self, &drawn, error)) return limn_stop_requested() ? 0 : -1;
    int status = train_watch_picture(&self->watch, &drawn, step, error);
    picture_free(&drawn);
    return status;
}

/* Begins a checkpoint; waits for it where the run ends here. */
static int save(training *self, uint64_t step, bool ends, limn_error *error) {
    if (self->guard.above > 0) {
        if (ends)
            return limn_fail(error,
                             "step %llu: the loss has just risen to %.3g: this is not saved; the same command goes on from "
                             "the checkpoint before",
                             (unsigned long long)step, (double)self->task->metrics[0].value);
        limn_log(LIMN_LOG_WARNING, "step %llu: no checkpoint, since the loss has just risen to %.3g", (unsigned long long)step,
                 (double)self->task->metrics[0].value);
        return 0;
    }
    settle(&self->checkpoints);
    if (train_checkpoints_begin(&self->checkpoints, &self->guard, step, error)) return -1;
    return ends ? train_checkpoints_wait(&self->checkpoints, error) : 0;
}

/* Step `failed` could not be begun, and the state is still that of the step before: saved, so that nothing is lost. */
static void save_step_before(training *self, uint64_t failed, limn_error *error) {
    limn_error trouble = {0};
    limn_fail_context(error, "step %llu", (unsigned long long)failed);
    if (failed == 1) return;
    if (save(self, failed - 1, true, &trouble))
        limn_log(LIMN_LOG_WARNING, "%s", trouble.message);
    else
        limn_log(LIMN_LOG_INFO, "%s: step %llu is saved; the same command goes on from there", self->run->directory,
                 (unsigned long long)failed - 1);
}

static int after_step(training *self, uint64_t step, limn_error *error) {
    const train_settings *settings = self->settings;
    size_t last = settings->schedule.steps;
    bool best = false;
    if (log_and_validate(self, step, &best, error)) return -1;
    if (leads(self) && self->task->sample && settings->sample_every && due(step, settings->sample_every, last) &&
        draw_samples(self, step, error))
        return -1;
    if (hear_stop(self, error)) return -1;
    bool stops = self->stops;
    if (due(step, settings->checkpoint_every, last) || (best && settings->keep_best) || stops)
        if (save(self, step, step == last || stops, error)) return -1;
    self->run->stopped = stops && step < last;
    if (self->run->stopped)
        return limn_fail(error, "%s: stopped after step %llu of %zu, all saved; the same command goes on from there",
                         self->run->directory, (unsigned long long)step, last);
    return 0;
}

static int do_step(training *self, uint64_t step, limn_error *error) {
    bool with_norms = due(step, self->settings->log_every, self->settings->schedule.steps);
    self->run->norms = with_norms ? &self->watch.norms : NULL;
    double begin = limn_seconds();
    if (self->task->step(self->task->self, step, error)) {
        if (self->task->fails_before_change && world_size(self->task->all) == 1) save_step_before(self, step, error);
        return -1;
    }
    if (check_metrics(self, step, error)) return -1;
    train_watch_step(&self->watch, limn_seconds() - begin);
    if (with_norms) layer_norms_after_update(&self->watch.norms);
    return after_step(self, step, error);
}

static int run_steps(training *self, uint64_t from, limn_error *error) {
    size_t last = self->settings->schedule.steps;
    const train_metric *metrics = self->task->metrics;
    limn_progress *progress = leads(self) ? limn_progress_start("train", "steps", from, last) : NULL;
    int status = 0;
    for (uint64_t step = from + 1; status == 0 && step <= last; step++) {
        status = do_step(self, step, error);
        if (status == 0)
            limn_progress_update(progress, step, "%s %.4g  %s %.4g", metrics[0].name, (double)metrics[0].value, metrics[1].name,
                                 (double)metrics[1].value);
    }
    limn_progress_finish(progress);
    if (train_checkpoints_wait(&self->checkpoints, status ? NULL : error))
        status = -1; /* after an error one may be at work still */
    return status;
}

/* Where the run stands: its newest checkpoint, or its beginning. */
static int find_place(training *self, train_settings *settings, const train_options *options, uint64_t *step,
                      limn_error *error) {
    train_run *run = self->run;
    if (run->resumes) {
        if (train_checkpoints_load(&self->checkpoints, &self->guard, step, error)) return -1;
    } else {
        train_task *task = self->task;
        if (options->minutes > 0 && measure_steps(task, settings, options->minutes, error)) return -1;
        if (limn_stop_requested()) return limn_fail(error, "%s: stopped before the first step", run->directory);
        if (world_broadcast(task->all, 0, &settings->schedule.steps, sizeof settings->schedule.steps, error) ||
            (task->spread && task->spread(task->self, error)))
            return -1;
        json_object_set_new(run->config, "steps", json_integer((json_int_t)settings->schedule.steps));
    }
    return train_run_write_config(run, *step, error);
}

int train_loop(train_run *run, train_task *task, train_settings *settings, const train_options *options, limn_error *error) {
    training self = {.run = run, .task = task, .settings = settings};
    self.checkpoints = (train_checkpoints){.directory = run->directory,
                                           .task = task,
                                           .keep = settings->keep_checkpoints,
                                           .keep_best = settings->keep_best && task->validate};
    uint64_t step = 0;
    if (find_place(&self, settings, options, &step, error)) return -1;
    if (step >= settings->schedule.steps) {
        limn_log(LIMN_LOG_INFO, "%s: all %llu steps are done", run->directory, (unsigned long long)step);
        return 0;
    }
    if (step) limn_log(LIMN_LOG_INFO, "%s: going on from step %llu", run->directory, (unsigned long long)step);
    if (train_watch_open(&self.watch, run->directory, task, settings, run->config, step, error)) return -1;
    limn_error trouble = {0};
    if (leads(&self) && task->flops_per_step > WORTH_A_PEAK && nn_measure_peak(task->precision, &self.watch.peak_gflops, &trouble))
        limn_log(LIMN_LOG_WARNING, "the machine's peak was not measured: %s", trouble.message);
    self.watch.peak_gflops *= (double)world_size(task->all); /* ranks are taken to be alike */
    run->checkpoints = &self.checkpoints;
    int status = run_steps(&self, step, error);
    run->checkpoints = NULL;
    run->norms = NULL;
    if (status == 0) status = train_watch_summary(&self.watch, &self.checkpoints, settings->schedule.steps, error);
    return train_watch_close(&self.watch, status ? NULL : error) ? -1 : status;
}
