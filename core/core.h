/* core: what every part of Limn needs and that is not mathematics.
 *
 * Errors, log, options, JSON and YAML, random numbers, progress, files, memory, threads. This header is the folder's door
 * and its manual; nothing else of core/ is included from outside.
 *
 * Convention of the whole house: a function that can fail returns int, 0 for success and -1 for failure (or a pointer, NULL
 * for failure), takes a limn_error as its last argument, and leaves in it one sentence that says what, where and what to do.
 * Passing NULL for the error is allowed. Only main files exit. */
#ifndef LIMN_CORE_H
#define LIMN_CORE_H

#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define LIMN_VERSION "0.1.0"

#if defined(__GNUC__)
#define LIMN_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define LIMN_PRINTF(format_index, first)
#endif

/* ---------------------------------------------------------------- errors */

/* INTERRUPTED: stopped cleanly on Ctrl-C before the work was done, so that a script does not go on as if it were. */
enum { LIMN_EXIT_DONE = 0, LIMN_EXIT_FAILED = 1, LIMN_EXIT_USAGE = 2, LIMN_EXIT_INTERRUPTED = 130 };

typedef struct {
    int exit_code;      /* LIMN_EXIT_FAILED, …_USAGE or …_INTERRUPTED; 0 while there is no error */
    char message[1024]; /* one line, no trailing newline, no program name */
} limn_error;

/* Fills in the error (the last call wins) and returns -1, so that `return limn_fail(error, …);` reads well. Control
 * characters and invalid UTF-8 in the formatted text are replaced, so that an error is always one printable line. */
int limn_fail(limn_error *error, const char *format, ...) LIMN_PRINTF(2, 3);
/* As limn_fail, but the program ends with exit code 2: the user's command line or configuration is wrong. */
int limn_fail_usage(limn_error *error, const char *format, ...) LIMN_PRINTF(2, 3);
/* Puts "context: " before the message that is there. Returns -1. */
int limn_fail_context(limn_error *error, const char *format, ...) LIMN_PRINTF(2, 3);

/* ---------------------------------------------------------------- log */

typedef enum { LIMN_LOG_DEBUG, LIMN_LOG_INFO, LIMN_LOG_WARNING, LIMN_LOG_ERROR, LIMN_LOG_QUIET } limn_log_level;

void limn_set_log_level(limn_log_level level); /* default LIMN_LOG_INFO */
limn_log_level limn_get_log_level(void);
/* Writes one line to stderr, as "program: text" (warnings as "program: warning: text"), above a live progress line. */
void limn_log(limn_log_level level, const char *format, ...) LIMN_PRINTF(2, 3);

/* ---------------------------------------------------------------- command line */

typedef enum {
    LIMN_OPTION_FLAG,    /* bool, set true when given */
    LIMN_OPTION_STRING,  /* const char * */
    LIMN_OPTION_STRINGS, /* limn_strings, empty at first: one or more words, up to the next option; may be given again */
    LIMN_OPTION_SIZE,    /* size_t; suffixes k, M, G (1000s) allowed */
    LIMN_OPTION_SEED,    /* uint64_t */
    LIMN_OPTION_FLOAT,   /* double */
    LIMN_OPTION_YES_NO   /* bool, from yes|no */
} limn_option_kind;

typedef struct {
    size_t count;
    const char **items;
} limn_strings;

typedef struct {
    const char *name; /* without the dashes: "shard-size" */
    limn_option_kind kind;
    void *value;             /* holds the default before parsing and the given value after it */
    const char *placeholder; /* "DIR", "N", "yes|no"; a string option with "a|b|c" takes only one of these */
    const char *help;        /* one sentence; the default is shown after it when it is not empty, false or NULL */
    bool required;
} limn_option;

typedef struct {
    const char *name;       /* "limn-sample", or "limn-vqgan train" for a subcommand */
    const char *summary;    /* one sentence */
    const char *examples;   /* lines of "$ command" and what it does, printed as they are */
    const char *positional; /* placeholder such as "SOURCE MODEL_DIR"; NULL when the program takes none */
} limn_program;

/* Parses argv[1…] into the options (a table that ends with a NULL name) and, when `program->positional`, into
 * `positionals` (else may be NULL). Understands --name VALUE and --name=VALUE. Handles the options every program has:
 * --help, --version, --quiet, --log-level debug|info|warning|error and --threads N. An unknown or misspelt option is an
 * error that names the nearest known one.
 * Returns 0 to go on, 1 when --help or --version was printed (the program ends with exit code 0), -1 with a usage error. */
int limn_options_parse(const limn_program *program, const limn_option *options, int argc, char **argv,
                       limn_strings *positionals, limn_error *error);
void limn_strings_free(limn_strings *strings);
/* Expands shell patterns (DIR/'*'.tar) and leaves names without pattern characters as they are; sorted by name within each
 * pattern. A pattern that matches nothing is an error that names it. */
int limn_expand_paths(const limn_strings *patterns, limn_strings *out_paths, limn_error *error);
/* As limn_expand_paths, and a folder stands for all files in it whose names end so (".tar"). */
int limn_expand_folders(const limn_strings *given, const char *ending, limn_strings *out_paths, limn_error *error);

const char *limn_base_name(const char *path); /* what follows the last slash */
/* 1 when two paths have one base name, so that what is named after them would be one file: *out_name is it. 0 when not. */
int limn_find_same_name(const limn_strings *paths, const char **out_name, limn_error *error);
/* True when a file of these lies in the folder itself, however both are written. */
bool limn_any_in_folder(const limn_strings *paths, const char *folder);

/* The one of `known` (NULL-terminated) that `name` is most likely a misspelling of; NULL when none is near. */
const char *limn_nearest(const char *name, const char *const *known);

/* One subcommand of a program such as limn-vqgan. */
typedef struct {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv, limn_error *error); /* as a limn_main_function */
} limn_subcommand;

typedef int (*limn_main_function)(int argc, char **argv, limn_error *error); /* 0 done, -1 with error */

/* The whole of main(): names the program for log lines, installs the Ctrl-C handler, calls `function`, prints its error as
 * one line "program: message" and returns the exit code. A standard output that cannot be written is an error too. */
int limn_main(int argc, char **argv, limn_main_function function);
/* The same for a program with subcommands (a table that ends with a NULL name): handles `--help` and an unknown name. */
int limn_main_subcommands(int argc, char **argv, const char *summary, const limn_subcommand *subcommands);

/* ---------------------------------------------------------------- stopping */

/* True after the first SIGINT or SIGTERM: loops finish what they hold, save, and return. A second signal ends at once. */
bool limn_stop_requested(void);

/* ---------------------------------------------------------------- JSON and YAML (jansson, libyaml) */

/* Reads a .json, .yaml or .yml file (told apart by name; anything else is read as JSON). Files above 64 MiB, duplicate keys,
 * YAML aliases that expand without bound, and nesting over 64 levels are errors. Caller: json_decref. */
json_t *limn_json_load(const char *path, limn_error *error);
json_t *limn_yaml_parse(const char *text, size_t length, const char *name, limn_error *error);
/* Atomically writes with sorted keys and an indent of 2. */
int limn_json_save(const json_t *value, const char *path, limn_error *error);

/* Typed look-ups in an object. `where` names the file or section for the error. A missing (or null) key leaves *out as it was
 * (its default) and succeeds; a value of another type or outside [min, max] is a usage error. */
int limn_json_get_size(const json_t *object, const char *where, const char *key, size_t min, size_t max, size_t *out,
                       limn_error *error);
int limn_json_get_float(const json_t *object, const char *where, const char *key, double min, double max, double *out,
                        limn_error *error);
int limn_json_get_bool(const json_t *object, const char *where, const char *key, bool *out, limn_error *error);
/* *out points into the object. `choices` is NULL or "a|b|c". */
int limn_json_get_string(const json_t *object, const char *where, const char *key, const char *choices, const char **out,
                         limn_error *error);
/* An array of at most `capacity` sizes; *count is set to the number found. */
int limn_json_get_sizes(const json_t *object, const char *where, const char *key, size_t min, size_t max, size_t *out,
                        size_t capacity, size_t *count, limn_error *error);
/* A usage error that names the first key of the object that is not in `known` (NULL-terminated), and the nearest known. */
int limn_json_check_keys(const json_t *object, const char *where, const char *const *known, limn_error *error);
/* For an output that another configuration made: a usage error that names the first key of `now` that differs in `was`, or is
 * not there, with both values. Of the key "inputs", whose values are long, only that it was made from other `inputs`. */
int limn_json_refuse_other(const char *path, const json_t *was, const json_t *now, const char *inputs, limn_error *error);
/* Applies "section.key=value" (value read as JSON, else as a string) to a configuration. */
int limn_json_set(json_t *object, const char *assignment, limn_error *error);

/* ---------------------------------------------------------------- random numbers */

/* Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Counter-based:
 * a value depends only on (seed, stream, index), so any thread can make any part of a sequence, and a resumed run needs no
 * stored state but its step. key = seed; counter = (index, stream). */
void limn_random_block(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]);
uint32_t limn_random_u32(uint64_t seed, uint64_t stream, uint64_t index);  /* first word of the block */
float limn_random_uniform(uint64_t seed, uint64_t stream, uint64_t index); /* [0, 1), 24 bits */
float limn_random_normal(uint64_t seed, uint64_t stream, uint64_t index);  /* mean 0, deviation 1, Box-Muller */
uint64_t limn_random_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t bound); /* [0, bound), unbiased */
/* Fills out[n] with normal numbers times `deviation`; out[i] depends only on (seed, stream, i). Multi-threaded. */
void limn_random_fill_normal(float *out, size_t n, float deviation, uint64_t seed, uint64_t stream);
/* Fisher-Yates shuffle of order[n], a function of (seed, stream) alone. */
void limn_random_shuffle(uint64_t *order, size_t n, uint64_t seed, uint64_t stream);
/* A stream number from a name: FNV-1a of the text. */
uint64_t limn_random_stream(const char *name);

/* ---------------------------------------------------------------- progress and time */

double limn_seconds(void); /* monotonic */

/* A line with count, total, rate, time left and a text of the caller's; redrawn in place on a terminal, else a plain line
 * every 30 seconds. Silent under --quiet. total 0: unknown. The rate is over the last half minute; resumed work (`start`)
 * does not count as done in this run. */
typedef struct limn_progress limn_progress;
limn_progress *limn_progress_start(const char *what, const char *unit, uint64_t start, uint64_t total);
void limn_progress_update(limn_progress *progress, uint64_t done, const char *format, ...) LIMN_PRINTF(3, 4);
void limn_progress_set_total(limn_progress *progress, uint64_t total); /* where it becomes known on the way */
void limn_progress_finish(limn_progress *progress); /* prints the last state as a plain line; frees; NULL allowed */

/* ---------------------------------------------------------------- memory */

/* count × size, or an error when that overflows. */
int limn_multiply(size_t a, size_t b, size_t *out, limn_error *error);
/* Zeroed memory for count × size bytes, 64-byte aligned; free with free(). NULL with an error that says how many bytes. */
void *limn_allocate(size_t count, size_t size, limn_error *error);

typedef struct {
    char *data;
    size_t size, capacity;
} limn_buffer; /* grows; zero-initialise; data is always NUL-terminated after an append */
/* Room for so many more bytes and a NUL, which may then be written without asking. */
int limn_buffer_reserve(limn_buffer *buffer, size_t more, limn_error *error);
int limn_buffer_append(limn_buffer *buffer, const void *data, size_t size, limn_error *error);
int limn_buffer_printf(limn_buffer *buffer, limn_error *error, const char *format, ...) LIMN_PRINTF(3, 4);
void limn_buffer_free(limn_buffer *buffer);

/* Scratch and activation memory of a training or decode step: address space is reserved once, pages are touched once, and a
 * step takes pieces by moving a mark. Nothing is returned to the system between steps. Not thread-safe: take before a
 * parallel region. */
typedef struct limn_arena limn_arena;
/* Reserves `limit` bytes of address space (no memory yet). */
limn_arena *limn_arena_create(size_t limit, limn_error *error);
/* `count` floats, 64-byte aligned, contents undefined. Running past the limit is fatal in the arena's own words ("needs more
 * than … GiB"): it aborts the process after a log line, since a step cannot go on; size limits with the model's plan. */
float *limn_arena_floats(limn_arena *arena, size_t count);
void *limn_arena_bytes(limn_arena *arena, size_t bytes);
size_t limn_arena_left(const limn_arena *arena); /* bytes that may yet be taken */
size_t limn_arena_mark(const limn_arena *arena);
void limn_arena_release(limn_arena *arena, size_t mark); /* everything taken since the mark is free again; 0: all */
size_t limn_arena_peak(const limn_arena *arena);         /* bytes */
void limn_arena_destroy(limn_arena *arena);

size_t limn_resident_bytes_peak(void); /* the process's VmHWM */
size_t limn_memory_available(void);    /* bytes that can be taken without swapping (MemAvailable); SIZE_MAX where unknown */

/* ---------------------------------------------------------------- bfloat16 */

/* A bfloat16 is the upper half of a float32. Rounded to nearest even; NaN stays NaN. */
static inline __attribute__((always_inline)) uint16_t limn_bf16_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x0040;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}
static inline __attribute__((always_inline)) float limn_bf16_to_float(uint16_t upper) {
    uint32_t bits = (uint32_t)upper << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---------------------------------------------------------------- files */

int limn_make_directories(const char *path, limn_error *error); /* mkdir -p */
bool limn_file_exists(const char *path);
/* The one file in a folder that a shell pattern matches: 1 found, 0 none, -1 with an error that names two where there are
 * several. */
int limn_find_one(const char *directory, const char *pattern, char out_path[4096], limn_error *error);
/* Whole file in memory (free()); a NUL follows the contents. Above `limit` bytes is an error. */
char *limn_file_read(const char *path, size_t limit, size_t *out_size, limn_error *error);
/* Joins with one slash; the result lives in `out` (PATH_MAX); too long is an error. */
int limn_path_join(char *out, size_t out_size, const char *directory, const char *name, limn_error *error);

/* A file that is whole or not there: written as a hidden temporary (.NAME.tmp-PID) in the same folder, flushed, fsynced,
 * renamed, and its folder fsynced. A full disk or short write is found at commit and removes the temporary. */
typedef struct {
    FILE *stream;
    char path[4096];
    char temporary[4096];
} limn_atomic_file;
int limn_atomic_open(limn_atomic_file *file, const char *path, limn_error *error);
int limn_atomic_commit(limn_atomic_file *file, limn_error *error);
void limn_atomic_discard(limn_atomic_file *file); /* does nothing after a commit */
int limn_atomic_write(const char *path, const void *data, size_t size, limn_error *error);
/* The same with another file's bytes, of any number. */
int limn_atomic_copy(const char *from, const char *to, limn_error *error);
/* For libraries that write a path themselves (HDF5): gives the temporary name, later fsyncs and renames it. */
int limn_atomic_name(limn_atomic_file *file, const char *path, limn_error *error);
int limn_atomic_publish(limn_atomic_file *file, limn_error *error);
/* Flushes to disk what a folder says of its files, where its file system can; why it failed is in errno too. */
int limn_sync_folder(const char *path, limn_error *error);
/* A file that grows by whole pieces, for logs of long runs. What cannot be written (a full disk) is kept in memory, up to 64
 * MiB, with a warning, and written before the next piece; the file never holds part of a piece, but for a kill in the middle of
 * one. */
typedef struct {
    int descriptor;
    char path[4096];
    uint64_t end; /* bytes of whole pieces */
    limn_buffer waiting;
    bool stuck; /* the last piece could not be written */
} limn_append_file;
/* Goes on at the end of a file that is there. */
int limn_append_open(limn_append_file *file, const char *path, limn_error *error);
int limn_append(limn_append_file *file, const void *data, size_t size, limn_error *error);
/* Fails when something still waits that cannot be written. Does nothing when the file is not open (descriptor −1). */
int limn_append_close(limn_append_file *file, limn_error *error);
/* Removes what killed processes left in a folder: hidden temporaries of the form above. */
void limn_remove_temporaries(const char *directory);
/* Removes a folder and all in it. */
int limn_remove_tree(const char *path, limn_error *error);

/* Takes DIRECTORY/.lock for this process; an error names the holder's process id. Released by limn_unlock or at exit. */
int limn_lock(const char *directory, int *out_lock, limn_error *error);
/* The same lock for several processes at once, all those with this option; not beside one that has it alone. */
int limn_lock_shared(const char *directory, const char *option, int *out_lock, limn_error *error);
void limn_unlock(int lock);

/* A read-only mapping of a whole file; of an empty one `data` is not NULL either. */
typedef struct {
    const unsigned char *data;
    size_t size;
} limn_mapping;
int limn_map(limn_mapping *mapping, const char *path, limn_error *error);
void limn_unmap(limn_mapping *mapping);
/* Gives the memory of these bytes back to the system, as far as they fill whole pages. Those of a mapping come back from the
 * file when they are read again; those that were allocated are lost, and read as zeros. */
void limn_forget(const void *data, size_t size);

/* Two lower-case digits a byte, and a NUL: out (2·size + 1). */
void limn_hexadecimal(const unsigned char *bytes, size_t size, char *out);
/* SHA-256 in lower-case hexadecimal. */
void limn_sha256(const void *data, size_t size, char out_hex[65]);
int limn_sha256_file(const char *path, char out_hex[65], limn_error *error);
/* The same of bytes that come in pieces. */
typedef struct limn_sha256_sum limn_sha256_sum;
limn_sha256_sum *limn_sha256_begin(limn_error *error);
void limn_sha256_add(limn_sha256_sum *self, const void *data, size_t size);
void limn_sha256_end(limn_sha256_sum *self, char out_hex[65]); /* frees */
void limn_sha256_drop(limn_sha256_sum *self);                  /* frees without an answer; NULL allowed */

/* ---------------------------------------------------------------- texts and UTF-8 */

bool limn_ends_with(const char *text, const char *ending);

/* True when data is valid UTF-8 (no surrogates, no overlong forms). */
bool limn_utf8_valid(const char *data, size_t size);
/* Decodes one code point; returns the bytes used, 0 at an invalid sequence or when size is 0. */
size_t limn_utf8_decode(const char *data, size_t size, uint32_t *out_code_point);
size_t limn_utf8_encode(uint32_t code_point, char out[4]); /* returns the bytes written, 0 when not a code point */

/* ---------------------------------------------------------------- threads */

/* The number of OpenMP threads: --threads, else LIMN_THREADS, else the CPUs this process may use (affinity and cgroup). */
void limn_set_threads(size_t threads);
size_t limn_get_threads(void);
/* So many processes use these CPUs: each takes its share of the threads, unless --threads or LIMN_THREADS says how many. */
void limn_share_threads(size_t processes);

/* Threads beside OpenMP's team, for what waits (disks, the network) while the team computes. Zero-initialise. */
typedef struct {
    size_t count; /* running */
    pthread_t *list;
} limn_threads;
/* Starts `count` threads that call work(context). When one cannot be started: -1, and those before it run and are to be told to
 * end and joined like the others. */
int limn_threads_start(limn_threads *self, size_t count, void *(*work)(void *), void *context, limn_error *error);
void limn_threads_join(limn_threads *self); /* waits for all to return; frees */
/* Waits for the condition at most this many seconds: a signal's flag is seen in time. The condition is one of
 * limn_condition_init, whose clock does not jump. */
void limn_condition_init(pthread_cond_t *condition);
void limn_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, double seconds);

#endif
