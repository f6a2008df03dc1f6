/* How fast this machine reads and tokenizes pairs. */
#include "train/seq2seq_settings.h"

#include <sys/stat.h>

enum { BATCH = 8, ROWS_AHEAD = 256 };

typedef struct {
    pair_settings settings;
    pair_set set;
    caption_encoder captions;
    size_t text_length;
    pair_rows rows;
} bench;

/* A shard is read whole; of a file of lines, its share. */
static double bytes_of(const pair_source *source, uint64_t pairs, const pair_set *set) {
    struct stat status;
    if (stat(source->path, &status)) return 0;
    uint64_t all = 0;
    for (size_t i = 0; i < set->count; i++) all += strcmp(set->sources[i].path, source->path) == 0 ? set->pairs[i] : 0;
    return (double)status.st_size * (double)pairs / (double)all;
}

/* Group after group as the reader of a stream does, nothing beside it. */
static int measure_reading(const bench *self, double seconds, train_data_measurement *out, limn_error *error) {
    pair_order order;
    if (pair_order_create(&order, self->set.pairs, self->set.count, true, self->settings.shuffle_buffer, 1, error)) return -1;
    double begin = limn_seconds(), bytes = 0;
    uint64_t pairs = 0;
    int status = 0;
    do {
        pair_group group;
        pair_block block;
        pair_order_find(&order, pairs, &group);
        status = pair_set_read(&self->set, group.shards, group.shard_count, group.count, &block, error);
        if (status) break;
        pair_block_free(&block);
        pairs += group.count;
        out->read_seconds = limn_seconds() - begin;
        for (size_t i = 0; i < group.shard_count; i++)
            if (self->set.pairs[group.shards[i]])
                bytes += bytes_of(&self->set.sources[group.shards[i]], self->set.pairs[group.shards[i]], &self->set);
    } while (out->read_seconds < seconds && !limn_stop_requested());
    out->read_rate = (double)pairs / out->read_seconds;
    out->read_bytes = bytes / out->read_seconds;
    pair_order_free(&order);
    return status;
}

static int measure_rows(const bench *self, double seconds, train_data_measurement *out, limn_error *error) {
    pair_stream_options options = {.set = &self->set,
                                   .captions = &self->captions,
                                   .text_length = self->text_length,
                                   .shuffled = true,
                                   .buffer = self->settings.shuffle_buffer,
                                   .seed = 1,
                                   .condition_dropout = self->settings.condition_dropout,
                                   .stride = BATCH,
                                   .rows = BATCH,
                                   .ahead = ROWS_AHEAD};
    pair_stream *stream = pair_stream_open(&options, error);
    if (!stream) return -1;
    const pair_rows *rows = &self->rows;
    double begin = limn_seconds();
    uint64_t draw = 0;
    int status;
    do {
        status = pair_stream_fill(stream, draw, BATCH, rows->input_ids, rows->attention_mask, rows->labels, error);
        draw += BATCH;
        out->seconds = limn_seconds() - begin;
    } while (status == 0 && out->seconds < seconds && !limn_stop_requested());
    out->rate = (double)draw / out->seconds;
    pair_stream_close(stream);
    return status;
}

static int prepare(bench *self, const char *path, const limn_strings *data, const char *words, json_t *json,
                   limn_error *error) {
    seq2seq_config config;
    json_t *section = json ? train_section(json, path, "train", "seq2seq", error) : NULL;
    if (!section || pair_settings_read(&self->settings, section, path, error) ||
        train_seq2seq_config(&config, json, path, error))
        return -1;
    pair_needs needs = {
        .length = config.image_length, .codebook_size = config.image_vocab_size, .filters = self->settings.filters};
    bool normalize = config.normalize_text;
    self->text_length = config.max_text_length;
    seq2seq_config_free(&config);
    if (caption_encoder_load(&self->captions, words, normalize, error) || pair_set_open(&self->set, data, &needs, error))
        return -1;
    return pair_rows_create(&self->rows, BATCH, self->text_length, needs.length, error);
}

int train_measure_data(const char *path, const limn_strings *data, const char *words, double seconds,
                       train_data_measurement *out, limn_error *error) {
    *out = (train_data_measurement){0};
    bench self = {0};
    train_options options = {.config = path};
    json_t *json = train_configuration(&options, error);
    double begin = limn_seconds();
    int status = prepare(&self, path, data, words, json, error);
    out->pairs = self.set.total;
    out->open_seconds = limn_seconds() - begin;
    if (status == 0) status = measure_reading(&self, seconds, out, error);
    if (status == 0) status = measure_rows(&self, seconds, out, error);
    if (status == 0 && limn_stop_requested()) status = limn_fail(error, "stopped before it was measured");
    pair_set_close(&self.set);
    caption_encoder_free(&self.captions);
    pair_rows_free(&self.rows);
    json_decref(json);
    return status;
}
