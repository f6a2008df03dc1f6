/* What the tests of dataset and download share: a folder of their own, running programs, reading what they wrote. */
#ifndef LIMN_TESTS_DATASET_TOOLS_H
#define LIMN_TESTS_DATASET_TOOLS_H

#include "core/core.h"
#include "formats/formats.h"

#include <sys/types.h>

/* A fresh folder under the system's folder for temporary files; removed with limn_remove_tree. */
void make_folder(char out[4096]);
void write_file(const char *folder, const char *name, const void *data, size_t size);
void write_text(const char *folder, const char *name, const char *format, ...) LIMN_PRINTF(3, 4);
/* folder/name in a buffer that lives for another 255 calls. */
const char *in(const char *folder, const char *name);

typedef struct {
    int exit_code; /* -1 when a signal ended it */
    char *out, *err;
    double seconds;
} program_result;
/* Runs a program with these arguments (NULL ends them) in a process of its own. file_bytes 0: files of any size, else writing
 * beyond fails as on a full disk. */
program_result run_program(const char *program, const char *const *arguments, size_t file_bytes);
void program_result_free(program_result *self);
/* Starts it and does not wait. Its output goes nowhere. */
pid_t start_program(const char *program, const char *const *arguments);

/* Everything in a folder and those in it but hidden names and stats, as text: names and SHA-256 of each file, sorted. Caller:
 * free. */
char *folder_print(const char *folder);
size_t count_hidden(const char *folder); /* files whose name begins with a dot, but .lock */

/* The keys of a tar's samples, joined with spaces. Caller: free. */
char *tar_keys(const char *path);
/* The JSON of the sample with this key; NULL when absent. Caller: json_decref. */
json_t *tar_json(const char *path, const char *key);
/* stats.json of one shard: how many rows failed for `reason`. */
long stats_reason(const char *folder, const char *shard, const char *reason);
long stats_number(const char *folder, const char *shard, const char *key);

#endif
