/* A set in two, by what its samples are and not by where they stand. */
#include "choose/internal.h"

enum { TRAIN, VALID };

static int judge(void *context, void *room, const choose_sample *sample, limn_error *error) {
    (void)room;
    (void)error;
    const choose_split_options *options = context;
    uint64_t hash;
    if (!choose_identity(sample, options->by, &hash)) choose_identity(sample, CHOOSE_BY_KEY, &hash);
    /* Another seed, another split: the hash is the number of a block. */
    if (options->seed) {
        uint32_t block[4];
        limn_random_block(options->seed, limn_random_stream("limn-dataset split"), hash, block);
        hash = (uint64_t)block[0] << 32 | block[1];
    }
    return (double)(hash >> 11) * 0x1p-53 < options->valid ? VALID : TRAIN;
}

int choose_split(const choose_split_options *options, choose_summary *out, limn_error *error) {
    static const char *const names[] = {"key", "caption", "address", "picture", "near"};
    *out = (choose_summary){0};
    if (!(options->valid > 0 && options->valid < 1))
        return limn_fail_usage(error, "--valid: a share above 0 and below 1, such as 0.01");
    if (options->by == CHOOSE_BY_NEAR) return limn_fail_usage(error, "--by: one of key, caption, address, picture");
    if (options->by == CHOOSE_BY_ADDRESS && options->write.inputs.count &&
        choose_form_of(options->write.inputs.items[0]) == CHOOSE_SHARDS)
        return limn_fail_usage(error, "--by address: token shards have no addresses; key, caption and picture (its tokens) are "
                                      "there");
    json_t *settings =
        json_pack("{s:f, s:s, s:I}", "valid", options->valid, "by", names[options->by], "seed", (json_int_t)options->seed);
    const choose_plan plan = {.write = &options->write,
                              .command = "split",
                              .what = "splitting",
                              .settings = settings,
                              .sides = 2,
                              .judge = judge,
                              .context = (void *)(uintptr_t)options};
    const int status = settings ? choose_rewrite(&plan, out, error) : limn_fail(error, "out of memory");
    json_decref(settings);
    return status;
}
