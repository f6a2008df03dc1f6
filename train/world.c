/* The world of one rank, what larger ones have in common, and which of the two this process is in. */
#include "train/world.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/transport.h"

enum { SUMS_AT_ONCE = 256 };

struct world {
    transport link; /* size 1: there is none */
    double *room;   /* (size, SUMS_AT_ONCE) */
};

/* How many processes the launcher started, by what it leaves in the environment; 1 where there was none. The first that is
 * there counts: mpirun starts its ranks through srun on a Slurm cluster. A batch script itself has SLURM_NTASKS, but no step.
 */
static size_t launched_ranks(const char **out_launcher) {
    static const struct {
        const char *variable, *launcher;
    } known[] = {{"OMPI_COMM_WORLD_SIZE", "mpirun"}, {"PMI_SIZE", "mpirun"}, {"SLURM_STEP_NUM_TASKS", "srun"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *text = getenv(known[i].variable);
        long ranks = text ? strtol(text, NULL, 10) : 0;
        if (ranks < 1) continue;
        *out_launcher = known[i].launcher;
        return (size_t)ranks;
    }
    return 1;
}

static int join(transport *link, size_t launched, const char *launcher, limn_error *error) {
#ifdef LIMN_HAVE_MPI
    if (mpi_transport_start(link, error)) return -1;
    if (link->size == launched) return 0;
    size_t seen = link->size;
    if (seen == 1) link->end(link->self); /* there is nobody to be ended with it */
    return limn_fail(error, "%s started %zu processes, but MPI sees %zu; use the mpirun of the MPI that Limn was built with%s",
                     launcher, launched, seen,
                     strcmp(launcher, "srun") == 0 ? ", or srun --mpi=pmix (srun --mpi=list says what there is)" : "");
#else
    (void)link;
    return limn_fail(
        error,
        "%s started %zu processes, but this Limn was built without MPI; apt-get install libopenmpi-dev openmpi-bin, "
        "then configure and build again",
        launcher, launched);
#endif
}

world *world_start(limn_error *error) {
    world *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    const char *launcher = NULL;
    size_t launched = launched_ranks(&launcher);
    self->link = (transport){.size = 1, .neighbours = 1};
    if (launched > 1 && (join(&self->link, launched, launcher, error) ||
                         !(self->room = limn_allocate(self->link.size * SUMS_AT_ONCE, sizeof *self->room, error)))) {
        free(self);
        return NULL;
    }
    return self;
}

static void wait_to_be_ended(void) {
    double begin = limn_seconds();
    while (limn_seconds() - begin < 10) nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
}

/* Where all ranks fail alike, rank 0 speaks for all: it ends the job, and the signal that ends this process comes meanwhile.
 * The handler of limn_main only notes SIGTERM; what follows it after a while cannot be caught. */
static void let_rank_0_speak(void) {
    const struct timespec moment = {.tv_nsec = 500000000};
    if (nanosleep(&moment, NULL)) wait_to_be_ended();
}

int world_finish(world *self, int status, limn_error *error) {
    if (!self) return status;
    if (self->link.size > 1) {
        double nothing = 0;
        if (status == 0) status = world_sum(self, &nothing, 1, error);
        if (status) {
            if (self->link.rank > 0) let_rank_0_speak();
            limn_fail_context(error, "rank %zu of %zu", self->link.rank, self->link.size);
            return status;
        }
        self->link.end(self->link.self);
    }
    free(self->room);
    free(self);
    return status;
}

size_t world_rank(const world *self) {
    return self ? self->link.rank : 0;
}

size_t world_size(const world *self) {
    return self ? self->link.size : 1;
}

size_t world_neighbours(const world *self) {
    return self ? self->link.neighbours : 1;
}

/* ---------------------------------------------------------------- everybody, at once */

static int do_now(world *self, const transport_order *order, limn_error *error) {
    world_ticket ticket = self->link.post(self->link.self, WORLD_TRAINING, order);
    return self->link.wait(self->link.self, WORLD_TRAINING, ticket, error);
}

int world_sum(world *self, double *values, size_t count, limn_error *error) {
    if (world_size(self) == 1) return 0;
    for (size_t start = 0; start < count; start += SUMS_AT_ONCE) {
        double *part = values + start;
        size_t size = count - start < SUMS_AT_ONCE ? count - start : SUMS_AT_ONCE;
        transport_order order = {.kind = ORDER_GATHER, .mine = part, .bytes = self->room, .size = size * sizeof *part};
        if (do_now(self, &order, error)) return -1;
        for (size_t i = 0; i < size; i++) {
            part[i] = 0;
            for (size_t rank = 0; rank < self->link.size; rank++) part[i] += self->room[rank * size + i];
        }
    }
    return 0;
}

int world_agree(world *self, int status, limn_error *error) {
    if (world_size(self) == 1) return status;
    double failed = status ? 1 : 0;
    transport_order order = {.kind = ORDER_GATHER, .mine = &failed, .bytes = self->room, .size = sizeof failed};
    if (do_now(self, &order, status ? NULL : error)) return -1;
    for (size_t rank = 0; rank < self->link.size; rank++) {
        if (!(self->room[rank] > 0)) continue;
        if (rank == self->link.rank) return -1;
        wait_to_be_ended();
        return limn_fail(error, "rank %zu has failed and did not end the job", rank);
    }
    return 0;
}

int world_broadcast(world *self, size_t from, void *bytes, size_t size, limn_error *error) {
    if (world_size(self) == 1) return 0;
    const size_t most = (size_t)1 << 30; /* MPI counts in int */
    for (size_t start = 0; start < size; start += most) {
        size_t piece = size - start < most ? size - start : most;
        transport_order order = {.kind = ORDER_BROADCAST, .bytes = (char *)bytes + start, .size = piece, .from = from};
        if (do_now(self, &order, error)) return -1;
    }
    return 0;
}

int world_same(world *self, const char *what, const void *bytes, size_t size, limn_error *error) {
    if (world_size(self) == 1) return 0;
    char mine[65];
    limn_sha256(bytes, size, mine);
    _Static_assert(sizeof mine <= SUMS_AT_ONCE * sizeof(double), "the hashes use the sums' room");
    char *all = (char *)self->room;
    transport_order order = {.kind = ORDER_GATHER, .mine = mine, .bytes = all, .size = sizeof mine};
    if (do_now(self, &order, error)) return -1;
    for (size_t rank = 1; rank < self->link.size; rank++)
        if (strcmp(all, all + rank * sizeof mine) != 0)
            return limn_fail_usage(error, "rank %zu has another %s than rank 0; give all ranks the same", rank, what);
    return 0;
}

/* ---------------------------------------------------------------- beside the computation */

size_t transport_bucket(size_t size) {
    const size_t per_rank = (size_t)1 << 18, least = (size_t)1 << 20, most = (size_t)1 << 24;
    return size <= least / per_rank ? least : size >= most / per_rank ? most : size * per_rank;
}

size_t transport_slice(size_t count, size_t size, size_t rank) {
    const size_t line = 64 / sizeof(float);
    size_t lines = (count + line - 1) / line, each = (lines + size - 1) / size * line, start = rank * each;
    return start < count ? start : count;
}

size_t world_bucket(const world *self) {
    return transport_bucket(world_size(self));
}

size_t world_slice(const world *self, size_t count, size_t rank) {
    return transport_slice(count, world_size(self), rank);
}

world_ticket world_reduce(world *self, float *values, size_t count, size_t owner, nn_precision wire) {
    if (world_size(self) == 1) return 0;
    transport_order order = {.kind = ORDER_REDUCE, .values = values, .count = count, .owner = owner, .wire = wire};
    return self->link.post(self->link.self, WORLD_TRAINING, &order);
}

world_ticket world_share(world *self, float *values, size_t count, size_t owner) {
    if (world_size(self) == 1) return 0;
    transport_order order = {.kind = ORDER_SHARE, .values = values, .count = count, .owner = owner};
    return self->link.post(self->link.self, WORLD_TRAINING, &order);
}

world_ticket world_move(world *self, void *bytes, size_t size, size_t from, size_t to) {
    if (world_size(self) == 1) return 0;
    transport_order order = {.kind = ORDER_MOVE, .bytes = bytes, .size = size, .from = from, .to = to};
    return self->link.post(self->link.self, WORLD_SAVING, &order);
}

int world_wait(world *self, world_lane lane, world_ticket ticket, limn_error *error) {
    return world_size(self) == 1 ? 0 : self->link.wait(self->link.self, lane, ticket, error);
}
