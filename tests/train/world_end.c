/* world-end HOW: a job whose end is looked at. "one": rank 1 fails; "all": every rank fails; "disagree": all but rank 0 fail,
 * which they tell each other; "killed": rank 1 is killed while the others wait for it; "well": none of that. */
#include <signal.h>

#include "train/world.h"

static int run(int argc, char **argv, limn_error *error) {
    const char *how = argc > 1 ? argv[1] : "well";
    world *all = world_start(error);
    if (!all) return -1;
    double value = 1;
    int status = world_sum(all, &value, 1, error);
    if (status == 0 && strcmp(how, "killed") == 0 && world_rank(all) == 1) raise(SIGKILL);
    if (status == 0 && (strcmp(how, "all") == 0 || (strcmp(how, "one") == 0 && world_rank(all) == 1)))
        status = limn_fail_usage(error, "shard 7 is gone");
    if (strcmp(how, "disagree") == 0)
        status = world_agree(all, world_rank(all) ? limn_fail_usage(error, "shard %zu is gone", world_rank(all)) : 0, error);
    if (status == 0) status = world_sum(all, &value, 1, error);
    if (status == 0 && world_rank(all) == 0) printf("%.0f\n", value);
    return world_finish(all, status, error);
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
