/* What is told of a run while it goes on and at its end. */
#include "train/watch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void train_set_number(json_t *line, const char *key, double value) {
    json_object_set_new(line, key, isfinite(value) ? json_real(value) : json_null());
}

static void rate_key(char key[64], const train_task *task) {
    snprintf(key, 64, "%s_per_second", task->unit);
}

/* ---------------------------------------------------------------- metrics.jsonl */

/* Takes in a line that an earlier process wrote. */
static void remember_line(train_watch *self, const json_t *line, uint64_t step) {
    char key[64];
    rate_key(key, self->task);
    double rate = json_number_value(json_object_get(line, key));
    json_object_update(self->last, (json_t *)line);
    if (rate > 0) {
        self->seconds_before += (double)((step - self->logged) * self->task->samples_per_step) / rate;
        self->logged = step;
    }
}

/* Keeps the lines up to `step`. */
static int trim_metrics(train_watch *self, const char *path, uint64_t step, limn_error *error) {
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
        if (keep) remember_line(self, line, (uint64_t)json_integer_value(number));
        json_decref(line);
        if (!keep) break;
        kept = start = end;
    }
    int status = limn_atomic_write(path, text, kept, error);
    free(text);
    return status;
}

/* ---------------------------------------------------------------- opening */

/* What the run was begun with, as Markdown: four blanks make it stand as it is. */
static int add_texts(train_watch *self, const json_t *config, limn_error *error) {
    char *json = json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS);
    limn_buffer text = {0};
    int status = json ? 0 : limn_fail(error, "no memory for the configuration as text");
    for (char *line = json; status == 0 && line && *line;) {
        size_t length = strcspn(line, "\n");
        status = limn_buffer_printf(&text, error, "    %.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
    if (status == 0) status = event_file_text(self->events, "config", text.data, error);
    if (status == 0 && self->task->sample_text)
        status = event_file_text(self->events, "samples show", self->task->sample_text, error);
    limn_buffer_free(&text);
    free(json);
    return status;
}

int train_watch_open(train_watch *self, const char *directory, train_task *task, const train_settings *settings,
                     const json_t *config, uint64_t step, limn_error *error) {
    *self = (train_watch){.directory = directory, .task = task, .settings = settings, .metrics = {.descriptor = -1}};
    char path[4096];
    self->last = json_object();
    self->leads = world_rank(task->all) == 0;
    int status = layer_norms_create(&self->norms, task->weights, error);
    self->norms.squares = task->gradient_squares;
    if (status == 0 && self->leads &&
        (limn_path_join(path, sizeof path, directory, "metrics.jsonl", error) || trim_metrics(self, path, step, error) ||
         limn_append_open(&self->metrics, path, error) || !(self->events = event_file_create(directory, step + 1, error)) ||
         add_texts(self, config, error) || event_file_write(self->events, step, error)))
        status = -1;
    if (status) (void)train_watch_close(self, NULL);
    return status;
}

int train_watch_close(train_watch *self, limn_error *error) {
    int status = limn_append_close(&self->metrics, error);
    if (event_file_close(self->events, status ? NULL : error)) status = -1;
    layer_norms_free(&self->norms);
    json_decref(self->last);
    self->events = NULL;
    self->last = NULL;
    return status;
}

/* ---------------------------------------------------------------- lines */

void train_watch_step(train_watch *self, double seconds) {
    for (size_t i = 0; i < self->task->metric_count; i++) self->task->metrics[i].sum += self->task->metrics[i].value;
    self->seconds += seconds;
    self->steps++;
}

json_t *train_watch_line(uint64_t step) {
    json_t *line = json_object();
    json_object_set_new(line, "step", json_integer((json_int_t)step));
    return line;
}

void train_watch_add_means(train_watch *self, json_t *line, uint64_t step) {
    train_task *task = self->task;
    size_t window = (size_t)((step - 1) % self->settings->log_every + 1);
    for (size_t i = 0; i < task->metric_count; i++) {
        train_metric *metric = &task->metrics[i];
        train_set_number(line, metric->name, metric->last ? (double)metric->value : (double)metric->sum / (double)window);
        metric->sum = 0;
    }
    train_set_number(line, "learning_rate", learning_rate_at(&self->settings->schedule, step));
    char key[64];
    rate_key(key, task);
    double seconds =
        self->seconds / (double)self->steps; /* of one step; this process may have done the end of the window only */
    train_set_number(line, key, (double)task->samples_per_step / seconds);
    if (self->peak_gflops > 0) train_set_number(line, "peak_share", 1e-9 * task->flops_per_step / seconds / self->peak_gflops);
    self->seconds_before += seconds * (double)(step - self->logged);
    self->logged = step;
    self->seconds = 0;
    self->steps = 0;
}

static int add_norms(train_watch *self, limn_error *error) {
    int status = 0;
    for (size_t i = 0; status == 0 && i < self->norms.count; i++) {
        const layer_group *group = &self->norms.groups[i];
        char tag[256];
        snprintf(tag, sizeof tag, "gradient norms/%s", group->name);
        status = event_file_scalar(self->events, tag, group->gradient, error);
        snprintf(tag, sizeof tag, "update norms/%s", group->name);
        if (status == 0) status = event_file_scalar(self->events, tag, group->update, error);
    }
    return status;
}

int train_watch_write(train_watch *self, json_t *line, bool with_norms, uint64_t step, limn_error *error) {
    if (!self->leads) {
        json_decref(line);
        return 0;
    }
    char *text = json_dumps(line, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7));
    limn_buffer whole = {0};
    const char *key;
    json_t *value;
    int status = text ? limn_buffer_printf(&whole, error, "%s\n", text) : limn_fail(error, "no memory for a line of metrics");
    if (status == 0) status = limn_append(&self->metrics, whole.data, whole.size, error);
    json_object_foreach(line, key, value) {
        if (status || strcmp(key, "step") == 0 || !(json_is_number(value) || json_is_null(value))) continue;
        status = event_file_scalar(self->events, key, json_is_null(value) ? (double)NAN : json_number_value(value), error);
    }
    if (status == 0 && with_norms) status = add_norms(self, error);
    if (status == 0) status = event_file_write(self->events, step, error);
    json_object_update(self->last, line);
    limn_buffer_free(&whole);
    free(text);
    json_decref(line);
    return status;
}

int train_watch_picture(train_watch *self, const picture *drawn, uint64_t step, limn_error *error) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "samples/%08llu.png", (unsigned long long)step);
    limn_buffer png = {0};
    limn_error trouble = {0};
    int status = limn_path_join(path, sizeof path, self->directory, name, error);
    if (status == 0) status = picture_encode_png(drawn, &png, error);
    if (status == 0) status = event_file_image(self->events, "samples", png.data, png.size, drawn->width, drawn->height, error);
    if (status == 0) status = event_file_write(self->events, step, error);
    if (status == 0 && limn_atomic_write(path, png.data, png.size, &trouble))
        limn_log(LIMN_LOG_WARNING, "%s; the run goes on without this picture", trouble.message);
    limn_buffer_free(&png);
    return status;
}

/* ---------------------------------------------------------------- summary */

static void put_last(json_t *summary, const train_watch *self, const char *key) {
    json_t *value = key ? json_object_get(self->last, key) : NULL;
    if (value) json_object_set(summary, key, value);
}

static void put_best(json_t *summary, const train_watch *self, const train_checkpoints *checkpoints) {
    char key[64];
    if (!checkpoints->best || !self->task->valid_key) return;
    snprintf(key, sizeof key, "best_%s", self->task->valid_key);
    train_set_number(summary, key, (double)checkpoints->best_value);
    json_object_set_new(summary, "best_step", json_integer((json_int_t)checkpoints->best));
    if (checkpoints->keep_best) json_object_set_new(summary, "best", json_string("best"));
}

int train_watch_summary(train_watch *self, const train_checkpoints *checkpoints, uint64_t step, limn_error *error) {
    const train_task *task = self->task;
    char key[64], path[4096];
    if (!self->leads) return 0;
    rate_key(key, task);
    double samples = (double)step * (double)task->samples_per_step, seconds = self->seconds_before;
    json_t *summary = json_object();
    json_object_set_new(summary, "steps", json_integer((json_int_t)step));
    json_object_set_new(summary, task->unit, json_integer((json_int_t)samples));
    train_set_number(summary, "hours", seconds / 3600);
    train_set_number(summary, key, samples / seconds);
    double share = self->peak_gflops > 0 ? 1e-9 * task->flops_per_step * (double)step / seconds / self->peak_gflops : 0;
    if (share > 0) train_set_number(summary, "peak_share", share);
    put_last(summary, self, task->metrics[0].name);
    put_last(summary, self, task->valid_key);
    put_best(summary, self, checkpoints);
    json_object_set_new(summary, "model", json_string("model"));
    int status = limn_path_join(path, sizeof path, self->directory, "summary.json", error);
    if (status == 0) status = limn_json_save(summary, path, error);
    limn_log(LIMN_LOG_INFO, "%s: %llu steps, %.0f %s in %.3g hours: %.4g %s/s", self->directory, (unsigned long long)step,
             samples, task->unit, seconds / 3600, samples / seconds, task->unit);
    if (share > 0) limn_log(LIMN_LOG_INFO, "  %.0f %% of the machine's %.0f GFLOP/s", 100 * share, self->peak_gflops);
    limn_log(LIMN_LOG_INFO, "  %s %.4g", task->metrics[0].name,
             json_number_value(json_object_get(self->last, task->metrics[0].name)));
    if (checkpoints->best && task->valid_key)
        limn_log(LIMN_LOG_INFO, "  %s %.4g, best %.4g at step %llu%s", task->valid_key,
                 json_number_value(json_object_get(self->last, task->valid_key)), (double)checkpoints->best_value,
                 (unsigned long long)checkpoints->best, checkpoints->keep_best ? ", which is kept as best" : "");
    if (checkpoints->waited > 1 && checkpoints->waited > 0.01 * seconds)
        limn_log(LIMN_LOG_INFO, "  %.3g s went by waiting for checkpoints to be on disk; checkpoint_every makes them rarer",
                 checkpoints->waited);
    json_decref(summary);
    return status;
}
