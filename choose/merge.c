/* Several sets as one, numbered anew. */
#include "choose/internal.h"

/* What all shards of a set have in common. */
static int check_shards(const limn_strings *inputs, limn_error *error) {
    token_shard first, other;
    if (choose_form_of(inputs->items[0]) == CHOOSE_TARS) return 0;
    if (token_shard_read_columns(inputs->items[0], &first, error)) return -1;
    int status = 0;
    for (size_t i = 1; status == 0 && i < inputs->count; i++) {
        const char *path = inputs->items[i];
        if (limn_stop_requested()) {
            status = limn_fail(error, "stopped before anything was merged");
            break;
        }
        if (token_shard_read_columns(path, &other, error)) {
            status = -1;
            break;
        }
        const char *what = NULL;
        if (strcmp(first.vqgan_sha256, other.vqgan_sha256)) what = "another VQGAN";
        if (strcmp(first.precision, other.precision)) what = "another precision of the VQGAN";
        if (first.image_size != other.image_size || first.codebook_size != other.codebook_size || first.length != other.length)
            what = "pictures of another size or codebook";
        bool same = first.columns == other.columns;
        for (size_t c = 0; same && c < first.columns; c++) same = strcmp(first.column_names[c], other.column_names[c]) == 0;
        if (!same) what = "other columns";
        if (what)
            status = limn_fail_usage(error, "%s: has %s than %s (VQGAN %.8s…, %s; and %.8s…, %s): they cannot be one set", path,
                                     what, inputs->items[0], other.vqgan_sha256, other.precision, first.vqgan_sha256,
                                     first.precision);
        token_shard_free(&other);
    }
    token_shard_free(&first);
    return status;
}

int choose_merge(const choose_write_options *options, choose_summary *out, limn_error *error) {
    *out = (choose_summary){0};
    if (options->inputs.count == 0) return limn_fail_usage(error, "--input: no files");
    if (check_shards(&options->inputs, error)) return -1;
    json_t *settings = json_object();
    const choose_plan plan = {
        .write = options, .command = "merge", .what = "merging", .settings = settings, .sides = 1, .renumber = true};
    const int status = settings ? choose_rewrite(&plan, out, error) : limn_fail(error, "out of memory");
    json_decref(settings);
    return status;
}
