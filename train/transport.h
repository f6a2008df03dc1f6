/* What world.c wants done by whoever carries the bytes. Internal to world.c and mpi.c. */
#ifndef LIMN_TRAIN_TRANSPORT_H
#define LIMN_TRAIN_TRANSPORT_H

#include "train/world.h"

typedef enum { ORDER_REDUCE, ORDER_SHARE, ORDER_MOVE, ORDER_GATHER, ORDER_BROADCAST } order_kind;

typedef struct {
    order_kind kind;
    float *values; /* REDUCE, SHARE */
    size_t count, owner;
    nn_precision wire;
    void *bytes;      /* MOVE, BROADCAST; GATHER: every rank's, in their order */
    size_t size;      /* GATHER: of one rank */
    const void *mine; /* GATHER */
    size_t from, to;
} transport_order;

typedef struct {
    void *self;
    size_t rank, size, neighbours;
    world_ticket (*post)(void *self, world_lane lane, const transport_order *order);
    int (*wait)(void *self, world_lane lane, world_ticket ticket, limn_error *error);
    void (*end)(void *self); /* after all ranks are done; frees */
} transport;

/* A rank's slice of `count` values among `size` ranks begins here. */
size_t transport_slice(size_t count, size_t size, size_t rank);
size_t transport_bucket(size_t size);

#ifdef LIMN_HAVE_MPI
/* MPI_Init and all else of MPI happen on a thread that this starts. From here on the end of this process ends the job, unless
 * `end` was called. */
int mpi_transport_start(transport *out, limn_error *error);
#endif
#endif
