/* The loop that both trainings share (loop.c), with its run folder (run.c), checkpoints (checkpoint.c), what it tells of itself
 * (watch.c) and the guard against losses that explode (guard.c). Internal to train/. */
#ifndef LIMN_TRAIN_LOOP_H
#define LIMN_TRAIN_LOOP_H

#include "formats/formats.h"
#include "nn/nn.h"
#include "pictures/pictures.h"
#include "train/optimizer.h"
#include "train/train.h"

enum { TRAIN_MAX_METRICS = 16, TRAIN_MAX_STATE = 20 };

typedef struct {
    const char *name;
    float value; /* set by the task at every step */
    float sum;   /* over the steps since the last line of metrics.jsonl: the line has the mean … */
    bool last;   /* … or, when this is set, the last step's value: the sum is then not kept */
} train_metric;

/* What the loop needs of a model. Every function returns 0, or -1 with the error. */
typedef struct {
    void *self;
    const char *section;     /* of the configuration: "train.vqgan" */
    const char *unit;        /* "pictures" */
    size_t samples_per_step;
    double flops_per_step;   /* of its matrix products, in … */
    nn_precision precision;  /* … this precision; 0 when they are not counted */
    const parameters *weights;               /* whose gradients and updates are watched, in the order of the forward pass */
    train_metric metrics[TRAIN_MAX_METRICS]; /* the first, a loss, is what the guard looks at; the first two are on the progress line */
    size_t metric_count;
    state_array state[TRAIN_MAX_STATE]; /* optimizer moments and the like: saved in and read from train_state.h5 */
    size_t state_count;
    /* Of several ranks that do this together, all calling the same; all is NULL where this process is alone. */
    world *all;
    shared_state *shared;           /* arrays of `state`, the first of them, that lie on the ranks: their values are NULL */
    const double *gradient_squares; /* each parameter's squared norm of the gradient, as each step leaves it */
    int (*spread)(void *self, limn_error *error);  /* gives rank 0's weights to all */
    int (*collect)(void *self, limn_error *error); /* before `save`, in its thread on every rank: what rank 0 needs for it */
    int (*rehearse)(void *self, limn_error *error); /* the work of one step that changes nothing: for measuring */
    /* Sets the metrics' values. Calls train_before_update once all gradients are there and before it changes anything that save and
     * `state` give; leaves the weights as they are where the gradients' norm is no number. */
    int (*step)(void *self, uint64_t step, limn_error *error);
    bool fails_before_change; /* a step that fails (its data cannot be read) has changed nothing: the loop saves the step before */
    int (*validate)(void *self, json_t *line, limn_error *error); /* adds its keys to the line; NULL: none */
    const char *valid_key;                                        /* the one that says which checkpoint is the best */
    bool more_is_better;                                          /* of valid_key; else less is */
    int (*sample)(void *self, picture *out, limn_error *error);   /* NULL: none */
    const char *sample_text;                                      /* what its pictures show, in Markdown, or NULL */
    /* A model folder. Called from a thread of its own while steps go on up to train_before_update. */
    int (*save)(void *self, const char *directory, limn_error *error);
    int (*load)(void *self, const char *directory, limn_error *error);       /* weights of the same model folder */
} train_task;

/* The part of a configuration's `train` section that the loop reads. */
typedef struct {
    learning_rate_schedule schedule;
    optimizer_settings optimizer;
    double max_grad_norm;
    size_t batch_size;   /* samples of one forward pass */
    size_t accumulation; /* forward passes of one step */
    size_t log_every, valid_every, sample_every, checkpoint_every; /* in steps; 0: at the last only (samples: never) */
    size_t keep_checkpoints;                                       /* the newest so many; 0: all */
    bool keep_best;                                                /* of the validations; each that is the best is saved */
    double max_loss_rise; /* a loss above so many times its running mean for ten steps ends the run; 0: never */
    uint64_t seed;
} train_settings;

/* What both trainings begin with; the rest each sets before it reads. */
train_settings train_settings_defaults(void);
/* Reads a `train` section; what it leaves out stays as it is in `settings`. A key that is neither known here nor one of `extra`
 * (NULL-terminated), the model's own, is a usage error. */
int train_settings_read(train_settings *settings, const json_t *section, const char *where, const char *const *extra,
                        limn_error *error);

/* A run folder that is open: locked, its configuration compared with what is there. */
typedef struct {
    char directory[4096];
    world *all; /* whose rank 0 alone touches the folder */
    int lock;
    json_t *config; /* what decides the run, as saved */
    bool resumes;   /* config.json was there */
    bool stopped;   /* all ranks have ended after the same step, since one was asked to */
    bool changed;   /* it said otherwise, and --force was given */
    /* while the loop runs, for train_before_update; else NULL */
    struct train_checkpoints *checkpoints;
    struct layer_norms *norms; /* where they are wanted of this step */
} train_run;
/* `config` is what decides the run; steps and minutes of the options are put into it. */
int train_run_open(train_run *run, const train_options *options, json_t *config, train_settings *settings, world *all,
                   limn_error *error);
void train_run_close(train_run *run);
/* Writes config.json where there is none, or where it has changed: what was there becomes config.STEP.json. */
int train_run_write_config(train_run *run, uint64_t step, limn_error *error);

int train_loop(train_run *run, train_task *task, train_settings *settings, const train_options *options, limn_error *error);
/* Called by each step between its gradients and its update: waits until the checkpoint that is being written has read what the update
 * changes, and takes the gradients' norms where they are wanted. Outside of the loop it does nothing. */
void train_before_update(train_run *run);

/* Loads, applies --set, and returns the whole configuration. */
json_t *train_configuration(const train_options *options, limn_error *error);
/* The object at config[section] or an error that names the file. Borrowed. */
json_t *train_section(const json_t *config, const char *file, const char *section, const char *subsection, limn_error *error);

/* What an optimizer of these parameters, which need no memory, takes: bytes of its state and, beside it, of a step; and, where it is
 * asked for, optimizer_padded_size of them. */
int train_optimizer_bytes(const parameters *set, const optimizer_options *options, size_t *state, size_t *scratch,
                          size_t *padded_size, limn_error *error);

/* A hash of those of these files (NULL-terminated names) that are in the folder, by their contents. */
int train_hash_files(const char *directory, const char *const *names, char out_hex[65], limn_error *error);
/* Copies a file by hard link where the file system can, else by copying. */
int train_link_or_copy(const char *from, const char *to, limn_error *error);
#endif
