/* WebDataset tars to token shards: the run, and the thread that has the VQGAN. */
#include "dataset/encode.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 4096, QUEUE_MAX = 1 << 16, READERS_MAX = 256, USUAL_READERS_MAX = 8, VERIFY_MAX = 1000 };
static const size_t QUEUE_BYTES = (size_t)256 << 20; /* of pixels, where the queue's size is left to us */

typedef struct {
    const encode_options *options;
    encode_summary *summary;
    encode_kind kind;
    bool *todo; /* (inputs) */
    encode_vqgan vqgan;
    encode_ahead *ahead;
    encode_writer *writer;
    encode_verifier *verifier; /* NULL: none */

    encode_shard shard; /* that grows */
    bool growing;
    encode_sample *batch; /* (options->batch): pictures of that shard which the VQGAN has not seen */
    size_t batch_count, skipped;

    encode_amount amount;
    limn_progress *progress;
    double began;
    size_t damaged; /* tars */
    limn_error first_damage;
} encoder;

static size_t clamp(size_t value, size_t least, size_t most) {
    return value < least ? least : value > most ? most : value;
}

/* ---------------------------------------------------------------- one shard */

static void show_progress(encoder *self) {
    uint64_t samples, bytes;
    const bool all_read = encode_ahead_position(self->ahead, &samples, &bytes);
    const uint64_t done = self->summary->pictures, total = all_read ? samples : encode_estimate(&self->amount, samples, bytes);
    limn_progress_set_total(self->progress, total > self->skipped + done ? total - self->skipped : total ? done : 0);
    const double seconds = limn_seconds() - self->began;
    limn_progress_update(self->progress, done, "VQGAN waited %.1f%%",
                         seconds > 0 ? 100 * self->summary->vqgan_wait_seconds / seconds : 0.0);
}

static int encode_batch(encoder *self, limn_error *error) {
    const size_t count = self->batch_count, length = self->kind.length;
    self->batch_count = 0;
    if (count == 0) return 0;
    /* A full disk ends the run at once, not an hour later when the next shard is finished. */
    if (encode_writer_check(self->writer, error)) return -1;
#pragma omp parallel for
    for (size_t i = 0; i < count; i++) encode_vqgan_put(&self->vqgan, i, &self->batch[i].pixels);
    encode_vqgan_run(&self->vqgan, count);
    int status = 0;
    for (size_t i = 0; i < count; i++) {
        const int32_t *tokens = self->vqgan.tokens + i * length;
        if (self->verifier)
            encode_verifier_offer(self->verifier, &self->batch[i], self->shard.input, self->shard.rows.count, tokens);
        if (status == 0) status = encode_shard_add(&self->shard, tokens, length, &self->batch[i], error);
        picture_free(&self->batch[i].pixels);
    }
    self->summary->pictures += count;
    show_progress(self);
    return status;
}

static int take_sample(encoder *self, encode_sample *sample, limn_error *error) {
    self->shard.samples++;
    if (!sample->pixels.pixels) {
        self->skipped++;
        encode_shard_skip(&self->shard, sample);
        return 0;
    }
    encode_sample *place = &self->batch[self->batch_count++];
    const encode_sample used = *place;
    *place = *sample;
    *sample = (encode_sample){.caption = used.caption};
    return self->batch_count == self->options->batch ? encode_batch(self, error) : 0;
}

static int end_shard(encoder *self, limn_error *error) {
    self->growing = false;
    return encode_batch(self, error) || encode_writer_add(self->writer, &self->shard, &self->summary->vqgan_wait_seconds, error)
               ? -1
               : 0;
}

/* One tar among many cannot be read: the others are encoded all the same. */
static void drop_shard(encoder *self, const limn_error *problem) {
    limn_log(LIMN_LOG_ERROR, "%s; no shard is made of it", problem->message);
    if (self->damaged++ == 0) self->first_damage = *problem;
    for (size_t i = 0; i < self->batch_count; i++) picture_free(&self->batch[i].pixels);
    self->batch_count = 0;
    encode_shard_free(&self->shard);
    self->growing = false;
}

/* ---------------------------------------------------------------- all shards */

static int encode_all(encoder *self, limn_error *error) {
    encode_sample sample = {0};
    encode_event event = ENCODE_SAMPLE;
    size_t input;
    int status = 0;
    while (status == 0) {
        status = encode_ahead_take(self->ahead, &event, &sample, &input, &self->summary->vqgan_wait_seconds, error);
        if (status || event == ENCODE_ALL_READ) break;
        if (event == ENCODE_FAILED) {
            if (error) *error = sample.problem;
            status = -1;
            break;
        }
        if (!self->growing) {
            status = encode_shard_begin(&self->shard, input, error);
            self->growing = true;
        }
        if (event == ENCODE_TAR_DAMAGED)
            drop_shard(self, &sample.problem);
        else if (status == 0)
            status = event == ENCODE_SAMPLE ? take_sample(self, &sample, error) : end_shard(self, error);
    }
    encode_sample_free(&sample);
    return status;
}

static int start_threads(encoder *self, limn_error *error) {
    const encode_options *options = self->options;
    const size_t room = QUEUE_BYTES / (self->kind.side * self->kind.side * 3);
    const size_t queue = options->queue ? options->queue : clamp(2 * options->batch + options->readers, 1, room < 1 ? 1 : room);
    self->writer = encode_writer_start(&self->kind, error);
    if (!self->writer) return -1;
    self->ahead = encode_ahead_start(options, self->todo, self->kind.side, options->readers, queue, error);
    return self->ahead ? 0 : -1;
}

/* Everything from the first tar's opening to the last shard's writing. */
static int run_pipeline(encoder *self, limn_error *error) {
    self->began = limn_seconds();
    self->amount = encode_measure(self->options, self->todo);
    int status = start_threads(self, error);
    if (status == 0) {
        self->progress =
            limn_progress_start("encode", "pictures", 0, self->amount.other_bytes ? 0 : self->amount.known_pictures);
        status = encode_all(self, error);
    }
    encode_ahead_stop(self->ahead);
    limn_error writing = {0};
    if (encode_writer_end(self->writer, self->summary, &writing) && status == 0) {
        if (error) *error = writing;
        status = -1;
    }
    limn_progress_finish(self->progress);
    const double seconds = self->summary->encode_seconds = limn_seconds() - self->began;
    self->summary->rate = seconds > 0 ? (double)self->summary->pictures / seconds : 0;
    return status;
}

static int report_damage(const encoder *self, limn_error *error) {
    size_t mine = 0;
    if (self->damaged == 0) return 0;
    for (size_t i = 0; i < self->options->inputs.count; i++) mine += encode_is_mine(self->options, i);
    if (error) *error = self->first_damage;
    return limn_fail_context(error, "%zu of %zu tars cannot be read (make them again with limn-download), first", self->damaged,
                             mine);
}

/* ---------------------------------------------------------------- the run */

static int check_options(const encode_options *options, limn_error *error) {
    if (part_check(options->part, options->parts, error)) return -1;
    if (options->batch > BATCH_MAX)
        return limn_fail_usage(error, "--batch %zu: at most %d is possible", options->batch, BATCH_MAX);
    if (options->precision != PRECISION_FP32 && options->precision != PRECISION_BF16)
        return limn_fail_usage(error, "--precision %s: a VQGAN encodes in fp32 or bf16", nn_precision_name(options->precision));
    if (options->readers > READERS_MAX || options->queue > QUEUE_MAX)
        return limn_fail_usage(error, "at most %d readers and a queue of %d pictures are possible", READERS_MAX, QUEUE_MAX);
    if (options->verify > VERIFY_MAX)
        return limn_fail_usage(error, "--verify %zu: at most %d pictures are kept for it", options->verify, VERIFY_MAX);
    return 0;
}

static void choose_sizes(encode_options *options) {
    if (!options->batch) options->batch = encode_usual_batch();
    if (!options->readers) options->readers = clamp(limn_get_threads(), 1, USUAL_READERS_MAX);
}

static int prepare(encoder *self, limn_error *error) {
    const encode_options *options = self->options;
    if (encode_vqgan_open(&self->vqgan, options, options->precision, error)) return -1;
    self->kind = encode_kind_of(options, &self->vqgan);
    self->batch = limn_allocate(options->batch, sizeof *self->batch, error);
    if (!self->batch) return -1;
    if (options->verify) self->verifier = encode_verifier_create(&self->kind, error);
    return options->verify && !self->verifier ? -1 : 0;
}

/* The second VQGAN of --verify is loaded when the first is no longer needed: their memory does not add up. */
static void free_vqgan_and_batch(encoder *self) {
    for (size_t i = 0; self->batch && i < self->options->batch; i++) encode_sample_free(&self->batch[i]);
    free(self->batch);
    self->batch = NULL;
    encode_shard_free(&self->shard);
    encode_vqgan_close(&self->vqgan);
}

static int encode_missing(encoder *self, limn_error *error) {
    const encode_options *options = self->options;
    if (prepare(self, error) || (options->restart && encode_remove_leftovers(options, true, error)) ||
        encode_find_work(&self->kind, self->todo, &self->summary->shards_kept, error))
        return -1;
    bool any = false;
    for (size_t i = 0; i < options->inputs.count; i++) any |= self->todo[i];
    if ((any && run_pipeline(self, error)) || report_damage(self, error)) return -1;
    free_vqgan_and_batch(self);
    return self->verifier ? encode_verifier_run(self->verifier, self->summary, error) : 0;
}

int encode_run(const encode_options *given, encode_summary *summary, limn_error *error) {
    *summary = (encode_summary){0};
    if (check_options(given, error)) return -1;
    encode_options chosen = *given;
    const encode_options *options = &chosen;
    choose_sizes(&chosen);
    encoder self = {.options = options, .summary = summary};
    const double start = limn_seconds();
    int lock = -1;
    self.todo = limn_allocate(options->inputs.count, sizeof *self.todo, error);
    int status = self.todo ? encode_lock_output(options, &lock, error) : -1;
    if (status == 0) status = encode_check_inputs(options, error);
    if (status == 0) status = encode_remove_leftovers(options, false, error);
    if (status == 0) status = encode_missing(&self, error);
    summary->seconds = limn_seconds() - start;
    encode_verifier_free(self.verifier);
    free_vqgan_and_batch(&self);
    limn_unlock(lock);
    free(self.todo);
    return status;
}
