/* Where lists come from: files, folders, standard input; and the settings of known ones. */
#include "download/list_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 16, POLL_MILLISECONDS = 200, QUICK_BYTES = 64000000 };

int caption_list_expand(const limn_strings *given, limn_strings *out_paths, limn_error *error) {
    size_t inputs = 0;
    if (limn_expand_folders(given, ".{tsv,tab,csv,jsonl,ndjson,txt}{,.gz,.zst}", out_paths, error)) return -1;
    for (size_t i = 0; i < out_paths->count; i++) inputs += !strcmp(out_paths->items[i], "-");
    if (inputs <= 1) return 0;
    limn_strings_free(out_paths);
    return limn_fail_usage(error, "--input: - (standard input) can be given once only");
}

/* ---------------------------------------------------------------- standard input */

/* Copies standard input to `file`, or as much of it as there is before a stop. Polls, since a signal may wake another thread.
 */
static int copy_input(limn_atomic_file *file, uint64_t *bytes, char sha256[65], limn_error *error) {
    char chunk[CHUNK];
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    limn_sha256_sum *sum = limn_sha256_begin(error);
    int status = sum ? 0 : -1;
    limn_progress *progress = NULL; /* none for what takes no time */
    for (*bytes = 0; !status;) {
        if (limn_stop_requested()) status = limn_fail(error, "stopped while reading standard input; nothing was written");
        if (status || poll(&input, 1, POLL_MILLISECONDS) == 0) continue;
        const ssize_t part = read(STDIN_FILENO, chunk, sizeof chunk);
        if (part == 0) break;
        if (part < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (part < 0) {
            status = limn_fail(error, "standard input cannot be read: %s", strerror(errno));
        } else if (fwrite(chunk, 1, (size_t)part, file->stream) != (size_t)part) {
            status = limn_fail(error, "%s: cannot be written: %s; make room and run the same command again", file->path,
                               strerror(errno));
        } else {
            limn_sha256_add(sum, chunk, (size_t)part);
            *bytes += (uint64_t)part;
            if (!progress && *bytes >= QUICK_BYTES)
                progress = limn_progress_start("reading standard input", "MB", *bytes / 1000000, 0);
            limn_progress_update(progress, *bytes / 1000000, NULL);
        }
    }
    limn_progress_finish(progress);
    if (status)
        limn_sha256_drop(sum);
    else
        limn_sha256_end(sum, sha256);
    return status;
}

int caption_list_keep_stdin(const char *output, bool replace, char out_path[4096], limn_error *error) {
    char now[65], kept[65];
    uint64_t bytes;
    limn_atomic_file file;
    if (limn_path_join(out_path, 4096, output, "stdin.list", error)) return -1;
    const bool there = limn_file_exists(out_path);
    if (there && isatty(STDIN_FILENO)) return 0;
    if (limn_atomic_open(&file, out_path, error)) return -1;
    int status = copy_input(&file, &bytes, now, error);
    if (!status && bytes == 0 && !there) status = limn_fail_usage(error, "--input -: standard input is empty");
    if (!status && bytes && there && !replace) {
        status = limn_sha256_file(out_path, kept, error);
        if (!status && strcmp(now, kept))
            status = limn_fail_usage(error,
                                     "%s: standard input is another list than the one kept there; give that one or none "
                                     "(</dev/null), another --output, or --restart to begin anew",
                                     out_path);
    }
    if (!status && bytes) return limn_atomic_commit(&file, error);
    limn_atomic_discard(&file);
    return status;
}

/* ---------------------------------------------------------------- settings */

int caption_list_load_settings(const char *path, caption_list_options *options, json_t **out_settings, limn_error *error) {
    const struct {
        const char *key, *choices;
        const char **option;
    } settings[] = {{"input_format", "auto|tsv|csv|jsonl|txt", &options->format},
                    {"header", "auto|yes|no", &options->header},
                    {"columns", NULL, &options->columns},
                    {"url_column", NULL, &options->url_column},
                    {"caption_column", NULL, &options->caption_column},
                    {"hash_column", NULL, &options->hash_column},
                    {"boxes_column", NULL, &options->boxes_column}};
    static const char *const known[] = {"about",          "input_format", "header",       "columns", "url_column",
                                        "caption_column", "hash_column",  "boxes_column", NULL};
    int status = 0;
    json_t *all = limn_json_load(path, error);
    *out_settings = NULL;
    if (!all) {
        if (error) error->exit_code = LIMN_EXIT_USAGE;
        return -1;
    }
    if (!json_is_object(all))
        status = limn_fail_usage(error, "%s: settings are a JSON object", path);
    else
        status = limn_json_check_keys(all, path, known, error);
    for (size_t i = 0; !status && i < sizeof settings / sizeof *settings; i++) {
        const char *text = NULL;
        status = limn_json_get_string(all, path, settings[i].key, settings[i].choices, &text, error);
        if (text && !*settings[i].option) *settings[i].option = text;
    }
    if (status)
        json_decref(all);
    else
        *out_settings = all;
    return status;
}
