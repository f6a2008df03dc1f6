/* bench-world [MILLIONS] [fp32|bf16]: under mpirun, the exchange of one training step without the step: gradients are summed to
 * their owners in this precision, fp32 weights go back to all. Seconds by the clock and of the processor for each rank, and the
 * rate at which a rank sends. */
#include <stdlib.h>
#include <sys/resource.h>

#include "train/world.h"

static double processor_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static int exchange(world *all, float *values, size_t count, bool share, nn_precision wire, limn_error *error) {
    world_ticket ticket = 0;
    for (size_t start = 0, bucket = world_bucket(all); start < count; start += bucket) {
        size_t piece = count - start < bucket ? count - start : bucket;
        ticket = share ? world_share(all, values + start, piece, WORLD_SLICES)
                       : world_reduce(all, values + start, piece, WORLD_SLICES, wire);
    }
    return world_wait(all, WORLD_TRAINING, ticket, error);
}

static int measure(world *all, float *values, size_t count, nn_precision wire, limn_error *error) {
    double nothing = 0;
    size_t ranks = world_size(all);
    for (int round = 0; round < 3; round++)
        for (int share = 0; share < 2; share++) {
            if (world_sum(all, &nothing, 1, error)) return -1;
            double begin = limn_seconds(), used = processor_seconds();
            if (exchange(all, values, count, share, wire, error)) return -1;
            double seconds = limn_seconds() - begin;
            double bytes = (double)count * (double)(ranks - 1) / (double)ranks * (wire == PRECISION_BF16 && !share ? 2 : 4);
            if (world_rank(all) == 0)
                printf("%s, %zu ranks: %.3f s, %.3f s of each rank's processor, %.2f GB/s sent by each\n",
                       share                    ? "weights fp32"
                       : wire == PRECISION_BF16 ? "gradients bf16"
                                                : "gradients fp32",
                       ranks, seconds, processor_seconds() - used, 1e-9 * bytes / seconds);
        }
    return 0;
}

static int run(int argc, char **argv, limn_error *error) {
    size_t count = (size_t)(argc > 1 ? strtoul(argv[1], NULL, 10) : 100) * 1000000;
    nn_precision wire = PRECISION_BF16;
    if (argc > 2 && nn_precision_parse(&wire, argv[2], error)) return -1;
    world *all = world_start(error);
    if (!all) return -1;
    float *values = limn_allocate(count, sizeof *values, error);
    int status = values ? 0 : -1;
    for (size_t i = 0; status == 0 && i < count; i++) values[i] = (float)(i % 1000);
    if (status == 0) status = measure(all, values, count, wire, error);
    free(values);
    return world_finish(all, status, error);
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
