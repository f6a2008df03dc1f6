/* What is told of a run: lines of metrics.jsonl, TensorBoard's events, and the summary at its end. Internal to train/. */
#ifndef LIMN_TRAIN_WATCH_H
#define LIMN_TRAIN_WATCH_H

#include "train/checkpoint.h"
#include "train/layers.h"
#include "train/loop.h"

typedef struct {
    const char *directory; /* RUN */
    bool leads;            /* this rank writes; the others only take part in what all measure */
    train_task *task;
    const train_settings *settings;
    limn_append_file metrics;
    event_file *events;
    layer_norms norms;
    double peak_gflops;    /* the machine's; 0: not measured */
    uint64_t logged;       /* step of the last line with rates */
    double seconds;        /* of the steps of this process since then … */
    size_t steps;          /* … and how many those are */
    double seconds_before; /* of all steps up to that line, by the rates in metrics.jsonl */
    json_t *last;          /* newest value of each key */
} train_watch;

/* Cuts metrics.jsonl after `step`, what a killed run wrote later is written again, and begins an event file. */
int train_watch_open(train_watch *self, const char *directory, train_task *task, const train_settings *settings,
                     const json_t *config, uint64_t step, limn_error *error);
/* Fails when something could not be written to the end. */
int train_watch_close(train_watch *self, limn_error *error);
/* Takes in the metrics of a step that took `seconds`. */
void train_watch_step(train_watch *self, double seconds);
/* A new line for this step; and into it the metrics' means since the last one, whose sums begin anew. */
json_t *train_watch_line(uint64_t step);
void train_watch_add_means(train_watch *self, json_t *line, uint64_t step);
/* Writes the line, and the same as events; `with_norms`: also the layers'. Frees the line. */
int train_watch_write(train_watch *self, json_t *line, bool with_norms, uint64_t step, limn_error *error);
/* Writes samples/STEP.png and the event. What cannot be written is a warning. */
int train_watch_picture(train_watch *self, const picture *drawn, uint64_t step, limn_error *error);
/* A table on the log, and RUN/summary.json. */
int train_watch_summary(train_watch *self, const train_checkpoints *checkpoints, uint64_t step, limn_error *error);

/* A number for a line: JSON has no infinities, a loss that is none is null, and seen. */
void train_set_number(json_t *line, const char *key, double value);

#endif
