/* What all finished shards come to, for a person and for a program. */
#include "download/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- adding up */

static uint64_t count_of(const json_t *object, const char *key) {
    const json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

uint64_t summary_retryable(const json_t *reasons) {
    uint64_t rows = 0;
    const char *reason;
    json_t *count;
    json_object_foreach((json_t *)(uintptr_t)reasons, reason, count) {
        if (failure_may_pass(reason)) rows += count_of(reasons, reason);
    }
    return rows;
}

static void add_shard(download_summary *summary, const json_t *stats) {
    const char *reason;
    json_t *value;
    summary->shards++;
    summary->rows += count_of(stats, "rows");
    summary->pairs += count_of(stats, "pairs");
    summary->failed += count_of(stats, "failed");
    summary->bytes += count_of(stats, "bytes_received");
    json_object_foreach(json_object_get(stats, "reasons"), reason, value) {
        const json_int_t before = json_integer_value(json_object_get(summary->reasons, reason));
        json_object_set_new(summary->reasons, reason, json_integer(before + json_integer_value(value)));
    }
    json_object_update_missing(summary->examples, json_object_get(stats, "examples"));
}

int summary_add_up(const download_options *options, uint64_t rows, download_summary *summary, limn_error *error) {
    summary->reasons = json_object();
    summary->examples = json_object();
    if (!summary->reasons || !summary->examples) return limn_fail(error, "out of memory for the summary");
    for (uint64_t number = options->part; output_shard_rows(options, rows, number); number += options->parts) {
        json_t *stats;
        if (!output_shard_finished(options, number, &stats)) continue;
        add_shard(summary, stats);
        json_decref(stats);
    }
    return 0;
}

void download_summary_free(download_summary *summary) {
    json_decref(summary->reasons);
    json_decref(summary->examples);
    *summary = (download_summary){0};
}

/* ---------------------------------------------------------------- for a program */

json_t *download_summary_json(const download_options *options, const download_summary *summary) {
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:O, s:O, s:I, s:I, s:I, s:f}", "output", options->output, "rows",
                     (json_int_t)summary->rows, "pairs", (json_int_t)summary->pairs, "failed", (json_int_t)summary->failed,
                     "shards", (json_int_t)summary->shards, "bytes_received", (json_int_t)summary->bytes, "reasons",
                     summary->reasons, "examples", summary->examples, "run_rows", (json_int_t)summary->run_rows, "run_pairs",
                     (json_int_t)summary->run_pairs, "run_bytes", (json_int_t)summary->run_bytes, "run_seconds",
                     summary->run_seconds);
}

/* ---------------------------------------------------------------- for a person */

typedef struct {
    const char *reason, *example;
    uint64_t rows;
} table_line;

/* Most frequent first; by name where as many. */
static int compare_lines(const void *a, const void *b) {
    const table_line *const left = a, *const right = b;
    if (left->rows != right->rows) return left->rows < right->rows ? 1 : -1;
    return strcmp(left->reason, right->reason);
}

static void print_reasons(const download_summary *summary, FILE *stream) {
    const size_t count = json_object_size(summary->reasons);
    table_line *lines = calloc(count ? count : 1, sizeof *lines);
    size_t filled = 0;
    const char *reason;
    json_t *value;
    if (!lines) return;
    json_object_foreach(summary->reasons, reason, value) {
        const char *const example = json_string_value(json_object_get(summary->examples, reason));
        lines[filled++] = (table_line){reason, example ? example : "", count_of(summary->reasons, reason)};
    }
    qsort(lines, filled, sizeof *lines, compare_lines);
    fprintf(stream, "%-20s %12s %8s  %s\n", "failed for", "rows", "of all", "one of them");
    for (size_t i = 0; i < filled; i++)
        fprintf(stream, "%c %-18s %12llu %7.2f%%  %.100s%s\n", failure_may_pass(lines[i].reason) ? '*' : ' ', lines[i].reason,
                (unsigned long long)lines[i].rows, 100.0 * (double)lines[i].rows / (double)summary->rows, lines[i].example,
                strlen(lines[i].example) > 100 ? "..." : "");
    free(lines);
}

void download_summary_print(const download_options *options, const download_summary *summary, FILE *stream) {
    const double seconds = summary->run_seconds > 0 ? summary->run_seconds : 1e-9;
    const uint64_t again = summary_retryable(summary->reasons);
    if (summary->failed) {
        print_reasons(summary, stream);
        fprintf(stream, "all are in %s/*.failed.tsv\n", options->output);
    }
    if (again)
        fprintf(stream, "* failed on the way, %llu rows: the same command with --retry-failed tries them again\n",
                (unsigned long long)again);
    fprintf(stream, "received: %.2f GB in all; this run: %llu rows in %.1f s, %.1f rows/s, %.1f MB/s\n",
            (double)summary->bytes * 1e-9, (unsigned long long)summary->run_rows, summary->run_seconds,
            (double)summary->run_rows / seconds, (double)summary->run_bytes * 1e-6 / seconds);
}
