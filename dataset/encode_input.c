/* limn-encode's files: which tars, which shards, what is there already, and how much lies ahead. */
#include "dataset/encode.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int encode_output_path(char *out, size_t size, const encode_options *options, const char *tar, const char *ending,
                       limn_error *error) {
    const char *name = limn_base_name(tar);
    char wanted[512];
    size_t length = strlen(name);
    if (length < 5 || strcmp(name + length - 4, ".tar") != 0)
        return limn_fail_usage(error, "%s: not the name of a tar; --input takes the .tar files that limn-download wrote", tar);
    if (snprintf(wanted, sizeof wanted, "%.*s%s", (int)(length - 4), name, ending) >= (int)sizeof wanted)
        return limn_fail_usage(error, "%s: the name is too long", tar);
    return limn_path_join(out, size, options->output, wanted, error);
}

bool encode_is_mine(const encode_options *options, size_t input) {
    return input % options->parts == options->part;
}

int encode_check_inputs(const encode_options *options, limn_error *error) {
    const char *name;
    const int same = limn_find_same_name(&options->inputs, &name, error);
    if (same)
        return same < 0 ? -1
                        : limn_fail_usage(error, "--input has two tars named %s: encode each folder to an --output of its own",
                                          name);
    if (limn_any_in_folder(&options->inputs, options->output))
        return limn_fail_usage(error, "--output %s: holds the tars themselves; give the shards a folder of their own",
                               options->output);
    return 0;
}

int encode_remove_leftovers(const encode_options *options, bool finished, limn_error *error) {
    static const char *const endings[] = {".h5", ".stats.json"};
    for (size_t i = 0; i < options->inputs.count; i++) {
        if (!encode_is_mine(options, i)) continue;
        for (size_t e = 0; e < 2; e++) {
            char path[4096], hidden[4096], pattern[4200];
            if (encode_output_path(path, sizeof path, options, options->inputs.items[i], endings[e], error)) return -1;
            if (finished) unlink(path);
            snprintf(pattern, sizeof pattern, ".%s.tmp-*", limn_base_name(path));
            if (limn_path_join(hidden, sizeof hidden, options->output, pattern, error)) return -1;
            glob_t found;
            if (glob(hidden, GLOB_NOSORT, NULL, &found) == 0)
                for (size_t f = 0; f < found.gl_pathc; f++) unlink(found.gl_pathv[f]);
            globfree(&found);
        }
    }
    return 0;
}

int encode_lock_output(const encode_options *options, int *lock, limn_error *error) {
    char name[64], path[4096];
    if (limn_make_directories(options->output, error)) return -1;
    if (options->parts == 1) return limn_lock(options->output, lock, error);
    snprintf(name, sizeof name, ".part-%zu-of-%zu", options->part, options->parts);
    if (limn_path_join(path, sizeof path, options->output, name, error) || limn_make_directories(path, error)) return -1;
    return limn_lock(path, lock, error);
}

/* ---------------------------------------------------------------- what is there already */

static int refuse_shard(const encode_kind *kind, const char *path, const token_shard *found, limn_error *error) {
    static const char advice[] = "give another --output, or --restart to make all shards anew";
    const encode_options *options = kind->options;
    if (strcmp(found->vqgan_sha256, kind->vqgan_sha256) != 0)
        return limn_fail(error, "%s: made with another VQGAN (%.8s…, and --vqgan %s is %.8s…); %s", path, found->vqgan_sha256,
                         options->vqgan, kind->vqgan_sha256, advice);
    const char *precision = nn_precision_name(options->precision);
    if (strcmp(found->precision, precision) != 0)
        return limn_fail(error, "%s: made with --precision %s, not %s; %s", path, found->precision, precision, advice);
    return 0;
}

/* 1: whole and made as this run makes them; 0: to be made; -1: made otherwise. */
static int shard_is_whole(const encode_kind *kind, const char *path, limn_error *error) {
    token_shard header;
    limn_error problem = {0};
    if (!limn_file_exists(path)) return 0;
    if (token_shard_read_header(path, &header, &problem)) {
        limn_log(LIMN_LOG_WARNING, "%s; it is made again", problem.message);
        return 0;
    }
    int status = refuse_shard(kind, path, &header, error);
    token_shard_free(&header);
    return status ? -1 : 1;
}

int encode_find_work(const encode_kind *kind, bool *todo, size_t *whole, limn_error *error) {
    const encode_options *options = kind->options;
    for (size_t i = 0; i < options->inputs.count; i++) {
        char path[4096];
        if (!encode_is_mine(options, i)) continue;
        if (limn_stop_requested()) return limn_fail(error, "stopped before anything was encoded");
        if (encode_output_path(path, sizeof path, options, options->inputs.items[i], ".h5", error)) return -1;
        int found = shard_is_whole(kind, path, error);
        if (found < 0) return -1;
        todo[i] = !found;
        *whole += (size_t)found;
    }
    return 0;
}

/* ---------------------------------------------------------------- how much lies ahead */

/* The pairs that the stats beside a tar tell of. */
static bool read_pairs(const char *tar, size_t *out) {
    char path[4096];
    if (snprintf(path, sizeof path, "%.*s.stats.json", (int)strlen(tar) - 4, tar) >= (int)sizeof path) return false;
    json_t *stats = limn_file_exists(path) ? limn_json_load(path, NULL) : NULL;
    bool known = json_is_integer(json_object_get(stats, "pairs")) &&
                 limn_json_get_size(stats, path, "pairs", 0, UINT32_MAX, out, NULL) == 0;
    json_decref(stats);
    return known;
}

encode_amount encode_measure(const encode_options *options, const bool *todo) {
    encode_amount amount = {0};
    for (size_t i = 0; i < options->inputs.count; i++) {
        struct stat status;
        size_t pairs;
        if (!todo[i] || stat(options->inputs.items[i], &status) != 0 || !S_ISREG(status.st_mode)) continue;
        bool known = read_pairs(options->inputs.items[i], &pairs);
        amount.known_pictures += known ? pairs : 0;
        *(known ? &amount.known_bytes : &amount.other_bytes) += (uint64_t)status.st_size;
    }
    return amount;
}

uint64_t encode_estimate(const encode_amount *amount, uint64_t samples, uint64_t bytes) {
    double seen = (double)(amount->known_bytes + bytes);
    if (amount->other_bytes == 0 || seen <= 0) return amount->known_pictures;
    double others = (double)amount->other_bytes * (double)(amount->known_pictures + samples) / seen;
    return amount->known_pictures + (uint64_t)(others + 0.5);
}
