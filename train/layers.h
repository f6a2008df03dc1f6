/* What happens in the layers of a model in training: how large their gradients and updates are, and which of them went wrong.
 * Internal to train/. */
#ifndef LIMN_TRAIN_LAYERS_H
#define LIMN_TRAIN_LAYERS_H

#include "nn/nn.h"

/* Parameters whose names begin alike: "encoder.layers.0", "decoder.embed_tokens", "lm_head". */
typedef struct {
    char name[192];
    double gradient, update; /* norms, of the last step that was looked at */
} layer_group;

typedef struct layer_norms {
    const parameters *weights;
    size_t count;
    layer_group *groups; /* in the order of the parameters */
    size_t *group_of;    /* (weights->count) */
    size_t *first;       /* (weights->count + 1) into `kept` */
    float *kept;         /* some values of each parameter, from before an update */
    const double *squares; /* (weights->count) of the gradients, where they are summed elsewhere; NULL: measured here */
} layer_norms;

/* The group of the parameter of this name: the name without "model." in front up to the first number in it, or else its first
 * two parts. The last part ("weight") never counts. */
void layer_group_name(char group[192], const char *name);
int layer_norms_create(layer_norms *self, const parameters *weights, limn_error *error);
void layer_norms_free(layer_norms *self);
/* Around an update: the first takes the gradients' norms, the second the updates'. An update's norm is exact for parameters up
 * to some thousand values, and else estimated from that many, spread evenly: the whole would take a copy of the weights. */
void layer_norms_before_update(layer_norms *self);
void layer_norms_after_update(layer_norms *self);

/* One sentence that names the layer where something went wrong, from weights and gradients as they are: the first in the order
 * of the forward pass whose weights hold what is no number, or numbers beyond any that training leads to; else the first in the
 * order of the backward pass whose gradient holds what is no number; else the group of the largest gradient. */
void layer_culprit(char *sentence, size_t room, layer_norms *self);
/* The first parameter that holds what is no number; NULL when there is none. */
const parameter *layer_first_without_number(const parameters *weights);

#endif
