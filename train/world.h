/* world: the processes ("ranks") of one job, on one machine or many, by MPI where Limn was built with it. Data parallelism in
 * the manner of ZeRO-1 (Rajbhandari and others, arXiv 1910.02054): every rank has all weights and all gradients; each is in
 * charge of a part of them, which it "owns". Internal to train/.
 *
 * A program that was not started as one of several is a world of one rank, and so is NULL: everything below is then done at
 * once, and nothing of MPI is touched. In a larger one a thread of its own talks to the others, so that a step goes on
 * computing meanwhile.
 *
 * Every rank makes the same calls in the same order on a lane; each lane belongs to one thread at a time. A rank that ends
 * without world_finish ends the whole job. */
#ifndef LIMN_TRAIN_WORLD_H
#define LIMN_TRAIN_WORLD_H

#include "nn/nn.h"

typedef struct world world;

/* Joins the job when the environment says that this process is one of several (mpirun, srun). An error where Limn was built
 * without MPI, or where the launcher and MPI disagree about the number of ranks. */
world *world_start(limn_error *error);
/* With status 0 waits for all ranks, leaves the job, and frees. Otherwise puts "rank R of N" before the error: this process is
 * now to print it and to end, which ends the others. Returns the status. NULL allowed. */
int world_finish(world *self, int status, limn_error *error);
size_t world_rank(const world *self); /* from 0 */
size_t world_size(const world *self);
/* Ranks on this machine, this one included, that may use the same CPUs as this one: the share of its threads. */
size_t world_neighbours(const world *self);

/* ---------------------------------------------------------------- everybody, at once */

/* Replaces each of `count` values by its sum over the ranks, added in their order: the same bits on all. */
int world_sum(world *self, double *values, size_t count, limn_error *error);
/* Each rank says whether it could do what all were to do. Where one could not, the first such gets -1 and its error, to say it
 * and end, and the others wait to be ended; else 0. */
int world_agree(world *self, int status, limn_error *error);
/* Gives the bytes of rank `from` to all. */
int world_broadcast(world *self, size_t from, void *bytes, size_t size, limn_error *error);
/* An error on all ranks, naming the first rank whose bytes (any number) are not rank 0's: "rank 2 has another `what` than rank
 * 0". */
int world_same(world *self, const char *what, const void *bytes, size_t size, limn_error *error);

/* ---------------------------------------------------------------- beside the computation */

/* TRAINING: gradients and weights of a step. SAVING: what goes to rank 0 to be written. */
typedef enum { WORLD_TRAINING, WORLD_SAVING, WORLD_LANES } world_lane;
typedef uint64_t world_ticket; /* tickets of a lane grow; waiting for one waits for all before it */
/* No owner: each rank owns its slice of the values. */
#define WORLD_SLICES SIZE_MAX

/* The most values of one reduce or share. Grows with the ranks, so that slices stay long enough for a network. */
size_t world_bucket(const world *self);
/* Where a rank's slice of `count` values begins; that of rank `size` is the end. Multiples of 64 bytes. */
size_t world_slice(const world *self, size_t count, size_t rank);

/* Starts to sum the ranks' values: to the owner, or each slice to its rank. The others' values are undefined afterwards. With
 * wire PRECISION_BF16 they travel rounded to bfloat16. Sums are fp32; a slice's own rank comes first and the others in their
 * order, so that a number of ranks always gives the same bits. Every rank sends and receives each value about once
 * (reduce-scatter). The values belong to the world until the ticket has been waited for. TRAINING lane. */
world_ticket world_reduce(world *self, float *values, size_t count, size_t owner, nn_precision wire);
/* Starts to give the owner's values, or each rank's slice, to all: the same bits everywhere (all-gather). TRAINING lane. */
world_ticket world_share(world *self, float *values, size_t count, size_t owner);
/* Starts to move bytes, at most 1 GiB, from one rank to another; the others' pointer may be NULL. SAVING lane. */
world_ticket world_move(world *self, void *bytes, size_t size, size_t from, size_t to);
/* Waits until all up to this ticket is done here. */
int world_wait(world *self, world_lane lane, world_ticket ticket, limn_error *error);

#endif
