#include "train/pair_data.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

enum { NAME_MAX_BYTES = 40, ROWS_AHEAD = 256, PASSES_AHEAD = 4 };
static const char VALID_LOSS[] = "valid_loss";

/* ---------------------------------------------------------------- settings */

const char *const PAIR_KEYS[] = {
    "condition_dropout", "shuffle_buffer", "filter_column", "filter_min", "filter_max", "min_clip_score", NULL};

int pair_settings_read(pair_settings *settings, const json_t *section, const char *file, limn_error *error) {
    const char *column = NULL;
    double min = -INFINITY, max = INFINITY, min_clip_score = -INFINITY;
    *settings = (pair_settings){.condition_dropout = 0.1, .shuffle_buffer = 100000};
    if (limn_json_get_float(section, file, "condition_dropout", 0, 1, &settings->condition_dropout, error) ||
        limn_json_get_size(section, file, "shuffle_buffer", 1, 1000000000, &settings->shuffle_buffer, error) ||
        limn_json_get_string(section, file, "filter_column", NULL, &column, error) ||
        limn_json_get_float(section, file, "filter_min", -1e30, 1e30, &min, error) ||
        limn_json_get_float(section, file, "filter_max", -1e30, 1e30, &max, error) ||
        limn_json_get_float(section, file, "min_clip_score", -1e30, 1e30, &min_clip_score, error))
        return -1;
    bool bounded = isfinite(min) || isfinite(max);
    if ((column != NULL) != bounded)
        return limn_fail_usage(error,
                               column ? "%s: train.seq2seq.filter_column needs filter_min or filter_max beside it"
                                      : "%s: train.seq2seq.filter_min and filter_max need a filter_column beside them",
                               file);
    pair_filters *filters = &settings->filters;
    if (column) filters->list[filters->count++] = (pair_filter){column, "train.seq2seq.filter_column", min, max};
    if (isfinite(min_clip_score))
        filters->list[filters->count++] =
            (pair_filter){"clip_score", "train.seq2seq.min_clip_score", min_clip_score, INFINITY};
    return 0;
}

/* ---------------------------------------------------------------- who reads what */

/* Where the rank's part of `total` begins. */
static uint64_t part_of(uint64_t total, size_t rank, size_t ranks) {
    uint64_t each = total / ranks, left = total % ranks;
    return each * rank + (rank < left ? rank : left);
}

int pair_share_of(pair_share *out, size_t rank, size_t ranks, size_t batch_size, size_t accumulation, limn_error *error) {
    uint64_t stride = (uint64_t)batch_size * accumulation, first = part_of(stride, rank, ranks);
    *out = (pair_share){rank, ranks, stride, first, part_of(stride, rank + 1, ranks) - first, batch_size};
    if (stride >= ranks) return 0;
    return limn_fail_usage(error, "a step of %llu pairs (batch_size × accumulation) cannot be shared by %zu ranks; raise "
                           "train.seq2seq.accumulation or start fewer", (unsigned long long)stride, ranks);
}

/* ---------------------------------------------------------------- sets kept from training */

/* Bytes of NAME in NAME=PATTERN; 0 when there is none, as with a file of such a name. */
static size_t name_size(const char *given) {
    size_t size = 0;
    while (isalnum((unsigned char)given[size]) || given[size] == '_' || given[size] == '-') size++;
    return given[size] == '=' && size && !limn_file_exists(given) ? size : 0;
}

static int metric_of(const char *given, char out[sizeof(((valid_set *)0)->metric)], limn_error *error) {
    size_t size = name_size(given);
    if (size > NAME_MAX_BYTES)
        return limn_fail_usage(error, "--valid %s: a name may have %d characters", given, NAME_MAX_BYTES);
    snprintf(out, sizeof(((valid_set *)0)->metric), "%s%s%.*s", VALID_LOSS, size ? "_" : "", (int)size, given);
    return 0;
}

/* The patterns of all values with this metric's name. */
static int open_valid(valid_set *self, const limn_strings *given, const pair_needs *needs, const pair_share *share,
                      pair_stream_options *stream, json_t *inputs, limn_error *error) {
    limn_strings patterns = {.items = limn_allocate(given->count, sizeof *patterns.items, error)};
    if (!patterns.items) return -1;
    for (size_t i = 0; i < given->count; i++) {
        char metric[sizeof self->metric];
        size_t size = name_size(given->items[i]);
        if (metric_of(given->items[i], metric, NULL) == 0 && strcmp(metric, self->metric) == 0)
            patterns.items[patterns.count++] = given->items[i] + (size ? size + 1 : 0);
    }
    int status = pair_set_open(&self->set, &patterns, needs, error);
    limn_strings_free(&patterns);
    if (status) return -1;
    stream->set = &self->set;
    json_object_set_new(inputs, self->metric, json_integer((json_int_t)self->set.total));
    self->first = part_of(self->set.total, share->rank, share->ranks);
    self->count = part_of(self->set.total, share->rank + 1, share->ranks) - self->first;
    if (!self->count) return 0; /* more ranks than pairs */
    stream->stride = self->set.total;
    stream->offset = self->first;
    stream->rows = self->count;
    self->stream = pair_stream_open(stream, error);
    return self->stream ? 0 : -1;
}

static int open_valid_sets(pair_data *self, const limn_strings *given, const pair_needs *needs, const pair_share *share,
                           pair_stream_options *stream, json_t *inputs, limn_error *error) {
    self->valid = limn_allocate(given->count, sizeof *self->valid, error);
    if (!self->valid) return -1;
    /* What has no name is valid_loss, which is the first set's: twice through the list, for it and for the others. */
    for (size_t i = 0; i < 2 * given->count; i++) {
        const char *value = given->items[i % given->count];
        char metric[sizeof self->valid->metric];
        if (metric_of(value, metric, error)) return -1;
        bool known = (strcmp(metric, VALID_LOSS) == 0) != (i < given->count);
        for (size_t j = 0; j < self->valid_count; j++) known = known || strcmp(self->valid[j].metric, metric) == 0;
        if (known) continue;
        valid_set *set = &self->valid[self->valid_count++];
        memcpy(set->metric, metric, sizeof metric);
        if (open_valid(set, given, needs, share, stream, inputs, error)) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- the whole */

int pair_data_open(pair_data *self, const train_options *options, const pair_settings *settings, const pair_needs *needs,
                   const caption_encoder *captions, size_t text_length, const pair_share *share, uint64_t seed, json_t *inputs,
                   limn_error *error) {
    if (!options->data.count) return limn_fail_usage(error, "--data: give at least one file of pairs");
    pair_needs filtered = *needs;
    filtered.filters = settings->filters;
    if (pair_set_open(&self->set, &options->data, &filtered, error)) return -1;
    char digest[65];
    pair_set_digest(&self->set, digest);
    json_object_set_new(inputs, "data", json_integer((json_int_t)self->set.total));
    json_object_set_new(inputs, "data_counts_sha256", json_string(digest));
    if (settings->filters.count)
        limn_log(LIMN_LOG_INFO, "filters: %llu pairs taken, %llu left out", (unsigned long long)self->set.total,
                 (unsigned long long)self->set.left_out);

    pair_stream_options stream = {.set = &self->set,
                                  .captions = captions,
                                  .text_length = text_length,
                                  .shuffled = true,
                                  .buffer = settings->shuffle_buffer,
                                  .seed = seed,
                                  .condition_dropout = settings->condition_dropout,
                                  .stride = share->stride,
                                  .offset = share->first,
                                  .rows = share->count,
                                  .ahead = PASSES_AHEAD * share->at_once > ROWS_AHEAD ? PASSES_AHEAD * share->at_once : ROWS_AHEAD};
    self->stream = pair_stream_open(&stream, error);
    if (!self->stream) return -1;
    /* In the order of the files, one file after another in memory; the last batch may be a part. */
    stream.shuffled = false;
    stream.buffer = 0;
    stream.condition_dropout = 0;
    if (open_valid_sets(self, &options->valid, needs, share, &stream, inputs, error)) return -1;
    bool lines = self->set.has_lines;
    for (size_t i = 0; i < self->valid_count; i++) lines = lines || self->valid[i].set.has_lines;
    if (lines)
        limn_log(LIMN_LOG_WARNING,
                 "JSON lines do not say which VQGAN made their tokens: that it is the one of --vqgan cannot be checked");
    return 0;
}

void pair_data_close(pair_data *self) {
    pair_stream_close(self->stream);
    pair_set_close(&self->set);
    for (size_t i = 0; i < self->valid_count; i++) {
        pair_stream_close(self->valid[i].stream);
        pair_set_close(&self->valid[i].set);
    }
    free(self->valid);
    *self = (pair_data){0};
}
