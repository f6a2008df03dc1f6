/* The optimizer of a training: what the configuration says of it, its state in a checkpoint, the moving average of the weights.
 * Internal to train/. */
#ifndef LIMN_TRAIN_OPTIMIZER_H
#define LIMN_TRAIN_OPTIMIZER_H

#include "formats/formats.h"
#include "nn/nn.h"
#include "train/exchange.h"
#include "train/shared_state.h"
#include "train/train.h"

/* Which weights `weight_decay` leaves alone. */
typedef enum { EXCLUDE_NONE, EXCLUDE_NORMS, EXCLUDE_NORMS_AND_EMBEDDINGS } decay_exclusion;

typedef struct {
    optimizer_options options;
    decay_exclusion exclude;
    double ema_decay; /* of the moving average of the weights; 0: none is kept */
} optimizer_settings;

/* Reads the optimizer's keys of a `train` section. What it leaves out is as in `settings` for the optimizer that these name,
 * and optimizer_defaults for another. `keys` (room for OPTIMIZER_KEYS_MAX and a NULL) receives the keys that this optimizer
 * has. */
enum { OPTIMIZER_KEYS_MAX = 24 };
int optimizer_settings_read(optimizer_settings *settings, const json_t *section, const char *where, const char **keys,
                            limn_error *error);

/* Reads warm-up, decay and offset; the keys are train_settings_read's. */
int learning_rate_read(learning_rate_schedule *schedule, const json_t *section, const char *where, limn_error *error);

/* True when the weight decay takes part of this parameter: norms and biases are the vectors, embeddings go by their names. */
bool train_decays(const parameter *p, decay_exclusion exclude);

enum { TRAIN_OPTIMIZER_ARRAYS = 6 };
typedef struct {
    parameters *weights;
    world *all;        /* the ranks that train them together; NULL: this process alone */
    exchange *between; /* … them */
    optimizer *moves;  /* of what this rank owns */
    limn_arena *averages;
    float *ema; /* (weights->size), or NULL. Ranks but the first have what they own there, and memory for no more */
    double ema_decay;
    double *squares; /* (weights->count) of the gradients, of several ranks, as train_optimizer_sum leaves them */
    shared_state state;
    char names[TRAIN_OPTIMIZER_ARRAYS][64];
} train_optimizer;

/* For an allocated set with gradients whose values are those that the training begins with (the moving average begins there).
 * frozen (set->count), or NULL: parameters that stay as they are. Gradients travel between the ranks in `wire`. Zero-initialise;
 * free after an error too. */
int train_optimizer_create(train_optimizer *self, parameters *weights, const optimizer_settings *settings, const bool *frozen,
                           world *all, nn_precision wire, limn_error *error);
void train_optimizer_free(train_optimizer *self);
/* Puts its arrays, each name behind `prefix` ("" or "discriminator_"), into `out`; returns how many, at most
 * TRAIN_OPTIMIZER_ARRAYS. The names live as long as the optimizer. Those of `state` come first; of several ranks their values are
 * NULL. */
size_t train_optimizer_state(train_optimizer *self, const char *prefix, state_array *out);

/* A step, on all ranks: begin; ready, as exchange_ready, while the backward runs (it may be left out); sum, which waits until all
 * gradients are summed and gives their norm; step, after which all have the new weights: at the schedule's rate, with gradients whose
 * norm is grad_norm clipped to max_grad_norm (0: not); none where the norm is no number. update_norms (weights->count), where this
 * process is alone, receives the norm of each parameter's change; NULL: not wanted. */
void train_optimizer_begin(train_optimizer *self);
void train_optimizer_ready(train_optimizer *self, size_t first, size_t count);
int train_optimizer_sum(train_optimizer *self, double *out_norm, limn_error *error);
int train_optimizer_step(train_optimizer *self, const learning_rate_schedule *schedule, double max_grad_norm, double grad_norm,
                         uint64_t step, double *update_norms, limn_error *error);
/* Exchanges weights and moving average, so that the model can be evaluated with it; a second call changes back. On all ranks. */
int train_optimizer_exchange(train_optimizer *self, limn_error *error);

/* On all ranks: rank 0 gets all of the moving average, to save it; or it gives everybody the weights, and each what that one owns of
 * the average, once they are loaded. On the SAVING lane, but for the weights. */
int train_optimizer_collect(train_optimizer *self, limn_error *error);
int train_optimizer_spread(train_optimizer *self, limn_error *error);

#endif
