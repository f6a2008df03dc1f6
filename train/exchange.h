/* exchange: what the ranks of a job tell each other in a training step, and who is in charge of what (ZeRO-1, arXiv
 * 1910.02054).
 *
 * Gradients are cut into buckets, which are summed over the ranks as soon as the backward has finished them. Each rank's
 * optimizer has only what that rank owns: with AdamW, which takes any piece of a tensor, its slice of every bucket; with
 * optimizers that need whole tensors, some of them. After its step the new weights go to all. Owners depend on shapes, the
 * optimizer's kind and the number of ranks alone. In a world of one rank that rank owns everything and nothing is exchanged.
 * Internal to train/. */
#ifndef LIMN_TRAIN_EXCHANGE_H
#define LIMN_TRAIN_EXCHANGE_H

#include "train/world.h"

typedef struct exchange exchange;

/* `tensors` (count): all of the model in the order of the parameters; those without a gradient are frozen and left out. Their
 * gradients and values lie one after another where they can. costs (count): the optimizer's work for each where it needs whole
 * tensors, which are then shared out evenly by it; NULL: it takes pieces. `wire` as of world_reduce. */
exchange *exchange_create(world *all, const optimizer_tensor *tensors, size_t count, const double *costs, nn_precision wire,
                          limn_error *error);
void exchange_free(exchange *self); /* NULL allowed */
/* What this rank's optimizer is to be created with; may be none. The exchange's own. */
size_t exchange_owned(const exchange *self, const optimizer_tensor **out);
/* All numbers of the tensors that are not frozen, in their order, by who owns them. None is empty. Returns how many there are.
 */
typedef struct {
    size_t start, count, owner;
} exchange_part;
size_t exchange_parts(const exchange *self, const exchange_part **out);

bool exchange_is_frozen(const exchange *self, size_t tensor);

/* A step: nothing is ready yet. */
void exchange_begin(exchange *self);
/* The gradients of tensors first … first+count−1 are final on this rank: sends those buckets that are full. On all ranks in the
 * same order; each tensor once a step. */
void exchange_ready(exchange *self, size_t first, size_t count);
/* Sends what is left and waits: what is owned has the sum of all ranks' gradients, the rest is undefined. */
int exchange_sum(exchange *self, limn_error *error);
/* Each tensor's squared norm of the summed gradient (count), the same on all ranks; 0 of a frozen one. After exchange_sum. */
int exchange_squares(exchange *self, double *out, limn_error *error);
/* Once the optimizer has moved what is owned: gives everybody all weights. */
int exchange_share(exchange *self, limn_error *error);
/* Gives everybody rank 0's weights. */
int exchange_spread(exchange *self, limn_error *error);

#endif
