/* train: the schedule, the loop, checkpoints; what is particular to the VQGAN and to seq2seq in a file each.
 *
 * A run folder holds config.json (all that decides the run; config.STEP.json is what it was before --force at that step),
 * metrics.jsonl, events.out.tfevents.* for TensorBoard, samples/, checkpoints/STEP/ (a model folder plus train_state.h5), `model` and
 * `best`, links to the newest checkpoint and to the best by validation, and at the end summary.json. The same call on it goes on from
 * the newest checkpoint, and after a kill at any moment ends with the same bits as a run that was never killed. A loss that is no
 * number, or explodes, ends the run; nothing bad is saved. */
#ifndef LIMN_TRAIN_H
#define LIMN_TRAIN_H

#include "core/core.h"
#include "nn/nn.h"
#include "seq2seq/seq2seq.h"

typedef struct {
    const char *config;     /* FILE with the sections `vqgan`, `seq2seq` and `train` */
    limn_strings set;       /* "section.key=value", applied to it */
    const char *output;     /* run folder */
    const char *init;       /* model folder to start from, or NULL: random weights */
    const char *backend;    /* seq2seq only: who multiplies, for nn_choose_backend; NULL: auto */
    size_t steps;           /* 0: as the configuration says */
    double minutes;         /* > 0: as many steps as fit, by a measurement before the first; steps is then the most */
    bool restart;           /* throws away what the run folder holds */
    bool force;             /* goes on with it though the configuration is another one now */
    limn_strings data;      /* tars (VQGAN), token shards or token lines (seq2seq): files, folders or patterns */
    limn_strings valid;     /* the same, kept from training; may be empty. seq2seq: NAME=PATTERN makes a set of its own */
    const char *tokenizer;  /* folder; seq2seq only */
    const char *vqgan;      /* folder; seq2seq only */
    const char *train;      /* "decoder,post_quant_conv": the weights that are trained, as parameters_select takes it; NULL: all */
    const char *lpips_vgg, *lpips_heads; /* files of vqgan_lpips_load; NULL: no perceptual loss. VQGAN only */
} train_options;

/* Trains a VQGAN on the pictures of WebDataset tars. Also writes samples/STEP.png: originals beside reconstructions. */
int train_vqgan(const train_options *options, limn_error *error);
/* Trains seq2seq on token shards. */
int train_seq2seq(const train_options *options, limn_error *error);

/* Prints what a training by this configuration needs of this machine: weights, gradients, optimizer, activations, the largest batch.
 * Reads config, set and train of the options alone. */
int train_plan(const train_options *options, bool json, limn_error *error);

/* ---------------------------------------------------------------- measuring */

typedef struct {
    double seconds; /* of the fastest of the measured steps */
    double optimizer_seconds; /* of the fastest pass of the optimizer, with the norm of the gradients */
    double flops;   /* of its matrix products; 0 when not counted */
    size_t batch;
    size_t rank, ranks; /* of processes that did it together, started by mpirun */
} train_measurement;
/* The seq2seq of a configuration whose tokenizer and VQGAN need not exist yet: their sections say what follows from them. */
int train_read_seq2seq(const char *config, seq2seq_config *out, limn_error *error);
/* One training step (forward, backward, optimizer) of the configuration's seq2seq with random weights and data, by all ranks that were
 * started together: each has its part of `batch`. */
int train_measure_seq2seq(const char *config, nn_precision precision, size_t batch, size_t steps, optimizer_kind kind,
                          train_measurement *out, limn_error *error);

typedef struct {
    uint64_t pairs;                               /* of the set, which opening counts */
    double open_seconds;
    double read_seconds, read_rate, read_bytes;   /* reading alone: pairs and bytes of the files a second */
    double seconds, rate;                         /* read, normalised, tokenized and copied into batches */
} train_data_measurement;
/* Measures for so many seconds each, for the configuration's seq2seq and its settings of the data. The VQGAN of the shards is not
 * looked at. */
int train_measure_data(const char *config, const limn_strings *data, const char *tokenizer, double seconds,
                       train_data_measurement *out, limn_error *error);

/* What Shampoo costs with the configuration's seq2seq and `train` section: seconds of each part for the whole model, in a step that does
 * all of them. Each kind of tensor is measured by a few of it, with random gradients, and counted as often as the model has it. */
typedef struct {
    double statistics, roots, preconditioning, update;
    size_t root_count;
    size_t state_bytes; /* of the whole model's, as a checkpoint keeps it */
} shampoo_cost;
int train_measure_shampoo(const char *config, shampoo_cost *out, limn_error *error);

/* ---------------------------------------------------------------- learning rate */

typedef enum { DECAY_NONE, DECAY_LINEAR, DECAY_EXPONENTIAL, DECAY_COSINE } decay_kind;
typedef struct {
    double learning_rate;
    size_t offset;       /* the rate is 0 for so many steps; all below begins after them */
    size_t warmup_steps; /* rises linearly from 0, full at this step */
    decay_kind decay;    /* from the end of the warm-up, linear and cosine to the last step */
    double final_share;  /* of learning_rate at the last step; linear and cosine */
    size_t transition_steps; /* exponential: times decay_rate every so many steps, */
    double decay_rate;
    bool staircase;          /* at once or little by little */
    size_t steps;
} learning_rate_schedule;
/* The rate of step 1 … steps. */
double learning_rate_at(const learning_rate_schedule *schedule, uint64_t step);

#endif
