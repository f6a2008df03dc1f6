/* choose: looking at pairs that are there, and choosing among them (limn-dataset): statistics, a sheet to look at, filters,
 * merging, splitting, verifying. Everything works on WebDataset tars and on token shards alike, in a memory that does not grow
 * with a file, a file on each thread. Files come from strangers: a file that cannot be read is named, the others are gone
 * through nevertheless, and the call fails at its end. */
#ifndef LIMN_CHOOSE_H
#define LIMN_CHOOSE_H

#include "core/core.h"

/* Patterns and folders to files in their order: all .tar or all .h5, of which a folder has one kind. */
int choose_expand(const limn_strings *given, limn_strings *out_paths, limn_error *error);

/* What makes two pairs one. Compared by the first 64 bits of a SHA-256, so 30 million different ones have a chance of
 * 1 in 40,000 that two are taken for one.
 *   KEY       the sample's key
 *   CAPTION   its first caption, spaces around it removed
 *   ADDRESS   "url" in KEY.json
 *   PICTURE   "sha256" in KEY.json, else the bytes of the picture; of a token shard the tokens
 *   NEAR      "phash" in KEY.json (64 bits in hexadecimal): alike where few bits differ */
typedef enum { CHOOSE_BY_KEY, CHOOSE_BY_CAPTION, CHOOSE_BY_ADDRESS, CHOOSE_BY_PICTURE, CHOOSE_BY_NEAR } choose_by;
int choose_by_from_name(const char *name, choose_by *out); /* "key", "caption", "address", "picture", "near"; -1 when unknown */

/* ---------------------------------------------------------------- statistics */

typedef struct {
    limn_strings inputs;
    size_t top;            /* so many hosts and words are named */
    const char *tokenizer; /* folder: captions are also measured in its tokens; NULL: not */
    bool normalize;        /* as DALL·E Mini does before it encodes */
    bool duplicates;       /* count them: 8 bytes for each pair's caption, address, picture and perceptual hash */
} choose_stats_options;
/* An object of all that is found (what stands in it: choose/stats.c). Words and hosts are counted exactly up to two million
 * different ones; beyond, rare ones are dropped and "exact" is false, with the most by which a count may be too low.
 * "damaged_files" are those that could not be read to their end: what was read of them is counted. Caller: json_decref. */
json_t *choose_stats(const choose_stats_options *options, limn_error *error);
/* The same as a page for people. */
void choose_stats_print(const json_t *stats, FILE *out);

/* ---------------------------------------------------------------- a sheet to look at */

typedef struct {
    limn_strings inputs;
    const char *output;          /* PNG */
    size_t count, columns, size; /* pairs in all and in a row; pixels of the square that a picture is fitted into */
    uint64_t seed;
    const char *vqgan; /* folder; draws the tokens of shards */
} choose_view_options;
/* Draws pairs chosen at random, from at most eight files chosen at random, their captions under them. The same seed on the same
 * files draws the same sheet. *out_drawn: how many there are. */
int choose_view(const choose_view_options *options, size_t *out_drawn, limn_error *error);

/* ---------------------------------------------------------------- writing */

/* What the writing commands have in common. OUTPUT gets a file for each file of the inputs, of the same name (samples that are
 * left out leave gaps), or with `pack` files of so many samples each (the last has the rest), numbered from 0; beside each
 * NNNNN.stats.json. A file is finished when both are there; finished ones are left as they are, so the same call goes on after
 * a stop, and the files are those of a run that was never stopped. OUTPUT/dataset.json holds what decided them; anything else
 * is refused by name. Of a tar's sample the picture, .txt and .json are taken along, other entries are counted and left behind.
 */
typedef struct {
    limn_strings inputs;
    const char *output;
    size_t pack; /* 0: files as they are cut */
    bool restart;
} choose_write_options;

typedef struct {
    uint64_t samples;           /* of the inputs */
    uint64_t written[2];        /* in all files of OUTPUT; of a split into train and valid */
    uint64_t files, files_kept; /* in OUTPUT; kept: from an earlier run */
    uint64_t others_left;       /* further entries of tars, seen by this run */
    json_t *reasons;            /* object: rule -> samples that were left out for it, the first that struck each; json_decref */
} choose_summary;

typedef struct {
    choose_write_options write;
    size_t min_chars, max_chars, min_words, max_words; /* of the first caption; max 0: none */
    limn_strings where;  /* "similarity>=0.3", "status=success": columns of KEY.json or of the shards; all must hold */
    double max_unsafe;   /* over the usual names of a safety score (choose/rules.c); NAN: no such rule */
    const char *blocked; /* file with a word or phrase a line; NULL: none */
    const char *script;  /* "latin", …: at least script_share of a caption's letters; NULL: any */
    double script_share;
    const char *language; /* as libexttextcat guesses it ("en"); NULL: any */
    const char *dedup;    /* "caption", "address", "picture", "near"; NULL: none. The first in order is kept */
    size_t distance;      /* of near: so many of 64 bits may differ */
} choose_filter_options;
int choose_filter(const choose_filter_options *options, choose_summary *out, limn_error *error);

/* All inputs as one set, numbered in the order given: KEY becomes shard number and row; KEY.json says "source_key". Shards of
 * different VQGANs, precisions, sizes or columns are refused. */
int choose_merge(const choose_write_options *options, choose_summary *out, limn_error *error);

typedef struct {
    choose_write_options write; /* OUTPUT/train and OUTPUT/valid */
    double valid;               /* share of the samples, above 0 and below 1 */
    choose_by by;
    uint64_t seed; /* 0: the hash as it is */
} choose_split_options;
/* A sample goes to valid when its identity's hash, as a number below 1, is below the share: whatever the order, the files, and
 * the other samples. Samples without that identity go by their key. */
int choose_split(const choose_split_options *options, choose_summary *out, limn_error *error);

/* ---------------------------------------------------------------- verifying */

typedef struct {
    limn_strings inputs;
    bool decode;        /* every picture */
    bool stored_sha256; /* KEY.json's sha256 is that of the stored bytes (pictures kept as they came) */
    const char *record; /* file that remembers whole ones, by name, size and time: the next call leaves them out; NULL: none */
} choose_verify_options;
typedef struct {
    uint64_t files, files_known, samples, faults, files_with_faults;
    json_t *faults_json; /* the first thousand, as objects of file, key (may be missing) and fault; json_decref */
} choose_verify_summary;
/* Each fault is a line of `out` (NULL: none): file, key, what. Finding faults is no failure of the call. */
int choose_verify(const choose_verify_options *options, FILE *out, choose_verify_summary *summary, limn_error *error);

#endif
