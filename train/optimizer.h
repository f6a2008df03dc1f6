/* The optimizer of a training: what the configuration says of it, its state in a checkpoint, the moving average of the weights.
 * Internal to train/. */
#ifndef LIMN_TRAIN_OPTIMIZER_H
#define LIMN_TRAIN_OPTIMIZER_H

#include "formats/formats.h"
#include "nn/nn.h"
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
    optimizer *moves;
    float *ema; /* (weights->size), or NULL */
    double ema_decay;
    char names[TRAIN_OPTIMIZER_ARRAYS][64];
} train_optimizer;

/* For an allocated set with gradients whose values are those that the training begins with (the moving average begins there).
 * frozen (set->count), or NULL: parameters that stay as they are. Zero-initialise; free after an error too. */
int train_optimizer_create(train_optimizer *self, parameters *weights, const optimizer_settings *settings, const bool *frozen,
                           limn_error *error);
void train_optimizer_free(train_optimizer *self);
/* Puts its arrays, each name behind `prefix` ("" or "discriminator_"), into `out`; returns how many, at most
 * TRAIN_OPTIMIZER_ARRAYS. The names live as long as the optimizer. */
size_t train_optimizer_state(train_optimizer *self, const char *prefix, state_array *out);
/* One step at the schedule's rate, with gradients whose norm is grad_norm clipped to max_grad_norm (0: not); none where the norm is
 * no number. update_norms
 * (weights->count) receives the norm of each parameter's change; NULL: not wanted. */
void train_optimizer_step(train_optimizer *self, const learning_rate_schedule *schedule, double max_grad_norm, double grad_norm,
                          uint64_t step, double *update_norms);
/* Exchanges weights and moving average, so that the model can be evaluated or saved with it; a second call changes back. */
void train_optimizer_exchange(train_optimizer *self);

#endif
