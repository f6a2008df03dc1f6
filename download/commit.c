/* A shard's files change together. They are written into the hidden folder .NNNNN.new and fsynced; renaming that to
 * .NNNNN.commit is the moment from which they count; then each is moved to its place, the stats last. Whoever opens the shard
 * next finishes what a killed process had begun, or removes it. */
#include "download/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int hidden_path(const download_options *options, uint64_t number, const char *suffix, char out[4096],
                       limn_error *error) {
    char name[64];
    snprintf(name, sizeof name, ".%05llu.%s", (unsigned long long)number, suffix);
    return limn_path_join(out, 4096, options->output, name, error);
}

int shard_spool_path(const download_options *options, uint64_t number, char out[4096], limn_error *error) {
    return hidden_path(options, number, "spool", out, error);
}

bool commit_is_ours(const char *name, uint64_t *number) {
    char *end;
    if (name[0] != '.' || name[1] < '0' || name[1] > '9') return false;
    *number = strtoull(name + 1, &end, 10);
    if (end - name < 6 || end - name > 16) return false;
    return !strcmp(end, ".spool") || !strcmp(end, ".new") || !strcmp(end, ".commit");
}

static bool is_there(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0;
}

static int move(const char *from, const char *to, limn_error *error) {
    return rename(from, to) ? limn_fail(error, "%s: cannot be put in its place: %s", to, strerror(errno)) : 0;
}

/* The folder of plain files. A rename does not go over a folder that has files, so the old one steps aside, into the commit. */
static int apply_folder(const char *commit, const download_options *options, uint64_t number, limn_error *error) {
    char from[4096], to[4096], aside[4096];
    if (shard_path(commit, number, NULL, from, error) || shard_path(options->output, number, NULL, to, error) ||
        limn_path_join(aside, sizeof aside, commit, "old", error))
        return -1;
    if (!is_there(from)) return 0;
    if (is_there(to) && move(to, aside, error)) return -1;
    return move(from, to, error);
}

static int apply_file(const char *commit, const download_options *options, uint64_t number, const char *suffix,
                      limn_error *error) {
    char from[4096], to[4096];
    struct stat status;
    if (shard_path(commit, number, suffix, from, error) || shard_path(options->output, number, suffix, to, error)) return -1;
    if (lstat(from, &status)) return 0; /* moved already, or not of this form */
    if (status.st_size) return move(from, to, error);
    /* An empty one says that there is to be none. */
    if (unlink(to) && errno != ENOENT) return limn_fail(error, "%s: cannot be removed: %s", to, strerror(errno));
    return unlink(from) ? limn_fail(error, "%s: cannot be removed: %s", from, strerror(errno)) : 0;
}

/* Each step may have been done already. */
static int apply(const char *commit, const download_options *options, uint64_t number, limn_error *error) {
    if (apply_folder(commit, options, number, error) || apply_file(commit, options, number, "tar", error) ||
        apply_file(commit, options, number, "h5", error) || apply_file(commit, options, number, "phash", error) ||
        apply_file(commit, options, number, "failed.tsv", error) || apply_file(commit, options, number, "stats.json", error) ||
        limn_sync_folder(options->output, error))
        return -1;
    return limn_remove_tree(commit, error);
}

int commit_begin(const download_options *options, uint64_t number, char folder[4096], limn_error *error) {
    if (hidden_path(options, number, "new", folder, error)) return -1;
    if (mkdir(folder, 0777)) return limn_fail(error, "%s: cannot be made: %s; is --output writable?", folder, strerror(errno));
    return 0;
}

void commit_discard(const download_options *options, uint64_t number) {
    char folder[4096];
    if (!hidden_path(options, number, "new", folder, NULL) && is_there(folder)) limn_remove_tree(folder, NULL);
}

int commit_publish(const download_options *options, uint64_t number, limn_error *error) {
    char folder[4096], commit[4096];
    if (hidden_path(options, number, "new", folder, error) || hidden_path(options, number, "commit", commit, error)) return -1;
    if (limn_sync_folder(folder, error) || move(folder, commit, error) || limn_sync_folder(options->output, error)) return -1;
    return apply(commit, options, number, error);
}

int commit_settle(const download_options *options, uint64_t number, limn_error *error) {
    char path[4096];
    if (shard_spool_path(options, number, path, error)) return -1;
    if (unlink(path) && errno != ENOENT) return limn_fail(error, "%s: cannot be removed: %s", path, strerror(errno));
    if (hidden_path(options, number, "new", path, error) || (is_there(path) && limn_remove_tree(path, error))) return -1;
    if (hidden_path(options, number, "commit", path, error)) return -1;
    return is_there(path) ? apply(path, options, number, error) : 0;
}
